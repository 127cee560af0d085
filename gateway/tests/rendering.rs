//! Records are JSON that says what the block says, and the same bytes for ever.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "tests"
)]

use forebay::block::columns::{Encoder, Frame, JudgedReading};
use forebay::block::records::{
    self, Alert, DeadLetter, Gap, GapReason, Missed, MissedReason, Record, RecordBody, Severity,
};
use forebay::block::{Block, Draft};
use forebay::clock::Tick;
use forebay::reading::{
    AnomalyScore, Detector, Epoch, Flags, NoData, Note, Outcome, PointId, Quality, Reason, SequenceRange, Stream,
    TimeQuality, Value,
};
use forebay::sinks::Rendered;
use forebay::sinks::encode::{Batch, RENDER_VERSION, RenderContext, RenderError, Renderer, Selection, View};
use forebay::sinks::route::{Route, RouteOptions};
use forebay::site::{DeviceTags, PointKey, Registry};
use proptest::prelude::*;
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::sync::Arc;

const EPOCH: Epoch = Epoch(0x9f1c_0000_0000_0000_0000_0000_0000_002a);
const FIRST: u64 = 4_000;
const RUN: SequenceRange = SequenceRange { first: 4_000, last: 4_499 };

fn frame() -> Frame {
    let base = Tick { mono_us: 5_000_000, wall_us: 1_795_168_800_140_000, quality: TimeQuality::Ntp };
    Frame { boot_id: 7, base, config_version: 3 }
}

fn key(device: &str, point: &str, unit: &str, source: &str) -> PointKey {
    PointKey { device: device.into(), point: point.into(), unit: unit.into(), source: source.into() }
}

fn context() -> RenderContext {
    let registry = Registry::restore(vec![
        key("boiler-3", "supply_temp", "°C", "boiler-bus"),
        key("door \"A\"", "open", "", "plant\\broker"),
    ]);
    let tags = BTreeMap::from([("site".to_owned(), "north".to_owned()), ("zone".to_owned(), "A\t1".to_owned())]);
    let tags = DeviceTags([("boiler-3".to_owned(), tags)].into());
    RenderContext {
        gateway: "plant-7-line-2".to_owned(),
        epoch: EPOCH,
        view: View { tags: tags.into(), route: Route::default() },
        registry: registry.into(),
    }
}

fn renderer() -> Renderer {
    Renderer::new(RENDER_VERSION, context()).unwrap()
}

/// What a run that brings all of the blocks becomes.
fn render(renderer: &mut Renderer, run: SequenceRange, part: SequenceRange, blocks: &[Block]) -> Vec<Rendered> {
    try_render(renderer, run, part, blocks, None).unwrap()
}

fn try_render(
    renderer: &mut Renderer,
    run: SequenceRange,
    part: SequenceRange,
    blocks: &[Block],
    lane: Option<&'static str>,
) -> Result<Vec<Rendered>, RenderError> {
    let mut selection = Selection::default();
    for block in blocks {
        renderer.select(run, block, &mut selection)?;
    }
    let stream = blocks.first().map_or(Stream::Readings, |block| block.meta.stream);
    let batch = Batch { stream, covers: run, records: selection.records(), lane, replay: None };
    renderer.render(&batch, part, &selection)
}

fn plain(outcome: Outcome) -> JudgedReading {
    JudgedReading {
        point: PointId(0),
        outcome,
        observed_at_us: None,
        received_mono_us: 5_000_000,
        quality: Quality::Good,
        flags: Flags::default(),
        score: AnomalyScore::default(),
        message_hash: 0,
        note: None,
    }
}

fn seal(drafts: &[Draft]) -> Vec<Block> {
    let mut next = FIRST;
    let seal = |draft: &Draft| {
        let block = Block::parse(draft.seal(EPOCH, next)).unwrap();
        next = block.range.last + 1;
        block
    };
    drafts.iter().map(seal).collect()
}

fn blocks(readings: &[JudgedReading]) -> Vec<Block> {
    let mut drafts = Vec::new();
    Encoder::new().unwrap().encode(readings, &[], &frame(), &mut drafts).unwrap();
    seal(&drafts)
}

fn lines(rendered: &[Rendered]) -> String {
    let text = |record: &Rendered| String::from_utf8(record.json.to_vec()).unwrap();
    rendered.iter().flat_map(|record| [text(record), "\n".to_owned()]).collect()
}

fn frozen_readings() -> Vec<JudgedReading> {
    let flagged = |flags: &[Flags]| {
        let mut all = Flags::default();
        for flag in flags {
            all.insert(*flag);
        }
        all
    };
    vec![
        JudgedReading {
            score: AnomalyScore(1),
            observed_at_us: Some(1_795_168_800_123_000),
            ..plain(Ok(Value::Number(71.2)))
        },
        JudgedReading {
            observed_at_us: Some(-1),
            received_mono_us: 5_000_001,
            quality: Quality::Uncertain,
            flags: flagged(&[Flags::OPERATING_RANGE, Flags::ANOMALY]),
            score: AnomalyScore(57),
            message_hash: 0xbeef,
            note: Some(Note { detector: Detector::Residual, reason: Reason::Above, expected: 65.0 }),
            ..plain(Ok(Value::Number(71.25)))
        },
        JudgedReading { flags: Flags::THINNED, ..plain(Ok(Value::Number(71.2))) },
        JudgedReading { score: AnomalyScore(255), ..plain(Ok(Value::Number(-0.0))) },
        plain(Ok(Value::Number(1e300))),
        plain(Ok(Value::Number(1e-7))),
        plain(Ok(Value::Number(100.0))),
        plain(Ok(Value::Integer(i64::MIN))),
        JudgedReading { point: PointId(1), ..plain(Ok(Value::Boolean(true))) },
        JudgedReading { point: PointId(1), ..plain(Ok(Value::Text("a \"quoted\"\n\u{1}line \\ é".into()))) },
        JudgedReading { quality: Quality::Bad, flags: Flags::NO_DATA, ..plain(Err(NoData::Timeout)) },
        JudgedReading { quality: Quality::Bad, flags: Flags::NO_DATA, ..plain(Err(NoData::Exception(2))) },
    ]
}

fn frozen_records() -> Vec<RecordBody> {
    let letter = |raw: &[u8]| DeadLetter {
        source: "plant-broker".into(),
        position: "plant/a/b".into(),
        error: "not a number: \"abc\"".into(),
        rule: "json".into(),
        config_version: 3,
        raw: raw.to_vec(),
        part: 0,
        parts: 1,
        raw_bytes: raw.len() as u32,
        raw_sha256: None,
        message_hash: 0,
    };
    vec![
        RecordBody::Alert(Alert {
            rule: "anomaly".into(),
            severity: Severity::Warning,
            subject: "boiler-3/supply_temp".into(),
            message: "6.25 °C above the expected 65 °C".into(),
            value: Some(71.25),
            raised: true,
        }),
        RecordBody::DeadLetter(letter(b"{\"value\":\"abc\"}")),
        RecordBody::DeadLetter(DeadLetter {
            raw_sha256: Some([0xab; 32]),
            part: 1,
            parts: 16,
            raw_bytes: 100_000,
            message_hash: 5,
            ..letter(&[0xff, 0, 0x41])
        }),
        RecordBody::Gap(Gap {
            stream: Stream::Readings,
            range: SequenceRange { first: 10, last: 19 },
            first_time_us: 1_795_168_000_000_000,
            last_time_us: 1_795_168_001_000_000,
            reason: GapReason::Cap,
            sinks: vec![
                ("cloud".into(), SequenceRange { first: 10, last: 19 }),
                ("plant-kafka".into(), SequenceRange { first: 15, last: 19 }),
            ],
            in_flight: true,
        }),
        RecordBody::Missed(Missed {
            source: "boiler-bus".into(),
            position: "unit 4".into(),
            count: 12,
            reason: MissedReason::PollMissed,
        }),
    ]
}

fn rendered_records() -> (String, Vec<Arc<str>>) {
    let records: Vec<Record> = frozen_records()
        .into_iter()
        .zip(0u64..)
        .map(|(body, n)| Record { id: 0xfeed_0000_0000_0000 + n, time_us: 1_795_168_800_000_000, body })
        .collect();
    let mut drafts = Vec::new();
    for record in records {
        drafts.extend(records::encode(&[record], &frame()).unwrap());
    }
    let blocks = seal(&drafts);
    let rendered: Vec<Rendered> = blocks.chunks(1).flat_map(|block| render(&mut renderer(), RUN, RUN, block)).collect();
    (lines(&rendered), rendered.into_iter().map(|record| record.key).collect())
}

#[test]
fn a_reading_is_the_same_bytes_for_ever() {
    let rendered = render(&mut renderer(), RUN, RUN, &blocks(&frozen_readings()));
    let lines = lines(&rendered);
    assert!(lines == include_str!("golden/render-v1-readings.ndjson"), "rendered otherwise than version 1:\n{lines}");
    assert_eq!(&*rendered[0].key, "boiler-3");
    assert_eq!(&*rendered.last().unwrap().key, "boiler-3");
}

#[test]
fn a_record_is_the_same_bytes_for_ever() {
    let (lines, keys) = rendered_records();
    assert!(lines == include_str!("golden/render-v1-records.ndjson"), "rendered otherwise than version 1:\n{lines}");
    let keys: Vec<&str> = keys.iter().map(|key| &**key).collect();
    assert_eq!(keys, ["boiler-3/supply_temp", "plant-broker", "plant-broker", "readings", "boiler-bus"]);
}

#[test]
fn a_reading_says_all_that_the_design_promises() {
    let blocks = blocks(&frozen_readings()[..1]);
    let rendered = render(&mut renderer(), RUN, RUN, &blocks);
    let reading: Json = serde_json::from_slice(&rendered[0].json).unwrap();
    assert_eq!(
        reading,
        json!({
            "v": 1, "gateway": "plant-7-line-2", "epoch": "9f1c000000000000000000000000002a", "seq": 4000,
            "device": "boiler-3", "point": "supply_temp", "observed_at": "2026-11-20T10:00:00.123Z",
            "received_at": "2026-11-20T10:00:00.140Z", "time_quality": "ntp", "value": 71.2, "unit": "°C",
            "quality": "good", "flags": [], "anomaly": 0.1087, "tags": {"site": "north", "zone": "A\t1"},
            "source": "boiler-bus", "batch": "readings/4000-4499", "batch_records": 1,
        })
    );
}

#[test]
fn a_part_of_a_run_is_cut_out_of_the_same_bytes() {
    let readings: Vec<_> = (0..1_200).map(|n| plain(Ok(Value::Integer(n)))).collect();
    let blocks = blocks(&readings);
    assert!(blocks.len() > 1);
    let run = SequenceRange { first: FIRST + 3, last: FIRST + 1_100 };
    let whole = render(&mut renderer(), run, run, &blocks);
    assert_eq!(whole.len() as u64, run.count());
    let (left, right) = run.halves().unwrap();
    let mut halves = render(&mut renderer(), run, left, &blocks);
    assert_eq!(halves.len() as u64, left.count());
    halves.extend(render(&mut renderer(), run, right, &blocks));
    assert_eq!(halves, whole);
}

#[test]
fn thinned_out_readings_have_no_record() {
    let thinned = JudgedReading { flags: Flags::THINNED, ..plain(Ok(Value::Integer(1))) };
    let rendered =
        render(&mut renderer(), RUN, RUN, &blocks(&[thinned.clone(), plain(Ok(Value::Integer(2))), thinned]));
    let [only] = &rendered[..] else { panic!("{rendered:?}") };
    let reading: Json = serde_json::from_slice(&only.json).unwrap();
    assert_eq!((&reading["seq"], &reading["value"]), (&json!(4001), &json!(2)));
}

#[test]
fn more_points_than_are_kept_are_rendered_alike() {
    let count = 40_000;
    let registry = Registry::restore((0..count).map(|n| key(&format!("d{n}"), "p", "", "s")).collect());
    let mut renderer = Renderer::new(RENDER_VERSION, RenderContext { registry: registry.into(), ..context() }).unwrap();
    // Twice, so that parts that were dropped are made again.
    for _ in 0..2 {
        for chunk in (0..count).collect::<Vec<_>>().chunks(10_000) {
            let readings: Vec<_> =
                chunk.iter().map(|n| JudgedReading { point: PointId(*n), ..plain(Ok(Value::Integer(1))) }).collect();
            let all = SequenceRange { first: 0, last: u64::MAX };
            let made = render(&mut renderer, all, all, &blocks(&readings));
            assert_eq!(made.len(), chunk.len());
            assert!(made.iter().zip(chunk).all(|(record, n)| *record.key == format!("d{n}")));
        }
    }
}

#[test]
fn what_cannot_be_rendered_is_named() {
    assert_eq!(Renderer::new(RENDER_VERSION + 1, context()).unwrap_err(), RenderError::Version(RENDER_VERSION + 1));
    let stranger = JudgedReading { point: PointId(99), ..plain(Ok(Value::Integer(1))) };
    let error = try_render(&mut renderer(), RUN, RUN, &blocks(&[stranger]), None).unwrap_err();
    assert_eq!(error.to_string(), "reading 4000 is of point 99, which the ledger does not have");
}

#[test]
fn a_route_leaves_out_what_is_not_for_the_sink_and_the_batch_says_how_many_are() {
    let options: RouteOptions = toml::from_str("devices = [\"door*\"]").unwrap();
    let mut context = context();
    context.view.route = options.route();
    let mut renderer = Renderer::new(RENDER_VERSION, context).unwrap();
    let rendered = try_render(&mut renderer, RUN, RUN, &blocks(&frozen_readings()), Some("history")).unwrap();
    let json: Vec<Json> = rendered.iter().map(|record| serde_json::from_slice(&record.json).unwrap()).collect();
    assert_eq!(json.iter().map(|json| json["seq"].as_u64().unwrap()).collect::<Vec<_>>(), [4008, 4009]);
    for json in json {
        assert_eq!(json["batch_records"], 2);
        assert_eq!(json["lane"], "history");
    }
}

#[test]
fn an_alert_goes_where_its_point_goes() {
    let options: RouteOptions = toml::from_str("tags = { site = \"south\" }").unwrap();
    let mut context = context();
    context.view.route = options.route();
    let alert = frozen_records().remove(0);
    let about_the_gateway = match alert.clone() {
        RecordBody::Alert(alert) => RecordBody::Alert(Alert { subject: "boiler-bus".into(), ..alert }),
        other => other,
    };
    let records: Vec<Record> =
        [alert, about_the_gateway].into_iter().map(|body| Record { id: 1, time_us: 0, body }).collect();
    let blocks = seal(&records::encode(&records, &frame()).unwrap());
    let rendered = render(&mut Renderer::new(RENDER_VERSION, context).unwrap(), RUN, RUN, &blocks);
    assert_eq!(rendered.iter().map(|record| &*record.key).collect::<Vec<_>>(), ["boiler-bus"]);
}

fn any_outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        any::<f64>().prop_filter("finite", |n| n.is_finite()).prop_map(|n| Ok(Value::Number(n))),
        any::<i64>().prop_map(|n| Ok(Value::Integer(n))),
        any::<bool>().prop_map(|b| Ok(Value::Boolean(b))),
        any::<String>().prop_map(|t| Ok(Value::Text(t.into()))),
        any::<u8>().prop_map(|code| Err(NoData::Exception(code))),
    ]
}

proptest! {
    #[test]
    fn whatever_was_measured_reads_back_from_the_json(
        outcome in any_outcome(), names: [String; 4], gateway: String, tags: BTreeMap<String, String>,
        observed_at_us in proptest::option::of(any::<i64>()), flags in 0u32..16, score: u8, message_hash: u32,
    ) {
        let [device, point, unit, source] = names;
        let tags = DeviceTags([(device.clone(), tags)].into());
        let registry = Arc::new(Registry::restore(vec![key(&device, &point, &unit, &source)]));
        let context = RenderContext { gateway: gateway.clone(), epoch: EPOCH, view: View { tags: tags.clone().into(), route: Route::default() }, registry };
        let reading = JudgedReading {
            observed_at_us, flags: Flags(flags), score: AnomalyScore(score), message_hash, ..plain(outcome.clone())
        };
        let blocks = blocks(&[reading]);
        let rendered = render(&mut Renderer::new(RENDER_VERSION, context).unwrap(), RUN, RUN, &blocks);
        prop_assert_eq!(&*rendered[0].key, &device);
        let json: Json = serde_json::from_slice(&rendered[0].json).unwrap();
        prop_assert_eq!(&json["gateway"], &json!(gateway));
        prop_assert_eq!(&json["device"], &json!(device));
        prop_assert_eq!(&json["point"], &json!(point));
        prop_assert_eq!(json.get("unit").cloned(), (!unit.is_empty()).then(|| json!(unit)));
        prop_assert_eq!(&json["source"], &json!(source));
        prop_assert_eq!(&json["tags"], &json!(tags.0[&device]));
        prop_assert_eq!(json.get("observed_at").is_some(), observed_at_us.is_some());
        prop_assert_eq!(json.get("anomaly").is_some(), score != 0);
        prop_assert_eq!(json["flags"].as_array().unwrap().len(), flags.count_ones() as usize);
        prop_assert_eq!(json.get("message_hash").is_some(), message_hash != 0);
        match outcome {
            // serde_json reads some numbers one bit off; a consumer that reads exactly gets what was measured.
            Ok(Value::Number(number)) => {
                let text = std::str::from_utf8(&rendered[0].json).unwrap();
                let digits = text.split_once(r#","value":"#).unwrap().1.split(',').next().unwrap();
                prop_assert_eq!(digits.parse::<f64>().unwrap().to_bits(), number.to_bits());
            }
            Ok(Value::Integer(integer)) => prop_assert_eq!(json["value"].as_i64(), Some(integer)),
            Ok(Value::Boolean(boolean)) => prop_assert_eq!(json["value"].as_bool(), Some(boolean)),
            Ok(Value::Text(text)) => prop_assert_eq!(json["value"].as_str(), Some(&*text)),
            Err(absence) => {
                prop_assert_eq!(&json["value"], &Json::Null);
                prop_assert_eq!(&json["no_data"], &json!(absence.name()));
            }
        }
    }

    #[test]
    fn any_raw_bytes_of_a_dead_letter_can_be_had_back(raw in proptest::collection::vec(any::<u8>(), 0..200)) {
        let RecordBody::DeadLetter(letter) = frozen_records().remove(1) else { panic!() };
        let record = Record { id: 1, time_us: 0, body: RecordBody::DeadLetter(DeadLetter { raw: raw.clone(), ..letter }) };
        let blocks = seal(&records::encode(&[record], &frame()).unwrap());
        let json: Json = serde_json::from_slice(&render(&mut renderer(), RUN, RUN, &blocks)[0].json).unwrap();
        let original = json["original"].as_str().unwrap();
        if json["original_encoding"] == "utf8" {
            prop_assert_eq!(original.as_bytes(), raw);
        } else {
            prop_assert_eq!(decode_base64(original), raw);
        }
    }
}

/// The other way round from the program's own, by another method: as a number in base 64.
fn decode_base64(text: &str) -> Vec<u8> {
    let digit = |c: char| match c {
        'A'..='Z' => c as u32 - 'A' as u32,
        'a'..='z' => c as u32 - 'a' as u32 + 26,
        '0'..='9' => c as u32 - '0' as u32 + 52,
        '+' => 62,
        _ => 63,
    };
    let digits: Vec<char> = text.trim_end_matches('=').chars().collect();
    let decode = |group: &[char]| {
        let number = group.iter().fold(0, |number, c| number << 6 | digit(*c)) << (6 * (4 - group.len()));
        number.to_be_bytes()[1..group.len()].to_vec()
    };
    digits.chunks(4).flat_map(decode).collect()
}
