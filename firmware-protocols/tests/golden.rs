//! The bytes of version 1, frozen: firmware in the field speaks them.
#![allow(clippy::unwrap_used, reason = "a failed expectation ends a test")]

use firmware_protocols::frame::{FrameBuffer, UNNUMBERED};
use firmware_protocols::{
    Ack, Body, Channel, Decoder, Describe, Hello, Level, Log, Message, Reason, Sample, Telemetry, TimeReply,
    TimeRequest, Value,
};

const GOLDEN: &str = include_str!("golden/v1.txt");
const BOOT: u32 = 0x1122_3344;

/// One of each message, with the sequence and the name it has in the golden file.
fn one_of_each() -> Vec<(&'static str, u32, Body)> {
    let channel = |channel, name: &str, unit: &str| Channel {
        channel,
        name: name.try_into().unwrap(),
        unit: unit.try_into().unwrap(),
    };
    let sample = |channel, value, age_ms| Sample { channel, value, age_ms };
    let samples = [
        sample(0, Value::F32(71.5), 0),
        sample(1, Value::I32(-40), 250),
        sample(2, Value::Bool(true), 1_000),
        sample(255, Value::NotAvailable(Reason::TIMEOUT), u16::MAX),
    ];
    let hello = Hello { oldest: 1, firmware: "1.4.0".try_into().unwrap(), device: "probe-1".try_into().unwrap() };
    let describe =
        Describe { channels: [channel(0, "supply_temp", "°C"), channel(2, "door", "")].into_iter().collect() };
    let telemetry = Telemetry { uptime_ms: 86_400_000, samples: samples.into_iter().collect() };
    let log = Log { uptime_ms: 12_345, level: Level::Warn, text: "battery 3.1 V".try_into().unwrap() };
    vec![
        ("hello", UNNUMBERED, Body::Hello(hello)),
        ("describe", 1, Body::Describe(describe)),
        ("telemetry", 2, Body::Telemetry(telemetry)),
        ("log", 3, Body::Log(log)),
        ("time_request", UNNUMBERED, Body::TimeRequest(TimeRequest { uptime_ms: 12_400 })),
        ("ack", UNNUMBERED, Body::Ack(Ack { sequence: 7 })),
        ("time_reply", UNNUMBERED, Body::TimeReply(TimeReply { uptime_ms: 12_400, unix_us: 1_767_225_600_000_000 })),
        ("describe_request", UNNUMBERED, Body::DescribeRequest),
    ]
}

fn golden_bytes(name: &str) -> Vec<u8> {
    let line = GOLDEN.lines().find(|line| line.split(' ').next() == Some(name));
    let line = line.unwrap_or_else(|| unreachable!("golden/v1.txt has no line {name}"));
    line.split(' ').skip(1).map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

fn hex(bytes: &[u8]) -> String {
    format!("{bytes:02x?}")
}

#[test]
fn every_message_is_written_as_the_golden_bytes() {
    for (name, sequence, body) in one_of_each() {
        let mut frame = FrameBuffer::new();
        Message { boot: BOOT, body }.encode(sequence, &mut frame).unwrap();
        assert_eq!(hex(&frame), hex(&golden_bytes(name)), "{name}");
    }
}

#[test]
fn the_golden_bytes_are_read_as_every_message() {
    for (name, sequence, body) in one_of_each() {
        let mut messages = Vec::new();
        Decoder::new().feed(&golden_bytes(name), |frame| {
            let frame = frame.unwrap();
            messages.push((frame.sequence, Message::decode(&frame).unwrap()));
        });
        assert_eq!(messages, [(sequence, Message { boot: BOOT, body })], "{name}");
    }
}

/// Exhaustive over the golden telemetry: no one or two bits make another frame of it.
#[test]
fn no_two_flipped_bits_of_a_telemetry_frame_pass() {
    let good = golden_bytes("telemetry");
    let mut original = None;
    Decoder::new().feed(&good, |frame| {
        original = Some(Message::decode(&frame.unwrap()).unwrap());
    });
    let bits = good.len() * 8;
    for first in 0..bits {
        for second in first..bits {
            let mut damaged = good.clone();
            damaged[first / 8] ^= 1 << (first % 8);
            if second != first {
                damaged[second / 8] ^= 1 << (second % 8);
            }
            Decoder::new().feed(&damaged, |frame| {
                if let Ok(frame) = frame {
                    let message = Message::decode(&frame).ok();
                    assert_eq!(message, original, "bits {first} and {second} flipped");
                }
            });
        }
    }
}
