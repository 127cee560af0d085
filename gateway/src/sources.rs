//! Sources: what they hand to ingest, and what they are given to work with.
//!
//! A source reads its device, decodes, and offers [`Intake`]s. It never judges, stores or retries deliveries; it
//! acknowledges to its own peer only what comes back through [`SourceContext::receipts`], which is on disk.

pub mod modbus;
pub mod mqtt;
pub mod serial;

use crate::block::records::Missed;
use crate::clock::Clock;
use crate::reading::Sample;
use crate::site::Registry;
use crate::status::SourceStatus;
use std::future::Future;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Most intakes that wait for ingest, over all sources. Each carries at most [`INTAKE_MESSAGES_MAX`] messages; a full
/// channel is what stops a source: MQTT withholds acknowledgements, Modbus misses polls, a serial line overruns.
pub const INTAKES_MAX: usize = 64;

/// Most messages in one intake, so that one busy source cannot hold a commit back.
pub const INTAKE_MESSAGES_MAX: usize = 256;

/// What a source hands to ingest: one or more messages in the order of their arrival.
#[derive(Debug, Default)]
pub struct Intake {
    /// The source's position in the configuration.
    pub source: u16,
    /// The messages.
    pub messages: Vec<Message>,
    /// The samples of all messages, in order; each message says how many are its own.
    pub samples: Vec<Sample>,
    /// What never came in.
    pub missed: Vec<Missed>,
}

/// One message, frame or poll: the unit that is acknowledged.
#[derive(Debug, Default)]
pub struct Message {
    /// How many of the intake's samples, in order, are its own.
    pub samples: u32,
    /// What of it could not be decoded, as dead letters.
    pub rejects: Vec<Reject>,
    /// To be handed back once all of it is on disk.
    pub receipt: Option<Receipt>,
    /// Whether the sender says that it may have sent it before (MQTT's DUP flag).
    pub redelivered: bool,
    /// Hash that a redelivery of it has, too; 0 where the sender cannot redeliver.
    pub hash: u32,
}

/// Bytes that could not become samples.
#[derive(Clone, Debug, PartialEq)]
pub struct Reject {
    /// Where in the source: a topic, unit and register, byte position.
    pub position: String,
    /// Why, for a person.
    pub error: String,
    /// Which decoder or rule refused it.
    pub rule: &'static str,
    /// The bytes as they came.
    pub raw: Vec<u8>,
}

/// What a source gets back when a message is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The connection that the message came on: a receipt of an older one is dropped, not sent.
    pub generation: u64,
    /// The source's own mark for the message.
    pub token: u64,
}

/// What a source is given to work with.
#[derive(Debug)]
pub struct SourceContext {
    /// The source's position in the configuration.
    pub index: u16,
    /// Names to point ids; look a name up once and remember the id.
    pub registry: Arc<Registry>,
    /// Where intakes go; when it is full, the source waits.
    pub intakes: mpsc::Sender<Intake>,
    /// What is on disk comes back here, in batches.
    pub receipts: mpsc::Receiver<Vec<Receipt>>,
    /// The source's counters and health.
    pub status: Arc<SourceStatus>,
    /// For stamping samples.
    pub clock: Clock,
    /// When cancelled, the source returns soon.
    pub stop: CancellationToken,
    /// The gateway's id, for client ids.
    pub gateway: Arc<str>,
}

/// A source runs until it is told to stop. It never ends because of its device: it reports, backs off and goes on.
pub trait Source: Send + 'static {
    /// Reads until [`SourceContext::stop`] is cancelled.
    fn run(self, context: SourceContext) -> impl Future<Output = ()> + Send;
}
