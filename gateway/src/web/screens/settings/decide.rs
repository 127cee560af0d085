//! Keeping a configuration that runs on trial, or taking it back.

use crate::config::desk::Revision;
use crate::web::change;
use crate::web::failure::Failure;
use crate::web::live::Shared;
use crate::web::visit::Visit;
use axum::Form;
use axum::extract::State;
use axum::http::{HeaderMap, Uri, header};
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;
use std::sync::Arc;

/// What is to become of the trial.
#[derive(Debug, Deserialize)]
pub(super) struct Given {
    /// `confirm`, `force` or `revert`.
    #[serde(rename = "do")]
    what: String,
    /// The revision that was seen; the banner says it.
    revision: Option<Revision>,
}

/// `POST /settings/trial`: decides and goes back to where it was decided.
pub(super) async fn decide(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    headers: HeaderMap,
    Form(Given { what, revision }): Form<Given>,
) -> Result<Response, Failure> {
    let seen = revision.as_ref();
    match what.as_str() {
        "confirm" => change::keep(&shared, &visit, false, seen).await?,
        "force" => change::keep(&shared, &visit, true, seen).await?,
        "revert" => change::take_back(&shared, &visit, seen).await?,
        _ => return Err(Failure::bad("a trial is confirmed, confirmed by force, or reverted")),
    }
    Ok(Redirect::to(&came_from(&headers)).into_response())
}

/// The page that a form was on; the settings if it is not known.
pub(super) fn came_from(headers: &HeaderMap) -> String {
    let referer = headers.get(header::REFERER).and_then(|referer| referer.to_str().ok()).unwrap_or_default();
    let back = referer.parse::<Uri>().ok().and_then(|uri| Some(uri.path_and_query()?.to_string()));
    back.filter(|back| back.starts_with('/') && !back.starts_with("//")).unwrap_or_else(|| "/settings".to_owned())
}
