//! Kafka: one transaction for one run, with the lane's cursor in it.

use crate::units::ByteSize;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A Kafka cluster to deliver to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KafkaOptions {
    /// Name of the sink, unique in the file.
    pub name: String,
    /// Brokers to ask first, `host:port`.
    pub brokers: Vec<String>,
    /// Topics are `<prefix>.readings`, `<prefix>.alerts`, `<prefix>.dead-letters`, `<prefix>.gaps`, `<prefix>.cursors`.
    pub topic_prefix: String,
    /// Transactions: each reading once for `read_committed` consumers. `false`: idempotent, at least once.
    #[serde(default = "exactly_once")]
    pub exactly_once: bool,
    /// How batches are compressed.
    #[serde(default)]
    pub compression: KafkaCompression,
    /// How long a run may wait to fill, in milliseconds.
    #[serde(default = "linger_ms")]
    pub linger_ms: u64,
    /// Most bytes of a run.
    #[serde(default = "batch_max")]
    pub batch_max: ByteSize,
}

/// How batches are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum KafkaCompression {
    /// As they are.
    None,
    /// gzip.
    Gzip,
    /// Snappy.
    Snappy,
    /// LZ4.
    Lz4,
    /// Zstandard.
    #[default]
    Zstd,
}

fn exactly_once() -> bool {
    true
}

fn linger_ms() -> u64 {
    200
}

fn batch_max() -> ByteSize {
    ByteSize(512 * 1024)
}
