//! `/more`: on a phone, the places that the bar at the bottom has no room for.

use crate::web::live::Shared;
use crate::web::pages::{self, Frame, Nav};
use crate::web::visit::Visit;
use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use std::sync::Arc;

#[derive(Template)]
#[template(path = "more.html")]
struct Page {
    groups: Vec<(&'static str, Vec<(&'static str, &'static str)>)>,
    frame: Frame,
}

/// `GET /more`.
pub(in crate::web) async fn page(State(shared): State<Arc<Shared>>, visit: Visit) -> Response {
    let frame = Frame::new(&shared, &visit, Nav::More);
    pages::html(StatusCode::OK, &visit, Page { groups: frame.more(), frame }.render())
}
