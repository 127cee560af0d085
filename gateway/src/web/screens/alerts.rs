//! `/alerts`: what needs a person now, and what did.

use super::board::ask::Ask;
use super::needs::told;
use crate::history::{RecordView, RecordWhat};
use crate::reading::{Stream, UnixMicros};
use crate::web::failure::Failure;
use crate::web::live::{Part, Shared};
use crate::web::locale::Locale;
use crate::web::pages::{self, Frame, Nav};
use crate::web::snapshot::{Snapshot, TroubleView};
use crate::web::visit::Visit;
use crate::web::words::{Moment, sentence, sentences};
use askama::Template;
use axum::Router;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use std::collections::HashMap;
use std::sync::Arc;

/// The screen's address.
const HERE: &str = "/alerts";

/// Records on a page: beginnings and ends of alerts, of which each has one row, and what is alike one together.
const PAGE_ALERTS: usize = 150;

/// Alerts that are alike stand in one row if no more than this lies between one and the next.
const ALIKE_US: i64 = 3_600_000_000;

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

/// An alert from its beginning to its end, or several that were alike within an hour.
struct Row {
    sequence: u64,
    at: Moment,
    tone: &'static str,
    word: &'static str,
    subject: String,
    address: String,
    message: String,
    rule: String,
    /// How long it lasted, where its beginning and end are known.
    lasted: String,
    /// How often it was, if it was more than once, and the first time.
    often: String,
    first: Moment,
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
            rows: rows(&found.records, before.is_none(), &snapshot.troubles, snapshot.now_us, l),
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
    let troubles = told(snapshot);
    let worst = troubles.first().map_or("", |trouble| trouble.severity);
    let count = troubles.len();
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
        rows: troubles.into_iter().map(|trouble| row_now(trouble, snapshot, l)).collect(),
    }
    .render()
}

fn row_now(trouble: &TroubleView, snapshot: &Snapshot, l: Locale) -> Trouble {
    let (tone, word) = severity(trouble.severity);
    Trouble {
        subject: l.say(&trouble.subject).into_owned(),
        what: sentences(&l.say(&trouble.what)),
        advice: sentences(&l.say(&trouble.advice)),
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

/// How grave it was, once it is past.
fn was(name: &str) -> &'static str {
    match name {
        "error" => "was urgent",
        "warning" => "asked for a look",
        _ => "was good to know",
    }
}

fn severity(name: &str) -> (&'static str, &'static str) {
    match name {
        "error" => ("bad", "needs you now"),
        "warning" => ("warn", "needs a look"),
        _ => ("idle", "good to know"),
    }
}

/// An alert as it was: raised, and over. Either may stand on another page.
struct Event<'r> {
    /// The record that says most of it: its beginning, if that is known.
    record: &'r RecordView,
    raised_us: Option<UnixMicros>,
    over_us: Option<UnixMicros>,
}

impl Event<'_> {
    fn at_us(&self) -> UnixMicros {
        self.raised_us.or(self.over_us).unwrap_or(self.record.at_us)
    }
}

/// What of an alert stays the same when it comes again: all but the numbers in its words.
fn kind_of(record: &RecordView) -> (&str, &str, String) {
    let RecordWhat::Alert { rule, subject, message, .. } = &record.what else { return ("", "", String::new()) };
    (rule, subject, message.chars().filter(|letter| !letter.is_ascii_digit()).collect())
}

/// By what an end finds its beginning. A source or sink may have several troubles at once, which end in the words in which they
/// began; a rule has one for each point.
fn name_of(record: &RecordView) -> (&str, &str, String) {
    let (rule, subject, words) = kind_of(record);
    (rule, subject, if rule == "health" { words } else { String::new() })
}

/// Puts each end to its beginning: the newest record comes first, so an end is met before its beginning.
fn events(records: &[RecordView]) -> Vec<Event<'_>> {
    let mut events: Vec<Event<'_>> = Vec::new();
    let mut ended: HashMap<(&str, &str, String), usize> = HashMap::new();
    for record in records {
        let RecordWhat::Alert { raised, .. } = &record.what else { continue };
        let name = name_of(record);
        if !raised {
            ended.insert(name, events.len());
            events.push(Event { record, raised_us: None, over_us: Some(record.at_us) });
        } else if let Some(event) = ended.remove(&name).and_then(|place| events.get_mut(place)) {
            event.record = record;
            event.raised_us = Some(record.at_us);
        } else {
            events.push(Event { record, raised_us: Some(record.at_us), over_us: None });
        }
    }
    events.sort_by_key(|event| std::cmp::Reverse(event.at_us()));
    events
}

/// One row for each alert, and for those that were alike within an hour; `is_newest` if nothing newer stands on another page.
fn rows(records: &[RecordView], is_newest: bool, troubles: &[TroubleView], now_us: UnixMicros, l: Locale) -> Vec<Row> {
    let mut groups: Vec<Vec<Event<'_>>> = Vec::new();
    for event in events(records) {
        let alike = |group: &&mut Vec<Event<'_>>| {
            group.last().is_some_and(|last| {
                kind_of(last.record) == kind_of(event.record) && last.at_us().saturating_sub(event.at_us()) <= ALIKE_US
            })
        };
        match groups.iter_mut().find(alike) {
            Some(group) => group.push(event),
            None => groups.push(vec![event]),
        }
    }
    // A trouble of before the last start has no end of its own: it goes on only if it is told now.
    let told =
        |rule: &str, subject: &str| rule != "health" || troubles.iter().any(|trouble| trouble.subject == subject);
    groups.iter().filter_map(|group| row(group, |rule, subject| is_newest && told(rule, subject), now_us, l)).collect()
}

fn row(group: &[Event<'_>], may_go_on: impl Fn(&str, &str) -> bool, now_us: UnixMicros, l: Locale) -> Option<Row> {
    let (newest, oldest) = (group.first()?, group.last()?);
    let RecordWhat::Alert { rule, severity: name, subject, message, .. } = &newest.record.what else { return None };
    let goes_on = newest.over_us.is_none() && may_go_on(rule, subject);
    let (tone, word) = if goes_on { severity(name) } else { ("idle", was(name)) };
    let span = newest.raised_us.zip(newest.over_us).map(|(from_us, to_us)| to_us.saturating_sub(from_us));
    Some(Row {
        sequence: newest.record.sequence,
        at: Moment::new(newest.at_us(), now_us, l),
        tone,
        word,
        subject: subject.clone(),
        address: format!("{HERE}?{}", pages::query(&[("source", subject)])),
        message: sentences(&l.say(message)),
        rule: l.say(rule).into_owned(),
        lasted: match (span, newest.over_us) {
            (Some(span_us), _) => l.f1("over after {}", l.span(span_us)),
            (None, Some(_)) => l.t("is over").to_owned(),
            (None, None) if goes_on => l.t("goes on").to_owned(),
            (None, None) => String::new(),
        },
        often: if group.len() > 1 { l.f1("{} times since", l.count(group.len() as u64)) } else { String::new() },
        first: Moment::new(oldest.at_us(), now_us, l),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, reason = "tests")]
    use super::*;

    const MINUTE_US: UnixMicros = 60_000_000;

    /// Records in the order of a page, the newest first, from minute, subject, degrees and whether it began.
    fn page(told: &[(i64, &str, u32, bool)]) -> Vec<RecordView> {
        let record = |(index, (minute, subject, degrees, raised)): (usize, &(i64, &str, u32, bool))| RecordView {
            sequence: index as u64,
            id: String::new(),
            at_us: minute * MINUTE_US,
            what: RecordWhat::Alert {
                rule: "range".to_owned(),
                severity: "error",
                subject: (*subject).to_owned(),
                message: if *raised { format!("{degrees} °C above the limit") } else { "ordinary again".to_owned() },
                value: None,
                raised: *raised,
            },
        };
        told.iter().enumerate().map(record).rev().collect()
    }

    #[test]
    fn an_alert_is_one_row_from_its_beginning_to_its_end_and_is_past_once_it_is_over() {
        let records = page(&[(0, "a/b", 3, true), (2, "a/b", 0, false), (4, "c/d", 5, true)]);
        let rows = rows(&records, true, &[], 10 * MINUTE_US, Locale::ENGLISH);
        assert_eq!(rows.len(), 2);
        assert_eq!((rows[0].subject.as_str(), rows[0].word, rows[0].tone), ("c/d", "needs you now", "bad"));
        assert_eq!((rows[1].word, rows[1].tone), ("was urgent", "idle"));
        assert_eq!(rows[1].lasted, "over after 2\u{a0}min");
        assert_eq!(rows[1].message, "3 °C above the limit.", "what it was, not that it is ordinary again");
    }

    #[test]
    fn what_comes_again_within_an_hour_is_one_row_with_how_often() {
        let again = |minute| [(minute, "a/b", 3, true), (minute + 1, "a/b", 0, false)];
        let records = page(&[again(0), again(90), again(100), again(110)].concat());
        let rows = rows(&records, true, &[], 120 * MINUTE_US, Locale::ENGLISH);
        let often: Vec<&str> = rows.iter().map(|row| row.often.as_str()).collect();
        assert_eq!(often, ["3 times since", ""]);
    }

    #[test]
    fn on_an_older_page_nothing_is_said_to_go_on() {
        let records = page(&[(0, "a/b", 3, true)]);
        assert_eq!(rows(&records, false, &[], 9 * MINUTE_US, Locale::ENGLISH)[0].tone, "idle");
    }
}
