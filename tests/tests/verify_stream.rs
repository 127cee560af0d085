//! A consumer proves from the records alone that nothing is missing.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use e2e::gateway::{ToolOutput, tool};
use e2e::plant::Plant;
use e2e::wait;
use serde_json::Value;

const LIMIT: Duration = Duration::from_mins(2);

/// Every record that the receiver holds, as a consumer would keep them: one file.
fn lines(plant: &Plant) -> Vec<String> {
    let streams = ["readings", "alerts", "gaps", "dead-letters"];
    streams.into_iter().flat_map(|stream| plant.receiver.stream(stream)).map(|record| record.to_string()).collect()
}

async fn verify(plant: &Plant, lines: &[String]) -> ToolOutput {
    let path = plant.gateway.data_dir().join("consumed.ndjson");
    std::fs::write(&path, lines.join("\n")).unwrap();
    tool(&["verify-stream", "--sink", "cloud", path.to_str().unwrap()]).await
}

fn position(lines: &[String], is_it: impl Fn(&Value) -> bool) -> usize {
    lines.iter().position(|line| is_it(&serde_json::from_str(line).unwrap())).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_arrived_is_proven_complete_and_a_record_taken_away_is_missed() {
    let mut plant = Plant::start("linger_ms = 50", "").await;
    plant.receiver.refuse(|reading| reading["value"] == 321);
    plant.publish(700).await;
    plant.gateway.kill_and_start_again().await;
    plant.publish(300).await;
    plant.all_delivered().await;
    wait::until("the dead letter", LIMIT, || plant.receiver.count("dead-letters") > 0).await;

    let all = lines(&plant);
    let said = verify(&plant, &all).await.success();
    assert!(said.contains("999 records, 0-999: complete, each once, in order"), "{said}");
    assert!(said.contains("1 refused, and told as dead letters"), "{said}");

    let mut without = all.clone();
    without.remove(position(&all, |record| record["seq"] == 500 && record["value"].is_i64()));
    let said = verify(&plant, &without).await;
    assert_eq!(said.code, Some(1));
    assert!(said.out.contains("NOT COMPLETE") && said.out.contains("1 MISSING without a word: 500-500"), "{said:#?}");

    let mut without_letter = all.clone();
    without_letter.remove(position(&all, |record| record["kind"] == "dead_letter"));
    let said = verify(&plant, &without_letter).await;
    assert!(said.code == Some(1) && said.out.contains("MISSING without a word: 321-321"), "{said:#?}");

    let twice: Vec<String> = all.iter().chain([&all[3]]).cloned().collect();
    let said = verify(&plant, &twice).await;
    assert!(said.code == Some(1) && said.out.contains("1 repeated"), "{said:#?}");

    let said = verify(&plant, &["{\"hello\":1}".to_owned()]).await;
    assert!(
        said.code == Some(1) && said.err.contains("consumed.ndjson:1: it is no record of this format"),
        "{said:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_gets_a_part_only_proves_that_it_got_all_of_its_part() {
    let mut plant = Plant::start("linger_ms = 50\npoints = [\"mill/odd\"]", "").await;
    plant.publish(200).await;
    plant.publish_on("plant/mill/odd", 50).await;
    plant.publish(200).await;
    plant.publish_on("plant/mill/odd", 50).await;
    wait::until("what is routed there", LIMIT, || plant.receiver.count("readings") == 100).await;

    let all = lines(&plant);
    let said = verify(&plant, &all).await.success();
    assert!(said.contains("not for this sink (their batches are complete)"), "{said}");
    let mut without = all.clone();
    without.remove(position(&all, |record| record["point"] == "odd" && record["value"] == 220));
    let said = verify(&plant, &without).await;
    assert!(said.code == Some(1) && said.out.contains("MISSING"), "{said:#?}");
}
