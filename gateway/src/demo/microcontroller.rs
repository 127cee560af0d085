//! A microcontroller at the end of a serial line: it speaks firmware-protocols and keeps every sample until the gateway
//! has it on disk.

use super::fault::NOISE_BYTES;
use super::serial_line::SerialLine;
use super::signal::{Shape, Signal};
use super::tally::Tally;
use fastrand::Rng;
use firmware_protocols::telemetry::{Channel, Describe, Sample, Telemetry, Value};
use firmware_protocols::{Ack, Body, Decoder, FrameBuffer, Message, Sender};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

/// Its name, which the gateway's configuration gives to its points.
pub(super) const DEVICE: &str = "probe-1";
/// Between two telemetry messages.
const SAMPLE_EVERY: Duration = Duration::from_millis(250);
/// The beat of the firmware's loop: how fast it repeats what was not acknowledged.
const LOOP_EVERY: Duration = Duration::from_millis(20);
/// Unacknowledged messages: two seconds of samples. When they are all taken, it waits with the next sample.
const MESSAGES_MAX: usize = 8;
/// How long the last acknowledgements may take.
const LAST_ACK_LIMIT: Duration = Duration::from_secs(10);

/// Channel names, units and what they measure.
const CHANNELS: [(&str, &str, Shape); 3] = [
    ("vibration", "mm/s", Shape { middle: 2.1, swing: 0.3, period_s: 25.0, noise: 0.1 }),
    ("bearing_temperature", "°C", Shape { middle: 48.0, swing: 2.0, period_s: 120.0, noise: 0.05 }),
    ("humidity", "%", Shape { middle: 44.0, swing: 5.0, period_s: 150.0, noise: 0.2 }),
];

/// The firmware and its memory.
#[derive(Debug)]
pub(super) struct Microcontroller {
    sender: Sender<MESSAGES_MAX>,
    decoder: Decoder,
    /// Sequence and samples of each message that is not acknowledged.
    waiting: VecDeque<(u32, u64)>,
    signals: Vec<Signal>,
    started: Instant,
    rng: Rng,
    is_noisy: bool,
    tally: Arc<Tally>,
}

impl Microcontroller {
    /// A microcontroller that has just been switched on.
    pub(super) fn new(seed: u64, tally: Arc<Tally>) -> Self {
        let mut rng = Rng::with_seed(seed);
        // Both texts are shorter than their fields.
        let (firmware, device) = ("1.4.0".try_into().unwrap_or_default(), DEVICE.try_into().unwrap_or_default());
        Self {
            sender: Sender::new(rng.u32(..), firmware, device),
            decoder: Decoder::new(),
            waiting: VecDeque::new(),
            signals: CHANNELS.iter().map(|(.., shape)| Signal::new(*shape, rng.u64(..))).collect(),
            started: Instant::now(),
            rng,
            is_noisy: false,
            tally,
        }
    }

    /// Runs until it is stopped and everything is acknowledged. Each message of `noise` disturbs the line once.
    pub(super) async fn run(
        mut self,
        line: &mut SerialLine,
        mut noise: mpsc::Receiver<()>,
        stop: CancellationToken,
    ) -> io::Result<()> {
        let mut samples = interval(SAMPLE_EVERY);
        samples.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut beats = interval(LOOP_EVERY);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut bytes = [0; 256];
        self.describe();
        let mut deadline = None;
        while deadline.is_none() || !self.waiting.is_empty() {
            let is_running = deadline.is_none();
            tokio::select! {
                () = stop.cancelled(), if is_running => deadline = Some(Instant::now() + LAST_ACK_LIMIT),
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if !is_running => break,
                read = line.read(&mut bytes) => self.hear(bytes.get(..read?).unwrap_or_default()),
                Some(()) = noise.recv() => self.is_noisy = true,
                _ = samples.tick(), if is_running => self.measure(),
                _ = beats.tick() => {}
            }
            self.speak(line).await?;
        }
        Ok(())
    }

    /// Says what the channels are.
    fn describe(&mut self) {
        let mut describe = Describe::default();
        for (channel, (name, unit, _)) in (0..).zip(CHANNELS) {
            let (Ok(name), Ok(unit)) = (name.try_into(), unit.try_into()) else { continue };
            // There are fewer channels than a message holds.
            describe.channels.push(Channel { channel, name, unit }).ok();
        }
        self.send(&Body::Describe(describe), 0);
    }

    /// Takes a sample of each channel; with no room for it, it is not taken.
    fn measure(&mut self) {
        let elapsed = self.started.elapsed();
        let mut telemetry = Telemetry { uptime_ms: uptime_ms(elapsed), ..Telemetry::default() };
        for (channel, signal) in (0..).zip(&mut self.signals) {
            #[expect(clippy::cast_possible_truncation, reason = "the wire carries singles")]
            let value = Value::F32(signal.at(elapsed) as f32);
            // There are fewer channels than a message holds.
            telemetry.samples.push(Sample { channel, value, age_ms: 0 }).ok();
        }
        let samples = telemetry.samples.len() as u64;
        self.send(&Body::Telemetry(telemetry), samples);
    }

    fn send(&mut self, body: &Body, samples: u64) {
        if let Ok(sequence) = self.sender.send(body) {
            self.waiting.push_back((sequence, samples));
        }
    }

    /// Takes what the gateway says.
    fn hear(&mut self, bytes: &[u8]) {
        for byte in bytes {
            let message = self.decoder.push(*byte).and_then(Result::ok).map(|frame| Message::decode(&frame));
            match message {
                Some(Ok(Message { boot, body: Body::Ack(Ack { sequence }) })) if boot == self.sender.boot() => {
                    self.sender.acknowledge(boot, sequence);
                    self.forget(sequence);
                }
                Some(Ok(Message { boot, body: Body::DescribeRequest })) if boot == self.sender.boot() => {
                    self.describe();
                }
                _ => {}
            }
        }
    }

    fn forget(&mut self, up_to: u32) {
        while let Some((_, samples)) = self.waiting.pop_front_if(|(sequence, _)| *sequence <= up_to) {
            self.tally.acknowledged.add(samples);
        }
    }

    /// Writes what is due.
    async fn speak(&mut self, line: &mut SerialLine) -> io::Result<()> {
        let now_ms = uptime_ms(self.started.elapsed());
        while let Some(frame) = self.sender.poll(now_ms) {
            if std::mem::take(&mut self.is_noisy) {
                line.write_all(&disturbed(frame, &mut self.rng)).await?;
            } else {
                line.write_all(frame).await?;
            }
        }
        Ok(())
    }
}

/// A frame after noise, with one of its bits turned over.
fn disturbed(frame: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut frame = FrameBuffer::from_slice(frame).unwrap_or_default();
    let middle = frame.len() / 2;
    if let Some(byte) = frame.get_mut(middle) {
        *byte ^= 0x10;
    }
    let mut bytes: Vec<u8> = (0..NOISE_BYTES).map(|_| rng.u8(..)).collect();
    bytes.extend_from_slice(&frame);
    bytes
}

fn uptime_ms(elapsed: Duration) -> u64 {
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use firmware_protocols::{Receiver, Verdict};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::task::JoinSet;
    use tokio_serial::SerialPortBuilderExt as _;

    const TIMEOUT: Duration = Duration::from_secs(30);

    /// Takes messages as a gateway does, until it has this many samples; acknowledges each fresh one.
    async fn gateway(path: String, samples: u64) -> (u64, u64) {
        let mut port = tokio_serial::new(path, 115_200).open_native_async().unwrap();
        let (mut decoder, mut receiver) = (Decoder::new(), Receiver::new());
        let mut taken = 0;
        while taken < samples {
            let byte = port.read_u8().await.unwrap();
            let Some(Ok(frame)) = decoder.push(byte) else { continue };
            let sequence = frame.sequence;
            let Message { boot, body } = Message::decode(&frame).unwrap();
            if let Body::Hello(hello) = &body {
                receiver.greet(boot, hello.oldest);
                continue;
            }
            if receiver.judge(boot, sequence) != Verdict::Fresh {
                continue;
            }
            if let Body::Telemetry(telemetry) = &body {
                taken += telemetry.samples.len() as u64;
            }
            let mut ack = FrameBuffer::new();
            Message { boot, body: Body::Ack(Ack { sequence }) }.encode(0, &mut ack).unwrap();
            port.write_all(&ack).await.unwrap();
        }
        (taken, decoder.counters().crc_errors)
    }

    #[tokio::test]
    async fn every_sample_arrives_once_over_a_noisy_line_and_is_counted_when_it_is_acknowledged() {
        let tally = Arc::new(Tally::default());
        let mut line = SerialLine::open().unwrap();
        let path = line.path().to_owned();
        let (noise, noises) = mpsc::channel(1);
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let microcontroller = Microcontroller::new(1, Arc::clone(&tally));
        let stopped = stop.clone();
        tasks.spawn(async move { microcontroller.run(&mut line, noises, stopped).await.unwrap() });
        noise.send(()).await.unwrap();
        let (taken, damaged) = tokio::time::timeout(TIMEOUT, gateway(path, 15)).await.unwrap();
        assert!(damaged >= 1, "the noise damaged no frame");
        let is_counted = async {
            while tally.acknowledged.get() < taken {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(TIMEOUT, is_counted).await.unwrap();
        assert_eq!(tally.acknowledged.get(), taken);
    }
}
