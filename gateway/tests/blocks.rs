//! Blocks give back what went in, and never more than an error for what did not come from them.
#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation, reason = "tests")]

use bytes::Bytes;
use forebay::block::columns::{Encoder, Frame, JudgedReading};
use forebay::block::records::{
    self, Alert, DeadLetter, Gap, GapReason, Missed, MissedReason, Record, RecordBody, Severity,
};
use forebay::block::{BLOCK_BYTES_MAX, Block, BlockError, Draft, RECORDS_MAX};
use forebay::clock::Tick;
use forebay::reading::{
    AnomalyScore, Detector, Epoch, Flags, NoData, Note, Outcome, PointId, Quality, Reason, SequenceRange, Stream,
    TimeQuality, Value,
};
use proptest::prelude::*;

const EPOCH: Epoch = Epoch(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);

fn frame() -> Frame {
    let base = Tick { mono_us: 5_000_000, wall_us: 1_790_000_000_000_000, quality: TimeQuality::Ntp };
    Frame { boot_id: 7, base, config_version: 3 }
}

fn any_outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        6 => (-1_000_000i64..1_000_000, 0i32..7).prop_map(|(n, d)| Ok(Value::Number(n as f64 / 10f64.powi(d)))),
        3 => any::<f64>().prop_filter("finite", |n| n.is_finite()).prop_map(|n| Ok(Value::Number(n))),
        2 => any::<i64>().prop_map(|n| Ok(Value::Integer(n))),
        1 => any::<bool>().prop_map(|b| Ok(Value::Boolean(b))),
        1 => ".{0,40}".prop_map(|t| Ok(Value::Text(t.into()))),
        1 => any::<u8>().prop_map(|code| Err(NoData::Exception(code))),
        1 => Just(Err(NoData::Timeout)),
    ]
}

prop_compose! {
    fn any_reading()(
        point in 0u32..30, outcome in any_outcome(), observed_at_us in proptest::option::of(any::<i64>()),
        received_mono_us: u64, quality in 0u8..3, flags in 0u32..64, score: u8, message_hash: u32,
        note in proptest::option::of(any::<f32>().prop_filter("equal to itself", |n| !n.is_nan())),
    ) -> JudgedReading {
        JudgedReading {
            point: PointId(point),
            outcome,
            observed_at_us,
            received_mono_us,
            quality: Quality::from_code(quality).unwrap(),
            flags: Flags(flags),
            score: AnomalyScore(score),
            message_hash,
            note: note.map(|expected| Note { detector: Detector::Residual, reason: Reason::Below, expected }),
        }
    }
}

fn seal_all(drafts: &[Draft]) -> Vec<Block> {
    let mut next = 40;
    let mut blocks = Vec::new();
    for draft in drafts {
        let bytes = draft.seal(EPOCH, next);
        assert!(bytes.len() <= BLOCK_BYTES_MAX, "a block of {} bytes", bytes.len());
        let block = Block::parse(bytes).unwrap();
        next = block.range.last + 1;
        blocks.push(block);
    }
    blocks
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn readings_come_back_bit_for_bit(readings in proptest::collection::vec(any_reading(), 1..700)) {
        let ticks = [(0, 5_000_000u64), (readings.len() / 2, 5_100_000)];
        let mut drafts = Vec::new();
        Encoder::new().unwrap().encode(&readings, &ticks, &frame(), &mut drafts).unwrap();
        let blocks = seal_all(&drafts);
        let mut rows = Vec::new();
        let mut seen_ticks = 0;
        for block in &blocks {
            prop_assert!(usize::from(block.meta.count) <= RECORDS_MAX);
            rows.extend(block.readings().unwrap());
            seen_ticks += block.ticks().unwrap().len();
            let points = block.points().unwrap();
            for row in block.readings().unwrap() {
                prop_assert!(points.contains(&row.reading.point));
            }
        }
        prop_assert_eq!(seen_ticks, 2);
        prop_assert_eq!(rows.len(), readings.len());
        for (index, (row, reading)) in rows.iter().zip(&readings).enumerate() {
            prop_assert_eq!(row.sequence, 40 + index as u64);
            prop_assert_eq!(row.received_at_us, frame().base.wall_of(reading.received_mono_us));
            prop_assert_eq!(&row.reading, reading);
            if let (Ok(Value::Number(a)), Ok(Value::Number(b))) = (&row.reading.outcome, &reading.outcome) {
                prop_assert_eq!(a.to_bits(), b.to_bits());
            }
        }
    }

    #[test]
    fn any_bytes_are_an_error_not_a_panic(bytes: Vec<u8>) {
        prop_assert!(Block::parse(Bytes::from(bytes)).is_err());
    }

    #[test]
    fn a_hostile_body_with_a_sound_checksum_is_an_error_or_readings(
        readings in proptest::collection::vec(any_reading(), 1..40), at: usize, to: u8, layout in 1u8..3,
    ) {
        let mut drafts = Vec::new();
        Encoder::new().unwrap().encode(&readings, &[], &frame(), &mut drafts).unwrap();
        let draft = drafts.first().unwrap();
        let mut raw = zstd::bulk::decompress(&draft.body, draft.meta.unpacked_bytes as usize).unwrap();
        let at = at % raw.len();
        raw[at] = to;
        let mut hostile = draft.clone();
        hostile.body = zstd::bulk::compress(&raw, 1).unwrap();
        let mut bytes = hostile.seal(EPOCH, 0).to_vec();
        bytes[6] = layout;
        let end = bytes.len() - 4;
        let checksum = crc32c::crc32c(&bytes[..end]);
        bytes[end..].copy_from_slice(&checksum.to_le_bytes());
        let block = Block::parse(bytes.into()).unwrap();
        drop((block.readings(), block.records(), block.points(), block.ticks()));
    }

    #[test]
    fn a_flipped_bit_is_always_noticed(bit: usize) {
        let mut drafts = Vec::new();
        let readings = [plain(1, 20.5), plain(2, 3.0)];
        Encoder::new().unwrap().encode(&readings, &[], &frame(), &mut drafts).unwrap();
        let mut bytes = drafts.first().unwrap().seal(EPOCH, 9).to_vec();
        let bit = bit % (bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(Block::parse(bytes.into()).is_err());
    }
}

fn plain(point: u32, value: f64) -> JudgedReading {
    JudgedReading {
        point: PointId(point),
        outcome: Ok(Value::Number(value)),
        observed_at_us: None,
        received_mono_us: 5_000_100,
        quality: Quality::Good,
        flags: Flags::default(),
        score: AnomalyScore(0),
        message_hash: 0,
        note: None,
    }
}

#[test]
fn fifty_slowly_changing_points_take_less_than_five_bytes_a_reading() {
    let mut rng = fastrand::Rng::with_seed(1);
    let mut levels: Vec<i64> = (0..50).map(|_| rng.i64(100..9_000)).collect();
    let mut readings = Vec::new();
    for round in 0..10u64 {
        for (point, level) in levels.iter_mut().enumerate() {
            *level += rng.i64(-2..=2);
            let mut reading = plain(point as u32, *level as f64 / 100.0);
            reading.received_mono_us = 5_000_000 + round * 1_000_000 + point as u64 * 150 + rng.u64(0..40);
            reading.score = AnomalyScore(rng.u8(0..12));
            readings.push(reading);
        }
    }
    let mut drafts = Vec::new();
    Encoder::new().unwrap().encode(&readings, &[], &frame(), &mut drafts).unwrap();
    let bytes: usize = drafts.iter().map(|draft| draft.seal(EPOCH, 0).len()).sum();
    let each = bytes as f64 / readings.len() as f64;
    assert!(each <= 5.0, "{each} bytes a reading");
}

#[test]
fn the_bytes_of_version_1_are_frozen() {
    let mut first = plain(4, 71.2);
    first.observed_at_us = Some(1_790_000_000_123_000);
    first.message_hash = 0xdead_beef;
    let mut second = plain(9, 1.0 / 3.0);
    second.flags = Flags::ANOMALY;
    second.quality = Quality::Uncertain;
    second.score = AnomalyScore(120);
    second.note = Some(Note { detector: Detector::Residual, reason: Reason::Above, expected: 0.25 });
    let mut third = plain(4, 0.0);
    third.outcome = Err(NoData::Exception(2));
    let readings = [first, second, third];
    let golden = include_str!("golden/block-v1-readings.hex");
    let block = Block::parse(hex::decode(golden.trim()).unwrap().into()).unwrap();
    let rows: Vec<_> = block.readings().unwrap().into_iter().map(|row| row.reading).collect();
    assert_eq!(rows, readings);
    assert_eq!(block.range, SequenceRange { first: 4_211, last: 4_213 });
    assert_eq!((block.epoch, block.meta.config_version, block.meta.boot_id), (EPOCH, 3, 7));
}

#[test]
fn records_come_back_and_large_raw_bytes_are_split_and_named() {
    let raw: Vec<u8> = (0..100_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let letter = DeadLetter {
        source: "plant".into(),
        position: "plant/a".into(),
        error: "not JSON".into(),
        rule: "decode".into(),
        config_version: 3,
        raw: Vec::new(),
        part: 0,
        parts: 0,
        raw_bytes: 0,
        raw_sha256: None,
        message_hash: 5,
    };
    let mut all = records::dead_letters(900, 11, &letter, &records::RawBytes::of(&raw));
    assert_eq!(all.len(), 16);
    all.push(Record {
        id: 1,
        time_us: 12,
        body: RecordBody::Alert(Alert {
            rule: "range".into(),
            severity: Severity::Error,
            subject: "boiler-3/supply".into(),
            message: "too hot".into(),
            value: Some(99.5),
            raised: true,
        }),
    });
    all.push(Record {
        id: 2,
        time_us: 13,
        body: RecordBody::Gap(Gap {
            stream: Stream::Readings,
            range: SequenceRange { first: 5, last: 9 },
            first_time_us: 1,
            last_time_us: 2,
            reason: GapReason::Cap,
            sinks: vec![("cloud".into(), SequenceRange { first: 6, last: 9 })],
            in_flight: true,
        }),
    });
    all.push(Record {
        id: 3,
        time_us: 14,
        body: RecordBody::Missed(Missed {
            source: "bus".into(),
            position: "unit 4".into(),
            count: 17,
            reason: MissedReason::PollMissed,
        }),
    });
    let blocks = seal_all(&records::encode(&all, &frame()).unwrap());
    let mut back: Vec<_> = blocks.iter().flat_map(|block| block.records().unwrap()).map(|r| r.record).collect();
    back.sort_by_key(|record| record.time_us);
    assert_eq!(back, all);
    let whole: Vec<u8> = back
        .iter()
        .flat_map(|r| if let RecordBody::DeadLetter(l) = &r.body { l.raw.clone() } else { vec![] })
        .collect();
    assert_eq!(whole, raw[..65_536]);
}

#[test]
fn a_newer_version_says_that_the_program_must_be_updated() {
    let mut drafts = Vec::new();
    Encoder::new().unwrap().encode(&[plain(1, 1.0)], &[], &frame(), &mut drafts).unwrap();
    let mut bytes = drafts.first().unwrap().seal(EPOCH, 0).to_vec();
    bytes[4] = 2;
    assert_eq!(Block::parse(bytes.into()), Err(BlockError::Version(2)));
}
