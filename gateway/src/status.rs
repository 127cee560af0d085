//! What the gateway says about itself: counters, health and the last value of each point. Written by those who work, read
//! by the page, the metrics and the watchdog. Nothing here decides anything.

use crate::block::records::Severity;
use crate::reading::{AnomalyScore, Flags, Outcome, PointId, Quality, Stream, UnixMicros};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// Most troubles held at once; further ones are counted in the oldest's place, so that a bad plant cannot fill the memory.
pub const TROUBLES_MAX: usize = 256;

/// Most health events that wait to become alerts; older ones give way.
pub const EVENTS_MAX: usize = 256;

/// How many values of each point the page can draw without asking the buffer.
pub const SPARKLINE_VALUES: usize = 60;

/// A point is silent after so many times what is usual for it: one reading that is late or lost is not silence.
const SILENT_TIMES: i64 = 3;

/// Nothing is silent sooner: commits, a slow bus and a reconnect take some seconds.
const SILENT_LEAST_US: i64 = 10 * 1_000_000;

/// A point that spoke once is silent after this long: longer than any usual poll.
const SILENT_UNKNOWN_US: i64 = 5 * 60 * 1_000_000;

/// What is usual falls by this part of the difference at each reading that comes sooner.
const USUAL_FALLS_BY: i64 = 16;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to it.
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// Its value.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Sets it.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Its value.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How a source or sink is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Not yet tried.
    #[default]
    Starting,
    /// All well.
    Live,
    /// Works, but something is wrong with a part of it, or it is behind.
    Degraded,
    /// Does not work now; it is tried again by itself.
    Down,
    /// Stands still until someone changes something.
    Paused,
}

impl State {
    /// The name used in JSON and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Live => "live",
            Self::Degraded => "degraded",
            Self::Down => "down",
            Self::Paused => "paused",
        }
    }
}

/// State, since when, and the last error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// The state.
    pub state: State,
    /// Since when.
    pub since_us: UnixMicros,
    /// The last error, kept after it is over.
    pub last_error: Option<String>,
    /// When the last error was.
    pub last_error_us: UnixMicros,
}

/// The books of a source: what it brought since the data directory began, and what became of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceBooks {
    /// Samples and rejects received: the sum of the next three.
    pub received: u64,
    /// Samples accepted into the buffer.
    pub accepted: u64,
    /// Samples and rejects recognised as taken in before.
    pub duplicate: u64,
    /// Messages, frames, registers or samples that became dead letters instead of readings.
    pub rejected: u64,
    /// Polls, frames or bytes that never came in; received counts none of them.
    pub missed: u64,
}

impl SourceBooks {
    /// Whether everything received is accounted for.
    #[must_use]
    pub fn closes(&self) -> bool {
        self.received == self.accepted + self.duplicate + self.rejected
    }
}

/// The books of a sink in one stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneBooks {
    /// Records accepted since the sink began: the sum of the other five.
    pub accepted: u64,
    /// Records delivered.
    pub delivered: u64,
    /// Records that the sink was not to have.
    pub filtered: u64,
    /// Records that the sink refused.
    pub refused: u64,
    /// Records lost before delivery.
    pub gaps: u64,
    /// Records undelivered.
    pub undelivered: u64,
    /// Those of them that follow live readings as history.
    pub history: u64,
    /// When the oldest undelivered record was taken, as far as it was read; none if nothing waits.
    pub oldest_us: Option<UnixMicros>,
}

impl LaneBooks {
    /// Whether everything accepted is accounted for.
    #[must_use]
    pub fn closes(&self) -> bool {
        self.accepted == self.delivered + self.filtered + self.refused + self.gaps + self.undelivered
    }
}

/// A source's counters and health.
#[derive(Debug, Default)]
pub struct SourceStatus {
    /// Its name.
    pub name: String,
    /// `mqtt`, `modbus`, `serial`.
    pub kind: &'static str,
    /// Where it reads from, without secrets.
    pub address: String,
    /// Polls, frames or bytes that never came in.
    pub missed: Counter,
    /// Transport errors.
    pub errors: Counter,
    /// Connections made after the first.
    pub reconnects: Counter,
    /// The books as of the last commit: read and written as one, so that whoever looks finds them closed.
    books: Mutex<SourceBooks>,
    /// State and last error.
    health: Mutex<Health>,
}

/// A sink's counters and health.
#[derive(Debug, Default)]
pub struct SinkStatus {
    /// Its name.
    pub name: String,
    /// `kafka`, `http`.
    pub kind: &'static str,
    /// Where it delivers to, without secrets.
    pub address: String,
    /// Attempts made.
    pub attempts: Counter,
    /// Attempts that must be made again.
    pub retries: Counter,
    /// Duration of the last attempt, in microseconds.
    pub last_attempt_us: Gauge,
    /// Bytes sent since the start, as far as the sink knows it.
    pub sent_bytes: Counter,
    /// Bytes left of the day's budget of the link; as large as can be without one.
    pub budget_left_bytes: Gauge,
    /// The books by stream, each read and written as one.
    lanes: Mutex<[LaneBooks; 6]>,
    /// State and last error.
    health: Mutex<Health>,
}

impl SourceStatus {
    /// A source that was not tried yet; `address` is shown and must hold no secret.
    #[must_use]
    pub fn new(name: &str, kind: &'static str, address: &str) -> Self {
        Self { name: name.to_owned(), kind, address: address.to_owned(), ..Self::default() }
    }

    /// The books as of the last commit; what never came in is counted at once.
    #[must_use]
    pub fn books(&self) -> SourceBooks {
        SourceBooks { missed: self.missed.get(), ..*lock(&self.books) }
    }

    /// Puts the books of a commit in place; what never came in is counted by the source itself.
    pub fn set_books(&self, books: SourceBooks) {
        *lock(&self.books) = books;
    }
}

impl SinkStatus {
    /// A sink that was not tried yet; `address` is shown and must hold no secret.
    #[must_use]
    pub fn new(name: &str, kind: &'static str, address: &str) -> Self {
        let status = Self { name: name.to_owned(), kind, address: address.to_owned(), ..Self::default() };
        status.budget_left_bytes.set(u64::MAX);
        status
    }

    /// The books of a stream.
    #[must_use]
    pub fn lane(&self, stream: Stream) -> LaneBooks {
        lock(&self.lanes).get(stream.index()).copied().unwrap_or_default()
    }

    /// Puts the books of a stream in place.
    pub fn set_lane(&self, stream: Stream, books: LaneBooks) {
        if let Some(lane) = lock(&self.lanes).get_mut(stream.index()) {
            *lane = books;
        }
    }
}

/// Health that a source and a sink have alike.
pub trait HasHealth {
    /// The health.
    fn health_cell(&self) -> &Mutex<Health>;

    /// A copy of the health.
    fn health(&self) -> Health {
        lock(self.health_cell()).clone()
    }

    /// All well, or starting: the last error is kept for the page.
    fn set_state(&self, state: State, now_us: UnixMicros) {
        let mut health = lock(self.health_cell());
        if health.state != state {
            health.state = state;
            health.since_us = now_us;
        }
    }

    /// Something is wrong.
    fn set_error(&self, state: State, error: &str, now_us: UnixMicros) {
        self.set_state(state, now_us);
        let mut health = lock(self.health_cell());
        health.last_error = Some(error.chars().take(500).collect());
        health.last_error_us = now_us;
    }
}

impl HasHealth for SourceStatus {
    fn health_cell(&self) -> &Mutex<Health> {
        &self.health
    }
}

impl HasHealth for SinkStatus {
    fn health_cell(&self) -> &Mutex<Health> {
        &self.health
    }
}

/// What needs a person, in their words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Whose trouble: a source's or sink's name, `buffer`, `clock`.
    pub subject: String,
    /// What is wrong: "Unit 4 does not answer".
    pub what: String,
    /// What to do: "Check its wiring and unit id".
    pub advice: String,
    /// How much it matters.
    pub severity: Severity,
    /// Since when.
    pub since_us: UnixMicros,
}

/// A trouble that began or ended, on its way to the stream of alerts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthEvent {
    /// The trouble.
    pub trouble: Trouble,
    /// Whether it began.
    pub raised: bool,
    /// When it began or ended.
    pub at_us: UnixMicros,
}

/// The last of a point.
#[derive(Clone, Debug, PartialEq)]
pub struct PointLive {
    /// The value, or why there is none.
    pub outcome: Outcome,
    /// When the gateway received it.
    pub received_at_us: UnixMicros,
    /// What lies between two readings of it, about; 0 until there were two.
    pub usual_us: i64,
    /// Its quality.
    pub quality: Quality,
    /// Which checks spoke.
    pub flags: Flags,
    /// How unusual it is.
    pub score: AnomalyScore,
    /// The words of the last check or detector that spoke, empty if none did.
    pub note: String,
    /// The last numbers, oldest first, at most [`SPARKLINE_VALUES`], at most one a second.
    pub sparkline: VecDeque<f32>,
}

impl PointLive {
    /// Notes when the newest reading came. What is usual rises to the double at most, so that an outage does not teach that
    /// silence is ordinary, and falls slowly, so that a point that speaks in bursts is not called silent between them.
    pub fn heard(&mut self, at_us: UnixMicros) {
        if self.received_at_us != 0 {
            let spacing_us = at_us.saturating_sub(self.received_at_us).max(0);
            self.usual_us = match self.usual_us {
                0 => spacing_us,
                usual_us if spacing_us > usual_us => spacing_us.min(usual_us.saturating_mul(2)),
                usual_us => usual_us - (usual_us - spacing_us) / USUAL_FALLS_BY,
            };
        }
        self.received_at_us = at_us;
    }

    /// Whether it is silent for longer than is usual for it.
    #[must_use]
    pub fn is_silent(&self, now_us: UnixMicros) -> bool {
        let most_us = match self.usual_us {
            0 => SILENT_UNKNOWN_US,
            usual_us => usual_us.saturating_mul(SILENT_TIMES).max(SILENT_LEAST_US),
        };
        now_us.saturating_sub(self.received_at_us) >= most_us
    }
}

/// Everything the gateway says about itself.
#[derive(Debug, Default)]
pub struct Status {
    /// The gateway's id.
    pub gateway: String,
    /// When it started.
    pub started_us: UnixMicros,
    /// Turns of the ingest loop: the watchdog's proof of life.
    pub ingest_turns: Counter,
    /// Commits made.
    pub commits: Counter,
    /// Duration of the last commit, in microseconds.
    pub last_commit_us: Gauge,
    /// Readings that a check flagged.
    pub flagged: Counter,
    /// How many things in the books of ingest do not add up; 0 is what it must be.
    pub ingest_books_open: Gauge,
    /// Whether the buffer is open and the sources are started.
    ready: std::sync::atomic::AtomicBool,
    sources: RwLock<Arc<[Arc<SourceStatus>]>>,
    sinks: RwLock<Arc<[Arc<SinkStatus>]>>,
    /// Records found durable at a start though no commit of theirs had finished, by stream.
    recovered: Mutex<[u64; 6]>,
    points: RwLock<Vec<Option<PointLive>>>,
    troubles: Mutex<BTreeMap<String, Trouble>>,
    events: Mutex<VecDeque<HealthEvent>>,
}

impl Status {
    /// The status of a gateway that is starting.
    #[must_use]
    pub fn new(
        gateway: &str,
        started_us: UnixMicros,
        sources: Vec<Arc<SourceStatus>>,
        sinks: Vec<Arc<SinkStatus>>,
    ) -> Self {
        let (sources, sinks) = (RwLock::new(sources.into()), RwLock::new(sinks.into()));
        Self { gateway: gateway.to_owned(), started_us, sources, sinks, ..Self::default() }
    }

    /// The sources, in the order of the configuration.
    #[must_use]
    pub fn sources(&self) -> Arc<[Arc<SourceStatus>]> {
        self.sources.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The sinks, in the order of the configuration.
    #[must_use]
    pub fn sinks(&self) -> Arc<[Arc<SinkStatus>]> {
        self.sinks.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts the sources of another configuration in place.
    pub fn set_sources(&self, sources: Vec<Arc<SourceStatus>>) {
        *self.sources.write().unwrap_or_else(PoisonError::into_inner) = sources.into();
    }

    /// Puts the sinks of another configuration in place.
    pub fn set_sinks(&self, sinks: Vec<Arc<SinkStatus>>) {
        *self.sinks.write().unwrap_or_else(PoisonError::into_inner) = sinks.into();
    }

    /// Records of a stream found durable at a start though no commit of theirs had finished, since the epoch began.
    #[must_use]
    pub fn recovered(&self, stream: Stream) -> u64 {
        lock(&self.recovered).get(stream.index()).copied().unwrap_or_default()
    }

    /// Says what was recovered, by stream.
    pub fn set_recovered(&self, recovered: [u64; 6]) {
        *lock(&self.recovered) = recovered;
    }

    /// Says that the buffer is open and the sources are started.
    pub fn set_ready(&self) {
        self.ready.store(true, Ordering::Release);
    }

    /// Whether the buffer is open and the sources are started.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// Raises a trouble under a key that names it for ever (`source/boiler-bus/unit-4`); raising it again changes its words only.
    pub fn raise(&self, key: &str, trouble: Trouble) {
        let mut troubles = lock(&self.troubles);
        if let Some(known) = troubles.get_mut(key) {
            *known = Trouble { since_us: known.since_us, ..trouble };
            return;
        }
        if troubles.len() >= TROUBLES_MAX {
            return;
        }
        troubles.insert(key.to_owned(), trouble.clone());
        drop(troubles);
        let Trouble { subject, what, advice, .. } = &trouble;
        match trouble.severity {
            Severity::Error => tracing::error!(%subject, %advice, "{what}"),
            Severity::Warning => tracing::warn!(%subject, %advice, "{what}"),
            Severity::Info => tracing::info!(%subject, %advice, "{what}"),
        }
        self.push_event(HealthEvent { at_us: trouble.since_us, trouble, raised: true });
    }

    /// Ends a trouble, if it was raised.
    pub fn clear(&self, key: &str, now_us: UnixMicros) {
        let ended = lock(&self.troubles).remove(key);
        if let Some(trouble) = ended {
            tracing::info!(subject = %trouble.subject, "over: {}", trouble.what);
            self.push_event(HealthEvent { trouble, raised: false, at_us: now_us });
        }
    }

    /// Ends all troubles whose keys begin so.
    pub fn clear_all(&self, prefix: &str, now_us: UnixMicros) {
        let keys: Vec<String> = lock(&self.troubles).keys().filter(|key| key.starts_with(prefix)).cloned().collect();
        for key in keys {
            self.clear(&key, now_us);
        }
    }

    /// Whether a trouble is raised whose key begins so.
    #[must_use]
    pub fn is_troubled(&self, prefix: &str) -> bool {
        lock(&self.troubles).keys().any(|key| key.starts_with(prefix))
    }

    /// The troubles, the gravest first.
    #[must_use]
    pub fn troubles(&self) -> Vec<Trouble> {
        let mut troubles: Vec<_> = lock(&self.troubles).values().cloned().collect();
        troubles.sort_by(|a, b| b.severity.cmp(&a.severity).then(a.since_us.cmp(&b.since_us)));
        troubles
    }

    /// Takes the events that wait to become alerts.
    #[must_use]
    pub fn take_events(&self) -> Vec<HealthEvent> {
        lock(&self.events).drain(..).collect()
    }

    fn push_event(&self, event: HealthEvent) {
        let mut events = lock(&self.events);
        if events.len() >= EVENTS_MAX {
            events.pop_front();
        }
        events.push_back(event);
    }

    /// Updates the last values: one lock for a whole commit.
    pub fn update_points(&self, update: impl FnOnce(&mut Vec<Option<PointLive>>)) {
        update(&mut self.points.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// The last value of a point.
    #[must_use]
    pub fn point(&self, id: PointId) -> Option<PointLive> {
        self.points.read().unwrap_or_else(PoisonError::into_inner).get(id.0 as usize).cloned().flatten()
    }

    /// Reads all last values under one lock, by point id.
    pub fn read_points<T>(&self, read: impl FnOnce(&[Option<PointLive>]) -> T) -> T {
        read(&self.points.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Undelivered records of the sink that is furthest behind, in one stream.
    #[must_use]
    pub fn backlog(&self, stream: Stream) -> u64 {
        self.sinks().iter().map(|sink| sink.lane(stream).undelivered).max().unwrap_or(0)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1_000_000;

    fn point() -> PointLive {
        PointLive {
            outcome: Ok(crate::reading::Value::Number(1.0)),
            received_at_us: 0,
            usual_us: 0,
            quality: Quality::Good,
            flags: Flags::default(),
            score: AnomalyScore::default(),
            note: String::new(),
            sparkline: VecDeque::new(),
        }
    }

    #[test]
    fn a_point_is_silent_when_it_is_so_for_longer_than_is_usual_for_it() {
        let mut often = point();
        let mut seldom = point();
        (1..100).for_each(|second| often.heard(second * S));
        (1..100).for_each(|minute| seldom.heard(minute * 60 * S));
        assert!(!often.is_silent(105 * S));
        assert!(often.is_silent(110 * S));
        assert!(!seldom.is_silent((99 * 60 + 170) * S));
        assert!(seldom.is_silent((99 * 60 + 180) * S));
    }

    #[test]
    fn an_outage_does_not_teach_that_silence_is_ordinary() {
        let mut point = point();
        (1..100).for_each(|second| point.heard(second * S));
        point.heard(7_200 * S);
        assert!(point.is_silent(7_212 * S));
    }

    #[test]
    fn a_point_that_spoke_once_is_not_called_silent_at_once() {
        let mut point = point();
        point.heard(S);
        assert!(!point.is_silent(60 * S));
        assert!(point.is_silent(302 * S));
    }
}
