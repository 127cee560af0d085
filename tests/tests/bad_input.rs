//! Bad input: each gets a counted, visible reason, hurts nothing else, and what is good arrives before and after it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use e2e::books::{Entry, Verdict};
use e2e::firmware::{self, Firmware};
use e2e::gateway::Gateway;
use e2e::modbus::{Behaviour, Modbus, Table};
use e2e::mosquitto::{Broker, Publisher};
use e2e::receiver::Receiver;
use e2e::serial::Line;
use e2e::wait;
use serde_json::{Value, json};
use tokio::time::interval;

/// Longer than anything in these tests takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

fn sink(receiver: &Receiver) -> String {
    format!(
        r#"
        [[sink]]
        type = "http"
        name = "cloud"
        url = "{}"
        linger_ms = 50
        "#,
        receiver.url()
    )
}

fn mqtt_source(name: &str, broker: &Broker) -> String {
    format!(
        r#"
        [[source]]
        type = "mqtt"
        name = "{name}"
        url = "{}"
        packet_max = "200 KiB"
        [[source.subscribe]]
        filter = "plant/+/+"
        device = "{{2}}"
        point = "{{3}}"
        payload = {{ format = "json", value = "/value", time = "/ts" }}
        [[source.subscribe]]
        filter = "meter/+/power"
        device = "meter-{{2}}"
        point = "power"
        unit = "kW"
        payload = {{ format = "number" }}
        "#,
        broker.url()
    )
}

fn text_source(line: &Line) -> String {
    format!(
        r#"
        [[source]]
        type = "serial"
        name = "scale"
        port = "{}"
        framing = {{ kind = "delimiter", bytes_max = 100 }}
        device = "scale"
        payload = {{ format = "csv", columns = [{{ point = "weight" }}, {{ point = "tare" }}] }}
        "#,
        line.path().display()
    )
}

/// Whether the receiver holds a reading of this device and point with this value.
fn has(receiver: &Receiver, device: &str, point: &str, value: &Value) -> bool {
    receiver
        .stream("readings")
        .iter()
        .any(|reading| reading["device"] == device && reading["point"] == point && &reading["value"] == value)
}

async fn arrives(receiver: &Receiver, device: &str, point: &str, value: Value) {
    let what = format!("{device}/{point} = {value} to arrive");
    wait::until(what, LIMIT, || has(receiver, device, point, &value)).await;
}

/// Dead letters, each by its first part.
fn letters(receiver: &Receiver) -> Vec<Value> {
    receiver.stream("dead-letters").into_iter().filter(|letter| letter["part"] == 0).collect()
}

/// What a source has received is accepted, duplicate or rejected, as soon as nothing is on its way to the disk.
async fn assert_books_close(gateway: &Gateway, source: &str) {
    wait::until_some(format!("the books of {source} to close"), LIMIT, || async {
        let status = gateway.status_of("sources", source).await;
        let count = |key: &str| status[key].as_u64();
        (count("received")? == count("accepted")? + count("duplicate")? + count("rejected")?).then_some(())
    })
    .await;
}

/// Has a line speak until it is heard: what came before the gateway had opened it is not told apart from half a message.
async fn is_heard(line: &Line, receiver: &Receiver) {
    wait::until_some("the first line to arrive", LIMIT, || async {
        line.write_all(b"0,10\n").await;
        has(receiver, "scale", "tare", &json!(10)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_cannot_be_read_becomes_a_dead_letter_that_says_why() {
    let (broker, receiver) = (Broker::start().await, Receiver::start());
    // One subscription is not in the configuration any more.
    broker.remember("forebay-e2e-broker", &["plant/+/+", "meter/+/power", "elsewhere/#"]).await;
    let gateway = Gateway::start(&(mqtt_source("broker", &broker) + &sink(&receiver))).await;
    let publisher = Publisher::connect(&broker, "plant");
    publisher.publish("plant/boiler/temp", r#"{"value":1}"#).await;
    arrives(&receiver, "boiler", "temp", json!(1)).await;

    let long_name = format!("plant/{}/temp", "x".repeat(200));
    let deep = format!("{}1{}", "[".repeat(5_000), "]".repeat(5_000));
    let long_text = json!({"value": "x".repeat(5_000)}).to_string();
    let large = json!({"value": 1, "padding": "x".repeat(1_000_000)}).to_string();
    let bad: [(&str, &[u8], &str); 16] = [
        ("plant/boiler/temp", br#"{"value":"#, "not JSON"),
        ("plant/boiler/temp", b"", "not JSON"),
        ("plant/boiler/temp", b"\xff\xfe\x00", "not JSON"),
        ("plant/boiler/temp", deep.as_bytes(), "not JSON"),
        ("plant/boiler/temp", br#"{"value":NaN}"#, "not JSON"),
        ("plant/boiler/temp", br#"{"value":-Infinity}"#, "not JSON"),
        ("plant/boiler/temp", br#"{"value":1e999}"#, "not JSON"),
        ("plant/boiler/temp", br#"{"valu":1}"#, "nothing at \"/value\""),
        ("plant/boiler/temp", br#"{"value":[1,2]}"#, "array"),
        ("plant/boiler/temp", br#"{"value":1,"ts":"yesterday"}"#, "is not a time"),
        ("plant/boiler/temp", long_text.as_bytes(), "text value of 5000 bytes"),
        ("plant/boiler/temp", large.as_bytes(), "packet_max"),
        ("plant//temp", br#"{"value":1}"#, "device name"),
        (&long_name, br#"{"value":1}"#, "device name"),
        ("meter/7/power", b"much", "is not a number"),
        ("elsewhere/boiler/temp", br#"{"value":1}"#, "no subscription means this topic"),
    ];
    for (topic, payload, _) in bad {
        publisher.publish(topic, payload).await;
    }
    publisher.publish("plant/boiler/temp", r#"{"value":2}"#).await;
    publisher.all_acknowledged(LIMIT).await;
    arrives(&receiver, "boiler", "temp", json!(2)).await;
    wait::until("a dead letter for each", LIMIT, || letters(&receiver).len() >= bad.len()).await;

    let letters = letters(&receiver);
    assert_eq!(letters.len(), bad.len(), "{letters:#?}");
    for ((topic, payload, why), letter) in bad.iter().zip(&letters) {
        let error = letter["error"].as_str().unwrap();
        assert!(error.contains(why), "{topic} with {} bytes: {error:?} does not say {why:?}", payload.len());
        assert_eq!(letter["position"], *topic);
        assert_eq!(letter["source"], "broker");
        assert_eq!(letter["original_bytes"], json!(payload.len()), "{letter}");
        if letter["parts"] == 1 && letter["original_encoding"] == "utf8" {
            assert_eq!(letter["original"].as_str().unwrap().as_bytes(), *payload);
        }
    }
    assert_eq!(receiver.count("readings"), 2);
    let rejected = gateway.metric("forebay_source_rejected_samples_total", &["source=\"broker\""]).await;
    assert_eq!(rejected, Some(16.0));
    assert_books_close(&gateway, "broker").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_names_and_values_that_are_no_numbers_are_taken_as_they_are() {
    let (broker, receiver) = (Broker::start().await, Receiver::start());
    broker.remember("forebay-e2e-broker", &["plant/+/+", "meter/+/power"]).await;
    let gateway = Gateway::start(&(mqtt_source("broker", &broker) + &sink(&receiver))).await;
    let publisher = Publisher::connect(&broker, "plant");
    let names =
        ["<img src=x onerror=alert(1)>", "'; DROP TABLE readings; --", "..", "{2}", "a\"b\\c", "µ-ŝéñšør", "%s%n", "*"];
    for name in names {
        publisher.publish(&format!("plant/{name}/temp"), r#"{"value":7}"#).await;
    }
    publisher.publish("meter/1/power", "NaN").await;
    publisher.publish("meter/1/power", "-inf").await;
    publisher.publish("meter/1/power", "3").await;
    for name in names {
        arrives(&receiver, name, "temp", json!(7)).await;
    }
    arrives(&receiver, "meter-1", "power", json!(3)).await;
    let from_meter: Vec<Value> =
        receiver.stream("readings").into_iter().filter(|reading| reading["device"] == "meter-1").collect();
    let absent = |reading: &Value| {
        reading["value"].is_null()
            && reading["no_data"].is_string()
            && reading["quality"] == "bad"
            && reading["flags"].as_array().unwrap().contains(&json!("no_data"))
    };
    assert_eq!(from_meter.len(), 3);
    assert!(from_meter.iter().take(2).all(absent), "NaN and infinity are no values, and say so: {from_meter:#?}");
    for path in ["/", "/points"] {
        let (code, html) = gateway.get(path).await;
        assert_eq!(code, 200);
        assert!(!html.contains("<img src=x"), "{path} must not let a device write into the page");
    }
    assert_eq!(receiver.count("dead-letters"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_packet_that_no_gateway_can_take_is_alarmed_and_hurts_its_own_broker_alone() {
    let (mut broker, receiver, line) = (Broker::start().await, Receiver::start(), Line::plugged());
    let other = Broker::start().await;
    broker.remember("forebay-e2e-broker", &["plant/+/+"]).await;
    other.remember("forebay-e2e-other", &["plant/+/+"]).await;
    let config =
        mqtt_source("broker", &broker) + &mqtt_source("other", &other) + &text_source(&line) + &sink(&receiver);
    let gateway = Gateway::start(&config).await;
    let publisher = Publisher::connect(&broker, "plant");
    publisher.publish("plant/boiler/temp", r#"{"value":1}"#).await;
    arrives(&receiver, "boiler", "temp", json!(1)).await;

    let mut options = broker.client_options("giant");
    options.set_max_packet_size(32 << 20, 32 << 20);
    let giant = Publisher::connect_with(options);
    giant.publish("plant/boiler/temp", vec![b' '; 17 << 20]).await;
    giant.all_acknowledged(LIMIT).await;
    wait::until_some("the alarm", LIMIT, || async {
        let status = gateway.status().await;
        let troubles = status["troubles"].as_array()?.clone();
        let found = troubles.iter().find(|trouble| trouble["subject"] == "broker")?;
        assert!(found["what"].as_str()?.contains("cannot be read"), "{found}");
        assert!(found["advice"].as_str()?.contains("message_size_limit"), "{found}");
        Some(())
    })
    .await;
    let healthy = Publisher::connect(&other, "plant");
    healthy.publish("plant/mill/temp", r#"{"value":5}"#).await;
    arrives(&receiver, "mill", "temp", json!(5)).await;
    is_heard(&line, &receiver).await;

    // Somebody removes it at the broker: it comes back without what it held.
    broker.kill();
    broker.start_again().await;
    let publisher = Publisher::connect(&broker, "again");
    let mut next = 100;
    wait::until_some("readings from the mended broker", LIMIT, || {
        next += 1;
        let (publisher, receiver) = (&publisher, &receiver);
        async move {
            // What is published before the gateway is back has no subscriber yet.
            publisher.publish("plant/boiler/temp", format!("{{\"value\":{next}}}")).await;
            receiver
                .stream("readings")
                .iter()
                .any(|reading| reading["device"] == "boiler" && reading["value"].as_i64() >= Some(100))
                .then_some(())
        }
    })
    .await;
    wait::until_some("the alarm to end", LIMIT, || async {
        gateway.status().await["troubles"].as_array()?.is_empty().then_some(())
    })
    .await;
    let told = |raised: bool| {
        let alerts = receiver.stream("alerts");
        alerts.iter().any(|alert| alert["subject"] == "broker" && alert["raised"] == raised)
    };
    wait::until("its beginning and its end to arrive as alerts", LIMIT, || told(true) && told(false)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exceptions_and_silence_on_a_bus_are_told_by_unit_and_its_neighbours_go_on() {
    let (mut modbus, receiver) = (Modbus::tcp(), Receiver::start());
    for unit in 1..=3 {
        modbus.count(unit, Table::Holding, 0, 1);
    }
    modbus.behave(2, Behaviour::Exception(4));
    modbus.behave(3, Behaviour::Silent);
    let mut config = format!(
        "[buffer]\ncommit_interval_ms = 10\n[[source]]\ntype = \"modbus\"\nname = \"bus\"\nurl = \"{}\"\ntimeout_ms = 200\n",
        modbus.url()
    );
    for unit in 1..=3 {
        write!(
            config,
            "[[source.unit]]\nid = {unit}\ndevice = \"unit-{unit}\"\nevery_ms = 100\n\
             registers = [{{ point = \"count\", table = \"holding\", address = 0 }}]\n"
        )
        .unwrap();
    }
    let gateway = Gateway::start(&(config + &sink(&receiver))).await;
    let of_unit = |unit: u8| -> Vec<Value> {
        let device = format!("unit-{unit}");
        receiver.stream("readings").into_iter().filter(|reading| reading["device"] == device.as_str()).collect()
    };
    wait::until("the good unit's readings", LIMIT, || of_unit(1).len() >= 20).await;
    wait::until("the others' reasons", LIMIT, || !of_unit(2).is_empty() && !of_unit(3).is_empty()).await;
    let refusing = of_unit(2);
    let expected = json!({"value": null, "no_data": "exception", "exception": 4});
    for (key, value) in expected.as_object().unwrap() {
        assert!(refusing.iter().all(|reading| &reading[key] == value), "unit 2: {:?}", refusing.first());
    }
    let silent = of_unit(3);
    assert!(silent.iter().all(|reading| reading["value"].is_null() && reading["no_data"] == "timeout"), "{silent:?}");
    let troubles = wait::until_some("the trouble", LIMIT, || async {
        let status = gateway.status().await;
        let troubles = status["troubles"].as_array()?.clone();
        (!troubles.is_empty()).then_some(troubles)
    })
    .await;
    assert_eq!(troubles.len(), 1, "only the silent unit needs a person: {troubles:?}");
    assert!(troubles[0]["what"].as_str().unwrap().contains("Unit 3 does not answer"), "{troubles:?}");
    assert!(troubles[0]["advice"].as_str().unwrap().contains("wiring"), "{troubles:?}");
    let source = gateway.status_of("sources", "bus").await;
    assert!(source["errors"].as_u64() > Some(0), "{source}");

    modbus.behave(2, Behaviour::Normal);
    modbus.behave(3, Behaviour::Normal);
    let has_values = |unit: u8| of_unit(unit).iter().any(|reading| reading["value"].is_number());
    wait::until("both to come back by themselves", LIMIT, || has_values(2) && has_values(3)).await;
    wait::until_some("the trouble to end", LIMIT, || async {
        gateway.status().await["troubles"].as_array()?.is_empty().then_some(())
    })
    .await;
    assert_books_close(&gateway, "bus").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn noise_and_endless_lines_on_a_serial_line_lose_nothing_but_themselves() {
    let (receiver, text, frames) = (Receiver::start(), Line::plugged(), Arc::new(Line::plugged()));
    let firmware = format!(
        r#"
        [[source]]
        type = "serial"
        name = "probe"
        port = "{}"
        framing = {{ kind = "firmware" }}
        device = "probe"
        "#,
        frames.path().display()
    );
    let gateway = Gateway::start(&(text_source(&text) + &firmware + &sink(&receiver))).await;
    let microcontroller = Firmware::start(Arc::clone(&frames), Duration::from_millis(5));

    is_heard(&text, &receiver).await;
    let mut noise: Vec<u8> = (0..60).map(|_| fastrand::u8(128..)).collect();
    noise.extend_from_slice(b"\n");
    let endless = [vec![b'7'; 10_000], b"\n".to_vec()].concat();
    let bad: [(&[u8], &str); 4] = [
        (&noise, "not UTF-8"),
        (&endless, "longer than 100 bytes"),
        (b"3\n", "1 columns instead of 2"),
        (b"4,heavy\n", "column 2"),
    ];
    for (line, _) in bad {
        text.write_all(line).await;
    }
    text.write_all(b"2,20\n").await;
    arrives(&receiver, "scale", "tare", json!(20)).await;
    wait::until("a dead letter for each", LIMIT, || letters(&receiver).len() >= bad.len()).await;
    let letters = letters(&receiver);
    assert_eq!(letters.len(), bad.len(), "{letters:#?}");
    for ((_, why), letter) in bad.iter().zip(&letters) {
        assert!(letter["error"].as_str().unwrap().contains(why), "{letter} does not say {why:?}");
    }
    assert!(has(&receiver, "scale", "weight", &json!(4)), "the good column of a line with a bad one is kept");

    let mut pace = interval(Duration::from_millis(20));
    for _ in 0..100 {
        pace.tick().await;
        frames.write_noise(64).await;
    }
    let last = microcontroller.finish(LIMIT).await;
    arrives(&receiver, "probe", firmware::POINT, json!(last)).await;
    let expected = (1..=last).map(|count| Entry::new("probe", firmware::POINT, count));
    let arrived = receiver.stream("readings");
    let arrived = arrived.iter().filter_map(Entry::of_reading).filter(|entry| entry.device == "probe");
    Verdict::new(expected, arrived).assert_exactly_once("the receiver, over a noisy line");
    let source = gateway.status_of("sources", "probe").await;
    assert!(source["errors"].as_u64() > Some(0), "noise is counted: {source}");
    for source in ["probe", "scale"] {
        assert_books_close(&gateway, source).await;
    }
}
