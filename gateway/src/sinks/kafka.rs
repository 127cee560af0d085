//! Kafka: one transaction for one run, with the lane's cursor in it.
//!
//! The client library's transaction calls block, so each sink has a thread of its own (`kafka/worker.rs`), which holds the
//! producer; this side only hands offers over and waits.

mod client;
mod cursors;
mod failure;
mod reader;
mod transaction;
pub(super) mod tryout;
mod worker;

pub use self::reader::read_topic;

use self::client::Context;
use self::cursors::CursorTopic;
use self::worker::{Request, Worker};
use super::pace::PaceOptions;
use super::route::RouteOptions;
use super::{Offer, Outcome, RemoteCursor, Sink, SinkError, run_problems};
use crate::reading::Stream;
use crate::units::ByteSize;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

/// Offers go one at a time, so more never wait for the thread.
const REQUESTS_MAX: usize = 1;

/// Longest prefix of topics: with the longest ending, `.dead-letters`, a name stays within Kafka's 249 characters
/// (`Topic.MAX_NAME_LENGTH`).
const TOPIC_PREFIX_CHARS_MAX: usize = 230;

/// A Kafka cluster to deliver to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KafkaOptions {
    /// Name of the sink, unique in the file.
    pub name: String,
    /// Brokers to ask first, `host:port`.
    pub brokers: Vec<String>,
    /// Topics are `<prefix>.readings`, `<prefix>.alerts`, `<prefix>.dead-letters`, `<prefix>.gaps`, `<prefix>.replay`, `<prefix>.cursors`.
    pub topic_prefix: String,
    /// Transactions: each reading once for `read_committed` consumers. `false`: idempotent, at least once.
    #[serde(default = "exactly_once")]
    pub exactly_once: bool,
    /// How batches are compressed.
    #[serde(default)]
    pub compression: KafkaCompression,
    /// How long a run may wait to fill, in milliseconds.
    #[serde(default = "linger_ms")]
    pub linger_ms: u64,
    /// Most bytes of a run.
    #[serde(default = "batch_max")]
    pub batch_max: ByteSize,
    /// What goes to it.
    #[serde(flatten)]
    pub route: RouteOptions,
    /// In which order a backlog goes to it, and what the link may carry.
    #[serde(flatten)]
    pub pace: PaceOptions,
}

/// How batches are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum KafkaCompression {
    /// As they are.
    None,
    /// gzip.
    Gzip,
    /// Snappy.
    Snappy,
    /// LZ4.
    Lz4,
    /// Zstandard.
    #[default]
    Zstd,
}

impl KafkaOptions {
    /// What cannot work, as the option's path below the sink and a sentence.
    #[must_use]
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = run_problems(self.linger_ms, self.batch_max);
        problems.extend(self.route.problems());
        problems.extend(self.pace.problems());
        if self.brokers.is_empty() {
            problems.push(("brokers", "there must be at least one broker, as \"host:port\"".to_owned()));
        }
        for broker in &self.brokers {
            let port =
                broker.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
            if !matches!(port, Some(Ok(1..))) || broker.contains([',', '/', ' ']) {
                problems.push(("brokers", format!("{broker:?} is not of the form \"host:port\"")));
            }
        }
        let fit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let prefix = &self.topic_prefix;
        if prefix.is_empty() || prefix.len() > TOPIC_PREFIX_CHARS_MAX || !prefix.chars().all(fit) {
            let rule = format!("1 to {TOPIC_PREFIX_CHARS_MAX} letters, digits, `.`, `_` and `-`");
            problems.push(("topic_prefix", format!("{prefix:?} must have {rule}")));
        }
        problems
    }

    /// The topic of a stream; replays have one of their own.
    fn topic(&self, stream: Stream, replay: Option<u32>) -> String {
        match replay {
            None => format!("{}.{stream}", self.topic_prefix),
            Some(_) => format!("{}.replay", self.topic_prefix),
        }
    }
}

impl KafkaCompression {
    /// The name that the client library and the broker know it by.
    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

/// One Kafka cluster.
#[derive(Debug)]
pub struct KafkaSink {
    gateway: String,
    options: KafkaOptions,
    cursors: CursorTopic,
    context: Context,
    /// The thread's door; none before the first recovery.
    requests: Option<mpsc::Sender<Request>>,
    must_recover: bool,
}

impl KafkaSink {
    /// A sink that has no connection yet.
    ///
    /// # Errors
    /// If the options cannot work.
    pub fn new(gateway: &str, options: &KafkaOptions) -> Result<Self, SinkError> {
        if let Some((path, problem)) = options.problems().into_iter().next() {
            return Err(SinkError::Misconfigured(format!("sink {:?}, {path}: {problem}", options.name)));
        }
        Ok(Self {
            gateway: gateway.to_owned(),
            cursors: CursorTopic::new(gateway, options),
            options: options.clone(),
            context: Context::default(),
            requests: None,
            must_recover: true,
        })
    }

    /// The thread's door, of a new thread if there is none (any more).
    fn worker(&mut self) -> Result<mpsc::Sender<Request>, SinkError> {
        if let Some(requests) = self.requests.as_ref().filter(|requests| !requests.is_closed()) {
            return Ok(requests.clone());
        }
        let (sender, receiver) = mpsc::channel(REQUESTS_MAX);
        let worker = Worker::new(&self.gateway, &self.options, self.cursors.clone(), self.context.clone());
        // Its door closes when this sink is dropped; the thread then ends its attempt and itself.
        std::thread::Builder::new()
            .name("kafka-sink".to_owned())
            .spawn(move || worker.run(receiver))
            .map_err(|error| SinkError::Unreachable(format!("no thread for sink {:?}: {error}", self.options.name)))?;
        self.requests = Some(sender.clone());
        Ok(sender)
    }
}

impl Sink for KafkaSink {
    async fn recover(&mut self, from_position: Option<i64>) -> Result<Vec<(Stream, RemoteCursor)>, SinkError> {
        self.must_recover = true;
        let worker = self.worker()?;
        let (reply, answer) = oneshot::channel();
        let request = Request::Recover { from_position, runtime: Handle::current(), reply };
        let ended = || SinkError::Unreachable("the thread of the Kafka client has ended; starting another".to_owned());
        worker.send(request).await.map_err(|_| ended())?;
        let cursors = answer.await.map_err(|_| ended())??;
        self.must_recover = false;
        Ok(cursors)
    }

    async fn deliver(&mut self, offer: &Offer<'_>) -> Outcome {
        // If this future is dropped before the answer is here, nobody knows what came of the offer.
        self.must_recover = true;
        let ended = |what: &str| Outcome::Retry { after: None, reason: format!("the Kafka client {what}; recovering") };
        let Some(requests) = &self.requests else { return ended("has not been started") };
        let (reply, answer) = oneshot::channel();
        let offer = worker::OwnedOffer {
            topic: self.options.topic(offer.stream, offer.replay),
            records: offer.records.to_vec(),
            cursor: self.cursors.record(offer),
        };
        if requests.send(Request::Deliver { offer, reply }).await.is_err() {
            return ended("has ended");
        }
        let Ok(delivery) = answer.await else { return ended("has ended") };
        self.must_recover = delivery.must_recover;
        delivery.outcome
    }

    fn must_recover(&self) -> bool {
        self.must_recover
    }

    fn bytes_sent(&self) -> u64 {
        self.context.bytes_sent()
    }
}

fn exactly_once() -> bool {
    true
}

fn linger_ms() -> u64 {
    200
}

fn batch_max() -> ByteSize {
    ByteSize(512 * 1024)
}
