//! What a broker has to say: topics of the last moments, with payloads, and how each could be read.

use super::session::{Incoming, Life, Session};
use super::tryout::{advice, own_client_id};
use super::{MqttOptions, Subscription, address, keep_alive_s, packet_max, topic};
use crate::decode::{self, Payload};
use crate::secret::SecretFile;
use crate::sources::discover::DiscoverError;
use crate::tryout::{excerpt, reach};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

/// Longest search: a person waits for it.
const SECONDS_MAX: u64 = 60;
/// Most topics that are told: more than a person reads.
const TOPICS_MAX: usize = 500;
/// Most bytes of topics and payloads that are kept.
const KEPT_BYTES_MAX: usize = 256 * 1024;
/// Longest topic that is kept, in bytes; the longest filter is as long.
const TOPIC_BYTES_MAX: usize = 1_024;
/// Largest payload that is searched for numbers.
const SEARCHED_BYTES_MAX: usize = 64 * 1024;
/// Most numbers of one payload that are told.
const NUMBERS_MAX: usize = 32;
/// How deep a document is searched.
const DEPTH_MAX: usize = 8;
/// A topic is told again after this at the earliest.
const TELL_AGAIN: Duration = Duration::from_secs(1);
/// Names under which devices send their own time.
const TIME_NAMES: [&str; 8] = ["time", "timestamp", "ts", "t", "datetime", "date", "at", "observed_at"];

/// Which broker is listened to, and for how long.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TopicSearch {
    /// Address of the broker: `mqtt://host:port`.
    #[schemars(length(min = 1))]
    pub url: String,
    /// User name, if the broker asks for one.
    #[serde(default)]
    pub username: Option<String>,
    /// File (or systemd credential) with the password.
    #[serde(default)]
    pub password_file: Option<SecretFile>,
    /// What to listen to; everything by default.
    #[serde(default = "everything")]
    #[schemars(length(min = 1))]
    pub filter: String,
    /// For how many seconds, 1 to 60.
    #[serde(default = "seconds")]
    #[schemars(range(min = 1, max = 60))]
    pub seconds: u64,
}

fn everything() -> String {
    "#".to_owned()
}

fn seconds() -> u64 {
    60
}

/// A topic that was heard.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct TopicSeen {
    /// The topic.
    pub topic: String,
    /// The beginning of its last payload, for a person.
    pub payload: String,
    /// How long the last payload was.
    pub payload_bytes: usize,
    /// Messages that came.
    pub count: u64,
    /// Messages a second, since the first of them.
    pub per_second: f64,
    /// Whether the broker kept its only message from before.
    pub is_retained: bool,
    /// When the last message came, in milliseconds since the search began.
    pub last_ms: u64,
    /// How the payload could be read; none if it is neither JSON with a number in it nor a plain number.
    pub format: Option<Payload>,
    /// Where numbers stand in it, and which.
    pub numbers: Vec<NumberAt>,
    /// A subscription that would bring this topic and its like; none if the payload cannot be read.
    pub suggestion: Option<Subscription>,
}

/// A number in a payload.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct NumberAt {
    /// JSON pointer to it; empty if it is the whole payload.
    pub pointer: String,
    /// The number.
    pub number: f64,
}

impl TopicSeen {
    /// Whether a subscription could read the last payload of this topic; none if it would not take the topic.
    #[must_use]
    pub fn read_by(&self, subscription: &Subscription) -> Option<bool> {
        let is_read = match (&subscription.payload, &self.format) {
            (Payload::Number {}, format) => matches!(format, Some(Payload::Number {})),
            (Payload::Json { value, time }, Some(Payload::Json { time: own, .. })) => {
                time == own && self.numbers.iter().any(|found| found.pointer == *value)
            }
            (Payload::Json { .. }, _) => false,
        };
        topic::matches(&subscription.filter, &self.topic).then_some(is_read)
    }
}

/// What a search came to.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct TopicsFound {
    /// The topics, by name.
    pub topics: Vec<TopicSeen>,
    /// How long was listened, in milliseconds.
    pub took_ms: u64,
    /// Messages of topics that found no room in the list.
    pub left_out: u64,
    /// Why it ended before its time, if so.
    pub ended_early: Option<DiscoverError>,
}

struct Noted {
    seen: TopicSeen,
    first: Instant,
    told: Instant,
}

/// Listens for as long as is asked.
pub(in crate::sources) async fn find(
    search: &TopicSearch,
    watcher: Option<mpsc::Sender<TopicSeen>>,
) -> Result<TopicsFound, DiscoverError> {
    if let Some(problem) = topic::filter_problem(&search.filter) {
        return Err(DiscoverError::new(problem, "use # for everything, or a filter such as plant/#"));
    }
    let host = address(&search.url).map_err(|problem| DiscoverError::new(problem, "write it as mqtt://host:port"))?;
    // Whoever listens there is told apart from who speaks something else.
    reach::check(&host.to_string(), &host.host, host.port)
        .await
        .map_err(|(what, advice)| DiscoverError::new(what, advice))?;
    let connecting = |error| DiscoverError::new(format!("{host}: {error}"), advice(&error));
    let mut session =
        Session::connect(&options(search), &host, &own_client_id(), Life::Clean).await.map_err(connecting)?;
    let begun = Instant::now();
    let deadline = begun + Duration::from_secs(search.seconds.clamp(1, SECONDS_MAX));
    let mut notes = Notes { topics: BTreeMap::new(), kept_bytes: 0, left_out: 0, begun };
    let mut ended_early = None;
    loop {
        let Ok(incoming) = timeout_at(deadline, session.next()).await else { break };
        match incoming {
            Ok(Incoming::Published(publish)) => {
                let told = notes.note(&publish.topic, &publish.payload, publish.retain);
                // A watcher that cannot keep up finds all of it in the answer.
                if let (Some(seen), Some(watcher)) = (told, &watcher) {
                    drop(watcher.try_send(seen.clone()));
                }
            }
            Ok(Incoming::Subscribed(granted)) => {
                if !matches!(granted.first(), Some(Some(_))) {
                    let what = format!("the broker refuses the subscription to {:?}", search.filter);
                    return Err(DiscoverError::new(what, "use a filter that this user may read, or give it the right"));
                }
            }
            Err(error) => {
                ended_early = Some(connecting(error));
                break;
            }
        }
        if watcher.as_ref().is_some_and(mpsc::Sender::is_closed) {
            // Nobody looks any more.
            break;
        }
    }
    session.disconnect().await;
    let took_ms = millis(begun.elapsed());
    let topics = notes.topics.into_values().map(|noted| noted.seen).collect();
    Ok(TopicsFound { topics, took_ms, left_out: notes.left_out, ended_early })
}

/// A source that subscribes to all of it without acknowledging anything.
fn options(search: &TopicSearch) -> MqttOptions {
    let payload = Payload::Number {};
    MqttOptions {
        name: "discovery".to_owned(),
        url: search.url.clone(),
        client_id: None,
        username: search.username.clone(),
        password_file: search.password_file.clone(),
        keep_alive_s: keep_alive_s(),
        packet_max: packet_max(),
        subscribe: vec![Subscription {
            filter: search.filter.clone(),
            qos: 0,
            device: "device".to_owned(),
            point: "point".to_owned(),
            unit: String::new(),
            payload,
        }],
    }
}

struct Notes {
    topics: BTreeMap<String, Noted>,
    kept_bytes: usize,
    left_out: u64,
    begun: Instant,
}

impl Notes {
    /// Notes a message; gives back the topic if it is to be told.
    fn note(&mut self, topic: &str, payload: &[u8], is_retained: bool) -> Option<&TopicSeen> {
        let now = Instant::now();
        let shown = excerpt(payload);
        let known = self.topics.get(topic).map(|noted| noted.seen.payload.len());
        let kept_bytes = self.kept_bytes + shown.len() - known.unwrap_or(0);
        let added_bytes = if known.is_none() { topic.len() } else { 0 };
        let is_full = self.topics.len() >= TOPICS_MAX || topic.len() > TOPIC_BYTES_MAX;
        if known.is_none() && (is_full || kept_bytes + added_bytes > KEPT_BYTES_MAX) {
            self.left_out += 1;
            return None;
        }
        let noted = self.topics.entry(topic.to_owned()).or_insert_with(|| Noted {
            seen: TopicSeen {
                topic: topic.to_owned(),
                payload: String::new(),
                payload_bytes: 0,
                count: 0,
                per_second: 0.0,
                is_retained,
                last_ms: 0,
                format: None,
                numbers: Vec::new(),
                suggestion: None,
            },
            first: now,
            told: now,
        });
        let seen = &mut noted.seen;
        seen.count += 1;
        seen.is_retained &= is_retained;
        seen.payload_bytes = payload.len();
        seen.last_ms = millis(now.saturating_duration_since(self.begun));
        let seconds = now.saturating_duration_since(noted.first).as_secs_f64();
        // The first message only marks the beginning.
        seen.per_second = if seconds > 0.0 { (seen.count - 1) as f64 / seconds } else { 0.0 };
        // A payload that grew beyond the room keeps its older words.
        if kept_bytes + added_bytes <= KEPT_BYTES_MAX {
            self.kept_bytes = kept_bytes + added_bytes;
            seen.payload = shown;
        }
        let is_due = seen.count == 1 || now.saturating_duration_since(noted.told) >= TELL_AGAIN;
        if !is_due {
            return None;
        }
        noted.told = now;
        seen.numbers = numbers(payload);
        seen.format = format(payload, &seen.numbers);
        seen.suggestion = seen.format.clone().and_then(|format| suggestion(topic, &seen.numbers, format));
        Some(&noted.seen)
    }
}

/// Where numbers stand in a payload; empty if there are none.
pub(super) fn numbers(payload: &[u8]) -> Vec<NumberAt> {
    let mut found = Vec::new();
    if payload.len() <= SEARCHED_BYTES_MAX
        && let Ok(document) = serde_json::from_slice(payload)
    {
        walk(&document, &mut String::new(), 0, &mut found);
    }
    found
}

fn walk(value: &serde_json::Value, pointer: &mut String, depth: usize, found: &mut Vec<NumberAt>) {
    if found.len() >= NUMBERS_MAX || depth > DEPTH_MAX {
        return;
    }
    let before = pointer.len();
    let mut enter = |name: &str, value: &serde_json::Value, found: &mut Vec<NumberAt>| {
        pointer.push('/');
        // RFC 6901, section 3.
        pointer.push_str(&name.replace('~', "~0").replace('/', "~1"));
        walk(value, pointer, depth + 1, found);
        pointer.truncate(before);
    };
    match value {
        serde_json::Value::Object(fields) => fields.iter().for_each(|(name, value)| enter(name, value, found)),
        serde_json::Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, value)| enter(&index.to_string(), value, found));
        }
        serde_json::Value::Number(number) => {
            found.extend(number.as_f64().map(|number| NumberAt { pointer: pointer.clone(), number }));
        }
        serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::String(_) => {}
    }
}

/// How a payload could be read.
fn format(payload: &[u8], numbers: &[NumberAt]) -> Option<Payload> {
    if decode::number(payload).is_ok() {
        return Some(Payload::Number {});
    }
    let is_time = |found: &&NumberAt| TIME_NAMES.iter().any(|name| last_name(&found.pointer) == *name);
    let value = numbers.iter().find(|found| !is_time(found))?.pointer.clone();
    let decodes = |time: &String| {
        let format = Payload::Json { value: value.clone(), time: Some(time.clone()) };
        decode::payload(&format, payload).is_ok_and(|decoded| decoded.observed_at_us.is_some())
    };
    // The time stands at the top or beside the value.
    let beside = value.rsplit_once('/').map_or("", |(parent, _)| parent).to_owned();
    let places = TIME_NAMES.iter().flat_map(|name| [format!("{beside}/{name}"), format!("/{name}")]);
    let time = places.into_iter().find(decodes);
    Some(Payload::Json { value, time })
}

/// A subscription for the topic and its like: the last two levels as device and point.
fn suggestion(topic: &str, numbers: &[NumberAt], payload: Payload) -> Option<Subscription> {
    let levels: Vec<&str> = topic.split('/').collect();
    let last = levels.len();
    let values = numbers.iter().filter(|found| !TIME_NAMES.contains(&last_name(&found.pointer))).count();
    let named_inside = match &payload {
        // Several values in one message are points of the device that the topic names.
        Payload::Json { value, .. } if values > 1 => Some(last_name(value).to_owned()),
        Payload::Json { .. } | Payload::Number {} => None,
    };
    let (device, point, open) = match named_inside {
        Some(point) => (format!("{{{last}}}"), point, 1),
        None if last > 1 => (format!("{{{}}}", last - 1), format!("{{{last}}}"), 2),
        None => ("{1}".to_owned(), "value".to_owned(), 1),
    };
    let is_open = |index: usize| index + open >= last && index > 0;
    let filter: Vec<&str> =
        levels.iter().enumerate().map(|(index, level)| if is_open(index) { "+" } else { *level }).collect();
    let subscription = Subscription { filter: filter.join("/"), qos: 1, device, point, unit: String::new(), payload };
    subscription.problems().is_empty().then_some(subscription)
}

fn last_name(pointer: &str) -> &str {
    pointer.rsplit('/').next().unwrap_or_default()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    fn notes() -> Notes {
        Notes { topics: BTreeMap::new(), kept_bytes: 0, left_out: 0, begun: Instant::now() }
    }

    #[test]
    fn a_topic_is_told_with_a_subscription_that_reads_it() {
        let mut notes = notes();
        let payload = br#"{"ts":"2026-11-20T10:00:00Z","data":{"temp":71.5}}"#;
        let seen = notes.note("plant/boiler-3/temp", payload, false).unwrap();
        assert_eq!(seen.numbers, [NumberAt { pointer: "/data/temp".into(), number: 71.5 }]);
        let subscription = seen.suggestion.as_ref().unwrap();
        assert_eq!(subscription.filter, "plant/+/+");
        assert_eq!((subscription.device.as_str(), subscription.point.as_str()), ("{2}", "{3}"));
        let expected = Payload::Json { value: "/data/temp".into(), time: Some("/ts".into()) };
        assert_eq!(subscription.payload, expected);
    }

    #[test]
    fn several_values_in_a_message_are_points_of_the_device_that_the_topic_names() {
        let mut notes = notes();
        let payload = br#"{"time":1764000000,"flow":2.5,"pressure":4}"#;
        let seen = notes.note("plant/pump-1", payload, false).unwrap();
        let subscription = seen.suggestion.clone().unwrap();
        assert_eq!((subscription.device.as_str(), subscription.point.as_str()), ("{2}", "flow"));
        assert_eq!(subscription.payload, Payload::Json { value: "/flow".into(), time: Some("/time".into()) });
        let plain = notes.note("level", b"3.5", true).unwrap().suggestion.clone().unwrap();
        assert_eq!((plain.filter.as_str(), plain.payload), ("level", Payload::Number {}));
        assert_eq!(notes.note("hello", b"world", false).unwrap().suggestion, None);
    }

    #[test]
    fn a_subscription_to_a_kind_tells_what_of_it_cannot_be_read() {
        let mut notes = notes();
        let subscription =
            notes.note("plant/boiler-3/temp", br#"{"value":71.5}"#, false).unwrap().suggestion.clone().unwrap();
        let mut read_by =
            |topic: &str, payload: &[u8]| notes.note(topic, payload, false).unwrap().read_by(&subscription);
        assert_eq!(read_by("plant/boiler-4/temp", br#"{"value":68}"#), Some(true));
        assert_eq!(read_by("plant/tank-1/level", b"3.5"), Some(false));
        assert_eq!(read_by("plant/tank-1/state", b"open"), Some(false));
        assert_eq!(read_by("office/temp", br#"{"value":21}"#), None);
    }

    #[test]
    fn a_flood_of_topics_is_cut_and_counted() {
        let mut notes = notes();
        for index in 0..1_000 {
            notes.note(&format!("plant/{index}"), &[b'x'; 5_000], false);
        }
        assert!(notes.topics.len() <= TOPICS_MAX && notes.kept_bytes <= KEPT_BYTES_MAX);
        assert_eq!(notes.left_out, 1_000 - notes.topics.len() as u64);
    }

    proptest! {
        #[test]
        fn any_message_is_noted_within_the_limits(
            messages in proptest::collection::vec(("[a/+#$é]{0,12}", "\\PC{0,40}", any::<bool>()), 0..60)
        ) {
            let mut notes = notes();
            for (topic, payload, retained) in &messages {
                notes.note(topic, payload.as_bytes(), *retained);
            }
            for noted in notes.topics.values() {
                if let Some(subscription) = &noted.seen.suggestion {
                    prop_assert!(topic::matches(&subscription.filter, &noted.seen.topic) || noted.seen.topic.starts_with('$'));
                }
            }
        }
    }
}
