//! What users of other gateways suffered, each as a test with the real binary. Others of the kind stand where they belong: corrupt
//! files and the cap in `disk.rs`, full disks in `full_disk.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use e2e::gateway::{Gateway, plain_binary};
use e2e::mosquitto::{Broker, Publisher};
use e2e::plant::Plant;
use e2e::receiver::{Answer, Receiver};
use e2e::syscalls::{Call, Trace};
use e2e::wait;
use forebay::block::Draft;
use forebay::block::columns::{Encoder, Frame, JudgedReading};
use forebay::buffer::{Buffer, Commit, StoreOptions};
use forebay::clock::{Clock, Tick};
use forebay::reading::{AnomalyScore, Flags, NO_HASH, PointId, Quality, TimeQuality, Value};
use forebay::site::PointKey;
use tokio::time::Instant;

/// Longer than anything in these tests takes on a busy machine.
const LIMIT: Duration = Duration::from_mins(2);

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_resends_nothing_that_was_delivered() {
    let mut plant = Plant::start("linger_ms = 50", "").await;
    plant.publish(3_000).await;
    plant.all_delivered().await;
    for _ in 0..3 {
        plant.gateway.kill_and_start_again().await;
        plant.publish(10).await;
        plant.all_delivered().await;
    }
    let sent: usize = plant.receiver.requests().iter().map(|request| request.readings).sum();
    assert_eq!(i64::try_from(sent).unwrap(), plant.published(), "each reading went over the wire once");
    plant.assert_exactly_once().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_slow_sink_starves_no_other() {
    let other = Receiver::start();
    let healthy = format!("[[sink]]\ntype = \"http\"\nname = \"other\"\nurl = \"{}\"\nlinger_ms = 50\n", other.url());
    let mut plant = Plant::start("linger_ms = 50\nbatch_max = \"4 KiB\"", &healthy).await;
    plant.receiver.answer(Answer::Slow(Duration::from_secs(2)));
    plant.publish(2_000).await;
    wait::until("the quick sink to have everything", LIMIT, || other.count("readings") == 2_000).await;
    let slow = plant.receiver.count("readings");
    assert!(slow < 1_000, "the slow one has most of it still to come, and not {slow} already");
    plant.receiver.answer(Answer::Apply);
    plant.assert_exactly_once().await;
}

/// Bytes of the files of a large backlog, and most memory of a gateway that starts on it.
const BACKLOG_BYTES: u64 = 200 << 20;
const RESIDENT_MAX_KIB: u64 = 64 * 1024;
/// Time of the backlog's readings: 2026-11-20, 00:00 UTC.
const BACKLOG_US: i64 = 1_795_132_800_000_000;

/// A commit's worth of whole blocks whose values no compression makes smaller.
fn backlog_drafts() -> Vec<Draft> {
    let mut random = fastrand::Rng::with_seed(3);
    let reading = |number: u32| JudgedReading {
        point: PointId(number % 50),
        outcome: Ok(Value::Number(random.f64())),
        observed_at_us: None,
        received_mono_us: u64::from(number) * 1_000,
        quality: Quality::Good,
        flags: Flags::default(),
        score: AnomalyScore::default(),
        message_hash: NO_HASH,
        note: None,
    };
    let readings: Vec<JudgedReading> = (0..20_000).map(reading).collect();
    let base = Tick { mono_us: 0, wall_us: BACKLOG_US, quality: TimeQuality::Ntp };
    let mut drafts = Vec::new();
    let frame = Frame { boot_id: 1, base, config_version: 1 };
    Encoder::new().unwrap().encode(&readings, &[], &frame, &mut drafts).unwrap();
    drafts
}

/// Fills a data directory with undelivered readings; returns how many.
async fn fill(data_dir: &Path) -> u64 {
    let options = StoreOptions { sinks: vec!["cloud".into()], ..StoreOptions::new(data_dir.to_owned()) };
    let (buffer, _) = Buffer::open(options, Clock::system()).await.unwrap();
    let point = |number: u32| {
        let (device, point) = (format!("mill-{number}").into(), "flow".into());
        (PointId(number), Arc::new(PointKey { device, point, unit: "m³/h".into(), source: "broker".into() }))
    };
    let drafts = backlog_drafts();
    let mut readings = 0;
    let mut points: Vec<_> = (0..50).map(point).collect();
    while buffer.usage().borrow().disk_bytes < BACKLOG_BYTES {
        let commit = Commit { points: std::mem::take(&mut points), drafts: drafts.clone(), ..Commit::default() };
        let committed = buffer.commit(commit).await.unwrap();
        readings = committed.ranges.last().unwrap().last + 1;
    }
    buffer.close().await;
    readings
}

/// The most memory that the process ever had resident, in KiB (proc(5)).
fn peak_kib(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let kib = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    };
    // Without the pages of the program itself, which a debug build has tens of megabytes of.
    kib("VmHWM:") - kib("RssFile:")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_backlog_is_not_loaded_into_memory_at_the_start() {
    let mut plant = Plant::prepare("linger_ms = 50", "").await;
    plant.receiver.take_away();
    let readings = fill(plant.gateway.data_dir()).await;
    let began = Instant::now();
    plant.gateway.start_again().await;
    let ready_after = began.elapsed();
    plant.publish(100).await;
    let next = readings + 100;
    wait::until_some("fresh readings behind the backlog", LIMIT, || async {
        (plant.gateway.status().await["buffer"]["streams"]["readings"]["next"] == next).then_some(())
    })
    .await;
    let at_start = peak_kib(plant.gateway.id());
    plant.receiver.bring_back();
    wait::until("a part of the backlog to be delivered", LIMIT, || plant.receiver.count("readings") > 20_000).await;
    let while_draining = peak_kib(plant.gateway.id());
    eprintln!(
        "{readings} readings; ready after {ready_after:?}; {at_start} KiB at the start, {while_draining} while draining"
    );
    assert!(at_start <= RESIDENT_MAX_KIB, "{at_start} KiB resident at the start");
    assert!(while_draining <= RESIDENT_MAX_KIB, "{while_draining} KiB resident while draining");
}

/// A gateway that is traced, with the broker and the receiver it works for. First, so that it ends before its peers go.
struct Traced {
    gateway: Gateway,
    broker: Broker,
    receiver: Receiver,
    publisher: Publisher,
    published: usize,
    trace: PathBuf,
    _directory: tempfile::TempDir,
}

impl Traced {
    async fn start(buffer: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (broker, receiver) = (Broker::start().await, Receiver::start());
        broker.remember("forebay-e2e-broker", &["plant/+/+"]).await;
        let config = format!(
            r#"
            [buffer]
            {buffer}
            [[source]]
            type = "mqtt"
            name = "broker"
            url = "{}"
            [[source.subscribe]]
            filter = "plant/+/+"
            device = "{{2}}"
            point = "{{3}}"
            payload = {{ format = "json", value = "/value" }}
            [[sink]]
            type = "http"
            name = "cloud"
            url = "{}"
            linger_ms = 20
            "#,
            broker.url(),
            receiver.url(),
        );
        let trace = directory.path().join("trace");
        let mut gateway = Gateway::prepare_binary(Trace::script(directory.path(), &trace, &plain_binary()), &config);
        gateway.start_again().await;
        let publisher = Publisher::connect(&broker, "plant");
        Self { gateway, broker, receiver, publisher, published: 0, trace, _directory: directory }
    }

    /// Publishes values and waits until they are delivered.
    async fn publish(&mut self, values: impl IntoIterator<Item = String>) {
        for value in values {
            self.publisher.publish("plant/mill/words", format!("{{\"value\":\"{value}\"}}")).await;
            self.published += 1;
        }
        wait::until("them to be delivered", LIMIT, || self.receiver.count("readings") == self.published).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_message_is_acknowledged_before_it_is_synchronised() {
    let mut traced = Traced::start("commit_interval_ms = 50").await;
    for burst in 1..=40 {
        traced.publish((0..burst).map(|number| number.to_string())).await;
    }
    wait::until("every acknowledgement", LIMIT, || {
        Trace::read(&traced.trace).check_acknowledgements(traced.broker.port()) == traced.published
    })
    .await;
    traced.gateway.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_chunk_is_unlinked_before_the_ledger_that_gives_it_up_is_synchronised() {
    let mut traced = Traced::start("disk_max = \"64 MiB\"\nkeep_delivered = \"0 s\"").await;
    let mut random = fastrand::Rng::with_seed(5);
    // What is delivered is not kept: a chunk goes soon after the next one is begun.
    while !Trace::read(&traced.trace).calls().iter().any(Call::removes_a_chunk) {
        assert!(traced.published < 100_000, "no chunk ever goes");
        traced.publish((0..1_000).map(|_| (0..1_000).map(|_| random.alphanumeric()).collect())).await;
    }
    traced.gateway.kill();
    assert!(Trace::read(&traced.trace).check_removals() > 0);
}
