//! The link's budget: when history may go, so that alerts and live readings always can. Pure; time comes from outside.

use crate::buffer::SentToday;
use crate::clock::EARLIEST_PLAUSIBLE_US;
use crate::reading::UnixMicros;
use crate::sinks::pace::LinkOptions;
use std::time::Duration;
use tokio::time::Instant;

/// Seconds of a day.
const DAY_S: u64 = 86_400;
/// A rate is not believed before so much time: a start sends more than what is usual.
const RATE_AFTER: Duration = Duration::from_secs(60);
/// History is behind by so many seconds of the link at most, however much the rest has sent at once.
const DEBT_S: f64 = 10.0;

/// What the link may carry, and what it has carried.
#[derive(Debug)]
pub(super) struct Link {
    bytes_per_second: Option<f64>,
    bytes_per_day: Option<u64>,
    /// Bytes that may go at once; below zero what must be waited for.
    tokens: f64,
    filled: Instant,
    /// What live readings and alerts have taken since the start, for the rest of the day's sake.
    live_bytes: u64,
    since: Instant,
    /// Bytes sent for a byte of JSON: less than one where the sink compresses.
    ratio: f64,
}

/// When history may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leave {
    /// Now.
    Now,
    /// Not before.
    At(Instant),
    /// What is left of the day's budget is for alerts and live readings.
    NotToday,
}

impl Link {
    pub(super) fn new(options: Option<&LinkOptions>, now: Instant) -> Self {
        let rate = options.and_then(|link| link.bytes_per_second).map(|rate| rate.0 as f64);
        Self {
            bytes_per_second: rate,
            bytes_per_day: options.and_then(|link| link.bytes_per_day).map(|day| day.0),
            tokens: rate.unwrap_or(0.0),
            filled: now,
            live_bytes: 0,
            since: now,
            ratio: 1.0,
        }
    }

    /// Counts what an offer has sent: `json_bytes` as rendered, `bytes` on the link.
    pub(super) fn sent(&mut self, now: Instant, bytes: u64, json_bytes: u64, history: bool) {
        self.fill(now);
        if bytes > 0 && json_bytes > 0 {
            self.ratio = 0.8 * self.ratio + 0.2 * (bytes as f64 / json_bytes as f64).clamp(0.01, 2.0);
        }
        let Some(rate) = self.bytes_per_second else {
            self.live_bytes += if history { 0 } else { bytes };
            return;
        };
        self.tokens -= bytes as f64;
        if !history {
            self.live_bytes += bytes;
            self.tokens = self.tokens.max(-DEBT_S * rate);
        }
    }

    /// When history may go, with `today` sent by all lanes of the sink.
    pub(super) fn leave(&mut self, now: Instant, wall_us: UnixMicros, today: SentToday) -> Leave {
        if let Some(budget) = self.bytes_per_day
            && today.live_bytes + today.history_bytes + self.reserve(now, wall_us) >= budget
        {
            return Leave::NotToday;
        }
        self.fill(now);
        match self.bytes_per_second {
            Some(rate) if self.tokens < 0.0 => Leave::At(now + Duration::from_secs_f64(-self.tokens / rate)),
            _ => Leave::Now,
        }
    }

    /// Most bytes of JSON that one run of history may have, so that it is through in a second.
    pub(super) fn run_bytes_max(&self) -> f64 {
        self.bytes_per_second.map_or(f64::INFINITY, |rate| rate / self.ratio)
    }

    /// What is left of the day's budget; none without one.
    pub(super) fn left(&self, today: SentToday) -> Option<u64> {
        self.bytes_per_day.map(|budget| budget.saturating_sub(today.live_bytes + today.history_bytes))
    }

    /// Whether alerts and live readings alone have used up the day's budget.
    pub(super) fn is_short(&self, today: SentToday) -> bool {
        self.bytes_per_day.is_some_and(|budget| today.live_bytes >= budget)
    }

    /// What alerts and live readings will need for the rest of the day if they go on as since the start.
    fn reserve(&self, now: Instant, wall_us: UnixMicros) -> u64 {
        let seconds = now.saturating_duration_since(self.since).max(RATE_AFTER).as_secs().max(1);
        let of_day = u64::try_from(wall_us.div_euclid(1_000_000)).unwrap_or(0) % DAY_S;
        (u128::from(self.live_bytes) * u128::from(DAY_S - of_day) / u128::from(seconds)).try_into().unwrap_or(u64::MAX)
    }

    fn fill(&mut self, now: Instant) {
        let Some(rate) = self.bytes_per_second else { return };
        let seconds = now.saturating_duration_since(self.filled).as_secs_f64();
        self.tokens = rate.min(self.tokens + rate * seconds);
        self.filled = now;
    }
}

/// The day of a moment, counted from 1970-01-01 in UTC.
fn day_of(wall_us: UnixMicros) -> u32 {
    u32::try_from(wall_us.div_euclid(1_000_000) / DAY_S.cast_signed()).unwrap_or(0)
}

/// Whether a day's count goes on. A clock that was set back goes on with the later day, unless that is so far off that the clock
/// was wrong then: such a count would never end.
fn is_today(sent: SentToday, wall_us: UnixMicros) -> bool {
    let day = day_of(wall_us);
    let was_wrong = wall_us >= EARLIEST_PLAUSIBLE_US && sent.day > day.saturating_add(1);
    sent.day >= day && !was_wrong
}

/// Adds what was sent to a day's count; a new day begins anew.
pub(super) fn count(sent: &mut SentToday, wall_us: UnixMicros, bytes: u64, history: bool) {
    if !is_today(*sent, wall_us) {
        *sent = SentToday { day: day_of(wall_us), ..SentToday::default() };
    }
    let count = if history { &mut sent.history_bytes } else { &mut sent.live_bytes };
    *count = count.saturating_add(bytes);
}

/// What all lanes have sent today.
pub(super) fn total(lanes: impl Iterator<Item = SentToday>, wall_us: UnixMicros) -> SentToday {
    let day = day_of(wall_us);
    let today = lanes.filter(|sent| is_today(*sent, wall_us));
    today.fold(SentToday { day, ..SentToday::default() }, |sum, sent| SentToday {
        day,
        live_bytes: sum.live_bytes.saturating_add(sent.live_bytes),
        history_bytes: sum.history_bytes.saturating_add(sent.history_bytes),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::ByteSize;
    use proptest::prelude::*;

    const NOON_US: UnixMicros = (20_000 * 86_400 + 43_200) * 1_000_000;

    fn link(per_second: Option<u64>, per_day: Option<u64>, now: Instant) -> Link {
        let options = LinkOptions { bytes_per_second: per_second.map(ByteSize), bytes_per_day: per_day.map(ByteSize) };
        Link::new(Some(&options), now)
    }

    proptest! {
        #[test]
        fn history_takes_no_more_than_the_rate_and_one_run(
            rate in 1_000_u64..100_000, run in 100_u64..50_000, seconds in 5_u64..60,
        ) {
            let start = Instant::now();
            let mut link = link(Some(rate), None, start);
            let (mut now, mut sent) = (start, 0);
            let end = start + Duration::from_secs(seconds);
            while now < end {
                match link.leave(now, NOON_US, SentToday::default()) {
                    Leave::Now => {
                        link.sent(now, run, run, true);
                        sent += run;
                    }
                    Leave::At(later) => now = later.max(now + Duration::from_millis(1)),
                    Leave::NotToday => prop_assert!(false),
                }
            }
            // One second's worth may go at once at the start.
            prop_assert!(sent <= rate * (seconds + 1) + run);
            prop_assert!(sent + run + rate >= rate * seconds, "{sent} of {}", rate * seconds);
        }
    }

    #[test]
    fn a_day_budget_keeps_what_live_readings_will_need() {
        let start = Instant::now();
        let mut link = link(None, Some(1_000_000), start);
        let now = start + Duration::from_secs(100);
        assert_eq!(link.leave(now, NOON_US, SentToday::default()), Leave::Now);
        // 10 bytes a second for half a day are 432 000 bytes.
        link.sent(now, 1_000, 10_000, false);
        let sent = |live_bytes, history_bytes| SentToday { day: 20_000, live_bytes, history_bytes };
        assert_eq!(link.leave(now, NOON_US, sent(1_000, 500_000)), Leave::Now);
        assert_eq!(link.leave(now, NOON_US, sent(1_000, 600_000)), Leave::NotToday);
        assert!(!link.is_short(sent(1_000, 999_000)));
        assert!(link.is_short(sent(1_000_000, 0)));
        assert_eq!(link.left(sent(1_000, 600_000)), Some(399_000));
    }

    #[test]
    fn a_day_ends_at_midnight_and_a_clock_set_back_begins_no_new_one() {
        let mut sent = SentToday::default();
        count(&mut sent, NOON_US, 5, true);
        count(&mut sent, NOON_US - 86_400_000_000, 5, true);
        assert_eq!(sent, SentToday { day: 20_000, live_bytes: 0, history_bytes: 10 });
        assert_eq!(total([sent, sent].into_iter(), NOON_US).history_bytes, 20);
        let tomorrow = NOON_US + 43_200_000_000;
        assert_eq!(total([sent].into_iter(), tomorrow).history_bytes, 0);
        count(&mut sent, tomorrow, 3, false);
        assert_eq!(sent, SentToday { day: 20_001, live_bytes: 3, history_bytes: 0 });
    }

    #[test]
    fn one_attempt_with_a_clock_that_is_years_ahead_does_not_use_up_all_days_until_then() {
        let now_us = EARLIEST_PLAUSIBLE_US + 43_200_000_000;
        let ahead_us = now_us + 12 * 365 * 86_400_000_000;
        let mut sent = SentToday::default();
        count(&mut sent, ahead_us, 5, true);
        assert_eq!(total([sent].into_iter(), now_us).history_bytes, 0);
        count(&mut sent, now_us, 3, true);
        assert_eq!(sent, SentToday { day: day_of(now_us), live_bytes: 0, history_bytes: 3 });
        // An unset clock knows nothing of days.
        count(&mut sent, 0, 3, true);
        assert_eq!(sent, SentToday { day: day_of(now_us), live_bytes: 0, history_bytes: 6 });
    }
}
