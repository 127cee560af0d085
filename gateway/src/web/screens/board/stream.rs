//! `/board/logs/stream`: log lines as they are written, as server-sent events. A browser that comes back says which line it had
//! last, and is told how many it missed.

use super::logs::{Ask, Line};
use crate::logs::{Followed, LogFollower, LogLevel, LogQuery, LogRing, PAGE_LINES_MAX};
use crate::web::failure::Failure;
use crate::web::live::{Shared, Slot};
use crate::web::locale::Locale;
use crate::web::visit::Visit;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream, StreamExt as _};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

/// A line of silence this often tells a page that the gateway is there.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// `GET /board/logs/stream`: events `line` (a line as the page shows it) and `missed` (how many). The id of an event is the number
/// of its line.
pub(in crate::web) async fn follow(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    headers: HeaderMap,
    Query(ask): Query<Ask>,
) -> Result<Response, Failure> {
    let slot = shared.slot(&visit)?;
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let after = match last {
        Some(last) => Some(last),
        None => ask.after()?,
    };
    let events = lines(&shared.state.logs, ask.level()?, ask.text(), after, visit.l, slot);
    let events = events.take_until(shared.clone().over(visit));
    let calm = [(header::CACHE_CONTROL, "no-store")];
    Ok((calm, Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE))).into_response())
}

struct Follow {
    lines: LogFollower,
    caught_up: VecDeque<Event>,
    wants: LogQuery,
    l: Locale,
    _slot: Slot,
}

fn lines(
    logs: &LogRing,
    level_min: LogLevel,
    text: Option<String>,
    after: Option<u64>,
    l: Locale,
    slot: Slot,
) -> impl Stream<Item = Result<Event, Infallible>> + use<> {
    // First the ear, then the page: between the two nothing is lost, and what comes twice is known by its number.
    let follower = logs.subscribe();
    let mut wants = LogQuery { level_min, text, after, before: None, limit: PAGE_LINES_MAX };
    let mut caught_up = VecDeque::new();
    let page = logs.page(&wants);
    if let Some(after) = after {
        let oldest_shown = page.lines.last().map(|line| line.sequence).filter(|_| page.next.is_some());
        let first_known = oldest_shown.unwrap_or(page.oldest);
        let missed = first_known.saturating_sub(after.saturating_add(1));
        if missed > 0 {
            caught_up.push_back(told_missed(missed));
        }
        caught_up.extend(page.lines.iter().rev().map(|line| told(&Line::of(line, l), line.sequence)));
    }
    wants.after = page.end.checked_sub(1);
    let follow = Follow { lines: follower, caught_up, wants, l, _slot: slot };
    stream::unfold(follow, |mut follow| async move {
        if let Some(event) = follow.caught_up.pop_front() {
            return Some((Ok(event), follow));
        }
        loop {
            match follow.lines.next().await? {
                Followed::Missed(missed) => return Some((Ok(told_missed(missed)), follow)),
                Followed::Line(line) if follow.wants.wants(&line) => {
                    let event = told(&Line::of(&line, follow.l), line.sequence);
                    return Some((Ok(event), follow));
                }
                Followed::Line(_) => {}
            }
        }
    })
}

fn told(line: &Line, sequence: u64) -> Event {
    Event::default().event("line").id(sequence.to_string()).data(line.html())
}

fn told_missed(missed: u64) -> Event {
    Event::default().event("missed").data(missed.to_string())
}
