//! What of a run is for the sink: its records out of their blocks, and the batch that they make.

use super::{RenderError, Renderer};
use crate::block::Block;
use crate::block::columns::ReadingRow;
use crate::block::records::{NumberedRecord, RecordBody};
use crate::reading::{Flags, PointId, Sequence, SequenceRange, Stream, TimeQuality, UnixMicros};
use crate::sinks::Rendered;

/// The records of some blocks that are for the sink, in order: a pure function of the blocks and the pinned configuration.
#[derive(Debug, Default)]
pub struct Selection {
    pub(super) parts: Vec<Part>,
    records: u64,
}

/// The records of one block.
#[derive(Debug)]
pub(super) enum Part {
    Readings(TimeQuality, Vec<ReadingRow>),
    Records(Vec<NumberedRecord>),
}

/// What every record says of the run that it was first offered in, also while that is bisected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The stream.
    pub stream: Stream,
    /// What the consumer knows once it has the batch and those before: all records from the first to the last sequence that
    /// are for it have come.
    pub covers: SequenceRange,
    /// How many records it brings.
    pub records: u64,
    /// Its place beside the live readings, if it has one: `history`.
    pub lane: Option<&'static str>,
    /// The replay that it is a part of.
    pub replay: Option<u32>,
}

impl Selection {
    /// How many records there are.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.records
    }

    /// The sequence after which `count` records have come; `None` if there are not so many.
    #[must_use]
    pub fn nth(&self, count: u64) -> Option<Sequence> {
        let mut left = usize::try_from(count.checked_sub(1)?).ok()?;
        for part in &self.parts {
            if left < part.len() {
                return part.sequence(left);
            }
            left -= part.len();
        }
        None
    }

    /// Leaves out what lies above a sequence.
    pub fn truncate(&mut self, last: Sequence) {
        for part in &mut self.parts {
            match part {
                Part::Readings(_, rows) => rows.retain(|row| row.sequence <= last),
                Part::Records(records) => records.retain(|record| record.sequence <= last),
            }
        }
        self.parts.retain(|part| part.len() > 0);
        self.records = self.parts.iter().map(|part| part.len() as u64).sum();
    }

    /// How many of the records lie in a range.
    #[must_use]
    pub fn count_in(&self, range: SequenceRange) -> u64 {
        let within = |sequence: Sequence| (range.first..=range.last).contains(&sequence);
        let count = |part: &Part| match part {
            Part::Readings(_, rows) => rows.iter().filter(|row| within(row.sequence)).count(),
            Part::Records(records) => records.iter().filter(|record| within(record.sequence)).count(),
        };
        self.parts.iter().map(|part| count(part) as u64).sum()
    }

    /// Leaves out what is not wanted, by time (readings: of receipt) and point (records have none).
    pub fn retain(&mut self, mut wanted: impl FnMut(UnixMicros, Option<PointId>) -> bool) {
        for part in &mut self.parts {
            match part {
                Part::Readings(_, rows) => rows.retain(|row| wanted(row.received_at_us, Some(row.reading.point))),
                Part::Records(records) => records.retain(|record| wanted(record.record.time_us, None)),
            }
        }
        self.parts.retain(|part| part.len() > 0);
        self.records = self.parts.iter().map(|part| part.len() as u64).sum();
    }

    /// Adds what comes after.
    pub fn append(&mut self, other: Self) {
        self.records += other.records;
        self.parts.extend(other.parts);
    }

    pub(super) fn push(&mut self, part: Part) {
        if part.len() > 0 {
            self.records += part.len() as u64;
            self.parts.push(part);
        }
    }
}

impl Part {
    fn len(&self) -> usize {
        match self {
            Self::Readings(_, rows) => rows.len(),
            Self::Records(records) => records.len(),
        }
    }

    fn sequence(&self, index: usize) -> Option<Sequence> {
        match self {
            Self::Readings(_, rows) => rows.get(index).map(|row| row.sequence),
            Self::Records(records) => records.get(index).map(|record| record.sequence),
        }
    }
}

impl Renderer {
    /// The records of `part` in a block, as if the block were a batch of its own: for tools that write records elsewhere.
    ///
    /// # Errors
    /// If the block cannot be read or names a point that nobody knows.
    pub fn render_block(&mut self, block: &Block, part: SequenceRange) -> Result<Vec<Rendered>, RenderError> {
        let mut selection = Selection::default();
        let records = self.select(block.range, block, &mut selection)?;
        let batch = Batch { stream: block.meta.stream, covers: block.range, records, lane: None, replay: None };
        self.render(&batch, part, &selection)
    }

    /// Adds the records of `range` in a block that are for the sink; thinned-out readings are for none. Gives back how many
    /// there were.
    ///
    /// # Errors
    /// If the block cannot be read or names a point that nobody knows.
    pub fn select(&mut self, range: SequenceRange, block: &Block, into: &mut Selection) -> Result<u64, RenderError> {
        let Some(wanted) = block.range.overlap(range) else { return Ok(0) };
        let stream = block.meta.stream;
        let damaged = |error| RenderError::Block { stream, range: block.range, error };
        let within = |sequence: Sequence| (wanted.first..=wanted.last).contains(&sequence);
        let before = into.records;
        if stream == Stream::Readings {
            let mut rows = block.readings().map_err(damaged)?;
            let mut unknown = None;
            rows.retain(|row| {
                let is_due = within(row.sequence) && !row.reading.flags.contains(Flags::THINNED);
                is_due
                    && self.is_wanted(row.reading.point).unwrap_or_else(|| {
                        unknown = Some((row.reading.point, row.sequence));
                        false
                    })
            });
            if let Some((point, sequence)) = unknown {
                return Err(RenderError::UnknownPoint { point, sequence });
            }
            into.push(Part::Readings(block.meta.time_quality, rows));
        } else {
            let mut records = block.records().map_err(damaged)?;
            let view = &self.context.view;
            records.retain(|record| {
                within(record.sequence)
                    && match &record.record.body {
                        RecordBody::Alert(alert) => view.route.wants_alert(&alert.subject, &view.tags),
                        RecordBody::DeadLetter(_) | RecordBody::Gap(_) | RecordBody::Missed(_) => true,
                    }
            });
            into.push(Part::Records(records));
        }
        Ok(into.records - before)
    }
}
