//! `/upstream`: where readings go, and what is sent once more. What they share with sources is in `ways`.

use super::board::call_off;
use super::ways;
use super::ways::draft::Side;
use super::ways::replays;
use crate::web::failure::Failure;
use crate::web::live::Shared;
use crate::web::pages;
use crate::web::visit::Visit;
use axum::Router;
use axum::extract::{Form, Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::post;
use serde::Deserialize;
use std::sync::Arc;

/// The routes of these screens.
pub(in crate::web) fn routes() -> Router<Arc<Shared>> {
    ways::routes::routes(Side::Sink)
        .route("/upstream/{name}/replays", post(replay))
        .route("/upstream/{name}/replays/{id}/cancel", post(cancel))
}

/// What is to be sent once more.
#[derive(Debug, Deserialize)]
struct ReplayAsk {
    #[serde(default)]
    hours: String,
    #[serde(default)]
    points: String,
}

/// `POST /upstream/{name}/replays`.
async fn replay(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Path(name): Path<String>,
    Form(ask): Form<ReplayAsk>,
) -> Result<Response, Failure> {
    replays::ask(&shared, &visit, &name, &ask.hours, &ask.points).await?;
    Ok(Redirect::to(&pages::path("/upstream/", &name)).into_response())
}

/// `POST /upstream/{name}/replays/{id}/cancel`.
async fn cancel(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Path((name, id)): Path<(String, u32)>,
) -> Result<Response, Failure> {
    call_off(&shared, &visit, id).await?;
    Ok(Redirect::to(&pages::path("/upstream/", &name)).into_response())
}
