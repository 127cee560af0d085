//! Replays: records of the past are sent once more, each once, whatever happens, and the sink's own delivery does not notice.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::time::Duration;

use e2e::gateway::Gateway;
use e2e::kafka::Kafka;
use e2e::mosquitto::Publisher;
use e2e::plant::Plant;
use e2e::receiver::Answer;
use e2e::wait;
use serde_json::Value;

/// Longer than anything in these tests takes on a busy machine.
const LIMIT: Duration = Duration::from_mins(3);

/// The readings of each of two points.
const READINGS: u64 = 5_000;

/// Small requests and transactions, so that a replay has hundreds of them.
const SMALL: &str = "linger_ms = 50\nbatch_max = \"16 KiB\"";

/// Publishes on two points in turn and waits until the gateway has stored all of it.
async fn publish_two_points(plant: &mut Plant) {
    let others = Publisher::connect(&plant.broker, "others");
    let rounds = i64::try_from(READINGS / 500).unwrap();
    for round in 0..rounds {
        plant.publish(500).await;
        for count in 0..500 {
            others.publish("plant/mill/other", format!("{{\"value\":{}}}", round * 500 + count)).await;
        }
        others.all_acknowledged(LIMIT).await;
    }
    let gateway = &plant.gateway;
    wait::until_some("every reading to be stored", LIMIT, || async {
        let status = gateway.status().await;
        (status["buffer"]["streams"]["readings"]["next"].as_u64()? >= 2 * READINGS).then_some(())
    })
    .await;
}

async fn all_delivered(gateway: &Gateway, sinks: &[&str]) {
    for sink in sinks {
        wait::until_some("the sink to deliver everything", LIMIT, || gateway.sink_at_the_end(sink)).await;
    }
}

/// The line of a replay in `forebay replay --list`.
async fn listed(gateway: &Gateway, id: u32) -> String {
    let answer = gateway.tool(&["replay", "--list"]).await;
    let line = answer.out.lines().find(|line| line.starts_with(&format!("replay {id} "))).unwrap_or_default();
    line.to_owned()
}

/// How many records it has sent, by its line.
fn sent(line: &str) -> u64 {
    let words: Vec<&str> = line.split(' ').collect();
    let at = words.windows(3).position(|three| three[1] == "records" && three[2].starts_with("sent"));
    at.and_then(|at| words[at].parse().ok()).unwrap_or(0)
}

/// How often each value of a point came, replayed or not.
fn counts<'a>(records: impl IntoIterator<Item = &'a Value>, point: &str, replay: Option<&str>) -> BTreeMap<u64, u64> {
    let mut counts = BTreeMap::new();
    for record in records.into_iter().filter(|record| record["point"] == point && record["replay"].as_str() == replay) {
        *counts.entry(record["value"].as_u64().unwrap()).or_insert(0) += 1;
    }
    counts
}

fn each_once(last: u64) -> BTreeMap<u64, u64> {
    (0..last).map(|value| (value, 1)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn delivered_readings_are_replayed_once_to_http_and_kafka_though_the_gateway_is_killed_in_the_middle() {
    let kafka = Kafka::start().await;
    let sink = format!(
        "[[sink]]\ntype = \"kafka\"\nname = \"kafka\"\nbrokers = [\"{}\"]\ntopic_prefix = \"plant\"\n{SMALL}\n",
        kafka.address()
    );
    let mut plant = Plant::start(SMALL, &sink).await;
    publish_two_points(&mut plant).await;
    all_delivered(&plant.gateway, &["cloud", "kafka"]).await;
    let before: Vec<Value> = vec![plant.sink().await, plant.gateway.status_of("sinks", "kafka").await];

    for (id, sink) in [(1, "cloud"), (2, "kafka")] {
        let ask = ["replay", "--sink", sink, "--from", "1 h ago", "--points", "mill/c*", "--no-wait"];
        let told = plant.gateway.tool(&ask).await.success();
        assert!(told.contains(&format!("replay {id} to {sink}: readings of mill/c*")), "{told}");
    }
    let gateway = &plant.gateway;
    wait::until_some("both replays to be under way", LIMIT, || async {
        let (http, kafka) = (listed(gateway, 1).await, listed(gateway, 2).await);
        (sent(&http) >= 100 && sent(&kafka) >= 100).then_some(())
    })
    .await;
    plant.gateway.kill_and_start_again().await;
    // Life goes on beside the replays.
    plant.publish(100).await;
    let gateway = &plant.gateway;
    for id in [1, 2] {
        wait::until_some("the replay to end", LIMIT, || async {
            listed(gateway, id).await.contains(": done, ").then_some(())
        })
        .await;
        let line = listed(gateway, id).await;
        assert_eq!(sent(&line), READINGS, "{line}");
        assert!(!line.contains("not on disk") && !line.contains("refused"), "{line}");
    }
    plant.all_delivered().await;
    all_delivered(&plant.gateway, &["cloud", "kafka"]).await;

    let received = plant.receiver.stream("readings");
    assert_eq!(counts(&received, "count", Some("1")), each_once(READINGS), "replayed to HTTP");
    assert_eq!(counts(&received, "other", Some("1")), BTreeMap::new(), "only what was asked for");
    assert_eq!(counts(&received, "count", None), each_once(READINGS + 100), "delivered to HTTP");
    assert_eq!(counts(&received, "other", None), each_once(READINGS));
    assert_eq!(plant.receiver.conflicts(), Vec::<String>::new(), "a retry must be the same bytes");
    let requests = plant.receiver.requests();
    let keys: Vec<&str> = requests.iter().filter_map(|request| request.key.as_deref()).collect();
    let is_replay = |key: &&&str| key.contains("/cloud/readings/") && key.ends_with("/replay-1");
    assert!(keys.iter().filter(is_replay).count() > 20, "a replay has keys of its own");

    let parse = |record: &e2e::kafka::Record| serde_json::from_slice(record.value.as_ref().unwrap()).unwrap();
    let replayed: Vec<Value> = kafka.read_committed("plant.replay").await.iter().map(parse).collect();
    assert_eq!(counts(&replayed, "count", Some("2")), each_once(READINGS), "replayed to Kafka");
    assert_eq!(replayed.len() as u64, READINGS, "nothing else is on the topic");
    let delivered: Vec<Value> = kafka.read_committed("plant.readings").await.iter().map(parse).collect();
    assert_eq!(counts(&delivered, "count", None), each_once(READINGS + 100), "delivered to Kafka");
    assert_eq!(counts(&delivered, "other", None), each_once(READINGS));

    let after: Vec<Value> = vec![plant.sink().await, plant.gateway.status_of("sinks", "kafka").await];
    for (before, after) in before.iter().zip(&after) {
        let delivered = |sink: &Value| sink["streams"]["readings"]["delivered"].as_u64().unwrap();
        assert_eq!(delivered(after), delivered(before) + 100, "a replay counts in no books");
    }
    let books = plant.gateway.tool(&["buffer", "stats"]).await.success();
    assert!(!books.contains("DO NOT CLOSE"), "{books}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_is_shown_until_its_end_and_can_be_called_off() {
    let mut plant = Plant::start(SMALL, "").await;
    plant.publish(1_000).await;
    plant.all_delivered().await;
    let whole = plant.gateway.tool(&["replay", "--sink", "cloud", "--from", "1 h ago"]).await.success();
    assert!(whole.lines().last().unwrap().contains(": done, 1000 records sent"), "{whole}");
    let nothing = ["replay", "--sink", "cloud", "--from", "3 h ago", "--to", "2 h ago"];
    assert!(plant.gateway.tool(&nothing).await.success().contains(": done, 0 records sent"));

    // An endpoint that never answers holds it up.
    plant.receiver.answer(Answer::Status(503, None));
    let stuck = ["replay", "--sink", "cloud", "--from", "1 h ago", "--no-wait"];
    assert_eq!(plant.gateway.tool(&stuck).await.code, Some(0));
    let gateway = &plant.gateway;
    wait::until_some("the reason to be told", LIMIT, || async {
        listed(gateway, 3).await.contains("waiting: ").then_some(())
    })
    .await;
    let told = plant.gateway.tool(&["replay", "--cancel", "3"]).await.success();
    assert!(told.contains("called off, 0 records sent"), "{told}");
    plant.receiver.answer(Answer::Apply);
    plant.publish(10).await;
    plant.all_delivered().await;
    assert_eq!(plant.receiver.stream("readings").len(), 2_010, "nothing of a replay that was called off arrives");

    for (wrong, told) in [
        (vec!["--sink", "clod", "--from", "1 h ago"], "there are: cloud"),
        (vec!["--sink", "cloud", "--from", "lately"], "\"2 h ago\""),
        (vec!["--sink", "cloud", "--from", "1 h ago", "--to", "2 h ago"], "after the time to end with"),
        (vec!["--sink", "cloud", "--from", "1 h ago", "--points", "mill"], "device/point"),
        (vec!["--cancel", "99"], "there is no replay 99"),
        (vec!["--cancel", "1"], "has ended already"),
    ] {
        let answer = plant.gateway.tool(&[&["replay"][..], &wrong].concat()).await;
        assert_eq!(answer.code, Some(1), "{answer:?}");
        assert!(answer.err.contains(told), "{wrong:?}: {}", answer.err);
    }
    plant.gateway.kill();
    let answer = plant.gateway.tool(&["replay", "--list"]).await;
    assert!(answer.err.contains("start it first"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_ends_when_its_sink_is_removed_and_brings_no_stream_that_does_not_go_there() {
    let mut plant = Plant::start(&format!("{SMALL}\nstreams = [\"readings\"]"), "").await;
    plant.publish(10).await;
    plant.all_delivered().await;
    let of_gaps = ["replay", "--sink", "cloud", "--stream", "gaps", "--from", "1 h ago"];
    let refused = plant.gateway.tool(&of_gaps).await;
    assert!(refused.err.contains("gaps do not go to sink \"cloud\""), "{refused:?}");

    // An endpoint that never answers holds it up.
    plant.receiver.answer(Answer::Status(503, None));
    let stuck = ["replay", "--sink", "cloud", "--from", "1 h ago", "--no-wait"];
    assert_eq!(plant.gateway.tool(&stuck).await.code, Some(0));
    let text = std::fs::read_to_string(plant.gateway.config_path()).unwrap();
    plant.gateway.configure_verbatim(&text.replace("name = \"cloud\"", "name = \"other\""));
    assert_eq!(plant.gateway.tool(&["reload"]).await.code, Some(0));
    let line = listed(&plant.gateway, 2).await;
    assert!(line.contains("ended: there is no sink \"cloud\" any more"), "{line}");
}
