//! Sources and sinks tried before they are saved, and discovery, against real peers: what works, and what is said when it does not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use e2e::kafka::Kafka;
use e2e::modbus::{Behaviour, Modbus, Table};
use e2e::mosquitto::{Broker, BrokerOptions, Publisher};
use e2e::receiver::{Answer, Receiver};
use forebay::reading::{Epoch, SequenceRange, Stream};
use forebay::sinks::SinkOptions;
use forebay::sinks::kafka::KafkaSink;
use forebay::sinks::{Offer, Outcome, Rendered, Sink as _};
use forebay::sources::SourceOptions;
use forebay::sources::discover::{ModbusQuestion, TopicSearch, modbus_read_once, mqtt_topics};
use forebay::tryout::{Step, StepOutcome, TryReport, Verdict};
use rumqttc::{Event, Packet, QoS};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Longer than any try-out may take.
const LIMIT: Duration = Duration::from_secs(30);
/// Room for all steps.
const STEPS_MAX: usize = 200;

fn mqtt(url: &str, more: &str) -> SourceOptions {
    let text = format!(
        r#"
        type = "mqtt"
        name = "plant"
        url = "{url}"
        {more}
        [[subscribe]]
        filter = "plant/+/+"
        device = "{{2}}"
        point = "{{3}}"
        unit = "°C"
        payload = {{ format = "json", value = "/v", time = "/t" }}
        "#
    );
    toml::from_str(&text).unwrap()
}

async fn try_source(options: &SourceOptions) -> TryReport {
    timeout(LIMIT, options.try_out(&[], None, LIMIT)).await.expect("a try-out ends by itself")
}

async fn try_sink(options: &SinkOptions) -> TryReport {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
    timeout(LIMIT, options.try_out("plant-7", None, LIMIT)).await.expect("a try-out ends by itself")
}

fn failure(report: &TryReport) -> (String, String) {
    let (what, advice) = report.failure().unwrap_or_else(|| panic!("nothing failed: {report:#?}"));
    (what.to_owned(), advice.to_owned())
}

/// Publishes again and again until the test drops it.
fn talk(broker: &Broker, messages: &'static [(&'static str, &'static str)]) -> tokio::task::JoinHandle<()> {
    let publisher = Publisher::connect(broker, "device");
    tokio::spawn(async move {
        loop {
            for (topic, payload) in messages {
                publisher.publish(topic, *payload).await;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
}

#[tokio::test]
async fn a_broker_is_tried_step_by_step_down_to_the_value() {
    let broker = Broker::start().await;
    let talking = talk(&broker, &[("plant/boiler/temp", r#"{"v":71.5,"t":1764000000}"#)]);
    let (sender, mut watcher) = mpsc::channel::<Step>(STEPS_MAX);
    let options = mqtt(&broker.url(), "");
    let report = timeout(LIMIT, options.try_out(&[], Some(sender), LIMIT)).await.unwrap();
    talking.abort();
    assert_eq!(report.verdict, Verdict::Works, "{report:#?}");
    let value = &report.values[0];
    assert_eq!((value.device.as_str(), value.point.as_str(), value.unit.as_str()), ("boiler", "temp", "°C"));
    assert_eq!(value.value, Some(71.5.into()));
    assert_eq!(value.observed_at_us, Some(1_764_000_000_000_000));
    let mut told = Vec::new();
    while let Some(step) = watcher.recv().await {
        if step.outcome != StepOutcome::Running {
            told.push(step);
        }
    }
    assert_eq!(told, report.steps);
    let whats: Vec<_> = report.steps.iter().map(|step| step.what.split(' ').next().unwrap()).collect();
    assert_eq!(whats, ["connect", "log", "subscribe", "wait", "read"]);
}

#[tokio::test]
async fn a_payload_that_cannot_be_read_is_told_with_where_its_numbers_stand() {
    let broker = Broker::start().await;
    let talking = talk(&broker, &[("plant/boiler/temp", r#"{"temp":71.5}"#)]);
    let report = try_source(&mqtt(&broker.url(), "")).await;
    talking.abort();
    let (what, advice) = failure(&report);
    assert!(what.contains("nothing at \"/v\""), "{what}");
    assert!(advice.contains("\"/temp\""), "{advice}");
    assert_eq!(report.verdict, Verdict::Partly);
}

#[tokio::test]
async fn a_try_out_takes_nothing_from_the_running_session() {
    let broker = Broker::start().await;
    // The running source's session, with a subscription and nobody connected.
    broker.remember("forebay-gateway-plant", &["plant/#"]).await;
    let publisher = Publisher::connect(&broker, "other-device");
    let talking = talk(&broker, &[("plant/boiler/temp", r#"{"v":1}"#)]);
    let report = try_source(&mqtt(&broker.url(), "")).await;
    talking.abort();
    assert_eq!(report.verdict, Verdict::Works, "{report:#?}");
    publisher.publish("plant/boiler/last", r#"{"v":2}"#).await;
    publisher.all_acknowledged(LIMIT).await;
    let options = broker.client_options("forebay-gateway-plant");
    let (_client, mut events) = rumqttc::AsyncClient::new(options, 10);
    let all_come = async {
        let mut seen = 0_u64;
        loop {
            if let Event::Incoming(Packet::Publish(publish)) = events.poll().await.unwrap() {
                assert_eq!(publish.qos, QoS::AtLeastOnce);
                seen += 1;
                if publish.topic == "plant/boiler/last" {
                    return seen;
                }
            }
        }
    };
    assert!(timeout(LIMIT, all_come).await.unwrap() > 1, "what came during the try-out waits for the running source");
}

#[tokio::test]
async fn a_refused_password_and_a_missing_password_file_are_told_apart() {
    let login = Some(("forebay".to_owned(), "right".to_owned()));
    let broker = Broker::start_with(&BrokerOptions { login, ..BrokerOptions::default() }).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    let with_login = mqtt(&broker.url(), &format!("username = \"forebay\"\npassword_file = \"{}\"", file.display()));
    let (what, _) = failure(&try_source(&with_login).await);
    assert!(what.contains("cannot be read"), "{what}");
    std::fs::write(&file, "wrong").unwrap();
    let report = try_source(&with_login).await;
    let (what, advice) = failure(&report);
    assert!(what.contains("refused the connection") && advice.contains("password"), "{what}; {advice}");
    assert_eq!(report.verdict, Verdict::Fails);
    std::fs::write(&file, "right").unwrap();
    let report = try_source(&with_login).await;
    let (what, _) = failure(&report);
    assert!(what.contains("no message within 10 s on plant/+/+"), "{what}");
    assert_eq!(report.verdict, Verdict::Partly, "all but a device that talks is there");
}

#[tokio::test]
async fn topics_of_a_broker_are_found_with_how_to_read_them() {
    let broker = Broker::start().await;
    let messages =
        &[("plant/boiler/temp", r#"{"v":71.5}"#), ("plant/pump/state", "on"), ("plant/door/text", "open sesame")];
    let talking = talk(&broker, messages);
    let search =
        TopicSearch { url: broker.url(), username: None, password_file: None, filter: "#".to_owned(), seconds: 2 };
    let (sender, mut seen) = mpsc::channel(STEPS_MAX);
    let found = timeout(LIMIT, mqtt_topics(&search, Some(sender))).await.unwrap().unwrap();
    talking.abort();
    let names: Vec<_> = found.topics.iter().map(|topic| topic.topic.as_str()).collect();
    assert_eq!(names, ["plant/boiler/temp", "plant/door/text", "plant/pump/state"]);
    let [boiler, door, pump] = &found.topics[..] else { panic!("{found:?}") };
    assert_eq!(boiler.suggestion.as_ref().unwrap().filter, "plant/+/+");
    assert_eq!(boiler.numbers[0].pointer, "/v");
    assert!(boiler.count > 1 && boiler.per_second > 1.0 && !boiler.is_retained, "{boiler:?}");
    assert!(door.suggestion.is_none() && pump.suggestion.is_some());
    assert!(seen.recv().await.is_some());
}

fn modbus(url: &str, running_units: &str) -> SourceOptions {
    toml::from_str(&format!("type = \"modbus\"\nname = \"bus\"\nurl = \"{url}\"\ntimeout_ms = 300\n{running_units}"))
        .unwrap()
}

const UNITS: &str = r#"
    [[unit]]
    id = 1
    device = "meter"
    registers = [
        { point = "flow", table = "holding", address = 10, kind = "f32", order = "cdab", unit = "m³/h" },
        { point = "level", table = "holding", address = 12, kind = "u16", scale = 0.1 },
        { point = "pump", table = "coil", address = 3 },
    ]
    [[unit]]
    id = 9
    device = "wrong"
    registers = [{ point = "x", table = "holding", address = 0 }]
"#;

#[tokio::test]
async fn units_of_a_bus_are_read_with_their_raw_words_and_a_wrong_unit_id_is_told() {
    for mut device in [Modbus::tcp(), Modbus::rtu()] {
        device.set(1, Table::Holding, 10, &[0xe979, 0x42f6, 235]);
        device.set(1, Table::Coil, 3, &[1]);
        let options = modbus(&device.url(), UNITS);
        let report = try_source(&options).await;
        assert_eq!(report.verdict, Verdict::Partly, "{report:#?}");
        let shown: Vec<_> = report.values.iter().map(|value| (value.raw.as_str(), value.words())).collect();
        let expected = ["meter/pump = true", "meter/flow = 123.456 m³/h", "meter/level = 23.5"];
        assert_eq!(shown[..3].iter().map(|(_, words)| words.as_str()).collect::<Vec<_>>(), expected, "{report:#?}");
        assert_eq!(shown[..3].iter().map(|(raw, _)| *raw).collect::<Vec<_>>(), ["1", "e979 42f6", "00eb"]);
        let (what, advice) = failure(&report);
        assert!(what.contains("no reply from unit 9 within 300 ms") && advice.contains("unit id"), "{what}; {advice}");
        if device.url().starts_with("rtu") {
            let report = options.try_out(std::slice::from_ref(&options), None, LIMIT).await;
            assert_eq!(report.verdict, Verdict::InUse, "a port that the gateway reads is left alone");
        }
    }
}

#[tokio::test]
async fn an_exception_is_told_by_its_name() {
    let mut device = Modbus::tcp();
    device.set(1, Table::Holding, 10, &[1]);
    device.behave(1, Behaviour::Exception(4));
    let report = try_source(&modbus(&device.url(), UNITS)).await;
    let (what, _) = failure(&report);
    assert!(what.contains("exception 4 (server device failure)"), "{what}");
    assert_eq!(report.verdict, Verdict::Fails);
}

#[tokio::test]
async fn a_device_is_asked_once_and_its_words_read_in_every_way() {
    let mut device = Modbus::tcp();
    device.set(1, Table::Input, 7, &[0x42f6, 0xe979]);
    let question = ModbusQuestion {
        url: device.url(),
        unit: 1,
        table: forebay::sources::modbus::Table::Input,
        address: 7,
        count: 2,
        timeout_ms: 1_000,
        quiet_ms: 0,
    };
    let answer = timeout(LIMIT, modbus_read_once(&question, &[])).await.unwrap().unwrap();
    assert_eq!(answer.hex, ["42f6", "e979"]);
    let is_flow = |value: &serde_json::Value| value.as_f64().is_some_and(|value| (value - 123.456).abs() < 1e-3);
    assert!(answer.readings.iter().any(|reading| reading.address == 7 && is_flow(&reading.value)), "{answer:?}");
    let wrong = ModbusQuestion { unit: 9, timeout_ms: 200, ..question };
    let error = modbus_read_once(&wrong, &[]).await.unwrap_err();
    assert!(error.what.contains("no reply from unit 9"), "{error}");
}

fn http(url: &str) -> SinkOptions {
    toml::from_str(&format!("type = \"http\"\nname = \"cloud\"\nurl = \"{url}\"\ntimeout_ms = 2000")).unwrap()
}

#[tokio::test]
async fn an_endpoint_gets_one_record_that_says_that_it_is_a_test() {
    let receiver = Receiver::start();
    let report = try_sink(&http(&receiver.url())).await;
    assert_eq!(report.verdict, Verdict::Works, "{report:#?}");
    let requests = receiver.requests();
    assert_eq!((requests.len(), requests[0].readings), (1, 1));
    let key = requests[0].key.clone().unwrap();
    assert!(key.starts_with("plant-7/test/"), "{key}");
    assert_eq!(requests[0].headers["forebay-stream"], "readings");
    let record = receiver.stream(&key).pop().unwrap();
    assert_eq!((record["test"].clone(), record["device"].clone()), (true.into(), "forebay-test".into()));
}

#[tokio::test]
async fn what_an_endpoint_answers_is_told_with_what_it_would_mean() {
    let receiver = Receiver::start();
    for (answer, what, advice) in [
        (Answer::Status(401, None), "401", "token"),
        (Answer::Status(404, None), "404", "path of url"),
        (Answer::Status(500, None), "500", "sent again"),
        (Answer::Status(503, Some("7".to_owned())), "503", "after 7 s"),
        (Answer::Status(422, None), "422", "format"),
        (Answer::Status(302, None), "302", "redirects are not followed"),
        (Answer::Rubbish, "", "HTTP"),
        (Answer::Never, "no answer within 2000 ms", ""),
    ] {
        receiver.script([answer]);
        let report = try_sink(&http(&receiver.url())).await;
        assert_eq!(report.verdict, Verdict::Fails, "{report:#?}");
        let (told, told_advice) = failure(&report);
        assert!(told.contains(what) && told_advice.contains(advice), "{what}: {told}; {told_advice}");
    }
}

fn kafka(address: &str, more: &str) -> SinkOptions {
    let text =
        format!("type = \"kafka\"\nname = \"upstream\"\nbrokers = [\"{address}\"]\ntopic_prefix = \"plant\"\n{more}");
    toml::from_str(&text).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_commits_the_test_record_and_the_running_producer_is_not_fenced() {
    let cluster = Kafka::start().await;
    let options = kafka(&cluster.address(), "");
    let SinkOptions::Kafka(plain) = &options else { panic!("{options:?}") };
    let mut running = KafkaSink::new("plant-7", plain).unwrap();
    running.recover(None).await.unwrap();

    let report = try_sink(&options).await;
    assert_eq!(report.verdict, Verdict::Works, "{report:#?}");
    let records = cluster.read_committed("plant.test").await;
    let record: serde_json::Value = serde_json::from_slice(records[0].value.as_deref().unwrap()).unwrap();
    assert_eq!((records.len(), record["test"].clone()), (1, true.into()));

    let record = Rendered { key: "boiler".into(), json: bytes::Bytes::from_static(b"{\"seq\":0}") };
    let cursor = forebay::buffer::Cursor { ranges: Vec::new(), from: 1 };
    let offer = Offer {
        key: "plant-7/0/upstream/readings/0-0".to_owned(),
        stream: Stream::Readings,
        replay: None,
        range: SequenceRange { first: 0, last: 0 },
        records: &[record],
        epoch: Epoch(7),
        run_mark: 1,
        cursor_after: &cursor,
    };
    let outcome = running.deliver(&offer).await;
    assert!(matches!(outcome, Outcome::Delivered { .. }), "{outcome:?}");

    let at_least_once = try_sink(&kafka(&cluster.address(), "exactly_once = false")).await;
    assert_eq!(at_least_once.verdict, Verdict::Works, "{at_least_once:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_makes_no_topics_is_told_by_the_topics_name() {
    let cluster = Kafka::start_with("auto.create.topics.enable=false").await;
    let (what, advice) = failure(&try_sink(&kafka(&cluster.address(), "")).await);
    assert!(what.contains("plant.test is not there") && advice.contains("create it"), "{what}; {advice}");
}

#[tokio::test]
async fn a_port_that_is_no_kafka_is_told_in_time() {
    let receiver = Receiver::start();
    let report = try_sink(&kafka(&format!("127.0.0.1:{}", receiver.port()), "")).await;
    assert_eq!(report.verdict, Verdict::Fails, "{report:#?}");
    assert!(report.took_ms < 16_000);
    let (what, advice) = failure(&report);
    assert!(advice.contains("plain Kafka"), "{what}; {advice}");
}
