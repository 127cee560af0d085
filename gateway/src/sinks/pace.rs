//! Pace: in which order a backlog goes upstream, and what the link may carry.

use crate::units::ByteSize;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Least that a link may carry in a second: one record and what surrounds it.
const BYTES_PER_SECOND_MIN: u64 = 1024;

/// In which order a backlog goes upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PaceOptions {
    /// What goes first after an outage.
    #[serde(default)]
    pub order: Order,
    /// What the link may carry, with `order = "live_first"`.
    #[serde(default)]
    pub link: Option<LinkOptions>,
}

/// What goes first after an outage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// The oldest: each device's readings arrive in the order in which they were taken.
    #[default]
    InOrder,
    /// New readings; the backlog follows beside them with `"lane":"history"`, in order within itself. For consumers that do not
    /// drop what is late. So that they are new when they arrive, no reading waits for the disk longer than 250 ms then, whatever
    /// `buffer.commit_interval_max_ms` says. History that exists when this is taken back keeps its mark until it is drained.
    LiveFirst,
}

/// What a link may carry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LinkOptions {
    /// Bytes a second, averaged: history takes what the rest leaves of it. Alerts and new readings do not wait.
    #[serde(default)]
    pub bytes_per_second: Option<ByteSize>,
    /// Bytes a day (UTC): history stops where the rest of the day would need what is left. Alerts and new readings go on; if they
    /// alone need more, a trouble says so.
    #[serde(default)]
    pub bytes_per_day: Option<ByteSize>,
}

/// Longest wait of a reading for the disk where a sink wants live readings first. They are to be there within a second: this, a run of
/// history under way (250 ms) and the way itself leave room for a slow card.
const LIVE_COMMIT_INTERVAL_MAX: Duration = Duration::from_millis(250);

/// Longest wait of a reading for the disk, where so much is `configured` and the sinks are paced so.
pub fn commit_interval_max<'a>(configured: Duration, sinks: impl IntoIterator<Item = &'a PaceOptions>) -> Duration {
    let is_live_first = sinks.into_iter().any(|pace| pace.order == Order::LiveFirst);
    if is_live_first { configured.min(LIVE_COMMIT_INTERVAL_MAX) } else { configured }
}

impl PaceOptions {
    /// What cannot work, as the option's path below the sink and a sentence.
    pub(super) fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        let Some(link) = &self.link else { return problems };
        if self.order == Order::InOrder {
            let message = "a link's budget paces history, which there is only with order = \"live_first\"; add that";
            problems.push(("link", message.to_owned()));
        }
        if link.bytes_per_second.is_some_and(|rate| rate.0 < BYTES_PER_SECOND_MIN) {
            let message = format!("history would hardly move; use at least {}", ByteSize(BYTES_PER_SECOND_MIN));
            problems.push(("link.bytes_per_second", message));
        }
        if link.bytes_per_day.is_some_and(|day| day.0 == 0) {
            problems.push(("link.bytes_per_day", "nothing may be sent with 0 bytes a day; leave it out".to_owned()));
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sink_that_wants_live_readings_first_shortens_the_longest_wait_for_the_disk() {
        let ms = Duration::from_millis;
        let in_order = PaceOptions::default();
        let live_first = PaceOptions { order: Order::LiveFirst, ..in_order.clone() };
        assert_eq!(commit_interval_max(ms(2_000), []), ms(2_000));
        assert_eq!(commit_interval_max(ms(2_000), [&in_order]), ms(2_000));
        assert_eq!(commit_interval_max(ms(2_000), [&in_order, &live_first]), ms(250));
        assert_eq!(commit_interval_max(ms(100), [&live_first]), ms(100));
    }
}
