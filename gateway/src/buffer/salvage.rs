//! What damaged chunks still hold: every sound block of the wanted sequences, from the bytes of their logs, in a fresh chunk.
//!
//! Whatever sled could still read is found in the bytes too, and much that it would clear away, so nothing is opened here and
//! nothing is written but the fresh chunk: a salvage that is interrupted is simply begun again.

use super::chunk::{Chunk, ChunkInfo, Sealed};
use super::scan::{Found, Log};
use super::sled_store::BATCH_BYTES_MAX;
use super::{BufferError, Cipher};
use crate::block::Block;
use crate::reading::{Epoch, PointId, Sequence, SequenceRange, Stream};
use crate::site::PointKey;
use std::path::Path;

/// What could be brought back.
pub(super) struct Salvaged {
    /// What the fresh chunk holds.
    pub(super) info: ChunkInfo,
    /// What none of the logs had.
    pub(super) missing: Vec<(Stream, SequenceRange)>,
}

/// What is to be brought back.
pub(super) struct Wanted<'a> {
    /// Blocks of another epoch are not ours.
    pub(super) epoch: Epoch,
    /// What the chunk is known to hold.
    pub(super) known: &'a [(Stream, SequenceRange)],
    /// The points of the ledger, by number.
    pub(super) points: &'a [PointKey],
    /// What decrypts and encrypts.
    pub(super) cipher: &'a Cipher,
}

/// Copies the sound blocks that were found into a fresh chunk at `target`.
pub(super) fn copy_sound_blocks(
    logs: &[Log],
    found: &Found,
    target: &Path,
    wanted: &Wanted<'_>,
) -> Result<Salvaged, BufferError> {
    let info = ChunkInfo::begun([0; 6]);
    let mut copy = Copy { chunk: Chunk::open(target, wanted.cipher)?, info, waiting: Vec::new(), bytes: 0 };
    let mut missing = Vec::new();
    for (stream, range) in wanted.known {
        let mut miss = |first: Sequence, before: Sequence| {
            if first < before {
                missing.push((*stream, SequenceRange { first, last: before - 1 }));
            }
        };
        let mut expected = range.first;
        for (held, place) in found.newest(*stream).values() {
            if held.first < expected || held.last > range.last {
                continue;
            }
            let block = logs.get(place.log).and_then(|log| log.read(place, wanted.cipher));
            let Some(block) = block.filter(|block| block.epoch == wanted.epoch && block.range == *held) else {
                continue;
            };
            miss(expected, held.first);
            expected = held.last + 1;
            copy.add(&block, wanted)?;
        }
        miss(expected, range.last.saturating_add(1));
    }
    copy.write(wanted)?;
    Ok(Salvaged { info: copy.info, missing })
}

struct Copy {
    chunk: Chunk,
    info: ChunkInfo,
    waiting: Vec<Sealed>,
    bytes: usize,
}

impl Copy {
    fn add(&mut self, block: &Block, wanted: &Wanted<'_>) -> Result<(), BufferError> {
        let points: Vec<PointId> = block.points().unwrap_or_default();
        let block = Sealed::again(block, points);
        self.info.admit(&block);
        self.bytes += block.bytes.len();
        self.waiting.push(block);
        if self.bytes >= BATCH_BYTES_MAX { self.write(wanted) } else { Ok(()) }
    }

    fn write(&mut self, wanted: &Wanted<'_>) -> Result<(), BufferError> {
        self.bytes = 0;
        self.chunk.append(&std::mem::take(&mut self.waiting), None, |id| wanted.points.get(id.0 as usize).cloned())
    }
}
