//! The gateway as a whole: what it says about itself, and its points.

use super::{Api, get};
use crate::web::live::Shared;
use crate::web::pages;
use crate::web::screens::points;
use crate::web::snapshot::Snapshot;
use crate::web::visit::Visit;
use axum::extract::State;
use axum::response::Response;
use schemars::JsonSchema;
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
        .tells(
            "/events",
            get("The parts of a screen of the page, as HTML, each when it changed: server-sent events, at most once a second.")
                .query::<EventsAsk>()
                .answers_as(&["text/event-stream"]),
        )
}

/// Which screen of the page is followed.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "it tells of an address that the page's own handler answers")]
pub(in crate::web) struct EventsAsk {
    /// The screen: `overview`, `point:ID`, `sources`, `source:NAME`, `upstream`, `upstream:NAME`, `board`, `alerts`, `system`.
    #[schemars(length(min = 1, max = 128))]
    of: String,
}

/// `GET /api/v1/status`.
async fn status(State(shared): State<Arc<Shared>>, visit: Visit) -> Response {
    pages::json(&visit, &shared.snapshot())
}
