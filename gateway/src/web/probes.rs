//! `/live` and `/ready`: what a supervisor asks.

use super::live::Shared;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use std::sync::Arc;

/// The ingest loop turns many times a second; after this long without a turn it is stuck, not busy: the slowest commit
/// that a worn SD card was seen to make takes a few seconds.
const STILL_US_MAX: u64 = 10_000_000;

/// `GET /live`: whether the ingest loop makes turns. A stuck one is cured by a restart only.
pub(super) async fn live(State(shared): State<Arc<Shared>>) -> Response {
    let still_us = shared.still_for_us();
    let starting = !shared.state.status.is_ready() && shared.state.status.ingest_turns.get() == 0;
    if still_us <= STILL_US_MAX || starting {
        return answer(StatusCode::OK, "live\n".to_owned());
    }
    let sentence = format!(
        "ingest has made no turn for {} s; if the disk is not merely slow (dmesg), restart the gateway\n",
        still_us / 1_000_000
    );
    answer(StatusCode::SERVICE_UNAVAILABLE, sentence)
}

/// `GET /ready`: whether the buffer is open and the sources are started.
pub(super) async fn ready(State(shared): State<Arc<Shared>>) -> Response {
    if shared.state.status.is_ready() {
        answer(StatusCode::OK, "ready\n".to_owned())
    } else {
        let missing = "not ready: the buffer is still being opened, or the sources are not started yet\n";
        answer(StatusCode::SERVICE_UNAVAILABLE, missing.to_owned())
    }
}

fn answer(status: StatusCode, text: String) -> Response {
    (status, [(header::CACHE_CONTROL, "no-store")], text).into_response()
}
