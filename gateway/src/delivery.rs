//! Delivery: takes one sink's undelivered records to it, run by run, until the sink has each of them once.
//!
//! One task a sink. It pins a run in the ledger, offers it, and saves what came of it; the sink answers, this file
//! decides. Nothing else retries.

mod pinning;
mod rendering;
mod run;
mod telling;

use crate::backoff::Backoff;
use crate::block::Block;
use crate::block::records::Record;
use crate::buffer::{Buffer, Lane, LaneChange};
use crate::clock::Clock;
use crate::reading::{Epoch, SequenceRange, Stream};
use crate::sinks::encode::Renderer;
use crate::sinks::{AnySink, Offer, Outcome, Rendered, Sink, SinkError};
use crate::site::{DeviceTags, Registry};
use crate::status::{HasHealth, SinkStatus, State, Status};
use run::Refusal;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use telling::LEDGER_RETRY;
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

/// What delivery to one sink works with.
pub struct DeliveryOptions {
    /// The sink's name.
    pub name: String,
    /// The sink.
    pub sink: AnySink,
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
    /// Version of the configuration that renders new runs.
    pub config_version: u32,
    /// Its tags.
    pub tags: Arc<DeviceTags>,
    /// Reads the tags of an older configuration.
    pub tags_of: TagsOf,
    /// How long a run may wait to fill.
    pub linger: Duration,
    /// Most bytes of a run before compression.
    pub run_bytes_max: u64,
    /// When cancelled: deliver what is there as long as all goes well, then return.
    pub stop: CancellationToken,
}

/// Delivery to one sink.
pub struct Delivery {
    options: DeliveryOptions,
    lanes: Vec<LaneWork>,
    renderers: HashMap<u32, Renderer>,
    record_bytes: f64,
    backoff: Backoff,
    /// Whether the sink has taken anything since it started.
    proven: bool,
    /// Records offered and refused lately, old ones fading out.
    offered: f64,
    refused: f64,
}

struct LaneWork {
    stream: Stream,
    lane: Lane,
    /// Since when something waits to be pinned.
    waiting: Option<Instant>,
    /// The blocks of the pinned run.
    blocks: Vec<Block>,
}

/// Why a turn ended without success.
enum Setback {
    /// Try again after a wait.
    Wait(Duration),
    /// The lane has changed below us, or the disk failed: load the lanes again.
    Reload,
}

impl std::fmt::Debug for Delivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Delivery").field("name", &self.options.name).finish_non_exhaustive()
    }
}

impl Delivery {
    /// Ready to run.
    #[must_use]
    pub fn new(options: DeliveryOptions) -> Self {
        Self {
            options,
            lanes: Vec::new(),
            renderers: HashMap::new(),
            record_bytes: RECORD_BYTES_GUESS,
            backoff: Backoff::new(RETRY.0, RETRY.1),
            proven: false,
            offered: 0.0,
            refused: 0.0,
        }
    }

    /// Delivers until it is told to stop; then goes on while records are left and the sink takes them.
    pub async fn run(mut self) {
        let stop = self.options.stop.clone();
        let mut ends = self.options.buffer.ends();
        while !(stop.is_cancelled() && self.is_done()) {
            if self.lanes.is_empty() && !self.load_lanes().await {
                if stop.is_cancelled() {
                    return;
                }
                self.wait(LEDGER_RETRY).await;
                continue;
            }
            let worked = if self.options.sink.must_recover() {
                self.recover().await
            } else {
                match self.next_lane() {
                    Ok(index) => self.work(index).await,
                    Err(due) => {
                        tokio::select! {
                            _ = ends.changed() => {}
                            () = tokio::time::sleep_until(due) => {}
                            () = stop.cancelled() => {}
                        }
                        Ok(())
                    }
                }
            };
            self.report();
            match worked {
                Ok(()) => {}
                Err(_) if stop.is_cancelled() => return,
                Err(Setback::Wait(wait)) => self.wait(wait).await,
                Err(Setback::Reload) => self.lanes.clear(),
            }
        }
    }

    /// Waits, unless it is told to stop. The books go on: the backlog grows meanwhile.
    async fn wait(&self, wait: Duration) {
        let until = Instant::now() + wait;
        let mut ends = self.options.buffer.ends();
        while Instant::now() < until {
            self.report();
            tokio::select! {
                () = tokio::time::sleep_until(until) => return,
                () = self.options.stop.cancelled() => return,
                changed = ends.changed() => if changed.is_err() {
                    return tokio::time::sleep_until(until).await;
                },
            }
        }
    }

    /// Whether nothing is left to deliver.
    fn is_done(&self) -> bool {
        let ends = *self.options.buffer.ends().borrow();
        let next = |stream: Stream| ends.get(stream.index()).map_or(0, |ends| ends.next);
        !self.lanes.is_empty() && self.lanes.iter().all(|work| run::backlog(&work.lane, next(work.stream)) == 0)
    }

    async fn load_lanes(&mut self) -> bool {
        let mut lanes = Vec::new();
        for stream in Stream::DELIVERED {
            match self.options.buffer.lane(&self.options.name, stream).await {
                Ok(lane) => lanes.push(LaneWork { stream, lane, waiting: None, blocks: Vec::new() }),
                Err(error) => {
                    tracing::error!(sink = self.options.name, %stream, %error, "the ledger cannot be read");
                    return false;
                }
            }
        }
        self.lanes = lanes;
        true
    }

    /// Takes over from an older self: what the sink says it has moves the ledger's cursors.
    async fn recover(&mut self) -> Result<(), Setback> {
        let from_position = self.lanes.iter().filter_map(|work| work.lane.remote_position).max();
        let remote = match self.options.sink.recover(from_position).await {
            Ok(remote) => remote,
            Err(SinkError::Unreachable(reason)) => return Err(self.retry(None, &reason)),
            Err(SinkError::Misconfigured(reason)) => return Err(self.paused(&reason)),
        };
        let ends = *self.options.buffer.ends().borrow();
        for (stream, cursor) in remote {
            let Some(index) = self.lanes.iter().position(|work| work.stream == stream) else { continue };
            if cursor.epoch != self.options.epoch {
                tracing::warn!(
                    sink = self.options.name, %stream, epoch = %cursor.epoch,
                    "the sink remembers another data directory of this gateway; it is left alone"
                );
                continue;
            }
            let next = ends.get(stream.index()).map_or(0, |ends| ends.next);
            if cursor.cursor.from > next {
                return Err(self.paused(&format!(
                    "the sink holds {stream} up to {} of this data directory, which itself ends at {next}: it was restored \
                     from an older copy; move {} aside, so that a new epoch begins",
                    cursor.cursor.from, "data_dir/buffer"
                )));
            }
            let Some(work) = self.lanes.get(index) else { continue };
            let mut lane = work.lane.clone();
            let held = run::catch_up(&mut lane, &cursor.cursor, next);
            lane.remote_position = Some(cursor.position);
            let records = self.refusals(index, &held, "refused before a restart").await?;
            self.save(index, lane, records).await?;
        }
        Ok(())
    }

    /// The next lane with something to offer, or when to look again.
    fn next_lane(&mut self) -> Result<usize, Instant> {
        let now = Instant::now();
        let ends = *self.options.buffer.ends().borrow();
        let mut due = now + Duration::from_secs(1);
        let stopping = self.options.stop.is_cancelled();
        for (index, work) in self.lanes.iter_mut().enumerate() {
            if work.lane.run.is_some() {
                return Ok(index);
            }
            let next = ends.get(work.stream.index()).map_or(0, |ends| ends.next);
            let waiting = run::undelivered(&work.lane.cursor, next);
            if waiting == 0 {
                work.waiting = None;
                continue;
            }
            let since = *work.waiting.get_or_insert(now);
            let linger = if work.stream == Stream::Readings { self.options.linger } else { Duration::ZERO };
            let full = waiting as f64 * self.record_bytes >= self.options.run_bytes_max as f64;
            if full || stopping || now >= since + linger {
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
                return Ok(());
            }
            self.save(index, lane.clone(), Vec::new()).await?;
            lane = self.lanes.get(index).map(|work| work.lane.clone()).unwrap_or_default();
        }
        let Some(run) = lane.run.clone() else { return Ok(()) };
        self.load_blocks(index, run.range).await?;
        let node = run::node(&run);
        let records = self.render(index, &run, node).await?;
        let outcome = if records.is_empty() {
            // All of it was filtered: nothing to offer.
            Outcome::Delivered { remote_position: None }
        } else {
            self.offer(index, &lane, node, &records).await
        };
        match outcome {
            Outcome::Delivered { remote_position } => {
                self.delivered(index, lane, records.len() as u64, remote_position).await
            }
            Outcome::Refused { reason } => self.refused(index, lane, node, &reason).await,
            Outcome::Retry { after, reason } => Err(self.retry(after, &reason)),
            Outcome::Pause { reason } => Err(self.paused(&reason)),
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
            cursor_after: &run::advance(&lane.cursor, node.last),
        };
        let started = Instant::now();
        let outcome = sink.deliver(&offer).await;
        status.attempts.add(1);
        status.last_attempt_us.set(u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX));
        outcome
    }

    async fn delivered(
        &mut self,
        index: usize,
        mut lane: Lane,
        records: u64,
        remote_position: Option<i64>,
    ) -> Result<(), Setback> {
        let held = run::delivered(&mut lane, records);
        lane.remote_position = remote_position.or(lane.remote_position);
        let letters = self.refusals(index, &held, "refused while its neighbours were taken").await?;
        if lane.run.is_none() {
            self.forget_blocks(index);
            // The next run is pinned by the same write that resolves this one: half the synchronisations while catching up.
            if self.is_full(index, &lane) {
                self.pin(index, &mut lane).await?;
            }
        }
        self.save_delivered(index, lane, letters).await?;
        self.proven |= records > 0;
        self.count(records, held.len() as u64);
        self.backoff.succeed();
        let now_us = self.options.clock.tick().wall_us;
        self.options.status.set_state(State::Live, now_us);
        self.options.gateway_status.clear(&self.trouble_key(), now_us);
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
        match run::refused(&mut lane, self.proven) {
            Refusal::Halved | Refusal::Held => self.save(index, lane, Vec::new()).await,
            Refusal::DeadLetter(sequence) => {
                self.count(0, 1);
                if self.refused > REFUSAL_WINDOW / 100.0 {
                    // Begin to count anew, so that one that was mended is not held against its past.
                    (self.offered, self.refused) = (0.0, 0.0);
                    return Err(self.paused(&format!(
                        "more than 1 % of the last {REFUSAL_WINDOW} records were refused, the last one with: {reason}; check \
                         the endpoint's schema"
                    )));
                }
                let letters = self.refusals(index, &[sequence], reason).await?;
                if lane.run.is_none() {
                    self.forget_blocks(index);
                }
                self.save(index, lane, letters).await
            }
            Refusal::AllRefused => {
                self.save(index, lane, Vec::new()).await?;
                Err(self.paused(&format!(
                    "everything is refused, the last one ({node}) with: {reason}; check the address and the schema that it expects"
                )))
            }
        }
    }

    /// Counts what was offered, so that old refusals fade.
    fn count(&mut self, delivered: u64, refused: u64) {
        self.offered += (delivered + refused) as f64;
        self.refused += refused as f64;
        if self.offered > REFUSAL_WINDOW {
            let fade = REFUSAL_WINDOW / self.offered;
            self.offered *= fade;
            self.refused *= fade;
        }
    }

    /// Saves a lane and takes what the store made of it.
    async fn save(&mut self, index: usize, lane: Lane, records: Vec<Record>) -> Result<(), Setback> {
        let Some(work) = self.lanes.get(index) else { return Ok(()) };
        if lane == work.lane && records.is_empty() {
            return Ok(());
        }
        let change = LaneChange { sink: self.options.name.clone(), stream: work.stream, lane, records };
        let saved = self.options.buffer.change_lane(change).await.map_err(|error| self.disk(&error))?;
        if let Some(work) = self.lanes.get_mut(index) {
            work.lane = saved;
        }
        Ok(())
    }

    /// Saves a lane whose records the sink has: until that is done they must not be offered again, so it is tried until it
    /// succeeds or the program ends (then the sink's own cursor, or the same key, tells).
    async fn save_delivered(&mut self, index: usize, lane: Lane, records: Vec<Record>) -> Result<(), Setback> {
        loop {
            match self.save(index, lane.clone(), records.clone()).await {
                Err(Setback::Wait(wait)) if !self.options.stop.is_cancelled() => tokio::time::sleep(wait).await,
                other => return other,
            }
        }
    }
}
