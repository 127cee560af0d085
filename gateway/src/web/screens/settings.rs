//! The settings: every option as a form, the file itself, its history, templates, the certificate.

use crate::web::live::Shared;
use axum::Router;
use std::sync::Arc;

/// The routes of these screens.
pub(in crate::web) fn routes() -> Router<Arc<Shared>> {
    Router::new()
}
