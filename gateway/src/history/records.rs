//! Pages of alerts, dead letters and gaps, the newest first, and one record with all that is kept of it.

use super::tail::CALL_BLOCKS;
use super::views::{RawView, RecordView, RecordWhat, letter_view};
use super::{History, HistoryError};
use crate::block::records::{DeadLetter, NumberedRecord, RecordBody};
use crate::reading::{Sequence, Stream, UnixMicros};
use schemars::JsonSchema;
use serde::Serialize;

/// Most records of a page.
pub const PAGE_RECORDS_MAX: usize = 200;

/// Raw bytes shown of one dead letter looked into; all that is kept is in [`History::raw_bytes`].
const SHOWN_BYTES_MAX: usize = 4 * 1024;

/// Blocks that a page looks through: a filter that fits nothing ends there and says where to go on.
const PAGE_BLOCKS_MAX: usize = 2048;

/// Sequences that are looked at together, going back.
const STEP: u64 = 128;

/// Which records are wanted; all, if nothing is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordFilter {
    /// A text that stands in any of its words, whatever the case.
    pub text: Option<String>,
    /// The source, sink or point that it is about, exactly.
    pub source: Option<String>,
    /// Not before this time, in microseconds since 1970.
    pub from_us: Option<UnixMicros>,
    /// Not after this time.
    pub to_us: Option<UnixMicros>,
}

impl RecordFilter {
    /// Whether a record is wanted.
    #[must_use]
    pub fn wants(&self, record: &RecordView) -> bool {
        self.from_us.is_none_or(|from_us| record.at_us >= from_us)
            && self.to_us.is_none_or(|to_us| record.at_us <= to_us)
            && self.source.as_deref().is_none_or(|source| record.subject() == source)
            && self.text.as_deref().is_none_or(|text| record.contains(&text.to_lowercase()))
    }
}

/// Some records, the newest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Page {
    /// The records.
    pub records: Vec<RecordView>,
    /// Where the page after this one goes on (its `before`); nothing at the end. A page with fewer records than asked for may have
    /// one: the filter fitted little of what was looked through.
    pub next: Option<Sequence>,
    /// The oldest sequence that the stream still holds.
    pub oldest: Sequence,
    /// The sequence that its next record will get.
    pub end: Sequence,
}

impl History {
    /// The newest records of a stream below `before`, at most `limit` and at most [`PAGE_RECORDS_MAX`]. A dead letter split over
    /// several records is one, under the sequence of its first.
    ///
    /// # Errors
    /// If the stream has no records of this kind, or the disk fails.
    pub async fn records(
        &self,
        stream: Stream,
        before: Option<Sequence>,
        limit: usize,
        filter: &RecordFilter,
    ) -> Result<Page, HistoryError> {
        only_records(stream)?;
        let limit = limit.clamp(1, PAGE_RECORDS_MAX);
        let ends = self.buffer.ends().borrow().get(stream.index()).copied().unwrap_or_default();
        let mut page = Page { oldest: ends.oldest, end: ends.next, ..Page::default() };
        let (mut end, mut step) = (before.unwrap_or(ends.next).min(ends.next), STEP);
        let mut blocks_left = PAGE_BLOCKS_MAX;
        while end > ends.oldest && page.records.len() < limit && blocks_left > 0 {
            let first = end.saturating_sub(step).max(ends.oldest);
            let found = self.records_between(stream, first, end, &mut blocks_left).await?;
            // A hole as long as this: a longer step may be over it.
            step = if found.is_empty() { step.saturating_mul(2) } else { STEP };
            end = first;
            for numbered in found.into_iter().rev() {
                // Older than anything wanted: records of a stream are in the order of their writing, nearly that of their times.
                let sequence = numbered.sequence;
                let is_first_part = !matches!(&numbered.record.body, RecordBody::DeadLetter(letter) if letter.part > 0);
                let view = RecordView::of(numbered);
                if !is_first_part || !filter.wants(&view) {
                    continue;
                }
                page.records.push(view);
                if page.records.len() == limit {
                    end = sequence;
                    break;
                }
            }
        }
        page.next = (end > ends.oldest).then_some(end);
        Ok(page)
    }

    /// One record, a dead letter with up to 4 KiB of what came; nothing if it is not kept any more.
    ///
    /// # Errors
    /// If the stream has no records of this kind, or the disk fails.
    pub async fn record(&self, stream: Stream, sequence: Sequence) -> Result<Option<RecordView>, HistoryError> {
        only_records(stream)?;
        let Some(numbered) = self.numbered(stream, sequence).await? else { return Ok(None) };
        let letter = match &numbered.record.body {
            RecordBody::DeadLetter(letter) => Some(letter.clone()),
            _ => None,
        };
        let mut view = RecordView::of(numbered);
        if let Some(letter) = letter {
            let kept = self.raw_bytes(sequence).await?.unwrap_or_default();
            let raw = RawView::of(&letter, &kept, SHOWN_BYTES_MAX);
            view.what = letter_view(letter, 0);
            if let RecordWhat::DeadLetter { raw: shown, .. } = &mut view.what {
                *shown = raw;
            }
        }
        Ok(Some(view))
    }

    /// All that is kept of what came of a dead letter, at most 64 KiB, from this record on; nothing if it is not kept any more.
    ///
    /// # Errors
    /// If the disk fails.
    pub async fn raw_bytes(&self, sequence: Sequence) -> Result<Option<Vec<u8>>, HistoryError> {
        let Some(first) = self.letter(sequence).await? else { return Ok(None) };
        let mut kept = first.raw;
        for part in first.part.saturating_add(1)..first.parts {
            let at = sequence.saturating_add(u64::from(part - first.part));
            match self.letter(at).await? {
                Some(next) if next.part == part && next.parts == first.parts => kept.extend(next.raw),
                _ => break,
            }
        }
        Ok(Some(kept))
    }

    async fn letter(&self, sequence: Sequence) -> Result<Option<DeadLetter>, HistoryError> {
        let numbered = self.numbered(Stream::DeadLetters, sequence).await?;
        Ok(numbered.and_then(|numbered| match numbered.record.body {
            RecordBody::DeadLetter(letter) => Some(letter),
            _ => None,
        }))
    }

    async fn numbered(&self, stream: Stream, sequence: Sequence) -> Result<Option<NumberedRecord>, HistoryError> {
        let blocks = self.buffer.blocks(stream, sequence, 1).await?;
        let records = blocks.first().map(|block| block.records().unwrap_or_default()).unwrap_or_default();
        Ok(records.into_iter().find(|record| record.sequence == sequence))
    }

    /// The records from `first` to below `end`, ascending.
    async fn records_between(
        &self,
        stream: Stream,
        first: Sequence,
        end: Sequence,
        blocks_left: &mut usize,
    ) -> Result<Vec<NumberedRecord>, HistoryError> {
        let (mut at, mut found) = (first, Vec::new());
        while at < end {
            let blocks = self.buffer.blocks(stream, at, CALL_BLOCKS).await?;
            let Some(last) = blocks.last().map(|block| block.range.last) else { break };
            *blocks_left = blocks_left.saturating_sub(blocks.len());
            for block in blocks.iter().filter(|block| block.range.first < end) {
                // A block that cannot be read is in the books as a gap; the page shows what is left.
                found.extend(block.records().unwrap_or_default());
            }
            at = last.saturating_add(1);
        }
        found.retain(|record| (first..end).contains(&record.sequence));
        Ok(found)
    }
}

/// Readings are charts, not lists.
fn only_records(stream: Stream) -> Result<(), HistoryError> {
    match stream {
        Stream::Alerts | Stream::DeadLetters | Stream::Gaps => Ok(()),
        Stream::Raw | Stream::Readings | Stream::Aggregates => {
            Err(HistoryError::Request(format!("{stream} are no list of records; ask for alerts, dead-letters or gaps")))
        }
    }
}
