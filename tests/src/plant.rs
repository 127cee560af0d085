//! The smallest plant: a broker with one counting device, the gateway, and a receiver that its readings go to.

use std::time::Duration;

use serde_json::Value;

use crate::books::{Entry, Verdict};
use crate::gateway::Gateway;
use crate::mosquitto::{Broker, Publisher};
use crate::receiver::Receiver;
use crate::wait;

/// The device, and the topic it counts on.
const DEVICE: &str = "mill";
const TOPIC: &str = "plant/mill/count";
/// Acknowledging and delivering what a test publishes, on a busy machine; longer than a paused sink waits before it looks again.
const LIMIT: Duration = Duration::from_mins(2);

/// Broker, gateway and receiver, and how far the device has counted.
pub struct Plant {
    /// The gateway. First, so that it ends before its peers go.
    pub gateway: Gateway,
    /// Where the readings go.
    pub receiver: Receiver,
    /// The broker.
    pub broker: Broker,
    publisher: Publisher,
    published: i64,
}

impl Plant {
    /// Starts everything; `sink_options` and `more` are TOML: keys of the sink `cloud`, and whole tables beside it.
    pub async fn start(sink_options: &str, more: &str) -> Self {
        let mut plant = Self::prepare(sink_options, more).await;
        plant.gateway.start_again().await;
        plant
    }

    /// Starts everything but the gateway.
    pub async fn prepare(sink_options: &str, more: &str) -> Self {
        let (broker, receiver) = (Broker::start().await, Receiver::start());
        // What is published before the gateway has subscribed is not lost.
        broker.remember("forebay-e2e-broker", &["plant/+/+"]).await;
        let gateway = Gateway::prepare(&config(&broker, &receiver, sink_options, more));
        let publisher = Publisher::connect(&broker, "plant");
        Self { gateway, receiver, broker, publisher, published: 0 }
    }

    /// Counts on, `count` messages, and waits until the broker has them.
    pub async fn publish(&mut self, count: i64) {
        self.publish_on(TOPIC, count).await;
    }

    /// The same, on another topic.
    pub async fn publish_on(&mut self, topic: &str, count: i64) {
        for _ in 0..count {
            self.publisher.publish(topic, format!("{{\"value\":{}}}", self.published)).await;
            self.published += 1;
        }
        self.publisher.all_acknowledged(LIMIT).await;
    }

    /// How many messages were published so far.
    #[must_use]
    pub fn published(&self) -> i64 {
        self.published
    }

    /// Waits until the gateway has stored the last message.
    pub async fn all_accepted(&self) {
        wait::until_some("the gateway to accept every message", LIMIT, || async {
            let status = self.gateway.status().await;
            let accepted = status["buffer"]["streams"]["readings"]["next"].as_i64()?;
            (accepted >= self.published).then_some(())
        })
        .await;
    }

    /// Waits until the sink has nothing left to deliver.
    pub async fn all_delivered(&self) {
        self.all_accepted().await;
        let gateway = &self.gateway;
        wait::until_some("the sink to deliver everything", LIMIT, || gateway.sink_at_the_end("cloud")).await;
    }

    /// What the gateway says about its sink.
    pub async fn sink(&self) -> Value {
        self.gateway.status_of("sinks", "cloud").await
    }

    /// What became of the messages, all of which are expected at the receiver but for those of `but`.
    #[must_use]
    pub fn verdict(&self, but: &[i64]) -> Verdict {
        let expected = (0..self.published).filter(|count| !but.contains(count));
        let expected = expected.map(|count| Entry::new(DEVICE, "count", count));
        Verdict::new(expected, self.receiver.stream("readings").iter().filter_map(Entry::of_reading))
    }

    /// Waits for everything to be delivered, and fails unless the receiver has each message once, in order, by retries that were
    /// the same bytes.
    pub async fn assert_exactly_once(&self) {
        self.all_delivered().await;
        self.verdict(&[]).assert_exactly_once("the receiver");
        assert_eq!(self.receiver.conflicts(), Vec::<String>::new(), "a retry must be the same bytes");
    }
}

fn config(broker: &Broker, receiver: &Receiver, sink_options: &str, more: &str) -> String {
    format!(
        r#"
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
        type = "http"
        name = "cloud"
        url = "{}"
        {sink_options}

        {more}
        "#,
        broker.url(),
        receiver.url(),
    )
}
