//! Discovery: what there is to read, found by looking and listening only. Nothing of it is stored.

mod ports;

pub use super::modbus::question::{ModbusAnswer, ModbusQuestion, WordReading};
pub use super::mqtt::topics::{NumberAt, TopicSearch, TopicSeen, TopicsFound};
pub use super::serial::listen::{Guess, Heard, ListenRequest};
pub use ports::{Port, Roots};

use super::SourceOptions;
use super::{modbus, mqtt, serial};
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::mpsc;

/// Why nothing was found out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, JsonSchema)]
#[error("{what}; {advice}")]
pub struct DiscoverError {
    /// What went wrong, with the exact error.
    pub what: String,
    /// What to do about it.
    pub advice: String,
}

impl DiscoverError {
    pub(super) fn new(what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { what: what.into(), advice: advice.into() }
    }

    /// A port that the running gateway reads itself.
    pub(super) fn in_use(port: &str, owner: &str) -> Self {
        let what = format!("the running gateway reads {port} as source {owner:?}");
        Self::new(what, "look at that source's values, or remove the source first")
    }
}

/// The serial ports of this machine, those of the `running` sources marked. Reads a few small files; takes no port.
#[must_use]
pub fn serial_ports(running: &[SourceOptions]) -> Vec<Port> {
    ports::find(&Roots::default(), running)
}

/// The same below other roots, for a test.
#[must_use]
pub fn serial_ports_below(roots: &Roots, running: &[SourceOptions]) -> Vec<Port> {
    ports::find(roots, running)
}

/// Listens on a serial port at one speed after the other; each speed that was tried is told, `heard` as soon as it is over.
/// Ends at the first one that makes sense.
///
/// # Errors
/// If the port cannot be opened, or a running source reads it.
pub async fn listen_serial(
    request: &ListenRequest,
    running: &[SourceOptions],
    heard: Option<mpsc::Sender<Heard>>,
) -> Result<Vec<Heard>, DiscoverError> {
    serial::listen::listen(request, running, heard).await
}

/// Listens to a broker for a while; `seen` is told a topic when it appears, and again at most once a second.
///
/// # Errors
/// If the broker cannot be reached or does not let this client in.
pub async fn mqtt_topics(
    search: &TopicSearch,
    seen: Option<mpsc::Sender<TopicSeen>>,
) -> Result<TopicsFound, DiscoverError> {
    mqtt::topics::find(search, seen).await
}

/// Asks a Modbus device once and reads the answer in every way that makes sense.
///
/// # Errors
/// If there is no connection, no reply, or an exception instead; or if a running source reads the port.
pub async fn modbus_read_once(
    question: &ModbusQuestion,
    running: &[SourceOptions],
) -> Result<ModbusAnswer, DiscoverError> {
    modbus::question::ask(question, running).await
}
