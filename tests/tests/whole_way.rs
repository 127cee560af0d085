//! The whole way: a broker, Modbus devices and serial lines feed Kafka and HTTP at once while everything is killed and taken away.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use e2e::arrivals::{assert_alike, assert_whole, of_topic};
use e2e::books::{Entry, Verdict, sequence_setbacks};
use e2e::firmware::{self, Firmware};
use e2e::gateway::Gateway;
use e2e::kafka::Kafka;
use e2e::modbus::{Modbus, Table};
use e2e::mosquitto::{Broker, Publisher};
use e2e::receiver::Receiver;
use e2e::serial::Line;
use e2e::{chance, wait};
use fastrand::Rng;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval, sleep};

/// How often the gateway is killed.
const KILLS: usize = 10;
/// Devices at the broker.
const MQTT_DEVICES: u64 = 8;
/// Least messages that are published: some 2 500 for each device.
const MESSAGES_MIN: u64 = 20_000;
/// So many messages are published at a time, so often: below what the gateway takes, so that kills meet fresh readings.
const BURST_MESSAGES: u64 = 40;
const BURST_INTERVAL: Duration = Duration::from_millis(50);
/// Between two counts of the microcontroller and of the text on the serial lines.
const COUNT_INTERVAL: Duration = Duration::from_millis(10);
/// Everything that has to come to an end, on a busy machine.
const LIMIT: Duration = Duration::from_mins(2);
/// Readings that may be on their way when the gateway is asked to end: it has a few seconds for them.
const BACKLOG_MAX: u64 = 2_000;

struct Plant {
    broker: Broker,
    modbus_tcp: Modbus,
    modbus_rtu: Modbus,
    firmware_line: Arc<Line>,
    text_line: Arc<Line>,
}

impl Plant {
    async fn start() -> Self {
        let (mut modbus_tcp, mut modbus_rtu) = (Modbus::tcp(), Modbus::rtu());
        modbus_tcp.count(1, Table::Holding, 0, 2);
        modbus_tcp.count(1, Table::Input, 10, 1);
        modbus_rtu.count(7, Table::Holding, 0, 2);
        Self {
            broker: Broker::start().await,
            modbus_tcp,
            modbus_rtu,
            firmware_line: Arc::new(Line::plugged()),
            text_line: Arc::new(Line::plugged()),
        }
    }

    fn config(&self, kafka: &Kafka, receiver: &Receiver) -> String {
        format!(
            r#"
            [[source]]
            type = "mqtt"
            name = "broker"
            url = "{broker}"
            [[source.subscribe]]
            filter = "plant/+/+"
            device = "{{2}}"
            point = "{{3}}"
            payload = {{ format = "json", value = "/value" }}

            [[source]]
            type = "modbus"
            name = "bus-tcp"
            url = "{modbus_tcp}"
            [[source.unit]]
            id = 1
            device = "modbus-tcp"
            every_ms = 50
            registers = [
              {{ point = "holding", table = "holding", address = 0, kind = "u32" }},
              {{ point = "input", table = "input", address = 10, kind = "u16" }},
            ]

            [[source]]
            type = "modbus"
            name = "bus-rtu"
            url = "{modbus_rtu}"
            [[source.unit]]
            id = 7
            device = "modbus-rtu"
            every_ms = 100
            registers = [{{ point = "holding", table = "holding", address = 0, kind = "u32" }}]

            [[source]]
            type = "serial"
            name = "probe"
            port = "{firmware_line}"
            framing = {{ kind = "firmware" }}
            device = "firmware"

            [[source]]
            type = "serial"
            name = "scale"
            port = "{text_line}"
            framing = {{ kind = "delimiter" }}
            device = "text"
            payload = {{ format = "csv", columns = [{{ point = "first" }}, {{ point = "second" }}] }}

            [[sink]]
            type = "kafka"
            name = "kafka"
            brokers = ["{kafka}"]
            topic_prefix = "plant"

            [[sink]]
            type = "http"
            name = "cloud"
            url = "{receiver}"
            linger_ms = 200
            "#,
            broker = self.broker.url(),
            modbus_tcp = self.modbus_tcp.url(),
            modbus_rtu = self.modbus_rtu.url(),
            firmware_line = self.firmware_line.path().display(),
            text_line = self.text_line.path().display(),
            kafka = kafka.address(),
            receiver = receiver.url(),
        )
    }
}

fn mqtt_device(index: u64) -> String {
    format!("mqtt-{index}")
}

/// Publishes until it is told to stop, at least [`MESSAGES_MIN`]; returns how many the broker has acknowledged.
fn publish(publisher: Publisher, is_stopping: Arc<AtomicBool>) -> JoinHandle<u64> {
    tokio::spawn(async move {
        let mut pace = interval(BURST_INTERVAL);
        while publisher.published() < MESSAGES_MIN || !is_stopping.load(Ordering::SeqCst) {
            pace.tick().await;
            for _ in 0..BURST_MESSAGES {
                let number = publisher.published();
                let (device, counter) = (mqtt_device(number % MQTT_DEVICES), number / MQTT_DEVICES);
                publisher.publish(&format!("plant/{device}/count"), format!("{{\"value\":{counter}}}")).await;
            }
        }
        publisher.all_acknowledged(LIMIT).await;
        publisher.published()
    })
}

/// Writes lines such as "17,17" until it is told to stop.
fn write_text(line: Arc<Line>, is_stopping: Arc<AtomicBool>) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut pace = interval(COUNT_INTERVAL);
        for counter in 1_u64.. {
            pace.tick().await;
            if is_stopping.load(Ordering::SeqCst) {
                return;
            }
            line.write_all(format!("{counter},{counter}\n").as_bytes()).await;
        }
    })
}

fn below_ms(rng: &mut Rng, limit_ms: u64) -> Duration {
    Duration::from_millis(rng.u64(0..limit_ms))
}

/// Kills the gateway again and again, with Kafka away for the first half and the receiver for the second.
async fn wreak_havoc(rng: &mut Rng, gateway: &mut Gateway, kafka: &mut Kafka, receiver: &mut Receiver) {
    for kill in 1..=KILLS {
        match kill {
            2 => kafka.kill(),
            4 => kafka.start_again().await,
            6 => receiver.take_away(),
            9 => receiver.bring_back(),
            _ => {}
        }
        sleep(below_ms(rng, 2_500)).await;
        gateway.kill();
        sleep(below_ms(rng, 500)).await;
        if kill % 3 == 0 {
            // Some deaths come while it opens what the one before left behind.
            gateway.spawn();
            sleep(below_ms(rng, 300)).await;
            gateway.kill();
        }
        gateway.start_again().await;
    }
}

/// Waits until the gateway has taken the last message of every device and the sinks are near the end.
async fn everything_taken(gateway: &Gateway, messages: u64) {
    let last = |index: u64| (messages - 1 - index) / MQTT_DEVICES;
    wait::until_some("the gateway to take every message", LIMIT, || async {
        let (_, text) = gateway.get("/api/v1/points?filter=mqtt").await;
        let answer: Value = serde_json::from_str(&text).ok()?;
        let points = answer["points"].as_array()?;
        let has_last = |index: u64| {
            points.iter().any(|point| point["device"] == mqtt_device(index) && point["value"] == last(index))
        };
        (0..MQTT_DEVICES).all(has_last).then_some(())
    })
    .await;
    wait::until_some("the sinks to catch up", LIMIT, || async {
        let status = gateway.status().await;
        let sinks = status["sinks"].as_array()?;
        let backlog = |sink: &Value| sink["streams"]["readings"]["undelivered"].as_u64();
        sinks.iter().all(|sink| backlog(sink).is_some_and(|backlog| backlog < BACKLOG_MAX)).then_some(())
    })
    .await;
}

fn entries_of<'a>(records: &'a [Value], prefix: &'a str) -> impl Iterator<Item = Entry> + 'a {
    records.iter().filter_map(Entry::of_reading).filter(move |entry| entry.device.starts_with(prefix))
}

/// What a sink must hold, given what was acknowledged to those who can send again.
fn assert_books_close(where_to: &str, readings: &[Value], messages: u64, frames: i64) {
    let published = (0..messages)
        .map(|number| Entry::new(&mqtt_device(number % MQTT_DEVICES), "count", (number / MQTT_DEVICES).cast_signed()));
    Verdict::new(published, entries_of(readings, "mqtt-")).assert_exactly_once(&format!("{where_to}, from MQTT"));
    let counted = (1..=frames).map(|count| Entry::new("firmware", firmware::POINT, count));
    let from_firmware = Verdict::new(counted, entries_of(readings, "firmware"));
    from_firmware.assert_exactly_once(&format!("{where_to}, from the microcontroller"));
    for device in ["modbus-tcp", "modbus-rtu", "text"] {
        // Nobody can ask these for what a kill took, but what arrives must arrive once and in order.
        let arrived: Vec<Entry> = entries_of(readings, device).collect();
        assert!(!arrived.is_empty(), "{where_to} holds nothing from {device}");
        let verdict = Verdict::new(arrived.clone(), arrived);
        verdict.assert_exactly_once(&format!("{where_to}, from {device}"));
    }
    assert_eq!(sequence_setbacks(readings), Vec::<String>::new(), "{where_to} has devices out of order");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_reading_arrives_once_and_in_order_whatever_is_killed_on_the_way() {
    let (mut rng, seed) = chance::seeded();
    let plant = Plant::start().await;
    let (mut kafka, mut receiver) = (Kafka::start().await, Receiver::start());
    plant.broker.remember("forebay-e2e-broker", &["plant/+/+"]).await;
    let mut gateway = Gateway::start(&plant.config(&kafka, &receiver)).await;

    let is_stopping = Arc::new(AtomicBool::new(false));
    let publisher = publish(Publisher::connect(&plant.broker, "plant"), Arc::clone(&is_stopping));
    let writer = write_text(Arc::clone(&plant.text_line), Arc::clone(&is_stopping));
    let microcontroller = Firmware::start(Arc::clone(&plant.firmware_line), COUNT_INTERVAL);

    let began = Instant::now();
    wreak_havoc(&mut rng, &mut gateway, &mut kafka, &mut receiver).await;
    let havoc = began.elapsed();
    is_stopping.store(true, Ordering::SeqCst);
    writer.await.unwrap();
    let frames = microcontroller.finish(LIMIT).await;
    let messages = publisher.await.unwrap();
    everything_taken(&gateway, messages).await;
    assert!(gateway.terminate().await.success(), "the gateway ends in order");

    let readings = receiver.stream("readings");
    let topic = of_topic(&kafka.read_committed("plant.readings").await);
    eprintln!(
        "{messages} messages, {frames} frames, {} readings at the receiver, {} in Kafka; havoc took {havoc:?}",
        readings.len(),
        topic.len(),
    );
    for (where_to, held) in [("the receiver", &readings), ("Kafka", &topic)] {
        let where_to = format!("{where_to} (E2E_SEED={seed})");
        assert_books_close(&where_to, held, messages, frames);
        assert_whole(&where_to, held);
    }
    assert_alike("the receiver", &readings, "Kafka", &topic);
    for stream in ["alerts", "dead-letters", "gaps"] {
        let topic = of_topic(&kafka.read_committed(&format!("plant.{stream}")).await);
        assert_alike("the receiver", &receiver.stream(stream), "Kafka", &topic);
    }
    assert_eq!(receiver.conflicts(), Vec::<String>::new(), "a retry must be the same bytes");
    let brokers = kafka.address();
    let proof =
        e2e::gateway::tool(&["verify-stream", "--kafka", &brokers, "--topic-prefix", "plant", "--sink", "kafka"]).await;
    assert!(proof.success().contains("complete, each once, in order"), "a consumer can prove it from the topics alone");
}
