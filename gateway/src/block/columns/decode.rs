//! Reading columns back: total, whatever the bytes are; every count is held against a limit before anything is allocated.

use super::{
    ABSENCE, HASHES, INDEX, JUDGEMENT, JudgedReading, NOTES, OBSERVED, POINTS, RECEIVED, ReadingRow, SCORES, TICKS,
    TICKS_MAX, VALUES,
};
use crate::block::varint::Reader;
use crate::block::{Block, BlockError, Layout, RECORDS_MAX, UNPACKED_BYTES_MAX, values};
use crate::clock::Tick;
use crate::reading::{AnomalyScore, Detector, Flags, MonoMicros, NO_HASH, NoData, Note, PointId, Quality, Reason};

fn absence(code: u8, exception: u8) -> Result<Option<NoData>, BlockError> {
    Ok(match code {
        0 => None,
        1 => Some(NoData::Timeout),
        2 => Some(NoData::Exception(exception)),
        3 => Some(NoData::NotAvailable),
        4 => Some(NoData::NotConnected),
        5 => Some(NoData::NotFinite),
        _ => return Err(BlockError::Body("an absence has an unknown reason")),
    })
}

/// The sections of a body, by tag.
struct Sections<'a>([&'a [u8]; 12]);

impl<'a> Sections<'a> {
    fn read(body: &'a [u8]) -> Result<Self, BlockError> {
        let mut sections = [&[][..]; 12];
        let mut reader = Reader(body);
        while !reader.is_empty() {
            let tag = reader.byte()?;
            let length = reader.count(UNPACKED_BYTES_MAX)?;
            let bytes = reader.bytes(length)?;
            if let Some(section) = sections.get_mut(usize::from(tag)) {
                *section = bytes;
            }
        }
        Ok(Self(sections))
    }

    fn get(&self, tag: u8) -> Option<Reader<'a>> {
        self.0.get(usize::from(tag)).filter(|section| !section.is_empty()).map(|section| Reader(section))
    }

    fn required(&self, tag: u8) -> Result<Reader<'a>, BlockError> {
        self.get(tag).ok_or(BlockError::Body("a column is missing"))
    }
}

impl Block {
    /// The readings of a block of columns, in order.
    ///
    /// # Errors
    /// If it is not a block of columns, or its body makes no sense.
    pub fn readings(&self) -> Result<Vec<ReadingRow>, BlockError> {
        if self.meta.layout != Layout::Columns {
            return Err(BlockError::Body("it holds no readings"));
        }
        let body = self.unpack()?;
        let sections = Sections::read(&body)?;
        let count = usize::from(self.meta.count);
        let points = read_points(sections.required(POINTS)?)?;
        let index = read_index(sections.required(INDEX)?, count, points.len())?;
        let mut members: Vec<Vec<usize>> = vec![Vec::new(); points.len()];
        for (position, local) in index.iter().enumerate() {
            if let Some(members) = members.get_mut(*local) {
                members.push(position);
            }
        }
        let mut rows = self.read_received(sections.required(RECEIVED)?, &index, &points)?;
        if let Some(reader) = sections.get(OBSERVED) {
            read_observed(reader, &members, &mut rows)?;
        }
        read_values(sections.get(ABSENCE), sections.get(VALUES), &members, &mut rows)?;
        read_judgement(&sections, &mut rows)?;
        Ok(rows)
    }

    /// The readings of one point; a block that does not name it is not read further.
    ///
    /// # Errors
    /// If it is not a block of columns, or its body makes no sense.
    pub fn readings_of(&self, point: PointId) -> Result<Vec<ReadingRow>, BlockError> {
        if !self.points()?.contains(&point) {
            return Ok(Vec::new());
        }
        let mut rows = self.readings()?;
        rows.retain(|row| row.reading.point == point);
        Ok(rows)
    }

    /// The distinct points of a block of columns; none for a block of records.
    ///
    /// # Errors
    /// If the body makes no sense.
    pub fn points(&self) -> Result<Vec<PointId>, BlockError> {
        if self.meta.layout != Layout::Columns {
            return Ok(Vec::new());
        }
        let body = self.unpack()?;
        read_points(Sections::read(&body)?.required(POINTS)?)
    }

    /// The ticks of the judge's clock: position of the reading before which each came, and its monotonic time.
    ///
    /// # Errors
    /// If the body makes no sense.
    pub fn ticks(&self) -> Result<Vec<(usize, MonoMicros)>, BlockError> {
        let body = self.unpack()?;
        let Some(mut reader) = Sections::read(&body)?.get(TICKS) else { return Ok(Vec::new()) };
        let mut ticks = Vec::new();
        while !reader.is_empty() && ticks.len() < TICKS_MAX {
            let position = reader.count(usize::from(self.meta.count))?;
            ticks.push((position, self.meta.mono_base_us.wrapping_add_signed(reader.signed()?)));
        }
        Ok(ticks)
    }

    fn read_received(
        &self,
        mut reader: Reader<'_>,
        index: &[usize],
        points: &[PointId],
    ) -> Result<Vec<ReadingRow>, BlockError> {
        let base =
            Tick { mono_us: self.meta.mono_base_us, wall_us: self.meta.wall_base_us, quality: self.meta.time_quality };
        let mut mono_us = base.mono_us;
        let mut rows = Vec::with_capacity(index.len());
        for (local, sequence) in index.iter().zip(self.range.first..) {
            mono_us = mono_us.wrapping_add_signed(reader.signed()?);
            let reading = JudgedReading {
                point: *points.get(*local).ok_or(BlockError::Body("a reading names no point"))?,
                outcome: Err(NoData::NotAvailable),
                observed_at_us: None,
                received_mono_us: mono_us,
                quality: Quality::Good,
                flags: Flags::default(),
                score: AnomalyScore::default(),
                message_hash: NO_HASH,
                note: None,
            };
            rows.push(ReadingRow { sequence, reading, received_at_us: base.wall_of(mono_us) });
        }
        Ok(rows)
    }
}

fn read_points(mut reader: Reader<'_>) -> Result<Vec<PointId>, BlockError> {
    let count = reader.count(RECORDS_MAX)?;
    let mut before = 0i64;
    let mut points = Vec::with_capacity(count);
    for _ in 0..count {
        before = before.wrapping_add(reader.signed()?);
        points.push(PointId(u32::try_from(before).map_err(|_| BlockError::Body("a point id is too large"))?));
    }
    if points.is_empty() {
        return Err(BlockError::Body("it names no point"));
    }
    Ok(points)
}

fn read_index(mut reader: Reader<'_>, count: usize, points: usize) -> Result<Vec<usize>, BlockError> {
    let mut before = points - 1;
    let mut index = Vec::with_capacity(count);
    for _ in 0..count {
        let step = reader.count(points)?;
        before = (before + 1 + step) % points;
        index.push(before);
    }
    Ok(index)
}

fn read_observed(mut reader: Reader<'_>, members: &[Vec<usize>], rows: &mut [ReadingRow]) -> Result<(), BlockError> {
    let digits = reader.byte()?;
    if digits > 6 {
        return Err(BlockError::Body("a time has too many digits"));
    }
    let unit = 10i64.pow(u32::from(digits));
    for positions in members {
        let (mut before, mut step) = (0i64, 0i64);
        for position in positions {
            if reader.byte()? == 0 {
                continue;
            }
            let time = before.wrapping_add(step).wrapping_add(reader.signed()?);
            step = time.wrapping_sub(before);
            before = time;
            if let Some(row) = rows.get_mut(*position) {
                row.reading.observed_at_us = Some(time.wrapping_mul(unit));
            }
        }
    }
    Ok(())
}

fn read_values(
    absences: Option<Reader<'_>>,
    values: Option<Reader<'_>>,
    members: &[Vec<usize>],
    rows: &mut [ReadingRow],
) -> Result<(), BlockError> {
    let mut present = vec![true; rows.len()];
    if let Some(mut reader) = absences {
        let mut position = 0;
        while !reader.is_empty() {
            let reason = absence(reader.byte()?, reader.byte()?)?;
            let length = reader.count(rows.len() - position)?;
            for row in position..position + length {
                if let (Some(reason), Some(row), Some(present)) = (reason, rows.get_mut(row), present.get_mut(row)) {
                    row.reading.outcome = Err(reason);
                    *present = false;
                }
            }
            position += length;
        }
    }
    let mut reader = values.unwrap_or(Reader(&[]));
    for positions in members {
        let here = || positions.iter().filter(|position| present.get(**position) == Some(&true));
        for (position, value) in here().zip(values::decode(&mut reader, here().count())?) {
            if let Some(row) = rows.get_mut(*position) {
                row.reading.outcome = Ok(value);
            }
        }
    }
    Ok(())
}

fn read_judgement(sections: &Sections<'_>, rows: &mut [ReadingRow]) -> Result<(), BlockError> {
    if let Some(mut reader) = sections.get(JUDGEMENT) {
        let mut position = 0;
        while !reader.is_empty() {
            let quality = Quality::from_code(reader.byte()?).ok_or(BlockError::Body("a quality is unknown"))?;
            let flags = u32::try_from(reader.varint()?).map_err(|_| BlockError::Body("a flag is too large"))?;
            let length = reader.count(rows.len() - position)?;
            for row in rows.iter_mut().skip(position).take(length) {
                row.reading.quality = quality;
                row.reading.flags = Flags(flags);
            }
            position += length;
        }
    }
    if let Some(mut reader) = sections.get(SCORES) {
        for row in rows.iter_mut() {
            row.reading.score = AnomalyScore(reader.byte()?);
        }
    }
    if let Some(mut reader) = sections.get(HASHES) {
        let mut position = 0;
        while !reader.is_empty() {
            let hash = u32::from_le_bytes(reader.array()?);
            let length = reader.count(rows.len() - position)?;
            for row in rows.iter_mut().skip(position).take(length) {
                row.reading.message_hash = hash;
            }
            position += length;
        }
    }
    if let Some(mut reader) = sections.get(NOTES) {
        while !reader.is_empty() {
            let position = reader.count(rows.len())?;
            let detector = Detector::from_code(reader.byte()?).ok_or(BlockError::Body("a detector is unknown"))?;
            let reason = Reason::from_code(reader.byte()?).ok_or(BlockError::Body("a reason is unknown"))?;
            let expected = f32::from_le_bytes(reader.array()?);
            if let Some(row) = rows.get_mut(position) {
                row.reading.note = Some(Note { detector, reason, expected });
            }
        }
    }
    Ok(())
}
