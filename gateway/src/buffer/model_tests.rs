//! The store on disk against the model, under random operations, crashes, damage and a cap.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::disk_store::DiskStore;
use super::store::Store;
use super::*;
use crate::block::{BlockFlags, Layout, Meta};
use crate::clock::Clock;
use crate::reading::TimeQuality;
use std::path::Path;

fn options(dir: &Path) -> StoreOptions {
    StoreOptions {
        data_dir: dir.to_owned(),
        disk_bytes_max: 256 * 1024 * 1024,
        when_full: WhenFull::DropOldest,
        keep_delivered_us: 0,
        sinks: vec!["cloud".to_owned()],
    }
}

fn draft(stream: Stream, count: u16, bytes: usize, random: &mut fastrand::Rng) -> Draft {
    let meta = Meta {
        stream,
        layout: Layout::Columns,
        time_quality: TimeQuality::Ntp,
        flags: BlockFlags::default(),
        count,
        config_version: 1,
        boot_id: 1,
        mono_base_us: 0,
        wall_base_us: 0,
        first_time_us: 1_000,
        last_time_us: 2_000,
        unpacked_bytes: 10,
    };
    Draft { meta, body: std::iter::repeat_with(|| random.u8(..)).take(bytes).collect(), points: vec![PointId(0)] }
}

#[test]
fn smoke() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::manual(1, 1, 1_800_000_000_000_000);
    let (mut store, opened) = DiskStore::open(options(dir.path()), clock.clone()).unwrap();
    assert!(opened.fresh_epoch);
    let mut random = fastrand::Rng::with_seed(1);
    let key = Arc::new(PointKey { device: "d".into(), point: "p".into(), unit: "".into(), source: "s".into() });
    let lane = store.lane("cloud", Stream::Readings).unwrap();
    for i in 0..100u64 {
        let commit = Commit {
            points: if i == 0 { vec![(PointId(0), key.clone())] } else { vec![] },
            drafts: vec![draft(Stream::Readings, 500, 3000, &mut random), draft(Stream::Alerts, 1, 100, &mut random)],
            snapshot: None,
        };
        let committed = store.commit(&commit).unwrap();
        assert_eq!(committed.ranges[0].first, i * 500);
    }
    assert_eq!(store.lane("cloud", Stream::Readings).unwrap(), lane);
    let blocks = store.blocks(Stream::Readings, 501, 99).unwrap();
    assert_eq!(blocks.len(), 16);
    assert_eq!(blocks[0].range.first, 500);
    println!("{:?} {:?}", store.usage(), store.ends());
    drop(store);
    let (store, opened) = DiskStore::open(options(dir.path()), clock).unwrap();
    println!("{opened:?} {:?}", store.ends());
    assert!(opened.quarantined.is_empty());
    assert_eq!(store.ends()[1].next, 50000);
}
