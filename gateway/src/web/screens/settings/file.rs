//! The file itself: the text with its comments, checked as it is typed by what `forebay check` asks, and handed in.

use super::conflict;
use super::edit::{running, unwritable};
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
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;
use std::sync::Arc;

/// Most problems that are listed beside the text.
const PROBLEMS_SHOWN_MAX: usize = 50;

/// Which text is asked for.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Ask {
    #[serde(default)]
    tried: String,
}

/// What is handed in.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Handed {
    /// The revision that was shown.
    #[serde(default)]
    pub(super) base: String,
    /// How long it waits to be confirmed, in minutes.
    #[serde(default)]
    pub(super) confirm_within: String,
    /// The text.
    #[serde(default)]
    text: String,
}

#[derive(Template)]
#[template(path = "settings/problems.html")]
struct Findings {
    l: Locale,
    problems: Vec<FieldError>,
    warnings: Vec<FieldError>,
    left_out: usize,
    /// Whether the text was looked at.
    looked: bool,
}

#[derive(Template)]
#[template(path = "settings/file.html")]
struct Page {
    frame: Frame,
    base: String,
    text: String,
    tried: bool,
    findings: String,
    minutes: [u64; 4],
    within: u64,
    unwritable: String,
}

/// `GET /settings/file`.
pub(super) async fn page(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Query(Ask { tried }): Query<Ask>,
) -> Result<Response, Failure> {
    let desk = shared.state.desk.state().borrow().clone();
    let reverted = desk.reverted.filter(|_| !tried.is_empty()).and_then(|reverted| reverted.text);
    let is_tried = reverted.is_some();
    let text = redacted_toml(&reverted.unwrap_or(desk.text));
    let findings = findings(&shared, &text, visit.l).await?;
    Ok(show(&shared, &visit, StatusCode::OK, text, desk.revision.0, is_tried, &findings, ""))
}

/// `POST /settings/file`.
pub(super) async fn save(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Form(given): Form<Handed>,
) -> Result<Response, Failure> {
    let text = given.text.replace("\r\n", "\n");
    if given.base != running(&shared).1 {
        return conflict::of_text(&shared, &visit, &given.base, &text, &given.confirm_within).await;
    }
    let within = change::confirm_within(&given.confirm_within);
    match change::hand_in_within(&shared, &visit, &given.base, text.clone(), "configuration", within).await {
        Ok(_) => Ok(Redirect::to("/settings/file").into_response()),
        Err(failure) if failure.status == StatusCode::CONFLICT => {
            conflict::of_text(&shared, &visit, &given.base, &text, &given.confirm_within).await
        }
        Err(failure) if failure.status == StatusCode::UNPROCESSABLE_ENTITY => {
            let mut problems = failure.fields;
            if problems.is_empty() {
                problems.push(FieldError { path: String::new(), message: failure.detail, line: 0, column: 0 });
            }
            let found = Findings::of(problems, Vec::new(), visit.l);
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            Ok(show(&shared, &visit, status, redacted_toml(&text), given.base, false, &found, &given.confirm_within))
        }
        Err(failure) => Err(failure),
    }
}

/// `POST /settings/file/check`: what is wrong with a text, as one types; nothing is changed.
pub(super) async fn check(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Form(given): Form<Handed>,
) -> Result<Response, Failure> {
    let findings = findings(&shared, &given.text, visit.l).await?;
    Ok(pages::html(StatusCode::OK, &visit, findings.render()))
}

/// `GET /settings/file/download`: the text as a file, its hidden secrets hidden.
pub(super) async fn download(State(shared): State<Arc<Shared>>, visit: Visit) -> Response {
    let text = redacted_toml(&running(&shared).0);
    let mut response = pages::text(StatusCode::OK, &visit, "application/toml; charset=utf-8", text);
    let attached = HeaderValue::from_static("attachment; filename=\"forebay.toml\"");
    response.headers_mut().insert(header::CONTENT_DISPOSITION, attached);
    response
}

/// What is wrong with a text that was shown, and what is doubtful.
async fn findings(shared: &Shared, shown: &str, l: Locale) -> Result<Findings, Failure> {
    match change::restored(shared, shown).await {
        Err(failure) if failure.fields.is_empty() => Err(failure),
        Err(failure) => Ok(Findings::of(failure.fields, Vec::new(), l)),
        Ok(text) => {
            let examined = change::look_at(text).await?;
            let all = |problems: &[crate::config::Problem]| problems.iter().map(FieldError::from).collect();
            Ok(Findings::of(all(&examined.problems), all(&examined.warnings), l))
        }
    }
}

impl Findings {
    fn of(mut problems: Vec<FieldError>, mut warnings: Vec<FieldError>, l: Locale) -> Self {
        let left_out = problems.len().saturating_sub(PROBLEMS_SHOWN_MAX);
        problems.truncate(PROBLEMS_SHOWN_MAX);
        warnings.truncate(PROBLEMS_SHOWN_MAX);
        for problem in problems.iter_mut().chain(&mut warnings) {
            problem.message = l.say(&problem.message).into_owned();
        }
        Self { l, problems, warnings, left_out, looked: true }
    }
}

#[expect(clippy::too_many_arguments, reason = "what the page shows, each once")]
fn show(
    shared: &Shared,
    visit: &Visit,
    status: StatusCode,
    text: String,
    base: String,
    tried: bool,
    findings: &Findings,
    within: &str,
) -> Response {
    let page = Page {
        frame: Frame::new(shared, visit, Nav::Settings).tab("/settings/file").script(&ASSETS.form.url),
        base,
        text,
        tried,
        findings: findings.render().unwrap_or_default(),
        minutes: CONFIRM_MINUTES,
        within: change::confirm_within(within).as_secs() / 60,
        unwritable: unwritable(shared, visit.l),
    };
    pages::html(status, visit, page.render())
}
