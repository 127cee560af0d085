//! Pinning: which blocks the next run is made of, and having them in memory.

use super::{Delivery, Setback, run};
use crate::block::Block;
use crate::buffer::{Lane, Run};
use crate::reading::{SequenceRange, Stream};
use crate::sinks::Sink;
use crate::sinks::encode::RENDER_VERSION;
use xxhash_rust::xxh3::xxh3_64;

/// Blocks read at a time.
const READ_BLOCKS: usize = 16;
/// Most blocks of a run: they are held in memory while it is offered, 6 KiB each.
const RUN_BLOCKS_MAX: usize = 512;

impl<S: Sink> Delivery<S> {
    /// Whether a whole run waits in the lane.
    pub(super) fn is_full(&self, index: usize, lane: &Lane) -> bool {
        let Some(stream) = self.lanes.get(index).map(|work| work.stream) else { return false };
        run::undelivered(&lane.cursor, self.next(stream)) as f64 * self.record_bytes
            >= self.options.run_bytes_max as f64
    }

    /// Chooses the next run of whole blocks and puts it into the lane; `false` if nothing is there.
    pub(super) async fn pin(&mut self, index: usize, lane: &mut Lane) -> Result<bool, Setback> {
        let Some(stream) = self.lanes.get(index).map(|work| work.stream) else { return Ok(false) };
        let Some(stretch) = run::first_stretch(&lane.cursor, self.next(stream)) else { return Ok(false) };
        let records_max = (self.options.run_bytes_max as f64 / self.record_bytes).max(1.0);
        let mut blocks: Vec<Block> = Vec::new();
        let mut from = stretch.first;
        'reading: while from <= stretch.last && blocks.len() < RUN_BLOCKS_MAX {
            let read =
                self.options.buffer.blocks(stream, from, READ_BLOCKS).await.map_err(|error| self.disk(&error))?;
            if read.is_empty() {
                break;
            }
            for block in read {
                let first = blocks.first().map_or(block.range.first.max(stretch.first), |first| first.range.first);
                let records = block.range.last.min(stretch.last).saturating_sub(first) + 1;
                let beyond = block.range.first > stretch.last || (block.range.first > from && !blocks.is_empty());
                if beyond || (!blocks.is_empty() && records as f64 > records_max) {
                    break 'reading;
                }
                from = block.range.last + 1;
                blocks.push(block);
            }
        }
        let (Some(first), Some(last)) = (blocks.first(), blocks.last()) else {
            self.skip_lost(stream, lane, stretch);
            return Ok(false);
        };
        let range =
            SequenceRange { first: first.range.first.max(stretch.first), last: last.range.last.min(stretch.last) };
        if range.first > stretch.first {
            self.skip_lost(stream, lane, SequenceRange { first: stretch.first, last: range.first - 1 });
        }
        let mark = self.mark(stream, range);
        lane.run = Some(Run { mark, ..Run::new(range, self.config_version(), RENDER_VERSION) });
        if let Some(work) = self.lanes.get_mut(index) {
            work.blocks = blocks;
            work.waiting = None;
        }
        Ok(true)
    }

    /// A number that no other pinning of the same sequences has: boot and moment differ, on another board or after a restore.
    fn mark(&self, stream: Stream, range: SequenceRange) -> u64 {
        let (boot_id, mono_us) = (self.options.clock.boot_id, self.options.clock.mono_us());
        xxh3_64(format!("{boot_id}/{mono_us}/{}/{stream}/{range}", self.options.name).as_bytes())
    }

    /// The store records the gap when it loses a block; here the books follow it.
    fn skip_lost(&self, stream: Stream, lane: &mut Lane, lost: SequenceRange) {
        tracing::error!(sink = self.options.name, %stream, missing = lost.count(), from = lost.first, "records are missing on disk");
        lane.gaps += lost.count();
        lane.cursor = run::advance(&lane.cursor, lost.last);
    }

    /// Makes sure that the blocks of the lane's run are in memory (after a restart they are not).
    pub(super) async fn load_blocks(&mut self, index: usize, range: SequenceRange) -> Result<(), Setback> {
        let Some(work) = self.lanes.get(index) else { return Ok(()) };
        let have = work.blocks.first().is_some_and(|block| block.range.first <= range.first)
            && work.blocks.last().is_some_and(|block| block.range.last >= range.last);
        if have {
            return Ok(());
        }
        let stream = work.stream;
        let mut blocks = Vec::new();
        let mut from = range.first;
        while from <= range.last && blocks.len() < RUN_BLOCKS_MAX {
            let read =
                self.options.buffer.blocks(stream, from, READ_BLOCKS).await.map_err(|error| self.disk(&error))?;
            let Some(last) = read.last() else { break };
            from = last.range.last + 1;
            blocks.extend(read);
        }
        if let Some(work) = self.lanes.get_mut(index) {
            work.blocks = blocks;
        }
        Ok(())
    }
}
