//! What holds for every message, every noise and every damage.
#![allow(clippy::unwrap_used, reason = "a failed expectation ends a test")]

use firmware_protocols::cobs;
use firmware_protocols::crc::crc32c;
use firmware_protocols::frame::{FrameBuffer, HEADER_BYTES, MAX_BODY_BYTES, MAX_FRAME_BYTES, MAX_PAYLOAD_BYTES};
use firmware_protocols::message::{MAX_DEVICE_BYTES, MAX_FIRMWARE_BYTES, MAX_LOG_BYTES};
use firmware_protocols::telemetry::{MAX_CHANNELS, MAX_NAME_BYTES, MAX_SAMPLES, MAX_UNIT_BYTES};
use firmware_protocols::{
    Ack, Body, Channel, Decoder, Describe, Frame, FrameError, Hello, Level, Log, Message, MessageError, Reason, Sample,
    Telemetry, TimeReply, TimeRequest, Value,
};
use proptest::collection::vec;
use proptest::prelude::*;

/// A frame with an owned payload, to compare what a decoder found.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    kind: u8,
    sequence: u32,
    payload: Vec<u8>,
}

impl From<Frame<'_>> for Found {
    fn from(frame: Frame<'_>) -> Self {
        Self { kind: frame.kind, sequence: frame.sequence, payload: frame.payload.to_vec() }
    }
}

fn outcomes(decoder: &mut Decoder, bytes: &[u8]) -> Vec<Result<Found, FrameError>> {
    let mut outcomes = Vec::new();
    decoder.feed(bytes, |outcome| outcomes.push(outcome.map(Found::from)));
    outcomes
}

fn on_the_wire(frame: &Found) -> Vec<u8> {
    let mut wire = FrameBuffer::new();
    let Found { kind, sequence, payload } = frame;
    Frame { kind: *kind, sequence: *sequence, payload }.encode(&mut wire).unwrap();
    wire.to_vec()
}

/// Puts COBS and delimiters around a body, whatever is in it.
fn stuffed(body: &[u8]) -> Vec<u8> {
    let mut wire: heapless::Vec<u8, 1024> = heapless::Vec::new();
    wire.push(0).unwrap();
    cobs::encode(body, &mut wire).unwrap();
    wire.push(0).unwrap();
    wire.to_vec()
}

/// A body with a correct checksum, whatever its header says.
fn sealed(covered: &[u8]) -> Vec<u8> {
    let mut body = covered.to_vec();
    body.extend(crc32c(covered).to_le_bytes());
    body
}

fn a_frame() -> impl Strategy<Value = Found> {
    // Zeros are frequent in real payloads and decide how COBS groups, so they are frequent here.
    let byte = prop_oneof![Just(0_u8), any::<u8>()];
    (any::<u8>(), any::<u32>(), vec(byte, 0..=MAX_PAYLOAD_BYTES)).prop_map(|(kind, sequence, payload)| Found {
        kind,
        sequence,
        payload,
    })
}

fn a_text<const N: usize>() -> impl Strategy<Value = heapless::String<N>> {
    vec(prop_oneof![prop::char::range('a', 'z'), any::<char>()], 0..=N).prop_map(|chars| {
        let mut text = heapless::String::new();
        chars.into_iter().take_while(|char| text.push(*char).is_ok()).for_each(drop);
        text
    })
}

/// Floats by their bits would bring NaN, which is unequal to itself: see the test of its bits.
fn a_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<f32>().prop_filter("NaN", |value| !value.is_nan()).prop_map(Value::F32),
        any::<i32>().prop_map(Value::I32),
        any::<bool>().prop_map(Value::Bool),
        any::<u8>().prop_map(|reason| Value::NotAvailable(Reason(reason))),
    ]
}

fn a_level() -> impl Strategy<Value = Level> {
    prop::sample::select(vec![Level::Error, Level::Warn, Level::Info, Level::Debug, Level::Trace])
}

fn a_body() -> impl Strategy<Value = Body> {
    let sample =
        (any::<u8>(), a_value(), any::<u16>()).prop_map(|(channel, value, age_ms)| Sample { channel, value, age_ms });
    let channel = (any::<u8>(), a_text::<MAX_NAME_BYTES>(), a_text::<MAX_UNIT_BYTES>())
        .prop_map(|(channel, name, unit)| Channel { channel, name, unit });
    prop_oneof![
        (any::<u32>(), a_text::<MAX_FIRMWARE_BYTES>(), a_text::<MAX_DEVICE_BYTES>())
            .prop_map(|(oldest, firmware, device)| Body::Hello(Hello { oldest, firmware, device })),
        vec(channel, 0..=MAX_CHANNELS)
            .prop_map(|channels| Body::Describe(Describe { channels: channels.into_iter().collect() })),
        (any::<u64>(), vec(sample, 0..=MAX_SAMPLES)).prop_map(|(uptime_ms, samples)| {
            Body::Telemetry(Telemetry { uptime_ms, samples: samples.into_iter().collect() })
        }),
        (any::<u64>(), a_level(), a_text::<MAX_LOG_BYTES>()).prop_map(|(uptime_ms, level, text)| Body::Log(Log {
            uptime_ms,
            level,
            text
        })),
        any::<u64>().prop_map(|uptime_ms| Body::TimeRequest(TimeRequest { uptime_ms })),
        Just(Body::DescribeRequest),
        any::<u32>().prop_map(|sequence| Body::Ack(Ack { sequence })),
        (any::<u64>(), any::<i64>()).prop_map(|(uptime_ms, unix_us)| Body::TimeReply(TimeReply { uptime_ms, unix_us })),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_message_comes_back_as_it_was(
        boot in any::<u32>(), sequence in any::<u32>(), body in a_body(),
    ) {
        let message = Message { boot, body };
        let mut wire = FrameBuffer::new();
        let size = message.encode(sequence, &mut wire).unwrap();
        prop_assert_eq!(size, wire.len());
        let mut found = Vec::new();
        Decoder::new().feed(&wire, |frame| {
            let frame = frame.unwrap();
            found.push((frame.boot(), frame.sequence, Message::decode(&frame).unwrap()));
        });
        prop_assert_eq!(found, vec![(Some(boot), sequence, message)]);
    }

    #[test]
    fn fields_that_newer_firmware_appends_are_ignored(
        body in a_body(), appended in vec(any::<u8>(), 0..40),
    ) {
        let message = Message { boot: 1, body };
        let mut wire = FrameBuffer::new();
        message.encode(1, &mut wire).unwrap();
        let mut frame = outcomes(&mut Decoder::new(), &wire).remove(0).unwrap();
        frame.payload.extend(appended);
        let frame = Frame { kind: frame.kind, sequence: 1, payload: &frame.payload };
        prop_assert_eq!(Message::decode(&frame), Ok(message));
    }

    #[test]
    fn a_payload_cut_short_is_an_error_and_no_message(body in a_body(), cut in any::<prop::sample::Index>()) {
        let mut wire = FrameBuffer::new();
        Message { boot: 1, body }.encode(1, &mut wire).unwrap();
        let frame = outcomes(&mut Decoder::new(), &wire).remove(0).unwrap();
        let payload = &frame.payload[..cut.index(frame.payload.len())];
        let outcome = Message::decode(&Frame { kind: frame.kind, sequence: 1, payload });
        prop_assert!(matches!(outcome, Err(MessageError::Missing { .. })), "{outcome:?}");
    }

    #[test]
    fn random_bytes_never_panic_and_every_one_is_accounted_for(
        bytes in vec(prop_oneof![1 => Just(0_u8), 40 => any::<u8>()], 0..2_000),
    ) {
        let mut decoder = Decoder::new();
        decoder.feed(&bytes, |frame| if let Ok(frame) = frame {
            drop(Message::decode(&frame));
        });
        decoder.push(0);
        let counters = decoder.counters();
        prop_assert_eq!(counters.frames_good, 0, "a checksum was guessed");
        let delimiters = bytes.split(|byte| *byte == 0).count() - 1;
        prop_assert_eq!(counters.bytes_discarded, u64::try_from(bytes.len() - delimiters).unwrap());
    }

    #[test]
    fn random_payloads_never_panic(kind in any::<u8>(), payload in vec(any::<u8>(), 0..=MAX_PAYLOAD_BYTES)) {
        for kind in [kind, 1, 2, 3, 4, 5, 0x81, 0x82, 0x83] {
            drop(Message::decode(&Frame { kind, sequence: 1, payload: &payload }));
        }
    }

    #[test]
    fn a_good_frame_after_any_noise_is_found(noise in vec(any::<u8>(), 0..1_000), frame in a_frame()) {
        let mut decoder = Decoder::new();
        let before = outcomes(&mut decoder, &noise);
        prop_assert!(before.iter().all(Result::is_err));
        let found = outcomes(&mut decoder, &on_the_wire(&frame));
        prop_assert_eq!(found.last(), Some(&Ok(frame)));
    }

    #[test]
    fn frames_are_the_same_however_the_bytes_are_cut(
        frames in vec((vec(any::<u8>(), 0..20), a_frame()), 1..8), chunk_bytes in 1..300_usize,
    ) {
        let mut wire = Vec::new();
        for (noise, frame) in &frames {
            wire.extend(noise);
            wire.extend(on_the_wire(frame));
        }
        let mut whole = Decoder::new();
        let expected = outcomes(&mut whole, &wire);
        let good: Vec<_> = expected.iter().filter_map(|outcome| outcome.clone().ok()).collect();
        prop_assert_eq!(good, frames.into_iter().map(|(_, frame)| frame).collect::<Vec<_>>());
        let mut chunked = Decoder::new();
        let found: Vec<_> =
            wire.chunks(chunk_bytes).flat_map(|chunk| outcomes(&mut chunked, chunk)).collect();
        prop_assert_eq!(found, expected);
        prop_assert_eq!(chunked.counters(), whole.counters());
    }

    /// What the Hamming distance of 6 promises for the body.
    #[test]
    fn up_to_five_flipped_bits_of_a_body_are_found(
        frame in a_frame(), bits in vec(any::<prop::sample::Index>(), 1..=5),
    ) {
        let mut body = body_of(&frame);
        let length = body.len() * 8;
        let flipped: std::collections::BTreeSet<_> = bits.iter().map(|bit| bit.index(length)).collect();
        for bit in flipped {
            body[bit / 8] ^= 1 << (bit % 8);
        }
        prop_assert_eq!(Frame::parse(&body), Err(FrameError::Checksum));
    }

    /// What 32 bits of any CRC promise for the body.
    #[test]
    fn a_burst_of_up_to_32_bits_in_a_body_is_found(
        frame in a_frame(), burst in 1..=u32::MAX, start in any::<prop::sample::Index>(),
    ) {
        let mut body = body_of(&frame);
        flip_burst(&mut body, burst, start);
        prop_assert_eq!(Frame::parse(&body), Err(FrameError::Checksum));
    }

    #[test]
    fn up_to_three_flipped_bits_on_the_wire_never_make_another_frame(
        frame in a_frame(), bits in vec(any::<prop::sample::Index>(), 1..=3),
    ) {
        let mut wire = on_the_wire(&frame);
        let length = wire.len() * 8;
        for bit in bits {
            let bit = bit.index(length);
            wire[bit / 8] ^= 1 << (bit % 8);
        }
        let found = outcomes(&mut Decoder::new(), &wire);
        prop_assert!(found.into_iter().flatten().all(|found| found == frame));
    }

    #[test]
    fn a_burst_on_the_wire_never_makes_another_frame(
        frame in a_frame(), burst in 1..=u32::MAX, start in any::<prop::sample::Index>(),
    ) {
        let mut wire = on_the_wire(&frame);
        flip_burst(&mut wire, burst, start);
        let found = outcomes(&mut Decoder::new(), &wire);
        prop_assert!(found.into_iter().flatten().all(|found| found == frame));
    }
}

/// Flips the bits of `burst` in the order of the wire, from any bit on that leaves room for it.
fn flip_burst(bytes: &mut [u8], burst: u32, start: prop::sample::Index) {
    let start = start.index(bytes.len() * 8 - 31);
    for bit in (0..32).filter(|bit| burst & (1 << bit) != 0) {
        let at = start + bit;
        bytes[at / 8] ^= 1 << (at % 8);
    }
}

fn body_of(frame: &Found) -> Vec<u8> {
    let length = u16::try_from(frame.payload.len()).unwrap();
    let mut covered = vec![1, frame.kind];
    covered.extend(length.to_le_bytes());
    covered.extend(frame.sequence.to_le_bytes());
    covered.extend(&frame.payload);
    sealed(&covered)
}

#[test]
fn the_longest_messages_fit_into_a_frame() {
    fn text<const N: usize>() -> heapless::String<N> {
        "x".repeat(N).as_str().try_into().unwrap()
    }
    let channel = Channel { channel: 1, name: text(), unit: text() };
    let sample = Sample { channel: 1, value: Value::I32(0), age_ms: 0 };
    let bodies = [
        Body::Hello(Hello { oldest: 1, firmware: text(), device: text() }),
        Body::Describe(Describe { channels: core::iter::repeat_n(channel, MAX_CHANNELS).collect() }),
        Body::Telemetry(Telemetry { uptime_ms: 0, samples: core::iter::repeat_n(sample, MAX_SAMPLES).collect() }),
        Body::Log(Log { uptime_ms: 0, level: Level::Info, text: text() }),
    ];
    for body in bodies {
        Message { boot: 0, body }.encode(1, &mut FrameBuffer::new()).unwrap();
    }
}

#[test]
fn the_longest_frame_is_as_long_as_stated() {
    for byte in [0, 1, 0xFF] {
        let payload = vec![byte; MAX_PAYLOAD_BYTES];
        let wire = on_the_wire(&Found { kind: 3, sequence: u32::MAX, payload });
        assert_eq!(wire.len(), MAX_FRAME_BYTES);
    }
    let payload = [0; MAX_PAYLOAD_BYTES + 1];
    let outcome = Frame { kind: 3, sequence: 1, payload: &payload }.encode(&mut FrameBuffer::new());
    assert_eq!(outcome.unwrap_err().payload_bytes, 241);
}

#[test]
fn what_is_not_a_frame_is_counted_by_its_cause() {
    let intact = body_of(&Found { kind: 3, sequence: 1, payload: vec![1, 2, 3, 4] });
    let covered = intact.len() - 4;
    let mut newer = intact[..covered].to_vec();
    newer[0] = 2;
    let mut wrong_length = intact[..covered].to_vec();
    wrong_length[2] = 5;
    let mut damaged = intact.clone();
    damaged[HEADER_BYTES] ^= 1;
    let mut unknown_kind = intact[..covered].to_vec();
    unknown_kind[1] = 0x7F;

    let mut decoder = Decoder::new();
    let mut wire = Vec::new();
    wire.extend(stuffed(&intact));
    wire.extend(stuffed(&sealed(&unknown_kind)));
    wire.extend(stuffed(&sealed(&newer)));
    wire.extend(stuffed(&sealed(&wrong_length)));
    wire.extend(stuffed(&damaged));
    wire.extend(stuffed(&[1, 2, 3]));
    wire.extend([0, 9, 1, 0]);
    wire.extend(vec![1; MAX_BODY_BYTES + 50]);
    let causes: Vec<_> = outcomes(&mut decoder, &wire).into_iter().map(Result::err).collect();
    let expected = [
        None,
        None,
        Some(FrameError::UnknownVersion { version: 2 }),
        Some(FrameError::Length { stated: 5, present_bytes: 4 }),
        Some(FrameError::Checksum),
        Some(FrameError::TooShort { body_bytes: 3 }),
        Some(FrameError::Truncated),
        Some(FrameError::Oversize),
    ];
    assert_eq!(causes, expected);
    let counters = decoder.counters();
    assert_eq!((counters.frames_good, counters.unknown_kinds), (2, 1));
    assert_eq!((counters.unknown_versions, counters.crc_errors), (1, 1));
    assert_eq!((counters.malformed, counters.oversize), (3, 1));
}

#[test]
fn a_frame_of_an_unknown_kind_still_names_boot_and_sequence() {
    let frame = Found { kind: 0x7F, sequence: 9, payload: vec![4, 3, 2, 1, 99] };
    let mut seen = None;
    Decoder::new().feed(&on_the_wire(&frame), |frame| {
        let frame = frame.unwrap();
        seen = Some((Message::decode(&frame), frame.boot(), frame.sequence));
    });
    let unknown = Err(MessageError::UnknownKind { kind: 0x7F });
    assert_eq!(seen, Some((unknown, Some(0x0102_0304), 9)));
}

#[test]
fn the_bits_of_a_nan_come_back() {
    let sample = Sample { channel: 0, value: Value::F32(f32::from_bits(0x7FC0_1234)), age_ms: 0 };
    let telemetry = Telemetry { uptime_ms: 0, samples: [sample].into_iter().collect() };
    let mut wire = FrameBuffer::new();
    Message { boot: 0, body: Body::Telemetry(telemetry) }.encode(1, &mut wire).unwrap();
    let mut bits = None;
    Decoder::new().feed(&wire, |frame| {
        if let Ok(Message { body: Body::Telemetry(telemetry), .. }) = Message::decode(&frame.unwrap())
            && let Value::F32(value) = telemetry.samples[0].value
        {
            bits = Some(value.to_bits());
        }
    });
    assert_eq!(bits, Some(0x7FC0_1234));
}

#[test]
fn a_line_that_is_opened_again_does_not_join_two_halves() {
    let frame = Found { kind: 3, sequence: 1, payload: vec![7; 20] };
    let wire = on_the_wire(&frame);
    let mut decoder = Decoder::new();
    assert!(outcomes(&mut decoder, &wire[..10]).is_empty());
    decoder.reset();
    assert_eq!(decoder.counters().bytes_discarded, 9);
    assert_eq!(outcomes(&mut decoder, &wire[1..]), [Ok(frame)]);
}
