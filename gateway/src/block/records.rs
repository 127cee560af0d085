//! The records of the streams alerts, dead letters and gaps, as they lie in a block.
//!
//! Each record is `[kind u8][id u64][time i64][length u32][payload]`; the payload is postcard of the struct that the kind
//! names. A struct here is frozen: a changed one is a new kind, so that an old reader skips what it does not know.

use super::columns::Frame;
use super::varint::Reader;
use super::{BLOCK_BYTES_MAX, Block, BlockError, BlockFlags, Draft, Layout, Meta, RECORDS_MAX};
use crate::reading::{Sequence, SequenceRange, Stream, UnixMicros};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Most raw bytes of one dead letter that are kept; the rest is told by length and SHA-256.
pub const RAW_BYTES_MAX: usize = 64 * 1024;

/// Most raw bytes in one record: larger ones are split over several records, so that a block stays within 6 KiB.
pub const RAW_PART_BYTES_MAX: usize = 4 * 1024;

/// A record of one of the streams alerts, dead letters, gaps.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The same event has the same id, however often it is written: recovery repeats, readers recognise.
    pub id: u64,
    /// When it happened.
    pub time_us: UnixMicros,
    /// What happened.
    pub body: RecordBody,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq)]
pub enum RecordBody {
    /// Someone should know.
    Alert(Alert),
    /// Something could not become a reading, or was refused upstream.
    DeadLetter(DeadLetter),
    /// Something accepted was lost.
    Gap(Gap),
    /// Something never came in.
    Missed(Missed),
}

impl RecordBody {
    /// The stream it belongs to.
    #[must_use]
    pub fn stream(&self) -> Stream {
        match self {
            Self::Alert(_) => Stream::Alerts,
            Self::DeadLetter(_) => Stream::DeadLetters,
            Self::Gap(_) | Self::Missed(_) => Stream::Gaps,
        }
    }
}

/// How much an alert matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Severity {
    /// Good to know.
    Info,
    /// Look at it soon.
    Warning,
    /// Look at it now.
    Error,
}

impl Severity {
    /// The name used in JSON and on the page.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// Someone should know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// Which rule or part spoke: `anomaly`, `range`, `source`, `sink`, `buffer`.
    pub rule: String,
    /// How much it matters.
    pub severity: Severity,
    /// What it is about: `boiler-3/supply_temp`, or a source's or sink's name.
    pub subject: String,
    /// A sentence for a person.
    pub message: String,
    /// The value that raised it, if a value did.
    pub value: Option<f64>,
    /// False when the trouble is over.
    pub raised: bool,
}

/// Something could not become a reading, or was refused upstream. Large raw bytes are split over several records.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// The source's name.
    pub source: String,
    /// Where in the source: a topic, unit and register, byte position, or the reading's stream and sequence.
    pub position: String,
    /// Why, for a person.
    pub error: String,
    /// Which check, decoder or sink refused it.
    pub rule: String,
    /// Version of the configuration whose rule spoke.
    pub config_version: u32,
    /// This record's part of the raw bytes.
    pub raw: Vec<u8>,
    /// Which part this is, counted from 0.
    pub part: u16,
    /// How many parts there are.
    pub parts: u16,
    /// Length of the whole, in bytes, also where it was truncated.
    pub raw_bytes: u32,
    /// SHA-256 of the whole, where it was truncated.
    pub raw_sha256: Option<[u8; 32]>,
    /// Hash of the message it came in, to recognise a redelivery; 0 if the source cannot redeliver.
    pub message_hash: u32,
}

/// Why something accepted was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GapReason {
    /// The buffer was full and gave up its oldest.
    Cap,
    /// It was older than it may get.
    Age,
    /// The disk gave back something else than was written.
    Corruption,
    /// A sink refused a dead letter.
    RefusedDeadLetter,
}

impl GapReason {
    /// The name used in JSON and on the page.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cap => "cap",
            Self::Age => "age",
            Self::Corruption => "corruption",
            Self::RefusedDeadLetter => "refused_dead_letter",
        }
    }
}

/// Accepted records that were lost before a sink had them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gap {
    /// The stream that has the hole.
    pub stream: Stream,
    /// The lost sequences.
    pub range: SequenceRange,
    /// Time of the first lost record, as far as it is known.
    pub first_time_us: UnixMicros,
    /// Time of the last lost record, as far as it is known.
    pub last_time_us: UnixMicros,
    /// Why.
    pub reason: GapReason,
    /// The sinks that did not have them yet, with the sequences that each lost; empty sequences are left out.
    pub sinks: Vec<(String, SequenceRange)>,
    /// A sink had an attempt under way whose outcome is unknown: it may hold some of them.
    pub in_flight: bool,
}

/// Why something never came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MissedReason {
    /// A poll was not made in time: the gateway was busy, or the bus too slow.
    PollMissed,
    /// The line delivered faster than the gateway could take.
    Overrun,
    /// The sender's sequence has a hole.
    SenderGap,
}

impl MissedReason {
    /// The name used in JSON and on the page.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::PollMissed => "poll_missed",
            Self::Overrun => "overrun",
            Self::SenderGap => "sender_gap",
        }
    }
}

/// Something that never came in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Missed {
    /// The source's name.
    pub source: String,
    /// Where in the source: unit, port.
    pub position: String,
    /// How many: polls, frames, bytes, as the reason says.
    pub count: u64,
    /// Why.
    pub reason: MissedReason,
}

/// A record with its place in its stream.
#[derive(Clone, Debug, PartialEq)]
pub struct NumberedRecord {
    /// Its sequence.
    pub sequence: Sequence,
    /// The record.
    pub record: Record,
}

const ALERT: u8 = 1;
const DEAD_LETTER: u8 = 2;
const GAP: u8 = 3;
const MISSED: u8 = 4;

/// Level of compression: records are few, and raw bytes are worth the time.
const ZSTD_LEVEL: i32 = 3;

/// Longest text field of a record, in bytes; longer ones are cut, so that every record fits a block.
pub const TEXT_FIELD_BYTES_MAX: usize = 400;

/// Cuts a text to what a record's field may hold, at a character's edge.
#[must_use]
pub fn field(text: &str) -> String {
    let mut end = text.len().min(TEXT_FIELD_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}

/// What is kept of bytes that nobody could read: cut at [`RAW_BYTES_MAX`], then length and SHA-256 tell what the whole was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawBytes {
    /// The beginning, or all of them.
    kept: Vec<u8>,
    /// Length of the whole.
    whole_bytes: u32,
    /// Of the whole, where it was cut.
    sha256: Option<[u8; 32]>,
}

impl RawBytes {
    /// What is kept of these.
    #[must_use]
    pub fn of(raw: &[u8]) -> Self {
        let kept = raw.get(..RAW_BYTES_MAX).unwrap_or(raw);
        Self {
            kept: kept.to_vec(),
            whole_bytes: u32::try_from(raw.len()).unwrap_or(u32::MAX),
            sha256: (kept.len() < raw.len()).then(|| Sha256::digest(raw).into()),
        }
    }

    /// The bytes that are kept.
    #[must_use]
    pub fn kept(&self) -> &[u8] {
        &self.kept
    }
}

/// Splits raw bytes over as many dead letters as their size needs. All parts share id and time.
#[must_use]
pub fn dead_letters(id: u64, time_us: UnixMicros, letter: &DeadLetter, raw: &RawBytes) -> Vec<Record> {
    let kept = raw.kept();
    let parts = kept.len().div_ceil(RAW_PART_BYTES_MAX).max(1);
    let part = |part: usize| {
        let from = part * RAW_PART_BYTES_MAX;
        let until = kept.len().min(from + RAW_PART_BYTES_MAX);
        let body = DeadLetter {
            source: field(&letter.source),
            position: field(&letter.position),
            error: field(&letter.error),
            rule: field(&letter.rule),
            raw: kept.get(from..until).unwrap_or_default().to_vec(),
            // RAW_BYTES_MAX keeps the parts few; a payload of 4 GiB is refused long before.
            part: u16::try_from(part).unwrap_or(u16::MAX),
            parts: u16::try_from(parts).unwrap_or(u16::MAX),
            raw_bytes: raw.whole_bytes,
            raw_sha256: raw.sha256,
            ..*letter
        };
        // Each part is a record of its own: its id must be, too.
        Record { id: id.wrapping_add(part as u64), time_us, body: RecordBody::DeadLetter(body) }
    };
    (0..parts).map(part).collect()
}

/// Encodes records into drafts, one or more for each stream, in order within each stream.
///
/// # Errors
/// If the compressor fails, which it does for want of memory only.
pub fn encode(records: &[Record], frame: &Frame) -> std::io::Result<Vec<Draft>> {
    let mut drafts = Vec::new();
    for stream in [Stream::Alerts, Stream::Gaps, Stream::DeadLetters] {
        let mut open = Open::default();
        for record in records.iter().filter(|record| record.body.stream() == stream) {
            let bytes = record_bytes(record);
            if open.count == RECORDS_MAX || (open.count > 0 && open.body.len() + bytes.len() > BODY_BYTES_MAX) {
                drafts.push(std::mem::take(&mut open).close(stream, frame)?);
            }
            open.add(record.time_us, &bytes);
        }
        if open.count > 0 {
            drafts.push(open.close(stream, frame)?);
        }
    }
    Ok(drafts)
}

/// Unpacked records of one block: they may not shrink at all, and must fit all the same.
const BODY_BYTES_MAX: usize = BLOCK_BYTES_MAX - 256;

#[derive(Default)]
struct Open {
    body: Vec<u8>,
    count: usize,
    times: Option<(UnixMicros, UnixMicros)>,
}

impl Open {
    fn add(&mut self, time_us: UnixMicros, bytes: &[u8]) {
        self.body.extend_from_slice(bytes);
        self.count += 1;
        let (first, last) = self.times.unwrap_or((time_us, time_us));
        self.times = Some((first.min(time_us), last.max(time_us)));
    }

    fn close(self, stream: Stream, frame: &Frame) -> std::io::Result<Draft> {
        let (first_time_us, last_time_us) = self.times.unwrap_or_default();
        let meta = Meta {
            stream,
            layout: Layout::Records,
            time_quality: frame.base.quality,
            flags: BlockFlags::default(),
            count: u16::try_from(self.count).unwrap_or(u16::MAX),
            config_version: frame.config_version,
            boot_id: frame.boot_id,
            mono_base_us: frame.base.mono_us,
            wall_base_us: frame.base.wall_us,
            first_time_us,
            last_time_us,
            unpacked_bytes: u32::try_from(self.body.len()).unwrap_or(u32::MAX),
        };
        Ok(Draft { meta, body: zstd::bulk::compress(&self.body, ZSTD_LEVEL)?, points: Vec::new() })
    }
}

fn record_bytes(record: &Record) -> Vec<u8> {
    let (kind, payload) = match &record.body {
        RecordBody::Alert(alert) => (ALERT, postcard::to_stdvec(alert)),
        RecordBody::DeadLetter(letter) => (DEAD_LETTER, postcard::to_stdvec(letter)),
        RecordBody::Gap(gap) => (GAP, postcard::to_stdvec(gap)),
        RecordBody::Missed(missed) => (MISSED, postcard::to_stdvec(missed)),
    };
    // Plain structs of numbers and strings always serialise.
    let payload = payload.unwrap_or_default();
    let mut bytes = Vec::with_capacity(21 + payload.len());
    bytes.push(kind);
    bytes.extend_from_slice(&record.id.to_le_bytes());
    bytes.extend_from_slice(&record.time_us.to_le_bytes());
    bytes.extend_from_slice(&u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes());
    bytes.extend_from_slice(&payload);
    bytes
}

impl Block {
    /// The records of a block of records, in order. Kinds that this program does not know are left out; their sequences stay taken.
    ///
    /// # Errors
    /// If it is not a block of records, or its body makes no sense.
    pub fn records(&self) -> Result<Vec<NumberedRecord>, BlockError> {
        if self.meta.layout != Layout::Records {
            return Err(BlockError::Body("it holds no records"));
        }
        let body = self.unpack()?;
        let mut reader = Reader(&body);
        let mut records = Vec::new();
        for sequence in self.range.first..=self.range.last {
            let kind = reader.byte()?;
            let id = u64::from_le_bytes(reader.array()?);
            let time_us = i64::from_le_bytes(reader.array()?);
            let length = u32::from_le_bytes(reader.array()?) as usize;
            let payload = reader.bytes(length)?;
            let unreadable = |_| BlockError::Body("a record cannot be read");
            let body = match kind {
                ALERT => RecordBody::Alert(postcard::from_bytes(payload).map_err(unreadable)?),
                DEAD_LETTER => RecordBody::DeadLetter(postcard::from_bytes(payload).map_err(unreadable)?),
                GAP => RecordBody::Gap(postcard::from_bytes(payload).map_err(unreadable)?),
                MISSED => RecordBody::Missed(postcard::from_bytes(payload).map_err(unreadable)?),
                _ => continue,
            };
            records.push(NumberedRecord { sequence, record: Record { id, time_us, body } });
        }
        Ok(records)
    }
}
