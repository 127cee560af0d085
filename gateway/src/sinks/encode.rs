//! Rendering: blocks become the JSON records that go upstream (docs/record-format.md has every field).
//!
//! A record depends on nothing but its run, its block and the pinned configuration, so a retry is the same bytes, on every
//! machine and for ever: a change of a single byte is a new [`RENDER_VERSION`], and the old one stays for runs that are under way.

mod json;
mod records;
mod selection;
mod test_record;
mod time;

pub use selection::{Batch, Selection};
pub use test_record::test_record;

use super::Rendered;
use super::route::Route;
use crate::block::BlockError;
use crate::block::columns::ReadingRow;
use crate::reading::{
    AnomalyScore, Epoch, Flags, NO_HASH, Outcome, PointId, Sequence, SequenceRange, Stream, TimeQuality, Value,
};
use crate::site::{DeviceTags, POINTS_MAX, PointKey, Registry};
use bytes::Bytes;
use json::Object;
use selection::Part;
use std::sync::Arc;

/// The version of the rendering that this program pins for new runs, and the only one there is so far.
pub const RENDER_VERSION: u8 = 1;

/// The version that each record carries as `v`: it changes only if a field changes its meaning, which none is to do.
const RECORD_VERSION: u64 = 1;

/// Memory set aside for a reading: a usual one with three tags is near 400 bytes.
const READING_BYTES_USUAL: usize = 448;

/// Most points whose constant parts are kept; each takes about 300 bytes, so 5 MB. With more points than that, all are made
/// anew from time to time.
const POINT_PARTS_MAX: usize = 16_384;

/// What a configuration says about the records of one sink.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// The tags of the devices.
    pub tags: Arc<DeviceTags>,
    /// Which records go to the sink.
    pub route: Route,
}

/// What rendering needs to know beside the blocks: the pinned configuration's share, and the names of the points.
#[derive(Clone, Debug)]
pub struct RenderContext {
    /// The gateway's name.
    pub gateway: String,
    /// The data directory's epoch.
    pub epoch: Epoch,
    /// The pinned configuration's share.
    pub view: View,
    /// What the points in blocks stand for.
    pub registry: Arc<Registry>,
}

/// Why a run cannot be rendered.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum RenderError {
    /// A newer program has pinned the run.
    #[error("rendering version {0} is not known to this program; start the newer one again that made the run")]
    Version(u8),
    /// A block cannot be read.
    #[error("{stream}/{range}: {error}")]
    Block {
        /// Its stream.
        stream: Stream,
        /// Its sequences.
        range: SequenceRange,
        /// What is wrong with it.
        error: BlockError,
    },
    /// A reading is of a point that the ledger does not have.
    #[error("reading {sequence} is of point {}, which the ledger does not have", point.0)]
    UnknownPoint {
        /// The point.
        point: PointId,
        /// The reading.
        sequence: Sequence,
    },
}

/// Renders records of one configuration; keeps what is the same in every record of a point.
#[derive(Debug)]
pub struct Renderer {
    context: RenderContext,
    /// `{"v":1,"gateway":"…","epoch":"…","seq":`.
    reading_head: Vec<u8>,
    /// By [`PointId`].
    points: Vec<Option<PointParts>>,
    points_kept: usize,
    /// `,"anomaly":0.9371` for each score; empty for unscored.
    anomalies: Vec<Vec<u8>>,
}

/// What is the same in every reading of a point, escaped once.
#[derive(Debug)]
struct PointParts {
    key: Arc<PointKey>,
    device: Arc<str>,
    /// `,"device":"…","point":"…"`.
    names: Box<[u8]>,
    /// `,"unit":"…"`, or empty.
    unit: Box<[u8]>,
    /// `,"tags":{…},"source":"…"`.
    tail: Box<[u8]>,
    /// Whether it goes to the sink.
    wanted: bool,
}

/// Records on their way: all in one buffer, cut apart at the end.
struct Sheet {
    out: Vec<u8>,
    ends: Vec<(Arc<str>, usize)>,
}

impl Renderer {
    /// A renderer as version `version` was, for a run that was pinned with it.
    ///
    /// # Errors
    /// If this program does not know the version.
    pub fn new(version: u8, context: RenderContext) -> Result<Self, RenderError> {
        if version != RENDER_VERSION {
            return Err(RenderError::Version(version));
        }
        let mut reading_head = Vec::new();
        let mut object = Object::begin(&mut reading_head);
        object.whole("v", RECORD_VERSION).text("gateway", &context.gateway).hex128("epoch", context.epoch.0);
        object.name("seq");
        let anomalies = (0..=u8::MAX).map(|score| anomaly_part(AnomalyScore(score))).collect();
        Ok(Self { context, reading_head, points: Vec::new(), points_kept: 0, anomalies })
    }

    /// The records of `part` in a selection, in order, each naming the batch, which is the whole run also while that is bisected.
    ///
    /// # Errors
    /// If a reading is of a point that nobody knows.
    pub fn render(
        &mut self,
        batch: &Batch,
        part: SequenceRange,
        selection: &Selection,
    ) -> Result<Vec<Rendered>, RenderError> {
        let tail = batch_part(batch);
        let mut sheet = Sheet { out: Vec::new(), ends: Vec::new() };
        for rows in &selection.parts {
            match rows {
                Part::Readings(time_quality, rows) => {
                    self.readings(&mut sheet, &tail, part, *time_quality, rows)?;
                }
                Part::Records(records) => {
                    let records = records.iter();
                    for record in records.filter(|record| (part.first..=part.last).contains(&record.sequence)) {
                        let key = records::render(&mut sheet.out, &self.context, &tail, record);
                        sheet.finish(key);
                    }
                }
            }
        }
        Ok(sheet.cut())
    }

    fn readings(
        &mut self,
        sheet: &mut Sheet,
        batch_part: &[u8],
        part: SequenceRange,
        time_quality: TimeQuality,
        rows: &[ReadingRow],
    ) -> Result<(), RenderError> {
        let mut dates = time::Dates::default();
        let first = rows.partition_point(|row| row.sequence < part.first);
        let end = rows.partition_point(|row| row.sequence <= part.last);
        let rows = rows.get(first..end).unwrap_or_default();
        sheet.out.reserve(rows.len().saturating_mul(READING_BYTES_USUAL));
        for row in rows {
            self.keep_parts(row.reading.point);
            let parts = self.points.get(row.reading.point.0 as usize).and_then(Option::as_ref);
            let Some(parts) = parts else {
                return Err(RenderError::UnknownPoint { point: row.reading.point, sequence: row.sequence });
            };
            let out = &mut sheet.out;
            out.extend_from_slice(&self.reading_head);
            json::put_whole(out, row.sequence);
            out.extend_from_slice(&parts.names);
            if let Some(observed_at_us) = row.reading.observed_at_us {
                out.extend_from_slice(b",\"observed_at\":");
                dates.put(out, observed_at_us);
            }
            out.extend_from_slice(b",\"received_at\":");
            dates.put(out, row.received_at_us);
            out.extend_from_slice(b",\"time_quality\":\"");
            out.extend_from_slice(time_quality.name().as_bytes());
            out.extend_from_slice(b"\",\"value\":");
            put_outcome(out, &row.reading.outcome);
            out.extend_from_slice(&parts.unit);
            out.extend_from_slice(b",\"quality\":\"");
            out.extend_from_slice(row.reading.quality.name().as_bytes());
            out.extend_from_slice(b"\",\"flags\":[");
            put_flags(out, row.reading.flags);
            out.push(b']');
            let anomaly = self.anomalies.get(usize::from(row.reading.score.0)).map_or(&[][..], Vec::as_slice);
            out.extend_from_slice(anomaly);
            if let Some(note) = &row.reading.note {
                let value = row.reading.outcome.as_ref().ok().and_then(Value::as_number);
                out.extend_from_slice(b",\"note\":");
                json::put_text(out, &note.words(value, &parts.key.unit));
            }
            out.extend_from_slice(&parts.tail);
            out.extend_from_slice(batch_part);
            if row.reading.message_hash != NO_HASH {
                out.extend_from_slice(b",\"message_hash\":");
                json::put_hex(out, u128::from(row.reading.message_hash), 8);
            }
            out.push(b'}');
            sheet.finish(parts.device.clone());
        }
        Ok(())
    }

    /// Whether a point goes to the sink; `None` if nobody knows the point.
    fn is_wanted(&mut self, id: PointId) -> Option<bool> {
        self.keep_parts(id);
        self.points.get(id.0 as usize)?.as_ref().map(|parts| parts.wanted)
    }

    /// Makes sure that the constant parts of a point are there, if anybody knows the point.
    fn keep_parts(&mut self, id: PointId) {
        let index = id.0 as usize;
        if self.points.get(index).is_some_and(Option::is_some) || index >= POINTS_MAX {
            return;
        }
        let Some(key) = self.context.registry.key(id) else { return };
        if self.points_kept >= POINT_PARTS_MAX {
            self.points.clear();
            self.points_kept = 0;
        }
        if self.points.len() <= index {
            self.points.resize_with(index + 1, || None);
        }
        if let Some(place) = self.points.get_mut(index) {
            *place = Some(PointParts::new(key, &self.context.view));
            self.points_kept += 1;
        }
    }
}

impl PointParts {
    fn new(key: Arc<PointKey>, view: &View) -> Self {
        let mut names = Vec::new();
        Object::resume(&mut names).text("device", &key.device).text("point", &key.point);
        let mut unit = Vec::new();
        if !key.unit.is_empty() {
            Object::resume(&mut unit).text("unit", &key.unit);
        }
        let mut tail = Vec::new();
        let mut object = Object::resume(&mut tail);
        object.object("tags", |object| {
            for (name, value) in view.tags.0.get(&*key.device).into_iter().flatten() {
                object.text(name, value);
            }
        });
        object.text("source", &key.source);
        let wanted = view.route.wants(&key.device, &key.point, &view.tags);
        Self { device: key.device.clone(), key, names: names.into(), unit: unit.into(), tail: tail.into(), wanted }
    }
}

impl Sheet {
    /// Ends the record that was just written.
    fn finish(&mut self, key: Arc<str>) {
        self.ends.push((key, self.out.len()));
    }

    fn cut(self) -> Vec<Rendered> {
        let whole = Bytes::from(self.out);
        let mut begin = 0;
        let cut = |(key, end)| {
            let json = whole.slice(begin..end);
            begin = end;
            Rendered { key, json }
        };
        self.ends.into_iter().map(cut).collect()
    }
}

/// `,"batch":"readings/4000-4499","batch_records":500`, and `,"lane":"history"` where there is one.
fn batch_part(batch: &Batch) -> Vec<u8> {
    let mut part = Vec::new();
    let mut object = Object::resume(&mut part);
    object.text("batch", &format!("{}/{}", batch.stream, batch.covers)).whole("batch_records", batch.records);
    if let Some(lane) = batch.lane {
        object.text("lane", lane);
    }
    if let Some(replay) = batch.replay {
        object.text("replay", &replay.to_string());
    }
    part
}

/// The value, or `null` with the reason why there is none.
fn put_outcome(out: &mut Vec<u8>, outcome: &Outcome) {
    match outcome {
        Ok(Value::Number(number)) => json::put_number(out, *number),
        Ok(Value::Integer(integer)) => out.extend_from_slice(itoa::Buffer::new().format(*integer).as_bytes()),
        Ok(Value::Boolean(boolean)) => out.extend_from_slice(if *boolean { b"true" } else { b"false" }),
        Ok(Value::Text(text)) => json::put_text(out, text),
        Err(absence) => {
            out.extend_from_slice(b"null,\"no_data\":\"");
            out.extend_from_slice(absence.name().as_bytes());
            out.push(b'"');
            if let crate::reading::NoData::Exception(code) = absence {
                out.extend_from_slice(b",\"exception\":");
                json::put_whole(out, u64::from(*code));
            }
        }
    }
}

fn put_flags(out: &mut Vec<u8>, flags: Flags) {
    for (position, name) in flags.names().enumerate() {
        out.extend_from_slice(if position == 0 { b"\"" } else { b",\"" });
        out.extend_from_slice(name.as_bytes());
        out.push(b'"');
    }
}

/// `,"anomaly":0.9371`: a score as 0..1 with four decimals. No score lies so near to the middle between two that the last
/// bit of a power, which machines may round differently, could show.
fn anomaly_part(score: AnomalyScore) -> Vec<u8> {
    let mut part = Vec::new();
    if score != AnomalyScore::default() {
        part.extend_from_slice(b",\"anomaly\":");
        json::put_number(&mut part, (score.as_unit() * 10_000.0).round() / 10_000.0);
    }
    part
}
