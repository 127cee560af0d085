//! What was lost and what never came, said in a person's words.

use crate::history::{RecordView, RecordWhat};
use crate::reading::UnixMicros;
use crate::web::locale::Locale;
use crate::web::words::Moment;

/// A gap as the page shows it.
pub(super) struct GapRow {
    pub(super) sequence: u64,
    pub(super) at: Moment,
    pub(super) tone: &'static str,
    pub(super) kind: &'static str,
    pub(super) headline: String,
    pub(super) why: String,
    pub(super) span: Option<(Moment, Moment)>,
    pub(super) sinks: Vec<(String, String)>,
    pub(super) in_flight: bool,
}

/// The row of a record of the gaps; nothing for any other record.
pub(super) fn row(record: &RecordView, now_us: UnixMicros, l: Locale) -> Option<GapRow> {
    let at = Moment::new(record.at_us, now_us, l);
    let base = GapRow {
        sequence: record.sequence,
        at,
        tone: "bad",
        kind: "lost",
        headline: String::new(),
        why: String::new(),
        span: None,
        sinks: Vec::new(),
        in_flight: false,
    };
    match &record.what {
        RecordWhat::Gap { stream, count, first_time_us, last_time_us, reason, sinks, in_flight, .. } => Some(GapRow {
            headline: lost(stream, *count, l),
            why: l.t(reason_lost(reason)).to_owned(),
            span: Some((Moment::new(*first_time_us, now_us, l), Moment::new(*last_time_us, now_us, l))),
            sinks: sinks
                .iter()
                .map(|loss| {
                    let count = loss.last.saturating_sub(loss.first).saturating_add(1);
                    (loss.sink.clone(), l.count(count))
                })
                .collect(),
            in_flight: *in_flight,
            ..base
        }),
        RecordWhat::Missed { source, position, count, reason } => {
            let place = if position.is_empty() { source.clone() } else { format!("{source} · {position}") };
            Some(GapRow {
                tone: "warn",
                kind: "never came",
                headline: l.f2("{} of {}", never_came(reason, *count, l), place),
                why: l.t(reason_missed(reason)).to_owned(),
                ..base
            })
        }
        RecordWhat::Alert { .. } | RecordWhat::DeadLetter { .. } => None,
    }
}

fn lost(stream: &str, count: u64, l: Locale) -> String {
    let words = match stream {
        "readings" => "{} readings",
        "dead-letters" => "{} dead letters",
        "alerts" => "{} alerts",
        "raw" => "{} raw payloads",
        _ => "{} records",
    };
    l.f1(words, l.count(count))
}

fn reason_lost(reason: &str) -> &'static str {
    match reason {
        "cap" => "The buffer was full and gave up its oldest.",
        "age" => "They were older than the configuration lets them get.",
        "corruption" => "The disk gave back something else than was written.",
        _ => "A sink refused a dead letter.",
    }
}

fn never_came(reason: &str, count: u64, l: Locale) -> String {
    let words = match reason {
        "poll_missed" => "{} polls",
        "overrun" => "{} bytes",
        _ => "{} messages",
    };
    l.f1(words, l.count(count))
}

fn reason_missed(reason: &str) -> &'static str {
    match reason {
        "poll_missed" => "They were not made in time: the gateway was busy, or the bus too slow.",
        "overrun" => "The line delivered faster than the gateway could take.",
        _ => "The sender's numbers have a hole.",
    }
}
