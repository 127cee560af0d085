//! Replays over the control socket: asked for, looked at, called off.

use super::Control;
use crate::buffer::{BufferError, REPLAY_PATTERN_BYTES_MAX, REPLAY_PATTERNS_MAX, Replay, ReplayState};
use crate::reading::{Stream, UnixMicros};
use crate::site::PointPattern;

/// How often a change of a replay that goes on meanwhile is tried: its delivery writes it a few times a second.
const TRIES: usize = 100;

/// What is wanted.
pub(super) struct Wanted {
    pub(super) sink: String,
    pub(super) stream: Stream,
    pub(super) from_us: UnixMicros,
    pub(super) to_us: UnixMicros,
    pub(super) points: Vec<String>,
}

/// Puts a replay into the ledger; the sink's delivery takes it up from there.
pub(super) async fn begin(wanted: Wanted, control: &Control) -> Result<Replay, String> {
    let sinks = control.status.sinks();
    if !sinks.iter().any(|sink| sink.name == wanted.sink) {
        let names: Vec<&str> = sinks.iter().map(|sink| sink.name.as_str()).collect();
        return Err(format!("there is no sink {:?}; there are: {}", wanted.sink, names.join(", ")));
    }
    if !Stream::DELIVERED.contains(&wanted.stream) {
        return Err(format!("{} do not go to sinks", wanted.stream));
    }
    if wanted.from_us > wanted.to_us {
        return Err("the time to begin with is after the time to end with".to_owned());
    }
    if wanted.points.len() > REPLAY_PATTERNS_MAX {
        return Err(format!("{} patterns of points are too many; at most {REPLAY_PATTERNS_MAX}", wanted.points.len()));
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
        created_us: control.clock.tick().wall_us,
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
    control.buffer.keep_replay(replay).await.map_err(|error| error.to_string())
}

/// Calls a replay off; what is on its way may still arrive.
pub(super) async fn cancel(id: u32, control: &Control) -> Result<Replay, String> {
    for _ in 0..TRIES {
        let found = control.buffer.replays().borrow().iter().find(|replay| replay.id == id).cloned();
        let Some(mut replay) = found else {
            return Err(format!("there is no replay {id}; `forebay replay --list` shows those that are kept"));
        };
        if !replay.is_running() {
            return Err(format!("replay {id} has ended already"));
        }
        replay.state = ReplayState::Cancelled;
        replay.ended_us = Some(control.clock.tick().wall_us);
        match control.buffer.keep_replay(replay).await {
            Err(BufferError::Stale { .. }) => {}
            result => return result.map_err(|error| error.to_string()),
        }
    }
    Err(format!("replay {id} changes too fast to be called off; try again"))
}
