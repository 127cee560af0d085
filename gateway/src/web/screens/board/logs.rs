//! `/board/logs`: the newest log lines by level and text, followed as they are written, and as a file.

use super::ask::filled;
use crate::logs::{LogLevel, LogLine, LogQuery, PAGE_LINES_MAX};
use crate::reading::UnixMicros;
use crate::web::assets::ASSETS;
use crate::web::failure::Failure;
use crate::web::live::Shared;
use crate::web::locale::Locale;
use crate::web::pages::{self, Frame, Nav};
use crate::web::visit::Visit;
use crate::web::words::Moment;
use askama::Template;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Deserialize;
use std::fmt::Write as _;
use std::sync::Arc;

/// The screen's address.
const HERE: &str = "/board/logs";

/// Lines on a page.
const PAGE_LINES: usize = 200;

/// What is asked of the log, in the address; an empty field is sent, too.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::web) struct Ask {
    level: String,
    text: String,
    before: String,
    after: String,
}

impl Ask {
    /// The least level that is wanted.
    pub(super) fn level(&self) -> Result<LogLevel, Failure> {
        let name = self.level.trim();
        let wrong = || Failure::bad(format!("level is {name:?}; use trace, debug, info, warn or error"));
        if name.is_empty() { Ok(LogLevel::default()) } else { LogLevel::from_name(name).ok_or_else(wrong) }
    }

    /// The text that is wanted.
    pub(super) fn text(&self) -> Option<String> {
        filled(&self.text)
    }

    /// The line after which the stream goes on.
    pub(super) fn after(&self) -> Result<Option<u64>, Failure> {
        number("after", &self.after)
    }

    fn address(&self, root: &str, more: &[(&str, &str)]) -> String {
        let mut pairs = vec![("level", self.level.as_str()), ("text", &self.text)];
        pairs.extend_from_slice(more);
        let query = pages::query(&pairs);
        if query.is_empty() { root.to_owned() } else { format!("{root}?{query}") }
    }
}

fn number(name: &str, text: &str) -> Result<Option<u64>, Failure> {
    let text = text.trim();
    let wrong = |_| Failure::bad(format!("{name} is {text:?}; use the number of a line"));
    if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(wrong) }
}

/// A line as the page shows it. Whatever is in it came from outside, perhaps: it is shown as text, control characters as signs.
#[derive(Template)]
#[template(path = "see/log_line.html")]
pub(super) struct Line {
    l: Locale,
    sequence: u64,
    at: Moment,
    tone: &'static str,
    level: &'static str,
    target: String,
    message: String,
    fields: Vec<(String, String)>,
}

impl Line {
    /// The view of a line.
    pub(super) fn of(line: &LogLine, l: Locale) -> Self {
        let (tone, level) = match line.level {
            LogLevel::Error => ("bad", "error"),
            LogLevel::Warn => ("warn", "warning"),
            LogLevel::Info => ("good", "info"),
            LogLevel::Debug => ("idle", "debug"),
            LogLevel::Trace => ("idle", "trace"),
        };
        Self {
            l,
            sequence: line.sequence,
            at: Moment::new(line.at_us, line.at_us, l),
            tone,
            level,
            target: line.target.clone(),
            message: visible(&line.message),
            fields: line.fields.iter().map(|(name, value)| (name.clone(), visible(value))).collect(),
        }
    }

    /// It as HTML on one line, as events want it.
    pub(super) fn html(&self) -> String {
        self.render().unwrap_or_default().replace('\n', " ")
    }
}

/// Control characters as signs: a line stays one line, and nothing moves the cursor of who reads a downloaded log.
fn visible(text: &str) -> String {
    let sign = |c: char| match c {
        '\n' => '⏎',
        '\t' => ' ',
        c if c.is_control() => '·',
        c => c,
    };
    text.chars().map(sign).collect()
}

#[derive(Template)]
#[template(path = "see/logs.html")]
struct Page {
    frame: Frame,
    ask: Ask,
    levels: Vec<(&'static str, &'static str, bool)>,
    lines: Vec<String>,
    narrowed: bool,
    stream: Option<String>,
    download: String,
    newest: Option<String>,
    next: Option<String>,
}

/// `GET /board/logs`.
pub(super) async fn page(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Query(ask): Query<Ask>,
) -> Result<Response, Failure> {
    let (level_min, before) = (ask.level()?, number("before", &ask.before)?);
    let query = LogQuery { before, after: None, level_min, text: ask.text(), limit: PAGE_LINES };
    let found = shared.state.logs.page(&query);
    // The newest page goes on by itself, from the newest line that there was.
    let after = found.end.checked_sub(1).map(|last| last.to_string()).unwrap_or_default();
    let named = [("", "All"), ("info", "Info and above"), ("warn", "Warnings and errors"), ("error", "Errors only")];
    let page = Page {
        frame: Frame::new(&shared, &visit, Nav::Board).tab(HERE).script(ASSETS.log.url.as_str()),
        levels: named.into_iter().map(|(level, name)| (level, name, level == ask.level.trim())).collect(),
        lines: found.lines.iter().map(|line| Line::of(line, visit.l).html()).collect(),
        narrowed: !ask.level.trim().is_empty() || !ask.text.trim().is_empty(),
        stream: before.is_none().then(|| ask.address("/board/logs/stream", &[("after", &after)])),
        download: ask.address("/board/logs/download", &[]),
        newest: before.map(|_| ask.address(HERE, &[])),
        next: found.next.map(|next| ask.address(HERE, &[("before", &next.to_string())])),
        ask,
    };
    Ok(pages::html(StatusCode::OK, &visit, page.render()))
}

/// `GET /board/logs/download`: all lines that are kept and match, the oldest first, as text.
pub(super) async fn download(State(shared): State<Arc<Shared>>, Query(ask): Query<Ask>) -> Result<Response, Failure> {
    let (level_min, text, mut before) = (ask.level()?, ask.text(), None);
    let mut lines = Vec::new();
    loop {
        let query = LogQuery { before, after: None, level_min, text: text.clone(), limit: PAGE_LINES_MAX };
        let page = shared.state.logs.page(&query);
        lines.extend(page.lines);
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    let mut file = String::new();
    for line in lines.iter().rev() {
        put(line, &mut file);
    }
    let head = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"forebay.log\""),
        (header::CACHE_CONTROL, "no-store"),
    ];
    Ok((head, file).into_response())
}

fn put(line: &LogLine, file: &mut String) {
    let at = moment(line.at_us);
    let level = line.level.name().to_uppercase();
    // Writing into a text does not fail.
    write!(file, "{at} {level:>5} {}: {}", line.target, visible(&line.message)).unwrap_or_default();
    for (name, value) in &line.fields {
        write!(file, " {name}={:?}", visible(value)).unwrap_or_default();
    }
    file.push('\n');
}

fn moment(at_us: UnixMicros) -> String {
    Timestamp::from_microsecond(at_us).unwrap_or_default().to_string()
}
