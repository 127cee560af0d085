//! The minutes of a point in a chunk: from the chunk's own summaries, or made here for the chunk that is still written.
//!
//! A chunk is sealed by its size, so that with few points the last day or more has no summaries on disk. What was made of it here
//! is kept, and the next chart reads on from there; so are the minutes of sealed chunks, since opening one costs tens of
//! milliseconds. All of it is bounded by [`KEPT_SUMMARIES_MAX`], the longest unused goes first.

use super::chart::Budget;
use super::{History, HistoryError};
use crate::buffer::MinuteSummary;
use crate::reading::{PointId, Sequence, SequenceRange, Stream, TimeQuality};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

/// Minutes kept over all points: at 80 bytes each 8 MiB.
const KEPT_SUMMARIES_MAX: usize = 100_000;

/// Kept minutes of a chunk in which a point has none cost as much as these.
const ENTRY_SUMMARIES: usize = 4;

/// Sequences that are read at once, the newest first: what a chart that runs out of its budget goes on with next time.
const SEGMENT: u64 = 32_768;

/// Blocks of one call to the buffer.
pub(super) const CALL_BLOCKS: usize = 16;

type Key = (PointId, Sequence);

/// The minutes that are kept.
#[derive(Debug, Default)]
pub(super) struct Tails {
    kept: HashMap<Key, Tail>,
    summaries: usize,
    uses: u64,
}

/// The minutes of a point in a part of a chunk.
#[derive(Clone, Debug)]
struct Tail {
    /// What they count.
    covered: SequenceRange,
    minutes: Arc<Vec<MinuteSummary>>,
    used: u64,
}

impl Tails {
    fn get(&mut self, key: Key) -> Option<Tail> {
        self.uses += 1;
        let tail = self.kept.get_mut(&key)?;
        tail.used = self.uses;
        Some(tail.clone())
    }

    /// Keeps a tail, unless what is kept already says more.
    fn put(&mut self, key: Key, tail: Tail) {
        if self.kept.get(&key).is_some_and(|kept| kept.covered.count() > tail.covered.count()) {
            return;
        }
        self.uses += 1;
        self.summaries += weight(&tail);
        if let Some(before) = self.kept.insert(key, Tail { used: self.uses, ..tail }) {
            self.summaries -= weight(&before);
        }
        while self.summaries > KEPT_SUMMARIES_MAX {
            let oldest = self.kept.iter().min_by_key(|(_, tail)| tail.used).map(|(key, _)| *key);
            let Some(gone) = oldest.and_then(|key| self.kept.remove(&key)) else { break };
            self.summaries -= weight(&gone);
        }
    }
}

fn weight(tail: &Tail) -> usize {
    tail.minutes.len() + ENTRY_SUMMARIES
}

impl History {
    /// The minutes of a point in a chunk, at least for the sequences of `part`; and whether the budget lasted for all of them.
    pub(super) async fn minutes_in(
        &self,
        point: PointId,
        stretch: SequenceRange,
        part: SequenceRange,
        budget: &mut Budget<'_>,
    ) -> Result<(Arc<Vec<MinuteSummary>>, bool), HistoryError> {
        let key = (point, stretch.first);
        let kept = self.tails.lock().unwrap_or_else(PoisonError::into_inner).get(key);
        if let Some(tail) = &kept
            && tail.covered.first <= part.first
            && tail.covered.last >= part.last
        {
            return Ok((tail.minutes.clone(), true));
        }
        budget.step()?;
        if let Some(minutes) = self.buffer.minutes_of(stretch, point, i64::MIN, i64::MAX).await? {
            let tail = Tail { covered: stretch, minutes: Arc::new(minutes), used: 0 };
            let minutes = tail.minutes.clone();
            self.tails.lock().unwrap_or_else(PoisonError::into_inner).put(key, tail);
            return Ok((minutes, true));
        }
        let mut grown = Growing::from(kept);
        let is_whole = self.grow(&mut grown, point, part, budget).await?;
        let Some(covered) = grown.covered else { return Ok((Arc::default(), is_whole)) };
        let tail = Tail { covered, minutes: Arc::new(grown.minutes), used: 0 };
        let minutes = tail.minutes.clone();
        self.tails.lock().unwrap_or_else(PoisonError::into_inner).put(key, tail);
        Ok((minutes, is_whole))
    }

    /// Reads what is new since, then what lies further back, the newest first.
    async fn grow(
        &self,
        grown: &mut Growing,
        point: PointId,
        part: SequenceRange,
        budget: &mut Budget<'_>,
    ) -> Result<bool, HistoryError> {
        // Far behind by now: going on from there would show the oldest first.
        if grown.covered.is_some_and(|covered| covered.last.saturating_add(SEGMENT * 8) < part.last) {
            *grown = Growing::default();
        }
        if let Some(covered) = grown.covered
            && covered.last < part.last
        {
            let news = SequenceRange { first: covered.last + 1, last: part.last };
            let minutes = self.read_minutes(point, news, budget).await?;
            grown.append(news, minutes);
        }
        loop {
            let end = grown.covered.map_or(part.last.saturating_add(1), |covered| covered.first);
            if end <= part.first {
                return Ok(true);
            }
            if budget.is_spent() {
                return Ok(false);
            }
            let segment = SequenceRange { first: end.saturating_sub(SEGMENT).max(part.first), last: end - 1 };
            let minutes = self.read_minutes(point, segment, budget).await?;
            grown.prepend(segment, minutes);
        }
    }

    async fn read_minutes(
        &self,
        point: PointId,
        segment: SequenceRange,
        budget: &mut Budget<'_>,
    ) -> Result<Vec<MinuteSummary>, HistoryError> {
        let (mut at, mut minutes) = (segment.first, Vec::<MinuteSummary>::new());
        while at <= segment.last {
            budget.step()?;
            let blocks = self.buffer.blocks(Stream::Readings, at, CALL_BLOCKS).await?;
            let Some(end) = blocks.last().map(|block| block.range.last) else { break };
            budget.spend(blocks.len());
            for block in blocks.iter().filter(|block| block.meta.time_quality != TimeQuality::Unset) {
                // A block that cannot be read is told of by whoever must have it; a chart shows what is left.
                let Ok(rows) = block.readings_of(point) else { continue };
                for row in rows.iter().filter(|row| (segment.first..=segment.last).contains(&row.sequence)) {
                    let summary = MinuteSummary::of(row);
                    match minutes.last_mut() {
                        Some(last) if last.minute_us == summary.minute_us => last.join(&summary),
                        _ => minutes.push(summary),
                    }
                }
            }
            at = end.saturating_add(1);
        }
        Ok(minutes)
    }
}

/// A tail that grows at both ends.
#[derive(Debug, Default)]
struct Growing {
    covered: Option<SequenceRange>,
    minutes: Vec<MinuteSummary>,
}

impl From<Option<Tail>> for Growing {
    fn from(tail: Option<Tail>) -> Self {
        let Some(tail) = tail else { return Self::default() };
        Self { covered: Some(tail.covered), minutes: tail.minutes.to_vec() }
    }
}

impl Growing {
    fn append(&mut self, range: SequenceRange, minutes: Vec<MinuteSummary>) {
        join(&mut self.minutes, minutes);
        self.covered = Some(self.covered.map_or(range, |covered| SequenceRange { last: range.last, ..covered }));
    }

    fn prepend(&mut self, range: SequenceRange, mut minutes: Vec<MinuteSummary>) {
        std::mem::swap(&mut self.minutes, &mut minutes);
        join(&mut self.minutes, minutes);
        self.covered = Some(self.covered.map_or(range, |covered| SequenceRange { first: range.first, ..covered }));
    }
}

/// Puts later minutes after earlier ones; a minute that both know becomes one.
fn join(earlier: &mut Vec<MinuteSummary>, later: Vec<MinuteSummary>) {
    let mut later = later.into_iter();
    if let (Some(last), Some(first)) = (earlier.last_mut(), later.as_slice().first())
        && last.minute_us == first.minute_us
    {
        last.join(first);
        later.next();
    }
    earlier.extend(later);
}
