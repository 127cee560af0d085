//! A power cut at any moment loses nothing that was acknowledged, and invents nothing.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "tests")]

use e2e::power_cut::disk::Disk;
use e2e::power_cut::marks::{Mark, block_hash, bytes_hash};
use e2e::power_cut::recording::{Call, record};
use e2e::power_cut::{options, random_drafts};
use forebay::block::records::RecordBody;
use forebay::buffer::{Buffer, Commit, Opened};
use forebay::clock::Clock;
use forebay::reading::{Epoch, Sequence, SequenceRange, Stream};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;

/// How many disks are made and opened unless `POWER_CUT_IMAGES` says otherwise.
const IMAGES: usize = 120;

/// How many disks are made of one recording: a longer campaign records the program anew, with another seed.
const IMAGES_PER_RECORDING: usize = 125;

/// How many commits the recorded program makes: enough to fill several chunks and to reach the cap.
const ROUNDS: u32 = 400;

/// What was promised up to a cut.
#[derive(Clone, Default)]
struct Promised {
    epoch: Option<Epoch>,
    tried: HashSet<(Stream, Sequence, u32)>,
    acknowledged: BTreeMap<(Stream, Sequence), (Sequence, u32)>,
    snapshot: Option<(Sequence, u32)>,
    delivered: u64,
    pinned: Option<SequenceRange>,
    alerts: BTreeSet<u64>,
    configs: BTreeMap<u32, u32>,
}

impl Promised {
    fn hear(&mut self, mark: Mark) {
        match mark {
            Mark::Epoch(epoch) => self.epoch = Some(epoch),
            Mark::Tried { stream, first, hash } => drop(self.tried.insert((stream, first, hash))),
            Mark::Acknowledged { stream, range, hash } => {
                self.acknowledged.insert((stream, range.first), (range.last, hash));
            }
            Mark::Snapshot { sequence, hash } => self.snapshot = Some((sequence, hash)),
            Mark::Pinned { range, .. } => self.pinned = Some(range),
            Mark::Resolved { delivered, alert, .. } => {
                self.delivered = delivered;
                self.pinned = None;
                self.alerts.insert(alert);
            }
            Mark::Config { version, hash } => drop(self.configs.insert(version, hash)),
        }
    }

    fn next(&self, stream: Stream) -> Sequence {
        let last = self.acknowledged.range((stream, 0)..=(stream, Sequence::MAX)).next_back();
        last.map_or(0, |(_, (last, _))| last + 1)
    }
}

/// What a campaign has seen.
#[derive(Default)]
struct Totals {
    calls: usize,
    syncs: usize,
    images: usize,
    set_aside: usize,
    acknowledged: u64,
    chunks_begun: usize,
    chunks_dropped: usize,
}

#[tokio::test]
async fn whatever_was_acknowledged_before_a_power_cut_is_there_after_it() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let seed = number("POWER_CUT_SEED").unwrap_or_else(|| fastrand::u64(..));
    let mut left = number("POWER_CUT_IMAGES").map_or(IMAGES, |images| usize::try_from(images).unwrap());
    let mut totals = Totals::default();
    for seed in seed.. {
        if left == 0 {
            break;
        }
        let images = left.min(IMAGES_PER_RECORDING);
        left -= images;
        cut_one_recording(seed, images, &mut totals).await;
        let Totals { calls, syncs, images, set_aside, acknowledged, chunks_begun, chunks_dropped } = totals;
        println!(
            "{images} images of {calls} calls ({syncs} synchronisations, {chunks_begun} chunks begun, {chunks_dropped} dropped): \
             {acknowledged} records acknowledged before a cut, 0 lost, 0 repeated, 0 reordered; {set_aside} images with something set \
             aside"
        );
    }
}

/// Records the program once and cuts it off at random moments.
async fn cut_one_recording(seed: u64, images: usize, totals: &mut Totals) {
    println!("POWER_CUT_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let work = tempfile::tempdir().unwrap();
    let data_dir = work.path().join("data");
    std::fs::create_dir(&data_dir).unwrap();
    let driver = Path::new(env!("CARGO_BIN_EXE_buffer_driver"));
    let calls = record(driver, work.path(), &data_dir, seed, ROUNDS);
    let syncs = calls.iter().filter(|call| matches!(call, Call::Sync(_))).count();
    assert!(syncs > 100, "{syncs} synchronisations were recorded: the recorder misses them");
    let in_readings = |path: &Path| path.parent().is_some_and(|dir| dir.ends_with("buffer/readings"));
    let begun = calls.iter().filter(|call| matches!(call, Call::MakeDir(path) if in_readings(path))).count();
    let dropped = calls.iter().filter(|call| matches!(call, Call::Rename(from, _) if in_readings(from))).count();
    assert!(begun > 2 && dropped > 0, "{begun} chunks begun, {dropped} dropped: no rotation, no eviction");

    let mut cuts: Vec<usize> = (0..images).map(|_| random.usize(1..=calls.len())).collect();
    cuts.sort_unstable();
    let (mut disk, mut promised) = (Disk::new(&data_dir), Promised::default());
    let mut done = 0;
    for (image, cut) in cuts.into_iter().enumerate() {
        for call in &calls[done..cut] {
            disk.apply(call);
            if let Call::Mark(mark) = call {
                promised.hear(*mark);
            }
        }
        done = cut;
        let target = work.path().join(format!("image-{image}"));
        disk.cut(&target, &mut random);
        let place = format!("image {image}, cut after call {cut} of {}, POWER_CUT_SEED={seed}", calls.len());
        totals.set_aside += check(&target, &promised, &place, &mut random).await;
        totals.acknowledged +=
            promised.acknowledged.iter().map(|((_, first), (last, _))| last - first + 1).sum::<u64>();
        std::fs::remove_dir_all(&target).unwrap();
    }
    totals.calls += calls.len();
    totals.syncs += syncs;
    totals.chunks_begun += begun;
    totals.chunks_dropped += dropped;
    totals.images += images;
}

async fn check(image: &Path, promised: &Promised, place: &str, random: &mut fastrand::Rng) -> usize {
    let (buffer, opened) = match Buffer::open(options(image), Clock::system()).await {
        Ok(opened) => opened,
        Err(error) => panic!("{place}: the store does not open: {error}"),
    };
    let Some(epoch) = promised.epoch else { return 0 };
    assert_eq!(opened.epoch, Some(epoch), "{place}: {:?}", opened.quarantined);
    for told in &opened.quarantined {
        println!("{place}: {told}");
    }
    check_blocks(&buffer, promised, place).await;
    check_books(&buffer, promised, place).await;
    check_kept(&opened, promised, place);

    let before = *buffer.ends().borrow();
    let commit = Commit { drafts: random_drafts(random), ..Commit::default() };
    let streams: Vec<Stream> = commit.drafts.iter().map(|draft| draft.meta.stream).collect();
    let committed = buffer.commit(commit).await.unwrap();
    for stream in [Stream::Readings, Stream::DeadLetters] {
        let first = streams.iter().zip(&committed.ranges).find(|(of, _)| **of == stream);
        let next = before[stream.index()].next;
        assert!(first.is_none_or(|(_, range)| range.first == next), "{place}: {stream} does not go on at {next}");
        assert!(next >= promised.next(stream), "{place}: {stream} would give sequence {next} a second time");
    }
    buffer.close().await;
    usize::from(!opened.quarantined.is_empty())
}

/// Everything acknowledged and not dropped is there, byte for byte; nothing else is there that was never written.
async fn check_blocks(buffer: &Buffer, promised: &Promised, place: &str) {
    for stream in [Stream::Readings, Stream::DeadLetters] {
        let ends = buffer.ends().borrow()[stream.index()];
        let mut found = BTreeMap::new();
        let mut at = 0;
        loop {
            let blocks = buffer.blocks(stream, at, 16).await.unwrap_or_else(|error| panic!("{place}: {error}"));
            let Some(last) = blocks.last() else { break };
            at = last.range.last + 1;
            for block in blocks {
                let hash = block_hash(block.bytes());
                let first = block.range.first;
                assert!(promised.tried.contains(&(stream, first, hash)), "{place}: {stream} {first} was never written");
                found.insert(first, hash);
            }
        }
        for ((_, first), (last, hash)) in promised.acknowledged.range((stream, 0)..=(stream, Sequence::MAX)) {
            if *last >= ends.oldest {
                assert_eq!(
                    found.get(first),
                    Some(hash),
                    "{place}: {stream} {first}-{last} was acknowledged, ends {ends:?}"
                );
            }
        }
    }
}

/// The books of the sink close, know all that was delivered, and every alert that a change brought is there once.
async fn check_books(buffer: &Buffer, promised: &Promised, place: &str) {
    let lane = buffer.lane("cloud", Stream::Readings).await.unwrap();
    let next = buffer.ends().borrow()[Stream::Readings.index()].next;
    let closed: u64 = lane.cursor.ranges.iter().map(|range| range.count()).sum();
    let undelivered = next - lane.cursor.from + closed;
    assert_eq!(lane.delivered + lane.gaps + undelivered, next, "{place}: the books do not close: {lane:?}");
    assert!(lane.delivered >= promised.delivered, "{place}: {} were delivered: {lane:?}", promised.delivered);
    if let (Some(pinned), 0) = (promised.pinned, lane.gaps) {
        let resolved = lane.cursor.from > pinned.last;
        assert!(
            resolved || lane.run.as_ref().is_some_and(|run| run.range == pinned),
            "{place}: the run is lost: {lane:?}"
        );
    }
    let mut alerts = BTreeSet::new();
    let mut at = 0;
    loop {
        let blocks = buffer.blocks(Stream::Alerts, at, 16).await.unwrap();
        let Some(last) = blocks.last() else { break };
        at = last.range.last + 1;
        for numbered in blocks.iter().flat_map(|block| block.records().unwrap()) {
            assert!(matches!(numbered.record.body, RecordBody::Alert(_)), "{place}");
            assert!(alerts.insert(numbered.record.id), "{place}: alert {} is there twice", numbered.record.id);
        }
    }
    let lost: Vec<_> = promised.alerts.difference(&alerts).collect();
    assert!(lost.is_empty(), "{place}: alerts {lost:?} are lost, ends {:?}", *buffer.ends().borrow());
}

/// Configurations and the snapshot are there.
fn check_kept(opened: &Opened, promised: &Promised, place: &str) {
    for (version, hash) in &promised.configs {
        assert_eq!(
            opened.configs.get(version).map(|text| bytes_hash(text.as_bytes())),
            Some(*hash),
            "{place}: configuration {version}"
        );
    }
    if let Some((sequence, hash)) = promised.snapshot {
        let kept = opened.snapshot.as_ref().unwrap_or_else(|| panic!("{place}: no snapshot"));
        assert!(kept.0 >= sequence, "{place}: the snapshot is older than the one that was kept");
        assert!(kept.0 > sequence || bytes_hash(&kept.1) == hash, "{place}: the snapshot is another");
    }
}
