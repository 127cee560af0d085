//! Tries a serial source: opens the port, reads the first messages, shows their values. Nothing is acknowledged, so a
//! device that keeps what it sent sends it again.

use super::framed::Framed;
use super::reader::BETWEEN_MESSAGES;
use super::{Framing, SerialOptions};
use crate::sources::Intake;
use crate::sources::line::LineSettings;
use crate::sources::tryout::{all_tried, context};
use crate::tryout::{Steps, TriedValue, excerpt};
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
        let knew_nothing = !says_something(&came);
        framed.feed(read, &context, &mut came);
        if knew_nothing && says_something(&came) {
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

/// Whether there is a value, or something that cannot be read; a firmware device describes itself first.
fn says_something(came: &Intake) -> bool {
    !came.samples.is_empty() || came.messages.iter().any(|message| !message.rejects.is_empty())
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
    let words = values.iter().filter(|value| value.error.is_none()).map(TriedValue::words);
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]
    use crate::sources::SourceOptions;
    use crate::sources::line::tests::pseudo_terminal;
    use crate::tryout::{TRY_OUT_LIMIT, TryReport, Verdict};
    use firmware_protocols::sender::Sender;
    use firmware_protocols::{Body, Channel, Describe, Sample, Telemetry, Value};
    use std::time::Duration;
    use tokio::io::AsyncWriteExt as _;

    fn options(port: &str, more: &str) -> SourceOptions {
        let text = format!("type = \"serial\"\nname = \"line\"\nport = \"{port}\"\ndevice = \"probe\"\n{more}");
        toml::from_str(&text).unwrap()
    }

    const LINES: &str =
        "framing = { kind = \"delimiter\" }\npayload = { format = \"number\", point = \"temp\", unit = \"°C\" }";

    /// Tries the source while a device sends these bytes again and again.
    async fn tried(more: &str, bytes: &'static [u8]) -> TryReport {
        let (mut device, port) = pseudo_terminal();
        let talking = tokio::spawn(async move {
            loop {
                drop(device.write_all(bytes).await);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        let report = options(&port, more).try_out(&[], None, TRY_OUT_LIMIT).await;
        talking.abort();
        report
    }

    #[tokio::test]
    async fn a_line_that_can_be_read_shows_its_value() {
        let report = tried(LINES, b"71.5\n").await;
        assert_eq!(report.verdict, Verdict::Works, "{report:#?}");
        assert_eq!(report.values[0].words(), "probe/temp = 71.5 °C");
    }

    #[tokio::test]
    async fn a_line_that_cannot_be_read_is_shown_with_why() {
        let report = tried(LINES, b"hot\n").await;
        assert_eq!(report.verdict, Verdict::Fails, "{report:#?}");
        let (what, advice) = report.failure().unwrap();
        assert!(what.contains("\"hot\" is not a number") && advice.contains("payload"), "{what}; {advice}");
    }

    #[tokio::test]
    async fn bytes_without_a_message_and_ports_that_are_not_there_are_told() {
        let (mut device, port) = pseudo_terminal();
        let talking = tokio::spawn(async move {
            device.write_all(&[0x80, 0xf3, 0x91]).await.unwrap();
            // The far end stays open.
            std::future::pending::<()>().await;
        });
        let report = options(&port, LINES).try_out(&[], None, TRY_OUT_LIMIT).await;
        talking.abort();
        assert!(report.failure().unwrap().0.contains("no whole message: 80f391"), "{report:#?}");
        let report = options("/dev/no-such-port", LINES).try_out(&[], None, TRY_OUT_LIMIT).await;
        assert!(report.failure().unwrap().0.contains("is not there"), "{report:#?}");
    }

    #[tokio::test]
    async fn a_firmware_device_shows_its_values_and_keeps_them() {
        let (mut device, port) = pseudo_terminal();
        let mut sender: Sender<8> = Sender::new(7, "1.0".try_into().unwrap(), "probe".try_into().unwrap());
        let mut describe = Describe::default();
        let channel = Channel { channel: 1, name: "level".try_into().unwrap(), unit: "m".try_into().unwrap() };
        describe.channels.push(channel).unwrap();
        sender.send(&Body::Describe(describe)).unwrap();
        let mut telemetry = Telemetry { uptime_ms: 1_000, ..Telemetry::default() };
        telemetry.samples.push(Sample { channel: 1, age_ms: 0, value: Value::I32(42) }).unwrap();
        sender.send(&Body::Telemetry(telemetry)).unwrap();
        let sending = tokio::spawn(async move {
            let mut now_ms = 0;
            while now_ms < 60_000 {
                while let Some(frame) = sender.poll(now_ms) {
                    drop(device.write_all(frame).await);
                }
                now_ms += 100;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            sender.unacknowledged()
        });
        let report = options(&port, "framing = { kind = \"firmware\" }").try_out(&[], None, TRY_OUT_LIMIT).await;
        assert_eq!(report.verdict, Verdict::Works, "{report:#?}");
        assert_eq!(report.values[0].words(), "probe/level = 42 m");
        assert!(!sending.is_finished());
        sending.abort();
    }
}
