//! Ingest on a real buffer: what is acknowledged is on disk, what comes again is recognised, the books close.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "the test is the supervisor of its one task")]

use forebay::block::columns::ReadingRow;
use forebay::block::records::RawBytes;
use forebay::buffer::{Buffer, Opened, StoreOptions};
use forebay::checks::range::RangeOptions;
use forebay::checks::{Action, CheckOptions, CheckSeverity};
use forebay::clock::Clock;
use forebay::ingest::{Change, CommitPace, Feed, Ingest, IngestOptions, WINDOW_PAIRS};
use forebay::judge::{Judge, Rules};
use forebay::reading::{Flags, NO_HASH, Quality, Sample, Stream, Value};
use forebay::site::Registry;
use forebay::sources::{Intake, Message, Receipt, Reject};
use forebay::status::{SourceBooks, SourceStatus, Status};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

const NOON_US: i64 = 1_790_000_000_000_000;

/// The sources, by their position.
const SOURCES: [&str; 2] = ["plant", "yard"];
/// Batches of receipts that find room, unless a test says otherwise.
const RECEIPTS_MAX: usize = 64;

/// An ingest loop with two sources, on a buffer in a folder that outlives it.
struct Plant {
    buffer: Buffer,
    registry: Arc<Registry>,
    status: Arc<Status>,
    clock: Clock,
    intakes: mpsc::Sender<Intake>,
    changes: mpsc::Sender<Change>,
    /// The sources' books at the start.
    before: Vec<SourceBooks>,
    /// Of the first source.
    receipts: mpsc::Receiver<Vec<Receipt>>,
    task: JoinHandle<()>,
}

impl Plant {
    async fn open(dir: &Path, commit_interval: Duration) -> Self {
        Self::open_with(dir, commit_interval, RECEIPTS_MAX).await
    }

    async fn open_with(dir: &Path, commit_interval: Duration, receipts_max: usize) -> Self {
        let options = StoreOptions {
            disk_bytes_max: 64 << 20,
            keep_delivered_us: 0,
            sinks: vec!["cloud".into()],
            ..StoreOptions::new(dir.to_owned())
        };
        let clock = Clock::manual(7, 1_000_000, NOON_US);
        let (buffer, opened): (Buffer, Opened) = Buffer::open(options, clock.clone()).await.unwrap();
        let registry = Arc::new(Registry::restore(opened.points));
        let sources = SOURCES.map(|name| Arc::new(SourceStatus::new(name, "mqtt", "mqtt://127.0.0.1")));
        let status = Arc::new(Status::new("test", NOON_US, sources.to_vec(), Vec::new()));
        let range = RangeOptions { operating: Some([0.0, 90.0]), possible: Some([-40.0, 150.0]) };
        let check = CheckOptions {
            points: "*/*".to_owned(),
            range: Some(range),
            severity: CheckSeverity::Warning,
            action: Action::DeadLetter,
        };
        let rules = Rules { checks: vec![check], anomalies: Vec::new(), config_version: 1 };
        let (to_source, receipts) = mpsc::channel(receipts_max);
        let (intakes, intakes_out) = mpsc::channel(64);
        let senders = [to_source, mpsc::channel(RECEIPTS_MAX).0];
        let all = status.sources();
        let feeds = (0..).zip(all.iter()).zip(senders);
        let feeds =
            feeds.map(|((slot, status), receipts)| Feed { slot, start: 0, status: status.clone(), receipts }).collect();
        let options = IngestOptions {
            buffer: buffer.clone(),
            registry: registry.clone(),
            status: status.clone(),
            clock: clock.clone(),
            judge: Judge::new(rules, clock.boot_id),
            feeds,
            books: opened.books,
            pace: CommitPace { interval: commit_interval, interval_max: commit_interval, daily_bytes_max: None },
            config_version: 1,
        };
        let ingest = Ingest::open(options, opened.snapshot).await.unwrap();
        let before = all.iter().map(|source| source.books()).collect();
        let (changes, changes_out) = mpsc::channel(1);
        let task = tokio::spawn(ingest.run(intakes_out, changes_out));
        Self { buffer, registry, status, clock, intakes, changes, before, receipts, task }
    }

    /// Ends the loop in order, as a stop does.
    async fn close(self) -> Arc<Status> {
        drop(self.intakes);
        self.task.await.unwrap();
        self.buffer.close().await;
        self.status
    }

    fn sample(&self, value: f64, message_hash: u32) -> Sample {
        self.sample_of(0, value, message_hash)
    }

    fn sample_of(&self, source: u16, value: f64, message_hash: u32) -> Sample {
        let point = self.registry.intern("boiler-1", "supply", "°C", SOURCES[usize::from(source)]).unwrap();
        let received_mono_us = self.clock.mono_us();
        Sample { point, outcome: Ok(Value::Number(value)), observed_at_us: None, received_mono_us, message_hash }
    }

    async fn send(&self, samples: Vec<Sample>, token: Option<u64>, redelivered: bool) {
        self.send_from(0, samples, token, redelivered).await;
    }

    async fn send_from(&self, source: u16, samples: Vec<Sample>, token: Option<u64>, redelivered: bool) {
        let hash = samples.first().map_or(NO_HASH, |sample| sample.message_hash);
        let receipt = token.map(|token| Receipt { generation: 1, token });
        let message = Message {
            samples: u32::try_from(samples.len()).unwrap(),
            receipt,
            redelivered,
            hash,
            ..Message::default()
        };
        self.intakes.send(Intake { source, messages: vec![message], samples, ..Intake::default() }).await.unwrap();
    }

    async fn reject(&self, hash: u32, token: u64, redelivered: bool) {
        let reject = Reject {
            position: "plant/x".into(),
            error: "not JSON".into(),
            rule: "json",
            raw: RawBytes::of(b"{broken"),
        };
        let receipt = Some(Receipt { generation: 1, token });
        let message = Message { rejects: vec![reject], receipt, redelivered, hash, ..Message::default() };
        self.intakes.send(Intake { messages: vec![message], ..Intake::default() }).await.unwrap();
    }

    async fn acknowledged(&mut self) -> Vec<u64> {
        let receipts = tokio::time::timeout(Duration::from_secs(20), self.receipts.recv()).await.unwrap().unwrap();
        receipts.into_iter().map(|receipt| receipt.token).collect()
    }

    /// Sends so many readings of the first source as fill its window, and waits until they are on disk.
    async fn fill_the_window(&mut self) {
        let before = self.next(Stream::Readings);
        for hash in 0..WINDOW_PAIRS as u32 {
            self.send(vec![self.sample(20.0, 1_000_000 + hash)], None, false).await;
        }
        self.until_stored(Stream::Readings, before + WINDOW_PAIRS as u64).await;
    }

    async fn until_stored(&self, stream: Stream, next: u64) {
        let mut ends = self.buffer.ends();
        let stored = ends.wait_for(|ends| ends[stream.index()].next >= next);
        tokio::time::timeout(Duration::from_secs(60), stored).await.unwrap().unwrap();
    }

    /// How many samples and messages of a source were recognised since this start.
    fn duplicates(&self, source: usize) -> u64 {
        self.status.sources()[source].books().duplicate - self.before[source].duplicate
    }

    fn next(&self, stream: Stream) -> u64 {
        self.buffer.ends().borrow()[stream.index()].next
    }

    async fn rows(&self) -> Vec<ReadingRow> {
        let blocks = self.buffer.blocks(Stream::Readings, 0, 16).await.unwrap();
        blocks.iter().flat_map(|block| block.readings().unwrap()).collect()
    }
}

#[tokio::test]
async fn a_reading_is_acknowledged_only_after_it_is_on_disk_and_readable() {
    let dir = TempDir::new().unwrap();
    let mut plant = Plant::open(dir.path(), Duration::from_millis(20)).await;
    for token in 0..50 {
        plant.send(vec![plant.sample(20.0 + token as f64 / 10.0, 100 + token as u32)], Some(token), false).await;
    }
    let mut acknowledged = Vec::new();
    while acknowledged.len() < 50 {
        acknowledged.extend(plant.acknowledged().await);
        assert!(plant.next(Stream::Readings) >= acknowledged.len() as u64);
    }
    assert_eq!(acknowledged, (0..50).collect::<Vec<_>>());
    assert_eq!(plant.rows().await.len(), 50);
    plant.close().await;
}

#[tokio::test]
async fn a_stalled_sender_does_not_wait_for_the_commit_interval() {
    let dir = TempDir::new().unwrap();
    let mut plant = Plant::open(dir.path(), Duration::from_secs(3_600)).await;
    plant.send(vec![plant.sample(20.0, 5)], Some(1), false).await;
    assert_eq!(plant.acknowledged().await, [1]);
    plant.close().await;
}

#[tokio::test]
async fn a_sender_with_a_window_of_20_does_not_wait_for_the_interval_each_time() {
    const WINDOW: u64 = 20;
    let interval = Duration::from_secs(2);
    let dir = TempDir::new().unwrap();
    let mut plant = Plant::open(dir.path(), interval).await;
    let begun = tokio::time::Instant::now();
    for window in 0..50 {
        for number in 0..WINDOW {
            plant.send(vec![plant.sample(20.0, 5)], Some(window * WINDOW + number), false).await;
        }
        let mut acknowledged = 0;
        while acknowledged < WINDOW {
            acknowledged += plant.acknowledged().await.len() as u64;
        }
    }
    assert!(begun.elapsed() < 25 * interval, "50 windows took {:?}", begun.elapsed());
    plant.close().await;
}

#[tokio::test]
async fn a_stop_commits_what_waits_at_once() {
    let dir = TempDir::new().unwrap();
    let plant = Plant::open(dir.path(), Duration::from_secs(3_600)).await;
    let ends = plant.buffer.ends();
    plant.send(vec![plant.sample(20.0, NO_HASH)], None, false).await;
    tokio::time::timeout(Duration::from_secs(5), plant.close()).await.unwrap();
    assert_eq!(ends.borrow()[Stream::Readings.index()].next, 1);
}

#[tokio::test]
async fn a_redelivery_is_recognised_and_acknowledged_also_after_a_restart() {
    let dir = TempDir::new().unwrap();
    let mut plant = Plant::open(dir.path(), Duration::from_millis(20)).await;
    plant.send(vec![plant.sample(21.0, 77)], Some(1), false).await;
    plant.reject(88, 2, false).await;
    while plant.next(Stream::DeadLetters) < 1 {
        plant.acknowledged().await;
    }
    plant.close().await;

    let mut plant = Plant::open(dir.path(), Duration::from_millis(20)).await;
    plant.send(vec![plant.sample(21.0, 77)], Some(3), true).await;
    assert_eq!(plant.acknowledged().await, [3]);
    plant.reject(88, 4, true).await;
    assert_eq!(plant.acknowledged().await, [4]);
    // The same value in a message of its own is another reading.
    plant.send(vec![plant.sample(21.0, 78)], Some(5), true).await;
    assert_eq!(plant.acknowledged().await, [5]);
    assert_eq!((plant.next(Stream::Readings), plant.next(Stream::DeadLetters)), (2, 1));
    let books = plant.close().await.sources()[0].books();
    assert_eq!(books, SourceBooks { received: 5, accepted: 2, duplicate: 2, rejected: 1, missed: 0 });
}

#[tokio::test]
async fn a_redelivered_reading_that_was_judged_impossible_stays_one_dead_letter_also_after_a_restart() {
    let dir = TempDir::new().unwrap();
    let mut plant = Plant::open(dir.path(), Duration::from_millis(20)).await;
    plant.send(vec![plant.sample(500.0, 91)], Some(1), false).await;
    plant.acknowledged().await;
    plant.send(vec![plant.sample(500.0, 91)], Some(2), true).await;
    plant.acknowledged().await;
    plant.close().await;

    let mut plant = Plant::open(dir.path(), Duration::from_millis(20)).await;
    plant.send(vec![plant.sample(500.0, 91)], Some(3), true).await;
    assert_eq!(plant.acknowledged().await, [3]);
    assert_eq!((plant.next(Stream::DeadLetters), plant.duplicates(0)), (1, 1));
    plant.close().await;
}

#[tokio::test]
async fn readings_do_not_push_dead_letters_out_of_what_is_recognised() {
    let dir = TempDir::new().unwrap();
    let mut plant = Plant::open(dir.path(), Duration::from_millis(20)).await;
    plant.reject(88, 1, false).await;
    plant.send(vec![plant.sample(500.0, 91)], Some(2), false).await;
    plant.until_stored(Stream::DeadLetters, 2).await;
    plant.fill_the_window().await;
    plant.reject(88, 3, true).await;
    plant.send(vec![plant.sample(500.0, 91)], Some(4), true).await;
    while !plant.acknowledged().await.contains(&4) {}
    assert_eq!((plant.next(Stream::DeadLetters), plant.duplicates(0)), (2, 2));
    plant.close().await;
}

#[tokio::test]
async fn a_busy_source_does_not_push_out_what_another_may_redeliver_also_after_a_restart() {
    let dir = TempDir::new().unwrap();
    let mut plant = Plant::open(dir.path(), Duration::from_millis(20)).await;
    plant.send_from(1, vec![plant.sample_of(1, 21.0, 77)], None, false).await;
    plant.fill_the_window().await;
    for already in 0..2 {
        plant.send_from(1, vec![plant.sample_of(1, 21.0, 77)], None, true).await;
        plant.send(vec![plant.sample(22.0, 5 + already)], Some(1), false).await;
        plant.acknowledged().await;
        assert_eq!(plant.duplicates(1), 1);
        plant.close().await;
        plant = Plant::open(dir.path(), Duration::from_millis(20)).await;
    }
    plant.close().await;
}

#[tokio::test]
async fn after_a_broker_forgot_the_session_an_equal_message_is_a_reading_of_its_own_also_after_a_restart() {
    let dir = TempDir::new().unwrap();
    let mut plant = Plant::open(dir.path(), Duration::from_millis(20)).await;
    plant.send(vec![plant.sample(21.0, 77)], Some(1), false).await;
    plant.acknowledged().await;
    for readings in 2..4 {
        let anew = Message { begins_anew: true, ..Message::default() };
        plant.intakes.send(Intake { messages: vec![anew], ..Intake::default() }).await.unwrap();
        // The broker sent it to a connection that broke before it came in, and sends it again.
        plant.send(vec![plant.sample(21.0, 77)], Some(2), true).await;
        assert_eq!(plant.acknowledged().await, [2]);
        assert_eq!((plant.next(Stream::Readings), plant.duplicates(0)), (readings, 0));
        // What this session brought is recognised.
        plant.send(vec![plant.sample(21.0, 77)], Some(3), true).await;
        assert_eq!(plant.acknowledged().await, [3]);
        assert_eq!((plant.next(Stream::Readings), plant.duplicates(0)), (readings, 1));
        plant.close().await;
        plant = Plant::open(dir.path(), Duration::from_millis(20)).await;
    }
    plant.close().await;
}

#[tokio::test]
async fn receipts_that_find_no_room_are_handed_back_later() {
    let dir = TempDir::new().unwrap();
    let mut plant = Plant::open_with(dir.path(), Duration::from_millis(20), 1).await;
    for token in 0..5 {
        plant.send(vec![plant.sample(20.0, 100 + token as u32)], Some(token), false).await;
        plant.until_stored(Stream::Readings, token + 1).await;
    }
    let mut acknowledged = Vec::new();
    while acknowledged.len() < 5 {
        acknowledged.extend(plant.acknowledged().await);
    }
    assert_eq!(acknowledged, [0, 1, 2, 3, 4]);
    plant.close().await;
}

#[tokio::test]
async fn when_the_buffer_is_gone_ingest_ends_and_acknowledges_nothing() {
    let dir = TempDir::new().unwrap();
    let mut plant = Plant::open(dir.path(), Duration::from_millis(20)).await;
    plant.buffer.clone().close().await;
    plant.send(vec![plant.sample(20.0, 5)], Some(1), false).await;
    tokio::time::timeout(Duration::from_secs(20), &mut plant.task).await.unwrap().unwrap();
    assert!(plant.receipts.try_recv().is_err());
}

#[tokio::test]
async fn what_cannot_be_becomes_a_dead_letter_with_its_reason_and_the_rest_goes_on() {
    let dir = TempDir::new().unwrap();
    let mut plant = Plant::open(dir.path(), Duration::from_millis(20)).await;
    let samples = vec![plant.sample(50.0, 1), plant.sample(95.0, 1), plant.sample(500.0, 1)];
    plant.send(samples, Some(1), false).await;
    plant.acknowledged().await;
    let rows = plant.rows().await;
    assert_eq!(rows.len(), 2);
    assert_eq!((rows[0].reading.quality, rows[1].reading.quality), (Quality::Good, Quality::Uncertain));
    assert!(rows[1].reading.flags.contains(Flags::OPERATING_RANGE));
    assert_eq!(rows[1].reading.outcome, Ok(Value::Number(95.0)));
    let letters = plant.buffer.blocks(Stream::DeadLetters, 0, 16).await.unwrap();
    let letter = format!("{:?}", letters[0].records().unwrap()[0].record.body);
    assert!(letter.contains("500 °C: 350 °C above the possible 150 °C"), "{letter}");
    let books = plant.close().await.sources()[0].books();
    assert_eq!(books, SourceBooks { received: 3, accepted: 2, duplicate: 0, rejected: 1, missed: 0 });
}

#[tokio::test]
async fn a_clock_that_is_set_begins_a_new_block_and_earlier_readings_keep_their_times() {
    let dir = TempDir::new().unwrap();
    let mut plant = Plant::open(dir.path(), Duration::from_secs(3_600)).await;
    plant.clock.set(2_000_000, 1_000_000);
    plant.send(vec![plant.sample(20.0, NO_HASH)], None, false).await;
    // A second intake whose samples were stamped after the clock was set.
    while plant.intakes.capacity() < plant.intakes.max_capacity() {
        tokio::task::yield_now().await;
    }
    plant.clock.set(3_000_000, NOON_US);
    plant.send(vec![plant.sample(21.0, 9)], Some(1), false).await;
    plant.acknowledged().await;
    let blocks = plant.buffer.blocks(Stream::Readings, 0, 16).await.unwrap();
    let qualities: Vec<_> = blocks.iter().map(|block| block.meta.time_quality.name()).collect();
    assert_eq!(qualities, ["unset", "ntp"]);
    let times: Vec<_> = plant.rows().await.iter().map(|row| row.received_at_us).collect();
    assert_eq!(times, [1_000_000, NOON_US]);
    plant.close().await;
}

#[tokio::test]
async fn the_books_of_a_source_go_on_after_a_restart_also_those_of_what_came_again() {
    let dir = TempDir::new().unwrap();
    for round in 1..=3_u64 {
        let mut plant = Plant::open(dir.path(), Duration::from_millis(20)).await;
        plant.send(vec![plant.sample(20.0, 70 + round as u32), plant.sample(500.0, 80)], Some(1), false).await;
        plant.acknowledged().await;
        plant.send(vec![plant.sample(20.0, 70 + round as u32)], Some(2), true).await;
        plant.acknowledged().await;
        plant.reject(90 + round as u32, 3, false).await;
        plant.acknowledged().await;
        let status = plant.close().await;
        let books = status.sources()[0].books();
        let expected = SourceBooks { received: 4, accepted: 1, duplicate: 1, rejected: 2, missed: 0 };
        let all = |count: u64| count * round;
        assert_eq!(
            books,
            SourceBooks {
                received: all(expected.received),
                accepted: all(expected.accepted),
                duplicate: all(expected.duplicate),
                rejected: all(expected.rejected),
                missed: 0
            }
        );
        assert_eq!((status.ingest_books_open.get(), status.troubles()), (0, vec![]));
    }
}

#[tokio::test]
async fn a_source_that_starts_anew_gets_no_receipt_of_its_former_start_and_its_books_go_on() {
    let dir = TempDir::new().unwrap();
    let plant = Plant::open(dir.path(), Duration::from_millis(20)).await;
    // Packet identifiers begin anew with a connection: this receipt would acknowledge another message.
    plant.send(vec![plant.sample(20.0, 5)], Some(1), false).await;
    let (to_source, mut receipts) = mpsc::channel(RECEIPTS_MAX);
    let status = Arc::new(SourceStatus::new(SOURCES[0], "mqtt", "mqtt://127.0.0.2"));
    let feed = Feed { slot: 0, start: 1, status: status.clone(), receipts: to_source };
    let (done, is_done) = oneshot::channel();
    let rules = Rules { config_version: 2, ..Rules::default() };
    let interval = Duration::from_millis(20);
    let pace = CommitPace { interval, interval_max: interval, daily_bytes_max: None };
    let change = Change { rules, pace, feeds: vec![feed], gone: vec![1], done };
    plant.changes.send(change).await.unwrap();
    is_done.await.unwrap();
    // The range that would have refused it is no more.
    let sample = plant.sample(500.0, 6);
    let receipt = Some(Receipt { generation: 1, token: 2 });
    let message = Message { samples: 1, receipt, hash: 6, ..Message::default() };
    let intake = Intake { start: 1, messages: vec![message], samples: vec![sample], ..Intake::default() };
    plant.intakes.send(intake).await.unwrap();
    let got = tokio::time::timeout(Duration::from_secs(20), receipts.recv()).await.unwrap().unwrap();
    assert_eq!(got.iter().map(|receipt| receipt.token).collect::<Vec<_>>(), [2]);
    let rows = plant.rows().await;
    assert_eq!((rows.len(), plant.next(Stream::DeadLetters)), (2, 0));
    plant.close().await;
    assert_eq!(status.books(), SourceBooks { received: 2, accepted: 2, ..SourceBooks::default() });
}
