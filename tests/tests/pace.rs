//! When commits depart, seen from outside: a slow source spares the card, a broker that waits does not wait long.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use e2e::gateway::Gateway;
use e2e::mosquitto::{Broker, BrokerOptions, Publisher};
use e2e::wait;
use tokio::time::{Instant, sleep_until};

/// Longer than a broker that waits takes on a busy machine, and far below what it would take by the interval alone.
const LIMIT: Duration = Duration::from_mins(1);

const SUBSCRIPTION: &str = r#"
    [[source.subscribe]]
    filter = "plant/+/+"
    device = "{2}"
    point = "{3}"
    payload = { format = "json", value = "/value" }
"#;

/// A broker with a window of so many messages, and a gateway that is to read from it.
async fn plant(window: u16) -> (Broker, Gateway) {
    let broker = Broker::start_with(&BrokerOptions { max_inflight_messages: window, ..BrokerOptions::default() }).await;
    broker.remember("forebay-e2e-broker", &["plant/+/+"]).await;
    let url = broker.url();
    let source = format!("[[source]]\ntype = \"mqtt\"\nname = \"broker\"\nurl = \"{url}\"\n{SUBSCRIPTION}");
    let gateway = Gateway::prepare(&source);
    (broker, gateway)
}

async fn stored(gateway: &Gateway) -> u64 {
    gateway.status().await["buffer"]["streams"]["readings"]["next"].as_u64().unwrap()
}

async fn commits(gateway: &Gateway) -> u64 {
    let (_, metrics) = gateway.get("/metrics").await;
    let line = metrics.lines().find(|line| line.starts_with("forebay_commits_total")).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

/// Has so many messages wait at a broker with this window, and waits until the gateway has stored them. (mosquitto 2.0.11 keeps to a
/// window of one alone; the tests of ingest have a sender that keeps to a larger one.)
async fn store_backlog(window: u16, count: u64) {
    let (broker, mut gateway) = plant(window).await;
    let publisher = Publisher::connect(&broker, "fast");
    for number in 0..count {
        publisher.publish("plant/mill/count", format!("{{\"value\":{number}}}")).await;
    }
    publisher.all_acknowledged(LIMIT).await;
    gateway.start_again().await;
    wait::until_some("the gateway to store every message", LIMIT, || async {
        (stored(&gateway).await == count).then_some(())
    })
    .await;
    eprintln!("{count} messages by a window of {window} took {} commits", commits(&gateway).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_sends_one_message_at_a_time_gets_each_acknowledgement_at_once() {
    // By the interval of 2 s that would be 20 minutes.
    store_backlog(1, 600).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_with_a_window_of_20_keeps_its_speed() {
    // By the shorter interval of 200 ms that would be over three minutes.
    store_backlog(20, 20_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_with_a_window_of_1000_keeps_its_speed() {
    // By the interval of 2 s that would be over three minutes.
    store_backlog(1_000, 100_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_source_costs_one_commit_per_interval_and_not_one_per_message() {
    let (broker, mut gateway) = plant(20).await;
    gateway.start_again().await;
    let publisher = Publisher::connect(&broker, "slow");
    let before = commits(&gateway).await;
    let begun = Instant::now();
    for number in 0..60_u32 {
        sleep_until(begun + Duration::from_millis(100) * number).await;
        publisher.publish("plant/mill/count", format!("{{\"value\":{number}}}")).await;
    }
    wait::until_some("the gateway to store every message", LIMIT, || async {
        (stored(&gateway).await == 60).then_some(())
    })
    .await;
    let commits = commits(&gateway).await - before;
    // 6 s are three intervals; a few more are what it costs to learn that the source does not wait.
    assert!(commits <= 20, "60 messages cost {commits} commits");
}
