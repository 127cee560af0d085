//! When a commit departs: as seldom as the risk allows, since each one wears the card, and as soon as a sender waits for it.
//!
//! Pure: times come as parameters. Three things decide.
//!
//! - **The interval.** What cannot be sent again (a poll, a line of text, MQTT with `QoS` 0) and what tells of a loss waits for the short
//!   one. What a broker keeps until it is acknowledged waits for the long one, unless a whole block of it is there.
//! - **Windows.** A broker sends only so many messages ahead of their acknowledgements. When they are all out, it waits for us, and each
//!   moment until the next commit is lost. Whether a quiet source waits or just has nothing to say cannot be seen; it shows
//!   afterwards, by what comes at once when the receipts are handed back. So each source's window is learnt.
//! - **The budget.** Where more is written a day than the user allows, both intervals grow, up to the long one.

use crate::block::RECORDS_MAX;
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;

/// A source whose window is known and full has nothing under way after so long: a broker on the same machine or network sends the
/// messages of a window within it.
const STALL: Duration = Duration::from_millis(2);

/// A source whose window is not known is asked after so long: one that sends at its own pace would have sent something meanwhile, or is so
/// slow that its answer comes late, too.
const PATIENCE: Duration = Duration::from_millis(30);

/// What comes within so long after the receipts were handed back had waited for them: a round trip to a broker nearby, and its wake-up.
const ANSWER: Duration = Duration::from_millis(10);

/// A slow source answers that fast by chance now and then; hardly twice in a row.
const ANSWERS: u8 = 2;

/// After a silence of so long an answer counts that comes from afar, within [`FAR_ANSWER`]: a source that sends at its own pace would then,
/// with the silence cut to [`STALL`], answer later by more than [`Window::tolerance`] allows.
const SILENCE: Duration = Duration::from_millis(120);

/// A round trip by a cellular link.
const FAR_ANSWER: Duration = Duration::from_millis(250);

/// So many late answers in a row show that a source does not wait: one may be late for many reasons.
const LATE_ANSWERS: u8 = 2;

/// The interval follows the budget in small steps, since the measured rate follows slowly.
const ADJUST_EVERY: Duration = Duration::from_mins(1);

/// The largest step: tenfold in 25 minutes.
const STEP: f64 = 1.1;

/// Most sources whose windows are kept: a gateway has no more, but their slots grow with each that comes and goes.
const SOURCES_MAX: usize = 256;

/// How commits are paced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitPace {
    /// Longest time that a reading waits for the disk which cannot be sent again.
    pub interval: Duration,
    /// Longest time that any reading waits for the disk.
    pub interval_max: Duration,
    /// Bytes that may be written a day; no limit without.
    pub daily_bytes_max: Option<u64>,
}

/// What waits for the disk, as far as it matters here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Waiting {
    /// Since when.
    pub(super) since: Option<Instant>,
    /// How many readings.
    pub(super) readings: usize,
    /// Whether any of it would be lost with the power, or tells of a loss.
    pub(super) is_urgent: bool,
}

/// The pace of commits.
#[derive(Debug)]
pub(super) struct Pace {
    options: CommitPace,
    windows: HashMap<u16, Window>,
    /// How many times longer the interval is than configured, to keep the budget.
    stretch: f64,
    /// When that was adjusted last.
    adjusted: Option<Instant>,
}

/// What is known of the window of one source.
#[derive(Debug, Default)]
struct Window {
    /// Receipts that the source waits for.
    outstanding: usize,
    /// How many it takes until the source waits, and how soon it answered then, once that is known.
    full_at: Option<(usize, Duration)>,
    /// Late answers in a row since then.
    late: u8,
    /// At fewer it was found not to wait.
    open_below: usize,
    /// How often in a row it answered at once, and at how many outstanding.
    found: (usize, u8),
    last_message: Option<Instant>,
    /// When receipts were handed back last, how many were outstanding before, and how long it had been silent.
    handed_back: Option<(Instant, usize, Duration)>,
}

impl Pace {
    pub(super) fn new(options: CommitPace) -> Self {
        Self { options, windows: HashMap::new(), stretch: 1.0, adjusted: None }
    }

    /// Goes on by other options; what is known of the sources stays.
    pub(super) fn set_options(&mut self, options: CommitPace) {
        self.options = options;
    }

    /// Takes note of what is written a day at the pace of now, and says whether the budget can be kept: not if the longest
    /// interval does not do.
    pub(super) fn keep_budget(&mut self, bytes_per_day: Option<u64>, now: Instant) -> bool {
        let (Some(max), Some(bytes_per_day)) = (self.options.daily_bytes_max, bytes_per_day) else {
            self.stretch = 1.0;
            return true;
        };
        let excess = bytes_per_day as f64 / max.max(1) as f64;
        let most = self.options.interval_max.as_secs_f64() / self.options.interval.as_secs_f64().max(0.001);
        if self.adjusted.is_none_or(|at| now.duration_since(at) >= ADJUST_EVERY) {
            self.adjusted = Some(now);
            self.stretch = (self.stretch * excess.clamp(1.0 / STEP, STEP)).clamp(1.0, most.max(1.0));
        }
        excess <= 1.0 || self.stretch < most
    }

    /// A source brought messages, so many of which wait for a receipt.
    pub(super) fn took(&mut self, source: u16, receipts: usize, now: Instant) {
        if self.windows.len() >= SOURCES_MAX && !self.windows.contains_key(&source) {
            self.windows.clear();
        }
        // What needs no receipt is sent whatever the window.
        if receipts > 0 {
            let window = self.windows.entry(source).or_default();
            window.message(now);
            window.outstanding += receipts;
        }
    }

    /// Receipts were handed back to a source.
    pub(super) fn handed_back(&mut self, source: u16, receipts: usize, now: Instant) {
        if let Some(window) = self.windows.get_mut(&source) {
            let silence = window.last_message.map(|last| now.duration_since(last)).unwrap_or_default();
            window.handed_back = Some((now, window.outstanding, silence));
            window.outstanding = window.outstanding.saturating_sub(receipts);
        }
    }

    /// Forgets a source: it is gone, or its connection is another and what was outstanding comes again.
    pub(super) fn forget(&mut self, source: u16) {
        self.windows.remove(&source);
    }

    /// When what waits shall depart at the latest; sooner if more comes.
    pub(super) fn due(&self, waiting: &Waiting) -> Option<Instant> {
        let deadline = waiting.since? + self.interval(waiting);
        // Only a source that waits for something in this commit gains by an early one, and then all its sources do.
        let early = self.windows.values().filter_map(Window::waits_from).min();
        Some(early.map_or(deadline, |early| deadline.min(early)))
    }

    fn interval(&self, waiting: &Waiting) -> Duration {
        let CommitPace { interval, interval_max, .. } = self.options;
        let longest = interval_max.max(interval);
        if waiting.is_urgent || waiting.readings >= RECORDS_MAX {
            interval.mul_f64(self.stretch).min(longest)
        } else {
            longest
        }
    }
}

impl Window {
    fn message(&mut self, now: Instant) {
        match self.handed_back.take() {
            Some((at, outstanding, silence)) => self.learn(outstanding, silence, now.duration_since(at)),
            // It goes on without having got anything.
            None => self.is_open_at(self.outstanding),
        }
        self.last_message = Some(now);
    }

    /// The first message after receipts were handed back came after `answer`; before them it had been silent for so long.
    fn learn(&mut self, outstanding: usize, silence: Duration, answer: Duration) {
        let times = if self.found.0 == outstanding { self.found.1.saturating_add(1) } else { 1 };
        self.found = if silence >= PATIENCE && answer <= ANSWER { (outstanding, times) } else { (0, 0) };
        if self.found.1 >= ANSWERS || (silence >= SILENCE && answer <= FAR_ANSWER) {
            self.full_at = Some((outstanding, answer));
            self.late = 0;
        } else if answer > self.tolerance() {
            self.late = self.late.saturating_add(1);
            if self.full_at.is_none() || self.late >= LATE_ANSWERS {
                // Asking at every number would cost a commit each; a window between is found by the interval.
                self.is_open_at(outstanding + outstanding / 4);
            }
        } else {
            self.late = 0;
        }
    }

    /// How late an answer may be: a quarter later than the one that it is known by.
    fn tolerance(&self) -> Duration {
        self.full_at.map_or(ANSWER, |(_, answer)| ANSWER.max(answer + answer / 4 + ANSWER / 2))
    }

    fn is_open_at(&mut self, outstanding: usize) {
        self.open_below = self.open_below.max(outstanding + 1);
        self.full_at = self.full_at.filter(|(full_at, _)| *full_at > outstanding);
    }

    /// From when on the source is taken to wait for what is outstanding, if nothing comes of it before.
    fn waits_from(&self) -> Option<Instant> {
        let last = self.last_message.filter(|_| self.outstanding > 0)?;
        match self.full_at {
            Some((full_at, _)) => (self.outstanding >= full_at).then_some(last + STALL),
            None => (self.outstanding >= self.open_below).then_some(last + PATIENCE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn options() -> CommitPace {
        CommitPace { interval: 200 * MS, interval_max: 2_000 * MS, daily_bytes_max: None }
    }

    /// A sender with a window, which sends one message each `spacing` while it may, and what became of it.
    fn simulate(
        window: usize,
        spacing: Duration,
        round_trip: Duration,
        urgent: bool,
        time: Duration,
    ) -> (usize, usize) {
        let (options, commit_takes) = (options(), 5 * MS);
        let start = Instant::now();
        let (mut pace, mut waiting) = (Pace::new(options), Waiting::default());
        let (mut now, mut next_message, mut unacknowledged) = (start, start, 0_usize);
        let (mut pending, mut messages, mut commits) = (0, 0, 0);
        while now < start + time {
            let sends = unacknowledged < window;
            let due = pace.due(&waiting);
            match due {
                Some(due) if !sends || due <= next_message => {
                    now = now.max(due) + commit_takes;
                    commits += 1;
                    pace.handed_back(0, pending, now);
                    unacknowledged -= pending;
                    (pending, waiting) = (0, Waiting::default());
                    // A sender that waited has the next one ready.
                    next_message = next_message.max(now + if sends { Duration::ZERO } else { round_trip });
                }
                _ => {
                    now = now.max(next_message);
                    (messages, pending, unacknowledged) = (messages + 1, pending + 1, unacknowledged + 1);
                    pace.took(0, 1, now);
                    waiting = Waiting { since: waiting.since.or(Some(now)), readings: pending, is_urgent: urgent };
                    next_message = now + spacing;
                }
            }
        }
        (messages, commits)
    }

    #[test]
    fn a_broker_that_waits_for_its_window_is_served_at_once_whatever_its_size() {
        for (window, least) in [(1, 1_000), (20, 20_000), (1_000, 100_000)] {
            let (messages, commits) = simulate(window, MS / 50, MS, false, Duration::from_secs(10));
            assert!(messages >= least, "window {window}: {messages} messages in 10 s, {commits} commits");
        }
    }

    #[test]
    fn a_broker_far_away_is_served_as_fast_as_its_round_trip_allows() {
        for round_trip_ms in [20, 60, 200] {
            let time = Duration::from_secs(60);
            let (messages, commits) = simulate(20, MS / 50, round_trip_ms * MS, false, time);
            let possible = 20 * time.as_millis() as usize / (round_trip_ms as usize + 8);
            assert!(messages >= possible * 8 / 10, "{round_trip_ms} ms: {messages} of {possible}, {commits} commits");
        }
    }

    #[test]
    fn a_slow_source_costs_one_commit_per_interval() {
        let minute = Duration::from_secs(60);
        for spacing_ms in [1, 7, 10, 25, 35, 100, 105, 130, 190, 210, 300, 1_000] {
            let (messages, commits) = simulate(20_000, spacing_ms * MS, MS, true, minute);
            assert!(commits <= 300 + 30, "each {spacing_ms} ms: {commits} commits for {messages} messages");
            let (messages, commits) = simulate(20_000, spacing_ms * MS, MS, false, minute);
            let blocks = messages / RECORDS_MAX;
            assert!(
                commits <= 90 + blocks,
                "each {spacing_ms} ms, sent again: {commits} commits for {messages} messages"
            );
        }
    }

    #[test]
    fn what_would_be_lost_waits_for_the_short_interval_and_the_rest_for_the_long_one() {
        let (pace, now) = (Pace::new(options()), Instant::now());
        let due = |readings, is_urgent| {
            pace.due(&Waiting { since: Some(now), readings, is_urgent }).map(|due| due.duration_since(now))
        };
        assert_eq!((due(1, true), due(1, false)), (Some(200 * MS), Some(2_000 * MS)));
        assert_eq!(due(RECORDS_MAX, false), Some(200 * MS), "a whole block costs no less later");
        assert_eq!(pace.due(&Waiting::default()), None);
    }

    #[test]
    fn a_window_that_has_grown_is_learnt_anew() {
        let (mut pace, start) = (Pace::new(options()), Instant::now());
        let mut now = start;
        for _ in 0..3 {
            pace.took(0, 20, now);
            now += PATIENCE;
            pace.handed_back(0, 20, now);
            now += MS;
        }
        pace.took(0, 20, now);
        let waiting = Waiting { since: Some(now), readings: 20, is_urgent: false };
        assert_eq!(pace.due(&waiting), Some(now + STALL));
        // It sends on though as many are outstanding as made it wait before.
        pace.took(0, 1, now + MS);
        assert_eq!(pace.due(&waiting), Some(now + MS + PATIENCE));
    }

    #[test]
    fn the_budget_stretches_the_interval_up_to_its_bound_and_says_when_that_is_not_enough() {
        let options = CommitPace { daily_bytes_max: Some(1_000), ..options() };
        let (mut pace, now) = (Pace::new(options), Instant::now());
        let urgent = Waiting { since: Some(now), readings: 1, is_urgent: true };
        let due = |pace: &Pace| pace.due(&urgent).map(|due| due.duration_since(now));
        let mut minute = now;
        let mut keep = |pace: &mut Pace, bytes, times| {
            let mut kept = true;
            for _ in 0..times {
                minute += ADJUST_EVERY;
                kept = pace.keep_budget(bytes, minute);
            }
            kept
        };
        assert!(keep(&mut pace, Some(1_500), 1));
        assert!(due(&pace) > Some(200 * MS) && due(&pace) < Some(300 * MS));
        assert!(!keep(&mut pace, Some(1_500), 100));
        assert_eq!(due(&pace), Some(2_000 * MS));
        assert!(keep(&mut pace, Some(500), 100));
        assert_eq!(due(&pace), Some(200 * MS));
        assert!(keep(&mut pace, None, 1));
    }

    #[test]
    fn what_is_kept_of_sources_stays_bounded() {
        let (mut pace, now) = (Pace::new(options()), Instant::now());
        for source in 0..2_000 {
            pace.took(source, 1, now);
        }
        assert!(pace.windows.len() <= SOURCES_MAX);
    }
}
