//! Frames of `firmware-protocols` on a serial line: to samples, and acknowledgements back.
//!
//! Frames are taken strictly in order, so that an acknowledgement can mean "everything up to here". One that finds no
//! room is left: the device sends it again.

use super::uptime::UptimeClock;
use crate::block::records::RawBytes;
use crate::decode::finite;
use crate::reading::{MonoMicros, NoData, PointId, Sample, TimeQuality, UnixMicros, Value};
use crate::sources::{Intake, Message, Receipt, Reject, SourceContext};
use crate::status::State;
use firmware_protocols::frame::UNNUMBERED;
use firmware_protocols::receiver::Receiver;
use firmware_protocols::{
    Ack, Body, Decoder, Describe, Frame, FrameBuffer, FrameError, Hello, Level, Log, Message as FirmwareMessage,
    MessageError, Telemetry, TimeReply, TimeRequest, Value as FirmwareValue, Verdict, telemetry::Reason,
};
use std::collections::HashMap;

/// Frames after a greeting that may be on disk already: as many as any microcontroller keeps unacknowledged. Later
/// frames were made after the greeting, so they are new, and asking for them could only find a hash that is alike.
const REDELIVERIES_MAX: u32 = 1_024;
/// How long samples of an undescribed channel are left with the device while it is asked for names; then they are taken
/// under the channel's number. Longer than its wait before it sends again (`firmware_protocols::sender::ACK_TIMEOUT_MS`).
const DESCRIBE_WAIT_US: u64 = 3_000_000;

/// One device on one line.
pub(super) struct FirmwareLine {
    device: String,
    source: String,
    decoder: Decoder,
    receiver: Receiver,
    /// The boot that was greeted last.
    boot: Option<u32>,
    /// The oldest sequence that the greeting named.
    greeted_from: u32,
    /// The highest sequence of this boot up to which everything is on disk.
    on_disk: Option<u32>,
    points: HashMap<u8, PointId>,
    /// Until when names are waited for.
    described_by: MonoMicros,
    uptime: UptimeClock,
    is_ack_due: bool,
    is_describe_due: bool,
    /// Messages that the device gave up before they came in; told with the next intake.
    gave_up: u64,
    replies: Vec<u8>,
}

impl FirmwareLine {
    pub(super) fn new(device: &str, source: &str) -> Self {
        Self {
            device: device.to_owned(),
            source: source.to_owned(),
            decoder: Decoder::new(),
            receiver: Receiver::new(),
            boot: None,
            greeted_from: 0,
            on_disk: None,
            points: HashMap::new(),
            described_by: 0,
            uptime: UptimeClock::default(),
            is_ack_due: false,
            is_describe_due: false,
            gave_up: 0,
            replies: Vec::new(),
        }
    }

    /// Forgets a frame that is half in. What is known of the device stays: boot and sequence name a message whatever
    /// the port.
    pub(super) fn restart(&mut self) {
        self.decoder.reset();
        self.replies.clear();
    }

    pub(super) fn feed(&mut self, bytes: &[u8], context: &SourceContext, pending: &mut Intake) {
        let mut decoder = std::mem::take(&mut self.decoder);
        decoder.feed(bytes, |outcome| match outcome {
            Ok(frame) => self.frame(&frame, context, pending),
            Err(error) => note_error(error, context),
        });
        self.decoder = decoder;
    }

    /// Notes what is on disk.
    pub(super) fn receipts(&mut self, receipts: &[Receipt]) {
        let Some(boot) = self.boot else { return };
        let current = receipts.iter().filter(|receipt| receipt.generation == u64::from(boot));
        if let Some(highest) = current.filter_map(|receipt| u32::try_from(receipt.token).ok()).max() {
            self.on_disk = self.on_disk.max(Some(highest));
            self.is_ack_due = true;
        }
    }

    /// Bytes for the device: answers, at most one question and at most one acknowledgement.
    pub(super) fn take_output(&mut self) -> Vec<u8> {
        if std::mem::take(&mut self.is_describe_due)
            && let Some(boot) = self.boot
        {
            self.reply(boot, Body::DescribeRequest);
        }
        if std::mem::take(&mut self.is_ack_due)
            && let (Some(boot), Some(sequence)) = (self.boot, self.on_disk)
        {
            self.reply(boot, Body::Ack(Ack { sequence }));
        }
        std::mem::take(&mut self.replies)
    }

    /// How many messages the device gave up since this was asked last.
    pub(super) fn take_gave_up(&mut self) -> u64 {
        std::mem::take(&mut self.gave_up)
    }

    fn frame(&mut self, frame: &Frame<'_>, context: &SourceContext, pending: &mut Intake) {
        match FirmwareMessage::decode(frame) {
            Ok(FirmwareMessage { boot, body: Body::Hello(hello) }) => self.greet(boot, &hello, context),
            Ok(FirmwareMessage { boot, body: Body::TimeRequest(request) }) => self.tell_time(boot, request, context),
            // A device has no business sending these; an echo on a half-duplex line does.
            Ok(FirmwareMessage { body: Body::Ack(_) | Body::TimeReply(_) | Body::DescribeRequest, .. }) => {}
            Ok(FirmwareMessage { boot, body }) => self.numbered(boot, frame, Ok(body), context, pending),
            Err(error) => match frame.boot().filter(|_| frame.sequence != UNNUMBERED) {
                Some(boot) => self.numbered(boot, frame, Err(error), context, pending),
                None => context.fail(State::Degraded, &error.to_string()),
            },
        }
    }

    fn greet(&mut self, boot: u32, hello: &Hello, context: &SourceContext) {
        let greeting = self.receiver.greet(boot, hello.oldest);
        self.gave_up = self.gave_up.saturating_add(u64::from(greeting.missed));
        context.status.missed.add(u64::from(greeting.missed));
        if greeting.is_new_boot {
            tracing::info!(source = %self.source, device = %hello.device, firmware = %hello.firmware, "device started");
            self.boot = Some(boot);
            self.greeted_from = hello.oldest;
            self.on_disk = None;
            self.points.clear();
            self.described_by = context.clock.mono_us().saturating_add(DESCRIBE_WAIT_US);
            self.uptime = UptimeClock::default();
        }
    }

    fn numbered(
        &mut self,
        boot: u32,
        frame: &Frame<'_>,
        body: Result<Body, MessageError>,
        context: &SourceContext,
        pending: &mut Intake,
    ) {
        if pending.is_full() {
            return;
        }
        let mut outcome = Ok(());
        match &body {
            // Names are taken whether or not it is this message's turn: those before it may be waiting for them.
            Ok(Body::Describe(describe)) if self.boot == Some(boot) => outcome = self.describe(describe, context),
            Ok(Body::Telemetry(telemetry)) if self.is_waiting_for_names(telemetry, context) => {
                self.is_describe_due = true;
                return;
            }
            _ => {}
        }
        match self.receiver.judge(boot, frame.sequence) {
            Verdict::Fresh => {}
            Verdict::Repeat => {
                self.is_ack_due = true;
                return;
            }
            Verdict::AfterHole | Verdict::Stranger => return,
        }
        let mut message = Message {
            receipt: Some(Receipt { generation: u64::from(boot), token: u64::from(frame.sequence) }),
            redelivered: frame.sequence.saturating_sub(self.greeted_from) < REDELIVERIES_MAX,
            hash: message_hash(boot, frame.sequence, 0),
            ..Message::default()
        };
        let mut samples = Vec::new();
        match body {
            Ok(Body::Telemetry(telemetry)) => {
                outcome = self.samples(&telemetry, boot, frame.sequence, context, &mut samples);
            }
            Ok(Body::Log(log)) => self.log(&log),
            Ok(_) => {}
            Err(error) => outcome = Err(error.to_string()),
        }
        if let Err(error) = outcome {
            let position = format!("boot {boot:08x}, frame {}", frame.sequence);
            message.rejects.push(Reject { position, error, rule: "firmware", raw: RawBytes::of(frame.payload) });
        }
        pending.push(message, samples);
    }

    fn is_waiting_for_names(&self, telemetry: &Telemetry, context: &SourceContext) -> bool {
        let is_unknown = telemetry.samples.iter().any(|sample| !self.points.contains_key(&sample.channel));
        is_unknown && context.clock.mono_us() < self.described_by
    }

    fn samples(
        &mut self,
        telemetry: &Telemetry,
        boot: u32,
        sequence: u32,
        context: &SourceContext,
        samples: &mut Vec<Sample>,
    ) -> Result<(), String> {
        let tick = context.clock.tick();
        let started_us = self.uptime.started_us(telemetry.uptime_ms, tick.mono_us);
        for (index, sample) in telemetry.samples.iter().enumerate() {
            let before = telemetry.samples.iter().take(index);
            let repeats = before.filter(|other| other.channel == sample.channel).count();
            let age_us = i64::from(sample.age_ms) * 1_000;
            let uptime_us = i64::try_from(telemetry.uptime_ms.saturating_mul(1_000)).unwrap_or(i64::MAX);
            let measured_mono_us = started_us.saturating_add(uptime_us).saturating_sub(age_us);
            let observed_at_us = wall_us(measured_mono_us, tick.mono_us, tick.wall_us);
            samples.push(Sample {
                point: self.point(sample.channel, context)?,
                outcome: match sample.value {
                    FirmwareValue::F32(number) => finite(f64::from(number)),
                    FirmwareValue::I32(number) => Ok(Value::Integer(i64::from(number))),
                    FirmwareValue::Bool(on) => Ok(Value::Boolean(on)),
                    FirmwareValue::NotAvailable(Reason::TIMEOUT) => Err(NoData::Timeout),
                    FirmwareValue::NotAvailable(Reason::NOT_CONNECTED) => Err(NoData::NotConnected),
                    FirmwareValue::NotAvailable(_) => Err(NoData::NotAvailable),
                },
                observed_at_us: (tick.quality != TimeQuality::Unset).then_some(observed_at_us),
                received_mono_us: tick.mono_us,
                message_hash: message_hash(boot, sequence, repeats),
            });
        }
        Ok(())
    }

    /// The point of a channel; one that was not described is named by its number.
    fn point(&mut self, channel: u8, context: &SourceContext) -> Result<PointId, String> {
        if let Some(point) = self.points.get(&channel) {
            return Ok(*point);
        }
        self.intern(channel, &format!("channel-{channel}"), "", context)
    }

    fn describe(&mut self, describe: &Describe, context: &SourceContext) -> Result<(), String> {
        describe
            .channels
            .iter()
            .try_for_each(|channel| self.intern(channel.channel, &channel.name, &channel.unit, context).map(|_| ()))
    }

    fn intern(&mut self, channel: u8, name: &str, unit: &str, context: &SourceContext) -> Result<PointId, String> {
        let point = context.registry.intern(&self.device, name, unit, &self.source);
        let point = point.map_err(|error| format!("channel {channel}: {error}"))?;
        self.points.insert(channel, point);
        Ok(point)
    }

    fn log(&self, log: &Log) {
        let (source, text) = (self.source.as_str(), log.text.as_str());
        match log.level {
            Level::Error => tracing::error!(source, "device says: {text}"),
            Level::Warn => tracing::warn!(source, "device says: {text}"),
            Level::Info => tracing::info!(source, "device says: {text}"),
            Level::Debug | Level::Trace => tracing::debug!(source, "device says: {text}"),
        }
    }

    /// A gateway whose own clock was never set does not answer: no time is better than a wrong one.
    fn tell_time(&mut self, boot: u32, request: TimeRequest, context: &SourceContext) {
        let tick = context.clock.tick();
        if tick.quality != TimeQuality::Unset {
            let reply = TimeReply { uptime_ms: request.uptime_ms, unix_us: tick.wall_us };
            self.reply(boot, Body::TimeReply(reply));
        }
    }

    fn reply(&mut self, boot: u32, body: Body) {
        let mut frame = FrameBuffer::new();
        // Every answer fits into a frame.
        if (FirmwareMessage { boot, body }).encode(UNNUMBERED, &mut frame).is_ok() {
            self.replies.extend_from_slice(&frame);
        }
    }
}

fn note_error(error: FrameError, context: &SourceContext) {
    match error {
        FrameError::UnknownVersion { .. } | FrameError::Length { .. } => {
            context.fail(State::Degraded, &error.to_string());
        }
        // Noise: the device sends the frame again.
        FrameError::Oversize | FrameError::Truncated | FrameError::TooShort { .. } | FrameError::Checksum => {
            context.status.errors.add(1);
        }
    }
}

/// Boot and sequence name a message, so a message that comes again has the same hash. A redelivery is recognised by
/// point and hash, so the second sample of a channel in one message (`repeats` 1) needs one of its own.
#[expect(clippy::cast_possible_truncation, reason = "the low half is what is wanted")]
fn message_hash(boot: u32, sequence: u32, repeats: usize) -> u32 {
    let name = u64::from(boot) << 32 | u64::from(sequence);
    // 0 says that there is none.
    (xxhash_rust::xxh3::xxh3_64_with_seed(&name.to_le_bytes(), repeats as u64) as u32).max(1)
}

/// A monotonic moment of this boot on the wall clock, by a pair of both.
fn wall_us(moment_mono_us: i64, mono_us: MonoMicros, wall_us: UnixMicros) -> UnixMicros {
    wall_us.saturating_add(moment_mono_us.saturating_sub(i64::try_from(mono_us).unwrap_or(i64::MAX)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::clock::Clock;
    use crate::sources::testing;
    use firmware_protocols::{Channel, Sample as FirmwareSample, Sender};

    const BOOT: u32 = 0x1122_3344;

    fn telemetry(uptime_ms: u64, value: FirmwareValue) -> Body {
        let mut telemetry = Telemetry { uptime_ms, ..Telemetry::default() };
        telemetry.samples.push(FirmwareSample { channel: 0, value, age_ms: 500 }).unwrap();
        Body::Telemetry(telemetry)
    }

    fn describe() -> Body {
        let mut describe = Describe::default();
        let (name, unit) = ("supply_temp".try_into().unwrap(), "°C".try_into().unwrap());
        describe.channels.push(Channel { channel: 0, name, unit }).unwrap();
        Body::Describe(describe)
    }

    /// A device that has described itself with its first message.
    fn sender() -> Sender<8> {
        let mut sender = Sender::new(BOOT, "1.0".try_into().unwrap(), "probe".try_into().unwrap());
        sender.send(&describe()).unwrap();
        sender
    }

    fn all(sender: &mut Sender<8>, now_ms: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Some(frame) = sender.poll(now_ms) {
            bytes.extend_from_slice(frame);
        }
        bytes
    }

    fn hear(sender: &mut Sender<8>, bytes: &[u8]) -> Vec<Body> {
        let mut heard = Vec::new();
        Decoder::new().feed(bytes, |frame| {
            let message = FirmwareMessage::decode(&frame.unwrap()).unwrap();
            if let Body::Ack(ack) = &message.body {
                sender.acknowledge(message.boot, ack.sequence);
            }
            heard.push(message.body);
        });
        heard
    }

    #[test]
    fn samples_carry_described_names_and_the_time_at_which_they_were_measured() {
        let (context, _far) = testing::context(Clock::manual(1, 0, 0), 4);
        context.clock.set(10_000_000, 1_800_000_010_000_000);
        let (mut line, mut pending, mut sender) = (FirmwareLine::new("probe-1", "line"), context.intake(), sender());
        sender.send(&telemetry(4_000, FirmwareValue::F32(71.5))).unwrap();
        line.feed(&all(&mut sender, 0), &context, &mut pending);

        let sample = &pending.samples[0];
        assert_eq!(sample.outcome, Ok(Value::Number(71.5)));
        assert_eq!(sample.observed_at_us, Some(1_800_000_009_500_000));
        let key = context.registry.key(sample.point).unwrap();
        assert_eq!((&*key.device, &*key.point, &*key.unit), ("probe-1", "supply_temp", "°C"));

        // A message that was held up for a minute says when it was measured, not when it came.
        sender.send(&telemetry(5_000, FirmwareValue::Bool(true))).unwrap();
        context.clock.set(71_000_000, 1_800_000_071_000_000);
        line.feed(&all(&mut sender, 0), &context, &mut pending);
        let observed_at_us = pending.samples[1].observed_at_us.unwrap();
        assert!((observed_at_us - 1_800_000_010_500_000).abs() < 20_000, "{observed_at_us}");
    }

    #[test]
    fn a_frame_is_acknowledged_only_after_its_receipt_and_a_repeat_is_not_taken_twice() {
        let (context, _far) = testing::context(Clock::manual(1, 0, 0), 4);
        let (mut line, mut pending, mut sender) = (FirmwareLine::new("probe-1", "line"), context.intake(), sender());
        sender.send(&telemetry(1, FirmwareValue::I32(7))).unwrap();
        line.feed(&all(&mut sender, 0), &context, &mut pending);
        assert_eq!(pending.messages.len(), 2);
        assert_eq!(hear(&mut sender, &line.take_output()), []);

        let first = pending.messages[0].receipt.unwrap();
        line.receipts(&[Receipt { generation: 1, ..first }]);
        assert_eq!(hear(&mut sender, &line.take_output()), [], "a receipt of another boot says nothing");
        line.receipts(&[first]);
        assert_eq!(hear(&mut sender, &line.take_output()), [Body::Ack(Ack { sequence: 1 })]);
        assert_eq!(sender.unacknowledged(), 1);

        line.feed(&all(&mut sender, 60_000), &context, &mut pending);
        assert_eq!(pending.messages.len(), 2);
        assert_eq!(hear(&mut sender, &line.take_output()), [Body::Ack(Ack { sequence: 1 })]);
    }

    #[test]
    fn after_a_restart_of_the_gateway_a_repeated_frame_has_the_same_hash() {
        let (context, _far) = testing::context(Clock::manual(1, 0, 0), 4);
        let mut sender = sender();
        sender.send(&telemetry(1, FirmwareValue::I32(7))).unwrap();
        let mut taken = |now_ms| {
            let mut pending = context.intake();
            FirmwareLine::new("probe-1", "line").feed(&all(&mut sender, now_ms), &context, &mut pending);
            pending.messages.iter().map(|message| (message.hash, message.redelivered)).collect::<Vec<_>>()
        };
        let first = taken(0);
        assert_eq!(taken(60_000), first);
        assert!(first.iter().all(|(_, redelivered)| *redelivered));
        assert_ne!(first[0], first[1]);
    }

    #[test]
    fn several_samples_of_one_channel_in_a_frame_are_told_apart() {
        let (context, _far) = testing::context(Clock::manual(1, 0, 0), 4);
        let (mut line, mut pending, mut sender) = (FirmwareLine::new("probe-1", "line"), context.intake(), sender());
        let mut telemetry = Telemetry::default();
        for age_ms in [200, 100, 0] {
            telemetry.samples.push(FirmwareSample { channel: 0, value: FirmwareValue::I32(7), age_ms }).unwrap();
        }
        sender.send(&Body::Telemetry(telemetry)).unwrap();
        line.feed(&all(&mut sender, 0), &context, &mut pending);
        let hashes: std::collections::HashSet<_> = pending.samples.iter().map(|sample| sample.message_hash).collect();
        assert_eq!(hashes.len(), 3);
        assert!(hashes.contains(&pending.messages[1].hash));
    }

    #[test]
    fn a_restarted_gateway_asks_for_names_before_it_takes_samples() {
        let (context, _far) = testing::context(Clock::manual(1, 0, 0), 4);
        let (mut line, mut pending, mut sender) = (FirmwareLine::new("probe-1", "line"), context.intake(), sender());
        sender.acknowledge(BOOT, 1);
        all(&mut sender, 0);
        sender.acknowledge(BOOT, 1);
        sender.send(&telemetry(1, FirmwareValue::I32(7))).unwrap();

        line.feed(&all(&mut sender, 60_000), &context, &mut pending);
        line.feed(&all(&mut sender, 120_000), &context, &mut pending);
        assert!(pending.is_empty());
        assert_eq!(hear(&mut sender, &line.take_output()), [Body::DescribeRequest]);
        sender.send(&describe()).unwrap();
        line.feed(&all(&mut sender, 120_001), &context, &mut pending);
        line.feed(&all(&mut sender, 180_000), &context, &mut pending);
        assert_eq!(pending.messages.len(), 2);
        assert_eq!(&*context.registry.key(pending.samples[0].point).unwrap().point, "supply_temp");
    }

    #[test]
    fn a_device_that_never_tells_names_is_taken_under_channel_numbers() {
        let (context, _far) = testing::context(Clock::manual(1, 0, 0), 4);
        let (mut line, mut pending) = (FirmwareLine::new("probe-1", "line"), context.intake());
        let mut sender: Sender<8> = Sender::new(BOOT, "1.0".try_into().unwrap(), "probe".try_into().unwrap());
        sender.send(&telemetry(1, FirmwareValue::I32(7))).unwrap();
        line.feed(&all(&mut sender, 0), &context, &mut pending);
        assert!(pending.is_empty());
        context.clock.set(DESCRIBE_WAIT_US, 0);
        line.feed(&all(&mut sender, 60_000), &context, &mut pending);
        assert_eq!(&*context.registry.key(pending.samples[0].point).unwrap().point, "channel-0");
    }

    #[test]
    fn what_the_device_gave_up_is_counted_as_missed() {
        let (context, _far) = testing::context(Clock::manual(1, 0, 0), 4);
        let (mut line, mut pending, mut sender) = (FirmwareLine::new("probe-1", "line"), context.intake(), sender());
        line.feed(&all(&mut sender, 0), &context, &mut pending);
        sender.acknowledge(BOOT, 1);
        for uptime_ms in 0..3 {
            sender.send(&telemetry(uptime_ms, FirmwareValue::I32(7))).unwrap();
        }
        sender.drop_oldest();
        sender.drop_oldest();
        line.feed(&all(&mut sender, 1), &context, &mut pending);
        assert_eq!(line.take_gave_up(), 2);
        assert_eq!(context.status.missed.get(), 2);
        assert_eq!(pending.messages.len(), 2, "the description and the last telemetry");
    }

    #[test]
    fn a_message_that_newer_firmware_sends_is_set_aside_and_can_be_acknowledged() {
        let (context, _far) = testing::context(Clock::manual(1, 0, 0), 4);
        let (mut line, mut pending, mut sender) = (FirmwareLine::new("probe-1", "line"), context.intake(), sender());
        line.feed(&all(&mut sender, 0), &context, &mut pending);
        let mut frame = FrameBuffer::new();
        Frame { kind: 0x33, sequence: 2, payload: &BOOT.to_le_bytes() }.encode(&mut frame).unwrap();
        line.feed(&frame, &context, &mut pending);
        let message = &pending.messages[1];
        assert!(message.rejects[0].error.contains("0x33"), "{}", message.rejects[0].error);
        assert_eq!(message.receipt, Some(Receipt { generation: u64::from(BOOT), token: 2 }));
    }

    #[test]
    fn noise_is_counted_and_a_request_for_the_time_answered() {
        let (context, _far) = testing::context(Clock::manual(1, 0, 0), 4);
        context.clock.set(5, 1_800_000_000_000_000);
        let (mut line, mut pending) = (FirmwareLine::new("probe-1", "line"), context.intake());
        line.feed(b"\x00noise\x00", &context, &mut pending);
        assert_eq!(context.status.errors.get(), 1);
        let mut frame = FrameBuffer::new();
        let request = FirmwareMessage { boot: BOOT, body: Body::TimeRequest(TimeRequest { uptime_ms: 42 }) };
        request.encode(UNNUMBERED, &mut frame).unwrap();
        line.feed(&frame, &context, &mut pending);
        let expected = TimeReply { uptime_ms: 42, unix_us: 1_800_000_000_000_000 };
        assert_eq!(hear(&mut sender(), &line.take_output()), [Body::TimeReply(expected)]);
    }
}
