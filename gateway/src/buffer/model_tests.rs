//! The store on disk against the model, under random commits, reads, lane changes, evictions, crashes, power cuts and damage.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::disk_store::DiskStore;
use super::family::Family;
use super::memory_store::MemoryStore;
use super::store::Store;
use super::test_support::{MIB, alert, all_blocks, clock, commit, draft, options};
use super::{BootOffset, Lane, LaneChange, Run};
use crate::block::Block;
use crate::reading::{SequenceRange, Stream, TimeQuality};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Cases that run with the other tests; `FOREBAY_MODEL_CASES` asks for more.
const CASES: u32 = 200;

/// What a disk writes whole or not at all.
const PAGE_BYTES: usize = 4096;

/// Small enough that a few dozen commits reach it.
const DISK_BYTES_MAX: u64 = 12 * MIB;

#[derive(Clone, Debug)]
enum Step {
    Commit {
        seed: u64,
        blocks: usize,
    },
    Read {
        stream: Stream,
        at: f64,
        blocks_max: usize,
    },
    Deliver {
        stream: Stream,
        blocks: usize,
        records: usize,
    },
    Pin {
        stream: Stream,
    },
    KeepConfig(u8),
    NewSink(u8),
    Boot(u8),
    /// A quiet moment of so many steps.
    Idle(usize),
    /// The process ends.
    Crash,
    /// The power goes while a commit is under way.
    PowerCut {
        seed: u64,
    },
}

fn stream() -> impl Strategy<Value = Stream> {
    prop::sample::select(vec![Stream::Readings, Stream::DeadLetters, Stream::Alerts])
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (any::<u64>(), 1..60_usize).prop_map(|(seed, blocks)| Step::Commit { seed, blocks }),
        4 => (stream(), 0.0..1.2_f64, 0..20_usize).prop_map(|(stream, at, blocks_max)| Step::Read { stream, at, blocks_max }),
        4 => (stream(), 1..8_usize, 0..3_usize).prop_map(|(stream, blocks, records)| Step::Deliver { stream, blocks, records }),
        2 => stream().prop_map(|stream| Step::Pin { stream }),
        1 => any::<u8>().prop_map(Step::KeepConfig),
        1 => (0..3_u8).prop_map(Step::NewSink),
        1 => any::<u8>().prop_map(Step::Boot),
        4 => (1..40_usize).prop_map(Step::Idle),
        2 => Just(Step::Crash),
        1 => any::<u64>().prop_map(|seed| Step::PowerCut { seed }),
    ]
}

/// Evictions depend on bytes, which the model does not know: it follows what the disk dropped, by the same rules of the books.
fn follow(disk: &mut DiskStore, model: &mut MemoryStore) {
    for stream in Stream::ALL {
        model.drop_below(stream, disk.ends()[stream.index()].oldest);
    }
    let next = model.ends()[Stream::Gaps.index()].next;
    for block in all_blocks(disk, Stream::Gaps) {
        if block.range.first >= next {
            model.take_over(block);
        }
    }
}

/// A directory in memory, where there is one: power cuts are made by hand here, and synchronising takes most of the time.
fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let has_room = super::files::free_bytes(memory).is_some_and(|free| free > 1024 * MIB);
    if has_room { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}

/// The files of a store, but for those that have no content.
fn files_of(data_dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut found, mut dirs) = (BTreeMap::new(), vec![data_dir.join("buffer")]);
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if !path.ends_with("ballast") && !path.ends_with("lock") {
                found.insert(path.strip_prefix(data_dir).unwrap().to_owned(), std::fs::read(&path).unwrap());
            }
        }
    }
    found
}

fn is_of(family: Family, path: &Path) -> bool {
    path.starts_with(Path::new("buffer").join(family.name()))
}

/// What a power cut leaves of a commit: families before the one that was being written are whole, those after it are as they
/// were, and of its own pages any may be there.
fn torn(
    before: &BTreeMap<PathBuf, Vec<u8>>,
    mut after: BTreeMap<PathBuf, Vec<u8>>,
    random: &mut fastrand::Rng,
) -> BTreeMap<PathBuf, Vec<u8>> {
    let under_way = random.usize(..Family::ALL.len());
    for (path, bytes) in &mut after {
        let Some(old) = before.get(path) else { continue };
        let family = Family::ALL.iter().position(|family| is_of(*family, path));
        if path.ends_with("high-water") || family.is_some_and(|family| family > under_way) {
            bytes.clone_from(old);
        }
        if family == Some(under_way) {
            for (page, at) in bytes.chunks_mut(PAGE_BYTES).zip((0..).step_by(PAGE_BYTES)) {
                let old_page = old.get(at..).unwrap_or_default();
                let same = old_page.len().min(page.len());
                if random.bool() {
                    page[..same].copy_from_slice(&old_page[..same]);
                    page[same..].fill(0);
                }
            }
        }
    }
    after
}

/// The power goes during a commit: what is found afterwards are the first blocks of each stream, or none.
fn cut_power(
    disk: DiskStore,
    dir: &tempfile::TempDir,
    model: &mut MemoryStore,
    seed: u64,
) -> (DiskStore, tempfile::TempDir) {
    let mut disk = disk;
    let random = &mut fastrand::Rng::with_seed(seed);
    let before = files_of(dir.path());
    let mut drafts = Vec::new();
    for _ in 0..random.usize(1..20) {
        let bytes = random.usize(1..=5 * 1024);
        drafts.push(draft(Stream::Readings, random.u16(1..=500), bytes, random));
    }
    drafts.push(draft(Stream::DeadLetters, 3, random.usize(1..5_000), random));
    drafts.push(draft(Stream::Alerts, 2, random.usize(1..5_000), random));
    let ends = disk.ends();
    disk.commit(&commit(drafts)).unwrap();
    let after = files_of(dir.path());
    let is_plain = before.keys().eq(after.keys())
        && Stream::ALL.iter().all(|stream| disk.ends()[stream.index()].oldest == ends[stream.index()].oldest);
    let written: BTreeMap<Stream, Vec<Block>> =
        Stream::ALL.into_iter().map(|stream| (stream, all_blocks(&mut disk, stream))).collect();
    // A chunk that was begun or dropped meanwhile is the business of other tests: then the commit is just not heard of.
    let image = if is_plain { torn(&before, after, random) } else { after };
    drop(disk);
    let found = scratch();
    for (path, bytes) in image {
        let path = found.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    let (mut disk, opened) = DiskStore::open(options(found.path(), DISK_BYTES_MAX), clock()).unwrap();
    assert_eq!((opened.fresh_epoch, opened.quarantined), (false, Vec::<String>::new()));
    for stream in Stream::ALL {
        let next = model.ends()[stream.index()].next;
        let survived: Vec<Block> =
            all_blocks(&mut disk, stream).into_iter().filter(|block| block.range.first >= next).collect();
        let expected: Vec<&Block> = written[&stream].iter().filter(|block| block.range.first >= next).collect();
        assert!(survived.iter().eq(expected.into_iter().take(survived.len())), "{stream} has what was never written");
        if stream != Stream::Gaps {
            for block in survived {
                model.take_over(block);
            }
        }
    }
    follow(&mut disk, model);
    (disk, found)
}

/// A page of a chunk is damaged: everything served is what was written, and the books close over what is lost.
fn damage(disk: DiskStore, dir: &tempfile::TempDir, model: &mut MemoryStore, random: &mut fastrand::Rng) {
    drop(disk);
    let files = files_of(dir.path());
    let chunks: Vec<_> =
        files.iter().filter(|(path, _)| path.ends_with("db") && !path.starts_with("buffer/ledger")).collect();
    if chunks.is_empty() {
        return;
    }
    let (path, bytes) = chunks[random.usize(..chunks.len())];
    let mut bytes = bytes.clone();
    let at = random.usize(..bytes.len().max(1));
    for byte in bytes.iter_mut().skip(at).take(random.usize(1..PAGE_BYTES)) {
        *byte ^= random.u8(1..);
    }
    std::fs::write(dir.path().join(path), bytes).unwrap();
    let (mut disk, opened) = DiskStore::open(options(dir.path(), DISK_BYTES_MAX), clock()).unwrap();
    assert!(!opened.fresh_epoch);
    for stream in Stream::DELIVERED {
        let known = all_blocks(model, stream);
        let end = model.ends()[stream.index()].next;
        for block in all_blocks(&mut disk, stream).iter().filter(|block| block.range.first < end) {
            assert!(known.contains(block), "{stream}/{} is not what was written", block.range);
        }
        let (lane, next) = (disk.lane("cloud", stream).unwrap(), disk.ends()[stream.index()].next);
        assert!(next >= end, "{stream} would give sequences twice");
        assert!(lane.closes(next), "the books of {stream} close over the damage: {lane:?} at {next}");
    }
}

fn run(steps: Vec<Step>, damage_seed: u64) {
    let mut dir = scratch();
    let open = |dir: &Path| DiskStore::open(options(dir, DISK_BYTES_MAX), clock()).unwrap();
    let (mut disk, opened) = open(dir.path());
    let mut model = MemoryStore::new(opened.epoch.unwrap(), clock());
    for store in [&mut disk as &mut dyn Store, &mut model] {
        for stream in Stream::DELIVERED {
            store.lane("cloud", stream).unwrap();
        }
    }
    for (number, step) in steps.into_iter().enumerate() {
        match step {
            Step::Commit { seed, blocks } => {
                let mut random = fastrand::Rng::with_seed(seed);
                let mut drafts = Vec::new();
                for _ in 0..blocks {
                    let (count, bytes) = (random.u16(1..=500), random.usize(1..=5 * 1024));
                    drafts.push(draft(Stream::Readings, count, bytes, &mut random));
                }
                if random.bool() {
                    drafts.push(draft(Stream::DeadLetters, 3, 900, &mut random));
                }
                let mut commit = commit(drafts);
                // Sealed chunks below a snapshot are merged in quiet moments.
                commit.snapshot = random.bool().then(|| vec![7]);
                assert_eq!(disk.commit(&commit).unwrap(), model.commit(&commit).unwrap());
                follow(&mut disk, &mut model);
            }
            Step::Read { stream, at, blocks_max } => {
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small and positive")]
                let from = (model.ends()[stream.index()].next as f64 * at) as u64;
                assert_eq!(
                    disk.blocks(stream, from, blocks_max).unwrap(),
                    model.blocks(stream, from, blocks_max).unwrap()
                );
            }
            Step::Deliver { stream, blocks, records } => {
                let mut lane = model.lane("cloud", stream).unwrap();
                let Some(last) = model.blocks(stream, lane.cursor.from, blocks).unwrap().last().map(|b| b.range.last)
                else {
                    continue;
                };
                lane.run = None;
                lane.delivered += last + 1 - lane.cursor.from;
                lane.cursor.from = last + 1;
                let records = (0..records as u64).map(|index| alert(number as u64 * 10 + index)).collect();
                let change = LaneChange { sink: "cloud".to_owned(), stream, lane, records };
                assert_eq!(disk.change_lane(&change).unwrap(), model.change_lane(&change).unwrap());
                assert!(disk.change_lane(&change).is_err(), "an old revision is refused");
                follow(&mut disk, &mut model);
            }
            Step::Pin { stream } => {
                let mut lane = model.lane("cloud", stream).unwrap();
                let Some(block) = model.blocks(stream, lane.cursor.from, 1).unwrap().pop() else { continue };
                let range = SequenceRange { first: lane.cursor.from, last: block.range.last };
                lane.run = Some(Run::new(range, 1, 1));
                let change = LaneChange { sink: "cloud".to_owned(), stream, lane, records: Vec::new() };
                assert_eq!(disk.change_lane(&change).unwrap(), model.change_lane(&change).unwrap());
            }
            Step::KeepConfig(text) => {
                let text = format!("# {}", text % 8);
                let version = disk.keep_config(&text).unwrap();
                assert_eq!(version, model.keep_config(&text).unwrap());
                assert_eq!(disk.config(version).unwrap(), Some(text));
            }
            Step::NewSink(sink) => {
                let sink = format!("other-{sink}");
                assert_eq!(disk.lane(&sink, Stream::Readings).unwrap(), model.lane(&sink, Stream::Readings).unwrap());
            }
            Step::Boot(boot) => {
                let boot = 100 + u128::from(boot % 40);
                let offset = BootOffset { offset_us: i64::try_from(number).unwrap(), quality: TimeQuality::Ntp };
                let held = disk.keep_boot_offset(boot, offset).unwrap();
                assert_eq!(held, model.keep_boot_offset(boot, offset).unwrap());
                assert_eq!(disk.boot_offset(boot), Some(held));
            }
            Step::PowerCut { seed } => (disk, dir) = cut_power(disk, &dir, &mut model, seed),
            Step::Idle(steps) => {
                let _more = (0..steps).all(|_| disk.idle_step());
                follow(&mut disk, &mut model);
            }
            Step::Crash => {
                drop(disk);
                let (again, opened) = open(dir.path());
                assert_eq!(opened.quarantined, Vec::<String>::new());
                disk = again;
                follow(&mut disk, &mut model);
            }
        }
        assert_eq!(disk.ends(), model.ends());
        for stream in Stream::DELIVERED {
            let lane = disk.lane("cloud", stream).unwrap();
            // Chunks that go one after the other change the lane as often; the model forgets them at once.
            let expected = model.lane("cloud", stream).unwrap();
            assert!(lane.revision >= expected.revision);
            assert_eq!(lane, Lane { revision: lane.revision, ..expected });
            model.revise("cloud", stream, lane.revision);
            let next = disk.ends()[stream.index()].next;
            assert!(lane.closes(next), "the books of {stream} close: {lane:?}");
        }
        let used_bytes = disk.usage().disk_bytes;
        assert!(used_bytes <= DISK_BYTES_MAX, "{used_bytes} bytes are above the cap");
    }
    for stream in Stream::ALL {
        assert_eq!(all_blocks(&mut disk, stream), all_blocks(&mut model, stream));
    }
    damage(disk, &dir, &mut model, &mut fastrand::Rng::with_seed(damage_seed));
}

fn cases() -> u32 {
    std::env::var("FOREBAY_MODEL_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(CASES)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_store_on_disk_does_what_the_model_does(steps in prop::collection::vec(step(), 1..80), damage_seed: u64) {
        run(steps, damage_seed);
    }
}
