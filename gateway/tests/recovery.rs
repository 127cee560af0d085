//! Recovery: what a sink itself remembers against what the ledger has; where they cannot both be right, nothing is offered.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests; the test is the supervisor of its one task")]

use forebay::block::columns::Frame;
use forebay::block::records::{Alert, Record, RecordBody, Severity};
use forebay::block::{Draft, records};
use forebay::buffer::{Buffer, Commit, Cursor, StoreOptions};
use forebay::clock::{Clock, Tick};
use forebay::delivery::{Delivery, DeliveryOptions, Rendering};
use forebay::reading::{Epoch, Stream, TimeQuality};
use forebay::sinks::pace::PaceOptions;
use forebay::sinks::route::RouteOptions;
use forebay::sinks::{Offer, Outcome, RemoteCursor, Sink, SinkError};
use forebay::site::Registry;
use forebay::status::{HasHealth as _, SinkStatus, State, Status};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const NOON_US: i64 = 1_790_000_000_000_000;
/// Steps of 20 s that a test lets pass at most: a paused sink looks again once a minute.
const STEPS_MAX: usize = 1_000;

/// What the other end remembers and has been offered, shared with the test.
#[derive(Debug, Default)]
struct Far {
    cursor: Mutex<Option<RemoteCursor>>,
    recoveries: AtomicU64,
    offers: AtomicU64,
}

/// A sink that keeps a cursor, as Kafka does.
struct Remembering(Arc<Far>, bool);

impl Sink for Remembering {
    async fn recover(&mut self, _from: Option<i64>) -> Result<Vec<(Stream, RemoteCursor)>, SinkError> {
        self.0.recoveries.fetch_add(1, Ordering::SeqCst);
        self.1 = false;
        Ok(self.0.cursor.lock().unwrap().iter().map(|cursor| (Stream::Alerts, cursor.clone())).collect())
    }

    async fn deliver(&mut self, _offer: &Offer<'_>) -> Outcome {
        self.0.offers.fetch_add(1, Ordering::SeqCst);
        Outcome::Delivered { remote_position: Some(1) }
    }

    fn must_recover(&self) -> bool {
        self.1
    }
}

fn alert(number: u64) -> Vec<Draft> {
    let alert = Alert {
        rule: "health".to_owned(),
        severity: Severity::Warning,
        subject: "plant".to_owned(),
        message: "something".to_owned(),
        value: None,
        raised: true,
    };
    let record = Record { id: number, time_us: NOON_US, body: RecordBody::Alert(alert) };
    let base = Tick { mono_us: 1_000_000, wall_us: NOON_US, quality: TimeQuality::Ntp };
    records::encode(&[record], &Frame { boot_id: 7, base, config_version: 1 }).unwrap()
}

/// A buffer with ten alerts, and delivery of them to a sink that remembers `remote(epoch)`.
async fn ten_alerts_and(remote: impl FnOnce(Epoch) -> RemoteCursor) -> (tempfile::TempDir, Arc<Far>, Arc<SinkStatus>) {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::manual(7, 1_000_000, NOON_US);
    let options = StoreOptions {
        disk_bytes_max: 64 << 20,
        keep_delivered_us: 0,
        sinks: vec!["cloud".into()],
        ..StoreOptions::new(dir.path().to_owned())
    };
    let (buffer, opened) = Buffer::open(options, clock.clone()).await.unwrap();
    for number in 0..10 {
        buffer.commit(Commit { drafts: alert(number), ..Commit::default() }).await.unwrap();
    }
    let epoch = opened.epoch.unwrap();
    let far = Arc::new(Far { cursor: Mutex::new(Some(remote(epoch))), ..Far::default() });
    let status = Arc::new(SinkStatus::new("cloud", "kafka", "127.0.0.1"));
    let delivery = Delivery::new(DeliveryOptions {
        name: "cloud".to_owned(),
        sink: Remembering(far.clone(), true),
        status: status.clone(),
        gateway_status: Arc::new(Status::new("test", NOON_US, Vec::new(), vec![status.clone()])),
        buffer,
        registry: Arc::new(Registry::restore(Vec::new())),
        clock,
        gateway: "plant-7".to_owned(),
        epoch,
        rendering: watch::channel(Rendering { config_version: 1, tags: Arc::default() }).1,
        view_of: Arc::new(|_| None),
        route: RouteOptions::default(),
        pace: PaceOptions::default(),
        linger: Duration::ZERO,
        run_bytes_max: 1 << 20,
        stop: CancellationToken::new(),
        halt: CancellationToken::new(),
    });
    tokio::spawn(delivery.run());
    (dir, far, status)
}

/// Lets time pass until delivery has done something three times.
async fn let_time_pass(far: &Far) {
    // The buffer's thread lives in real time: let it answer between two steps of the paused clock.
    for _ in 0..STEPS_MAX {
        if far.recoveries.load(Ordering::SeqCst) + far.offers.load(Ordering::SeqCst) >= 3 {
            return;
        }
        tokio::task::spawn_blocking(|| std::thread::sleep(Duration::from_millis(1))).await.unwrap();
        tokio::time::sleep(Duration::from_secs(20)).await;
    }
}

async fn assert_stands_still(far: &Far, status: &SinkStatus) {
    let_time_pass(far).await;
    assert!(far.recoveries.load(Ordering::SeqCst) >= 3, "it looks again now and then");
    assert_eq!(far.offers.load(Ordering::SeqCst), 0, "its sequences were used for other records already");
    let health = status.health();
    assert_eq!(health.state, State::Paused);
    let error = health.last_error.unwrap();
    assert!(error.contains("older copy") && error.contains("data_dir/buffer"), "{error:?} says what and what to do");
}

#[tokio::test(start_paused = true)]
async fn a_directory_that_is_older_than_the_sinks_memory_is_never_offered_from_however_long_it_waits() {
    let beyond = Cursor { ranges: Vec::new(), from: 1_000 };
    let (_dir, far, status) =
        ten_alerts_and(|epoch| RemoteCursor { replay: None, epoch, cursor: beyond, run_mark: 3, position: 5 }).await;
    assert_stands_still(&far, &status).await;
}

#[tokio::test(start_paused = true)]
async fn a_restored_directory_that_has_grown_since_passes_over_none_of_its_records() {
    // The sink has five, but not of these ten: nothing was ever offered from here.
    let within = Cursor { ranges: Vec::new(), from: 5 };
    let (_dir, far, status) =
        ten_alerts_and(|epoch| RemoteCursor { replay: None, epoch, cursor: within, run_mark: 3, position: 5 }).await;
    assert_stands_still(&far, &status).await;
}

#[tokio::test(start_paused = true)]
async fn the_cursor_of_another_epoch_moves_nothing() {
    let other = Cursor { ranges: Vec::new(), from: 5 };
    let (_dir, far, status) = ten_alerts_and(|Epoch(epoch)| RemoteCursor {
        replay: None,
        epoch: Epoch(epoch ^ 1),
        cursor: other,
        run_mark: 3,
        position: 5,
    })
    .await;
    for _ in 0..STEPS_MAX {
        if far.offers.load(Ordering::SeqCst) > 0 {
            break;
        }
        tokio::task::spawn_blocking(|| std::thread::sleep(Duration::from_millis(1))).await.unwrap();
    }
    assert!(far.offers.load(Ordering::SeqCst) > 0);
    assert_eq!(status.health().last_error, None);
}
