//! Telling: what went wrong, in words for the page, and how long to wait; the books for the metrics.

use super::{Delivery, Setback, run};
use crate::block::records::Severity;
use crate::buffer::BufferError;
use crate::status::{HasHealth, State, Trouble};
use std::time::Duration;

/// A sink may ask for a longer wait (`Retry-After`), up to this.
const RETRY_AFTER_MAX: Duration = Duration::from_hours(1);
/// A paused sink is tried again so often: the same bytes under the same key, so that it comes back by itself when somebody
/// has mended the other end.
const PAUSE_PROBE: Duration = Duration::from_mins(1);
/// After so many failures in a row somebody should know.
const TROUBLE_FAILURES: u32 = 3;
/// Wait before the ledger is tried again after an error of the disk.
pub(super) const LEDGER_RETRY: Duration = Duration::from_secs(1);

impl Delivery {
    pub(super) fn disk(&self, error: &BufferError) -> Setback {
        if let BufferError::Stale { .. } = error {
            return Setback::Reload;
        }
        tracing::error!(sink = self.options.name, %error, "the buffer failed a delivery; it is tried again");
        self.options.status.set_error(State::Down, &error.to_string(), self.options.clock.tick().wall_us);
        Setback::Wait(LEDGER_RETRY)
    }

    pub(super) fn retry(&mut self, after: Option<Duration>, reason: &str) -> Setback {
        self.options.status.retries.add(1);
        let wait = self.backoff.next_wait();
        let wait = after.map_or(wait, |after| after.min(RETRY_AFTER_MAX).max(wait));
        let now_us = self.options.clock.tick().wall_us;
        self.options.status.set_error(State::Down, reason, now_us);
        let failures = self.backoff.failures();
        tracing::debug!(sink = self.options.name, reason, failures, wait_ms = wait.as_millis(), "tried again later");
        if failures >= TROUBLE_FAILURES {
            self.trouble(
                &format!("Nothing arrives: {reason}"),
                "Readings wait on the board and are sent when it is back; check the network and the endpoint",
                Severity::Warning,
            );
        }
        Setback::Wait(wait)
    }

    pub(super) fn paused(&self, reason: &str) -> Setback {
        let now_us = self.options.clock.tick().wall_us;
        self.options.status.set_error(State::Paused, reason, now_us);
        tracing::error!(sink = self.options.name, reason, "delivery is paused");
        self.trouble(
            &format!("Paused: {reason}"),
            "Readings wait on the board; it is tried again once a minute",
            Severity::Error,
        );
        Setback::Wait(PAUSE_PROBE)
    }

    pub(super) fn trouble(&self, what: &str, advice: &str, severity: Severity) {
        let trouble = Trouble {
            subject: self.options.name.clone(),
            what: what.to_owned(),
            advice: advice.to_owned(),
            severity,
            since_us: self.options.clock.tick().wall_us,
        };
        self.options.gateway_status.raise(&self.trouble_key(), trouble);
    }

    pub(super) fn trouble_key(&self) -> String {
        format!("sink/{}", self.options.name)
    }

    /// Puts the books where the page and the metrics find them.
    pub(super) fn report(&self) {
        let ends = *self.options.buffer.ends().borrow();
        let status = &self.options.status;
        for work in &self.lanes {
            let stream = work.stream.index();
            let next = ends.get(stream).map_or(0, |ends| ends.next);
            let books = [
                (&status.delivered, work.lane.delivered),
                (&status.filtered, work.lane.filtered),
                (&status.refused, work.lane.refused),
                (&status.gaps, work.lane.gaps),
                (&status.backlog, run::backlog(&work.lane, next)),
            ];
            for (gauges, value) in books {
                if let Some(gauge) = gauges.get(stream) {
                    gauge.set(value);
                }
            }
        }
    }
}
