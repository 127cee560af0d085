//! The client library's settings, and what it tells by the way: logs, errors, delivery reports.

use super::KafkaOptions;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::producer::{DeliveryResult, ProducerContext};
use rdkafka::{ClientContext, Statistics};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The broker ends a transaction that is not over by then: what a crash leaves open hides newer records from `read_committed`
/// consumers for so long at most.
pub(super) const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(15);

/// A record that is not taken by then is given up: within the transaction's time, or the client refuses the settings.
pub(super) const MESSAGE_TIMEOUT: Duration = Duration::from_secs(12);

/// A topic that is not there after this will not come by itself: long enough for a broker that makes topics when asked.
const TOPIC_PROPAGATION: Duration = Duration::from_secs(8);

/// Longest that a request may take: below the transaction's time.
const SOCKET_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest wait before connecting to a broker again: readings should flow soon after it is back.
const RECONNECT_WAIT_MAX: Duration = Duration::from_secs(2);

/// Records of one flush reach the library within microseconds of each other: wait a little to send them together.
const LIBRARY_LINGER_MS: u32 = 5;

/// Room in the library's queue beyond one run, in KiB: one record may exceed the run's size, and each has a head.
const QUEUE_SLACK_KIB: u64 = 2 * 1024;

/// Records in the library's queue: the smallest is above 100 bytes, so the largest run has fewer.
const QUEUE_RECORDS_MAX: u32 = 100_000;

/// How often the library counts the bytes that it has sent: what a link's budget goes by.
const STATISTICS_EVERY: Duration = Duration::from_secs(1);

/// How long the broker holds back the empty answer that tells the end of a partition: 500 ms by the library's default.
const END_WAIT: Duration = Duration::from_millis(20);

/// Longest wait for the reason of a failure; only failed attempts wait, and they have lasted seconds.
const EXPLANATION_WAIT: Duration = Duration::from_millis(200);

/// Who this gateway's sink is to the cluster.
pub(super) fn transactional_id(gateway: &str, sink: &str) -> String {
    format!("forebay-{gateway}/{sink}")
}

/// Settings that every client of this sink shares.
pub(super) fn base_config(gateway: &str, options: &KafkaOptions) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", options.brokers.join(","));
    config.set("client.id", transactional_id(gateway, &options.name));
    config.set("socket.timeout.ms", millis(SOCKET_TIMEOUT));
    config.set("socket.keepalive.enable", "true");
    config.set("reconnect.backoff.max.ms", millis(RECONNECT_WAIT_MAX));
    config.set("statistics.interval.ms", millis(STATISTICS_EVERY));
    config.set_log_level(RDKafkaLogLevel::Warning);
    config
}

/// Settings of the producer.
pub(super) fn producer_config(gateway: &str, options: &KafkaOptions) -> ClientConfig {
    let mut config = base_config(gateway, options);
    config.set("enable.idempotence", "true");
    config.set("acks", "all");
    config.set("compression.type", options.compression.name());
    config.set("linger.ms", LIBRARY_LINGER_MS.to_string());
    config.set("message.timeout.ms", millis(MESSAGE_TIMEOUT));
    config.set("topic.metadata.propagation.max.ms", millis(TOPIC_PROPAGATION));
    config.set("queue.buffering.max.messages", QUEUE_RECORDS_MAX.to_string());
    config.set("queue.buffering.max.kbytes", (options.batch_max.0 / 1024 + QUEUE_SLACK_KIB).to_string());
    // The same partition for a device as a Java producer would choose.
    config.set("partitioner", "murmur2_random");
    if options.exactly_once {
        config.set("transactional.id", transactional_id(gateway, &options.name));
        config.set("transaction.timeout.ms", millis(TRANSACTION_TIMEOUT));
    }
    config
}

/// Settings of a consumer that reads a partition from a given place and keeps no offsets in the cluster.
pub(super) fn consumer_config(gateway: &str, options: &KafkaOptions, isolation_level: &str) -> ClientConfig {
    let mut config = base_config(gateway, options);
    // The library wants a group's name to assign a partition; nothing joins it.
    config.set("group.id", transactional_id(gateway, &options.name));
    config.set("isolation.level", isolation_level);
    config.set("enable.auto.commit", "false");
    config.set("enable.partition.eof", "true");
    config.set("fetch.wait.max.ms", millis(END_WAIT));
    config.set("auto.offset.reset", "earliest");
    config
}

fn millis(duration: Duration) -> String {
    duration.as_millis().to_string()
}

/// What the library has told since the transaction began.
#[derive(Debug, Default)]
pub(super) struct Reports {
    /// The first record that was not taken: why, and its topic.
    pub(super) failed: Option<(RDKafkaErrorCode, String)>,
    /// Where the cursor's record stands.
    pub(super) cursor_offset: Option<i64>,
}

/// Receives what the library tells; shared by the producer and the consumers of a sink.
#[derive(Clone, Debug, Default)]
pub(super) struct Context {
    reports: Arc<Mutex<Reports>>,
    /// The last trouble with a connection: "timed out" alone helps nobody.
    trouble: Arc<Mutex<Option<String>>>,
    /// Bytes sent by all clients of the sink so far.
    bytes_sent: Arc<AtomicU64>,
    /// What each client, by its name in the library, had sent when it counted last; who counted last is last.
    counted: Arc<Mutex<VecDeque<(String, u64)>>>,
}

/// Most clients whose counts are remembered: each recovery makes three, and only the producer lasts.
const CLIENTS_COUNTED_MAX: usize = 32;

/// Whether a record is the cursor's: passed through the library with each record.
pub(super) const IS_CURSOR: usize = 1;
/// See [`IS_CURSOR`].
pub(super) const IS_DATA: usize = 0;

impl Context {
    /// Bytes sent so far, as the library counted them last.
    pub(super) fn bytes_sent(&self) -> u64 {
        self.bytes_sent.load(Ordering::Relaxed)
    }

    /// Forgets the reports; the next ones are of a new attempt.
    pub(super) fn begin(&self) {
        *self.reports.lock().unwrap_or_else(PoisonError::into_inner) = Reports::default();
    }

    /// Forgets the trouble: the cluster has done what was asked. Not before, since the library tells the same trouble once in 30 s only.
    pub(super) fn all_is_well(&self) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// What was told since [`Context::begin`].
    pub(super) fn reports(&self) -> Reports {
        std::mem::take(&mut *self.reports.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The first record that was not taken since [`Context::begin`]: why, and its topic.
    pub(super) fn failed(&self) -> Option<(RDKafkaErrorCode, String)> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner).failed.clone()
    }

    /// A sentence with the last trouble of a connection, if there is any. It comes on another thread than the error that it
    /// explains, and may be a moment later.
    pub(super) fn explain(&self, sentence: &str) -> String {
        let deadline = Instant::now() + EXPLANATION_WAIT;
        while self.trouble.lock().unwrap_or_else(PoisonError::into_inner).is_none() && Instant::now() < deadline {
            std::thread::sleep(EXPLANATION_WAIT / 20);
        }
        match &*self.trouble.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(trouble) => format!("{sentence} ({trouble})"),
            None => sentence.to_owned(),
        }
    }
}

impl ClientContext for Context {
    fn stats(&self, statistics: Statistics) {
        let sent = u64::try_from(statistics.tx_bytes).unwrap_or(0);
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let known = counted.iter().position(|(name, _)| *name == statistics.name);
        let before = known.and_then(|position| counted.remove(position)).map_or(0, |(_, before)| before);
        if counted.len() >= CLIENTS_COUNTED_MAX {
            counted.pop_front();
        }
        counted.push_back((statistics.name, sent));
        self.bytes_sent.fetch_add(sent.saturating_sub(before), Ordering::Relaxed);
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // What matters comes back as an error of a call, and delivery tells it once; here are the details.
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::warn!(target: "kafka", facility, "{message}");
            }
            _ => tracing::debug!(target: "kafka", facility, "{message}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "kafka", %error, "{reason}");
        // That all brokers are down says less than why the last one is.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown) {
            *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.to_owned());
        }
    }
}

impl ConsumerContext for Context {}

impl ProducerContext for Context {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, kind: usize) {
        let mut reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(message) if kind == IS_CURSOR => reports.cursor_offset = Some(message.offset()),
            Ok(_) => {}
            Err((error, message)) => {
                let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
                // Purged records only follow from another's failure.
                let follows = matches!(code, RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight);
                if !follows && reports.failed.is_none() {
                    reports.failed = Some((code, message.topic().to_owned()));
                }
            }
        }
    }
}
