//! What is complete, and what is not.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use proptest::prelude::*;

fn reading(seq: u64, batch: &str, of: u64) -> String {
    format!(
        r#"{{"v":1,"gateway":"g","epoch":"e","seq":{seq},"device":"d{}","batch":"readings/{batch}","batch_records":{of}}}"#,
        seq % 3
    )
}

fn gap(seq: u64, first: u64, last: u64, sink: &str) -> String {
    format!(
        r#"{{"v":1,"kind":"gap","gateway":"g","epoch":"e","seq":{seq},"stream":"readings","reason":"cap","first":{first},"last":{last},"sinks":[{{"sink":"{sink}","first":{first},"last":{last},"count":1}}],"batch":"gaps/0-99"}}"#
    )
}

fn refusal(seq: u64, refused: u64) -> String {
    format!(
        r#"{{"v":1,"kind":"dead_letter","gateway":"g","epoch":"e","seq":{seq},"source":"sink/cloud","position":"readings/{refused}","batch":"dead-letters/0-99"}}"#
    )
}

fn verify(sink: Option<&str>, lines: &[String]) -> StreamReport {
    let mut verifier = Verifier::new(sink.map(str::to_owned));
    for line in lines {
        verifier.take(line.as_bytes()).unwrap();
    }
    verifier.reports().into_iter().find(|report| report.name.stream == "readings").unwrap()
}

#[test]
fn a_stream_without_holes_is_complete_and_a_hole_is_named() {
    let mut lines: Vec<_> = (10..20).map(|seq| reading(seq, "10-19", 10)).collect();
    assert!(verify(None, &lines).is_complete());
    lines.remove(4);
    let report = verify(None, &lines);
    assert_eq!((report.missing, report.holes), (1, vec![SequenceRange { first: 14, last: 14 }]));
}

#[test]
fn a_stream_that_was_there_from_the_first_record_on_must_explain_its_beginning() {
    let verify_all = |lines: &[String]| {
        let mut verifier = Verifier::new(Some("cloud".to_owned())).with_beginning();
        for line in lines {
            verifier.take(line.as_bytes()).unwrap();
        }
        verifier.reports().into_iter().find(|report| report.name.stream == "readings").unwrap()
    };
    let mut lines = vec![reading(4, "4-4", 1)];
    assert_eq!(verify_all(&lines).missing, 4);
    lines.push(gap(0, 0, 3, "cloud"));
    assert!(verify_all(&lines).is_complete());
}

#[test]
fn a_gap_explains_what_is_missing_to_the_sink_that_lost_it_and_to_no_other() {
    let lines = [reading(0, "0-0", 1), gap(0, 1, 3, "cloud"), reading(4, "4-4", 1)];
    let report = verify(Some("cloud"), &lines);
    assert!(report.is_complete());
    assert_eq!(report.lost, BTreeMap::from([("cap".to_owned(), 3)]));
    assert_eq!(verify(Some("plant"), &lines).missing, 3);
}

#[test]
fn what_a_sink_refused_is_explained_by_its_dead_letter() {
    let lines = [reading(0, "0-2", 3), refusal(0, 1), reading(2, "0-2", 3)];
    let report = verify(Some("cloud"), &lines);
    assert!(report.is_complete());
    assert_eq!(report.refused, 1);
    assert_eq!(verify(None, &[reading(0, "0-2", 3), reading(2, "0-2", 3)]).missing, 1);
}

#[test]
fn a_complete_batch_proves_that_what_it_leaves_out_was_not_for_this_sink() {
    let lines = [reading(3, "0-9", 2), reading(7, "0-9", 2), reading(10, "10-12", 1)];
    let report = verify(None, &lines);
    assert!(report.is_complete());
    assert_eq!((report.filtered, report.range.unwrap().first), (5, 3));
    let report = verify(None, &[reading(3, "0-9", 3), reading(7, "0-9", 3), reading(10, "10-12", 1)]);
    assert_eq!((report.missing, report.filtered), (5, 0));
}

#[test]
fn repeated_and_reordered_records_are_counted_and_history_has_an_order_of_its_own() {
    let history = |seq| reading(seq, "0-9", 10).replace("\"batch\"", "\"lane\":\"history\",\"batch\"");
    let lines = [reading(9, "9-9", 1), history(0), history(3), history(6)];
    assert_eq!(verify(None, &lines).reordered, 0);
    let lines = [reading(3, "0-3", 4), reading(0, "0-3", 4), reading(3, "0-3", 4)];
    let report = verify(None, &lines);
    assert_eq!((report.repeated, report.reordered, report.records), (1, 1, 2));
}

#[test]
fn a_replay_proves_nothing() {
    let mut verifier = Verifier::new(None);
    verifier.take(reading(0, "0-0", 1).replace("\"batch\"", "\"replay\":\"7\",\"batch\"").as_bytes()).unwrap();
    assert_eq!((verifier.replayed(), verifier.reports().len()), (1, 0));
}

#[test]
fn what_is_no_record_is_named() {
    let mut verifier = Verifier::new(None);
    for (json, word) in [
        ("{", "no record"),
        (r#"{"v":2,"gateway":"g","epoch":"e","seq":1,"batch":"readings/0-1"}"#, "version 2"),
        (r#"{"v":1,"gateway":"g","epoch":"e","seq":9,"batch":"readings/0-1"}"#, "`batch`"),
        (r#"{"v":1,"gateway":"g","epoch":"e","seq":1,"batch":"readings/3-1"}"#, "`batch`"),
        (r#"{"v":1,"gateway":"g","epoch":"e","seq":1,"kind":"gap","batch":"gaps/0-1"}"#, "`stream, reason"),
    ] {
        let error = verifier.take(json.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
}

proptest! {
    /// Whatever a sink takes, loses and refuses: with the words of the gateway it is complete, and without any one of them it is not.
    #[test]
    fn every_sequence_counts(fates in prop::collection::vec(0_u8..4, 2..60), leave_out: prop::sample::Index) {
        let mut fates = fates;
        *fates.first_mut().unwrap() = 0;
        *fates.last_mut().unwrap() = 0;
        let batch = format!("0-{}", fates.len() - 1);
        // Refused records were for this sink; lost ones were never rendered.
        let of = fates.iter().filter(|fate| matches!(fate, 0 | 2)).count() as u64;
        let lines: Vec<String> = (0_u64..).zip(&fates).filter_map(|(seq, fate)| match fate {
            0 => Some(reading(seq, &batch, of)),
            1 => Some(gap(seq, seq, seq, "cloud")),
            2 => Some(refusal(seq, seq)),
            _ => None,
        }).collect();
        let report = verify(Some("cloud"), &lines);
        prop_assert!(report.is_complete(), "{report:?}");
        let taken: Vec<usize> = lines.iter().enumerate().filter(|(_, line)| line.contains("device")).map(|(at, _)| at).collect();
        let inner = taken.get(1..taken.len() - 1).unwrap_or_default();
        if !inner.is_empty() {
            let mut lines = lines.clone();
            lines.remove(*leave_out.get(inner));
            prop_assert!(!verify(Some("cloud"), &lines).is_complete());
        }
    }

    #[test]
    fn any_bytes_are_counted_or_refused(json: Vec<u8>) {
        Verifier::new(None).take(&json).ok();
    }
}

#[test]
fn the_record_of_a_try_out_is_of_no_stream() {
    let mut verifier = Verifier::default();
    verifier.take(reading(0, "0-0", 1).replace("\"batch\"", "\"test\":true,\"batch\"").as_bytes()).unwrap();
    assert_eq!(verifier.reports(), []);
}
