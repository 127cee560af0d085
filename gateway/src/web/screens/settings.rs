//! The settings: every option as a form, the file itself, its history, templates, the certificate.

mod decide;

use crate::web::live::Shared;
use axum::Router;
use axum::routing::post;
use std::sync::Arc;

/// The routes of these screens.
pub(in crate::web) fn routes() -> Router<Arc<Shared>> {
    Router::new().route("/settings/trial", post(decide::decide))
}
