//! `/sources`: where readings come from, each with its state, its try-out and its settings.

use crate::web::live::Shared;
use axum::Router;
use std::sync::Arc;

/// The routes of these screens.
pub(in crate::web) fn routes() -> Router<Arc<Shared>> {
    Router::new()
}
