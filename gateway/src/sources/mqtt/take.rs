//! A published message to samples and rejects.

use super::topic::{self, Template};
use super::{MqttOptions, Subscription};
use crate::block::records::RawBytes;
use crate::decode;
use crate::reading::{MonoMicros, NO_HASH, PointId, Sample};
use crate::site::{POINTS_MAX, Registry};
use crate::sources::{Message, Receipt, Reject};
use std::collections::HashMap;
use std::sync::Arc;
use xxhash_rust::xxh3::Xxh3Default;

/// Most topics whose points are remembered; when they are more, all are looked up anew. More than a gateway's points
/// are only topics that are refused.
const TOPICS_MAX: usize = POINTS_MAX;

/// A message as the broker sent it.
pub(super) struct Published<'a> {
    pub(super) topic: &'a str,
    pub(super) payload: &'a [u8],
    /// 0 with quality of service 0.
    pub(super) packet_id: u16,
    pub(super) is_duplicate: bool,
    pub(super) is_retained: bool,
}

/// Turns messages into samples; remembers what topics stand for.
pub(super) struct Taker {
    source: String,
    subscriptions: Vec<Mapping>,
    payload_bytes_max: u64,
    registry: Arc<Registry>,
    topics: HashMap<String, Topic>,
}

struct Mapping {
    options: Subscription,
    device: Template,
    point: Template,
    unit: Template,
}

/// What a topic stands for.
struct Topic {
    /// Its point and subscription, or why it has none.
    target: Result<(PointId, usize), String>,
    /// Hash of the last payload.
    last_payload: u64,
}

impl Taker {
    /// The error names the first unfit template; [`MqttOptions::problems`] names all.
    pub(super) fn new(options: &MqttOptions, registry: Arc<Registry>) -> Result<Self, String> {
        let mapping = |options: &Subscription| {
            Ok(Mapping {
                device: Template::parse(&options.device)?,
                point: Template::parse(&options.point)?,
                unit: Template::parse(&options.unit)?,
                options: options.clone(),
            })
        };
        Ok(Self {
            source: options.name.clone(),
            subscriptions: options.subscribe.iter().map(mapping).collect::<Result<_, String>>()?,
            payload_bytes_max: options.packet_max.0,
            registry,
            topics: HashMap::new(),
        })
    }

    /// The message and its sample, if it has one.
    ///
    /// A retained message is the broker's answer to a subscription, and every reconnection subscribes again. It is
    /// taken unless it repeats the last message of its topic in this run; after a restart it may come once more.
    pub(super) fn take(
        &mut self,
        published: &Published<'_>,
        generation: u64,
        mono_us: MonoMicros,
    ) -> (Message, Option<Sample>) {
        let hash = message_hash(published);
        let mut message = Message {
            receipt: (published.packet_id != 0)
                .then_some(Receipt { generation, token: u64::from(published.packet_id) }),
            redelivered: published.is_duplicate,
            hash,
            ..Message::default()
        };
        match self.sample(published, hash, mono_us) {
            Ok(sample) => (message, sample),
            Err((rule, error)) => {
                // Of a payload that is too long just what a dead letter keeps: many may wait for the disk.
                let raw = RawBytes::of(published.payload);
                message.rejects.push(Reject { position: published.topic.to_owned(), error, rule, raw });
                (message, None)
            }
        }
    }

    fn sample(
        &mut self,
        published: &Published<'_>,
        hash: u32,
        mono_us: MonoMicros,
    ) -> Result<Option<Sample>, (&'static str, String)> {
        let payload_bytes = published.payload.len() as u64;
        if payload_bytes > self.payload_bytes_max {
            let max = self.payload_bytes_max;
            let error = format!(
                "payload of {payload_bytes} bytes is longer than the {max} of packet_max; its beginning is kept"
            );
            return Err(("packet_max", error));
        }
        if !self.topics.contains_key(published.topic) {
            self.learn(published.topic);
        }
        let Some(topic) = self.topics.get_mut(published.topic) else { return Ok(None) };
        let (point, subscription) = topic.target.clone().map_err(|error| ("topic", error))?;
        let payload_hash = xxhash_rust::xxh3::xxh3_64(published.payload);
        let repeats = payload_hash == std::mem::replace(&mut topic.last_payload, payload_hash);
        if published.is_retained && !published.is_duplicate && repeats {
            return Ok(None);
        }
        let Some(mapping) = self.subscriptions.get(subscription) else { return Ok(None) };
        let format = &mapping.options.payload;
        let decoded = decode::payload(format, published.payload).map_err(|error| (format.name(), error.to_string()))?;
        Ok(Some(Sample {
            point,
            outcome: decoded.outcome,
            observed_at_us: decoded.observed_at_us,
            received_mono_us: mono_us,
            message_hash: hash,
        }))
    }

    fn learn(&mut self, topic: &str) {
        if self.topics.len() >= TOPICS_MAX {
            self.topics.clear();
        }
        let target = self.target(topic);
        self.topics.insert(topic.to_owned(), Topic { target, last_payload: 0 });
    }

    /// The point of a topic by the first subscription that means it.
    fn target(&self, topic: &str) -> Result<(PointId, usize), String> {
        let found = self.subscriptions.iter().enumerate();
        let found = found.into_iter().find(|(_, mapping)| topic::matches(&mapping.options.filter, topic));
        let (index, mapping) = found.ok_or(
            "no subscription means this topic: the broker remembers an earlier one of this client_id; change client_id to forget it",
        )?;
        let (device, point, unit) =
            (mapping.device.expand(topic)?, mapping.point.expand(topic)?, mapping.unit.expand(topic)?);
        let id = self.registry.intern(&device, &point, &unit, &self.source).map_err(|error| error.to_string())?;
        Ok((id, index))
    }
}

/// A redelivery has the packet id, topic and payload of the first delivery (MQTT 3.1.1, section 4.4), and a later equal
/// value another packet id. Messages of quality 0 are never redelivered.
fn message_hash(published: &Published<'_>) -> u32 {
    if published.packet_id == 0 {
        return NO_HASH;
    }
    let mut hasher = Xxh3Default::new();
    hasher.update(&published.packet_id.to_le_bytes());
    hasher.update(&(published.topic.len() as u64).to_le_bytes());
    hasher.update(published.topic.as_bytes());
    hasher.update(published.payload);
    low_bits(hasher.digest())
}

/// The low 32 bits, and 1 where they are those of [`NO_HASH`].
#[expect(clippy::cast_possible_truncation, reason = "the low half is what is wanted")]
fn low_bits(hash: u64) -> u32 {
    let low = hash as u32;
    if low == NO_HASH { 1 } else { low }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::super::tests::options;
    use super::*;
    use crate::reading::Value;

    fn published<'a>(topic: &'a str, payload: &'a [u8], packet_id: u16) -> Published<'a> {
        Published { topic, payload, packet_id, is_duplicate: false, is_retained: false }
    }

    fn taker() -> Taker {
        Taker::new(&options(1883), Arc::default()).unwrap()
    }

    #[test]
    fn a_message_becomes_a_sample_of_the_point_that_its_topic_names() {
        let mut taker = taker();
        let (message, sample) = taker.take(&published("plant/boiler-3/temp", b"{\"v\":71.5}", 7), 2, 99);
        let sample = sample.unwrap();
        assert_eq!(sample.outcome, Ok(Value::Number(71.5)));
        assert_eq!((sample.received_mono_us, sample.message_hash), (99, message.hash));
        assert_eq!(message.receipt, Some(Receipt { generation: 2, token: 7 }));
        let key = taker.registry.key(sample.point).unwrap();
        assert_eq!((&*key.device, &*key.point, &*key.unit, &*key.source), ("boiler-3", "temp", "°C", "broker"));
    }

    #[test]
    fn a_redelivery_has_the_same_hash_and_a_later_equal_value_another() {
        let mut taker = taker();
        let mut hash = |packet_id, payload| taker.take(&published("plant/a/b", payload, packet_id), 1, 0).0.hash;
        let first = hash(7, b"{\"v\":1}");
        assert_ne!(first, NO_HASH);
        assert_eq!(hash(7, b"{\"v\":1}"), first);
        assert_ne!(hash(8, b"{\"v\":1}"), first);
        assert_ne!(hash(7, b"{\"v\":2}"), first);
        assert_eq!(hash(0, b"{\"v\":1}"), NO_HASH);
        assert_eq!(low_bits(1 << 32), 1);
    }

    #[test]
    fn what_cannot_become_a_sample_is_refused_with_topic_reason_and_bytes() {
        let mut taker = taker();
        let long = vec![b'x'; 200_000];
        for (topic, payload, rule, part) in [
            ("plant/a/b", &b"{\"v\":"[..], "json", "not JSON"),
            ("elsewhere", b"1", "topic", "no subscription"),
            ("plant//b", b"1", "topic", "device name"),
            ("plant/a/b", &long, "packet_max", "200000 bytes"),
        ] {
            let (message, sample) = taker.take(&published(topic, payload, 1), 1, 0);
            assert!(sample.is_none());
            let reject = &message.rejects[0];
            assert_eq!((reject.position.as_str(), reject.rule), (topic, rule));
            assert!(reject.error.contains(part), "{}", reject.error);
            assert_eq!(reject.raw, RawBytes::of(payload));
            assert!(message.receipt.is_some(), "it must be acknowledged, or it comes again for ever");
        }
    }

    #[test]
    fn a_retained_message_that_repeats_the_last_one_is_not_a_new_reading() {
        let mut taker = taker();
        let retained = |payload| Published { is_retained: true, ..published("plant/a/b", payload, 3) };
        assert!(taker.take(&retained(b"{\"v\":1}"), 1, 0).1.is_some());
        let (message, sample) = taker.take(&retained(b"{\"v\":1}"), 2, 0);
        assert!(sample.is_none() && message.rejects.is_empty() && message.receipt.is_some());
        assert!(taker.take(&retained(b"{\"v\":2}"), 2, 0).1.is_some());
        assert!(taker.take(&published("plant/a/b", b"{\"v\":2}", 4), 2, 0).1.is_some());
    }
}
