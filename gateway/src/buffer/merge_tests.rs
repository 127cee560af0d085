//! Merging sealed chunks: the same readings at the same times, right summaries, and a whole chunk after a crash at any step.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::LaneChange;
use super::disk_store::DiskStore;
use super::inspect::ChunkName;
use super::minutes::MinuteSummary;
use super::store::Store;
use super::test_support::{NOW_US, all_blocks, commit, draft, open};
use crate::block::columns::{Encoder, Frame, JudgedReading, ReadingRow};
use crate::clock::Tick;
use crate::reading::{
    AnomalyScore, Detector, Flags, NO_HASH, NoData, Note, PointId, Quality, Reason, SequenceRange, Stream, TimeQuality,
    Value,
};
use crate::site::PointKey;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

const POINTS: u32 = 4;

/// A commit: some readings, with the boot, the clock's quality and the configuration of their block.
#[derive(Clone, Debug)]
struct Small {
    readings: Vec<JudgedReading>,
    /// How far the wall clock was slewed or set since the commit before.
    slew_us: i64,
    boot_id: u128,
    quality: TimeQuality,
    config_version: u32,
}

fn value() -> impl Strategy<Value = Result<Value, NoData>> {
    prop_oneof![
        6 => (-500..500_i32).prop_map(|number| Ok(Value::Number(f64::from(number) / 100.0))),
        1 => any::<i32>().prop_map(|number| Ok(Value::Number(f64::from(number) / 7.0))),
        1 => any::<i64>().prop_map(|integer| Ok(Value::Integer(integer))),
        1 => any::<bool>().prop_map(|switch| Ok(Value::Boolean(switch))),
        1 => "[a-z]{0,12}".prop_map(|text| Ok(Value::Text(text.as_str().into()))),
        1 => prop::sample::select(vec![NoData::Timeout, NoData::Exception(4), NoData::NotAvailable]).prop_map(Err),
    ]
}

fn reading() -> impl Strategy<Value = JudgedReading> {
    let judged = (any::<bool>(), 0..32_u32, any::<u8>(), prop::option::of(any::<f32>()));
    (0..POINTS, value(), prop::option::of(0..10_000_i64), 0..40_000_000_u64, judged, any::<u32>()).prop_map(
        |(point, outcome, observed, received_mono_us, (good, flags, score, expected), message_hash)| JudgedReading {
            point: PointId(point),
            outcome,
            observed_at_us: observed.map(|seconds| NOW_US + seconds * 1_000),
            received_mono_us,
            quality: if good { Quality::Good } else { Quality::Uncertain },
            flags: Flags(flags),
            score: AnomalyScore(score),
            message_hash,
            note: expected.filter(|expected| expected.is_finite()).map(|expected| Note {
                detector: Detector::from_code(1).unwrap(),
                reason: Reason::from_code(1).unwrap(),
                expected,
            }),
        },
    )
}

fn small() -> impl Strategy<Value = Small> {
    let size = prop_oneof![12 => 1..8_usize, 1 => 300..520_usize];
    let readings = size.prop_flat_map(|size| prop::collection::vec(reading(), size));
    let slew = prop_oneof![8 => -20..20_i64, 1 => -90_000_000..90_000_000_i64];
    let quality = prop_oneof![12 => Just(TimeQuality::Ntp), 1 => Just(TimeQuality::Unset)];
    let (boot, config) = (prop_oneof![20 => Just(1_u128), 1 => Just(2)], prop_oneof![20 => Just(1_u32), 1 => Just(2)]);
    (readings, slew, boot, quality, config).prop_map(|(readings, slew_us, boot_id, quality, config_version)| Small {
        readings,
        slew_us,
        boot_id,
        quality,
        config_version,
    })
}

fn points() -> Vec<(PointId, Arc<PointKey>)> {
    let key = |id: u32| PointKey {
        device: "d".into(),
        point: format!("p{id}").as_str().into(),
        unit: "".into(),
        source: "s".into(),
    };
    (0..POINTS).map(|id| (PointId(id), Arc::new(key(id)))).collect()
}

/// Commits, a snapshot above them, and the seal.
fn fill(store: &mut DiskStore, commits: &[Small]) {
    let mut encoder = Encoder::new().unwrap();
    let (mut mono_us, mut wall_us) = (1_000_000_u64, NOW_US);
    for small in commits {
        mono_us += 30_000_000;
        wall_us += 30_000_000 + small.slew_us;
        let base = Tick { mono_us, wall_us, quality: small.quality };
        let frame = Frame { boot_id: small.boot_id, base, config_version: small.config_version };
        let readings: Vec<JudgedReading> = small
            .readings
            .iter()
            .map(|reading| JudgedReading {
                received_mono_us: mono_us.saturating_sub(reading.received_mono_us),
                ..reading.clone()
            })
            .collect();
        let mut drafts = Vec::new();
        encoder.encode(&readings, &[(0, mono_us)], &frame, &mut drafts).unwrap();
        let mut commit = commit(drafts);
        commit.points = points();
        store.commit(&commit).unwrap();
    }
    let mut snapshot = commit(Vec::new());
    snapshot.snapshot = Some(vec![7]);
    store.commit(&snapshot).unwrap();
    store.seal_for_test();
}

fn rows(store: &mut DiskStore) -> Vec<ReadingRow> {
    all_blocks(store, Stream::Readings).iter().flat_map(|block| block.readings().unwrap()).collect()
}

/// Everything that rendering looks at: not the monotonic time by itself, nor the hash.
fn rendered(rows: Vec<ReadingRow>) -> Vec<ReadingRow> {
    let plain = |row: ReadingRow| ReadingRow {
        reading: JudgedReading { received_mono_us: 0, message_hash: NO_HASH, ..row.reading },
        ..row
    };
    rows.into_iter().map(plain).collect()
}

/// What the summaries of a point ought to be, computed the plain way.
fn naive(store: &mut DiskStore, point: PointId) -> Vec<MinuteSummary> {
    let mut minutes: BTreeMap<i64, Vec<ReadingRow>> = BTreeMap::new();
    for block in all_blocks(store, Stream::Readings) {
        for row in block.readings().unwrap() {
            if row.reading.point == point && block.meta.time_quality != TimeQuality::Unset {
                minutes.entry(row.received_at_us.div_euclid(60_000_000) * 60_000_000).or_default().push(row);
            }
        }
    }
    let summary = |(minute_us, rows): (i64, Vec<ReadingRow>)| {
        let mut summary = MinuteSummary::of(&rows[0]);
        assert_eq!(summary.minute_us, minute_us);
        let numbers: Vec<f64> = rows
            .iter()
            .filter_map(|row| match &row.reading.outcome {
                Ok(Value::Number(number)) => Some(*number),
                Ok(Value::Integer(integer)) => Some(*integer as f64),
                Ok(Value::Boolean(switch)) => Some(f64::from(u8::from(*switch))),
                _ => None,
            })
            .collect();
        summary.readings = u32::try_from(rows.len()).unwrap();
        summary.flagged = u32::try_from(rows.iter().filter(|row| row.reading.flags.0 != 0).count()).unwrap();
        summary.worst = rows.iter().map(|row| row.reading.quality).max_by_key(|quality| quality.code()).unwrap();
        summary.numbers = numbers.first().map(|first| super::Numbers {
            count: u32::try_from(numbers.len()).unwrap(),
            min: numbers.iter().copied().fold(f64::INFINITY, f64::min),
            max: numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            sum: numbers.iter().sum(),
            first: *first,
            last: *numbers.last().unwrap(),
        });
        summary
    };
    minutes.into_iter().map(summary).collect()
}

fn assert_alike(found: &[MinuteSummary], expected: &[MinuteSummary]) {
    let near = |a: f64, b: f64| (a - b).abs() <= 1e-9 * (1.0 + a.abs().max(b.abs())) * 1e3;
    assert_eq!(found.len(), expected.len(), "{found:?} {expected:?}");
    for (found, expected) in found.iter().zip(expected) {
        // Sums differ by the order of adding.
        let sums =
            (found.numbers.map_or(0.0, |numbers| numbers.sum), expected.numbers.map_or(0.0, |numbers| numbers.sum));
        assert!(near(sums.0, sums.1), "{sums:?}");
        let plain = |mut summary: MinuteSummary| {
            if let Some(numbers) = &mut summary.numbers {
                numbers.sum = 0.0;
            }
            summary
        };
        assert_eq!(plain(*found), plain(*expected));
    }
}

fn summaries(store: &mut DiskStore, point: PointId) -> Option<Vec<MinuteSummary>> {
    let stretches = store.stretches_between(Stream::Readings, i64::MIN, i64::MAX);
    assert_eq!(stretches.len(), 1, "{stretches:?}");
    let summaries = store.minutes(stretches[0], point, i64::MIN, i64::MAX).unwrap()?;
    let mut found = super::Minutes { summaries, ..super::Minutes::default() };
    found.order();
    Some(found.summaries)
}

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 128, ..ProptestConfig::default() })]

    #[test]
    fn a_merged_chunk_gives_the_same_readings_in_fewer_blocks_and_right_summaries(
        commits in prop::collection::vec(small(), 1..160)
    ) {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, _) = open(dir.path());
        fill(&mut store, &commits);
        let (before, blocks) = (rendered(rows(&mut store)), all_blocks(&mut store, Stream::Readings).len());
        let expected: Vec<_> = (0..POINTS).map(|point| naive(&mut store, PointId(point))).collect();
        prop_assert_eq!(summaries(&mut store, PointId(0)), None);
        while store.idle_step() {}
        for reopened in [false, true] {
            prop_assert_eq!(&rendered(rows(&mut store)), &before);
            prop_assert!(all_blocks(&mut store, Stream::Readings).len() <= blocks);
            for (point, expected) in (0..).zip(&expected) {
                assert_alike(&summaries(&mut store, PointId(point)).unwrap(), expected);
            }
            prop_assert_eq!(summaries(&mut store, PointId(POINTS)).unwrap(), Vec::new());
            if !reopened {
                let mut note = commit(Vec::new());
                note.snapshot = Some(vec![8]);
                store.commit(&note).unwrap();
                // The ledger learns of it with its next write.
                store.lane("cloud", Stream::Readings).unwrap();
                drop(store);
                let (again, opened) = open(dir.path());
                prop_assert_eq!(opened.quarantined, Vec::<String>::new());
                store = again;
            }
        }
    }
}

/// A plain flow: one reading a commit.
fn one_by_one(commits: i64) -> Vec<Small> {
    let reading = |number: i64| JudgedReading {
        point: PointId(u32::try_from(number).unwrap() % POINTS),
        outcome: Ok(Value::Number(number as f64 / 10.0)),
        observed_at_us: None,
        received_mono_us: 0,
        quality: Quality::Good,
        flags: Flags::default(),
        score: AnomalyScore::default(),
        message_hash: u32::try_from(number).unwrap(),
        note: None,
    };
    let small = |number| Small {
        readings: vec![reading(number)],
        slew_us: number % 7,
        boot_id: 1,
        quality: TimeQuality::Ntp,
        config_version: 1,
    };
    (0..commits).map(small).collect()
}

#[test]
fn single_readings_become_full_blocks_and_recent_message_hashes_stay() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    fill(&mut store, &one_by_one(1_200));
    let before = rows(&mut store);
    while store.idle_step() {}
    let counts: Vec<u16> = all_blocks(&mut store, Stream::Readings).iter().map(|block| block.meta.count).collect();
    assert_eq!(counts, [500, 500, 200]);
    let hashes = |rows: &[ReadingRow]| rows.iter().map(|row| row.reading.message_hash).collect::<Vec<_>>();
    assert_eq!(hashes(&rows(&mut store)), hashes(&before));
}

#[test]
fn nothing_is_merged_that_the_judge_may_have_to_see_again() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    let mut encoder = Encoder::new().unwrap();
    let base = Tick { mono_us: 1, wall_us: NOW_US, quality: TimeQuality::Ntp };
    for small in one_by_one(20) {
        let mut drafts = Vec::new();
        let frame = Frame { boot_id: 1, base, config_version: 1 };
        encoder.encode(&small.readings, &[], &frame, &mut drafts).unwrap();
        store.commit(&commit(drafts)).unwrap();
    }
    store.seal_for_test();
    assert!(!store.idle_step(), "there is no snapshot yet");
    assert_eq!(all_blocks(&mut store, Stream::Readings).len(), 20);
}

#[test]
fn nothing_is_merged_that_a_sink_has_not_got_yet_since_a_retry_must_be_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    let mut lane = store.lane("cloud", Stream::Readings).unwrap();
    fill(&mut store, &one_by_one(700));
    assert!(!store.idle_step(), "the sink has nothing of it");
    lane.cursor.from = 700;
    lane.delivered = 700;
    let change = LaneChange { sink: "cloud".to_owned(), stream: Stream::Readings, lane, records: Vec::new() };
    store.change_lane(&change).unwrap();
    store.maintain();
    assert!(store.idle_step(), "the sink has all of it");
    while store.idle_step() {}
    assert_eq!(all_blocks(&mut store, Stream::Readings).len(), 2);
}

#[test]
fn a_crash_at_any_step_of_a_merge_leaves_the_old_chunk_or_the_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    fill(&mut store, &one_by_one(700));
    let before = rendered(rows(&mut store));
    let chunk = Path::new("buffer/readings/00000001");
    let images = tempfile::tempdir().unwrap();
    let image = |name: &str| images.path().join(name);
    let mut steps = 0;
    loop {
        let is_last = store.is_compared_for_test();
        copy_dir(dir.path(), &image(&steps.to_string()));
        if is_last {
            copy_dir(dir.path(), &image("aside"));
            let place = image("aside").join(chunk);
            std::fs::rename(&place, place.with_extension("replaced")).unwrap();
            copy_dir(&image("aside"), &image("back"));
            std::fs::rename(place.with_extension("merging"), place.with_extension("merged")).unwrap();
        }
        steps += 1;
        if !store.idle_step() {
            break;
        }
        if is_last {
            copy_dir(dir.path(), &image("swapped"));
            let old = image(&(steps - 1).to_string()).join(chunk);
            copy_dir(&old, &image("swapped").join(chunk).with_extension("replaced"));
        }
    }
    assert!(steps > 10 && image("swapped").exists(), "{steps} steps");
    let names: Vec<String> =
        (0..steps).map(|step| step.to_string()).chain(["aside", "back", "swapped"].map(str::to_owned)).collect();
    for name in names {
        let (mut store, opened) = open(&image(&name));
        assert_eq!(opened.quarantined, Vec::<String>::new(), "image {name}");
        assert_eq!(rendered(rows(&mut store)), before, "image {name}");
        let left: Vec<_> = std::fs::read_dir(image(&name).join("buffer/readings")).unwrap().flatten().collect();
        assert_eq!(left.len(), 1, "image {name}: {left:?}");
        // Where the ledger had not heard of the seal, the chunk goes on.
        store.seal_for_test();
        while store.idle_step() {}
        assert_eq!(rendered(rows(&mut store)), before, "image {name}, merged again");
        assert_eq!(all_blocks(&mut store, Stream::Readings).len(), 2, "image {name}");
    }
}

#[test]
fn a_merge_gives_way_where_there_is_no_room_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = super::test_support::options(dir.path(), 256 * super::test_support::MIB);
    let (mut store, _) = DiskStore::open(options.clone(), super::test_support::clock()).unwrap();
    fill(&mut store, &one_by_one(600));
    options.disk_bytes_max = store.usage().disk_bytes + super::test_support::MIB;
    drop(store);
    let (mut store, _) = DiskStore::open(options, super::test_support::clock()).unwrap();
    let before = all_blocks(&mut store, Stream::Readings);
    store.seal_for_test();
    while store.idle_step() {}
    assert_eq!(all_blocks(&mut store, Stream::Readings), before);
    assert!(summaries(&mut store, PointId(0)).is_some_and(|summaries| summaries.len() > 100));
    let whole = SequenceRange { first: 0, last: 599 };
    assert_eq!(store.stretches_between(Stream::Readings, i64::MIN, i64::MAX), [whole]);
}

#[test]
fn a_merge_that_cannot_be_made_is_not_begun_for_ever_and_the_chunk_gets_its_summaries() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    fill(&mut store, &one_by_one(700));
    // Where the new chunk should go, nothing can be made.
    let place = dir.path().join("buffer/readings/00000001");
    std::os::unix::fs::symlink("nowhere", place.with_extension("merging")).unwrap();
    for _ in 0..2 {
        while store.idle_step() {}
        store.maintain();
    }
    assert!(summaries(&mut store, PointId(0)).is_some());
    assert_eq!(all_blocks(&mut store, Stream::Readings).len(), 700);
}

#[test]
fn what_a_merge_that_failed_left_is_in_nobodys_way() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    fill(&mut store, &one_by_one(700));
    let place = dir.path().join("buffer/readings/00000001");
    copy_dir(&place, &place.with_extension("merged"));
    while store.idle_step() {}
    assert_eq!(all_blocks(&mut store, Stream::Readings).len(), 2);
}

#[test]
fn a_merged_chunk_is_merged_again_though_its_hashes_are_too_old_by_now() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    fill(&mut store, &one_by_one(700));
    while store.idle_step() {}
    let before = all_blocks(&mut store, Stream::Readings);
    assert_eq!(before.len(), 2);
    // More readings than there are hashes kept of.
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..20 {
        let drafts = (0..50).map(|_| draft(Stream::Readings, 500, 10, &mut random)).collect();
        store.commit(&commit(drafts)).unwrap();
    }
    // A salvaged chunk has blocks alone, so that it is summarised, and merged, once more.
    let name = ChunkName { family: "readings".to_owned(), number: 1 };
    store.salvage_chunk(&name, "a test says so").unwrap();
    store.maintain();
    while store.idle_step() {}
    let summarised = SequenceRange { first: 0, last: 699 };
    assert!(store.minutes(summarised, PointId(0), i64::MIN, i64::MAX).unwrap().is_some());
    assert_eq!(store.blocks(Stream::Readings, 0, 2).unwrap(), before);
}
