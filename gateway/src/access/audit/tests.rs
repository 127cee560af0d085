//! What is written is read again, whatever else is in the file.

use super::reading::entries_backwards;
use super::*;
use proptest::prelude::*;
use std::fs::{self, OpenOptions};
use tempfile::TempDir;

fn log() -> (TempDir, Audit) {
    let dir = tempfile::tempdir().unwrap();
    let audit = Audit::new(dir.path());
    (dir, audit)
}

fn deed(subject: &str, detail: &str) -> Deed {
    Deed {
        who: Who::tool(),
        from: None,
        action: Action::Operated,
        subject: subject.to_owned(),
        detail: detail.to_owned(),
    }
}

fn subjects(audit: &Audit) -> Vec<String> {
    let page = audit.page(None, PAGE_ENTRIES_MAX, &AuditFilter::default()).unwrap();
    page.entries.into_iter().map(|entry| entry.subject).collect()
}

#[test]
fn a_line_torn_by_a_power_cut_is_passed_over_and_swallows_nothing() {
    let (dir, audit) = log();
    audit.append(deed("one", ""), 1).unwrap();
    audit.append(deed("two", ""), 2).unwrap();
    let file = OpenOptions::new().write(true).open(dir.path().join("audit.ndjson")).unwrap();
    file.set_len(file.metadata().unwrap().len() - 5).unwrap();
    assert_eq!(subjects(&audit), ["one"]);
    audit.append(deed("three", ""), 3).unwrap();
    assert_eq!(subjects(&audit), ["three", "one"]);
}

#[test]
fn pages_follow_one_another_without_hole_or_repetition_across_files() {
    let (dir, mut audit) = log();
    audit.file_bytes_max = 2_000;
    for number in 0..50 {
        audit.append(deed(&format!("{number}"), &"x".repeat(20)), number).unwrap();
    }
    let kept = fs::read_dir(dir.path())
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().ends_with(".ndjson"));
    assert_eq!(kept.count(), FILES_MAX);
    let (mut before, mut seen) = (None, Vec::new());
    loop {
        let page = audit.page(before, 7, &AuditFilter::default()).unwrap();
        seen.extend(page.entries.into_iter().map(|entry| entry.number));
        before = page.before;
        if before.is_none() {
            break;
        }
    }
    let expected: Vec<u64> = (51 - seen.len() as u64..=50).rev().collect();
    assert_eq!(seen, expected);
    assert!(seen.len() > 30, "{}", seen.len());
    let put_aside = audit.take_put_aside().unwrap();
    assert!(put_aside.since_us < put_aside.at_us && put_aside.at_us < 50, "{put_aside:?}");
    assert_eq!(audit.take_put_aside(), None, "told once");
}

#[test]
fn only_what_is_asked_for_is_found() {
    let (_dir, audit) = log();
    for (at_us, subject) in [(10, "boiler"), (20, "pump"), (30, "Boiler room")] {
        audit.append(deed(subject, "made warmer"), at_us).unwrap();
    }
    let found = |filter: AuditFilter| audit.page(None, 10, &filter).unwrap().entries.len();
    assert_eq!(found(AuditFilter { text: Some("BOILER".to_owned()), ..AuditFilter::default() }), 2);
    assert_eq!(found(AuditFilter { since_us: Some(20), until_us: Some(30), ..AuditFilter::default() }), 1);
    assert_eq!(found(AuditFilter { who: Some("Root on this machine".to_owned()), ..AuditFilter::default() }), 3);
    assert_eq!(found(AuditFilter { who: Some("root".to_owned()), ..AuditFilter::default() }), 0);
    assert_eq!(found(AuditFilter { action: Some(Action::SetUp), ..AuditFilter::default() }), 0);
}

#[test]
fn a_detail_that_is_too_long_is_cut_between_characters() {
    let (_dir, audit) = log();
    let entry = audit.append(deed("one", &"ü".repeat(DETAIL_BYTES_MAX)), 1).unwrap();
    assert!(entry.detail.len() <= DETAIL_BYTES_MAX && entry.detail.ends_with("ü…"));
    let entry = audit.append(deed("two", &"\u{1}".repeat(DETAIL_BYTES_MAX)), 2).unwrap();
    assert_eq!(entry.number, 2, "the last number is found behind a long line");
    audit.append(deed("three", ""), 3).unwrap();
    audit.append(deed("four", &"\u{1}".repeat(DETAIL_BYTES_MAX)), 4).unwrap();
    assert_eq!(audit.append(deed("five", ""), 5).unwrap().number, 5);
}

#[test]
fn an_action_of_a_later_version_is_still_an_entry() {
    let line = br#"{"number":7,"at_us":1,"who":"Eva","kind":"person","action":"taught_to_sing","later":true}"#;
    let entry = entries_backwards(line).next().unwrap();
    assert_eq!((entry.number, entry.action), (7, Action::Other));
}

proptest! {
    #[test]
    fn whatever_lies_in_the_file_reading_finds_the_entries_and_nothing_breaks(
        junk in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..6),
        detail in ".{0,200}",
    ) {
        let (dir, audit) = log();
        let mut bytes = junk.join(&b'\n');
        let junk_entries = entries_backwards(&bytes).count();
        prop_assert_eq!(junk_entries, 0);
        fs::write(dir.path().join("audit.ndjson"), &bytes).unwrap();
        let written = audit.append(deed("one", &detail), 5).unwrap();
        prop_assert_eq!(&written.detail, &detail);
        bytes = fs::read(dir.path().join("audit.ndjson")).unwrap();
        let read: Vec<Entry> = entries_backwards(&bytes).collect();
        prop_assert_eq!(read, vec![written]);
    }

    #[test]
    fn a_file_cut_anywhere_keeps_every_whole_line(cut_at in 0_usize..1_000) {
        let (dir, audit) = log();
        for number in 0..5 {
            audit.append(deed(&format!("{number}"), "some detail\nof two lines"), number).unwrap();
        }
        let path = dir.path().join("audit.ndjson");
        let mut bytes = fs::read(&path).unwrap();
        bytes.truncate(cut_at);
        // A line whose end alone is missing is whole.
        let lines = bytes.split(|byte| *byte == b'\n').count() - 1;
        fs::write(&path, &bytes).unwrap();
        let left = subjects(&audit).len();
        prop_assert!(left == lines || left == lines + 1, "{} of {}", left, lines);
        audit.append(deed("after", ""), 9).unwrap();
        prop_assert_eq!(subjects(&audit).len(), left + 1);
    }
}
