//! Simulated sources: an MQTT broker that never forgets what is unacknowledged, with the client of the gateway, and a bus that
//! is polled and cannot bring anything again.

use super::plan::Plan;
use super::world::{Shared, World};
use crate::block::records::{Missed, MissedReason, RawBytes};
use crate::clock::Clock;
use crate::reading::{NO_HASH, Sample, Value};
use crate::site::Registry;
use crate::sources::{Intake, Message, Receipt, Reject};
use fastrand::Rng;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use xxhash_rust::xxh3::xxh3_64;

/// An acknowledgement sent so shortly before a cut is lost with it, in microseconds.
const ACK_LOST_US: u64 = 30_000;

/// A message that somebody published.
#[derive(Clone, Debug)]
pub(super) struct Published {
    /// Its number, which is also the value that it carries.
    pub(super) value: u64,
    pub(super) device: usize,
    pub(super) is_garbage: bool,
    at_us: u64,
}

/// A message on its way to the client.
#[derive(Clone, Debug)]
struct InFlight {
    packet_id: u16,
    message: Published,
    /// It was sent before, on an earlier connection.
    was_sent: bool,
    /// It is still to be sent on this one.
    is_due: bool,
}

/// What the client gets.
pub(super) struct Sent {
    packet_id: u16,
    message: Published,
    is_duplicate: bool,
}

/// The broker with its one persistent session.
pub(super) struct Broker {
    /// What will be published, by time.
    to_come: VecDeque<Published>,
    in_flight: VecDeque<InFlight>,
    window: usize,
    last_packet_id: u16,
    has_session: bool,
    /// When the connection there is will be cut.
    cut_at_us: Option<u64>,
    /// What was acknowledged.
    pub(super) acknowledged: BTreeSet<u64>,
    /// What the broker itself has lost with a session.
    pub(super) forgotten: BTreeSet<u64>,
    pub(super) published: Vec<Published>,
}

impl Broker {
    pub(super) fn new(plan: &Plan, random: &mut Rng) -> Self {
        let mut times: Vec<u64> = Vec::new();
        while times.len() < plan.messages {
            let at_us = random.u64(0..plan.calm_at_us);
            // Some come alone, some in bursts.
            let burst = if random.bool() { 1 } else { random.usize(2..40) };
            times.extend(std::iter::repeat_n(at_us, burst.min(plan.messages - times.len())));
        }
        times.sort_unstable();
        let published: Vec<Published> = times
            .into_iter()
            .zip(0..)
            .map(|(at_us, value)| Published {
                value,
                device: random.usize(..plan.devices),
                is_garbage: random.f64() < plan.garbage,
                at_us,
            })
            .collect();
        Self {
            to_come: published.iter().cloned().collect(),
            in_flight: VecDeque::new(),
            window: plan.window,
            last_packet_id: 0,
            has_session: false,
            cut_at_us: None,
            acknowledged: BTreeSet::new(),
            forgotten: BTreeSet::new(),
            published,
        }
    }

    /// Whether nothing waits to be sent or acknowledged.
    pub(super) fn is_empty(&self) -> bool {
        self.to_come.is_empty() && self.in_flight.is_empty()
    }

    /// What is left, for a person.
    pub(super) fn rest(&self) -> String {
        format!("{} to be sent, {} unacknowledged at the broker", self.to_come.len(), self.in_flight.len())
    }

    /// A new connection; says whether the broker goes on with the session that it had kept.
    fn connect(&mut self, cut_at_us: u64, forgets: bool) -> bool {
        let is_resumed = self.has_session && !forgets;
        if !is_resumed {
            let lost = self.in_flight.drain(..).filter(|in_flight| in_flight.was_sent);
            self.forgotten.extend(lost.map(|in_flight| in_flight.message.value));
            self.last_packet_id = 0;
        }
        self.has_session = true;
        self.cut_at_us = Some(cut_at_us);
        for in_flight in &mut self.in_flight {
            in_flight.is_due = true;
        }
        is_resumed
    }

    fn is_cut(&self, now_us: u64) -> bool {
        self.cut_at_us.is_none_or(|cut_at_us| now_us >= cut_at_us)
    }

    /// The next message of this connection: what was sent before comes first, then new ones as far as the window allows.
    fn next(&mut self, now_us: u64) -> Option<Sent> {
        if self.is_cut(now_us) {
            return None;
        }
        if let Some(due) = self.in_flight.iter_mut().find(|in_flight| in_flight.is_due) {
            let is_duplicate = std::mem::replace(&mut due.was_sent, true);
            due.is_due = false;
            return Some(Sent { packet_id: due.packet_id, message: due.message.clone(), is_duplicate });
        }
        let is_there = self.to_come.front().is_some_and(|message| message.at_us <= now_us);
        if !is_there || self.in_flight.len() >= self.window {
            return None;
        }
        let message = self.to_come.pop_front()?;
        loop {
            self.last_packet_id = self.last_packet_id % u16::MAX + 1;
            if self.in_flight.iter().all(|in_flight| in_flight.packet_id != self.last_packet_id) {
                break;
            }
        }
        let packet_id = self.last_packet_id;
        self.in_flight.push_back(InFlight { packet_id, message: message.clone(), was_sent: true, is_due: false });
        Some(Sent { packet_id, message, is_duplicate: false })
    }

    /// When there may be a next message.
    fn next_at_us(&self) -> Option<u64> {
        self.to_come.front().map(|message| message.at_us)
    }

    /// An acknowledgement arrives; true if it was of something.
    fn acknowledge(&mut self, packet_id: u16) -> Option<u64> {
        let position = self.in_flight.iter().position(|in_flight| in_flight.packet_id == packet_id)?;
        let value = self.in_flight.remove(position)?.message.value;
        self.acknowledged.insert(value);
        Some(value)
    }
}

/// What a simulated source works with.
pub(super) struct SourceContext {
    pub(super) world: Shared,
    pub(super) slot: u16,
    pub(super) name: &'static str,
    pub(super) registry: Arc<Registry>,
    pub(super) intakes: mpsc::Sender<Intake>,
    pub(super) receipts: mpsc::Receiver<Vec<Receipt>>,
    pub(super) clock: Clock,
    pub(super) stop: CancellationToken,
}

impl SourceContext {
    fn intake(&self) -> Intake {
        Intake { source: self.slot, ..Intake::default() }
    }
}

/// The client of the gateway, as `sources/mqtt` is one: it connects again after each cut, and acknowledges what is on disk.
pub(super) async fn run_client(mut context: SourceContext) {
    let (mut generation, mut pending) = (0, context.intake());
    let stop = context.stop.clone();
    while !stop.is_cancelled() {
        let wait_us = {
            let mut world = context.world.lock();
            let failed = world.strikes(0.2);
            world.about_us(if failed { 3_000_000 } else { 20_000 })
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = drop_receipts(&mut context.receipts) => return,
            () = sleep(Duration::from_micros(wait_us)) => {}
        }
        generation += 1;
        let is_resumed = {
            let mut world = context.world.lock();
            let session_lost = world.plan.session_lost;
            let forgets = world.strikes(session_lost);
            if forgets {
                world.fault("session forgotten");
            }
            let lasts_us = if world.is_calm() { u64::MAX / 2 } else { world.about_us(15_000_000) };
            let cut_at_us = world.now_us() + lasts_us;
            world.broker.connect(cut_at_us, forgets)
        };
        let is_told = pending.messages.last().is_some_and(|message| message.begins_anew);
        if !is_resumed && !is_told {
            pending.push(Message { begins_anew: true, ..Message::default() }, None);
        }
        if serve(&mut context, generation, &mut pending).await {
            return;
        }
        context.world.lock().fault("broker cut");
    }
}

/// One connection; true if the gateway stops.
async fn serve(context: &mut SourceContext, generation: u64, pending: &mut Intake) -> bool {
    let intakes = context.intakes.clone();
    let stop = context.stop.clone();
    loop {
        let look_at = {
            let mut world = context.world.lock();
            let now_us = world.now_us();
            if world.broker.is_cut(now_us) {
                return false;
            }
            while !pending.is_full() {
                let Some(sent) = world.broker.next(now_us) else { break };
                // A broker that forgets counts packet identifiers from the beginning. Those of before are on disk, and after a
                // crash nothing there says that another session began, so equal payloads could be taken for each other.
                let payload = if world.plan.session_lost > 0.0 { sent.message.value } else { sent.message.value % 2 };
                take(context, &sent, payload, generation, pending);
            }
            let next_us = world.broker.next_at_us().map_or(u64::MAX, |at_us| at_us.max(now_us + 1_000));
            let cut_at_us = world.broker.cut_at_us.unwrap_or(now_us);
            world.instant(next_us.min(cut_at_us).min(now_us + 3_600_000_000))
        };
        let look_at = look_at.min(Instant::now() + Duration::from_secs(3_600));
        tokio::select! {
            biased;
            () = stop.cancelled() => return true,
            receipts = context.receipts.recv() => {
                let Some(receipts) = receipts else { return true };
                let mut world = context.world.lock();
                acknowledge(&mut world, &receipts, generation);
            }
            room = intakes.reserve(), if !pending.is_empty() => {
                let Ok(room) = room else { return true };
                room.send(std::mem::replace(pending, context.intake()));
            }
            () = sleep_until(look_at) => {}
        }
    }
}

fn take(context: &SourceContext, sent: &Sent, payload: u64, generation: u64, pending: &mut Intake) {
    let Sent { packet_id, message, is_duplicate } = sent;
    let device = format!("device-{}", message.device);
    // Payloads repeat, as those of a switch do: the packet identifier alone tells two messages apart.
    let hash = low_bits(xxh3_64(format!("{packet_id}/{device}/{payload}").as_bytes()));
    let mut taken = Message {
        receipt: Some(Receipt { generation, token: u64::from(*packet_id) }),
        redelivered: *is_duplicate,
        hash,
        ..Message::default()
    };
    if message.is_garbage {
        let raw = RawBytes::of(message.value.to_string().as_bytes());
        taken.rejects.push(Reject { position: device, error: "not JSON".to_owned(), rule: "json", raw });
        return pending.push(taken, None);
    }
    let point = context.registry.intern(&device, "count", "", context.name).unwrap();
    let sample = Sample {
        point,
        outcome: Ok(Value::Integer(i64::try_from(message.value).unwrap())),
        observed_at_us: None,
        received_mono_us: context.clock.mono_us(),
        message_hash: hash,
    };
    pending.push(taken, Some(sample));
}

fn acknowledge(world: &mut World, receipts: &[Receipt], generation: u64) {
    let now_us = world.now_us();
    let is_lost = world.broker.cut_at_us.is_none_or(|cut_at_us| now_us + ACK_LOST_US >= cut_at_us);
    for receipt in receipts.iter().filter(|receipt| receipt.generation == generation) {
        if is_lost {
            continue;
        }
        if let Some(value) = u16::try_from(receipt.token).ok().and_then(|id| world.broker.acknowledge(id)) {
            world.note(format_args!("acknowledged {value}"));
            world.history.check_acknowledged(value);
        }
    }
    if is_lost && !receipts.is_empty() {
        world.fault("acknowledgement lost");
    }
}

async fn drop_receipts(receipts: &mut mpsc::Receiver<Vec<Receipt>>) {
    while receipts.recv().await.is_some() {}
}

/// A bus that is polled: what it brings has no receipt and comes once.
pub(super) async fn run_poller(context: SourceContext, every_us: u64) {
    let point = context.registry.intern("bus-device", "level", "m", context.name).unwrap();
    let mut missed = 0;
    loop {
        tokio::select! {
            biased;
            () = context.stop.cancelled() => return,
            () = sleep(Duration::from_micros(every_us)) => {}
        }
        let measured = {
            let mut world = context.world.lock();
            if world.is_calm() { None } else { Some(world.measure()) }
        };
        let Some(value) = measured else { continue };
        let sample = Sample {
            point,
            outcome: Ok(Value::Integer(i64::try_from(value).unwrap())),
            observed_at_us: None,
            received_mono_us: context.clock.mono_us(),
            message_hash: NO_HASH,
        };
        let mut intake = context.intake();
        intake.push(Message::default(), Some(sample));
        if missed > 0 {
            intake.missed.push(Missed {
                source: context.name.to_owned(),
                position: "unit 1".to_owned(),
                count: missed,
                reason: MissedReason::PollMissed,
            });
        }
        match context.intakes.try_send(intake) {
            Ok(()) => {
                context.world.lock().history.polled.insert(value);
                missed = 0;
            }
            Err(mpsc::error::TrySendError::Full(_)) => missed += 1,
            Err(mpsc::error::TrySendError::Closed(_)) => return,
        }
    }
}

/// The low 32 bits, never those of [`NO_HASH`].
fn low_bits(hash: u64) -> u32 {
    u32::try_from(hash & u64::from(u32::MAX)).unwrap().max(1)
}
