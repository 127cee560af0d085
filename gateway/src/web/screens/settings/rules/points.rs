//! The points of a rule: how many a pattern names and which, what they measure now and measured in the last day, and
//! patterns that may be meant.

use crate::history::{COLUMNS_MIN, ChartRequest};
use crate::reading::PointId;
use crate::site::{PointKey, PointPattern};
use crate::web::api::points::key_of;
use crate::web::failure::Failure;
use crate::web::live::Shared;
use crate::web::locale::Locale;
use crate::web::pages;
use crate::web::screens::point::{Look, PointView};
use crate::web::screens::points::live_of;
use crate::web::visit::Visit;
use askama::Template;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Points that are shown by name and value; the number of the others is told.
const SHOWN_MAX: usize = 6;

/// Points whose last day is looked at for a form: each is a read of the history.
const DAYS_MAX: usize = 3;

/// The day that a form looks back.
const DAY_US: i64 = 86_400_000_000;

/// Points that a field offers as one types; browsers show few of them at once.
const OFFERED_MAX: usize = 200;

/// Units that are told apart before "and more".
const UNITS_MAX: usize = 4;

/// What a pattern names.
#[derive(Template)]
#[template(path = "settings/rules/picked.html")]
pub(super) struct Picked {
    pub(super) l: Locale,
    pub(super) pattern: String,
    /// Whether it can be a pattern at all.
    fit: bool,
    known: String,
    count: usize,
    counted: String,
    shown: Vec<Shown>,
    others: String,
    /// The unit that all have.
    pub(super) unit: String,
    /// Their units, where they have several.
    pub(super) units: String,
    offers: Vec<Offer>,
    /// Other rules of this kind that hold some of them.
    pub(super) also: Vec<Also>,
    /// The only point there is.
    pub(super) only: Option<PointId>,
    /// Whether the units beside numbers are put in place, too.
    pub(super) swap: bool,
}

struct Shown {
    view: PointView,
    day: bool,
}

/// A pattern that may be meant.
struct Offer {
    pattern: String,
    words: String,
    count: String,
}

/// Another rule that holds some of the same points.
pub(super) struct Also {
    pub(super) pattern: String,
    pub(super) href: String,
}

/// The pattern that names just this point.
pub(in crate::web) fn pattern_of(key: &PointKey) -> String {
    // A name with a slash has no pattern of its own: a star stands for it.
    format!("{}/{}", key.device.replace('/', "*"), key.point.replace('/', "*"))
}

/// The points that are known, for a field that offers them.
pub(super) fn offered(shared: &Shared) -> Vec<String> {
    shared.order.points(&shared.state.registry).iter().take(OFFERED_MAX).map(|(key, _)| pattern_of(key)).collect()
}

/// How many points there are, how many of them a pattern names, and the unit if all have the same.
pub(super) fn count(shared: &Shared, pattern: &str) -> (usize, usize, String) {
    let order = shared.order.points(&shared.state.registry);
    let Some(pattern) = PointPattern::parse(pattern) else { return (order.len(), 0, String::new()) };
    let mut units = BTreeSet::new();
    let mut count = 0;
    for (key, _) in order.iter().filter(|(key, _)| pattern.matches(&key.device, &key.point)) {
        units.insert(&*key.unit);
        count += 1;
    }
    let unit = units.first().filter(|_| units.len() == 1).copied().unwrap_or_default();
    (order.len(), count, unit.to_owned())
}

/// What a pattern names, of the points that are known. `others` are further rules of its kind: pattern and address.
pub(super) fn pick(shared: &Shared, pattern: &str, others: &[(String, String)], l: Locale) -> Picked {
    let order = shared.order.points(&shared.state.registry);
    let look = Look::new(&shared.state.status, shared.state.clock.tick().wall_us);
    let parsed = PointPattern::parse(pattern);
    let named = |key: &PointKey| parsed.as_ref().is_some_and(|pattern| pattern.matches(&key.device, &key.point));
    let found: Vec<_> = order.iter().filter(|(key, _)| named(key)).collect();
    let shown = shared.state.status.read_points(|live| {
        let view = |(place, (key, id)): (usize, &&(Arc<PointKey>, PointId))| {
            let view = PointView::new(*id, key, live_of(live, *id), &look, l);
            Shown { day: place < DAYS_MAX && !view.is_text, view }
        };
        found.iter().take(SHOWN_MAX).enumerate().map(view).collect::<Vec<_>>()
    });
    let units: BTreeSet<&str> = found.iter().map(|(key, _)| &*key.unit).collect();
    let several = units.len() > 1;
    let none = l.t("none");
    let unit = |unit: &&str| if unit.is_empty() { none.to_owned() } else { (*unit).to_owned() };
    let overlaps = |(pattern, href): &(String, String)| {
        let other = PointPattern::parse(pattern)?;
        let both = found.iter().any(|(key, _)| other.matches(&key.device, &key.point));
        both.then(|| Also { pattern: pattern.clone(), href: href.clone() })
    };
    Picked {
        l,
        pattern: pattern.to_owned(),
        fit: parsed.is_some(),
        known: l.count(order.len() as u64),
        count: found.len(),
        counted: l.count(found.len() as u64),
        others: match found.len().saturating_sub(shown.len()) {
            0 => String::new(),
            more => l.f1("and {} more", l.count(more as u64)),
        },
        unit: units.first().filter(|_| !several).map(|unit| (*unit).to_owned()).unwrap_or_default(),
        units: if several {
            units.iter().take(UNITS_MAX).map(unit).collect::<Vec<_>>().join(", ")
        } else {
            String::new()
        },
        offers: found.first().map(|(key, _)| offers(shared, key, pattern, l)).unwrap_or_default(),
        also: others.iter().filter_map(overlaps).collect(),
        only: found.first().filter(|_| found.len() == 1).map(|(_, id)| *id),
        shown,
        swap: false,
    }
}

/// Wider and narrower patterns around a point, but for the one that is there.
fn offers(shared: &Shared, key: &PointKey, now: &str, l: Locale) -> Vec<Offer> {
    let one = pattern_of(key);
    let (device, point) = one.split_once('/').unwrap_or((&one, "*"));
    let name = point.replace('_', " ");
    let stem = device.trim_end_matches(|letter: char| letter.is_ascii_digit());
    let mut offers = vec![(one.clone(), l.f2("only {} of {}", &name, device))];
    if !stem.is_empty() && stem.len() < device.len() {
        offers.push((format!("{stem}*/{point}"), l.f2("{} of every {}…", &name, stem)));
    }
    offers.push((format!("*/{point}"), l.f1("{} of every device", &name)));
    offers.push((format!("{device}/*"), l.f1("everything of {}", device)));
    let counted = |(pattern, words): (String, String)| {
        let (_, count, _) = count(shared, &pattern);
        Offer { pattern, words, count: l.count(count as u64) }
    };
    let mut offers: Vec<Offer> = offers.into_iter().filter(|(pattern, _)| pattern != now).map(counted).collect();
    offers.dedup_by(|one, other| one.pattern == other.pattern);
    offers
}

/// Which point's day is asked for.
#[derive(Debug, Deserialize)]
pub(super) struct AskDay {
    point: String,
}

/// `GET /settings/rules/day?point=3`: what it measured in the last day, as a piece of a sentence.
pub(super) async fn day(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Query(ask): Query<AskDay>,
) -> Result<Response, Failure> {
    let (point, key) = key_of(&shared, &ask.point)?;
    let to_us = shared.state.clock.tick().wall_us;
    let request = ChartRequest { point, from_us: to_us.saturating_sub(DAY_US), to_us, columns: COLUMNS_MIN };
    // Whoever hangs up drops this call, and with it the reading.
    let chart = shared.state.history.chart(request, &CancellationToken::new()).await?;
    let l = visit.l;
    let said = match (chart.statistics.min, chart.statistics.max) {
        (Some(min), Some(max)) => {
            let gap = if key.unit.is_empty() { "" } else { "\u{a0}" };
            l.f2("{} to {} in the last day", l.number(min), format!("{}{gap}{}", l.number(max), key.unit))
        }
        _ => l.t("no number in the last day").to_owned(),
    };
    Ok(pages::html(StatusCode::OK, &visit, Day { said: &said }.render()))
}

#[derive(Template)]
#[template(ext = "html", source = "{{ said }}")]
struct Day<'a> {
    said: &'a str,
}
