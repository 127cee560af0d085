//! `/api/v1/points/{id}`: one point with what is kept of it: its chart, what checks and detectors said, and a file of its readings.

use super::{Api, get};
use crate::history::{
    COLUMNS_MAX, COLUMNS_MIN, Chart, ChartArrays, ChartRequest, ExportFormat, ExportRequest, Mark, RecordFilter,
    Sample, Statistics,
};
use crate::reading::{PointId, Stream, UnixMicros};
use crate::site::PointKey;
use crate::web::failure::{Failure, FieldError};
use crate::web::live::Shared;
use crate::web::locale::Locale;
use crate::web::pages;
use crate::web::screens::point_page::{self, LimitView};
use crate::web::screens::points::{self, PointAnswer};
use crate::web::visit::Visit;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Columns of a chart that nobody asked a number for: what a phone or half a desk shows.
const COLUMNS: usize = 600;

/// Characters of a name in the name of a file.
const FILE_NAME_CHARS_MAX: usize = 60;

/// Adds the addresses of this file.
pub(in crate::web) fn add_to(api: Api) -> Api {
    const ID: &[(&str, u64)] = &[("id", u32::MAX as u64)];
    api.at(
        "/api/v1/points/{id}",
        get("A point with its last value, its device's tags and its limits.").numbers(ID).answers::<PointDetail>(),
        point,
    )
    .at(
        "/api/v1/points/{id}/chart",
        get("The kept readings of a point as columns, each with its least and greatest number and their mean.")
            .numbers(ID)
            .query::<ChartAsk>()
            .answers::<ChartAnswer>(),
        chart,
    )
    .at(
        "/api/v1/points/{id}/marks",
        get("What checks, detectors and alerts said about a point in a time.")
            .numbers(ID)
            .query::<TimeAsk>()
            .answers::<MarksAnswer>(),
        marks,
    )
    .at(
        "/api/v1/points/{id}/export",
        get("The kept readings of a point as a file, the oldest first.")
            .numbers(ID)
            .query::<ExportAsk>()
            .answers_as(&["application/x-ndjson", "text/csv"]),
        export,
    )
}

/// A point with what the configuration says about it.
#[derive(Serialize, JsonSchema)]
pub(in crate::web) struct PointDetail {
    #[serde(flatten)]
    point: PointAnswer,
    /// The tags of its device.
    tags: BTreeMap<String, String>,
    /// The limits that checks put on it, in the order of the configuration.
    limits: Vec<LimitView>,
}

/// Which time.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct TimeAsk {
    /// From this time of receipt on, in microseconds since 1970; from the oldest that is kept, if it is left out.
    #[serde(default)]
    from_us: Option<UnixMicros>,
    /// To this time, included; to now, if it is left out.
    #[serde(default)]
    to_us: Option<UnixMicros>,
}

/// Which chart.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct ChartAsk {
    /// From this time of receipt on, in microseconds since 1970; from the oldest that is kept, if it is left out.
    #[serde(default)]
    from_us: Option<UnixMicros>,
    /// To this time, included; to now, if it is left out.
    #[serde(default)]
    to_us: Option<UnixMicros>,
    /// About how many columns, 10 to 2000 and 600 if it is left out; never more, and fewer where whole minutes are all that is known.
    #[serde(default)]
    #[schemars(range(min = 10, max = 2000))]
    columns: Option<usize>,
}

/// Which readings, and how they are written.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct ExportAsk {
    /// From this time of receipt on, in microseconds since 1970; from the oldest that is kept, if it is left out.
    #[serde(default)]
    from_us: Option<UnixMicros>,
    /// To this time, included; to now, if it is left out.
    #[serde(default)]
    to_us: Option<UnixMicros>,
    /// `ndjson` (one JSON object a line, as sinks get them) or `csv`.
    #[serde(default)]
    format: ExportFormat,
}

/// The readings of a point over a time.
#[derive(Serialize, JsonSchema)]
pub(in crate::web) struct ChartAnswer {
    /// From this time on, in microseconds since 1970.
    from_us: UnixMicros,
    /// To this time, included.
    to_us: UnixMicros,
    /// When the oldest kept reading of any point was received; nothing if nothing is kept.
    kept_from_us: Option<UnixMicros>,
    /// How wide a column is, in microseconds.
    column_us: i64,
    /// The columns that have readings, ascending; an empty one stands where readings stop for longer than usual.
    columns: ChartArrays,
    /// The readings themselves, where they are few and all were read.
    raw: Option<RawArrays>,
    /// What all of them come to.
    statistics: Statistics,
    /// What checks and detectors said, ascending.
    marks: Vec<Mark>,
    /// How many older marks are left out.
    marks_left_out: u64,
    /// Whether whole minutes are all that was read: edges are a minute wide then.
    of_minutes: bool,
    /// Whether all of the window was read.
    complete: bool,
    /// Why not, and what to do.
    incomplete_because: Option<String>,
}

/// Readings as one array for each quantity, ascending.
#[derive(Serialize, JsonSchema)]
pub(in crate::web) struct RawArrays {
    /// When each was received, in seconds since 1970.
    at: Vec<f64>,
    /// The number of each; a switch counts as 0 or 1.
    value: Vec<Option<f64>>,
    /// Those that are not a good number without any flag, with all that is known of them.
    notable: Vec<Sample>,
}

/// What was said about a point.
#[derive(Serialize, JsonSchema)]
pub(in crate::web) struct MarksAnswer {
    /// From this time on, in microseconds since 1970.
    from_us: UnixMicros,
    /// To this time, included.
    to_us: UnixMicros,
    /// What checks and detectors said, ascending.
    marks: Vec<Mark>,
    /// How many older marks are left out.
    left_out: u64,
    /// Whether all of the window was looked through.
    complete: bool,
}

impl RawArrays {
    fn new(samples: Vec<Sample>) -> Self {
        let at = samples.iter().map(|sample| sample.at_us as f64 / 1e6).collect();
        let value = samples.iter().map(|sample| sample.value).collect();
        let is_notable = |sample: &Sample| {
            sample.quality != "good" || !sample.flags.is_empty() || sample.text.is_some() || sample.no_data.is_some()
        };
        Self { at, value, notable: samples.into_iter().filter(is_notable).collect() }
    }
}

/// The point of a number as it stands in an address.
pub(in crate::web) fn key_of(shared: &Shared, id: &str) -> Result<(PointId, Arc<PointKey>), Failure> {
    let known = id.parse().ok().map(PointId).and_then(|id| Some((id, shared.state.registry.key(id)?)));
    known.ok_or_else(|| {
        let shown: String = id.chars().take(20).collect();
        Failure::missing(format!("there is no point number {shown:?}; the list of points has those there are"))
    })
}

fn wrong(path: &str, message: String) -> Failure {
    let field = FieldError { path: path.to_owned(), message: message.clone(), line: 0, column: 0 };
    Failure::unfit(message, vec![field])
}

/// The window that is asked for, and since when anything is kept.
async fn window(
    shared: &Shared,
    from_us: Option<UnixMicros>,
    to_us: Option<UnixMicros>,
) -> Result<(UnixMicros, UnixMicros, Option<UnixMicros>), Failure> {
    let kept_from_us = shared.state.history.kept_from().await?;
    let to_us = to_us.unwrap_or_else(|| shared.state.clock.tick().wall_us);
    let from_us = from_us.unwrap_or_else(|| kept_from_us.unwrap_or(to_us).min(to_us));
    if from_us > to_us {
        return Err(wrong("from_us", "the time ends before it begins; swap from_us and to_us".to_owned()));
    }
    Ok((from_us, to_us, kept_from_us))
}

/// The marks with their words in the language of whoever asks.
fn said(mut marks: Vec<Mark>, l: Locale) -> Vec<Mark> {
    for mark in &mut marks {
        mark.words = l.say(&mark.words).into_owned();
    }
    marks
}

/// `GET /api/v1/points/{id}`.
async fn point(State(shared): State<Arc<Shared>>, visit: Visit, Path(id): Path<String>) -> Result<Response, Failure> {
    let (id, key) = key_of(&shared, &id)?;
    let (tags, limits) = point_page::configured(&shared, &key);
    Ok(pages::json(&visit, &PointDetail { point: points::answer_of(&shared, id, &key), tags, limits }))
}

async fn read(shared: &Shared, id: &str, ask: ChartAsk) -> Result<(Chart, Option<UnixMicros>), Failure> {
    let (point, _) = key_of(shared, id)?;
    let columns = ask.columns.unwrap_or(COLUMNS);
    if !(COLUMNS_MIN..=COLUMNS_MAX).contains(&columns) {
        return Err(wrong("columns", format!("a chart has {COLUMNS_MIN} to {COLUMNS_MAX} columns")));
    }
    let (from_us, to_us, kept_from_us) = window(shared, ask.from_us, ask.to_us).await?;
    // Whoever hangs up drops this call, and with it the reading.
    let cancel = CancellationToken::new();
    let chart = shared.state.history.chart(ChartRequest { point, from_us, to_us, columns }, &cancel).await?;
    Ok((chart, kept_from_us))
}

/// `GET /api/v1/points/{id}/chart`.
async fn chart(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Path(id): Path<String>,
    Query(ask): Query<ChartAsk>,
) -> Result<Response, Failure> {
    let (chart, kept_from_us) = read(&shared, &id, ask).await?;
    let answer = ChartAnswer {
        from_us: chart.from_us,
        to_us: chart.to_us,
        kept_from_us,
        column_us: chart.column_us,
        columns: chart.arrays(),
        raw: chart.raw.map(RawArrays::new),
        statistics: chart.statistics,
        marks: said(chart.marks, visit.l),
        marks_left_out: chart.marks_left_out,
        of_minutes: chart.of_minutes,
        complete: chart.complete,
        incomplete_because: chart.incomplete_because.map(|why| visit.l.say(&why).into_owned()),
    };
    Ok(pages::json(&visit, &answer))
}

/// `GET /api/v1/points/{id}/marks`.
async fn marks(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Path(id): Path<String>,
    Query(TimeAsk { from_us, to_us }): Query<TimeAsk>,
) -> Result<Response, Failure> {
    // As many columns as there may be: the more, the sooner it is single readings that the marks are of.
    let (chart, _) = read(&shared, &id, ChartAsk { from_us, to_us, columns: Some(COLUMNS_MAX) }).await?;
    let answer = MarksAnswer {
        from_us: chart.from_us,
        to_us: chart.to_us,
        marks: said(chart.marks, visit.l),
        left_out: chart.marks_left_out,
        complete: chart.complete,
    };
    Ok(pages::json(&visit, &answer))
}

/// `GET /api/v1/points/{id}/export`.
async fn export(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    Query(ask): Query<ExportAsk>,
) -> Result<Response, Failure> {
    let (point, key) = key_of(&shared, &id)?;
    let (from_us, to_us, _) = window(&shared, ask.from_us, ask.to_us).await?;
    let (kind, ending) = match ask.format {
        ExportFormat::Csv => ("text/csv; charset=utf-8", "csv"),
        ExportFormat::Ndjson => ("application/x-ndjson", "ndjson"),
    };
    let request = ExportRequest {
        filter: RecordFilter { from_us: Some(from_us), to_us: Some(to_us), ..RecordFilter::default() },
        only: Some(point),
        format: ask.format,
        tags: Arc::new(point_page::tags(&shared)),
        ..ExportRequest::default()
    };
    let pieces = shared.state.history.export(Stream::Readings, request).await?;
    let mut response = Body::from_stream(pieces).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let named = format!("attachment; filename=\"{}.{ending}\"", file_name(&key));
    if let Ok(named) = HeaderValue::from_str(&named) {
        headers.insert(header::CONTENT_DISPOSITION, named);
    }
    Ok(response)
}

/// A name for a file that any system takes.
fn file_name(key: &PointKey) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c } else { '-' };
    format!("{}-{}", key.device, key.point).chars().take(FILE_NAME_CHARS_MAX).map(plain).collect()
}
