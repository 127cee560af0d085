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
mod session;
mod take;
mod topic;

use crate::backoff::Backoff;
use crate::block::records::Severity;
use crate::decode::Payload;
use crate::secret::SecretFile;
use crate::sources::address::HostPort;
use crate::sources::{Intake, Receipt, Source, SourceContext};
use crate::status::State;
use crate::units::ByteSize;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use session::{Incoming, Session, SessionError};
use std::time::Duration;
use take::{Published, Taker};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use topic::Template;

/// Largest packet that is read at all: it is held in memory as a whole.
pub const PACKET_BYTES_HARD_MAX: usize = 16 * 1024 * 1024;

/// The port of MQTT without TLS (IANA service name `mqtt`).
const MQTT_PORT: u16 = 1883;
/// Most subscriptions of one source: each message is compared with all until its topic is known.
const SUBSCRIPTIONS_MAX: usize = 256;
/// Longest client id, in bytes; many brokers take no more than this, though MQTT 3.1.1 promises 23 only.
const CLIENT_ID_BYTES_MAX: usize = 128;
/// First wait before connecting again.
const RECONNECT_FIRST: Duration = Duration::from_secs(1);
/// Longest wait before connecting again.
const RECONNECT_MAX: Duration = Duration::from_secs(30);
/// A connection that lasted this long was a success: a shorter one may have died of what it will bring again.
const STABLE_AFTER: Duration = Duration::from_secs(10);
/// Failed connections in a row after which a person is told: a broker that restarts is back before.
const FAILURES_TOLD: u32 = 3;
/// How long acknowledgements are awaited when the gateway stops: longer than a commit takes.
const LAST_RECEIPTS_WAIT: Duration = Duration::from_secs(2);
/// The trouble's part of the connection as a whole.
const CONNECTION: &str = "connection";
/// The trouble's part of a packet that cannot be read.
const OVERSIZE: &str = "oversize";

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
        let client_id = self.options.client_id.clone();
        let client_id = client_id.unwrap_or_else(|| format!("forebay-{}-{}", context.gateway, self.options.name));
        let (options, pending) = (self.options, context.intake());
        Reader { options, context, address, client_id, taker, pending, generation: 0, unacknowledged: 0 }.run().await;
    }
}

struct Reader {
    options: MqttOptions,
    context: SourceContext,
    address: HostPort,
    client_id: String,
    taker: Taker,
    /// What waits for room at ingest.
    pending: Intake,
    /// Counts connections: packet ids are used again on the next one.
    generation: u64,
    /// Messages of this connection whose receipt is still to come.
    unacknowledged: u64,
}

impl Reader {
    async fn run(mut self) {
        let mut backoff = Backoff::new(RECONNECT_FIRST, RECONNECT_MAX);
        let stop = self.context.stop.clone();
        while !stop.is_cancelled() {
            let connecting = Session::connect(&self.options, &self.address, &self.client_id);
            let connected = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = drop_receipts(&mut self.context.receipts) => return,
                connected = connecting => connected,
            };
            let started = Instant::now();
            let outcome = match connected {
                Ok(session) => self.serve(session).await,
                Err(error) => Err(error),
            };
            let Err(error) = outcome else { return };
            if started.elapsed() >= STABLE_AFTER {
                backoff.succeed();
            }
            let wait = backoff.next_wait();
            self.report(&error, backoff.failures());
            tokio::select! {
                () = stop.cancelled() => return,
                () = drop_receipts(&mut self.context.receipts) => return,
                () = sleep(wait) => {}
            }
        }
    }

    /// Reads until the connection breaks (an error) or the gateway stops.
    async fn serve(&mut self, mut session: Session) -> Result<(), SessionError> {
        if self.generation > 0 {
            self.context.status.reconnects.add(1);
        }
        self.generation += 1;
        self.unacknowledged = 0;
        let stop = self.context.stop.clone();
        let intakes = self.context.intakes.clone();
        let stable_at = Instant::now() + STABLE_AFTER;
        let mut is_stable = false;
        loop {
            let has_room = !self.pending.is_full();
            // Reading goes before handing over, so that an intake takes all that is there; it never waits to fill.
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                receipts = self.context.receipts.recv() => {
                    let Some(receipts) = receipts else { break };
                    self.acknowledge(&mut session, &receipts).await?;
                }
                incoming = session.next(), if has_room => self.take(incoming?),
                room = intakes.reserve(), if !self.pending.is_empty() => {
                    let Ok(room) = room else { break };
                    room.send(std::mem::replace(&mut self.pending, self.context.intake()));
                }
                () = sleep_until(stable_at), if !is_stable => {
                    is_stable = true;
                    self.context.clear(OVERSIZE);
                }
            }
        }
        self.finish(session).await;
        Ok(())
    }

    fn take(&mut self, incoming: Incoming) {
        match incoming {
            Incoming::Subscribed(taken) => self.subscribed(&taken),
            Incoming::Published(publish) => {
                let published = Published {
                    topic: &publish.topic,
                    payload: &publish.payload,
                    packet_id: publish.pkid,
                    is_duplicate: publish.dup,
                    is_retained: publish.retain,
                };
                let mono_us = self.context.clock.mono_us();
                let (message, sample) = self.taker.take(&published, self.generation, mono_us);
                self.unacknowledged += u64::from(message.receipt.is_some());
                if message.receipt.is_some() || sample.is_some() || !message.rejects.is_empty() {
                    self.pending.push(message, sample);
                }
            }
        }
    }

    fn subscribed(&mut self, taken: &[bool]) {
        self.context.clear(CONNECTION);
        let mut refused = 0;
        for (index, subscription) in self.options.subscribe.iter().enumerate() {
            let trouble = format!("subscribe-{index}");
            if taken.get(index) == Some(&true) {
                self.context.clear(&trouble);
                continue;
            }
            refused += 1;
            let what = format!("The broker refuses the subscription to {:?}", subscription.filter);
            self.context.raise(&trouble, Severity::Error, what, "Check the user's rights at the broker");
        }
        if refused == 0 {
            self.context.set_state(State::Live);
        } else {
            self.context.fail(State::Degraded, &format!("the broker refused {refused} subscriptions"));
        }
    }

    async fn acknowledge(&mut self, session: &mut Session, receipts: &[Receipt]) -> Result<(), SessionError> {
        let current = receipts.iter().filter(|receipt| receipt.generation == self.generation);
        let ids: Vec<u16> = current.filter_map(|receipt| u16::try_from(receipt.token).ok()).collect();
        self.unacknowledged = self.unacknowledged.saturating_sub(ids.len() as u64);
        session.acknowledge(ids.into_iter()).await
    }

    /// Acknowledges what becomes durable in the next moment, so that a restart does not begin with redeliveries.
    async fn finish(&mut self, mut session: Session) {
        let last = std::mem::replace(&mut self.pending, self.context.intake());
        let receipts = last.messages.iter().filter(|message| message.receipt.is_some()).count() as u64;
        if !last.is_empty() && self.context.intakes.try_send(last).is_err() {
            // They are not acknowledged, so they come again after the restart.
            self.unacknowledged = self.unacknowledged.saturating_sub(receipts);
        }
        let deadline = Instant::now() + LAST_RECEIPTS_WAIT;
        while self.unacknowledged > 0 {
            let Ok(Some(receipts)) = timeout_at(deadline, self.context.receipts.recv()).await else { break };
            if self.acknowledge(&mut session, &receipts).await.is_err() {
                return;
            }
        }
        session.disconnect().await;
    }

    fn report(&self, error: &SessionError, failures: u32) {
        self.context.fail(State::Down, &error.to_string());
        match error {
            SessionError::Oversize { .. } => {
                let what = format!("A message at the broker cannot be read: {error}");
                let advice = "Remove the message at the broker and set its message_size_limit below 16 MiB";
                self.context.raise(OVERSIZE, Severity::Error, what, advice);
            }
            SessionError::Refused(_) => {
                self.context.raise(
                    CONNECTION,
                    Severity::Error,
                    error.to_string(),
                    "Check user, password and client id",
                );
            }
            SessionError::Lost(_) if failures >= FAILURES_TOLD => {
                let what = format!("The broker at {} cannot be reached: {error}", self.address);
                self.context.raise(CONNECTION, Severity::Error, what, "Check that the broker runs, and the network");
            }
            SessionError::Lost(_) => {}
        }
    }
}

/// Receipts of a connection that is no more: the broker sends their messages again, and ingest recognises them. Ends
/// when ingest has ended.
async fn drop_receipts(receipts: &mut tokio::sync::mpsc::Receiver<Vec<Receipt>>) {
    while receipts.recv().await.is_some() {}
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
