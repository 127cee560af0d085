//! A damaged store opens, serves what is sound and nothing else, and says what is lost; and other bad days of a store.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

use super::disk_store::DiskStore;
use super::files;
use super::inspect::ChunkName;
use super::store::Store;
use super::test_support::{MIB, alert, all_blocks, clock, commit, draft, fill, open, options};
use super::{BootOffset, Buffer, BufferError, LaneChange, WhenFull};
use crate::block::Block;
use crate::block::records::{GapReason, RecordBody};
use crate::reading::{Stream, TimeQuality};
use std::path::{Path, PathBuf};

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).map(drop).unwrap();
        }
    }
}

/// Opens a store of which one file was damaged, and checks that the books tell exactly what is missing.
fn check_damaged(dir: &Path, written: &[Block], what: &str) {
    let (mut store, opened) = open(dir);
    let next = store.ends()[Stream::Readings.index()].next;
    let served = all_blocks(&mut store, Stream::Readings);
    if opened.fresh_epoch {
        assert!(!opened.quarantined.is_empty(), "{what}: a new epoch without a word");
        assert!(served.is_empty() && next == 0, "{what}");
        return;
    }
    for block in &served {
        assert!(written.contains(block), "{what}: {} was never written", block.range);
    }
    let lane = store.lane("cloud", Stream::Readings).unwrap();
    let held: u64 = served.iter().map(|block| block.range.count()).sum();
    assert_eq!(
        held + lane.gaps,
        next,
        "{what}: what is neither there nor told as lost: {lane:?} {:?}",
        opened.quarantined
    );
    let mut told = 0;
    for block in all_blocks(&mut store, Stream::Gaps) {
        for numbered in block.records().unwrap() {
            let RecordBody::Gap(gap) = numbered.record.body else { panic!("{what}") };
            assert_eq!((gap.reason, gap.stream), (GapReason::Corruption, Stream::Readings), "{what}");
            told += gap.range.count();
        }
    }
    assert_eq!(told, lane.gaps, "{what}: the gaps tell of as much as the books");
    // It goes on, also after the next start.
    let committed =
        store.commit(&commit(vec![draft(Stream::Readings, 7, 10, &mut fastrand::Rng::with_seed(1))])).unwrap();
    assert_eq!(committed.ranges[0].first, next, "{what}");
    drop(store);
    let (mut store, opened) = open(dir);
    assert_eq!(opened.quarantined, Vec::<String>::new(), "{what}: the damage is dealt with once");
    assert_eq!(all_blocks(&mut store, Stream::Readings).len(), served.len() + 1, "{what}");
}

#[test]
fn a_chunk_whose_directory_is_gone_becomes_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = DiskStore::open(options(dir.path(), 32 * MIB), clock()).unwrap();
    store.lane("cloud", Stream::Readings).unwrap();
    fill(&mut store, 400, &mut fastrand::Rng::with_seed(3));
    let written = all_blocks(&mut store, Stream::Readings);
    drop(store);
    std::fs::remove_dir_all(dir.path().join("buffer/readings/00000001")).unwrap();
    check_damaged(dir.path(), &written, "chunk 1 removed");
}

/// A store with three chunks of readings and what was written to it.
fn filled(dir: &Path) -> Vec<Block> {
    let (mut store, _) = DiskStore::open(options(dir, 32 * MIB), clock()).unwrap();
    store.lane("cloud", Stream::Readings).unwrap();
    fill(&mut store, 600, &mut fastrand::Rng::with_seed(3));
    assert!(store.usage().chunks >= 3, "{:?}", store.usage());
    all_blocks(&mut store, Stream::Readings)
}

#[test]
fn a_corrupt_file_does_not_make_the_start_loop_until_deleted_by_hand() {
    let whole = tempfile::tempdir().unwrap();
    filled(whole.path());
    for name in ["ledger/db", "readings/00000003/db", "readings/00000001/db", "snapshot", "epoch", "high-water"] {
        let dir = tempfile::tempdir().unwrap();
        copy_tree(whole.path(), dir.path());
        let mut random = fastrand::Rng::with_seed(7);
        let rubbish: Vec<u8> = (0..700_000).map(|_| random.u8(..)).collect();
        std::fs::write(dir.path().join("buffer").join(name), rubbish).unwrap();
        for start in 0..3 {
            let (mut store, opened) = open(dir.path());
            all_blocks(&mut store, Stream::Readings);
            assert!(start == 0 || opened.quarantined.is_empty(), "{name}, start {start}: {:?}", opened.quarantined);
            store.commit(&commit(vec![draft(Stream::Readings, 7, 10, &mut random)])).unwrap();
        }
    }
}

#[test]
fn twenty_flipped_bits_cost_at_most_the_blocks_that_they_hit() {
    let whole = tempfile::tempdir().unwrap();
    let written = filled(whole.path());
    for (seed, chunk) in (0..).zip(["00000001", "00000002", "00000003"].iter().cycle().take(6)) {
        let dir = tempfile::tempdir().unwrap();
        copy_tree(whole.path(), dir.path());
        let log = dir.path().join("buffer/readings").join(chunk).join("db");
        let (mut bytes, mut random) = (std::fs::read(&log).unwrap(), fastrand::Rng::with_seed(seed));
        for _ in 0..20 {
            let at = random.usize(..bytes.len());
            bytes[at] ^= 1 << random.u8(..8);
        }
        std::fs::write(&log, bytes).unwrap();
        let (mut store, _) = open(dir.path());
        let lost = written.len() - all_blocks(&mut store, Stream::Readings).len();
        assert!(lost <= 20, "{lost} of {} blocks are lost with chunk {chunk}, seed {seed}", written.len());
        println!("{lost} of {} blocks are lost with 20 bits of chunk {chunk}", written.len());
        drop(store);
        check_damaged(dir.path(), &written, chunk);
    }
}

#[test]
fn chunks_that_lie_in_each_others_places_lose_nothing() {
    let whole = tempfile::tempdir().unwrap();
    let written = filled(whole.path());
    for (ring, file) in [(&[1, 2][..], ""), (&[1, 3], ""), (&[1, 2, 3], ""), (&[2, 3], "db"), (&[3, 2, 1], "db")] {
        let dir = tempfile::tempdir().unwrap();
        copy_tree(whole.path(), dir.path());
        let place = |number: &i32| dir.path().join(format!("buffer/readings/{number:08}")).join(file);
        let place = |number: &i32| PathBuf::from(place(number).to_str().unwrap().trim_end_matches('/'));
        let aside = dir.path().join("aside");
        std::fs::rename(place(&ring[0]), &aside).unwrap();
        for pair in ring.windows(2) {
            std::fs::rename(place(&pair[1]), place(&pair[0])).unwrap();
        }
        std::fs::rename(&aside, place(ring.last().unwrap())).unwrap();
        let (mut store, _) = open(dir.path());
        assert_eq!(all_blocks(&mut store, Stream::Readings), written, "{ring:?} {file}");
        assert_eq!(store.lane("cloud", Stream::Readings).unwrap().gaps, 0, "{ring:?} {file}");
        assert!(!store.damages().is_empty(), "{ring:?} {file}");
    }
}

#[test]
fn a_salvage_that_is_killed_at_any_step_is_finished_by_the_next_start() {
    let whole = tempfile::tempdir().unwrap();
    let written = filled(whole.path());
    let log = whole.path().join("buffer/readings/00000002/db");
    let mut bytes = std::fs::read(&log).unwrap();
    bytes[600_000..1_600_000].fill(0);
    std::fs::write(&log, bytes).unwrap();
    // What an undisturbed salvage makes of it.
    let done = tempfile::tempdir().unwrap();
    copy_tree(whole.path(), done.path());
    let (mut store, _) = open(done.path());
    let sound = all_blocks(&mut store, Stream::Readings);
    drop(store);
    let sound: Vec<_> = sound.into_iter().filter(|block| block.meta.stream == Stream::Readings).collect();
    assert!(sound.len() < written.len());
    let steps = ["half repaired", "repaired", "set aside", "in place"];
    for step in steps {
        let dir = tempfile::tempdir().unwrap();
        copy_tree(whole.path(), dir.path());
        let chunk = dir.path().join("buffer/readings/00000002");
        let repaired = chunk.with_extension("repaired");
        copy_tree(&done.path().join("buffer/readings/00000002"), &repaired);
        if step == "half repaired" {
            std::fs::write(repaired.join("db"), b"half").unwrap();
            std::fs::rename(&repaired, chunk.with_extension("repairing")).unwrap();
        }
        if step == "set aside" || step == "in place" {
            std::fs::rename(&chunk, dir.path().join("buffer/quarantine/chunk")).unwrap();
        }
        if step == "in place" {
            std::fs::rename(&repaired, &chunk).unwrap();
        }
        let (mut store, _) = open(dir.path());
        assert_eq!(all_blocks(&mut store, Stream::Readings), sound, "{step}");
        drop(store);
        check_damaged(dir.path(), &written, step);
    }
}

#[test]
fn an_old_copy_of_the_ledger_is_found_out_though_it_knows_every_chunk() {
    let dir = tempfile::tempdir().unwrap();
    let written = filled(dir.path());
    let buffer = dir.path().join("buffer");
    let old = tempfile::tempdir().unwrap();
    copy_tree(&buffer.join("ledger"), old.path());
    // Starts and ends are no damage, and neither is a mark that is gone or older than the ledger.
    let mark = std::fs::read(buffer.join("high-water")).unwrap();
    for what in ["as it was left", "again", "without a mark", "with an older mark"] {
        match what {
            "without a mark" => std::fs::remove_file(buffer.join("high-water")).unwrap(),
            "with an older mark" => std::fs::write(buffer.join("high-water"), &mark).unwrap(),
            _ => {}
        }
        let (mut store, opened) = open(dir.path());
        assert!(!opened.fresh_epoch && opened.quarantined.is_empty(), "{what}: {:?}", opened.quarantined);
        let mut lane = store.lane("cloud", Stream::Readings).unwrap();
        (lane.delivered, lane.cursor.from) = (lane.delivered + 10, lane.cursor.from + 10);
        let change = LaneChange { sink: "cloud".into(), stream: Stream::Readings, lane, records: vec![] };
        store.change_lane(&change).unwrap();
    }
    // With the old one, 40 readings would be delivered a second time.
    std::fs::remove_dir_all(buffer.join("ledger")).unwrap();
    copy_tree(old.path(), &buffer.join("ledger"));
    let (store, opened) = open(dir.path());
    let [told] = opened.quarantined.as_slice() else { panic!("{:?}", opened.quarantined) };
    assert!(opened.fresh_epoch && told.contains("old copy") && !written.is_empty(), "{told}");
    assert_eq!(store.ends()[Stream::Readings.index()].next, 0);
}

#[test]
fn an_encrypted_chunk_is_salvaged_with_its_key_and_left_alone_without() {
    let dir = tempfile::tempdir().unwrap();
    let key_file = dir.path().join("key");
    std::fs::write(&key_file, "a7".repeat(32)).unwrap();
    let key = crate::secret::SecretFile(key_file.display().to_string()).read().unwrap();
    let cipher = super::Cipher::from_key_file(&key).unwrap();
    let with_key = || super::StoreOptions { cipher: cipher.clone(), ..options(dir.path(), 32 * MIB) };
    let (mut store, _) = DiskStore::open(with_key(), clock()).unwrap();
    store.lane("cloud", Stream::Readings).unwrap();
    fill(&mut store, 300, &mut fastrand::Rng::with_seed(3));
    let written = all_blocks(&mut store, Stream::Readings);
    drop(store);
    let log = dir.path().join("buffer/readings/00000001/db");
    let mut bytes = std::fs::read(&log).unwrap();
    bytes[300_000..304_096].fill(0);
    std::fs::write(&log, &bytes).unwrap();
    let wrong = super::StoreOptions { cipher: super::Cipher::default(), ..with_key() };
    assert!(matches!(DiskStore::open(wrong, clock()), Err(BufferError::Locked(_))));
    assert_eq!(std::fs::read(&log).unwrap(), bytes, "nothing was touched");
    let (mut store, _) = DiskStore::open(with_key(), clock()).unwrap();
    let sound = all_blocks(&mut store, Stream::Readings);
    assert!(sound.len() + 2 >= written.len() && sound.iter().all(|block| written.contains(block)), "{}", sound.len());
}

#[test]
fn a_data_directory_of_another_version_is_set_aside_and_told() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, old) = open(dir.path());
    fill(&mut store, 10, &mut fastrand::Rng::with_seed(3));
    drop(store);
    let ledger =
        super::sled_store::Database::open(&dir.path().join("buffer/ledger"), &super::Cipher::default()).unwrap();
    ledger.write(vec![(b"n".to_vec(), Some(vec![1, 0, 0, 0, 0, 0, 0]))]).unwrap();
    drop(ledger);
    let (store, opened) = open(dir.path());
    assert!(opened.fresh_epoch && opened.epoch != old.epoch);
    let [told] = opened.quarantined.as_slice() else { panic!("{:?}", opened.quarantined) };
    assert!(told.contains("another version") && told.contains("quarantine"), "{told}");
    assert_eq!(store.ends()[Stream::Readings.index()].next, 0);
}

#[test]
fn records_that_a_lane_change_brings_are_appended_once_whenever_it_crashes() {
    let whole = tempfile::tempdir().unwrap();
    let (mut store, _) = open(whole.path());
    let lane = store.lane("cloud", Stream::Readings).unwrap();
    store.commit(&commit(vec![draft(Stream::Alerts, 2, 50, &mut fastrand::Rng::with_seed(1))])).unwrap();
    // The ledger as it is between the change and the append: the promise is there, the record is not.
    let entries = store.promise_for_test(&[alert(5), alert(6)]);
    drop(store);
    for crashes in 0..3 {
        let (mut store, _) = open(whole.path());
        let ids: Vec<u64> = store
            .blocks(Stream::Alerts, 2, 16)
            .unwrap()
            .iter()
            .flat_map(|block| block.records().unwrap())
            .map(|numbered| numbered.record.id)
            .collect();
        assert_eq!(ids, [5, 6], "after {crashes} crashes");
        // The crash after the append, before the promise is taken back.
        store.promise_again_for_test(entries.clone());
        assert_eq!(store.lane("cloud", Stream::Readings).unwrap(), lane);
    }
}

#[test]
fn under_drop_oldest_the_cap_holds_and_what_goes_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = DiskStore::open(options(dir.path(), 12 * MIB), clock()).unwrap();
    for stream in Stream::DELIVERED {
        store.lane("cloud", stream).unwrap();
    }
    let mut random = fastrand::Rng::with_seed(5);
    for _ in 0..40 {
        fill(&mut store, 100, &mut random);
        let occupied = files::occupied_bytes(&dir.path().join("buffer"));
        assert!(occupied <= 12 * MIB, "{occupied} bytes");
    }
    let lane = store.lane("cloud", Stream::Readings).unwrap();
    let ends = store.ends()[Stream::Readings.index()];
    assert!(ends.oldest > 0 && lane.gaps == ends.oldest && lane.cursor.from == ends.oldest, "{lane:?} {ends:?}");
    let mut told = 0;
    for block in all_blocks(&mut store, Stream::Gaps) {
        for numbered in block.records().unwrap() {
            let RecordBody::Gap(gap) = numbered.record.body else { panic!() };
            assert_eq!((gap.range.first, gap.reason), (told, GapReason::Cap));
            told = gap.range.last + 1;
        }
    }
    assert_eq!(told, ends.oldest);
}

#[test]
fn a_flood_of_dead_letters_pushes_out_neither_alerts_nor_readings() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = DiskStore::open(options(dir.path(), 16 * MIB), clock()).unwrap();
    for stream in Stream::DELIVERED {
        store.lane("cloud", stream).unwrap();
    }
    let mut random = fastrand::Rng::with_seed(5);
    fill(&mut store, 100, &mut random);
    store.commit(&commit(vec![draft(Stream::Alerts, 2, 50, &mut random)])).unwrap();
    for _ in 0..400 {
        let flood = (0..20).map(|_| draft(Stream::DeadLetters, 4, 5 * 1024, &mut random)).collect();
        store.commit(&commit(flood)).unwrap();
    }
    let ends = store.ends();
    assert!(ends[Stream::DeadLetters.index()].oldest > 0, "the flood is larger than the buffer");
    assert_eq!((ends[Stream::Readings.index()].oldest, ends[Stream::Alerts.index()].oldest), (0, 0));
}

#[test]
fn under_block_a_full_buffer_refuses_until_a_sink_has_taken_something() {
    let dir = tempfile::tempdir().unwrap();
    let options = super::StoreOptions { when_full: WhenFull::Block, ..options(dir.path(), 12 * MIB) };
    let (mut store, _) = DiskStore::open(options, clock()).unwrap();
    store.lane("cloud", Stream::Readings).unwrap();
    let mut random = fastrand::Rng::with_seed(5);
    let mut one = || commit(vec![draft(Stream::Readings, 500, 5 * 1024, &mut random)]);
    let refused = (0..5_000).find_map(|_| store.commit(&one()).err()).unwrap();
    assert!(matches!(refused, BufferError::Full { .. }), "{refused}");
    assert!(store.commit(&one()).is_err());
    let mut lane = store.lane("cloud", Stream::Readings).unwrap();
    lane.cursor.from = store.ends()[Stream::Readings.index()].next;
    lane.delivered = lane.cursor.from;
    store.change_lane(&LaneChange { sink: "cloud".into(), stream: Stream::Readings, lane, records: vec![] }).unwrap();
    store.commit(&one()).unwrap();
    assert_eq!(store.lane("cloud", Stream::Readings).unwrap().gaps, 0);
}

#[test]
fn the_offset_of_a_boot_is_decided_once_and_the_newest_boots_are_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    store.commit(&commit(vec![draft(Stream::Readings, 1, 10, &mut fastrand::Rng::with_seed(1))])).unwrap();
    let own = BootOffset { offset_us: clock().tick().wall_of(0), quality: TimeQuality::Ntp };
    let later = BootOffset { offset_us: own.offset_us + 1, ..own };
    assert_eq!(store.keep_boot_offset(clock().boot_id, later).unwrap(), own, "it is decided with the first commit");
    for boot in 2..=65 {
        let offset = BootOffset { offset_us: own.offset_us + i64::try_from(boot).unwrap(), ..own };
        store.keep_boot_offset(boot, offset).unwrap();
    }
    drop(store);
    let (store, _) = open(dir.path());
    assert_eq!(store.boot_offset(clock().boot_id), None, "64 newer ones came after it");
    assert_eq!(store.boot_offset(2).map(|offset| offset.offset_us), Some(own.offset_us + 2));
}

#[test]
fn what_keeps_the_buffer_from_writing_is_told_apart() {
    let told = |kind: std::io::ErrorKind| files::error("write", Path::new("x"), &kind.into()).to_string();
    assert!(told(std::io::ErrorKind::PermissionDenied).contains("chown"));
    assert!(told(std::io::ErrorKind::ReadOnlyFilesystem).contains("read-only"));
    assert!(told(std::io::ErrorKind::StorageFull).contains("free some space"));
    assert!(told(std::io::ErrorKind::Other).contains("dmesg"));
}

#[tokio::test]
async fn a_second_process_is_refused_until_the_first_has_closed() {
    let dir = tempfile::tempdir().unwrap();
    let (first, _) = Buffer::open(options(dir.path(), 64 * MIB), clock()).await.unwrap();
    let refused = Buffer::open(options(dir.path(), 64 * MIB), clock()).await.unwrap_err();
    assert!(matches!(refused, BufferError::InUse(_)), "{refused}");
    let other = first.clone();
    first.close().await;
    assert!(matches!(other.lane("cloud", Stream::Readings).await, Err(BufferError::Closed)));
    Buffer::open(options(dir.path(), 64 * MIB), clock()).await.unwrap();
}

/// Chunk 1 of readings in a store.
fn first_chunk(dir: &Path) -> PathBuf {
    dir.join("buffer/readings/00000001")
}

#[test]
fn a_salvage_that_fails_while_the_gateway_runs_costs_nothing_of_what_is_written_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    let lane = store.lane("cloud", Stream::Readings).unwrap();
    let mut random = fastrand::Rng::with_seed(3);
    fill(&mut store, 20, &mut random);
    // Where the fresh chunk should go, nothing can be made.
    let blocked = first_chunk(dir.path()).with_extension("repairing");
    std::os::unix::fs::symlink("nowhere", &blocked).unwrap();
    let name = ChunkName { family: "readings".to_owned(), number: 1 };
    store.salvage_chunk(&name, "a test says so").unwrap_err();
    fill(&mut store, 20, &mut random);
    let change = LaneChange { sink: "cloud".into(), stream: Stream::Readings, lane, records: vec![] };
    store.change_lane(&change).unwrap();
    let written = all_blocks(&mut store, Stream::Readings);
    assert_eq!(written.len(), 40);
    std::fs::remove_file(&blocked).unwrap();
    store.salvage_chunk(&name, "a test says so").unwrap();
    for start in 0..2 {
        assert_eq!(all_blocks(&mut store, Stream::Readings), written, "start {start}");
        assert_eq!(store.lane("cloud", Stream::Readings).unwrap().gaps, 0);
        drop(store);
        let opened;
        (store, opened) = open(dir.path());
        assert_eq!(opened.quarantined, Vec::<String>::new());
    }
}

#[test]
fn a_chunk_that_a_failed_rename_left_beside_its_place_is_put_there_when_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let written = filled(dir.path());
    for kind in ["repaired", "merged", "replaced"] {
        let (mut store, opened) = open(dir.path());
        assert_eq!(opened.quarantined, Vec::<String>::new());
        std::fs::rename(first_chunk(dir.path()), first_chunk(dir.path()).with_extension(kind)).unwrap();
        assert_eq!(all_blocks(&mut store, Stream::Readings), written, "{kind}");
        assert_eq!(store.lane("cloud", Stream::Readings).unwrap().gaps, 0, "{kind}");
    }
}

#[test]
fn a_chunk_with_hundreds_of_holes_is_told_hole_by_hole() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(dir.path());
    store.lane("cloud", Stream::Readings).unwrap();
    let mut random = fastrand::Rng::with_seed(3);
    let drafts = (0..400).map(|_| draft(Stream::Readings, 2, 300, &mut random)).collect();
    store.commit(&commit(drafts)).unwrap();
    let written = all_blocks(&mut store, Stream::Readings);
    drop(store);
    let log = first_chunk(dir.path()).join("db");
    let mut bytes = std::fs::read(&log).unwrap();
    for at in 0..bytes.len() {
        let begins = bytes[at..].starts_with(&written[0].bytes()[..4]);
        let mut damaged = written.iter().step_by(2).map(Block::bytes);
        if let Some(held) = damaged.find(|held| begins && bytes[at..].starts_with(held)) {
            bytes[at + held.len() / 2] ^= 1;
        }
    }
    std::fs::write(&log, bytes).unwrap();
    let sound: Vec<Block> = written.into_iter().skip(1).step_by(2).collect();
    for start in 0..2 {
        let (mut store, opened) = open(dir.path());
        assert_eq!(opened.quarantined.is_empty(), start > 0, "{:?}", opened.quarantined);
        assert_eq!(all_blocks(&mut store, Stream::Readings), sound);
        let gaps = all_blocks(&mut store, Stream::Gaps);
        assert_eq!(gaps.iter().map(|block| block.range.count()).sum::<u64>(), 200, "start {start}");
    }
}
