//! `/board`: what waits, how full the buffer is, what goes first when room is short, what was lost, replays, and the card.

use super::ask::Ask;
use super::gaps::{self, GapRow};
use super::{fill, replays};
use crate::buffer::WhenFull;
use crate::config::BufferOptions;
use crate::history::RecordFilter;
use crate::reading::Stream;
use crate::web::failure::Failure;
use crate::web::live::{Part, Shared};
use crate::web::locale::Locale;
use crate::web::pages::{self, Frame, Nav};
use crate::web::snapshot::Snapshot;
use crate::web::visit::Visit;
use askama::Template;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use std::sync::Arc;
use std::time::Duration;

/// The screen's address.
const HERE: &str = "/board";

/// Gaps on a page: what one still looks through.
const PAGE_GAPS: usize = 20;

/// A part of the buffer in the order in which it gives way.
struct Turn {
    name: &'static str,
    most: String,
    age: String,
    full: &'static str,
}

#[derive(Template)]
#[template(path = "see/board.html")]
struct Page {
    frame: Frame,
    waits: String,
    fill: String,
    card: String,
    replays: String,
    turns: Vec<Turn>,
    keep: String,
    budget: String,
    gaps: Vec<GapRow>,
    trouble: String,
    newest: Option<&'static str>,
    next: Option<String>,
}

/// The live parts.
pub(in crate::web) fn parts(snapshot: &Snapshot, shared: &Shared, l: Locale) -> askama::Result<Vec<Part>> {
    Ok(vec![
        ("board-waits", fill::waits(snapshot, l)?),
        ("board-fill", fill::fill(snapshot, l)?),
        ("board-card", fill::card(snapshot, l)?),
        ("board-replays", replays::card(&shared.state.history, snapshot.now_us, l)?),
    ])
}

/// `GET /board`.
pub(super) async fn page(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Query(ask): Query<Ask>,
) -> Result<Response, Failure> {
    let before = ask.before()?;
    let (l, snapshot) = (visit.l, shared.snapshot());
    // Everything else is worth showing where the disk gives nothing.
    let (found, trouble) =
        match shared.state.history.records(Stream::Gaps, before, PAGE_GAPS, &RecordFilter::default()).await {
            Ok(found) => (found, String::new()),
            Err(error) => (crate::history::Page::default(), error.to_string()),
        };
    let options = options(&shared);
    let rendered = || -> askama::Result<String> {
        Page {
            frame: Frame::new(&shared, &visit, Nav::Board).tab(HERE).live("board"),
            waits: fill::waits(&snapshot, l)?,
            fill: fill::fill(&snapshot, l)?,
            card: fill::card(&snapshot, l)?,
            replays: replays::card(&shared.state.history, snapshot.now_us, l)?,
            turns: turns(&options, &snapshot, l),
            keep: span(options.keep_delivered.0, l),
            budget: options.daily_write_max.map_or_else(String::new, |size| l.bytes(size.0)),
            gaps: found.records.iter().filter_map(|record| gaps::row(record, snapshot.now_us, l)).collect(),
            trouble: if trouble.is_empty() { trouble } else { l.say(&trouble).into_owned() },
            newest: before.map(|_| "/board#gaps"),
            next: found.next.map(|next| format!("/board?before={next}#gaps")),
        }
        .render()
    };
    Ok(pages::html(StatusCode::OK, &visit, rendered()))
}

/// What the configuration says of the buffer.
fn options(shared: &Shared) -> BufferOptions {
    let text = shared.state.desk.state().borrow().text.to_string();
    crate::config::parse("configuration", text).map_or_else(|_| BufferOptions::default(), |loaded| loaded.config.buffer)
}

/// The parts in the order in which they give way.
fn turns(options: &BufferOptions, snapshot: &Snapshot, l: Locale) -> Vec<Turn> {
    let limits = &options.limits;
    let named = [
        ("Raw payloads", "raw", &limits.raw),
        ("Dead letters", "letters", &limits.dead_letters),
        ("Readings", "readings", &limits.readings),
        ("Alerts and gaps", "vital", &limits.alerts),
    ];
    let turn = |(name, key, limit): (&'static str, &str, &crate::config::LimitOptions)| {
        let most = snapshot.buffer.parts.get(key).map_or(options.disk_max.0, |[_, most]| *most);
        Turn {
            name,
            most: l.f1("at most {}", l.bytes(most)),
            age: limit.age_max.map_or_else(String::new, |age| l.f1("undelivered at most for {}", span(age.0, l))),
            full: match limit.when_full.unwrap_or(options.when_full) {
                WhenFull::Block => "when full, sources wait",
                WhenFull::DropOldest => "when full, the oldest gives way",
            },
        }
    };
    named.into_iter().map(turn).collect()
}

fn span(time: Duration, l: Locale) -> String {
    l.span(i64::try_from(time.as_micros()).unwrap_or(i64::MAX))
}
