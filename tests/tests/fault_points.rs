//! The gateway ends itself at every step of its protocols, and every reading arrives exactly once all the same.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use e2e::arrivals::{assert_whole, of_topic};
use e2e::books::{Entry, Verdict, sequence_setbacks};
use e2e::gateway::Gateway;
use e2e::kafka::Kafka;
use e2e::mosquitto::{Broker, Publisher};
use e2e::receiver::Receiver;
use e2e::wait;
use forebay::fault::POINTS;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::interval;

/// Devices that count, and one whose readings the receiver refuses.
const DEVICES: u64 = 4;
const POISON: &str = "poison";
/// So many messages are published at a time, so often: some 400 a second.
const BURST_MESSAGES: u64 = 8;
const BURST_INTERVAL: Duration = Duration::from_millis(20);
/// Everything that has to come to an end, on a busy machine.
const LIMIT: Duration = Duration::from_mins(2);
/// The password of ben.
const PASSWORD: &str = "kettle boils at noon";
/// The number of SIGKILL.
const KILLED: i32 = 9;

/// Deaths one after the other, each while the gateway gets over the one before.
type Chain = Vec<(&'static str, u64)>;

/// Every point at its first and at a later pass; those of a recovery after a commit that the ledger has not seen.
fn chains() -> Vec<Chain> {
    let mut chains = Vec::new();
    for point in POINTS {
        let later: &[u64] = match *point {
            "kafka.record_produced" => &[1, 7, 40],
            "delivery.before_halving_saved" | "delivery.after_halving_saved" => &[1, 2, 4],
            // Once a start, while nothing was left undecided.
            "kafka.after_init" | "kafka.reading_cursors" => &[1],
            point if point.contains("catch_up") => &[1],
            point if !is_on_the_way(point) => &[],
            _ => &[1, 3],
        };
        chains.extend(later.iter().map(|pass| vec![(*point, *pass)]));
    }
    for undecided in
        ["kafka.cursor_produced", "kafka.before_commit", "kafka.after_commit", "delivery.before_books_saved"]
    {
        for recovery in [
            "kafka.after_init",
            "kafka.reading_cursors",
            "delivery.before_catch_up_saved",
            "delivery.after_catch_up_saved",
        ] {
            chains.push(vec![(undecided, 2), (recovery, 1)]);
        }
    }
    chains
}

/// Whether a reading passes there; the others are on the way of a changed configuration, a session, a certificate.
fn is_on_the_way(point: &str) -> bool {
    !["config.", "access.", "certificate."].iter().any(|room| point.starts_with(room))
}

fn config(broker: &Broker, kafka: &Kafka, receiver: &Receiver) -> String {
    format!(
        r#"
        [buffer]
        commit_interval_ms = 20

        [[source]]
        type = "mqtt"
        name = "broker"
        url = "{broker}"
        [[source.subscribe]]
        filter = "plant/+/+"
        device = "{{2}}"
        point = "{{3}}"
        payload = {{ format = "json", value = "/value" }}

        [[sink]]
        type = "kafka"
        name = "kafka"
        brokers = ["{kafka}"]
        topic_prefix = "plant"
        linger_ms = 20

        [[sink]]
        type = "http"
        name = "cloud"
        url = "{receiver}"
        linger_ms = 20
        "#,
        broker = broker.url(),
        kafka = kafka.address(),
        receiver = receiver.url(),
    )
}

fn device(index: u64) -> String {
    format!("mill-{index}")
}

/// Publishes until it is told to stop; returns how many messages the broker has acknowledged.
fn publish(publisher: Arc<Publisher>, is_stopping: Arc<AtomicBool>) -> JoinHandle<u64> {
    tokio::spawn(async move {
        let mut pace = interval(BURST_INTERVAL);
        let mut count = 0;
        while !is_stopping.load(Ordering::SeqCst) {
            pace.tick().await;
            for _ in 0..BURST_MESSAGES {
                let topic = format!("plant/{}/count", device(count % DEVICES));
                publisher.publish(&topic, format!("{{\"value\":{}}}", count / DEVICES)).await;
                count += 1;
            }
        }
        publisher.all_acknowledged(LIMIT).await;
        count
    })
}

fn counted(readings: &[Value]) -> impl Iterator<Item = Entry> + '_ {
    readings.iter().filter_map(Entry::of_reading).filter(|entry| entry.device != POISON)
}

fn poisons(readings: &[Value]) -> Vec<i64> {
    readings.iter().filter_map(Entry::of_reading).filter(|entry| entry.device == POISON).map(|e| e.counter).collect()
}

/// The values of the readings that became dead letters, sorted.
fn buried(letters: &[Value]) -> Vec<i64> {
    let original = |letter: &Value| {
        let original: Value = serde_json::from_str(letter["original"].as_str().unwrap()).unwrap();
        original["value"].as_i64().unwrap()
    };
    let mut values: Vec<i64> = letters.iter().map(original).collect();
    values.sort_unstable();
    values
}

#[tokio::test(flavor = "multi_thread")]
async fn a_death_at_any_step_of_the_way_loses_nothing_and_repeats_nothing() {
    let (broker, kafka, receiver) = (Broker::start().await, Kafka::start().await, Receiver::start());
    broker.remember("forebay-e2e-broker", &["plant/+/+"]).await;
    receiver.refuse(|reading| reading["device"] == POISON);
    let mut gateway = Gateway::prepare_faulty(&config(&broker, &kafka, &receiver));
    // The topics are made before anything can go wrong, so that each death is about its point.
    let is_stopping = Arc::new(AtomicBool::new(false));
    let publisher = Arc::new(Publisher::connect(&broker, "plant"));
    let publishing = publish(Arc::clone(&publisher), Arc::clone(&is_stopping));
    gateway.start_again().await;
    wait::until("the receiver to have something", LIMIT, || receiver.count("readings") > 100).await;
    gateway.kill();

    let mut poisoned = 0;
    let mut visited = BTreeSet::new();
    for chain in chains() {
        for (point, pass) in &chain {
            gateway.end_at(Some((point, *pass)));
            gateway.spawn();
            if point.contains("halving") {
                publisher.publish(&format!("plant/{POISON}/count"), format!("{{\"value\":{poisoned}}}")).await;
                poisoned += 1;
            }
            let status = gateway.wait_exit().await;
            assert_eq!(status.signal(), Some(KILLED), "the gateway ends itself at {point}, pass {pass}: {status}");
            visited.insert(*point);
        }
    }
    let on_the_way = POINTS.iter().copied().filter(|point| is_on_the_way(point));
    assert_eq!(visited, on_the_way.collect(), "every point was reached");

    gateway.end_at(None);
    gateway.start_again().await;
    is_stopping.store(true, Ordering::SeqCst);
    let messages = publishing.await.unwrap();
    wait::until_some("the gateway to accept every message", LIMIT, || async {
        let status = gateway.status().await;
        let accepted = status["buffer"]["streams"]["readings"]["next"].as_u64()?;
        (accepted >= messages + poisoned).then_some(())
    })
    .await;
    for sink in ["kafka", "cloud"] {
        wait::until_some(format!("{sink} to have everything"), LIMIT, || gateway.sink_at_the_end(sink)).await;
    }
    let expected =
        || (0..messages).map(|number| Entry::new(&device(number % DEVICES), "count", (number / DEVICES).cast_signed()));
    let poisons_expected: Vec<i64> = (0..poisoned.cast_signed()).collect();

    let received = receiver.stream("readings");
    Verdict::new(expected(), counted(&received)).assert_exactly_once("the receiver");
    assert_eq!(sequence_setbacks(&received), Vec::<String>::new());
    assert_eq!(buried(&receiver.stream("dead-letters")), poisons_expected, "each refused reading is one dead letter");
    assert_eq!(receiver.conflicts(), Vec::<String>::new(), "a retry must be the same bytes");

    let topic = of_topic(&kafka.read_committed("plant.readings").await);
    Verdict::new(expected(), counted(&topic)).assert_exactly_once("Kafka");
    assert_whole("Kafka", &topic);
    assert_eq!(poisons(&topic), poisons_expected, "what one sink refuses the other has");
    assert_eq!(buried(&of_topic(&kafka.read_committed("plant.dead-letters").await)), poisons_expected);
    assert!(gateway.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_death_while_a_change_is_kept_leaves_the_old_file_or_the_new_one() {
    for (point, is_new) in [("config.file_written", false), ("config.file_renamed", true)] {
        let mut gateway = Gateway::prepare_faulty("");
        let old = std::fs::read_to_string(gateway.config_path()).unwrap();
        let new = format!("{old}\n[buffer]\nkeep_delivered = \"3 days\"\n");
        let wanted = gateway.config_path().with_extension("wanted");
        std::fs::write(&wanted, &new).unwrap();
        // The first file that is written is the note that a change runs on trial.
        gateway.end_at(Some((point, 2)));
        gateway.start_again().await;
        let tried = gateway.tool(&["config", "try", wanted.to_str().unwrap()]).await.success();
        assert!(tried.contains("buffer"), "{tried} says what changed");
        // Whoever asks hears nothing of a gateway that ends meanwhile.
        gateway.tool(&["config", "confirm"]).await;
        assert_eq!(gateway.wait_exit().await.signal(), Some(KILLED), "the gateway ends itself at {point}");
        let found = std::fs::read_to_string(gateway.config_path()).unwrap();
        assert_eq!(found, if is_new { new } else { old }, "{point}");
        gateway.end_at(None);
        gateway.start_again().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_death_while_someone_signs_in_or_brings_a_certificate_leaves_whole_files() {
    let person = json!({ "name": "ben", "role": "viewer", "password": PASSWORD });
    for written in [false, true] {
        let step = if written { "renamed" } else { "written" };
        let mut gateway = Gateway::prepare_faulty("");
        gateway.start_again().await;
        assert_eq!(
            gateway.send(Method::POST, "/api/v1/people", "application/json", &person.to_string()).await,
            Some(201)
        );
        assert!(gateway.terminate().await.success());

        gateway.end_at(Some((if written { "access.file_renamed" } else { "access.file_written" }, 1)));
        gateway.start_again().await;
        let form = format!("name=ben&password={}", PASSWORD.replace(' ', "+"));
        let signed_in = gateway.send(Method::POST, "/sign-in", "application/x-www-form-urlencoded", &form).await;
        assert_eq!(signed_in, None, "whoever signs in hears nothing of a gateway that ends meanwhile");
        assert_eq!(gateway.wait_exit().await.signal(), Some(KILLED), "access.file_{step}");
        let sessions = std::fs::read_to_string(gateway.data_dir().join("access/sessions.json"));
        assert_eq!(sessions.is_ok(), written);
        if let Ok(sessions) = sessions {
            let kept: Value = serde_json::from_str(&sessions).unwrap();
            assert_eq!(kept["sessions"][0]["name"], "ben");
        }

        gateway.end_at(Some((if written { "certificate.file_renamed" } else { "certificate.file_written" }, 1)));
        gateway.start_again().await;
        let tls = gateway.data_dir().join("access/tls");
        let read = |name: &str| std::fs::read_to_string(tls.join(name)).unwrap();
        let pair = json!({ "certificate": read("certificate.pem"), "key": read("key.pem") });
        let brought = gateway.send(Method::PUT, "/api/v1/certificate", "application/json", &pair.to_string()).await;
        assert_eq!(brought, None);
        assert_eq!(gateway.wait_exit().await.signal(), Some(KILLED), "certificate.file_{step}");

        gateway.end_at(None);
        gateway.start_again().await;
        let (_, served) = gateway.get("/api/v1/certificate").await;
        let served: Value = serde_json::from_str(&served).unwrap();
        assert_eq!(served["certificate"]["origin"], if written { "given" } else { "own" });
        let signed_in = gateway.send(Method::POST, "/sign-in", "application/x-www-form-urlencoded", &form).await;
        assert_eq!(signed_in, Some(200), "and is led to the overview");
    }
}

#[test]
fn the_gateway_as_it_is_shipped_has_no_fault_points() {
    let variable = b"FOREBAY_FAULT";
    let names_it = |binary: &std::path::Path| {
        std::fs::read(binary).unwrap().windows(variable.len()).any(|window| window == variable)
    };
    assert!(names_it(&e2e::gateway::faulty_binary()), "this test looks for the right word");
    assert!(!names_it(&e2e::gateway::plain_binary()));
    let manifest: toml::Table = include_str!("../../gateway/Cargo.toml").parse().unwrap();
    let default = manifest["features"]["default"].as_array().unwrap();
    assert!(!default.iter().any(|feature| feature.as_str() == Some("fault-points")));
}
