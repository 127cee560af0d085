//! Sources: what they hand to ingest, and what they are given to work with.
//!
//! A source reads its device, decodes, and offers [`Intake`]s. It never judges, stores or retries deliveries; it
//! acknowledges to its own peer only what comes back through [`SourceContext::receipts`], which is on disk.

pub mod address;
pub mod discover;
pub mod line;
pub mod modbus;
pub mod mqtt;
pub mod serial;
#[cfg(test)]
mod testing;
mod tryout;

use crate::block::records::{Missed, RawBytes, Severity};
use crate::clock::Clock;
use crate::reading::Sample;
use crate::secret::SecretFile;
use crate::site::Registry;
use crate::status::{HasHealth, SourceStatus, State, Status, Trouble};
use modbus::{ModbusOptions, ModbusSource};
use mqtt::{MqttOptions, MqttSource};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serial::{SerialOptions, SerialSource};
use std::future::Future;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Most intakes that wait for ingest, over all sources. Each carries at most [`INTAKE_MESSAGES_MAX`] messages; a full
/// channel is what stops a source: MQTT withholds acknowledgements, Modbus misses polls, a serial line overruns.
pub const INTAKES_MAX: usize = 64;

/// Most messages in one intake, so that one busy source cannot hold a commit back.
pub const INTAKE_MESSAGES_MAX: usize = 256;

/// Raw bytes of rejects from which on an intake is full: with [`INTAKES_MAX`] waiting, 16 MiB and one message each.
pub const INTAKE_RAW_BYTES_MAX: usize = 256 * 1024;

/// What a source hands to ingest: one or more messages in the order of their arrival.
#[derive(Debug, Default)]
pub struct Intake {
    /// The source's slot.
    pub source: u16,
    /// Which start of the source it is from: only that one gets its receipts.
    pub start: u32,
    /// The messages.
    pub messages: Vec<Message>,
    /// The samples of all messages, in order; each message says how many are its own.
    pub samples: Vec<Sample>,
    /// What never came in.
    pub missed: Vec<Missed>,
    /// Raw bytes of all rejects.
    pub raw_bytes: usize,
}

impl Intake {
    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.missed.is_empty()
    }

    /// Whether it takes no further message.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.messages.len() >= INTAKE_MESSAGES_MAX || self.raw_bytes >= INTAKE_RAW_BYTES_MAX
    }

    /// Adds a message with its samples.
    pub fn push(&mut self, mut message: Message, samples: impl IntoIterator<Item = Sample>) {
        self.raw_bytes += message.rejects.iter().map(|reject| reject.raw.kept().len()).sum::<usize>();
        let before = self.samples.len();
        self.samples.extend(samples);
        message.samples = u32::try_from(self.samples.len() - before).unwrap_or(u32::MAX);
        self.messages.push(message);
    }
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
    /// The sender knows of nothing before this message: what looks like a redelivery from here on is one of later messages
    /// only. A message may say just this, so that it stands in the right place among the others.
    pub begins_anew: bool,
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
    /// The bytes as they came, or their beginning.
    pub raw: RawBytes,
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
    /// The source's slot: its name has the same one for as long as the process runs.
    pub slot: u16,
    /// Which start of the source this is.
    pub start: u32,
    /// Names to point ids; look a name up once and remember the id.
    pub registry: Arc<Registry>,
    /// Where intakes go; when it is full, the source waits.
    pub intakes: mpsc::Sender<Intake>,
    /// What is on disk comes back here, in batches.
    pub receipts: mpsc::Receiver<Vec<Receipt>>,
    /// The source's counters and health.
    pub status: Arc<SourceStatus>,
    /// Where troubles are raised.
    pub all: Arc<Status>,
    /// For stamping samples.
    pub clock: Clock,
    /// When cancelled, the source returns soon.
    pub stop: CancellationToken,
    /// The gateway's id, for client ids.
    pub gateway: Arc<str>,
}

impl SourceContext {
    /// An empty intake of this source.
    #[must_use]
    pub fn intake(&self) -> Intake {
        Intake { source: self.slot, start: self.start, ..Intake::default() }
    }

    /// Says how the source is.
    pub fn set_state(&self, state: State) {
        self.status.set_state(state, self.clock.tick().wall_us);
    }

    /// Counts a transport error and keeps its words for the page.
    pub fn fail(&self, state: State, error: &str) {
        self.status.errors.add(1);
        self.status.set_error(state, error, self.clock.tick().wall_us);
        tracing::warn!(source = %self.status.name, "{error}");
    }

    /// Raises a trouble of this source; `part` tells it from the source's other troubles.
    pub fn raise(&self, part: &str, severity: Severity, what: impl Into<String>, advice: impl Into<String>) {
        let trouble = Trouble {
            subject: self.status.name.clone(),
            what: what.into(),
            advice: advice.into(),
            severity,
            since_us: self.clock.tick().wall_us,
        };
        self.all.raise(&self.trouble_key(part), trouble);
    }

    /// Ends a trouble of this source, if it was raised.
    pub fn clear(&self, part: &str) {
        self.all.clear(&self.trouble_key(part), self.clock.tick().wall_us);
    }

    fn trouble_key(&self, part: &str) -> String {
        format!("source/{}/{part}", self.status.name)
    }
}

/// A source runs until it is told to stop. It never ends because of its device: it reports, backs off and goes on.
pub trait Source: Send + 'static {
    /// Reads until [`SourceContext::stop`] is cancelled.
    fn run(self, context: SourceContext) -> impl Future<Output = ()> + Send;
}

/// Where readings come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum SourceOptions {
    /// An MQTT broker.
    Mqtt(MqttOptions),
    /// A Modbus bus.
    Modbus(ModbusOptions),
    /// A serial line.
    Serial(SerialOptions),
}

impl SourceOptions {
    /// The source's name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Mqtt(options) => &options.name,
            Self::Modbus(options) => &options.name,
            Self::Serial(options) => &options.name,
        }
    }

    /// What kind of source it is, as in the file.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Mqtt(_) => "mqtt",
            Self::Modbus(_) => "modbus",
            Self::Serial(_) => "serial",
        }
    }

    /// Where it reads from; a URL may hold a user.
    #[must_use]
    pub fn address(&self) -> &str {
        match self {
            Self::Mqtt(options) => &options.url,
            Self::Modbus(options) => &options.url,
            Self::Serial(options) => &options.port,
        }
    }

    /// The file of its secret, and the option that names it.
    #[must_use]
    pub fn secret_file(&self) -> Option<(&'static str, &SecretFile)> {
        match self {
            Self::Mqtt(options) => options.password_file.as_ref().map(|file| ("password_file", file)),
            Self::Modbus(_) | Self::Serial(_) => None,
        }
    }

    /// The device file of the serial line that the source reads, if it reads one.
    #[must_use]
    pub fn serial_port(&self) -> Option<&str> {
        match self {
            Self::Mqtt(_) => None,
            Self::Modbus(options) => options.url.strip_prefix("rtu://").and_then(|path| path.split('?').next()),
            Self::Serial(options) => Some(&options.port),
        }
    }

    /// Runs the source of these options.
    pub async fn run(self, context: SourceContext) {
        match self {
            Self::Mqtt(options) => MqttSource::new(options).run(context).await,
            Self::Modbus(options) => ModbusSource::new(options).run(context).await,
            Self::Serial(options) => SerialSource::new(options).run(context).await,
        }
    }
}
