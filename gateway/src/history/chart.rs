//! A chart of one point over any time: columns with their least and greatest value, and the readings themselves where they are few.
//!
//! A window whose blocks are few is read reading by reading; a wide one from the minutes that are kept beside the blocks, of which
//! a chart of any length needs a page or two a chunk. What is read is bounded; a chart that could not read all of its
//! window says so, and goes on from there when it is asked for again.

use super::envelope::{Column, Envelope, Sample, Statistics};
use super::locate::part_between;
use super::marks::{Mark, Marks};
use super::tail::CALL_BLOCKS;
use super::{History, HistoryError};
use crate::buffer::MINUTE_US;
use crate::reading::{PointId, Quality, SequenceRange, Stream, TimeQuality, UnixMicros};
use crate::site::PointKey;
use schemars::JsonSchema;
use serde::Serialize;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Fewest columns of a chart.
pub const COLUMNS_MIN: usize = 10;

/// Most columns of a chart: one a pixel on a large screen.
pub const COLUMNS_MAX: usize = 2000;

/// Most readings that are given one by one beside the columns.
pub const RAW_SAMPLES_MAX: usize = 2000;

/// Readings of all points that a chart narrower than its minutes may read, since minutes would be too coarse for it.
const FINE_READINGS_MAX: u64 = 1_000_000;

/// Readings of all points that any chart may read instead of minutes: they take a few blocks only.
const FEW_READINGS_MAX: u64 = 50_000;

/// Blocks that a chart may read, a few at a time: an hour and more of those that are not merged yet, five a second. Whether
/// this board reads so many soon enough is measured each time.
const BLOCKS_READ_MAX: usize = 32_768;

/// How long a chart may read: a person waits no longer; what is missing comes when it is asked for again.
const READ_TIME_MAX: Duration = Duration::from_millis(1500);

/// Sequences that are read at once, the newest first.
const SEGMENT: u64 = 16_384;

/// What a chart is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChartRequest {
    /// Whose readings.
    pub point: PointId,
    /// From this time of receipt on, in microseconds since 1970.
    pub from_us: UnixMicros,
    /// To this time, included.
    pub to_us: UnixMicros,
    /// About how many columns, from [`COLUMNS_MIN`] to [`COLUMNS_MAX`]; never more, and fewer where minutes are all that is known.
    pub columns: usize,
}

/// The readings of a point over a time.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Chart {
    /// From this time on, in microseconds since 1970.
    pub from_us: UnixMicros,
    /// To this time, included.
    pub to_us: UnixMicros,
    /// How wide a column is, in microseconds.
    pub column_us: i64,
    /// The columns that have readings, ascending.
    pub columns: Vec<Column>,
    /// The readings themselves, ascending, where there are at most [`RAW_SAMPLES_MAX`] and all were read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw: Option<Vec<Sample>>,
    /// What all of them come to.
    pub statistics: Statistics,
    /// What checks and detectors said, ascending.
    pub marks: Vec<Mark>,
    /// How many older marks are left out.
    pub marks_left_out: u64,
    /// Whether whole minutes are all that was read: edges are a minute wide then.
    pub of_minutes: bool,
    /// Whether all of the window was read.
    pub complete: bool,
    /// Why not, and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incomplete_because: Option<String>,
}

/// The columns of a chart as one array for each quantity, as plotting libraries want them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct ChartArrays {
    /// When each column begins, in seconds since 1970.
    pub at: Vec<f64>,
    /// Least number of each.
    pub min: Vec<Option<f64>>,
    /// Greatest number of each.
    pub max: Vec<Option<f64>>,
    /// Mean of each.
    pub mean: Vec<Option<f64>>,
    /// How many readings each has; 0 where none is drawn because readings stop for longer than usual.
    pub count: Vec<u64>,
    /// How many readings of each were flagged.
    pub flagged: Vec<u64>,
    /// The worst quality of each: `good`, `uncertain`, `bad`.
    pub worst: Vec<&'static str>,
}

impl Chart {
    /// The columns as arrays; where readings stop for longer than usual, an empty column stands between, so that no line is drawn
    /// over the gap.
    #[must_use]
    pub fn arrays(&self) -> ChartArrays {
        let seconds = |time_us: UnixMicros| time_us as f64 / 1e6;
        let mut arrays = ChartArrays::default();
        let mut gaps = self.statistics.gaps.iter().peekable();
        for column in &self.columns {
            while let Some(gap) = gaps.next_if(|gap| gap.to_us <= column.at_us) {
                arrays.push(seconds(gap.from_us), None);
            }
            arrays.push(seconds(column.at_us), Some(column));
        }
        arrays
    }
}

impl ChartArrays {
    fn push(&mut self, at: f64, column: Option<&Column>) {
        self.at.push(at);
        self.min.push(column.and_then(|column| column.min));
        self.max.push(column.and_then(|column| column.max));
        self.mean.push(column.and_then(|column| column.mean));
        self.count.push(column.map_or(0, |column| column.count));
        self.flagged.push(column.map_or(0, |column| column.flagged));
        self.worst.push(column.map_or(Quality::Good.name(), |column| column.worst));
    }
}

/// What a chart may still read.
#[derive(Debug)]
pub(super) struct Budget<'a> {
    until: Instant,
    blocks_left: usize,
    cancel: &'a CancellationToken,
}

impl<'a> Budget<'a> {
    fn new(cancel: &'a CancellationToken) -> Self {
        Self { until: Instant::now() + READ_TIME_MAX, blocks_left: BLOCKS_READ_MAX, cancel }
    }

    /// Before each call to the buffer.
    pub(super) fn step(&self) -> Result<(), HistoryError> {
        if self.cancel.is_cancelled() { Err(HistoryError::Cancelled) } else { Ok(()) }
    }

    /// After so many blocks.
    pub(super) fn spend(&mut self, blocks: usize) {
        self.blocks_left = self.blocks_left.saturating_sub(blocks);
    }

    /// Whether nothing more is to be begun.
    pub(super) fn is_spent(&self) -> bool {
        self.blocks_left == 0 || Instant::now() >= self.until
    }
}

/// The part of a chunk that a chart needs.
#[derive(Clone, Copy, Debug)]
struct Part {
    stretch: SequenceRange,
    /// All of the stretch, or what was located in it.
    range: SequenceRange,
}

/// How a chart is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Plan {
    column_us: i64,
    of_minutes: bool,
}

impl History {
    /// The chart of a point.
    ///
    /// # Errors
    /// If there is no such point, the window makes no sense, others read already, or the disk fails.
    pub async fn chart(&self, request: ChartRequest, cancel: &CancellationToken) -> Result<Chart, HistoryError> {
        let ChartRequest { point, from_us, to_us, .. } = request;
        let key = self.registry.key(point).ok_or(HistoryError::NoPoint { point })?;
        if from_us > to_us {
            return Err(HistoryError::Request("the chart ends before it begins; swap from and to".to_owned()));
        }
        let _turn = self.turn().await?;
        let mut budget = Budget::new(cancel);
        let parts = self.parts(from_us, to_us, &budget).await?;
        let plan = self.plan(&request, &parts, &mut budget).await?;
        if plan.of_minutes {
            self.chart_of_minutes(&request, &key, plan, &parts, &mut budget).await
        } else {
            self.chart_of_readings(&request, &key, plan, &parts, &mut budget).await
        }
    }

    /// When the oldest reading that is kept was received, of whatever point; `None` if none is, or none whose time is known.
    ///
    /// # Errors
    /// If the buffer is closed or the disk fails.
    pub async fn kept_from(&self) -> Result<Option<UnixMicros>, HistoryError> {
        let stretches = self.buffer.stretches_between(Stream::Readings, UnixMicros::MIN, UnixMicros::MAX).await?;
        let Some(first) = stretches.first() else { return Ok(None) };
        let blocks = self.buffer.blocks(Stream::Readings, first.first, CALL_BLOCKS).await?;
        let known = blocks.iter().find(|block| block.meta.time_quality != TimeQuality::Unset);
        Ok(known.map(|block| block.meta.first_time_us))
    }

    /// Where the window lies: all of the chunks inside it, the parts of those at its edges.
    async fn parts(
        &self,
        from_us: UnixMicros,
        to_us: UnixMicros,
        budget: &Budget<'_>,
    ) -> Result<Vec<Part>, HistoryError> {
        let stretches = self.buffer.stretches_between(Stream::Readings, from_us, to_us).await?;
        let last = stretches.len().saturating_sub(1);
        let mut parts = Vec::with_capacity(stretches.len());
        for (number, stretch) in stretches.into_iter().enumerate() {
            budget.step()?;
            let range = if number == 0 || number == last {
                part_between(&self.buffer, Stream::Readings, stretch, from_us, to_us).await?
            } else {
                Some(stretch)
            };
            parts.extend(range.map(|range| Part { stretch, range }));
        }
        Ok(parts)
    }

    /// Whether readings or minutes are read, and how wide the columns are.
    async fn plan(
        &self,
        request: &ChartRequest,
        parts: &[Part],
        budget: &mut Budget<'_>,
    ) -> Result<Plan, HistoryError> {
        let columns = i64::try_from(request.columns.clamp(COLUMNS_MIN, COLUMNS_MAX)).unwrap_or(i64::MAX);
        let window_us = request.to_us.saturating_sub(request.from_us).saturating_add(1);
        // One column less than asked for: those at the edges are cut by the grid.
        let fine_us = window_us.div_euclid(columns - 1).saturating_add(1);
        let minutes_us = (fine_us - 1).div_euclid(MINUTE_US).saturating_add(1).saturating_mul(MINUTE_US);
        let readings: u64 = parts.iter().map(|part| part.range.count()).sum();
        let readings_max = if fine_us < MINUTE_US { FINE_READINGS_MAX } else { FEW_READINGS_MAX };
        let of_minutes = Plan { column_us: minutes_us, of_minutes: true };
        if readings > readings_max {
            return Ok(of_minutes);
        }
        let Some(last) = parts.last() else { return Ok(Plan { column_us: fine_us, of_minutes: false }) };
        // Blocks that are not merged yet may be small: those at the end tell how many there are at worst.
        budget.step()?;
        let from = last.range.last.saturating_sub(last.range.count().min(500)).max(last.range.first);
        let begun = Instant::now();
        let blocks = self.buffer.blocks(Stream::Readings, from, CALL_BLOCKS).await?;
        let held: u64 = blocks.iter().map(|block| block.range.count()).sum();
        for block in &blocks {
            drop(block.readings_of(request.point));
        }
        let blocks_all = readings.saturating_mul(blocks.len() as u64) / held.max(1);
        let calls = u32::try_from(blocks_all / CALL_BLOCKS as u64).unwrap_or(u32::MAX);
        let is_few = blocks_all <= BLOCKS_READ_MAX as u64 && begun.elapsed().saturating_mul(calls) <= READ_TIME_MAX;
        Ok(if is_few { Plan { column_us: fine_us, of_minutes: false } } else { of_minutes })
    }

    async fn chart_of_minutes(
        &self,
        request: &ChartRequest,
        key: &PointKey,
        plan: Plan,
        parts: &[Part],
        budget: &mut Budget<'_>,
    ) -> Result<Chart, HistoryError> {
        let mut envelope = Envelope::new(plan.column_us);
        let mut complete = true;
        // From the first whole minute to the last that begins in the window.
        let wanted = request.from_us.div_euclid(MINUTE_US).saturating_mul(MINUTE_US)..=request.to_us;
        for part in parts.iter().rev() {
            if budget.is_spent() {
                complete = false;
                break;
            }
            let (minutes, is_whole) = self.minutes_in(request.point, part.stretch, part.range, budget).await?;
            for minute in minutes.iter().filter(|minute| wanted.contains(&minute.minute_us)) {
                envelope.add_minute(part.stretch.first, minute);
            }
            complete &= is_whole;
        }
        let (columns, statistics) = envelope.finish();
        let mut marks = Marks::default();
        for column in &columns {
            marks.add_flagged(column.at_us, column.flagged);
        }
        self.finish(request, key, plan, (columns, statistics), None, marks, complete).await
    }

    async fn chart_of_readings(
        &self,
        request: &ChartRequest,
        key: &PointKey,
        plan: Plan,
        parts: &[Part],
        budget: &mut Budget<'_>,
    ) -> Result<Chart, HistoryError> {
        let mut fine = Fine { envelope: Envelope::new(plan.column_us), raw: Some(Vec::new()), marks: Marks::default() };
        let mut complete = true;
        'parts: for part in parts.iter().rev() {
            let mut end = part.range.last.saturating_add(1);
            while end > part.range.first {
                if budget.is_spent() {
                    complete = false;
                    break 'parts;
                }
                let first = end.saturating_sub(SEGMENT).max(part.range.first);
                self.read_segment(request, key, SequenceRange { first, last: end - 1 }, &mut fine, budget).await?;
                end = first;
            }
        }
        let raw = fine.raw.filter(|_| complete).map(|mut raw| {
            raw.sort_by_key(|sample| sample.sequence);
            raw
        });
        self.finish(request, key, plan, fine.envelope.finish(), raw, fine.marks, complete).await
    }

    async fn read_segment(
        &self,
        request: &ChartRequest,
        key: &PointKey,
        segment: SequenceRange,
        fine: &mut Fine,
        budget: &mut Budget<'_>,
    ) -> Result<(), HistoryError> {
        let mut at = segment.first;
        while at <= segment.last {
            budget.step()?;
            let blocks = self.buffer.blocks(Stream::Readings, at, CALL_BLOCKS).await?;
            let Some(end) = blocks.last().map(|block| block.range.last) else { break };
            budget.spend(blocks.len());
            for block in blocks {
                let meta = &block.meta;
                if meta.first_time_us > request.to_us || meta.last_time_us < request.from_us {
                    continue;
                }
                // A block that cannot be read is told of by whoever must have it; a chart shows what is left.
                for row in block.readings_of(request.point).unwrap_or_default() {
                    let is_inside = (segment.first..=segment.last).contains(&row.sequence)
                        && (request.from_us..=request.to_us).contains(&row.received_at_us);
                    if !is_inside {
                        continue;
                    }
                    fine.envelope.add_reading(&row);
                    fine.marks.add_reading(&row, &key.unit);
                    if let Some(raw) = &mut fine.raw {
                        raw.push(Sample::of(&row));
                    }
                    fine.raw.take_if(|raw| raw.len() > RAW_SAMPLES_MAX);
                }
            }
            at = end.saturating_add(1);
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "the pieces of one chart, from its two makers")]
    async fn finish(
        &self,
        request: &ChartRequest,
        key: &PointKey,
        plan: Plan,
        (columns, statistics): (Vec<Column>, Statistics),
        raw: Option<Vec<Sample>>,
        mut marks: Marks,
        complete: bool,
    ) -> Result<Chart, HistoryError> {
        self.mark_alerts(key, request.from_us, request.to_us, &mut marks).await?;
        marks.trim();
        Ok(Chart {
            from_us: request.from_us,
            to_us: request.to_us,
            column_us: plan.column_us,
            columns,
            raw,
            statistics,
            marks: marks.list,
            marks_left_out: marks.left_out,
            of_minutes: plan.of_minutes,
            complete,
            incomplete_because: (!complete).then(|| {
                "the window holds more than is read at once, the newest is shown; ask again and it goes on further back"
                    .to_owned()
            }),
        })
    }
}

/// A chart of readings as it fills.
struct Fine {
    envelope: Envelope,
    raw: Option<Vec<Sample>>,
    marks: Marks,
}
