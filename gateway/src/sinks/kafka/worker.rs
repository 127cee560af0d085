//! The thread of a Kafka sink: holds the producer, serves one request after the other.

use super::KafkaOptions;
use super::client::{self, Context};
use super::cursors::{CursorRecord, CursorTopic};
use super::failure::Failure;
use super::transaction::{Producer, deliver_at_least_once, deliver_once};
use crate::fault;
use crate::reading::Stream;
use crate::sinks::{Outcome, RemoteCursor, Rendered, SinkError};
use rdkafka::producer::Producer as _;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

/// Longest wait for the coordinator to end what an older self left open and to give this producer the name.
const INIT_LIMIT: Duration = Duration::from_secs(30);

/// So many takeovers by another producer, and the sink stops: two gateways with one name would go on for ever, each undoing the
/// other's work. One takeover happens when a gateway is moved to another board.
const FENCES_MAX: u32 = 3;

/// So many deliveries in a row, and takeovers are forgotten.
const DELIVERIES_TO_FORGET_FENCES: u32 = 100;

/// What the async side asks for.
#[derive(Debug)]
pub(super) enum Request {
    /// A new producer, and where the cluster says the cursors stand.
    Recover {
        /// The ledger's position in the cursor topic.
        from_position: Option<i64>,
        /// To wait for the library's futures.
        runtime: Handle,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<Vec<(Stream, RemoteCursor)>, SinkError>>,
    },
    /// One attempt.
    Deliver {
        /// What to deliver.
        offer: OwnedOffer,
        /// Where the answer goes.
        reply: oneshot::Sender<Delivery>,
    },
}

/// An offer that can go to another thread; the records' bytes are shared.
#[derive(Debug)]
pub(super) struct OwnedOffer {
    pub(super) topic: String,
    pub(super) records: Vec<Rendered>,
    pub(super) cursor: CursorRecord,
}

/// What came of an attempt.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) outcome: Outcome,
    pub(super) must_recover: bool,
}

/// Holds the producer between requests.
#[derive(Debug)]
pub(super) struct Worker {
    gateway: String,
    options: KafkaOptions,
    cursors: CursorTopic,
    context: Context,
    producer: Option<OpaqueProducer>,
    fences: u32,
    deliveries_since_fence: u32,
}

/// The library's producer has no `Debug`.
struct OpaqueProducer(Producer);

impl std::fmt::Debug for OpaqueProducer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Producer")
    }
}

impl Worker {
    pub(super) fn new(gateway: &str, options: &KafkaOptions, cursors: CursorTopic, context: Context) -> Self {
        Self {
            gateway: gateway.to_owned(),
            options: options.clone(),
            cursors,
            context,
            producer: None,
            fences: 0,
            deliveries_since_fence: 0,
        }
    }

    /// Serves requests until the sink is dropped.
    pub(super) fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        while let Some(request) = requests.blocking_recv() {
            // An answer that nobody waits for any more is lost; the sink remembers that it must recover.
            match request {
                Request::Recover { from_position, runtime, reply } => {
                    drop(reply.send(self.recover(from_position, &runtime)));
                }
                Request::Deliver { offer, reply } => drop(reply.send(self.deliver(&offer))),
            }
        }
    }

    fn recover(
        &mut self,
        from_position: Option<i64>,
        runtime: &Handle,
    ) -> Result<Vec<(Stream, RemoteCursor)>, SinkError> {
        // The old one first: two of one name would fence each other. The new one before all else: its thread is told why a
        // connection fails.
        self.producer = None;
        let producer: Producer =
            client::producer_config(&self.gateway, &self.options).create_with_context(self.context.clone()).map_err(
                |error| SinkError::Misconfigured(format!("the Kafka client does not take its settings: {error}")),
            )?;
        let mut cursors = Vec::new();
        if self.options.exactly_once {
            self.cursors.ensure(&self.gateway, &self.options, &self.context, runtime)?;
            producer.init_transactions(INIT_LIMIT).map_err(|error| self.init_failed(&error))?;
            fault::point("kafka.after_init");
            cursors = self.cursors.read(&self.gateway, &self.options, &self.context, from_position)?;
        }
        self.producer = Some(OpaqueProducer(producer));
        Ok(cursors)
    }

    fn init_failed(&self, error: &rdkafka::error::KafkaError) -> SinkError {
        match Failure::of_error(error, Duration::ZERO) {
            Failure::Stop(reason) | Failure::Refused(reason) => SinkError::Misconfigured(reason),
            Failure::Fenced => {
                SinkError::Unreachable("another producer of the same name is just taking over".to_owned())
            }
            Failure::Again(reason) | Failure::Lost(reason) => {
                SinkError::Unreachable(self.context.explain(&format!("no transactions yet: {reason}")))
            }
        }
    }

    fn deliver(&mut self, offer: &OwnedOffer) -> Delivery {
        let Some(OpaqueProducer(producer)) = &self.producer else {
            let reason = "the producer must recover first".to_owned();
            return Delivery { outcome: Outcome::Retry { after: None, reason }, must_recover: true };
        };
        let result = if self.options.exactly_once {
            deliver_once(producer, &self.context, offer)
        } else {
            deliver_at_least_once(producer, &self.context, offer)
        };
        let retry = |reason| Outcome::Retry { after: None, reason };
        let outcome = match result {
            Ok(remote_position) => {
                self.context.all_is_well();
                self.deliveries_since_fence = self.deliveries_since_fence.saturating_add(1);
                if self.deliveries_since_fence >= DELIVERIES_TO_FORGET_FENCES {
                    self.fences = 0;
                }
                Outcome::Delivered { remote_position }
            }
            Err(Failure::Again(reason)) => retry(self.context.explain(&reason)),
            Err(Failure::Refused(reason)) => Outcome::Refused { reason },
            Err(Failure::Stop(reason)) => Outcome::Pause { reason },
            Err(Failure::Lost(reason)) => {
                self.producer = None;
                retry(self.context.explain(&reason))
            }
            Err(Failure::Fenced) => {
                self.producer = None;
                self.fenced()
            }
        };
        Delivery { outcome, must_recover: self.producer.is_none() }
    }

    fn fenced(&mut self) -> Outcome {
        self.fences += 1;
        self.deliveries_since_fence = 0;
        let reason = format!(
            "another producer has taken over the name {}",
            client::transactional_id(&self.gateway, &self.options.name)
        );
        if self.fences < FENCES_MAX {
            return Outcome::Retry { after: None, reason };
        }
        self.fences = 0;
        Outcome::Pause {
            reason: format!(
                "{reason} {FENCES_MAX} times; two gateways share the id {:?}: give each its own gateway.id, or stop one",
                self.gateway
            ),
        }
    }
}
