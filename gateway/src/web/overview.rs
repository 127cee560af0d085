//! `/`: the way of a reading. First whether anything needs a person, then sources, board and upstream, then points.

use super::books::Books;
use super::live::Shared;
use super::pages::{self, Frame, Screen};
use super::point::PointView;
use super::points;
use super::snapshot::{HealthView, SinkView, Snapshot, SourceView};
use super::words::{self, Moment};
use crate::reading::Stream;
use askama::Template;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use std::sync::Arc;

/// Troubles that the first card spells out; more are counted. A person takes one at a time.
const TROUBLES_SHOWN_MAX: usize = 5;

/// Waiting readings within this many seconds of intake are the normal beat of commits and runs, not a backlog.
const IN_STEP_SECONDS: f64 = 3.0;

/// A backlog that changes by less a second stands still, as far as a person is concerned.
const OUTLOOK_PER_SECOND: f64 = 0.5;

/// A part of the overview that is sent again when it changed, and the name of its event.
pub(super) type Part = (&'static str, String);

/// A state in word, shape and colour.
struct Badge {
    word: &'static str,
    tone: &'static str,
}

struct Need {
    subject: String,
    what: String,
    advice: String,
    since: Moment,
}

#[derive(Template)]
#[template(path = "needs.html")]
struct Needs {
    tone: &'static str,
    headline: String,
    list: Vec<Need>,
    calm: String,
    more: usize,
}

struct Line {
    name: String,
    detail: String,
    rate: String,
    badge: Badge,
    since: Option<Moment>,
    error: Option<(String, Moment)>,
    notes: Vec<String>,
}

#[derive(Template)]
#[template(path = "ways.html")]
struct Ways {
    title: &'static str,
    total: String,
    lines: Vec<Line>,
    none: &'static str,
}

#[derive(Template)]
#[template(path = "board.html")]
struct Board {
    is_storing: bool,
    waiting: String,
    waiting_words: String,
    oldest: Option<Moment>,
    outlook: String,
    used: String,
    used_percent: u64,
    facts: Vec<(&'static str, String, bool)>,
}

#[derive(Template)]
#[template(path = "watch.html")]
struct Watch {
    points: Vec<PointView>,
}

#[derive(Template)]
#[template(path = "overview.html")]
struct Page {
    frame: Frame,
    needs: String,
    sources: String,
    board: String,
    upstream: String,
    watch: String,
    books: String,
    count: String,
}

/// `GET /`.
pub(super) async fn page(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let snapshot = shared.snapshot();
    let rendered = parts(&snapshot, &shared).and_then(|parts| {
        let part = |name: &str| {
            parts.iter().find(|(known, _)| *known == name).map(|(_, text)| text.clone()).unwrap_or_default()
        };
        Page {
            frame: Frame::new(&snapshot, Screen::Overview),
            needs: part("needs"),
            sources: part("sources"),
            board: part("board"),
            upstream: part("upstream"),
            watch: part("watch"),
            books: part("books"),
            count: part("count"),
        }
        .render()
    });
    pages::html(StatusCode::OK, &headers, rendered)
}

/// Everything on the overview that changes.
pub(super) fn parts(snapshot: &Snapshot, shared: &Shared) -> askama::Result<Vec<Part>> {
    let (registry, status) = (&shared.state.registry, &shared.state.status);
    let needs = needs(snapshot);
    let watch = Watch { points: points::watched(registry, status, snapshot.now_us) };
    Ok(vec![
        ("announce", announcement(&needs)?),
        ("needs", needs.render()?),
        ("sources", sources(snapshot).render()?),
        ("board", board(snapshot).render()?),
        ("upstream", upstream(snapshot).render()?),
        ("watch", watch.render()?),
        ("books", Books::new(snapshot).render()?),
        ("count", points::how_many(registry)),
    ])
}

/// What a screen reader says when the first card changes: without ages, which would make it speak every minute.
#[derive(Template)]
#[template(source = "{{ headline }}.{% if let Some(first) = first %} {{ first }}{% endif %}", ext = "html")]
struct Announcement<'a> {
    headline: &'a str,
    first: Option<&'a str>,
}

fn announcement(needs: &Needs) -> askama::Result<String> {
    Announcement { headline: &needs.headline, first: needs.list.first().map(|need| need.what.as_str()) }.render()
}

fn needs(snapshot: &Snapshot) -> Needs {
    let count = snapshot.troubles.iter().filter(|trouble| trouble.severity != "info").count();
    let need = |trouble: &super::snapshot::TroubleView| Need {
        subject: trouble.subject.clone(),
        what: sentence(&trouble.what),
        advice: sentence(&trouble.advice),
        since: Moment::new(trouble.since_us, snapshot.now_us),
    };
    let worst = snapshot.troubles.first().map_or("", |trouble| trouble.severity);
    let headline = match count {
        0 if !snapshot.ready => "Forebay is starting".to_owned(),
        0 if snapshot.sources.is_empty() => "There is no source yet".to_owned(),
        0 => "Nothing needs you".to_owned(),
        1 => "One thing needs you".to_owned(),
        many => format!("{} things need you", number_word(many)),
    };
    Needs {
        tone: match worst {
            "error" => "bad",
            "warning" => "warn",
            _ if !snapshot.ready || snapshot.sources.is_empty() => "idle",
            _ => "good",
        },
        headline,
        list: snapshot.troubles.iter().take(TROUBLES_SHOWN_MAX).map(need).collect(),
        calm: if count == 0 && snapshot.ready { calm(snapshot) } else { String::new() },
        more: snapshot.troubles.len().saturating_sub(TROUBLES_SHOWN_MAX),
    }
}

/// Small numbers as words, as a person would say them.
fn number_word(number: usize) -> String {
    const WORDS: [&str; 10] = ["No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine"];
    WORDS.get(number).map_or_else(|| number.to_string(), |word| (*word).to_owned())
}

/// The one line of a quiet day.
fn calm(snapshot: &Snapshot) -> String {
    if snapshot.sources.is_empty() {
        return "Add one to the configuration file and restart the gateway; readings flow from then on.".to_owned();
    }
    let of = |states: Vec<&str>, one: &str, many: &str, well: &str| {
        let (live, all) = (states.iter().filter(|state| **state == "live").count(), states.len());
        match (live, all) {
            (_, 0) => format!("no {one} is configured"),
            (1, 1) => format!("the {one} is {well}"),
            (2, 2) => format!("both {many} are {well}"),
            (live, all) if live == all => format!("all {} {many} are {well}", number_word(all).to_lowercase()),
            (live, all) => format!("{live} of {all} {many} {} {well}", if live == 1 { "is" } else { "are" }),
        }
    };
    let sources = snapshot.sources.iter().map(|source| source.health.state).collect();
    let sinks = snapshot.sinks.iter().map(|sink| sink.health.state).collect();
    let sources = of(sources, "source", "sources", "live");
    let sinks = of(sinks, "way upstream", "ways upstream", "in step");
    sentence(&format!("{sources}, {sinks}"))
}

/// Puts a full stop and a capital where a person would.
fn sentence(text: &str) -> String {
    let text = text.trim();
    let mut chars = text.chars();
    let Some(first) = chars.next() else { return String::new() };
    let mut out: String = first.to_uppercase().chain(chars).collect();
    if !out.ends_with(['.', '!', '?']) {
        out.push('.');
    }
    out
}

fn kind_name(kind: &str) -> &str {
    match kind {
        "mqtt" => "MQTT",
        "modbus" => "Modbus",
        "serial" => "serial line",
        "kafka" => "Kafka",
        "http" => "HTTP",
        other => other,
    }
}

fn sources(snapshot: &Snapshot) -> Ways {
    let rates: Option<f64> = snapshot.sources.iter().map(|source| source.accepted_per_second).sum();
    Ways {
        title: "Sources",
        total: rates
            .filter(|_| !snapshot.sources.is_empty())
            .map_or_else(String::new, |rate| format!("{} readings/s", words::rate_of(rate))),
        lines: snapshot.sources.iter().map(|source| source_line(source, snapshot)).collect(),
        none: "No source is configured yet.",
    }
}

fn source_line(source: &SourceView, snapshot: &Snapshot) -> Line {
    let notes = [
        (source.rejected, "rejected, kept as dead letters"),
        (source.missed, "never came in"),
        (source.duplicate, "came again, taken once"),
    ];
    let (since, error) = trouble_of(&source.health, snapshot);
    Line {
        name: source.name.clone(),
        detail: format!("{} · {}", kind_name(source.kind), source.address),
        rate: source.accepted_per_second.map_or_else(|| "–".to_owned(), words::rate),
        badge: match source.health.state {
            // A serial line that opens may be the wrong one, or at the wrong speed.
            "starting" if source.kind == "serial" && source.rejected > 0 => {
                Badge { word: "open, nothing understood yet", tone: "idle" }
            }
            "starting" if source.kind == "serial" => Badge { word: "open, nothing heard yet", tone: "idle" },
            state => badge(state, "live", "partly down", "not reached"),
        },
        since,
        error,
        notes: notes
            .into_iter()
            .filter(|(amount, _)| *amount > 0)
            .map(|(amount, what)| format!("{} {what}", words::count(amount)))
            .collect(),
    }
}

fn upstream(snapshot: &Snapshot) -> Ways {
    Ways {
        title: "Upstream",
        total: String::new(),
        lines: snapshot.sinks.iter().map(|sink| sink_line(sink, snapshot)).collect(),
        none: "No sink is configured yet: readings stay on the board.",
    }
}

fn sink_line(sink: &SinkView, snapshot: &Snapshot) -> Line {
    let readings = sink.readings();
    let waiting = if readings.undelivered > 0 {
        format!("{} waiting", words::count(readings.undelivered))
    } else {
        "nothing waits".to_owned()
    };
    let mut notes = vec![format!("{} delivered, {waiting}", words::count(readings.delivered))];
    if readings.refused > 0 {
        notes.push(format!("{} refused, kept as dead letters", words::count(readings.refused)));
    }
    if readings.gaps > 0 {
        notes.push(format!("{} lost before delivery", words::count(readings.gaps)));
    }
    let (since, error) = trouble_of(&sink.health, snapshot);
    Line {
        name: sink.name.clone(),
        detail: format!("{} · {}", kind_name(sink.kind), sink.address),
        rate: sink.delivered_per_second.map_or_else(|| "–".to_owned(), words::rate),
        badge: badge(sink.health.state, "in step", "behind", "not delivering"),
        since,
        error,
        notes,
    }
}

/// Since when something is not well, and the last error while it is not.
fn trouble_of(health: &HealthView, snapshot: &Snapshot) -> (Option<Moment>, Option<(String, Moment)>) {
    if matches!(health.state, "live" | "starting") {
        return (None, None);
    }
    let since = Moment::new(health.since_us, snapshot.now_us);
    let at = |at_us| Moment::new(at_us, snapshot.now_us);
    (
        Some(since),
        health.last_error.clone().map(|error| (sentence(&error), at(health.last_error_us.unwrap_or_default()))),
    )
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

fn board(snapshot: &Snapshot) -> Board {
    let buffer = &snapshot.buffer;
    let slowest = snapshot.sinks.iter().max_by_key(|sink| sink.readings().undelivered);
    let waiting = slowest.map_or(0, |sink| sink.readings().undelivered);
    let intake: f64 = snapshot.sources.iter().filter_map(|source| source.accepted_per_second).sum();
    let behind = waiting as f64 > intake * IN_STEP_SECONDS;
    let unit = if waiting == 1 { "reading" } else { "readings" };
    let how = if behind { "waiting for" } else { "on the way to" };
    let total = |pick: fn(&SourceView) -> u64| snapshot.sources.iter().map(pick).sum::<u64>();
    let accepted = total(|source| source.accepted);
    let kept = |stream: Stream| buffer.streams.get(stream.name()).map_or(0, |ends| ends.next);
    let lost = snapshot.sinks.iter().map(|sink| sink.readings().gaps).max().unwrap_or(0);
    let mut facts = vec![
        ("Accepted so far", words::count(accepted), false),
        ("Flagged by a check", words::count(snapshot.flagged), false),
        ("Dead letters", words::count(kept(Stream::DeadLetters)), false),
        ("Never came in", words::count(total(|source| source.missed)), false),
        ("Lost once accepted", words::count(lost), true),
    ];
    if let Some(bytes) = buffer.device_written_bytes_per_day.or(buffer.written_bytes_per_day) {
        facts.push(("Written a day", words::bytes(bytes), false));
    }
    if let Some(days) = buffer.card_days {
        facts.push(("The card lasts at this rate", lifetime(days), false));
    }
    if buffer.quarantine_bytes > 0 {
        facts.push(("Set aside, unreadable", words::bytes(buffer.quarantine_bytes), true));
    }
    Board {
        is_storing: buffer.is_storing,
        waiting: words::count(waiting),
        waiting_words: match slowest {
            Some(sink) if waiting > 0 => format!("{unit} {how} {}", sink.name),
            Some(_) => "readings waiting · all delivered".to_owned(),
            None => "readings waiting · no sink is configured".to_owned(),
        },
        oldest: buffer.oldest_waiting_us.filter(|_| behind).map(|at_us| Moment::new(at_us, snapshot.now_us)),
        outlook: slowest.filter(|_| behind).map_or_else(String::new, outlook),
        used: words::bytes_of(buffer.disk_bytes, buffer.disk_bytes_max),
        used_percent: percent(buffer.disk_bytes, buffer.disk_bytes_max),
        facts,
    }
}

/// How long a card lasts: nobody plans it by the day.
fn lifetime(days: u64) -> String {
    match days {
        0..=59 => format!("{days} days"),
        60..=729 => format!("about {} months", days / 30),
        730..=36_524 => format!("about {} years", days / 365),
        _ => "over 100 years".to_owned(),
    }
}

/// Where the backlog is heading. Only deliveries empty it: what is lost shrinks it, too, and a sink that stands still may
/// have delivered a moment ago.
fn outlook(sink: &SinkView) -> String {
    let Some(growth) = sink.backlog_growth_per_second else { return String::new() };
    let draining = -growth - sink.lost_per_second.unwrap_or_default();
    let delivers = matches!(sink.health.state, "live" | "degraded");
    if delivers && draining > OUTLOOK_PER_SECOND {
        let waiting = sink.readings().undelivered as f64;
        #[expect(clippy::cast_possible_truncation, reason = "a float becomes its nearest bound")]
        let left_us = (waiting / draining * 1e6) as i64;
        format!("empty in about {}", words::span(left_us))
    } else if growth > OUTLOOK_PER_SECOND {
        format!("growing by {}", words::rate(growth))
    } else {
        String::new()
    }
}

fn percent(part: u64, whole: u64) -> u64 {
    u64::try_from(u128::from(part) * 100 / u128::from(whole.max(1))).map_or(100, |percent| percent.min(100))
}
