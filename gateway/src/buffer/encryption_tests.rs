//! Encryption at rest: nothing that was measured or configured lies readable on disk, and a missing key costs nothing but the start.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::disk_store::DiskStore;
use super::store::Store;
use super::test_support::{MIB, NOW_US, alert, clock, draft, options};
use super::{BufferError, Cipher, Commit, LaneChange};
use crate::block::Draft;
use crate::block::records::RecordBody;
use crate::reading::{PointId, Stream};
use crate::secret::SecretFile;
use crate::site::PointKey;
use std::path::Path;
use std::sync::Arc;

/// Words that no file may hold.
const WORDS: [&str; 6] =
    ["boiler-number-3", "supply_temperature", "steam-bus", "cloud-of-ours", "ALARM-TEXT", "SNAPSHOT-STATE"];

fn cipher(keys: &[char]) -> Cipher {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys");
    let lines: Vec<String> = keys.iter().map(|digit| digit.to_string().repeat(64)).collect();
    std::fs::write(&path, lines.join("\n")).unwrap();
    Cipher::from_key_file(&SecretFile(path.display().to_string()).read().unwrap()).unwrap()
}

fn open(dir: &Path, keys: &[char]) -> Result<DiskStore, BufferError> {
    let options = super::StoreOptions { cipher: cipher(keys), ..options(dir, 256 * MIB) };
    DiskStore::open(options, clock()).map(|(store, _)| store)
}

/// Everything that a gateway stores, with a word to look for in each.
fn write_everything(store: &mut DiskStore, random: &mut fastrand::Rng) {
    let key = PointKey { device: WORDS[0].into(), point: WORDS[1].into(), unit: "°C".into(), source: WORDS[2].into() };
    let readings = Draft { points: vec![PointId(0)], ..draft(Stream::Readings, 500, 4_000, random) };
    let snapshot = Some(WORDS[5].as_bytes().to_vec());
    store
        .commit(&Commit { points: vec![(PointId(0), Arc::new(key))], drafts: vec![readings], snapshot, books: None })
        .unwrap();
    store.keep_config(&format!("sink = {:?}", WORDS[3])).unwrap();
    let lane = store.lane("cloud", Stream::Readings).unwrap();
    let mut alarm = alert(7);
    if let RecordBody::Alert(alert) = &mut alarm.body {
        alert.message = WORDS[4].to_owned();
    }
    let change = LaneChange { sink: "cloud".to_owned(), stream: Stream::Readings, lane, records: vec![alarm] };
    store.change_lane(&change).unwrap();
}

/// Every file below a directory that holds one of the words.
fn readable(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(readable(&path));
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        for word in WORDS {
            if bytes.windows(word.len()).any(|window| window == word.as_bytes()) {
                found.push(format!("{}: {word}", path.display()));
            }
        }
    }
    found
}

#[test]
fn nothing_that_was_measured_or_configured_lies_readable_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path(), &['a']).unwrap();
    write_everything(&mut store, &mut fastrand::Rng::with_seed(1));
    drop(store);
    assert_eq!(readable(dir.path()), Vec::<String>::new());
    let mut store = open(dir.path(), &['a']).unwrap();
    assert_eq!(store.blocks(Stream::Readings, 0, 16).unwrap().len(), 1);
    assert_eq!(store.blocks(Stream::Alerts, 0, 16).unwrap().len(), 1);
    assert!(store.config(1).unwrap().is_some_and(|text| text.contains(WORDS[3])));

    let plain = tempfile::tempdir().unwrap();
    let mut store = DiskStore::open(options(plain.path(), 256 * MIB), clock()).unwrap().0;
    write_everything(&mut store, &mut fastrand::Rng::with_seed(1));
    drop(store);
    assert!(!readable(plain.path()).is_empty(), "this test must be able to see what is readable");
}

#[test]
fn without_its_key_the_buffer_does_not_open_and_is_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path(), &['a']).unwrap();
    write_everything(&mut store, &mut fastrand::Rng::with_seed(2));
    drop(store);
    for keys in [&['b'][..], &['c', 'd']] {
        let error = open(dir.path(), keys).err().unwrap();
        assert!(matches!(&error, BufferError::Locked(_)), "{error}");
    }
    let error = DiskStore::open(options(dir.path(), 256 * MIB), clock()).err().unwrap();
    assert!(error.to_string().contains("key file of buffer.encryption"), "{error}");
    let mut store = open(dir.path(), &['a']).unwrap();
    assert_eq!(store.blocks(Stream::Readings, 0, 16).unwrap().len(), 1);
    assert!(std::fs::read_dir(dir.path().join("buffer/quarantine")).unwrap().next().is_none());
}

#[test]
fn a_key_is_rotated_while_the_buffer_holds_readings() {
    let dir = tempfile::tempdir().unwrap();
    let mut random = fastrand::Rng::with_seed(3);
    let mut store = open(dir.path(), &['a']).unwrap();
    write_everything(&mut store, &mut random);
    drop(store);
    let mut store = open(dir.path(), &['b', 'a']).unwrap();
    store.commit(&super::test_support::commit(vec![draft(Stream::Readings, 500, 4_000, &mut random)])).unwrap();
    assert_eq!(store.blocks(Stream::Readings, 0, 16).unwrap().len(), 2);
    drop(store);
    // The ledger is under the fresh key now, what the chunk holds from before is not: its reader says so and waits.
    let error = open(dir.path(), &['b']).err().unwrap();
    assert!(matches!(&error, BufferError::Locked(_)), "{error}");
    assert_eq!(open(dir.path(), &['b', 'a']).unwrap().blocks(Stream::Readings, 0, 16).unwrap().len(), 2);
}

#[test]
fn a_store_that_runs_goes_on_under_its_keys_though_the_key_file_has_changed() {
    let dir = tempfile::tempdir().unwrap();
    let mut random = fastrand::Rng::with_seed(3);
    let mut store = open(dir.path(), &['a']).unwrap();
    write_everything(&mut store, &mut random);
    store.reconfigure(super::StoreOptions { cipher: cipher(&['b']), ..options(dir.path(), 256 * MIB) }).unwrap();
    store.seal_for_test();
    write_everything(&mut store, &mut random);
    drop(store);
    assert_eq!(open(dir.path(), &['a']).unwrap().blocks(Stream::Readings, 0, 16).unwrap().len(), 2);
}

#[test]
fn switching_encryption_on_keeps_what_was_stored_before() {
    let dir = tempfile::tempdir().unwrap();
    let mut random = fastrand::Rng::with_seed(4);
    let mut store = DiskStore::open(options(dir.path(), 256 * MIB), clock()).unwrap().0;
    write_everything(&mut store, &mut random);
    drop(store);
    let mut store = open(dir.path(), &['a']).unwrap();
    store.commit(&super::test_support::commit(vec![draft(Stream::Readings, 500, 4_000, &mut random)])).unwrap();
    let blocks = store.blocks(Stream::Readings, 0, 16).unwrap();
    assert_eq!(blocks.iter().map(|block| block.meta.first_time_us).collect::<Vec<_>>(), [NOW_US - 2; 2]);
    assert_eq!(store.lane("cloud", Stream::Readings).unwrap().revision, 1);
}
