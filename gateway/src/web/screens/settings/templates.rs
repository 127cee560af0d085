//! Templates of devices: filled in, they become sources; one's own are saved from a source.

use super::draft::{data_dir, effect};
use super::edit::{running, unwritable};
use crate::config::edit::{self, Place};
use crate::config::form;
use crate::config::template::{self, Ask, Template as Device, TemplateError};
use crate::web::change::{self, CONFIRM_MINUTES};
use crate::web::failure::{Failure, FieldError};
use crate::web::live::Shared;
use crate::web::pages::{self, Frame, Nav};
use crate::web::visit::Visit;
use askama::Template;
use axum::Form;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;
use std::sync::Arc;

/// A source that a template may be made from.
struct From {
    at: String,
    name: String,
}

#[derive(Template)]
#[template(path = "settings/templates.html")]
struct List {
    frame: Frame,
    own: Vec<Device>,
    built_in: Vec<Device>,
    from: Vec<From>,
    said: String,
    name: String,
}

struct Gap {
    ask: Ask,
    typed: String,
    wrong: String,
}

#[derive(Template)]
#[template(path = "settings/template.html")]
struct Page {
    frame: Frame,
    device: Device,
    gaps: Vec<Gap>,
    elsewhere: Vec<FieldError>,
    /// Buses that are there, for a device that joins one.
    buses: Vec<From>,
    into: String,
    base: String,
    minutes: [u64; 4],
    within: u64,
    unwritable: String,
}

/// A source to save as a template.
#[derive(Debug, Deserialize)]
pub(super) struct Save {
    #[serde(default)]
    at: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    description: String,
}

/// Every template.
pub(in crate::web) async fn all(shared: &Shared) -> Result<Vec<Device>, Failure> {
    let data_dir = data_dir(shared);
    change::apart(move || template::list(&data_dir)).await
}

/// A template by its name in addresses.
pub(in crate::web) async fn one(shared: &Shared, id: &str) -> Result<Device, Failure> {
    let found = all(shared).await?.into_iter().find(|device| device.id == id);
    found.ok_or_else(|| Failure::missing("there is no template of this name; it may have been removed"))
}

/// The template, with a number behind each proposed name that a source has already.
fn with_free_names(mut device: Device, text: &str) -> Device {
    let taken: Vec<String> = sources(text, None).into_iter().map(|source| source.name).collect();
    for ask in device.ask.iter_mut().filter(|ask| taken.contains(&ask.default)) {
        // One more than there are is free for certain.
        let mut numbered = (2..=taken.len() + 2).map(|number| format!("{}-{number}", ask.default));
        let free = numbered.find(|name| !taken.contains(name));
        ask.default = free.unwrap_or_default();
    }
    device
}

fn sources(text: &str, kind: Option<&str>) -> Vec<From> {
    let list = form::at(text, &Place::root().key("source"), None).map(|form| form.fields).unwrap_or_default();
    let source = |field: form::Field| {
        let form = form::at(text, &field.path, None)?;
        let of_kind = kind.is_none_or(|kind| form.tag.and_then(|tag| tag.word).as_deref() == Some(kind));
        let name = form.fields.into_iter().find(|field| field.name == "name")?.typed;
        of_kind.then(|| From { at: field.path.to_string(), name })
    };
    list.into_iter().filter_map(source).collect()
}

/// `GET /settings/templates`.
pub(super) async fn list(State(shared): State<Arc<Shared>>, visit: Visit) -> Result<Response, Failure> {
    show_list(&shared, &visit, StatusCode::OK, String::new(), String::new()).await
}

async fn show_list(
    shared: &Shared,
    visit: &Visit,
    status: StatusCode,
    said: String,
    name: String,
) -> Result<Response, Failure> {
    let (built_in, own) = all(shared).await?.into_iter().partition(|device| device.built_in);
    let frame = Frame::new(shared, visit, Nav::Settings).tab("/settings/templates");
    let from = sources(&running(shared).0, None);
    Ok(pages::html(status, visit, List { frame, own, built_in, from, said, name }.render()))
}

/// `GET /settings/templates/{id}`.
pub(super) async fn page(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let (text, revision) = running(&shared);
    let device = with_free_names(one(&shared, &id).await?, &text);
    Ok(show(&shared, &visit, StatusCode::OK, device, &[], Vec::new(), revision))
}

fn show(
    shared: &Shared,
    visit: &Visit,
    status: StatusCode,
    device: Device,
    typed: &[(String, String)],
    mut errors: Vec<FieldError>,
    base: String,
) -> Response {
    let value = |name: &str| typed.iter().find(|(known, _)| known == name).map(|(_, typed)| typed.clone());
    let gaps = device.ask.iter().map(|ask| {
        let wrong = errors.iter().position(|error| error.path == ask.name).map(|at| errors.remove(at).message);
        let wrong = wrong.map(|wrong| visit.l.say(&wrong).into_owned()).unwrap_or_default();
        Gap { typed: value(&ask.name).unwrap_or_default(), wrong, ask: ask.clone() }
    });
    let gaps: Vec<Gap> = gaps.collect();
    let modbus = device.text.contains("type = \"modbus\"");
    let page = Page {
        frame: Frame::new(shared, visit, Nav::Settings).tab("/settings/templates"),
        buses: if modbus { sources(&running(shared).0, Some("modbus")) } else { Vec::new() },
        into: value(":into").unwrap_or_default(),
        gaps,
        device,
        elsewhere: errors,
        base,
        minutes: CONFIRM_MINUTES,
        within: change::CONFIRM_WITHIN.as_secs() / 60,
        unwritable: unwritable(shared, visit.l),
    };
    pages::html(status, visit, page.render())
}

/// `POST /settings/templates/{id}`: fills it in and hands in what comes of it.
pub(super) async fn fill(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Path(id): Path<String>,
    Form(pairs): Form<Vec<(String, String)>>,
) -> Result<Response, Failure> {
    let text = running(&shared).0;
    let device = with_free_names(one(&shared, &id).await?, &text);
    let value = |name: &str| pairs.iter().find(|(known, _)| known == name).map(|(_, typed)| typed.as_str());
    let base = value(":base").unwrap_or_default().to_owned();
    let into = match value(":into").unwrap_or_default() {
        "" => None,
        at => Some(bus(at)?),
    };
    let unfit = StatusCode::UNPROCESSABLE_ENTITY;
    let edits = match template::fill(&device, &pairs, into.as_ref()) {
        Ok(edits) => edits,
        Err(problems) => {
            let errors = problems.iter().map(FieldError::from).collect();
            return Ok(show(&shared, &visit, unfit, device, &pairs, errors, base));
        }
    };
    let place = edits.first().map(|edit| edit.path().clone()).unwrap_or_default();
    let count = form::at(&text, &place, None).map_or(0, |form| form.fields.len());
    let new = edit::apply(&text, &edits).map_err(|error| Failure::unfit(error.to_string(), Vec::new()))?;
    let within = change::confirm_within(value(":within").unwrap_or_default());
    match change::hand_in_within(&shared, &visit, &base, new.clone(), &device.name, within).await {
        Ok(_) => Ok(Redirect::to(&effect(&new, &place.item(count))).into_response()),
        Err(failure) if failure.status == unfit => {
            Ok(show(&shared, &visit, unfit, device, &pairs, failure.fields, base))
        }
        Err(failure) => Err(failure),
    }
}

/// `POST /settings/templates`: saves a source as a template of one's own.
pub(super) async fn save(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Form(given): Form<Save>,
) -> Result<Response, Failure> {
    let name = given.name.trim().to_owned();
    match keep(&shared, &given.at, &name, &given.description).await? {
        Ok(_) => Ok(Redirect::to("/settings/templates").into_response()),
        Err(error) => {
            let said = crate::web::words::sentence(&visit.l.say(&error.to_string()));
            show_list(&shared, &visit, StatusCode::UNPROCESSABLE_ENTITY, said, name).await
        }
    }
}

/// Saves the source at a place as a template.
pub(in crate::web) async fn keep(
    shared: &Shared,
    at: &str,
    name: &str,
    description: &str,
) -> Result<Result<Device, TemplateError>, Failure> {
    let (text, data_dir, place) = (running(shared).0, data_dir(shared), super::edit::place(at)?);
    let (name, description) = (name.trim().to_owned(), description.trim().to_owned());
    let saved = change::apart(move || {
        let made = template::of_source(&text, &place, &name, &description)?;
        template::save(&data_dir, &name, &made)
    });
    saved.await
}

/// The units of the source at a place, for a device that joins its bus.
pub(in crate::web) fn bus(at: &str) -> Result<Place, Failure> {
    Ok(super::edit::place(at)?.key("unit"))
}

/// `POST /settings/templates/{id}/remove`.
pub(super) async fn remove(State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Result<Response, Failure> {
    forget(&shared, &id).await?;
    Ok(Redirect::to("/settings/templates").into_response())
}

/// Removes a template of one's own.
pub(in crate::web) async fn forget(shared: &Shared, id: &str) -> Result<(), Failure> {
    let device = one(shared, id).await?;
    if device.built_in {
        return Err(Failure::conflict("this template came with the program and stays"));
    }
    let data_dir = data_dir(shared);
    let removed = change::apart(move || template::remove(&data_dir, &device.id)).await?;
    removed.map_err(|error| Failure::unavailable(error.to_string()))
}
