//! The simulated ways upstream: links that go down, answers that are lost, late or slow, and the receivers at their ends.

use super::plan::{Kind, Plan, SinkPlan};
use super::world::{Shared, World};
use crate::buffer::Cursor;
use crate::reading::{Epoch, Sequence, Stream};
use crate::sinks::{Offer, Outcome, RemoteCursor, Sink, SinkError};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::sleep;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// How long a sink waits for an answer, in microseconds.
const TIMEOUT_US: u64 = 10_000_000;

/// One record as a receiver has it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Received {
    pub(super) sequence: Sequence,
    /// The number that a reading carries.
    pub(super) value: Option<u64>,
    pub(super) is_history: bool,
}

#[derive(Deserialize)]
struct Line {
    seq: Sequence,
    #[serde(default)]
    value: Option<serde_json::Number>,
    #[serde(default)]
    lane: Option<String>,
}

/// What is on its way to a receiver.
struct Request {
    id: u64,
    sink: usize,
    arrives_at_us: u64,
    key: String,
    stream: Stream,
    epoch: Epoch,
    records: Vec<Received>,
    /// Hash of all bytes: the same key must bring the same.
    bytes_hash: u64,
    /// Which takeover of the name it is from; Kafka alone asks.
    producer: u64,
    cursor_after: Cursor,
    run_mark: u64,
}

/// What a receiver says.
#[derive(Clone, Debug)]
enum Answer {
    Taken(Option<i64>),
    Refused,
    Busy,
    Fenced,
}

/// All receivers and what is under way to them.
pub(super) struct Network {
    pub(super) receivers: Vec<Receiver>,
    under_way: Vec<Request>,
    answers: BTreeMap<u64, Answer>,
    last_id: u64,
}

/// The other end of a sink, and what it has.
pub(super) struct Receiver {
    pub(super) plan: SinkPlan,
    is_up: bool,
    link_changes_at_us: u64,
    keys: BTreeMap<String, u64>,
    pub(super) has: BTreeMap<(Stream, Sequence), Received>,
    /// In the order in which they came.
    pub(super) arrivals: Vec<(Stream, Sequence, bool)>,
    producer: u64,
    cursors: Vec<(Stream, RemoteCursor)>,
    /// Requests that brought what was there already, under the same key.
    pub(super) repeats_recognised: u64,
}

impl Network {
    pub(super) fn new(plan: &Plan) -> Self {
        let receiver = |plan: &SinkPlan| Receiver {
            is_up: plan.dead_until_us == 0,
            link_changes_at_us: if plan.dead_until_us == 0 { plan.up_mean_us } else { plan.dead_until_us },
            plan: plan.clone(),
            keys: BTreeMap::new(),
            has: BTreeMap::new(),
            arrivals: Vec::new(),
            producer: 0,
            cursors: Vec::new(),
            repeats_recognised: 0,
        };
        let receivers = plan.sinks.iter().map(receiver).collect();
        Self { receivers, under_way: Vec::new(), answers: BTreeMap::new(), last_id: 0 }
    }
}

impl World {
    /// Whether a sink's link is up now.
    fn is_up(&mut self, sink: usize) -> bool {
        if self.is_calm() {
            return true;
        }
        let now_us = self.now_us();
        while now_us >= self.network.receivers[sink].link_changes_at_us {
            let receiver = &self.network.receivers[sink];
            let is_up = !receiver.is_up;
            let mean_us = if is_up { receiver.plan.up_mean_us } else { receiver.plan.down_mean_us };
            let lasts_us = self.about_us(mean_us);
            let receiver = &mut self.network.receivers[sink];
            (receiver.is_up, receiver.link_changes_at_us) = (is_up, receiver.link_changes_at_us + lasts_us);
            if !is_up {
                self.fault("network cut");
            }
        }
        self.network.receivers[sink].is_up
    }

    /// How long a packet takes, in microseconds.
    fn latency_us(&mut self, sink: usize) -> u64 {
        let is_unruly = self.network.receivers[sink].plan.is_unruly;
        if is_unruly && self.strikes(0.05) {
            self.fault("slow network");
            return self.random.u64(1_000_000..30_000_000);
        }
        self.random.u64(1_000..150_000)
    }

    /// Sends a request; gives its number, and how long its sender waits at most.
    fn send(&mut self, sink: usize, offer: &Offer<'_>, producer: u64) -> (u64, u64) {
        self.network.last_id += 1;
        let id = self.network.last_id;
        let name = self.network.receivers[sink].plan.name;
        self.note(format_args!("{name} offers {}", offer.key));
        if !self.is_up(sink) {
            // Refused at once, or no answer at all.
            let wait_us = if self.random.bool() { 5_000 } else { TIMEOUT_US };
            return (id, wait_us);
        }
        let there_us = self.latency_us(sink);
        let back_us = self.latency_us(sink);
        let now_us = self.now_us();
        let mut bytes_hash = 0;
        let mut records = Vec::with_capacity(offer.records.len());
        for record in offer.records {
            bytes_hash = xxh3_64_with_seed(&record.json, bytes_hash);
            match serde_json::from_slice::<Line>(&record.json) {
                Ok(line) => records.push(Received {
                    sequence: line.seq,
                    value: line.value.and_then(|value| value.as_u64()),
                    is_history: line.lane.as_deref() == Some("history"),
                }),
                Err(error) => self.violation(format!("{} brings what is no record: {error}", offer.key)),
            }
        }
        let request = Request {
            id,
            sink,
            arrives_at_us: now_us + there_us,
            key: offer.key.clone(),
            stream: offer.stream,
            epoch: offer.epoch,
            records,
            bytes_hash,
            producer,
            cursor_after: offer.cursor_after.clone(),
            run_mark: offer.run_mark,
        };
        // A proxy may send a request again; nothing does so with a transaction.
        let SinkPlan { kind, is_unruly, .. } = self.network.receivers[sink].plan;
        if kind == Kind::Http && is_unruly && self.strikes(0.05) {
            self.fault("request doubled");
            let again_us = now_us + there_us + self.random.u64(1_000..20_000_000);
            self.network.under_way.push(request.again_at(again_us));
        }
        self.network.under_way.push(request);
        let is_lost = self.strikes(0.1);
        if is_lost {
            self.fault("answer lost");
        }
        (id, if is_lost { TIMEOUT_US } else { (there_us + back_us).min(TIMEOUT_US) })
    }

    /// Lets arrive what is due.
    pub(super) fn arrive(&mut self) {
        let now_us = self.now_us();
        while let Some(next) = (0..self.network.under_way.len())
            .filter(|index| self.network.under_way[*index].arrives_at_us <= now_us)
            .min_by_key(|index| (self.network.under_way[*index].arrives_at_us, self.network.under_way[*index].id))
        {
            let request = self.network.under_way.remove(next);
            let id = request.id;
            let answer = self.receive(request);
            self.network.answers.insert(id, answer);
        }
    }

    /// When the next request arrives.
    pub(super) fn next_arrival_us(&self) -> Option<u64> {
        self.network.under_way.iter().map(|request| request.arrives_at_us).min()
    }

    fn receive(&mut self, request: Request) -> Answer {
        let is_busy = self.strikes(0.03);
        let is_calm = self.is_calm();
        let receiver = &mut self.network.receivers[request.sink];
        let name = receiver.plan.name;
        if is_busy {
            return Answer::Busy;
        }
        if receiver.plan.kind == Kind::Kafka && request.producer != receiver.producer {
            return Answer::Fenced;
        }
        if receiver.plan.kind == Kind::Http
            && let Some(hash) = receiver.keys.get(&request.key)
        {
            let is_same = *hash == request.bytes_hash;
            receiver.repeats_recognised += 1;
            if !is_same {
                self.violation(format!("{} came again with other bytes", request.key));
            }
            return Answer::Taken(None);
        }
        if receiver.plan.is_picky
            && !is_calm
            && request.records.iter().any(|record| is_disliked(request.stream, record))
        {
            self.note(format_args!("{name} refuses {}", request.key));
            return Answer::Refused;
        }
        let mut repeated = Vec::new();
        for record in request.records {
            receiver.arrivals.push((request.stream, record.sequence, record.is_history));
            if receiver.has.insert((request.stream, record.sequence), record.clone()).is_some() {
                repeated.push(record.sequence);
            }
        }
        let mut answer = Answer::Taken(None);
        if receiver.plan.kind == Kind::Http {
            receiver.keys.insert(request.key.clone(), request.bytes_hash);
        } else {
            let position = i64::try_from(receiver.cursors.len()).unwrap();
            let cursor = RemoteCursor {
                replay: None,
                epoch: request.epoch,
                cursor: request.cursor_after,
                run_mark: request.run_mark,
                position,
            };
            receiver.cursors.push((request.stream, cursor));
            answer = Answer::Taken(Some(position));
        }
        self.note(format_args!("{name} has {}", request.key));
        for sequence in repeated {
            self.violation(format!("{name} got {}/{sequence} twice, now as {}", request.stream, request.key));
        }
        answer
    }
}

impl Request {
    /// The same once more, for nobody who waits.
    fn again_at(&self, arrives_at_us: u64) -> Self {
        Self {
            id: 0,
            arrives_at_us,
            key: self.key.clone(),
            records: self.records.clone(),
            cursor_after: self.cursor_after.clone(),
            ..*self
        }
    }
}

/// What a picky receiver refuses.
fn is_disliked(stream: Stream, record: &Received) -> bool {
    match stream {
        Stream::Readings => record.value.is_some_and(|value| value % 13 == 5),
        Stream::DeadLetters => record.sequence % 4 == 1,
        _ => false,
    }
}

/// A sink of the gateway whose other end is simulated.
pub(super) struct SimulatedSink {
    pub(super) world: Shared,
    pub(super) index: usize,
    pub(super) kind: Kind,
    pub(super) must_recover: bool,
    pub(super) producer: u64,
}

impl Sink for SimulatedSink {
    async fn recover(&mut self, from_position: Option<i64>) -> Result<Vec<(Stream, RemoteCursor)>, SinkError> {
        if self.kind == Kind::Http {
            self.must_recover = false;
            return Ok(Vec::new());
        }
        let latency_us = self.world.lock().latency_us(self.index);
        sleep(Duration::from_micros(latency_us)).await;
        let mut world = self.world.lock();
        if !world.is_up(self.index) {
            return Err(SinkError::Unreachable("no answer".to_owned()));
        }
        let receiver = &mut world.network.receivers[self.index];
        receiver.producer += 1;
        let producer = receiver.producer;
        let mut last = BTreeMap::new();
        for (stream, cursor) in &receiver.cursors {
            if from_position.is_none_or(|from| cursor.position >= from) {
                last.insert(*stream, cursor.clone());
            }
        }
        let name = receiver.plan.name;
        world.note(format_args!("{name} takes over from position {from_position:?}"));
        if world.strikes(0.1) {
            world.fault("answer lost");
            return Err(SinkError::Unreachable("the answer was lost".to_owned()));
        }
        (self.producer, self.must_recover) = (producer, false);
        Ok(last.into_iter().collect())
    }

    async fn deliver(&mut self, offer: &Offer<'_>) -> Outcome {
        let (id, wait_us) = self.world.lock().send(self.index, offer, self.producer);
        sleep(Duration::from_micros(wait_us)).await;
        let answer = if wait_us < TIMEOUT_US { self.world.lock().network.answers.remove(&id) } else { None };
        let retry = |reason: &str| Outcome::Retry { after: None, reason: reason.to_owned() };
        match answer {
            Some(Answer::Taken(remote_position)) => Outcome::Delivered { remote_position },
            Some(Answer::Refused) => Outcome::Refused { reason: "not to my taste".to_owned() },
            Some(Answer::Busy) => {
                // A transaction that is turned away is aborted; the next one may begin at once.
                let after = Some(Duration::from_secs(2));
                Outcome::Retry { after, reason: "busy".to_owned() }
            }
            Some(Answer::Fenced) => {
                self.must_recover = true;
                retry("another producer has taken over")
            }
            None => {
                // Whether a transaction was committed is known only after a takeover.
                self.must_recover = self.kind == Kind::Kafka;
                retry("no answer")
            }
        }
    }

    fn must_recover(&self) -> bool {
        self.must_recover
    }
}
