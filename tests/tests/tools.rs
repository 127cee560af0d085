//! The buffer tools, as a person uses them: on a running and on a stopped gateway, on a sound and on a damaged buffer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use e2e::chance;
use e2e::gateway::Gateway;
use e2e::mosquitto::Publisher;
use e2e::plant::Plant;
use e2e::wait;
use serde_json::Value;

/// Longer than anything in these tests takes on a busy machine.
const LIMIT: Duration = Duration::from_mins(2);
/// The readings of a plant in these tests.
const READINGS: i64 = 3_000;

/// A plant whose readings are all delivered.
async fn delivered_plant() -> Plant {
    let mut plant = Plant::start("linger_ms = 50", "").await;
    plant.publish(READINGS).await;
    plant.all_delivered().await;
    plant
}

async fn stats(gateway: &Gateway) -> Value {
    serde_json::from_str(&gateway.tool(&["buffer", "stats", "--json"]).await.success()).unwrap()
}

/// Every file below a directory with its bytes, but for what a look may touch nowhere.
fn contents(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else if path.is_file() {
            found.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    found
}

/// The log of the one chunk of readings.
fn log_of_readings(plant: &Plant) -> PathBuf {
    plant.gateway.data_dir().join("buffer/readings/00000001/db")
}

/// Breaks all blocks but the first few, where each begins, as a failing card does.
fn break_blocks(log: &Path) -> usize {
    let mut bytes = fs::read(log).unwrap();
    let magic: Vec<usize> =
        bytes.windows(4).enumerate().filter(|(_, four)| *four == b"FBB1").map(|(at, _)| at).collect();
    assert!(magic.len() > 4, "there are {} blocks", magic.len());
    for at in &magic[2..] {
        bytes[at + 60..at + 68].fill(0xA5);
    }
    fs::write(log, bytes).unwrap();
    magic.len() - 2
}

/// A time with microseconds, all of the same length: such texts compare as their times do.
fn micros(time: &str) -> String {
    format!("{:0<26}", time.trim_end_matches('Z'))
}

fn lines_of(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tools_say_the_same_of_a_running_and_of_a_stopped_gateway() {
    let mut plant = delivered_plant().await;
    let live = stats(&plant.gateway).await;
    assert_eq!(live["running"], true);
    let export = ["buffer", "export"];
    let live_export = plant.gateway.tool(&export).await.success();
    let live_dump = plant.gateway.tool(&["buffer", "dump"]).await.success();
    assert!(plant.gateway.tool(&["buffer", "verify"]).await.success().contains("all of it is sound"));
    assert!(plant.gateway.terminate().await.success());

    let before = contents(plant.gateway.data_dir());
    let stopped = stats(&plant.gateway).await;
    assert_eq!(stopped["running"], false);
    for part in ["epoch", "streams", "books"] {
        assert_eq!(live[part], stopped[part], "{part}");
    }
    let books = live["books"].as_array().unwrap();
    let readings = books.iter().find(|books| books["stream"] == "readings").unwrap();
    assert_eq!(readings["accepted"], READINGS);
    assert_eq!(readings["delivered"], READINGS);
    assert!(books.iter().all(|books| books["closes"] == true && books["configured"] == true), "{books:#?}");
    assert_eq!(plant.gateway.tool(&export).await.success(), live_export);
    assert_eq!(plant.gateway.tool(&["buffer", "dump"]).await.success(), live_dump);
    assert!(plant.gateway.tool(&["buffer", "verify"]).await.success().contains("all of it is sound"));
    assert_eq!(contents(plant.gateway.data_dir()), before, "a look changes nothing");

    // As the sink got them, but for the name of the run.
    let exported = lines_of(&live_export);
    let received = plant.receiver.stream("readings");
    assert_eq!(exported.len(), received.len());
    for (exported, received) in exported.iter().zip(&received) {
        for field in ["seq", "device", "point", "value", "received_at", "quality", "epoch", "source"] {
            assert_eq!(exported[field], received[field], "{field}");
        }
    }
    let table = plant.gateway.tool(&["buffer", "stats"]).await.success();
    assert!(table.contains("the gateway is stopped") && table.contains("close"), "{table}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_holds_just_the_points_and_the_time_that_were_asked_for() {
    let plant = delivered_plant().await;
    let all = lines_of(&plant.gateway.tool(&["buffer", "export"]).await.success());
    let time = |at: usize| all[at]["received_at"].as_str().unwrap().to_owned();
    let (from, to) = (time(1_000), time(1_999));
    let some = ["buffer", "export", "--from", &from, "--to", &to, "--points", "mill/c*"];
    let some = lines_of(&plant.gateway.tool(&some).await.success());
    let is_wanted =
        |one: &&Value| (micros(&from)..=micros(&to)).contains(&micros(one["received_at"].as_str().unwrap()));
    let expected: Vec<&Value> = all.iter().filter(is_wanted).collect();
    assert!(expected.len() >= 900, "{}", expected.len());
    assert!(some.iter().map(|one| &one["seq"]).eq(expected.iter().map(|one| &one["seq"])), "{} readings", some.len());

    let file = plant.gateway.data_dir().join("../some.csv");
    let csv = ["buffer", "export", "--format", "csv", "--from", "1 h ago", "--out", file.to_str().unwrap()];
    assert_eq!(plant.gateway.tool(&csv).await.success(), "");
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(text.lines().count(), 1 + all.len());
    assert!(text.starts_with("seq,received_at,"), "{text}");
    assert!(text.lines().nth(11).unwrap().contains(",mill,count,10,,good,,"), "{:?}", text.lines().nth(11));
    let alerts = plant.gateway.tool(&["buffer", "export", "--stream", "alerts"]).await.success();
    assert!(lines_of(&alerts).iter().all(|alert| alert["kind"] == "alert"));

    for (wrong, told) in [
        (vec!["--points", "mill"], "device/point"),
        (vec!["--points", "nobody/*"], "no point of this gateway matches"),
        (vec!["--from", "yesterday"], "\"2 h ago\""),
        (vec!["--stream", "tears"], "readings, aggregates, alerts"),
        (vec!["--stream", "gaps", "--format", "csv"], "ndjson"),
    ] {
        let answer = plant.gateway.tool(&[&["buffer", "export"][..], &wrong].concat()).await;
        assert_eq!(answer.code, Some(1), "{answer:?}");
        assert!(answer.err.contains(told), "{wrong:?}: {}", answer.err);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_in_a_stopped_buffer_is_found_and_left_alone_and_a_repair_tells_what_it_cost() {
    let mut plant = Plant::start("linger_ms = 50", "").await;
    plant.receiver.take_away();
    plant.publish(READINGS).await;
    plant.all_accepted().await;
    plant.gateway.kill();
    break_blocks(&log_of_readings(&plant));
    let before = contents(plant.gateway.data_dir());
    let verify = plant.gateway.tool(&["buffer", "verify"]).await;
    assert_eq!(verify.code, Some(1), "{verify:?}");
    assert!(verify.out.contains("readings/00000001"), "{verify:?} names the chunk");
    assert!(verify.out.contains("nothing accounts for"), "{verify:?} says that records are missing");
    assert!(verify.err.contains("forebay buffer repair"), "{verify:?} says what to do");
    assert_eq!(contents(plant.gateway.data_dir()), before, "a look changes nothing");

    let repair = plant.gateway.tool(&["buffer", "repair"]).await.success();
    for told in ["set aside: ", "lost: ", "told: 1 gap record", "all of it is sound"] {
        assert!(repair.contains(told), "{told:?} in {repair}");
    }
    let verify = plant.gateway.tool(&["buffer", "verify"]).await.success();
    assert!(verify.contains("all of it is sound"), "{verify}");
    let stats = stats(&plant.gateway).await;
    assert_eq!(stats["quarantine"].as_array().unwrap().len(), 1, "{stats}");

    // Every reading is delivered or told.
    plant.receiver.bring_back();
    plant.gateway.start_again().await;
    plant.all_delivered().await;
    // A run that was under way is given up whole, so that a sink may lose more than the damage took.
    let gaps = plant.receiver.stream("gaps");
    let lost = gaps.iter().flat_map(|gap| gap["sinks"].as_array().unwrap());
    let lost: u64 = lost.map(|lost| lost["count"].as_u64().unwrap()).sum();
    assert!(lost > 0);
    let delivered = plant.receiver.stream("readings").len() as u64;
    assert_eq!(delivered + lost, READINGS.unsigned_abs());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_behind_a_fault_in_a_stopped_buffer_is_neither_called_sound_nor_given_up() {
    let mut plant = Plant::start("linger_ms = 50", "").await;
    plant.receiver.take_away();
    plant.publish(READINGS).await;
    plant.all_accepted().await;
    plant.gateway.kill();
    // The first block, wherever it lies: what opens the log reads no further.
    let log = log_of_readings(&plant);
    let mut bytes = fs::read(&log).unwrap();
    let first = bytes.windows(4).position(|four| four == b"FBB1").unwrap();
    let head = bytes[first..first + 48].to_vec();
    let copies: Vec<usize> =
        bytes.windows(48).enumerate().filter(|(_, here)| *here == head).map(|(at, _)| at).collect();
    for at in copies {
        bytes[at + 60..at + 68].fill(0xA5);
    }
    fs::write(&log, bytes).unwrap();

    let verify = plant.gateway.tool(&["buffer", "verify"]).await;
    assert_eq!(verify.code, Some(1), "{verify:?}");
    assert!(verify.out.contains("readings/00000001") && verify.out.contains("nothing accounts for"), "{verify:?}");
    let told = stats(&plant.gateway).await;
    let readings = told["streams"].as_array().unwrap().iter().find(|one| one["stream"] == "readings").unwrap();
    assert_eq!((&readings["oldest"], &readings["next"]), (&0.into(), &READINGS.into()));
    let left = lines_of(&plant.gateway.tool(&["buffer", "export"]).await.out).len() as u64;
    assert!((1..READINGS.unsigned_abs()).contains(&left), "{left} readings are sound");
    let repair = plant.gateway.tool(&["buffer", "repair"]).await.success();
    let lost = format!("lost: {} records of readings, 0 to", READINGS.unsigned_abs() - left);
    assert!(repair.contains(&lost), "{lost:?} in {repair}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_a_running_gateway_adds_to_is_checked_as_well() {
    let mut plant = Plant::start("linger_ms = 50", "").await;
    plant.publish(READINGS).await;
    plant.all_delivered().await;
    assert!(plant.gateway.tool(&["buffer", "verify"]).await.success().contains("all of it is sound"));
    let log = fs::File::options().write(true).open(log_of_readings(&plant)).unwrap();
    log.set_len(20_000).unwrap();
    let verify = plant.gateway.tool(&["buffer", "verify"]).await;
    assert_eq!(verify.code, Some(1), "{verify:?}");
    assert!(verify.out.contains("wrong: readings/00000001"), "{verify:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_key_is_told_as_what_it_is_and_not_as_damage() {
    let keys = tempfile::NamedTempFile::new().unwrap();
    let (old, new) = ("a".repeat(64), "b".repeat(64));
    fs::write(keys.path(), &old).unwrap();
    let config = format!("[buffer.encryption]\nkey_file = \"{}\"\n", keys.path().display());
    let mut plant = Plant::start("linger_ms = 50", &config).await;
    plant.publish(READINGS).await;
    plant.all_delivered().await;
    let gateway = &mut plant.gateway;
    assert!(gateway.terminate().await.success());
    fs::write(keys.path(), format!("{new}\n{old}\n")).unwrap();
    gateway.start_again().await;
    assert!(gateway.terminate().await.success());
    assert!(gateway.tool(&["buffer", "verify"]).await.success().contains("all of it is sound"));
    fs::write(keys.path(), &new).unwrap();
    for tool in ["verify", "stats", "repair"] {
        let answer = gateway.tool(&["buffer", tool]).await;
        assert_eq!(answer.code, Some(1), "{tool}: {answer:?}");
        assert!(answer.err.contains("is not in the key file of buffer.encryption"), "{tool}: {answer:?}");
        assert!(!answer.err.contains("buffer repair") && !answer.out.contains("sound"), "{tool}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_gateway_repairs_what_verify_finds_and_goes_on() {
    // So small a cap makes chunks of 4 MiB and a little more: the first one is full before the end.
    let mut plant = Plant::start("linger_ms = 50", "[buffer]\ndisk_max = \"64 MiB\"\n").await;
    let (mut rng, seed) = chance::seeded();
    let texts = Publisher::connect(&plant.broker, "texts");
    for _ in 0..8_000 {
        let text: String = std::iter::repeat_with(|| rng.alphanumeric()).take(1_000).collect();
        texts.publish("plant/mill/text", format!("{{\"value\":\"{text}\"}}")).await;
    }
    texts.all_acknowledged(LIMIT).await;
    plant.publish(10).await;
    wait::until_some("every reading to be stored", LIMIT, || async {
        let status = plant.gateway.status().await;
        (status["buffer"]["streams"]["readings"]["next"].as_u64()? >= 8_010).then_some(())
    })
    .await;
    plant.all_delivered().await;
    // A quiet gateway merges the blocks of a full chunk into a new file: what was broken before that is gone with the old one.
    let gateway = &plant.gateway;
    let log = log_of_readings(&plant);
    let verify = wait::until_some(format!("verify to find the damage (E2E_SEED={seed})"), LIMIT, || async {
        break_blocks(&log);
        let verify = gateway.tool(&["buffer", "verify"]).await;
        (verify.code == Some(1)).then_some(verify)
    })
    .await;
    assert!(verify.out.contains("readings/00000001"), "{verify:?} names the chunk");
    let untouched = plant.gateway.tool(&["buffer", "stats"]).await.success();
    assert!(!untouched.contains("quarantine"), "verify changes nothing: {untouched}");
    let repair = plant.gateway.tool(&["buffer", "repair"]).await.success();
    for told in ["set aside: ", "lost: ", "every sink had them already", "all of it is sound"] {
        assert!(repair.contains(told), "{told:?} in {repair}");
    }
    plant.publish(10).await;
    wait::until("new readings to arrive", LIMIT, || plant.receiver.stream("readings").len() == 8_020).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_socket_is_for_its_owner_replaced_after_a_kill_and_gone_after_an_end() {
    let mut plant = Plant::start("", "").await;
    let socket = plant.gateway.data_dir().join("control.sock");
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    plant.gateway.kill();
    assert!(socket.exists(), "a killed gateway leaves its socket");
    assert_eq!(stats(&plant.gateway).await["running"], false);
    plant.gateway.start_again().await;
    let gateway = &plant.gateway;
    wait::until_some("the tools to reach the gateway", LIMIT, || async {
        (stats(gateway).await["running"] == true).then_some(())
    })
    .await;
    assert!(plant.gateway.terminate().await.success());
    assert!(!socket.exists());
}

#[tokio::test]
async fn where_there_is_no_buffer_the_tools_say_so_and_make_none() {
    let gateway = Gateway::prepare("");
    for tool in ["stats", "verify", "dump", "export", "repair"] {
        let answer = gateway.tool(&["buffer", tool]).await;
        assert_eq!(answer.code, Some(1), "{answer:?}");
        assert!(answer.err.contains("there is no buffer in"), "{answer:?}");
    }
    assert!(!gateway.data_dir().exists());
}

#[tokio::test]
async fn a_key_file_without_a_key_is_an_error_of_the_configuration_and_told_once() {
    let mut gateway = Gateway::prepare("");
    let key_file = gateway.data_dir().with_extension("keys");
    gateway.configure(&format!("[buffer.encryption]\nkey_file = \"{}\"\n", key_file.display()));
    let config = gateway.config_path().display().to_string();
    // A token or a key may come later.
    let unreadable = e2e::gateway::tool(&["check", &config]).await;
    assert!(unreadable.out.contains("(warning)"), "{unreadable:?}");
    assert_eq!(unreadable.code, Some(0), "{unreadable:?}");
    for (keys, told) in [("zzz\n", "line 1 of the key file is no key"), ("# none\n", "holds no key"), ("", "is empty")]
    {
        fs::write(&key_file, keys).unwrap();
        for command in ["check", "run"] {
            let answer = e2e::gateway::tool(&[command, &config]).await;
            assert_eq!(answer.code, Some(78), "{command}: {answer:?}");
            assert_eq!(answer.err.matches(told).count(), 1, "{command}: {answer:?}");
        }
    }
}
