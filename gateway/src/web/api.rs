//! The interface for programs under `/api/v1`: everything that the page does, as JSON.
//!
//! Every group of addresses is a file below, and tells its addresses with their descriptions in one go ([`Api::at`]): from them
//! come both the routes and `/api/v1/openapi.json`, so that neither can be without the other. Mistakes are answered as
//! problem documents (RFC 9457).

mod account;
pub(in crate::web) mod audit;
pub(in crate::web) mod board;
pub(in crate::web) mod certificate;
pub(in crate::web) mod config;
mod describe;
mod edits;
mod gateway;
mod given;
mod openapi;
mod options;
pub(in crate::web) mod people;
pub(in crate::web) mod points;
mod secrets;
mod templates;
pub(in crate::web) mod tokens;
mod ways;

pub(in crate::web) use describe::{Api, delete, get, patch, post, put};

use super::live::Shared;
use super::pages;
use super::visit::Visit;
use axum::Router;
use axum::extract::State;
use std::sync::Arc;

/// Every address of the interface with its description.
pub(super) fn all() -> Api {
    let groups = [
        gateway::add,
        points::add_to,
        ways::add_to,
        board::add_to,
        config::add_to,
        edits::add_to,
        templates::add_to,
        secrets::add_to,
        people::add_to,
        tokens::add_to,
        certificate::add_to,
        audit::add_to,
        account::add_to,
    ];
    groups.into_iter().fold(Api::default(), |api, add| add(api))
}

/// The routes of the interface, and its description.
pub(super) fn routes() -> Router<Arc<Shared>> {
    let api = all();
    let described = Arc::new(openapi::document(api.operations()));
    let answer = move |State(_): State<Arc<Shared>>, visit: Visit| {
        let described = described.clone();
        async move { pages::json(&visit, described.as_ref()) }
    };
    api.into_router().route("/api/v1/openapi.json", axum::routing::get(answer))
}
