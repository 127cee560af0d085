//! Delivery over a buffer in memory and a sink of the test's own, on a paused clock: routing, order, pace, crashes.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::disallowed_methods,
    reason = "tests; a test supervises its own tasks"
)]

use super::{Delivery, DeliveryOptions, Rendering};
use crate::block::Draft;
use crate::block::columns::{Encoder, Frame, JudgedReading};
use crate::block::records::{self, Alert, Record, RecordBody, Severity};
use crate::buffer::{Buffer, Commit, Lane, in_memory};
use crate::clock::Clock;
use crate::reading::{
    AnomalyScore, Epoch, Flags, PointId, Quality, Sequence, SequenceRange, Stream, UnixMicros, Value,
};
use crate::sinks::encode::View;
use crate::sinks::pace::PaceOptions;
use crate::sinks::route::RouteOptions;
use crate::sinks::{Offer, Outcome, RemoteCursor, Sink, SinkError};
use crate::site::{PointKey, Registry};
use crate::status::{HasHealth as _, SinkStatus, State, Status};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

const EPOCH: Epoch = Epoch(42);
const BOOT: u128 = 7;
const START_US: UnixMicros = 1_800_000_000_000_000;
/// Devices `d0`…, one point each.
const DEVICES: u32 = 1_000;

/// A buffer in memory, a clock that goes with the runtime's, and the points.
struct World {
    buffer: Buffer,
    clock: Clock,
    registry: Arc<Registry>,
    begun: Instant,
}

impl World {
    fn new() -> Self {
        let clock = Clock::manual(BOOT, 0, START_US);
        let (buffer, serving) = in_memory(EPOCH, clock.clone());
        tokio::spawn(serving);
        let begun = Instant::now();
        let hand = clock.clone();
        tokio::spawn(async move {
            loop {
                let passed = begun.elapsed().as_micros() as u64;
                hand.set(passed, START_US + passed as i64);
                sleep(Duration::from_millis(20)).await;
            }
        });
        let key =
            |n| PointKey { device: format!("d{n}").into(), point: "p".into(), unit: "".into(), source: "s".into() };
        Self { buffer, clock, registry: Arc::new(Registry::restore((0..DEVICES).map(key).collect())), begun }
    }

    /// Makes readings of these devices durable, taken `age` ago.
    async fn read(&self, devices: impl IntoIterator<Item = u32>, age: Duration) {
        let base = self.clock.tick();
        let taken_us = base.mono_us.saturating_sub(age.as_micros() as u64);
        // What is older than this boot is another boot's.
        let (boot_id, base) = if u128::from(base.mono_us) >= age.as_micros() {
            (BOOT, base)
        } else {
            (BOOT + 1, crate::clock::Tick { wall_us: base.wall_us - age.as_micros() as i64, ..base })
        };
        let readings: Vec<JudgedReading> = devices
            .into_iter()
            .map(|device| JudgedReading {
                point: PointId(device % DEVICES),
                outcome: Ok(Value::Number(20.0)),
                observed_at_us: None,
                received_mono_us: if boot_id == BOOT { taken_us } else { base.mono_us },
                quality: Quality::Good,
                flags: Flags::default(),
                score: AnomalyScore::default(),
                message_hash: 0,
                note: None,
            })
            .collect();
        let mut drafts = Vec::new();
        let frame = Frame { boot_id, base, config_version: 1 };
        Encoder::new().unwrap().encode(&readings, &[], &frame, &mut drafts).unwrap();
        self.commit(drafts).await;
    }

    async fn alert(&self, id: u64) {
        let alert = Alert {
            rule: "range".to_owned(),
            severity: Severity::Warning,
            subject: "plant".to_owned(),
            message: "something".to_owned(),
            value: None,
            raised: true,
        };
        let record = Record { id, time_us: START_US, body: RecordBody::Alert(alert) };
        let frame = Frame { boot_id: BOOT, base: self.clock.tick(), config_version: 1 };
        self.commit(records::encode(&[record], &frame).unwrap()).await;
    }

    async fn commit(&self, drafts: Vec<Draft>) {
        self.buffer.commit(Commit { drafts, ..Commit::default() }).await.unwrap();
    }

    fn next(&self, stream: Stream) -> Sequence {
        self.buffer.ends().borrow()[stream.index()].next
    }

    async fn lane(&self, stream: Stream) -> Lane {
        let lane = self.buffer.lane("cloud", stream).await.unwrap();
        assert!(lane.closes(self.next(stream)), "the books close: {lane:?}");
        lane
    }

    /// Starts delivery to a sink with these options of the file.
    fn deliver(&self, far: &Arc<Mutex<Far>>, options: &str) -> Running {
        let status = Arc::new(SinkStatus::new("cloud", "test", "nowhere"));
        let stop = CancellationToken::new();
        let delivery = Delivery::new(DeliveryOptions {
            name: "cloud".to_owned(),
            sink: Fake { far: far.clone(), must_recover: true },
            status: status.clone(),
            gateway_status: Arc::new(Status::new("test", START_US, Vec::new(), vec![status.clone()])),
            buffer: self.buffer.clone(),
            registry: self.registry.clone(),
            clock: self.clock.clone(),
            gateway: "g".to_owned(),
            epoch: EPOCH,
            rendering: watch::channel(Rendering { config_version: 1, tags: Arc::default() }).1,
            route: toml::from_str::<RouteOptions>(options).unwrap(),
            pace: toml::from_str::<PaceOptions>(options).unwrap(),
            view_of: Arc::new(|_| None::<View>),
            linger: Duration::from_millis(100),
            run_bytes_max: 64 * 1024,
            stop: stop.clone(),
            halt: CancellationToken::new(),
        });
        Running { task: tokio::spawn(delivery.run()), status, stop }
    }
}

struct Running {
    task: JoinHandle<()>,
    status: Arc<SinkStatus>,
    stop: CancellationToken,
}

impl Running {
    async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

/// A record as it arrived.
#[derive(Clone, Debug)]
struct Arrival {
    stream: Stream,
    sequence: Sequence,
    device: String,
    history: bool,
    batch: SequenceRange,
    batch_records: u64,
    after: Duration,
}

/// When the gateway dies in an offer.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Death {
    BeforeItArrived,
    AfterItArrived,
}

/// The other end.
#[derive(Default)]
struct Far {
    arrivals: Vec<Arrival>,
    offers: u64,
    /// Bytes of JSON a second.
    bandwidth: Option<f64>,
    is_down: bool,
    /// Keeps cursors, as Kafka does.
    cursors: Option<BTreeMap<Stream, RemoteCursor>>,
    /// The offer at which the gateway dies.
    death: Option<(u64, Death)>,
    refuses: Option<Stream>,
    begun: Option<Instant>,
}

struct Fake {
    far: Arc<Mutex<Far>>,
    must_recover: bool,
}

impl Sink for Fake {
    async fn recover(&mut self, _from: Option<i64>) -> Result<Vec<(Stream, RemoteCursor)>, SinkError> {
        self.must_recover = false;
        Ok(self.far.lock().unwrap().cursors.clone().into_iter().flatten().collect())
    }

    async fn deliver(&mut self, offer: &Offer<'_>) -> Outcome {
        let bytes: usize = offer.records.iter().map(|record| record.json.len()).sum();
        let (wait, death) = {
            let mut far = self.far.lock().unwrap();
            far.offers += 1;
            if far.is_down {
                return Outcome::Retry { after: None, reason: "down".to_owned() };
            }
            if far.refuses == Some(offer.stream) {
                return Outcome::Refused { reason: "not mine".to_owned() };
            }
            let death = far.death.filter(|(at, _)| *at == far.offers).map(|(_, death)| death);
            (far.bandwidth.map(|rate| Duration::from_secs_f64(bytes as f64 / rate)), death)
        };
        if death == Some(Death::BeforeItArrived) {
            std::future::pending::<()>().await;
        }
        sleep(wait.unwrap_or(Duration::from_millis(1))).await;
        {
            let mut far = self.far.lock().unwrap();
            let after = far.begun.map(|begun| begun.elapsed()).unwrap_or_default();
            for record in offer.records {
                far.arrivals.push(arrival(offer.stream, &record.json, after));
            }
            if let Some(cursors) = &mut far.cursors {
                let (epoch, cursor, run_mark) = (offer.epoch, offer.cursor_after.clone(), offer.run_mark);
                cursors.insert(offer.stream, RemoteCursor { replay: None, epoch, cursor, run_mark, position: 1 });
            }
        }
        if death == Some(Death::AfterItArrived) {
            std::future::pending::<()>().await;
        }
        Outcome::Delivered { remote_position: None }
    }

    fn must_recover(&self) -> bool {
        self.must_recover
    }

    fn bytes_sent(&self) -> u64 {
        let far = self.far.lock().unwrap();
        // A byte of JSON is a byte of the link; every record is about as long.
        far.arrivals.len() as u64 * 300
    }
}

fn arrival(stream: Stream, json: &[u8], after: Duration) -> Arrival {
    let json: serde_json::Value = serde_json::from_slice(json).unwrap();
    let (_, range) = json["batch"].as_str().unwrap().split_once('/').unwrap();
    let (first, last) = range.split_once('-').unwrap();
    Arrival {
        stream,
        sequence: json["seq"].as_u64().unwrap(),
        device: json["device"].as_str().unwrap_or_default().to_owned(),
        history: json["lane"] == "history",
        batch: SequenceRange { first: first.parse().unwrap(), last: last.parse().unwrap() },
        batch_records: json["batch_records"].as_u64().unwrap(),
        after,
    }
}

fn far() -> Arc<Mutex<Far>> {
    Arc::new(Mutex::new(Far { begun: Some(Instant::now()), ..Far::default() }))
}

fn arrivals(far: &Mutex<Far>, stream: Stream) -> Vec<Arrival> {
    far.lock().unwrap().arrivals.iter().filter(|arrival| arrival.stream == stream).cloned().collect()
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let limit = Instant::now() + Duration::from_secs(3_600);
    while !is_so() {
        assert!(Instant::now() < limit, "{what} did not come about");
        sleep(Duration::from_millis(50)).await;
    }
}

/// Every batch brought as many records as it says, and together they cover everything up to `end`; no record came twice.
fn assert_whole(arrivals: &[Arrival], end: Sequence) {
    let mut seen = BTreeSet::new();
    let mut batches: BTreeMap<SequenceRange, (u64, u64)> = BTreeMap::new();
    for arrival in arrivals {
        assert!(seen.insert(arrival.sequence), "{} came twice", arrival.sequence);
        let (came, said) = batches.entry(arrival.batch).or_insert((0, arrival.batch_records));
        *came += 1;
        assert_eq!(*said, arrival.batch_records);
        assert!((arrival.batch.first..=arrival.batch.last).contains(&arrival.sequence));
    }
    let mut covered = 0;
    for (batch, (came, said)) in batches {
        assert_eq!(came, said, "batch {batch}");
        assert!(batch.first <= covered, "nothing says what became of {covered} to {}", batch.first);
        covered = covered.max(batch.last + 1);
    }
    assert_eq!(covered, end);
}

/// In order per device within each lane.
fn assert_in_order(arrivals: &[Arrival]) {
    let mut last = BTreeMap::new();
    for arrival in arrivals {
        let before = last.insert((arrival.device.clone(), arrival.history), arrival.sequence);
        assert!(before.is_none_or(|before| before < arrival.sequence), "{arrival:?} after {before:?}");
    }
}

const LIVE: Duration = Duration::ZERO;
const OLD: Duration = Duration::from_secs(3_600);

#[tokio::test(start_paused = true)]
async fn a_sink_that_wants_one_device_in_a_thousand_costs_few_writes_and_its_batches_say_so() {
    let world = World::new();
    for _ in 0..200 {
        world.read(0..500, LIVE).await;
    }
    world.read([7, 8], LIVE).await;
    let far = far();
    let running = world.deliver(&far, "devices = [\"d7\"]");
    until("all of d7", || arrivals(&far, Stream::Readings).len() == 201).await;
    // Hours of nothing for it, then one more: nothing is written for each of the commits.
    let before = world.lane(Stream::Readings).await.revision;
    for _ in 0..300 {
        world.read([8, 9], LIVE).await;
        sleep(Duration::from_millis(300)).await;
    }
    let writes = world.lane(Stream::Readings).await.revision - before;
    assert!(writes <= 12, "{writes} writes in 90 s without a record for it");
    world.read([7], LIVE).await;
    until("the last of d7", || arrivals(&far, Stream::Readings).len() == 202).await;
    running.end().await;
    let end = world.next(Stream::Readings);
    let lane = world.lane(Stream::Readings).await;
    assert_eq!((lane.delivered, lane.filtered, lane.undelivered(end)), (202, end - 202, 0));
    assert_whole(&arrivals(&far, Stream::Readings), end);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_not_routed_to_a_sink_has_no_lane_and_a_new_sink_can_begin_now() {
    let world = World::new();
    world.read(0..10, LIVE).await;
    world.alert(1).await;
    let far = far();
    let running = world.deliver(&far, "streams = [\"readings\"]\nstart = \"now\"");
    sleep(Duration::from_secs(1)).await;
    world.read([1], LIVE).await;
    until("the new one", || arrivals(&far, Stream::Readings).len() == 1).await;
    running.end().await;
    let lane = world.lane(Stream::Readings).await;
    assert_eq!((lane.since, lane.delivered), (10, 1));
    assert_eq!(arrivals(&far, Stream::Alerts).len(), 0);
}

#[tokio::test(start_paused = true)]
async fn live_readings_arrive_within_a_second_while_a_long_backlog_follows() {
    let world = World::new();
    for _ in 0..200 {
        world.read(0..500, OLD).await;
    }
    let backlog = world.next(Stream::Readings);
    let far = far();
    // 100 000 readings of 300 bytes take more than a minute of this link; what is live needs a fifth of it.
    far.lock().unwrap().bandwidth = Some(400_000.0);
    let running = world.deliver(&far, "order = \"live_first\"");
    // The split comes with the first look; readings go on from there.
    sleep(Duration::from_secs(2)).await;
    let mut taken = BTreeMap::new();
    for round in 0..400_u32 {
        let first = world.next(Stream::Readings);
        world.read((0..50).map(|n| n + round % 10), LIVE).await;
        for sequence in first..world.next(Stream::Readings) {
            taken.insert(sequence, world.begun.elapsed());
        }
        if round % 40 == 0 {
            world.alert(u64::from(round)).await;
        }
        sleep(Duration::from_millis(200)).await;
    }
    let end = world.next(Stream::Readings);
    until("everything", || arrivals(&far, Stream::Readings).len() as u64 == end).await;
    running.end().await;
    let arrived = arrivals(&far, Stream::Readings);
    assert_whole(&arrived, end);
    assert_in_order(&arrived);
    let history = arrived.iter().filter(|arrival| arrival.history).count() as u64;
    assert!(history <= backlog && history > backlog - 1_000, "{history} of {backlog} are history");
    let mut latencies: Vec<Duration> = arrived
        .iter()
        .filter_map(|arrival| Some(arrival.after.saturating_sub(*taken.get(&arrival.sequence)?)))
        .collect();
    latencies.sort_unstable();
    let p99 = latencies[latencies.len() * 99 / 100];
    assert!(p99 < Duration::from_secs(1), "p99 {p99:?}, p50 {:?}", latencies[latencies.len() / 2]);
    assert_eq!(arrivals(&far, Stream::Alerts).len(), 10);
}

#[tokio::test(start_paused = true)]
async fn history_keeps_to_the_links_budget_and_live_readings_do_not_wait_for_it() {
    let world = World::new();
    for _ in 0..40 {
        world.read(0..500, OLD).await;
    }
    let far = far();
    let running = world.deliver(&far, "order = \"live_first\"\nlink = { bytes_per_second = \"30 KiB\" }");
    sleep(Duration::from_secs(60)).await;
    let sent = arrivals(&far, Stream::Readings).len() as u64 * 300;
    assert!((30_720 * 50..30_720 * 65).contains(&sent), "{sent} bytes in 60 s");
    let before = world.begun.elapsed();
    world.read([1], LIVE).await;
    until("the live one", || arrivals(&far, Stream::Readings).iter().any(|arrival| arrival.sequence == 20_000)).await;
    let arrived = arrivals(&far, Stream::Readings);
    let live = arrived.iter().find(|arrival| arrival.sequence == 20_000).unwrap();
    assert!(!live.history && live.after.saturating_sub(before) < Duration::from_secs(1), "{live:?}");
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_days_budget_stops_history_survives_a_restart_and_leaves_live_readings_alone() {
    let world = World::new();
    for _ in 0..40 {
        world.read(0..500, OLD).await;
    }
    let far = far();
    let options = "order = \"live_first\"\nlink = { bytes_per_day = \"1 MiB\" }";
    for _ in 0..3 {
        let running = world.deliver(&far, options);
        sleep(Duration::from_secs(60)).await;
        let sent = arrivals(&far, Stream::Readings).len() as u64 * 300;
        assert!((900_000..1_200_000).contains(&sent), "{sent} bytes of 1 MiB");
        assert!(running.status.budget_left_bytes.get() < 150_000);
        running.end().await;
    }
    let before = arrivals(&far, Stream::Readings).len();
    let running = world.deliver(&far, options);
    world.read([1], LIVE).await;
    until("the live one", || arrivals(&far, Stream::Readings).len() > before).await;
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_backlog_is_seen_before_the_sink_is_reached() {
    let world = World::new();
    world.read(0..10, OLD).await;
    let far = far();
    far.lock().unwrap().is_down = true;
    let running = world.deliver(&far, "");
    sleep(Duration::from_secs(120)).await;
    let books = running.status.lane(Stream::Readings);
    assert_eq!(books.undelivered, 10);
    assert!(books.oldest_us.is_some_and(|oldest_us| oldest_us <= START_US - 3_000_000_000), "{books:?}");
    let attempts = far.lock().unwrap().offers;
    assert!((20..200).contains(&attempts), "{attempts} attempts in two minutes");
    far.lock().unwrap().is_down = false;
    until("all", || arrivals(&far, Stream::Readings).len() == 10).await;
    until("live", || running.status.health().state == State::Live).await;
    assert_eq!(running.status.lane(Stream::Readings).oldest_us, None);
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn many_lanes_of_a_dead_sink_probe_it_one_at_a_time() {
    let world = World::new();
    world.read(0..10, LIVE).await;
    world.alert(1).await;
    let far = far();
    far.lock().unwrap().is_down = true;
    let running = world.deliver(&far, "");
    sleep(Duration::from_secs(60)).await;
    let before = far.lock().unwrap().offers;
    sleep(Duration::from_secs(300)).await;
    let attempts = far.lock().unwrap().offers - before;
    // One wait of at most 5 s, 2.75 s in the middle, for each attempt, however many lanes wait.
    assert!((60..180).contains(&attempts), "{attempts} attempts in five minutes");
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_only_record_of_a_stream_is_a_dead_letter_where_the_sink_takes_others() {
    let world = World::new();
    let far = far();
    far.lock().unwrap().refuses = Some(Stream::Alerts);
    let running = world.deliver(&far, "streams = [\"alerts\", \"readings\", \"dead-letters\"]");
    world.read(0..10, LIVE).await;
    until("readings", || arrivals(&far, Stream::Readings).len() == 10).await;
    world.alert(1).await;
    until("the letter", || arrivals(&far, Stream::DeadLetters).len() == 1).await;
    // An endpoint that takes no alerts at all is found out.
    for id in 2..40 {
        world.alert(id).await;
        sleep(Duration::from_secs(90)).await;
    }
    let lane = world.lane(Stream::Alerts).await;
    assert!(lane.refused <= 17, "{lane:?}");
    assert_eq!(running.status.health().state, State::Degraded);
    running.end().await;
}

/// A backlog and live readings to a sink with a cursor of its own; the gateway dies in some offers. Everything arrives once.
async fn survive(deaths: Vec<(u64, Death)>, options: &str, keeps_cursors: bool) {
    let world = World::new();
    for _ in 0..4 {
        world.read(0..500, OLD).await;
    }
    world.alert(1).await;
    let far = far();
    far.lock().unwrap().cursors = keeps_cursors.then(BTreeMap::new);
    for (at, death) in deaths {
        far.lock().unwrap().death = Some((at, death));
        let running = world.deliver(&far, options);
        for _ in 0..30 {
            world.read(0..20, LIVE).await;
            sleep(Duration::from_millis(100)).await;
        }
        running.task.abort();
        running.task.await.ok();
        // The next one waits for its offer, too.
        let mut far = far.lock().unwrap();
        far.offers = 0;
        far.death = None;
    }
    let running = world.deliver(&far, options);
    // The last records are for everyone, so that the last batches reach to the end.
    sleep(Duration::from_secs(20)).await;
    world.read([7], LIVE).await;
    sleep(Duration::from_secs(20)).await;
    running.end().await;
    let end = world.next(Stream::Readings);
    let lane = world.lane(Stream::Readings).await;
    assert_eq!(lane.undelivered(end), 0, "{lane:?}");
    let arrived = arrivals(&far, Stream::Readings);
    assert_eq!((lane.delivered, lane.gaps), (arrived.len() as u64, 0), "{lane:?}");
    assert_whole(&arrived, end);
    assert_in_order(&arrived);
}

#[tokio::test(start_paused = true)]
async fn a_death_at_any_offer_neither_loses_nor_repeats_where_live_readings_go_first() {
    for at in (1..25).step_by(4) {
        for death in [Death::BeforeItArrived, Death::AfterItArrived] {
            survive(vec![(at, death), (at / 2 + 1, death)], "order = \"live_first\"", true).await;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_deaths_leave_whole_batches_whatever_is_routed(
        deaths in prop::collection::vec((1_u64..20, any::<bool>()), 0..5),
        live_first: bool, routed: bool,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let death = |arrived| if arrived { Death::AfterItArrived } else { Death::BeforeItArrived };
        let deaths = deaths.into_iter().map(|(at, arrived)| (at, death(arrived))).collect();
        let order = if live_first { "order = \"live_first\"\n" } else { "" };
        let route = if routed { "devices = [\"d7\", \"d40*\"]" } else { "" };
        runtime.block_on(survive(deaths, &format!("{order}{route}"), true));
    }
}
