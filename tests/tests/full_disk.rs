//! Killed on a full disk, the buffer opens again, and what it held can be delivered.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use e2e::power_cut::options;
use forebay::buffer::{Buffer, BufferError, LaneChange};
use forebay::clock::Clock;
use forebay::reading::Stream;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

/// Smaller than the cap of the driver's store, so that the disk is full first.
const DISK: &str = "size=9m";

/// Commits that the driver would make; it is killed long before.
const ROUNDS: &str = "1000000";

/// How long the driver may take to fill the disk on a busy machine.
const LIMIT: Duration = Duration::from_mins(2);

/// How often a lane may change under a delivery: each time a chunk went, and there are few.
const TRIES: usize = 8;

/// A file system of a few MiB. Dropping it unmounts it.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", DISK, "forebay-test"]).arg(dir.path()).status();
        assert!(
            mounted.is_ok_and(|status| status.success()),
            "a tmpfs cannot be mounted: run this test as root, with the right to mount"
        );
        Self(dir)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes all that is left, as another program's log might.
    fn fill(&self) {
        let mut file = File::create(self.path().join("filler")).unwrap();
        for bytes in [64 * 1024, 4096, 1] {
            while file.write_all(&vec![1; bytes]).is_ok() {}
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // A mount that stays is seen by whoever looks; the test's verdict does not hang on it.
        Command::new("umount").arg("--lazy").arg(self.path()).status().ok();
    }
}

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

#[tokio::test]
async fn killed_on_a_full_disk_the_buffer_opens_again_and_what_it_holds_can_be_delivered() {
    let (disk, elsewhere) = (SmallDisk::mount(), tempfile::tempdir().unwrap());
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
