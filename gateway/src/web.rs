//! The local page, its data as JSON, the metrics and the two probes. Everything here only reads.

mod assets;
mod books;
mod configuration;
mod live;
mod metrics;
mod overview;
mod pages;
mod point;
mod points;
mod probes;
mod rates;
mod server;
mod snapshot;
mod sparkline;
#[cfg(test)]
mod tests;
mod words;

use crate::buffer::{Ends, Usage};
use crate::clock::Clock;
use crate::site::Registry;
use crate::status::Status;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::get;
use axum::{Router, middleware};
use live::Shared;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Most bytes of a request's body. Nothing here takes one yet.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// What the page reads.
#[derive(Clone, Debug)]
pub struct WebState {
    /// Counters, health and last values.
    pub status: Arc<Status>,
    /// The names of the points.
    pub registry: Arc<Registry>,
    /// What the buffer occupies.
    pub usage: watch::Receiver<Usage>,
    /// Where the streams begin and end.
    pub ends: watch::Receiver<Ends>,
    /// The loaded configuration as TOML, without secrets: it is shown as it is.
    pub config_toml: watch::Receiver<Arc<str>>,
    /// The clock.
    pub clock: Clock,
    /// The program's version.
    pub version: &'static str,
}

/// Serves until `stop`; answers under way may end. Once a second it looks at the counters, for rates and open pages.
pub async fn serve(listener: TcpListener, state: WebState, stop: CancellationToken) {
    let shared = Arc::new(Shared::new(state, stop.clone()));
    tokio::join!(server::run(listener, routes(shared.clone()), stop), live::beat(shared));
}

/// The routes alone, for a caller that brings its own server: rates stay unknown and open pages still.
pub fn router(state: WebState) -> Router {
    routes(Arc::new(Shared::new(state, CancellationToken::new())))
}

fn routes(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/", get(overview::page))
        .route("/points", get(points::page))
        .route("/configuration", get(configuration::page))
        .route("/events", get(live::events))
        .route("/static/{name}", get(assets::asset))
        .route("/metrics", get(metrics::page))
        .route("/live", get(probes::live))
        .route("/ready", get(probes::ready))
        .route("/api/v1/status", get(status))
        .route("/api/v1/points", get(points::api))
        .fallback(configuration::missing)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::map_response(pages::guard))
        .with_state(shared)
}

/// `GET /api/v1/status`.
async fn status(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    pages::json(&headers, &shared.snapshot())
}
