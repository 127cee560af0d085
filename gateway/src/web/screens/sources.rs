//! `/sources`: where readings come from, each with its state, its try-out and its form.

use super::ways::draft::Side;
use super::ways::edit::{self, Running};
use super::ways::found::Found;
use super::ways::pages::{JobAsk, List, Remove, RemoveAsk, TRY_WAIT, Way};
use super::ways::{Ways, detail};
use crate::web::failure::Failure;
use crate::web::live::{Part, Shared};
use crate::web::locale::Locale;
use crate::web::pages::{self, Frame, Nav};
use crate::web::snapshot::Snapshot;
use crate::web::visit::Visit;
use askama::Template;
use axum::Router;
use axum::extract::{Form, Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use std::sync::Arc;

/// The routes of these screens.
pub(in crate::web) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/sources", get(list))
        .route("/sources/new", get(new).post(submit))
        .route("/sources/discover", get(discover))
        .route("/sources/try", post(try_typed))
        .route("/sources/check", post(check))
        .route("/sources/jobs/{id}", get(job))
        .route("/sources/{name}", get(page))
        .route("/sources/{name}/edit", get(change).post(submit))
        .route("/sources/{name}/try", post(try_saved))
        .route("/sources/{name}/values", get(values))
        .route("/sources/{name}/registers.csv", get(export))
        .route("/sources/{name}/remove", get(ask_remove).post(remove))
}

/// `GET /sources/discover`: what there is to read, found by looking and listening.
async fn discover(State(shared): State<Arc<Shared>>, visit: Visit) -> Result<Response, Failure> {
    edit::new(Side::Source, &shared, &visit, Vec::new()).await
}

/// `POST /sources/try`: what a form says, saved or not.
async fn try_typed(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Form(mut fields): Form<Vec<(String, String)>>,
) -> Result<Response, Failure> {
    fields.retain(|(name, _)| name != "_do");
    fields.push(("_do".to_owned(), "try".to_owned()));
    edit::submit(Side::Source, &shared, &visit, fields).await
}

/// The device whose values are asked for.
#[derive(Debug, Deserialize)]
struct ValuesAsk {
    #[serde(default)]
    device: String,
}

/// `GET /sources/{name}/values?device=…`: the last value of each register of a device.
async fn values(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Path(name): Path<String>,
    Query(ask): Query<ValuesAsk>,
) -> Response {
    pages::html(StatusCode::OK, &visit, detail::values(&shared, &name, &ask.device, visit.l))
}

/// The unit whose registers are asked for, counted from 0.
#[derive(Debug, Deserialize)]
struct ExportAsk {
    #[serde(default)]
    unit: usize,
}

/// `GET /sources/{name}/registers.csv?unit=0`.
async fn export(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Path(name): Path<String>,
    Query(ask): Query<ExportAsk>,
) -> Result<Response, Failure> {
    let running = Running::read(&shared).await?;
    let csv = edit::registers_csv(&running, &name, ask.unit)?;
    let mut answer = pages::text(StatusCode::OK, &visit, "text/csv; charset=utf-8", csv);
    // Names of sources are plain letters, so that none can break out of the header.
    let file = format!("attachment; filename=\"{name}-{}.csv\"", ask.unit);
    if let Ok(value) = file.parse() {
        answer.headers_mut().insert(header::CONTENT_DISPOSITION, value);
    }
    Ok(answer)
}

fn show(shared: &Shared, visit: &Visit, name: &str, found: String) -> Result<Response, Failure> {
    let snapshot = shared.snapshot();
    if !snapshot.sources.iter().any(|source| source.name == name) {
        return Err(Failure::missing(format!("there is no source {name:?}; the list of sources has those that run")));
    }
    let mut parts = edit::rendered(
        detail::source_parts(&snapshot, shared, name, visit.l).map(|parts| parts.into_iter().map(|(_, part)| part)),
    )?;
    let (state, below) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let frame = Frame::new(shared, visit, Nav::Sources).live(format!("source:{name}"));
    let page = Way { frame, side: Side::Source, name: name.to_owned(), state, below, found, spans: Vec::new() };
    Ok(pages::html(StatusCode::OK, visit, page.render()))
}

/// `GET /sources`.
async fn list(State(shared): State<Arc<Shared>>, visit: Visit) -> Result<Response, Failure> {
    let lines = edit::rendered(parts(&shared.snapshot(), visit.l).map(|mut parts| parts.remove(0).1))?;
    let frame = Frame::new(&shared, &visit, Nav::Sources).live("sources");
    Ok(pages::html(
        StatusCode::OK,
        &visit,
        List { frame, lines, title: "Sources", add: "/sources/new", name: "ways" }.render(),
    ))
}

/// The list, live.
pub(in crate::web) fn parts(snapshot: &Snapshot, l: Locale) -> askama::Result<Vec<Part>> {
    Ok(vec![("ways", Ways::sources(snapshot, l).render()?)])
}

async fn new(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Query(fields): Query<Vec<(String, String)>>,
) -> Result<Response, Failure> {
    edit::new(Side::Source, &shared, &visit, fields).await
}

async fn change(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Path(name): Path<String>,
    Query(asked): Query<Vec<(String, String)>>,
) -> Result<Response, Failure> {
    edit::edit(Side::Source, &shared, &visit, &name, &asked).await
}

async fn submit(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Form(fields): Form<Vec<(String, String)>>,
) -> Result<Response, Failure> {
    edit::submit(Side::Source, &shared, &visit, fields).await
}

async fn check(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Form(fields): Form<Vec<(String, String)>>,
) -> Result<Response, Failure> {
    edit::check(Side::Source, &shared, &visit, fields).await
}

async fn job(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Path(id): Path<u64>,
    Query(ask): Query<JobAsk>,
) -> Result<Response, Failure> {
    edit::job(Side::Source, &shared, &visit, id, !ask.form.is_empty())
}

/// `POST /sources/{name}/try`: the saved one, beside the running one.
async fn try_saved(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Path(name): Path<String>,
) -> Result<Response, Failure> {
    let job = edit::try_saved(Side::Source, &shared, &visit, &name).await?;
    if visit.htmx {
        return edit::job(Side::Source, &shared, &visit, job.id, false);
    }
    job.wait(TRY_WAIT).await;
    let found = edit::rendered(Found::new(Side::Source, &job, false, visit.l).render())?;
    show(&shared, &visit, &name, found)
}

async fn page(State(shared): State<Arc<Shared>>, visit: Visit, Path(name): Path<String>) -> Result<Response, Failure> {
    show(&shared, &visit, &name, String::new())
}

/// `GET /sources/{name}/remove`: what would go, by name.
async fn ask_remove(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Path(name): Path<String>,
) -> Result<Response, Failure> {
    let running = Running::read(&shared).await?;
    running.draft(Side::Source, &name)?;
    let frame = Frame::new(&shared, &visit, Nav::Sources);
    let page = Remove { frame, name, base: running.revision, side: Side::Source };
    Ok(pages::html(StatusCode::OK, &visit, page.render()))
}

async fn remove(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Path(name): Path<String>,
    Form(ask): Form<RemoveAsk>,
) -> Result<Response, Failure> {
    edit::remove(Side::Source, &shared, &visit, &name, &ask.base).await?;
    Ok(Redirect::to("/sources").into_response())
}
