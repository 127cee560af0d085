//! The interface for programs under `/api/v1`: everything that the page does, as JSON.

pub(in crate::web) mod audit;
pub(in crate::web) mod people;
pub(in crate::web) mod tokens;

use super::live::Shared;
use super::pages;
use super::screens::points;
use super::visit::Visit;
use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use std::sync::Arc;

/// The routes of the interface.
pub(super) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/api/v1/status", get(status))
        .route("/api/v1/points", get(points::api))
        .merge(people::routes())
        .merge(tokens::routes())
        .merge(audit::routes())
}

/// `GET /api/v1/status`.
async fn status(State(shared): State<Arc<Shared>>, visit: Visit) -> Response {
    pages::json(&visit, &shared.snapshot())
}
