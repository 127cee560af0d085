//! A microcontroller on a serial line: it counts, and repeats each count until the gateway has it on disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use firmware_protocols::{Body, Channel, Decoder, Describe, Message, Sample, Sender, Telemetry, Value};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::serial::Line;

/// Messages kept until they are acknowledged.
const QUEUE_MESSAGES: usize = 32;
/// Places in the queue for names that the gateway asks for, so that counts never keep them out.
const RESERVED_MESSAGES: usize = 2;
/// Between two turns of the microcontroller's loop.
const TURN: Duration = Duration::from_millis(1);
/// The point that carries the count.
pub const POINT: &str = "count";

/// A running microcontroller. Dropping it switches it off.
#[derive(Debug)]
pub struct Firmware {
    is_stopping: Arc<AtomicBool>,
    run: JoinHandle<i32>,
}

impl Firmware {
    /// Switches one on that sends a count on the point [`POINT`] every so often: 1, 2, 3.
    #[must_use]
    pub fn start(line: Arc<Line>, every: Duration) -> Self {
        let is_stopping = Arc::new(AtomicBool::new(false));
        let run = tokio::spawn(run(line, every, Arc::clone(&is_stopping)));
        Self { is_stopping, run }
    }

    /// Stops counting, waits until every count is acknowledged and returns the last one.
    pub async fn finish(mut self, limit: Duration) -> i64 {
        self.is_stopping.store(true, Ordering::SeqCst);
        let ended = timeout(limit, &mut self.run).await;
        i64::from(ended.expect("the gateway acknowledges every frame").expect("the microcontroller does not panic"))
    }
}

impl Drop for Firmware {
    fn drop(&mut self) {
        self.run.abort();
    }
}

async fn run(line: Arc<Line>, every: Duration, is_stopping: Arc<AtomicBool>) -> i32 {
    let firmware = "1.0".try_into().expect("a short text");
    let device = "e2e".try_into().expect("a short text");
    let mut sender: Sender<QUEUE_MESSAGES> = Sender::new(fastrand::u32(..), firmware, device);
    let mut decoder = Decoder::new();
    let started = Instant::now();
    let mut next_at = started;
    let mut count = 0;
    // Sequences of the last description, and of what is acknowledged.
    let (mut described, mut acknowledged) = (sender.send(&describe()).expect("an empty queue takes it"), 0);
    loop {
        for byte in line.take_received() {
            let Some(Ok(frame)) = decoder.push(byte) else { continue };
            match Message::decode(&frame) {
                Ok(Message { boot, body: Body::Ack(ack) }) => {
                    sender.acknowledge(boot, ack.sequence);
                    acknowledged = ack.sequence;
                }
                // One that is on its way already comes with the next round.
                Ok(Message { body: Body::DescribeRequest, .. }) if described <= acknowledged => {
                    described = sender.send(&describe()).expect("there is a place for names");
                }
                _ => {}
            }
        }
        let uptime_ms = u64::try_from(started.elapsed().as_millis()).expect("a test is short");
        let is_stopping = is_stopping.load(Ordering::SeqCst);
        let has_room = sender.unacknowledged() < QUEUE_MESSAGES - RESERVED_MESSAGES;
        if !is_stopping && has_room && Instant::now() >= next_at {
            next_at = Instant::now() + every;
            count += 1;
            sender.send(&telemetry(uptime_ms, count)).expect("there is room");
        }
        while let Some(bytes) = sender.poll(uptime_ms) {
            line.write_all(bytes).await;
        }
        if is_stopping && sender.unacknowledged() == 0 {
            return count;
        }
        sleep(TURN).await;
    }
}

fn describe() -> Body {
    let mut describe = Describe::default();
    let name = POINT.try_into().expect("a short name");
    describe.channels.push(Channel { channel: 0, name, unit: "".try_into().expect("no unit") }).expect("room for one");
    Body::Describe(describe)
}

fn telemetry(uptime_ms: u64, count: i32) -> Body {
    let mut telemetry = Telemetry { uptime_ms, ..Telemetry::default() };
    let sample = Sample { channel: 0, value: Value::I32(count), age_ms: 0 };
    telemetry.samples.push(sample).expect("room for one");
    Body::Telemetry(telemetry)
}
