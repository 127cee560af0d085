//! `/sources`: where readings come from. What they share with ways upstream is in `ways`.

use super::ways;
use super::ways::detail;
use super::ways::draft::Side;
use super::ways::edit::{self, Running};
use crate::web::failure::Failure;
use crate::web::live::Shared;
use crate::web::pages;
use crate::web::visit::Visit;
use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::Response;
use axum::routing::get;
use serde::Deserialize;
use std::sync::Arc;

/// The routes of these screens.
pub(in crate::web) fn routes() -> Router<Arc<Shared>> {
    ways::routes::routes(Side::Source)
        .route("/sources/discover", get(discover))
        .route("/sources/{name}/values", get(values))
        .route("/sources/{name}/registers.csv", get(export))
}

/// `GET /sources/discover`: what there is to read, found by looking and listening.
async fn discover(State(shared): State<Arc<Shared>>, visit: Visit) -> Result<Response, Failure> {
    edit::new(Side::Source, &shared, &visit, Vec::new()).await
}

/// `GET /sources/{name}/values?device=…&point=…&point=…`: the last values of registers of a device, as JSON.
async fn values(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Path(name): Path<String>,
    Query(asked): Query<Vec<(String, String)>>,
) -> Response {
    let of = |key: &'static str| asked.iter().filter(move |(name, _)| name == key).map(|(_, value)| value.as_str());
    let device = of("device").next().unwrap_or_default();
    pages::json(&visit, &detail::values(&shared, &name, device, &of("point").collect(), visit.l))
}

/// The unit whose registers are asked for, counted from 0.
#[derive(Debug, Deserialize)]
struct ExportAsk {
    #[serde(default)]
    unit: usize,
}

/// `GET /sources/{name}/registers.csv?unit=0`.
async fn export(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Path(name): Path<String>,
    Query(ask): Query<ExportAsk>,
) -> Result<Response, Failure> {
    let running = Running::read(&shared).await?;
    let csv = edit::registers_csv(&running, &name, ask.unit)?;
    let mut answer = pages::text(StatusCode::OK, &visit, "text/csv; charset=utf-8", csv);
    // Names of sources are plain letters, so that none can break out of the header.
    let file = format!("attachment; filename=\"{name}-{}.csv\"", ask.unit);
    if let Ok(value) = file.parse() {
        answer.headers_mut().insert(header::CONTENT_DISPOSITION, value);
    }
    Ok(answer)
}
