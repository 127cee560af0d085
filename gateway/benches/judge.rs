//! Judge and encode, on one core: samples in, finished blocks out; then blocks to JSON. Prints readings a second, bytes a
//! reading, and each stage as a ratio to copying the same samples, measured in the same run.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark talks to a person")]
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use forebay::anomaly::AnomalyOptions;
use forebay::block::Block;
use forebay::block::columns::{Encoder, Frame};
use forebay::checks::range::RangeOptions;
use forebay::checks::{Action, CheckOptions, CheckSeverity};
use forebay::clock::Tick;
use forebay::judge::{Judge, Judged, Rules};
use forebay::reading::{Epoch, Sample, SequenceRange, Stream, TimeQuality, Value};
use forebay::sinks::encode::{Batch, RENDER_VERSION, RenderContext, Renderer, Selection, View};
use forebay::site::Registry;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

const POINTS: u32 = 50;
const READINGS: usize = 1_000_000;
const COMMIT: usize = 2_000;
const ROUNDS: usize = 5;

fn main() {
    let registry = Arc::new(Registry::default());
    let points: Vec<_> = (0..POINTS)
        .map(|point| {
            registry.intern(&format!("boiler-{}", point / 5), &format!("t{}", point % 5), "°C", "bus").unwrap()
        })
        .collect();
    let mut rng = fastrand::Rng::with_seed(1);
    let mut levels: Vec<f64> = points.iter().map(|_| f64::from(rng.i32(2_000..9_000))).collect();
    let samples: Vec<Sample> = (0..READINGS)
        .map(|index| {
            let point = index % points.len();
            levels[point] += f64::from(rng.i32(-2..=2));
            Sample {
                point: points[point],
                outcome: Ok(Value::Number(levels[point] / 100.0)),
                observed_at_us: None,
                received_mono_us: (index / points.len()) as u64 * 1_000_000 + point as u64 * 150,
                message_hash: 0,
            }
        })
        .collect();
    let rules = Rules {
        checks: vec![CheckOptions {
            points: "boiler-*/*".into(),
            range: Some(RangeOptions { operating: Some([-1e6, 1e6]), possible: Some([-1e7, 1e7]) }),
            severity: CheckSeverity::Warning,
            action: Action::Flag,
        }],
        anomalies: vec![AnomalyOptions { points: "*/*".into(), false_alarms_per_month: 4.0 }],
        config_version: 1,
    };
    let (mut copy, mut judging, mut encoding, mut rendering) = (MAX, MAX, MAX, MAX);
    let mut bytes = 0;
    for _ in 0..ROUNDS {
        let started = Instant::now();
        black_box(samples.clone());
        copy = copy.min(started.elapsed());
        let mut judge = Judge::new(rules.clone(), 1);
        judge.learn_points(registry.since(0));
        let (mut judged_in, mut encoded_in, mut rendered_in) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
        let mut encoder = Encoder::new().unwrap();
        let context = RenderContext {
            gateway: "bench".into(),
            epoch: Epoch(1),
            view: View::default(),
            registry: registry.clone(),
        };
        let mut renderer = Renderer::new(RENDER_VERSION, context).unwrap();
        let mut out = Judged::default();
        let mut drafts = Vec::new();
        let mut next = 0;
        bytes = 0;
        for part in samples.chunks(COMMIT) {
            let base =
                Tick { mono_us: part[0].received_mono_us, wall_us: 1_790_000_000_000_000, quality: TimeQuality::Ntp };
            let started = Instant::now();
            out.readings.clear();
            judge.step(part, &base, &mut out);
            judged_in += started.elapsed();
            let started = Instant::now();
            drafts.clear();
            let frame = Frame { boot_id: 1, base, config_version: 1 };
            encoder.encode(&out.readings, &[], &frame, &mut drafts).unwrap();
            let blocks: Vec<_> = drafts
                .iter()
                .map(|draft| {
                    let sealed = draft.seal(Epoch(1), next);
                    next += u64::from(draft.meta.count);
                    sealed
                })
                .collect();
            encoded_in += started.elapsed();
            bytes += blocks.iter().map(bytes::Bytes::len).sum::<usize>();
            let started = Instant::now();
            let blocks: Vec<Block> = blocks.into_iter().map(|block| Block::parse(block).unwrap()).collect();
            let run = SequenceRange { first: blocks[0].range.first, last: next - 1 };
            let mut selection = Selection::default();
            for block in &blocks {
                renderer.select(run, block, &mut selection).unwrap();
            }
            let batch =
                Batch { stream: Stream::Readings, covers: run, records: selection.records(), lane: None, replay: None };
            black_box(renderer.render(&batch, run, &selection).unwrap());
            rendered_in += started.elapsed();
        }
        judging = judging.min(judged_in);
        encoding = encoding.min(encoded_in);
        rendering = rendering.min(rendered_in);
    }
    println!("judge, {READINGS} readings of {POINTS} slowly changing points, one core, best of {ROUNDS}:");
    line("copy the samples", copy, copy);
    line("judge (range, detector)", judging, copy);
    line("encode and seal blocks", encoding, copy);
    line("judge + encode", judging + encoding, copy);
    line("decode and render JSON", rendering, copy);
    println!("  {:.2} bytes a reading in blocks of 500", bytes as f64 / READINGS as f64);
}

const MAX: Duration = Duration::MAX;

fn line(what: &str, took: Duration, copy: Duration) {
    let millions = READINGS as f64 / took.as_secs_f64() / 1e6;
    let ratio = took.as_secs_f64() / copy.as_secs_f64();
    println!("  {what:<24} {millions:>7.2} million readings/s, {ratio:>5.1} × the copy");
}
