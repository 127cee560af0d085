//! Columns of readings: the body of a block of the stream `readings`.
//!
//! The body is a line of sections `[tag u8][length varint][bytes]`. A reader skips tags that it does not know, so that
//! columns may be added; a section whose column says nothing (no device times, no scores) is left out.

#![expect(
    clippy::cast_possible_truncation,
    reason = "counts and lengths are bounded by RECORDS_MAX and UNPACKED_BYTES_MAX"
)]

mod decode;

use super::varint::{put, put_signed};
use super::{BLOCK_BYTES_MAX, BlockFlags, Draft, HEADER_BYTES, Layout, Meta, RECORDS_MAX, UNPACKED_BYTES_MAX, values};
use crate::clock::Tick;
use crate::reading::{
    AnomalyScore, Flags, MonoMicros, NO_HASH, NoData, Note, Outcome, PointId, Quality, Sequence, Stream, UnixMicros,
};
use std::collections::HashMap;

/// The points of the block, in the order of their first reading: count, then ids as differences.
const POINTS: u8 = 1;
/// Whose reading each is: how far from the point after the one before, so that a round of polls is all zeros.
const INDEX: u8 = 2;
/// Monotonic receive times, each as difference to the one before.
const RECEIVED: u8 = 3;
/// The devices' own times, by point: `[digits u8]`, then differences of differences; a leading 0 or 1 says whether there is one.
const OBSERVED: u8 = 4;
/// Runs of presence and absence: code, exception code, length.
const ABSENCE: u8 = 5;
/// The values that are there, by point (see `values`).
const VALUES: u8 = 6;
/// Runs of quality and flags.
const JUDGEMENT: u8 = 7;
/// Anomaly scores, one byte each.
const SCORES: u8 = 8;
/// Runs of message hashes.
const HASHES: u8 = 9;
/// Notes: position, detector, reason, expected value.
const NOTES: u8 = 10;
/// Ticks of the judge's clock: position and monotonic time, so that a replay sees the same times.
const TICKS: u8 = 11;

/// Level of compression: 1 takes half the time of 3 for 2 % more bytes on plant data (`cargo bench --bench judge`).
const ZSTD_LEVEL: i32 = 1;

/// Most ticks kept in a block: one a batch, and a batch is rarely under ten readings.
const TICKS_MAX: usize = 64;

/// A judged reading on its way into a block.
#[derive(Clone, Debug, PartialEq)]
pub struct JudgedReading {
    /// Whose value it is.
    pub point: PointId,
    /// The value, or why there is none.
    pub outcome: Outcome,
    /// The device's own clock, where it sends one.
    pub observed_at_us: Option<UnixMicros>,
    /// When the gateway received it, on the boot's monotonic clock.
    pub received_mono_us: MonoMicros,
    /// Its quality.
    pub quality: Quality,
    /// Which checks spoke.
    pub flags: Flags,
    /// How unusual it is.
    pub score: AnomalyScore,
    /// Hash of the message that carried it.
    pub message_hash: u32,
    /// What a check or detector has to say.
    pub note: Option<Note>,
}

/// A reading as it comes out of a block.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadingRow {
    /// Its place in the stream.
    pub sequence: Sequence,
    /// The reading.
    pub reading: JudgedReading,
    /// When the gateway received it, by the block's pair of clocks.
    pub received_at_us: UnixMicros,
}

/// What the readings of a block have in common.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// The boot.
    pub boot_id: u128,
    /// Both clocks at one moment: receive times count from here.
    pub base: Tick,
    /// The configuration that judged.
    pub config_version: u32,
}

/// Turns judged readings into drafts; keeps its buffers, so that a block costs two allocations.
pub struct Encoder {
    raw: Vec<u8>,
    section: Vec<u8>,
    local: HashMap<PointId, usize>,
    points: Vec<PointId>,
    index: Vec<usize>,
    /// Positions of the readings of each local point.
    members: Vec<Vec<usize>>,
    compressor: zstd::bulk::Compressor<'static>,
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").finish_non_exhaustive()
    }
}

impl Encoder {
    /// An encoder with empty buffers.
    ///
    /// # Errors
    /// If the compressor has no memory.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self {
            raw: Vec::new(),
            section: Vec::new(),
            local: HashMap::new(),
            points: Vec::new(),
            index: Vec::new(),
            members: Vec::new(),
            compressor: zstd::bulk::Compressor::new(ZSTD_LEVEL)?,
        })
    }

    /// Encodes `readings` into as few blocks as the limits allow, in order. `ticks` are positions in `readings` with the
    /// monotonic time of the judge's clock there.
    ///
    /// # Errors
    /// If the compressor fails, which it does for want of memory only.
    pub fn encode(
        &mut self,
        readings: &[JudgedReading],
        ticks: &[(usize, MonoMicros)],
        frame: &Frame,
        out: &mut Vec<Draft>,
    ) -> std::io::Result<()> {
        let mut from = 0;
        for part in readings.chunks(RECORDS_MAX) {
            self.encode_part(part, from, ticks, frame, out)?;
            from += part.len();
        }
        Ok(())
    }

    /// Encodes at most [`RECORDS_MAX`] readings; halves them where noise makes the block too large.
    fn encode_part(
        &mut self,
        part: &[JudgedReading],
        from: usize,
        ticks: &[(usize, MonoMicros)],
        frame: &Frame,
        out: &mut Vec<Draft>,
    ) -> std::io::Result<()> {
        if part.is_empty() {
            return Ok(());
        }
        self.columns(part, from, ticks, frame);
        let body = self.compressor.compress(&self.raw)?;
        let too_large =
            HEADER_BYTES + body.len() + super::CHECKSUM_BYTES > BLOCK_BYTES_MAX || self.raw.len() > UNPACKED_BYTES_MAX;
        if too_large && part.len() > 1 {
            let (left, right) = part.split_at(part.len() / 2);
            self.encode_part(left, from, ticks, frame, out)?;
            return self.encode_part(right, from + left.len(), ticks, frame, out);
        }
        let times = part.iter().map(|reading| frame.base.wall_of(reading.received_mono_us));
        let meta = Meta {
            stream: Stream::Readings,
            layout: Layout::Columns,
            time_quality: frame.base.quality,
            flags: BlockFlags::default(),
            // RECORDS_MAX keeps both within their types.
            count: part.len() as u16,
            config_version: frame.config_version,
            boot_id: frame.boot_id,
            mono_base_us: frame.base.mono_us,
            wall_base_us: frame.base.wall_us,
            first_time_us: times.clone().min().unwrap_or(frame.base.wall_us),
            last_time_us: times.max().unwrap_or(frame.base.wall_us),
            unpacked_bytes: self.raw.len() as u32,
        };
        out.push(Draft { meta, body, points: self.points.clone() });
        Ok(())
    }

    fn columns(&mut self, part: &[JudgedReading], from: usize, ticks: &[(usize, MonoMicros)], frame: &Frame) {
        self.raw.clear();
        self.group(part);
        self.point_columns();
        self.time_columns(part, frame);
        self.value_columns(part);
        self.judgement_columns(part);
        let until = from + part.len();
        let inside = ticks.iter().filter(|(position, _)| (from..until).contains(position)).take(TICKS_MAX);
        for (position, mono_us) in inside {
            put(&mut self.section, (position - from) as u64);
            put_signed(&mut self.section, mono_us.wrapping_sub(frame.base.mono_us).cast_signed());
        }
        self.close(TICKS);
    }

    /// Finds the distinct points and the readings of each.
    fn group(&mut self, part: &[JudgedReading]) {
        self.local.clear();
        self.points.clear();
        self.index.clear();
        self.members.iter_mut().for_each(Vec::clear);
        for (position, reading) in part.iter().enumerate() {
            // A round of polls comes in the same order each time: try the next point before the table.
            let next = self.index.last().map_or(0, |last| (last + 1) % self.points.len().max(1));
            let local = if self.points.get(next) == Some(&reading.point) {
                next
            } else {
                let fresh = self.points.len();
                let local = *self.local.entry(reading.point).or_insert(fresh);
                if local == fresh {
                    self.points.push(reading.point);
                    if self.members.len() <= fresh {
                        self.members.push(Vec::new());
                    }
                }
                local
            };
            self.index.push(local);
            if let Some(members) = self.members.get_mut(local) {
                members.push(position);
            }
        }
    }

    fn point_columns(&mut self) {
        put(&mut self.section, self.points.len() as u64);
        let mut before = 0i64;
        for point in &self.points {
            put_signed(&mut self.section, i64::from(point.0) - before);
            before = i64::from(point.0);
        }
        self.close(POINTS);
        let count = self.points.len();
        let mut before = count - 1;
        for local in &self.index {
            put(&mut self.section, ((local + count * 2 - before - 1) % count) as u64);
            before = *local;
        }
        self.close(INDEX);
    }

    fn time_columns(&mut self, part: &[JudgedReading], frame: &Frame) {
        let mut before = frame.base.mono_us;
        for reading in part {
            put_signed(&mut self.section, reading.received_mono_us.wrapping_sub(before).cast_signed());
            before = reading.received_mono_us;
        }
        self.close(RECEIVED);
        let mut seen = part.iter().filter_map(|reading| reading.observed_at_us).peekable();
        if seen.peek().is_none() {
            return;
        }
        // Devices that tell milliseconds or seconds should not pay for microseconds.
        let digits = seen.fold(6u8, |digits, time_us| {
            if time_us % 1_000_000 == 0 {
                digits
            } else if time_us % 1_000 == 0 {
                digits.min(3)
            } else {
                0
            }
        });
        let unit = 10i64.pow(u32::from(digits));
        self.section.push(digits);
        for members in self.members.iter().take(self.points.len()) {
            let (mut before, mut step) = (0i64, 0i64);
            for position in members {
                let observed = part.get(*position).and_then(|reading| reading.observed_at_us);
                self.section.push(u8::from(observed.is_some()));
                if let Some(time_us) = observed {
                    let time = time_us / unit;
                    put_signed(&mut self.section, time.wrapping_sub(before).wrapping_sub(step));
                    step = time.wrapping_sub(before);
                    before = time;
                }
            }
        }
        self.close(OBSERVED);
    }

    fn value_columns(&mut self, part: &[JudgedReading]) {
        if part.iter().any(|reading| reading.outcome.is_err()) {
            let codes = part.iter().map(|reading| absence_code(&reading.outcome));
            for ((code, exception), length) in runs(codes) {
                self.section.extend_from_slice(&[code, exception]);
                put(&mut self.section, length);
            }
            self.close(ABSENCE);
        }
        for members in self.members.iter().take(self.points.len()) {
            let values = members.iter().filter_map(|position| part.get(*position)?.outcome.as_ref().ok());
            if values.clone().next().is_some() {
                values::encode(&mut self.section, values);
            }
        }
        self.close(VALUES);
    }

    fn judgement_columns(&mut self, part: &[JudgedReading]) {
        let judgements = part.iter().map(|reading| (reading.quality, reading.flags));
        if judgements.clone().any(|judgement| judgement != (Quality::Good, Flags::default())) {
            for ((quality, flags), length) in runs(judgements) {
                self.section.push(quality.code());
                put(&mut self.section, u64::from(flags.0));
                put(&mut self.section, length);
            }
            self.close(JUDGEMENT);
        }
        if part.iter().any(|reading| reading.score != AnomalyScore::default()) {
            self.section.extend(part.iter().map(|reading| reading.score.0));
            self.close(SCORES);
        }
        if part.iter().any(|reading| reading.message_hash != NO_HASH) {
            for (hash, length) in runs(part.iter().map(|reading| reading.message_hash)) {
                self.section.extend_from_slice(&hash.to_le_bytes());
                put(&mut self.section, length);
            }
            self.close(HASHES);
        }
        for (position, reading) in part.iter().enumerate() {
            if let Some(note) = reading.note {
                put(&mut self.section, position as u64);
                self.section.extend_from_slice(&[note.detector.code(), note.reason.code()]);
                self.section.extend_from_slice(&note.expected.to_le_bytes());
            }
        }
        self.close(NOTES);
    }

    /// Appends the section that was collected, unless it is empty.
    fn close(&mut self, tag: u8) {
        if !self.section.is_empty() {
            self.raw.push(tag);
            put(&mut self.raw, self.section.len() as u64);
            self.raw.append(&mut self.section);
        }
    }
}

/// Equal neighbours and how many there are.
fn runs<T: PartialEq>(items: impl Iterator<Item = T>) -> impl Iterator<Item = (T, u64)> {
    let mut items = items.peekable();
    std::iter::from_fn(move || {
        let item = items.next()?;
        let mut length = 1;
        while items.next_if(|next| *next == item).is_some() {
            length += 1;
        }
        Some((item, length))
    })
}

fn absence_code(outcome: &Outcome) -> (u8, u8) {
    match outcome {
        Ok(_) => (0, 0),
        Err(NoData::Timeout) => (1, 0),
        Err(NoData::Exception(code)) => (2, *code),
        Err(NoData::NotAvailable) => (3, 0),
        Err(NoData::NotConnected) => (4, 0),
        Err(NoData::NotFinite) => (5, 0),
    }
}
