//! Records of the streams alerts, dead letters and gaps, as people and programs read them.

use crate::block::records::{DeadLetter, NumberedRecord, RecordBody};
use crate::reading::{Sequence, UnixMicros};
use schemars::JsonSchema;
use serde::Serialize;

/// Raw bytes of a dead letter shown in a list.
pub(super) const EXCERPT_BYTES_MAX: usize = 256;

/// A record.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct RecordView {
    /// Its place in its stream.
    pub sequence: Sequence,
    /// The same event has the same id, however often it is written; 16 hexadecimal digits.
    pub id: String,
    /// When it happened, in microseconds since 1970.
    pub at_us: UnixMicros,
    /// What happened.
    #[serde(flatten)]
    pub what: RecordWhat,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum RecordWhat {
    /// Someone should know.
    Alert {
        /// Which rule or part spoke.
        rule: String,
        /// `info`, `warning`, `error`.
        severity: &'static str,
        /// What it is about: `boiler-3/supply_temp`, or a source's or sink's name.
        subject: String,
        /// A sentence for a person.
        message: String,
        /// The value that raised it, if a value did.
        value: Option<f64>,
        /// False when the trouble is over.
        raised: bool,
    },
    /// Something could not become a reading, or was refused upstream.
    DeadLetter {
        /// The source's name.
        source: String,
        /// Where in the source: a topic, unit and register, byte position.
        position: String,
        /// Why, for a person.
        error: String,
        /// Which check, decoder or sink refused it.
        rule: String,
        /// Version of the configuration whose rule spoke.
        config_version: u32,
        /// How many records it is split over.
        parts: u16,
        /// What came, or its beginning.
        raw: RawView,
    },
    /// Something accepted was lost before a sink had it.
    Gap {
        /// The stream that has the hole.
        stream: &'static str,
        /// The first lost sequence.
        first: Sequence,
        /// The last lost sequence.
        last: Sequence,
        /// How many.
        count: u64,
        /// Time of the first lost record, as far as it is known.
        first_time_us: UnixMicros,
        /// Time of the last lost record, as far as it is known.
        last_time_us: UnixMicros,
        /// `cap`, `age`, `corruption`, `refused_dead_letter`.
        reason: &'static str,
        /// What each sink lost.
        sinks: Vec<SinkLoss>,
        /// A sink may hold some of them: an attempt was under way whose outcome is unknown.
        in_flight: bool,
    },
    /// Something never came in.
    Missed {
        /// The source's name.
        source: String,
        /// Where in the source: unit, port.
        position: String,
        /// How many polls, frames or bytes.
        count: u64,
        /// `poll_missed`, `overrun`, `sender_gap`.
        reason: &'static str,
    },
}

/// What a sink lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SinkLoss {
    /// The sink.
    pub sink: String,
    /// The first sequence that it lost.
    pub first: Sequence,
    /// The last.
    pub last: Sequence,
}

/// Bytes that nobody could read, as text and as numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RawView {
    /// As text, where what is shown is UTF-8 without control characters but tabs and line ends.
    pub text: Option<String>,
    /// As hexadecimal digits.
    pub hex: String,
    /// How many bytes are shown.
    pub shown_bytes: u64,
    /// How many bytes came.
    pub bytes: u64,
    /// SHA-256 of all of them, where not all were kept.
    pub sha256: Option<String>,
}

impl RawView {
    /// At most `bytes_max` of what a dead letter kept.
    #[must_use]
    pub fn of(letter: &DeadLetter, kept: &[u8], bytes_max: usize) -> Self {
        let shown = kept.get(..bytes_max).unwrap_or(kept);
        // A cut may go through a character.
        let readable = match std::str::from_utf8(shown) {
            Ok(text) => Some(text),
            Err(error) if error.error_len().is_none() => {
                shown.get(..error.valid_up_to()).and_then(|whole| std::str::from_utf8(whole).ok())
            }
            Err(_) => None,
        };
        let is_plain = |text: &&str| text.chars().all(|c| !c.is_control() || matches!(c, '\t' | '\n' | '\r'));
        Self {
            text: readable.filter(is_plain).map(str::to_owned),
            hex: hex::encode(shown),
            shown_bytes: shown.len() as u64,
            bytes: u64::from(letter.raw_bytes),
            sha256: letter.raw_sha256.map(hex::encode),
        }
    }
}

impl RecordView {
    /// The record as it is in a list.
    #[must_use]
    pub fn of(numbered: NumberedRecord) -> Self {
        let NumberedRecord { sequence, record } = numbered;
        let what = match record.body {
            RecordBody::Alert(alert) => RecordWhat::Alert {
                rule: alert.rule,
                severity: alert.severity.name(),
                subject: alert.subject,
                message: alert.message,
                value: alert.value,
                raised: alert.raised,
            },
            RecordBody::DeadLetter(letter) => letter_view(letter, EXCERPT_BYTES_MAX),
            RecordBody::Gap(gap) => RecordWhat::Gap {
                stream: gap.stream.name(),
                first: gap.range.first,
                last: gap.range.last,
                count: gap.range.count(),
                first_time_us: gap.first_time_us,
                last_time_us: gap.last_time_us,
                reason: gap.reason.name(),
                in_flight: gap.in_flight,
                sinks: gap
                    .sinks
                    .into_iter()
                    .map(|(sink, range)| SinkLoss { sink, first: range.first, last: range.last })
                    .collect(),
            },
            RecordBody::Missed(missed) => RecordWhat::Missed {
                source: missed.source,
                position: missed.position,
                count: missed.count,
                reason: missed.reason.name(),
            },
        };
        Self { sequence, id: format!("{:016x}", record.id), at_us: record.time_us, what }
    }

    /// The source, sink or point that it is about.
    #[must_use]
    pub fn subject(&self) -> &str {
        match &self.what {
            RecordWhat::Alert { subject, .. } => subject,
            RecordWhat::DeadLetter { source, .. } | RecordWhat::Missed { source, .. } => source,
            RecordWhat::Gap { stream, .. } => stream,
        }
    }

    /// Whether a text stands in any of its words, whatever the case; `needle` is in lower case.
    #[must_use]
    pub fn contains(&self, needle: &str) -> bool {
        let has = |text: &str| text.to_lowercase().contains(needle);
        match &self.what {
            RecordWhat::Alert { rule, severity, subject, message, .. } => {
                [rule.as_str(), severity, subject, message].into_iter().any(has)
            }
            RecordWhat::DeadLetter { source, position, error, rule, raw, .. } => {
                [source, position, error, rule].into_iter().any(|text| has(text))
                    || raw.text.as_deref().is_some_and(has)
            }
            RecordWhat::Gap { stream, reason, sinks, .. } => {
                has(stream) || has(reason) || sinks.iter().any(|loss| has(&loss.sink))
            }
            RecordWhat::Missed { source, position, reason, .. } => has(source) || has(position) || has(reason),
        }
    }

    /// A sentence for a person, where the record has one.
    #[must_use]
    pub fn words(&self) -> &str {
        match &self.what {
            RecordWhat::Alert { message, .. } => message,
            RecordWhat::DeadLetter { error, .. } => error,
            RecordWhat::Gap { reason, .. } | RecordWhat::Missed { reason, .. } => reason,
        }
    }
}

/// A dead letter with so many of its bytes.
pub(super) fn letter_view(letter: DeadLetter, bytes_max: usize) -> RecordWhat {
    let raw = RawView::of(&letter, &letter.raw, bytes_max);
    RecordWhat::DeadLetter {
        source: letter.source,
        position: letter.position,
        error: letter.error,
        rule: letter.rule,
        config_version: letter.config_version,
        parts: letter.parts,
        raw,
    }
}
