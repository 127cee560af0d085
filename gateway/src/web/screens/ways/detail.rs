//! One source, one way upstream: how it is, since when, what to do about it, its rates and its books.

use super::draft::Side;
use super::{Line, sink_line, source_line};
use crate::reading::PointId;
use crate::web::live::{Part, Shared};
use crate::web::locale::Locale;
use crate::web::screens::board_card::outlook;
use crate::web::screens::needs::told;
use crate::web::screens::point::{Look, PointView};
use crate::web::snapshot::{LaneView, SinkView, Snapshot, SourceView};
use crate::web::words::{Moment, sentences};
use askama::Template;
use std::collections::{BTreeMap, HashSet};

/// Points of a source that its screen shows; all of them are one tap away.
const POINTS_SHOWN_MAX: usize = 60;

/// Most values that a sheet of registers is told at once: more rows than are in view on any screen.
const VALUES_MAX: usize = 200;

/// What is wrong and what to do.
struct TroubleLine {
    what: String,
    advice: String,
    since: Moment,
    tone: &'static str,
}

/// The part of a screen that changes.
#[derive(Template)]
#[template(path = "ways/state.html")]
struct StatePart {
    l: Locale,
    line: Line,
    since: Moment,
    last_error: Option<(String, Moment)>,
    troubles: Vec<TroubleLine>,
    facts: Vec<(&'static str, String)>,
    books: Option<Table>,
}

struct Table {
    head: Vec<&'static str>,
    rows: Vec<(String, Vec<(String, bool)>)>,
    closes: bool,
}

/// A number of a stream: of which, the number, and whether it asks for a look.
type Counted = (String, String, bool);

impl Table {
    /// The same by what is counted: each with its number in every stream.
    fn by_count(&self) -> Vec<(&'static str, Vec<Counted>)> {
        let of = |at: usize| {
            let cell = |(name, numbers): &(String, Vec<(String, bool)>)| {
                numbers.get(at).map(|(value, strong)| (name.clone(), value.clone(), *strong))
            };
            self.rows.iter().filter_map(cell).collect::<Vec<_>>()
        };
        self.head.iter().enumerate().map(|(at, head)| (*head, of(at))).collect()
    }
}

#[derive(Template)]
#[template(path = "ways/points.html")]
struct PointsPart {
    l: Locale,
    points: Vec<PointView>,
    count: String,
    more: bool,
    name: String,
    /// Units of a bus that are silent.
    silent: Vec<String>,
}

/// The live parts of a source's screen.
pub(in crate::web) fn source_parts(
    snapshot: &Snapshot,
    shared: &Shared,
    name: &str,
    l: Locale,
) -> askama::Result<Vec<Part>> {
    let Some(source) = snapshot.sources.iter().find(|source| source.name == name) else {
        return Ok(vec![("state", gone(Side::Source, l)), ("points", String::new())]);
    };
    let troubles = troubles(snapshot, name, l);
    let own = snapshot.troubles.iter().filter(|trouble| trouble.subject == name);
    let silent = own.filter(|trouble| trouble.what.starts_with("Unit ")).map(|trouble| trouble.what.clone()).collect();
    let state = StatePart {
        l,
        line: source_line(source, snapshot, l),
        since: Moment::new(source.health.since_us, snapshot.now_us, l),
        last_error: last_error(&source.health, snapshot, l),
        troubles,
        facts: source_facts(source, l),
        books: Some(source_books(source, l)),
    };
    Ok(vec![("state", state.render()?), ("points", points(snapshot, shared, name, silent, l).render()?)])
}

/// The live parts of the screen of a way upstream.
pub(in crate::web) fn sink_parts(
    snapshot: &Snapshot,
    shared: &Shared,
    name: &str,
    l: Locale,
) -> askama::Result<Vec<Part>> {
    let Some(sink) = snapshot.sinks.iter().find(|sink| sink.name == name) else {
        return Ok(vec![("state", gone(Side::Sink, l)), ("replays", String::new())]);
    };
    let state = StatePart {
        l,
        line: sink_line(sink, snapshot, l),
        since: Moment::new(sink.health.since_us, snapshot.now_us, l),
        last_error: last_error(&sink.health, snapshot, l),
        troubles: troubles(snapshot, name, l),
        facts: sink_facts(sink, snapshot, l),
        books: Some(sink_books(sink, l)),
    };
    Ok(vec![("state", state.render()?), ("replays", super::replays::part(shared, name, l)?)])
}

/// The last values of a device's points, each with its tone, for those rows of a sheet that are in view.
pub(in crate::web) fn values(
    shared: &Shared,
    source: &str,
    device: &str,
    points: &HashSet<&str>,
    l: Locale,
) -> BTreeMap<String, (String, &'static str)> {
    let look = Look::new(&shared.state.status, shared.state.clock.tick().wall_us);
    let order = shared.order.points(&shared.state.registry);
    let of = order.iter().filter(|(key, _)| &*key.source == source && &*key.device == device);
    let of = of.filter(|(key, _)| points.contains(&*key.point)).take(VALUES_MAX);
    of.map(|(key, id)| {
        let last = shared.state.status.point(*id);
        let view = PointView::new(*id, key, last.as_ref(), &look, l);
        let value = if view.has_unit() { format!("{} {}", view.value, view.unit) } else { view.value.clone() };
        (key.point.to_string(), (value, view.state.tone()))
    })
    .collect()
}

fn gone(side: Side, l: Locale) -> String {
    let text = match side {
        Side::Source => l.t("This source is not in the running configuration any more."),
        Side::Sink => l.t("This way upstream is not in the running configuration any more."),
    };
    format!("<p class=\"said idle-edge\">{text}</p>")
}

fn troubles(snapshot: &Snapshot, name: &str, l: Locale) -> Vec<TroubleLine> {
    let of = told(snapshot).into_iter().filter(|trouble| trouble.subject == name);
    let line = |trouble: &crate::web::snapshot::TroubleView| TroubleLine {
        what: sentences(&l.say(&trouble.what)),
        advice: sentences(&l.say(&trouble.advice)),
        since: Moment::new(trouble.since_us, snapshot.now_us, l),
        tone: if trouble.severity == "error" { "bad" } else { "warn" },
    };
    of.map(line).collect()
}

fn last_error(health: &crate::web::snapshot::HealthView, snapshot: &Snapshot, l: Locale) -> Option<(String, Moment)> {
    let error = health.last_error.as_deref()?;
    let at = Moment::new(health.last_error_us.unwrap_or_default(), snapshot.now_us, l);
    Some((sentences(&l.say(error)), at))
}

fn source_facts(source: &SourceView, l: Locale) -> Vec<(&'static str, String)> {
    let rate = source.accepted_per_second.map_or_else(|| "–".to_owned(), |rate| l.f1("{} readings/s", l.rate_of(rate)));
    vec![
        ("Rate", rate),
        ("Transport errors since the start", l.count(source.errors)),
        ("Connections made anew", l.count(source.reconnects)),
    ]
}

fn source_books(source: &SourceView, l: Locale) -> Table {
    let calm = |count: u64| (l.count(count), false);
    let strong = |count: u64| (l.count(count), count > 0);
    let SourceView { received, accepted, duplicate, rejected, missed, .. } = *source;
    Table {
        head: vec!["received", "accepted", "came again", "rejected", "never came in"],
        rows: vec![(
            l.t("Readings").to_owned(),
            vec![calm(received), calm(accepted), calm(duplicate), strong(rejected), strong(missed)],
        )],
        closes: received == accepted + duplicate + rejected,
    }
}

fn sink_facts(sink: &SinkView, snapshot: &Snapshot, l: Locale) -> Vec<(&'static str, String)> {
    let lane = sink.readings();
    let rate = sink.delivered_per_second.map_or_else(|| "–".to_owned(), |rate| l.f1("{} readings/s", l.rate_of(rate)));
    let waits = match outlook(sink, l) {
        outlook if outlook.is_empty() => l.count(lane.undelivered),
        outlook => format!("{}, {outlook}", l.count(lane.undelivered)),
    };
    let mut facts = vec![("Rate", rate), ("Waiting", waits)];
    if let Some(oldest_us) = lane.oldest_us.filter(|_| lane.undelivered > 0) {
        facts.push(("The oldest that waits came in", l.ago(snapshot.now_us.saturating_sub(oldest_us))));
    }
    let latency = if sink.attempts == 0 {
        "–".to_owned()
    } else {
        format!("{} ms", l.number(sink.last_attempt_us as f64 / 1e3))
    };
    facts.push(("Last attempt took", latency));
    facts.push(("Attempts", l.count(sink.attempts)));
    facts.push(("of these, repeats", l.count(sink.retries)));
    facts.push(("Sent since the start", l.bytes(sink.sent_bytes)));
    if let Some(left) = sink.budget_left_bytes {
        facts.push(("Left of today's budget", l.bytes(left)));
    }
    facts
}

fn sink_books(sink: &SinkView, l: Locale) -> Table {
    let row = |(stream, lane): (&&'static str, &LaneView)| {
        let name = match *stream {
            "readings" => l.t("Readings"),
            "alerts" => l.t("Alerts"),
            "gaps" => l.t("Gaps"),
            "dead-letters" => l.t("Dead letters"),
            other => other,
        };
        let calm =
            [lane.accepted, lane.delivered, lane.filtered, lane.undelivered].map(|count| (l.count(count), false));
        let strong = [lane.refused, lane.gaps].map(|count| (l.count(count), count > 0));
        (name.to_owned(), calm.into_iter().chain(strong).collect())
    };
    let mut shown: Vec<_> =
        sink.streams.iter().filter(|(stream, lane)| **stream == "readings" || lane.accepted > 0).collect();
    // A phone shows the first of them.
    shown.sort_by_key(|(stream, _)| **stream != "readings");
    Table {
        head: vec!["accepted", "delivered", "not for it", "waiting", "refused", "lost"],
        rows: shown.into_iter().map(row).collect(),
        closes: sink.streams.values().all(|lane| lane.closes),
    }
}

fn points(snapshot: &Snapshot, shared: &Shared, name: &str, silent: Vec<String>, l: Locale) -> PointsPart {
    let order = shared.order.points(&shared.state.registry);
    let of: Vec<_> = order.iter().filter(|(key, _)| &*key.source == name).collect();
    let look = Look::new(&shared.state.status, snapshot.now_us);
    let view = |(key, id): &&(std::sync::Arc<crate::site::PointKey>, PointId)| {
        let last = shared.state.status.point(*id);
        PointView::new(*id, key, last.as_ref(), &look, l)
    };
    PointsPart {
        l,
        points: of.iter().take(POINTS_SHOWN_MAX).map(view).collect(),
        count: l.count(of.len() as u64),
        more: of.len() > POINTS_SHOWN_MAX,
        name: name.to_owned(),
        silent,
    }
}
