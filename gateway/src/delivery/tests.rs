//! Delivery over a buffer in memory and a sink of the test's own, on a paused clock: routing, order, pace, crashes.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::disallowed_methods,
    reason = "tests; a test supervises its own tasks"
)]

mod deaths;
mod order;

use super::{Delivery, DeliveryOptions, Rendering};
use crate::block::Draft;
use crate::block::columns::{Encoder, Frame, JudgedReading};
use crate::block::records::{self, Alert, Record, RecordBody, Severity};
use crate::buffer::{Buffer, Commit, Lane, in_memory, in_small_memory};
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
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, advance, sleep};
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
        Self::over(buffer, clock)
    }

    /// With a buffer that holds so many bytes.
    fn with_room(bytes_max: u64) -> Self {
        let clock = Clock::manual(BOOT, 0, START_US);
        let (buffer, serving) = in_small_memory(EPOCH, clock.clone(), bytes_max);
        tokio::spawn(serving);
        Self::over(buffer, clock)
    }

    fn over(buffer: Buffer, clock: Clock) -> Self {
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
        let gateway_status = Arc::new(Status::new("test", START_US, Vec::new(), vec![status.clone()]));
        let stop = CancellationToken::new();
        let delivery = Delivery::new(DeliveryOptions {
            name: "cloud".to_owned(),
            sink: Fake { far: far.clone(), must_recover: true },
            status: status.clone(),
            gateway_status: gateway_status.clone(),
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
        Running { task: tokio::spawn(delivery.run()), status, gateway_status, stop }
    }
}

struct Running {
    task: JoinHandle<()>,
    status: Arc<SinkStatus>,
    gateway_status: Arc<Status>,
    stop: CancellationToken,
}

impl Running {
    /// What a person reads of the troubles, the gravest first.
    fn words(&self) -> Vec<String> {
        let troubles = self.gateway_status.troubles().into_iter();
        troubles.map(|trouble| format!("{}. {}", trouble.what, trouble.advice)).collect()
    }

    async fn die(self) {
        self.task.abort();
        self.task.await.ok();
    }

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
async fn a_loss_is_told_for_a_day_and_nobody_says_meanwhile_that_nothing_is_lost() {
    let world = World::with_room(64 * 1024);
    world.read(0..500, LIVE).await;
    let far = far();
    far.lock().unwrap().is_down = true;
    let running = world.deliver(&far, "");
    sleep(Duration::from_secs(60)).await;
    let waits = "Nothing is lost: it waits on the board and is sent when the other end takes it again";
    assert_eq!(running.words(), [format!("Nothing arrives: down. {waits}")]);
    while world.lane(Stream::Readings).await.gaps == 0 {
        world.read(0..500, LIVE).await;
    }
    sleep(Duration::from_secs(60)).await;
    let lost = world.lane(Stream::Readings).await.gaps;
    let words = running.words();
    let (count, rest) = words[0].split_once(" readings").unwrap();
    assert_eq!(count.replace(' ', ""), lost.to_string());
    assert!(rest.starts_with(" were lost before cloud had them. ") && rest.contains("buffer.disk_max"), "{rest}");
    let waiting = words.iter().find(|words| words.starts_with("Nothing arrives: down. ")).unwrap();
    assert!(waiting.contains(&format!("{count} records were lost since the start; the rest waits")), "{waiting}");
    far.lock().unwrap().is_down = false;
    until("the rest", || arrivals(&far, Stream::Readings).len() as u64 == world.next(Stream::Readings) - lost).await;
    advance(Duration::from_hours(23)).await;
    sleep(Duration::from_secs(2)).await;
    assert_eq!(running.words().len(), 1, "{:?}", running.words());
    advance(Duration::from_hours(2)).await;
    sleep(Duration::from_secs(2)).await;
    assert_eq!(running.words(), Vec::<String>::new());
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
