//! The history, read from real buffers: what a chart shows is what was written, however it is read.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::block::columns::{Encoder, Frame, JudgedReading};
use crate::block::records::{self, Alert, DeadLetter, RawBytes, Record, RecordBody, Severity};
use crate::buffer::{Commit, StoreOptions};
use crate::clock::{Clock, Tick};
use crate::reading::{
    AnomalyScore, Detector, Flags, NO_HASH, NoData, Note, Quality, Reason, Stream, TimeQuality, UnixMicros, Value,
};
use futures_util::StreamExt as _;
use std::path::Path;
use tokio_util::sync::CancellationToken;

const START_US: UnixMicros = 1_800_000_000_000_000;
const SECOND_US: i64 = 1_000_000;
const MINUTE_US: i64 = 60 * SECOND_US;

/// A gateway that has run: a point of each number is read once a second, one after the other.
struct Plant {
    history: History,
    buffer: Buffer,
    encoder: Encoder,
    points: u32,
    seconds: i64,
}

impl Plant {
    async fn new(dir: &Path, points: u32) -> Self {
        let options = StoreOptions { keep_delivered_us: i64::MAX, ..StoreOptions::new(dir.to_owned()) };
        let (buffer, opened) = Buffer::open(options, Clock::manual(1, 1, START_US)).await.unwrap();
        let registry = Arc::new(Registry::default());
        for point in 0..points {
            registry.intern("boiler", &format!("p{point}"), "°C", "bus").unwrap();
        }
        let history = History::new(buffer.clone(), registry, "plant-7", opened.epoch.unwrap());
        Self { history, buffer, encoder: Encoder::new().unwrap(), points, seconds: 0 }
    }

    /// Runs for so long, a commit every so many seconds; `value` is of point and second.
    async fn run(&mut self, seconds: i64, per_commit: i64, mut value: impl FnMut(u32, i64) -> Option<JudgedReading>) {
        let end = self.seconds + seconds;
        while self.seconds < end {
            let until = (self.seconds + per_commit).min(end);
            let readings: Vec<JudgedReading> = (self.seconds..until)
                .flat_map(|second| (0..self.points).map(move |point| (point, second)))
                .filter_map(|(point, second)| value(point, second))
                .collect();
            self.seconds = until;
            let frame = frame();
            let mut drafts = Vec::new();
            self.encoder.encode(&readings, &[], &frame, &mut drafts).unwrap();
            let points = self.history.registry.unsaved();
            if let Some((last, _)) = points.last() {
                self.history.registry.mark_saved(*last);
            }
            let commit = Commit { drafts, points, snapshot: None, books: None };
            self.buffer.commit(commit).await.unwrap();
        }
    }

    async fn put(&self, records: &[Record]) {
        let drafts = records::encode(records, &frame()).unwrap();
        self.buffer.commit(Commit { drafts, ..Commit::default() }).await.unwrap();
    }

    async fn chart(&self, point: u32, from_us: UnixMicros, to_us: UnixMicros, columns: usize) -> Chart {
        let request = ChartRequest { point: PointId(point), from_us, to_us, columns };
        self.history.chart(request, &CancellationToken::new()).await.unwrap()
    }
}

fn frame() -> Frame {
    Frame { boot_id: 1, base: Tick { mono_us: 0, wall_us: START_US, quality: TimeQuality::Ntp }, config_version: 1 }
}

fn reading(point: u32, second: i64, value: f64) -> JudgedReading {
    JudgedReading {
        point: PointId(point),
        outcome: Ok(Value::Number(value)),
        observed_at_us: None,
        received_mono_us: u64::try_from(second * SECOND_US + i64::from(point)).unwrap(),
        quality: Quality::Good,
        flags: Flags::default(),
        score: AnomalyScore::default(),
        message_hash: NO_HASH,
        note: None,
    }
}

fn wave(point: u32, second: i64) -> JudgedReading {
    reading(point, second, f64::from(point) * 10.0 + (second % 600) as f64 / 100.0)
}

#[tokio::test]
async fn a_short_window_shows_every_reading_with_what_was_said_about_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut plant = Plant::new(dir.path(), 3).await;
    plant
        .run(600, 10, |point, second| {
            let mut of = wave(point, second);
            match (point, second) {
                (1, 300) => {
                    of.outcome = Ok(Value::Number(96.2));
                    (of.flags, of.quality) = (Flags::ANOMALY, Quality::Uncertain);
                    of.note = Some(Note { detector: Detector::Residual, reason: Reason::Above, expected: 90.0 });
                }
                (1, 301) => (of.outcome, of.quality) = (Err(NoData::Timeout), Quality::Bad),
                _ => {}
            }
            Some(of)
        })
        .await;
    let chart = plant.chart(1, START_US, START_US + 600 * SECOND_US, 100).await;
    assert!(chart.complete && !chart.of_minutes);
    let raw = chart.raw.unwrap();
    assert_eq!(raw.len(), 600);
    assert!(raw.windows(2).all(|pair| pair[0].at_us < pair[1].at_us));
    assert_eq!(raw[301].no_data, Some("timeout"));
    assert_eq!((chart.statistics.count, chart.statistics.numbers, chart.statistics.max), (600, 599, Some(96.2)));
    assert_eq!((chart.statistics.flagged, chart.statistics.not_good), (1, Some(2)));
    assert!(chart.columns.len() <= 101 && chart.columns.iter().any(|column| column.max == Some(96.2)));
    assert_eq!(chart.columns.iter().map(|column| column.count).sum::<u64>(), 600);
    assert_eq!(chart.marks.len(), 1);
    assert_eq!(chart.marks[0].words, "6.2 °C above the expected 90 °C");
    assert_eq!((chart.marks[0].value, chart.marks[0].kind), (Some(96.2), MarkKind::Anomaly));
}

#[tokio::test]
async fn a_wide_window_has_the_same_extremes_and_counts_as_its_readings_and_no_spike_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let mut plant = Plant::new(dir.path(), 10).await;
    let spike = |point: u32, second: i64| {
        let spiked = point == 4 && second == 7_777;
        Some(if spiked { reading(point, second, -400.0) } else { wave(point, second) })
    };
    plant.run(3 * 3_600, 50, spike).await;
    let end_us = START_US + 3 * 3_600 * SECOND_US;
    let wide = plant.chart(4, START_US, end_us - 1, 20).await;
    assert!(wide.of_minutes && wide.complete, "{:?}", wide.incomplete_because);
    assert!(wide.columns.len() <= 20 && wide.column_us % MINUTE_US == 0);
    assert_eq!((wide.statistics.count, wide.statistics.min), (10_800, Some(-400.0)));
    assert_eq!(wide.statistics.max, Some(45.99));
    // Column by column, read from the readings.
    let fine = plant.chart(4, START_US, end_us - 1, 2_000).await;
    assert!(!fine.of_minutes && fine.complete);
    assert_eq!((fine.statistics.count, fine.statistics.min), (10_800, Some(-400.0)));
    for column in &wide.columns {
        let inside = |of: &&Column| (column.at_us..column.at_us + wide.column_us).contains(&of.at_us);
        let least = fine.columns.iter().filter(inside).filter_map(|of| of.min).fold(f64::MAX, f64::min);
        assert!(column.min.unwrap() <= least, "{column:?}");
    }
    let zoomed = plant.chart(4, START_US + 7_770 * SECOND_US, START_US + 7_790 * SECOND_US, 100).await;
    assert!(zoomed.raw.unwrap().iter().any(|sample| sample.value == Some(-400.0)));
    // What came since is in the next chart, though the minutes before it were kept.
    plant.run(600, 50, spike).await;
    let later = plant.chart(4, START_US, end_us + 600 * SECOND_US, 20).await;
    assert_eq!(later.statistics.count, 11_400);
    assert_eq!(later.statistics.last, Some(wave(4, 11_399).outcome.unwrap().as_number().unwrap()));
}

#[tokio::test]
async fn where_readings_stop_a_gap_is_told_and_no_line_is_drawn() {
    let dir = tempfile::tempdir().unwrap();
    let mut plant = Plant::new(dir.path(), 2).await;
    plant.run(3_600, 60, |point, second| (!(1_200..1_500).contains(&second)).then(|| wave(point, second))).await;
    let chart = plant.chart(0, START_US, START_US + 3_600 * SECOND_US, 400).await;
    let [gap] = chart.statistics.gaps[..] else { panic!("{:?}", chart.statistics.gaps) };
    let seconds = (gap.to_us - gap.from_us) / SECOND_US;
    assert!((280..=310).contains(&seconds), "{seconds} s");
    let arrays = chart.arrays();
    assert_eq!(arrays.at.len(), chart.columns.len() + 1);
    assert_eq!(arrays.min.iter().filter(|min| min.is_none()).count(), 1);
    assert!(arrays.at.is_sorted());
}

#[tokio::test]
async fn a_chart_of_nothing_is_empty_and_one_of_nonsense_says_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let plant = Plant::new(dir.path(), 1).await;
    let chart = plant.chart(0, START_US, START_US + 1, 100).await;
    assert!(chart.columns.is_empty() && chart.complete && chart.statistics.min.is_none());
    let extreme = plant.chart(0, i64::MIN, i64::MAX, 0).await;
    assert!(extreme.columns.is_empty());
    let ask = |point, from_us, to_us| ChartRequest { point: PointId(point), from_us, to_us, columns: 100 };
    let cancel = CancellationToken::new();
    let wrong = plant.history.chart(ask(9, 0, 1), &cancel).await.unwrap_err();
    assert!(wrong.to_string().contains("no point number 9"), "{wrong}");
    let wrong = plant.history.chart(ask(0, 2, 1), &cancel).await.unwrap_err();
    assert!(wrong.to_string().contains("ends before it begins"), "{wrong}");
}

fn letter(number: u64, raw: &[u8]) -> Vec<Record> {
    let letter = DeadLetter {
        source: if number.is_multiple_of(2) { "meters" } else { "boiler-bus" }.to_owned(),
        position: format!("plant/meter-{number}"),
        error: format!("value {number} is no number"),
        rule: "decode".to_owned(),
        config_version: 3,
        raw: Vec::new(),
        part: 0,
        parts: 1,
        raw_bytes: 0,
        raw_sha256: None,
        message_hash: 0,
    };
    records::dead_letters(
        number << 8,
        START_US + i64::try_from(number).unwrap() * SECOND_US,
        &letter,
        &RawBytes::of(raw),
    )
}

#[tokio::test]
async fn dead_letters_are_paged_newest_first_filtered_and_looked_into() {
    let dir = tempfile::tempdir().unwrap();
    let plant = Plant::new(dir.path(), 1).await;
    for number in 0..150 {
        plant.put(&letter(number, format!("{{\"v\": \"x{number}\"}}").as_bytes())).await;
    }
    let large: Vec<u8> = (0..10_000_u32).map(|byte| u8::try_from(byte % 251).unwrap()).collect();
    plant.put(&letter(150, &large)).await;
    let (mut seen, mut before) = (Vec::new(), None);
    loop {
        let page = plant.history.records(Stream::DeadLetters, before, 40, &RecordFilter::default()).await.unwrap();
        assert!(page.records.len() <= 40);
        seen.extend(page.records.iter().map(|record| record.at_us));
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    let expected: Vec<i64> = (0..=150).rev().map(|number| START_US + number * SECOND_US).collect();
    assert_eq!(seen, expected);

    let filter = RecordFilter {
        text: Some("X14".to_owned()),
        source: Some("meters".to_owned()),
        to_us: Some(START_US + 145 * SECOND_US),
        ..RecordFilter::default()
    };
    let page = plant.history.records(Stream::DeadLetters, None, 200, &filter).await.unwrap();
    let found: Vec<&str> = page.records.iter().map(RecordView::words).collect();
    assert_eq!(found, [144, 142, 140, 14].map(|number| format!("value {number} is no number")));

    let newest = plant.history.records(Stream::DeadLetters, None, 1, &RecordFilter::default()).await.unwrap();
    let sequence = newest.records[0].sequence;
    let inside = plant.history.record(Stream::DeadLetters, sequence).await.unwrap().unwrap();
    let RecordWhat::DeadLetter { raw, parts, config_version, .. } = inside.what else { panic!("no letter") };
    assert_eq!((raw.bytes, raw.shown_bytes, raw.text, parts, config_version), (10_000, 4_096, None, 3, 3));
    assert_eq!(plant.history.raw_bytes(sequence).await.unwrap().unwrap(), large);
    assert!(plant.history.record(Stream::DeadLetters, 9_999).await.unwrap().is_none());
    assert!(plant.history.records(Stream::Readings, None, 9, &RecordFilter::default()).await.is_err());
}

#[tokio::test]
async fn alerts_about_a_point_are_marked_in_its_chart() {
    let dir = tempfile::tempdir().unwrap();
    let mut plant = Plant::new(dir.path(), 2).await;
    plant.run(600, 60, |point, second| Some(wave(point, second))).await;
    let alert = |subject: &str, second: i64, raised| Record {
        id: 1,
        time_us: START_US + second * SECOND_US,
        body: RecordBody::Alert(Alert {
            rule: "range".to_owned(),
            severity: Severity::Warning,
            subject: subject.to_owned(),
            message: "96 °C is above the limit".to_owned(),
            value: Some(96.0),
            raised,
        }),
    };
    plant.put(&[alert("boiler/p1", 100, true), alert("boiler/p0", 110, true), alert("boiler/p1", 200, false)]).await;
    let chart = plant.chart(1, START_US, START_US + 150 * SECOND_US, 100).await;
    assert_eq!(chart.marks.iter().map(|mark| mark.kind).collect::<Vec<_>>(), [MarkKind::AlertRaised]);
    assert_eq!(chart.marks[0].words, "96 °C is above the limit");
}

async fn exported(plant: &Plant, stream: Stream, request: ExportRequest) -> String {
    let mut pieces = Box::pin(plant.history.export(stream, request).await.unwrap());
    let mut all = Vec::new();
    while let Some(piece) = pieces.next().await {
        all.extend_from_slice(&piece.unwrap());
    }
    String::from_utf8(all).unwrap()
}

#[tokio::test]
async fn exports_hold_what_was_asked_for_line_by_line() {
    let dir = tempfile::tempdir().unwrap();
    let mut plant = Plant::new(dir.path(), 4).await;
    plant.run(2_000, 20, |point, second| Some(wave(point, second))).await;
    plant.put(&letter(1, b"=cmd, \"x\"")).await;
    let window = RecordFilter {
        from_us: Some(START_US + 500 * SECOND_US),
        to_us: Some(START_US + 600 * SECOND_US - 1),
        ..RecordFilter::default()
    };
    let points = vec![crate::site::PointPattern::parse("boiler/p2").unwrap()];
    let csv = exported(
        &plant,
        Stream::Readings,
        ExportRequest { filter: window.clone(), points, format: ExportFormat::Csv, ..ExportRequest::default() },
    )
    .await;
    assert_eq!(csv.lines().count(), 101);
    assert!(csv.lines().skip(1).all(|line| line.contains(",boiler,p2,")), "{csv}");
    let json = exported(&plant, Stream::Readings, ExportRequest { filter: window, ..ExportRequest::default() }).await;
    assert_eq!(json.lines().count(), 400);
    let first: serde_json::Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
    assert_eq!((first["gateway"].as_str(), first["device"].as_str()), (Some("plant-7"), Some("boiler")));
    let letters =
        exported(&plant, Stream::DeadLetters, ExportRequest { format: ExportFormat::Csv, ..ExportRequest::default() })
            .await;
    assert_eq!(letters.lines().next(), Some(RECORDS_HEAD));
    assert!(letters.contains(&hex::encode("=cmd, \"x\"")), "{letters}");
}

#[tokio::test]
async fn two_read_at_once_and_the_third_waits_for_its_turn() {
    let dir = tempfile::tempdir().unwrap();
    let plant = Plant::new(dir.path(), 1).await;
    let first = plant.history.export(Stream::Alerts, ExportRequest::default()).await.unwrap();
    let _second = plant.history.export(Stream::Alerts, ExportRequest::default()).await.unwrap();
    let mut third = Box::pin(plant.chart(0, START_US, START_US + 1, 10));
    assert!(futures_util::poll!(&mut third).is_pending());
    drop(first);
    assert!(third.await.complete);
}

#[tokio::test]
async fn a_reader_that_has_gone_costs_nothing_more() {
    let dir = tempfile::tempdir().unwrap();
    let mut plant = Plant::new(dir.path(), 2).await;
    plant.run(600, 60, |point, second| Some(wave(point, second))).await;
    let cancel = CancellationToken::new();
    cancel.cancel();
    let request = ChartRequest { point: PointId(0), from_us: START_US, to_us: START_US + 1, columns: 10 };
    assert!(matches!(plant.history.chart(request, &cancel).await, Err(HistoryError::Cancelled)));
}
