//! How fast single readings go the whole way, beside a subscriber that does nothing, and what a steady flow costs.

use std::time::Duration;

use e2e::gateway::Gateway;
use e2e::mosquitto::{Broker, BrokerOptions, Publisher};
use e2e::wait;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::endpoint::Endpoint;
use super::load;
use super::proc::{Cpu, Memory};
use super::report::Report;

/// Least share of what the broker gives to a subscriber that does nothing.
const RATIO_MIN: f64 = 0.6;
/// Most processor time for a million readings, in seconds.
const CPU_PER_MILLION_MAX: f64 = 8.0;
/// Everything of one run, on a busy machine.
const LIMIT: Duration = Duration::from_mins(2);
/// Messages on their way to one client, not yet acknowledged: mosquitto's default, and far more. mosquitto 2.0 does not
/// hold to it while it has a queue: each acknowledgement lets a whole window go.
pub(crate) const WINDOWS: [u16; 2] = [20, 1000];
/// Messages that wait: some seconds of work.
const QUEUED: u32 = 400_000;
/// Points that the readings are spread over.
const POINTS: u32 = 1_000;
/// The last run of a measurement is not to wait long to fill: nothing comes after it.
const SHORT_LINGER: &str = "linger_ms = 100";
/// The subscriber that does nothing.
const NULL_CLIENT: &str = "null";

/// The steady flow, most processor time in percent of one core, and most memory in MiB.
const STEADY_PER_SECOND: u32 = 1_000;
const STEADY_SECONDS: u32 = 20;
const STEADY_CPU_PERCENT_MAX: f64 = 2.0;
const STEADY_RESIDENT_MAX: f64 = 20.0;

/// Empties a queue that was filled before, twice: by a subscriber that does nothing and by the gateway.
pub(crate) async fn queued(report: &mut Report, window: u16) {
    let messages = QUEUED;
    report.scenario(&format!("{messages} queued single readings, window {window}"));
    let options = BrokerOptions { max_inflight_messages: window, ..BrokerOptions::default() };
    let broker = Broker::start_with(&options).await;
    report.note("mosquitto, QoS 1", broker.settings());
    report.note("sink, other than by default", format!("{SHORT_LINGER}, compression = \"none\""));
    load::subscribe(&broker, NULL_CLIENT).await;
    load::subscribe(&broker, load::GATEWAY_CLIENT).await;
    load::publish(&broker, messages, POINTS).await;

    // It is done when it has read the last message; whether the broker has taken its acknowledgements in by then is not waited
    // for, so this rate is the most that can be, and the gateway's run may begin with a broker that is still busy with them.
    let watch = Watch::begin(&broker);
    load::take_and_forget(&broker, NULL_CLIENT, messages).await;
    let null = watch.rate(messages);
    let (broker_share, own_share) = watch.shares(&broker);
    report.note(
        "null subscriber, readings/s",
        format!("{null:.0}  (cores: broker {broker_share:.2}, subscriber {own_share:.2})"),
    );

    let endpoint = Endpoint::start();
    let mut gateway = Gateway::prepare(&load::config(&broker, &endpoint, SHORT_LINGER));
    let watch = Watch::begin(&broker);
    gateway.start_again().await;
    let stored = until_stored(&gateway, messages, &watch).await;
    wait::until("every reading to arrive", LIMIT, || endpoint.count() >= u64::from(messages)).await;
    let arrived = watch.rate(messages);
    let (cpu, seconds) = (Cpu::of(gateway.id()), watch.began.elapsed().as_secs_f64());
    let (broker_share, own_share) = watch.shares(&broker);
    let ratio = arrived / null;
    report.goal(
        "to the endpoint, readings/s, of the null subscriber's",
        &format!(">= {RATIO_MIN}"),
        ratio >= RATIO_MIN,
        format!("{ratio:.2}  ({arrived:.0}/s; to disk {stored:.0}/s)"),
    );
    let per_million = cpu.total() / f64::from(messages) * 1e6;
    report.goal(
        "processor seconds for a million readings",
        &format!("<= {CPU_PER_MILLION_MAX}"),
        per_million <= CPU_PER_MILLION_MAX,
        format!("{per_million:.1}  (user {:.0} %)", 100.0 * cpu.user / cpu.total()),
    );
    report.note("peak memory, MiB", format!("{:.1}", Memory::of(gateway.id()).peak));
    let commits = gateway.metric("forebay_commits_total", &[]).await.unwrap_or_default();
    let runs = gateway.metric("forebay_sink_attempts_total", &[]).await.unwrap_or_default();
    report.note(
        "what it did",
        format!(
            "{:.0} commits/s of {:.0} readings, {:.0} requests/s; cores: gateway {:.2}, broker {broker_share:.2}, endpoint {own_share:.2}",
            commits / seconds,
            f64::from(messages) / commits,
            runs / seconds,
            cpu.total() / seconds,
        ),
    );
}

/// A steady flow for some seconds: what the gateway costs when it has time.
pub(crate) async fn steady(report: &mut Report) {
    report.scenario(&format!("{STEADY_PER_SECOND} single readings a second, one by one, for {STEADY_SECONDS} s"));
    let broker = Broker::start().await;
    let endpoint = Endpoint::start();
    let mut gateway = Gateway::start(&load::config(&broker, &endpoint, "")).await;
    let publisher = Publisher::connect(&broker, "plant");
    let (before, began) = (Cpu::of(gateway.id()), Instant::now());
    let mut beat = interval(Duration::from_secs(1) / STEADY_PER_SECOND);
    beat.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for counter in 0..STEADY_PER_SECOND * STEADY_SECONDS {
        beat.tick().await;
        let (topic, payload) = load::message(counter, POINTS);
        publisher.publish(&topic, payload).await;
    }
    let (cpu, seconds) = (Cpu::of(gateway.id()).since(before), began.elapsed().as_secs_f64());
    let percent = 100.0 * cpu.total() / seconds;
    let commits = gateway.metric("forebay_commits_total", &[]).await.unwrap_or_default();
    report.goal(
        "processor, % of one core",
        &format!("<= {STEADY_CPU_PERCENT_MAX}"),
        percent <= STEADY_CPU_PERCENT_MAX,
        format!("{percent:.1}  ({:.0} commits/s)", commits / seconds),
    );
    let resident = Memory::of(gateway.id()).resident;
    let is_met = resident <= STEADY_RESIDENT_MAX;
    report.goal("resident memory, MiB", &format!("<= {STEADY_RESIDENT_MAX}"), is_met, format!("{resident:.1}"));
}

/// Waits until the gateway has everything on disk and returns how fast that went.
async fn until_stored(gateway: &Gateway, messages: u32, watch: &Watch) -> f64 {
    wait::until_some("every reading to reach the disk", LIMIT, || async {
        let accepted = gateway.metric("forebay_source_accepted_samples_total", &[]).await;
        accepted.filter(|accepted| *accepted >= f64::from(messages))
    })
    .await;
    watch.rate(messages)
}

/// A moment, and what broker and benchmark had used until then.
struct Watch {
    began: Instant,
    broker: Cpu,
    own: Cpu,
}

impl Watch {
    fn begin(broker: &Broker) -> Self {
        Self { began: Instant::now(), broker: Cpu::of(broker.id()), own: Cpu::of(std::process::id()) }
    }

    /// Readings a second since then.
    fn rate(&self, messages: u32) -> f64 {
        f64::from(messages) / self.began.elapsed().as_secs_f64()
    }

    /// Cores used since then, by the broker and by the benchmark itself.
    fn shares(&self, broker: &Broker) -> (f64, f64) {
        let seconds = self.began.elapsed().as_secs_f64();
        let share = |now: Cpu, before| now.since(before).total() / seconds;
        (share(Cpu::of(broker.id()), self.broker), share(Cpu::of(std::process::id()), self.own))
    }
}
