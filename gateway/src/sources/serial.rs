//! Serial lines: delimited text, or frames of `firmware-protocols`.
//!
//! A line cannot be held back: when ingest is full, delimited messages are counted as overrun, while firmware frames
//! are left for the device to send again. An unplugged port is opened again as soon as it is back.

mod firmware;
mod lines;
#[cfg(test)]
mod port_tests;

use crate::backoff::Backoff;
use crate::block::records::{Missed, MissedReason, Severity};
use crate::sources::line::{Line, LineSettings, Parity, baud_problem};
use crate::sources::{Intake, Receipt, Source, SourceContext};
use crate::status::State;
use firmware::FirmwareLine;
use lines::{LineDecoder, Splitter};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, sleep, timeout};

/// Longest message that a configuration may allow, in bytes: one is held in memory per line.
const LINE_BYTES_MAX_LIMIT: usize = 64 * 1024;
/// Most columns of a line.
const COLUMNS_MAX: usize = 1_000;
/// Longest delimiter, in bytes.
const DELIMITER_BYTES_MAX: usize = 8;
/// Bytes read at once: what the kernel keeps for a terminal (`N_TTY_BUF_SIZE`).
const READ_BYTES: usize = 4_096;
/// First wait before the port is opened again.
const REOPEN_FIRST: Duration = Duration::from_millis(100);
/// Longest wait: someone stands beside the device and looks whether it is back.
const REOPEN_MAX: Duration = Duration::from_secs(2);
/// Failed openings in a row after which a person is told: a device that restarts is back before.
const REOPEN_FAILURES_TOLD: u32 = 3;
/// How long writing an answer may take; a device that stops us for longer by flow control is as good as unplugged.
const WRITE_TIMEOUT: Duration = Duration::from_secs(1);
/// A line that was silent for so long after it was opened is between messages: 100 characters at 9600 baud.
const BETWEEN_MESSAGES: Duration = Duration::from_millis(100);
/// The trouble's part of the port.
const PORT: &str = "port";

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
            Ok(framed) => {
                let pending = context.intake();
                Reader { options: self.options, context, framed, pending, overruns: 0 }.run().await;
            }
            Err(error) => context.fail(State::Paused, &error),
        }
    }
}

/// The state of each kind of framing.
enum Framed {
    Lines { splitter: Splitter, decoder: LineDecoder },
    Firmware(Box<FirmwareLine>),
}

impl Framed {
    fn new(options: &SerialOptions, context: &SourceContext) -> Result<Self, String> {
        let Framing::Delimiter { delimiter, bytes_max } = &options.framing else {
            return Ok(Self::Firmware(Box::new(FirmwareLine::new(&options.device, &options.name))));
        };
        let payload = options.payload.as_ref().ok_or("delimited messages need a `payload`")?;
        let decoder = LineDecoder::new(payload, &options.device, &options.name, &context.registry);
        let decoder = decoder.map_err(|error| error.to_string())?;
        Ok(Self::Lines { splitter: Splitter::new(delimiter, *bytes_max), decoder })
    }

    /// Forgets what is half in.
    fn restart(&mut self, is_busy: bool) {
        match self {
            Self::Lines { splitter, .. } => splitter.restart(is_busy),
            Self::Firmware(firmware) => firmware.restart(),
        }
    }

    /// Takes bytes; returns how many messages found no room.
    fn feed(&mut self, bytes: &[u8], context: &SourceContext, pending: &mut Intake) -> u64 {
        let mut overruns = 0;
        match self {
            Self::Firmware(firmware) => firmware.feed(bytes, context, pending),
            Self::Lines { splitter, decoder } => splitter.feed(bytes, |cut| {
                let (message, samples) = decoder.decode(&cut, context.clock.mono_us());
                if pending.is_full() {
                    overruns += 1;
                } else {
                    pending.push(message, samples);
                }
            }),
        }
        overruns
    }

    fn receipts(&mut self, receipts: &[Receipt]) {
        if let Self::Firmware(firmware) = self {
            firmware.receipts(receipts);
        }
    }

    fn take_output(&mut self) -> Vec<u8> {
        match self {
            Self::Firmware(firmware) => firmware.take_output(),
            Self::Lines { .. } => Vec::new(),
        }
    }

    fn take_gave_up(&mut self) -> u64 {
        match self {
            Self::Firmware(firmware) => firmware.take_gave_up(),
            Self::Lines { .. } => 0,
        }
    }
}

struct Reader {
    options: SerialOptions,
    context: SourceContext,
    framed: Framed,
    /// What waits for room at ingest.
    pending: Intake,
    /// Messages that found no room; told with the next intake.
    overruns: u64,
}

impl Reader {
    async fn run(mut self) {
        let stop = self.context.stop.clone();
        let mut is_first = true;
        while let Some(Some(line)) = stop.run_until_cancelled(self.open()).await {
            self.context.status.reconnects.add(u64::from(!is_first));
            is_first = false;
            let Some(error) = stop.run_until_cancelled(self.read(line)).await else { break };
            self.context.fail(State::Down, &format!("serial port {}: {error}", self.options.port));
            self.raise(&error);
        }
        let last = self.take_pending();
        if !last.is_empty() && self.context.intakes.try_send(last).is_err() {
            tracing::warn!(source = %self.options.name, "the last messages found no room when the gateway stopped");
        }
    }

    /// Opens the port as soon as it is there; `None` if the gateway stops meanwhile.
    async fn open(&mut self) -> Option<Line> {
        let parity = self.options.parity;
        let settings =
            LineSettings { port: self.options.port.clone(), baud: self.options.baud, parity, two_stop_bits: false };
        let mut backoff = Backoff::new(REOPEN_FIRST, REOPEN_MAX);
        loop {
            match settings.open() {
                Ok(line) => {
                    self.context.set_state(State::Live);
                    self.context.clear(PORT);
                    return Some(line);
                }
                Err(error) => {
                    if backoff.failures() == 0 {
                        self.context.fail(State::Down, &error);
                    }
                    if backoff.failures() == REOPEN_FAILURES_TOLD {
                        self.raise(&error);
                    }
                }
            }
            let wait = backoff.next_wait();
            tokio::select! {
                () = sleep(wait) => {}
                // What was read before the port was lost may be on disk now.
                receipts = self.context.receipts.recv() => self.framed.receipts(&receipts?),
            }
        }
    }

    /// Reads until the port is gone; returns why.
    async fn read(&mut self, mut line: Line) -> String {
        let intakes = self.context.intakes.clone();
        let opened = Instant::now();
        let mut is_first_read = true;
        let mut buffer = [0; READ_BYTES];
        loop {
            tokio::select! {
                receipts = self.context.receipts.recv() => {
                    let Some(receipts) = receipts else { return "the gateway stops".to_owned() };
                    self.framed.receipts(&receipts);
                }
                read = line.read(&mut buffer) => {
                    let bytes = match read {
                        // An unplugged port reads as an endless end of file.
                        Ok(0) => return "it was unplugged".to_owned(),
                        Ok(count) => buffer.get(..count).unwrap_or_default(),
                        Err(error) => return error.to_string(),
                    };
                    if std::mem::take(&mut is_first_read) {
                        self.framed.restart(opened.elapsed() < BETWEEN_MESSAGES);
                    }
                    let overruns = self.framed.feed(bytes, &self.context, &mut self.pending);
                    self.overruns += overruns;
                    self.context.status.missed.add(overruns);
                }
                room = intakes.reserve(), if !self.pending.is_empty() => {
                    let Ok(room) = room else { return "the gateway stops".to_owned() };
                    room.send(self.take_pending());
                    self.context.set_state(State::Live);
                }
            }
            let output = self.framed.take_output();
            if !output.is_empty() {
                match timeout(WRITE_TIMEOUT, line.write_all(&output)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => return error.to_string(),
                    Err(_) => return format!("nothing could be written for {} s", WRITE_TIMEOUT.as_secs()),
                }
            }
        }
    }

    /// What waits, with what was missed meanwhile.
    fn take_pending(&mut self) -> Intake {
        let mut intake = std::mem::replace(&mut self.pending, self.context.intake());
        let missed = [
            (&self.options.port, std::mem::take(&mut self.overruns), MissedReason::Overrun),
            (&self.options.device, self.framed.take_gave_up(), MissedReason::SenderGap),
        ];
        for (position, count, reason) in missed.into_iter().filter(|(_, count, _)| *count > 0) {
            let (source, position) = (self.options.name.clone(), position.clone());
            intake.missed.push(Missed { source, position, count, reason });
        }
        intake
    }

    fn raise(&self, error: &str) {
        let what = format!("The serial port {} does not work: {error}", self.options.port);
        self.context.raise(PORT, Severity::Error, what, "Check that the device is plugged in");
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
