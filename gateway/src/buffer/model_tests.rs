//! The store on disk against the model, under random commits, reads, lane changes, evictions and crashes.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::disk_store::DiskStore;
use super::memory_store::MemoryStore;
use super::store::Store;
use super::test_support::{MIB, alert, all_blocks, clock, commit, draft, options};
use super::{LaneChange, Run};
use crate::reading::{SequenceRange, Stream};
use proptest::prelude::*;

/// Small enough that a few dozen commits reach it.
const DISK_BYTES_MAX: u64 = 12 * MIB;

#[derive(Clone, Debug)]
enum Step {
    Commit { seed: u64, blocks: usize },
    Read { stream: Stream, at: f64, blocks_max: usize },
    Deliver { stream: Stream, blocks: usize, records: usize },
    Pin { stream: Stream },
    KeepConfig(u8),
    NewSink(u8),
    Crash,
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
        2 => Just(Step::Crash),
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

fn run(steps: Vec<Step>) {
    let dir = tempfile::tempdir().unwrap();
    let open = || DiskStore::open(options(dir.path(), DISK_BYTES_MAX), clock()).unwrap();
    let (mut disk, opened) = open();
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
                let commit = commit(drafts);
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
            Step::Crash => {
                drop(disk);
                let (again, opened) = open();
                assert_eq!(opened.quarantined, Vec::<String>::new());
                disk = again;
                follow(&mut disk, &mut model);
            }
        }
        assert_eq!(disk.ends(), model.ends());
        for stream in Stream::DELIVERED {
            let lane = disk.lane("cloud", stream).unwrap();
            assert_eq!(lane, model.lane("cloud", stream).unwrap());
            let next = disk.ends()[stream.index()].next;
            assert!(lane.closes(next), "the books of {stream} close: {lane:?}");
        }
        let used_bytes = disk.usage().disk_bytes;
        assert!(used_bytes <= DISK_BYTES_MAX, "{used_bytes} bytes are above the cap");
    }
    for stream in Stream::ALL {
        assert_eq!(all_blocks(&mut disk, stream), all_blocks(&mut model, stream));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_store_on_disk_does_what_the_model_does(steps in prop::collection::vec(step(), 1..80)) {
        run(steps);
    }
}
