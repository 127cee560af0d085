//! The records of the streams alerts, dead letters and gaps, as they lie in a block.
//!
//! Each record is `[kind u8][id u64][time i64][length u32][payload]`; the payload is postcard of the struct that the kind
//! names. A struct here is frozen: a changed one is a new kind, so that an old reader skips what it does not know.

use crate::reading::{Sequence, SequenceRange, Stream, UnixMicros};
use serde::{Deserialize, Serialize};

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

/// The first sequence and time a reader needs to name a record: used where records are listed.
#[derive(Clone, Debug, PartialEq)]
pub struct NumberedRecord {
    /// Its sequence.
    pub sequence: Sequence,
    /// The record.
    pub record: Record,
}
