//! `/api/v1/tokens`: what lets programs in. A token is told once, when it is made.

use super::given::Given;
use super::people::created;
use super::{Api, delete, get, post};
use crate::access::{MadeToken, Right, Token};
use crate::reading::UnixMicros;
use crate::web::failure::Failure;
use crate::web::live::Shared;
use crate::web::pages;
use crate::web::visit::Visit;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Every API token.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::web) struct Tokens {
    /// In the order in which they were made.
    tokens: Vec<Token>,
}

/// A token to make.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct NewToken {
    /// What it is called here: at most 64 visible characters.
    #[schemars(length(min = 1, max = 64))]
    name: String,
    /// What it allows; nothing that whoever makes it may not do.
    #[schemars(length(min = 1))]
    rights: BTreeSet<Right>,
    /// When it ends, in microseconds since 1970; never, if it is left out. No end can be told while the clock is not set.
    #[serde(default)]
    #[schemars(range(min = 1))]
    expires_us: Option<UnixMicros>,
}

/// Adds the addresses of this file.
pub(in crate::web) fn add_to(api: Api) -> Api {
    const ONE: &str = "/api/v1/tokens/{name}";
    api.at("/api/v1/tokens", get("Every API token, without its secret.").answers::<Tokens>(), list)
        .at(
            "/api/v1/tokens",
            post("Makes a token; this answer alone holds it.")
                .takes::<NewToken>()
                .answers::<MadeToken>()
                .with(StatusCode::CREATED),
            make,
        )
        .at(ONE, get("An API token, without its secret.").answers::<Token>(), one)
        .at(
            ONE,
            delete("Takes a token back: it lets nobody in from now on. None takes back itself, nor what may more."),
            revoke,
        )
}

/// `GET /api/v1/tokens`.
pub(in crate::web) async fn list(State(shared): State<Arc<Shared>>, visit: Visit) -> Result<Response, Failure> {
    Ok(pages::json(&visit, &Tokens { tokens: shared.state.access.tokens()? }))
}

/// `GET /api/v1/tokens/{name}`.
pub(in crate::web) async fn one(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Path(name): Path<String>,
) -> Result<Response, Failure> {
    let wanted = name.trim().to_lowercase();
    let found = shared.state.access.tokens()?.into_iter().find(|token| token.name.to_lowercase() == wanted);
    let token = found.ok_or_else(|| Failure::missing(format!("there is no API token called {name:?}")))?;
    Ok(pages::json(&visit, &token))
}

/// `POST /api/v1/tokens`: the only answer that holds the token itself.
pub(in crate::web) async fn make(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Given(asked): Given<NewToken>,
) -> Result<Response, Failure> {
    let rights = asked.rights.into_iter().collect();
    let made = shared.state.access.make_token(&visit.by()?, &asked.name, rights, asked.expires_us).await?;
    Ok(created(&visit, &pages::path("/api/v1/tokens/", &made.name), &made))
}

/// `DELETE /api/v1/tokens/{name}`.
pub(in crate::web) async fn revoke(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Path(name): Path<String>,
) -> Result<StatusCode, Failure> {
    shared.state.access.revoke_token(&visit.by()?, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}
