//! The replays that the ledger keeps: looked at and called off.

use super::{History, HistoryError};
use crate::buffer::{BufferError, Replay, ReplayState};
use crate::reading::UnixMicros;

/// How often calling off a replay that goes on meanwhile is tried: its delivery writes it a few times a second.
const TRIES: usize = 100;

impl History {
    /// The replays under way and the last ones that ended, by number.
    #[must_use]
    pub fn replays(&self) -> Vec<Replay> {
        self.buffer.replays().borrow().clone()
    }

    /// Calls a replay off; what is on its way may still arrive. Nothing if there is no such replay.
    ///
    /// # Errors
    /// If it has ended already, or the disk fails.
    pub async fn cancel_replay(&self, id: u32, now_us: UnixMicros) -> Result<Option<Replay>, HistoryError> {
        for _ in 0..TRIES {
            let found = self.replays().into_iter().find(|replay| replay.id == id);
            let Some(mut replay) = found else { return Ok(None) };
            if !replay.is_running() {
                return Err(HistoryError::Request(format!("replay {id} has ended already")));
            }
            replay.state = ReplayState::Cancelled;
            replay.ended_us = Some(now_us);
            match self.buffer.keep_replay(replay).await {
                Err(BufferError::Stale { .. }) => {}
                kept => return Ok(Some(kept?)),
            }
        }
        Err(HistoryError::Request(format!("replay {id} changes too fast to be called off; try again")))
    }
}
