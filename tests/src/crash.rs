//! The fault campaign: real gateways killed again and again between a real broker, real devices, Kafka and a receiver.
//!
//! It goes stretch by stretch. In a stretch every gateway dies many times, at a random moment or at a random fault point, while
//! links and peers have their own troubles. At its end everything is left in peace, and what was sent is compared with what each sink
//! has, reading by reading. Only a stretch that was compared counts.

mod peers;
pub mod tally;

use std::os::unix::process::ExitStatusExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use fastrand::Rng;
use forebay::fault::POINTS;
use tokio::time::{Instant, sleep};

use crate::fault_proxy::{Fault, FaultProxy};
use crate::gateway::Gateway;
use crate::kafka::Kafka;
use crate::mosquitto::Broker;
use crate::receiver::{Answer, Receiver};
use crate::wait;
use peers::{Flow, Plant};
use tally::{Tally, Totals};

/// A gateway that lives longer than this is killed: the rate of rounds is at least its inverse, times the gateways.
const LIFE_MAX_MS: u64 = 1_500;
/// Of a hundred deaths so many are at a fault point; the others are at any moment.
const AT_A_POINT_PERCENT: u8 = 60;
/// The number of SIGKILL.
const KILLED: i32 = 9;
/// Between two troubles of links and peers, and how long one lasts: shorter than what the gateways' own patience allows.
const PEACE_MAX_MS: u64 = 4_000;
const TROUBLE_MAX_MS: u64 = 1_500;
/// Taking and delivering what waits at the end of a stretch, on a busy machine.
const SETTLE_LIMIT: Duration = Duration::from_mins(3);
/// Readings that may be on their way when a gateway is asked to end, since its devices never stop: it has a few seconds for them.
const BACKLOG_MAX: u64 = 100;
/// Between two lines of progress.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

/// How the campaign goes.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Deaths in all.
    pub rounds: u64,
    /// Deaths between two comparisons.
    pub stretch: u64,
    /// Gateways at once.
    pub gateways: usize,
    /// Where the random choices begin.
    pub seed: u64,
}

/// Runs rounds on fresh peers and tells each stretch's totals as soon as they are compared.
///
/// # Panics
///
/// If a gateway ends by itself, or a peer cannot be started.
pub async fn run(options: Options, tell: impl Fn(&str), mut compared: impl FnMut(&Tally)) {
    let mut rng = Rng::with_seed(options.seed);
    let mut plant = Plant::start(options.gateways).await;
    let mut done = 0;
    while done < options.rounds {
        let began = Instant::now();
        let rounds = options.stretch.min(options.rounds - done);
        stretch(&mut plant, rounds, &mut rng, &tell).await;
        let mut tally = plant.compare().await;
        tally.rounds = rounds;
        tally.seconds = began.elapsed().as_secs();
        compared(&tally);
        done += rounds;
    }
}

/// So many deaths among troubles, then peace until everything has arrived. The gateways have ended when this returns.
async fn stretch(plant: &mut Plant, rounds: u64, rng: &mut Rng, tell: &impl Fn(&str)) {
    let left = Arc::new(AtomicU64::new(rounds));
    let is_stopping = Arc::new(AtomicBool::new(false));
    let Plant { broker, kafka, receiver, kafka_proxy, receiver_proxy, gateways, flows, .. } = plant;
    let flowing: Vec<_> = flows.iter().map(|flow| flow.publish(Arc::clone(&is_stopping))).collect();
    let deaths: Vec<_> = gateways
        .drain(..)
        .map(|gateway| tokio::spawn(die_again_and_again(gateway, Arc::clone(&left), rng.fork())))
        .collect();
    let told = Arc::clone(&left);
    let progress = async {
        let began = Instant::now();
        loop {
            sleep(PROGRESS_INTERVAL).await;
            let done = rounds - told.load(Ordering::SeqCst).min(rounds);
            let rate = done as f64 / began.elapsed().as_secs_f64();
            let sent: u64 = flows.iter().map(Flow::acknowledged).sum();
            tell(&format!(
                "  {done} of {rounds} rounds, {rate:.1} a second, {sent} messages acknowledged by the broker"
            ));
        }
    };
    let alive = async {
        let mut alive = Vec::new();
        for death in deaths {
            alive.push(death.await.expect("a gateway ends by SIGKILL only"));
        }
        alive
    };
    let mut trouble_rng = rng.fork();
    let troubles = async {
        loop {
            sleep(Duration::from_millis(trouble_rng.u64(200..PEACE_MAX_MS))).await;
            trouble(&mut trouble_rng, broker, kafka, receiver, kafka_proxy, receiver_proxy).await;
        }
    };
    // A trouble that is under way is left where it stands; peace is made below.
    let alive = tokio::select! {
        alive = alive => alive,
        () = progress => unreachable!("progress is told for ever"),
        () = troubles => unreachable!("there is always trouble"),
    };
    kafka_proxy.set(Fault::None);
    receiver_proxy.set(Fault::None);
    receiver.answer(Answer::Apply);
    receiver.bring_back();
    if !broker.is_running() {
        broker.start_again().await;
    }
    if !kafka.is_running() {
        kafka.start_again().await;
    }
    is_stopping.store(true, Ordering::SeqCst);
    for flow in flowing {
        flow.await.expect("a publisher does not panic");
    }
    for mut gateway in alive {
        gateway.end_at(None);
        gateway.start_again().await;
        gateways.push(gateway);
    }
    settle(gateways, flows).await;
}

/// Lets a gateway die while rounds are left; it is not running when this returns.
async fn die_again_and_again(mut gateway: Gateway, left: Arc<AtomicU64>, mut rng: Rng) -> Gateway {
    let take = |left: u64| left.checked_sub(1);
    while left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok() {
        let is_at_a_point = rng.u8(..100) < AT_A_POINT_PERCENT;
        let point = POINTS[rng.usize(..POINTS.len())];
        gateway.end_at(is_at_a_point.then(|| (point, rng.u64(1..=4))));
        gateway.spawn();
        let life = if is_at_a_point { LIFE_MAX_MS } else { rng.u64(..LIFE_MAX_MS) };
        match gateway.wait_exit_for(Duration::from_millis(life)).await {
            None => gateway.kill(),
            Some(status) => {
                assert_eq!(status.signal(), Some(KILLED), "the gateway ended by itself: {status}\n{}", gateway.logs());
            }
        }
    }
    gateway
}

/// One trouble of a link or a peer, from its beginning to its end.
async fn trouble(
    rng: &mut Rng,
    broker: &mut Broker,
    kafka: &mut Kafka,
    receiver: &mut Receiver,
    kafka_proxy: &FaultProxy,
    receiver_proxy: &FaultProxy,
) {
    let lasting = Duration::from_millis(rng.u64(100..TROUBLE_MAX_MS));
    let proxy = if rng.bool() { kafka_proxy } else { receiver_proxy };
    match rng.u8(..10) {
        0 => {
            // In order: its persistence is not what is tried here.
            broker.stop().await;
            sleep(lasting).await;
            broker.start_again().await;
        }
        1 => {
            kafka.kill();
            sleep(lasting).await;
            kafka.start_again().await;
        }
        2 => {
            receiver.take_away();
            sleep(lasting).await;
            receiver.bring_back();
        }
        3 | 4 => {
            let answers = [Answer::ApplyAndHangUp, Answer::Status(503, None), Answer::Rubbish, Answer::Never];
            receiver.answer(answers[rng.usize(..answers.len())].clone());
            sleep(lasting).await;
            receiver.answer(Answer::Apply);
        }
        5 => proxy.reset(),
        other => {
            let faults =
                [Fault::Cut, Fault::HalfOpen, Fault::Delay(Duration::from_millis(50)), Fault::Throttle(20_000)];
            proxy.set(faults[usize::from(other) % faults.len()]);
            sleep(lasting).await;
            proxy.set(Fault::None);
        }
    }
}

/// Waits until every message is taken and every sink has everything, then ends the gateways in order.
async fn settle(gateways: &mut [Gateway], flows: &[Flow]) {
    for (gateway, flow) in gateways.iter_mut().zip(flows) {
        wait::until_some(format!("{} to take every message", flow.name()), SETTLE_LIMIT, || async {
            let (_, text) = gateway.get(&format!("/api/v1/points?filter={}", flow.name())).await;
            let answer: serde_json::Value = serde_json::from_str(&text).ok()?;
            flow.is_taken(answer["points"].as_array()?).then_some(())
        })
        .await;
        wait::until_some(format!("the sinks to catch up with {}", flow.name()), SETTLE_LIMIT, || async {
            let status = gateway.status().await;
            let sinks = status["sinks"].as_array()?;
            let backlog = |sink: &serde_json::Value| sink["streams"]["readings"]["undelivered"].as_u64();
            sinks.iter().all(|sink| backlog(sink).is_some_and(|backlog| backlog < BACKLOG_MAX)).then_some(())
        })
        .await;
        assert!(gateway.terminate().await.success(), "{} ends in order\n{}", flow.name(), gateway.logs());
        let logs = gateway.logs();
        assert!(!logs.contains("panicked at"), "{} has panicked: {logs}", flow.name());
    }
}

/// Adds a stretch to the totals.
pub fn add(totals: &mut Totals, tally: &Tally) {
    totals.rounds += tally.rounds;
    totals.seconds += tally.seconds;
    totals.acknowledged += tally.acknowledged;
    totals.polled += tally.polled;
    for (sink, faults) in &tally.sinks {
        totals.sinks.entry(sink.clone()).or_default().add(faults);
    }
}
