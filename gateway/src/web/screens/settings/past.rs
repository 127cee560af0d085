//! The configurations that were kept: who, when, what changed; what differs; and the way back to one of them.

use super::draft::data_dir;
use super::edit::{running, unwritable};
use super::file::Handed;
use crate::config::history::{DiffKind, History, HistoryError, Version, diff};
use crate::config::redacted_toml;
use crate::web::change::{self, CONFIRM_MINUTES};
use crate::web::failure::Failure;
use crate::web::live::Shared;
use crate::web::pages::{self, Frame, Nav};
use crate::web::visit::Visit;
use crate::web::words::Moment;
use askama::Template;
use axum::Form;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use std::sync::Arc;

/// What differs between two texts, to be shown.
#[derive(Template)]
#[template(path = "settings/diff.html")]
pub(super) struct DiffView {
    lines: Vec<DiffRow>,
}

struct DiffRow {
    class: &'static str,
    sign: &'static str,
    number: String,
    text: String,
}

struct Row {
    n: u64,
    by: String,
    at: Moment,
    changes: Vec<String>,
    note: String,
    running: bool,
}

#[derive(Template)]
#[template(path = "settings/history.html")]
struct List {
    frame: Frame,
    rows: Vec<Row>,
    base: String,
}

/// What differs between the configuration that runs on trial and the one before it.
#[derive(Template)]
#[template(path = "settings/trial.html")]
struct OnTrial {
    frame: Frame,
    by: String,
    changes: Vec<String>,
    diff: Option<DiffView>,
}

#[derive(Template)]
#[template(path = "settings/version.html")]
struct Page {
    frame: Frame,
    row: Row,
    base: String,
    /// What it changed when it was kept, if the one before is still there.
    changed: Option<DiffView>,
    /// What going back to it would change.
    back: DiffView,
    same: bool,
    minutes: [u64; 4],
    within: u64,
    unwritable: String,
}

impl DiffView {
    /// Whether nothing differs.
    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }
}

/// What differs, without secrets.
pub(super) fn diff_view(old: &str, new: &str) -> DiffView {
    let row = |line: crate::config::history::DiffLine| {
        let (class, sign) = match line.kind {
            DiffKind::Same => ("", " "),
            DiffKind::Removed => ("removed", "−"),
            DiffKind::Added => ("added", "+"),
            DiffKind::Skipped => ("skipped", "⋯"),
        };
        let number = line.new_line.or(line.old_line).map(|number| number.to_string()).unwrap_or_default();
        DiffRow { class, sign, number, text: line.text }
    };
    DiffView { lines: diff(&redacted_toml(old), &redacted_toml(new)).into_iter().map(row).collect() }
}

fn row(version: Version, visit: &Visit, now_us: i64, revision: &str) -> Row {
    Row {
        n: version.n,
        by: visit.l.say(&version.by).into_owned(),
        at: Moment::new(version.at_us, now_us, visit.l),
        changes: version.changes.iter().map(|change| visit.l.say(change).into_owned()).collect(),
        note: version.note,
        running: version.revision.0 == revision,
    }
}

/// `GET /settings/history`.
pub(super) async fn list(State(shared): State<Arc<Shared>>, visit: Visit) -> Result<Response, Failure> {
    let data_dir = data_dir(&shared);
    let versions = change::apart(move || History::of(&data_dir).list()).await?;
    let (now_us, revision) = (shared.state.clock.tick().wall_us, running(&shared).1);
    let rows = versions.into_iter().map(|version| row(version, &visit, now_us, &revision)).collect();
    let frame = Frame::new(&shared, &visit, Nav::Settings).tab("/settings/history");
    Ok(pages::html(StatusCode::OK, &visit, List { frame, rows, base: revision }.render()))
}

/// `GET /settings/trial`: what changed with the configuration that runs on trial.
pub(super) async fn on_trial(State(shared): State<Arc<Shared>>, visit: Visit) -> Result<Response, Failure> {
    let desk = shared.state.desk.state().borrow().clone();
    let frame = Frame::new(&shared, &visit, Nav::Settings).tab("/settings/history");
    let page = match desk.trial {
        None => OnTrial { frame, by: String::new(), changes: Vec::new(), diff: None },
        Some(trial) => {
            let text = desk.text.clone();
            let diff = change::apart(move || diff_view(&trial.before, &text)).await?;
            let changes = trial.changes.iter().map(|change| visit.l.say(change).into_owned()).collect();
            OnTrial { frame, by: trial.by, changes, diff: Some(diff) }
        }
    };
    Ok(pages::html(StatusCode::OK, &visit, page.render()))
}

/// A kept text, and the one before it.
async fn kept(shared: &Shared, n: u64) -> Result<(Version, String, Option<String>), Failure> {
    let data_dir = data_dir(shared);
    let found = change::apart(move || {
        let history = History::of(&data_dir);
        let (version, text) = history.get(n)?;
        let before = history.list().into_iter().find(|other| other.n < n);
        let before = before.and_then(|before| history.get(before.n).ok()).map(|(_, text)| text);
        Ok((version, text, before))
    });
    found.await?.map_err(|error: HistoryError| Failure::missing(error.to_string()))
}

/// `GET /settings/history/{n}`.
pub(super) async fn page(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Path(n): Path<u64>,
) -> Result<Response, Failure> {
    let (version, text, before) = kept(&shared, n).await?;
    let (now, revision) = running(&shared);
    let page = Page {
        frame: Frame::new(&shared, &visit, Nav::Settings).tab("/settings/history"),
        row: row(version, &visit, shared.state.clock.tick().wall_us, &revision),
        changed: before.map(|before| diff_view(&before, &text)),
        back: diff_view(&now, &text),
        same: now == text,
        base: revision,
        minutes: CONFIRM_MINUTES,
        within: change::CONFIRM_WITHIN.as_secs() / 60,
        unwritable: unwritable(&shared, visit.l),
    };
    Ok(pages::html(StatusCode::OK, &visit, page.render()))
}

/// `POST /settings/history/{n}`: back to a kept text, on trial like any change.
pub(super) async fn back(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Path(n): Path<u64>,
    Form(given): Form<Handed>,
) -> Result<Response, Failure> {
    let (_, text, _) = kept(&shared, n).await?;
    let within = change::confirm_within(&given.confirm_within);
    change::hand_in_within(&shared, &visit, &given.base, text, &format!("version {n}"), within).await?;
    Ok(Redirect::to("/settings/history").into_response())
}
