//! `/api/v1/templates`: devices as they come; filled in, they become sources, on trial like any change.

use super::config::{Tried, within};
use super::given::Given;
use super::people::created;
use super::{Api, delete, get, post};
use crate::config::desk::Revision;
use crate::config::edit;
use crate::config::template::{self, Template, TemplateError};
use crate::web::change;
use crate::web::failure::{Failure, FieldError};
use crate::web::live::Shared;
use crate::web::pages;
use crate::web::screens::settings::templates as screen;
use crate::web::visit::Visit;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The templates.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::web) struct Templates {
    /// One's own, then those that came with the program.
    templates: Vec<Template>,
}

/// A source to save as a template.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct NewTemplate {
    /// Where the source stands in the configuration, as `source[1]`.
    #[schemars(length(min = 1))]
    at: String,
    /// Its name, 1 to 60 characters.
    #[schemars(length(min = 1, max = 60))]
    name: String,
    /// What it is for.
    #[serde(default)]
    description: String,
}

/// How a template is filled in.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct Filling {
    /// The revision that it is added to; another one by now is a conflict.
    base: Revision,
    /// What it asks for, by name; what is left out is as proposed.
    #[serde(default)]
    values: BTreeMap<String, String>,
    /// The source whose bus the device joins, as `source[1]`; a source of its own, if it is left out.
    #[serde(default)]
    into: Option<String>,
    /// How many seconds it waits to be confirmed, 10 to 3600; 300 if nothing is said.
    #[serde(default)]
    #[schemars(range(min = 10, max = 3_600))]
    confirm_within_s: Option<u64>,
}

/// Adds the addresses of this file.
pub(in crate::web) fn add_to(api: Api) -> Api {
    const ALL: &str = "/api/v1/templates";
    const ONE: &str = "/api/v1/templates/{id}";
    api.at(ALL, get("The templates of devices, with what each asks for.").answers::<Templates>(), list)
        .at(
            ALL,
            post("Saves a source as a template: its name, address and device are asked for.")
                .takes::<NewTemplate>()
                .answers::<Template>()
                .with(StatusCode::CREATED),
            save,
        )
        .at(ONE, get("A template, with what it asks for.").answers::<Template>(), one)
        .at(
            ONE,
            post("Fills a template in, and tries the configuration with what comes of it.")
                .takes::<Filling>()
                .answers::<Tried>(),
            fill,
        )
        .at(ONE, delete("Removes a template of one's own."), remove)
}

/// `GET /api/v1/templates`.
async fn list(State(shared): State<Arc<Shared>>, visit: Visit) -> Result<Response, Failure> {
    Ok(pages::json(&visit, &Templates { templates: screen::all(&shared).await? }))
}

/// `GET /api/v1/templates/{id}`.
async fn one(State(shared): State<Arc<Shared>>, visit: Visit, Path(id): Path<String>) -> Result<Response, Failure> {
    Ok(pages::json(&visit, &screen::one(&shared, &id).await?))
}

/// `POST /api/v1/templates`.
async fn save(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Given(asked): Given<NewTemplate>,
) -> Result<Response, Failure> {
    let saved = screen::keep(&shared, &asked.at, &asked.name, &asked.description).await?;
    let made = saved.map_err(|error| not_saved(&error))?;
    Ok(created(&visit, &pages::path("/api/v1/templates/", &made.id), &made))
}

/// Why a source was not saved as a template.
fn not_saved(error: &TemplateError) -> Failure {
    let said = error.to_string();
    match error {
        TemplateError::Taken | TemplateError::Full => Failure::conflict(said),
        TemplateError::Unwritable(_) => Failure::unavailable(said),
        _ => Failure::unfit(said, Vec::new()),
    }
}

/// `POST /api/v1/templates/{id}`.
async fn fill(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Path(id): Path<String>,
    Given(asked): Given<Filling>,
) -> Result<Response, Failure> {
    let within = within(asked.confirm_within_s)?;
    change::is_still(&shared, Some(&asked.base))?;
    let device = screen::one(&shared, &id).await?;
    if let Some(unknown) = asked.values.keys().find(|name| device.ask.iter().all(|ask| ask.name != **name)) {
        return Err(Failure::unfit(format!("the template does not ask for {unknown:?}"), Vec::new()));
    }
    let into = asked.into.as_deref().map(screen::bus).transpose()?;
    let values: Vec<_> = asked.values.into_iter().collect();
    let edits = template::fill(&device, &values, into.as_ref()).map_err(|problems| {
        let errors: Vec<_> = problems.iter().map(|problem| named("values", problem.into())).collect();
        let detail = errors.first().map(|error| error.message.clone()).unwrap_or_default();
        Failure::unfit(detail, errors)
    })?;
    let text = shared.state.desk.state().borrow().text.clone();
    let text = edit::apply(&text, &edits).map_err(|error| Failure::unfit(error.to_string(), Vec::new()))?;
    let tried = change::try_text(&shared, &visit, &asked.base.0, text, &device.name, within).await?;
    Ok(pages::json(&visit, &Tried::from(tried)))
}

fn named(field: &str, error: FieldError) -> FieldError {
    let path = if error.path.is_empty() { field.to_owned() } else { format!("{field}.{}", error.path) };
    FieldError { path, ..error }
}

/// `DELETE /api/v1/templates/{id}`.
async fn remove(State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Result<StatusCode, Failure> {
    screen::forget(&shared, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
