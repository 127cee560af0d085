//! The replays that the ledger keeps: looked at and called off.

use super::{History, HistoryError};
use crate::buffer::{Replay, cancel_replay};
use crate::reading::UnixMicros;

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
        if !self.replays().iter().any(|replay| replay.id == id) {
            return Ok(None);
        }
        cancel_replay(id, &self.buffer, now_us).await.map(Some).map_err(HistoryError::Request)
    }
}
