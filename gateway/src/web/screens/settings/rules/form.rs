//! The form of a rule, whatever its kind: its points, its fields, what is wrong as one types, and how it is handed in.

use super::super::conflict;
use super::super::draft::{self, Entry};
use super::super::edit::{Checked, lines, place, running, unwritable};
use super::super::fields;
use super::super::highlight::Line;
use super::points::{self, Picked};
use super::values::{Sheet, Values};
use super::{HERE, KINDS, Kind, edit_at, kind_named, kind_of};
use crate::config::edit::Place;
use crate::config::form as options;
use crate::web::assets::ASSETS;
use crate::web::change::{self, CONFIRM_MINUTES};
use crate::web::failure::{Failure, FieldError};
use crate::web::live::Shared;
use crate::web::locale::Locale;
use crate::web::pages::{self, Frame, Nav};
use crate::web::visit::Visit;
use askama::Template;
use axum::Form;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;
use std::sync::Arc;

/// What begins the word of a button that picks other points.
const PICK: &str = "pick:";

/// Which rule is asked for.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Ask {
    #[serde(default)]
    at: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    points: String,
}

#[derive(Template)]
#[template(path = "settings/rules/form.html")]
struct Page {
    frame: Frame,
    at: String,
    base: String,
    action: String,
    kind: &'static dyn Kind,
    exists: bool,
    title: String,
    points: String,
    points_wrong: bool,
    slots: [String; 2],
    offered: Vec<String>,
    picked: String,
    fields: String,
    elsewhere: Vec<FieldError>,
    said: String,
    within: u64,
    minutes: [u64; 4],
    toml: Vec<Line>,
    every_option: String,
    unwritable: String,
}

impl Page {
    fn l(&self) -> Locale {
        self.frame.l
    }
}

/// A rule that someone is at.
struct Work {
    kind: &'static dyn Kind,
    entry: Entry,
    /// What the file has of it.
    kept: Values,
    text: String,
    revision: String,
}

impl Work {
    /// The rule of a form that was sent.
    fn sent(shared: &Shared, ask: &Ask, pairs: Vec<(String, String)>) -> Result<Self, Failure> {
        Self::new(shared, ask, Entry::read(pairs)?)
    }

    fn new(shared: &Shared, ask: &Ask, entry: Entry) -> Result<Self, Failure> {
        let (text, revision) = running(shared);
        let kind = kind_named(&ask.kind).or_else(|| kind_of(&text, &entry.at)).ok_or_else(nothing)?;
        let around = entry.at.split_last().map(|(around, _)| around.to_string());
        if around.as_deref() != Some(kind.list()) {
            return Err(nothing());
        }
        let kept = Values::of(&text, &entry.at);
        Ok(Self { kind, entry, kept, text, revision })
    }

    fn pattern(&self) -> &str {
        let typed = self.entry.typed.iter().find(|(name, _)| name == "points");
        typed.map_or_else(|| self.kept.get("points"), |(_, typed)| typed.trim())
    }

    fn picked(&self, shared: &Shared, l: Locale) -> Picked {
        let mut picked = points::pick(shared, self.pattern(), &self.others(), l);
        if !self.kind.is_in_unit() {
            picked.units.clear();
        }
        picked
    }

    /// The other rules of this kind: their patterns and addresses.
    fn others(&self) -> Vec<(String, String)> {
        let list = Place::root().key(self.kind.list());
        let count = options::at(&self.text, &list, None).map_or(0, |form| form.fields.len());
        let places = (0..count.min(fields::ITEMS_MAX)).map(|index| list.item(index)).filter(|at| *at != self.entry.at);
        let of_kind = |at: &Place| kind_of(&self.text, at).is_some_and(|kind| kind.key() == self.kind.key());
        let other = |at: Place| (Values::of(&self.text, &at).get("points").to_owned(), edit_at(&self.text, &at));
        places.filter(of_kind).map(other).collect()
    }

    fn sheet<'a>(&'a self, errors: &'a [FieldError], unit: &'a str, l: Locale) -> Sheet<'a> {
        Sheet { kind: self.kind, entry: &self.entry, kept: &self.kept, errors, unit, l }
    }

    /// The text that comes of it, or what is wrong that can be said without looking at the whole.
    fn new_text(&self, shared: &Shared, l: Locale) -> Result<(Entry, String), Vec<FieldError>> {
        let sheet = self.sheet(&[], "", l);
        let mut errors = Vec::new();
        if self.pattern().is_empty() {
            errors.push(sheet.wrong("points", "say which points: device/point, with * for any run of characters"));
        }
        let fields = match self.kind.written(&sheet) {
            Ok(fields) if errors.is_empty() => fields,
            Ok(_) => return Err(errors),
            Err(others) => {
                errors.extend(others);
                return Err(errors);
            }
        };
        let typed = std::iter::once(("points".to_owned(), self.pattern().to_owned())).chain(fields).collect();
        let entry = Entry { typed, ..self.entry.clone() };
        draft::new_text(&self.text, &entry, shared).map(|text| (entry, text))
    }
}

fn nothing() -> Failure {
    Failure::missing("no rule stands there; it may have been removed meanwhile")
}

/// `GET /settings/rules/new?kind=limits&points=boiler-1/temperature`.
pub(super) async fn new(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Query(ask): Query<Ask>,
) -> Result<Response, Failure> {
    let kind = kind_named(&ask.kind).or(KINDS.first().copied()).ok_or_else(nothing)?;
    let list = Place::root().key(kind.list());
    let count = options::at(&running(&shared).0, &list, None).map_or(0, |form| form.fields.len());
    let mut entry = Entry { at: list.item(count), ..Entry::default() };
    if !ask.points.is_empty() {
        entry.typed.push(("points".to_owned(), ask.points));
    }
    let work = Work::new(&shared, &Ask { kind: kind.key().to_owned(), ..Ask::default() }, entry)?;
    Ok(show(&shared, &visit, StatusCode::OK, &work, &[], ""))
}

/// `GET /settings/rules/edit?at=check[0]`.
pub(super) async fn page(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Query(ask): Query<Ask>,
) -> Result<Response, Failure> {
    let at = place(&ask.at)?;
    if kind_of(&running(&shared).0, &at).is_none() {
        return Err(nothing());
    }
    let work = Work::new(&shared, &ask, Entry { at, ..Entry::default() })?;
    Ok(show(&shared, &visit, StatusCode::OK, &work, &[], ""))
}

/// `POST /settings/rules/edit?kind=limits`: hands it in.
pub(super) async fn save(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Query(ask): Query<Ask>,
    Form(pairs): Form<Vec<(String, String)>>,
) -> Result<Response, Failure> {
    let mut work = Work::sent(&shared, &ask, pairs)?;
    if let Some(pattern) = work.entry.action.strip_prefix(PICK) {
        let pattern = pattern.to_owned();
        work.entry.typed.retain(|(name, _)| name != "points");
        work.entry.typed.push(("points".to_owned(), pattern));
        return Ok(show(&shared, &visit, StatusCode::OK, &work, &[], ""));
    }
    let (entry, text) = match work.new_text(&shared, visit.l) {
        Ok(new) => new,
        Err(errors) => return Ok(show(&shared, &visit, StatusCode::UNPROCESSABLE_ENTITY, &work, &errors, "")),
    };
    if work.entry.base != work.revision {
        return conflict::of_form(&shared, &visit, &entry).await;
    }
    if text == work.text {
        let said = "nothing was changed; change a field first";
        return Ok(show(&shared, &visit, StatusCode::UNPROCESSABLE_ENTITY, &work, &[], said));
    }
    let within = change::confirm_within(&entry.within);
    let name = entry.at.to_string();
    match change::hand_in_within(&shared, &visit, &work.revision, text, &name, within).await {
        Ok(_) => {
            let only = work.picked(&shared, visit.l).only;
            let there = only.map_or_else(|| HERE.to_owned(), |point| format!("/points/{}", point.0));
            Ok(Redirect::to(&there).into_response())
        }
        Err(failure) => match failure.status {
            StatusCode::CONFLICT => conflict::of_form(&shared, &visit, &entry).await,
            StatusCode::UNPROCESSABLE_ENTITY => {
                let said = if failure.fields.is_empty() { failure.detail } else { String::new() };
                Ok(show(&shared, &visit, StatusCode::UNPROCESSABLE_ENTITY, &work, &failure.fields, &said))
            }
            _ => Err(failure),
        },
    }
}

/// `POST /settings/rules/check?kind=limits`: what is wrong, as one types; nothing is changed.
pub(super) async fn check(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Query(ask): Query<Ask>,
    Form(pairs): Form<Vec<(String, String)>>,
) -> Result<Response, Failure> {
    let work = Work::sent(&shared, &ask, pairs)?;
    let (errors, new): (Vec<FieldError>, _) = match work.new_text(&shared, visit.l) {
        Err(errors) => (errors, None),
        Ok((_, new)) => {
            let examined = change::look_at(new.clone()).await?;
            (examined.problems.iter().map(FieldError::from).collect(), Some(new))
        }
    };
    // What is still empty may yet be filled in; it is told when the form is handed in.
    let typed = |name: &str| {
        let sheet = work.sheet(&[], "", visit.l);
        work.entry
            .typed
            .iter()
            .any(|(known, typed)| known.starts_with(name) && !sheet.get(known).is_empty() && !typed.trim().is_empty())
    };
    let blank = |error: &FieldError| {
        let below = error.path.strip_prefix(&work.entry.at.to_string()).map(|path| path.trim_start_matches('.'));
        below.is_some_and(|name| !name.is_empty() && !typed(name))
    };
    let errors: Vec<FieldError> = errors.into_iter().filter(|error| !blank(error)).collect();
    let sheet = work.sheet(&errors, "", visit.l);
    let own = work.entry.at.to_string();
    let elsewhere = sheet.elsewhere().into_iter().filter(|error| error.path.starts_with(&own)).collect();
    let toml = match &new {
        Some(new) => lines(new, &work.entry.at),
        None if options::at(&work.text, &work.entry.at, None).is_some_and(|form| form.exists) => {
            lines(&work.text, &work.entry.at)
        }
        None => Vec::new(),
    };
    let checked = Checked { l: visit.l, slots: sheet.slots(), elsewhere, toml };
    Ok(pages::html(StatusCode::OK, &visit, checked.render()))
}

/// `POST /settings/rules/points?kind=limits`: the points that a pattern names, as one types.
pub(super) async fn points(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Query(ask): Query<Ask>,
    Form(pairs): Form<Vec<(String, String)>>,
) -> Result<Response, Failure> {
    let work = Work::sent(&shared, &ask, pairs)?;
    let mut picked = work.picked(&shared, visit.l);
    picked.swap = true;
    Ok(pages::html(StatusCode::OK, &visit, picked.render()))
}

fn show(
    shared: &Shared,
    visit: &Visit,
    status: StatusCode,
    work: &Work,
    errors: &[FieldError],
    said: &str,
) -> Response {
    let l = visit.l;
    let picked = work.picked(shared, l);
    let sheet = work.sheet(errors, &picked.unit, l);
    let Work { kind, entry, .. } = work;
    let exists = options::at(&work.text, &entry.at, None).is_some_and(|form| form.exists);
    let draw = || -> askama::Result<String> {
        let points = sheet.input("points");
        let page = Page {
            frame: Frame::new(shared, visit, Nav::Settings).tab("/settings").script(&ASSETS.form.url),
            at: entry.at.to_string(),
            base: if entry.base.is_empty() { work.revision.clone() } else { entry.base.clone() },
            action: pages::query(&[("kind", kind.key())]),
            kind: *kind,
            exists,
            title: match work.kept.get("points") {
                "" => l.f1("New: {}", l.t(kind.name())),
                pattern => format!("{} · {pattern}", l.t(kind.name())),
            },
            points: points.value,
            points_wrong: points.wrong,
            slots: [sheet.slot("")?, sheet.slot("points")?],
            offered: points::offered(shared),
            picked: picked.render()?,
            fields: kind.draw(&sheet)?,
            elsewhere: sheet.elsewhere(),
            said: crate::web::words::sentence(&l.say(said)),
            within: change::confirm_within(&entry.within).as_secs() / 60,
            minutes: CONFIRM_MINUTES,
            toml: if exists { lines(&work.text, &entry.at) } else { Vec::new() },
            every_option: fields::edit_at(&entry.at),
            unwritable: unwritable(shared, l),
        };
        page.render()
    };
    pages::html(status, visit, draw())
}
