//! What the simulation has found, each once more as a test of its own: seeds become other histories with every change.

use crate::block::columns::Frame;
use crate::block::records::{self, Alert, Record, RecordBody, Severity};
use crate::buffer::memory_disk::{MemoryDisk, Operation, Verdict};
use crate::buffer::memory_store::{MemoryOptions, MemoryStore};
use crate::buffer::{Buffer, BufferError, Commit, SinkLanes, WhenFull};
use crate::clock::Clock;
use crate::delivery::{Delivery, DeliveryOptions, Rendering};
use crate::reading::{Epoch, Stream};
use crate::sinks::pace::PaceOptions;
use crate::sinks::route::RouteOptions;
use crate::sinks::{Offer, Outcome, RemoteCursor, Sink, SinkError};
use crate::status::SinkStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Takes what it is offered; while it does, the gateway is told to stop and its disk fails.
struct LastMoment {
    offers: Arc<AtomicU64>,
    stop: CancellationToken,
    disk_fails: Arc<AtomicBool>,
}

impl Sink for LastMoment {
    async fn recover(&mut self, _: Option<i64>) -> Result<Vec<(Stream, RemoteCursor)>, SinkError> {
        Ok(Vec::new())
    }

    async fn deliver(&mut self, _: &Offer<'_>) -> Outcome {
        self.offers.fetch_add(1, Ordering::SeqCst);
        self.stop.cancel();
        self.disk_fails.store(true, Ordering::SeqCst);
        Outcome::Delivered { remote_position: Some(0) }
    }

    fn must_recover(&self) -> bool {
        false
    }
}

#[tokio::test(start_paused = true)]
async fn seed_101_a_delivery_that_stops_while_the_disk_fails_offers_nothing_a_second_time() {
    let disk_fails = Arc::new(AtomicBool::new(false));
    let fails = disk_fails.clone();
    let faults = move |operation| match operation {
        Operation::LedgerSync if fails.load(Ordering::SeqCst) => Verdict::Fail(BufferError::Disk("gone".to_owned())),
        _ => Verdict::Go,
    };
    let clock = Clock::manual(1, 1_000_000, super::WALL_US);
    let options = MemoryOptions {
        bytes_max: u64::MAX,
        when_full: WhenFull::DropOldest,
        keep_delivered_us: i64::MAX,
        sinks: vec![SinkLanes::from("cloud")],
    };
    let (store, _) = MemoryStore::open(MemoryDisk::new(Epoch(1), Box::new(faults)), options, clock.clone()).unwrap();
    let (buffer, serving) = Buffer::over(store);
    let (offers, stop) = (Arc::new(AtomicU64::new(0)), CancellationToken::new());
    let (_rendering, rendering) = watch::channel(Rendering { config_version: 1, tags: Arc::default() });
    let delivery = Delivery::new(DeliveryOptions {
        name: "cloud".to_owned(),
        sink: LastMoment { offers: offers.clone(), stop: stop.clone(), disk_fails },
        status: Arc::new(SinkStatus::new("cloud", "simulated", "")),
        gateway_status: Arc::default(),
        buffer: buffer.clone(),
        registry: Arc::default(),
        clock: clock.clone(),
        gateway: "sim".to_owned(),
        epoch: Epoch(1),
        rendering,
        route: RouteOptions::default(),
        pace: PaceOptions::default(),
        view_of: Arc::new(|_| None),
        linger: Duration::ZERO,
        run_bytes_max: 64_000,
        stop,
        halt: CancellationToken::new(),
    });
    let alert = Alert {
        rule: "health".to_owned(),
        severity: Severity::Info,
        subject: "plant".to_owned(),
        message: "all is well".to_owned(),
        value: None,
        raised: true,
    };
    let record = Record { id: 1, time_us: super::WALL_US, body: RecordBody::Alert(alert) };
    let frame = Frame { boot_id: 1, base: clock.tick(), config_version: 1 };
    let drafts = records::encode(&[record], &frame).unwrap();
    let work = async {
        buffer.commit(Commit { drafts, ..Commit::default() }).await.unwrap();
        drop(buffer);
        tokio::time::timeout(Duration::from_mins(1), delivery.run()).await.unwrap();
    };
    tokio::join!(serving, work);
    assert_eq!(offers.load(Ordering::SeqCst), 1);
}
