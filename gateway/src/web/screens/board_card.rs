//! The card of the overview that says what is on the board: what waits, how full the buffer is, what became of what came in.

use crate::reading::Stream;
use crate::web::locale::Locale;
use crate::web::snapshot::{SinkView, Snapshot, SourceView};
use crate::web::words::Moment;
use askama::Template;

/// Waiting readings within this many seconds of intake are the normal beat of commits and runs, not a backlog.
const IN_STEP_SECONDS: f64 = 3.0;

/// A backlog that changes by less a second stands still, as far as a person is concerned.
const OUTLOOK_PER_SECOND: f64 = 0.5;

/// What is written a day is told once it was measured for so long: a start writes more than the day after it.
const MEASURED_LEAST_US: i64 = 3_600_000_000;

/// The card.
#[derive(Template)]
#[template(path = "board_card.html")]
pub(in crate::web) struct BoardCard {
    l: Locale,
    is_storing: bool,
    waiting: String,
    waiting_words: String,
    oldest: Option<Moment>,
    outlook: String,
    used: String,
    used_percent: u64,
    facts: Vec<(&'static str, String, bool)>,
}

impl BoardCard {
    /// The card at one moment.
    pub(in crate::web) fn new(snapshot: &Snapshot, l: Locale) -> Self {
        let buffer = &snapshot.buffer;
        let slowest = snapshot.sinks.iter().max_by_key(|sink| sink.readings().undelivered);
        let waiting = slowest.map_or(0, |sink| sink.readings().undelivered);
        let intake: f64 = snapshot.sources.iter().filter_map(|source| source.accepted_per_second).sum();
        let behind = waiting as f64 > intake * IN_STEP_SECONDS;
        Self {
            l,
            is_storing: buffer.is_storing,
            waiting: l.count(waiting),
            waiting_words: match slowest {
                Some(sink) if waiting > 0 && behind => l.f1("readings waiting for {}", &sink.name),
                Some(sink) if waiting > 0 => l.f1("readings on the way to {}", &sink.name),
                Some(_) => l.t("readings waiting · all delivered").to_owned(),
                None => l.t("readings waiting · no way upstream is configured").to_owned(),
            },
            oldest: buffer.oldest_waiting_us.filter(|_| behind).map(|at_us| Moment::new(at_us, snapshot.now_us, l)),
            outlook: slowest.filter(|_| behind).map_or_else(String::new, |sink| outlook(sink, l)),
            used: l.bytes_of(buffer.disk_bytes, buffer.disk_bytes_max),
            used_percent: percent(buffer.disk_bytes, buffer.disk_bytes_max),
            facts: facts(snapshot, l),
        }
    }
}

fn facts(snapshot: &Snapshot, l: Locale) -> Vec<(&'static str, String, bool)> {
    let buffer = &snapshot.buffer;
    let total = |pick: fn(&SourceView) -> u64| snapshot.sources.iter().map(pick).sum::<u64>();
    let kept = |stream: Stream| buffer.streams.get(stream.name()).map_or(0, |ends| ends.next);
    let lost = snapshot.sinks.iter().map(|sink| sink.readings().gaps).max().unwrap_or(0);
    let mut facts = vec![
        ("Accepted so far", l.count(total(|source| source.accepted)), false),
        ("Flagged by a check", l.count(snapshot.flagged), false),
        ("Dead letters", l.count(kept(Stream::DeadLetters)), false),
        ("Never came in", l.count(total(|source| source.missed)), false),
        ("Lost once accepted", l.count(lost), true),
    ];
    let measured_us = snapshot.now_us.saturating_sub(snapshot.started_us);
    if let Some(bytes) = buffer.written_bytes_per_day.filter(|_| measured_us >= MEASURED_LEAST_US) {
        facts.push(("The gateway writes a day", l.bytes(bytes), false));
    }
    if let Some(days) = buffer.card_days {
        facts.push(("The card lasts at this rate", lifetime(days, l), false));
    }
    if buffer.quarantine_bytes > 0 {
        facts.push(("Set aside, unreadable", l.bytes(buffer.quarantine_bytes), true));
    }
    facts
}

/// How long a card lasts: nobody plans it by the day.
pub(in crate::web) fn lifetime(days: u64, l: Locale) -> String {
    match days {
        0..=59 => l.f1("{} days", days),
        60..=729 => l.f1("about {} months", days / 30),
        730..=36_524 => l.f1("about {} years", days / 365),
        _ => l.t("over 100 years").to_owned(),
    }
}

/// Where the backlog is heading. Only deliveries empty it: what is lost shrinks it, too, and a sink that stands still may
/// have delivered a moment ago.
pub(in crate::web) fn outlook(sink: &SinkView, l: Locale) -> String {
    let Some(growth) = sink.backlog_growth_per_second else { return String::new() };
    let draining = -growth - sink.lost_per_second.unwrap_or_default();
    let delivers = matches!(sink.health.state, "live" | "degraded");
    if delivers && draining > OUTLOOK_PER_SECOND {
        let waiting = sink.readings().undelivered as f64;
        #[expect(clippy::cast_possible_truncation, reason = "a float becomes its nearest bound")]
        let left_us = (waiting / draining * 1e6) as i64;
        l.f1("empty in about {}", l.span(left_us))
    } else if growth > OUTLOOK_PER_SECOND {
        l.f1("growing by {}", l.rate(growth))
    } else {
        String::new()
    }
}

/// A part in percent of the whole.
pub(in crate::web) fn percent(part: u64, whole: u64) -> u64 {
    u64::try_from(u128::from(part) * 100 / u128::from(whole.max(1))).map_or(100, |percent| percent.min(100))
}
