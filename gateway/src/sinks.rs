//! Sinks: one attempt at one node of a run, and what came of it.
//!
//! A sink never sleeps, retries or decides; `delivery` does.

pub mod encode;
pub mod http;
pub mod kafka;
pub mod pace;
pub mod route;
mod tryout;

use self::http::{HttpOptions, HttpSink};
use self::kafka::{KafkaOptions, KafkaSink};
use self::pace::PaceOptions;
use self::route::RouteOptions;
use crate::buffer::Cursor;
use crate::reading::{Epoch, SequenceRange, Stream};
use crate::secret::SecretFile;
use crate::units::ByteSize;
use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// Longest that a sink may be told to let records gather, in milliseconds: a reading should not be older than a minute for no need.
const LINGER_MS_MAX: u64 = 60_000;

/// Least and most bytes of a run: one record with all its tags must fit, and a run is held in memory a few times over.
const BATCH_BYTES: std::ops::RangeInclusive<u64> = 4 * 1024..=8 * 1024 * 1024;

/// What a sink is asked to deliver: a run, or a node of its halving tree. The same node is the same bytes on every attempt.
#[derive(Debug)]
pub struct Offer<'a> {
    /// `<gateway>/<epoch>/<sink>/<stream>/<first>-<last>`: the same on every retry and after every restart.
    pub key: String,
    /// The stream.
    pub stream: Stream,
    /// The replay that it is a part of, if it is none of the lane's own runs.
    pub replay: Option<u32>,
    /// The sequences it carries; some of them may have no record (filtered).
    pub range: SequenceRange,
    /// The rendered records, in order.
    pub records: &'a [Rendered],
    /// The data directory's epoch.
    pub epoch: Epoch,
    /// The mark of the run it belongs to; Kafka writes it beside the cursor.
    pub run_mark: u64,
    /// Where the lane's cursor will stand once this is delivered; Kafka writes it in the same transaction.
    pub cursor_after: &'a Cursor,
}

/// One record as it goes upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// The device, or what else keeps its order: the Kafka key.
    pub key: Arc<str>,
    /// One JSON object, without a newline. All records of a run share one allocation.
    pub json: Bytes,
}

/// What came of an offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The sink has it, exactly once.
    Delivered {
        /// Where the sink's own cursor record now stands, if it keeps one.
        remote_position: Option<i64>,
    },
    /// Try the same bytes again, not before `after` if the sink said so.
    Retry {
        /// What the sink asked for (`Retry-After`).
        after: Option<Duration>,
        /// Why, for a person.
        reason: String,
    },
    /// The sink will never take this as it is: bisect.
    Refused {
        /// Why, for a person.
        reason: String,
    },
    /// Nothing will go until someone changes something: stand still and say so.
    Pause {
        /// Why and what to do, for a person.
        reason: String,
    },
}

/// A cursor that the sink itself remembers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteCursor {
    /// The replay that it is the place of; of the lane itself, if there is none.
    pub replay: Option<u32>,
    /// The epoch it was written in.
    pub epoch: Epoch,
    /// The cursor.
    pub cursor: Cursor,
    /// The mark of the run that moved it there.
    pub run_mark: u64,
    /// Where the record stands.
    pub position: i64,
}

/// Why a sink could not say where it stands.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// Try again later.
    #[error("{0}")]
    Unreachable(String),
    /// Nothing will change until someone changes something.
    #[error("{0}")]
    Misconfigured(String),
}

/// One way upstream. Delivery owns it and offers it one run at a time, over all streams.
pub trait Sink: Send + 'static {
    /// Before the first offer, and whenever [`Sink::must_recover`] says so: takes over from an older self and says where the
    /// sink's own cursors stand, by stream; a stream has one for each data directory that delivered. Sinks that keep none return none.
    ///
    /// `from_position` is the highest position that the ledger remembers of them: offers go one at a time, so nothing that
    /// it does not know can lie before.
    ///
    /// # Errors
    /// If the sink cannot be reached, or is set up wrongly.
    fn recover(
        &mut self,
        from_position: Option<i64>,
    ) -> impl Future<Output = Result<Vec<(Stream, RemoteCursor)>, SinkError>> + Send;

    /// One attempt.
    fn deliver(&mut self, offer: &Offer<'_>) -> impl Future<Output = Outcome> + Send;

    /// Whether [`Sink::recover`] must run before the next offer (at start, when fenced, after a fatal error).
    fn must_recover(&self) -> bool;

    /// Bytes sent since the sink was made, with what surrounds the records as far as the sink knows it. A sink that does not
    /// count has no budget.
    fn bytes_sent(&self) -> u64 {
        0
    }
}

/// Where readings go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum SinkOptions {
    /// A Kafka cluster.
    Kafka(KafkaOptions),
    /// An HTTP endpoint.
    Http(HttpOptions),
}

impl SinkOptions {
    /// The sink's name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Kafka(options) => &options.name,
            Self::Http(options) => &options.name,
        }
    }

    /// What kind of sink it is, as in the file.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Kafka(_) => "kafka",
            Self::Http(_) => "http",
        }
    }

    /// Where it delivers to; a URL may hold a user.
    #[must_use]
    pub fn address(&self) -> String {
        match self {
            Self::Kafka(options) => options.brokers.join(", "),
            Self::Http(options) => options.url.clone(),
        }
    }

    /// The file of its secret, and the option that names it.
    #[must_use]
    pub fn secret_file(&self) -> Option<(&'static str, &SecretFile)> {
        match self {
            Self::Kafka(_) => None,
            Self::Http(options) => options.auth.as_ref()?.bearer_file.as_ref().map(|file| ("auth.bearer_file", file)),
        }
    }

    /// How long a run may wait to fill.
    #[must_use]
    pub fn linger(&self) -> Duration {
        Duration::from_millis(match self {
            Self::Kafka(options) => options.linger_ms,
            Self::Http(options) => options.linger_ms,
        })
    }

    /// What goes to it.
    #[must_use]
    pub fn route(&self) -> &RouteOptions {
        match self {
            Self::Kafka(options) => &options.route,
            Self::Http(options) => &options.route,
        }
    }

    /// In which order a backlog goes to it, and what the link may carry.
    #[must_use]
    pub fn pace(&self) -> &PaceOptions {
        match self {
            Self::Kafka(options) => &options.pace,
            Self::Http(options) => &options.pace,
        }
    }

    /// Whether it brings the same records to the same place as another: what one of the two delivered or passed over, the other
    /// need not deliver again. Streams do not matter, each has a lane of its own.
    #[must_use]
    pub fn is_as_good_as(&self, other: &Self) -> bool {
        let same_place = match (self, other) {
            (Self::Http(one), Self::Http(two)) => one.url == two.url,
            (Self::Kafka(one), Self::Kafka(two)) => {
                one.brokers == two.brokers
                    && one.topic_prefix == two.topic_prefix
                    && one.exactly_once == two.exactly_once
            }
            _ => false,
        };
        same_place && self.route().route() == other.route().route()
    }

    /// Most bytes of a run.
    #[must_use]
    pub fn run_bytes_max(&self) -> u64 {
        match self {
            Self::Kafka(options) => options.batch_max.0,
            Self::Http(options) => options.batch_max.0,
        }
    }
}

/// Every kind of sink: a closed set, so that the compiler finds what is missing when one is added.
#[derive(Debug)]
pub enum AnySink {
    /// An HTTP endpoint.
    Http(HttpSink),
    /// A Kafka cluster.
    Kafka(KafkaSink),
}

impl AnySink {
    /// The sink of `options`, for the gateway of this name. Nothing is sent before [`Sink::recover`].
    ///
    /// # Errors
    /// If the options cannot work; [`HttpOptions::problems`](http::HttpOptions::problems) and
    /// [`KafkaOptions::problems`](kafka::KafkaOptions::problems) say more.
    pub fn build(gateway: &str, options: &SinkOptions) -> Result<Self, SinkError> {
        match options {
            SinkOptions::Http(options) => HttpSink::new(options).map(Self::Http),
            SinkOptions::Kafka(options) => KafkaSink::new(gateway, options).map(Self::Kafka),
        }
    }
}

impl Sink for AnySink {
    async fn recover(&mut self, from_position: Option<i64>) -> Result<Vec<(Stream, RemoteCursor)>, SinkError> {
        match self {
            Self::Http(sink) => sink.recover(from_position).await,
            Self::Kafka(sink) => sink.recover(from_position).await,
        }
    }

    async fn deliver(&mut self, offer: &Offer<'_>) -> Outcome {
        match self {
            Self::Http(sink) => sink.deliver(offer).await,
            Self::Kafka(sink) => sink.deliver(offer).await,
        }
    }

    fn must_recover(&self) -> bool {
        match self {
            Self::Http(sink) => sink.must_recover(),
            Self::Kafka(sink) => sink.must_recover(),
        }
    }

    fn bytes_sent(&self) -> u64 {
        match self {
            Self::Http(sink) => sink.bytes_sent(),
            Self::Kafka(sink) => sink.bytes_sent(),
        }
    }
}

/// What both kinds of sinks ask of how runs are filled: `(path, message)` of each option that cannot work.
fn run_problems(linger_ms: u64, batch_max: ByteSize) -> Vec<(&'static str, String)> {
    let mut problems = Vec::new();
    if linger_ms > LINGER_MS_MAX {
        problems.push(("linger_ms", format!("{linger_ms} ms is too long to wait; use at most {LINGER_MS_MAX}")));
    }
    if !BATCH_BYTES.contains(&batch_max.0) {
        let (least, most) = (ByteSize(*BATCH_BYTES.start()), ByteSize(*BATCH_BYTES.end()));
        problems.push(("batch_max", format!("{batch_max} is not between {least} and {most}")));
    }
    problems
}
