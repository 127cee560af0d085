//! `/upstream`: where readings go, each with its state, its try-out, its form and its replays.

use super::board::call_off;
use super::ways::draft::Side;
use super::ways::edit::{self, Running};
use super::ways::found::Found;
use super::ways::pages::{JobAsk, List, Remove, RemoveAsk, TRY_WAIT, Way};
use super::ways::{Ways, detail, replays};
use crate::web::failure::Failure;
use crate::web::live::{Part, Shared};
use crate::web::locale::Locale;
use crate::web::pages::{self, Frame, Nav};
use crate::web::snapshot::Snapshot;
use crate::web::visit::Visit;
use askama::Template;
use axum::Router;
use axum::extract::{Form, Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use std::sync::Arc;

/// The routes of these screens.
pub(in crate::web) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/upstream", get(list))
        .route("/upstream/new", get(new).post(submit))
        .route("/upstream/try", post(try_typed))
        .route("/upstream/check", post(check))
        .route("/upstream/jobs/{id}", get(job))
        .route("/upstream/{name}", get(page))
        .route("/upstream/{name}/edit", get(change).post(submit))
        .route("/upstream/{name}/try", post(try_saved))
        .route("/upstream/{name}/remove", get(ask_remove).post(remove))
        .route("/upstream/{name}/replays", post(replay))
        .route("/upstream/{name}/replays/{id}/cancel", post(cancel))
}

/// `POST /upstream/try`: what a form says, saved or not.
async fn try_typed(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Form(mut fields): Form<Vec<(String, String)>>,
) -> Result<Response, Failure> {
    fields.retain(|(name, _)| name != "_do");
    fields.push(("_do".to_owned(), "try".to_owned()));
    edit::submit(Side::Sink, &shared, &visit, fields).await
}

/// What is to be sent once more.
#[derive(Debug, Deserialize)]
struct ReplayAsk {
    #[serde(default)]
    hours: String,
    #[serde(default)]
    points: String,
}

/// `POST /upstream/{name}/replays`.
async fn replay(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Path(name): Path<String>,
    Form(ask): Form<ReplayAsk>,
) -> Result<Response, Failure> {
    replays::ask(&shared, &visit, &name, &ask.hours, &ask.points).await?;
    Ok(Redirect::to(&pages::path("/upstream/", &name)).into_response())
}

/// `POST /upstream/{name}/replays/{id}/cancel`.
async fn cancel(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Path((name, id)): Path<(String, u32)>,
) -> Result<Response, Failure> {
    call_off(&shared, &visit, id).await?;
    Ok(Redirect::to(&pages::path("/upstream/", &name)).into_response())
}

fn show(shared: &Shared, visit: &Visit, name: &str, found: String) -> Result<Response, Failure> {
    let snapshot = shared.snapshot();
    if !snapshot.sinks.iter().any(|sink| sink.name == name) {
        return Err(Failure::missing(format!("there is no way upstream {name:?}; the list has those that run")));
    }
    let mut parts = edit::rendered(
        detail::sink_parts(&snapshot, shared, name, visit.l).map(|parts| parts.into_iter().map(|(_, part)| part)),
    )?;
    let (state, below) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let frame = Frame::new(shared, visit, Nav::Upstream).live(format!("upstream:{name}"));
    let spans = replays::spans(visit.l);
    let page = Way { frame, side: Side::Sink, name: name.to_owned(), state, below, found, spans };
    Ok(pages::html(StatusCode::OK, visit, page.render()))
}

/// `GET /upstream`.
async fn list(State(shared): State<Arc<Shared>>, visit: Visit) -> Result<Response, Failure> {
    let lines = edit::rendered(parts(&shared.snapshot(), visit.l).map(|mut parts| parts.remove(0).1))?;
    let frame = Frame::new(&shared, &visit, Nav::Upstream).live("upstream");
    Ok(pages::html(
        StatusCode::OK,
        &visit,
        List { frame, lines, title: "Upstream", add: "/upstream/new", name: "ways" }.render(),
    ))
}

/// The list, live.
pub(in crate::web) fn parts(snapshot: &Snapshot, l: Locale) -> askama::Result<Vec<Part>> {
    Ok(vec![("ways", Ways::upstream(snapshot, l).render()?)])
}

async fn new(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Query(fields): Query<Vec<(String, String)>>,
) -> Result<Response, Failure> {
    edit::new(Side::Sink, &shared, &visit, fields).await
}

async fn change(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Path(name): Path<String>,
    Query(asked): Query<Vec<(String, String)>>,
) -> Result<Response, Failure> {
    edit::edit(Side::Sink, &shared, &visit, &name, &asked).await
}

async fn submit(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Form(fields): Form<Vec<(String, String)>>,
) -> Result<Response, Failure> {
    edit::submit(Side::Sink, &shared, &visit, fields).await
}

async fn check(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Form(fields): Form<Vec<(String, String)>>,
) -> Result<Response, Failure> {
    edit::check(Side::Sink, &shared, &visit, fields).await
}

async fn job(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Path(id): Path<u64>,
    Query(ask): Query<JobAsk>,
) -> Result<Response, Failure> {
    edit::job(Side::Sink, &shared, &visit, id, !ask.form.is_empty())
}

/// `POST /upstream/{name}/try`: the saved one, beside the running one.
async fn try_saved(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Path(name): Path<String>,
) -> Result<Response, Failure> {
    let job = edit::try_saved(Side::Sink, &shared, &visit, &name).await?;
    if visit.htmx {
        return edit::job(Side::Sink, &shared, &visit, job.id, false);
    }
    job.wait(TRY_WAIT).await;
    let found = edit::rendered(Found::new(Side::Sink, &job, false, visit.l).render())?;
    show(&shared, &visit, &name, found)
}

async fn page(State(shared): State<Arc<Shared>>, visit: Visit, Path(name): Path<String>) -> Result<Response, Failure> {
    show(&shared, &visit, &name, String::new())
}

/// `GET /upstream/{name}/remove`: what would go, by name.
async fn ask_remove(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Path(name): Path<String>,
) -> Result<Response, Failure> {
    let running = Running::read(&shared).await?;
    running.draft(Side::Sink, &name)?;
    let frame = Frame::new(&shared, &visit, Nav::Upstream);
    let page = Remove { frame, name, base: running.revision, side: Side::Sink };
    Ok(pages::html(StatusCode::OK, &visit, page.render()))
}

async fn remove(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Path(name): Path<String>,
    Form(ask): Form<RemoveAsk>,
) -> Result<Response, Failure> {
    edit::remove(Side::Sink, &shared, &visit, &name, &ask.base).await?;
    Ok(Redirect::to("/upstream").into_response())
}
