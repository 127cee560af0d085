//! Ingest: takes what sources read, recognises redeliveries, judges, commits, and only then hands receipts back.
//!
//! One task, one loop. While one commit is on its way to the disk, the next one is collected; more than that is never
//! held: the channel from the sources fills up and they wait.

mod pending;
mod redelivery;
mod watch;

pub use pending::{PENDING_READINGS_MAX, PENDING_RECORDS_MAX};
pub use redelivery::WINDOW_PAIRS;

use crate::backoff::Backoff;
use crate::block::columns::{Encoder, JudgedReading};
use crate::block::records::{self, Alert, DeadLetter, Record, RecordBody, Severity};
use crate::buffer::{Buffer, BufferError, Commit, Committed, StreamEnds};
use crate::clock::{Clock, Tick};
use crate::fault;
use crate::judge::Judge;
use crate::reading::{Flags, Sample, Sequence, Stream, Value};
use crate::site::{PointKey, Registry};
use crate::sources::{INTAKE_MESSAGES_MAX, Intake, Message, Receipt, Reject};
use crate::status::{HealthEvent, PointLive, SPARKLINE_VALUES, Status, Trouble};
use pending::Pending;
use redelivery::{Redelivery, WINDOW_LETTERS};
use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_64;

/// With receipts outstanding and nothing new for so long, the sender's window is full: it waits for us, not we for it.
const STALL: Duration = Duration::from_millis(2);
/// The loop turns at least so often, which is what the watchdog watches as long as commits land.
const TURN: Duration = Duration::from_secs(1);
/// How often the judge's state is kept: what lies after it is replayed at the start, and each costs the card its size.
const SNAPSHOT_EVERY: Duration = Duration::from_mins(10);
/// First and longest wait before a commit that failed is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// Blocks read at a time while state is brought forward.
const REPLAY_BLOCKS: usize = 16;
/// Windows of so many sources are looked for on disk at the start: sources share the streams, and what was unacknowledged
/// when the gateway ended is at their end. About 260 000 readings, which a small board decodes in a second.
const REBUILD_WINDOWS_MAX: usize = 8;
/// Receipts that wait for one source to take them: MQTT has no more packet identifiers, so older ones are of a connection
/// that is no more.
const RECEIPTS_WAITING_MAX: usize = 65_535;

/// Where receipts of a source go.
pub type Receipts = mpsc::Sender<Vec<Receipt>>;

/// What ingest works with.
#[derive(Debug)]
pub struct IngestOptions {
    /// The buffer.
    pub buffer: Buffer,
    /// The registry of points.
    pub registry: Arc<Registry>,
    /// Where it says how it is.
    pub status: Arc<Status>,
    /// Both clocks.
    pub clock: Clock,
    /// The judge, with its rules.
    pub judge: Judge,
    /// Where receipts of each source go, in the order of the configuration.
    pub receipts: Vec<Receipts>,
    /// Longest time that an accepted reading waits for the disk.
    pub commit_interval: Duration,
    /// Version of the configuration.
    pub config_version: u32,
}

/// The ingest loop.
#[derive(Debug)]
pub struct Ingest {
    options: IngestOptions,
    encoder: Encoder,
    /// What each source may bring again.
    redelivery: Vec<Redelivery>,
    pending: Pending,
    /// What is on disk and whose receipt the source had no room for yet, by source.
    receipts_waiting: Vec<Vec<Receipt>>,
    last_snapshot: Instant,
}

/// A commit on its way to the disk.
struct Flight {
    end: Pin<Box<dyn Future<Output = Result<Committed, BufferError>> + Send>>,
    /// What becomes durable with it.
    carries: Pending,
    /// When it departs or departed.
    departure: Instant,
}

impl Ingest {
    /// Brings judge and redelivery window forward over what is on disk, and is ready to run.
    ///
    /// # Errors
    /// If the buffer cannot be read at all.
    pub async fn open(options: IngestOptions, snapshot: Option<(Sequence, Vec<u8>)>) -> Result<Self, BufferError> {
        let encoder = Encoder::new().map_err(|error| BufferError::Disk(error.to_string()))?;
        let pending = Pending::new(options.receipts.len());
        let sources = options.status.sources.len();
        let mut ingest = Self {
            redelivery: (0..sources).map(|_| Redelivery::new()).collect(),
            receipts_waiting: vec![Vec::new(); sources],
            options,
            encoder,
            pending,
            last_snapshot: Instant::now(),
        };
        ingest.learn_points();
        let mut seen_below = 0;
        if let Some((sequence, bytes)) = snapshot {
            if ingest.options.judge.restore(&bytes) {
                seen_below = sequence;
            } else {
                tracing::warn!("the detectors' saved state is of another version: they learn anew");
            }
        }
        ingest.bring_forward(seen_below).await?;
        Ok(ingest)
    }

    /// What sources no longer configured brought is passed over.
    async fn bring_forward(&mut self, seen_below: Sequence) -> Result<(), BufferError> {
        let status = self.options.status.clone();
        let named = status.sources.iter().enumerate().map(|(index, source)| (source.name.as_str(), index));
        let sources: HashMap<&str, usize> = named.collect();
        self.bring_letters_forward(&sources).await?;
        self.bring_readings_forward(&sources, seen_below).await
    }

    async fn bring_letters_forward(&mut self, sources: &HashMap<&str, usize>) -> Result<(), BufferError> {
        let ends = self.ends(Stream::DeadLetters);
        let mut from = ends.next.saturating_sub(self.rebuilt(WINDOW_LETTERS)).max(ends.oldest);
        while from < ends.next {
            let blocks = self.options.buffer.blocks(Stream::DeadLetters, from, REPLAY_BLOCKS).await?;
            let Some(last) = blocks.last() else { break };
            from = last.range.last + 1;
            for record in blocks.iter().filter_map(|block| block.records().ok()).flatten() {
                let RecordBody::DeadLetter(letter) = record.record.body else { continue };
                let source = sources.get(letter.source.as_str());
                if let Some(redelivery) = source.and_then(|source| self.redelivery.get_mut(*source)) {
                    redelivery.remember_letter(&letter);
                }
            }
        }
        Ok(())
    }

    async fn bring_readings_forward(
        &mut self,
        sources: &HashMap<&str, usize>,
        seen_below: Sequence,
    ) -> Result<(), BufferError> {
        let points = self.options.registry.since(0);
        let source_of: Vec<_> = points.iter().map(|key| sources.get(&*key.source).copied()).collect();
        let ends = self.ends(Stream::Readings);
        // Without a snapshot the detectors start with the last readings: older ones have little to say.
        let unseen_from = if seen_below == 0 { ends.next.saturating_sub(WINDOW_PAIRS as u64) } else { seen_below };
        let mut from = ends.next.saturating_sub(self.rebuilt(WINDOW_PAIRS)).min(unseen_from).max(ends.oldest);
        while from < ends.next {
            let blocks = self.options.buffer.blocks(Stream::Readings, from, REPLAY_BLOCKS).await?;
            let Some(last) = blocks.last() else { break };
            from = last.range.last + 1;
            for block in &blocks {
                let Ok(rows) = block.readings() else { continue };
                let tick = Tick {
                    mono_us: block.meta.mono_base_us,
                    wall_us: block.meta.wall_base_us,
                    quality: block.meta.time_quality,
                };
                for row in rows {
                    let source = source_of.get(row.reading.point.0 as usize).copied().flatten();
                    if let Some(redelivery) = source.and_then(|source| self.redelivery.get_mut(source)) {
                        redelivery.remember(row.reading.point, row.reading.message_hash);
                    }
                    if row.sequence >= unseen_from {
                        self.options.judge.replay(&row.reading, &tick);
                    }
                }
            }
        }
        Ok(())
    }

    fn ends(&self, stream: Stream) -> StreamEnds {
        self.options.buffer.ends().borrow().get(stream.index()).copied().unwrap_or_default()
    }

    /// How many records are looked through to fill the windows of this length again.
    fn rebuilt(&self, window: usize) -> u64 {
        (window * self.redelivery.len().min(REBUILD_WINDOWS_MAX)) as u64
    }

    /// Runs until every sender of `intakes` is gone; then commits what is left and keeps the judge's state. Ends early if
    /// the buffer is gone: nothing can be stored any more, and what is not acknowledged comes again after a new start.
    pub async fn run(mut self, mut intakes: mpsc::Receiver<Intake>) {
        let mut flight: Option<Flight> = None;
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        let mut first_waiting: Option<Instant> = None;
        let mut last_intake = Instant::now();
        let mut open = true;
        while open || flight.is_some() || !self.pending.is_empty() {
            let under_way = flight.as_ref().map(|flight| flight.departure.elapsed());
            watch::turn(&self.options.status, under_way, self.options.clock.tick().wall_us);
            let now = Instant::now();
            // While a commit is on its way, nothing can depart, however due it is.
            let due = if flight.is_some() { now + TURN } else { self.due(now, first_waiting, last_intake, open) };
            tokio::select! {
                biased;
                result = landing(&mut flight), if flight.is_some() => {
                    let Some(landed) = flight.take() else { continue };
                    match result {
                        Ok(_) => {
                            fault::point("ingest.after_commit");
                            backoff.succeed();
                            self.settle(landed.carries, landed.departure.elapsed());
                            fault::point("ingest.after_receipts");
                        }
                        Err(BufferError::Closed) => {
                            tracing::error!("the buffer's thread has ended: nothing can be stored, so ingest ends");
                            return;
                        }
                        Err(error) => flight = Some(self.again(&error, landed.carries, backoff.next_wait())),
                    }
                }
                intake = intakes.recv(), if open && !self.pending.is_full() => match intake {
                    Some(intake) => {
                        last_intake = Instant::now();
                        self.take(intake);
                    }
                    None => open = false,
                },
                () = tokio::time::sleep_until(due) => {}
            }
            // What waits stays bounded also while the disk hangs: further events wait in their own place.
            if !self.pending.is_full() {
                self.take_events();
            }
            self.hand_receipts_back();
            if !self.pending.is_empty() {
                first_waiting.get_or_insert_with(Instant::now);
            }
            let now = Instant::now();
            if flight.is_none() && !self.pending.is_empty() && now >= self.due(now, first_waiting, last_intake, open) {
                let full = Pending::new(self.options.receipts.len());
                let departing = std::mem::replace(&mut self.pending, full);
                first_waiting = None;
                if departing.has_content() {
                    let snapshot = self.due_snapshot();
                    flight = Some(self.depart(departing, Duration::ZERO, snapshot));
                } else {
                    // Only receipts of redeliveries: what they stand for is on disk already.
                    self.settle(departing, Duration::ZERO);
                }
            }
        }
        self.keep_snapshot().await;
    }

    /// When the next commit is due, or the loop must turn.
    fn due(&self, now: Instant, first_waiting: Option<Instant>, last_intake: Instant, open: bool) -> Instant {
        if !open || self.pending.is_full() {
            return now;
        }
        let Some(first_waiting) = first_waiting else { return now + TURN };
        let deadline = first_waiting + self.options.commit_interval;
        if self.pending.receipts.is_empty() { deadline } else { deadline.min(last_intake + STALL) }
    }

    /// Takes one intake in: redeliveries out, samples to the judge, rejects to the dead letters, receipts to wait.
    fn take(&mut self, intake: Intake) {
        let tick = self.options.clock.tick();
        self.pending.tick(tick, self.options.clock.boot_id, self.options.config_version);
        self.learn_points();
        let Intake { source, messages, mut samples, missed, .. } = intake;
        let place = usize::from(source);
        let Some(status) = self.options.status.sources.get(place).cloned() else { return };
        let mut receipts = Vec::with_capacity(messages.len().min(INTAKE_MESSAGES_MAX));
        let mut keep = Vec::with_capacity(samples.len());
        let mut position = 0;
        for message in messages {
            let Some(redelivery) = self.redelivery.get_mut(place) else { return };
            if message.begins_anew {
                *redelivery = Redelivery::new();
            }
            let count = message.samples as usize;
            let own = samples.get(position..position + count).unwrap_or_default();
            position += count;
            let mut duplicates = 0;
            for sample in own {
                let known = message.redelivered && is_known(redelivery, &self.options.registry, sample);
                duplicates += u64::from(known);
                keep.push(!known);
                if !known {
                    redelivery.remember(sample.point, sample.message_hash);
                }
            }
            status.duplicate.add(duplicates);
            status.received.add(count as u64 + message.rejects.len() as u64);
            let (fresh, repeated) = self.reject(place, &status.name, &message, &tick);
            status.rejected.add(fresh);
            status.duplicate.add(repeated);
            receipts.extend(message.receipt);
        }
        let mut kept = keep.into_iter();
        samples.retain(|_| kept.next().unwrap_or(false));
        let records_before = self.pending.judged.records.len();
        let before = self.pending.judged.dead_lettered;
        self.options.judge.step(&samples, &tick, &mut self.pending.judged);
        let dead_lettered = self.pending.judged.dead_lettered - before;
        status.rejected.add(dead_lettered);
        self.remember_letters(place, records_before);
        if let Some(accepted) = self.pending.accepted.get_mut(place) {
            *accepted += samples.len() as u64 - dead_lettered;
        }
        for missed in missed {
            let id = xxh3_64(format!("{}/{}/{}", missed.source, missed.position, tick.mono_us).as_bytes());
            self.pending.judged.records.push(Record { id, time_us: tick.wall_us, body: RecordBody::Missed(missed) });
        }
        if !receipts.is_empty() {
            self.pending.receipts.push((source, receipts));
        }
    }

    /// Makes dead letters of what a message has that could not be decoded; returns how many are fresh and how many repeated.
    fn reject(&mut self, place: usize, source: &str, message: &Message, tick: &Tick) -> (u64, u64) {
        let known = |reject: &Reject| {
            let redelivery = self.redelivery.get(place);
            redelivery.is_some_and(|redelivery| redelivery.recognises_letter(&reject.position, message.hash))
        };
        if message.redelivered && message.rejects.iter().any(known) {
            return (0, message.rejects.len() as u64);
        }
        let first = self.pending.judged.records.len();
        for (index, reject) in message.rejects.iter().enumerate() {
            self.dead_letter(source, reject, message.hash, index, tick);
        }
        self.remember_letters(place, first);
        (message.rejects.len() as u64, 0)
    }

    /// Remembers the dead letters among the records that wait, from the position `first` on.
    fn remember_letters(&mut self, place: usize, first: usize) {
        let Some(redelivery) = self.redelivery.get_mut(place) else { return };
        for record in self.pending.judged.records.iter().skip(first) {
            if let RecordBody::DeadLetter(letter) = &record.body {
                redelivery.remember_letter(letter);
            }
        }
    }

    fn dead_letter(&mut self, source: &str, reject: &Reject, message_hash: u32, index: usize, tick: &Tick) {
        let letter = DeadLetter {
            source: source.to_owned(),
            position: reject.position.clone(),
            error: reject.error.clone(),
            rule: reject.rule.to_owned(),
            config_version: self.options.config_version,
            raw: Vec::new(),
            part: 0,
            parts: 1,
            raw_bytes: 0,
            raw_sha256: None,
            message_hash,
        };
        let moment = if message_hash == 0 { tick.mono_us } else { u64::from(message_hash) };
        let id = xxh3_64(format!("{source}/{}/{moment}/{index}", reject.position).as_bytes());
        self.pending.judged.records.extend(records::dead_letters(id, tick.wall_us, &letter, &reject.raw));
    }

    /// Makes alerts of troubles that began or ended.
    fn take_events(&mut self) {
        let events = self.options.status.take_events();
        if events.is_empty() {
            return;
        }
        let tick = self.options.clock.tick();
        self.pending.tick(tick, self.options.clock.boot_id, self.options.config_version);
        self.pending.judged.records.extend(events.iter().map(health_alert));
    }

    fn learn_points(&mut self) {
        let fresh = self.options.registry.since(self.options.judge.known());
        if !fresh.is_empty() {
            self.options.judge.learn_points(fresh);
        }
    }

    /// The judge's state, if it is time to keep it. It has seen just what departs now and what went before.
    fn due_snapshot(&mut self) -> Option<Vec<u8>> {
        let due = self.last_snapshot.elapsed() >= SNAPSHOT_EVERY;
        due.then(|| {
            self.last_snapshot = Instant::now();
            self.options.judge.snapshot()
        })
    }

    /// Sends what waits to the disk, after a wait.
    fn depart(&mut self, carries: Pending, wait: Duration, snapshot: Option<Vec<u8>>) -> Flight {
        let departure = Instant::now() + wait;
        let points = self.options.registry.unsaved();
        let encoded = carries.encode(&mut self.encoder).map_err(|error| BufferError::Disk(error.to_string()));
        let buffer = self.options.buffer.clone();
        let registry = self.options.registry.clone();
        let end = Box::pin(async move {
            tokio::time::sleep_until(departure).await;
            let last_point = points.last().map(|(id, _)| *id);
            let result = match encoded {
                Ok(drafts) => {
                    fault::point("ingest.before_commit");
                    buffer.commit(Commit { points, drafts, snapshot }).await
                }
                Err(error) => Err(error),
            };
            if let (Ok(_), Some(last)) = (&result, last_point) {
                registry.mark_saved(last);
            }
            result
        });
        Flight { end, carries, departure }
    }

    /// The commit failed: nothing is acknowledged, nothing is dropped; it is tried again.
    fn again(&mut self, error: &BufferError, carries: Pending, wait: Duration) -> Flight {
        let advice = match error {
            BufferError::Full { .. } => "Check why nothing is taken upstream, or raise buffer.disk_max",
            BufferError::DiskFull(_) => "Free some space on the disk",
            _ => "Check the card and the file system",
        };
        tracing::error!(%error, "a commit failed; readings wait and are tried again");
        let trouble = Trouble {
            subject: "buffer".to_owned(),
            what: format!("Readings cannot be stored: {error}"),
            advice: advice.to_owned(),
            severity: Severity::Error,
            since_us: self.options.clock.tick().wall_us,
        };
        self.options.status.raise("buffer/commit", trouble);
        self.depart(carries, wait, None)
    }

    /// All of it is on disk: count it, show it, hand the receipts back.
    fn settle(&mut self, landed: Pending, took: Duration) {
        let status = &self.options.status;
        status.clear("buffer/commit", self.options.clock.tick().wall_us);
        status.commits.add(1);
        status.last_commit_us.set(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        for (source, accepted) in status.sources.iter().zip(&landed.accepted) {
            source.accepted.add(*accepted);
        }
        let flagged = landed.judged.readings.iter().filter(|reading| reading.flags != Flags::default()).count();
        status.flagged.add(flagged as u64);
        show(status, &self.options.registry, &self.options.clock.tick(), &landed.judged.readings);
        for (source, receipts) in landed.receipts {
            let Some(waiting) = self.receipts_waiting.get_mut(usize::from(source)) else { continue };
            waiting.extend(receipts);
            let excess = waiting.len().saturating_sub(RECEIPTS_WAITING_MAX);
            if excess > 0 {
                tracing::warn!(source, excess, "the source takes no receipts: the oldest are dropped");
                waiting.drain(..excess);
            }
        }
        self.hand_receipts_back();
    }

    /// Hands each source its receipts in one batch. Where there is no room they wait for the next turn: a live connection
    /// is not sent again what it did not acknowledge (MQTT 3.1.1, section 4.4), so a lost receipt would stop it for good.
    fn hand_receipts_back(&mut self) {
        for (waiting, sender) in self.receipts_waiting.iter_mut().zip(&self.options.receipts) {
            if waiting.is_empty() {
                continue;
            }
            match sender.try_reserve() {
                Ok(room) => room.send(std::mem::take(waiting)),
                Err(TrySendError::Full(())) => {}
                Err(TrySendError::Closed(())) => waiting.clear(),
            }
        }
    }

    async fn keep_snapshot(&self) {
        let commit = Commit { snapshot: Some(self.options.judge.snapshot()), ..Commit::default() };
        if let Err(error) = self.options.buffer.commit(commit).await {
            tracing::warn!(%error, "the detectors' state could not be kept; they replay or learn anew");
        }
    }
}

/// The end of the commit that is on its way, if one is.
async fn landing(flight: &mut Option<Flight>) -> Result<Committed, BufferError> {
    match flight {
        Some(flight) => flight.end.as_mut().await,
        None => std::future::pending().await,
    }
}

/// Whether a sample that may be redelivered became a reading before, or was judged a dead letter.
fn is_known(redelivery: &Redelivery, registry: &Registry, sample: &Sample) -> bool {
    let was_dead_letter = |key: Arc<PointKey>| {
        redelivery.recognises_letter(&format!("{}/{}", key.device, key.point), sample.message_hash)
    };
    redelivery.recognises(sample.point, sample.message_hash) || registry.key(sample.point).is_some_and(was_dead_letter)
}

fn health_alert(event: &HealthEvent) -> Record {
    let Trouble { subject, what, advice, severity, .. } = &event.trouble;
    let alert = Alert {
        rule: "health".to_owned(),
        severity: *severity,
        subject: records::field(subject),
        message: records::field(&format!("{what}. {advice}.")),
        value: None,
        raised: event.raised,
    };
    let id = xxh3_64(format!("{subject}/{what}/{}/{}", event.raised, event.at_us).as_bytes());
    Record { id, time_us: event.at_us, body: RecordBody::Alert(alert) }
}

/// Puts the last values where the page finds them.
fn show(status: &Status, registry: &Registry, tick: &Tick, readings: &[JudgedReading]) {
    status.update_points(|points| {
        if points.len() < registry.len() {
            points.resize(registry.len(), None);
        }
        for reading in readings {
            let Some(slot) = points.get_mut(reading.point.0 as usize) else { continue };
            let received_at_us = tick.wall_of(reading.received_mono_us);
            let number = reading.outcome.as_ref().ok().and_then(Value::as_number);
            let live = slot.get_or_insert_with(|| PointLive {
                outcome: reading.outcome.clone(),
                received_at_us: 0,
                quality: reading.quality,
                flags: reading.flags,
                score: reading.score,
                note: String::new(),
                sparkline: VecDeque::new(),
            });
            let new_second = received_at_us / 1_000_000 != live.received_at_us / 1_000_000;
            if let (true, Some(number)) = (new_second, number) {
                if live.sparkline.len() >= SPARKLINE_VALUES {
                    live.sparkline.pop_front();
                }
                #[expect(clippy::cast_possible_truncation, reason = "a sparkline is drawn 44 pixels high")]
                live.sparkline.push_back(number as f32);
            }
            live.outcome.clone_from(&reading.outcome);
            live.received_at_us = received_at_us;
            live.quality = reading.quality;
            live.flags = reading.flags;
            live.score = reading.score;
            live.note.clear();
            if let Some(note) = &reading.note {
                let unit = registry.key(reading.point).map(|key| key.unit.clone()).unwrap_or_default();
                live.note = note.words(number, &unit);
            }
        }
    });
}
