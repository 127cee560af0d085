//! Readings and minutes into columns of a chart, each with its least and greatest value, and what all of them come to.
//!
//! Columns keep an envelope (least and greatest) and not a chosen reading, as LTTB would: whatever the zoom, a spike of one
//! reading is seen, and what is drawn of a window is the same however it was reached. A mean line goes through the middle.

use crate::block::columns::ReadingRow;
use crate::buffer::{MinuteSummary, Numbers};
use crate::reading::{Quality, Sequence, UnixMicros, Value};
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::BTreeMap;

/// Most stretches without readings that are told of, the longest first to be kept.
pub const GAPS_MAX: usize = 100;

/// A stretch without readings is a gap if it is so many times as long as between readings usually.
const GAP_FACTOR: i64 = 4;

/// A piece of time in a chart, and what the readings in it come to.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Column {
    /// When it begins, in microseconds since 1970.
    pub at_us: UnixMicros,
    /// The least number; nothing if there is none.
    pub min: Option<f64>,
    /// The greatest number.
    pub max: Option<f64>,
    /// The mean of the numbers.
    pub mean: Option<f64>,
    /// The first number.
    pub first: Option<f64>,
    /// The last number.
    pub last: Option<f64>,
    /// How many readings there are, with a number or without.
    pub count: u64,
    /// How many of them a check or detector flagged.
    pub flagged: u64,
    /// The worst quality of any of them: `good`, `uncertain`, `bad`.
    pub worst: &'static str,
}

/// One reading.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Sample {
    /// Its place in the stream of readings.
    pub sequence: u64,
    /// When the gateway received it, in microseconds since 1970.
    pub at_us: UnixMicros,
    /// The number; a switch counts as 0 or 1.
    pub value: Option<f64>,
    /// The text, where the value is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// `good`, `uncertain`, `bad`.
    pub quality: &'static str,
    /// The names of the checks that spoke.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<&'static str>,
    /// How unusual it is, from 0 to 1; nothing if it was not scored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// Why there is no value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_data: Option<&'static str>,
}

/// What all readings of a chart come to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Statistics {
    /// How many readings there are, with a number or without.
    pub count: u64,
    /// How many of them have a number.
    pub numbers: u64,
    /// The least.
    pub min: Option<f64>,
    /// When the column with the least begins.
    pub min_at_us: Option<UnixMicros>,
    /// The greatest.
    pub max: Option<f64>,
    /// When the column with the greatest begins.
    pub max_at_us: Option<UnixMicros>,
    /// The mean of the numbers.
    pub mean: Option<f64>,
    /// Their standard deviation; known where every reading was read, not from minutes.
    pub stddev: Option<f64>,
    /// The first number.
    pub first: Option<f64>,
    /// The last number.
    pub last: Option<f64>,
    /// How many readings a check or detector flagged.
    pub flagged: u64,
    /// How many are not of good quality; nothing if only minutes are known.
    pub not_good: Option<u64>,
    /// Stretches without readings that are much longer than usual, ascending, at most [`GAPS_MAX`].
    pub gaps: Vec<TimeGap>,
    /// How many microseconds lie between readings usually, as far as the columns tell.
    pub usual_step_us: Option<i64>,
}

/// A stretch of time without readings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct TimeGap {
    /// The end of the last column with readings before it.
    pub from_us: UnixMicros,
    /// The beginning of the first column with readings after it.
    pub to_us: UnixMicros,
}

impl Sample {
    /// The reading as a chart shows it.
    #[must_use]
    pub fn of(row: &ReadingRow) -> Self {
        let reading = &row.reading;
        let text = match &reading.outcome {
            Ok(Value::Text(text)) => Some(text.to_string()),
            _ => None,
        };
        Self {
            sequence: row.sequence,
            at_us: row.received_at_us,
            value: MinuteSummary::of(row).numbers.map(|numbers| numbers.first),
            text,
            quality: reading.quality.name(),
            flags: reading.flags.names().collect(),
            score: (reading.score.0 > 0).then(|| reading.score.as_unit()),
            no_data: reading.outcome.as_ref().err().map(|absence| absence.name()),
        }
    }
}

/// What a column has so far.
#[derive(Clone, Copy, Debug)]
struct Sum {
    readings: u64,
    flagged: u64,
    worst: Quality,
    numbers: Option<WideNumbers>,
}

/// [`Numbers`] with room for a column of a year.
#[derive(Clone, Copy, Debug)]
struct WideNumbers {
    count: u64,
    min: f64,
    max: f64,
    sum: f64,
    first: (Place, f64),
    last: (Place, f64),
}

/// What orders readings and minutes in a column: time, then sequence. The newest are read first, so they do not come in order.
type Place = (UnixMicros, Sequence);

impl WideNumbers {
    fn of(place: Place, numbers: &Numbers) -> Self {
        let Numbers { count, min, max, sum, first, last } = *numbers;
        Self { count: u64::from(count), min, max, sum, first: (place, first), last: (place, last) }
    }

    fn join(&mut self, place: Place, other: &Numbers) {
        self.count += u64::from(other.count);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.sum += other.sum;
        if place < self.first.0 {
            self.first = (place, other.first);
        }
        if place >= self.last.0 {
            self.last = (place, other.last);
        }
    }
}

/// Columns as they fill. Memory is bounded by their number, whatever goes in.
#[derive(Debug)]
pub(super) struct Envelope {
    column_us: i64,
    columns: BTreeMap<i64, Sum>,
    /// The sum of squared distances from the mean (Welford), while every reading was seen.
    spread: Option<Spread>,
    not_good: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Spread {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Envelope {
    /// Columns of this width; they begin at whole multiples of it, so that a chart that moves on keeps its columns.
    pub(super) fn new(column_us: i64) -> Self {
        let spread = Some(Spread::default());
        Self { column_us: column_us.max(1), columns: BTreeMap::new(), spread, not_good: Some(0) }
    }

    /// Takes a reading in.
    pub(super) fn add_reading(&mut self, row: &ReadingRow) {
        let summary = MinuteSummary::of(row);
        if let (Some(spread), Some(numbers)) = (&mut self.spread, summary.numbers) {
            spread.add(numbers.first);
        }
        if let Some(not_good) = &mut self.not_good {
            *not_good += u64::from(row.reading.quality != Quality::Good);
        }
        self.add((row.received_at_us, row.sequence), &summary);
    }

    /// Takes a minute in, of readings from this sequence on; the widths of columns are whole minutes then.
    pub(super) fn add_minute(&mut self, from: Sequence, summary: &MinuteSummary) {
        self.spread = None;
        self.not_good = None;
        self.add((summary.minute_us, from), summary);
    }

    fn add(&mut self, place: Place, summary: &MinuteSummary) {
        let column = self.columns.entry(place.0.div_euclid(self.column_us)).or_insert(Sum {
            readings: 0,
            flagged: 0,
            worst: Quality::Good,
            numbers: None,
        });
        column.readings += u64::from(summary.readings);
        column.flagged += u64::from(summary.flagged);
        column.worst = column.worst.max(summary.worst);
        match (&mut column.numbers, &summary.numbers) {
            (Some(numbers), Some(other)) => numbers.join(place, other),
            (numbers @ None, Some(only)) => *numbers = Some(WideNumbers::of(place, only)),
            (_, None) => {}
        }
    }

    /// The columns that have readings, ascending, and what all of them come to.
    pub(super) fn finish(self) -> (Vec<Column>, Statistics) {
        let mut statistics = Statistics { not_good: self.not_good, ..Statistics::default() };
        let mut sum = 0.0;
        let mut columns = Vec::with_capacity(self.columns.len());
        for (number, column) in &self.columns {
            let at_us = number.saturating_mul(self.column_us);
            statistics.count += column.readings;
            statistics.flagged += column.flagged;
            if let Some(numbers) = &column.numbers {
                statistics.numbers += numbers.count;
                sum += numbers.sum;
                if statistics.min.is_none_or(|min| numbers.min < min) {
                    (statistics.min, statistics.min_at_us) = (Some(numbers.min), Some(at_us));
                }
                if statistics.max.is_none_or(|max| numbers.max > max) {
                    (statistics.max, statistics.max_at_us) = (Some(numbers.max), Some(at_us));
                }
                statistics.first = statistics.first.or(Some(numbers.first.1));
                statistics.last = Some(numbers.last.1);
            }
            let pick = |of: fn(&WideNumbers) -> f64| column.numbers.as_ref().map(of);
            columns.push(Column {
                at_us,
                min: pick(|numbers| numbers.min),
                max: pick(|numbers| numbers.max),
                mean: pick(|numbers| numbers.sum / numbers.count as f64).filter(|mean| mean.is_finite()),
                first: pick(|numbers| numbers.first.1),
                last: pick(|numbers| numbers.last.1),
                count: column.readings,
                flagged: column.flagged,
                worst: column.worst.name(),
            });
        }
        if statistics.numbers > 0 {
            statistics.mean = Some(sum / statistics.numbers as f64).filter(|mean| mean.is_finite());
        }
        statistics.stddev = self.spread.and_then(Spread::stddev);
        (statistics.usual_step_us, statistics.gaps) = gaps(&columns, self.column_us);
        (columns, statistics)
    }
}

impl Spread {
    fn add(&mut self, number: f64) {
        self.count += 1.0;
        let distance = number - self.mean;
        self.mean += distance / self.count;
        self.squares += distance * (number - self.mean);
    }

    fn stddev(self) -> Option<f64> {
        (self.count > 1.0).then(|| (self.squares / (self.count - 1.0)).sqrt()).filter(|stddev| stddev.is_finite())
    }
}

/// The usual distance of columns with readings, and where it is much longer.
fn gaps(columns: &[Column], column_us: i64) -> (Option<i64>, Vec<TimeGap>) {
    let step = |pair: &[Column]| match pair {
        [earlier, later] => later.at_us.saturating_sub(earlier.at_us),
        _ => 0,
    };
    let mut steps: Vec<i64> = columns.windows(2).map(step).collect();
    let middle = steps.len() / 2;
    if steps.is_empty() {
        return (None, Vec::new());
    }
    let usual = *steps.select_nth_unstable(middle).1;
    let is_gap = |pair: &&[Column]| step(pair) > usual.saturating_mul(GAP_FACTOR);
    let mut gaps: Vec<TimeGap> = Vec::new();
    for pair in columns.windows(2).filter(is_gap) {
        if let [earlier, later] = pair {
            gaps.push(TimeGap { from_us: earlier.at_us.saturating_add(column_us), to_us: later.at_us });
        }
    }
    if gaps.len() > GAPS_MAX {
        gaps.sort_by_key(|gap| std::cmp::Reverse(gap.to_us.saturating_sub(gap.from_us)));
        gaps.truncate(GAPS_MAX);
        gaps.sort_by_key(|gap| gap.from_us);
    }
    (Some(usual), gaps)
}
