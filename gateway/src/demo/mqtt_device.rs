//! Ten devices that publish to the plant's broker, each over its own connection, at least once (quality of service 1).

use super::fault::{Fault, LASTS};
use super::signal::{Shape, Signal};
use super::tally::Tally;
use crate::clock::Clock;
use crate::status::Counter;
use rumqttc::{AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, Outgoing, Packet, QoS};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

/// Between two readings of a point.
const READING_EVERY: Duration = Duration::from_millis(200);
/// Messages that wait for the connection; then the device waits.
const REQUESTS_MAX: usize = 16;
/// How long the broker may take to acknowledge the last messages.
const LAST_ACK_LIMIT: Duration = Duration::from_secs(5);
/// Before a broken connection is opened again.
const RECONNECT_AFTER: Duration = Duration::from_millis(200);
/// What a broken thermometer says: as far below zero as nothing can be.
const IMPOSSIBLE: f64 = -999.9;

/// A device of the plant.
#[derive(Debug)]
pub(super) struct Device {
    /// Its name, the second level of its topics.
    pub(super) name: &'static str,
    /// What it measures.
    pub(super) points: [Point; 2],
}

/// What a device measures.
#[derive(Debug)]
pub(super) struct Point {
    /// The third level of its topic; the gateway's configuration has a unit for each name.
    pub(super) name: &'static str,
    shape: Shape,
}

/// The names of points and their units.
pub(super) const UNITS: [(&str, &str); 7] = [
    ("temperature", "°C"),
    ("pressure", "bar"),
    ("flow", "m³/h"),
    ("power", "kW"),
    ("level", "%"),
    ("speed", "rpm"),
    ("current", "A"),
];

const fn point(name: &'static str, middle: f64, swing: f64, period_s: f64, noise: f64) -> Point {
    Point { name, shape: Shape { middle, swing, period_s, noise } }
}

/// The plant.
pub(super) const DEVICES: [Device; 10] = [
    Device {
        name: "boiler-1",
        points: [point("temperature", 72.0, 3.0, 90.0, 0.1), point("pressure", 1.8, 0.1, 60.0, 0.02)],
    },
    Device {
        name: "boiler-2",
        points: [point("temperature", 68.0, 4.0, 110.0, 0.1), point("pressure", 1.7, 0.1, 70.0, 0.02)],
    },
    Device { name: "pump-1", points: [point("flow", 12.0, 1.5, 45.0, 0.1), point("power", 4.2, 0.4, 45.0, 0.03)] },
    Device { name: "pump-2", points: [point("flow", 9.0, 1.0, 50.0, 0.1), point("power", 3.1, 0.3, 50.0, 0.03)] },
    Device {
        name: "pump-3",
        points: [point("pressure", 5.5, 0.4, 40.0, 0.03), point("current", 7.5, 0.5, 40.0, 0.05)],
    },
    Device {
        name: "tank-1",
        points: [point("level", 62.0, 20.0, 300.0, 0.2), point("temperature", 41.0, 2.0, 200.0, 0.1)],
    },
    Device {
        name: "tank-2",
        points: [point("level", 35.0, 15.0, 240.0, 0.2), point("temperature", 38.0, 2.0, 220.0, 0.1)],
    },
    Device {
        name: "chiller-1",
        points: [point("temperature", 6.5, 0.8, 80.0, 0.05), point("power", 18.0, 3.0, 80.0, 0.2)],
    },
    Device {
        name: "fan-1",
        points: [point("speed", 1_450.0, 30.0, 65.0, 4.0), point("current", 3.4, 0.2, 65.0, 0.03)],
    },
    Device {
        name: "compressor-1",
        points: [point("pressure", 7.8, 0.5, 30.0, 0.05), point("temperature", 83.0, 4.0, 100.0, 0.2)],
    },
];

/// What a device needs to run.
#[derive(Debug)]
pub(super) struct Wiring {
    /// Its position in [`DEVICES`].
    pub(super) position: usize,
    /// Makes its signals.
    pub(super) seed: u64,
    /// Where the broker is.
    pub(super) broker: SocketAddr,
    /// What goes wrong with it.
    pub(super) faults: mpsc::Receiver<Fault>,
    /// Where acknowledged messages are counted.
    pub(super) tally: Arc<Tally>,
    /// Stamps its readings.
    pub(super) clock: Clock,
    /// Ends it.
    pub(super) stop: CancellationToken,
}

/// Messages of one device under way.
#[derive(Debug, Default)]
struct Flow {
    acknowledged: Counter,
    changed: Notify,
}

/// Runs a device until it is stopped and the broker has acknowledged all it sent.
pub(super) async fn run(wiring: Wiring) {
    let Some(device) = DEVICES.get(wiring.position) else { return };
    let mut options = MqttOptions::new(device.name, wiring.broker.ip().to_string(), wiring.broker.port());
    options.set_keep_alive(Duration::from_secs(30));
    let (client, connection) = AsyncClient::new(options, REQUESTS_MAX);
    let flow = Flow::default();
    let tally = Arc::clone(&wiring.tally);
    // Side by side and never cancelled: the connection must not be dropped in the middle of a packet.
    tokio::join!(publish(device, wiring, client, &flow), drive(connection, &tally, &flow));
}

async fn publish(device: &Device, mut wiring: Wiring, client: AsyncClient, flow: &Flow) {
    let mut readings = Readings::new(device, wiring.position, wiring.seed);
    let mut ticks = interval(READING_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut published = 0;
    loop {
        tokio::select! {
            () = wiring.stop.cancelled() => break,
            Some(fault) = wiring.faults.recv() => readings.strike(fault),
            _ = ticks.tick() => {
                let time_ms = wiring.clock.tick().wall_us / 1_000;
                for (topic, payload) in readings.take(time_ms) {
                    // An error says that the connection's end is gone, which it is not before this returns.
                    if client.publish(topic, QoS::AtLeastOnce, false, payload).await.is_ok() {
                        published += 1;
                    }
                }
            }
        }
    }
    let deadline = Instant::now() + LAST_ACK_LIMIT;
    while flow.acknowledged.get() < published && timeout_at(deadline, flow.changed.notified()).await.is_ok() {}
    // As above.
    client.disconnect().await.ok();
}

/// Keeps the connection going until the device has said that it leaves.
async fn drive(mut connection: EventLoop, tally: &Tally, flow: &Flow) {
    loop {
        match connection.poll().await {
            Ok(Event::Incoming(Packet::PubAck(_))) => {
                tally.published.add(1);
                flow.acknowledged.add(1);
                flow.changed.notify_one();
            }
            Ok(Event::Outgoing(Outgoing::Disconnect)) | Err(ConnectionError::RequestsDone) => return,
            Ok(_) => {}
            Err(_) => sleep(RECONNECT_AFTER).await,
        }
    }
}

/// The readings of a device, and what is wrong with them.
struct Readings<'a> {
    device: &'a Device,
    signals: [Signal; 2],
    started: Instant,
    next: Option<Fault>,
    stuck: Option<(Instant, f64)>,
}

impl<'a> Readings<'a> {
    fn new(device: &'a Device, position: usize, seed: u64) -> Self {
        let seed = seed.wrapping_add(2 * position as u64);
        let [first, second] = &device.points;
        let signals = [Signal::new(first.shape, seed), Signal::new(second.shape, seed.wrapping_add(1))];
        Self { device, signals, started: Instant::now(), next: None, stuck: None }
    }

    /// The fault strikes the next reading of the first point.
    fn strike(&mut self, fault: Fault) {
        self.next = Some(fault);
    }

    /// Topics and payloads of one round.
    fn take(&mut self, time_ms: i64) -> [(String, String); 2] {
        let elapsed = self.started.elapsed();
        let [first, second] = &mut self.signals;
        let mut value = first.at(elapsed);
        let mut is_garbled = false;
        match self.next.take() {
            Some(Fault::Spike(_)) => value = first.spike(),
            Some(Fault::Impossible(_)) => value = IMPOSSIBLE,
            Some(Fault::Stuck(_)) => self.stuck = Some((Instant::now() + LASTS, value)),
            Some(Fault::Garbled(_)) => is_garbled = true,
            Some(Fault::DeadUnit | Fault::Noise) | None => {}
        }
        self.stuck = self.stuck.filter(|(until, _)| Instant::now() < *until);
        if let Some((_, stuck)) = self.stuck {
            value = stuck;
        }
        let mut messages = [value, second.at(elapsed)].map(|value| format!(r#"{{"value":{value},"ts":{time_ms}}}"#));
        if let Some(message) = messages.first_mut().filter(|_| is_garbled) {
            message.truncate(message.len() / 2);
        }
        let [first_message, second_message] = messages;
        let topic = |point: &Point| format!("plant/{}/{}", self.device.name, point.name);
        let [first_point, second_point] = &self.device.points;
        [(topic(first_point), first_message), (topic(second_point), second_message)]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::demo::broker;
    use tokio::task::JoinSet;
    use tokio::time::timeout;

    const TIMEOUT: Duration = Duration::from_secs(30);

    /// What a subscriber has got.
    #[derive(Default)]
    struct Taken {
        values: Counter,
        garbled: Counter,
    }

    impl Taken {
        fn all(&self) -> u64 {
            self.values.get() + self.garbled.get()
        }
    }

    async fn subscribe(broker: SocketAddr, taken: Arc<Taken>, is_subscribed: Arc<Notify>) {
        let options = MqttOptions::new("subscriber", broker.ip().to_string(), broker.port());
        let (client, mut connection) = AsyncClient::new(options, REQUESTS_MAX);
        client.subscribe("plant/+/+", QoS::AtLeastOnce).await.unwrap();
        loop {
            match connection.poll().await.unwrap() {
                Event::Incoming(Packet::SubAck(_)) => is_subscribed.notify_one(),
                Event::Incoming(Packet::Publish(publish)) => {
                    let json = serde_json::from_slice::<serde_json::Value>(&publish.payload);
                    let is_reading = json.is_ok_and(|json| json["value"].is_number() && json["ts"].is_i64());
                    (if is_reading { &taken.values } else { &taken.garbled }).add(1);
                }
                _ => {}
            }
        }
    }

    async fn until(is_true: impl Fn() -> bool) {
        let wait = async {
            while !is_true() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(TIMEOUT, wait).await.unwrap();
    }

    #[tokio::test]
    async fn a_subscriber_gets_every_message_that_the_broker_has_acknowledged() {
        let broker = broker::start().await.unwrap();
        let (taken, is_subscribed) = (Arc::new(Taken::default()), Arc::new(Notify::new()));
        let mut subscriber = JoinSet::new();
        subscriber.spawn(subscribe(broker, Arc::clone(&taken), Arc::clone(&is_subscribed)));
        timeout(TIMEOUT, is_subscribed.notified()).await.unwrap();

        let tally = Arc::new(Tally::default());
        let stop = CancellationToken::new();
        let mut devices = JoinSet::new();
        let mut strikes = Vec::new();
        for position in 0..DEVICES.len() {
            let (strike, faults) = mpsc::channel(1);
            strikes.push(strike);
            let (tally, clock, stop) = (Arc::clone(&tally), Clock::system(), stop.clone());
            devices.spawn(run(Wiring { position, seed: 1, broker, faults, tally, clock, stop }));
        }
        strikes[3].send(Fault::Garbled(3)).await.unwrap();
        until(|| taken.all() >= 100).await;
        stop.cancel();
        while devices.join_next().await.is_some() {}

        until(|| taken.all() >= tally.published.get()).await;
        assert_eq!(taken.all(), tally.published.get());
        assert_eq!(taken.garbled.get(), 1);
    }
}
