//! An outage: the endpoint is away while readings come in, the gateway is killed, and all of it has to arrive once.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use e2e::gateway::Gateway;
use e2e::mosquitto::{Broker, BrokerOptions, Publisher};
use e2e::wait;
use tokio::time::Instant;

use super::endpoint::{Endpoint, Kept};
use super::load;
use super::report::Report;

/// Readings that come in while the endpoint is away.
const READINGS: u32 = 300_000;
/// Points that they are spread over.
const POINTS: u32 = 1_000;
/// So many messages is the plant ahead of the gateway's disk at most: fewer than the gateway recognises when they are
/// redelivered (`forebay::ingest::WINDOW_PAIRS`). With all of them queued at the broker beforehand, mosquitto 2.0.11
/// redelivered more than that after a kill, and readings were taken in twice: this scenario does not show that limit.
const AHEAD_MAX: u32 = 10_000;
const WINDOW: u16 = 1000;
/// The plant looks so often how far the gateway is, in messages.
const STEP: u32 = 2_000;
/// Each part of it, on a busy machine.
const LIMIT: Duration = Duration::from_mins(2);
/// Most bytes of disk for a reading, and the longest drain once the endpoint is noticed, in seconds.
const DISK_BYTES_MAX: f64 = 10.0;
const DRAIN_SECONDS_MAX: f64 = 1.0;
/// What `st_blocks` counts in (stat(2)).
const BLOCK_BYTES: u64 = 512;

/// Buffers, kills twice, once while readings come in and once with all of them on disk, and delivers.
pub(crate) async fn buffered(report: &mut Report) {
    report.scenario(&format!(
        "{READINGS} readings while the endpoint is away, killed twice (SIGKILL), window {WINDOW}, plant at most {AHEAD_MAX} ahead"
    ));
    let broker = Broker::start_with(&BrokerOptions { max_inflight_messages: WINDOW, ..BrokerOptions::default() }).await;
    let endpoint = Endpoint::away();
    endpoint.keep_readings();
    let mut gateway = Gateway::start(&load::config(&broker, &endpoint, "")).await;
    let publisher = Publisher::connect(&broker, "plant");
    for counter in 0..READINGS {
        if counter == READINGS / 2 {
            gateway.kill_and_start_again().await;
        }
        if counter % STEP == 0 {
            until_stored(&gateway, counter.saturating_sub(AHEAD_MAX)).await;
        }
        let (topic, payload) = load::message(counter, POINTS);
        publisher.publish(&topic, payload).await;
    }
    until_stored(&gateway, READINGS).await;
    let recognised = gateway.metric("forebay_source_duplicate_samples_total", &[]).await.unwrap_or_default();
    gateway.kill();
    let per_reading = |bytes: u64| bytes as f64 / f64::from(READINGS);
    let bytes = per_reading(disk_bytes(gateway.data_dir()));
    let ledger = per_reading(disk_bytes(&gateway.data_dir().join("buffer/ledger")));

    let began = Instant::now();
    gateway.start_again().await;
    let start_ms = began.elapsed().as_secs_f64() * 1e3;
    endpoint.listen();
    let listening = Instant::now();
    wait::until("the backlog to arrive", LIMIT, || endpoint.count() >= u64::from(READINGS)).await;
    let arrived = Instant::now();
    // A repetition would come last: once the gateway knows of no backlog, nothing more comes.
    wait::until_some("the gateway to know it", LIMIT, || async {
        let backlog = gateway.metric("forebay_sink_backlog_records", &["stream=\"readings\""]).await;
        backlog.filter(|backlog| *backlog < 0.5)
    })
    .await;
    let Kept { readings, first_at } = endpoint.kept();
    let first_at = first_at.expect("readings have arrived");
    let sequences: HashSet<u64> = readings.iter().map(|(sequence, _)| *sequence).collect();
    let values: HashSet<u64> = readings.iter().map(|(_, value)| *value).collect();
    let lost = READINGS as usize - values.len();
    let (twice_offered, twice_taken) = (readings.len() - sequences.len(), sequences.len() - values.len());

    report.goal("lost", "0", lost == 0, lost.to_string());
    report.goal(
        "repeated",
        "0",
        twice_offered + twice_taken == 0,
        format!(
            "{}  (taken in twice {twice_taken}, delivered twice {twice_offered}; the broker's repetitions after the first \
             kill, recognised: {recognised})",
            twice_offered + twice_taken
        ),
    );
    report.goal(
        "disk for a reading, bytes",
        &format!("<= {DISK_BYTES_MAX}"),
        bytes <= DISK_BYTES_MAX,
        format!("{bytes:.1}  (ledger {ledger:.1})"),
    );
    report.note("ready again with this backlog, ms", format!("{start_ms:.0}"));
    let drain = (arrived - first_at).as_secs_f64();
    report.goal(
        "drained after the first request, s",
        &format!("<= {DRAIN_SECONDS_MAX}"),
        drain <= DRAIN_SECONDS_MAX,
        format!(
            "{drain:.2}  (first request {:.2} s after the endpoint's return)",
            (first_at - listening).as_secs_f64()
        ),
    );
}

/// Waits until so many readings are on disk, whoever took them in.
async fn until_stored(gateway: &Gateway, readings: u32) {
    wait::until_some("readings to reach the disk", LIMIT, || async {
        let stored = gateway.metric("forebay_stream_records_total", &["stream=\"readings\""]).await;
        stored.filter(|stored| *stored >= f64::from(readings))
    })
    .await;
}

/// What a directory occupies, as the disk counts it. The ballast is not the readings': it is there from the start.
fn disk_bytes(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).expect("the directory is there").flatten();
    let bytes = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => disk_bytes(&entry.path()),
        Ok(_) if entry.file_name() == "ballast" => 0,
        Ok(metadata) => metadata.blocks() * BLOCK_BYTES,
        Err(_) => 0,
    };
    entries.map(bytes).sum()
}
