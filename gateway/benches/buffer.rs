//! How fast, how small and how gentle to flash the buffer is; each figure beside its goal.
//!
//! Everything is a ratio to a plain file on the same disk in the same run, or a count of bytes or of memory, since times alone say
//! little on a shared machine. `FOREBAY_BENCH_BACKLOG_MIB` (512) and `FOREBAY_BENCH_PASS_MILLIONS` (20) make the long ones
//! longer: 2048 and 100 are the sizes that the goals speak of. The cold open needs root, which alone may drop the page cache.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark prints, and stops at the first failure")]
#![allow(clippy::disallowed_methods, reason = "a benchmark measures real time")]

use forebay::block::columns::{Encoder, Frame, JudgedReading};
use forebay::block::{Block, BlockFlags, Draft, Layout, Meta};
use forebay::buffer::{Buffer, Commit, LaneChange, SinkLanes, StoreOptions};
use forebay::clock::{Clock, Tick};
use forebay::reading::{
    AnomalyScore, Epoch, Flags, NO_HASH, PointId, Quality, Sequence, Stream, TimeQuality, UnixMicros, Value,
};
use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Readings in a full block.
const READINGS: u16 = 500;

/// Bytes of a random body: 5 bytes a reading. They do not compress further, as in a real block.
const BODY_BYTES: usize = 2500;

/// Points of the plant whose blocks are measured.
const POINTS: u32 = 50;

/// Rounds of buffer and plain file in turn; the median ratio counts, so that a neighbour's burst does not.
const ROUNDS: usize = 5;

/// Blocks of a round, cut into commits of one block, and of sixteen as a busy gateway makes them.
const BLOCKS: usize = 2048;
const BLOCKS_PER_COMMIT: [usize; 2] = [1, 16];

/// Commits that a pattern of the table of flash bytes is watched for.
const PATTERN_COMMITS: usize = 400;

/// The lane that drains.
const SINK: &str = "null";

const MIB: u64 = 1024 * 1024;
const SECONDS_PER_DAY: f64 = 86_400.0;
const START_US: UnixMicros = 1_800_000_000_000_000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["open", data_dir] => return runtime.block_on(open_and_drain(Path::new(data_dir))),
        ["pass", data_dir, millions] => {
            return runtime.block_on(pass_through(Path::new(data_dir), millions.parse().unwrap()));
        }
        _ => {}
    }
    let dir = tempfile::tempdir_in(".").unwrap();
    for per_commit in BLOCKS_PER_COMMIT {
        append(dir.path(), per_commit, &runtime);
    }
    runtime.block_on(sizes(dir.path()));
    runtime.block_on(flash_per_day(dir.path()));
    runtime.block_on(backlog(dir.path(), setting("FOREBAY_BENCH_BACKLOG_MIB", 512)));
    let millions = setting("FOREBAY_BENCH_PASS_MILLIONS", 20);
    println!("{millions} million readings pass through (goal: memory flat, the same at 10 % and at the end)");
    child(&["pass", dir.path().join("pass").to_str().unwrap(), &millions.to_string()]);
}

// ---- append beside a plain file ----

fn append(dir: &Path, per_commit: usize, runtime: &tokio::runtime::Runtime) {
    let mut rounds: Vec<(f64, f64)> = (0..ROUNDS)
        .map(|round| {
            let plain = plain_append(dir, per_commit);
            let buffer = runtime.block_on(buffer_append(&dir.join(format!("append-{per_commit}-{round}")), per_commit));
            let rate = |time: Duration| BLOCKS as f64 * f64::from(READINGS) / time.as_secs_f64();
            (rate(buffer), rate(plain))
        })
        .collect();
    rounds.sort_by(|a, b| (a.0 / a.1).total_cmp(&(b.0 / b.1)));
    let (buffer, plain) = rounds[ROUNDS / 2];
    let (lowest, highest) = (rounds[0], rounds[ROUNDS - 1]);
    println!(
        "append, {per_commit:2} blocks of {READINGS} a commit: {buffer:.0} readings/s, plain file with the same fdatasync {plain:.0}: \
         ratio {:.2} ({:.2} to {:.2} in {ROUNDS} rounds; goal 0.8)",
        buffer / plain,
        lowest.0 / lowest.1,
        highest.0 / highest.1,
    );
}

async fn buffer_append(data_dir: &Path, per_commit: usize) -> Duration {
    let buffer = open(data_dir, 4096 * MIB).await;
    let drafts = random_drafts(BLOCKS);
    let started = Instant::now();
    for drafts in drafts.chunks(per_commit) {
        buffer.commit(commit(drafts.to_vec())).await.unwrap();
    }
    let time = started.elapsed();
    buffer.close().await;
    fs::remove_dir_all(data_dir).unwrap();
    time
}

fn plain_append(dir: &Path, per_commit: usize) -> Duration {
    let path = dir.join("plain");
    let mut file = fs::File::create(&path).unwrap();
    let drafts = random_drafts(BLOCKS);
    let started = Instant::now();
    let mut first = 0;
    for drafts in drafts.chunks(per_commit) {
        for draft in drafts {
            file.write_all(&draft.seal(Epoch(1), first)).unwrap();
            first += u64::from(READINGS);
        }
        file.sync_data().unwrap();
    }
    let time = started.elapsed();
    fs::remove_file(path).unwrap();
    time
}

// ---- sizes and flash ----

/// Full blocks of slowly changing points, and of noisy ones: bytes of block, on disk, and to flash.
async fn sizes(dir: &Path) {
    const COMMITS: usize = 512;
    let mut plant = Plant::new();
    let slow = (0..COMMITS).map(|_| plant.drafts(16 * usize::from(READINGS))).collect();
    size(&dir.join("slow"), "slowly changing", slow).await;
    let noisy = (0..COMMITS).map(|_| plant.noisy_drafts(16 * usize::from(READINGS))).collect();
    size(&dir.join("noisy"), "noisy", noisy).await;
}

async fn size(data_dir: &Path, what: &str, commits: Vec<Vec<Draft>>) {
    let payload: usize = commits.iter().flatten().map(|draft| draft.seal(Epoch(1), 0).len()).sum();
    let readings: u64 = commits.iter().flatten().map(|draft| u64::from(draft.meta.count)).sum();
    let buffer = open(data_dir, 4096 * MIB).await;
    let before = (occupied_bytes(data_dir), Written::now(data_dir));
    for drafts in commits {
        buffer.commit(commit(drafts)).await.unwrap();
    }
    let after = (occupied_bytes(data_dir), Written::now(data_dir));
    buffer.close().await;
    let (disk, flash) = (after.0 - before.0, after.1.since(&before.1));
    let each = |bytes: u64| bytes as f64 / readings as f64;
    println!(
        "16 full blocks a commit of {POINTS} {what} points: {:.2} bytes a reading of block (goal 5), {:.2} on disk = {:.2} times \
         (goal 2.5), written {:.2} times (goal 4); the whole device wrote {:.2} times, neighbours included",
        each(payload as u64),
        each(disk),
        disk as f64 / payload as f64,
        flash.process as f64 / payload as f64,
        flash.device as f64 / payload as f64,
    );
}

/// What a day of a steady flow writes to flash, with a commit each interval in which something came.
async fn flash_per_day(dir: &Path) {
    println!(
        "written to flash a day, by commit interval (by this process, and by the whole device with its neighbours):"
    );
    for per_second in [1, 10, 1000] {
        for interval_ms in [200, 2000] {
            let per_commit = (per_second * interval_ms / 1000).max(1);
            let data_dir = dir.join(format!("flash-{per_second}-{interval_ms}"));
            let mut plant = Plant::new();
            let commits: Vec<Vec<Draft>> = (0..PATTERN_COMMITS).map(|_| plant.drafts(per_commit)).collect();
            let buffer = open(&data_dir, 4096 * MIB).await;
            let before = Written::now(&data_dir);
            for drafts in commits {
                buffer.commit(commit(drafts)).await.unwrap();
            }
            let flash = Written::now(&data_dir).since(&before);
            buffer.close().await;
            fs::remove_dir_all(&data_dir).unwrap();
            let per_day = SECONDS_PER_DAY * f64::from(u32::try_from(per_second).unwrap());
            let commits_per_day = per_day / f64::from(u32::try_from(per_commit).unwrap());
            let a_day = |bytes: u64| bytes as f64 / PATTERN_COMMITS as f64 * commits_per_day / MIB as f64;
            println!(
                "  {per_second:4} readings/s, {interval_ms:4} ms: {commits_per_day:6.0} commits a day, {:6.0} MiB (device {:6.0} MiB)",
                a_day(flash.process),
                a_day(flash.device),
            );
        }
    }
}

/// Counters of the kernel: bytes that this process sent towards the disk (proc(5), `write_bytes`), and that the device took.
struct Written {
    process: u64,
    device: u64,
}

impl Written {
    fn now(path: &Path) -> Self {
        let io = fs::read_to_string("/proc/self/io").unwrap();
        let process = io.lines().find_map(|line| line.strip_prefix("write_bytes: ")).unwrap().parse().unwrap();
        let device = fs::metadata(path).unwrap().dev();
        // Linux's encoding of a small device number: major in bits 8 to 19, minor in the lowest 8.
        let (major, minor) = (device >> 8 & 0xfff, device & 0xff);
        let stat = fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat")).unwrap_or_default();
        // Documentation/block/stat.rst: the seventh number counts sectors written, of 512 bytes.
        let sectors: u64 = stat.split_whitespace().nth(6).map_or(0, |sectors| sectors.parse().unwrap());
        Self { process, device: sectors * 512 }
    }

    fn since(&self, before: &Self) -> Self {
        Self { process: self.process - before.process, device: self.device - before.device }
    }
}

// ---- a large backlog ----

async fn backlog(dir: &Path, mib: u64) {
    let data_dir = dir.join("backlog");
    let buffer = open(&data_dir, 16 * 1024 * MIB).await;
    let mut plant = Plant::new();
    let drafts: Vec<Draft> = (0..16).flat_map(|_| plant.noisy_drafts(usize::from(READINGS))).collect();
    let mut commits = 0_u64;
    while !commits.is_multiple_of(64) || occupied_bytes(&data_dir) < mib * MIB {
        buffer.commit(commit(drafts.clone())).await.unwrap();
        commits += 1;
    }
    buffer.close().await;
    let dropped = fs::write("/proc/sys/vm/drop_caches", "3").is_ok();
    println!(
        "a backlog of {} MiB, {} million readings, opened {}:",
        occupied_bytes(&data_dir) / MIB,
        commits * drafts.iter().map(|draft| u64::from(draft.meta.count)).sum::<u64>() / 1_000_000,
        if dropped { "cold" } else { "with a warm cache, since only root can drop it" },
    );
    child(&["open", data_dir.to_str().unwrap()]);
    fs::remove_dir_all(&data_dir).unwrap();
}

/// In a process of its own: opens a backlog, then reads and decodes all of it.
async fn open_and_drain(data_dir: &Path) {
    let started = Instant::now();
    let buffer = open(data_dir, 16 * 1024 * MIB).await;
    println!(
        "  open after {:.2} s (goal 3), {} MiB resident at most (goal 64)",
        started.elapsed().as_secs_f64(),
        peak_mib()
    );
    let (started, next) = (Instant::now(), next(&buffer));
    let (mut at, mut readings) = (0, 0);
    while at < next {
        for block in buffer.blocks(Stream::Readings, at, 16).await.unwrap() {
            readings += decoded(&block);
            at = block.range.last + 1;
        }
    }
    let rate = readings as f64 / started.elapsed().as_secs_f64();
    println!("  drained to a null sink at {rate:.0} readings/s (goal 500000), {} MiB resident at most", peak_mib());
    buffer.close().await;
}

/// In a process of its own: readings come, are delivered and go.
async fn pass_through(data_dir: &Path, millions: u64) {
    let options = StoreOptions {
        disk_bytes_max: 256 * MIB,
        keep_delivered_us: 0,
        sinks: vec![SinkLanes { name: SINK.to_owned(), streams: vec![Stream::Readings] }],
        ..StoreOptions::new(data_dir.to_owned())
    };
    let (buffer, _) = Buffer::open(options, Clock::system()).await.unwrap();
    let mut plant = Plant::new();
    let drafts: Vec<Draft> = (0..16).flat_map(|_| plant.noisy_drafts(usize::from(READINGS))).collect();
    let (mut tenth, mut delivered) = (0, 0);
    loop {
        buffer.commit(commit(drafts.clone())).await.unwrap();
        let next = next(&buffer);
        if next - delivered >= 100_000 {
            let mut lane = buffer.lane(SINK, Stream::Readings).await.unwrap();
            while lane.cursor.from < next {
                for block in buffer.blocks(Stream::Readings, lane.cursor.from, 16).await.unwrap() {
                    lane.delivered += decoded(&block);
                    lane.cursor.from = block.range.last + 1;
                }
            }
            let change = LaneChange { sink: SINK.to_owned(), stream: Stream::Readings, lane, records: Vec::new() };
            delivered = buffer.change_lane(change).await.unwrap().cursor.from;
        }
        if next >= tenth * millions * 100_000 {
            let disk_mib = occupied_bytes(data_dir) / MIB;
            println!(
                "  after {:5.1} million: {} MiB resident at most, {disk_mib} MiB on disk",
                next as f64 / 1e6,
                peak_mib()
            );
            tenth += if tenth == 0 { 1 } else { 3 };
        }
        if next >= millions * 1_000_000 {
            break;
        }
    }
    buffer.close().await;
}

// ---- what they share ----

async fn open(data_dir: &Path, disk_bytes_max: u64) -> Buffer {
    let options =
        StoreOptions { disk_bytes_max, keep_delivered_us: i64::MAX, ..StoreOptions::new(data_dir.to_owned()) };
    Buffer::open(options, Clock::system()).await.unwrap().0
}

fn commit(drafts: Vec<Draft>) -> Commit {
    Commit { drafts, ..Commit::default() }
}

fn next(buffer: &Buffer) -> Sequence {
    buffer.ends().borrow()[Stream::Readings.index()].next
}

fn decoded(block: &Block) -> u64 {
    std::hint::black_box(block.readings().unwrap()).len() as u64
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

fn child(arguments: &[&str]) {
    let status = Command::new(std::env::current_exe().unwrap()).args(arguments).status().unwrap();
    assert!(status.success(), "{arguments:?}: {status}");
}

/// Most memory that this process ever had resident (proc(5), `VmHWM`).
fn peak_mib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

fn occupied_bytes(path: &Path) -> u64 {
    let Ok(meta) = fs::symlink_metadata(path) else { return 0 };
    let inside = fs::read_dir(path).into_iter().flatten().flatten().map(|entry| occupied_bytes(&entry.path()));
    meta.blocks() * 512 + inside.sum::<u64>()
}

fn random_drafts(blocks: usize) -> Vec<Draft> {
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
    (0..blocks).map(|_| Draft { meta: meta.clone(), body: body(&mut random), points: Vec::new() }).collect()
}

/// Points that are polled in turn, each a little off its last value.
struct Plant {
    random: fastrand::Rng,
    levels: Vec<i32>,
    polled: u64,
    encoder: Encoder,
}

impl Plant {
    fn new() -> Self {
        let mut random = fastrand::Rng::with_seed(1);
        let levels = (0..POINTS).map(|_| random.i32(2_000..9_000)).collect();
        Self { random, levels, polled: 0, encoder: Encoder::new().unwrap() }
    }

    /// Values of two decimals that change by at most 0.02.
    fn drafts(&mut self, readings: usize) -> Vec<Draft> {
        self.encode(readings, |random, level| {
            *level += random.i32(-2..=2);
            f64::from(*level) / 100.0
        })
    }

    /// Values that change by up to 100 in steps of 0.001: about 4 bytes a reading.
    fn noisy_drafts(&mut self, readings: usize) -> Vec<Draft> {
        self.encode(readings, |random, level| f64::from(*level) + f64::from(random.i32(-100_000..=100_000)) / 1000.0)
    }

    fn encode(&mut self, readings: usize, mut value: impl FnMut(&mut fastrand::Rng, &mut i32) -> f64) -> Vec<Draft> {
        let readings: Vec<JudgedReading> = (0..readings)
            .map(|_| {
                let (round, point) = (self.polled / u64::from(POINTS), self.polled % u64::from(POINTS));
                self.polled += 1;
                JudgedReading {
                    point: PointId(u32::try_from(point).unwrap()),
                    outcome: Ok(Value::Number(value(
                        &mut self.random,
                        &mut self.levels[usize::try_from(point).unwrap()],
                    ))),
                    observed_at_us: None,
                    received_mono_us: round * 1_000_000 + point * 150,
                    quality: Quality::Good,
                    flags: Flags::default(),
                    score: AnomalyScore::default(),
                    message_hash: NO_HASH,
                    note: None,
                }
            })
            .collect();
        let base = Tick { mono_us: 0, wall_us: START_US, quality: TimeQuality::Ntp };
        let mut drafts = Vec::new();
        self.encoder.encode(&readings, &[], &Frame { boot_id: 1, base, config_version: 1 }, &mut drafts).unwrap();
        drafts
    }
}
