//! What the tests of the store share: options, random drafts, records, a clock.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::disk_store::DiskStore;
use super::memory_store::MemoryStore;
use super::store::Store;
use super::{Buffer, Commit, Opened, StoreOptions};
use crate::block::records::{Alert, Record, RecordBody, Severity};
use crate::block::{Block, BlockFlags, Draft, Layout, Meta};
use crate::clock::Clock;
use crate::reading::{Epoch, Sequence, Stream, TimeQuality, UnixMicros};
use std::path::Path;

/// The time of every test.
pub(super) const NOW_US: UnixMicros = 1_800_000_000_000_000;

pub(super) fn clock() -> Clock {
    Clock::manual(1, 1, NOW_US)
}

pub(super) fn options(dir: &Path, disk_bytes_max: u64) -> StoreOptions {
    StoreOptions {
        disk_bytes_max,
        keep_delivered_us: 3_600_000_000,
        sinks: vec!["cloud".into()],
        ..StoreOptions::new(dir.to_owned())
    }
}

pub(super) const MIB: u64 = 1024 * 1024;

pub(super) fn open(dir: &Path) -> (DiskStore, Opened) {
    DiskStore::open(options(dir, 256 * MIB), clock()).unwrap()
}

/// A block of readings that the store need not understand.
pub(super) fn draft(stream: Stream, count: u16, bytes: usize, random: &mut fastrand::Rng) -> Draft {
    let meta = Meta {
        stream,
        layout: Layout::Records,
        time_quality: TimeQuality::Ntp,
        flags: BlockFlags::default(),
        count,
        config_version: 1,
        boot_id: 1,
        mono_base_us: 0,
        wall_base_us: 0,
        first_time_us: NOW_US - 2,
        last_time_us: NOW_US - 1,
        unpacked_bytes: 1,
    };
    Draft { meta, body: (0..bytes).map(|_| random.u8(..)).collect(), points: Vec::new() }
}

pub(super) fn commit(drafts: Vec<Draft>) -> Commit {
    Commit { drafts, ..Commit::default() }
}

/// Fills a store with blocks of 500 readings and 5 KiB.
pub(super) fn fill(store: &mut DiskStore, blocks: usize, random: &mut fastrand::Rng) {
    for _ in 0..blocks / 10 {
        let drafts = (0..10).map(|_| draft(Stream::Readings, 500, 5 * 1024, random)).collect();
        store.commit(&commit(drafts)).unwrap();
    }
}

pub(super) fn alert(id: u64) -> Record {
    let alert = Alert {
        rule: "sink".to_owned(),
        severity: Severity::Info,
        subject: "cloud".to_owned(),
        message: format!("alert {id}"),
        value: None,
        raised: true,
    };
    Record { id, time_us: NOW_US, body: RecordBody::Alert(alert) }
}

/// Every block of a stream.
pub(super) fn all_blocks(store: &mut impl Store, stream: Stream) -> Vec<Block> {
    let (mut all, mut at): (Vec<Block>, Sequence) = (Vec::new(), 0);
    loop {
        let blocks = store.blocks(stream, at, 16).unwrap();
        let Some(last) = blocks.last() else { return all };
        at = last.range.last + 1;
        all.extend(blocks);
    }
}

/// A buffer in memory, and what serves it: for tests on a paused clock.
pub(crate) fn in_memory(epoch: Epoch, clock: Clock) -> (Buffer, impl Future<Output = ()> + Send) {
    Buffer::over(MemoryStore::new(epoch, clock))
}

/// The same with room for so many bytes, beyond which the oldest are dropped.
pub(crate) fn in_small_memory(epoch: Epoch, clock: Clock, bytes_max: u64) -> (Buffer, impl Future<Output = ()> + Send) {
    Buffer::over(MemoryStore::new(epoch, clock).with_room(bytes_max))
}
