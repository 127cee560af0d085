//! Replays as people ask for them, on the command line and on the page: begun, and called off.

use super::{Buffer, BufferError, REPLAY_PATTERN_BYTES_MAX, REPLAY_PATTERNS_MAX, Replay, ReplayState};
use crate::reading::{Stream, UnixMicros};
use crate::site::PointPattern;

/// How often a change of a replay that goes on meanwhile is tried: its delivery writes it a few times a second.
const TRIES: usize = 100;

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayRequest {
    /// The sink that gets the records once more.
    pub sink: String,
    /// Which stream: `readings`, `alerts`, `gaps`, `dead-letters`.
    pub stream: Stream,
    /// What came at or after this time, in microseconds since 1970.
    pub from_us: UnixMicros,
    /// What came at or before this time.
    pub to_us: UnixMicros,
    /// Only these points, as `device/point` with `*` for any characters; all, if there is none.
    pub points: Vec<String>,
}

impl ReplayRequest {
    /// Puts the replay into the ledger; the delivery of the sink, one of `sinks`, takes it up from there.
    ///
    /// # Errors
    /// With what does not fit, for a person.
    pub async fn begin(self, buffer: &Buffer, sinks: &[&str], now_us: UnixMicros) -> Result<Replay, String> {
        let wanted = self;
        if !sinks.contains(&wanted.sink.as_str()) {
            return Err(format!("there is no sink {:?}; there are: {}", wanted.sink, sinks.join(", ")));
        }
        if !Stream::DELIVERED.contains(&wanted.stream) {
            return Err(format!("{} do not go to sinks", wanted.stream));
        }
        if wanted.from_us > wanted.to_us {
            return Err("the time to begin with is after the time to end with".to_owned());
        }
        if wanted.points.len() > REPLAY_PATTERNS_MAX {
            return Err(format!(
                "{} patterns of points are too many; at most {REPLAY_PATTERNS_MAX}",
                wanted.points.len()
            ));
        }
        if !wanted.points.is_empty() && wanted.stream != Stream::Readings {
            return Err(format!("patterns of points choose among readings; {} have no points", wanted.stream));
        }
        let is_fit = |text: &String| text.len() <= REPLAY_PATTERN_BYTES_MAX && PointPattern::parse(text).is_some();
        if let Some(unfit) = wanted.points.iter().find(|text| !is_fit(text)) {
            return Err(format!("{unfit:?} is no pattern of points; write device/point, with * for any characters"));
        }
        let replay = Replay {
            id: 0,
            sink: wanted.sink,
            stream: wanted.stream,
            from_us: wanted.from_us,
            to_us: wanted.to_us,
            points: wanted.points,
            created_us: now_us,
            ended_us: None,
            state: ReplayState::Running,
            range: None,
            next: 0,
            config_version: 0,
            render_version: 0,
            run: None,
            delivered: 0,
            refused: 0,
            lost: 0,
            remote_position: None,
            trouble: None,
            revision: 0,
        };
        buffer.keep_replay(replay).await.map_err(|error| error.to_string())
    }
}

/// Calls a replay off; what is on its way may still arrive.
///
/// # Errors
/// If there is no such replay, or it has ended.
pub async fn cancel_replay(id: u32, buffer: &Buffer, now_us: UnixMicros) -> Result<Replay, String> {
    for _ in 0..TRIES {
        let found = buffer.replays().borrow().iter().find(|replay| replay.id == id).cloned();
        let Some(mut replay) = found else {
            return Err(format!("there is no replay {id}; `forebay replay --list` shows those that are kept"));
        };
        if !replay.is_running() {
            return Err(format!("replay {id} has ended already"));
        }
        replay.state = ReplayState::Cancelled;
        replay.ended_us = Some(now_us);
        match buffer.keep_replay(replay).await {
            Err(BufferError::Stale { .. }) => {}
            result => return result.map_err(|error| error.to_string()),
        }
    }
    Err(format!("replay {id} changes too fast to be called off; try again"))
}
