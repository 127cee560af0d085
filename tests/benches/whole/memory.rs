//! What ten thousand points cost in memory, each of them checked and watched.

use std::time::Duration;

use e2e::gateway::Gateway;
use e2e::mosquitto::{Broker, BrokerOptions};
use e2e::wait;
use tokio::time::sleep;

use super::endpoint::Endpoint;
use super::load;
use super::proc::Memory;
use super::report::Report;

/// Points, and how often each is heard of.
const POINTS: u32 = 10_000;
const READINGS_PER_POINT: u32 = 2;
/// Most memory, in MiB.
const RESIDENT_MAX: f64 = 64.0;
/// Everything to arrive, on a busy machine.
const LIMIT: Duration = Duration::from_mins(1);
/// Long enough for what is done once a second, and for the allocator to give back.
const SETTLING: Duration = Duration::from_secs(3);
/// A check and a detector for every point.
const RULES: &str = r#"
    [[check]]
    points = "*/*"
    range = { operating = [0.0, 1e6], possible = [-1e9, 1e9] }
    [[anomaly]]
    points = "*/*"
"#;

/// Hears of every point twice and weighs the gateway.
pub(crate) async fn many_points(report: &mut Report) {
    report.scenario(&format!("{POINTS} points, each checked and watched, heard of {READINGS_PER_POINT} times"));
    let broker = Broker::start_with(&BrokerOptions { max_inflight_messages: 1000, ..BrokerOptions::default() }).await;
    load::subscribe(&broker, load::GATEWAY_CLIENT).await;
    let endpoint = Endpoint::start();
    let mut gateway = Gateway::start(&load::config(&broker, &endpoint, RULES)).await;
    let empty = Memory::of(gateway.id()).resident;
    let readings = POINTS * READINGS_PER_POINT;
    load::publish(&broker, readings, POINTS).await;
    wait::until("every reading to arrive", LIMIT, || endpoint.count() >= u64::from(readings)).await;
    sleep(SETTLING).await;
    let points = gateway.metric("forebay_points", &[]).await.unwrap_or_default();
    assert!((points - f64::from(POINTS)).abs() < 0.5, "the gateway knows {points} points");
    let Memory { resident, peak } = Memory::of(gateway.id());
    report.goal(
        "resident memory, MiB",
        &format!("<= {RESIDENT_MAX}"),
        resident <= RESIDENT_MAX,
        format!("{resident:.1}  (peak {peak:.1}; {empty:.1} without points)"),
    );
}
