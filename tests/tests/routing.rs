//! Several sinks at once: each gets what is routed to it, and none waits for another.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use e2e::gateway::Gateway;
use e2e::mosquitto::{Broker, Publisher};
use e2e::plant::Plant;
use e2e::receiver::{Answer, Receiver};
use e2e::wait;
use serde_json::Value;

/// Longer than anything here takes on a busy machine.
const LIMIT: Duration = Duration::from_mins(2);

fn sink(name: &str, receiver: &Receiver, options: &str) -> String {
    format!("[[sink]]\ntype = \"http\"\nname = \"{name}\"\nurl = \"{}\"\nlinger_ms = 50\n{options}\n", receiver.url())
}

fn config(broker: &Broker, rest: &str) -> String {
    let source = "[[source.subscribe]]\nfilter = \"plant/+/+\"\ndevice = \"{2}\"\npoint = \"{3}\"\npayload = { format = \"json\", value = \"/value\" }";
    format!("[[source]]\ntype = \"mqtt\"\nname = \"broker\"\nurl = \"{}\"\n{source}\n{rest}", broker.url())
}

fn text<'a>(record: &'a Value, field: &str) -> &'a str {
    record[field].as_str().unwrap_or_default()
}

/// Every batch that is named brought as many records as it says, each once.
fn assert_whole_batches(records: &[Value]) {
    let mut batches: BTreeMap<&str, (BTreeSet<u64>, u64)> = BTreeMap::new();
    for record in records {
        let (seen, _) = batches
            .entry(text(record, "batch"))
            .or_insert((BTreeSet::new(), record["batch_records"].as_u64().unwrap()));
        assert!(seen.insert(record["seq"].as_u64().unwrap()), "{record} came twice");
    }
    for (batch, (seen, said)) in batches {
        assert_eq!(seen.len() as u64, said, "{batch}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_sink_gets_the_devices_and_streams_that_are_routed_to_it() {
    let broker = Broker::start().await;
    broker.remember("forebay-e2e-broker", &["plant/+/+"]).await;
    let (north, boilers, all) = (Receiver::start(), Receiver::start(), Receiver::start());
    let sinks = [
        sink("north", &north, "streams = [\"readings\", \"alerts\"]\ntags = { site = \"north\" }"),
        sink("boilers", &boilers, "devices = [\"boiler-*\"]\npoints = [\"*/temp\"]\nstreams = [\"readings\"]"),
        sink("all", &all, ""),
    ];
    let devices = "[[device]]\nid = \"boiler-1\"\ntags = { site = \"north\" }\n[[device]]\nid = \"pump-1\"\ntags = { site = \"south\" }\n";
    let check = "[[check]]\npoints = \"*/temp\"\nrange = { operating = [0.0, 50.0] }\n";
    let gateway = Gateway::start(&config(&broker, &format!("{devices}{check}{}", sinks.concat()))).await;
    let publisher = Publisher::connect(&broker, "plant");
    for value in 0..100 {
        for topic in ["plant/boiler-1/temp", "plant/boiler-1/flow", "plant/boiler-2/temp", "plant/pump-1/temp"] {
            publisher.publish(topic, format!("{{\"value\":{value}}}")).await;
        }
    }
    publisher.all_acknowledged(LIMIT).await;
    wait::until("all readings", LIMIT, || all.count("readings") == 400).await;
    wait::until("those of the north", LIMIT, || north.count("readings") == 200).await;
    wait::until("those of the boilers", LIMIT, || boilers.count("readings") == 200).await;
    wait::until("the alerts of three points", LIMIT, || all.count("alerts") >= 3).await;
    assert!(north.stream("readings").iter().all(|reading| text(reading, "device") == "boiler-1"));
    let wanted = |reading: &Value| text(reading, "device").starts_with("boiler-") && text(reading, "point") == "temp";
    assert!(boilers.stream("readings").iter().all(wanted));
    wait::until("the alert of the north", LIMIT, || north.count("alerts") >= 1).await;
    assert!(north.stream("alerts").iter().all(|alert| {
        let subject = text(alert, "subject");
        subject == "boiler-1/temp" || !subject.contains('/')
    }));
    assert_eq!(boilers.count("alerts"), 0, "alerts are not routed there");
    for receiver in [&north, &boilers, &all] {
        assert_whole_batches(&receiver.stream("readings"));
        assert_whole_batches(&receiver.stream("alerts"));
    }
    let books = wait::until_some("the books of the north to be at the end", LIMIT, || async {
        let books = gateway.status_of("sinks", "north").await["streams"]["readings"].clone();
        (books["filtered"] == 200).then_some(books)
    })
    .await;
    assert_eq!((&books["delivered"], &books["undelivered"], &books["closes"]), (&200.into(), &0.into(), &true.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_slow_sink_does_not_starve_the_others() {
    let broker = Broker::start().await;
    broker.remember("forebay-e2e-broker", &["plant/+/+"]).await;
    let (slow, dead, quick) = (Receiver::start(), Receiver::start(), Receiver::start());
    slow.answer(Answer::Slow(Duration::from_secs(5)));
    dead.answer(Answer::Status(503, None));
    let sinks = [sink("slow", &slow, ""), sink("dead", &dead, ""), sink("quick", &quick, "")];
    let gateway = Gateway::start(&config(&broker, &sinks.concat())).await;
    let publisher = Publisher::connect(&broker, "plant");
    for value in 0..2_000 {
        publisher.publish("plant/mill/count", format!("{{\"value\":{value}}}")).await;
    }
    publisher.all_acknowledged(LIMIT).await;
    wait::until("the quick sink to have all", LIMIT, || quick.count("readings") == 2_000).await;
    assert_eq!(dead.count("readings"), 0);
    assert!(slow.count("readings") < 2_000, "the quick one was done before the slow one");
    // What the others lack is kept for them, and told.
    let books = gateway.status_of("sinks", "dead").await["streams"]["readings"].clone();
    assert_eq!(books["undelivered"], 2_000);
    dead.answer(Answer::Apply);
    slow.answer(Answer::Apply);
    for (name, receiver) in [("dead", &dead), ("slow", &slow)] {
        wait::until(format!("sink {name} to have all"), LIMIT, || receiver.count("readings") == 2_000).await;
        assert_whole_batches(&receiver.stream("readings"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_does_not_resend_everything() {
    let mut plant = Plant::start("linger_ms = 50", "").await;
    plant.publish(1_000).await;
    plant.assert_exactly_once().await;
    for kill in [true, false, true] {
        let requests = plant.receiver.requests().len();
        if kill {
            plant.gateway.kill_and_start_again().await;
        } else {
            plant.gateway.terminate().await;
            plant.gateway.start_again().await;
        }
        // Whatever it would send again goes before what is new.
        let before = plant.receiver.count("readings");
        plant.publish(10).await;
        plant.assert_exactly_once().await;
        assert_eq!(plant.receiver.count("readings"), before + 10);
        let repeated =
            plant.receiver.requests().split_off(requests).iter().filter(|request| request.is_repeated).count();
        assert_eq!(repeated, 0, "nothing that was taken comes again, not even under its key");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_outage_new_readings_go_first_and_the_backlog_follows_as_history() {
    let mut plant = Plant::start("linger_ms = 50\norder = \"live_first\"", "").await;
    plant.receiver.answer(Answer::Status(503, None));
    plant.publish(20_000).await;
    plant.all_accepted().await;
    // Old enough to be a backlog: ten seconds, and what a run gathers.
    let begun = tokio::time::Instant::now();
    wait::until("the outage to last", LIMIT, || begun.elapsed() > Duration::from_secs(12)).await;
    let publisher = Publisher::connect(&plant.broker, "probe");
    plant.receiver.answer(Answer::Slow(Duration::from_millis(100)));
    // What arrives is taken at once: a poll that copied all of it would be what is measured.
    let readings = std::cell::RefCell::new(Vec::new());
    let has = |wanted: &dyn Fn(&Value) -> bool| {
        let fresh = plant.receiver.take_stream("readings");
        let found = fresh.iter().any(wanted);
        readings.borrow_mut().extend(fresh);
        found
    };
    wait::until("history to begin", LIMIT, || has(&|reading| text(reading, "lane") == "history")).await;
    let mut latencies = Vec::new();
    for value in 1_000_000..1_000_040 {
        let sent = tokio::time::Instant::now();
        publisher.publish("plant/probe/count", format!("{{\"value\":{value}}}")).await;
        wait::until("the new reading", LIMIT, || has(&|reading| reading["value"] == value)).await;
        latencies.push(sent.elapsed());
    }
    latencies.sort();
    let left = plant.sink().await["streams"]["readings"]["history"].as_u64().unwrap_or_default();
    println!("live, with {left} of 20 000 still to follow: p50 {:?}, highest {:?}", latencies[20], latencies[39]);
    wait::until("all of it", LIMIT, || {
        has(&|_| false);
        readings.borrow().len() == 20_040
    })
    .await;
    let readings = readings.into_inner();
    assert_whole_batches(&readings);
    let (history, live): (Vec<_>, Vec<_>) = readings.iter().partition(|reading| text(reading, "lane") == "history");
    assert!(history.len() > 15_000, "{} came as history", history.len());
    for lane in [history, live] {
        let sequences: Vec<_> = lane.iter().map(|reading| reading["seq"].as_u64().unwrap()).collect();
        assert!(sequences.is_sorted(), "each lane is in order");
    }
    assert!(latencies[38] < Duration::from_secs(5), "new readings did not wait for the backlog: {latencies:?}");
}
