//! The live cards of the buffer: what waits for whom, how full it is, and what is written to the card.

use crate::reading::Stream;
use crate::web::locale::Locale;
use crate::web::screens::board_card::{lifetime, outlook, percent};
use crate::web::snapshot::{SinkView, Snapshot};
use crate::web::words::Moment;
use askama::Template;

/// From here on a part of the buffer is said to fill up, in percent: there is time to do something.
const FILLING_PERCENT: u64 = 75;

/// From here on it is said to be nearly full, in percent.
const NEARLY_FULL_PERCENT: u64 = 92;

/// Waiting readings within this many seconds of intake are the normal beat of commits and runs, not a backlog.
const IN_STEP_SECONDS: f64 = 3.0;

/// What waits, for each sink.
#[derive(Template)]
#[template(path = "see/waits.html")]
struct Waits {
    l: Locale,
    storing: bool,
    rows: Vec<Wait>,
}

struct Wait {
    name: String,
    address: String,
    tone: &'static str,
    state: &'static str,
    count: String,
    says: String,
    oldest: Option<Moment>,
    others: String,
    delivered: String,
}

/// How full the buffer is, as a whole and by part.
#[derive(Template)]
#[template(path = "see/fill.html")]
struct Fill {
    l: Locale,
    all: Bar,
    parts: Vec<Bar>,
    free: String,
    free_min: String,
    oldest: Option<Moment>,
    chunks: String,
    aside: Option<String>,
}

struct Bar {
    name: &'static str,
    said: String,
    percent: u64,
    percent_said: String,
    tone: &'static str,
    word: &'static str,
}

/// What is written to the card.
#[derive(Template)]
#[template(path = "see/card.html")]
struct Card {
    l: Locale,
    headline: String,
    tone: &'static str,
    facts: Vec<(&'static str, String)>,
}

/// The card of what waits.
pub(super) fn waits(snapshot: &Snapshot, l: Locale) -> askama::Result<String> {
    let intake: f64 = snapshot.sources.iter().filter_map(|source| source.accepted_per_second).sum();
    let rows = snapshot.sinks.iter().map(|sink| wait(sink, snapshot, intake, l)).collect();
    Waits { l, storing: snapshot.buffer.is_storing, rows }.render()
}

fn wait(sink: &SinkView, snapshot: &Snapshot, intake: f64, l: Locale) -> Wait {
    let lane = sink.readings();
    let behind = lane.undelivered as f64 > intake * IN_STEP_SECONDS;
    let stands = matches!(sink.health.state, "down" | "paused");
    let (tone, state) = match (stands, behind) {
        (true, _) => ("bad", if sink.health.state == "paused" { "paused" } else { "not delivering" }),
        (false, true) => ("warn", "behind"),
        (false, false) => ("good", "in step"),
    };
    let drain = outlook(sink, l);
    let says = match () {
        () if lane.undelivered == 0 => l.t("nothing waits; all is delivered").to_owned(),
        () if !behind => l.t("readings on their way").to_owned(),
        () if drain.is_empty() => l.t("readings wait").to_owned(),
        () => format!("{} · {drain}", l.t("readings wait")),
    };
    let other = |stream: Stream, one: &'static str| {
        let waits = sink.streams.get(stream.name()).map_or(0, |lane| lane.undelivered);
        (waits > 0).then(|| format!("{} {}", l.count(waits), l.t(one)))
    };
    let others: Vec<String> =
        [(Stream::Alerts, "alerts"), (Stream::DeadLetters, "dead letters"), (Stream::Gaps, "records of gaps")]
            .into_iter()
            .filter_map(|(stream, word)| other(stream, word))
            .collect();
    Wait {
        name: sink.name.clone(),
        address: crate::web::pages::path("/upstream/", &sink.name),
        tone,
        state,
        count: l.count(lane.undelivered),
        says,
        oldest: lane.oldest_us.filter(|_| behind).map(|at_us| Moment::new(at_us, snapshot.now_us, l)),
        others: if others.is_empty() { String::new() } else { l.f1("also waiting: {}", others.join(", ")) },
        delivered: sink.delivered_per_second.map_or_else(String::new, |rate| l.f1("delivers {}", l.rate(rate))),
    }
}

/// The card of how full it is.
pub(super) fn fill(snapshot: &Snapshot, l: Locale) -> askama::Result<String> {
    let buffer = &snapshot.buffer;
    let named =
        [("readings", "Readings"), ("letters", "Dead letters"), ("vital", "Alerts and gaps"), ("raw", "Raw payloads")];
    let part = |(key, name): (&str, &'static str)| {
        let [used, most] = buffer.parts.get(key).copied()?;
        (most > 0).then(|| bar(name, used, most, l))
    };
    let aside = (buffer.quarantine_bytes > 0).then(|| l.bytes(buffer.quarantine_bytes));
    Fill {
        l,
        all: bar("The whole buffer", buffer.disk_bytes, buffer.disk_bytes_max, l),
        parts: named.into_iter().filter_map(part).collect(),
        free: l.bytes(buffer.free_bytes),
        free_min: l.bytes(buffer.free_bytes_min),
        oldest: buffer.oldest_time_us.map(|at_us| Moment::new(at_us, snapshot.now_us, l)),
        chunks: l.count(buffer.chunks),
        aside,
    }
    .render()
}

fn bar(name: &'static str, used: u64, most: u64, l: Locale) -> Bar {
    let percent = percent(used, most);
    let (tone, word) = match percent {
        NEARLY_FULL_PERCENT.. => ("bad", "nearly full"),
        FILLING_PERCENT.. => ("warn", "filling up"),
        _ => ("good", "room enough"),
    };
    // A little is not nothing.
    let percent_said = if percent == 0 && used > 0 { "< 1".to_owned() } else { percent.to_string() };
    Bar { name, said: l.bytes_of(used, most), percent, percent_said, tone, word }
}

/// The card of what is written.
pub(super) fn card(snapshot: &Snapshot, l: Locale) -> askama::Result<String> {
    let buffer = &snapshot.buffer;
    let bytes = |name, bytes: Option<u64>| bytes.map(|bytes| (name, l.bytes(bytes)));
    let facts = [
        bytes("The gateway writes a day", buffer.written_bytes_per_day),
        bytes("All programs write a day", buffer.device_written_bytes_per_day),
        bytes("Written for each reading", buffer.written_bytes_per_reading),
        bytes("Written since the start", buffer.written_bytes),
    ];
    let (tone, headline) = match buffer.card_days {
        Some(days @ 0..365) => ("warn", l.f1("At this rate a new card lasts {}", lifetime(days, l))),
        Some(days) => ("good", l.f1("At this rate a new card lasts {}", lifetime(days, l))),
        None => ("", l.t("How long the card lasts is not known.").to_owned()),
    };
    Card { l, headline, tone, facts: facts.into_iter().flatten().collect() }.render()
}
