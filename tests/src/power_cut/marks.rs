//! What the recorded program says about itself, one line each, in order with its writes.

use forebay::reading::{Epoch, Sequence, SequenceRange, Stream};

/// One thing that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// The store is open.
    Epoch(Epoch),
    /// A block is about to be committed.
    Tried {
        /// Its stream.
        stream: Stream,
        /// Its first sequence.
        first: Sequence,
        /// Its hash.
        hash: u32,
    },
    /// A block was acknowledged.
    Acknowledged {
        /// Its stream.
        stream: Stream,
        /// Its sequences.
        range: SequenceRange,
        /// Its hash.
        hash: u32,
    },
    /// A snapshot was handed over with a commit that was acknowledged.
    Snapshot {
        /// The next sequence of readings then.
        sequence: Sequence,
        /// Its hash.
        hash: u32,
    },
    /// A run was pinned.
    Pinned {
        /// Its stream.
        stream: Stream,
        /// What it carries.
        range: SequenceRange,
    },
    /// A run was resolved.
    Resolved {
        /// Its stream.
        stream: Stream,
        /// How many records the sink has in all.
        delivered: u64,
        /// The id of the alert that the change brought.
        alert: u64,
    },
    /// A configuration was kept.
    Config {
        /// Its version.
        version: u32,
        /// The text's hash.
        hash: u32,
    },
}

/// Tells blocks apart: the CRC-32C at a block's end, which the store has checked when it gives a block out.
#[must_use]
pub fn block_hash(block: &[u8]) -> u32 {
    block.last_chunk().map_or(0, |checksum| u32::from_le_bytes(*checksum))
}

/// Tells other bytes apart: FNV-1a, 32 bits (draft-eastlake-fnv, section 2).
#[must_use]
pub fn bytes_hash(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

impl Mark {
    /// The line in the recording.
    #[must_use]
    pub fn line(&self) -> String {
        match self {
            Self::Epoch(epoch) => format!("epoch {}\n", epoch.0),
            Self::Tried { stream, first, hash } => format!("tried {} {first} {hash}\n", stream.code()),
            Self::Acknowledged { stream, range, hash } => {
                format!("acknowledged {} {} {} {hash}\n", stream.code(), range.first, range.last)
            }
            Self::Snapshot { sequence, hash } => format!("snapshot {sequence} {hash}\n"),
            Self::Pinned { stream, range } => format!("pinned {} {} {}\n", stream.code(), range.first, range.last),
            Self::Resolved { stream, delivered, alert } => format!("resolved {} {delivered} {alert}\n", stream.code()),
            Self::Config { version, hash } => format!("config {version} {hash}\n"),
        }
    }

    /// Reads a line.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let kind = words.next()?;
        let numbers: Vec<u128> = words.map(str::parse).collect::<Result<_, _>>().ok()?;
        let number = |index: usize| numbers.get(index).and_then(|number| u64::try_from(*number).ok());
        let hash = |index: usize| number(index).and_then(|number| u32::try_from(number).ok());
        let stream = || number(0).and_then(|code| Stream::from_code(u8::try_from(code).ok()?));
        let range = || Some(SequenceRange { first: number(1)?, last: number(2)? });
        Some(match kind {
            "epoch" => Self::Epoch(Epoch(*numbers.first()?)),
            "tried" => Self::Tried { stream: stream()?, first: number(1)?, hash: hash(2)? },
            "acknowledged" => Self::Acknowledged { stream: stream()?, range: range()?, hash: hash(3)? },
            "snapshot" => Self::Snapshot { sequence: number(0)?, hash: hash(1)? },
            "pinned" => Self::Pinned { stream: stream()?, range: range()? },
            "resolved" => Self::Resolved { stream: stream()?, delivered: number(1)?, alert: number(2)? },
            "config" => Self::Config { version: hash(0)?, hash: hash(1)? },
            _ => return None,
        })
    }
}
