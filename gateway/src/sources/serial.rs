//! Serial lines: delimited text, or frames of `firmware-protocols`.
//!
//! A line cannot be held back: when ingest is full, delimited messages are counted as overrun, while firmware frames
//! are left for the device to send again. An unplugged port is opened again as soon as it is back.

mod firmware;
mod framed;
mod lines;
pub(super) mod listen;
#[cfg(test)]
mod port_tests;
mod reader;
pub(super) mod tryout;
mod uptime;

use crate::sources::line::{Parity, baud_problem};
use crate::sources::{Source, SourceContext};
use crate::status::State;
use framed::Framed;
use reader::Reader;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Longest message that a configuration may allow, in bytes: one is held in memory per line.
const LINE_BYTES_MAX_LIMIT: usize = 64 * 1024;
/// Most columns of a line.
const COLUMNS_MAX: usize = 1_000;
/// Longest delimiter, in bytes.
const DELIMITER_BYTES_MAX: usize = 8;

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

impl SerialOptions {
    /// What is wrong with the options: path within them, and message.
    #[must_use]
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        let mut add = |path: &str, message: String| problems.push((path.to_owned(), message));
        if !self.port.starts_with('/') {
            add("port", format!("{:?} is not the path of a port, as in \"/dev/ttyUSB0\"", self.port));
        }
        if let Some(message) = baud_problem(self.baud) {
            add("baud", message);
        }
        if self.device.is_empty() {
            add("device", "the device name is empty".into());
        }
        match (&self.framing, &self.payload) {
            (Framing::Firmware {}, Some(_)) => {
                add("payload", "firmware frames describe themselves; remove `payload`".into());
            }
            (Framing::Firmware {}, None) => {}
            (Framing::Delimiter { delimiter, bytes_max }, payload) => {
                if !(1..=DELIMITER_BYTES_MAX).contains(&delimiter.len()) {
                    add("framing.delimiter", format!("a delimiter must have 1 to {DELIMITER_BYTES_MAX} bytes"));
                }
                if !(1..=LINE_BYTES_MAX_LIMIT).contains(bytes_max) {
                    add("framing.bytes_max", format!("{bytes_max} must be 1 to {LINE_BYTES_MAX_LIMIT}"));
                }
                match payload {
                    None => add("payload", "delimited messages need a `payload` that says how they are read".into()),
                    Some(LinePayload::Number { point, .. }) if point.is_empty() => {
                        add("payload.point", "the point name is empty".into());
                    }
                    Some(LinePayload::Number { .. }) => {}
                    Some(LinePayload::Csv { columns, .. }) => {
                        if columns.len() > COLUMNS_MAX || columns.iter().all(|column| column.point.is_empty()) {
                            add("payload.columns", format!("1 to {COLUMNS_MAX} columns must have a point name"));
                        }
                    }
                }
            }
        }
        problems
    }
}

/// A serial line as a source.
pub struct SerialSource {
    options: SerialOptions,
}

impl SerialSource {
    /// A source with these options, whose [`SerialOptions::problems`] are none.
    #[must_use]
    pub fn new(options: SerialOptions) -> Self {
        Self { options }
    }
}

impl Source for SerialSource {
    async fn run(self, context: SourceContext) {
        match Framed::new(&self.options, &context) {
            Ok(framed) => Reader::new(self.options, context, framed).run().await,
            Err(error) => context.fail(State::Paused, &error),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    #[test]
    fn every_problem_is_told_with_its_path() {
        let options: SerialOptions = toml::from_str(
            r#"
            name = "probe"
            port = "ttyUSB0"
            baud = 0
            framing = { kind = "delimiter", delimiter = "" }
            device = ""
            "#,
        )
        .unwrap();
        let paths: Vec<_> = options.problems().into_iter().map(|(path, _)| path).collect();
        assert_eq!(paths, ["port", "baud", "device", "framing.delimiter", "payload"]);
    }
}
