//! The buffer on file systems that are full, fail, or are not its own alone: it stays within its limits and loses nothing.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use e2e::power_cut::{options, random_drafts};
use e2e::small_disk::SmallDisk;
use fastrand::Rng;
use forebay::buffer::{Buffer, BufferError, Commit, LaneChange, StoreOptions, WhenFull};
use forebay::clock::Clock;
use forebay::reading::{SequenceRange, Stream};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Smaller than the cap of the driver's store, so that the disk is full first.
const DISK_BYTES: u64 = 9 << 20;

/// Commits that the driver would make; it is killed long before.
const ROUNDS: &str = "1000000";

/// How long the driver may take to fill the disk on a busy machine.
const LIMIT: Duration = Duration::from_mins(2);

/// How often a lane may change under a delivery: each time a chunk went, and there are few.
const TRIES: usize = 8;

/// Runs the driver until the store has given up its oldest for want of room, and kills it.
async fn fill_and_kill(data_dir: &Path, marks: &Path) {
    let mut driver = Command::new(env!("CARGO_BIN_EXE_buffer_driver"))
        .arg(data_dir)
        .arg(marks)
        .args(["7", ROUNDS])
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let first = data_dir.join("buffer/readings/00000001");
    let deadline = Instant::now() + LIMIT;
    let mut begun = false;
    loop {
        begun |= first.exists();
        if begun && !first.exists() {
            break;
        }
        assert_eq!(driver.try_wait().unwrap(), None, "the driver ended by itself");
        assert!(Instant::now() < deadline, "the disk is never full");
        sleep(Duration::from_millis(5)).await;
    }
    driver.kill().unwrap();
    driver.wait().unwrap();
}

/// Delivers a block as a delivery does: a lane that has changed meanwhile, since room had to be made, is loaded again.
async fn deliver_one(buffer: &Buffer, place: &str) {
    for _ in 0..TRIES {
        let mut lane = buffer.lane("cloud", Stream::Readings).await.unwrap();
        let blocks = buffer.blocks(Stream::Readings, lane.cursor.from, 1).await.unwrap();
        let range = blocks.first().unwrap_or_else(|| panic!("{place}: nothing is left to deliver")).range;
        lane.delivered += range.last + 1 - lane.cursor.from;
        lane.cursor.from = range.last + 1;
        lane.run = None;
        let change = LaneChange { sink: "cloud".to_owned(), stream: Stream::Readings, lane, records: Vec::new() };
        match buffer.change_lane(change).await {
            Ok(kept) => return assert_eq!(kept.cursor.from, range.last + 1, "{place}"),
            Err(BufferError::Stale { .. }) => {}
            Err(error) => panic!("{place}: {error}"),
        }
    }
    panic!("{place}: the lane changes for ever");
}

/// Each sequence is delivered, lost and told, or still to be delivered.
async fn check_books(buffer: &Buffer, place: &str) {
    let lane = buffer.lane("cloud", Stream::Readings).await.unwrap();
    let next = buffer.ends().borrow()[Stream::Readings.index()].next;
    let waiting: u64 = lane.cursor.ranges.iter().map(|range| range.count()).sum();
    assert_eq!(lane.delivered + lane.gaps + waiting + next - lane.cursor.from, next, "{place}: {lane:?}");
}

/// Commits random blocks until the buffer takes no more, and gives its answer.
async fn commit_until_refused(buffer: &Buffer, random: &mut Rng) -> BufferError {
    loop {
        let commit = Commit { drafts: random_drafts(random), ..Commit::default() };
        if let Err(error) = buffer.commit(commit).await {
            return error;
        }
    }
}

async fn commit_one(buffer: &Buffer, random: &mut Rng) -> Result<(), BufferError> {
    let commit = Commit { drafts: random_drafts(random), ..Commit::default() };
    buffer.commit(commit).await.map(drop)
}

async fn open(options: StoreOptions) -> Buffer {
    let (buffer, opened) = Buffer::open(options, Clock::system()).await.unwrap();
    assert_eq!(opened.quarantined, Vec::<String>::new());
    for stream in Stream::DELIVERED {
        buffer.lane("cloud", stream).await.unwrap();
    }
    buffer
}

/// Every sequence that is in the buffer, in order.
async fn held(buffer: &Buffer, stream: Stream) -> Vec<SequenceRange> {
    let (mut held, mut at) = (Vec::new(), 0);
    loop {
        let blocks = buffer.blocks(stream, at, 16).await.unwrap();
        let Some(last) = blocks.last() else { return held };
        at = last.range.last + 1;
        held.extend(blocks.iter().map(|block| block.range));
    }
}

fn next(buffer: &Buffer, stream: Stream) -> u64 {
    buffer.ends().borrow()[stream.index()].next
}

#[tokio::test]
async fn killed_on_a_full_disk_the_buffer_opens_again_and_what_it_holds_can_be_delivered() {
    let disk = SmallDisk::mount(DISK_BYTES);
    let elsewhere = tempfile::tempdir().unwrap();
    let data_dir = disk.path().join("data");
    std::fs::create_dir(&data_dir).unwrap();
    fill_and_kill(&data_dir, &elsewhere.path().join("marks")).await;
    for start in 0..3 {
        disk.fill();
        let (buffer, opened) = match Buffer::open(options(&data_dir), Clock::system()).await {
            Ok(opened) => opened,
            Err(error) => panic!("start {start}: {error}"),
        };
        assert!(!opened.fresh_epoch && opened.quarantined.is_empty(), "start {start}: {:?}", opened.quarantined);
        disk.fill();
        deliver_one(&buffer, &format!("start {start}")).await;
        check_books(&buffer, &format!("start {start}")).await;
        buffer.close().await;
    }
}

#[tokio::test]
async fn a_card_that_turned_read_only_is_let_go_and_used_again_once_it_is_repaired() {
    let disk = SmallDisk::mount_ext4(64 << 20);
    let buffer = open(options(&disk.path())).await;
    let mut random = Rng::with_seed(1);
    for _ in 0..50 {
        commit_one(&buffer, &mut random).await.unwrap();
    }
    let before = held(&buffer, Stream::Readings).await;
    disk.fail();
    let mut told = String::new();
    for _ in 0..TRIES {
        told = commit_one(&buffer, &mut random).await.unwrap_err().to_string();
    }
    assert!(told.contains("read-only"), "{told}");
    // It can only be repaired once nobody has a file open on it.
    disk.unmount().unwrap();
    let told = commit_one(&buffer, &mut random).await.unwrap_err().to_string();
    assert!(told.contains("not where it was"), "{told}");
    assert_eq!(std::fs::read_dir(disk.path()).unwrap().count(), 0, "nothing is written below a mount point");
    disk.repair();
    disk.mount_again();
    commit_one(&buffer, &mut random).await.unwrap();
    let after = held(&buffer, Stream::Readings).await;
    assert_eq!(after[..before.len()], before, "what was acknowledged is there");
    assert_eq!(after.last().unwrap().last + 1, next(&buffer, Stream::Readings));
    check_books(&buffer, "after the repair").await;
    buffer.close().await;
    let buffer = open(options(&disk.path())).await;
    assert_eq!(held(&buffer, Stream::Readings).await, after);
}

#[tokio::test]
async fn a_start_on_a_disk_without_a_free_byte_says_so_and_loses_nothing() {
    let disk = SmallDisk::mount_ext4(64 << 20);
    let block = StoreOptions { when_full: WhenFull::Block, disk_bytes_max: 256 << 20, ..options(&disk.path()) };
    let buffer = open(block.clone()).await;
    let mut random = Rng::with_seed(2);
    let refused = commit_until_refused(&buffer, &mut random).await;
    assert!(refused.to_string().contains("left to other programs"), "{refused}");
    let before = held(&buffer, Stream::Readings).await;
    buffer.close().await;
    std::fs::remove_file(disk.path().join("buffer/ballast")).unwrap();
    disk.fill();
    for _ in 0..3 {
        let refused = Buffer::open(block.clone(), Clock::system()).await.unwrap_err();
        assert!(refused.to_string().contains("free some space"), "{refused}");
    }
    disk.free();
    let buffer = open(block).await;
    assert_eq!(held(&buffer, Stream::Readings).await, before);
    deliver_one(&buffer, "with room again").await;
    check_books(&buffer, "with room again").await;
}

#[tokio::test]
async fn where_another_program_fills_the_disk_the_newest_take_the_place_of_the_oldest_and_no_more() {
    let disk = SmallDisk::mount_ext4(96 << 20);
    let buffer = open(StoreOptions { disk_bytes_max: 64 << 20, ..options(&disk.path()) }).await;
    let mut random = Rng::with_seed(3);
    while disk_bytes(&disk) < 24 << 20 {
        commit_one(&buffer, &mut random).await.unwrap();
    }
    // Almost all that is left: less than what other programs are left.
    disk.take(free_bytes(&disk) - (6 << 20));
    let held_before = disk_bytes(&disk);
    for _ in 0..2_000 {
        commit_one(&buffer, &mut random).await.unwrap();
    }
    let (held_after, free) = (disk_bytes(&disk), free_bytes(&disk));
    assert!(held_after <= held_before + (1 << 20), "{held_before} grew to {held_after}");
    assert!(
        held_after > held_before / 2,
        "{held_before} fell to {held_after}: readings gave way to another program's files"
    );
    assert!(free >= 5 << 20, "{free} bytes are left to others");
    check_books(&buffer, "beside another program").await;
}

#[tokio::test]
async fn the_buffer_never_grows_past_its_cap() {
    const CAP_BYTES: u64 = 24 << 20;
    let disk = SmallDisk::mount_ext4(128 << 20);
    let buffer = open(StoreOptions { disk_bytes_max: CAP_BYTES, ..options(&disk.path()) }).await;
    let (stop, stopped) = std::sync::mpsc::sync_channel::<()>(1);
    let (empty, path) = (used_bytes(&disk) - disk_bytes(&disk), disk.path());
    // The file system itself is asked, beside a run at full speed.
    let sampler = std::thread::spawn(move || {
        let (mut most, mut samples) = (0, 0_u64);
        while stopped.recv_timeout(Duration::from_millis(1)) == Err(RecvTimeoutError::Timeout) {
            let stat = rustix::fs::statvfs(&path).unwrap();
            most = most.max((stat.f_blocks - stat.f_bfree) * stat.f_frsize - empty);
            samples += 1;
        }
        (most, samples)
    });
    let mut random = Rng::with_seed(4);
    let snapshot = Some(vec![7; 3 << 20]);
    for round in 0..6_000 {
        let snapshot = if round % 500 == 0 { snapshot.clone() } else { None };
        let commit = Commit { drafts: random_drafts(&mut random), snapshot, ..Commit::default() };
        buffer.commit(commit).await.unwrap();
    }
    drop(stop);
    let (most, samples) = sampler.join().unwrap();
    eprintln!("at most {most} of {CAP_BYTES} bytes in {samples} samples");
    assert!(samples > 100 && most > CAP_BYTES / 2, "{most} bytes in {samples} samples: the cap was never near");
    assert!(most <= CAP_BYTES, "{most} bytes were used of {CAP_BYTES}");
    assert!(buffer.ends().borrow()[Stream::Readings.index()].oldest > 0, "nothing had to give way");
    check_books(&buffer, "at the cap").await;
}

/// What the buffer's files occupy, as `du` counts it.
fn disk_bytes(disk: &SmallDisk) -> u64 {
    fn below(path: &Path) -> u64 {
        // What goes while it is counted counts nothing.
        let Ok(meta) = std::fs::symlink_metadata(path) else { return 0 };
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        meta.blocks() * 512 + entries.map(|entry| below(&entry.path())).sum::<u64>()
    }
    below(&disk.path().join("buffer"))
}

fn free_bytes(disk: &SmallDisk) -> u64 {
    let stat = rustix::fs::statvfs(disk.path()).unwrap();
    stat.f_bavail * stat.f_frsize
}

fn used_bytes(disk: &SmallDisk) -> u64 {
    let stat = rustix::fs::statvfs(disk.path()).unwrap();
    (stat.f_blocks - stat.f_bfree) * stat.f_frsize
}
