//! `/api/v1/audit`: who changed what, when and from where.

use super::{Api, get};
use crate::access::{Action, AuditFilter, AuditPage, PAGE_ENTRIES_MAX};
use crate::reading::UnixMicros;
use crate::web::failure::Failure;
use crate::web::live::Shared;
use crate::web::pages;
use crate::web::visit::Visit;
use axum::extract::{Query, State};
use axum::response::Response;
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Arc;

/// Entries of an answer, where the request says nothing.
const LIMIT: usize = 100;

/// Which entries are wanted; the newest ones, if nothing is said.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct AuditAsk {
    /// Entries with a lower number: `before` of the answer before.
    before: Option<u64>,
    /// Most entries, 1 to 500; 100 if nothing is said.
    limit: Option<usize>,
    /// By whom: the whole name, in any case.
    who: Option<String>,
    /// What was done.
    action: Option<Action>,
    /// A text that who, subject or detail contains, in any case.
    text: Option<String>,
    /// Not before this, in microseconds since 1970.
    since_us: Option<UnixMicros>,
    /// Before this, in microseconds since 1970.
    until_us: Option<UnixMicros>,
}

/// Adds the addresses of this file.
pub(in crate::web) fn add_to(api: Api) -> Api {
    let newest = get("Who changed what, the newest first.").query::<AuditAsk>().answers::<AuditPage>();
    api.at("/api/v1/audit", newest, list)
}

/// `GET /api/v1/audit`.
pub(in crate::web) async fn list(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Query(asked): Query<AuditAsk>,
) -> Result<Response, Failure> {
    let limit = asked.limit.unwrap_or(LIMIT);
    if !(1..=PAGE_ENTRIES_MAX).contains(&limit) {
        return Err(Failure::bad(format!("limit is {limit}; use 1 to {PAGE_ENTRIES_MAX}")));
    }
    let filter = AuditFilter {
        who: asked.who,
        action: asked.action,
        text: asked.text,
        since_us: asked.since_us,
        until_us: asked.until_us,
    };
    Ok(pages::json(&visit, &shared.state.access.audit(asked.before, limit, filter).await?))
}
