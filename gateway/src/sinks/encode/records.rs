//! Alerts, dead letters, gaps and missed as JSON.

use super::json::{self, Object};
use super::{RECORD_VERSION, RenderContext, time::Dates};
use crate::block::records::{Alert, DeadLetter, Gap, Missed, NumberedRecord, RecordBody};
use crate::reading::{NO_HASH, SequenceRange, UnixMicros};
use std::sync::Arc;

/// Digits of a record's id: text, since JSON readers that keep numbers as doubles would round it.
const ID_DIGITS: u32 = 16;

/// Writes one record; gives back what keeps its order.
pub(super) fn render(
    out: &mut Vec<u8>,
    context: &RenderContext,
    batch_part: &[u8],
    numbered: &NumberedRecord,
) -> Arc<str> {
    let record = &numbered.record;
    let kind = match &record.body {
        RecordBody::Alert(_) => "alert",
        RecordBody::DeadLetter(_) => "dead_letter",
        RecordBody::Gap(_) => "gap",
        RecordBody::Missed(_) => "missed",
    };
    let mut object = Object::begin(out);
    object.whole("v", RECORD_VERSION).text("kind", kind).text("gateway", &context.gateway);
    object.hex128("epoch", context.epoch.0).whole("seq", numbered.sequence);
    json::put_hex(object.name("id"), u128::from(record.id), ID_DIGITS);
    put_time(&mut object, "at", record.time_us);
    let key = match &record.body {
        RecordBody::Alert(alert) => put_alert(&mut object, alert),
        RecordBody::DeadLetter(letter) => put_dead_letter(&mut object, letter),
        RecordBody::Gap(gap) => put_gap(&mut object, gap),
        RecordBody::Missed(missed) => put_missed(&mut object, missed),
    };
    out.extend_from_slice(batch_part);
    out.push(b'}');
    key.into()
}

fn put_alert<'a>(object: &mut Object<'_>, alert: &'a Alert) -> &'a str {
    object.text("rule", &alert.rule).text("severity", alert.severity.name());
    object.text("subject", &alert.subject).text("message", &alert.message);
    if let Some(value) = alert.value {
        object.number("value", value);
    }
    object.boolean("raised", alert.raised);
    &alert.subject
}

fn put_dead_letter<'a>(object: &mut Object<'_>, letter: &'a DeadLetter) -> &'a str {
    object.text("source", &letter.source).text("position", &letter.position);
    object.text("error", &letter.error).text("rule", &letter.rule);
    object.whole("rule_version", u64::from(letter.config_version));
    // A part may begin or end inside a character; each part says for itself how it is written.
    if let Ok(text) = std::str::from_utf8(&letter.raw) {
        object.text("original", text).text("original_encoding", "utf8");
    } else {
        json::put_base64(object.name("original"), &letter.raw);
        object.text("original_encoding", "base64");
    }
    object.whole("original_bytes", u64::from(letter.raw_bytes));
    if let Some(sha256) = letter.raw_sha256 {
        object.text("original_sha256", &hex::encode(sha256));
    }
    object.whole("part", u64::from(letter.part)).whole("parts", u64::from(letter.parts));
    if letter.message_hash != NO_HASH {
        json::put_hex(object.name("message_hash"), u128::from(letter.message_hash), 8);
    }
    &letter.source
}

fn put_gap(object: &mut Object<'_>, gap: &Gap) -> &'static str {
    object.text("stream", gap.stream.name()).text("reason", gap.reason.name());
    put_range(object, gap.range);
    put_time(object, "first_time", gap.first_time_us);
    put_time(object, "last_time", gap.last_time_us);
    object.boolean("in_flight", gap.in_flight);
    let out = object.name("sinks");
    out.push(b'[');
    for (position, (sink, range)) in gap.sinks.iter().enumerate() {
        out.extend_from_slice(if position == 0 { b"" } else { b"," });
        let mut lost = Object::begin(out);
        lost.text("sink", sink);
        put_range(&mut lost, *range);
        lost.end();
    }
    out.push(b']');
    gap.stream.name()
}

fn put_missed<'a>(object: &mut Object<'_>, missed: &'a Missed) -> &'a str {
    object.text("source", &missed.source).text("position", &missed.position);
    object.text("reason", missed.reason.name()).whole("count", missed.count);
    &missed.source
}

fn put_range(object: &mut Object<'_>, range: SequenceRange) {
    object.whole("first", range.first).whole("last", range.last).whole("count", range.count());
}

fn put_time(object: &mut Object<'_>, name: &str, time_us: UnixMicros) {
    Dates::default().put(object.name(name), time_us);
}
