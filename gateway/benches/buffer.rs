//! How fast blocks become durable: the buffer beside a plain file that is appended to and synchronised, on the same disk.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark prints, and stops at the first failure")]

use forebay::block::{BlockFlags, Draft, Layout, Meta};
use forebay::buffer::{Buffer, Commit, StoreOptions};
use forebay::clock::Clock;
use forebay::reading::{Epoch, Stream, TimeQuality};
use std::io::Write;
use std::time::{Duration, Instant};

/// Readings in a block.
const READINGS: u16 = 500;

/// Bytes of a block's body: 5 bytes a reading. They do not compress further, as in a real block.
const BODY_BYTES: usize = 2500;

/// Blocks of a run, cut into commits of one block, and of sixteen as a busy gateway makes them.
const BLOCKS: usize = 4096;
const BLOCKS_PER_COMMIT: [usize; 2] = [1, 16];

fn drafts() -> Vec<Draft> {
    let mut random = fastrand::Rng::with_seed(7);
    let meta = Meta {
        stream: Stream::Readings,
        layout: Layout::Columns,
        time_quality: TimeQuality::Ntp,
        flags: BlockFlags::default(),
        count: READINGS,
        config_version: 1,
        boot_id: 1,
        mono_base_us: 0,
        wall_base_us: 0,
        first_time_us: 1,
        last_time_us: 2,
        unpacked_bytes: 1,
    };
    let body = |random: &mut fastrand::Rng| (0..BODY_BYTES).map(|_| random.u8(..)).collect();
    (0..BLOCKS).map(|_| Draft { meta: meta.clone(), body: body(&mut random), points: Vec::new() }).collect()
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
fn now() -> Instant {
    Instant::now()
}

fn main() {
    let dir = tempfile::tempdir_in(".").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for per_commit in BLOCKS_PER_COMMIT {
        let plain = plain_append(dir.path(), per_commit);
        let (buffer, bytes) = runtime.block_on(buffer_append(dir.path(), per_commit));
        let readings = BLOCKS as f64 * f64::from(READINGS);
        let rate = |time: Duration| readings / time.as_secs_f64();
        println!(
            "{per_commit:2} blocks of {READINGS} a commit: buffer {:.0} readings/s, plain append {:.0} readings/s, ratio {:.2}; \
             {:.1} bytes on disk a reading for {:.1} bytes of block",
            rate(buffer),
            rate(plain),
            rate(buffer) / rate(plain),
            bytes as f64 / readings,
            BODY_BYTES as f64 / f64::from(READINGS),
        );
    }
}

async fn buffer_append(dir: &std::path::Path, per_commit: usize) -> (Duration, u64) {
    let data_dir = dir.join(format!("buffer-{per_commit}"));
    let options =
        StoreOptions { disk_bytes_max: 1024 * 1024 * 1024, keep_delivered_us: i64::MAX, ..StoreOptions::new(data_dir) };
    let (buffer, _) = Buffer::open(options, Clock::system()).await.unwrap();
    let mut usage = buffer.usage();
    let before = usage.borrow().disk_bytes;
    let drafts = drafts();
    let start = now();
    for drafts in drafts.chunks(per_commit) {
        buffer.commit(Commit { drafts: drafts.to_vec(), ..Commit::default() }).await.unwrap();
    }
    let time = start.elapsed();
    tokio::time::timeout(Duration::from_secs(5), usage.changed()).await.unwrap().unwrap();
    tokio::time::timeout(Duration::from_secs(3), usage.changed()).await.ok();
    let after = usage.borrow().disk_bytes;
    buffer.close().await;
    (time, after - before)
}

fn plain_append(dir: &std::path::Path, per_commit: usize) -> Duration {
    let mut file = std::fs::File::create(dir.join(format!("plain-{per_commit}"))).unwrap();
    let drafts = drafts();
    let start = now();
    let mut first = 0;
    for drafts in drafts.chunks(per_commit) {
        for draft in drafts {
            file.write_all(&draft.seal(Epoch(1), first)).unwrap();
            first += u64::from(READINGS);
        }
        file.sync_data().unwrap();
    }
    start.elapsed()
}
