//! Serial lines: delimited text, or frames of `firmware-protocols`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A serial line to listen on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SerialOptions {
    /// Name of the source, unique in the file.
    pub name: String,
    /// The port; prefer the stable names below /dev/serial/by-id.
    pub port: String,
    /// Bits per second.
    #[serde(default = "baud")]
    pub baud: u32,
    /// Parity of each character.
    #[serde(default)]
    pub parity: Parity,
    /// Where messages begin and end.
    pub framing: Framing,
    /// Device name of its points.
    pub device: String,
    /// How a delimited message is read; firmware frames describe themselves.
    #[serde(default)]
    pub payload: Option<LinePayload>,
}

/// Parity of each character.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Parity {
    /// No parity bit.
    #[default]
    None,
    /// Even number of ones.
    Even,
    /// Odd number of ones.
    Odd,
}

/// Where messages begin and end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Framing {
    /// Frames of firmware-protocols: checked, numbered, acknowledged after they are on disk.
    Firmware {},
    /// Messages that end with a delimiter.
    Delimiter {
        /// What ends a message; `"\n"` also takes `"\r\n"`.
        #[serde(default = "delimiter")]
        delimiter: String,
        /// Longest message, in bytes; a longer one is a dead letter.
        #[serde(default = "line_bytes_max")]
        bytes_max: usize,
    },
}

/// How a delimited message is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "format", rename_all = "lowercase", deny_unknown_fields)]
pub enum LinePayload {
    /// The whole message is one number.
    Number {
        /// Point name.
        point: String,
        /// Unit of the value.
        #[serde(default)]
        unit: String,
    },
    /// Values between separators.
    Csv {
        /// What stands between values.
        #[serde(default = "separator")]
        separator: char,
        /// The columns to take, in the order of the line; an empty point name skips a column.
        columns: Vec<Column>,
    },
}

/// A column of a CSV line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// Point name; empty to skip the column.
    pub point: String,
    /// Unit of the value.
    #[serde(default)]
    pub unit: String,
}

fn baud() -> u32 {
    115_200
}

fn delimiter() -> String {
    "\n".to_owned()
}

fn line_bytes_max() -> usize {
    4096
}

fn separator() -> char {
    ','
}
