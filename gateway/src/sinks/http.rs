//! HTTP: one POST for one run, with an Idempotency-Key.

use crate::secret::SecretFile;
use crate::units::ByteSize;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An HTTP ingest endpoint to deliver to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpOptions {
    /// Name of the sink, unique in the file.
    pub name: String,
    /// Where to POST; `{stream}` becomes `readings`, `alerts`, `dead-letters` or `gaps`.
    pub url: String,
    /// How records are put into the body.
    #[serde(default)]
    pub format: HttpFormat,
    /// How the body is compressed.
    #[serde(default)]
    pub compression: HttpCompression,
    /// How Forebay proves who it is.
    #[serde(default)]
    pub auth: Option<HttpAuth>,
    /// How long a run may wait to fill, in milliseconds.
    #[serde(default = "linger_ms")]
    pub linger_ms: u64,
    /// Most bytes of a run before compression.
    #[serde(default = "batch_max")]
    pub batch_max: ByteSize,
    /// How long an answer may take, in milliseconds.
    #[serde(default = "timeout_ms")]
    pub timeout_ms: u64,
}

/// How records are put into the body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HttpFormat {
    /// One JSON object a line (`application/x-ndjson`).
    #[default]
    Ndjson,
    /// One JSON array (`application/json`).
    Json,
}

/// How the body is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HttpCompression {
    /// As it is.
    None,
    /// `Content-Encoding: gzip`.
    #[default]
    Gzip,
}

/// How Forebay proves who it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpAuth {
    /// File (or systemd credential) with a bearer token.
    #[serde(default)]
    pub bearer_file: Option<SecretFile>,
}

fn linger_ms() -> u64 {
    1_000
}

fn batch_max() -> ByteSize {
    ByteSize(256 * 1024)
}

fn timeout_ms() -> u64 {
    10_000
}
