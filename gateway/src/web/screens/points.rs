//! `/points`: every point, filtered, 200 a page; and the cards to watch on the overview.

use super::point::{Look, PointState, PointView};
use crate::reading::{MonoMicros, PointId, UnixMicros, Value};
use crate::site::{PointKey, Registry};
use crate::status::{PointLive, Status};
use crate::web::failure::Failure;
use crate::web::live::Shared;
use crate::web::locale::Locale;
use crate::web::pages::{self, Frame, Nav};
use crate::web::visit::Visit;
use askama::Template;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::sync::{Arc, Mutex, PoisonError};

/// Points on one page: a table that a phone still scrolls smoothly.
const PAGE_POINTS: usize = 200;

/// Cards on the overview: what fits a screen or two; the rest is one tap away.
const WATCHED_MAX: usize = 12;

/// Longest filter that is used, in characters: names have at most 128 bytes.
const FILTER_CHARS_MAX: usize = 128;

/// What is asked of the list, in the address.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct Ask {
    /// Words that must all be found in device, point, unit or source.
    #[serde(default)]
    filter: String,
    /// `look` for only those that someone should look at; anything else for all.
    #[serde(default)]
    show: String,
    /// `state` for the worst first, `point` by quantity, `heard` for the longest silent first; anything else by device.
    #[serde(default)]
    sort: String,
    /// Page, counted from 1.
    #[serde(default)]
    #[schemars(range(min = 1))]
    page: Option<usize>,
}

/// A point and its number.
type Entry = (Arc<PointKey>, PointId);

/// Lists that are kept for those who look at the same; a gateway has a few people.
const LISTS_MAX: usize = 16;

/// How long a list is shown to others: about what lies between two looks of one page.
const LIST_KEPT_US: u64 = 1_500_000;

/// All points by device and name; sorted again only when new ones appear, since 100 000 take a while.
#[derive(Debug, Default)]
pub(in crate::web) struct Order(Mutex<Arc<Vec<Entry>>>);

/// The lists that open pages look at, each made once for all of them.
#[derive(Debug, Default)]
pub(in crate::web) struct Lists(Mutex<Vec<List>>);

/// A list as it was a moment ago.
#[derive(Clone, Debug)]
struct List {
    address: String,
    l: Locale,
    made_us: MonoMicros,
    plain: Bytes,
    zipped: Bytes,
}

impl List {
    fn new(address: String, l: Locale, made_us: MonoMicros, table: String) -> Self {
        let zipped = pages::compress_fast(table.as_bytes());
        Self { address, l, made_us, plain: table.into(), zipped }
    }
}

impl Lists {
    fn find(&self, address: &str, l: Locale, now_us: MonoMicros) -> Option<List> {
        let mut lists = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lists.retain(|list| now_us.saturating_sub(list.made_us) < LIST_KEPT_US);
        lists.iter().find(|list| list.address == address && list.l == l).cloned()
    }

    fn keep(&self, list: List) {
        let mut lists = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lists.len() >= LISTS_MAX {
            lists.remove(0);
        }
        lists.push(list);
    }
}

impl Order {
    /// All points by device and name.
    pub(in crate::web) fn points(&self, registry: &Registry) -> Arc<Vec<Entry>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = registry.since(known.len());
        if !fresh.is_empty() {
            let mut all = known.to_vec();
            let first = all.len();
            let numbered = fresh.into_iter().enumerate();
            all.extend(numbered.filter_map(|(index, key)| Some((key, PointId(u32::try_from(first + index).ok()?)))));
            all.sort_by(|a, b| (&a.0.device, &a.0.point, a.1).cmp(&(&b.0.device, &b.0.point, b.1)));
            *known = Arc::new(all);
        }
        known.clone()
    }
}

/// One page of the list.
#[derive(Template)]
#[template(path = "points_table.html")]
struct Table {
    l: Locale,
    rows: Vec<PointView>,
    /// Whether they stand below the names of their devices.
    grouped: bool,
    /// Where this page begins and ends, counted from 1.
    first: usize,
    last: usize,
    matching: usize,
    known: usize,
    narrowed: bool,
    this: String,
    previous: Option<String>,
    next: Option<String>,
}

impl Table {
    /// Whether a row is the first of its device on this page.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "templates hand over what they count by reference")]
    fn begins(&self, index: &usize) -> bool {
        let index = *index;
        let device = |index: usize| self.rows.get(index).map(|row| (&row.device, &row.source));
        self.grouped && (index == 0 || index.checked_sub(1).and_then(device) != device(index))
    }

    /// Which points these are.
    fn range(&self) -> String {
        let [first, last] = [self.first, self.last].map(|number| self.l.count(number as u64));
        let (matching, known) = (self.l.count(self.matching as u64), self.l.count(self.known as u64));
        if self.narrowed {
            self.l.f("{} to {} of {} that match, of {} in all", &[&first, &last, &matching, &known])
        } else {
            self.l.f("{} to {} of {}", &[&first, &last, &matching])
        }
    }
}

#[derive(Template)]
#[template(path = "points.html")]
struct Page {
    frame: Frame,
    table: String,
    filter: String,
    only_looks: bool,
    sorts: Vec<(&'static str, &'static str, bool)>,
}

/// In which order points are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    Device,
    State,
    Point,
    Heard,
}

impl Sort {
    /// Each with its word in addresses, and what it is called.
    const ALL: [(Self, &'static str, &'static str); 4] = [
        (Self::Device, "", "by device"),
        (Self::State, "state", "the worst first"),
        (Self::Point, "point", "by quantity"),
        (Self::Heard, "heard", "the longest silent first"),
    ];

    fn of(word: &str) -> Self {
        Self::ALL.into_iter().find(|(_, known, _)| *known == word).map_or(Self::Device, |(sort, ..)| sort)
    }

    fn word(self) -> &'static str {
        Self::ALL.into_iter().find(|(sort, ..)| *sort == self).map_or("", |(_, word, _)| word)
    }

    /// Puts entries that are ordered by device into this order; what is alike stays as it was.
    fn put(self, entries: &mut [Entry], live: &[Option<PointLive>], now_us: UnixMicros) {
        match self {
            Self::Device => {}
            Self::State => entries
                .sort_by_key(|(_, id)| Reverse(live_of(live, *id).map(|live| PointState::of(live, false, now_us)))),
            Self::Point => entries.sort_by(|(one, _), (other, _)| one.point.cmp(&other.point)),
            Self::Heard => entries.sort_by_key(|(_, id)| live_of(live, *id).map(|live| live.received_at_us)),
        }
    }
}

/// What is asked, tidied.
struct Selection {
    filter: String,
    words: Vec<String>,
    only_looks: bool,
    sort: Sort,
    page: usize,
}

impl Selection {
    fn new(ask: &Ask) -> Self {
        let filter: String = ask.filter.trim().chars().take(FILTER_CHARS_MAX).collect();
        let words = filter.to_lowercase().split_whitespace().map(ToOwned::to_owned).collect();
        let sort = Sort::of(&ask.sort);
        Self { words, filter, only_looks: ask.show == "look", sort, page: ask.page.unwrap_or(1).max(1) }
    }

    fn takes(&self, key: &PointKey) -> bool {
        if self.words.is_empty() {
            return true;
        }
        let name = format!("{} {} {} {}", key.device, key.point, key.unit, key.source).to_lowercase();
        let spaced = name.replace('_', " ");
        self.words.iter().all(|word| name.contains(word) || spaced.contains(word))
    }

    /// The entries of the page, and how many match in all.
    fn page(&self, order: &[Entry], status: &Status, now_us: UnixMicros) -> (Vec<Entry>, usize) {
        status.read_points(|live| {
            // Whether a source is down makes no difference here: what is old asks for no look.
            let state = |live: &PointLive| PointState::of(live, false, now_us);
            let looks = |id: PointId| live_of(live, id).is_some_and(|live| state(live).asks_for_a_look());
            let skip = (self.page - 1).saturating_mul(PAGE_POINTS);
            if self.sort != Sort::Device {
                let wanted = |(key, id): &&Entry| self.takes(key) && (!self.only_looks || looks(*id));
                let mut all: Vec<Entry> = order.iter().filter(wanted).cloned().collect();
                self.sort.put(&mut all, live, now_us);
                let matching = all.len();
                return (all.into_iter().skip(skip).take(PAGE_POINTS).collect(), matching);
            }
            let (mut matching, mut taken) = (0, Vec::new());
            for entry in order.iter().filter(|(key, id)| self.takes(key) && (!self.only_looks || looks(*id))) {
                if matching >= skip && taken.len() < PAGE_POINTS {
                    taken.push(entry.clone());
                }
                matching += 1;
            }
            (taken, matching)
        })
    }

    fn address(&self, page: usize) -> String {
        let show = if self.only_looks { "look" } else { "" };
        let page = if page > 1 { page.to_string() } else { String::new() };
        let query =
            pages::query(&[("filter", &self.filter), ("show", show), ("sort", self.sort.word()), ("page", &page)]);
        if query.is_empty() { "/points".to_owned() } else { format!("/points?{query}") }
    }
}

pub(super) fn live_of(live: &[Option<PointLive>], id: PointId) -> Option<&PointLive> {
    live.get(id.0 as usize).and_then(Option::as_ref)
}

/// `GET /points`; htmx asks for the table alone.
pub(in crate::web) async fn page(State(shared): State<Arc<Shared>>, Query(ask): Query<Ask>, visit: Visit) -> Response {
    let mut selection = Selection::new(&ask);
    let (address, looked_us) = (selection.address(selection.page), shared.state.clock.mono_us());
    if visit.htmx
        && let Some(list) = shared.lists.find(&address, visit.l, looked_us)
    {
        return pages::made(&visit, list.plain, list.zipped);
    }
    let snapshot = shared.snapshot();
    let order = shared.order.points(&shared.state.registry);
    let status = &shared.state.status;
    let (mut entries, matching) = selection.page(&order, status, snapshot.now_us);
    if entries.is_empty() && selection.page > 1 {
        selection.page = matching.div_ceil(PAGE_POINTS).max(1);
        (entries, _) = selection.page(&order, status, snapshot.now_us);
    }
    let skipped = (selection.page - 1) * PAGE_POINTS;
    let look = Look::new(status, snapshot.now_us);
    let rows = status.read_points(|live| {
        entries.iter().map(|(key, id)| PointView::new(*id, key, live_of(live, *id), &look, visit.l)).collect::<Vec<_>>()
    });
    let last = skipped + rows.len();
    let table = Table {
        l: visit.l,
        grouped: selection.sort == Sort::Device,
        first: skipped + 1,
        last,
        matching,
        known: order.len(),
        narrowed: matching < order.len() || !selection.filter.is_empty() || selection.only_looks,
        this: selection.address(selection.page),
        previous: (selection.page > 1).then(|| selection.address(selection.page - 1)),
        next: (last < matching).then(|| selection.address(selection.page + 1)),
        rows,
    };
    if visit.htmx
        && let Ok(table) = table.render()
    {
        let list = List::new(address, visit.l, looked_us, table);
        shared.lists.keep(list.clone());
        return pages::made(&visit, list.plain, list.zipped);
    }
    let rendered = table.render().and_then(|table| {
        let frame = Frame::new(&shared, &visit, Nav::Points);
        let sorts = Sort::ALL.map(|(sort, word, words)| (word, words, sort == selection.sort)).to_vec();
        Page { frame, table, filter: selection.filter, only_looks: selection.only_looks, sorts }.render()
    });
    pages::html(StatusCode::OK, &visit, rendered)
}

/// The points that the overview shows: the worst first, then the first ones known, so that nothing moves without a cause.
pub(in crate::web) fn watched(registry: &Registry, status: &Status, now_us: UnixMicros, l: Locale) -> Vec<PointView> {
    let look = Look::new(status, now_us);
    status.read_points(|live| {
        let mut found: Vec<(PointState, usize)> = Vec::new();
        for (index, live) in live.iter().enumerate() {
            let Some(live) = live else { continue };
            let state = PointState::of(live, false, now_us);
            let rank = if state.asks_for_a_look() { state } else { PointState::Good };
            if found.len() >= WATCHED_MAX && found.last().is_some_and(|(least, _)| *least >= rank) {
                continue;
            }
            let place = found.partition_point(|(other, _)| *other >= rank);
            found.insert(place, (rank, index));
            found.truncate(WATCHED_MAX);
        }
        let view = |(_, index): (PointState, usize)| {
            let id = PointId(u32::try_from(index).ok()?);
            Some(PointView::new(id, &*registry.key(id)?, live_of(live, id), &look, l))
        };
        found.into_iter().filter_map(view).collect()
    })
}

#[derive(Serialize, JsonSchema)]
pub(in crate::web) struct PointAnswer {
    id: u32,
    device: Arc<str>,
    point: Arc<str>,
    unit: Arc<str>,
    source: Arc<str>,
    state: PointState,
    #[serde(flatten)]
    last: Option<LastAnswer>,
}

#[derive(Serialize, JsonSchema)]
pub(in crate::web) struct LastAnswer {
    value: Option<serde_json::Value>,
    no_data: Option<&'static str>,
    quality: &'static str,
    flags: Vec<&'static str>,
    anomaly_score: f64,
    note: String,
    received_at_us: UnixMicros,
}

#[derive(Serialize, JsonSchema)]
pub(in crate::web) struct ListAnswer {
    known: usize,
    matching: usize,
    page: usize,
    page_size: usize,
    points: Vec<PointAnswer>,
}

impl PointAnswer {
    fn new(id: PointId, key: &PointKey, live: Option<&PointLive>, look: &Look) -> Self {
        let is_down = look.is_down(&key.source);
        Self {
            id: id.0,
            device: key.device.clone(),
            point: key.point.clone(),
            unit: key.unit.clone(),
            source: key.source.clone(),
            state: live.map_or(PointState::Old, |live| PointState::of(live, is_down, look.now_us)),
            last: live.map(LastAnswer::new),
        }
    }
}

/// A point as the interface tells of it.
pub(in crate::web) fn answer_of(shared: &Shared, id: PointId, key: &PointKey) -> PointAnswer {
    let look = Look::new(&shared.state.status, shared.state.clock.tick().wall_us);
    shared.state.status.read_points(|live| PointAnswer::new(id, key, live_of(live, id), &look))
}

impl LastAnswer {
    fn new(live: &PointLive) -> Self {
        Self {
            value: live.outcome.as_ref().ok().map(|value| match value {
                Value::Number(number) => (*number).into(),
                Value::Integer(integer) => (*integer).into(),
                Value::Boolean(boolean) => (*boolean).into(),
                Value::Text(text) => text.to_string().into(),
            }),
            no_data: live.outcome.as_ref().err().map(|no_data| no_data.name()),
            quality: live.quality.name(),
            flags: live.flags.names().collect(),
            anomaly_score: live.score.as_unit(),
            note: live.note.clone(),
            received_at_us: live.received_at_us,
        }
    }
}

/// `GET /api/v1/points`: the same list and the same filter as JSON.
pub(in crate::web) async fn api(
    State(shared): State<Arc<Shared>>,
    Query(ask): Query<Ask>,
    visit: Visit,
) -> Result<Response, Failure> {
    if ask.page == Some(0) {
        return Err(Failure::bad("page is 0; pages are counted from 1"));
    }
    let selection = Selection::new(&ask);
    let now_us = shared.state.clock.tick().wall_us;
    let order = shared.order.points(&shared.state.registry);
    let (entries, matching) = selection.page(&order, &shared.state.status, now_us);
    let look = Look::new(&shared.state.status, now_us);
    let points = shared.state.status.read_points(|live| {
        entries.iter().map(|(key, id)| PointAnswer::new(*id, key, live_of(live, *id), &look)).collect()
    });
    let known = order.len();
    Ok(pages::json(&visit, &ListAnswer { known, matching, page: selection.page, page_size: PAGE_POINTS, points }))
}
