//! `/configuration`: the loaded configuration, and what is said where there is no page.

use super::live::Shared;
use super::pages::{self, Frame, Screen};
use askama::Template;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use std::sync::Arc;

/// A line of TOML by what it is, so that the eye finds its way.
struct Line<'a> {
    class: &'static str,
    text: &'a str,
}

#[derive(Template)]
#[template(path = "configuration.html")]
struct Page<'a> {
    frame: Frame,
    lines: Vec<Line<'a>>,
}

#[derive(Template)]
#[template(path = "missing.html")]
struct Missing {
    frame: Frame,
    path: String,
}

/// `GET /configuration`.
pub(super) async fn page(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let frame = Frame::new(&shared.snapshot(), Screen::Configuration);
    let toml = shared.state.config_toml.borrow().clone();
    let lines = toml.lines().map(line).collect();
    pages::html(StatusCode::OK, &headers, Page { frame, lines }.render())
}

fn line(text: &str) -> Line<'_> {
    let class = match text.trim_start().chars().next() {
        Some('#') => "comment",
        // A table's header stands at the left edge; an array's lines are indented.
        Some('[') if text.starts_with('[') => "head",
        _ => "entry",
    };
    Line { class, text }
}

/// Any address that is no page.
pub(super) async fn missing(State(shared): State<Arc<Shared>>, uri: Uri, headers: HeaderMap) -> Response {
    let frame = Frame::new(&shared.snapshot(), Screen::None);
    let path = uri.path().chars().take(200).collect();
    pages::html(StatusCode::NOT_FOUND, &headers, Missing { frame, path }.render())
}
