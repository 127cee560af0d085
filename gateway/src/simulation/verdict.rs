//! The verdict: what was ever readable in the buffer, held against what was acknowledged and what each receiver has.

use super::world::World;
use crate::block::Block;
use crate::block::records::{GapReason, RecordBody};
use crate::buffer::Lane;
use crate::buffer::memory_disk::MemoryDisk;
use crate::reading::{Sequence, SequenceRange, Stream, Value};
use std::collections::{BTreeMap, BTreeSet};
use xxhash_rust::xxh3::xxh3_64;

/// Everything that ever became readable.
#[derive(Default)]
pub(super) struct History {
    /// The content of each sequence, as a hash: a sequence is never used twice.
    content: BTreeMap<(Stream, Sequence), u64>,
    /// Where each measured value is, as reading or as dead letter.
    places: BTreeMap<u64, (Stream, Sequence)>,
    /// Values that were brought and taken in again when what came before was damaged or given up: they stand where they came last.
    again: BTreeSet<u64>,
    readings: BTreeMap<Sequence, u64>,
    /// What the gaps tell of, by sink and stream; and whether somebody may have it all the same.
    gaps: BTreeMap<(String, Stream), BTreeMap<Sequence, bool>>,
    /// What was refused, by sink and stream.
    refused: BTreeMap<(String, Stream), BTreeSet<Sequence>>,
    /// Values that a bus brought, and that ingest took, in lives that ended in order.
    pub(super) polled: BTreeSet<u64>,
    /// Values that came to an end with a crash of a life.
    excused: BTreeSet<u64>,
    /// Acknowledged before they were readable.
    early: Vec<u64>,
    violations: Vec<String>,
}

impl History {
    /// Takes in what became readable.
    fn take(&mut self, block: &Block, disk: &MemoryDisk) {
        let stream = block.meta.stream;
        let mut values = Vec::new();
        if stream == Stream::Readings {
            for row in block.readings().unwrap() {
                let Ok(Value::Integer(value)) = row.reading.outcome else { panic!("a reading without its number") };
                let value = u64::try_from(value).unwrap();
                self.put(stream, row.sequence, value);
                self.readings.insert(row.sequence, value);
                values.push((value, row.sequence));
            }
        } else {
            for numbered in block.records().unwrap() {
                let sequence = numbered.sequence;
                self.put(stream, sequence, xxh3_64(format!("{:?}", numbered.record).as_bytes()));
                match numbered.record.body {
                    RecordBody::DeadLetter(letter) => match letter.source.strip_prefix("sink/") {
                        None => values.push((String::from_utf8(letter.raw).unwrap().parse().unwrap(), sequence)),
                        Some(sink) if letter.part == 0 => {
                            let (of, at) = letter.position.split_once('/').unwrap();
                            let of = Stream::ALL.into_iter().find(|stream| stream.name() == of).unwrap();
                            self.refuse(sink, of, at.parse().unwrap());
                        }
                        Some(_) => {}
                    },
                    RecordBody::Gap(gap) => {
                        for (sink, range) in gap.sinks {
                            if gap.reason == GapReason::RefusedDeadLetter {
                                self.refuse(&sink, gap.stream, range.first);
                                continue;
                            }
                            let gaps = self.gaps.entry((sink, gap.stream)).or_default();
                            for lost in range.first..=range.last {
                                gaps.insert(lost, gap.in_flight);
                            }
                        }
                    }
                    RecordBody::Alert(_) | RecordBody::Missed(_) => {}
                }
            }
        }
        for (value, sequence) in values {
            // A redelivery is recognised as long as the buffer holds what came before.
            let Some(before) = self.places.insert(value, (stream, sequence)) else { continue };
            if disk.holds(before.0, before.1) {
                self.violations.push(format!("value {value} was taken in twice: {before:?} and {stream}/{sequence}"));
            } else {
                self.again.insert(value);
            }
        }
    }

    fn put(&mut self, stream: Stream, sequence: Sequence, hash: u64) {
        if self.content.insert((stream, sequence), hash).is_some() {
            self.violations.push(format!("{stream}/{sequence} was used twice"));
        }
    }

    fn refuse(&mut self, sink: &str, stream: Stream, sequence: Sequence) {
        if !self.refused.entry((sink.to_owned(), stream)).or_default().insert(sequence) {
            self.violations.push(format!("{sink} is said to have refused {stream}/{sequence} twice"));
        }
    }

    /// Notes an acknowledgement; what is acknowledged must be readable by now.
    pub(super) fn check_acknowledged(&mut self, value: u64) {
        if !self.places.contains_key(&value) {
            self.early.push(value);
        }
    }

    /// A life ended without order: what the bus brought last may be lost.
    pub(super) fn excuse_polled(&mut self) {
        self.excused.append(&mut self.polled);
    }

    /// How many measured values were taken in.
    pub(super) fn taken_in(&self) -> u64 {
        self.places.len() as u64
    }

    fn gap(&self, sink: &str, stream: Stream, sequence: Sequence) -> Option<bool> {
        self.gaps.get(&(sink.to_owned(), stream))?.get(&sequence).copied()
    }

    fn is_refused(&self, sink: &str, stream: Stream, sequence: Sequence) -> bool {
        self.refused.get(&(sink.to_owned(), stream)).is_some_and(|refused| refused.contains(&sequence))
    }
}

impl World {
    /// Takes in what became readable since the last look; what must not be is noted.
    pub(super) fn look_at(&mut self, disk: &MemoryDisk) {
        for block in disk.take_admitted() {
            self.note(format_args!("readable {}/{}", block.meta.stream, block.range));
            self.history.take(&block, disk);
        }
        for value in std::mem::take(&mut self.history.early) {
            if !self.history.places.contains_key(&value) {
                self.violation(format!("value {value} was acknowledged before it was on disk"));
            }
        }
        for violation in std::mem::take(&mut self.history.violations) {
            self.violation(violation);
        }
    }

    /// Holds the books of every lane against the streams; called after each life.
    pub(super) fn check_books(&mut self, disk: &MemoryDisk) {
        let next = disk.next();
        for ((sink, stream), lane) in disk.lanes() {
            if !lane.closes(next[stream.index()]) {
                self.violation(format!(
                    "the books of {sink} in {stream} do not close at {}: {lane:?}",
                    next[stream.index()]
                ));
            }
        }
    }

    /// Holds the books of ingest against the streams, of a store that is open.
    pub(super) fn check_ingest_books(&mut self, disk: &MemoryDisk) {
        for fault in disk.faults() {
            self.violation(format!("the books of ingest do not close: {fault}"));
        }
    }

    /// Whether everything has arrived where it belongs.
    pub(super) fn is_drained(&self, disk: &MemoryDisk) -> bool {
        let next = disk.next();
        let done = |stream: Stream, lane: &Lane| lane.run.is_none() && lane.undelivered(next[stream.index()]) == 0;
        self.broker.is_empty()
            && self.next_arrival_us().is_none()
            && disk.lanes().iter().all(|((_, stream), lane)| done(*stream, lane))
    }

    /// The end: each sequence of each stream is with each sink once, or refused or lost with a word; in order.
    pub(super) fn judge(&mut self, disk: &MemoryDisk) {
        let (next, lanes) = (disk.next(), disk.lanes());
        let mut found = Vec::new();
        for receiver in &self.network.receivers {
            let sink = receiver.plan.name;
            for stream in Stream::DELIVERED {
                let Some(lane) = lanes.get(&(sink.to_owned(), stream)) else {
                    found.push(format!("{sink} has no lane in {stream}"));
                    continue;
                };
                let range = SequenceRange { first: lane.since, last: next[stream.index()].saturating_sub(1) };
                for sequence in lane.since..next[stream.index()] {
                    let (has, gap) = (receiver.has.get(&(stream, sequence)), self.history.gap(sink, stream, sequence));
                    let is_refused = self.history.is_refused(sink, stream, sequence);
                    match (has.is_some(), gap, is_refused) {
                        (true, None | Some(true), false) | (false, Some(_), false) | (false, None, true) => {}
                        (false, None, false) => found.push(format!("LOST: {sink} never got {stream}/{sequence}")),
                        state => found.push(format!("{sink} and {stream}/{sequence} of {range}: {state:?}")),
                    }
                    let value = has.and_then(|received| received.value);
                    if stream == Stream::Readings
                        && has.is_some()
                        && value != self.history.readings.get(&sequence).copied()
                    {
                        found.push(format!("{sink} has {value:?} as {stream}/{sequence}"));
                    }
                }
            }
            for is_history in [false, true] {
                let mut last: BTreeMap<Stream, Sequence> = BTreeMap::new();
                for (stream, sequence, _) in receiver.arrivals.iter().filter(|(_, _, of)| *of == is_history) {
                    // What was given up while it was under way may arrive at any time.
                    if self.history.gap(sink, *stream, *sequence).is_none()
                        && last.insert(*stream, *sequence).is_some_and(|before| before >= *sequence)
                    {
                        found.push(format!("REORDERED: {sink} got {stream}/{sequence} after a later one"));
                    }
                }
            }
        }
        self.judge_sources(&mut found);
        for what in found {
            self.violation(what);
        }
    }

    fn judge_sources(&self, found: &mut Vec<String>) {
        let mut last: BTreeMap<(Stream, usize), Sequence> = BTreeMap::new();
        for message in &self.broker.published {
            let Some((stream, sequence)) = self.history.places.get(&message.value) else {
                if !self.broker.forgotten.contains(&message.value) {
                    found.push(format!("LOST: value {} was never taken in", message.value));
                }
                continue;
            };
            if self.history.again.contains(&message.value) {
                continue;
            }
            if last.insert((*stream, message.device), *sequence).is_some_and(|before| before >= *sequence) {
                found.push(format!(
                    "REORDERED: value {} of device {} as {stream}/{sequence}",
                    message.value, message.device
                ));
            }
        }
        for value in self.broker.acknowledged.iter().filter(|value| !self.history.places.contains_key(value)) {
            found.push(format!("LOST: value {value} was acknowledged and is nowhere"));
        }
        for value in &self.history.polled {
            if !self.history.places.contains_key(value) && !self.history.excused.contains(value) {
                found.push(format!("LOST: value {value} of the bus, though no life was cut short"));
            }
        }
    }
}
