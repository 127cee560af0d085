//! Replays: records of the past, asked for once more. Each is a job in the ledger, so that it survives whatever happens.

use super::BufferError;
use crate::reading::{Sequence, SequenceRange, Stream, UnixMicros};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Finished replays that are kept to be looked at.
pub const REPLAYS_KEPT: usize = 16;

/// Most replays under way, over all sinks: a person asks for one or two, a script that asks in a loop is told.
pub const REPLAYS_MAX: usize = 8;

/// Most patterns of a replay; with [`REPLAY_PATTERN_BYTES_MAX`] they are a sixth of what a value of the ledger may hold.
pub const REPLAY_PATTERNS_MAX: usize = 64;

/// Longest pattern, in bytes: a device's and a point's name.
pub const REPLAY_PATTERN_BYTES_MAX: usize = 257;

/// A replay, and how far it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replay {
    /// Counts from 1 in an epoch; 0 before the ledger has given it.
    pub id: u32,
    /// The sink that gets it.
    pub sink: String,
    /// The stream.
    pub stream: Stream,
    /// Records of this time or later: readings by their time of receipt.
    pub from_us: UnixMicros,
    /// Records of this time or earlier.
    pub to_us: UnixMicros,
    /// Only points that one of these patterns names (`device/point`); all, if there is none.
    pub points: Vec<String>,
    /// When it was asked for.
    pub created_us: UnixMicros,
    /// When it ended.
    pub ended_us: Option<UnixMicros>,
    /// How it stands.
    pub state: ReplayState,
    /// The sequences among which its records are; none before they were looked up.
    pub range: Option<SequenceRange>,
    /// Everything of the range below this is behind.
    pub next: Sequence,
    /// The configuration and the rendering code that render it.
    pub config_version: u32,
    /// See [`Self::config_version`].
    pub render_version: u8,
    /// What is offered now.
    pub run: Option<ReplayRun>,
    /// Records delivered.
    pub delivered: u64,
    /// Records that the sink refused.
    pub refused: u64,
    /// Sequences of the range that were not on disk any more, or whose outcome nobody knows.
    pub lost: u64,
    /// Where the sink's own record of this replay stands.
    pub remote_position: Option<i64>,
    /// What holds it up, for a person.
    pub trouble: Option<String>,
    /// Counts every change, so that an old copy cannot overwrite a newer one.
    pub revision: u64,
}

/// What of a replay is offered as one request or transaction: in the ledger before the first attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayRun {
    /// The sequences.
    pub range: SequenceRange,
    /// How many of them are asked for: other ones would be other bytes under the same key.
    pub records: u64,
    /// While it is bisected: what is still to be offered, the next part last.
    pub nodes: Vec<SequenceRange>,
}

/// How a replay stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplayState {
    /// Under way.
    Running,
    /// All of it was offered.
    Done,
    /// Somebody has called it off.
    Cancelled,
    /// It cannot go on, for this reason.
    Failed(String),
}

impl Replay {
    /// Whether it goes on.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.state == ReplayState::Running
    }
}

/// What the ledger is to hold once a replay is kept: the replay with its number or next revision, and the numbers of those
/// that are too old to be kept.
///
/// # Errors
/// [`BufferError::Stale`] if the replay was changed by someone else; [`BufferError::Replays`] if too many are under way.
pub(super) fn keep(held: &BTreeMap<u32, Replay>, replay: &Replay) -> Result<(Replay, Vec<u32>), BufferError> {
    let mut kept = replay.clone();
    if replay.id == 0 {
        if held.values().filter(|replay| replay.is_running()).count() >= REPLAYS_MAX {
            return Err(BufferError::Replays);
        }
        kept.id = held.last_key_value().map_or(1, |(id, _)| id.saturating_add(1));
    } else {
        let revision = held.get(&replay.id).map(|replay| replay.revision);
        if revision != Some(replay.revision) {
            return Err(BufferError::Stale { sink: replay.sink.clone(), stream: replay.stream });
        }
        kept.revision += 1;
    }
    let others = held.values().filter(|other| other.id != kept.id && !other.is_running());
    let finished: Vec<u32> = others.map(|other| other.id).collect();
    let kept_max = REPLAYS_KEPT - usize::from(!kept.is_running());
    let dropped = finished.iter().take(finished.len().saturating_sub(kept_max)).copied().collect();
    Ok((kept, dropped))
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    pub(in crate::buffer) fn replay() -> Replay {
        Replay {
            id: 0,
            sink: "cloud".to_owned(),
            stream: Stream::Readings,
            from_us: 1,
            to_us: 2,
            points: vec!["mill/*".to_owned()],
            created_us: 3,
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
        }
    }

    fn put(held: &mut BTreeMap<u32, Replay>, replay: &Replay) -> Replay {
        let (kept, dropped) = keep(held, replay).unwrap();
        held.retain(|id, _| !dropped.contains(id));
        held.insert(kept.id, kept.clone());
        kept
    }

    #[test]
    fn the_last_finished_replays_are_kept_and_a_number_is_never_given_twice() {
        let mut held = BTreeMap::new();
        for id in 1..=40 {
            let mut kept = put(&mut held, &replay());
            assert_eq!(kept.id, id);
            kept.state = ReplayState::Done;
            put(&mut held, &kept);
        }
        assert_eq!(held.keys().copied().collect::<Vec<_>>(), (25..=40).collect::<Vec<_>>());
    }

    #[test]
    fn too_many_at_once_are_refused_and_an_old_copy_overwrites_nothing() {
        let mut held = BTreeMap::new();
        let first = put(&mut held, &replay());
        for _ in 1..REPLAYS_MAX {
            put(&mut held, &replay());
        }
        assert!(matches!(keep(&held, &replay()), Err(BufferError::Replays)));
        put(&mut held, &Replay { state: ReplayState::Cancelled, ..first.clone() });
        assert!(matches!(keep(&held, &first), Err(BufferError::Stale { .. })));
        assert_eq!(put(&mut held, &replay()).id, u32::try_from(REPLAYS_MAX).unwrap() + 1);
    }
}
