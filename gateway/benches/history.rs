//! How long a chart takes over ten million readings of fifty points, and how long it keeps the buffer from a commit.
//!
//! Each figure stands beside its goal. `FOREBAY_BENCH_CHART_MILLIONS` (10) makes the store smaller or larger.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark prints, and stops at the first failure")]
#![allow(clippy::disallowed_methods, reason = "a benchmark measures real time")]

use forebay::block::columns::{Encoder, Frame, JudgedReading};
use forebay::buffer::{Buffer, Commit, StoreOptions};
use forebay::clock::{Clock, Tick};
use forebay::history::{Chart, ChartRequest, History};
use forebay::reading::{
    AnomalyScore, Flags, NO_HASH, PointId, Quality, SequenceRange, Stream, TimeQuality, UnixMicros, Value,
};
use forebay::site::Registry;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

const POINTS: u32 = 50;
const START_US: UnixMicros = 1_800_000_000_000_000;
const SECOND_US: i64 = 1_000_000;
const HOUR_US: i64 = 3_600 * SECOND_US;

/// Seconds of a commit: ten full blocks of the fifty points.
const SECONDS_PER_COMMIT: i64 = 100;

/// How long the summaries may take to be made: they are made in quiet moments.
const SUMMARIES_WAIT: Duration = Duration::from_secs(120);

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(measure());
}

async fn measure() {
    let millions: i64 = std::env::var("FOREBAY_BENCH_CHART_MILLIONS").map_or(10, |millions| millions.parse().unwrap());
    let seconds = millions * 1_000_000 / i64::from(POINTS);
    let dir = tempfile::tempdir_in(".").unwrap();
    let options = StoreOptions { keep_delivered_us: i64::MAX, ..StoreOptions::new(dir.path().to_owned()) };
    let (buffer, opened) = Buffer::open(options, Clock::system()).await.unwrap();
    let registry = Arc::new(Registry::default());
    for point in 0..POINTS {
        registry.intern("plant", &format!("p{point}"), "bar", "bus").unwrap();
    }
    let begun = Instant::now();
    fill(&buffer, &registry, seconds).await;
    println!(
        "{millions} million readings of {POINTS} points over {} h, written in {:?}",
        seconds / 3_600,
        begun.elapsed()
    );
    let summarised = wait_for_summaries(&buffer).await;
    println!("  {summarised} of the chunks have summaries, the last one is still written");

    let history = History::new(buffer.clone(), registry, "plant-7", opened.epoch.unwrap());
    let end_us = START_US + seconds * SECOND_US;
    let windows = [
        ("all of it", START_US, 800),
        ("all of it again", START_US, 800),
        ("a day", end_us - 24 * HOUR_US, 800),
        ("three hours", end_us - 3 * HOUR_US, 800),
        ("half an hour, old", START_US + 10 * HOUR_US, 800),
        ("five minutes", end_us - 300 * SECOND_US, 800),
    ];
    for (what, from_us, columns) in windows {
        let to_us = if what.ends_with("old") { from_us + HOUR_US / 2 } else { end_us };
        let request = ChartRequest { point: PointId(17), from_us, to_us, columns };
        let begun = Instant::now();
        let mut asked = 1;
        let mut chart = history.chart(request, &CancellationToken::new()).await.unwrap();
        let first = begun.elapsed();
        while !chart.complete && asked < 20 {
            chart = history.chart(request, &CancellationToken::new()).await.unwrap();
            asked += 1;
        }
        println!("  {what:18} {first:9.1?} (goal: below 1 s), {}", told(&chart, asked, begun.elapsed()));
    }
    hold(&buffer, &history, end_us).await;
    buffer.close().await;
}

fn told(chart: &Chart, asked: u32, all: Duration) -> String {
    let of = if chart.of_minutes { "minutes" } else { "readings" };
    let again = if asked > 1 { format!(", whole after {asked} requests and {all:.1?}") } else { String::new() };
    format!("{} readings in {} columns from {of}{again}", chart.statistics.count, chart.columns.len())
}

/// The longest that a call of another waited while charts are read without a pause.
async fn hold(buffer: &Buffer, history: &History, end_us: UnixMicros) {
    let stop = CancellationToken::new();
    let readers = async {
        for point in 0..10 {
            let request = ChartRequest { point: PointId(point), from_us: START_US, to_us: end_us, columns: 800 };
            history.chart(request, &CancellationToken::new()).await.unwrap();
        }
        stop.cancel();
    };
    let watcher = async {
        let (mut longest, mut calls, mut sum) = (Duration::ZERO, 0_u32, Duration::ZERO);
        while !stop.is_cancelled() {
            let begun = Instant::now();
            buffer.boot_offset(1).await.unwrap();
            let took = begun.elapsed();
            (longest, calls, sum) = (longest.max(took), calls + 1, sum + took);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        println!(
            "  a call beside ten charts waited {longest:.1?} at most (goal: below a commit's second), {:.2?} in the mean of {calls}",
            sum / calls.max(1)
        );
    };
    tokio::join!(readers, watcher);
}

async fn fill(buffer: &Buffer, registry: &Registry, seconds: i64) {
    let mut random = fastrand::Rng::with_seed(7);
    let mut levels: Vec<i32> = (0..POINTS).map(|_| random.i32(2_000..9_000)).collect();
    let mut encoder = Encoder::new().unwrap();
    let base = Tick { mono_us: 0, wall_us: START_US, quality: TimeQuality::Ntp };
    let frame = Frame { boot_id: 1, base, config_version: 1 };
    for from in (0..seconds).step_by(usize::try_from(SECONDS_PER_COMMIT).unwrap()) {
        let mut readings = Vec::new();
        for second in from..(from + SECONDS_PER_COMMIT).min(seconds) {
            for point in 0..POINTS {
                let level = &mut levels[usize::try_from(point).unwrap()];
                *level += random.i32(-2..=2);
                readings.push(JudgedReading {
                    point: PointId(point),
                    outcome: Ok(Value::Number(f64::from(*level) / 100.0)),
                    observed_at_us: None,
                    received_mono_us: u64::try_from(second * SECOND_US + i64::from(point) * 150).unwrap(),
                    quality: Quality::Good,
                    flags: Flags::default(),
                    score: AnomalyScore::default(),
                    message_hash: NO_HASH,
                    note: None,
                });
            }
        }
        let mut drafts = Vec::new();
        encoder.encode(&readings, &[], &frame, &mut drafts).unwrap();
        let points = registry.unsaved();
        if let Some((last, _)) = points.last() {
            registry.mark_saved(*last);
        }
        // As ingest does: what the judge has seen needs no replay, so that chunks may be merged and summarised.
        let snapshot = (from % 10_000 == 0).then(|| vec![1]);
        buffer.commit(Commit { drafts, points, snapshot, ..Commit::default() }).await.unwrap();
    }
}

/// Waits until all chunks but the last have summaries; how many they are.
async fn wait_for_summaries(buffer: &Buffer) -> usize {
    let until = Instant::now() + SUMMARIES_WAIT;
    loop {
        let stretches: Vec<SequenceRange> =
            buffer.stretches_between(Stream::Readings, i64::MIN, i64::MAX).await.unwrap();
        let mut summarised = 0;
        for stretch in &stretches {
            let minutes = buffer.minutes_of(*stretch, PointId(0), i64::MIN, i64::MAX).await.unwrap();
            summarised += usize::from(minutes.is_some());
        }
        if summarised + 1 >= stretches.len() || Instant::now() >= until {
            return summarised;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
