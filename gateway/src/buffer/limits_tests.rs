//! Each family within its own limits of bytes and age, and what a change of them does.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use super::disk_store::DiskStore;
use super::store::Store;
use super::test_support::{MIB, NOW_US, all_blocks, clock, commit, draft, fill, options};
use super::{BufferError, LaneChange, Limit, StoreOptions, WhenFull, files};
use crate::block::records::{Gap, GapReason, RecordBody};
use crate::clock::Clock;
use crate::reading::{Stream, TimeQuality};
use std::path::Path;

fn open(options: StoreOptions) -> DiskStore {
    let (mut store, _) = DiskStore::open(options, clock()).unwrap();
    for stream in Stream::DELIVERED {
        store.lane("cloud", stream).unwrap();
    }
    store
}

fn letters(store: &mut DiskStore, blocks: usize, random: &mut fastrand::Rng) -> Result<(), BufferError> {
    for _ in 0..blocks {
        store.commit(&commit(vec![draft(Stream::DeadLetters, 4, 5 * 1024, random)]))?;
    }
    Ok(())
}

fn gaps(store: &mut DiskStore) -> Vec<Gap> {
    let blocks = all_blocks(store, Stream::Gaps);
    let records = blocks.iter().flat_map(|block| block.records().unwrap());
    let gaps = records.map(|numbered| match numbered.record.body {
        RecordBody::Gap(gap) => gap,
        other => panic!("{other:?}"),
    });
    gaps.collect()
}

fn family(store: &mut DiskStore, name: &str) -> (u64, u64) {
    let usage = store.usage();
    let family = usage.families.iter().find(|family| family.name == name).unwrap();
    (family.disk_bytes, family.disk_bytes_max)
}

fn occupied(dir: &Path) -> u64 {
    files::occupied_bytes(&dir.join("buffer"))
}

#[test]
fn a_family_gives_way_at_its_own_limit_though_the_buffer_has_room() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(options(dir.path(), 256 * MIB));
    let mut random = fastrand::Rng::with_seed(5);
    fill(&mut store, 100, &mut random);
    letters(&mut store, 6_000, &mut random).unwrap();
    let (used, max) = family(&mut store, "letters");
    assert!(max == 32 * MIB && used <= max, "{used} of {max}");
    let gaps = gaps(&mut store);
    assert!(!gaps.is_empty() && gaps.iter().all(|gap| gap.stream == Stream::DeadLetters), "{gaps:?}");
    assert_eq!(store.ends()[Stream::Readings.index()].oldest, 0);
}

#[test]
fn a_family_that_blocks_refuses_only_what_belongs_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path(), 256 * MIB);
    options.limits.dead_letters =
        Limit { disk_bytes_max: Some(8 * MIB), age_max_us: None, when_full: Some(WhenFull::Block) };
    let mut store = open(options);
    let mut random = fastrand::Rng::with_seed(5);
    let refused = letters(&mut store, 6_000, &mut random).unwrap_err();
    assert!(refused.to_string().contains("the buffer's part for dead letters is full"), "{refused}");
    fill(&mut store, 1, &mut random);
    assert_eq!(gaps(&mut store), []);
    let mut lane = store.lane("cloud", Stream::DeadLetters).unwrap();
    lane.cursor.from = store.ends()[Stream::DeadLetters.index()].next;
    lane.delivered = lane.cursor.from;
    store
        .change_lane(&LaneChange { sink: "cloud".into(), stream: Stream::DeadLetters, lane, records: vec![] })
        .unwrap();
    letters(&mut store, 1, &mut random).unwrap();
}

#[test]
fn undelivered_records_past_their_age_are_dropped_and_told_and_younger_ones_stay() {
    let dir = tempfile::tempdir().unwrap();
    let day_us = 24 * 3_600_000_000;
    let mut options = options(dir.path(), 256 * MIB);
    options.limits.readings.age_max_us = Some(8 * day_us);
    let mut random = fastrand::Rng::with_seed(5);
    let mut last = 0;
    for day in 0..10 {
        // The clock of a test stands still, so each day is another run.
        let now_us = NOW_US + day * (day_us + 1);
        let (mut store, _) = DiskStore::open(options.clone(), Clock::manual(1, 1, now_us)).unwrap();
        for stream in Stream::DELIVERED {
            store.lane("cloud", stream).unwrap();
        }
        let mut today = draft(Stream::Readings, 100, 1_000, &mut random);
        (today.meta.first_time_us, today.meta.last_time_us) = (now_us, now_us);
        store.commit(&commit(vec![today])).unwrap();
        store.maintain();
        last = store.ends()[Stream::Readings.index()].oldest;
        assert!(day >= 8 || last == 0, "on day {day} nothing is older than 8 days");
    }
    assert_eq!(last, 200, "of 10 days the last 8 are left");
    let (mut store, _) = DiskStore::open(options, clock()).unwrap();
    let gaps = gaps(&mut store);
    assert!(gaps.iter().all(|gap| gap.reason == GapReason::Age), "{gaps:?}");
    assert_eq!(gaps.iter().map(|gap| gap.range.count()).sum::<u64>(), 200);
    assert_eq!(store.lane("cloud", Stream::Readings).unwrap().gaps, 200);
}

#[test]
fn without_a_plausible_clock_nothing_is_dropped_for_its_age() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path(), 256 * MIB);
    options.limits.readings.age_max_us = Some(1);
    let mut store = open(options.clone());
    fill(&mut store, 1, &mut fastrand::Rng::with_seed(5));
    drop(store);
    let clock = Clock::manual(2, 1, 0);
    assert_eq!(clock.tick().quality, TimeQuality::Unset);
    let (mut store, _) = DiskStore::open(options, clock).unwrap();
    store.maintain();
    assert_eq!(store.ends()[Stream::Readings.index()].oldest, 0);
}

#[test]
fn a_cap_lowered_below_what_is_used_is_kept_soon_and_told_and_no_commit_waits_for_all_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(options(dir.path(), 64 * MIB));
    let mut random = fastrand::Rng::with_seed(5);
    fill(&mut store, 4_000, &mut random);
    let mut chunks = store.usage().chunks;
    let mut dropped = |store: &mut DiskStore| {
        let before = std::mem::replace(&mut chunks, store.usage().chunks);
        before.saturating_sub(chunks)
    };
    store.reconfigure(options(dir.path(), 8 * MIB)).unwrap();
    assert!((1..=8).contains(&dropped(&mut store)) && occupied(dir.path()) > 8 * MIB, "{}", occupied(dir.path()));
    let next = store.ends()[Stream::Readings.index()].next;
    fill(&mut store, 10, &mut random);
    assert_eq!(store.ends()[Stream::Readings.index()].next, next + 5_000);
    assert!(dropped(&mut store) <= 8, "one commit drops no more than one look");
    for _ in 0..2 {
        store.maintain();
    }
    assert!(occupied(dir.path()) <= 8 * MIB, "{}", occupied(dir.path()));
    let lost: u64 = gaps(&mut store).iter().map(|gap| gap.range.count()).sum();
    let oldest = store.ends()[Stream::Readings.index()].oldest;
    assert!(lost > 0 && lost == oldest && store.lane("cloud", Stream::Readings).unwrap().gaps == lost);
    fill(&mut store, 100, &mut fastrand::Rng::with_seed(6));
    assert!(occupied(dir.path()) <= 8 * MIB);
}

#[test]
fn a_cap_lowered_where_nothing_may_go_keeps_everything_and_takes_nothing_more() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(options(dir.path(), 256 * MIB));
    fill(&mut store, 2_000, &mut fastrand::Rng::with_seed(5));
    drop(store);
    // The next start finds the lower cap.
    let lower = StoreOptions { when_full: WhenFull::Block, ..options(dir.path(), 12 * MIB) };
    let mut store = open(lower);
    let one = commit(vec![draft(Stream::Readings, 1, 10, &mut fastrand::Rng::with_seed(6))]);
    let refused = store.commit(&one).unwrap_err();
    assert!(matches!(refused, BufferError::Full { .. }), "{refused}");
    assert_eq!(store.ends()[Stream::Readings.index()].oldest, 0);
    store.reconfigure(options(dir.path(), 256 * MIB)).unwrap();
    store.commit(&one).unwrap();
}

#[test]
fn another_data_directory_is_no_change_for_a_store_that_runs() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(options(dir.path(), 64 * MIB));
    let refused = store.reconfigure(options(&dir.path().join("other"), 64 * MIB)).unwrap_err();
    assert!(refused.to_string().contains("restart"), "{refused}");
}
