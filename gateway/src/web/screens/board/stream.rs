//! `/board/logs/stream`: log lines as they are written, as server-sent events. A browser that comes back says which line it had
//! last, and is told how many it missed.

use super::logs::{Ask, Line};
use crate::logs::{Followed, LogFollower, LogLine, LogQuery, LogRing, PAGE_LINES_MAX};
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
    let after = match last_seen(&headers) {
        Some(last) => Some(last),
        None => ask.after()?,
    };
    let wants = LogQuery { level_min: ask.level()?, text: ask.text(), after, before: None, limit: PAGE_LINES_MAX };
    followed(&shared, visit, wants, |line, l| Line::of(line, l).html())
}

/// The line that a reader that comes back had last.
pub(in crate::web) fn last_seen(headers: &HeaderMap) -> Option<u64> {
    headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok())
}

/// How a line is told.
type Tell = fn(&LogLine, Locale) -> String;

/// The lines as they come, each told in some way.
pub(in crate::web) fn followed(
    shared: &Arc<Shared>,
    visit: Visit,
    wants: LogQuery,
    tell: Tell,
) -> Result<Response, Failure> {
    let slot = shared.slot(&visit)?;
    let events = lines(&shared.state.logs, wants, visit.l, tell, slot);
    let events = events.take_until(shared.clone().over(visit));
    let calm = [(header::CACHE_CONTROL, "no-store")];
    Ok((calm, Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE))).into_response())
}

struct Follow {
    lines: LogFollower,
    caught_up: VecDeque<Event>,
    wants: LogQuery,
    l: Locale,
    tell: Tell,
    _slot: Slot,
}

fn lines(
    logs: &LogRing,
    mut wants: LogQuery,
    l: Locale,
    tell: Tell,
    slot: Slot,
) -> impl Stream<Item = Result<Event, Infallible>> + use<> {
    // First the ear, then the page: between the two nothing is lost, and what comes twice is known by its number.
    let follower = logs.subscribe();
    let mut caught_up = VecDeque::new();
    let page = logs.page(&wants);
    if let Some(after) = wants.after {
        let oldest_shown = page.lines.last().map(|line| line.sequence).filter(|_| page.next.is_some());
        let first_known = oldest_shown.unwrap_or(page.oldest);
        let missed = first_known.saturating_sub(after.saturating_add(1));
        if missed > 0 {
            caught_up.push_back(told_missed(missed));
        }
        caught_up.extend(page.lines.iter().rev().map(|line| told(line, tell(line, l))));
    }
    wants.after = page.end.checked_sub(1);
    let follow = Follow { lines: follower, caught_up, wants, l, tell, _slot: slot };
    stream::unfold(follow, |mut follow| async move {
        if let Some(event) = follow.caught_up.pop_front() {
            return Some((Ok(event), follow));
        }
        loop {
            match follow.lines.next().await? {
                Followed::Missed(missed) => return Some((Ok(told_missed(missed)), follow)),
                Followed::Line(line) if follow.wants.wants(&line) => {
                    let event = told(&line, (follow.tell)(&line, follow.l));
                    return Some((Ok(event), follow));
                }
                Followed::Line(_) => {}
            }
        }
    })
}

fn told(line: &LogLine, data: String) -> Event {
    Event::default().event("line").id(line.sequence.to_string()).data(data)
}

fn told_missed(missed: u64) -> Event {
    Event::default().event("missed").data(missed.to_string())
}
