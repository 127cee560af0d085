//! The harness proves itself: every peer starts, does its part, misbehaves on demand and comes back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::Path;
use std::time::Duration;

use e2e::books::{Entry, Verdict, sequence_setbacks};
use e2e::fault_proxy::{Fault, FaultProxy};
use e2e::gateway::Gateway;
use e2e::kafka::Kafka;
use e2e::modbus::{BAUD, Behaviour, Modbus, Table};
use e2e::mosquitto::{Broker, BrokerOptions, Publisher};
use e2e::ports::Port;
use e2e::receiver::{Answer, Receiver};
use e2e::serial::Line;
use flate2::Compression;
use flate2::write::GzEncoder;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rumqttc::{AsyncClient, Event, EventLoop, Packet, QoS};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};
use tokio_modbus::client::{Context, Reader as _, rtu, tcp};
use tokio_modbus::{ExceptionCode, Slave};
use tokio_serial::SerialStream;

/// Longer than anything in these tests takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);
/// How long silence has to last to count as silence.
const SILENCE: Duration = Duration::from_millis(300);

// ---- mosquitto

async fn next_packet(events: &mut EventLoop, mut is_wanted: impl FnMut(&Packet) -> bool) -> Packet {
    timeout(LIMIT, async {
        loop {
            if let Event::Incoming(packet) = events.poll().await.expect("the broker keeps the connection")
                && is_wanted(&packet)
            {
                return packet;
            }
        }
    })
    .await
    .expect("the broker sends the packet")
}

#[tokio::test]
async fn mosquitto_keeps_what_an_absent_session_missed_over_a_restart() {
    let mut broker = Broker::start().await;
    let (client, mut events) = AsyncClient::new(broker.client_options("sleeper"), 10);
    client.subscribe("plant/#", QoS::AtLeastOnce).await.unwrap();
    next_packet(&mut events, |packet| matches!(packet, Packet::SubAck(_))).await;
    drop((client, events));

    let publisher = Publisher::connect(&broker, "plant");
    for counter in 0..1500 {
        publisher.publish("plant/boiler/temp", counter.to_string()).await;
    }
    publisher.all_acknowledged(LIMIT).await;
    broker.restart().await;
    publisher.publish("plant/boiler/temp", "1500").await;
    publisher.all_acknowledged(LIMIT).await;
    assert_eq!(publisher.acknowledged(), 1501);

    let (_client, mut events) = AsyncClient::new(broker.client_options("sleeper"), 10);
    for counter in 0..=1500 {
        let packet = next_packet(&mut events, |packet| matches!(packet, Packet::Publish(_))).await;
        let Packet::Publish(publish) = packet else { unreachable!("only a publish is wanted") };
        assert_eq!(publish.payload, counter.to_string().as_bytes());
    }
}

#[tokio::test]
async fn a_broker_with_a_login_lets_nobody_else_in() {
    let login = ("gateway".to_owned(), "secret".to_owned());
    let broker = Broker::start_with(&BrokerOptions { login: Some(login), ..BrokerOptions::default() }).await;
    for (password, is_let_in) in [("secret", true), ("guess", false)] {
        let mut options = broker.client_options("client");
        options.set_credentials("gateway", password);
        let (_client, mut events) = AsyncClient::new(options, 10);
        let first = timeout(LIMIT, events.poll()).await.unwrap();
        assert_eq!(first.is_ok(), is_let_in, "{password}: {first:?}");
    }
}

// ---- Modbus

async fn modbus_tcp(modbus: &Modbus, unit: u8) -> Context {
    tcp::connect_slave(([127, 0, 0, 1], modbus.port()).into(), Slave(unit)).await.expect("the server listens")
}

#[tokio::test]
async fn a_modbus_device_counts_what_it_was_asked() {
    let mut modbus = Modbus::tcp();
    modbus.count(1, Table::Holding, 0, 1);
    modbus.count(1, Table::Input, 8, 2);
    modbus.set(1, Table::Coil, 3, &[1, 0, 1]);
    let mut device = modbus_tcp(&modbus, 1).await;
    for expected in 1..=3 {
        assert_eq!(device.read_holding_registers(0, 1).await.unwrap().unwrap(), [expected]);
    }
    assert_eq!(device.read_input_registers(8, 2).await.unwrap().unwrap(), [0, 1]);
    assert_eq!(device.read_coils(3, 3).await.unwrap().unwrap(), [true, false, true]);
    assert_eq!(modbus.served(1, Table::Holding, 0), 3);
    assert_eq!(modbus.served(1, Table::Input, 8), 1);

    modbus.stop();
    assert!(tcp::connect(([127, 0, 0, 1], modbus.port()).into()).await.is_err());
    modbus.start_again();
    let mut device = modbus_tcp(&modbus, 1).await;
    assert_eq!(device.read_holding_registers(0, 1).await.unwrap().unwrap(), [1]);
}

#[tokio::test]
async fn a_modbus_unit_is_silent_slow_or_answers_with_an_exception() {
    let mut modbus = Modbus::tcp();
    modbus.set(1, Table::Holding, 0, &[7]);
    let mut device = modbus_tcp(&modbus, 1).await;
    assert_eq!(device.read_holding_registers(5, 1).await.unwrap(), Err(ExceptionCode::IllegalDataAddress));

    modbus.behave(1, Behaviour::Exception(4));
    assert_eq!(device.read_holding_registers(0, 1).await.unwrap(), Err(ExceptionCode::ServerDeviceFailure));

    modbus.behave(1, Behaviour::Slow(300));
    let asked_at = Instant::now();
    assert_eq!(device.read_holding_registers(0, 1).await.unwrap().unwrap(), [7]);
    assert!(asked_at.elapsed() >= Duration::from_millis(300));

    modbus.behave(1, Behaviour::Silent);
    assert!(timeout(SILENCE, device.read_holding_registers(0, 1)).await.is_err());
    let mut unknown = modbus_tcp(&modbus, 9).await;
    assert!(timeout(SILENCE, unknown.read_holding_registers(0, 1)).await.is_err());
}

fn modbus_rtu(line: &Line) -> Context {
    let port = SerialStream::open(&tokio_serial::new(line.path().to_str().unwrap(), BAUD)).expect("the line is there");
    rtu::attach_slave(port, Slave(1))
}

#[tokio::test]
async fn a_modbus_device_on_a_serial_line_survives_unplugging_and_a_restart() {
    let mut modbus = Modbus::rtu();
    modbus.count(1, Table::Holding, 0, 1);
    let mut device = modbus_rtu(modbus.line());
    for expected in 1..=5 {
        let answer = timeout(LIMIT, device.read_holding_registers(0, 1)).await.unwrap();
        assert_eq!(answer.unwrap().unwrap(), [expected]);
    }
    modbus.line().unplug();
    assert!(!matches!(timeout(SILENCE, device.read_holding_registers(0, 1)).await, Ok(Ok(_))));
    modbus.line().replug();
    drop(device);
    let mut device = modbus_rtu(modbus.line());
    let answer = timeout(LIMIT, device.read_holding_registers(0, 1)).await.unwrap();
    assert_eq!(answer.unwrap().unwrap(), [6]);

    modbus.stop();
    assert!(timeout(SILENCE, device.read_holding_registers(0, 1)).await.is_err());
    modbus.start_again();
    drop(device);
    let mut device = modbus_rtu(modbus.line());
    let answer = timeout(LIMIT, device.read_holding_registers(0, 1)).await.unwrap();
    assert_eq!(answer.unwrap().unwrap(), [1]);
}

// ---- the serial line

#[tokio::test]
async fn a_serial_line_carries_bytes_both_ways_and_is_pulled_out() {
    let line = Line::plugged();
    let settings = tokio_serial::new(line.path().to_str().unwrap(), 115_200);
    let mut port = SerialStream::open(&settings).unwrap();
    let sent: Vec<u8> = (0..=255).cycle().take(20_000).collect();
    let mut read = vec![0; sent.len()];
    let ((), result) = tokio::join!(line.write_all(&sent), timeout(LIMIT, port.read_exact(&mut read)));
    result.unwrap().unwrap();
    assert!(read == sent, "every byte must pass as it is");
    port.write_all(b"ack\n\x04\x11").await.unwrap();
    assert_eq!(line.receive(6, LIMIT).await, b"ack\n\x04\x11");

    line.unplug();
    assert!(!line.path().exists());
    let end = timeout(LIMIT, port.read(&mut read)).await.expect("the end of the line is noticed");
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    line.write_all(b"into the void").await;

    line.replug();
    let mut port = SerialStream::open(&settings).unwrap();
    line.write_all(b"back").await;
    let mut read = [0; 4];
    timeout(LIMIT, port.read_exact(&mut read)).await.unwrap().unwrap();
    assert_eq!(&read, b"back");
}

// ---- Kafka

fn transactional_producer(kafka: &Kafka, id: &str) -> BaseProducer {
    let mut config = kafka.client_config();
    config.set("transactional.id", id).set("transaction.timeout.ms", "15000").set("message.timeout.ms", "15000");
    let producer: BaseProducer = config.create().unwrap();
    producer.init_transactions(LIMIT).unwrap();
    producer
}

fn produce(producer: &BaseProducer, topic: &str, values: std::ops::Range<u32>) {
    producer.begin_transaction().unwrap();
    for value in values {
        let value = value.to_string();
        producer.send(BaseRecord::to(topic).key("boiler").payload(&value)).unwrap();
    }
    producer.flush(LIMIT).unwrap();
}

async fn committed_values(kafka: &Kafka, topic: &str) -> Vec<u32> {
    let records = kafka.read_committed(topic).await;
    assert!(records.iter().all(|record| record.key.as_deref() == Some(b"boiler")));
    let text = |value: Option<Vec<u8>>| String::from_utf8(value.unwrap()).unwrap();
    records.into_iter().map(|record| text(record.value).parse().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_of_kafka_sees_what_was_committed_and_nothing_else() {
    let mut kafka = Kafka::start().await;
    assert!(kafka.read_committed("plant.readings").await.is_empty(), "there is no such topic yet");
    kafka.create_topic("plant.readings", 3).await;
    let producer = transactional_producer(&kafka, "forebay-e2e");
    produce(&producer, "plant.readings", 0..100);
    producer.commit_transaction(LIMIT).unwrap();
    produce(&producer, "plant.readings", 100..200);
    producer.abort_transaction(LIMIT).unwrap();
    let asked_at = Instant::now();
    assert_eq!(committed_values(&kafka, "plant.readings").await, (0..100).collect::<Vec<_>>());
    let long_enough = 5 * asked_at.elapsed();

    // While a transaction is open nobody can know yet: the reader has to wait for its end.
    produce(&producer, "plant.readings", 200..300);
    let waiting = timeout(long_enough, kafka.read_committed("plant.readings")).await;
    assert!(waiting.is_err(), "a transaction is open: {waiting:?}");
    producer.commit_transaction(LIMIT).unwrap();
    let expected: Vec<u32> = (0..100).chain(200..300).collect();
    assert_eq!(committed_values(&kafka, "plant.readings").await, expected);

    kafka.kill();
    kafka.start_again().await;
    assert_eq!(committed_values(&kafka, "plant.readings").await, expected);
    kafka.stop().await;
    kafka.start_again().await;
    assert_eq!(committed_values(&kafka, "plant.readings").await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_stands_between_kafka_and_its_clients() {
    let port = Port::reserve();
    let proxy = FaultProxy::start(port.number()).await;
    let kafka = Kafka::start_on(port, proxy.port()).await;
    // Auto-creation is on, as in most plants.
    let producer = transactional_producer(&kafka, "forebay-e2e");
    produce(&producer, "made.by.writing", 0..10);
    proxy.set(Fault::Cut);
    assert!(producer.commit_transaction(SILENCE).is_err(), "the way to the broker is cut");
    proxy.set(Fault::None);
    producer.commit_transaction(LIMIT).unwrap();
    assert_eq!(committed_values(&kafka, "made.by.writing").await, (0..10).collect::<Vec<_>>());
}

// ---- the receiver

fn client() -> reqwest::Client {
    // An error says that another test has installed it.
    rustls::crypto::ring::default_provider().install_default().ok();
    reqwest::Client::builder().timeout(Duration::from_secs(2)).build().unwrap()
}

async fn post(receiver: &Receiver, key: &str, body: impl Into<reqwest::Body>) -> Result<u16, reqwest::Error> {
    let request = client().post(receiver.url()).header("Idempotency-Key", key).body(body);
    Ok(request.send().await?.status().as_u16())
}

#[tokio::test]
async fn a_receiver_applies_a_key_once_and_reads_every_format() {
    let mut receiver = Receiver::start();
    let key = |run| format!("gw/epoch/cloud/readings/{run}");
    assert_eq!(post(&receiver, &key("1-2"), "{\"n\":1}\n{\"n\":2}\n").await.unwrap(), 204);
    assert_eq!(post(&receiver, &key("1-2"), "{\"n\":1}\n{\"n\":2}\n").await.unwrap(), 204);
    assert_eq!(post(&receiver, &key("3-4"), r#"[{"n":3},{"n":4}]"#).await.unwrap(), 204);
    assert!(receiver.conflicts().is_empty());
    assert_eq!(post(&receiver, &key("3-4"), r#"[{"n":3}]"#).await.unwrap(), 204);
    assert_eq!(receiver.conflicts(), [key("3-4")]);

    receiver.take_away();
    assert!(post(&receiver, &key("5-5"), r#"{"n":5}"#).await.is_err());
    receiver.bring_back();
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    std::io::Write::write_all(&mut gzip, br#"{"n":5}"#).unwrap();
    let request = client().post(receiver.url()).header("Idempotency-Key", key("5-5"));
    let answer = request.header("Content-Encoding", "gzip").body(gzip.finish().unwrap()).send().await.unwrap();
    assert_eq!(answer.status(), 204);
    assert_eq!(post(&receiver, &key("6-6"), "{broken").await.unwrap(), 400);

    let numbers: Vec<_> = receiver.stream("readings").iter().map(|reading| reading["n"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5]);
    assert_eq!(receiver.requests().len(), 6);
    assert_eq!(receiver.requests().iter().filter(|request| request.is_repeated).count(), 2);
}

#[tokio::test]
async fn a_receiver_misbehaves_as_it_is_told() {
    let receiver = Receiver::start();
    let slow = Answer::Slow(Duration::from_millis(200));
    receiver.script([Answer::Status(503, Some("7".to_owned())), Answer::Rubbish, Answer::Never, slow]);
    let answer = client().post(receiver.url()).header("Idempotency-Key", "a").body("[]").send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()["retry-after"].to_str().unwrap()), (503, "7"));
    let rubbish = post(&receiver, "a", "[1]").await.unwrap_err();
    assert!(rubbish.is_request() && !rubbish.is_timeout(), "{rubbish:?}");
    assert!(post(&receiver, "a", "[1]").await.unwrap_err().is_timeout());
    assert_eq!(receiver.count("a"), 0, "nothing was applied so far");
    let asked_at = Instant::now();
    assert_eq!(post(&receiver, "a", "[1]").await.unwrap(), 204);
    assert!(asked_at.elapsed() >= Duration::from_millis(200));

    receiver.script([Answer::ApplyAndHangUp]);
    assert!(post(&receiver, "b", "[2]").await.is_err());
    assert_eq!(receiver.count("b"), 1, "applied though the answer was lost");
    assert_eq!(post(&receiver, "b", "[2]").await.unwrap(), 204);
    assert_eq!(receiver.count("b"), 1);

    receiver.refuse(|reading| reading["value"] == 13);
    receiver.limit_body(40);
    assert_eq!(post(&receiver, "c", r#"[{"value":12},{"value":13}]"#).await.unwrap(), 422);
    assert_eq!(post(&receiver, "c", format!("[{}1]", "1,".repeat(20))).await.unwrap(), 413);
    assert_eq!(post(&receiver, "c", r#"[{"value":12}]"#).await.unwrap(), 204);
    receiver.answer(Answer::Status(401, None));
    assert_eq!(post(&receiver, "d", "[1]").await.unwrap(), 401);
    assert_eq!(post(&receiver, "d", "[1]").await.unwrap(), 401);
}

// ---- the fault proxy

/// A peer that sends back what it gets.
async fn start_echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut peer, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = peer.split();
                tokio::io::copy(&mut read, &mut write).await.ok();
            });
        }
    });
    port
}

async fn echo(connection: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    connection.write_all(bytes).await?;
    let mut read = vec![0; bytes.len()];
    connection.read_exact(&mut read).await?;
    assert!(read == bytes);
    Ok(())
}

#[tokio::test]
async fn a_proxy_cuts_swallows_delays_throttles_and_resets() {
    let proxy = FaultProxy::start(start_echo().await).await;
    let connect = || TcpStream::connect(("127.0.0.1", proxy.port()));
    let mut connection = connect().await.unwrap();
    echo(&mut connection, b"hello").await.unwrap();

    proxy.set(Fault::Delay(Duration::from_millis(100)));
    let asked_at = Instant::now();
    echo(&mut connection, b"hello").await.unwrap();
    assert!(asked_at.elapsed() >= Duration::from_millis(200), "delayed both ways");

    proxy.set(Fault::Throttle(40_000));
    let asked_at = Instant::now();
    echo(&mut connection, &[7; 8000]).await.unwrap();
    assert!(asked_at.elapsed() >= Duration::from_millis(200), "8000 bytes at 40 kB/s");

    proxy.set(Fault::HalfOpen);
    assert!(timeout(SILENCE, echo(&mut connection, b"lost")).await.is_err());
    let mut late = timeout(LIMIT, connect()).await.unwrap().expect("a half-open way accepts connections");
    assert!(timeout(SILENCE, echo(&mut late, b"lost")).await.is_err());
    proxy.set(Fault::None);
    let reset = timeout(LIMIT, connection.read(&mut [0; 8])).await.unwrap();
    assert_eq!(reset.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);

    let mut connection = connect().await.unwrap();
    echo(&mut connection, b"hello").await.unwrap();
    proxy.reset();
    let reset = timeout(LIMIT, connection.read(&mut [0; 8])).await.unwrap();
    assert_eq!(reset.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);

    let mut connection = connect().await.unwrap();
    echo(&mut connection, b"hello").await.unwrap();
    proxy.set(Fault::Cut);
    assert_eq!(timeout(LIMIT, connection.read(&mut [0; 8])).await.unwrap().unwrap(), 0);
    e2e::wait::until_some("connections to be refused", LIMIT, || async { connect().await.err() }).await;
    proxy.set(Fault::None);
    let mut connection =
        e2e::wait::until_some("connections to be accepted", LIMIT, || async { connect().await.ok() }).await;
    echo(&mut connection, b"hello").await.unwrap();
}

// ---- the gateway's wrapper

#[tokio::test]
async fn a_gateway_is_started_asked_killed_and_ended() {
    let stand_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/stand_in_gateway.py");
    let mut gateway = Gateway::prepare_binary(stand_in, "[gateway]\nid = \"plant-7\"\n");
    gateway.start_again().await;
    assert!(gateway.logs().contains("page: http://127.0.0.1:"));
    assert_eq!(gateway.get("/ready").await, (200, String::new()));
    assert_eq!(gateway.metric("accepted", &[]).await, Some(5.0));
    assert_eq!(gateway.metric("accepted", &["source=\"b\""]).await, Some(3.0));
    assert_eq!(gateway.metric("rejected", &[]).await, None);
    gateway.kill_and_start_again().await;
    assert_eq!(gateway.get("/ready").await.0, 200);
    assert_eq!(gateway.terminate().await.code(), Some(0));

    gateway.configure("[gateway]\nrefused = true\n");
    gateway.spawn();
    assert_eq!(gateway.wait_exit().await.code(), Some(78));
    assert!(gateway.logs().contains("unknown key"));
}

// ---- the books

#[test]
fn the_books_tell_once_repeated_missing_unexpected_and_out_of_order() {
    let entry = |counter| Entry::new("boiler", "temp", counter);
    let verdict = Verdict::new((1..=6).map(entry), [1, 3, 2, 4, 4, 9].map(entry));
    assert_eq!(verdict.once, 3);
    assert_eq!(verdict.repeated, [entry(4)]);
    assert_eq!(verdict.missing, [entry(5), entry(6)]);
    assert_eq!(verdict.unexpected, [entry(9)]);
    assert_eq!(verdict.out_of_order, [entry(2)]);
    assert_eq!(
        verdict.to_string(),
        "3 once, 1 repeated (boiler/temp #4), 2 missing (boiler/temp #5, boiler/temp #6), \
         1 unexpected (boiler/temp #9), 1 out of order (boiler/temp #2)"
    );
    assert!(!verdict.is_exactly_once());
    Verdict::new((1..=6).map(entry), (1..=6).map(entry)).assert_exactly_once("a test");
}

#[test]
fn the_books_read_delivered_readings_and_their_sequence() {
    let reading =
        |device, seq, value| json!({"device": device, "point": "temp", "epoch": "e", "seq": seq, "value": value});
    assert_eq!(Entry::of_reading(&reading("a", 1, json!(7.0))), Some(Entry::new("a", "temp", 7)));
    assert_eq!(Entry::of_reading(&reading("a", 1, json!(7.5))), None);
    assert_eq!(Entry::of_reading(&json!({"device": "a"})), None);

    let readings =
        [("a", 1), ("b", 2), ("a", 3), ("a", 3), ("b", 1)].map(|(device, seq)| reading(device, seq, json!(0)));
    assert_eq!(sequence_setbacks(&readings), ["a: 3 after 3", "b: 1 after 2"]);
}
