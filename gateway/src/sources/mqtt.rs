//! MQTT: subscribes at a broker, acknowledges only what is on disk.

use crate::decode::Payload;
use crate::secret::SecretFile;
use crate::units::ByteSize;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An MQTT broker to read from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MqttOptions {
    /// Name of the source, unique in the file.
    pub name: String,
    /// Address of the broker: `mqtt://host:port`.
    pub url: String,
    /// Client id; by default `forebay-<gateway id>-<source name>`. It names the session at the broker: keep it stable.
    #[serde(default)]
    pub client_id: Option<String>,
    /// User name, if the broker asks for one.
    #[serde(default)]
    pub username: Option<String>,
    /// File (or systemd credential) with the password.
    #[serde(default)]
    pub password_file: Option<SecretFile>,
    /// Seconds between signs of life on an idle connection.
    #[serde(default = "keep_alive_s")]
    pub keep_alive_s: u16,
    /// Largest packet taken; a larger one is alarmed and skipped.
    #[serde(default = "packet_max")]
    pub packet_max: ByteSize,
    /// What to subscribe to.
    pub subscribe: Vec<Subscription>,
}

/// One subscription and how its messages become points.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Subscription {
    /// Topic filter; `+` and `#` as in MQTT.
    pub filter: String,
    /// Quality of service, 0 or 1. With 0 the broker may lose messages; 1 is acknowledged after it is on disk.
    #[serde(default = "qos")]
    pub qos: u8,
    /// Device name; `{1}` is the first topic level, `{2}` the second, and so on.
    pub device: String,
    /// Point name, with the same placeholders.
    pub point: String,
    /// Unit of the value, with the same placeholders.
    #[serde(default)]
    pub unit: String,
    /// How the payload is read.
    pub payload: Payload,
}

fn keep_alive_s() -> u16 {
    30
}

fn packet_max() -> ByteSize {
    ByteSize(1024 * 1024)
}

fn qos() -> u8 {
    1
}
