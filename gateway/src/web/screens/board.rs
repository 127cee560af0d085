//! `/board`: the buffer, dead letters, the log and the system, and the screen about the interface.

pub(in crate::web) mod ask;
mod buffer;
mod fill;
mod gaps;
mod interface;
pub(in crate::web) mod letter;
mod letters;
mod logs;
mod replays;
pub(in crate::web) mod stream;
mod system;

pub(in crate::web) use buffer::parts;
pub(in crate::web) use letters::attachment;
pub(in crate::web) use replays::{call_off, note, progress};
pub(in crate::web) use system::parts as system_parts;

use crate::web::live::Shared;
use axum::Router;
use axum::routing::{get, post};
use std::sync::Arc;

/// The routes of these screens.
pub(in crate::web) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/board", get(buffer::page))
        .route("/board/replays/{id}/cancel", post(replays::cancel))
        .route("/board/letters", get(letters::page))
        .route("/board/letters/export", get(letters::export))
        .route("/board/letters/{sequence}", get(letter::page))
        .route("/board/letters/{sequence}/raw", get(letter::raw))
        .route("/board/logs", get(logs::page))
        .route("/board/logs/stream", get(stream::follow))
        .route("/board/logs/download", get(logs::download))
        .route("/board/system", get(system::page))
        .route("/api", get(interface::page))
}
