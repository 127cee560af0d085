//! Sources and sinks as they run: started and stopped by name, so that a reload leaves alone what it does not change.

use super::plan::Plan;
use super::supervisor::Supervisor;
use crate::buffer::{Buffer, Replay, ReplayState};
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::delivery::{Delivery, DeliveryOptions, Rendering, ViewOf};
use crate::ingest::{Change, Feed};
use crate::reading::Epoch;
use crate::sinks::encode::View;
use crate::sinks::{AnySink, SinkOptions};
use crate::site::Registry;
use crate::sources::{INTAKES_MAX, Intake, Receipt, SourceContext, SourceOptions};
use crate::status::{SinkStatus, SourceStatus, Status};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// Batches of receipts that may wait for a source: as many as there can be intakes under way, so that none is dropped.
const RECEIPTS_MAX: usize = 4 * INTAKES_MAX;
/// Why a sink delivers nothing while a change is on trial.
const HELD: &str = "it waits for the change on trial to be kept or taken back, since what went to another place or was passed over could not be taken back; nothing is lost meanwhile";
/// Most names of sources in the life of a process: each keeps its slot.
const SLOTS_MAX: usize = u16::MAX as usize;

/// What every source and sink works with.
#[derive(Debug)]
pub(super) struct Wiring {
    pub(super) buffer: Buffer,
    pub(super) registry: Arc<Registry>,
    pub(super) status: Arc<Status>,
    pub(super) clock: Clock,
    /// The gateway's id.
    pub(super) gateway: Arc<str>,
    pub(super) epoch: Epoch,
}

/// The sources and sinks.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) wiring: Wiring,
    /// Ingest goes on while this is held, also without any source: troubles become alerts.
    pub(super) intakes: mpsc::Sender<Intake>,
    pub(super) changes: mpsc::Sender<Change>,
    pub(super) rendering: watch::Sender<Rendering>,
    pub(super) sources: Supervisor,
    pub(super) deliveries: Supervisor,
    /// Slot and number of starts of every source that there ever was, by name.
    slots: HashMap<String, (u16, u32)>,
    source_status: HashMap<String, Arc<SourceStatus>>,
    sink_status: HashMap<String, Arc<SinkStatus>>,
}

/// A source that ingest knows and that is not started yet.
#[derive(Debug)]
pub(super) struct Admitted {
    options: SourceOptions,
    slot: u16,
    start: u32,
    status: Arc<SourceStatus>,
    receipts: mpsc::Receiver<Vec<Receipt>>,
}

impl Parts {
    /// None yet.
    pub(super) fn new(
        wiring: Wiring,
        intakes: mpsc::Sender<Intake>,
        changes: mpsc::Sender<Change>,
        rendering: Rendering,
    ) -> Self {
        Self {
            wiring,
            intakes,
            changes,
            rendering: watch::Sender::new(rendering),
            sources: Supervisor::new("source"),
            deliveries: Supervisor::new("delivery"),
            slots: HashMap::new(),
            source_status: HashMap::new(),
            sink_status: HashMap::new(),
        }
    }

    /// Gives sources their slots; the feeds are for ingest, which must know them before they start.
    pub(super) fn admit_sources<'a>(
        &mut self,
        sources: impl IntoIterator<Item = &'a SourceOptions>,
    ) -> (Vec<Feed>, Vec<Admitted>) {
        let admit = |options: &SourceOptions| {
            let next = u16::try_from(self.slots.len()).unwrap_or(u16::MAX);
            let (slot, starts) = self.slots.entry(options.name().to_owned()).or_insert((next, 0));
            *starts = starts.wrapping_add(1);
            let (slot, start) = (*slot, *starts);
            let address = config::redacted_toml(options.address());
            let status = Arc::new(SourceStatus::new(options.name(), options.kind(), &address));
            self.source_status.insert(options.name().to_owned(), status.clone());
            let (receipts, receipts_out) = mpsc::channel(RECEIPTS_MAX);
            let admitted =
                Admitted { options: options.clone(), slot, start, status: status.clone(), receipts: receipts_out };
            (Feed { slot, start, status, receipts }, admitted)
        };
        sources.into_iter().map(admit).unzip()
    }

    /// Whether so many further sources of new names find a slot.
    pub(super) fn has_slots(&self, names: usize) -> bool {
        self.slots.len() + names <= SLOTS_MAX
    }

    /// The slot of a source that was there before.
    pub(super) fn slot(&self, name: &str) -> Option<u16> {
        self.slots.get(name).map(|(slot, _)| *slot)
    }

    /// Starts sources that ingest knows.
    pub(super) fn start_sources(&mut self, sources: Vec<Admitted>) {
        for Admitted { options, slot, start, status, receipts } in sources {
            let Wiring { registry, status: all, clock, gateway, .. } = &self.wiring;
            let stop = self.sources.stop_token().child_token();
            let context = SourceContext {
                slot,
                start,
                registry: registry.clone(),
                intakes: self.intakes.clone(),
                receipts,
                status,
                all: all.clone(),
                clock: clock.clone(),
                stop: stop.clone(),
                gateway: gateway.clone(),
            };
            let name = options.name().to_owned();
            self.sources.spawn_part(&name, stop, options.run(context));
        }
    }

    /// Starts sinks; each goes on where the ledger says. Those that are `held` deliver nothing until a change is kept or taken back.
    pub(super) async fn start_sinks(&mut self, sinks: Vec<(SinkOptions, AnySink)>, held: &BTreeSet<String>) {
        for (options, sink) in sinks {
            let name = options.name().to_owned();
            let address = config::redacted_toml(&options.address());
            let status = Arc::new(SinkStatus::new(&name, options.kind(), &address));
            self.sink_status.insert(name.clone(), status.clone());
            let halt = CancellationToken::new();
            let Wiring { buffer, registry, status: gateway_status, clock, gateway, epoch } = &self.wiring;
            let mut delivery = Delivery::new(DeliveryOptions {
                name: name.clone(),
                sink,
                status,
                gateway_status: gateway_status.clone(),
                buffer: buffer.clone(),
                registry: registry.clone(),
                clock: clock.clone(),
                gateway: gateway.to_string(),
                epoch: *epoch,
                rendering: self.rendering.subscribe(),
                route: options.route().clone(),
                pace: options.pace().clone(),
                view_of: view_of_text(name.clone()),
                linger: options.linger(),
                run_bytes_max: options.run_bytes_max(),
                stop: self.deliveries.stop_token(),
                halt: halt.clone(),
            });
            // Before the page shows it: a backlog must not look empty while its delivery starts.
            delivery.prepare().await;
            if held.contains(&name) {
                self.deliveries.spawn_part(&name, halt, delivery.hold(HELD));
            } else {
                self.deliveries.spawn_part(&name, halt, delivery.run());
            }
        }
    }

    /// Stops sources; what they brought is taken in, and what is on disk by then is acknowledged.
    pub(super) async fn stop_sources(&mut self, names: &[&str], limit: Duration) {
        self.sources.stop_parts(names, limit).await;
        for name in names {
            self.source_status.remove(*name);
            self.clear_troubles(&format!("source/{name}/"));
        }
    }

    /// Stops sinks after the attempt under way.
    pub(super) async fn stop_sinks(&mut self, names: &[&str], limit: Duration) {
        self.deliveries.stop_parts(names, limit).await;
        for name in names {
            self.sink_status.remove(*name);
            let now_us = self.wiring.clock.tick().wall_us;
            self.wiring.status.clear(&format!("sink/{name}"), now_us);
            self.clear_troubles(&format!("sink/{name}/"));
        }
    }

    /// Ends the replays of sinks that are no more: nobody would take them further, and they would count as under way for ever.
    pub(super) async fn end_replays(&self, plan: &Plan) {
        let Wiring { buffer, clock, .. } = &self.wiring;
        let replays = buffer.replays().borrow().clone();
        let is_left = |replay: &Replay| replay.is_running() && !plan.knows_sink(&replay.sink);
        for mut replay in replays.into_iter().filter(is_left) {
            tracing::warn!(replay = replay.id, sink = replay.sink, "a replay has ended early: its sink is gone");
            replay.state = ReplayState::Failed(format!("there is no sink {:?} any more", replay.sink));
            (replay.run, replay.trouble, replay.ended_us) = (None, None, Some(clock.tick().wall_us));
            if let Err(error) = buffer.keep_replay(replay).await {
                tracing::error!(%error, "a replay of a sink that is gone could not be ended; the next start tries again");
            }
        }
    }

    /// Puts the sources and sinks where page and metrics find them, in the order of the configuration.
    pub(super) fn show(&self, config: &Config) {
        let sources = config.source_names().filter_map(|name| self.source_status.get(name).cloned());
        self.wiring.status.set_sources(sources.collect());
        let sinks = config.sink_names().filter_map(|name| self.sink_status.get(name).cloned());
        self.wiring.status.set_sinks(sinks.collect());
    }

    /// Returns when one has ended though nobody asked.
    pub(super) async fn ended(&mut self) -> String {
        tokio::select! {
            part = self.sources.ended() => part,
            part = self.deliveries.ended() => part,
        }
    }

    fn clear_troubles(&self, prefix: &str) {
        self.wiring.status.clear_all(prefix, self.wiring.clock.tick().wall_us);
    }
}

/// What an older configuration says of a sink: a run that it rendered is rendered the same after a change.
fn view_of_text(name: String) -> ViewOf {
    Arc::new(move |text: &str| -> Option<View> {
        let config = config::parse("an older configuration", text.to_owned()).ok()?.config;
        let sink = config.sink.iter().find(|sink| sink.name() == name)?;
        Some(View { tags: Arc::new(config.device_tags()), route: sink.route().route() })
    })
}
