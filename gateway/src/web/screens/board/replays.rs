//! Replays under way: how far they are, and calling one off.

use crate::access::{Action, Deed};
use crate::buffer::{Replay, ReplayState};
use crate::history::History;
use crate::reading::UnixMicros;
use crate::web::failure::Failure;
use crate::web::live::Shared;
use crate::web::locale::Locale;
use crate::web::screens::board_card::percent;
use crate::web::visit::Visit;
use crate::web::words::{Moment, sentence};
use askama::Template;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use std::sync::Arc;

/// Replays that have ended and are still shown.
const ENDED_SHOWN_MAX: usize = 3;

#[derive(Template)]
#[template(path = "see/replays.html")]
struct Replays {
    l: Locale,
    rows: Vec<Row>,
}

struct Row {
    id: u32,
    sink: String,
    stream: &'static str,
    from: Moment,
    to: Moment,
    tone: &'static str,
    state: &'static str,
    running: bool,
    percent: u64,
    counts: String,
    trouble: String,
    points: String,
    ask: String,
}

/// The card of the replays.
pub(super) fn card(history: &History, now_us: UnixMicros, l: Locale) -> askama::Result<String> {
    let all = history.replays();
    let (running, ended): (Vec<&Replay>, Vec<&Replay>) = all.iter().rev().partition(|replay| replay.is_running());
    let shown = running.into_iter().chain(ended.into_iter().take(ENDED_SHOWN_MAX));
    Replays { l, rows: shown.map(|replay| row(replay, now_us, l)).collect() }.render()
}

fn row(replay: &Replay, now_us: UnixMicros, l: Locale) -> Row {
    let (tone, state) = match &replay.state {
        ReplayState::Running if replay.trouble.is_some() => ("warn", "held up"),
        ReplayState::Running => ("good", "under way"),
        ReplayState::Done => ("idle", "done"),
        ReplayState::Cancelled => ("idle", "called off"),
        ReplayState::Failed(_) => ("bad", "failed"),
    };
    let trouble = match &replay.state {
        ReplayState::Failed(why) => Some(why),
        _ => replay.trouble.as_ref(),
    };
    let mut counts = l.f1("{} delivered", l.count(replay.delivered));
    for (count, words) in [(replay.refused, "{} refused"), (replay.lost, "{} not on disk any more")] {
        if count > 0 {
            counts.push_str(" · ");
            counts.push_str(&l.f1(words, l.count(count)));
        }
    }
    Row {
        id: replay.id,
        sink: replay.sink.clone(),
        stream: replay.stream.name(),
        from: Moment::new(replay.from_us, now_us, l),
        to: Moment::new(replay.to_us, now_us, l),
        tone,
        state,
        running: replay.is_running(),
        percent: progress(replay),
        counts,
        trouble: trouble.map_or_else(String::new, |trouble| sentence(&l.say(trouble))),
        points: replay.points.join(", "),
        ask: l.f1("Call off replay {}? What was sent stays sent.", replay.id),
    }
}

/// How much of its range is behind, in percent.
pub(in crate::web) fn progress(replay: &Replay) -> u64 {
    match replay.range {
        _ if replay.state == ReplayState::Done => 100,
        Some(range) => percent(replay.next.saturating_sub(range.first), range.count()),
        None => 0,
    }
}

/// `POST /board/replays/{id}/cancel`.
pub(super) async fn cancel(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Path(id): Path<u32>,
) -> Result<Response, Failure> {
    call_off(&shared, &visit, id).await?;
    Ok(Redirect::to("/board#replays").into_response())
}

/// Calls a replay off in the name of whoever asks.
pub(in crate::web) async fn call_off(shared: &Shared, visit: &Visit, id: u32) -> Result<Replay, Failure> {
    let none = || Failure::missing(format!("there is no replay {id}; GET /api/v1/replays lists those that are kept"));
    let now_us = shared.state.clock.tick().wall_us;
    if shared.state.history.replays().iter().any(|replay| replay.id == id && !replay.is_running()) {
        return Err(Failure::conflict(format!("replay {id} has ended already")));
    }
    let replay = shared.state.history.cancel_replay(id, now_us).await?.ok_or_else(none)?;
    note(shared, visit, &replay.sink, format!("called off replay {id}")).await;
    Ok(replay)
}

/// Writes what was done about replays into the audit log.
pub(in crate::web) async fn note(shared: &Shared, visit: &Visit, sink: &str, detail: String) {
    let Some(who) = visit.who.clone() else { return };
    let (from, subject) = (Some(visit.from), sink.to_owned());
    // Logged where it failed; what was done stands.
    shared.state.access.record(Deed { who, from, action: Action::Operated, subject, detail }).await.ok();
}
