//! Tries a serial source: opens the port, reads the first messages, shows their values. Nothing is acknowledged, so a
//! device that keeps what it sent sends it again.

use super::framed::Framed;
use super::reader::BETWEEN_MESSAGES;
use super::{Framing, SerialOptions};
use crate::sources::Intake;
use crate::sources::line::LineSettings;
use crate::sources::tryout::{all_tried, context};
use crate::tryout::{Steps, excerpt};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout, timeout_at};

/// How long the first message is awaited; a firmware device greets within 8 s (`firmware_protocols::sender::ACK_TIMEOUT_MAX_MS`).
const FIRST_MESSAGE_LIMIT: Duration = Duration::from_secs(10);
/// How long more messages are gathered after the first one.
const MORE_MESSAGES_WAIT: Duration = Duration::from_millis(500);
/// Bytes read at once.
const READ_BYTES: usize = 1_024;
/// Bytes that are kept for showing what came when nothing could be read.
const KEPT_BYTES_MAX: usize = 512;
/// How long writing an answer may take.
const WRITE_LIMIT: Duration = Duration::from_secs(1);

/// Takes the steps.
pub(in crate::sources) async fn take_steps(options: &SerialOptions, steps: &mut Steps) {
    steps.begin(format!("open {} at {} baud", options.port, options.baud));
    let settings =
        LineSettings { port: options.port.clone(), baud: options.baud, parity: options.parity, two_stop_bits: false };
    let mut line = match settings.open() {
        Ok(line) => line,
        Err(error) => return steps.failed(error, "choose a port from the list of those that are there"),
    };
    steps.ok("");
    let context = context(&options.name);
    let mut framed = match Framed::new(options, &context) {
        Ok(framed) => framed,
        Err(problem) => {
            steps.begin("read the settings of the messages");
            return steps.failed(problem, "change it, then try again");
        }
    };
    steps.begin("wait for the first message");
    let opened = Instant::now();
    let mut deadline = opened + FIRST_MESSAGE_LIMIT;
    let mut came = Intake::default();
    let (mut bytes, mut kept): (u64, Vec<u8>) = (0, Vec::new());
    let mut buffer = [0; READ_BYTES];
    while !came.is_full() {
        let count = match timeout_at(deadline, line.read(&mut buffer)).await {
            Ok(Ok(0)) => return steps.failed(format!("{} was unplugged", options.port), "plug it in again"),
            Ok(Ok(count)) => count,
            Ok(Err(error)) => {
                return steps.failed(format!("{}: {error}", options.port), "check that the device is plugged in");
            }
            Err(_) => break,
        };
        let read = buffer.get(..count).unwrap_or_default();
        if bytes == 0 {
            framed.restart(opened.elapsed() < BETWEEN_MESSAGES);
        }
        bytes += count as u64;
        let room = KEPT_BYTES_MAX.saturating_sub(kept.len());
        kept.extend(read.iter().take(room));
        let was_empty = came.messages.is_empty();
        framed.feed(read, &context, &mut came);
        if was_empty && !came.messages.is_empty() {
            deadline = Instant::now() + MORE_MESSAGES_WAIT;
        }
        let output = framed.take_output();
        if !output.is_empty() && !matches!(timeout(WRITE_LIMIT, line.write_all(&output)).await, Ok(Ok(()))) {
            let advice = "check the transmit wire and flow control";
            return steps.failed(format!("nothing can be written to {}", options.port), advice);
        }
    }
    show(options, &came, &context.registry, bytes, &kept, steps);
}

/// Tells what came.
fn show(
    options: &SerialOptions,
    came: &Intake,
    registry: &crate::site::Registry,
    bytes: u64,
    kept: &[u8],
    steps: &mut Steps,
) {
    let seconds = FIRST_MESSAGE_LIMIT.as_secs();
    if bytes == 0 {
        let what = format!("nothing came within {seconds} s");
        return steps.failed(what, "check that the device is on and sends by itself, the receive wire, and the port");
    }
    let raw = excerpt(kept);
    if came.messages.is_empty() {
        let what = format!("{bytes} bytes came, but no whole message: {raw}");
        let advice = match &options.framing {
            Framing::Firmware {} => "check the speed, and that the device runs firmware with these frames",
            Framing::Delimiter { .. } => "check the speed, the parity, and what ends a message",
        };
        return steps.failed(what, advice);
    }
    steps.ok(format!("{bytes} bytes: {raw}"));
    let values = all_tried(came, registry, "line", &raw);
    steps.begin("read the values");
    let words = values.iter().filter(|value| value.error.is_none()).map(|value| value.words());
    let read: Vec<String> = words.take(4).collect();
    let error = values.iter().find_map(|value| value.error.clone());
    for value in values {
        steps.value(value);
    }
    match error {
        Some(error) => steps.failed(error, "look at what came, and choose the payload that it has"),
        None if read.is_empty() => steps.ok("the device speaks, but has sent no value yet"),
        None => steps.ok(read.join(", ")),
    }
}
