//! A form for any place of the configuration: shown, checked as it is typed, and handed in. Items of lists are moved and
//! removed here, too.

use super::conflict;
use super::draft::{self, Entry};
use super::excerpt::excerpt;
use super::fields::{self, Drawn, Item, Slot, Source};
use super::highlight::{self, Line};
use super::rules;
use super::words::{Piece, pieces, readable_as};
use crate::config::edit::{self, Edit, Place, Step};
use crate::config::form;
use crate::config::redacted_toml;
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

/// What begins the name of the field of a secret that is typed.
pub(super) const SECRET: &str = "secret:";

/// Which place is asked for.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Ask {
    #[serde(default)]
    at: String,
    #[serde(default)]
    kind: String,
}

/// What is to be added.
#[derive(Debug, Deserialize)]
pub(super) struct Add {
    #[serde(default)]
    to: String,
    #[serde(default)]
    kind: String,
}

/// A part of the way to a place.
struct Crumb {
    name: String,
    href: String,
}

#[derive(Template)]
#[template(path = "settings/edit.html")]
struct Page {
    frame: Frame,
    at: String,
    base: String,
    title: String,
    crumbs: Vec<Crumb>,
    about: Vec<Piece>,
    fields: String,
    /// The fields that need something else, by id and what they are called.
    mend: Vec<(String, String)>,
    elsewhere: Vec<FieldError>,
    /// The whole of it is a list: its items.
    list: Option<(Vec<Item>, String)>,
    removable: bool,
    movable: [bool; 2],
    within: u64,
    minutes: [u64; 4],
    toml: Vec<Line>,
    unwritable: String,
    said: String,
}

/// What is said of a form while it is typed.
#[derive(Template)]
#[template(path = "settings/checked.html")]
pub(super) struct Checked {
    /// The language.
    pub(super) l: Locale,
    /// What is wrong, field by field.
    pub(super) slots: Vec<Slot>,
    /// What is wrong that no field shows.
    pub(super) elsewhere: Vec<FieldError>,
    /// The text that it makes.
    pub(super) toml: Vec<Line>,
}

impl Page {
    fn l(&self) -> Locale {
        self.frame.l
    }
}

impl Checked {
    fn l(&self) -> Locale {
        self.l
    }
}

/// `GET /settings/edit?at=source[1]`.
pub(super) async fn page(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Query(ask): Query<Ask>,
) -> Result<Response, Failure> {
    let text = running(&shared).0;
    let asked = place(&ask.at)?;
    let place = draft::home(&text, &asked);
    if place.steps().is_empty() {
        return Ok(Redirect::to("/settings").into_response());
    }
    if place != asked {
        return Ok(Redirect::to(&fields::edit_at(&place)).into_response());
    }
    let mut entry = Entry { at: place, ..Entry::default() };
    if !ask.kind.is_empty()
        && let Some(tag) = form::at(&text, &entry.at, None).and_then(|form| form.tag)
    {
        entry.typed.push((tag.name.clone(), ask.kind));
        entry.tags.push(tag.name);
    }
    show(&shared, &visit, StatusCode::OK, &entry, &[], "")
}

/// `GET /settings/add?to=source`: the form of a new item.
pub(super) async fn add(State(shared): State<Arc<Shared>>, Query(add): Query<Add>) -> Result<Response, Failure> {
    let text = running(&shared).0;
    let list = place(&add.to)?;
    let count = form::at(&text, &list, None).ok_or_else(nothing)?.fields.len();
    let at = list.item(count).to_string();
    let query = pages::query(&[("at", &at), ("kind", &add.kind)]);
    Ok(Redirect::to(&format!("/settings/edit?{query}")).into_response())
}

/// `POST /settings/edit`: hands the fields in.
pub(super) async fn save(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Form(pairs): Form<Vec<(String, String)>>,
) -> Result<Response, Failure> {
    let mut entry = Entry::read(pairs)?;
    let (text, revision) = running(&shared);
    if entry.action == "redraw" {
        return show(&shared, &visit, StatusCode::OK, &entry, &[], "");
    }
    if entry.base != revision {
        return conflict::of_form(&shared, &visit, &entry).await;
    }
    // What is wrong with the other fields is told before a secret is written.
    if let Err(errors) = draft::new_text(&text, &entry, &shared) {
        return show(&shared, &visit, StatusCode::UNPROCESSABLE_ENTITY, &entry, &errors, "");
    }
    let written = match draft::write_secrets(&shared, &text, &mut entry).await {
        Ok(written) => written,
        Err(errors) => {
            return show(&shared, &visit, StatusCode::UNPROCESSABLE_ENTITY, &entry, &errors, "");
        }
    };
    let outcome = match draft::new_text(&text, &entry, &shared) {
        Ok(new) if new == text => Err(Failure::unfit("nothing was changed; change a field first", Vec::new())),
        Ok(new) => {
            let within = change::confirm_within(&entry.within);
            change::hand_in_within(&shared, &visit, &revision, new.clone(), &entry.at.to_string(), within)
                .await
                .map(|_| new)
        }
        Err(errors) => Err(Failure::unfit(String::new(), errors)),
    };
    match outcome {
        Ok(new) => Ok(Redirect::to(&draft::effect(&new, &entry.at)).into_response()),
        Err(failure) => {
            draft::forget_secrets(&shared, written).await;
            match failure.status {
                StatusCode::CONFLICT => conflict::of_form(&shared, &visit, &entry).await,
                StatusCode::UNPROCESSABLE_ENTITY => {
                    let said = if failure.fields.is_empty() { failure.detail } else { String::new() };
                    show(&shared, &visit, StatusCode::UNPROCESSABLE_ENTITY, &entry, &failure.fields, &said)
                }
                _ => Err(failure),
            }
        }
    }
}

/// `POST /settings/edit/fields`: the fields again, once a kind was chosen.
pub(super) async fn redraw(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Form(pairs): Form<Vec<(String, String)>>,
) -> Result<Response, Failure> {
    let entry = Entry::read(pairs)?;
    let text = running(&shared).0;
    let drawn = draw(&text, &entry, &[], visit.l).ok_or_else(nothing)?;
    Ok(pages::html(StatusCode::OK, &visit, Ok(drawn.html)))
}

/// `POST /settings/check`: what is wrong, as one types; nothing is changed.
pub(super) async fn check(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Form(pairs): Form<Vec<(String, String)>>,
) -> Result<Response, Failure> {
    let entry = Entry::read(pairs)?;
    let text = running(&shared).0;
    let (errors, new) = match draft::new_text(&text, &entry, &shared) {
        Err(errors) => (errors, None),
        Ok(new) => {
            let examined = change::look_at(new.clone()).await?;
            (examined.problems.iter().map(FieldError::from).collect(), Some(new))
        }
    };
    // What is still empty may yet be filled in; it is told when the form is handed in.
    let blank = |error: &FieldError| {
        let is = |(name, typed): &(String, String)| {
            typed.trim().is_empty() && entry.at.below(name).is_ok_and(|path| path.to_string() == error.path)
        };
        entry.typed.iter().any(is)
    };
    let errors: Vec<FieldError> = errors.into_iter().filter(|error| !blank(error)).collect();
    let mut drawn = draw(&text, &entry, &errors, visit.l).ok_or_else(nothing)?;
    drawn.slots.iter_mut().for_each(|slot| slot.swap = true);
    let elsewhere = drawn.elsewhere.into_iter().filter(|error| error.path.starts_with(&entry.at.to_string())).collect();
    let toml = lines(&new.unwrap_or(text), &entry.at);
    let checked = Checked { l: visit.l, slots: drawn.slots, elsewhere, toml };
    Ok(pages::html(StatusCode::OK, &visit, checked.render()))
}

/// `POST /settings/item`: moves or removes what stands at a place.
pub(super) async fn item(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Form(pairs): Form<Vec<(String, String)>>,
) -> Result<Response, Failure> {
    let entry = Entry::read(pairs)?;
    let (text, revision) = running(&shared);
    if entry.base != revision {
        return Err(Failure::conflict(
            "the configuration was changed meanwhile; open the form again and look whether this is still wanted",
        ));
    }
    let (around, step) = entry.at.split_last().ok_or_else(nothing)?;
    let edit = match (entry.action.as_str(), step) {
        ("remove", _) => Edit::remove(&entry.at),
        ("up", Step::Item(index)) if *index > 0 => Edit::Move { path: around.clone(), from: *index, to: index - 1 },
        ("down", Step::Item(index)) => Edit::Move { path: around.clone(), from: *index, to: index + 1 },
        _ => return Err(Failure::bad("what stands at a place is removed, or moved up or down in its list")),
    };
    let new = edit::apply(&text, &[edit]).map_err(|error| Failure::unfit(error.to_string(), Vec::new()))?;
    let within = change::confirm_within(&entry.within);
    change::hand_in_within(&shared, &visit, &revision, new.clone(), &entry.at.to_string(), within).await?;
    let back = draft::home(&new, &around);
    let back = match back.to_string().as_str() {
        "" => "/settings".to_owned(),
        "check" | "anomaly" => rules::HERE.to_owned(),
        _ => fields::edit_at(&back),
    };
    Ok(Redirect::to(&back).into_response())
}

/// The text that runs, and its revision.
pub(super) fn running(shared: &Shared) -> (String, String) {
    let desk = shared.state.desk.state();
    let desk = desk.borrow();
    (desk.text.to_string(), desk.revision.0.clone())
}

/// Why a change could not be kept; nothing if it could.
pub(super) fn unwritable(shared: &Shared, l: Locale) -> String {
    let desk = shared.state.desk.state();
    let why = desk.borrow().unwritable.clone().unwrap_or_default();
    l.say(&why).into_owned()
}

pub(super) fn place(at: &str) -> Result<Place, Failure> {
    at.parse().map_err(|error: edit::NoPlace| Failure::bad(error.to_string()))
}

fn nothing() -> Failure {
    Failure::missing("no option stands there; it may have been removed meanwhile")
}

fn draw(text: &str, entry: &Entry, errors: &[FieldError], l: Locale) -> Option<Drawn> {
    let draft = draft::draft(text, entry);
    fields::draw(&Source { draft: &draft, place: &entry.at, typed: &entry.typed, errors, l })
}

pub(super) fn lines(text: &str, place: &Place) -> Vec<Line> {
    let shown = redacted_toml(text);
    let (first, part) = excerpt(&shown, place);
    highlight::lines(&part, first)
}

fn show(
    shared: &Shared,
    visit: &Visit,
    status: StatusCode,
    entry: &Entry,
    errors: &[FieldError],
    said: &str,
) -> Result<Response, Failure> {
    let l = visit.l;
    let (text, revision) = running(shared);
    let place = &entry.at;
    let now = form::at(&text, place, None).ok_or_else(nothing)?;
    let (around, step) = place.split_last().ok_or_else(nothing)?;
    let beside = match step {
        Step::Item(_) => form::at(&text, &around, None).map_or(0, |form| form.fields.len()),
        Step::Key(_) => 0,
    };
    let index = match step {
        Step::Item(index) if *index > beside => return Err(nothing()),
        Step::Item(index) => *index,
        Step::Key(_) => 0,
    };
    let is_list = draft::is_list(&text, place);
    let drawn = if is_list {
        Drawn { html: String::new(), slots: Vec::new(), elsewhere: errors.to_vec() }
    } else {
        draw(&text, entry, errors, l).ok_or_else(nothing)?
    };
    let crumbs = crumbs(&text, place, l);
    let exists = now.exists;
    let title = match (exists, step) {
        (false, Step::Item(_)) => l.f1("New: {}", readable_as(&last_key(place), true, false, l)),
        _ => crumbs.last().map(|crumb| crumb.name.clone()).unwrap_or_default(),
    };
    let page = Page {
        frame: Frame::new(shared, visit, Nav::Settings).tab("/settings").script(&ASSETS.form.url),
        at: place.to_string(),
        base: if entry.base.is_empty() { revision } else { entry.base.clone() },
        title,
        about: pieces(&now.description, l),
        fields: drawn.html,
        mend: drawn
            .slots
            .into_iter()
            .filter(|slot| !slot.errors.is_empty())
            .map(|slot| (slot.id, slot.label))
            .collect(),
        elsewhere: drawn.elsewhere,
        list: is_list.then(|| {
            let items = fields::items(&text, place, l);
            (items, fields::edit_at(&place.item(now.fields.len())))
        }),
        removable: exists && !is_list && draft::is_removable(&text, place),
        movable: [exists && index > 0, exists && index + 1 < beside],
        within: change::confirm_within(&entry.within).as_secs() / 60,
        minutes: CONFIRM_MINUTES,
        toml: if exists { lines(&text, place) } else { Vec::new() },
        unwritable: unwritable(shared, l),
        said: crate::web::words::sentence(&l.say(said)),
        crumbs,
    };
    Ok(pages::html(status, visit, page.render()))
}

fn last_key(place: &Place) -> String {
    let keys = place.steps().iter().rev();
    let mut keys = keys.filter_map(|step| match step {
        Step::Key(key) => Some(key.clone()),
        Step::Item(_) => None,
    });
    keys.next().unwrap_or_default()
}

/// The way to a place, from the whole configuration on.
fn crumbs(text: &str, place: &Place, l: Locale) -> Vec<Crumb> {
    let mut crumbs = Vec::new();
    let mut at = Place::root();
    for step in place.steps() {
        let name = match step {
            Step::Key(key) => readable_as(key, true, false, l),
            Step::Item(index) => {
                let known = fields::items(text, &at, l).into_iter().nth(*index).map(|item| item.name);
                known.unwrap_or_else(|| l.t("New").to_owned())
            }
        };
        at = match step {
            Step::Key(key) => at.key(key),
            Step::Item(index) => at.item(*index),
        };
        crumbs.push(Crumb { name, href: fields::edit_at(&at) });
    }
    crumbs
}
