//! `/first-steps`: the guided way from nothing to readings upstream. Each step is a change on trial that the next button keeps;
//! where one is follows from what runs, so that a reload or another phone goes on where the last one stopped.

use super::point::PointView;
use super::points;
use super::trial::Doubted;
use super::ways::draft::Side;
use super::ways::edit::{self, Running};
use super::ways::searching;
use super::ways::{Line, source_line};
use crate::config::desk::Revision;
use crate::config::edit::{Place, apply};
use crate::config::form;
use crate::sources::discover::Port;
use crate::web::change;
use crate::web::failure::Failure;
use crate::web::live::{Part, Shared};
use crate::web::locale::Locale;
use crate::web::pages::{self, Frame, Nav};
use crate::web::snapshot::Snapshot;
use crate::web::visit::Visit;
use askama::Template;
use axum::Router;
use axum::extract::{Form, Query, State};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use std::sync::Arc;

/// The steps, in order: their address and their name.
const STEPS: [(&str, &str); 5] =
    [("name", "Name"), ("source", "Source"), ("value", "Live value"), ("sink", "Upstream"), ("done", "Done")];

/// What a form of this way carries, so that it comes back here.
pub(in crate::web) const BACK: &str = "first-steps";

/// A step in the line above the page.
pub(in crate::web) struct Mark {
    /// Its name.
    pub(in crate::web) name: &'static str,
    /// Its address.
    pub(in crate::web) step: &'static str,
    /// Whether it is done.
    pub(in crate::web) done: bool,
    /// Whether it is this one.
    pub(in crate::web) here: bool,
}

#[derive(Template)]
#[template(path = "ways/step_name.html")]
struct NamePage {
    frame: Frame,
    steps: Vec<Mark>,
    name: String,
    base: String,
    wrong: String,
}

#[derive(Template)]
#[template(path = "ways/step_source.html")]
struct SourcePage {
    frame: Frame,
    steps: Vec<Mark>,
    ports: Vec<Port>,
    broker: bool,
    /// Sources that are there already.
    lines: Vec<Line>,
    to: &'static str,
    carry: &'static str,
}

#[derive(Template)]
#[template(path = "ways/step_value.html")]
struct ValuePage {
    frame: Frame,
    steps: Vec<Mark>,
    value: String,
    sources: Vec<String>,
}

#[derive(Template)]
#[template(path = "ways/step_sink.html")]
struct SinkPage {
    frame: Frame,
    steps: Vec<Mark>,
    /// Ways upstream that are there already.
    names: Vec<String>,
    carry: &'static str,
}

#[derive(Template)]
#[template(path = "ways/step_done.html")]
struct DonePage {
    frame: Frame,
    steps: Vec<Mark>,
    sources: usize,
    sinks: usize,
}

#[derive(Template)]
#[template(path = "ways/step_wait.html")]
struct WaitPage {
    frame: Frame,
    steps: Vec<Mark>,
    wait: String,
}

/// Waits for a change to be kept.
#[derive(Template)]
#[template(path = "ways/wait.html")]
struct Wait {
    l: Locale,
    to: &'static str,
    /// The revision that is on trial as this is first shown: only that one is kept.
    seen: String,
    /// Why it is not kept yet.
    why: String,
    /// What the button says that keeps it all the same; nothing if there is none.
    keep: String,
    /// Whether it is asked again by itself.
    again: bool,
}

/// What comes in.
#[derive(Template)]
#[template(path = "ways/step_live.html")]
struct Live {
    l: Locale,
    points: Vec<PointView>,
    lines: Vec<Line>,
}

/// The routes of these screens.
pub(in crate::web) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/first-steps", get(begin))
        .route("/first-steps/name", get(name).post(take_name))
        .route("/first-steps/source", get(source))
        .route("/first-steps/value", get(value))
        .route("/first-steps/sink", get(sink))
        .route("/first-steps/done", get(done))
        .route("/first-steps/wait", get(wait))
        .route("/first-steps/keep", post(keep))
}

/// The line of steps.
pub(in crate::web) fn marks(shared: &Shared, here: &str) -> Vec<Mark> {
    let open = open(&shared.snapshot());
    let at = |step: &str| STEPS.iter().position(|(known, _)| *known == step).unwrap_or(0);
    let mark = |(step, name): (&'static str, &'static str)| Mark {
        name,
        step,
        done: at(step) < at(open) || at(step) < at(here),
        here: step == here,
    };
    STEPS.into_iter().map(mark).collect()
}

/// The first step that is open.
fn open(snapshot: &Snapshot) -> &'static str {
    let given = snapshot.gateway.strip_prefix("forebay-");
    let is_given = given.is_some_and(|rest| rest.len() == 4 && rest.bytes().all(|b| b.is_ascii_hexdigit()));
    if snapshot.sources.is_empty() {
        return if is_given { "name" } else { "source" };
    }
    match () {
        () if snapshot.buffer.streams.get("readings").is_none_or(|ends| ends.next == 0) => "value",
        () if snapshot.sinks.is_empty() => "sink",
        () => "done",
    }
}

/// `GET /first-steps`.
async fn begin(State(shared): State<Arc<Shared>>) -> Redirect {
    Redirect::to(&format!("/first-steps/{}", open(&shared.snapshot())))
}

async fn name(State(shared): State<Arc<Shared>>, visit: Visit) -> Response {
    let (name, base) = {
        let desk = shared.state.desk.state();
        let desk = desk.borrow();
        (shared.state.status.gateway.clone(), desk.revision.to_string())
    };
    show_name(StatusCode::OK, &shared, &visit, name, base, String::new())
}

fn show_name(
    status: StatusCode,
    shared: &Shared,
    visit: &Visit,
    name: String,
    base: String,
    wrong: String,
) -> Response {
    let (frame, steps) = (frame(shared, visit), marks(shared, "name"));
    pages::html(status, visit, NamePage { frame, steps, name, base, wrong }.render())
}

/// What was typed as a name.
#[derive(Debug, Deserialize)]
struct NameAsk {
    #[serde(default)]
    name: String,
    #[serde(default, rename = "_base")]
    base: String,
}

/// `POST /first-steps/name`: everything starts anew under the new name; the page waits and goes on by itself.
async fn take_name(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Form(ask): Form<NameAsk>,
) -> Result<Response, Failure> {
    let running = Running::read(&shared).await?;
    let name = ask.name.trim().to_owned();
    if name == running.config.gateway.id {
        return Ok(Redirect::to("/first-steps/source").into_response());
    }
    let place = Place::root().key("gateway");
    let fields = [("id".to_owned(), name.clone())];
    let wrong = match form::from_fields(&running.text, &place, &fields) {
        Err(problems) => problems.first().map(|problem| problem.message.clone()),
        Ok(edits) => {
            let text = apply(&running.text, &edits).map_err(|error| Failure::unfit(error.to_string(), Vec::new()))?;
            let examined = change::look_at(text.clone()).await?;
            let Some(problem) = examined.problems.first() else {
                let within = change::CONFIRM_WITHIN;
                let (_, seen) = change::try_text(&shared, &visit, &ask.base, text, "gateway.id", within).await?;
                // It is answered before the gateway starts anew: until then what runs is the one before.
                let why = visit.l.f1("The gateway starts anew as {}.", name);
                return wait_page(&shared, &visit, "source", why, seen.0);
            };
            Some(problem.message.clone())
        }
    };
    let (status, wrong) = (StatusCode::UNPROCESSABLE_ENTITY, wrong.unwrap_or_default());
    Ok(show_name(status, &shared, &visit, name, ask.base, visit.l.say(&wrong).into_owned()))
}

async fn source(State(shared): State<Arc<Shared>>, visit: Visit) -> Result<Response, Failure> {
    let running = Running::read(&shared).await?;
    let ports = edit::ports(&running.config.source).await?;
    let snapshot = shared.snapshot();
    let page = SourcePage {
        frame: frame(&shared, &visit),
        steps: marks(&shared, "source"),
        ports,
        broker: searching::local_broker().await,
        lines: snapshot.sources.iter().map(|source| source_line(source, &snapshot, visit.l)).collect(),
        to: "&_to=first-steps",
        carry: "<input type=\"hidden\" name=\"_to\" value=\"first-steps\">",
    };
    Ok(pages::html(StatusCode::OK, &visit, page.render()))
}

async fn value(State(shared): State<Arc<Shared>>, visit: Visit) -> Result<Response, Failure> {
    let snapshot = shared.snapshot();
    let value = edit::rendered(live(&snapshot, &shared, visit.l).render())?;
    let page = ValuePage {
        frame: frame(&shared, &visit).live(BACK),
        steps: marks(&shared, "value"),
        value,
        sources: snapshot.sources.iter().map(|source| source.name.clone()).collect(),
    };
    Ok(pages::html(StatusCode::OK, &visit, page.render()))
}

async fn sink(State(shared): State<Arc<Shared>>, visit: Visit) -> Response {
    let page = SinkPage {
        frame: frame(&shared, &visit),
        steps: marks(&shared, "sink"),
        names: shared.state.status.sinks().iter().map(|sink| sink.name.clone()).collect(),
        carry: "<input type=\"hidden\" name=\"_to\" value=\"first-steps\">",
    };
    pages::html(StatusCode::OK, &visit, page.render())
}

async fn done(State(shared): State<Arc<Shared>>, visit: Visit) -> Response {
    let snapshot = shared.snapshot();
    let page = DonePage {
        // Whatever is on trial still is told here.
        frame: Frame::new(&shared, &visit, Nav::Overview),
        steps: marks(&shared, "done"),
        sources: snapshot.sources.len(),
        sinks: snapshot.sinks.len(),
    };
    pages::html(StatusCode::OK, &visit, page.render())
}

/// Where it goes on.
#[derive(Debug, Deserialize)]
struct KeepAsk {
    #[serde(default)]
    to: String,
    #[serde(default, rename = "do")]
    what: String,
    #[serde(default)]
    seen: String,
}

async fn wait(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Query(ask): Query<KeepAsk>,
) -> Result<Response, Failure> {
    let seen = {
        let desk = shared.state.desk.state();
        let desk = desk.borrow();
        desk.trial.as_ref().map(|_| desk.revision.to_string()).unwrap_or_default()
    };
    wait_page(&shared, &visit, step(&ask.to), visit.l.t("The change runs on trial.").to_owned(), seen)
}

/// `POST /first-steps/keep`: keeps what is on trial, and goes on; or says what it waits for.
async fn keep(State(shared): State<Arc<Shared>>, visit: Visit, Form(ask): Form<KeepAsk>) -> Result<Response, Failure> {
    let (to, l) = (step(&ask.to), visit.l);
    let (trial, reverted) = {
        let desk = shared.state.desk.state();
        let desk = desk.borrow();
        (desk.trial.clone(), desk.reverted.clone())
    };
    let Some(trial) = trial else {
        let told = |why: &str| l.f1("The change was taken back: {}", l.say(why));
        return match reverted.filter(|_| ask.what != "go") {
            Some(reverted) => {
                let part = Wait { l, to, seen: ask.seen, why: told(&reverted.why), keep: String::new(), again: false };
                waiting(&shared, &visit, to, &part)
            }
            None => Ok(go(&visit, &format!("/first-steps/{to}"))),
        };
    };
    let seen = Some(Revision(ask.seen)).filter(|seen| !seen.0.is_empty());
    if ask.what == "revert" {
        change::take_back(&shared, &visit, seen.as_ref()).await?;
        return Ok(go(&visit, &format!("/first-steps/{to}")));
    }
    let force = ask.what == "force";
    if let Some(doubted) = Doubted::of(&trial.doubts, l).filter(|_| !force) {
        let why = if trial.doubts.no_reading {
            l.t("No reading has come in since the change. It is kept as soon as one has.").to_owned()
        } else {
            l.f1("{}. It is kept as soon as that is over.", doubted.words.join("; "))
        };
        let seen = seen.map(|seen| seen.0).unwrap_or_default();
        return waiting(&shared, &visit, to, &Wait { l, to, seen, why, keep: doubted.keep, again: true });
    }
    change::keep(&shared, &visit, force, seen.as_ref()).await?;
    Ok(go(&visit, &format!("/first-steps/{to}")))
}

/// Goes on as a whole page, whoever asks.
fn go(visit: &Visit, to: &str) -> Response {
    if !visit.htmx {
        return Redirect::to(to).into_response();
    }
    let mut response = StatusCode::OK.into_response();
    if let Ok(to) = HeaderValue::from_str(to) {
        response.headers_mut().insert("hx-redirect", to);
    }
    response
}

fn waiting(shared: &Shared, visit: &Visit, to: &'static str, part: &Wait) -> Result<Response, Failure> {
    let part = edit::rendered(part.render())?;
    if visit.htmx {
        return Ok(pages::html(StatusCode::OK, visit, Ok(part)));
    }
    let page = WaitPage { frame: frame(shared, visit), steps: marks(shared, to), wait: part };
    Ok(pages::html(StatusCode::OK, visit, page.render()))
}

fn wait_page(shared: &Shared, visit: &Visit, to: &'static str, why: String, seen: String) -> Result<Response, Failure> {
    let part = edit::rendered(Wait { l: visit.l, to, seen, why, keep: String::new(), again: true }.render())?;
    let page = WaitPage { frame: frame(shared, visit), steps: marks(shared, to), wait: part };
    Ok(pages::html(StatusCode::OK, visit, page.render()))
}

/// One of the steps, whatever was asked.
fn step(asked: &str) -> &'static str {
    STEPS.iter().find(|(step, _)| *step == asked).map_or("done", |(step, _)| *step)
}

/// A frame without the banner of the trial: the next button keeps what is on it.
fn frame(shared: &Shared, visit: &Visit) -> Frame {
    Frame::bare(shared, visit, Nav::Overview).live(BACK)
}

fn live(snapshot: &Snapshot, shared: &Shared, l: Locale) -> Live {
    let (registry, status) = (&shared.state.registry, &shared.state.status);
    Live {
        l,
        points: points::watched(registry, status, snapshot.now_us, l),
        lines: snapshot.sources.iter().map(|source| source_line(source, snapshot, l)).collect(),
    }
}

/// What comes in, live.
pub(in crate::web) fn parts(snapshot: &Snapshot, shared: &Shared, l: Locale) -> askama::Result<Vec<Part>> {
    Ok(vec![("value", live(snapshot, shared, l).render()?)])
}

/// Where the form of an end comes back to.
pub(in crate::web) fn after(side: Side) -> &'static str {
    match side {
        Side::Source => "/first-steps/value",
        Side::Sink => "/first-steps/wait?to=done",
    }
}

/// The step that the form of an end belongs to.
pub(in crate::web) fn step_of(side: Side) -> &'static str {
    match side {
        Side::Source => "source",
        Side::Sink => "sink",
    }
}
