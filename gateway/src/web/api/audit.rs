//! `/api/v1/audit`: who changed what, when and from where; and all of it as a file.

use super::{Api, get};
use crate::access::{Action, AuditFilter, AuditPage, PAGE_ENTRIES_MAX};
use crate::reading::UnixMicros;
use crate::web::failure::Failure;
use crate::web::live::Shared;
use crate::web::pages;
use crate::web::screens::audit::as_file;
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
    #[schemars(range(min = 1, max = 500))]
    limit: Option<usize>,
    /// By whom: the whole name, in any case.
    who: Option<String>,
    /// What was done.
    #[schemars(with = "Option<Action>")]
    action: Option<String>,
    /// A text that who, subject or detail contains, in any case.
    text: Option<String>,
    /// Not before this, in microseconds since 1970.
    since_us: Option<UnixMicros>,
    /// Before this, in microseconds since 1970.
    until_us: Option<UnixMicros>,
}

/// Which entries go into a file; all, if nothing is said.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct AuditFileAsk {
    /// By whom: the whole name, in any case.
    who: Option<String>,
    /// What was done.
    #[schemars(with = "Option<Action>")]
    action: Option<String>,
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
    let file =
        get("Every entry that matches as a file, a JSON object a line, the newest first.").query::<AuditFileAsk>();
    api.at("/api/v1/audit", newest, list).at("/api/v1/audit/export", file.answers_as(&["application/x-ndjson"]), export)
}

/// The deed of a name. An audit log of another version may hold deeds that this one does not know: a name here must be known.
fn action(name: Option<String>) -> Result<Option<Action>, Failure> {
    let Some(name) = name else { return Ok(None) };
    let found = serde_json::from_value(serde_json::Value::String(name.clone())).ok();
    let known = found.filter(|action| *action != Action::Other || name == "other");
    known
        .map(Some)
        .ok_or_else(|| Failure::bad(format!("no deed is called {name:?}; the description of the interface lists them")))
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
        action: action(asked.action)?,
        text: asked.text,
        since_us: asked.since_us,
        until_us: asked.until_us,
    };
    Ok(pages::json(&visit, &shared.state.access.audit(asked.before, limit, filter).await?))
}

/// `GET /api/v1/audit/export`.
async fn export(State(shared): State<Arc<Shared>>, Query(asked): Query<AuditFileAsk>) -> Result<Response, Failure> {
    let filter = AuditFilter {
        who: asked.who,
        action: action(asked.action)?,
        text: asked.text,
        since_us: asked.since_us,
        until_us: asked.until_us,
    };
    Ok(as_file(&shared, filter, None))
}
