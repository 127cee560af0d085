//! The local page and its interface for programs, the metrics and the two probes.
//!
//! A request goes through `server` (the connection), `guard` (who may do what, and how a refusal looks) and the table of routes
//! below to its screen (`screens/`) or to the interface. Nothing here changes anything itself: a new configuration is handed to
//! [`Desk`], people and tokens to [`Access`].

mod api;
mod aside;
mod assets;
mod body;
mod certify;
mod change;
mod crowd;
mod failure;
mod guard;
mod live;
mod locale;
mod metrics;
mod pages;
mod patient;
mod probes;
mod rates;
mod screens;
mod server;
#[cfg(test)]
mod server_tests;
mod snapshot;
mod sparkline;
mod tend;
#[cfg(test)]
mod tests;
mod tls;
mod visit;
mod words;

pub use server::Peer;
pub use tls::Tls;

use crate::access::Access;
use crate::buffer::{Buffer, Ends, Usage};
use crate::clock::Clock;
use crate::config::desk::Desk;
use crate::history::History;
use crate::logs::LogRing;
use crate::site::Registry;
use crate::status::Status;
use crate::system::System;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use axum::{Router, middleware};
use live::Shared;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Most bytes of a request's body: a whole configuration as a form field, where every character may take three.
const BODY_BYTES_MAX: usize = 3 * 1024 * 1024 + 64 * 1024;

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
    /// The buffer, which keeps replays; none where there is only a page.
    pub buffer: Option<Buffer>,
    /// People, sessions, tokens, and the log of what they changed.
    pub access: Access,
    /// Where a changed configuration is handed in.
    pub desk: Desk,
    /// The clock.
    pub clock: Clock,
    /// The program's version.
    pub version: &'static str,
    /// How its port is opened.
    pub tls: Tls,
    /// What charts and lists of records read.
    pub history: History,
    /// The board.
    pub system: Arc<System>,
    /// The newest log lines.
    pub logs: LogRing,
}

/// Serves until `stop`; answers under way may end. Once a second it looks at the counters, for rates and open pages.
pub async fn serve(listener: TcpListener, state: WebState, stop: CancellationToken) {
    let tls = state.tls.clone();
    let shared = Arc::new(Shared::new(state, stop.clone()));
    let served = server::run(listener, routes(shared.clone()), tls.clone(), stop.clone());
    let tended = tend::tend(shared.state.clone(), stop.clone());
    tokio::join!(served, live::beat(shared), tls.keep(stop), tended);
}

/// The routes alone, for a caller that brings its own server: rates stay unknown and open pages still.
pub fn router(state: WebState) -> Router {
    routes(Arc::new(Shared::new(state, CancellationToken::new())))
}

impl WebState {
    /// Whether the page can be had encrypted, too.
    fn offers_tls(&self) -> bool {
        self.tls.certificate().is_some()
    }
}

fn routes(shared: Arc<Shared>) -> Router {
    use screens::{missing, more, overview, point_page, points, session};
    Router::new()
        .route("/", get(overview::page))
        .route("/points", get(points::page))
        .route("/points/{id}", get(point_page::page))
        .route("/more", get(more::page))
        .route("/sign-in", get(session::sign_in_page).post(session::sign_in))
        .route("/sign-out", post(session::sign_out))
        .route("/language", get(session::language))
        .route("/events", get(live::events))
        .route("/static/{name}", get(assets::asset))
        .route("/metrics", get(metrics::page))
        .route("/live", get(probes::live))
        .route("/ready", get(probes::ready))
        .merge(screens::people::routes())
        .merge(screens::sources::routes())
        .merge(screens::upstream::routes())
        .merge(screens::first_steps::routes())
        .merge(screens::alerts::routes())
        .merge(screens::board::routes())
        .merge(screens::settings::routes())
        .merge(api::routes())
        .fallback(missing::missing)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn(aside::answer))
        .layer(middleware::from_fn_with_state(shared.clone(), guard::admit))
        .layer(tower_http::csrf::CsrfLayer::new())
        .layer(middleware::from_fn_with_state(shared.clone(), guard::present))
        .layer(middleware::map_response(pages::guard))
        .with_state(shared)
}
