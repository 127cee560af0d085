//! The source against a real broker, mosquitto.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use super::tests::options;
use super::*;
use crate::reading::Value;
use crate::sources::Intake;
use crate::sources::testing::{FarEnd, start};
use crate::status::{HasHealth as _, State};
use std::io::Write as _;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;
use tokio::time::Instant;

struct Broker {
    port: u16,
    folder: TempDir,
    child: Child,
}

impl Broker {
    fn start(extra: &str) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        let access = if extra.is_empty() { "allow_anonymous true" } else { extra };
        let text = format!("listener {port} 127.0.0.1\nmax_queued_messages 0\n{access}\n")
            .replace("FOLDER", folder.path().to_str().unwrap());
        std::fs::write(folder.path().join("mosquitto.conf"), text).unwrap();
        let child = Self::spawn(&folder);
        let broker = Self { port, folder, child };
        broker.wait();
        broker
    }

    fn spawn(folder: &TempDir) -> Child {
        let path =
            if std::path::Path::new("/usr/sbin/mosquitto").exists() { "/usr/sbin/mosquitto" } else { "mosquitto" };
        let mut command = Command::new(path);
        command.arg("-c").arg(folder.path().join("mosquitto.conf")).stderr(Stdio::null());
        command.spawn().expect("mosquitto must be installed (Debian package mosquitto)")
    }

    fn wait(&self) {
        for _ in 0..1_000 {
            if std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("mosquitto does not listen");
    }

    fn restart(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = Self::spawn(&self.folder);
        self.wait();
    }

    /// Publishes each line with quality 1.
    fn publish(&self, topic: &str, lines: &[u8], flags: &[&str]) {
        let mut command = Command::new("mosquitto_pub");
        command.args(["-p", &self.port.to_string(), "-q", "1", "-t", topic]).args(flags);
        let mut child = command.stdin(Stdio::piped()).spawn().expect("mosquitto_pub must be installed");
        child.stdin.take().unwrap().write_all(lines).unwrap();
        assert!(child.wait().unwrap().success());
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

async fn live(broker: &Broker) -> (FarEnd, tokio::task::JoinHandle<()>) {
    let (far, task) = start(MqttSource::new(options(broker.port)), 4);
    far.until_state(State::Live).await;
    (far, task)
}

fn values(intake: &Intake) -> Vec<Value> {
    intake.samples.iter().map(|sample| sample.outcome.clone().unwrap()).collect()
}

#[tokio::test]
async fn what_has_no_receipt_comes_again_with_the_same_hash_and_what_has_one_does_not() {
    let broker = Broker::start("");
    let (mut far, task) = live(&broker).await;
    broker.publish("plant/boiler/temp", b"{\"v\":1}\n", &["-l"]);
    let first = far.intake().await;
    assert_eq!(values(&first), [Value::Integer(1)]);
    assert!(!first.messages[0].redelivered);
    // As after kill -9: no farewell, no acknowledgement.
    task.abort();

    let (mut far, task) = live(&broker).await;
    let again = far.intake().await;
    assert_eq!(values(&again), [Value::Integer(1)]);
    assert_eq!((again.messages[0].redelivered, again.messages[0].hash), (true, first.messages[0].hash));
    far.receipt(&again).await;
    far.stop.cancel();
    task.await.unwrap();

    let (mut far, _task) = live(&broker).await;
    broker.publish("plant/boiler/temp", b"{\"v\":2}\n", &["-l"]);
    assert_eq!(values(&far.intake().await), [Value::Integer(2)]);
}

#[tokio::test]
async fn on_stopping_the_last_receipts_are_still_sent() {
    let broker = Broker::start("");
    let (mut far, task) = live(&broker).await;
    broker.publish("plant/boiler/temp", b"{\"v\":1}\n", &["-l"]);
    let intake = far.intake().await;
    far.stop.cancel();
    tokio::task::yield_now().await;
    far.receipt(&intake).await;
    task.await.unwrap();
    let (mut far, _task) = live(&broker).await;
    broker.publish("plant/boiler/temp", b"{\"v\":2}\n", &["-l"]);
    assert_eq!(values(&far.intake().await), [Value::Integer(2)]);
}

#[tokio::test]
async fn a_broker_that_forgot_everything_is_subscribed_to_again_and_old_receipts_are_not_sent() {
    let mut broker = Broker::start("");
    let (mut far, _task) = live(&broker).await;
    broker.publish("plant/boiler/temp", b"{\"v\":1}\n", &["-l"]);
    let old = far.intake().await;
    broker.restart();
    far.until("a new connection", |far| far.status.reconnects.get() == 1).await;
    far.until_state(State::Live).await;

    broker.publish("plant/boiler/temp", b"{\"v\":2}\n", &["-l"]);
    let new = far.intake().await;
    assert_eq!(values(&new), [Value::Integer(2)]);
    let token = |intake: &Intake| intake.messages[0].receipt.unwrap();
    assert_eq!(token(&old).token, token(&new).token, "packet ids are used again");
    assert_ne!(token(&old).generation, token(&new).generation);
    // Were the old receipt sent, the broker would forget the second message.
    far.receipt(&old).await;
    far.stop.cancel();
    let (mut far, _task) = live(&broker).await;
    let again = far.intake().await;
    assert_eq!((values(&again), again.messages[0].redelivered), (vec![Value::Integer(2)], true));
}

/// Whether a session began anew, or the first value, in the order in which the next so many messages came.
async fn order(far: &mut FarEnd, messages: usize) -> Vec<Option<Value>> {
    let mut order = Vec::new();
    while order.len() < messages {
        let intake = far.any_intake().await;
        far.receipt(&intake).await;
        let mut values = values(&intake).into_iter();
        order.extend(intake.messages.iter().map(|message| if message.begins_anew { None } else { values.next() }));
    }
    order
}

#[tokio::test]
async fn it_is_told_in_its_place_when_a_broker_has_forgotten_the_session_and_only_then() {
    let mut broker = Broker::start("");
    let (mut far, task) = live(&broker).await;
    broker.publish("plant/boiler/temp", b"{\"v\":1}\n", &["-l"]);
    assert_eq!(order(&mut far, 2).await, [None, Some(Value::Integer(1))]);
    far.stop.cancel();
    task.await.unwrap();

    // The broker kept the session. Ingest has no room, so the last message of it waits while the broker forgets.
    let (mut far, _task) = start(MqttSource::new(options(broker.port)), 1);
    far.until_state(State::Live).await;
    broker.publish("plant/boiler/temp", b"{\"v\":2}\n", &["-l"]);
    far.until("an intake", |far| far.intakes.len() == 1).await;
    broker.publish("plant/boiler/flow", b"{\"v\":3}\n", &["-l"]);
    far.until("the second message", |far| far.registry.len() == 2).await;
    broker.restart();
    far.until("a new connection", |far| far.status.reconnects.get() == 1).await;
    far.until_state(State::Live).await;
    broker.publish("plant/boiler/temp", b"{\"v\":4}\n", &["-l"]);
    let value = |value| Some(Value::Integer(value));
    assert_eq!(order(&mut far, 4).await, [value(2), value(3), None, value(4)]);
}

#[tokio::test]
async fn while_ingest_is_full_nothing_is_lost_and_the_connection_stays() {
    let broker = Broker::start("");
    let (mut far, _task) = live(&broker).await;
    let lines: Vec<_> = (0..3_000).map(|value| format!("{{\"v\":{value}}}\n")).collect();
    broker.publish("plant/boiler/temp", lines.concat().as_bytes(), &["-l"]);
    // Room for 4 intakes, and a broker that sends 20 messages ahead: all stand still until someone takes them.
    let mut taken = Vec::new();
    while taken.len() < 3_000 {
        let intake = far.intake().await;
        assert!(intake.messages.len() <= crate::sources::INTAKE_MESSAGES_MAX);
        far.receipt(&intake).await;
        taken.extend(values(&intake));
    }
    assert_eq!(taken, (0..3_000).map(Value::Integer).collect::<Vec<_>>());
    assert_eq!(far.status.reconnects.get(), 0);
}

#[tokio::test]
async fn a_payload_above_the_limit_is_set_aside_once_and_the_next_message_read() {
    let broker = Broker::start("");
    let (mut far, _task) = live(&broker).await;
    broker.publish("plant/boiler/temp", &vec![b'x'; 300_000], &["-s"]);
    let intake = far.intake().await;
    assert!(intake.messages[0].rejects[0].error.contains("300000 bytes"));
    far.receipt(&intake).await;
    broker.publish("plant/boiler/temp", b"{\"v\":2}\n", &["-l"]);
    assert_eq!(values(&far.intake().await), [Value::Integer(2)]);
    assert_eq!(far.status.errors.get(), 0);
}

#[tokio::test]
async fn a_packet_that_cannot_be_read_is_alarmed_and_not_asked_for_in_a_hot_loop() {
    let broker = Broker::start("");
    let (far, _task) = live(&broker).await;
    broker.publish("plant/boiler/temp", &vec![b'x'; PACKET_BYTES_HARD_MAX + 1_000], &["-s"]);
    far.until_trouble("cannot be read").await;
    let (started, errors) = (Instant::now(), far.status.errors.get());
    far.until("three more tries", |far| far.status.errors.get() >= errors + 3).await;
    // The shortest waits that jitter can draw: a tenth of 1, 2 and 4 s. A hot loop does it in a few milliseconds.
    assert!(started.elapsed() >= Duration::from_millis(300), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_wrong_password_is_told_and_the_right_one_works_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (users, secret) = (folder.path().join("users"), folder.path().join("secret"));
    let made = Command::new("mosquitto_passwd").args(["-b", "-c"]).arg(&users).args(["gateway", "right"]).status();
    assert!(made.unwrap().success());
    let broker = Broker::start(&format!("allow_anonymous false\npassword_file {}", users.display()));
    std::fs::write(&secret, "wrong\n").unwrap();
    let mut with_user = options(broker.port);
    with_user.username = Some("gateway".into());
    with_user.password_file = Some(SecretFile(secret.display().to_string()));
    let (far, _task) = start(MqttSource::new(with_user), 4);
    far.until_trouble("refused the connection").await;
    assert_eq!(far.status.health().state, State::Down);
    std::fs::write(&secret, "right\n").unwrap();
    far.until_state(State::Live).await;
    far.until("the end of the trouble", |far| far.all.troubles().is_empty()).await;
}

#[tokio::test]
async fn a_retained_message_is_one_reading_however_often_the_broker_repeats_it() {
    let broker = Broker::start("");
    broker.publish("plant/boiler/temp", b"{\"v\":1}", &["-r", "-s"]);
    let (mut far, _task) = live(&broker).await;
    let first = far.intake().await;
    assert_eq!(values(&first), [Value::Integer(1)]);
    far.receipt(&first).await;
    // Someone takes the session over for a moment; then the source subscribes again and is sent the message again.
    let mut thief = Command::new("mosquitto_sub");
    thief.args(["-p", &broker.port.to_string(), "-i", "forebay-gateway-broker", "-c", "-q", "1", "-t", "else", "-E"]);
    assert!(thief.status().unwrap().success());
    far.until("a new connection", |far| far.status.reconnects.get() > 0).await;
    far.until_state(State::Live).await;
    broker.publish("plant/boiler/temp", b"{\"v\":2}\n", &["-l"]);
    let mut came = Vec::new();
    let mut messages = 0;
    while came.is_empty() {
        let intake = far.intake().await;
        messages += intake.messages.len();
        far.receipt(&intake).await;
        came = values(&intake);
    }
    assert_eq!(came, [Value::Integer(2)]);
    assert!(messages >= 2, "the broker did send it again, and it is acknowledged");
}

#[tokio::test]
async fn a_password_that_is_missing_is_not_taken_for_a_broker_that_is() {
    let options = r#"
        name = "broker"
        url = "mqtt://127.0.0.1:1"
        username = "ann"
        password_file = "/nonexistent/password"
        subscribe = [{ filter = "a", device = "d", point = "p", payload = { format = "number" } }]
    "#;
    let (far, _task) = start(MqttSource::new(toml::from_str(options).unwrap()), 4);
    far.until_trouble("/nonexistent/password").await;
    assert!(!far.all.troubles()[0].what.contains("cannot be reached"));
}
