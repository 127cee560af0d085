//! The blocks of a stream, one after the other, from whatever shelf; memory holds one step of sixteen.

use super::shelf::{LookError, Shelf};
use crate::block::Block;
use crate::buffer::{ChunkName, ExtentReport, RawBlock, Report};
use crate::reading::{Epoch, Sequence, SequenceRange, Stream};
use anyhow::Result;
use std::collections::VecDeque;

/// What comes next.
pub(super) enum Step {
    /// A block whose checksum holds, in its place.
    Sound(Block),
    /// Something that is no block of this place, or cannot be read.
    Bad {
        /// Where.
        chunk: ChunkName,
        /// What, for a person.
        what: String,
    },
    /// A running gateway has given up a chunk meanwhile, with all up to this sequence.
    Gone(Sequence),
}

/// A way through a stream.
pub(super) struct Blocks {
    stream: Stream,
    epoch: Epoch,
    chunks: VecDeque<(ChunkName, ExtentReport)>,
    waiting: VecDeque<Step>,
    /// Where to look next in the first chunk.
    at: Sequence,
}

impl Blocks {
    /// The blocks of the chunks that hold any of `range`, as far as `wanted` says yes to the chunk's part.
    pub(super) fn of(
        report: &Report,
        stream: Stream,
        range: SequenceRange,
        wanted: impl Fn(&ExtentReport) -> bool,
    ) -> Self {
        let mut chunks = VecDeque::new();
        for chunk in &report.chunks {
            for extent in chunk.extents.iter().filter(|extent| extent.stream == stream && wanted(extent)) {
                if let Some(range) = extent.range.overlap(range) {
                    chunks.push_back((chunk.name.clone(), ExtentReport { range, ..*extent }));
                }
            }
        }
        let at = chunks.front().map_or(0, |(_, extent)| extent.range.first);
        Self { stream, epoch: report.epoch, chunks, waiting: VecDeque::new(), at }
    }

    /// The chunk that should hold a sequence.
    pub(super) fn chunk_of(&self, report: &Report, sequence: Sequence) -> Option<ChunkName> {
        let holds = |extent: &ExtentReport| {
            extent.stream == self.stream && (extent.range.first..=extent.range.last).contains(&sequence)
        };
        report.chunks.iter().find(|chunk| chunk.extents.iter().any(holds)).map(|chunk| chunk.name.clone())
    }

    /// The next step; `None` at the end.
    ///
    /// # Errors
    /// If the gateway is gone, or a key is missing.
    pub(super) async fn next(&mut self, shelf: &mut Shelf) -> Result<Option<Step>> {
        while self.waiting.is_empty() {
            let Some((chunk, extent)) = self.chunks.front().cloned() else { return Ok(None) };
            match shelf.look(&chunk, self.stream, self.at).await {
                Ok(None) => {
                    self.next_chunk();
                    return Ok(Some(Step::Gone(extent.range.last)));
                }
                Ok(Some(found)) => self.take(&chunk, &extent, found),
                Err(LookError::Bad(what)) => {
                    self.next_chunk();
                    return Ok(Some(Step::Bad { chunk, what }));
                }
                Err(LookError::Fatal(error)) => return Err(error),
            }
        }
        Ok(self.waiting.pop_front())
    }

    fn take(&mut self, chunk: &ChunkName, extent: &ExtentReport, found: Vec<RawBlock>) {
        let mut is_over = found.is_empty();
        for raw in found {
            if raw.first > extent.range.last {
                is_over = true;
                break;
            }
            // A block that makes no sense takes at least its first sequence: the way always leads on.
            self.at = self.at.max(raw.first.saturating_add(1));
            match check(&raw, self.stream, self.epoch) {
                Ok(block) => {
                    self.at = self.at.max(block.range.last.saturating_add(1));
                    self.waiting.push_back(Step::Sound(block));
                }
                Err(problem) => {
                    let what = format!("the block of {} at {}: {problem}", self.stream, raw.first);
                    self.waiting.push_back(Step::Bad { chunk: chunk.clone(), what });
                }
            }
        }
        if is_over || self.at > extent.range.last {
            self.next_chunk();
        }
    }

    fn next_chunk(&mut self) {
        self.chunks.pop_front();
        self.at = self.chunks.front().map_or(0, |(_, extent)| extent.range.first);
    }
}

/// Checks that a block is what its place says.
fn check(raw: &RawBlock, stream: Stream, epoch: Epoch) -> Result<Block, String> {
    let block = Block::parse(raw.bytes.clone()).map_err(|error| error.to_string())?;
    if block.epoch != epoch {
        return Err(format!("it is of another data directory ({})", block.epoch));
    }
    if block.meta.stream != stream || block.range.first != raw.first {
        return Err(format!("it says that it is {}/{}", block.meta.stream, block.range));
    }
    Ok(block)
}
