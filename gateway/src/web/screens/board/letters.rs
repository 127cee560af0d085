//! `/board/letters`: dead letters, the newest first, narrowed down by source, text and time; and all of them as a file.

use super::ask::Ask;
use crate::history::{ExportFormat, ExportRequest, HistoryError, RecordView, RecordWhat};
use crate::reading::{Stream, UnixMicros};
use crate::web::failure::Failure;
use crate::web::live::Shared;
use crate::web::locale::Locale;
use crate::web::pages::{self, Frame, Nav};
use crate::web::visit::Visit;
use crate::web::words::{Moment, sentence};
use askama::Template;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{Stream as Pieces, StreamExt as _};
use std::sync::Arc;

/// The screen's address.
const HERE: &str = "/board/letters";

/// Letters on a page: those that are alike are one entry, so that more are still looked through.
const PAGE_LETTERS: usize = 100;

/// Characters of what came that a list shows.
const EXCERPT_CHARS_MAX: usize = 120;

struct Row {
    sequence: u64,
    at: Moment,
    source: String,
    source_address: String,
    position: String,
    error: String,
    rule: String,
    excerpt: String,
    size: String,
    /// Those before it that are like it, the newest first.
    like: Vec<Alike>,
}

/// One of a row of letters that are alike.
struct Alike {
    sequence: u64,
    at: Moment,
    error: String,
}

#[derive(Template)]
#[template(path = "see/letters.html")]
struct Page {
    frame: Frame,
    ask: Ask,
    rows: Vec<Row>,
    sources: Vec<String>,
    narrowed: bool,
    newest: Option<String>,
    next: Option<String>,
    ndjson: String,
    csv: String,
    kept: String,
}

/// `GET /board/letters`.
pub(super) async fn page(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Query(ask): Query<Ask>,
) -> Result<Response, Failure> {
    let (filter, before) = (ask.filter()?, ask.before()?);
    let found = shared.state.history.records(Stream::DeadLetters, before, PAGE_LETTERS, &filter).await?;
    let now_us = shared.state.clock.tick().wall_us;
    let kept = found.end.saturating_sub(found.oldest);
    let page = Page {
        frame: Frame::new(&shared, &visit, Nav::Board).tab(HERE),
        rows: alike(found.records.iter().filter_map(|record| row(record, now_us, visit.l))),
        sources: shared.state.status.sources().iter().map(|source| source.name.clone()).collect(),
        narrowed: ask.narrows(),
        newest: before.map(|_| ask.address(HERE, &[])),
        next: found.next.map(|next| ask.address(HERE, &[("before", &next.to_string())])),
        ndjson: ask.address("/board/letters/export", &[]),
        csv: ask.address("/board/letters/export", &[("format", "csv")]),
        kept: visit.l.count(kept),
        ask,
    };
    Ok(pages::html(StatusCode::OK, &visit, page.render()))
}

fn row(record: &RecordView, now_us: UnixMicros, l: Locale) -> Option<Row> {
    let RecordWhat::DeadLetter { source, position, error, rule, raw, .. } = &record.what else { return None };
    let excerpt = raw.text.as_deref().unwrap_or(&raw.hex);
    Some(Row {
        sequence: record.sequence,
        at: Moment::new(record.at_us, now_us, l),
        source: source.clone(),
        source_address: format!("{HERE}?{}", pages::query(&[("source", source)])),
        position: position.clone(),
        error: sentence(&l.say(error)),
        rule: rule.clone(),
        excerpt: excerpt.chars().take(EXCERPT_CHARS_MAX).collect(),
        size: l.bytes(raw.bytes),
        like: Vec::new(),
    })
}

/// Letters that follow each other for the same reason as one row: a device that sends what cannot be read sends it each second.
fn alike(rows: impl Iterator<Item = Row>) -> Vec<Row> {
    let mut kept: Vec<Row> = Vec::new();
    for row in rows {
        match kept.iter_mut().find(|other| is_like(other, &row)) {
            Some(other) => other.like.push(Alike { sequence: row.sequence, at: row.at, error: row.error }),
            None => kept.push(row),
        }
    }
    kept
}

/// Whether two letters are of one source and place, and only numbers differ in what was wrong.
fn is_like(one: &Row, other: &Row) -> bool {
    let words = |row: &Row| -> String { row.error.chars().filter(|letter| !letter.is_numeric()).collect() };
    (&one.source, &one.rule) == (&other.source, &other.rule) && place(one) == place(other) && words(one) == words(other)
}

/// Where a letter comes from, without the numbers that count what came.
fn place(row: &Row) -> &str {
    row.position.split(" at ").next().unwrap_or_default()
}

/// `GET /board/letters/export`: every letter that matches, the oldest first, piece by piece.
pub(super) async fn export(State(shared): State<Arc<Shared>>, Query(ask): Query<Ask>) -> Result<Response, Failure> {
    let format = match ask.format.as_str() {
        "" | "ndjson" => ExportFormat::Ndjson,
        "csv" => ExportFormat::Csv,
        other => return Err(Failure::bad(format!("format is {other:?}; use ndjson or csv"))),
    };
    let request = ExportRequest { filter: ask.filter()?, format, ..ExportRequest::default() };
    let pieces = shared.state.history.export(Stream::DeadLetters, request).await?;
    Ok(attachment("dead-letters", format, pieces))
}

/// An export as a file. An error ends it early, so that whoever loads it learns that it is not whole.
pub(in crate::web) fn attachment(
    name: &str,
    format: ExportFormat,
    pieces: impl Pieces<Item = Result<Bytes, HistoryError>> + Send + 'static,
) -> Response {
    let (kind, ending) = match format {
        ExportFormat::Ndjson => ("application/x-ndjson", "ndjson"),
        ExportFormat::Csv => ("text/csv; charset=utf-8", "csv"),
    };
    let head = [
        (header::CONTENT_TYPE, kind.to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}.{ending}\"")),
        (header::CACHE_CONTROL, "no-store".to_owned()),
    ];
    (head, Body::from_stream(pieces.map(|piece| piece.map_err(std::io::Error::other)))).into_response()
}
