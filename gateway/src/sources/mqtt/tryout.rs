//! Tries an MQTT source: name, connection, login, subscriptions, first messages, their values.

use super::session::{Incoming, Life, Session, SessionError};
use super::take::{Published, Taker};
use super::topics::numbers;
use super::{MqttOptions, address, topic};
use crate::clock::Clock;
use crate::decode::Payload;
use crate::site::Registry;
use crate::sources::tryout::tried;
use crate::tryout::{Steps, TriedValue, excerpt, reach};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How long the first message is awaited: devices that measure slower than every 10 s are few.
const FIRST_MESSAGE_LIMIT: Duration = Duration::from_secs(10);
/// How long more messages are gathered after the first one.
const MORE_MESSAGES_WAIT: Duration = Duration::from_secs(1);
/// How long the answer to the subscriptions is awaited.
const SUBSCRIBE_LIMIT: Duration = Duration::from_secs(5);
/// Most topics that are shown.
const TOPICS_MAX: usize = 8;

/// A client id that no other client has and every broker takes (23 characters, MQTT 3.1.1, section 3.1.3.1): the session of
/// the running source stays untouched.
pub(super) fn own_client_id() -> String {
    format!("forebay-try-{:08x}", fastrand::u32(..))
}

/// Takes the steps, as far as each allows the next.
pub(in crate::sources) async fn take_steps(options: &MqttOptions, steps: &mut Steps) {
    let Some(mut session) = connect(options, steps).await else { return };
    let mut early = Vec::new();
    if !subscribe(options, &mut session, &mut early, steps).await {
        return;
    }
    // What is left to prove depends on the devices.
    steps.works();
    read(options, &mut session, early, steps).await;
    session.disconnect().await;
}

/// Connects and logs in; what does not work is told as a failed step.
pub(super) async fn connect(options: &MqttOptions, steps: &mut Steps) -> Option<Session> {
    let host = match address(&options.url) {
        Ok(host) => host,
        Err(problem) => {
            steps.begin("read the address of the broker");
            steps.failed(problem, "write it as mqtt://host:port");
            return None;
        }
    };
    let addresses = reach::resolve(steps, &host.host, host.port).await?;
    if !reach::connect(steps, &host.to_string(), &addresses).await {
        return None;
    }
    let client_id = own_client_id();
    let user = options.username.as_ref().map_or_else(|| "without a user".to_owned(), |user| format!("as {user:?}"));
    steps.begin(format!("log in to the broker {user}"));
    match Session::connect(options, &host, &client_id, Life::Clean).await {
        Ok(session) => {
            steps.ok(format!("the broker took client id {client_id}, which only this try uses"));
            Some(session)
        }
        Err(error) => {
            steps.failed(error.to_string(), advice(&error));
            None
        }
    }
}

/// Awaits the answer to the subscriptions; messages that come before it are kept.
async fn subscribe(options: &MqttOptions, session: &mut Session, early: &mut Vec<Arrived>, steps: &mut Steps) -> bool {
    steps.begin("subscribe");
    let deadline = Instant::now() + SUBSCRIBE_LIMIT;
    let granted = loop {
        match timeout_at(deadline, session.next()).await {
            Ok(Ok(Incoming::Subscribed(granted))) => break granted,
            Ok(Ok(Incoming::Published(publish))) if early.len() < TOPICS_MAX => {
                early.push(Arrived::of(&publish.topic, &publish.payload, publish.retain));
            }
            Ok(Ok(Incoming::Published(_))) => {}
            Ok(Err(error)) => {
                steps.failed(error.to_string(), advice(&error));
                return false;
            }
            Err(_) => {
                let what = format!("the broker did not answer the subscription within {} s", SUBSCRIBE_LIMIT.as_secs());
                steps.failed(what, "try again; if it stays so, look into the broker's log");
                return false;
            }
        }
    };
    let (mut taken, mut refused) = (Vec::new(), Vec::new());
    for (index, subscription) in options.subscribe.iter().enumerate() {
        match granted.get(index) {
            Some(Some(quality)) => taken.push(format!("{} (quality {quality})", subscription.filter)),
            _ => refused.push(format!("{:?}", subscription.filter)),
        }
    }
    if refused.is_empty() {
        steps.ok(taken.join(", "));
    } else {
        let what = format!("the broker refuses the subscription to {}", refused.join(", "));
        steps.failed(what, "give this user the right to read these topics at the broker");
    }
    !taken.is_empty()
}

/// A message that came.
struct Arrived {
    topic: String,
    payload: Vec<u8>,
    is_retained: bool,
}

impl Arrived {
    fn of(topic: &str, payload: &[u8], is_retained: bool) -> Self {
        Self { topic: topic.to_owned(), payload: payload.to_vec(), is_retained }
    }
}

/// Awaits messages and reads them as the configuration says.
async fn read(options: &MqttOptions, session: &mut Session, early: Vec<Arrived>, steps: &mut Steps) {
    let registry = Arc::new(Registry::default());
    let mut taker = match Taker::new(options, Arc::clone(&registry)) {
        Ok(taker) => taker,
        Err(problem) => {
            steps.begin("read the names of devices and points");
            return steps.failed(problem, "change the template, then try again");
        }
    };
    steps.begin("wait for the first message");
    let mut deadline = Instant::now() + FIRST_MESSAGE_LIMIT;
    let mut topics: BTreeSet<String> = BTreeSet::new();
    let mut arrived: Vec<Arrived> = Vec::new();
    let mut waiting = early.into_iter();
    while topics.len() < TOPICS_MAX {
        let message = match waiting.next() {
            Some(message) => message,
            None => match timeout_at(deadline, session.next()).await {
                Ok(Ok(Incoming::Published(publish))) => {
                    let message = Arrived::of(&publish.topic, &publish.payload, publish.retain);
                    // The session is this try's own: what is acknowledged here is lost to nobody.
                    if publish.pkid != 0 && session.acknowledge([publish.pkid].into_iter()).await.is_err() {
                        break;
                    }
                    message
                }
                Ok(Ok(Incoming::Subscribed(_))) => continue,
                Ok(Err(error)) if arrived.is_empty() => return steps.failed(error.to_string(), advice(&error)),
                Ok(Err(_)) | Err(_) => break,
            },
        };
        if arrived.is_empty() {
            deadline = Instant::now() + MORE_MESSAGES_WAIT;
        }
        if topics.insert(message.topic.clone()) {
            arrived.push(message);
        }
        let is_heard = |filter: &str| topics.iter().any(|heard| topic::matches(filter, heard));
        if topics.len() >= options.subscribe.len() && options.subscribe.iter().all(|sub| is_heard(&sub.filter)) {
            // A filter with wildcards may bring more; without, all is known.
            if options.subscribe.iter().all(|sub| !sub.filter.contains(['+', '#'])) {
                break;
            }
        }
    }
    let Some(first) = arrived.first() else {
        let filters: Vec<&str> = options.subscribe.iter().map(|sub| sub.filter.as_str()).collect();
        let what = format!("no message within {} s on {}", FIRST_MESSAGE_LIMIT.as_secs(), filters.join(", "));
        return steps.failed(
            what,
            "check the filter (capital letters count) and that the device is publishing; a device that seldom sends needs patience",
        );
    };
    let retained = if first.is_retained { ", kept by the broker from before" } else { "" };
    steps.ok(format!("{}{retained}: {}", first.topic, excerpt(&first.payload)));
    for message in &arrived {
        show(options, &mut taker, &registry, message, steps);
    }
}

/// Reads one message and shows its value.
fn show(options: &MqttOptions, taker: &mut Taker, registry: &Registry, arrived: &Arrived, steps: &mut Steps) {
    steps.begin(format!("read the value of {}", arrived.topic));
    let published = Published {
        topic: &arrived.topic,
        payload: &arrived.payload,
        packet_id: 0,
        is_duplicate: false,
        // One message of each topic is read, so that none repeats another.
        is_retained: false,
    };
    let (message, sample) = taker.take(&published, 0, Clock::system().mono_us());
    let raw = excerpt(&arrived.payload);
    if let Some(sample) = sample {
        let value = tried(&sample, registry, &arrived.topic, &raw);
        steps.ok(value.words());
        steps.value(value);
    }
    if let Some(reject) = message.rejects.into_iter().next() {
        let filter_of = |sub: &&super::Subscription| topic::matches(&sub.filter, &arrived.topic);
        let format = options.subscribe.iter().find(filter_of).map(|sub| &sub.payload);
        let advice = payload_advice(format, &arrived.payload);
        steps.failed(reject.error.clone(), advice);
        steps.value(TriedValue::unread(&arrived.topic, raw, Some(reject.error)));
    }
}

/// What to do about a payload that cannot be read: where its numbers stand, if it has any.
fn payload_advice(format: Option<&Payload>, payload: &[u8]) -> String {
    let found: Vec<String> = numbers(payload).into_iter().map(|found| format!("{:?}", found.pointer)).collect();
    match format {
        Some(Payload::Number {}) if !found.is_empty() => {
            format!("the payload is JSON: use format = \"json\" with value = {}", found.join(" or "))
        }
        // A bare number is a JSON document, too.
        Some(Payload::Json { .. }) if crate::decode::number(payload).is_ok() => {
            "the payload is one plain number: use format = \"number\"".to_owned()
        }
        Some(Payload::Json { .. }) if !found.is_empty() => {
            format!("the payload has numbers at {}: set value to one of them", found.join(", "))
        }
        _ => "look at the payload, and choose the format that it has".to_owned(),
    }
}

/// What to do about a session that did not come up or broke.
pub(super) fn advice(error: &SessionError) -> &'static str {
    match error {
        SessionError::Refused(_) => "check username, password_file and the rights of this user at the broker",
        SessionError::Oversize { .. } => "remove the message at the broker, or narrow the filter",
        SessionError::Password(_) => "put the password into that file; it is read again at every attempt",
        SessionError::Lost(_) => {
            "something listens there but does not speak MQTT as expected: check the port (1883 is usual without TLS)"
        }
    }
}
