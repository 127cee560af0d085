//! `/points/{id}`: one point with its value as it comes in, its chart, and what was said about it.

use super::point::{Look, PointView};
use super::points::live_of;
use super::settings::rules;
use crate::checks::CheckOptions;
use crate::config::edit::Place;
use crate::config::{self, Config};
use crate::reading::{PointId, UnixMicros, Value};
use crate::site::{DeviceTags, PointKey, PointPattern};
use crate::web::api::points::key_of;
use crate::web::assets::ASSETS;
use crate::web::failure::Failure;
use crate::web::live::{Part, Shared};
use crate::web::locale::Locale;
use crate::web::pages::{self, Frame, Nav};
use crate::web::visit::Visit;
use askama::Template;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a configuration is called in messages; it runs, so that there are none.
const NAME: &str = "configuration";

/// The spans of time that a tap shows: words and seconds.
const SPANS: [(&str, u32); 5] =
    [("15 min", 900), ("1 h", 3_600), ("6 h", 21_600), ("24 h", 86_400), ("7 days", 604_800)];

/// The longest of them that is shown first.
const FIRST_SPAN_MAX_S: u32 = 3_600;

/// The words that `chart.js` says: their names there, and the texts.
const WORDS: [(&str, &str); 46] = [
    ("on", "on"),
    ("off", "off"),
    ("good", "good"),
    ("uncertain", "uncertain"),
    ("bad", "bad"),
    ("anomaly", "Unusual"),
    ("range", "Outside its limits"),
    ("flagged", "Flagged"),
    ("alertRaised", "Alert raised"),
    ("alertOver", "Alert over"),
    ("ofLimits", "Limits"),
    ("ofUnusual", "What is unusual"),
    ("noValue", "No value"),
    ("badQuality", "Bad quality"),
    ("uncertainQuality", "Uncertain quality"),
    ("timeout", "the device did not answer in time"),
    ("exception", "the device answered with an exception"),
    ("notAvailable", "the device says: not available"),
    ("notConnected", "there is no connection to the device"),
    ("notFinite", "the device sent no finite number"),
    ("clockAhead", "the device's clock was ahead"),
    ("operatingRange", "outside where it is run"),
    ("possibleRange", "outside what is possible"),
    ("readings", "of {} readings"),
    ("oneReading", "of 1 reading"),
    ("mean", "mean"),
    ("operating", "operating limit"),
    ("possible", "possible limit"),
    ("nothingKept", "No reading is kept yet. The chart fills as readings come in."),
    ("nothingHere", "No reading of this point is kept from this time. Choose a longer one."),
    ("noNumbers", "The readings of this time have no numbers."),
    ("tooFine", "Nothing changed in this time that could be listed; choose a shorter one."),
    ("notKeptBefore", "nothing kept before"),
    ("ofMinutes", "Drawn from whole minutes; zoom in for every reading."),
    ("everyReading", "Every reading is drawn."),
    ("columnsOf", "Each step of {} shows its least, greatest and mean."),
    ("lost", "The gateway did not answer. What is drawn is from before."),
    ("leftOut", "{} older ones are left out; choose a shorter time."),
    ("moreMarks", "{} more in this time; zoom in to see them."),
    ("inARow", "{} in a row"),
    ("summary", "{} readings from {} to {}: least {}, greatest {}, mean {}."),
    ("summaryWords", "{} readings from {} to {}."),
    ("seconds", "{} s"),
    ("minutes", "{} min"),
    ("hours", "{} h"),
    ("days", "{} days"),
];

/// Limits that a check puts on a point.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub(in crate::web) struct LimitView {
    /// Where the plant is run: lowest and highest.
    operating: Option<[f64; 2]>,
    /// What can be at all: lowest and highest.
    possible: Option<[f64; 2]>,
}

/// The value as it comes in.
#[derive(Template)]
#[template(path = "point/now.html")]
struct Now {
    l: Locale,
    view: PointView,
    received_ms: i64,
    number: Option<f64>,
    quality: &'static str,
    flags: String,
    heard: bool,
}

#[derive(Template)]
#[template(path = "point/page.html")]
struct Page {
    frame: Frame,
    id: u32,
    device: String,
    point: String,
    unit: String,
    source: String,
    source_address: String,
    tags: BTreeMap<String, String>,
    limits: Vec<String>,
    limits_json: String,
    /// Where its limits are set, and whether it has some.
    rule: (String, bool),
    kind: &'static str,
    words: String,
    now: String,
    spans: Vec<(&'static str, u32)>,
    /// The one that is shown first.
    span: u32,
}

fn running(shared: &Shared) -> Option<Config> {
    let text = shared.state.desk.state().borrow().text.to_string();
    config::parse(NAME, text).ok().map(|loaded| loaded.config)
}

/// The tags of the devices, as the configuration that runs has them.
pub(in crate::web) fn tags(shared: &Shared) -> DeviceTags {
    running(shared).map(|config| config.device_tags()).unwrap_or_default()
}

/// What the configuration that runs says about a point: the tags of its device, and its limits.
pub(in crate::web) fn configured(shared: &Shared, key: &PointKey) -> (BTreeMap<String, String>, Vec<LimitView>) {
    let Some(config) = running(shared) else { return Default::default() };
    let tags = config.device_tags().0.remove(&*key.device).unwrap_or_default();
    let named = |check: &&CheckOptions| {
        PointPattern::parse(&check.points).is_some_and(|pattern| pattern.matches(&key.device, &key.point))
    };
    let ranges = config.check.iter().filter(named).filter_map(|check| check.range.as_ref());
    (tags, ranges.map(|range| LimitView { operating: range.operating, possible: range.possible }).collect())
}

/// The span that is shown first: an hour, or less where no more is kept.
async fn first_span(shared: &Shared, now_us: UnixMicros) -> u32 {
    // Where the disk gives nothing, the chart says so.
    let kept_from_us = shared.state.history.kept_from().await.ok().flatten().unwrap_or(UnixMicros::MIN);
    let kept_s = now_us.saturating_sub(kept_from_us) / 1_000_000;
    let holds = |seconds: &u32| i64::from(*seconds) >= kept_s || *seconds >= FIRST_SPAN_MAX_S;
    SPANS.into_iter().map(|(_, seconds)| seconds).find(holds).unwrap_or(FIRST_SPAN_MAX_S)
}

/// Where the limits of a point are set: the rule that is its own, or that holds it with others; a new one if there is none.
fn rule(shared: &Shared, key: &PointKey) -> (String, bool) {
    let text = shared.state.desk.state().borrow().text.to_string();
    let own = rules::pattern_of(key);
    let holds = |check: &CheckOptions| {
        let named = PointPattern::parse(&check.points);
        check.range.is_some() && named.is_some_and(|pattern| pattern.matches(&key.device, &key.point))
    };
    let checks = running(shared).map(|config| config.check).unwrap_or_default();
    let place = checks.iter().position(|check| check.points == own && holds(check));
    if let Some(index) = place.or_else(|| checks.iter().position(holds)) {
        return (rules::edit_at(&text, &Place::root().key("check").item(index)), true);
    }
    let query = pages::query(&[("kind", "limits"), ("points", &own)]);
    (format!("{}/new?{query}", rules::HERE), false)
}

/// `GET /points/{id}`.
pub(in crate::web) async fn page(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let (id, key) = key_of(&shared, &id)?;
    let l = visit.l;
    let now_us = shared.state.clock.tick().wall_us;
    let (tags, limits) = configured(&shared, &key);
    let kind = shared.state.status.read_points(|live| match live_of(live, id).map(|live| &live.outcome) {
        Some(Ok(Value::Boolean(_))) => "switch",
        Some(Ok(Value::Text(_))) => "text",
        _ => "number",
    });
    let words: BTreeMap<&str, &str> = WORDS.into_iter().map(|(name, text)| (name, l.t(text))).collect();
    let page = Page {
        frame: Frame::new(&shared, &visit, Nav::Points)
            .live(format!("point:{}", id.0))
            .script(&ASSETS.uplot.url)
            .script(&ASSETS.chart.url),
        id: id.0,
        device: key.device.to_string(),
        point: key.point.replace('_', " "),
        unit: key.unit.to_string(),
        source: key.source.to_string(),
        source_address: pages::path("/sources/", &key.source),
        tags,
        limits: limits.iter().flat_map(|limit| limit.words(&key.unit, l)).collect(),
        rule: rule(&shared, &key),
        limits_json: serde_json::to_string(&limits).unwrap_or_default(),
        kind,
        words: serde_json::to_string(&words).unwrap_or_default(),
        now: now(&shared, id, &key, now_us, l).unwrap_or_default(),
        span: first_span(&shared, now_us).await,
        spans: SPANS.map(|(words, seconds)| (l.t(words), seconds)).to_vec(),
    };
    Ok(pages::html(StatusCode::OK, &visit, page.render()))
}

impl LimitView {
    fn words(&self, unit: &str, l: Locale) -> Vec<String> {
        let gap = if unit.is_empty() { "" } else { "\u{a0}" };
        let pair = |text: &'static str, [low, high]: [f64; 2]| {
            l.f2(text, l.number(low), format!("{}{gap}{unit}", l.number(high)))
        };
        let operating = self.operating.map(|limits| pair("Operated from {} to {}", limits));
        let possible = self.possible.map(|limits| pair("Possible from {} to {}", limits));
        operating.into_iter().chain(possible).collect()
    }
}

fn now(shared: &Shared, id: PointId, key: &PointKey, now_us: UnixMicros, l: Locale) -> askama::Result<String> {
    let look = Look::new(&shared.state.status, now_us);
    shared.state.status.read_points(|points| {
        let last = live_of(points, id);
        let number = last.and_then(|last| last.outcome.as_ref().ok()).and_then(|value| match value {
            Value::Boolean(on) => Some(f64::from(u8::from(*on))),
            other => other.as_number(),
        });
        let flags: Vec<&str> = last.map(|last| last.flags.names().collect()).unwrap_or_default();
        let view = PointView::new(id, key, last, &look, l);
        let received_ms = last.map_or(0, |last| last.received_at_us / 1_000);
        let quality = last.map_or("good", |last| last.quality.name());
        Now { l, view, received_ms, number, quality, flags: flags.join(" "), heard: last.is_some() }.render()
    })
}

/// What changes on the page of a point.
pub(in crate::web) fn parts(id: &str, now_us: UnixMicros, shared: &Shared, l: Locale) -> askama::Result<Vec<Part>> {
    match key_of(shared, id) {
        Ok((id, key)) => Ok(vec![("now", now(shared, id, &key, now_us, l)?)]),
        Err(_) => Ok(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_word_that_the_chart_says_is_handed_to_it() {
        let script = include_str!("../static/chart.js");
        let known: BTreeSet<&str> = WORDS.into_iter().map(|(name, _)| name).collect();
        let ends = |c: char| !c.is_ascii_alphanumeric();
        let used: BTreeSet<&str> = script
            .split("words.")
            .skip(1)
            .filter_map(|rest| rest.split(ends).next())
            .filter(|name| !name.is_empty())
            .collect();
        let missing: Vec<_> = used.difference(&known).collect();
        assert!(missing.is_empty(), "{missing:?} are said by chart.js and not given to it");
    }
}
