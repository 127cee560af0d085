//! Reading a topic as a consumer does: for `forebay verify-stream`.

use super::client::MESSAGE_TIMEOUT;
use crate::sinks::SinkError;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::metadata::MetadataTopic;
use rdkafka::{Offset, TopicPartitionList};
use std::time::Duration;

/// Longest wait for one answer of the cluster.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);

/// So many waits in a row without a record or an end, and the cluster is taken to be gone.
const SILENCES_MAX: u32 = 6;

/// Reads every committed record of a topic, from the oldest kept to the end as it stands now; returns how many there were. A
/// topic that is not there has none.
///
/// # Errors
/// If the cluster cannot be reached, or does not let this reader in.
pub fn read_topic(brokers: &str, topic: &str, mut take: impl FnMut(&[u8])) -> Result<u64, SinkError> {
    let failed =
        |what: &str, error: &KafkaError| SinkError::Unreachable(format!("cannot {what} topic {topic}: {error}"));
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers);
    // The library wants a group's name to assign partitions; nothing joins it, nothing is stored under it.
    config.set("group.id", "forebay-verify-stream");
    config.set("isolation.level", "read_committed");
    config.set("enable.auto.commit", "false");
    config.set("enable.partition.eof", "true");
    config.set("auto.offset.reset", "earliest");
    config.set("allow.auto.create.topics", "false");
    config.set("socket.timeout.ms", MESSAGE_TIMEOUT.as_millis().to_string());
    config.set_log_level(RDKafkaLogLevel::Error);
    let consumer: BaseConsumer = config.create().map_err(|error| failed("read", &error))?;
    let metadata = consumer.fetch_metadata(Some(topic), REQUEST_LIMIT).map_err(|error| failed("find", &error))?;
    let mut assignment = TopicPartitionList::new();
    for partition in metadata.topics().iter().flat_map(MetadataTopic::partitions) {
        let added = assignment.add_partition_offset(topic, partition.id(), Offset::Beginning);
        added.map_err(|error| failed("read", &error))?;
    }
    let mut open = assignment.count();
    if open == 0 {
        return Ok(0);
    }
    consumer.assign(&assignment).map_err(|error| failed("read", &error))?;
    let (mut records, mut silences) = (0, 0);
    while open > 0 {
        match consumer.poll(REQUEST_LIMIT) {
            None => {
                silences += 1;
                if silences >= SILENCES_MAX {
                    let waited_s = REQUEST_LIMIT.as_secs() * u64::from(SILENCES_MAX);
                    return Err(SinkError::Unreachable(format!("topic {topic} gave nothing for {waited_s} s")));
                }
            }
            Some(Ok(message)) => {
                silences = 0;
                records += 1;
                take(message.payload().unwrap_or_default());
            }
            Some(Err(KafkaError::PartitionEOF(_))) => open -= 1,
            // The library goes on by itself after trouble with a connection; silence ends the rest.
            Some(Err(error)) => tracing::debug!(topic, %error, "reading"),
        }
    }
    Ok(records)
}
