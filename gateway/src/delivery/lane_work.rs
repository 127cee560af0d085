//! A lane as its delivery sees it: what the store has, what was passed over since, and how the sink stands to it.

use super::RETRY_FIRST;
use super::run::{self, Part};
use super::schedule::Class;
use crate::backoff::Backoff;
use crate::buffer::Lane;
use crate::reading::{Sequence, SequenceRange, Stream, UnixMicros};
use crate::sinks::encode::Selection;
use crate::status::State;
use std::time::Duration;
use tokio::time::Instant;

/// Over so many records refusals are counted; more than one in a hundred of them refused pauses the sink.
pub(super) const REFUSAL_WINDOW: f64 = 10_000.0;

/// A lane, and how the sink stands to it. A stream that is refused holds no other back.
pub(super) struct LaneWork {
    /// The name that it has in the ledger and in keys: the sink's.
    pub(super) name: String,
    pub(super) stream: Stream,
    /// As the store has it, but for what was passed over since it was saved.
    pub(super) lane: Lane,
    /// What was lost before the start.
    lost_before: u64,
    /// Since when records were passed over that the store still has as undelivered.
    pub(super) unsaved_since: Option<Instant>,
    /// Since when something waits to be pinned.
    pub(super) waiting: Option<Instant>,
    /// What the pinned run brings.
    pub(super) selection: Option<(SequenceRange, Selection)>,
    /// The oldest sequence that was held when the lane was taken from the store.
    pub(super) oldest: Sequence,
    /// The time of the oldest undelivered record, as far as it was read.
    pub(super) oldest_us: Option<UnixMicros>,
    /// How many of the records are for the sink, as a share.
    pub(super) wanted: f64,
    /// Whether the sink has taken anything of this stream since it started.
    pub(super) proven: bool,
    /// Too much was refused: until the next success a refusal proves nothing about the record.
    pub(super) doubted: bool,
    /// Records offered and refused lately, old ones fading out.
    pub(super) offered: f64,
    pub(super) refused: f64,
    pub(super) backoff: Backoff,
    /// Not offered before this moment.
    pub(super) not_before: Option<Instant>,
    /// That moment was the sink's own word (`Retry-After`).
    pub(super) was_told_to_wait: bool,
    pub(super) failing_since: Option<Instant>,
    /// How it stands, if not well.
    pub(super) trouble: Option<State>,
}

impl LaneWork {
    pub(super) fn new(name: &str, stream: Stream, lane: Lane, oldest: Sequence, retry_max: Duration) -> Self {
        Self {
            name: name.to_owned(),
            stream,
            lost_before: lane.gaps,
            lane,
            unsaved_since: None,
            waiting: None,
            selection: None,
            oldest,
            oldest_us: None,
            wanted: 1.0,
            proven: false,
            doubted: false,
            offered: 0.0,
            refused: 0.0,
            backoff: Backoff::new(RETRY_FIRST, retry_max),
            not_before: None,
            was_told_to_wait: false,
            failing_since: None,
            trouble: None,
        }
    }

    /// Takes the lane as the store has it now.
    pub(super) fn take(&mut self, lane: Lane, oldest: Sequence) {
        self.lane = lane;
        self.oldest = oldest;
        self.unsaved_since = None;
        self.selection = None;
    }

    /// Records lost since the start before the sink had them.
    pub(super) fn lost(&self) -> u64 {
        self.lane.gaps.saturating_sub(self.lost_before)
    }

    /// Counts what was offered, so that old refusals fade; says whether too much of it was refused.
    pub(super) fn count(&mut self, delivered: u64, refused: u64) -> bool {
        self.offered += (delivered + refused) as f64;
        self.refused += refused as f64;
        if self.offered > REFUSAL_WINDOW {
            let fade = REFUSAL_WINDOW / self.offered;
            self.offered *= fade;
            self.refused *= fade;
        }
        self.refused > REFUSAL_WINDOW / 100.0
    }

    /// Learns how many of the records are for the sink.
    pub(super) fn learn_share(&mut self, wanted: u64, of: u64) {
        if of > 0 {
            self.wanted = (0.5 * self.wanted + 0.5 * (wanted as f64 / of as f64)).max(1e-6);
        }
    }

    /// How many records for the sink wait in a part of the lane, about.
    pub(super) fn waiting_in(&self, part: Part, next: Sequence) -> f64 {
        run::undelivered_in(&self.lane.cursor, part, next) as f64 * self.wanted
    }

    /// The rank of what is taken from a part of the lane. A history run that is pinned must end before live readings of the
    /// same stream can go, so it ranks with them.
    pub(super) fn class(&self, part: Part) -> Class {
        match self.stream {
            Stream::Alerts | Stream::Gaps => Class::Vital,
            Stream::DeadLetters => Class::Letters,
            _ if part == Part::History && self.lane.run.is_none() => Class::History,
            _ => Class::Live,
        }
    }
}
