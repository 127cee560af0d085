//! The HTTP endpoint misbehaves: slow, silent, lossy, choosy, closed. Every reading arrives exactly once all the same.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use e2e::plant::Plant;
use e2e::receiver::{Answer, Receiver};
use e2e::wait;
use serde_json::{Value, json};
use tokio::time::Instant;

/// Longer than a paused sink waits before it looks again (1 min).
const LIMIT: Duration = Duration::from_mins(2);

fn statuses(receiver: &Receiver) -> Vec<Option<u16>> {
    receiver.requests().into_iter().map(|request| request.status).collect()
}

async fn sink_is(plant: &Plant, state: &str) -> Value {
    wait::until_some(format!("the sink to be {state}"), LIMIT, || async {
        let sink = plant.sink().await;
        (sink["state"] == state).then_some(sink)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn slowness_rubbish_silence_and_server_errors_are_tried_again_until_all_is_well() {
    let mut plant = Plant::start("linger_ms = 50\ntimeout_ms = 400", "").await;
    plant.receiver.script([
        Answer::Slow(Duration::from_millis(100)),
        Answer::Slow(Duration::from_millis(900)),
        Answer::Rubbish,
        Answer::Never,
        Answer::Status(500, None),
        Answer::Status(502, None),
        Answer::Status(503, None),
        Answer::ApplyAndHangUp,
    ]);
    // One by one, so that there is a request for each answer.
    for _ in 0..20 {
        plant.publish(100).await;
    }
    plant.assert_exactly_once().await;
    let sink = sink_is(&plant, "live").await;
    assert!(sink["retries"].as_u64() >= Some(7), "every failed attempt is counted: {sink}");
    assert!(sink["last_error"].is_string(), "the last error stays to be seen: {sink}");
    assert_eq!(plant.receiver.count("dead-letters"), 0);
    let lost_answer = plant.receiver.requests().into_iter().filter(|request| request.is_repeated).count();
    assert!(lost_answer >= 1, "what was applied though the answer was lost comes again under its key");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_after_the_answer_was_lost_repeats_the_same_bytes_under_the_same_key() {
    let mut plant = Plant::start("linger_ms = 50", "").await;
    plant.receiver.answer(Answer::ApplyAndHangUp);
    for _ in 0..3 {
        plant.publish(500).await;
        let seen = plant.receiver.requests().len();
        wait::until("the next attempt", LIMIT, || plant.receiver.requests().len() > seen).await;
        plant.gateway.kill_and_start_again().await;
    }
    plant.receiver.answer(Answer::Apply);
    plant.assert_exactly_once().await;
    assert!(plant.receiver.requests().iter().any(|request| request.is_repeated));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_asks_for_patience_is_given_it() {
    let mut plant = Plant::start("linger_ms = 50", "").await;
    plant.receiver.script([Answer::Status(429, Some("3".to_owned()))]);
    plant.publish(10).await;
    wait::until("the refusal", LIMIT, || statuses(&plant.receiver).contains(&Some(429))).await;
    let refused_at = Instant::now();
    wait::until("the next attempt", LIMIT, || plant.receiver.requests().len() >= 2).await;
    // Less than what was asked for by the time it took to notice the refusal.
    assert!(refused_at.elapsed() >= Duration::from_millis(2_500), "it came again after {:?}", refused_at.elapsed());
    plant.assert_exactly_once().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_too_large_is_halved_until_it_fits() {
    let mut plant = Plant::prepare("linger_ms = 200\ncompression = \"none\"", "").await;
    plant.receiver.limit_body(4_000);
    plant.gateway.start_again().await;
    plant.publish(2_000).await;
    plant.assert_exactly_once().await;
    let statuses = statuses(&plant.receiver);
    assert!(statuses.contains(&Some(413)), "some body was too large: {statuses:?}");
    assert_eq!(plant.receiver.count("dead-letters"), 0, "nothing is wrong with any reading");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_poison_reading_becomes_a_dead_letter_and_its_neighbours_arrive() {
    let mut plant = Plant::start("linger_ms = 200", "").await;
    plant.receiver.refuse(|reading| reading["value"] == 1_234);
    plant.publish(3_000).await;
    plant.all_delivered().await;
    wait::until("the dead letter", LIMIT, || plant.receiver.count("dead-letters") > 0).await;
    plant.verdict(&[1_234]).assert_exactly_once("the receiver, but for the poison");
    let letters = plant.receiver.stream("dead-letters");
    assert_eq!(letters.len(), 1, "{letters:#?}");
    let original: Value = serde_json::from_str(letters[0]["original"].as_str().unwrap()).unwrap();
    assert_eq!(original["value"], 1_234);
    assert_eq!(letters[0]["position"], format!("readings/{}", original["seq"]));
    assert!(letters[0]["error"].as_str().unwrap().contains("422"), "{}", letters[0]);
    let books = &plant.sink().await["streams"]["readings"];
    assert_eq!((&books["delivered"], &books["refused"]), (&json!(2_999), &json!(1)), "{books}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_token_pauses_its_own_sink_with_advice_until_it_is_taken_again() {
    let other = Receiver::start();
    let healthy = format!("[[sink]]\ntype = \"http\"\nname = \"other\"\nurl = \"{}\"\nlinger_ms = 50\n", other.url());
    let mut plant = Plant::start("linger_ms = 50", &healthy).await;
    plant.receiver.answer(Answer::Status(401, None));
    plant.publish(100).await;
    let sink = sink_is(&plant, "paused").await;
    let error = sink["last_error"].as_str().unwrap();
    assert!(error.contains("401") && error.contains("auth.bearer_file"), "{error:?} says what and what to do");
    let status = plant.gateway.status().await;
    let trouble = &status["troubles"][0];
    assert!(trouble["what"].as_str().unwrap().starts_with("Paused: "), "{status}");
    wait::until("the other sink to have them", LIMIT, || other.count("readings") == 100).await;
    assert_eq!(plant.receiver.count("readings"), 0);

    plant.receiver.answer(Answer::Apply);
    plant.assert_exactly_once().await;
    sink_is(&plant, "live").await;
    assert_eq!(plant.gateway.status().await["troubles"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_refuses_everything_pauses_the_sink_instead_of_burying_the_backlog() {
    let mut plant = Plant::prepare("linger_ms = 50", "").await;
    plant.receiver.answer(Answer::Status(400, None));
    plant.gateway.start_again().await;
    plant.publish(500).await;
    let sink = sink_is(&plant, "paused").await;
    assert!(sink["last_error"].as_str().unwrap().contains("everything is refused"), "{sink}");
    plant.receiver.answer(Answer::Apply);
    plant.assert_exactly_once().await;
    assert_eq!(plant.receiver.count("dead-letters"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_refused_holds_no_other_back() {
    let check = "[[check]]\npoints = \"*/*\"\nrange = { possible = [5.0, 1000000.0] }\naction = \"dead_letter\"\nseverity = \"error\"\n";
    let mut plant = Plant::start("linger_ms = 50", check).await;
    plant.receiver.refuse(|record| record["kind"] == "dead_letter" || record["kind"] == "alert");
    plant.publish(300).await;
    let sink = sink_is(&plant, "degraded").await;
    assert!(sink["last_error"].as_str().unwrap().contains("everything is refused"), "{sink}");
    plant.publish(300).await;
    wait::until("the readings", LIMIT, || plant.receiver.count("readings") >= 590).await;
    let troubles = plant.gateway.status().await["troubles"].to_string();
    assert!(troubles.contains("Paused of the dead-letters"), "{troubles}");
    assert_eq!(plant.receiver.count("dead-letters"), 0);
}
