//! The disk fills up, the buffer reaches its cap, a file is damaged: nothing acknowledged is lost in silence.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use e2e::books::sequence_setbacks;
use e2e::chance;
use e2e::gateway::Gateway;
use e2e::mosquitto::Publisher;
use e2e::plant::Plant;
use e2e::receiver::Receiver;
use e2e::small_disk::SmallDisk;
use e2e::wait;
use fastrand::Rng;
use serde_json::Value;
use tokio::time::Instant;

/// Longer than anything in these tests takes on a busy machine.
const LIMIT: Duration = Duration::from_mins(2);

/// The numbers that were lost before delivery, as the gaps tell it: sequences of readings.
fn told_as_gaps(receiver: &Receiver) -> Vec<u64> {
    let gaps = receiver.stream("gaps");
    let of_readings = gaps.iter().filter(|gap| gap["kind"] == "gap" && gap["stream"] == "readings");
    let mut lost: Vec<u64> = of_readings
        .flat_map(|gap| gap["sinks"].as_array().unwrap().iter())
        .flat_map(|sink| sink["first"].as_u64().unwrap()..=sink["last"].as_u64().unwrap())
        .collect();
    lost.sort_unstable();
    lost
}

fn sequences(receiver: &Receiver) -> Vec<u64> {
    receiver.stream("readings").iter().map(|reading| reading["seq"].as_u64().unwrap()).collect()
}

/// Fails unless each sequence below `accepted` was either delivered or told as a gap, once.
fn assert_delivered_or_told(receiver: &Receiver, accepted: u64, seed: u64) {
    let mut all = sequences(receiver);
    let delivered = all.len();
    let lost = told_as_gaps(receiver);
    let told = lost.len();
    all.extend(lost);
    all.sort_unstable();
    let distinct: BTreeSet<u64> = all.iter().copied().collect();
    assert!(
        all.len() == distinct.len() && distinct.into_iter().eq(0..accepted),
        "of {accepted} accepted readings {delivered} were delivered and {told} told as gaps (E2E_SEED={seed}): {:#?}",
        receiver.stream("gaps"),
    );
}

async fn trouble(gateway: &Gateway, subject: &str) -> Option<Value> {
    let status = gateway.status().await;
    status["troubles"].as_array().unwrap().iter().find(|trouble| trouble["subject"] == subject).cloned()
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_the_gateway_acknowledges_nothing_and_goes_on_by_itself_when_there_is_room() {
    let disk = SmallDisk::mount(48 << 20);
    let data_dir = disk.path().join("data");
    let more = format!("[gateway]\ndata_dir = \"{}\"\n[buffer]\nwhen_full = \"block\"\n", data_dir.display());
    let mut plant = Plant::start("linger_ms = 50", &more).await;
    plant.receiver.take_away();
    plant.publish(2_000).await;
    plant.all_accepted().await;

    let mut rounds = 0;
    let told = loop {
        disk.fill();
        plant.publish(500).await;
        // What a block gives way to is filled again.
        if let Some(told) = trouble(&plant.gateway, "buffer").await {
            break told;
        }
        rounds += 1;
        assert!(rounds < 500, "the gateway still finds room");
    };
    assert!(told["what"].as_str().unwrap().contains("Readings cannot be stored"), "{told}");
    assert!(told["advice"].as_str().unwrap().contains("Free some space"), "{told}");
    disk.fill();
    plant.publish(1_000).await;
    let accepted = plant.gateway.status().await["buffer"]["streams"]["readings"]["next"].as_i64().unwrap();
    assert!(accepted < plant.published(), "what cannot be stored waits at the broker");
    assert_eq!(plant.gateway.get("/live").await.0, 200);

    // A kill on a full disk is the worst moment: what was acknowledged is there, the rest comes again.
    plant.gateway.kill();
    disk.free();
    plant.gateway.start_again().await;
    plant.receiver.bring_back();
    plant.assert_exactly_once().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_has_room_again_is_used_again_without_a_restart() {
    let disk = SmallDisk::mount(48 << 20);
    let data_dir = disk.path().join("data");
    let more = format!("[gateway]\ndata_dir = \"{}\"\n[buffer]\nwhen_full = \"block\"\n", data_dir.display());
    let mut plant = Plant::start("linger_ms = 50", &more).await;
    plant.receiver.take_away();
    let mut rounds = 0;
    while trouble(&plant.gateway, "buffer").await.is_none() {
        disk.fill();
        plant.publish(500).await;
        rounds += 1;
        assert!(rounds < 500, "the gateway still finds room");
    }
    disk.free();
    plant.all_accepted().await;
    wait::until_some("the trouble to end", LIMIT, || async {
        trouble(&plant.gateway, "buffer").await.is_none().then_some(())
    })
    .await;
    plant.receiver.bring_back();
    plant.assert_exactly_once().await;
}

/// Text that no compression makes smaller, so that the smallest buffer is full soon.
fn random_text(rng: &mut Rng, bytes: usize) -> String {
    (0..bytes).map(|_| rng.alphanumeric()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_program_writes_costs_little_of_the_backlog_and_every_loss_is_told() {
    let (mut rng, seed) = chance::seeded();
    let disk = SmallDisk::mount(96 << 20);
    let more = format!("[gateway]\ndata_dir = \"{}\"\n", disk.path().join("data").display());
    let mut plant = Plant::start("linger_ms = 50", &more).await;
    plant.receiver.take_away();
    let publisher = Publisher::connect(&plant.broker, "verbose");
    for _ in 0..24_000 {
        let text = random_text(&mut rng, 500);
        publisher.publish("plant/mill/words", format!("{{\"value\":\"{text}\"}}")).await;
    }
    publisher.all_acknowledged(LIMIT).await;
    let backlog = 24_000;
    let accepted = |status: &Value| status["buffer"]["streams"]["readings"]["next"].as_u64().unwrap();
    wait::until_some("the backlog to be on disk", LIMIT, || async {
        (accepted(&plant.gateway.status().await) == backlog).then_some(())
    })
    .await;

    // It takes all there is, and what is made free for readings as well, for longer than the house is looked after.
    let until = Instant::now() + Duration::from_secs(25);
    while Instant::now() < until {
        disk.fill();
        plant.publish(50).await;
    }
    disk.free();
    let all = backlog + u64::try_from(plant.published()).unwrap();
    wait::until_some("everything to be taken in", LIMIT, || async {
        (accepted(&plant.gateway.status().await) == all).then_some(())
    })
    .await;
    plant.receiver.bring_back();
    wait::until("everything to be delivered or told", LIMIT, || {
        (sequences(&plant.receiver).len() + told_as_gaps(&plant.receiver).len()) as u64 >= all
    })
    .await;
    assert_delivered_or_told(&plant.receiver, all, seed);
    // A chunk goes whole, and each leaves a gap of its own: how many readings one holds depends on how they were committed.
    let lost = told_as_gaps(&plant.receiver).len() as u64;
    let chunks = plant.receiver.stream("gaps").iter().filter(|gap| gap["reason"] == "cap").count();
    assert!(
        chunks <= 1 && lost < backlog,
        "{lost} of {backlog} readings in {chunks} chunks were given up for nothing (E2E_SEED={seed})"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn at_its_cap_the_buffer_gives_up_the_oldest_and_tells_the_gap() {
    let (mut rng, seed) = chance::seeded();
    let more = "[buffer]\ndisk_max = \"64 MiB\"\n";
    let mut plant = Plant::start("linger_ms = 50", more).await;
    plant.receiver.take_away();
    let publisher = Publisher::connect(&plant.broker, "verbose");
    let mut published = 0;
    let lost = loop {
        for _ in 0..1_000 {
            let text = random_text(&mut rng, 1_000);
            publisher.publish("plant/mill/words", format!("{{\"value\":\"{text}\"}}")).await;
        }
        published += 1_000;
        publisher.all_acknowledged(LIMIT).await;
        let status = plant.gateway.status().await;
        let lost = status["sinks"][0]["streams"]["readings"]["gaps"].as_u64().unwrap();
        if lost > 0 {
            break lost;
        }
        assert!(published < 200_000, "the cap is never reached: {}", status["buffer"]);
    };
    wait::until_some("the gateway to accept every message", LIMIT, || async {
        (plant.gateway.status().await["buffer"]["streams"]["readings"]["next"] == published).then_some(())
    })
    .await;
    let buffer = plant.gateway.status().await["buffer"].clone();
    assert!(buffer["disk_bytes"].as_u64() <= buffer["disk_bytes_max"].as_u64(), "{buffer}");

    plant.receiver.bring_back();
    plant.all_delivered().await;
    assert_delivered_or_told(&plant.receiver, published, seed);
    let told = told_as_gaps(&plant.receiver);
    assert!(told.len() as u64 >= lost);
    assert!(told.iter().max() < sequences(&plant.receiver).iter().min(), "the oldest go first");
    assert_eq!(sequence_setbacks(&plant.receiver.stream("readings")), Vec::<String>::new());
}

/// The largest file below a directory: that of a chunk which holds the readings.
fn largest_file(directory: &Path) -> PathBuf {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                open.push(entry.path());
            } else {
                found.push((entry.metadata().unwrap().len(), entry.path()));
            }
        }
    }
    found.into_iter().max().unwrap().1
}

/// Readings wait on disk, the gateway is killed, `damage` is done to their file, and the gateway starts again.
async fn survives(damage: impl Fn(&mut Rng, &mut Vec<u8>)) -> usize {
    let (mut rng, seed) = chance::seeded();
    let mut plant = Plant::start("linger_ms = 50", "").await;
    plant.receiver.take_away();
    plant.publish(20_000).await;
    plant.all_accepted().await;
    plant.gateway.kill();

    let file = largest_file(&plant.gateway.data_dir().join("buffer/readings"));
    let mut bytes = fs::read(&file).unwrap();
    damage(&mut rng, &mut bytes);
    fs::write(&file, bytes).unwrap();
    plant.receiver.bring_back();
    plant.gateway.start_again().await;
    let gateway = &plant.gateway;
    let sink = wait::until_some("what is sound to be delivered", LIMIT, || gateway.sink_at_the_end("cloud")).await;
    let published = u64::try_from(plant.published()).unwrap();
    let accepted = gateway.status().await["buffer"]["streams"]["readings"]["next"].as_u64().unwrap();
    assert_delivered_or_told(&plant.receiver, accepted, seed);
    // The device counted from 0, as sequences do: what arrived is what was measured. What the broker had not heard to be safe comes again,
    // and is taken in anew where the damage took it.
    let lost: BTreeSet<u64> = told_as_gaps(&plant.receiver).into_iter().collect();
    for reading in plant.receiver.stream("readings") {
        let (value, seq) = (reading["value"].as_u64().unwrap(), reading["seq"].as_u64().unwrap());
        let is_true = if seq < published { value == seq } else { lost.contains(&value) };
        assert!(is_true, "a damaged reading was delivered, or a sound one twice (E2E_SEED={seed}): {reading}");
    }
    let lost = lost.len();
    eprintln!("{lost} of {accepted} readings were lost with the damage; the books: {}", sink["streams"]["readings"]);
    if lost > 0 {
        assert!(trouble(&plant.gateway, "buffer").await.is_some(), "a person is told");
    }
    // Life goes on.
    plant.publish(100).await;
    let news = |count: i64| plant.receiver.stream("readings").iter().any(|reading| reading["value"] == count);
    wait::until("new readings to arrive", LIMIT, || news(20_099)).await;
    lost
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_file_costs_what_it_held_and_is_told_as_a_gap() {
    let lost = survives(|_, bytes| bytes.truncate(bytes.len() / 3)).await;
    assert!(lost > 0, "the file held readings");
}

#[tokio::test(flavor = "multi_thread")]
async fn flipped_bits_never_alter_a_reading_and_what_they_cost_is_told_as_a_gap() {
    let lost = survives(|rng, bytes| {
        for _ in 0..20 {
            let at = rng.usize(0..bytes.len());
            bytes[at] ^= 1 << rng.u8(0..8);
        }
    })
    .await;
    // A block has at most 500 readings, and what no bit has hit comes back.
    assert!(lost <= 20 * 500, "{lost} readings were lost with 20 bits");
}
