//! What checks and detectors said about a point in a time: short lists with their words.

use super::locate::part_between;
use super::tail::CALL_BLOCKS;
use super::{History, HistoryError};
use crate::block::columns::ReadingRow;
use crate::block::records::RecordBody;
use crate::reading::{Flags, Sequence, Stream, UnixMicros, Value};
use crate::site::PointKey;
use schemars::JsonSchema;
use serde::Serialize;

/// Most marks of a chart, the newest; more nobody tells apart.
pub const MARKS_MAX: usize = 500;

/// Blocks of alerts that a chart looks through, the newest: about 30 000 alerts.
const ALERT_BLOCKS_MAX: usize = 256;

/// What a mark is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MarkKind {
    /// A reading that a detector calls unusual.
    Anomaly,
    /// A reading outside the range that a check allows.
    Range,
    /// Some readings of a minute or column were flagged; which ones is seen closer up.
    Flagged,
    /// An alert was raised.
    AlertRaised,
    /// An alert is over.
    AlertOver,
}

/// A place in a chart that something is said about.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Mark {
    /// When, in microseconds since 1970.
    pub at_us: UnixMicros,
    /// What it is about.
    pub kind: MarkKind,
    /// The number that was flagged, if it was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// What was expected: the forecast, or the limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<f64>,
    /// The words for a person; empty where none are kept.
    pub words: String,
    /// How many readings it stands for.
    pub count: u64,
    /// The reading or the alert, by its place in its stream; nothing for a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<Sequence>,
    /// Which rule an alert is of: `range`, `anomaly`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
}

/// Marks as they are found: the newest [`MARKS_MAX`] stay.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Marks {
    /// The marks, ascending in time.
    pub list: Vec<Mark>,
    /// How many older ones are left out.
    pub left_out: u64,
}

impl Marks {
    /// Takes one in.
    pub(super) fn add(&mut self, mark: Mark) {
        self.list.push(mark);
        if self.list.len() >= 2 * MARKS_MAX {
            self.trim();
        }
    }

    /// Puts them in order and leaves out the oldest of too many.
    pub(super) fn trim(&mut self) {
        self.list.sort_by_key(|mark| (mark.at_us, mark.kind));
        let over = self.list.len().saturating_sub(MARKS_MAX);
        self.list.drain(..over);
        self.left_out += over as u64;
    }

    /// Takes in what was said about a reading.
    pub(super) fn add_reading(&mut self, row: &ReadingRow, unit: &str) {
        let reading = &row.reading;
        let kind = if reading.flags.contains(Flags::ANOMALY) {
            MarkKind::Anomaly
        } else if reading.flags.contains(Flags::OPERATING_RANGE) || reading.flags.contains(Flags::POSSIBLE_RANGE) {
            MarkKind::Range
        } else {
            return;
        };
        let value = reading.outcome.as_ref().ok().and_then(Value::as_number);
        self.add(Mark {
            at_us: row.received_at_us,
            kind,
            value,
            expected: reading.note.map(|note| f64::from(note.expected)),
            words: reading.note.map(|note| note.words(value, unit)).unwrap_or_default(),
            count: 1,
            sequence: Some(row.sequence),
            rule: None,
        });
    }

    /// Takes in that some readings of a column were flagged.
    pub(super) fn add_flagged(&mut self, at_us: UnixMicros, count: u64) {
        if count > 0 {
            let (value, expected, sequence, rule) = (None, None, None, None);
            let words = String::new();
            self.add(Mark { at_us, kind: MarkKind::Flagged, value, expected, words, count, sequence, rule });
        }
    }
}

impl History {
    /// Takes in the alerts about a point in a time, the newest [`ALERT_BLOCKS_MAX`] blocks of them.
    pub(super) async fn mark_alerts(
        &self,
        key: &PointKey,
        from_us: UnixMicros,
        to_us: UnixMicros,
        marks: &mut Marks,
    ) -> Result<(), HistoryError> {
        let subject = format!("{}/{}", key.device, key.point);
        let mut blocks_left = ALERT_BLOCKS_MAX;
        let stretches = self.buffer.stretches_between(Stream::Alerts, from_us, to_us).await?;
        for stretch in stretches.into_iter().rev() {
            let part = part_between(&self.buffer, Stream::Alerts, stretch, from_us, to_us).await?;
            let Some(part) = part else { continue };
            let mut at = part.first;
            while at <= part.last && blocks_left > 0 {
                let blocks = self.buffer.blocks(Stream::Alerts, at, CALL_BLOCKS).await?;
                let Some(end) = blocks.last().map(|block| block.range.last) else { break };
                blocks_left = blocks_left.saturating_sub(blocks.len());
                for record in blocks.iter().flat_map(|block| block.records().unwrap_or_default()) {
                    let at_us = record.record.time_us;
                    let RecordBody::Alert(alert) = record.record.body else { continue };
                    if alert.subject != subject || !(from_us..=to_us).contains(&at_us) {
                        continue;
                    }
                    marks.add(Mark {
                        at_us,
                        kind: if alert.raised { MarkKind::AlertRaised } else { MarkKind::AlertOver },
                        value: alert.value,
                        expected: None,
                        words: alert.message,
                        count: 1,
                        sequence: Some(record.sequence),
                        rule: Some(alert.rule),
                    });
                }
                at = end.saturating_add(1);
            }
        }
        Ok(())
    }
}
