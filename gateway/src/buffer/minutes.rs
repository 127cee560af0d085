//! What the readings of a sealed chunk come to: a summary per point and minute, and an index by point.
//!
//! Both lie in the chunk itself, in small pages: `0xFD | point u32 | page u32` with summaries of one point, oldest first, and
//! `0xFC | first point u32` with the entries of up to [`POINTS_PER_PAGE`] points. A page is `version u8 | CRC-32C u32 over what follows |
//! length before compression u32 | zstd` of a postcard struct. Readings whose wall clock was never set have no minute.

use super::sled_store::Write;
use super::{Buffer, BufferError};
use crate::block::columns::ReadingRow;
use crate::reading::{Outcome, PointId, Quality, SequenceRange, Stream, UnixMicros, Value};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A minute, in microseconds.
pub const MINUTE_US: i64 = 60_000_000;

/// Begins the keys of summaries; no stream has this number.
const MINUTES: u8 = 0xFD;

/// Begins the keys of the index by point; no stream has this number.
const INDEX: u8 = 0xFC;

/// Version of a page.
const VERSION: u8 = 1;

/// Summaries in a page: at most 60 bytes each, a page stays below 6 KiB even where nothing compresses.
const MINUTES_PER_PAGE: usize = 96;

/// Entries in a page of the index: at most 50 bytes each.
const POINTS_PER_PAGE: usize = 96;

/// Summaries that wait for their page to fill; beyond it, all points' pages are written as they are. About 2 MiB.
const WAITING_MAX: usize = 16_384;

/// Most bytes that a page may unpack to: a claim above it is damage.
const UNPACKED_BYTES_MAX: usize = 64 * 1024;

/// Bytes before the compressed part.
const HEADER_BYTES: usize = 9;

/// As in blocks: level 1 takes half the time of 3 for little more.
const ZSTD_LEVEL: i32 = 1;

/// What the readings of one point in one minute come to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MinuteSummary {
    /// The minute's beginning, in microseconds since 1970; readings count by their time of receipt.
    pub minute_us: UnixMicros,
    /// How many readings there are, with a number or without.
    pub readings: u32,
    /// What those with a number come to; switches count as 0 and 1, texts and absences as none.
    pub numbers: Option<Numbers>,
    /// The worst quality of any of them.
    pub worst: Quality,
    /// How many of them a check or detector flagged.
    pub flagged: u32,
}

/// What numbers come to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Numbers {
    /// How many.
    pub count: u32,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
    /// All of them together.
    pub sum: f64,
    /// The first by sequence.
    pub first: f64,
    /// The last by sequence.
    pub last: f64,
}

impl Numbers {
    fn one(number: f64) -> Self {
        Self { count: 1, min: number, max: number, sum: number, first: number, last: number }
    }

    /// Their mean.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.sum / f64::from(self.count)
    }

    fn join(&mut self, later: &Self) {
        self.count = self.count.saturating_add(later.count);
        self.min = self.min.min(later.min);
        self.max = self.max.max(later.max);
        self.sum += later.sum;
        self.last = later.last;
    }
}

impl MinuteSummary {
    /// The summary of one reading.
    #[must_use]
    pub fn of(row: &ReadingRow) -> Self {
        let reading = &row.reading;
        Self {
            minute_us: row.received_at_us.div_euclid(MINUTE_US) * MINUTE_US,
            readings: 1,
            numbers: number(&reading.outcome).map(Numbers::one),
            worst: reading.quality,
            flagged: u32::from(reading.flags.0 != 0),
        }
    }

    /// Takes later readings of the same minute in.
    pub fn join(&mut self, later: &Self) {
        self.readings = self.readings.saturating_add(later.readings);
        self.flagged = self.flagged.saturating_add(later.flagged);
        if later.worst.code() > self.worst.code() {
            self.worst = later.worst;
        }
        match (&mut self.numbers, &later.numbers) {
            (Some(numbers), Some(later)) => numbers.join(later),
            (None, Some(later)) => self.numbers = Some(*later),
            (_, None) => {}
        }
    }
}

fn number(outcome: &Outcome) -> Option<f64> {
    match outcome {
        Ok(Value::Number(number)) => Some(*number),
        #[expect(clippy::cast_precision_loss, reason = "a chart draws no 54th bit")]
        Ok(Value::Integer(integer)) => Some(*integer as f64),
        Ok(Value::Boolean(switch)) => Some(f64::from(u8::from(*switch))),
        Ok(Value::Text(_)) | Err(_) => None,
    }
}

/// The summaries of a point in a time, as far as there are any.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Minutes {
    /// One a minute, ascending.
    pub summaries: Vec<MinuteSummary>,
    /// The sequences that no summary counts, though readings of that time may be among them: those not in a sealed and
    /// summarised chunk. Their minutes may be in `summaries` too, without them.
    pub unsummarised: Vec<SequenceRange>,
}

impl Buffer {
    /// The summaries of a point for the minutes from `from_us` to `to_us`, both included, and which sequences none counts:
    /// those are to be read as blocks ([`MinuteSummary::of`], [`MinuteSummary::join`]). A chunk is asked at a time, so that
    /// commits go on in between; a year of minutes is about 40 MiB.
    ///
    /// # Errors
    /// If the disk fails.
    pub async fn minutes(
        &self,
        point: PointId,
        from_us: UnixMicros,
        to_us: UnixMicros,
    ) -> Result<Minutes, BufferError> {
        let mut minutes = Minutes::default();
        for stretch in self.stretches_between(Stream::Readings, from_us, to_us).await? {
            match self.minutes_of(stretch, point, from_us, to_us).await? {
                Some(summaries) => minutes.summaries.extend(summaries),
                None => minutes.unsummarised.push(stretch),
            }
        }
        minutes.order();
        Ok(minutes)
    }
}

impl Minutes {
    /// Puts them in order; those of the same minute become one.
    pub(super) fn order(&mut self) {
        // Stable: of one minute the earlier chunk's comes first.
        self.summaries.sort_by_key(|summary| summary.minute_us);
        self.summaries.dedup_by(|later, earlier| {
            let same = later.minute_us == earlier.minute_us;
            if same {
                earlier.join(later);
            }
            same
        });
    }
}

/// Where the readings of a point lie in a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PointExtent {
    /// Whose.
    pub(super) point: PointId,
    /// How many.
    pub(super) readings: u64,
    /// From the first to the last.
    pub(super) range: SequenceRange,
    /// Time of receipt of the earliest.
    pub(super) first_time_us: UnixMicros,
    /// Time of receipt of the latest.
    pub(super) last_time_us: UnixMicros,
}

/// Collects what the readings of a chunk come to.
#[derive(Debug, Default)]
pub(super) struct Digest {
    points: BTreeMap<PointId, OfPoint>,
    waiting: usize,
}

#[derive(Debug)]
struct OfPoint {
    extent: PointExtent,
    summaries: Vec<MinuteSummary>,
    pages: u32,
}

impl Digest {
    /// Counts readings in, which come in order.
    pub(super) fn add(&mut self, rows: &[ReadingRow], has_minutes: bool) {
        for row in rows {
            let (sequence, time_us) = (row.sequence, row.received_at_us);
            let fresh = || OfPoint {
                extent: PointExtent {
                    point: row.reading.point,
                    readings: 0,
                    range: SequenceRange { first: sequence, last: sequence },
                    first_time_us: time_us,
                    last_time_us: time_us,
                },
                summaries: Vec::new(),
                pages: 0,
            };
            let of = self.points.entry(row.reading.point).or_insert_with(fresh);
            of.extent.readings += 1;
            of.extent.range.last = sequence;
            of.extent.first_time_us = of.extent.first_time_us.min(time_us);
            of.extent.last_time_us = of.extent.last_time_us.max(time_us);
            if !has_minutes {
                continue;
            }
            let summary = MinuteSummary::of(row);
            match of.summaries.last_mut() {
                Some(last) if last.minute_us == summary.minute_us => last.join(&summary),
                _ => {
                    of.summaries.push(summary);
                    self.waiting += 1;
                }
            }
        }
    }

    /// The pages of summaries that are full; all that wait if they are too many.
    pub(super) fn full_pages(&mut self) -> Result<Vec<Write>, BufferError> {
        // The last summary of a point may go on.
        let least = if self.waiting > WAITING_MAX { 1 } else { MINUTES_PER_PAGE };
        self.pages(least, 1)
    }

    /// The last pages of summaries, and the index.
    pub(super) fn finish(mut self) -> Result<(Vec<Write>, Vec<Write>), BufferError> {
        let minutes = self.pages(1, 0)?;
        let extents: Vec<PointExtent> = self.points.values().map(|of| of.extent).collect();
        let page = |extents: &[PointExtent]| {
            let first = extents.first().map_or(0, |extent| extent.point.0);
            Ok((index_key(PointId(first)), Some(pack(&extents)?)))
        };
        let index: Result<Vec<Write>, BufferError> = extents.chunks(POINTS_PER_PAGE).map(page).collect();
        Ok((minutes, index?))
    }

    /// Pages of the points that have at least so many summaries, but for the last few of each.
    fn pages(&mut self, least: usize, kept: usize) -> Result<Vec<Write>, BufferError> {
        let mut pages = Vec::new();
        for (point, of) in &mut self.points {
            while of.summaries.len() >= least + kept {
                let count = (of.summaries.len() - kept).min(MINUTES_PER_PAGE);
                let page: Vec<MinuteSummary> = of.summaries.drain(..count).collect();
                pages.push((minutes_key(*point, of.pages), Some(pack(&Columns::of(&page))?)));
                of.pages += 1;
                self.waiting -= count;
            }
        }
        Ok(pages)
    }
}

/// Summaries by column, which compresses them to a third.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Columns {
    /// Minutes since 1970 of the first, then differences.
    minutes: Vec<i64>,
    readings: Vec<u32>,
    worst: Vec<u8>,
    flagged: Vec<u32>,
    /// Numbers of each, 0 where there are none; the columns below hold the others only.
    counts: Vec<u32>,
    /// Least, greatest, first and last: where one number is there, or all are the same, it stands once.
    numbers: Vec<u8>,
    sums: Vec<f64>,
}

impl Columns {
    fn of(summaries: &[MinuteSummary]) -> Self {
        let mut columns = Self::default();
        let (mut before, mut numbers) = (0, Vec::new());
        for summary in summaries {
            let minute = summary.minute_us / MINUTE_US;
            columns.minutes.push(minute.wrapping_sub(before));
            before = minute;
            columns.readings.push(summary.readings);
            columns.worst.push(summary.worst.code());
            columns.flagged.push(summary.flagged);
            columns.counts.push(summary.numbers.map_or(0, |numbers| numbers.count));
            if let Some(of) = summary.numbers {
                numbers.push([of.min, of.max, of.first, of.last]);
                if of.count > 1 {
                    columns.sums.push(of.sum);
                }
            }
        }
        for column in 0..4 {
            let values: Vec<Value> =
                numbers.iter().filter_map(|of| of.get(column)).map(|number| Value::Number(*number)).collect();
            crate::block::encode_values(&mut columns.numbers, &values);
        }
        columns
    }

    /// The summaries; `None` if the columns do not fit together.
    fn summaries(&self) -> Option<Vec<MinuteSummary>> {
        let with_numbers = self.counts.iter().filter(|count| **count > 0).count();
        let mut rest = self.numbers.as_slice();
        let mut columns = Vec::new();
        for _ in 0..4 {
            columns.push(crate::block::decode_values(&mut rest, with_numbers).ok()?.into_iter());
        }
        let mut next = |column: usize| match columns.get_mut(column)?.next()? {
            Value::Number(number) => Some(number),
            _ => None,
        };
        let (mut sums, mut minute, mut summaries) = (self.sums.iter(), 0i64, Vec::new());
        for (row, step) in self.minutes.iter().enumerate() {
            minute = minute.wrapping_add(*step);
            let count = *self.counts.get(row)?;
            let numbers = if count == 0 {
                None
            } else {
                let (min, max, first, last) = (next(0)?, next(1)?, next(2)?, next(3)?);
                let sum = if count > 1 { *sums.next()? } else { first };
                Some(Numbers { count, min, max, sum, first, last })
            };
            summaries.push(MinuteSummary {
                minute_us: minute.wrapping_mul(MINUTE_US),
                readings: *self.readings.get(row)?,
                numbers,
                worst: Quality::from_code(*self.worst.get(row)?)?,
                flagged: *self.flagged.get(row)?,
            });
        }
        Some(summaries)
    }
}

/// The summaries of a page.
pub(super) fn summaries(page: &[u8]) -> Result<Vec<MinuteSummary>, BufferError> {
    unpack::<Columns>(page).and_then(|columns| columns.summaries()).ok_or_else(damaged)
}

/// The entries of a page of the index.
pub(super) fn extents(page: &[u8]) -> Result<Vec<PointExtent>, BufferError> {
    unpack(page).ok_or_else(damaged)
}

/// The key of a page of summaries.
pub(super) fn minutes_key(point: PointId, page: u32) -> Vec<u8> {
    [&[MINUTES][..], &point.0.to_be_bytes(), &page.to_be_bytes()].concat()
}

/// The key of the index page that begins with a point.
pub(super) fn index_key(point: PointId) -> Vec<u8> {
    [&[INDEX][..], &point.0.to_be_bytes()].concat()
}

fn damaged() -> BufferError {
    BufferError::Damaged("a page of summaries makes no sense".to_owned())
}

fn pack(of: &impl Serialize) -> Result<Vec<u8>, BufferError> {
    let failed = |error: &dyn std::fmt::Display| BufferError::Disk(format!("cannot pack summaries: {error}"));
    let plain = postcard::to_stdvec(of).map_err(|error| failed(&error))?;
    let length = u32::try_from(plain.len()).map_err(|error| failed(&error))?;
    let mut packed = length.to_le_bytes().to_vec();
    packed.extend(zstd::bulk::compress(&plain, ZSTD_LEVEL).map_err(|error| failed(&error))?);
    let mut page = vec![VERSION];
    page.extend_from_slice(&crc32c::crc32c(&packed).to_le_bytes());
    page.extend(packed);
    Ok(page)
}

fn unpack<T: for<'a> Deserialize<'a>>(page: &[u8]) -> Option<T> {
    let (header, packed) = page.split_at_checked(HEADER_BYTES)?;
    let (version, header) = header.split_first()?;
    let (checksum, length) = header.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(length.try_into().ok()?)).ok()?;
    let holds = crc32c::crc32c(page.get(5..)?) == u32::from_le_bytes(*checksum);
    if *version != VERSION || !holds || length > UNPACKED_BYTES_MAX {
        return None;
    }
    let plain = zstd::bulk::decompress(packed, length).ok()?;
    postcard::from_bytes(&plain).ok()
}
