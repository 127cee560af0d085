//! What the board holds and how it is: the buffer, gaps, dead letters, alerts, the log, the system.

use super::{Api, get};
use crate::history::{ExportFormat, ExportRequest, PAGE_RECORDS_MAX, Page, RecordFilter, RecordView};
use crate::logs::{LogLevel, LogLine, LogPage, LogQuery, PAGE_LINES_MAX};
use crate::reading::{Sequence, Stream, UnixMicros};
use crate::system::Board;
use crate::web::failure::Failure;
use crate::web::live::Shared;
use crate::web::pages;
use crate::web::screens::board::ask::FILTER_CHARS_MAX;
use crate::web::screens::board::{attachment, letter, stream};
use crate::web::snapshot::{BufferView, LaneView};
use crate::web::visit::Visit;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Records of an answer, where the request says nothing.
const LIMIT: usize = 50;

/// Which records are wanted; the newest ones, if nothing is said.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct RecordsAsk {
    /// A text that stands in any of its words, in any case; at most 128 characters.
    #[schemars(length(max = 128))]
    text: Option<String>,
    /// The source, sink or point that it is about, exactly.
    #[schemars(length(max = 128))]
    source: Option<String>,
    /// Not before this, in microseconds since 1970.
    from_us: Option<UnixMicros>,
    /// Not after this, in microseconds since 1970.
    to_us: Option<UnixMicros>,
    /// Records with a lower sequence: `next` of the answer before.
    before: Option<Sequence>,
    /// Most records, 1 to 200; 50 if nothing is said.
    #[schemars(range(min = 1, max = 200))]
    limit: Option<usize>,
}

/// What is exported; everything, if nothing is said.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct ExportAsk {
    /// A text that stands in any of its words, in any case; at most 128 characters.
    #[schemars(length(max = 128))]
    text: Option<String>,
    /// The source that it is about, exactly.
    #[schemars(length(max = 128))]
    source: Option<String>,
    /// Not before this, in microseconds since 1970.
    from_us: Option<UnixMicros>,
    /// Not after this, in microseconds since 1970.
    to_us: Option<UnixMicros>,
    /// How it is written: a JSON object a line, or a table.
    format: Option<ExportFormat>,
}

/// Which log lines are wanted; the newest ones, if nothing is said.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct LogsAsk {
    /// Lines with a lower sequence: `next` of the answer before.
    before: Option<u64>,
    /// Lines with a higher sequence: what came since.
    after: Option<u64>,
    /// Lines that matter at least so much.
    level: Option<LogLevel>,
    /// A text that stands in the line, in any case; at most 128 characters.
    #[schemars(length(max = 128))]
    text: Option<String>,
    /// Most lines, 1 to 500; 50 if nothing is said.
    #[schemars(range(min = 1, max = 500))]
    limit: Option<usize>,
}

/// Which log lines are followed; all that come from now on, if nothing is said.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct FollowAsk {
    /// First the kept lines with a higher sequence. A reader that comes back sends `Last-Event-ID` instead.
    after: Option<u64>,
    /// Lines that matter at least so much.
    level: Option<LogLevel>,
    /// A text that stands in the line, in any case; at most 128 characters.
    #[schemars(length(max = 128))]
    text: Option<String>,
}

/// The buffer, and what waits in it for whom.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::web) struct BufferAnswer {
    /// This moment, by the gateway's wall clock, in microseconds since 1970.
    now_us: UnixMicros,
    /// The buffer.
    buffer: BufferView,
    /// The books of each sink, by stream.
    sinks: BTreeMap<String, BTreeMap<&'static str, LaneView>>,
}

/// Adds the addresses of this file.
pub(in crate::web) fn add_to(api: Api) -> Api {
    const SEQUENCE: &[(&str, u64)] = &[("sequence", u64::MAX)];
    let letters = get("Dead letters, the newest first.").query::<RecordsAsk>().answers::<Page>();
    let letter = get("A dead letter with up to 4 KiB of what came.").answers::<RecordView>().numbers(SEQUENCE);
    let raw = get("All that is kept of what came of a dead letter, as it came.").numbers(SEQUENCE);
    let export = get("Dead letters as a file, the oldest first: NDJSON, or CSV with format=csv.")
        .query::<ExportAsk>()
        .answers_as(&["application/x-ndjson", "text/csv"]);
    let alerts = get("Alerts that were raised and that are over, the newest first.").query::<RecordsAsk>();
    let gaps = get("What was lost and what never came in, the newest first.").query::<RecordsAsk>();
    let logs = get("The newest log lines, the newest first.").query::<LogsAsk>().answers::<LogPage>();
    let follow = get("Log lines as they are written: server-sent events, `line` with a line as JSON and `missed` with how many could not be told.")
        .query::<FollowAsk>();
    api.at("/api/v1/buffer", get("The buffer, and what waits in it.").answers::<BufferAnswer>(), buffer)
        .at("/api/v1/gaps", gaps.answers::<Page>(), gaps_list)
        .at("/api/v1/alerts", alerts.answers::<Page>(), alerts_list)
        .at("/api/v1/dead-letters", letters, letters_list)
        .at("/api/v1/dead-letters/export", export, letters_export)
        .at("/api/v1/dead-letters/{sequence}", letter, letter_one)
        .at("/api/v1/dead-letters/{sequence}/raw", raw.answers_as(&["application/octet-stream"]), letter::raw)
        .at("/api/v1/logs", logs, logs_list)
        .at("/api/v1/logs/follow", follow.answers_as(&["text/event-stream"]), logs_follow)
        .at("/api/v1/system", get("The board: processor, memory, disk, heat, clock.").answers::<Board>(), system)
}

/// `GET /api/v1/buffer`.
async fn buffer(State(shared): State<Arc<Shared>>, visit: Visit) -> Response {
    let snapshot = shared.snapshot();
    let sinks = snapshot.sinks.into_iter().map(|sink| (sink.name, sink.streams)).collect();
    pages::json(&visit, &BufferAnswer { now_us: snapshot.now_us, buffer: snapshot.buffer, sinks })
}

/// `GET /api/v1/gaps`.
async fn gaps_list(shared: State<Arc<Shared>>, visit: Visit, ask: Query<RecordsAsk>) -> Result<Response, Failure> {
    records(Stream::Gaps, shared, visit, ask).await
}

/// `GET /api/v1/alerts`.
async fn alerts_list(shared: State<Arc<Shared>>, visit: Visit, ask: Query<RecordsAsk>) -> Result<Response, Failure> {
    records(Stream::Alerts, shared, visit, ask).await
}

/// `GET /api/v1/dead-letters`.
async fn letters_list(shared: State<Arc<Shared>>, visit: Visit, ask: Query<RecordsAsk>) -> Result<Response, Failure> {
    records(Stream::DeadLetters, shared, visit, ask).await
}

async fn records(
    stream: Stream,
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Query(ask): Query<RecordsAsk>,
) -> Result<Response, Failure> {
    let limit = limit(ask.limit, PAGE_RECORDS_MAX)?;
    let filter = filter(ask.text, ask.source, ask.from_us, ask.to_us)?;
    let page = shared.state.history.records(stream, ask.before, limit, &filter).await?;
    Ok(pages::json(&visit, &page))
}

/// `GET /api/v1/dead-letters/{sequence}`.
async fn letter_one(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Path(sequence): Path<String>,
) -> Result<Response, Failure> {
    let none = || Failure::missing(format!("there is no dead letter {sequence:?}"));
    let number: Sequence = sequence.parse().map_err(|_| none())?;
    let record = shared.state.history.record(Stream::DeadLetters, number).await?.ok_or_else(none)?;
    Ok(pages::json(&visit, &record))
}

/// `GET /api/v1/dead-letters/export`.
async fn letters_export(State(shared): State<Arc<Shared>>, Query(ask): Query<ExportAsk>) -> Result<Response, Failure> {
    let format = ask.format.unwrap_or_default();
    let filter = filter(ask.text, ask.source, ask.from_us, ask.to_us)?;
    let request = ExportRequest { filter, format, ..ExportRequest::default() };
    let pieces = shared.state.history.export(Stream::DeadLetters, request).await?;
    Ok(attachment("dead-letters", format, pieces))
}

/// `GET /api/v1/logs`.
async fn logs_list(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Query(ask): Query<LogsAsk>,
) -> Result<Response, Failure> {
    let query = LogQuery {
        before: ask.before,
        after: ask.after,
        level_min: ask.level.unwrap_or_default(),
        text: short(ask.text)?,
        limit: limit(ask.limit, PAGE_LINES_MAX)?,
    };
    Ok(pages::json(&visit, &shared.state.logs.page(&query)))
}

/// `GET /api/v1/logs/follow`.
async fn logs_follow(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    headers: HeaderMap,
    Query(ask): Query<FollowAsk>,
) -> Result<Response, Failure> {
    let after = stream::last_seen(&headers).or(ask.after);
    let wants = LogQuery {
        after,
        level_min: ask.level.unwrap_or_default(),
        text: short(ask.text)?,
        before: None,
        limit: PAGE_LINES_MAX,
    };
    let json = |line: &LogLine, _| serde_json::to_string(line).unwrap_or_default();
    stream::followed(&shared, visit, wants, json)
}

/// `GET /api/v1/system`.
async fn system(State(shared): State<Arc<Shared>>, visit: Visit) -> Response {
    pages::json(&visit, &shared.state.system.board())
}

fn limit(asked: Option<usize>, most: usize) -> Result<usize, Failure> {
    let limit = asked.unwrap_or(LIMIT);
    if (1..=most).contains(&limit) {
        Ok(limit)
    } else {
        Err(Failure::bad(format!("limit is {limit}; use 1 to {most}")))
    }
}

fn short(text: Option<String>) -> Result<Option<String>, Failure> {
    match text {
        Some(text) if text.chars().count() > FILTER_CHARS_MAX => {
            Err(Failure::bad(format!("the text to look for is too long; use at most {FILTER_CHARS_MAX} characters")))
        }
        text => Ok(text.filter(|text| !text.is_empty())),
    }
}

fn filter(
    text: Option<String>,
    source: Option<String>,
    from_us: Option<UnixMicros>,
    to_us: Option<UnixMicros>,
) -> Result<RecordFilter, Failure> {
    if let (Some(from_us), Some(to_us)) = (from_us, to_us)
        && from_us > to_us
    {
        return Err(Failure::bad("from_us is after to_us; swap them"));
    }
    Ok(RecordFilter { text: short(text)?, source: short(source)?, from_us, to_us })
}
