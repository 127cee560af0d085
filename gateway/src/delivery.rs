//! Delivery: takes one sink's undelivered records to it, run by run, until the sink has each of them once.
//!
//! One task a sink. It pins a run in the ledger, offers it, and saves what came of it; the sink answers, this file
//! decides. Nothing else retries.

mod pinning;
mod recovery;
mod rendering;
mod run;
mod telling;

use crate::backoff::Backoff;
use crate::block::Block;
use crate::block::records::Record;
use crate::buffer::{Buffer, BufferError, Ends, Lane, LaneChange, Run};
use crate::clock::Clock;
use crate::fault;
use crate::reading::{Epoch, Sequence, SequenceRange, Stream};
use crate::sinks::encode::Renderer;
use crate::sinks::{AnySink, Offer, Outcome, Rendered, Sink};
use crate::site::{DeviceTags, Registry};
use crate::status::{SinkStatus, State, Status};
use run::Refusal;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use telling::LEDGER_RETRY;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// First and longest wait between attempts. The longest one is also how late a sink's return is noticed.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// A record's size before the first one was rendered, in bytes.
const RECORD_BYTES_GUESS: f64 = 400.0;
/// Over so many records refusals are counted; more than one in a hundred of them refused pauses the sink.
const REFUSAL_WINDOW: f64 = 10_000.0;
/// Reads a configuration that a pinned run needs; `None` if it cannot be read.
pub type TagsOf = Arc<dyn Fn(&str) -> Option<DeviceTags> + Send + Sync>;

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
    /// Reads the tags of an older configuration.
    pub tags_of: TagsOf,
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
    lanes: Vec<LaneWork>,
    /// The ledger agrees with what the sink itself remembers. Nothing is offered before: it could be there already.
    agreed: bool,
    /// The lane that was served last: the others have their turn before it.
    turn: usize,
    renderers: HashMap<u32, Renderer>,
    record_bytes: f64,
    /// Waits of the sink as a whole: taking over from an older self.
    backoff: Backoff,
    /// Why nothing can be offered at all.
    sink_trouble: Option<State>,
}

/// A lane, and how the sink stands to it. A stream that is refused holds no other back.
struct LaneWork {
    stream: Stream,
    lane: Lane,
    /// Since when something waits to be pinned.
    waiting: Option<Instant>,
    /// The blocks of the pinned run.
    blocks: Vec<Block>,
    /// The oldest sequence that was held when the lane was taken from the store.
    oldest: Sequence,
    /// Whether the sink has taken anything of this stream since it started.
    proven: bool,
    /// Too much was refused: until the next success a refusal proves nothing about the record.
    doubted: bool,
    /// Records offered and refused lately, old ones fading out.
    offered: f64,
    refused: f64,
    backoff: Backoff,
    /// Not offered before this moment.
    not_before: Option<Instant>,
    failing_since: Option<Instant>,
    /// How it stands, if not well.
    trouble: Option<State>,
}

impl LaneWork {
    fn new(stream: Stream, lane: Lane, oldest: Sequence) -> Self {
        Self {
            stream,
            lane,
            waiting: None,
            blocks: Vec::new(),
            oldest,
            proven: false,
            doubted: false,
            offered: 0.0,
            refused: 0.0,
            backoff: Backoff::new(RETRY.0, RETRY.1),
            not_before: None,
            failing_since: None,
            trouble: None,
        }
    }

    /// Counts what was offered, so that old refusals fade; says whether too much of it was refused.
    fn count(&mut self, delivered: u64, refused: u64) -> bool {
        self.offered += (delivered + refused) as f64;
        self.refused += refused as f64;
        if self.offered > REFUSAL_WINDOW {
            let fade = REFUSAL_WINDOW / self.offered;
            self.offered *= fade;
            self.refused *= fade;
        }
        self.refused > REFUSAL_WINDOW / 100.0
    }
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
        Self {
            options,
            lanes: Vec::new(),
            agreed: false,
            turn: 0,
            renderers: HashMap::new(),
            record_bytes: RECORD_BYTES_GUESS,
            backoff: Backoff::new(RETRY.0, RETRY.1),
            sink_trouble: None,
        }
    }

    /// Delivers until it is told to stop; then goes on while records are left and the sink takes them.
    pub async fn run(mut self) {
        let stop = self.options.stop.clone();
        let mut ends = self.options.buffer.ends();
        while !(self.options.halt.is_cancelled() || stop.is_cancelled() && self.is_done()) {
            // What comes in from here on ends a wait.
            ends.mark_unchanged();
            let worked = if self.lanes.is_empty() {
                self.load_lanes().await
            } else if let Some(index) = self.robbed_lane() {
                Err(Setback::Reload(index))
            } else if !self.agreed || self.options.sink.must_recover() {
                self.recover().await
            } else {
                match self.next_lane() {
                    Ok(index) => self.work(index).await,
                    Err(due) => {
                        self.wait_until(&mut ends, due, true).await;
                        Ok(())
                    }
                }
            };
            self.report();
            match worked {
                Ok(()) | Err(Setback::Lane) => {}
                Err(Setback::Sink(_)) if stop.is_cancelled() => return,
                Err(Setback::Sink(wait)) => self.wait_until(&mut ends, Instant::now() + wait, false).await,
                Err(Setback::Reload(index)) => self.reload(index).await,
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

    /// Whether nothing is left to deliver that the sink takes now.
    fn is_done(&self) -> bool {
        let done = |work: &LaneWork| work.trouble.is_some() || work.lane.undelivered(self.next(work.stream)) == 0;
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
            let first = run::first_stretch(&work.lane.cursor, next).map_or(next, |stretch| stretch.first);
            oldest > work.oldest && oldest > first
        })
    }

    async fn load_lanes(&mut self) -> Result<(), Setback> {
        let mut lanes = Vec::new();
        for stream in Stream::DELIVERED {
            let oldest = self.oldest(stream);
            let lane = self.options.buffer.lane(&self.options.name, stream).await;
            lanes.push(LaneWork::new(stream, lane.map_err(|error| self.disk(&error))?, oldest));
        }
        self.lanes = lanes;
        Ok(())
    }

    /// Takes the lane as the store has it now.
    async fn reload(&mut self, index: usize) {
        let Some(stream) = self.lanes.get(index).map(|work| work.stream) else { return };
        let oldest = self.oldest(stream);
        if let Some(work) = self.lanes.get_mut(index) {
            work.oldest = oldest;
        }
        match self.options.buffer.lane(&self.options.name, stream).await {
            Ok(lane) => {
                if let Some(work) = self.lanes.get_mut(index) {
                    work.lane = lane;
                    work.blocks.clear();
                }
            }
            Err(error) => drop(self.disk(&error)),
        }
    }

    /// The next lane with something to offer, or when to look again.
    fn next_lane(&mut self) -> Result<usize, Instant> {
        let now = Instant::now();
        let ends = *self.options.buffer.ends().borrow();
        let mut due = now + Duration::from_secs(1);
        let stopping = self.options.stop.is_cancelled();
        let lanes = self.lanes.len();
        for index in (self.turn + 1..=self.turn + lanes).map(|index| index % lanes.max(1)) {
            let Some(work) = self.lanes.get_mut(index) else { continue };
            if let Some(not_before) = work.not_before.filter(|not_before| *not_before > now) {
                due = due.min(not_before);
                continue;
            }
            let next = ends.get(work.stream.index()).map_or(0, |ends| ends.next);
            let waiting = run::undelivered(&work.lane.cursor, next);
            if work.lane.run.is_none() && waiting == 0 {
                work.waiting = None;
                continue;
            }
            let since = *work.waiting.get_or_insert(now);
            let linger = if work.stream == Stream::Readings { self.options.linger } else { Duration::ZERO };
            let full = waiting as f64 * self.record_bytes >= self.options.run_bytes_max as f64;
            if work.lane.run.is_some() || full || stopping || now >= since + linger {
                self.turn = index;
                return Ok(index);
            }
            due = due.min(since + linger);
        }
        Err(due)
    }

    /// One attempt at one node of the lane's run, which is pinned first if there is none.
    async fn work(&mut self, index: usize) -> Result<(), Setback> {
        let Some(mut lane) = self.lanes.get(index).map(|work| work.lane.clone()) else { return Ok(()) };
        if lane.run.is_none() {
            if !self.pin(index, &mut lane).await? {
                // The store has nothing there yet, or no more; it is not asked again at once. What it lost is in the books now.
                self.save(index, lane, Vec::new()).await?;
                return Err(self.lane_waits(index, LEDGER_RETRY));
            }
            fault::point("delivery.before_pin_saved");
            self.save(index, lane.clone(), Vec::new()).await?;
            fault::point("delivery.after_pin_saved");
            lane = self.lanes.get(index).map(|work| work.lane.clone()).unwrap_or_default();
        }
        let Some(run) = lane.run.clone() else { return Ok(()) };
        self.load_blocks(index, run.range).await?;
        let node = run::node(&run);
        let records = self.render(index, &run, node).await?;
        if records.is_empty() {
            // None of it is for this sink.
            run::skipped(&mut lane);
            return self.save(index, lane, Vec::new()).await;
        }
        match self.offer(index, &lane, node, &records).await {
            Outcome::Delivered { remote_position } => {
                self.delivered(index, &run, records.len() as u64, remote_position).await
            }
            Outcome::Refused { reason } => self.refused(index, lane, node, &reason).await,
            Outcome::Retry { after, reason } => Err(self.retry(index, after, &reason)),
            Outcome::Pause { reason } => Err(self.paused(index, &reason)),
        }
    }

    async fn offer(&mut self, index: usize, lane: &Lane, node: SequenceRange, records: &[Rendered]) -> Outcome {
        let Some(stream) = self.lanes.get(index).map(|work| work.stream) else {
            return Outcome::Retry { after: None, reason: "the lane is gone".to_owned() };
        };
        let DeliveryOptions { gateway, epoch, name, status, sink, .. } = &mut self.options;
        let offer = Offer {
            key: format!("{gateway}/{epoch}/{name}/{stream}/{node}"),
            stream,
            range: node,
            records,
            epoch: *epoch,
            run_mark: lane.run.as_ref().map_or(0, |run| run.mark),
            cursor_after: &run::advance(&lane.cursor, node.last),
        };
        let started = Instant::now();
        let outcome = sink.deliver(&offer).await;
        status.attempts.add(1);
        status.last_attempt_us.set(u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX));
        outcome
    }

    /// The sink has the node of `run`: from here on it must not be offered again, whatever the disk says. So the books are
    /// saved until that succeeds, or the program ends (then the sink's own cursor, or the same key, tells).
    async fn delivered(
        &mut self,
        index: usize,
        run: &Run,
        records: u64,
        remote_position: Option<i64>,
    ) -> Result<(), Setback> {
        let mut held_count = 0;
        loop {
            let Some(mut lane) = self.lanes.get(index).map(|work| work.lane.clone()) else { return Ok(()) };
            if lane.run.as_ref() != Some(run) {
                // An eviction or a salvage has given the run up meanwhile and booked it as a gap of unknown outcome.
                break;
            }
            let held = run::delivered(&mut lane, records);
            held_count = held.len() as u64;
            lane.remote_position = remote_position.or(lane.remote_position);
            let letters = self.refusals(index, &held, "refused while its neighbours were taken").await;
            if lane.run.is_none() && self.is_full(index, &lane) {
                // The next run is pinned by the same write that resolves this one: half the synchronisations while catching
                // up. If it cannot be read now, it is pinned later.
                self.pin(index, &mut lane).await.ok();
            }
            fault::point("delivery.before_books_saved");
            match self.save(index, lane, letters).await {
                Ok(()) => break,
                Err(Setback::Reload(_)) => self.reload(index).await,
                // Going on would offer it again, for the ledger does not know of it; after the next start the sink tells.
                Err(setback) if self.options.stop.is_cancelled() || self.options.halt.is_cancelled() => {
                    return Err(setback);
                }
                Err(_) => tokio::time::sleep(LEDGER_RETRY).await,
            }
        }
        fault::point("delivery.after_books_saved");
        self.succeeded(index, records, held_count);
        Ok(())
    }

    async fn refused(
        &mut self,
        index: usize,
        mut lane: Lane,
        node: SequenceRange,
        reason: &str,
    ) -> Result<(), Setback> {
        self.options.status.retries.add(1);
        let Some(work) = self.lanes.get_mut(index) else { return Ok(()) };
        let proven = work.proven || (!work.doubted && run::has_moved(&lane));
        match run::refused(&mut lane, proven) {
            Refusal::Halved | Refusal::Held => {
                fault::point("delivery.before_halving_saved");
                self.save(index, lane, Vec::new()).await?;
                fault::point("delivery.after_halving_saved");
                Ok(())
            }
            Refusal::DeadLetter(sequence) => {
                if work.count(0, 1) {
                    // From now on a refusal is held back until something succeeds, and counting begins anew.
                    (work.proven, work.doubted, work.offered, work.refused) = (false, true, 0.0, 0.0);
                    return Err(self.paused(index, &format!(
                        "more than 1 % of the last {REFUSAL_WINDOW} records were refused, the last one with: {reason}; check \
                         the schema that the endpoint expects"
                    )));
                }
                let letters = self.refusals(index, &[sequence], reason).await;
                self.save(index, lane, letters).await
            }
            Refusal::AllRefused => {
                self.save(index, lane, Vec::new()).await?;
                Err(self.paused(index, &format!(
                    "everything is refused, the last one ({node}) with: {reason}; check the address and the schema that it expects"
                )))
            }
        }
    }

    /// Saves a lane and takes what the store made of it.
    async fn save(&mut self, index: usize, lane: Lane, records: Vec<Record>) -> Result<(), Setback> {
        let Some(work) = self.lanes.get(index) else { return Ok(()) };
        if lane == work.lane && records.is_empty() {
            return Ok(());
        }
        let stream = work.stream;
        let change = LaneChange { sink: self.options.name.clone(), stream, lane, records };
        match self.options.buffer.change_lane(change).await {
            Ok(saved) => {
                debug_assert!(saved.closes(self.next(stream)), "the books of {stream} do not close: {saved:?}");
                if let Some(work) = self.lanes.get_mut(index) {
                    work.lane = saved;
                }
                Ok(())
            }
            Err(BufferError::Stale { .. }) => Err(Setback::Reload(index)),
            Err(error) => Err(self.disk(&error)),
        }
    }
}
