//! Data directories that are lost, restored, cloned or share a name, before a real Kafka: nothing is swallowed, nothing repeated, and
//! whoever stands still says why.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use e2e::arrivals::of_topic;
use e2e::books::{Entry, Verdict};
use e2e::fault_proxy::{Fault, FaultProxy};
use e2e::gateway::Gateway;
use e2e::kafka::Kafka;
use e2e::mosquitto::{Broker, Publisher};
use e2e::ports::Port;
use e2e::wait;
use serde_json::Value;
use tokio::time::Instant;

/// Longer than anything in these tests takes on a busy machine, a paused sink's minute included.
const LIMIT: Duration = Duration::from_mins(3);

/// A gateway with a broker and a counting device of its own. All of them are named `plant-7`.
struct Site {
    gateway: Gateway,
    broker: Broker,
    publisher: Publisher,
    device: &'static str,
    published: u64,
}

impl Site {
    /// Ready to start.
    async fn prepare(device: &'static str, kafka_port: u16) -> Self {
        let broker = Broker::start().await;
        broker.remember("forebay-plant-7-broker", &["plant/+/+"]).await;
        let config = format!(
            r#"
            [gateway]
            id = "plant-7"
            [buffer]
            commit_interval_ms = 20
            [[source]]
            type = "mqtt"
            name = "broker"
            url = "{}"
            [[source.subscribe]]
            filter = "plant/+/+"
            device = "{{2}}"
            point = "{{3}}"
            payload = {{ format = "json", value = "/value" }}
            [[sink]]
            type = "kafka"
            name = "kafka"
            brokers = ["127.0.0.1:{kafka_port}"]
            topic_prefix = "plant"
            linger_ms = 20
            "#,
            broker.url(),
        );
        let gateway = Gateway::prepare(&config);
        let publisher = Publisher::connect(&broker, "plant");
        Self { gateway, broker, publisher, device, published: 0 }
    }

    async fn publish(&mut self, count: u64) {
        let topic = format!("plant/{}/count", self.device);
        for _ in 0..count {
            self.publisher.publish(&topic, format!("{{\"value\":{}}}", self.published)).await;
            self.published += 1;
        }
        self.publisher.all_acknowledged(LIMIT).await;
    }

    /// Waits until the gateway has stored so many readings, over all of its life.
    async fn stored(&self, readings: u64) {
        wait::until_some("the gateway to store every message", LIMIT, || async {
            let next = self.gateway.status().await["buffer"]["streams"]["readings"]["next"].as_u64()?;
            (next >= readings).then_some(())
        })
        .await;
    }

    async fn delivered(&self) {
        wait::until_some("Kafka to have everything", LIMIT, || self.gateway.sink_at_the_end("kafka")).await;
    }

    async fn sink(&self) -> Value {
        self.gateway.status_of("sinks", "kafka").await
    }

    /// Waits until the sink has stopped with these words.
    async fn pauses_with(&self, words: &str) -> Value {
        wait::until_some(format!("the sink to pause with {words:?}"), LIMIT, || async {
            let sink = self.sink().await;
            let error = sink["last_error"].as_str().unwrap_or_default();
            (sink["state"] == "paused" && error.contains(words)).then_some(sink)
        })
        .await
    }

    fn entries(&self, counters: std::ops::Range<u64>) -> impl Iterator<Item = Entry> {
        let device = self.device;
        counters.map(move |counter| Entry::new(device, "count", counter.cast_signed()))
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::remove_dir_all(to).ok();
    let copied = Command::new("cp").arg("--archive").arg(from).arg(to).status();
    assert!(copied.is_ok_and(|status| status.success()));
}

async fn readings(kafka: &Kafka) -> Vec<Value> {
    of_topic(&kafka.read_committed("plant.readings").await)
}

/// Fails if a sequence of an epoch stands for more than one record.
fn assert_no_sequence_twice(readings: &[Value]) {
    let mut seen: BTreeMap<(String, u64), &Value> = BTreeMap::new();
    for reading in readings {
        let key = (reading["epoch"].as_str().unwrap().to_owned(), reading["seq"].as_u64().unwrap());
        if let Some(other) = seen.insert(key, reading) {
            panic!("one name for two records: {other} and {reading}");
        }
    }
}

fn epochs(readings: &[Value]) -> BTreeSet<&str> {
    readings.iter().filter_map(|reading| reading["epoch"].as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_directory_stands_still_until_it_is_moved_aside_and_a_lost_one_begins_a_new_epoch() {
    let port = Port::reserve();
    let proxy = FaultProxy::start(port.number()).await;
    let kafka = Kafka::start_on(port, proxy.port()).await;
    let mut site = Site::prepare("mill", proxy.port()).await;
    let copies = tempfile::tempdir().unwrap();
    let (data_dir, old) = (site.gateway.data_dir().to_owned(), copies.path().join("old"));
    site.gateway.start_again().await;
    site.publish(500).await;
    site.stored(500).await;
    site.delivered().await;
    assert!(site.gateway.terminate().await.success());
    copy(&data_dir, &old);
    site.gateway.start_again().await;
    site.publish(300).await;
    site.stored(800).await;
    site.delivered().await;
    assert!(site.gateway.terminate().await.success());

    // The old copy comes back while Kafka is away, and takes more readings than were delivered since it was made.
    copy(&old, &data_dir);
    proxy.set(Fault::Cut);
    site.gateway.start_again().await;
    site.publish(1_000).await;
    site.stored(1_500).await;
    proxy.set(Fault::None);
    let sink = site.pauses_with("another copy of this data directory").await;
    assert!(sink["last_error"].as_str().unwrap().contains("data_dir/buffer"), "{sink}");
    let undelivered = sink["streams"]["readings"]["undelivered"].as_u64().unwrap();
    assert!(undelivered >= 1_000, "none of them counts as delivered: {sink}");
    let before = readings(&kafka).await;
    Verdict::new(site.entries(0..800), before.iter().filter_map(Entry::of_reading)).assert_exactly_once("Kafka");

    // As it is told: what is there is set aside, a new epoch begins.
    assert!(site.gateway.terminate().await.success());
    std::fs::rename(data_dir.join("buffer"), copies.path().join("aside")).unwrap();
    site.gateway.start_again().await;
    let from = site.published;
    site.publish(200).await;
    site.stored(200).await;
    site.delivered().await;
    let after = readings(&kafka).await;
    assert_no_sequence_twice(&after);
    assert_eq!(epochs(&after).len(), 2, "a consumer sees that a new epoch has begun");
    let expected = site.entries(0..800).chain(site.entries(from..site.published));
    Verdict::new(expected, after.iter().filter_map(Entry::of_reading)).assert_exactly_once("Kafka");
    let logs = site.gateway.logs();
    assert!(logs.contains("the sink remembers another data directory of this gateway"), "{logs}");
    assert!(site.broker.is_running());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_gateways_on_one_cloned_directory_one_goes_on_and_the_other_says_so_and_keeps_what_it_has() {
    let kafka = Kafka::start().await;
    let kafka_port = kafka.address().rsplit_once(':').unwrap().1.parse().unwrap();
    let (mut one, mut twin) = (Site::prepare("mill", kafka_port).await, Site::prepare("pump", kafka_port).await);
    one.gateway.start_again().await;
    one.publish(100).await;
    one.stored(100).await;
    one.delivered().await;
    assert!(one.gateway.terminate().await.success());
    copy(one.gateway.data_dir(), twin.gateway.data_dir());

    one.gateway.start_again().await;
    one.publish(400).await;
    one.stored(500).await;
    one.delivered().await;
    twin.publish(1_000).await;
    twin.gateway.start_again().await;
    twin.stored(1_100).await;
    let sink = twin.pauses_with("another copy of this data directory").await;
    assert!(sink["last_error"].as_str().unwrap().contains("cloned"), "{sink}");
    assert!(sink["streams"]["readings"]["undelivered"].as_u64() >= Some(1_000), "it keeps what it has: {sink}");

    // The twin had taken over the name at the cluster; the first takes it back and goes on.
    one.publish(300).await;
    one.stored(800).await;
    one.delivered().await;
    let found = readings(&kafka).await;
    assert_no_sequence_twice(&found);
    Verdict::new(one.entries(0..800), found.iter().filter_map(Entry::of_reading)).assert_exactly_once("Kafka");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_gateways_of_one_name_are_told_of_each_other_and_lose_and_repeat_nothing() {
    let kafka = Kafka::start().await;
    let kafka_port = kafka.address().rsplit_once(':').unwrap().1.parse().unwrap();
    let (mut one, mut other) = (Site::prepare("mill", kafka_port).await, Site::prepare("pump", kafka_port).await);
    one.gateway.start_again().await;
    other.gateway.start_again().await;
    // Each delivery of one undoes the other's hold on the name, until one of them has had enough.
    let deadline = Instant::now() + LIMIT;
    'told: loop {
        assert!(Instant::now() < deadline, "nobody is told");
        one.publish(20).await;
        other.publish(20).await;
        for site in [&one, &other] {
            let sink = site.sink().await;
            if sink["state"] == "paused" && sink["last_error"].as_str().unwrap_or_default().contains("share the id") {
                break 'told;
            }
        }
    }
    // The person stops one of them; the other needs no more than its minute.
    let (ones, others) = (one.published, other.published);
    other.stored(others).await;
    assert!(other.gateway.terminate().await.success());
    one.stored(ones).await;
    one.delivered().await;
    assert!(one.gateway.terminate().await.success());
    other.gateway.start_again().await;
    other.delivered().await;

    let found = readings(&kafka).await;
    assert_no_sequence_twice(&found);
    assert_eq!(epochs(&found).len(), 2);
    let expected = one.entries(0..ones).chain(other.entries(0..others));
    Verdict::new(expected, found.iter().filter_map(Entry::of_reading)).assert_exactly_once("Kafka");
}
