//! Chunk families: streams of like worth share chunks, and the least worthy family gives way first.

use crate::reading::Stream;
use serde::{Deserialize, Serialize};

/// A family of chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) enum Family {
    /// Alerts, gaps, missed: few, and what explains everything else.
    Vital,
    /// Dead letters: a family of their own, since one confused device may send a flood of them.
    Letters,
    /// Readings, aggregates.
    Readings,
    /// Raw payloads.
    Raw,
}

impl Family {
    /// In the order in which a commit synchronises them: what explains a loss is on disk before what may be lost.
    pub(super) const ALL: [Self; 4] = [Self::Vital, Self::Letters, Self::Readings, Self::Raw];

    /// In the order in which they give way at the cap.
    pub(super) const LEAST_WORTHY_FIRST: [Self; 4] = [Self::Raw, Self::Letters, Self::Readings, Self::Vital];

    /// The family of a stream.
    pub(super) fn of(stream: Stream) -> Self {
        match stream {
            Stream::Raw => Self::Raw,
            Stream::Readings | Stream::Aggregates => Self::Readings,
            Stream::DeadLetters => Self::Letters,
            Stream::Alerts | Stream::Gaps => Self::Vital,
        }
    }

    /// Its streams.
    pub(super) fn streams(self) -> impl Iterator<Item = Stream> {
        Stream::ALL.into_iter().filter(move |stream| Self::of(*stream) == self)
    }

    /// Its directory.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Vital => "vital",
            Self::Letters => "letters",
            Self::Readings => "readings",
            Self::Raw => "raw",
        }
    }

    /// Its part of the buffer, as an error names it.
    pub(super) fn part(self) -> &'static str {
        match self {
            Self::Vital => "the buffer's part for alerts",
            Self::Letters => "the buffer's part for dead letters",
            Self::Readings => "the buffer's part for readings",
            Self::Raw => "the buffer's part for raw payloads",
        }
    }

    /// Its number in keys.
    pub(super) fn code(self) -> u8 {
        self as u8
    }

    /// The family of a number in a key.
    pub(super) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|family| family.code() == code)
    }
}
