//! What stands around the gateways of the campaign: broker, devices, Kafka and receiver, each behind a proxy, and the flow of messages.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::interval;

use super::tally::{Faults, Tally};
use crate::arrivals::of_topic;
use crate::books::{Entry, Verdict};
use crate::fault_proxy::FaultProxy;
use crate::gateway::Gateway;
use crate::kafka::Kafka;
use crate::modbus::{Modbus, Table};
use crate::mosquitto::{Broker, Publisher};
use crate::ports::Port;
use crate::receiver::Receiver;

/// Devices of a gateway at the broker.
const DEVICES: u64 = 4;
/// So many messages are published for each gateway, so often.
const BURST_MESSAGES: u64 = 5;
const BURST_INTERVAL: Duration = Duration::from_millis(50);
/// The broker acknowledges all of a stretch within this, restarts included.
const ACKNOWLEDGED_LIMIT: Duration = Duration::from_mins(1);

/// Everything of the campaign.
pub(super) struct Plant {
    pub(super) gateways: Vec<Gateway>,
    pub(super) flows: Vec<Flow>,
    pub(super) broker: Broker,
    /// Kept for its end.
    _modbus: Modbus,
    pub(super) kafka: Kafka,
    pub(super) receiver: Receiver,
    pub(super) kafka_proxy: FaultProxy,
    pub(super) receiver_proxy: FaultProxy,
    /// Where the next comparison reads on.
    offsets: BTreeMap<i32, i64>,
}

/// The messages of one gateway.
pub(super) struct Flow {
    name: String,
    publisher: Arc<Publisher>,
    /// Messages handed over, and those that were compared already.
    sent: Arc<AtomicU64>,
    compared: u64,
}

impl Plant {
    pub(super) async fn start(gateways: usize) -> Self {
        let (broker, receiver) = (Broker::start().await, Receiver::start());
        let port = Port::reserve();
        let kafka_proxy = FaultProxy::start(port.number()).await;
        let kafka = Kafka::start_on(port, kafka_proxy.port()).await;
        let receiver_proxy = FaultProxy::start(receiver.port()).await;
        let mut modbus = Modbus::tcp();
        let (mut started, mut flows) = (Vec::new(), Vec::new());
        for (unit, number) in (1_u8..).zip(0..gateways) {
            let name = format!("g{number}");
            modbus.count(unit, Table::Holding, 0, 2);
            broker.remember(&format!("forebay-{name}-broker"), &[&format!("{name}/+/+")]).await;
            let config = config(&name, unit, &broker, &modbus, kafka_proxy.port(), receiver_proxy.port());
            started.push(Gateway::prepare_faulty(&config));
            let publisher = Arc::new(Publisher::connect(&broker, &format!("plant-{name}")));
            flows.push(Flow { name, publisher, sent: Arc::default(), compared: 0 });
        }
        let offsets = BTreeMap::new();
        Self {
            gateways: started,
            flows,
            broker,
            _modbus: modbus,
            kafka,
            receiver,
            kafka_proxy,
            receiver_proxy,
            offsets,
        }
    }

    /// What became of all that was sent since the last comparison.
    pub(super) async fn compare(&mut self) -> Tally {
        let records = self.kafka.read_committed_since("plant.readings", &self.offsets).await;
        for record in &records {
            let next = self.offsets.entry(record.partition).or_default();
            *next = (*next).max(record.offset + 1);
        }
        let expected: Vec<Entry> = self.flows.iter().flat_map(Flow::entries).collect();
        let held = [("Kafka", of_topic(&records)), ("HTTP", self.receiver.take_stream("readings"))];
        let mut tally = Tally { acknowledged: expected.len() as u64, ..Tally::default() };
        for (sink, readings) in &held {
            let entries: Vec<Entry> = readings.iter().filter_map(Entry::of_reading).collect();
            // Nobody can ask a Modbus device for what a death took: what arrives must arrive once and in order.
            let (polled, published): (Vec<Entry>, Vec<Entry>) =
                entries.into_iter().partition(|entry| entry.device.ends_with("-bus"));
            tally.polled = tally.polled.max(polled.len() as u64);
            let mut faults = Faults::of(&Verdict::new(expected.clone(), published), sink);
            faults.add(&Faults::of(&Verdict::new(polled.clone(), polled), sink));
            faults.add(&Faults::of_sequences(readings));
            tally.sinks.insert((*sink).to_owned(), faults);
        }
        if let Some(key) = self.receiver.conflicts().first() {
            tally.sinks.entry("HTTP".to_owned()).or_default().note(format!("other bytes under the same key {key}"));
        }
        for flow in &mut self.flows {
            flow.compared = flow.sent.load(Ordering::SeqCst);
        }
        tally
    }
}

impl Flow {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Messages that the broker has acknowledged so far.
    pub(super) fn acknowledged(&self) -> u64 {
        self.publisher.acknowledged()
    }

    /// Publishes until it is told to stop and the broker has acknowledged everything.
    pub(super) fn publish(&self, is_stopping: Arc<AtomicBool>) -> JoinHandle<()> {
        let (name, publisher, sent) = (self.name.clone(), Arc::clone(&self.publisher), Arc::clone(&self.sent));
        tokio::spawn(async move {
            let mut pace = interval(BURST_INTERVAL);
            while !is_stopping.load(Ordering::SeqCst) {
                pace.tick().await;
                for _ in 0..BURST_MESSAGES {
                    let number = sent.load(Ordering::SeqCst);
                    let topic = format!("{}/count", device(&name, number).replacen('-', "/", 1));
                    publisher.publish(&topic, format!("{{\"value\":{}}}", number / DEVICES)).await;
                    sent.store(number + 1, Ordering::SeqCst);
                }
            }
            publisher.all_acknowledged(ACKNOWLEDGED_LIMIT).await;
        })
    }

    /// What was sent since the last comparison.
    fn entries(&self) -> impl Iterator<Item = Entry> + '_ {
        let numbers = self.compared..self.sent.load(Ordering::SeqCst);
        numbers.map(|number| Entry::new(&device(&self.name, number), "count", (number / DEVICES).cast_signed()))
    }

    /// Whether the gateway shows the last message of every device.
    pub(super) fn is_taken(&self, points: &[Value]) -> bool {
        let sent = self.sent.load(Ordering::SeqCst);
        (sent.saturating_sub(DEVICES)..sent).all(|number| {
            let device = device(&self.name, number);
            points.iter().any(|point| point["device"] == device && point["value"] == number / DEVICES)
        })
    }
}

/// The device that a message is of; its topic has a slash for the first hyphen.
fn device(name: &str, number: u64) -> String {
    format!("{name}-mill{}", number % DEVICES)
}

fn config(name: &str, unit: u8, broker: &Broker, modbus: &Modbus, kafka_port: u16, receiver_port: u16) -> String {
    format!(
        r#"
        [gateway]
        id = "{name}"

        [buffer]
        commit_interval_ms = 20

        [[source]]
        type = "mqtt"
        name = "broker"
        url = "{broker}"
        [[source.subscribe]]
        filter = "{name}/+/+"
        device = "{name}-{{2}}"
        point = "{{3}}"
        payload = {{ format = "json", value = "/value" }}

        [[source]]
        type = "modbus"
        name = "bus"
        url = "{modbus}"
        [[source.unit]]
        id = {unit}
        device = "{name}-bus"
        every_ms = 100
        registers = [{{ point = "count", table = "holding", address = 0, kind = "u32" }}]

        [[sink]]
        type = "kafka"
        name = "kafka"
        brokers = ["127.0.0.1:{kafka_port}"]
        topic_prefix = "plant"
        linger_ms = 20

        [[sink]]
        type = "http"
        name = "cloud"
        url = "http://127.0.0.1:{receiver_port}/v1/readings"
        linger_ms = 20
        timeout_ms = 1000
        "#,
        broker = broker.url(),
        modbus = modbus.url(),
    )
}
