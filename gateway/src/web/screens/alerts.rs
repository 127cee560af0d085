//! `/alerts`: what needs a person now, and what did.

use super::board::ask::Ask;
use crate::history::{RecordView, RecordWhat};
use crate::reading::{Stream, UnixMicros};
use crate::web::failure::Failure;
use crate::web::live::{Part, Shared};
use crate::web::locale::Locale;
use crate::web::pages::{self, Frame, Nav};
use crate::web::snapshot::{Snapshot, TroubleView};
use crate::web::visit::Visit;
use crate::web::words::{Moment, sentence};
use askama::Template;
use axum::Router;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use std::sync::Arc;

/// The screen's address.
const HERE: &str = "/alerts";

/// Alerts on a page: what one still looks through.
const PAGE_ALERTS: usize = 50;

/// The routes of these screens.
pub(in crate::web) fn routes() -> Router<Arc<Shared>> {
    Router::new().route(HERE, get(page))
}

#[derive(Template)]
#[template(path = "see/alerts_now.html")]
struct Now {
    l: Locale,
    tone: &'static str,
    headline: String,
    calm: String,
    rows: Vec<Trouble>,
}

struct Trouble {
    subject: String,
    what: String,
    advice: String,
    tone: &'static str,
    word: &'static str,
    since: Moment,
    open: Option<String>,
}

struct Row {
    sequence: u64,
    at: Moment,
    tone: &'static str,
    word: &'static str,
    subject: String,
    address: String,
    message: String,
    rule: String,
    /// How long it lasted, where its beginning is on this page.
    lasted: String,
}

#[derive(Template)]
#[template(path = "see/alerts.html")]
struct Page {
    frame: Frame,
    now: String,
    ask: Ask,
    rows: Vec<Row>,
    narrowed: bool,
    newest: Option<String>,
    next: Option<String>,
    trouble: String,
}

/// The live parts.
pub(in crate::web) fn parts(snapshot: &Snapshot, l: Locale) -> askama::Result<Vec<Part>> {
    Ok(vec![("alerts-now", now(snapshot, l)?)])
}

/// `GET /alerts`.
async fn page(State(shared): State<Arc<Shared>>, visit: Visit, Query(ask): Query<Ask>) -> Result<Response, Failure> {
    let (filter, before) = (ask.filter()?, ask.before()?);
    let (l, snapshot) = (visit.l, shared.snapshot());
    // What is wrong now is worth showing where the disk gives nothing, and all the more then.
    let (found, trouble) = match shared.state.history.records(Stream::Alerts, before, PAGE_ALERTS, &filter).await {
        Ok(found) => (found, String::new()),
        Err(error) => (crate::history::Page::default(), l.say(&error.to_string()).into_owned()),
    };
    let rendered = || -> askama::Result<String> {
        Page {
            frame: Frame::new(&shared, &visit, Nav::Alerts).live("alerts"),
            now: now(&snapshot, l)?,
            rows: rows(&found.records, snapshot.now_us, l),
            narrowed: ask.narrows(),
            newest: before.map(|_| ask.address(HERE, &[])),
            next: found.next.map(|next| ask.address(HERE, &[("before", &next.to_string())])),
            ask: ask.clone(),
            trouble,
        }
        .render()
    };
    Ok(pages::html(StatusCode::OK, &visit, rendered()))
}

fn now(snapshot: &Snapshot, l: Locale) -> askama::Result<String> {
    let worst = snapshot.troubles.first().map_or("", |trouble| trouble.severity);
    let count = snapshot.troubles.len();
    Now {
        l,
        tone: match worst {
            "error" => "bad",
            "warning" => "warn",
            "info" => "idle",
            _ => "good",
        },
        headline: match count {
            0 => l.t("Nothing is wrong now").to_owned(),
            1 => l.t("One thing is told now").to_owned(),
            many => sentence(&l.f1("{} things are told now", l.number_word(many))).trim_end_matches('.').to_owned(),
        },
        calm: l.t("When something needs you, it stands here, with what to do.").to_owned(),
        rows: snapshot.troubles.iter().map(|trouble| row_now(trouble, snapshot, l)).collect(),
    }
    .render()
}

fn row_now(trouble: &TroubleView, snapshot: &Snapshot, l: Locale) -> Trouble {
    let (tone, word) = severity(trouble.severity);
    Trouble {
        subject: l.say(&trouble.subject).into_owned(),
        what: sentence(&l.say(&trouble.what)),
        advice: sentence(&l.say(&trouble.advice)),
        tone,
        word,
        since: Moment::new(trouble.since_us, snapshot.now_us, l),
        open: place(&trouble.subject, snapshot),
    }
}

/// Where one acts on what a subject is about.
fn place(subject: &str, snapshot: &Snapshot) -> Option<String> {
    if snapshot.sources.iter().any(|source| source.name == subject) {
        return Some(pages::path("/sources/", subject));
    }
    if snapshot.sinks.iter().any(|sink| sink.name == subject) {
        return Some(pages::path("/upstream/", subject));
    }
    match subject {
        "buffer" | "books" => Some("/board".to_owned()),
        "configuration" => Some("/settings/file".to_owned()),
        "page" | "web" | "certificate" => Some("/settings/security".to_owned()),
        _ => None,
    }
}

fn severity(name: &str) -> (&'static str, &'static str) {
    match name {
        "error" => ("bad", "needs you now"),
        "warning" => ("warn", "needs a look"),
        _ => ("idle", "good to know"),
    }
}

/// The alerts with how long those lasted that are over: the newest first, so an end comes before its beginning.
fn rows(records: &[RecordView], now_us: UnixMicros, l: Locale) -> Vec<Row> {
    let row = |(index, record): (usize, &RecordView)| {
        let RecordWhat::Alert { rule, severity: name, subject, message, raised, .. } = &record.what else {
            return None;
        };
        let begins = |other: &RecordView| match &other.what {
            RecordWhat::Alert { rule: other_rule, subject: other_subject, raised: true, .. } => {
                (other_rule == rule && other_subject == subject).then_some(other.at_us)
            }
            _ => None,
        };
        let begun = records.iter().skip(index + 1).find_map(begins).filter(|_| !raised);
        let (tone, word) = if *raised { severity(name) } else { ("good", "over") };
        Some(Row {
            sequence: record.sequence,
            at: Moment::new(record.at_us, now_us, l),
            tone,
            word,
            subject: subject.clone(),
            address: format!("{HERE}?{}", pages::query(&[("source", subject)])),
            message: sentence(&l.say(message)),
            rule: rule.clone(),
            lasted: begun
                .map_or_else(String::new, |begun| l.f1("after {}", l.span(record.at_us.saturating_sub(begun)))),
        })
    };
    records.iter().enumerate().filter_map(row).collect()
}
