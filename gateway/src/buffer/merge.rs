//! Small blocks become full ones: the same readings under the same sequences, rendered to the same bytes.
//!
//! A reading's time of receipt is its block's wall base plus a distance on the monotonic clock, and between commits the bases differ
//! by microseconds, since a wall clock is slewed. In a merged block all count from the first base, and each monotonic time is
//! moved so that its wall time stays what it was. Only blocks of one boot, time quality and configuration are merged; what does not fit is
//! copied as it is. The judge's ticks are left out: nothing below its snapshot is judged again.

use super::BufferError;
use super::chunk::Sealed;
use crate::block::columns::{Encoder, Frame, JudgedReading, ReadingRow};
use crate::block::{Block, BlockFlags, Draft, RECORDS_MAX};
use crate::clock::Tick;
use crate::reading::{Epoch, NO_HASH, Sequence, SequenceRange};

/// Blocks with so many readings are full enough to be copied as they are.
pub(super) const COPIED_READINGS_MIN: usize = RECORDS_MAX * 4 / 5;

/// Merges the blocks of one stream, in order.
pub(super) struct Merger {
    encoder: Encoder,
    epoch: Epoch,
    /// Message hashes below are needed by nobody: a redelivery reaches no further back.
    hashes_from: Sequence,
    /// What the waiting readings have in common, and the sequence of the first.
    frame: Option<(Frame, Sequence)>,
    waiting: Vec<JudgedReading>,
    /// The block that the waiting readings come from, while it is but one.
    lone: Option<Block>,
}

impl Merger {
    /// # Errors
    /// If the compressor has no memory.
    pub(super) fn new(epoch: Epoch, hashes_from: Sequence) -> Result<Self, BufferError> {
        let encoder = Encoder::new().map_err(|error| failed(&error))?;
        Ok(Self { encoder, epoch, hashes_from, frame: None, waiting: Vec::new(), lone: None })
    }

    /// Takes the next block, with its readings if it has any that can be read; gives the blocks that are finished.
    pub(super) fn add(
        &mut self,
        block: &Block,
        rows: Option<&[ReadingRow]>,
        out: &mut Vec<Sealed>,
    ) -> Result<(), BufferError> {
        let rows = rows.filter(|rows| rows.len() < COPIED_READINGS_MIN);
        let Some(rows) = rows else {
            self.flush(out)?;
            out.push(copied(block));
            return Ok(());
        };
        if !self.take(block, rows) {
            self.flush(out)?;
            if !self.take(block, rows) {
                out.push(copied(block));
            }
        }
        if self.waiting.len() >= RECORDS_MAX {
            let rest = self.waiting.split_off(RECORDS_MAX);
            let next = self.frame.map(|(frame, first)| (frame, first + RECORDS_MAX as u64));
            self.flush(out)?;
            if !rest.is_empty() {
                self.waiting = rest;
                self.frame = next;
            }
        }
        Ok(())
    }

    /// Finishes the readings that wait.
    pub(super) fn flush(&mut self, out: &mut Vec<Sealed>) -> Result<(), BufferError> {
        let waiting = std::mem::take(&mut self.waiting);
        let lone = self.lone.take();
        let Some((frame, mut first)) = self.frame.take() else { return Ok(()) };
        if let Some(block) = lone {
            out.push(copied(&block));
            return Ok(());
        }
        let mut drafts = Vec::new();
        self.encoder.encode(&waiting, &[], &frame, &mut drafts).map_err(|error| failed(&error))?;
        for mut draft in drafts {
            draft.meta.flags.0 |= BlockFlags::MERGED;
            let merged = sealed(&draft, self.epoch, first);
            first = merged.range.last + 1;
            out.push(merged);
        }
        Ok(())
    }

    /// Adds the readings of a block to those that wait, if they have the same in common and each can keep its time.
    fn take(&mut self, block: &Block, rows: &[ReadingRow]) -> bool {
        let meta = &block.meta;
        let base = Tick { mono_us: meta.mono_base_us, wall_us: meta.wall_base_us, quality: meta.time_quality };
        let own = Frame { boot_id: meta.boot_id, base, config_version: meta.config_version };
        let (frame, first) = self.frame.unwrap_or((own, block.range.first));
        let alike = frame.boot_id == own.boot_id
            && frame.base.quality == own.base.quality
            && frame.config_version == own.config_version
            && first + self.waiting.len() as u64 == block.range.first;
        if !alike {
            return false;
        }
        let mut moved = Vec::with_capacity(rows.len());
        for row in rows {
            let distance_us = i128::from(row.received_at_us) - i128::from(frame.base.wall_us);
            let mono_us = u64::try_from(i128::from(frame.base.mono_us) + distance_us);
            let Ok(mono_us) = mono_us else { return false };
            if frame.base.wall_of(mono_us) != row.received_at_us {
                return false;
            }
            let hash = if row.sequence < self.hashes_from { NO_HASH } else { row.reading.message_hash };
            moved.push(JudgedReading { received_mono_us: mono_us, message_hash: hash, ..row.reading.clone() });
        }
        self.lone = if self.waiting.is_empty() { Some(block.clone()) } else { None };
        self.waiting.extend(moved);
        self.frame = Some((frame, first));
        true
    }
}

/// Whether merged readings are those that were there: all but what a merge may change.
pub(super) fn same(merged: &[ReadingRow], original: &[ReadingRow], hashes_from: Sequence) -> bool {
    merged.len() == original.len()
        && merged.iter().zip(original).all(|(merged, original)| {
            let hash = if original.sequence < hashes_from { NO_HASH } else { original.reading.message_hash };
            let expected = JudgedReading {
                received_mono_us: merged.reading.received_mono_us,
                message_hash: hash,
                ..original.reading.clone()
            };
            merged.sequence == original.sequence
                && merged.received_at_us == original.received_at_us
                && merged.reading == expected
        })
}

fn copied(block: &Block) -> Sealed {
    Sealed::again(block, block.points().unwrap_or_default())
}

fn sealed(draft: &Draft, epoch: Epoch, first: Sequence) -> Sealed {
    let meta = &draft.meta;
    let range = SequenceRange { first, last: first + u64::from(meta.count).saturating_sub(1) };
    Sealed {
        stream: meta.stream,
        range,
        first_time_us: meta.first_time_us,
        last_time_us: meta.last_time_us,
        points: draft.points.clone(),
        bytes: draft.seal(epoch, first),
    }
}

fn failed(error: &std::io::Error) -> BufferError {
    BufferError::Disk(format!("cannot merge blocks: {error}"))
}
