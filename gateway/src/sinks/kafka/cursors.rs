//! The cursor topic: where each lane stands, written in the same transaction as its records (docs/record-format.md).

use super::KafkaOptions;
use super::client::{Context, consumer_config};
use super::failure::Failure;
use crate::buffer::{CURSOR_RANGES_MAX, Cursor};
use crate::fault;
use crate::reading::{Epoch, Stream};
use crate::sinks::{Offer, RemoteCursor, SinkError};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::{Offset, TopicPartitionList};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::Instant;

/// All cursors are in this partition, whatever the topic has, so that one offset names the place to read on from.
pub(super) const CURSOR_PARTITION: i32 = 0;

/// The version of a cursor record that this program writes.
const VERSION: u8 = 1;

/// Longest cursor record that is read, in bytes: eight ranges and three names of 128 characters take a fifth of it.
const VALUE_BYTES_MAX: usize = 8 * 1024;

/// Longest wait for one answer of the cluster.
const REQUEST_LIMIT: Duration = Duration::from_secs(5);

/// Longest that a recovery waits for the end of the cursor topic: four times what another gateway's open transaction can hold it
/// back. The topic itself is short: compacted, and read from where the ledger knows it.
const READ_LIMIT: Duration = Duration::from_secs(60);

/// How often the cluster is asked whether an open transaction is over, or a new topic there.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// The cursor topic as one sink sees it.
#[derive(Clone, Debug)]
pub(super) struct CursorTopic {
    topic: String,
    gateway: String,
    sink: String,
}

/// A record on its way to the cursor topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CursorRecord {
    pub(super) topic: String,
    pub(super) key: String,
    pub(super) value: Vec<u8>,
}

/// The value of a cursor record.
#[derive(Debug, Serialize, Deserialize)]
struct CursorValue {
    v: u8,
    /// 32 hexadecimal digits.
    epoch: String,
    /// The mark of the run that moved it there, 16 hexadecimal digits.
    run: String,
    cursor: Cursor,
}

impl CursorTopic {
    pub(super) fn new(gateway: &str, options: &KafkaOptions) -> Self {
        Self {
            topic: format!("{}.cursors", options.topic_prefix),
            gateway: gateway.to_owned(),
            sink: options.name.clone(),
        }
    }

    /// The record that says where a lane will stand.
    pub(super) fn record(&self, offer: &Offer<'_>) -> CursorRecord {
        let value = CursorValue {
            v: VERSION,
            epoch: offer.epoch.to_string(),
            run: format!("{:016x}", offer.run_mark),
            cursor: offer.cursor_after.clone(),
        };
        // Plain numbers and text always become JSON.
        let value = serde_json::to_vec(&value).unwrap_or_default();
        CursorRecord { topic: self.topic.clone(), key: self.key(offer.stream, offer.replay), value }
    }

    fn key(&self, stream: Stream, replay: Option<u32>) -> String {
        let lane = format!("{}/{}/{stream}", self.gateway, self.sink);
        replay.map_or(lane.clone(), |id| format!("{lane}/replay-{id}"))
    }

    /// Which stream of this sink, and which replay of it, a key means.
    fn meant(&self, key: &[u8]) -> Option<(Stream, Option<u32>)> {
        let key = std::str::from_utf8(key).ok()?;
        let rest = key.strip_prefix(&self.gateway)?.strip_prefix('/')?.strip_prefix(&self.sink)?.strip_prefix('/')?;
        let (stream, replay) = match rest.split_once("/replay-") {
            None => (rest, None),
            Some((stream, id)) => (stream, Some(id.parse().ok()?)),
        };
        Some((Stream::ALL.into_iter().find(|known| known.name() == stream)?, replay))
    }

    /// Makes the topic if it is not there yet, compacted, so that the last cursor of each lane is kept for ever.
    pub(super) fn ensure(
        &self,
        gateway: &str,
        options: &KafkaOptions,
        context: &Context,
        runtime: &Handle,
    ) -> Result<(), SinkError> {
        // A consumer asks without making the topic.
        let lookup = consumer(gateway, options, context, "read_uncommitted")?;
        if self.has_leader(&lookup, context)? {
            self.warn_unless_compacted(gateway, options, context, runtime);
            return Ok(());
        }
        self.create(gateway, options, context, runtime)?;
        let deadline = Instant::now() + REQUEST_LIMIT;
        while !self.has_leader(&lookup, context)? {
            if Instant::now() > deadline {
                return Err(SinkError::Unreachable(format!("topic {} has no leader yet", self.topic)));
            }
            std::thread::sleep(ASK_AGAIN);
        }
        Ok(())
    }

    /// Whether the topic is there and can be read.
    fn has_leader(&self, lookup: &BaseConsumer<Context>, context: &Context) -> Result<bool, SinkError> {
        let metadata = lookup
            .fetch_metadata(Some(&self.topic), REQUEST_LIMIT)
            .map_err(|error| SinkError::Unreachable(context.explain(&format!("the brokers do not answer: {error}"))))?;
        let Some(topic) = metadata.topics().iter().find(|topic| topic.name() == self.topic) else { return Ok(false) };
        match topic.error().map(RDKafkaErrorCode::from) {
            None => Ok(topic.partitions().iter().any(|part| part.id() == CURSOR_PARTITION && part.leader() >= 0)),
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::LeaderNotAvailable) => Ok(false),
            Some(code) => Err(self.failed(Failure::of_code(code, Some(&self.topic)))),
        }
    }

    fn create(
        &self,
        gateway: &str,
        options: &KafkaOptions,
        context: &Context,
        runtime: &Handle,
    ) -> Result<(), SinkError> {
        let admin = admin(gateway, options, context)?;
        // As many copies as the cluster gives every topic.
        let topic = NewTopic::new(&self.topic, 1, TopicReplication::Fixed(-1)).set("cleanup.policy", "compact");
        let request = AdminOptions::new().request_timeout(Some(REQUEST_LIMIT)).operation_timeout(Some(REQUEST_LIMIT));
        let results = runtime.block_on(admin.create_topics([&topic], &request));
        let results = results.map_err(|error| SinkError::Unreachable(context.explain(&error.to_string())))?;
        match results.into_iter().next() {
            // Another sink of the same prefix may have been faster.
            None | Some(Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(()),
            Some(Err((
                _,
                code @ (RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::ClusterAuthorizationFailed
                | RDKafkaErrorCode::PolicyViolation),
            ))) => Err(SinkError::Misconfigured(format!(
                "this gateway may not create topic {} ({code}); create it with one partition and cleanup.policy=compact",
                self.topic
            ))),
            Some(Err((_, code))) => Err(self.failed(Failure::of_code(code, Some(&self.topic)))),
        }
    }

    /// A topic that forgets would lose the cursors in a long outage; whoever made it should know.
    fn warn_unless_compacted(&self, gateway: &str, options: &KafkaOptions, context: &Context, runtime: &Handle) {
        let Ok(admin) = admin(gateway, options, context) else { return };
        let request = AdminOptions::new().request_timeout(Some(REQUEST_LIMIT));
        let described =
            runtime.block_on(admin.describe_configs([&ResourceSpecifier::Topic(self.topic.as_str())], &request));
        // Without the right to ask there is no answer, and nothing to say.
        let policy = described.ok().into_iter().flatten().find_map(|topic| {
            let topic = topic.ok()?;
            topic.get("cleanup.policy").and_then(|entry| entry.value.clone())
        });
        if policy.is_some_and(|policy| policy.contains("delete")) {
            tracing::warn!(
                topic = self.topic,
                "the cursor topic forgets old records; set its cleanup.policy to compact, or a long outage may repeat readings"
            );
        }
    }

    /// The last cursor of each lane and epoch of this sink at or after `from_position`, as committed by now. To be called once the producer has
    /// its name: nothing of an older self is undecided then.
    pub(super) fn read(
        &self,
        gateway: &str,
        options: &KafkaOptions,
        context: &Context,
        from_position: Option<i64>,
    ) -> Result<Vec<(Stream, RemoteCursor)>, SinkError> {
        let deadline = Instant::now() + READ_LIMIT;
        let uncommitted = consumer(gateway, options, context, "read_uncommitted")?;
        let committed = consumer(gateway, options, context, "read_committed")?;
        let end = self.end(&uncommitted, context)?;
        self.await_open_transactions(&committed, context, end, deadline)?;

        let from = from_position.map_or(Offset::Beginning, Offset::Offset);
        let mut assignment = TopicPartitionList::new();
        assignment
            .add_partition_offset(&self.topic, CURSOR_PARTITION, from)
            .and_then(|()| committed.assign(&assignment))
            .map_err(|error| SinkError::Unreachable(format!("cannot read topic {}: {error}", self.topic)))?;
        let mut cursors = BTreeMap::new();
        loop {
            fault::point("kafka.reading_cursors");
            if Instant::now() > deadline {
                return Err(SinkError::Unreachable(
                    context.explain(&format!("topic {} could not be read to its end", self.topic)),
                ));
            }
            match committed.poll(REQUEST_LIMIT) {
                None => {}
                Some(Ok(message)) => {
                    self.take(&message, &mut cursors)?;
                    // Where other gateways write all the time, the partition's end is never met: its end of before is enough.
                    if message.offset() + 1 >= end {
                        break;
                    }
                }
                // Everything below `end` was decided before reading began, so the end that is met is not below it.
                Some(Err(KafkaError::PartitionEOF(_))) => break,
                Some(Err(error)) => match Failure::of_error(&error, Duration::ZERO) {
                    // The library goes on by itself after trouble with a connection; the deadline ends the rest.
                    Failure::Again(reason) => tracing::debug!(topic = self.topic, "reading cursors: {reason}"),
                    failure => return Err(self.failed(failure)),
                },
            }
        }
        Ok(cursors.into_iter().map(|((stream, ..), cursor)| (stream, cursor)).collect())
    }

    /// Where the partition ends for this reader: the high watermark, or the last stable offset for `read_committed`.
    fn end(&self, consumer: &BaseConsumer<Context>, context: &Context) -> Result<i64, SinkError> {
        let watermarks = consumer.fetch_watermarks(&self.topic, CURSOR_PARTITION, REQUEST_LIMIT);
        watermarks.map(|(_, end)| end).map_err(|error| {
            let sentence = format!("cannot ask for the end of topic {}: {error}", self.topic);
            SinkError::Unreachable(context.explain(&sentence))
        })
    }

    /// Waits until everything below `end` is committed or aborted: open transactions of others hide what lies behind them.
    fn await_open_transactions(
        &self,
        committed: &BaseConsumer<Context>,
        context: &Context,
        end: i64,
        deadline: Instant,
    ) -> Result<(), SinkError> {
        let mut told = false;
        loop {
            let stable = self.end(committed, context)?;
            if stable >= end {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(SinkError::Unreachable(format!(
                    "a transaction of another producer on topic {} has been open for {} s",
                    self.topic,
                    READ_LIMIT.as_secs()
                )));
            }
            if !told {
                tracing::info!(topic = self.topic, stable, end, "waiting for other producers' transactions to end");
                told = true;
            }
            std::thread::sleep(ASK_AGAIN);
        }
    }

    /// Notes the cursor of a message, if it is one of this sink's.
    fn take(
        &self,
        message: &BorrowedMessage<'_>,
        cursors: &mut BTreeMap<(Stream, Option<u32>, u128), RemoteCursor>,
    ) -> Result<(), SinkError> {
        let Some((stream, replay)) = message.key().and_then(|key| self.meant(key)) else { return Ok(()) };
        let Some(value) = message.payload() else {
            // A tombstone: someone has had this lane forgotten.
            cursors.retain(|(other, of, _), _| (*other, *of) != (stream, replay));
            return Ok(());
        };
        let cursor = read_value(value, message.offset()).map_err(|problem| {
            SinkError::Misconfigured(format!(
                "topic {}, offset {}: {problem}; exactly-once cannot be kept without it. If it is not Forebay's, delete the \
                 record or choose another topic_prefix",
                self.topic,
                message.offset()
            ))
        })?;
        cursors.insert((stream, replay, cursor.epoch.0), RemoteCursor { replay, ..cursor });
        Ok(())
    }

    fn failed(&self, failure: Failure) -> SinkError {
        match failure {
            Failure::Stop(reason) | Failure::Refused(reason) => SinkError::Misconfigured(reason),
            Failure::Again(reason) | Failure::Lost(reason) => {
                SinkError::Unreachable(format!("topic {}: {reason}", self.topic))
            }
            Failure::Fenced => SinkError::Unreachable("another producer of the same name is taking over".to_owned()),
        }
    }
}

/// Reads the value of a cursor record.
fn read_value(value: &[u8], position: i64) -> Result<RemoteCursor, String> {
    if value.len() > VALUE_BYTES_MAX {
        return Err(format!("a cursor record of {} bytes cannot be", value.len()));
    }
    let value: CursorValue =
        serde_json::from_slice(value).map_err(|error| format!("this is not a cursor record: {error}"))?;
    if value.v != VERSION {
        return Err(format!("cursor version {} is newer than this program; update it", value.v));
    }
    let epoch = u128::from_str_radix(&value.epoch, 16).map_err(|_| format!("{:?} is not an epoch", value.epoch))?;
    if value.cursor.ranges.len() >= CURSOR_RANGES_MAX {
        return Err(format!("a cursor with {} ranges cannot be", value.cursor.ranges.len()));
    }
    let run_mark = u64::from_str_radix(&value.run, 16).map_err(|_| format!("{:?} is not a run's mark", value.run))?;
    Ok(RemoteCursor { replay: None, epoch: Epoch(epoch), cursor: value.cursor, run_mark, position })
}

fn consumer(
    gateway: &str,
    options: &KafkaOptions,
    context: &Context,
    isolation_level: &str,
) -> Result<BaseConsumer<Context>, SinkError> {
    consumer_config(gateway, options, isolation_level)
        .create_with_context(context.clone())
        .map_err(|error| SinkError::Misconfigured(format!("the Kafka client does not take its settings: {error}")))
}

fn admin(gateway: &str, options: &KafkaOptions, context: &Context) -> Result<AdminClient<Context>, SinkError> {
    super::client::base_config(gateway, options)
        .create_with_context(context.clone())
        .map_err(|error| SinkError::Misconfigured(format!("the Kafka client does not take its settings: {error}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::reading::SequenceRange;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_cursor_record_reads_back_the_same(
            epoch: u128, replay: Option<u32>, run_mark: u64, from: u64, ranges in proptest::collection::vec((0u64..1000, 0u64..1000), 0..7),
        ) {
            let ranges = ranges.into_iter().map(|(first, count)| SequenceRange { first, last: first + count }).collect();
            let cursor = Cursor { ranges, from };
            let topic = CursorTopic { topic: "p.cursors".into(), gateway: "g".into(), sink: "s".into() };
            let (epoch, stream, range) = (Epoch(epoch), Stream::Gaps, SequenceRange { first: 0, last: 0 });
            let offer =
                Offer { key: String::new(), stream, replay, range, records: &[], epoch, run_mark, cursor_after: &cursor };
            let record = topic.record(&offer);
            let expected = RemoteCursor { replay: None, epoch, cursor: cursor.clone(), run_mark, position: 7 };
            prop_assert_eq!(read_value(&record.value, 7).unwrap(), expected);
            prop_assert_eq!(topic.meant(record.key.as_bytes()), Some((stream, replay)));
            prop_assert!(replay.is_some() || record.key == "g/s/gaps");
            prop_assert_eq!(topic.meant(b"g/t/gaps"), None);
        }

        #[test]
        fn what_is_not_a_cursor_is_an_error(value: Vec<u8>) {
            prop_assert!(read_value(&value, 0).is_err());
        }
    }

    #[test]
    fn a_newer_cursor_is_not_guessed_at() {
        let newer = br#"{"v":2,"epoch":"00","run":"00","cursor":{"ranges":[],"from":4}}"#;
        assert!(read_value(newer, 0).unwrap_err().contains("update"));
    }
}
