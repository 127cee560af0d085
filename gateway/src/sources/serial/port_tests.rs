//! The source on a pseudo-terminal.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::reader::BETWEEN_MESSAGES;
use super::*;
use crate::reading::Value;
use crate::sources::Intake;
use crate::sources::line::Line;
use crate::sources::line::tests::pseudo_terminal;
use crate::sources::testing::{FarEnd, start};
use crate::status::HasHealth as _;
use firmware_protocols::{Body, Decoder, Describe, Message as FirmwareMessage, Sender};
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{sleep, timeout};

fn options(port: &str, framing: Framing) -> SerialOptions {
    let payload = match framing {
        Framing::Firmware {} => None,
        Framing::Delimiter { .. } => Some(LinePayload::Number { point: "temp".into(), unit: "°C".into() }),
    };
    let (name, device) = ("line".into(), "probe".into());
    SerialOptions { name, port: port.into(), baud: 115_200, parity: Parity::None, framing, device, payload }
}

fn lines() -> Framing {
    Framing::Delimiter { delimiter: "\n".into(), bytes_max: 100 }
}

/// A port that can be plugged in under the same name again and again.
struct Socket(tempfile::TempDir);

impl Socket {
    fn path(&self) -> PathBuf {
        self.0.path().join("by-id")
    }

    /// Plugs a device in and waits until the source has opened it.
    async fn plug(&self, far: &FarEnd) -> Line {
        let (device, port) = pseudo_terminal();
        far.until_state(State::Down).await;
        std::os::unix::fs::symlink(port, self.path()).unwrap();
        far.until_state(State::Starting).await;
        device
    }

    fn unplug(&self, device: Line) {
        std::fs::remove_file(self.path()).unwrap();
        drop(device);
    }
}

/// A device, its socket, and a source that has opened it.
async fn plugged(framing: Framing, intakes_max: usize) -> (Line, FarEnd, Socket) {
    let socket = Socket(tempfile::tempdir().unwrap());
    let (far, _) = start(SerialSource::new(options(&socket.path().display().to_string(), framing)), intakes_max);
    let device = socket.plug(&far).await;
    (device, far, socket)
}

fn values(intake: &Intake) -> Vec<Value> {
    intake.samples.iter().map(|sample| sample.outcome.clone().unwrap()).collect()
}

#[tokio::test]
async fn lines_become_samples_and_a_wrong_line_is_set_aside() {
    let (mut device, mut far, _socket) = plugged(lines(), 4).await;
    // Between messages: the first one counts.
    sleep(BETWEEN_MESSAGES * 2).await;
    device.write_all(b"71.5\n").await.unwrap();
    assert_eq!(values(&far.intake().await), [Value::Number(71.5)]);
    device.write_all(b"hot\n").await.unwrap();
    let intake = far.intake().await;
    assert_eq!(intake.messages[0].rejects[0].position, "line 2");
}

#[tokio::test]
async fn an_unplugged_port_is_told_and_opened_again_under_its_name() {
    let (device, mut far, socket) = plugged(lines(), 4).await;
    socket.unplug(device);
    far.until_state(State::Down).await;
    far.until_trouble("does not work").await;
    let errors = far.status.errors.get();

    let mut device = socket.plug(&far).await;
    assert_eq!((far.all.troubles(), far.status.reconnects.get()), (vec![], 1));
    assert!(errors < 10, "{errors} errors: an unplugged port must not be read in a hot loop");
    device.write_all(b"cut off\n72\n").await.unwrap();
    while values(&far.intake().await) != [Value::Integer(72)] {}
}

#[tokio::test]
async fn an_open_port_is_live_only_once_it_was_understood() {
    let (mut device, mut far, _socket) = plugged(lines(), 4).await;
    sleep(BETWEEN_MESSAGES * 2).await;
    device.write_all(b"gibberish\n").await.unwrap();
    assert_eq!(far.intake().await.messages[0].rejects.len(), 1);
    assert_eq!(far.status.health().state, State::Starting);
    device.write_all(b"71.5\n").await.unwrap();
    far.until_state(State::Live).await;
}

#[tokio::test]
async fn lines_that_find_no_room_are_counted_and_told() {
    let (mut device, mut far, _socket) = plugged(lines(), 1).await;
    device.write_all(b"cut off\n").await.unwrap();
    let mut sent = 0;
    while far.status.missed.get() == 0 {
        device.write_all(b"1\n").await.unwrap();
        sent += 1;
        tokio::task::yield_now().await;
        assert!(sent < 100_000);
    }
    device.write_all(b"2\n").await.unwrap();
    let (mut came, mut told, mut last) = (0, 0, None);
    // After the first intake there is room for the rest, which brings the count.
    while told == 0 || came + told < sent {
        let intake = far.intake().await;
        came += intake.messages.len() as u64;
        told += intake.missed.iter().map(|missed| missed.count).sum::<u64>();
        last = intake.samples.last().cloned().or(last);
    }
    assert_eq!(told, far.status.missed.get());
    assert!(came >= 256 && last.is_some());
}

#[tokio::test]
async fn a_device_gets_its_acknowledgement_after_the_receipt() {
    let (mut device, mut far, _socket) = plugged(Framing::Firmware {}, 4).await;
    let mut sender: Sender<8> = Sender::new(7, "1.0".try_into().unwrap(), "probe".try_into().unwrap());
    sender.send(&Body::Describe(Describe::default())).unwrap();
    while let Some(frame) = sender.poll(0) {
        device.write_all(frame).await.unwrap();
    }
    let intake = far.intake().await;
    assert_eq!(sender.unacknowledged(), 1);
    far.receipt(&intake).await;
    let mut decoder = Decoder::new();
    while sender.unacknowledged() > 0 {
        let byte = timeout(Duration::from_secs(20), device.read_u8()).await.unwrap().unwrap();
        if let Some(frame) = decoder.push(byte)
            && let FirmwareMessage { boot, body: Body::Ack(ack) } = FirmwareMessage::decode(&frame.unwrap()).unwrap()
        {
            sender.acknowledge(boot, ack.sequence);
        }
    }
}
