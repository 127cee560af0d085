//! Books and records are durable together: after any end the one tells of the other.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::disk_store::DiskStore;
use super::store::Store as _;
use super::test_support::{MIB, clock, draft, open, options};
use super::{Books, Commit};
use crate::reading::Stream;
use crate::status::SourceBooks;
use std::collections::BTreeMap;

fn sources(accepted: u64) -> BTreeMap<String, SourceBooks> {
    let books = SourceBooks { received: accepted + 2, accepted, duplicate: 2, ..SourceBooks::default() };
    BTreeMap::from([("bus".to_owned(), books)])
}

fn assert_close(store: &DiskStore, books: &Books) {
    assert_eq!(books.faults(store.ends().map(|ends| ends.next)), Vec::<String>::new());
}

#[test]
fn the_newest_books_are_found_in_whatever_family_they_lie() {
    let dir = tempfile::tempdir().unwrap();
    let mut random = fastrand::Rng::with_seed(1);
    let (mut store, _) = open(dir.path());
    for (stream, accepted) in [(Stream::Readings, 20), (Stream::Alerts, 20), (Stream::Readings, 40)] {
        let drafts = vec![draft(stream, 20, 100, &mut random)];
        store.commit(&Commit { drafts, books: Some(sources(accepted)), ..Commit::default() }).unwrap();
        drop(store);
        let (again, opened) = open(dir.path());
        assert_eq!(opened.books.sources, sources(accepted), "after {stream}");
        assert_close(&again, &opened.books);
        store = again;
    }
    // Also where nothing was to be stored: what came again counts.
    let mut books = sources(40);
    for books in books.values_mut() {
        books.received += 5;
        books.duplicate += 5;
    }
    store.commit(&Commit { books: Some(books), ..Commit::default() }).unwrap();
    drop(store);
    let (store, opened) = open(dir.path());
    assert_eq!(opened.books.sources.get("bus").map(|books| books.duplicate), Some(7));
    assert_close(&store, &opened.books);
}

#[test]
fn records_whose_commit_never_finished_are_recovered_and_the_books_close() {
    let dir = tempfile::tempdir().unwrap();
    let mut random = fastrand::Rng::with_seed(2);
    let (mut store, _) = open(dir.path());
    let drafts = vec![draft(Stream::Readings, 20, 100, &mut random)];
    store.commit(&Commit { drafts, books: Some(sources(20)), ..Commit::default() }).unwrap();
    // The process ends between the first family of a commit and its last.
    store.append_half_for_test(&[draft(Stream::Alerts, 3, 100, &mut random)]);
    drop(store);
    for _ in 0..2 {
        let (store, opened) = open(dir.path());
        assert_eq!(opened.books.streams[Stream::Alerts.index()].recovered, 3);
        assert_eq!(opened.books.streams[Stream::Readings.index()].recovered, 0);
        assert_close(&store, &opened.books);
    }
}

#[test]
fn books_outlive_the_chunk_that_they_were_in() {
    let dir = tempfile::tempdir().unwrap();
    let mut random = fastrand::Rng::with_seed(3);
    let open = || DiskStore::open(options(dir.path(), 8 * MIB), clock()).unwrap();
    let (mut store, _) = open();
    let mut accepted = 0;
    // Chunks of 2 MiB fill up and go; the books go on.
    for _ in 0..1_500 {
        accepted += 500;
        let drafts = vec![draft(Stream::Readings, 500, 6_000, &mut random)];
        store.commit(&Commit { drafts, books: Some(sources(accepted)), ..Commit::default() }).unwrap();
    }
    assert!(store.ends()[Stream::Readings.index()].oldest > 0, "chunks were given up");
    drop(store);
    let (store, opened) = open();
    assert_eq!(opened.books.sources, sources(accepted));
    assert_close(&store, &opened.books);
}
