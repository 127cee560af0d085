//! `/settings/audit`: who changed what, when and from where, the newest first; and all of it as a file.

use super::said;
use crate::access::{Access, Action, AuditFilter, Entry, PAGE_ENTRIES_MAX};
use crate::reading::UnixMicros;
use crate::web::failure::Failure;
use crate::web::live::Shared;
use crate::web::locale::Locale;
use crate::web::pages::{self, Frame, Nav};
use crate::web::visit::Visit;
use crate::web::words::Moment;
use askama::Template;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use serde::Deserialize;
use std::sync::Arc;

/// The screen's address.
const HERE: &str = "/settings/audit";

/// Entries on a page: what one still looks through.
const PAGE_ENTRIES: usize = 50;

/// Longest filter that is used, in characters.
const FILTER_CHARS_MAX: usize = 128;

/// Lines of a detail that are shown at once; a difference is opened by who wants it.
const LINES_AT_ONCE: usize = 1;

/// What is asked of the log, in the address.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::web) struct Ask {
    who: String,
    text: String,
    before: Option<u64>,
}

impl Ask {
    fn filter(&self) -> AuditFilter {
        let filled = |text: &str| {
            let text: String = text.trim().chars().take(FILTER_CHARS_MAX).collect();
            (!text.is_empty()).then_some(text)
        };
        AuditFilter { who: filled(&self.who), text: filled(&self.text), ..AuditFilter::default() }
    }
}

/// A line of a difference.
struct Line {
    /// How it looks.
    tone: &'static str,
    text: String,
}

/// An entry as the page shows it.
struct Row {
    number: u64,
    at: Moment,
    who: String,
    who_address: String,
    kind: &'static str,
    from: String,
    action: &'static str,
    refused: bool,
    subject: String,
    detail: String,
    lines: Vec<Line>,
}

#[derive(Template)]
#[template(path = "audit.html")]
struct Page {
    frame: Frame,
    rows: Vec<Row>,
    who: String,
    text: String,
    narrowed: bool,
    newest: Option<String>,
    next: Option<String>,
    export: String,
}

/// `GET /settings/audit`.
pub(in crate::web) async fn page(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Query(ask): Query<Ask>,
) -> Result<Response, Failure> {
    let filter = ask.filter();
    let found = shared.state.access.audit(ask.before, PAGE_ENTRIES, filter.clone()).await?;
    let now_us = shared.state.clock.tick().wall_us;
    let (who, text) = (filter.who.unwrap_or_default(), filter.text.unwrap_or_default());
    let address = |root: &str, before: Option<u64>| {
        let before = before.map(|before| before.to_string()).unwrap_or_default();
        let query = pages::query(&[("who", &who), ("text", &text), ("before", &before)]);
        if query.is_empty() { root.to_owned() } else { format!("{root}?{query}") }
    };
    let page = Page {
        frame: Frame::new(&shared, &visit, Nav::Settings).tab(HERE),
        rows: found.entries.into_iter().map(|entry| row(entry, now_us, visit.l)).collect(),
        narrowed: !who.is_empty() || !text.is_empty(),
        newest: ask.before.map(|_| address(HERE, None)),
        next: found.before.map(|before| address(HERE, Some(before))),
        export: address("/settings/audit/export", None),
        who,
        text,
    };
    Ok(pages::html(StatusCode::OK, &visit, page.render()))
}

fn row(entry: Entry, now_us: UnixMicros, l: Locale) -> Row {
    let long = entry.detail.lines().count() > LINES_AT_ONCE;
    Row {
        number: entry.number,
        at: Moment::new(entry.at_us, now_us, l),
        who_address: if entry.who.is_empty() {
            String::new()
        } else {
            format!("{HERE}?{}", pages::query(&[("who", &entry.who)]))
        },
        who: entry.who,
        kind: said::kind(entry.kind),
        from: entry.from.unwrap_or_default(),
        action: said::action(entry.action),
        refused: matches!(entry.action, Action::SignInRefused | Action::SetUpRefused),
        // What is kept or taken back is the change before, which says what it was.
        subject: if entry.subject == "configuration" { String::new() } else { entry.subject },
        lines: if long { entry.detail.lines().map(line).collect() } else { Vec::new() },
        detail: if long { String::new() } else { l.say(&entry.detail).into_owned() },
    }
}

fn line(text: &str) -> Line {
    let tone = match text.as_bytes().first() {
        Some(b'+') => "added",
        Some(b'-') => "removed",
        Some(b'@') => "head",
        _ => "",
    };
    Line { tone, text: text.to_owned() }
}

/// `GET /settings/audit/export`.
pub(in crate::web) async fn export(State(shared): State<Arc<Shared>>, Query(ask): Query<Ask>) -> Response {
    as_file(&shared, ask.filter(), ask.before)
}

/// Every entry that matches, a line of JSON each, the newest first.
pub(in crate::web) fn as_file(shared: &Shared, filter: AuditFilter, before: Option<u64>) -> Response {
    let head = [
        (header::CONTENT_TYPE, "application/x-ndjson"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"audit.ndjson\""),
        (header::CACHE_CONTROL, "no-store"),
    ];
    let walk = Walk { access: shared.state.access.clone(), filter, before, over: false };
    (head, Body::from_stream(stream::unfold(walk, Walk::next))).into_response()
}

/// A walk through the log, a page at a time, so that no more is in memory.
struct Walk {
    access: Access,
    filter: AuditFilter,
    before: Option<u64>,
    over: bool,
}

impl Walk {
    /// The lines of the next page. An error ends the file early, so that the browser tells that it is not whole.
    async fn next(mut self) -> Option<(Result<Bytes, std::io::Error>, Self)> {
        if self.over {
            return None;
        }
        let page = match self.access.audit(self.before, PAGE_ENTRIES_MAX, self.filter.clone()).await {
            Ok(page) => page,
            Err(error) => {
                self.over = true;
                return Some((Err(std::io::Error::other(error)), self));
            }
        };
        let mut lines = Vec::new();
        for entry in &page.entries {
            if let Err(error) = serde_json::to_writer(&mut lines, entry) {
                self.over = true;
                return Some((Err(error.into()), self));
            }
            lines.push(b'\n');
        }
        self.before = page.before;
        self.over = page.before.is_none();
        Some((Ok(lines.into()), self))
    }
}
