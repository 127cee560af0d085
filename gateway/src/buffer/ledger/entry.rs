//! What the ledger holds, entry by entry, and how an entry lies on disk: a typed key, and a value with a version byte.
//!
//! Values are postcard behind the byte 2. A changed value is a new version; a program reads all versions that were released.

use super::super::chunk::{ChunkId, ChunkInfo};
use super::super::family::Family;
use super::super::sled_store::Write;
use super::super::{Books, BootOffset, Lane, Replay};
use crate::reading::{Epoch, PointId, Sequence, SequenceRange, Stream};
use crate::site::PointKey;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Version of every value. Version 1 was never released: it knew three chunk families.
const VERSION: u8 = 2;

const EPOCH: u8 = b'e';
const GENERATION: u8 = b'g';
const NEXT: u8 = b'n';
const POINT: u8 = b'p';
const LANE: u8 = b'l';
const CHUNK: u8 = b'c';
const HOLE: u8 = b'h';
const OUTBOX: u8 = b'o';
const CONFIG: u8 = b'v';
const BOOT: u8 = b'b';
const BOOKS: u8 = b'i';
const REPLAY: u8 = b'r';

/// Recognises a configuration text, which lies in a file of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::buffer) struct ConfigMark {
    /// XXH3-128 of the text.
    pub(in crate::buffer) hash: u128,
    /// Its length in bytes.
    pub(in crate::buffer) bytes: u64,
}

/// One entry of the ledger; `None` inside takes the entry away.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::buffer) enum Entry {
    /// Whose ledger it is.
    Epoch(Epoch),
    /// How often it was written; one entry in every batch.
    Generation(u64),
    /// The next sequence of every stream, as it stood when the ledger was last written: a run is in the ledger before it is
    /// offered, so nothing that was ever delivered is above.
    Next([Sequence; 6]),
    /// What a point's number stands for.
    Point(PointId, PointKey),
    /// The books of a sink in a stream.
    Lane(String, Stream, Lane),
    /// The index of chunks.
    Chunk(ChunkId, Option<ChunkInfo>),
    /// Sequences lost to damage, with their gap on record; true while that matters.
    Hole(Stream, SequenceRange, bool),
    /// A whole block that has its sequences and waits to be in its chunk.
    Outbox(u64, Option<Bytes>),
    /// A configuration that is kept.
    Config(u32, Option<ConfigMark>),
    /// The offset of a boot.
    Boot(u128, Option<BootOffset>),
    /// The books of ingest, as they stood when the chunk that had the newest was sealed, or later.
    Books(Books),
    /// A replay.
    Replay(u32, Option<Replay>),
}

impl Entry {
    /// How it lies on disk.
    pub(super) fn encode(&self) -> Write {
        match self {
            Self::Epoch(epoch) => (vec![EPOCH], value(epoch)),
            Self::Generation(generation) => (vec![GENERATION], value(generation)),
            Self::Next(next) => (vec![NEXT], value(next)),
            Self::Point(id, key) => (key_of(POINT, &[&id.0.to_be_bytes()]), value(key)),
            Self::Lane(sink, stream, lane) => (key_of(LANE, &[&[stream.code()], sink.as_bytes()]), value(lane)),
            Self::Chunk((family, number), info) => {
                (key_of(CHUNK, &[&[family.code()], &number.to_be_bytes()]), info.as_ref().and_then(value))
            }
            Self::Hole(stream, range, there) => (
                key_of(HOLE, &[&[stream.code()], &range.first.to_be_bytes()]),
                if *there { value(&range.last) } else { None },
            ),
            Self::Outbox(index, block) => {
                (key_of(OUTBOX, &[&index.to_be_bytes()]), block.as_ref().and_then(|block| value(&block.as_ref())))
            }
            Self::Config(version, mark) => (key_of(CONFIG, &[&version.to_be_bytes()]), mark.as_ref().and_then(value)),
            Self::Books(books) => (vec![BOOKS], value(books)),
            Self::Replay(id, replay) => (key_of(REPLAY, &[&id.to_be_bytes()]), replay.as_ref().and_then(value)),
            Self::Boot(id, offset) => (key_of(BOOT, &[&id.to_be_bytes()]), offset.as_ref().and_then(value)),
        }
    }

    /// Whether a value was written by a program of another version.
    pub(super) fn is_of_another_version(value: &[u8]) -> bool {
        value.first().is_some_and(|version| *version != VERSION)
    }

    /// Reads an entry; `None` if it is none that this program knows.
    pub(super) fn decode(key: &[u8], value: &[u8]) -> Option<Self> {
        let (kind, key) = key.split_first()?;
        let (version, value) = value.split_first()?;
        if *version != VERSION {
            return None;
        }
        Some(match *kind {
            EPOCH => Self::Epoch(read(value)?),
            GENERATION => Self::Generation(read(value)?),
            NEXT => Self::Next(read(value)?),
            POINT => Self::Point(PointId(u32::from_be_bytes(key.try_into().ok()?)), read(value)?),
            LANE => {
                let (stream, sink) = key.split_first()?;
                Self::Lane(String::from_utf8(sink.to_vec()).ok()?, Stream::from_code(*stream)?, read(value)?)
            }
            CHUNK => {
                let (family, number) = key.split_first()?;
                let number = u32::from_be_bytes(number.try_into().ok()?);
                Self::Chunk((Family::from_code(*family)?, number), Some(read(value)?))
            }
            HOLE => {
                let (stream, first) = key.split_first()?;
                let first = u64::from_be_bytes(first.try_into().ok()?);
                Self::Hole(Stream::from_code(*stream)?, SequenceRange { first, last: read(value)? }, true)
            }
            OUTBOX => {
                let block: &[u8] = read(value)?;
                Self::Outbox(u64::from_be_bytes(key.try_into().ok()?), Some(Bytes::copy_from_slice(block)))
            }
            CONFIG => Self::Config(u32::from_be_bytes(key.try_into().ok()?), Some(read(value)?)),
            BOOKS => Self::Books(read(value)?),
            REPLAY => Self::Replay(u32::from_be_bytes(key.try_into().ok()?), Some(read(value)?)),
            BOOT => Self::Boot(u128::from_be_bytes(key.try_into().ok()?), Some(read(value)?)),
            _ => return None,
        })
    }
}

fn key_of(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut key = vec![kind];
    for part in parts {
        key.extend_from_slice(part);
    }
    key
}

/// Plain structs of numbers and strings always serialise.
fn value(of: &impl Serialize) -> Option<Vec<u8>> {
    postcard::to_extend(of, vec![VERSION]).ok()
}

fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    let (value, rest) = postcard::take_from_bytes(bytes).ok()?;
    rest.is_empty().then_some(value)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::reading::TimeQuality;

    #[test]
    fn every_kind_of_entry_comes_back_as_it_was_written() {
        let key = PointKey { device: "d".into(), point: "p".into(), unit: "°C".into(), source: "s".into() };
        let entries = [
            Entry::Epoch(Epoch(u128::MAX)),
            Entry::Generation(u64::MAX),
            Entry::Next([0, 1, 2, 3, 4, u64::MAX]),
            Entry::Point(PointId(7), key),
            Entry::Lane("plant kafka".into(), Stream::Gaps, Lane { gaps: 9, ..Lane::default() }),
            Entry::Chunk((Family::Letters, 8), Some(ChunkInfo::begun([3; 6]))),
            Entry::Hole(Stream::Readings, SequenceRange { first: 5, last: 6 }, true),
            Entry::Outbox(1, Some(Bytes::from_static(b"block"))),
            Entry::Config(2, Some(ConfigMark { hash: 1, bytes: 2 })),
            Entry::Books(Books { revision: 3, ..Books::default() }),
            Entry::Replay(7, Some(super::super::super::replay::tests::replay())),
            Entry::Boot(u128::MAX - 1, Some(BootOffset { offset_us: i64::MIN, quality: TimeQuality::Ntp })),
        ];
        for entry in entries {
            let (key, value) = entry.encode();
            assert_eq!(Entry::decode(&key, &value.unwrap()), Some(entry));
        }
    }

    #[test]
    fn rubbish_is_no_entry() {
        assert_eq!(Entry::decode(b"", b""), None);
        assert_eq!(Entry::decode(b"x", &[2]), None);
        assert_eq!(Entry::decode(b"e", &[1, 0]), None);
        assert_eq!(Entry::decode(b"n", &[2, 0, 0]), None);
    }
}
