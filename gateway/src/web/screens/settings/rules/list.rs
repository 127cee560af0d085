//! `/settings/rules`: every rule in words, how many points it holds, and how often it spoke in the last day.

use super::super::edit::{running, unwritable};
use super::super::fields::ITEMS_MAX;
use super::values::Values;
use super::{KINDS, Kind, edit_at, kind_of, points};
use crate::config::edit::Place;
use crate::config::form as options;
use crate::history::{PAGE_RECORDS_MAX, RecordFilter, RecordView, RecordWhat};
use crate::reading::{Stream, UnixMicros};
use crate::site::PointPattern;
use crate::web::failure::Failure;
use crate::web::live::Shared;
use crate::web::locale::Locale;
use crate::web::pages::{self, Frame, Nav};
use crate::web::visit::Visit;
use crate::web::words::Moment;
use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use std::sync::Arc;

/// The day that is looked back.
const DAY_US: i64 = 86_400_000_000;

/// Pages of alerts that are looked through for it; beyond, "at least" is said.
const PAGES_MAX: usize = 5;

struct Row {
    pattern: String,
    says: String,
    holds: String,
    none: bool,
    spoke: String,
    last: Option<Moment>,
    href: String,
}

struct Group {
    kind: &'static dyn Kind,
    rows: Vec<Row>,
    add: String,
}

#[derive(Template)]
#[template(path = "settings/rules/list.html")]
struct Page {
    frame: Frame,
    groups: Vec<Group>,
    unwritable: String,
    /// Why it is not known how often they spoke.
    silent: String,
}

/// The alerts of the last day that began in it.
#[derive(Default)]
struct Spoken {
    alerts: Vec<RecordView>,
    /// Whether there are more than were looked through.
    more: bool,
}

/// `GET /settings/rules`.
pub(super) async fn page(State(shared): State<Arc<Shared>>, visit: Visit) -> Result<Response, Failure> {
    let text = running(&shared).0;
    let (l, now_us) = (visit.l, shared.state.clock.tick().wall_us);
    let (spoken, silent) = match spoken(&shared, now_us.saturating_sub(DAY_US)).await {
        Ok(spoken) => (spoken, String::new()),
        Err(error) => (Spoken::default(), error),
    };
    let look = Look { shared: &shared, text: &text, spoken: silent.is_empty().then_some(&spoken), now_us, l };
    let group = |kind: &'static dyn Kind| Group {
        kind,
        rows: look.rows(kind),
        add: format!("{}/new?{}", super::HERE, pages::query(&[("kind", kind.key())])),
    };
    let page = Page {
        groups: KINDS.into_iter().map(group).collect(),
        frame: Frame::new(&shared, &visit, Nav::Settings).tab("/settings"),
        unwritable: unwritable(&shared, l),
        silent: l.say(&silent).into_owned(),
    };
    Ok(pages::html(StatusCode::OK, &visit, page.render()))
}

async fn spoken(shared: &Shared, from_us: UnixMicros) -> Result<Spoken, String> {
    let filter = RecordFilter { from_us: Some(from_us), ..RecordFilter::default() };
    let mut spoken = Spoken::default();
    let mut before = None;
    for _ in 0..PAGES_MAX {
        let page = shared.state.history.records(Stream::Alerts, before, PAGE_RECORDS_MAX, &filter);
        let page = page.await.map_err(|error| error.to_string())?;
        let begun = |record: &RecordView| matches!(record.what, RecordWhat::Alert { raised: true, .. });
        let whole = page.records.len() == PAGE_RECORDS_MAX;
        spoken.alerts.extend(page.records.into_iter().filter(begun));
        before = page.next;
        // A page that is not full has seen everything of the day.
        if before.is_none() || !whole {
            return Ok(spoken);
        }
    }
    spoken.more = true;
    Ok(spoken)
}

struct Look<'a> {
    shared: &'a Shared,
    text: &'a str,
    spoken: Option<&'a Spoken>,
    now_us: UnixMicros,
    l: Locale,
}

impl Look<'_> {
    fn rows(&self, kind: &'static dyn Kind) -> Vec<Row> {
        let list = Place::root().key(kind.list());
        let count = options::at(self.text, &list, None).map_or(0, |form| form.fields.len());
        let of_kind = |at: &Place| kind_of(self.text, at).is_some_and(|known| known.key() == kind.key());
        (0..count.min(ITEMS_MAX)).map(|index| list.item(index)).filter(of_kind).map(|at| self.row(kind, &at)).collect()
    }

    fn row(&self, kind: &'static dyn Kind, at: &Place) -> Row {
        let l = self.l;
        let values = Values::of(self.text, at);
        let pattern = values.get("points").to_owned();
        let (known, count, unit) = points::count(self.shared, &pattern);
        let (spoke, last) = self.spoke(kind.rule(), &pattern);
        Row {
            says: kind.says(&values, &unit, l).join(" · "),
            holds: match count {
                0 => l.t("holds no point that is known yet").to_owned(),
                1 => l.t("holds one point").to_owned(),
                _ => l.f2("holds {} of {} points", l.count(count as u64), l.count(known as u64)),
            },
            none: count == 0,
            spoke,
            last,
            href: edit_at(self.text, at),
            pattern,
        }
    }

    /// How often alerts of this kind began at its points, and when the last one did.
    fn spoke(&self, name: &str, pattern: &str) -> (String, Option<Moment>) {
        let (Some(spoken), Some(pattern)) = (self.spoken, PointPattern::parse(pattern)) else {
            return (String::new(), None);
        };
        let own = |record: &&RecordView| match &record.what {
            RecordWhat::Alert { rule, subject, .. } => {
                let named = |(device, point)| pattern.matches(device, point);
                rule == name && subject.split_once('/').is_some_and(named)
            }
            _ => false,
        };
        let mut own = spoken.alerts.iter().filter(own).peekable();
        let last = own.peek().map(|record| Moment::new(record.at_us, self.now_us, self.l));
        let l = self.l;
        let said = match (own.count(), spoken.more) {
            (0, false) => l.t("quiet in the last day").to_owned(),
            (0, true) => String::new(),
            (1, false) => l.t("spoke once in the last day").to_owned(),
            (count, false) => l.f1("spoke {} times in the last day", l.count(count as u64)),
            (count, true) => l.f1("spoke at least {} times in the last day", l.count(count as u64)),
        };
        (said, last)
    }
}
