//! MQTT: subscribes at a broker, acknowledges only what is on disk.
//!
//! The session is persistent and quality 1: what is not acknowledged comes again. How many messages are under way at
//! once is the broker's choice (MQTT 3.1.1 has no receive maximum; mosquitto's `max_inflight_messages` is 20). When
//! ingest is full, at most one intake waits here and acknowledgements stay out; once that intake is full, too, reading
//! stops and TCP holds the broker back, until the broker drops the connection after 1.5 keep-alives and all comes again.
//!
//! A payload above `packet_max` becomes a dead letter and is acknowledged, so it does not come again. Only a packet above
//! [`PACKET_BYTES_HARD_MAX`] cannot be read at all: it breaks the connection each time it is redelivered, which is
//! alarmed and slowed down, because only a person at the broker can remove it.

#[cfg(test)]
mod broker_tests;
mod reader;
mod session;
mod take;
mod topic;
pub(super) mod topics;
pub(super) mod tryout;

use crate::decode::Payload;
use crate::secret::SecretFile;
use crate::sources::address::HostPort;
use crate::sources::{Source, SourceContext};
use crate::status::State;
use crate::units::ByteSize;
use reader::Reader;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use take::Taker;
use topic::Template;

/// Largest packet that is read at all: it is held in memory as a whole.
pub const PACKET_BYTES_HARD_MAX: usize = 16 * 1024 * 1024;

/// The port of MQTT without TLS (IANA service name `mqtt`).
const MQTT_PORT: u16 = 1883;
/// Most subscriptions of one source: each message is compared with all until its topic is known.
const SUBSCRIPTIONS_MAX: usize = 256;
/// Longest client id, in bytes; many brokers take no more than this, though MQTT 3.1.1 promises 23 only.
const CLIENT_ID_BYTES_MAX: usize = 128;

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
    /// Largest payload taken, at most 16 MiB; a larger one becomes a dead letter.
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

impl MqttOptions {
    /// What is wrong with the options: path within them, and message.
    #[must_use]
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        let mut add = |path: String, message: String| problems.push((path, message));
        if let Err(message) = address(&self.url) {
            add("url".into(), message);
        }
        let id_fits = |id: &String| (1..=CLIENT_ID_BYTES_MAX).contains(&id.len()) && !id.contains(char::is_control);
        if self.client_id.as_ref().is_some_and(|id| !id_fits(id)) {
            let message = format!("a client id must have 1 to {CLIENT_ID_BYTES_MAX} bytes and no control characters");
            add("client_id".into(), message);
        }
        if self.password_file.is_some() && self.username.is_none() {
            add("username".into(), "a password needs a user name (MQTT 3.1.1, section 3.1.2.9)".into());
        }
        if self.keep_alive_s == 0 {
            add("keep_alive_s".into(), "0 would never notice a dead connection; use 10 to 60".into());
        }
        if self.packet_max.0 == 0 || self.packet_max.0 > PACKET_BYTES_HARD_MAX as u64 {
            add("packet_max".into(), format!("{} must be 1 B to 16 MiB", self.packet_max));
        }
        if self.subscribe.is_empty() || self.subscribe.len() > SUBSCRIPTIONS_MAX {
            let count = self.subscribe.len();
            add("subscribe".into(), format!("{count} subscriptions must be 1 to {SUBSCRIPTIONS_MAX}"));
        }
        for (index, subscription) in self.subscribe.iter().enumerate() {
            for (key, message) in subscription.problems() {
                add(format!("subscribe[{index}].{key}"), message);
            }
        }
        problems
    }
}

impl MqttOptions {
    /// The client id that names the session at the broker.
    #[must_use]
    pub fn session(&self, gateway: &str) -> String {
        self.client_id.clone().unwrap_or_else(|| format!("forebay-{gateway}-{}", self.name))
    }

    /// The same, in the session of an earlier self, which it goes on with: what it takes in is acknowledged there and does not come
    /// again when that is back, as it would if the broker kept a session for each. What the earlier one subscribed to is taken,
    /// too, since the broker goes on sending it and what nobody means would become dead letters. Where both mean a topic, this
    /// one decides.
    #[must_use]
    pub fn in_session_of(&self, before: &Self, gateway_before: &str) -> Self {
        let is_known = |earlier: &&Subscription| self.subscribe.iter().any(|known| known.filter == earlier.filter);
        let mut both = self.clone();
        both.subscribe.extend(before.subscribe.iter().filter(|earlier| !is_known(earlier)).cloned());
        both.client_id = Some(before.session(gateway_before));
        both
    }

    /// Whether it takes messages that another takes, too.
    #[must_use]
    pub fn shares_with(&self, other: &Self) -> bool {
        let is_shared = |filter: &str| other.subscribe.iter().any(|subscription| subscription.filter == filter);
        self.url == other.url && self.subscribe.iter().any(|subscription| is_shared(&subscription.filter))
    }
}

impl Subscription {
    fn problems(&self) -> Vec<(String, String)> {
        let mut problems: Vec<(String, String)> = Vec::new();
        if let Some(message) = topic::filter_problem(&self.filter) {
            problems.push(("filter".into(), message));
        }
        if self.qos > 1 {
            let message = format!("{} must be 0 or 1; 1 is as safe as 2, since redeliveries are recognised", self.qos);
            problems.push(("qos".into(), message));
        }
        for (key, text, may_be_empty) in
            [("device", &self.device, false), ("point", &self.point, false), ("unit", &self.unit, true)]
        {
            let message = match Template::parse(text) {
                Ok(_) if text.is_empty() && !may_be_empty => Some(format!("the {key} name is empty")),
                Ok(template) => template.problem_with(&self.filter),
                Err(message) => Some(message),
            };
            problems.extend(message.map(|message| (key.to_owned(), message)));
        }
        let payload = self.payload.problems().into_iter();
        problems.extend(payload.map(|(key, message)| (format!("payload.{key}"), message)));
        problems
    }
}

fn address(url: &str) -> Result<HostPort, String> {
    match url.split_once("://") {
        Some(("mqtt" | "tcp", address)) => HostPort::parse(address.trim_end_matches('/'), MQTT_PORT),
        _ => Err(format!("{url:?} must start with mqtt://, as in \"mqtt://127.0.0.1:1883\"")),
    }
}

/// An MQTT broker as a source.
pub struct MqttSource {
    options: MqttOptions,
}

impl MqttSource {
    /// A source with these options, whose [`MqttOptions::problems`] are none.
    #[must_use]
    pub fn new(options: MqttOptions) -> Self {
        Self { options }
    }
}

impl Source for MqttSource {
    async fn run(self, context: SourceContext) {
        let prepared = address(&self.options.url)
            .and_then(|address| Ok((address, Taker::new(&self.options, context.registry.clone())?)));
        let (address, taker) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => return context.fail(State::Paused, &error),
        };
        Reader::new(self.options, context, address, taker).run().await;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    pub(super) fn options(port: u16) -> MqttOptions {
        let text = format!(
            r#"
            name = "broker"
            url = "mqtt://127.0.0.1:{port}"
            packet_max = "100 KiB"
            [[subscribe]]
            filter = "plant/+/+"
            device = "{{2}}"
            point = "{{3}}"
            unit = "°C"
            payload = {{ format = "json", value = "/v", time = "/t" }}
            "#
        );
        toml::from_str(&text).unwrap()
    }

    #[test]
    fn what_an_earlier_self_subscribed_to_is_taken_also_and_in_its_session() {
        let before = options(1883);
        let mut new = before.clone();
        new.subscribe.first_mut().unwrap().filter = "plant/mill/+".to_owned();
        new.client_id = Some("another".to_owned());
        let both = new.in_session_of(&before, "plant-7");
        let filters: Vec<_> = both.subscribe.iter().map(|subscription| subscription.filter.as_str()).collect();
        assert_eq!(filters, ["plant/mill/+", "plant/+/+"]);
        assert_eq!(both.session("plant-8"), "forebay-plant-7-broker");
        assert!(before.shares_with(&both) && !before.shares_with(&new));
    }

    #[test]
    fn every_problem_is_told_with_its_path() {
        assert_eq!(options(1883).problems(), []);
        let mut wrong = options(1883);
        wrong.url = "http://broker".into();
        wrong.packet_max = ByteSize(17 << 20);
        wrong.keep_alive_s = 0;
        let subscription = wrong.subscribe.first_mut().unwrap();
        subscription.qos = 2;
        subscription.device = "{4}".into();
        subscription.payload = Payload::Json { value: "v".into(), time: None };
        let paths: Vec<_> = wrong.problems().into_iter().map(|(path, _)| path).collect();
        let expected = [
            "url",
            "keep_alive_s",
            "packet_max",
            "subscribe[0].qos",
            "subscribe[0].device",
            "subscribe[0].payload.value",
        ];
        assert_eq!(paths, expected);
    }
}
