//! From times to sequences: which sequences hold the records of a time, for a replay by time.
//!
//! Chunks know the times of their first and last record, so all but the two at the edges are told without reading them; in
//! those two the blocks' headers decide, read in small answers, so that commits go on in between.

use super::store::BLOCKS_MAX;
use super::{Buffer, BufferError};
use crate::block::Block;
use crate::reading::{SequenceRange, Stream, UnixMicros};

impl Buffer {
    /// The sequences from the first to the last block that may hold records of the time from `from_us` to `to_us`, both
    /// included; `None` if no block does. Readings are looked up by their time of receipt. Blocks between
    /// them may be of other times, since clocks are set, and some of the sequences may be lost: who reads them looks at each.
    ///
    /// # Errors
    /// If the disk fails.
    pub async fn sequences_between(
        &self,
        stream: Stream,
        from_us: UnixMicros,
        to_us: UnixMicros,
    ) -> Result<Option<SequenceRange>, BufferError> {
        if from_us > to_us {
            return Ok(None);
        }
        let stretches = self.stretches_between(stream, from_us, to_us).await?;
        let wanted = |block: &Block| block.meta.first_time_us <= to_us && block.meta.last_time_us >= from_us;
        let mut first = None;
        for stretch in &stretches {
            first = self.find(stream, *stretch, wanted, true).await?.map(|range| range.first);
            if first.is_some() {
                break;
            }
        }
        let Some(first) = first else { return Ok(None) };
        for stretch in stretches.iter().rev() {
            if let Some(last) = self.find(stream, *stretch, wanted, false).await? {
                return Ok(Some(SequenceRange { first, last: last.last }));
            }
        }
        Ok(None)
    }

    /// The first or the last block of a stretch that is wanted.
    async fn find(
        &self,
        stream: Stream,
        stretch: SequenceRange,
        wanted: impl Fn(&Block) -> bool,
        is_first_enough: bool,
    ) -> Result<Option<SequenceRange>, BufferError> {
        let (mut at, mut found) = (stretch.first, None);
        while at <= stretch.last {
            let blocks = self.blocks(stream, at, BLOCKS_MAX).await?;
            let Some(end) = blocks.last().map(|block| block.range.last) else { break };
            for block in blocks.iter().filter(|block| block.range.first <= stretch.last && wanted(block)) {
                found = Some(block.range);
                if is_first_enough {
                    return Ok(found);
                }
            }
            at = end.saturating_add(1);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::super::test_support::{MIB, NOW_US, clock, commit, draft, options};
    use super::*;
    use crate::reading::Sequence;

    const BLOCKS: u64 = 6_000;
    const RECORDS: u64 = 500;
    const STEP_US: i64 = 1_000;

    #[tokio::test]
    async fn a_time_finds_the_sequences_that_hold_it_to_the_block() {
        let dir = tempfile::tempdir().unwrap();
        let (buffer, _) = Buffer::open(options(dir.path(), 256 * MIB), clock()).await.unwrap();
        let mut random = fastrand::Rng::with_seed(1);
        // Block n is of the times from n to n + 1 steps; the store cuts them into several chunks.
        let time_of = |block: u64| NOW_US + i64::try_from(block).unwrap() * STEP_US;
        for first in (0..BLOCKS).step_by(20) {
            let drafts = (first..first + 20).map(|block| {
                let mut draft = draft(Stream::Readings, 500, 5 * 1024, &mut random);
                draft.meta.first_time_us = time_of(block);
                draft.meta.last_time_us = time_of(block + 1) - 1;
                draft
            });
            buffer.commit(commit(drafts.collect())).await.unwrap();
        }
        let between = |from_us, to_us| buffer.sequences_between(Stream::Readings, from_us, to_us);
        let blocks = |first: Sequence, last: Sequence| {
            Some(SequenceRange { first: first * RECORDS, last: (last + 1) * RECORDS - 1 })
        };
        assert_eq!(between(i64::MIN, i64::MAX).await.unwrap(), blocks(0, BLOCKS - 1));
        assert_eq!(between(time_of(7), time_of(7)).await.unwrap(), blocks(7, 7));
        assert_eq!(between(time_of(7) - 1, time_of(5_990) - 1).await.unwrap(), blocks(6, 5_989));
        assert_eq!(between(time_of(2_999), time_of(3_001)).await.unwrap(), blocks(2_999, 3_001));
        assert_eq!(between(time_of(BLOCKS), i64::MAX).await.unwrap(), None);
        assert_eq!(between(i64::MIN, NOW_US - 1).await.unwrap(), None);
        assert_eq!(between(NOW_US + 1, NOW_US).await.unwrap(), None);
        assert_eq!(buffer.sequences_between(Stream::Alerts, i64::MIN, i64::MAX).await.unwrap(), None);
    }
}
