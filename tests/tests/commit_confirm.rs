//! Changes on trial: a configuration runs until someone keeps it or the time is over, and no reading is lost or repeated either way.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use e2e::books::{Entry, Verdict};
use e2e::gateway::{Gateway, ToolOutput, tool};
use e2e::mosquitto::{Broker, Publisher};
use e2e::plant::Plant;
use e2e::receiver::{Answer, Receiver};
use e2e::wait;
use tokio::task::JoinHandle;
use tokio::time::interval;

/// Everything that has to come to an end, on a busy machine.
const LIMIT: Duration = Duration::from_mins(2);
/// Between two messages: some hundred a second.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(4);
/// The shortest trial there is.
const SHORT: &str = "10s";
/// A trial that does not end by itself within a test.
const LONG: &str = "1h";

/// Writes a configuration beside that of the gateway.
fn beside(gateway: &Gateway, name: &str, text: &str) -> PathBuf {
    let path = gateway.config_path().with_file_name(name);
    std::fs::write(&path, text).unwrap();
    path
}

async fn try_out(gateway: &Gateway, text: &str, within: &str) -> ToolOutput {
    let path = beside(gateway, "new.toml", text);
    gateway.tool(&["config", "try", path.to_str().unwrap(), "--confirm-within", within]).await
}

/// The same, of a change that must be taken: what it says.
async fn tried(gateway: &Gateway, text: &str, within: &str) -> String {
    let said = try_out(gateway, text, within).await.success();
    assert!(said.contains("on trial"), "{said}");
    said
}

async fn confirm(gateway: &Gateway) -> ToolOutput {
    gateway.tool(&["config", "confirm"]).await
}

async fn status(gateway: &Gateway) -> String {
    gateway.tool(&["config", "status"]).await.success()
}

async fn flows(gateway: &Gateway) {
    wait::until_some("readings on trial", LIMIT, || async {
        status(gateway).await.contains("readings flow").then_some(())
    })
    .await;
}

/// Waits until a start in place is over.
async fn runs_as(gateway: &Gateway, id: &str) {
    wait::until_some("the gateway of this name", LIMIT, || async {
        (gateway.status_if_any().await?["gateway"] == id).then_some(())
    })
    .await;
    wait::until_some("its tools' door", LIMIT, || async {
        (gateway.tool(&["config", "status"]).await.code == Some(0)).then_some(())
    })
    .await;
}

async fn ends_by_itself(gateway: &Gateway) {
    wait::until_some("the trial to end", LIMIT, || async {
        status(gateway).await.contains("nothing is on trial").then_some(())
    })
    .await;
}

/// The text of the configuration in force, as it stands in the file.
fn file(gateway: &Gateway) -> String {
    std::fs::read_to_string(gateway.config_path()).unwrap()
}

/// The configuration without its sinks.
fn without_sinks(text: &str) -> String {
    let mut table: toml::Table = text.parse().unwrap();
    table.remove("sink").unwrap();
    table.to_string()
}

/// What the receiver has proves complete by itself.
async fn assert_verifies(data_dir: &Path, receiver: &Receiver) {
    let streams = ["readings", "alerts", "gaps", "dead-letters"];
    let records = streams.into_iter().flat_map(|stream| receiver.stream(stream)).map(|record| record.to_string());
    let path = data_dir.join("consumed.ndjson");
    std::fs::write(&path, records.collect::<Vec<_>>().join("\n")).unwrap();
    let said = tool(&["verify-stream", "--sink", "cloud", path.to_str().unwrap()]).await;
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert!(!said.out.contains("filtered"), "{said:#?}");
}

/// A device that counts on while a test does other things.
struct Counting {
    broker: Broker,
    task: JoinHandle<(Publisher, i64)>,
    enough: std::sync::Arc<tokio::sync::Notify>,
}

impl Counting {
    fn start(broker: Broker) -> Self {
        let publisher = Publisher::connect(&broker, "plant");
        let enough = std::sync::Arc::new(tokio::sync::Notify::new());
        let told = std::sync::Arc::clone(&enough);
        let task = tokio::spawn(async move {
            let mut ticks = interval(PUBLISH_INTERVAL);
            for count in 0.. {
                tokio::select! {
                    () = told.notified() => return (publisher, count),
                    _ = ticks.tick() => {}
                }
                for device in ["mill", "kiln"] {
                    let topic = format!("plant/{device}/count");
                    publisher.publish(&topic, format!("{{\"value\":{count}}}")).await;
                }
            }
            unreachable!("it counts for ever")
        });
        Self { broker, task, enough }
    }

    /// Ends it; the broker has everything then. How far each device has counted.
    async fn end(self) -> (Broker, i64) {
        self.enough.notify_one();
        let (publisher, count) = self.task.await.unwrap();
        publisher.all_acknowledged(LIMIT).await;
        (self.broker, count)
    }
}

fn config(broker: &Broker, receiver: &Receiver, filter: &str, more: &str) -> String {
    format!(
        r#"
        [[source]]
        type = "mqtt"
        name = "broker"
        url = "{}"
        [[source.subscribe]]
        filter = "{filter}"
        device = "{{2}}"
        point = "{{3}}"
        payload = {{ format = "json", value = "/value" }}

        [[sink]]
        type = "http"
        name = "cloud"
        url = "{}"
        linger_ms = 50
        {more}
        "#,
        broker.url(),
        receiver.url(),
    )
}

async fn all_arrive(receiver: &Receiver, count: i64) {
    let both = usize::try_from(2 * count).unwrap();
    wait::until("all counts to arrive", LIMIT, || receiver.count("readings") >= both).await;
    let expected =
        ["mill", "kiln"].into_iter().flat_map(|device| (0..count).map(move |at| Entry::new(device, "count", at)));
    Verdict::new(expected, receiver.stream("readings").iter().filter_map(Entry::of_reading))
        .assert_exactly_once("the receiver");
    assert_eq!(receiver.conflicts(), Vec::<String>::new(), "a retry must be the same bytes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_nobody_keeps_goes_back_and_loses_and_repeats_nothing() {
    let (broker, receiver, elsewhere) = (Broker::start().await, Receiver::start(), Receiver::start());
    broker.remember("forebay-e2e-broker", &["plant/+/+"]).await;
    let mut gateway = Gateway::start(&config(&broker, &receiver, "plant/+/+", "")).await;
    let before = file(&gateway);
    let variants = [
        // Another place, fewer devices, no sink, no source; a subscription that leaves a device out; another name.
        before.replace(&receiver.url(), &elsewhere.url()),
        before.replace("linger_ms = 50", "linger_ms = 50\ndevices = [\"mill\"]"),
        without_sinks(&before),
        before.replace("plant/+/+", "plant/mill/count"),
        before.replace("id = \"e2e\"", "id = \"other\""),
    ];
    let counting = Counting::start(broker);
    for text in &variants {
        assert_ne!(*text, before);
        tried(&gateway, text, LONG).await;
        if text.contains("id = \"other\"") {
            // Its session at the broker is another one; what comes in under the old one waits there.
            runs_as(&gateway, "other").await;
        } else {
            flows(&gateway).await;
        }
        assert_eq!(gateway.tool(&["config", "revert"]).await.success(), "taken back\n");
        assert_eq!(file(&gateway), before, "the file is the confirmed one all the while");
    }
    runs_as(&gateway, "e2e").await;
    // The last one ends by itself, and another by the end of the process.
    tried(&gateway, &variants[2], SHORT).await;
    ends_by_itself(&gateway).await;
    let told = status(&gateway).await;
    assert!(told.contains("nobody confirmed it within 10 s"), "{told}");
    let troubles = gateway.status().await["troubles"].to_string();
    assert!(troubles.contains("was taken back"), "{troubles}");
    let audit = std::fs::read_to_string(gateway.data_dir().join("access/audit.ndjson")).unwrap();
    assert!(audit.contains("\"who\":\"the gateway\",\"kind\":\"gateway\""), "nobody did it: {audit}");
    tried(&gateway, &variants[1], LONG).await;
    let note = gateway.data_dir().join("on-trial.json");
    assert!(note.exists());
    gateway.kill_and_start_again().await;
    let told = status(&gateway).await;
    assert!(
        told.contains("nothing is on trial") && told.contains("the gateway started anew while it was on trial"),
        "{told}"
    );
    assert!(!note.exists());
    let troubles = gateway.status().await["troubles"].to_string();
    assert!(troubles.contains("the gateway started anew"), "{troubles}");
    let audit = std::fs::read_to_string(gateway.data_dir().join("access/audit.ndjson")).unwrap();
    assert!(audit.contains("was on trial as the gateway ended"), "{audit}");
    gateway.kill_and_start_again().await;
    assert!(!status(&gateway).await.contains("started anew"), "it is told once");

    let (_broker, count) = counting.end().await;
    all_arrive(&receiver, count).await;
    assert_verifies(gateway.data_dir(), &receiver).await;
    assert_eq!(elsewhere.count("readings"), 0, "what goes to another place could not be taken back");
    println!("{count} messages of each device over {} trials", variants.len() + 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_is_kept_writes_the_file_and_goes_on_where_the_old_one_left_off() {
    let (broker, receiver, elsewhere) = (Broker::start().await, Receiver::start(), Receiver::start());
    broker.remember("forebay-e2e-broker", &["plant/+/+"]).await;
    let gateway = Gateway::start(&config(&broker, &receiver, "plant/+/+", "")).await;
    let counting = Counting::start(broker);
    let before = file(&gateway);
    let after = format!("# kept by a person\n{}", before.replace(&receiver.url(), &elsewhere.url()));
    let told = tried(&gateway, &after, LONG).await;
    assert!(told.contains("sink \"cloud\" changed") && told.contains("delivers nothing until"), "{told}");
    flows(&gateway).await;
    assert_eq!(elsewhere.count("readings"), 0);
    assert_eq!(confirm(&gateway).await.success(), "kept\n");
    assert_eq!(file(&gateway), after);
    assert_eq!(confirm(&gateway).await.code, Some(1), "nothing is on trial any more");
    wait::until("readings at the new place", LIMIT, || elsewhere.count("readings") > 100).await;
    let (_broker, count) = counting.end().await;
    let both = usize::try_from(2 * count).unwrap();
    wait::until("all to arrive", LIMIT, || receiver.count("readings") + elsewhere.count("readings") >= both).await;
    let arrived: Vec<_> = receiver.stream("readings").into_iter().chain(elsewhere.stream("readings")).collect();
    let expected =
        ["mill", "kiln"].into_iter().flat_map(|device| (0..count).map(move |at| Entry::new(device, "count", at)));
    Verdict::new(expected, arrived.iter().filter_map(Entry::of_reading)).assert_exactly_once("both places");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_outlives_trials_that_would_have_no_room_or_no_sink_for_it() {
    let mut plant = Plant::start("linger_ms = 50", "[buffer]\ndisk_max = \"512 MiB\"").await;
    let before = file(&plant.gateway);
    plant.receiver.take_away();
    plant.publish(2_000).await;
    plant.all_accepted().await;
    let tight = before
        .replace("\"512 MiB\"", "\"64 MiB\"\nkeep_delivered = \"1 ms\"\n[buffer.limits.readings]\nage_max = \"1 min\"");
    for text in [tight, without_sinks(&before), before.replace("name = \"cloud\"", "name = \"renamed\"")] {
        assert_ne!(text, before);
        tried(&plant.gateway, &text, SHORT).await;
        plant.publish(200).await;
        plant.all_accepted().await;
        ends_by_itself(&plant.gateway).await;
    }
    plant.receiver.bring_back();
    plant.all_delivered().await;
    let cloud = |reading: &&serde_json::Value| reading["sink"] != "renamed";
    let readings = plant.receiver.stream("readings");
    let arrived = readings.iter().filter(cloud).filter_map(Entry::of_reading);
    let expected = (0..plant.published()).map(|count| Entry::new("mill", "count", count));
    Verdict::new(expected, arrived).assert_exactly_once("the receiver");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_not_kept_before_a_reading_has_come_in_unless_someone_insists() {
    let mut plant = Plant::start("linger_ms = 50", "").await;
    let after = format!("{}\n# another\n", file(&plant.gateway));
    tried(&plant.gateway, &after, LONG).await;
    let refused = confirm(&plant.gateway).await;
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("no reading has come in since the change"), "{refused:?}");
    assert!(!file(&plant.gateway).contains("# another"));
    assert_eq!(plant.gateway.tool(&["config", "confirm", "--force"]).await.success(), "kept\n");
    assert_eq!(file(&plant.gateway), after);
    // Without a source there is nothing to wait for, but no reading comes in any more either.
    let mut table: toml::Table = after.parse().unwrap();
    table.remove("source").unwrap();
    tried(&plant.gateway, &table.to_string(), LONG).await;
    let refused = confirm(&plant.gateway).await;
    assert!(refused.code == Some(1) && refused.err.contains("no source is left"), "{refused:?}");
    assert_eq!(plant.gateway.tool(&["config", "confirm", "--force"]).await.success(), "kept\n");
    plant.publish(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_is_silent_and_a_sink_that_takes_nothing_are_named_before_a_change_is_kept() {
    let mut plant = Plant::start("linger_ms = 50", "").await;
    let (before, closed) = (file(&plant.gateway), Receiver::start());
    closed.answer(Answer::Status(401, None));
    let audit =
        format!("{before}\n[[sink]]\ntype = \"http\"\nname = \"audit\"\nurl = \"{}\"\nlinger_ms = 50\n", closed.url());
    tried(&plant.gateway, &audit, LONG).await;
    plant.publish(10).await;
    flows(&plant.gateway).await;
    wait::until_some("the sink that takes nothing to be told", LIMIT, || async {
        status(&plant.gateway).await.contains("audit takes nothing").then_some(())
    })
    .await;
    let refused = confirm(&plant.gateway).await;
    assert!(refused.code == Some(1) && refused.err.contains("audit takes nothing"), "{refused:?}");
    assert_eq!(plant.gateway.tool(&["config", "revert"]).await.success(), "taken back\n");

    let meter = "name = \"meter-bus\"\nurl = \"mqtt://127.0.0.1:9\"";
    let silent = format!(
        "{before}\n[[source]]\ntype = \"mqtt\"\n{meter}\n[[source.subscribe]]\nfilter = \"meter/a\"\ndevice = \"meter\"\npoint = \"a\"\npayload = {{ format = \"number\" }}\n"
    );
    tried(&plant.gateway, &silent, LONG).await;
    plant.publish(10).await;
    plant.all_accepted().await;
    let refused = confirm(&plant.gateway).await;
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.err.contains("meter-bus has not brought a value") && !refused.err.contains("no reading"),
        "{refused:?}"
    );
    assert_eq!(plant.gateway.tool(&["config", "confirm", "--force"]).await.success(), "kept\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_hand_wrote_is_not_overwritten() {
    let mut plant = Plant::start("linger_ms = 50", "").await;
    let before = file(&plant.gateway);
    tried(&plant.gateway, &format!("{before}# by the page\n"), LONG).await;
    plant.publish(1).await;
    flows(&plant.gateway).await;
    let edited = format!("{before}# by an editor\n");
    plant.gateway.configure_verbatim(&edited);
    let refused = confirm(&plant.gateway).await;
    assert!(refused.code == Some(1) && refused.err.contains("by another hand"), "{refused:?}");
    assert_eq!(file(&plant.gateway), edited);
    // Reading it in ends the trial; a file with errors would not.
    plant.gateway.configure_verbatim(&format!("{edited}[wrong]\n"));
    assert_eq!(plant.gateway.tool(&["reload"]).await.code, Some(78));
    assert!(status(&plant.gateway).await.contains("on trial, by"));
    plant.gateway.configure_verbatim(&edited);
    let told = plant.gateway.tool(&["reload"]).await.success();
    assert!(told.contains("on trial has ended"), "{told}");
    let told = status(&plant.gateway).await;
    assert!(told.contains("nothing is on trial") && told.contains("the file was read again"), "{told}");
    plant.publish(10).await;
    plant.assert_exactly_once().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_work_changes_nothing() {
    let mut plant = Plant::start("linger_ms = 50", "").await;
    let before = file(&plant.gateway);
    let elsewhere = before.replace("data_dir = \"", "data_dir = \"/nowhere");
    let said = try_out(&plant.gateway, &elsewhere, LONG).await;
    assert!(said.code == Some(1) && said.err.contains("gateway.data_dir"), "{said:?}");
    let said = try_out(&plant.gateway, &before.replace("linger_ms = 50", "linger_ms = 900000"), LONG).await;
    assert!(said.code == Some(78) && said.err.contains("linger_ms"), "{said:?}");
    let said = try_out(&plant.gateway, &before.replace("127.0.0.1:0", "192.0.2.7:1"), LONG).await;
    assert!(said.code == Some(1) && said.err.contains("web.listen"), "{said:?}");
    let said = plant.gateway.tool(&["config", "revert"]).await;
    assert!(said.code == Some(1) && said.err.contains("nothing is on trial"), "{said:?}");
    assert_eq!(try_out(&plant.gateway, &before, LONG).await.success().lines().next(), Some("nothing changed"));
    plant.publish(50).await;
    plant.assert_exactly_once().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_without_a_file_begins_by_itself_and_the_first_kept_change_makes_the_file() {
    let mut gateway = Gateway::prepare("");
    let text = file(&gateway);
    std::fs::remove_file(gateway.config_path()).unwrap();
    let data_dir = gateway.data_dir().to_owned();
    gateway.start_without_file().await;
    let named = gateway.status().await["gateway"].as_str().unwrap().to_owned();
    assert!(named.starts_with("forebay-") && named.len() == 12, "{named}");
    let path = beside(&gateway, "new.toml", &text);
    let (new, data_dir) = (path.to_str().unwrap(), data_dir.to_str().unwrap());
    assert!(tool(&["config", "try", new, "--data-dir", data_dir]).await.success().contains("on trial"));
    // It has another name, so everything is started anew in place.
    wait::until_some("the trial to run", LIMIT, || async {
        let said = tool(&["config", "status", "--data-dir", data_dir]).await;
        said.out.contains("on trial, by").then_some(())
    })
    .await;
    assert!(!gateway.config_path().exists());
    assert_eq!(tool(&["config", "confirm", "--data-dir", data_dir]).await.success(), "kept\n");
    assert_eq!(file(&gateway), text);
    gateway.kill_and_start_again().await;
    assert_eq!(gateway.status().await["gateway"], "e2e");
}
