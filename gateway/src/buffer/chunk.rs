//! A chunk: an insert-only database of about 16 MB with blocks, and the points that they name.
//!
//! Keys are `stream u8 | first sequence u64` with a block as value, `0xFF | point id u32` with the point's names, all big
//! endian, and `0xFE` with the books of ingest: a chunk can be read without the ledger.

use super::sled_store::{BATCH_BYTES_MAX, Database, Pair, Write};
use super::store::BLOCKS_MAX;
use super::{Books, BufferError, Cipher, family::Family, inspect::RawBlock};
use crate::block::Block;
use crate::reading::{Epoch, PointId, Sequence, SequenceRange, Stream, UnixMicros};
use crate::site::PointKey;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::path::Path;

/// Begins the keys of points; no stream has this number.
const POINT: u8 = 0xFF;

/// The key of the books; no stream has this number.
const BOOKS: u8 = 0xFE;

/// Names a chunk: its family and its number there.
pub(super) type ChunkId = (Family, u32);

/// What a chunk is to the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum ChunkState {
    /// Blocks may still be added; what it holds is found by reading it.
    Active,
    /// No block is added any more. Its summaries may be, and a merged chunk may take its place.
    Sealed,
    /// On its way out: its gaps are in the books, its directory may still be there.
    Dropped,
}

/// What a chunk holds of one stream: no block outside of it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Extent {
    /// The stream.
    pub(super) stream: Stream,
    /// Its sequences here.
    pub(super) range: SequenceRange,
    /// Time of the earliest record.
    pub(super) first_time_us: UnixMicros,
    /// Time of the latest record.
    pub(super) last_time_us: UnixMicros,
}

/// The index entry of a chunk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ChunkInfo {
    /// What it is.
    pub(super) state: ChunkState,
    /// The next sequence of each stream when it was begun.
    pub(super) base: [Sequence; 6],
    /// What it holds; empty in the ledger while it is active.
    pub(super) extents: Vec<Extent>,
    /// Bytes on disk, as far as measured.
    pub(super) bytes: u64,
    /// Whether it was sealed, and then given its summaries and index, and its small blocks merged.
    pub(super) digested: bool,
}

impl ChunkInfo {
    /// A chunk that is about to be begun.
    pub(super) fn begun(base: [Sequence; 6]) -> Self {
        Self { state: ChunkState::Active, base, extents: Vec::new(), bytes: 0, digested: false }
    }

    /// What it holds of a stream.
    pub(super) fn extent(&self, stream: Stream) -> Option<&Extent> {
        self.extents.iter().find(|extent| extent.stream == stream)
    }

    /// Counts a block in.
    pub(super) fn admit(&mut self, block: &Sealed) {
        let fresh = Extent {
            stream: block.stream,
            range: block.range,
            first_time_us: block.first_time_us,
            last_time_us: block.last_time_us,
        };
        match self.extents.iter_mut().find(|extent| extent.stream == block.stream) {
            None => self.extents.push(fresh),
            Some(extent) => {
                extent.range.last = extent.range.last.max(fresh.range.last);
                extent.first_time_us = extent.first_time_us.min(fresh.first_time_us);
                extent.last_time_us = extent.last_time_us.max(fresh.last_time_us);
            }
        }
    }
}

/// A block that has its sequences.
#[derive(Clone, Debug)]
pub(super) struct Sealed {
    /// The stream.
    pub(super) stream: Stream,
    /// Its sequences.
    pub(super) range: SequenceRange,
    /// Time of the earliest record.
    pub(super) first_time_us: UnixMicros,
    /// Time of the latest record.
    pub(super) last_time_us: UnixMicros,
    /// The points that it names.
    pub(super) points: Vec<PointId>,
    /// The whole block.
    pub(super) bytes: Bytes,
}

impl Sealed {
    /// A block that was read, ready to be written elsewhere.
    pub(super) fn again(block: &Block, points: Vec<PointId>) -> Self {
        Self {
            stream: block.meta.stream,
            range: block.range,
            first_time_us: block.meta.first_time_us,
            last_time_us: block.meta.last_time_us,
            points,
            bytes: block.bytes().clone(),
        }
    }
}

/// An open chunk.
pub(super) struct Chunk {
    database: Database,
    /// The points that it names already; filled only where blocks are added.
    points: HashSet<PointId>,
}

impl Chunk {
    /// Opens a chunk, making it if need be.
    pub(super) fn open(path: &Path, cipher: &Cipher) -> Result<Self, BufferError> {
        Ok(Self { database: Database::open(path, cipher)?, points: HashSet::new() })
    }

    /// Its database, for a salvage.
    pub(super) fn database(&self) -> &Database {
        &self.database
    }

    /// Learns which points it names already, to go on adding.
    pub(super) fn load_points(&mut self) -> Result<(), BufferError> {
        let mut first = point_key(PointId(0));
        loop {
            let pairs = self.database.scan(&first, &point_key(PointId(u32::MAX)), BATCH_POINTS)?;
            for (key, _) in &pairs {
                if let Some(id) = key.get(1..5).and_then(|id| id.try_into().ok()) {
                    self.points.insert(PointId(u32::from_be_bytes(id)));
                }
            }
            match pairs.last() {
                Some((key, _)) if pairs.len() == BATCH_POINTS => {
                    first.clone_from(key);
                    first.push(0);
                }
                _ => return Ok(()),
            }
        }
    }

    /// Adds blocks, the names of their points and, with the last of them, the books; they are on disk when this returns.
    /// After an error the chunk must never be written again.
    pub(super) fn append(
        &mut self,
        blocks: &[Sealed],
        books: Option<&Books>,
        name: impl Fn(PointId) -> Option<PointKey>,
    ) -> Result<(), BufferError> {
        let mut writes: Vec<Write> = Vec::new();
        let mut batch_bytes = 0;
        for block in blocks {
            for id in &block.points {
                if self.points.insert(*id)
                    && let Some(key) = name(*id)
                {
                    let value = postcard::to_stdvec(&key).unwrap_or_default();
                    batch_bytes += value.len();
                    writes.push((point_key(*id), Some(value)));
                }
            }
            batch_bytes += block.bytes.len();
            writes.push((block_key(block.stream, block.range.first), Some(block.bytes.to_vec())));
            if batch_bytes >= BATCH_BYTES_MAX {
                self.database.write(std::mem::take(&mut writes))?;
                batch_bytes = 0;
            }
        }
        if let Some(books) = books {
            writes.push((vec![BOOKS], Some(books.encode())));
        }
        if writes.is_empty() { Ok(()) } else { self.database.write(writes) }
    }

    /// The block that holds `from`, or the next one, and those after it, up to the extent's end.
    ///
    /// # Errors
    /// [`BufferError::Damaged`] if a block is missing that no known hole explains, or is not what it should be.
    pub(super) fn read(
        &self,
        epoch: Epoch,
        extent: &Extent,
        from: Sequence,
        blocks_max: usize,
        holes: &[SequenceRange],
    ) -> Result<Vec<Block>, BufferError> {
        let stream = extent.stream;
        let mut expected = from.max(extent.range.first);
        let lowest = block_key(stream, extent.range.first);
        let holding = self.database.last(&lowest, &block_key(stream, expected))?;
        let mut blocks = Vec::new();
        if let Some((key, value)) = holding {
            let block = checked(epoch, &key, value)?;
            if block.range.last >= expected {
                expected = block.range.last + 1;
                blocks.push(block);
            }
        }
        let wanted = blocks_max.min(BLOCKS_MAX).saturating_sub(blocks.len());
        let pairs = if expected > extent.range.last {
            Vec::new()
        } else {
            self.database.scan(&block_key(stream, expected), &block_key(stream, extent.range.last), wanted)?
        };
        let complete = pairs.len() < wanted;
        for (key, value) in pairs {
            let block = checked(epoch, &key, value)?;
            explained(stream, expected, block.range.first, holes)?;
            expected = block.range.last + 1;
            blocks.push(block);
        }
        if complete {
            explained(stream, expected, extent.range.last.saturating_add(1), holes)?;
        }
        if blocks.last().is_some_and(|block| block.range.last > extent.range.last) {
            return Err(BufferError::Damaged(format!("a block of {stream} reaches beyond its chunk")));
        }
        Ok(blocks)
    }

    /// The block at or before `from`, if it reaches there or makes no sense, and those after it, unchecked.
    pub(super) fn look(&self, stream: Stream, from: Sequence) -> Result<Vec<RawBlock>, BufferError> {
        let holding = self.database.last(&block_key(stream, 0), &block_key(stream, from))?;
        let holding =
            holding.filter(|(_, value)| Block::parse(value.clone()).map_or(true, |block| block.range.last >= from));
        let after = match from.checked_add(1) {
            Some(after) => self.database.scan(
                &block_key(stream, after),
                &block_key(stream, Sequence::MAX),
                BLOCKS_MAX - usize::from(holding.is_some()),
            )?,
            None => Vec::new(),
        };
        let raw = |(key, bytes): Pair| Some(RawBlock { first: sequence_of(&key)?, bytes });
        Ok(holding.into_iter().chain(after).filter_map(raw).collect())
    }

    /// Reads through everything from `base` on and says what is there.
    ///
    /// # Errors
    /// [`BufferError::Damaged`] if anything is not what it should be, or does not follow what is before it.
    pub(super) fn survey(
        &self,
        epoch: Epoch,
        family: Family,
        base: &[Sequence; 6],
    ) -> Result<Vec<Extent>, BufferError> {
        let mut info = ChunkInfo::begun(*base);
        for stream in family.streams() {
            let mut expected: Option<Sequence> = None;
            let mut at = base[stream.index()];
            loop {
                let pairs =
                    self.database.scan(&block_key(stream, at), &block_key(stream, Sequence::MAX), BLOCKS_MAX)?;
                if pairs.is_empty() {
                    break;
                }
                for (key, value) in pairs {
                    let block = checked(epoch, &key, value)?;
                    if expected.is_some_and(|expected| expected != block.range.first) {
                        return Err(BufferError::Damaged(format!(
                            "a block of {stream} before {} is missing",
                            block.range
                        )));
                    }
                    at = block.range.last.saturating_add(1);
                    expected = Some(at);
                    info.admit(&Sealed::again(&block, Vec::new()));
                }
            }
        }
        Ok(info.extents)
    }
}

/// The books that were last written into a chunk, if they are whole.
pub(super) fn books(database: &Database) -> Option<Books> {
    database.get(&[BOOKS]).ok().flatten().and_then(|bytes| Books::decode(&bytes))
}

/// How many points are looked at in one go.
const BATCH_POINTS: usize = 256;

/// The key of a block.
pub(super) fn block_key(stream: Stream, first: Sequence) -> Vec<u8> {
    let mut key = vec![stream.code()];
    key.extend_from_slice(&first.to_be_bytes());
    key
}

/// The first sequence that the key of a block names.
fn sequence_of(key: &[u8]) -> Option<Sequence> {
    key.get(1..9).and_then(|first| first.try_into().ok()).map(u64::from_be_bytes)
}

fn point_key(id: PointId) -> Vec<u8> {
    let mut key = vec![POINT];
    key.extend_from_slice(&id.0.to_be_bytes());
    key
}

/// Reads a block and makes sure that it is the one that its key names, of this epoch.
pub(super) fn checked(epoch: Epoch, key: &[u8], value: Bytes) -> Result<Block, BufferError> {
    let block = Block::parse(value).map_err(|error| BufferError::Damaged(format!("a block: {error}")))?;
    if block.epoch != epoch || block_key(block.meta.stream, block.range.first) != key {
        return Err(BufferError::Damaged(format!(
            "block {} of {} is in a wrong place",
            block.range, block.meta.stream
        )));
    }
    Ok(block)
}

/// Whether all from `expected` to before `found` is known to be lost.
fn explained(
    stream: Stream,
    mut expected: Sequence,
    found: Sequence,
    holes: &[SequenceRange],
) -> Result<(), BufferError> {
    while expected < found {
        match holes.iter().find(|hole| hole.first <= expected && expected <= hole.last) {
            Some(hole) => expected = hole.last.saturating_add(1),
            None => return Err(BufferError::Damaged(format!("{stream} {expected} to {} is missing", found - 1))),
        }
    }
    Ok(())
}
