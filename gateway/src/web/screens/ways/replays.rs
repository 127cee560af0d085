//! Replays of a way upstream: what was sent once more, and the form that asks for it.

use crate::buffer::{Replay, ReplayRequest, ReplayState};
use crate::reading::Stream;
use crate::web::failure::Failure;
use crate::web::live::Shared;
use crate::web::locale::Locale;
use crate::web::screens::board::{note, progress};
use crate::web::visit::Visit;
use crate::web::words::Moment;
use askama::Template;

/// Replays that a screen shows: those under way and the last few.
const SHOWN_MAX: usize = 8;

/// The spans that a form offers, in hours.
const HOURS: [(i64, &str); 5] = [
    (1, "the last hour"),
    (6, "the last 6 hours"),
    (24, "the last day"),
    (72, "the last 3 days"),
    (168, "the last 7 days"),
];

#[derive(Template)]
#[template(path = "ways/replays.html")]
struct Part {
    l: Locale,
    lines: Vec<Line>,
}

struct Line {
    id: u32,
    sink: String,
    what: String,
    from: Moment,
    to: Moment,
    word: String,
    tone: &'static str,
    sent: String,
    trouble: String,
    runs: bool,
}

/// The replays of a sink.
pub(in crate::web) fn part(shared: &Shared, sink: &str, l: Locale) -> askama::Result<String> {
    let now_us = shared.state.clock.tick().wall_us;
    let mut replays: Vec<Replay> = all(shared).into_iter().filter(|replay| replay.sink == sink).collect();
    replays.reverse();
    let line = |replay: &Replay| {
        let (word, tone) = match &replay.state {
            ReplayState::Running => (format!("{} %", progress(replay)), "idle"),
            ReplayState::Done => (l.t("done").to_owned(), "good"),
            ReplayState::Cancelled => (l.t("called off").to_owned(), "idle"),
            ReplayState::Failed(_) => (l.t("ended early").to_owned(), "bad"),
        };
        let trouble = match &replay.state {
            ReplayState::Failed(reason) => l.say(reason).into_owned(),
            ReplayState::Running => replay.trouble.as_deref().map(|t| l.say(t).into_owned()).unwrap_or_default(),
            _ => String::new(),
        };
        let stream = match replay.stream {
            Stream::Readings => l.t("Readings"),
            Stream::Alerts => l.t("Alerts"),
            other => other.name(),
        };
        let points = if replay.points.is_empty() { String::new() } else { format!(" ({})", replay.points.join(", ")) };
        Line {
            id: replay.id,
            sink: replay.sink.clone(),
            what: format!("{stream}{points}"),
            from: Moment::new(replay.from_us, now_us, l),
            to: Moment::new(replay.to_us, now_us, l),
            word,
            tone,
            sent: l.f1("{} sent", l.count(replay.delivered)),
            trouble,
            runs: replay.is_running(),
        }
    };
    Part { l, lines: replays.iter().take(SHOWN_MAX).map(line).collect() }.render()
}

/// Every replay that is kept.
pub(in crate::web) fn all(shared: &Shared) -> Vec<Replay> {
    shared.state.history.replays()
}

/// The spans that the form offers, in this language.
pub(in crate::web) fn spans(l: Locale) -> Vec<(i64, &'static str)> {
    HOURS.iter().map(|(hours, text)| (*hours, l.t(text))).collect()
}

/// Asks for a replay of the last hours, as the form says.
pub(in crate::web) async fn ask(
    shared: &Shared,
    visit: &Visit,
    sink: &str,
    hours: &str,
    points: &str,
) -> Result<Replay, Failure> {
    let hours = hours.trim().parse::<i64>().ok().filter(|hours| (1..=24 * 366).contains(hours));
    let hours = hours.ok_or_else(|| Failure::unfit("choose how far back, 1 to 8784 hours", Vec::new()))?;
    let now_us = shared.state.clock.tick().wall_us;
    let points = points.split([',', '\n']).map(str::trim).filter(|point| !point.is_empty()).map(str::to_owned);
    let request = ReplayRequest {
        sink: sink.to_owned(),
        stream: Stream::Readings,
        from_us: now_us.saturating_sub(hours * 3_600_000_000),
        to_us: now_us,
        points: points.collect(),
    };
    begin(shared, visit, request).await
}

/// Begins a replay.
pub(in crate::web) async fn begin(shared: &Shared, visit: &Visit, request: ReplayRequest) -> Result<Replay, Failure> {
    let Some(buffer) = &shared.state.buffer else { return Err(no_buffer()) };
    let sinks = shared.state.status.sinks();
    let sinks: Vec<&str> = sinks.iter().map(|sink| sink.name.as_str()).collect();
    let now_us = shared.state.clock.tick().wall_us;
    let begun = request.begin(buffer, &sinks, now_us).await.map_err(|what| Failure::unfit(what, Vec::new()))?;
    note(shared, visit, &begun.sink, format!("began replay {}", begun.id)).await;
    Ok(begun)
}

fn no_buffer() -> Failure {
    Failure::unavailable("there is no buffer to send from")
}
