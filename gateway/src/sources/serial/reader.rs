//! Keeps a port open: reads into intakes, writes answers, opens it again after it was unplugged.

use super::SerialOptions;
use super::framed::Framed;
use crate::backoff::Backoff;
use crate::block::records::{Missed, MissedReason, Severity};
use crate::sources::line::{Line, LineSettings};
use crate::sources::{Intake, SourceContext};
use crate::status::State;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, sleep, timeout};

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
pub(super) const BETWEEN_MESSAGES: Duration = Duration::from_millis(100);
/// The trouble's part of the port.
const PORT: &str = "port";

/// Reads from one port.
pub(super) struct Reader {
    options: SerialOptions,
    context: SourceContext,
    framed: Framed,
    /// What waits for room at ingest.
    pending: Intake,
    /// Messages that found no room; told with the next intake.
    overruns: u64,
}

impl Reader {
    pub(super) fn new(options: SerialOptions, context: SourceContext, framed: Framed) -> Self {
        let pending = context.intake();
        Self { options, context, framed, pending, overruns: 0 }
    }

    /// Runs until the gateway stops.
    pub(super) async fn run(mut self) {
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
                    // Every port that is there opens; only a message shows that the right device speaks at the right speed.
                    self.context.set_state(State::Starting);
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
                    if !self.pending.samples.is_empty() {
                        self.context.set_state(State::Live);
                    }
                    room.send(self.take_pending());
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
