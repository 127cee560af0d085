//! Power cuts: the store's writes and synchronisations are recorded, and disks are made of them as a cut would leave them.
//!
//! The method is that of ALICE (Pillai et al., "All File Systems Are Not Created Equal", OSDI 2014) and `CrashMonkey` (Mohan
//! et al., "Finding Crash-Consistency Bugs with Bounded Black-Box Crash Testing", OSDI 2018): only what was synchronised is
//! sure; of everything else any part may be on disk, in any order.

pub mod disk;
pub mod marks;
pub mod recording;

use forebay::block::{BlockFlags, Draft, Layout, Meta};
use forebay::buffer::StoreOptions;
use forebay::reading::{Stream, TimeQuality, UnixMicros};
use std::path::Path;

/// A cap that the driver reaches, so that chunks rotate and are evicted under the recorder's eyes.
const DISK_BYTES_MAX: u64 = 10 * 1024 * 1024;

/// Time of every record: in 2096, so that nothing is old enough to be dropped for its age.
pub const RECORD_TIME_US: UnixMicros = 4_000_000_000_000_000;

/// How the recorded program and the checks after the cut open the store.
#[must_use]
pub fn options(data_dir: &Path) -> StoreOptions {
    StoreOptions {
        disk_bytes_max: DISK_BYTES_MAX,
        keep_delivered_us: 3_600_000_000,
        sinks: vec!["cloud".into()],
        ..StoreOptions::new(data_dir.to_owned())
    }
}

/// One to eight blocks of readings, now and then one of dead letters: sizes from a few bytes to the largest allowed. The
/// store does not look inside them.
#[must_use]
pub fn random_drafts(random: &mut fastrand::Rng) -> Vec<Draft> {
    let mut drafts: Vec<Draft> = (0..random.usize(1..=8)).map(|_| random_draft(Stream::Readings, random)).collect();
    if random.u8(..) < 64 {
        drafts.push(random_draft(Stream::DeadLetters, random));
    }
    drafts
}

fn random_draft(stream: Stream, random: &mut fastrand::Rng) -> Draft {
    let body: Vec<u8> = (0..random.usize(1..=5 * 1024)).map(|_| random.u8(..)).collect();
    let meta = Meta {
        stream,
        layout: Layout::Records,
        time_quality: TimeQuality::Ntp,
        flags: BlockFlags::default(),
        count: random.u16(1..=500),
        config_version: 1,
        boot_id: 1,
        mono_base_us: 0,
        wall_base_us: 0,
        first_time_us: RECORD_TIME_US,
        last_time_us: RECORD_TIME_US,
        unpacked_bytes: 1,
    };
    Draft { meta, body, points: Vec::new() }
}
