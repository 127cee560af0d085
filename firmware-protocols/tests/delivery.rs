//! Sender and receiver over a line that loses and damages bytes, with gateways that restart.
#![allow(clippy::unwrap_used, reason = "a failed expectation ends a test")]

use firmware_protocols::frame::{FrameBuffer, UNNUMBERED};
use firmware_protocols::sender::{ACK_TIMEOUT_MAX_MS, ACK_TIMEOUT_MS};
use firmware_protocols::{
    Ack, Body, Decoder, Greeting, Level, Log, Message, Receiver, SendError, Sender, TimeRequest, Verdict,
};
use proptest::collection::vec;
use proptest::prelude::*;

const BOOT: u32 = 77;
/// The queue of the simulated device.
const QUEUE: usize = 4;

fn a_sender() -> Sender<QUEUE> {
    Sender::new(BOOT, "1.0".try_into().unwrap(), "probe-1".try_into().unwrap())
}

fn log(number: u64) -> Body {
    Body::Log(Log { uptime_ms: number, level: Level::Info, text: "x".try_into().unwrap() })
}

/// Everything the sender wants to write now, as messages with their sequences.
fn written(sender: &mut Sender<QUEUE>, now_ms: u64) -> Vec<(u32, Message)> {
    let mut messages = Vec::new();
    let mut decoder = Decoder::new();
    while let Some(bytes) = sender.poll(now_ms) {
        decoder.feed(bytes, |frame| {
            let frame = frame.unwrap();
            messages.push((frame.sequence, Message::decode(&frame).unwrap()));
        });
    }
    messages
}

fn sequences(sender: &mut Sender<QUEUE>, now_ms: u64) -> Vec<u32> {
    written(sender, now_ms).into_iter().map(|(sequence, _)| sequence).collect()
}

#[test]
fn a_sender_begins_with_a_hello() {
    let mut sender = a_sender();
    sender.send(&log(1)).unwrap();
    let messages = written(&mut sender, 0);
    let Body::Hello(hello) = &messages[0].1.body else { unreachable!("{messages:?}") };
    assert_eq!((hello.oldest, hello.device.as_str()), (1, "probe-1"));
    assert_eq!(messages[1], (1, Message { boot: BOOT, body: log(1) }));
}

#[test]
fn what_is_not_acknowledged_goes_again_after_a_wait_that_doubles() {
    let mut sender = a_sender();
    sender.send(&log(1)).unwrap();
    sender.send(&log(2)).unwrap();
    assert_eq!(sequences(&mut sender, 0), [UNNUMBERED, 1, 2]);
    assert_eq!(sequences(&mut sender, ACK_TIMEOUT_MS - 1), []);
    assert_eq!(sequences(&mut sender, ACK_TIMEOUT_MS), [UNNUMBERED, 1, 2]);
    assert_eq!(sequences(&mut sender, ACK_TIMEOUT_MS * 2), []);
    assert_eq!(sequences(&mut sender, ACK_TIMEOUT_MS * 3), [UNNUMBERED, 1, 2]);
    sender.acknowledge(BOOT, 1);
    assert_eq!(sequences(&mut sender, ACK_TIMEOUT_MS * 4), [UNNUMBERED, 2]);
    sender.acknowledge(BOOT, 2);
    assert_eq!(sequences(&mut sender, ACK_TIMEOUT_MS * 100), []);
}

#[test]
fn acknowledgements_of_another_boot_or_of_the_future_are_ignored() {
    let mut sender = a_sender();
    sender.send(&log(1)).unwrap();
    sender.acknowledge(BOOT + 1, 1);
    sender.acknowledge(BOOT, 2);
    assert_eq!(sender.unacknowledged(), 1);
}

#[test]
fn a_full_queue_refuses_and_uses_no_sequence() {
    let mut sender = a_sender();
    for number in 0..4 {
        sender.send(&log(number)).unwrap();
    }
    assert_eq!(sender.send(&log(4)), Err(SendError::Full));
    sender.acknowledge(BOOT, 1);
    assert_eq!(sender.send(&log(4)), Ok(5));
}

#[test]
fn messages_without_a_number_are_not_taken_for_repetition() {
    let request = Body::TimeRequest(TimeRequest { uptime_ms: 1 });
    assert_eq!(a_sender().send(&request), Err(SendError::NotNumbered));
}

#[test]
fn a_message_that_is_given_up_is_counted_by_the_receiver() {
    let mut sender = a_sender();
    let mut receiver = Receiver::new();
    receiver.greet(BOOT, 1);
    sender.send(&log(1)).unwrap();
    sender.send(&log(2)).unwrap();
    assert_eq!(sender.drop_oldest(), Some(1));
    let messages = written(&mut sender, 0);
    let Body::Hello(hello) = &messages[0].1.body else { unreachable!("{messages:?}") };
    let greeting = receiver.greet(BOOT, hello.oldest);
    assert_eq!(greeting, Greeting { is_new_boot: false, missed: 1 });
    assert_eq!(receiver.judge(BOOT, messages[1].0), Verdict::Fresh);
}

#[test]
fn a_receiver_takes_frames_in_order_and_once() {
    let mut receiver = Receiver::new();
    assert_eq!(receiver.judge(BOOT, 1), Verdict::Stranger);
    assert!(receiver.greet(BOOT, 1).is_new_boot);
    assert_eq!(receiver.judge(BOOT, 1), Verdict::Fresh);
    assert_eq!(receiver.judge(BOOT, 1), Verdict::Repeat);
    assert_eq!(receiver.judge(BOOT, 3), Verdict::AfterHole);
    assert_eq!(receiver.judge(BOOT, 2), Verdict::Fresh);
    assert_eq!(receiver.judge(BOOT + 1, 1), Verdict::Stranger);
    assert_eq!(Receiver::resume(BOOT, 2), receiver);
}

/// What goes wrong in one round of the simulated line.
#[derive(Debug, Clone)]
enum Fault {
    None,
    /// One byte towards the gateway is changed.
    Damage(prop::sample::Index, u8),
    /// The rest of what the device writes is lost.
    Cut(prop::sample::Index),
    /// The acknowledgement is lost.
    AckLost,
    /// The gateway restarts: what it accepted and had not yet on disk is gone.
    Restart,
    /// The gateway is a new one whose disk knows nothing of the device's boot. What the old one had stays delivered.
    Replaced,
}

fn a_fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        2 => Just(Fault::None),
        3 => (any::<prop::sample::Index>(), 1..=u8::MAX).prop_map(|(at, by)| Fault::Damage(at, by)),
        2 => any::<prop::sample::Index>().prop_map(Fault::Cut),
        1 => Just(Fault::AckLost),
        1 => Just(Fault::Restart),
        1 => Just(Fault::Replaced),
    ]
}

/// A gateway that puts what it accepted on disk one round later.
#[derive(Default)]
struct Gateway {
    decoder: Decoder,
    receiver: Receiver,
    accepted: Vec<(u32, u64)>,
    disk: Vec<(u32, u64)>,
    on_disk_up_to: Option<u32>,
}

impl Gateway {
    fn receive(&mut self, bytes: &[u8]) {
        let Self { decoder, receiver, accepted, on_disk_up_to, .. } = self;
        decoder.feed(bytes, |frame| {
            let Ok(frame) = frame else { return };
            let Message { boot, body } = Message::decode(&frame).unwrap();
            match body {
                Body::Hello(hello) => {
                    let greeting = receiver.greet(boot, hello.oldest);
                    if greeting.is_new_boot {
                        *on_disk_up_to = hello.oldest.checked_sub(1);
                    }
                }
                Body::Log(log) if receiver.judge(boot, frame.sequence) == Verdict::Fresh => {
                    accepted.push((frame.sequence, log.uptime_ms));
                }
                _ => {}
            }
        });
    }

    /// Commits, and writes the acknowledgement.
    fn commit(&mut self) -> FrameBuffer {
        let mut wire = FrameBuffer::new();
        if let Some((sequence, _)) = self.accepted.last() {
            self.on_disk_up_to = Some(*sequence);
        }
        self.disk.append(&mut self.accepted);
        if let Some(sequence) = self.on_disk_up_to {
            let ack = Message { boot: BOOT, body: Body::Ack(Ack { sequence }) };
            ack.encode(UNNUMBERED, &mut wire).unwrap();
        }
        wire
    }

    fn restart(&mut self) {
        self.accepted.clear();
        self.decoder = Decoder::new();
        let up_to = self.on_disk_up_to;
        self.receiver = up_to.map_or_else(Receiver::new, |up_to| Receiver::resume(BOOT, up_to));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// The one invariant: whatever happens on the line, every message reaches a disk, in order; and
    /// once, unless a gateway without memory of the device came between.
    #[test]
    fn every_message_reaches_the_disk_in_order_whatever_the_line_does(faults in vec(a_fault(), 0..40)) {
        const MESSAGES: u64 = 20;
        let mut sender = a_sender();
        let mut gateway = Gateway::default();
        let mut to_device = Decoder::new();
        let mut sent = 0;
        let mut now_ms = 0;
        let is_replaced = faults.iter().any(|fault| matches!(fault, Fault::Replaced));
        // Once the faults are over, two rounds empty the queue, and it is filled five times.
        let rounds = faults.into_iter().chain(std::iter::repeat_n(Fault::None, 20));
        for fault in rounds {
            while sent < MESSAGES && sender.send(&log(sent)).is_ok() {
                sent += 1;
            }
            let mut bytes = Vec::new();
            while let Some(frame) = sender.poll(now_ms) {
                bytes.extend_from_slice(frame);
            }
            match &fault {
                Fault::Damage(at, by) if !bytes.is_empty() => {
                    let at = at.index(bytes.len());
                    bytes[at] ^= by;
                }
                Fault::Cut(at) if !bytes.is_empty() => bytes.truncate(at.index(bytes.len())),
                _ => {}
            }
            gateway.receive(&bytes);
            match fault {
                Fault::Restart => gateway.restart(),
                Fault::Replaced => {
                    gateway.on_disk_up_to = None;
                    gateway.restart();
                }
                _ => {}
            }
            let ack = gateway.commit();
            if !matches!(fault, Fault::AckLost) {
                to_device.feed(&ack, |frame| {
                    let message = Message::decode(&frame.unwrap()).unwrap();
                    if let Body::Ack(ack) = message.body {
                        sender.acknowledge(message.boot, ack.sequence);
                    }
                });
            }
            now_ms += ACK_TIMEOUT_MAX_MS;
        }
        prop_assert_eq!(sender.unacknowledged(), 0);
        let mut disk = gateway.disk.clone();
        if is_replaced {
            disk.sort_unstable();
            disk.dedup();
        }
        let expected: Vec<_> = (0..MESSAGES).map(|number| (u32::try_from(number).unwrap() + 1, number)).collect();
        prop_assert_eq!(disk, expected);
    }
}
