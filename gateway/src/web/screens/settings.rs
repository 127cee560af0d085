//! The settings: every option as a form, the file itself, its history, templates, the certificate.

mod conflict;
mod decide;
mod draft;
mod edit;
mod excerpt;
mod fields;
mod file;
mod highlight;
mod outline;
mod past;
pub(in crate::web) mod rules;
pub(in crate::web) mod security;
pub(in crate::web) mod templates;
mod words;

use crate::web::live::Shared;
use axum::Router;
use axum::routing::{get, post};
use std::sync::Arc;

/// The routes of these screens.
pub(in crate::web) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .merge(rules::routes())
        .route("/settings", get(outline::page))
        .route("/settings/trial", get(past::on_trial).post(decide::decide))
        .route("/settings/edit", get(edit::page).post(edit::save))
        .route("/settings/edit/fields", post(edit::redraw))
        .route("/settings/add", get(edit::add))
        .route("/settings/check", post(edit::check))
        .route("/settings/item", post(edit::item))
        .route("/settings/file", get(file::page).post(file::save))
        .route("/settings/file/check", post(file::check))
        .route("/settings/file/download", get(file::download))
        .route("/settings/history", get(past::list))
        .route("/settings/history/{n}", get(past::page).post(past::back))
        .route("/settings/templates", get(templates::list).post(templates::save))
        .route("/settings/templates/{id}", get(templates::page).post(templates::fill))
        .route("/settings/templates/{id}/remove", post(templates::remove))
        .route("/settings/security", get(security::page))
        .route("/settings/security/certificate", post(security::renew))
        .route("/settings/security/certificate/own", post(security::give))
        .route("/settings/security/certificate/back", post(security::back))
        .route("/settings/security/certificate/download", get(security::download))
        .route("/settings/security/secret", post(security::forget))
}
