//! What is said where there is no page.

use crate::web::failure::Failure;
use crate::web::live::Shared;
use crate::web::pages::{self, Frame, Nav};
use crate::web::visit::Visit;
use askama::Template;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use std::sync::Arc;

/// Characters of a wrong address that are shown again.
const PATH_CHARS_MAX: usize = 200;

#[derive(Template)]
#[template(path = "missing.html")]
struct Missing {
    frame: Frame,
    path: String,
}

/// Any address that is no page.
pub(in crate::web) async fn missing(State(shared): State<Arc<Shared>>, uri: Uri, visit: Visit) -> Response {
    if uri.path().starts_with("/api/") {
        return Failure::missing("there is no such address; /api/v1/openapi.json lists all").into_response();
    }
    let frame = Frame::new(&shared, &visit, Nav::None);
    let path = uri.path().chars().take(PATH_CHARS_MAX).collect();
    pages::html(StatusCode::NOT_FOUND, &visit, Missing { frame, path }.render())
}
