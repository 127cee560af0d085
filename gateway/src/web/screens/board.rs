//! `/board`: the buffer, dead letters, the log and the system.

use crate::web::live::Shared;
use axum::Router;
use std::sync::Arc;

/// The routes of these screens.
pub(in crate::web) fn routes() -> Router<Arc<Shared>> {
    Router::new()
}
