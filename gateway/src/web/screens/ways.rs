//! Sources and ways upstream as lists: on the overview, and on the screens of their own.

pub(in crate::web) mod bus;
pub(in crate::web) mod detail;
pub(in crate::web) mod draft;
pub(in crate::web) mod edit;
pub(in crate::web) mod fields;
pub(in crate::web) mod found;
pub(in crate::web) mod jobs;
pub(in crate::web) mod pages;
pub(in crate::web) mod pasting;
pub(in crate::web) mod posted;
pub(in crate::web) mod replays;
pub(in crate::web) mod routes;
pub(in crate::web) mod searching;
pub(in crate::web) mod typed;

use crate::web::locale::Locale;
use crate::web::pages::{path, query};
use crate::web::screens::point::no_data_words;
use crate::web::snapshot::{HealthView, RefusedPoints, SinkView, Snapshot, SourceView};
use crate::web::words::{Moment, sentences};
use askama::Template;
use draft::Side;

/// A state in word, shape and colour.
#[derive(Clone, Copy)]
pub(in crate::web) struct Badge {
    /// The word, in English.
    pub(in crate::web) word: &'static str,
    /// The class that gives it shape and colour.
    pub(in crate::web) tone: &'static str,
}

/// A source or sink in a list.
pub(in crate::web) struct Line {
    /// Its name.
    pub(in crate::web) name: String,
    /// The address of its own screen.
    pub(in crate::web) href: String,
    /// Kind and address.
    pub(in crate::web) detail: String,
    /// What it reads or delivers a second.
    pub(in crate::web) rate: String,
    /// How it is.
    pub(in crate::web) badge: Badge,
    /// Since when it is not well.
    pub(in crate::web) since: Option<Moment>,
    /// The last error while it is not.
    pub(in crate::web) error: Option<(String, Moment)>,
    /// What else there is to say.
    pub(in crate::web) notes: Vec<String>,
    /// Which points its devices refuse to give; empty if none.
    pub(in crate::web) refused: String,
    /// How many messages could not be read, and where they are.
    pub(in crate::web) letters: Option<(String, String)>,
}

/// A list of sources or sinks.
#[derive(Template)]
#[template(path = "ways.html")]
pub(in crate::web) struct Ways {
    l: Locale,
    side: Side,
    total: String,
    lines: Vec<Line>,
    none: &'static str,
}

impl Ways {
    /// The sources, or the ways upstream.
    pub(in crate::web) fn of(side: Side, snapshot: &Snapshot, l: Locale) -> Self {
        let (total, lines, none) = match side {
            Side::Source => (
                total_rate(snapshot, l),
                snapshot.sources.iter().map(|source| source_line(source, snapshot, l)).collect(),
                "No source is configured yet.",
            ),
            Side::Sink => (
                String::new(),
                snapshot.sinks.iter().map(|sink| sink_line(sink, snapshot, l)).collect(),
                "No way upstream is configured yet: readings stay on the board.",
            ),
        };
        Self { l, side, total, lines, none }
    }
}

/// What all sources read together; empty until each has been measured.
fn total_rate(snapshot: &Snapshot, l: Locale) -> String {
    let rates: Option<f64> = snapshot.sources.iter().map(|source| source.accepted_per_second).sum();
    let total = rates.filter(|_| !snapshot.sources.is_empty());
    total.map_or_else(String::new, |rate| l.f1("{} readings/s", l.rate_of(rate)))
}

/// What a kind of source or sink is called.
pub(in crate::web) fn kind_name(kind: &str) -> &str {
    match kind {
        "mqtt" => "MQTT",
        "modbus" => "Modbus",
        "serial" => "serial line",
        "kafka" => "Kafka",
        "http" => "HTTP",
        other => other,
    }
}

/// A source in a list.
pub(in crate::web) fn source_line(source: &SourceView, snapshot: &Snapshot, l: Locale) -> Line {
    let notes = [(source.missed, "{} never came in"), (source.duplicate, "{} came again, taken once")];
    let (since, error) = trouble_of(&source.health, snapshot, l);
    let notes = notes.into_iter().filter(|(amount, _)| *amount > 0);
    Line {
        name: source.name.clone(),
        href: path("/sources/", &source.name),
        detail: format!("{} · {}", l.say(kind_name(source.kind)), source.address),
        rate: source.accepted_per_second.map_or_else(|| "–".to_owned(), |rate| l.rate(rate)),
        badge: source_badge(source),
        since,
        error,
        notes: notes.map(|(amount, what)| l.f1(what, l.count(amount))).collect(),
        refused: source.refused.as_ref().map_or_else(String::new, |refused| refused_words(refused, l)),
        letters: (source.rejected > 0)
            .then(|| (l.f1("{} rejected, kept as dead letters", l.count(source.rejected)), letters_of(&source.name))),
    }
}

/// What a device refuses to give: a source may be live and yet bring less than was asked for.
fn refused_words(refused: &RefusedPoints, l: Locale) -> String {
    let (device, point) = &refused.first;
    let why = no_data_words(refused.why, l);
    let first = format!("{device} · {}: {why}", point.replace('_', " "));
    if refused.count == 1 {
        l.f2("1 of {} points gives no value: {}", refused.of, first)
    } else {
        l.f("{} of {} points give no value, the first {}", &[&refused.count, &refused.of, &first])
    }
}

/// Where the dead letters of a source are.
pub(in crate::web) fn letters_of(source: &str) -> String {
    format!("/board/letters?{}", query(&[("source", source)]))
}

/// How a source is.
pub(in crate::web) fn source_badge(source: &SourceView) -> Badge {
    match source.health.state {
        // A serial line that opens may be the wrong one, or at the wrong speed.
        "starting" if source.kind == "serial" && source.rejected > 0 => {
            Badge { word: "open, nothing understood yet", tone: "idle" }
        }
        "starting" if source.kind == "serial" => Badge { word: "open, nothing heard yet", tone: "idle" },
        state => badge(state, "live", "partly down", "not reached"),
    }
}

/// A sink in a list.
pub(in crate::web) fn sink_line(sink: &SinkView, snapshot: &Snapshot, l: Locale) -> Line {
    let readings = sink.readings();
    let delivered = l.count(readings.delivered);
    let mut notes = vec![if readings.undelivered > 0 {
        l.f2("{} delivered, {} waiting", delivered, l.count(readings.undelivered))
    } else {
        l.f1("{} delivered, nothing waits", delivered)
    }];
    if readings.refused > 0 {
        notes.push(l.f1("{} refused, kept as dead letters", l.count(readings.refused)));
    }
    if readings.gaps > 0 {
        notes.push(l.f1("{} lost before delivery", l.count(readings.gaps)));
    }
    let (since, error) = trouble_of(&sink.health, snapshot, l);
    Line {
        name: sink.name.clone(),
        href: path("/upstream/", &sink.name),
        detail: format!("{} · {}", l.say(kind_name(sink.kind)), sink.address),
        rate: sink.delivered_per_second.map_or_else(|| "–".to_owned(), |rate| l.rate(rate)),
        badge: sink_badge(sink),
        since,
        error,
        notes,
        refused: String::new(),
        letters: None,
    }
}

/// How a sink is.
pub(in crate::web) fn sink_badge(sink: &SinkView) -> Badge {
    badge(sink.health.state, "in step", "behind", "not delivering")
}

/// Since when something is not well, and the last error while it is not.
fn trouble_of(health: &HealthView, snapshot: &Snapshot, l: Locale) -> (Option<Moment>, Option<(String, Moment)>) {
    if matches!(health.state, "live" | "starting") {
        return (None, None);
    }
    let at = |at_us| Moment::new(at_us, snapshot.now_us, l);
    let error = health.last_error.as_deref().map(|error| sentences(&l.say(error)));
    (Some(at(health.since_us)), error.map(|error| (error, at(health.last_error_us.unwrap_or_default()))))
}

fn badge(state: &'static str, live: &'static str, degraded: &'static str, down: &'static str) -> Badge {
    match state {
        "live" => Badge { word: live, tone: "good" },
        "degraded" => Badge { word: degraded, tone: "warn" },
        "down" => Badge { word: down, tone: "bad" },
        "paused" => Badge { word: "paused", tone: "bad" },
        _ => Badge { word: "starting", tone: "idle" },
    }
}
