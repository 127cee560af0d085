//! Telling: what went wrong, in words for the page, and how long to wait; the books for the metrics.

use super::run::{self, Part};
use super::{BREAKER_FAILURES, Delivery, Setback};
use crate::block::records::Severity;
use crate::buffer::BufferError;
use crate::reading::{Stream, UnixMicros};
use crate::sinks::Sink;
use crate::status::{HasHealth, LaneBooks, State, Trouble};
use std::time::Duration;
use tokio::time::Instant;

/// A sink may ask for a longer wait (`Retry-After`), up to this.
pub(super) const RETRY_AFTER_MAX: Duration = Duration::from_hours(1);
/// A paused sink is tried again so often: the same bytes under the same key, so that it comes back by itself when somebody
/// has mended the other end.
pub(super) const PAUSE_PROBE: Duration = Duration::from_mins(1);
/// After so many failures in a row somebody should know.
const TROUBLE_FAILURES: u32 = 3;
/// Nor is it worth a word before this: a blip of a second is no trouble.
const TROUBLE_AFTER: Duration = Duration::from_secs(3);
/// What becomes of what a sink does not take now.
const WAITING: &str = "is sent when the other end takes it again";
/// What becomes of what waits for a sink that stands still.
const PROBED: &str = "is tried again once a minute";
/// What to do about a budget that is too small.
const OVER_BUDGET: &str =
    "They go on, and history waits for tomorrow (UTC). Raise link.bytes_per_day, or route less to this sink";
/// Wait before the ledger is tried again after an error of the disk.
pub(super) const LEDGER_RETRY: Duration = Duration::from_secs(1);

impl<S: Sink> Delivery<S> {
    /// The buffer failed: it is tried again after a moment.
    pub(super) fn disk(&self, error: &BufferError) -> Setback {
        tracing::error!(sink = self.options.name, %error, "the buffer failed a delivery; it is tried again");
        self.options.status.set_error(State::Down, &error.to_string(), self.now_us());
        Setback::Sink(LEDGER_RETRY)
    }

    /// The sink as a whole cannot be reached.
    pub(super) fn sink_retries(&mut self, reason: &str) -> Setback {
        self.options.status.retries.add(1);
        let wait = self.backoff.next_wait();
        self.sink_trouble = Some(State::Down);
        self.tell_health(Some(reason));
        if self.backoff.failures() >= TROUBLE_FAILURES {
            let advice = self.waiting_advice(None, WAITING);
            self.raise(&self.sink_key(), &format!("Nothing arrives: {reason}"), &advice, Severity::Warning);
        }
        Setback::Sink(wait)
    }

    /// The sink as a whole takes nothing until someone changes something.
    pub(super) fn sink_pauses(&mut self, reason: &str) -> Setback {
        tracing::error!(sink = self.options.name, reason, "delivery is paused");
        self.sink_trouble = Some(State::Paused);
        self.tell_health(Some(reason));
        let advice = self.waiting_advice(None, PROBED);
        self.raise(&self.sink_key(), &format!("Paused: {reason}"), &advice, Severity::Error);
        Setback::Sink(PAUSE_PROBE)
    }

    /// The sink is held back on purpose: no trouble, but it must be seen.
    pub(super) fn hold_back(&mut self, why: &str) {
        self.sink_trouble = Some(State::Paused);
        self.tell_health(Some(why));
    }

    /// The sink as a whole is there again.
    pub(super) fn sink_recovered(&mut self) {
        self.backoff.succeed();
        if self.sink_trouble.take().is_some() {
            self.options.gateway_status.clear(&self.sink_key(), self.now_us());
            self.tell_health(None);
        }
    }

    /// The lane's run is offered again after a wait.
    pub(super) fn retry(&mut self, index: usize, after: Option<Duration>, reason: &str) -> Setback {
        self.options.status.retries.add(1);
        self.failures = self.failures.saturating_add(1);
        let now = Instant::now();
        if self.failures >= BREAKER_FAILURES {
            // Nothing goes, whatever the lane: from here on one attempt at a time asks whether the sink is back.
            self.probe_at = Some(now + self.backoff.next_wait());
        }
        let Some(work) = self.lanes.get_mut(index) else { return Setback::Lane };
        let wait = work.backoff.next_wait();
        let wait = after.map_or(wait, |after| after.min(RETRY_AFTER_MAX).max(wait));
        let failing = now.saturating_duration_since(*work.failing_since.get_or_insert(now));
        let failures = work.backoff.failures();
        work.trouble = Some(State::Down);
        work.was_told_to_wait = after.is_some();
        tracing::debug!(sink = self.options.name, reason, failures, wait_ms = wait.as_millis(), "tried again later");
        self.tell_health(Some(reason));
        if failures >= TROUBLE_FAILURES && failing >= TROUBLE_AFTER {
            let what = self.of_lane(index, "Nothing arrives", reason);
            let advice = self.waiting_advice(Some(index), WAITING);
            self.raise(&self.lane_key(index), &what, &advice, Severity::Warning);
        }
        self.lane_waits(index, wait)
    }

    /// The lane stands still until someone changes something; it is probed now and then.
    pub(super) fn paused(&mut self, index: usize, reason: &str) -> Setback {
        tracing::error!(sink = self.options.name, reason, "delivery is paused");
        if let Some(work) = self.lanes.get_mut(index) {
            work.trouble = Some(State::Paused);
        }
        self.tell_health(Some(reason));
        let what = self.of_lane(index, "Paused", reason);
        let advice = self.waiting_advice(Some(index), PROBED);
        self.raise(&self.lane_key(index), &what, &advice, Severity::Error);
        self.lane_waits(index, PAUSE_PROBE)
    }

    /// The lane is not looked at before a wait is over.
    pub(super) fn lane_waits(&mut self, index: usize, wait: Duration) -> Setback {
        if let Some(work) = self.lanes.get_mut(index) {
            work.not_before = Some(Instant::now() + wait);
        }
        Setback::Lane
    }

    /// The sink has taken records of the lane.
    pub(super) fn succeeded(&mut self, index: usize, delivered: u64, refused: u64) {
        let Some(work) = self.lanes.get_mut(index) else { return };
        work.count(delivered, refused);
        (work.proven, work.doubted) = (true, false);
        (work.not_before, work.failing_since) = (None, None);
        work.backoff.succeed();
        work.trouble = None;
        if std::mem::take(&mut self.failures) >= BREAKER_FAILURES {
            // The sink is back: the other lanes need not wait for their own turn to find out.
            self.probe_at = None;
            self.backoff.succeed();
            for work in self.lanes.iter_mut().filter(|work| work.trouble == Some(State::Down) && !work.was_told_to_wait)
            {
                work.not_before = None;
            }
        }
        self.options.gateway_status.clear(&self.lane_key(index), self.now_us());
        if self.lanes.iter().all(|work| work.trouble != Some(State::Down)) {
            self.options.gateway_status.clear(&self.sink_key(), self.now_us());
        }
        self.tell_health(None);
    }

    /// What the whole of it comes to: readings are what a sink is for, so that another stream's trouble is a part only.
    fn tell_health(&self, error: Option<&str>) {
        let mut state = State::Live;
        for work in &self.lanes {
            match work.trouble {
                Some(trouble) if work.stream == Stream::Readings => state = trouble,
                Some(_) if state == State::Live => state = State::Degraded,
                _ => {}
            }
        }
        let state = self.sink_trouble.unwrap_or(state);
        match error {
            Some(error) => self.options.status.set_error(state, error, self.now_us()),
            None => self.options.status.set_state(state, self.now_us()),
        }
    }

    /// A sentence about one lane: readings are meant where nothing else is said.
    fn of_lane(&self, index: usize, what: &str, reason: &str) -> String {
        match self.lanes.get(index).map(|work| work.stream) {
            None | Some(Stream::Readings) => format!("{what}: {reason}"),
            Some(stream) => format!("{what} of the {stream}: {reason}"),
        }
    }

    pub(super) fn raise(&self, key: &str, what: &str, advice: &str, severity: Severity) {
        let trouble = Trouble {
            subject: self.options.name.clone(),
            what: what.to_owned(),
            advice: advice.to_owned(),
            severity,
            since_us: self.now_us(),
        };
        self.options.gateway_status.raise(key, trouble);
    }

    pub(super) fn sink_key(&self) -> String {
        format!("sink/{}", self.options.name)
    }

    fn lane_key(&self, index: usize) -> String {
        let stream = self.lanes.get(index).map_or("", |work| work.stream.name());
        format!("sink/{}/{stream}", self.options.name)
    }

    pub(super) fn now_us(&self) -> UnixMicros {
        self.options.clock.tick().wall_us
    }

    /// Says so if alerts and live readings alone have used up the day's budget of the link.
    pub(super) fn tell_budget(&self) {
        let key = format!("{}/link", self.sink_key());
        if self.link.is_short(self.sent_today()) {
            self.raise(
                &key,
                "Today's budget of the link is used up by alerts and new readings alone",
                OVER_BUDGET,
                Severity::Warning,
            );
        } else {
            self.options.gateway_status.clear(&key, self.now_us());
        }
    }

    /// Puts the books where the page and the metrics find them.
    pub(super) fn report(&self) {
        let status = &self.options.status;
        for work in &self.lanes {
            let next = self.next(work.stream);
            let books = LaneBooks {
                accepted: next.saturating_sub(work.lane.since),
                delivered: work.lane.delivered,
                filtered: work.lane.filtered,
                refused: work.lane.refused,
                gaps: work.lane.gaps,
                undelivered: work.lane.undelivered(next),
                history: if self.is_live_first(work.stream, &work.lane) {
                    run::undelivered_in(&work.lane.cursor, Part::History, next)
                } else {
                    0
                },
                oldest_us: work.oldest_us.filter(|_| work.lane.undelivered(next) > 0),
            };
            status.set_lane(work.stream, books);
            if !books.closes() {
                let what = format!(
                    "The books of the {} do not close: of {} accepted, {} delivered, {} filtered, {} refused, {} lost, {} waiting; \
                     this is a defect, please report it",
                    work.stream,
                    books.accepted,
                    books.delivered,
                    books.filtered,
                    books.refused,
                    books.gaps,
                    books.undelivered
                );
                let key = format!("books/{}/{}", self.options.name, work.stream);
                self.raise(&key, &what, "Send the log and the output of `forebay buffer stats`", Severity::Error);
            }
        }
        status.budget_left_bytes.set(self.link.left(self.sent_today()).unwrap_or(u64::MAX));
    }
}
