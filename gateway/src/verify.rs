//! Whether what arrived upstream is complete: every sequence of every stream is there once, or explained by a record.
//!
//! A consumer needs nothing but the records themselves (docs/record-format.md). A sequence is explained by
//! - the record that carries it;
//! - a `gap` record, which names the lost sequences of a stream;
//! - a dead letter of the sink, which names the record that the sink refused;
//! - its batch: where a sink does not take every record, a batch whose `batch_records` are all there leaves nothing out that was for it.
//!
//! Pure: records go in one by one, in any order; memory grows with holes and unfinished batches, both bounded, not with records.

mod ranges;
mod record;

pub use record::RecordError;

use crate::reading::SequenceRange;
use ranges::Ranges;
use record::Line;
use std::collections::{BTreeMap, HashMap};
use std::fmt;

/// Most separate stretches of one stream: beyond it the input is no stream of ours, or hopelessly shuffled.
const STRETCHES_MAX: usize = 1_000_000;

/// Most batches that are under way at a time.
const BATCHES_MAX: usize = 100_000;

/// Most devices whose order is watched.
const DEVICES_MAX: usize = 1_000_000;

/// Most streams: gateways times epochs times streams.
const STREAMS_MAX: usize = 10_000;

/// Most holes that a report names one by one.
const HOLES_TOLD: usize = 10;

/// Names a stream: sequences count within it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamName {
    /// The gateway.
    pub gateway: String,
    /// The data directory.
    pub epoch: String,
    /// The stream.
    pub stream: String,
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { gateway, epoch, stream } = self;
        write!(f, "{gateway} {stream} (epoch {epoch})")
    }
}

/// What is known of one stream.
#[derive(Debug, Default)]
struct Stream {
    seen: Ranges,
    lost: Ranges,
    refused: Ranges,
    covered: Ranges,
    batches: HashMap<SequenceRange, Batch>,
    /// The highest sequence of each device, apart for live and history.
    devices: HashMap<(String, String), u64>,
    records: u64,
    repeated: u64,
    reordered: u64,
    lost_by_reason: BTreeMap<String, u64>,
}

#[derive(Debug, Default)]
struct Batch {
    records: u64,
    seen: u64,
}

/// Takes records and says at the end whether they are complete.
#[derive(Debug, Default)]
pub struct Verifier {
    /// Gaps and dead letters of other sinks explain nothing.
    sink: Option<String>,
    /// Whether what lies before the first record seen has to be explained, too.
    asks_for_beginning: bool,
    streams: BTreeMap<StreamName, Stream>,
    replayed: u64,
}

/// What became of one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamReport {
    /// The stream.
    pub name: StreamName,
    /// Records, without repetitions.
    pub records: u64,
    /// First and last sequence that this is about: those seen, or from 0 on; what lies after the last cannot be known.
    pub range: Option<SequenceRange>,
    /// Records that came more than once.
    pub repeated: u64,
    /// Records that came after a later one of the same device and lane.
    pub reordered: u64,
    /// Sequences that gap records explain, by reason.
    pub lost: BTreeMap<String, u64>,
    /// Sequences that the sink refused; dead letters hold them.
    pub refused: u64,
    /// Sequences within complete batches that were not for this sink.
    pub filtered: u64,
    /// Sequences that nothing explains.
    pub missing: u64,
    /// The first of them.
    pub holes: Vec<SequenceRange>,
}

impl StreamReport {
    /// Whether everything is there once, in order, or explained.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.missing == 0 && self.repeated == 0 && self.reordered == 0
    }
}

impl Verifier {
    /// Nothing seen yet. With a `sink`, only its own gaps and refusals explain a missing record.
    #[must_use]
    pub fn new(sink: Option<String>) -> Self {
        Self { sink, ..Self::default() }
    }

    /// Has what lies before the first record of each stream count as missing unless something explains it: for a sink that was there from
    /// the first record on.
    #[must_use]
    pub fn with_beginning(self) -> Self {
        Self { asks_for_beginning: true, ..self }
    }

    /// Takes one record: a line of NDJSON, or the value of a Kafka record.
    ///
    /// # Errors
    /// If it is no record of this format, or a limit is reached.
    pub fn take(&mut self, json: &[u8]) -> Result<(), RecordError> {
        let line = Line::parse(json)?;
        if line.test {
            return Ok(());
        }
        if line.replay.is_some() {
            self.replayed += 1;
            return Ok(());
        }
        let (stream, batch) = line.batch_range()?;
        let name = StreamName { gateway: line.gateway.clone(), epoch: line.epoch.clone(), stream: stream.to_owned() };
        self.explain(&line, &name)?;
        let stream = self.stream(&name)?;
        if !stream.seen.insert(line.seq) {
            stream.repeated += 1;
            return Ok(());
        }
        stream.records += 1;
        stream.follow(&line)?;
        stream.count(batch, line.batch_records)?;
        if stream.seen.len() > STRETCHES_MAX {
            return Err(RecordError::Limit { what: "separate stretches of a stream", max: STRETCHES_MAX });
        }
        Ok(())
    }

    /// What a gap or a sink's dead letter says about other records.
    fn explain(&mut self, line: &Line<'_>, name: &StreamName) -> Result<(), RecordError> {
        let sink = self.sink.clone();
        if let Some(loss) = line.gap(sink.as_deref())? {
            let stream = self.stream(&StreamName { stream: loss.stream.to_owned(), ..name.clone() })?;
            for range in loss.ranges {
                let fresh = stream.lost.insert_range(range);
                *stream.lost_by_reason.entry(loss.reason.to_owned()).or_default() += fresh;
            }
        } else if let Some((of, sequence)) = line.refusal(sink.as_deref()) {
            self.stream(&StreamName { stream: of.to_owned(), ..name.clone() })?.refused.insert(sequence);
        }
        Ok(())
    }

    fn stream(&mut self, name: &StreamName) -> Result<&mut Stream, RecordError> {
        if !self.streams.contains_key(name) && self.streams.len() >= STREAMS_MAX {
            return Err(RecordError::Limit { what: "streams", max: STREAMS_MAX });
        }
        Ok(self.streams.entry(name.clone()).or_default())
    }

    /// Replayed records seen; they are copies and prove nothing.
    #[must_use]
    pub fn replayed(&self) -> u64 {
        self.replayed
    }

    /// What became of each stream.
    #[must_use]
    pub fn reports(&self) -> Vec<StreamReport> {
        self.streams.iter().map(|(name, stream)| stream.report(name, self.asks_for_beginning)).collect()
    }
}

impl Stream {
    /// Watches the order of a device: within a lane it never goes back.
    fn follow(&mut self, line: &Line<'_>) -> Result<(), RecordError> {
        let Some(device) = &line.device else { return Ok(()) };
        let lane = line.lane.as_deref().unwrap_or_default();
        let key = (device.to_string(), lane.to_owned());
        if self.devices.len() >= DEVICES_MAX && !self.devices.contains_key(&key) {
            return Err(RecordError::Limit { what: "devices", max: DEVICES_MAX });
        }
        let highest = self.devices.entry(key).or_insert(line.seq);
        self.reordered += u64::from(line.seq < *highest);
        *highest = line.seq.max(*highest);
        Ok(())
    }

    /// Counts a record into its batch; a complete batch covers its range.
    fn count(&mut self, range: SequenceRange, records: Option<u64>) -> Result<(), RecordError> {
        let Some(records) = records else { return Ok(()) };
        if self.batches.len() >= BATCHES_MAX && !self.batches.contains_key(&range) {
            return Err(RecordError::Limit { what: "incomplete batches", max: BATCHES_MAX });
        }
        let batch = self.batches.entry(range).or_insert(Batch { records, seen: 0 });
        batch.seen += 1;
        if batch.seen >= batch.records {
            self.batches.remove(&range);
            self.covered.insert_range(range);
        }
        Ok(())
    }

    fn report(&self, name: &StreamName, asks_for_beginning: bool) -> StreamReport {
        let mut covered = self.covered.clone();
        // A refused record is missing from its batch, but what came in place of it says so.
        for (range, batch) in &self.batches {
            if batch.seen + self.refused.count_within(*range) >= batch.records {
                covered.insert_range(*range);
            }
        }
        let hull = self.seen.hull();
        let hull = hull.map(|hull| if asks_for_beginning { SequenceRange { first: 0, ..hull } } else { hull });
        let (mut filtered, mut missing, mut holes) = (0, 0, Vec::new());
        let unseen = hull.into_iter().flat_map(|hull| self.seen.missing_within(hull));
        for hole in unseen {
            for hole in self.lost.missing_within(hole).flat_map(|hole| self.refused.missing_within(hole)) {
                filtered += covered.count_within(hole);
                for hole in covered.missing_within(hole) {
                    missing += hole.count();
                    if holes.len() < HOLES_TOLD {
                        holes.push(hole);
                    }
                }
            }
        }
        StreamReport {
            name: name.clone(),
            records: self.records,
            range: hull,
            repeated: self.repeated,
            reordered: self.reordered,
            lost: self.lost_by_reason.clone(),
            refused: hull.map_or(0, |hull| self.refused.count_within(hull)),
            filtered,
            missing,
            holes,
        }
    }
}

#[cfg(test)]
mod tests;
