//! The gateway as a whole: what it says about itself, and its points.

use super::{Api, get};
use crate::web::live::Shared;
use crate::web::pages;
use crate::web::screens::points;
use crate::web::snapshot::Snapshot;
use crate::web::visit::Visit;
use axum::extract::State;
use axum::response::Response;
use std::sync::Arc;

/// Adds the addresses of this file.
pub(super) fn add(api: Api) -> Api {
    api.at("/api/v1/status", get("The gateway at this moment: books, health, troubles.").answers::<Snapshot>(), status)
        .at(
            "/api/v1/points",
            get("The points with their last values, filtered, 200 a page.")
                .query::<points::Ask>()
                .answers::<points::ListAnswer>(),
            points::api,
        )
}

/// `GET /api/v1/status`.
async fn status(State(shared): State<Arc<Shared>>, visit: Visit) -> Response {
    pages::json(&visit, &shared.snapshot())
}
