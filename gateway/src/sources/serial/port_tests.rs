//! The source on a pseudo-terminal.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::reader::BETWEEN_MESSAGES;
use super::*;
use crate::reading::Value;
use crate::sources::Intake;
use crate::sources::line::tests::pseudo_terminal;
use crate::sources::testing::start;
use firmware_protocols::{Body, Decoder, Describe, Message as FirmwareMessage, Sender};
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

fn lines(port: &str) -> SerialSource {
    SerialSource::new(options(port, Framing::Delimiter { delimiter: "\n".into(), bytes_max: 100 }))
}

fn values(intake: &Intake) -> Vec<Value> {
    intake.samples.iter().map(|sample| sample.outcome.clone().unwrap()).collect()
}

#[tokio::test]
async fn lines_become_samples_and_a_wrong_line_is_set_aside() {
    let (mut device, port) = pseudo_terminal();
    let (mut far, _task) = start(lines(&port), 4);
    far.until_state(State::Live).await;
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
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("by-id").display().to_string();
    let plug = || {
        let (device, port) = pseudo_terminal();
        std::os::unix::fs::symlink(port, &link).unwrap();
        device
    };
    let device = plug();
    let (mut far, _task) = start(lines(&link), 4);
    far.until_state(State::Live).await;
    std::fs::remove_file(&link).unwrap();
    drop(device);
    far.until_state(State::Down).await;
    far.until_trouble("does not work").await;
    let errors = far.status.errors.get();

    let mut device = plug();
    far.until_state(State::Live).await;
    assert_eq!((far.all.troubles(), far.status.reconnects.get()), (vec![], 1));
    assert!(errors < 10, "{errors} errors: an unplugged port must not be read in a hot loop");
    device.write_all(b"cut off\n72\n").await.unwrap();
    while values(&far.intake().await) != [Value::Integer(72)] {}
}

#[tokio::test]
async fn lines_that_find_no_room_are_counted_and_told() {
    let (mut device, port) = pseudo_terminal();
    let (mut far, _task) = start(lines(&port), 1);
    far.until_state(State::Live).await;
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
    let (mut device, port) = pseudo_terminal();
    let (mut far, _task) = start(SerialSource::new(options(&port, Framing::Firmware {})), 4);
    far.until_state(State::Live).await;
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
