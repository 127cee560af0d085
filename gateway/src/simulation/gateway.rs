//! A simulated life of the gateway: the real ingest, buffer and delivery on a disk in memory, started and stopped as the
//! program does it, between simulated sources and receivers.

use super::broker::{self, SourceContext};
use super::network::SimulatedSink;
use super::scheduler::Spawner;
use super::world::{End, Shared};
use crate::buffer::memory_disk::MemoryDisk;
use crate::buffer::memory_store::{MemoryOptions, MemoryStore};
use crate::buffer::{Buffer, BufferError, SinkLanes};
use crate::clock::Clock;
use crate::delivery::{Delivery, DeliveryOptions, Rendering, ViewOf};
use crate::ingest::{CommitPace, Feed, Ingest, IngestOptions};
use crate::judge::{Judge, Rules};
use crate::reading::Epoch;
use crate::sinks::encode::View;
use crate::sinks::pace::PaceOptions;
use crate::sinks::route::{Route, RouteOptions};
use crate::site::{DeviceTags, Registry};
use crate::sources::{INTAKES_MAX, Intake};
use crate::status::{SinkStatus, SourceStatus, Status};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Longest waits at a stop, as those of the program.
const SOURCES_STOP: Duration = Duration::from_secs(3);
const INGEST_STOP: Duration = Duration::from_secs(10);
const DELIVERIES_STOP: Duration = Duration::from_secs(5);
/// Receipts that wait for a source: few, so that it is full now and then.
const RECEIPTS_MAX: usize = 4;
/// Everything is delivered if it looks so for so many seconds in a row: troubles that end become alerts a moment later.
const DRAINED_S: u32 = 5;

/// What a life is given.
#[derive(Clone)]
pub(super) struct Life {
    pub(super) world: Shared,
    pub(super) disk: MemoryDisk,
    pub(super) spawner: Spawner,
    pub(super) clock: Clock,
    /// When cancelled, the life ends in order.
    pub(super) stop: CancellationToken,
    /// Which text of the configuration holds.
    pub(super) config: u32,
}

impl Life {
    /// Begins the life.
    pub(super) fn begin(self) {
        let spawner = self.spawner.clone();
        drop(spawner.spawn("root", async move {
            let world = self.world.clone();
            let end = self.run().await;
            let mut world = world.lock();
            match end {
                Ok(true) => {}
                Ok(false) => {
                    world.note(format_args!("the stop left somebody behind"));
                    world.history.excuse_polled();
                }
                Err(error) => {
                    world.note(format_args!("the start failed: {error}"));
                    world.history.excuse_polled();
                }
            }
            world.fate.get_or_insert(End::Stopped);
        }));
    }

    fn is_drained(&self) -> bool {
        let world = self.world.lock();
        world.is_calm() && world.is_drained(&self.disk)
    }

    /// Nothing is left to do.
    fn end_well(&self, sources: &[Arc<SourceStatus>]) {
        let mut world = self.world.lock();
        for source in sources {
            let books = source.books();
            if !books.closes() {
                world.violation(format!("the books of {} do not close: {books:?}", source.name));
            }
        }
        world.check_ingest_books(&self.disk);
        world.fate = Some(End::Drained);
    }

    /// The whole life; true if it ended in order.
    async fn run(self) -> Result<bool, BufferError> {
        let plan = self.world.lock().plan.clone();
        let options = MemoryOptions {
            bytes_max: plan.bytes_max,
            when_full: plan.when_full,
            keep_delivered_us: plan.keep_delivered_us,
            sinks: plan.sinks.iter().map(|sink| SinkLanes::from(sink.name)).collect(),
        };
        let (store, opened) = MemoryStore::open(self.disk.clone(), options, self.clock.clone())?;
        self.world.lock().check_ingest_books(&self.disk);
        let (buffer, serving) = Buffer::over(store);
        let owner = self.spawner.spawn("owner", serving);
        let config_version = buffer.keep_config(&format!("{}", self.config)).await?;
        let epoch = opened.epoch.unwrap_or(Epoch(0));
        let registry = Arc::new(Registry::restore(opened.points));
        let names = [("broker", true), ("bus", plan.poll_every_us.is_some())];
        let names: Vec<&'static str> = names.iter().filter(|(_, is_there)| *is_there).map(|(name, _)| *name).collect();
        let sources = names.iter().map(|name| Arc::new(SourceStatus::new(name, "simulated", ""))).collect::<Vec<_>>();
        let sinks: Vec<_> =
            plan.sinks.iter().map(|sink| Arc::new(SinkStatus::new(sink.name, "simulated", ""))).collect();
        let status = Arc::new(Status::new("sim", self.clock.tick().wall_us, sources.clone(), sinks.clone()));

        let (intakes, intakes_out) = mpsc::channel::<Intake>(INTAKES_MAX);
        let (_changes, changes_out) = mpsc::channel(1);
        let (receipts, receipts_out): (Vec<_>, Vec<_>) = names.iter().map(|_| mpsc::channel(RECEIPTS_MAX)).unzip();
        let feeds = (0u16..).zip(&sources).zip(receipts);
        let feeds = feeds.map(|((slot, status), receipts)| Feed { slot, start: 0, status: status.clone(), receipts });
        let rules = Rules { config_version, ..Rules::default() };
        let ingest = Ingest::open(
            IngestOptions {
                buffer: buffer.clone(),
                registry: registry.clone(),
                status: status.clone(),
                clock: self.clock.clone(),
                judge: Judge::new(rules, self.clock.boot_id),
                feeds: feeds.collect(),
                books: opened.books,
                pace: CommitPace {
                    interval: plan.commit_interval,
                    interval_max: 4 * plan.commit_interval,
                    daily_bytes_max: None,
                },
                config_version,
            },
            opened.snapshot,
        )
        .await?;

        let deliveries_stop = CancellationToken::new();
        let (_rendering, rendering) = watch::channel(Rendering { config_version, tags: Arc::new(tags(self.config)) });
        let view_of: ViewOf = Arc::new(|text: &str| {
            let tags = Arc::new(text.parse().ok().map(tags)?);
            Some(View { tags, route: Route::default() })
        });
        let mut deliveries = Vec::new();
        for ((index, sink), status_of) in plan.sinks.iter().enumerate().zip(sinks) {
            let mut delivery = Delivery::new(DeliveryOptions {
                name: sink.name.to_owned(),
                sink: SimulatedSink {
                    world: self.world.clone(),
                    index,
                    kind: sink.kind,
                    must_recover: true,
                    producer: 0,
                },
                status: status_of,
                gateway_status: status.clone(),
                buffer: buffer.clone(),
                registry: registry.clone(),
                clock: self.clock.clone(),
                gateway: "sim".to_owned(),
                epoch,
                rendering: rendering.clone(),
                route: RouteOptions::default(),
                pace: PaceOptions { order: sink.order, ..PaceOptions::default() },
                view_of: view_of.clone(),
                linger: sink.linger,
                run_bytes_max: sink.run_bytes_max,
                stop: deliveries_stop.clone(),
                halt: CancellationToken::new(),
            });
            // As the gateway does, before any source is heard.
            delivery.prepare().await;
            deliveries.push(self.spawner.spawn(sink.name, delivery.run()));
        }

        let mut ingest_end = self.spawner.spawn("ingest", ingest.run(intakes_out, changes_out));
        let mut source_ends = Vec::new();
        let sources_stop = CancellationToken::new();
        for ((slot, name), receipts) in (0u16..).zip(&names).zip(receipts_out) {
            let context = SourceContext {
                world: self.world.clone(),
                slot,
                name,
                registry: registry.clone(),
                intakes: intakes.clone(),
                receipts,
                clock: self.clock.clone(),
                stop: sources_stop.clone(),
            };
            source_ends.push(match plan.poll_every_us.filter(|_| *name == "bus") {
                Some(every_us) => self.spawner.spawn(name, broker::run_poller(context, every_us)),
                None => self.spawner.spawn(name, broker::run_client(context)),
            });
        }

        let mut drained_s = 0;
        while !self.stop.is_cancelled() {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => {}
                _ = &mut ingest_end => self.world.lock().violation("ingest has ended by itself".to_owned()),
                () = sleep(Duration::from_secs(1)) => {}
            }
            drained_s = if self.is_drained() { drained_s + 1 } else { 0 };
            if drained_s == DRAINED_S {
                self.end_well(&sources);
            }
        }
        // As app.rs does it.
        sources_stop.cancel();
        for end in source_ends {
            timeout(SOURCES_STOP, end).await.ok();
        }
        drop(intakes);
        let is_orderly = timeout(INGEST_STOP, ingest_end).await.is_ok();
        deliveries_stop.cancel();
        for end in deliveries {
            timeout(DELIVERIES_STOP, end).await.ok();
        }
        timeout(DELIVERIES_STOP, buffer.close()).await.ok();
        drop(owner);
        Ok(is_orderly)
    }
}

/// The tags of a configuration: another text renders the same reading otherwise.
fn tags(config: u32) -> DeviceTags {
    let own = BTreeMap::from([("config".to_owned(), config.to_string())]);
    DeviceTags((0..8).map(|device| (format!("device-{device}"), own.clone())).collect::<HashMap<_, _>>())
}
