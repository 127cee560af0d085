//! Payload formats: bytes to values and times. Total: any bytes give values or an error, never a panic.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a payload is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "format", rename_all = "lowercase", deny_unknown_fields)]
pub enum Payload {
    /// A JSON document; where value and time stand is told by JSON pointers (RFC 6901).
    Json {
        /// Where the value stands; empty for the whole document.
        #[serde(default)]
        value: String,
        /// Where the device's own time stands: RFC 3339 text, or Unix time in seconds, milliseconds or microseconds.
        #[serde(default)]
        time: Option<String>,
    },
    /// The whole payload is one number, or `true`, `false`, `on`, `off`.
    Number {},
}
