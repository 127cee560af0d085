//! Starting and ending: what is refused with which words, what answers while it runs, and how it drains.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::time::Duration;

use e2e::gateway::Gateway;
use e2e::kafka::Kafka;
use e2e::plant::Plant;
use tokio::time::Instant;

/// `EX_CONFIG` of sysexits(3).
const EXIT_CONFIG: i32 = 78;
/// All deadlines of an orderly end together: sources 3 s, ingest 10 s, deliveries 5 s, the page 1 s.
const STOP_LIMIT: Duration = Duration::from_secs(19);

/// Starts a gateway on this file, which it must refuse, and returns what it says.
async fn refusal(text: &str) -> String {
    let mut gateway = Gateway::prepare("");
    gateway.configure_verbatim(text);
    gateway.spawn();
    assert_eq!(gateway.wait_exit().await.code(), Some(EXIT_CONFIG));
    gateway.logs()
}

fn assert_tells(told: &str, mistakes: &[&str]) {
    for mistake in mistakes {
        assert!(told.contains(mistake), "{mistake:?} is not told: {told}");
    }
    let count = format!("{} errors", mistakes.len());
    assert!(told.contains(&count), "there are {count}, no more: {told}");
}

#[tokio::test]
async fn a_bad_file_is_refused_with_every_mistake_at_once() {
    let told = refusal(
        r#"[gateway]
id = "plant 7"
data_dirr = "/tmp"
[buffer]
disk_max = "1 MiB"
commit_interval_ms = "fast"
[[source]]
type = "mqtt"
name = "broker"
url = "http://broker"
[[source.subscribe]]
filter = "plant/#/temp"
device = "{9}"
point = "temp"
payload = { format = "json", value = "value" }
[[sink]]
type = "http"
name = "cloud"
url = "cloud.example.com"
"#,
    )
    .await;
    let mistakes = [
        ":2:6: gateway.id",
        ":3:1: gateway.data_dirr: unknown key \"data_dirr\"; did you mean \"data_dir\"?",
        ":5:12: buffer.disk_max",
        ":6:22: buffer.commit_interval_ms",
        "must start with mqtt://",
        ":12:",
        ":13:",
        "must start with a slash",
        ":19:7: sink[0].url",
    ];
    assert_tells(&told, &mistakes);
}

#[tokio::test]
async fn a_folder_in_the_place_of_the_file_and_broken_toml_are_refused_with_their_place() {
    let mut gateway = Gateway::prepare("");
    gateway.configure_verbatim("[gateway]\nid = \"a\nb\"\n");
    gateway.spawn();
    assert_eq!(gateway.wait_exit().await.code(), Some(EXIT_CONFIG));
    assert!(gateway.logs().contains(":2:"), "{}", gateway.logs());
    fs::remove_file(gateway.config_path()).unwrap();
    fs::create_dir(gateway.config_path()).unwrap();
    gateway.spawn();
    assert_eq!(gateway.wait_exit().await.code(), Some(EXIT_CONFIG));
    assert!(gateway.logs().contains("forebay.toml"), "{}", gateway.logs());
}

#[tokio::test]
async fn a_second_gateway_on_the_same_data_is_refused_and_the_first_goes_on() {
    let first = Gateway::start("").await;
    let page = first.page_address();
    let mut second = Gateway::prepare(&format!("[gateway]\ndata_dir = \"{}\"\n", first.data_dir().display()));
    let address_file = first.data_dir().join("page.addr");
    let address = fs::read(&address_file).unwrap();
    second.spawn();
    // The harness removes a stale address before a start; this one is not stale.
    fs::write(&address_file, address).unwrap();
    assert_eq!(second.wait_exit().await.code(), Some(1));
    let told = second.logs();
    assert!(told.contains("in use"), "{told:?} says what is wrong");
    assert!(told.contains(&first.data_dir().display().to_string()), "{told:?} says where");
    assert_eq!(first.page_address(), page);
    assert_eq!(first.get("/ready").await.0, 200);
}

#[tokio::test]
async fn a_running_gateway_answers_probes_metrics_and_a_page_with_live_values() {
    let mut plant = Plant::start("linger_ms = 50", "").await;
    plant.publish(4_712).await;
    plant.all_delivered().await;
    for path in ["/live", "/ready"] {
        assert_eq!(plant.gateway.get(path).await.0, 200, "{path}");
    }
    let accepted = plant.gateway.metric("forebay_source_accepted_samples_total", &["source=\"broker\""]).await;
    assert_eq!(accepted, Some(4_712.0));
    let delivered = ["sink=\"cloud\"", "stream=\"readings\""];
    assert_eq!(plant.gateway.metric("forebay_sink_delivered_records_total", &delivered).await, Some(4_712.0));
    let backlog = plant.gateway.metric("forebay_sink_backlog_records", &delivered).await;
    assert_eq!(backlog, Some(0.0));
    for path in ["/", "/points"] {
        let (code, html) = plant.gateway.get(path).await;
        assert_eq!(code, 200);
        let digits: String = html.chars().filter(|c| !c.is_whitespace() && !matches!(c, ',' | '\u{202f}')).collect();
        assert!(html.contains("mill") && digits.contains("4711"), "{path} shows the last value, 4711: {html}");
    }
    let (code, html) = plant.gateway.get("/no-such-page").await;
    assert_eq!(code, 404);
    assert!(html.contains("<html"), "a person is told in a page: {html}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orderly_end_delivers_what_was_accepted_within_its_time() {
    let kafka = Kafka::start().await;
    let sink = format!(
        "[[sink]]\ntype = \"kafka\"\nname = \"kafka\"\nbrokers = [\"{}\"]\ntopic_prefix = \"plant\"\n",
        kafka.address()
    );
    // So long a linger that nothing goes before the end, which does not wait for it.
    let mut plant = Plant::start("linger_ms = 60000", &sink).await;
    plant.publish(1_000).await;
    plant.all_accepted().await;
    let asked_at = Instant::now();
    let status = plant.gateway.terminate().await;
    assert!(status.success(), "it ends with {status}");
    assert!(asked_at.elapsed() < STOP_LIMIT, "it took {:?}", asked_at.elapsed());
    plant.verdict(&[]).assert_exactly_once("the receiver");
    assert_eq!(kafka.read_committed("plant.readings").await.len(), 1_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_without_anyone_to_deliver_to_keeps_everything_for_the_next_start() {
    let mut plant = Plant::start("linger_ms = 50", "").await;
    plant.receiver.take_away();
    plant.publish(1_000).await;
    plant.all_accepted().await;
    let asked_at = Instant::now();
    assert!(plant.gateway.terminate().await.success());
    assert!(asked_at.elapsed() < STOP_LIMIT, "it took {:?}", asked_at.elapsed());
    plant.receiver.bring_back();
    plant.gateway.start_again().await;
    plant.assert_exactly_once().await;
}
