//! Delivery: takes one sink's undelivered records to it, run by run, until the sink has each of them once.
//!
//! One task a sink. It pins a run in the ledger, offers it, and saves what came of it; the sink answers, this file
//! decides. Nothing else retries.

mod attempt;
mod lane_work;
mod link;
mod loss;
mod pinning;
mod recovery;
mod rendering;
mod replay;
mod run;
mod schedule;
mod telling;
#[cfg(test)]
mod tests;

use crate::backoff::Backoff;
use crate::buffer::{Buffer, Ends, SentToday};
use crate::clock::Clock;
use crate::reading::{Epoch, Sequence, Stream};
use crate::sinks::encode::{Renderer, View};
use crate::sinks::pace::PaceOptions;
use crate::sinks::route::{Route, RouteOptions};
use crate::sinks::{AnySink, Sink};
use crate::site::{DeviceTags, Registry};
use crate::status::{SinkStatus, State, Status};
use lane_work::LaneWork;
use link::{Leave, Link};
use loss::Losses;
use replay::Replays;
use run::Part;
use schedule::{Turn, Turns};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// First wait between two attempts.
const RETRY_FIRST: Duration = Duration::from_millis(200);
/// Longest wait between two attempts, and so how late a sink's return is noticed at most.
const RETRY_MAX: Duration = Duration::from_secs(5);
/// The same where the link has a budget: an attempt that fails may have cost its bytes all the same.
const RETRY_MAX_METERED: Duration = Duration::from_secs(60);
/// After so many failures in a row, over all lanes, one attempt at a time probes the sink until one succeeds.
const BREAKER_FAILURES: u32 = 5;
/// A record's size before the first one was rendered, in bytes.
const RECORD_BYTES_GUESS: f64 = 400.0;
/// Live readings gather no longer than this while history is under way on a link with a budget, and history waits for them
/// meanwhile. Without a budget they gather while a run of history is in flight, and no longer.
const LIVE_LINGER_MAX: Duration = Duration::from_millis(100);
/// How long a run of history is to take, so that alerts and live readings do not wait long for its end.
const HISTORY_RUN: Duration = Duration::from_millis(250);
/// Bytes of JSON of the first run of history, and the least: some dozens of readings, or the link would carry heads alone.
const HISTORY_RUN_BYTES: (f64, f64) = (64.0 * 1024.0, 16.0 * 1024.0);
/// How often the books of a sink that is held back are brought up to date.
const HELD_LOOK: Duration = Duration::from_secs(1);
/// Reads what an older configuration, which a pinned run needs, says of this sink; `None` if it cannot be read.
pub type ViewOf = Arc<dyn Fn(&str) -> Option<View> + Send + Sync>;

/// The configuration's share in rendering.
#[derive(Clone, Debug)]
pub struct Rendering {
    /// The version of the configuration.
    pub config_version: u32,
    /// Its tags.
    pub tags: Arc<DeviceTags>,
}

/// What delivery to one sink works with. Tests and benchmarks bring sinks of their own.
pub struct DeliveryOptions<S: Sink = AnySink> {
    /// The sink's name.
    pub name: String,
    /// The sink.
    pub sink: S,
    /// Where it says how it is.
    pub status: Arc<SinkStatus>,
    /// The gateway's status, for troubles.
    pub gateway_status: Arc<Status>,
    /// The buffer.
    pub buffer: Buffer,
    /// The registry of points.
    pub registry: Arc<Registry>,
    /// Both clocks.
    pub clock: Clock,
    /// The gateway's name.
    pub gateway: String,
    /// The data directory's epoch.
    pub epoch: Epoch,
    /// What renders new runs; another configuration may take its place at any time.
    pub rendering: watch::Receiver<Rendering>,
    /// What goes to it, and where it begins.
    pub route: RouteOptions,
    /// In which order a backlog goes, and what the link may carry.
    pub pace: PaceOptions,
    /// Reads what an older configuration says of this sink.
    pub view_of: ViewOf,
    /// How long a run may wait to fill.
    pub linger: Duration,
    /// Most bytes of a run before compression.
    pub run_bytes_max: u64,
    /// When cancelled: deliver what is there as long as all goes well, then return.
    pub stop: CancellationToken,
    /// When cancelled: return after the attempt under way. The next delivery of this name goes on from the ledger.
    pub halt: CancellationToken,
}

/// Delivery to one sink.
pub struct Delivery<S: Sink = AnySink> {
    options: DeliveryOptions<S>,
    /// Which readings and alerts go to the sink.
    route: Route,
    lanes: Vec<LaneWork>,
    /// The ledger agrees with what the sink itself remembers. Nothing is offered before: it could be there already.
    agreed: bool,
    turns: Turns,
    replays: Replays,
    link: Link,
    losses: Losses,
    renderers: HashMap<u32, Renderer>,
    record_bytes: f64,
    /// Most bytes of a run of history, as fast as the sink is now.
    history_bytes: f64,
    /// Waits of the sink as a whole: taking over from an older self, and probing it while nothing goes.
    backoff: Backoff,
    /// Failures in a row, over all lanes.
    failures: u32,
    /// While nothing goes: when the next attempt, of any lane, may be made.
    probe_at: Option<Instant>,
    /// Why nothing can be offered at all.
    sink_trouble: Option<State>,
}

/// Why a turn ended without success.
enum Setback {
    /// Nothing can be offered before a wait.
    Sink(Duration),
    /// This lane waits by itself; the others go on.
    Lane,
    /// The lane has changed below us: load it again.
    Reload(usize),
}

impl<S: Sink> std::fmt::Debug for Delivery<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Delivery").field("name", &self.options.name).finish_non_exhaustive()
    }
}

impl<S: Sink> Delivery<S> {
    /// Ready to run.
    #[must_use]
    pub fn new(options: DeliveryOptions<S>) -> Self {
        let link = Link::new(options.pace.link.as_ref(), Instant::now());
        let retry_max = retry_max(&options.pace);
        Self {
            route: options.route.route(),
            replays: Replays::new(options.buffer.replays(), retry_max),
            options,
            lanes: Vec::new(),
            agreed: false,
            turns: Turns::default(),
            link,
            losses: Losses::default(),
            renderers: HashMap::new(),
            record_bytes: RECORD_BYTES_GUESS,
            history_bytes: HISTORY_RUN_BYTES.0,
            backoff: Backoff::new(RETRY_FIRST, retry_max),
            failures: 0,
            probe_at: None,
            sink_trouble: None,
        }
    }

    /// Loads the lanes and tells the books, so that nobody sees an empty backlog before [`Self::run`] has got so far. What
    /// cannot be read yet is read there.
    pub async fn prepare(&mut self) {
        if self.load_lanes().await.is_ok() {
            self.report();
        }
    }

    /// Delivers until it is told to stop; then goes on while records are left and the sink takes them.
    pub async fn run(mut self) {
        self.deliver().await;
        // What was passed over at the end need not be read again after the next start.
        while let Some(index) = self.unsaved_lane(true) {
            if self.save_passed(index).await.is_err() {
                break;
            }
        }
    }

    /// Delivers nothing until it is told to stop, and keeps its books in sight: what waits must not look lost.
    pub async fn hold(mut self, why: &str) {
        let (stop, halt) = (self.options.stop.clone(), self.options.halt.clone());
        self.hold_back(why);
        while !(halt.is_cancelled() || stop.is_cancelled()) {
            // A disk that fails is told where it is written to; here the next look is another attempt.
            if self.lanes.is_empty() {
                self.load_lanes().await.ok();
            } else if let Some(index) = self.robbed_lane() {
                self.reload(index).await.ok();
            }
            self.report();
            tokio::select! {
                () = halt.cancelled() => {}
                () = stop.cancelled() => {}
                () = tokio::time::sleep(HELD_LOOK) => {}
            }
        }
    }

    async fn deliver(&mut self) {
        let stop = self.options.stop.clone();
        let mut ends = self.options.buffer.ends();
        while !(self.options.halt.is_cancelled() || stop.is_cancelled() && self.is_done()) {
            // What comes in from here on ends a wait.
            ends.mark_unchanged();
            let worked = if self.lanes.is_empty() {
                self.load_lanes().await
            } else if let Some(index) = self.robbed_lane() {
                Err(Setback::Reload(index))
            } else if let Some(index) = self.unsaved_lane(false) {
                self.save_passed(index).await
            } else if !self.agreed || self.options.sink.must_recover() {
                self.recover().await
            } else {
                let turn = self.next_turn();
                if self.replay_may_go(turn.is_ok()) {
                    self.replay().await
                } else {
                    match turn {
                        Ok(turn) => self.work(turn).await,
                        Err(due) => {
                            self.wait_until(&mut ends, due, true).await;
                            Ok(())
                        }
                    }
                }
            };
            let worked = match worked {
                Err(Setback::Reload(index)) => self.reload(index).await,
                worked => worked,
            };
            self.report();
            self.tell_budget();
            self.tell_losses();
            match worked {
                Ok(()) | Err(Setback::Lane | Setback::Reload(_)) => {}
                Err(Setback::Sink(_)) if stop.is_cancelled() => return,
                Err(Setback::Sink(wait)) => self.wait_until(&mut ends, Instant::now() + wait, false).await,
            }
        }
    }

    /// Waits, unless it is told to stop; `for_more`: or something new is on disk. The books go on: the backlog grows meanwhile.
    async fn wait_until(&self, ends: &mut watch::Receiver<Ends>, until: Instant, for_more: bool) {
        let stopping = self.options.stop.is_cancelled();
        while Instant::now() < until {
            tokio::select! {
                // In one order, so that a simulated run can be repeated.
                biased;
                () = tokio::time::sleep_until(until) => return,
                () = self.options.halt.cancelled() => return,
                () = self.options.stop.cancelled(), if !stopping => return,
                changed = ends.changed() => match changed {
                    Ok(()) => self.report(),
                    Err(_) => return tokio::time::sleep_until(until).await,
                },
            }
            if for_more {
                return;
            }
        }
    }

    /// Whether nothing is left to deliver that the sink takes now; history that has to wait is for the next start.
    fn is_done(&mut self) -> bool {
        let can_go = self.history_leave() == Leave::Now;
        let done = |work: &LaneWork| {
            let left = work.lane.undelivered(self.next(work.stream));
            let history = run::undelivered_in(&work.lane.cursor, Part::History, 0);
            let waits =
                self.is_live_first(work.stream, &work.lane) && !can_go && work.lane.run.is_none() && left == history;
            work.trouble.is_some() || left == 0 || waits
        };
        !self.lanes.is_empty() && self.lanes.iter().all(done)
    }

    /// The version of the configuration that renders new runs.
    fn config_version(&self) -> u32 {
        self.options.rendering.borrow().config_version
    }

    /// The sequence that the next record of a stream will get.
    fn next(&self, stream: Stream) -> Sequence {
        self.options.buffer.ends().borrow().get(stream.index()).map_or(0, |ends| ends.next)
    }

    /// The oldest sequence of a stream that is still held.
    fn oldest(&self, stream: Stream) -> Sequence {
        self.options.buffer.ends().borrow().get(stream.index()).map_or(0, |ends| ends.oldest)
    }

    /// A lane that still counts as undelivered what the buffer has given up; the store's books know.
    fn robbed_lane(&self) -> Option<usize> {
        self.lanes.iter().position(|work| {
            let (oldest, next) = (self.oldest(work.stream), self.next(work.stream));
            let first =
                run::first_stretch(&work.lane.cursor, Part::InOrder, next).map_or(next, |stretch| stretch.first);
            oldest > work.oldest && oldest > first
        })
    }

    async fn load_lanes(&mut self) -> Result<(), Setback> {
        let retry_max = retry_max(&self.options.pace);
        let DeliveryOptions { buffer, name, route, .. } = &self.options;
        let mut lanes = Vec::new();
        for stream in route.streams() {
            let oldest = self.oldest(stream);
            let lane = buffer.lane_from(name, stream, route.start).await.map_err(|error| self.disk(&error))?;
            let first = run::first_stretch(&lane.cursor, Part::InOrder, self.next(stream));
            let mut work = LaneWork::new(name, stream, lane, oldest, retry_max);
            if let Some(first) = first {
                // The page tells how old the backlog is, also while the sink cannot be reached at all.
                let block = buffer.blocks(stream, first.first, 1).await.map_err(|error| self.disk(&error))?;
                work.oldest_us = block.first().map(|block| block.meta.first_time_us);
            }
            lanes.push(work);
        }
        self.lanes = lanes;
        Ok(())
    }

    /// Takes the lane as the store has it now.
    async fn reload(&mut self, index: usize) -> Result<(), Setback> {
        let Some(work) = self.lanes.get(index) else { return Ok(()) };
        let (name, stream) = (work.name.clone(), work.stream);
        let oldest = self.oldest(stream);
        let lane = self.options.buffer.lane(&name, stream).await.map_err(|error| self.disk(&error))?;
        if let Some(work) = self.lanes.get_mut(index) {
            work.take(lane, oldest);
        }
        Ok(())
    }

    /// The next lane with something to offer, or when to look again.
    fn next_turn(&mut self) -> Result<Turn, Instant> {
        let now = Instant::now();
        let mut due = now + Duration::from_secs(1);
        if let Some(probe_at) = self.probe_at.filter(|probe_at| *probe_at > now) {
            return Err(due.min(probe_at));
        }
        let ends = *self.options.buffer.ends().borrow();
        let stopping = self.options.stop.is_cancelled();
        let leave = self.history_leave();
        let metered = self.options.pace.link.is_some();
        let mut ready = Vec::new();
        for lane in 0..self.lanes.len() {
            let part = self.lanes.get(lane).map_or(Part::InOrder, |work| self.main_part(work.stream, &work.lane));
            let full = self.is_full(lane, part);
            let Some(work) = self.lanes.get_mut(lane) else { continue };
            if let Some(not_before) = work.not_before.filter(|not_before| *not_before > now) {
                due = due.min(not_before);
                continue;
            }
            if work.lane.run.is_some() {
                ready.push(Turn { lane, class: work.class(part), part });
                continue;
            }
            let next = ends.get(work.stream.index()).map_or(0, |ends| ends.next);
            let history = part == Part::Live && !work.lane.cursor.ranges.is_empty();
            if run::undelivered_in(&work.lane.cursor, part, next) == 0 {
                work.waiting = None;
            } else {
                let since = *work.waiting.get_or_insert(now);
                let linger = match work.stream {
                    Stream::Readings if history && metered => self.options.linger.min(LIVE_LINGER_MAX),
                    Stream::Readings if history => Duration::ZERO,
                    Stream::Readings => self.options.linger,
                    _ => Duration::ZERO,
                };
                if full || stopping || now >= since + linger {
                    ready.push(Turn { lane, class: work.class(part), part });
                } else {
                    due = due.min(since + linger);
                    // A run of history now would be in their way when they have gathered.
                    continue;
                }
            }
            match leave {
                Leave::Now if history => {
                    ready.push(Turn { lane, class: work.class(Part::History), part: Part::History });
                }
                Leave::At(later) if history => due = due.min(later),
                _ => {}
            }
        }
        self.turns.choose(&ready).ok_or(due)
    }

    /// What all lanes have sent today.
    fn sent_today(&self) -> SentToday {
        let now_us = self.options.clock.tick().wall_us;
        link::total(self.lanes.iter().map(|work| work.lane.sent), now_us)
    }

    /// When history may go.
    fn history_leave(&mut self) -> Leave {
        let today = self.sent_today();
        self.link.leave(Instant::now(), self.options.clock.tick().wall_us, today)
    }

    /// Most bytes of a run of history.
    fn history_run_bytes(&self) -> f64 {
        let most = self.history_bytes.min(self.link.run_bytes_max()).max(HISTORY_RUN_BYTES.1);
        most.min(self.options.run_bytes_max as f64)
    }
}

fn retry_max(pace: &PaceOptions) -> Duration {
    if pace.link.is_some() { RETRY_MAX_METERED } else { RETRY_MAX }
}
