//! The screens that sources and ways upstream share: list, page, form, try-out, removal.

use super::draft::Side;
use super::edit::{self, Running};
use super::found::Found;
use super::pages::{JobAsk, List, Remove, RemoveAsk, TRY_WAIT, Way};
use super::{Ways, detail, replays};
use crate::web::failure::Failure;
use crate::web::live::{Part, Shared};
use crate::web::locale::Locale;
use crate::web::pages::{self, Frame};
use crate::web::snapshot::Snapshot;
use crate::web::visit::Visit;
use askama::Template;
use axum::extract::{Form, Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use std::sync::Arc;

/// Their routes, below the place of that side on the page.
pub(in crate::web) fn routes(side: Side) -> Router<Arc<Shared>> {
    let at = |below: &str| format!("{}{below}", side.root());
    Router::new()
        .route(side.root(), get(list))
        .route(&at("/new"), get(new).post(submit))
        .route(&at("/try"), post(try_typed))
        .route(&at("/check"), post(check))
        .route(&at("/jobs/{id}"), get(job))
        .route(&at("/{name}"), get(page))
        .route(&at("/{name}/edit"), get(change).post(submit))
        .route(&at("/{name}/try"), post(try_saved))
        .route(&at("/{name}/remove"), get(ask_remove).post(remove))
        .layer(Extension(side))
}

/// The list, live.
pub(in crate::web) fn parts(side: Side, snapshot: &Snapshot, l: Locale) -> askama::Result<Vec<Part>> {
    Ok(vec![("ways", Ways::of(side, snapshot, l).render()?)])
}

async fn list(
    Extension(side): Extension<Side>,
    State(shared): State<Arc<Shared>>,
    visit: Visit,
) -> Result<Response, Failure> {
    let lines = edit::rendered(Ways::of(side, &shared.snapshot(), visit.l).render())?;
    let frame = Frame::new(&shared, &visit, edit::nav(side)).live(side.live());
    Ok(pages::html(StatusCode::OK, &visit, List { frame, lines, side }.render()))
}

fn show(side: Side, shared: &Shared, visit: &Visit, name: &str, found: String) -> Result<Response, Failure> {
    let snapshot = shared.snapshot();
    let (known, parts, spans) = match side {
        Side::Source => (
            snapshot.sources.iter().any(|source| source.name == name),
            detail::source_parts(&snapshot, shared, name, visit.l),
            Vec::new(),
        ),
        Side::Sink => (
            snapshot.sinks.iter().any(|sink| sink.name == name),
            detail::sink_parts(&snapshot, shared, name, visit.l),
            replays::spans(visit.l),
        ),
    };
    if !known {
        return Err(Failure::missing(format!(
            "there is no {} {name:?}; {} lists those that run",
            side.key(),
            side.root()
        )));
    }
    let mut parts = edit::rendered(parts)?.into_iter().map(|(_, part)| part);
    let (state, below) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let frame = Frame::new(shared, visit, edit::nav(side)).live(side.live_one(name));
    let page = Way { frame, side, name: name.to_owned(), state, below, found, spans };
    Ok(pages::html(StatusCode::OK, visit, page.render()))
}

async fn page(
    Extension(side): Extension<Side>,
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Path(name): Path<String>,
) -> Result<Response, Failure> {
    show(side, &shared, &visit, &name, String::new())
}

async fn new(
    Extension(side): Extension<Side>,
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Query(fields): Query<Vec<(String, String)>>,
) -> Result<Response, Failure> {
    edit::new(side, &shared, &visit, fields).await
}

async fn change(
    Extension(side): Extension<Side>,
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Path(name): Path<String>,
    Query(asked): Query<Vec<(String, String)>>,
) -> Result<Response, Failure> {
    edit::edit(side, &shared, &visit, &name, &asked).await
}

async fn submit(
    Extension(side): Extension<Side>,
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Form(fields): Form<Vec<(String, String)>>,
) -> Result<Response, Failure> {
    edit::submit(side, &shared, &visit, fields).await
}

async fn check(
    Extension(side): Extension<Side>,
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Form(fields): Form<Vec<(String, String)>>,
) -> Result<Response, Failure> {
    edit::check(side, &shared, &visit, fields).await
}

async fn job(
    Extension(side): Extension<Side>,
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Path(id): Path<u64>,
    Query(ask): Query<JobAsk>,
) -> Result<Response, Failure> {
    edit::job(side, &shared, &visit, id, !ask.form.is_empty())
}

/// What a form says, saved or not.
async fn try_typed(
    side: Extension<Side>,
    shared: State<Arc<Shared>>,
    visit: Visit,
    Form(mut fields): Form<Vec<(String, String)>>,
) -> Result<Response, Failure> {
    fields.retain(|(name, _)| name != "_do");
    fields.push(("_do".to_owned(), "try".to_owned()));
    submit(side, shared, visit, Form(fields)).await
}

/// The saved one, beside the running one.
async fn try_saved(
    Extension(side): Extension<Side>,
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Path(name): Path<String>,
) -> Result<Response, Failure> {
    let job = edit::try_saved(side, &shared, &visit, &name).await?;
    if visit.htmx {
        return edit::job(side, &shared, &visit, job.id, false);
    }
    job.wait(TRY_WAIT).await;
    let found = edit::rendered(Found::new(side, &job, false, visit.l).render())?;
    show(side, &shared, &visit, &name, found)
}

/// What would go, by name.
async fn ask_remove(
    Extension(side): Extension<Side>,
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Path(name): Path<String>,
) -> Result<Response, Failure> {
    let running = Running::read(&shared).await?;
    running.draft(side, &name)?;
    let frame = Frame::new(&shared, &visit, edit::nav(side));
    let page = Remove { frame, name, base: running.revision, side };
    Ok(pages::html(StatusCode::OK, &visit, page.render()))
}

async fn remove(
    Extension(side): Extension<Side>,
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Path(name): Path<String>,
    Form(ask): Form<RemoveAsk>,
) -> Result<Response, Failure> {
    edit::remove(side, &shared, &visit, &name, &ask.base).await?;
    Ok(Redirect::to(side.root()).into_response())
}
