//! A short fault campaign: `make crash ROUNDS=1000` is the long one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use e2e::books::{Entry, Verdict};
use e2e::chance;
use e2e::crash::tally::{Faults, Totals};
use e2e::crash::{self, Options};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn twenty_deaths_among_troubles_lose_repeat_and_reorder_nothing() {
    let (_, seed) = chance::seeded();
    let mut totals = Totals::default();
    let options = Options { rounds: 20, stretch: 20, gateways: 2, seed };
    crash::run(options, |words| eprintln!("{words}"), |tally| crash::add(&mut totals, tally)).await;
    eprintln!("{totals}");
    assert!(totals.is_clean(), "E2E_SEED={seed}: {totals}");
    assert_eq!(totals.rounds, 20);
    assert!(totals.acknowledged > 0 && totals.polled > 0, "{totals}");
    assert_eq!(totals.sinks.len(), 2);
}

#[test]
fn the_tally_sees_what_is_lost_repeated_reordered_and_a_hole() {
    let entry = |counter| Entry::new("mill", "count", counter);
    let verdict = Verdict::new((0..6).map(entry), [0, 2, 1, 3, 3, 9].map(entry));
    let faults = Faults::of(&verdict, "Kafka");
    assert_eq!((faults.lost, faults.repeated, faults.reordered), (2, 2, 1), "{faults:?}");
    let reading = |seq: u64| json!({"gateway": "g0", "epoch": "e", "seq": seq});
    assert!(Faults::of_sequences(&[4, 6, 5].map(reading)).is_none());
    assert_eq!(Faults::of_sequences(&[4, 6].map(reading)).other, 1);
    assert_eq!(Faults::of_sequences(&[4, 4, 5].map(reading)).other, 1);
}
