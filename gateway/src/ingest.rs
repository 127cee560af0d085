//! Ingest: takes what sources read, recognises redeliveries, judges, commits, and only then hands receipts back.
//!
//! One task, one loop. While one commit is on its way to the disk, the next one is collected; more than that is never
//! held: the channel from the sources fills up and they wait.

mod pending;
mod redelivery;

pub use pending::{PENDING_READINGS_MAX, PENDING_RECORDS_MAX};
pub use redelivery::WINDOW_PAIRS;

use crate::backoff::Backoff;
use crate::block::columns::{Encoder, JudgedReading};
use crate::block::records::{self, Alert, DeadLetter, Record, RecordBody, Severity};
use crate::buffer::{Buffer, BufferError, Commit, Committed};
use crate::clock::{Clock, Tick};
use crate::judge::Judge;
use crate::reading::{Flags, Sequence, Stream, Value};
use crate::site::Registry;
use crate::sources::{INTAKE_MESSAGES_MAX, Intake, Message, Receipt, Reject};
use crate::status::{HealthEvent, PointLive, SPARKLINE_VALUES, Status, Trouble};
use pending::Pending;
use redelivery::{NO_POINT, Redelivery};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_64;

/// With receipts outstanding and nothing new for so long, the sender's window is full: it waits for us, not we for it.
const STALL: Duration = Duration::from_millis(2);
/// The loop turns at least so often, which is what the watchdog watches.
const TURN: Duration = Duration::from_secs(1);
/// How often the judge's state is kept: what lies after it is replayed at the start, and each costs the card its size.
const SNAPSHOT_EVERY: Duration = Duration::from_mins(10);
/// First and longest wait before a commit that failed is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// Blocks read at a time while state is brought forward.
const REPLAY_BLOCKS: usize = 16;

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
    redelivery: Redelivery,
    pending: Pending,
    last_snapshot: Instant,
}

/// A commit on its way to the disk, and what becomes of its end.
type Flight = Pin<Box<dyn Future<Output = (Result<Committed, BufferError>, Duration)> + Send>>;

impl Ingest {
    /// Brings judge and redelivery window forward over what is on disk, and is ready to run.
    ///
    /// # Errors
    /// If the buffer cannot be read at all.
    pub async fn open(options: IngestOptions, snapshot: Option<(Sequence, Vec<u8>)>) -> Result<Self, BufferError> {
        let encoder = Encoder::new().map_err(|error| BufferError::Disk(error.to_string()))?;
        let pending = Pending::new(options.receipts.len());
        let mut ingest =
            Self { options, encoder, redelivery: Redelivery::default(), pending, last_snapshot: Instant::now() };
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

    async fn bring_forward(&mut self, seen_below: Sequence) -> Result<(), BufferError> {
        let ends = *self.options.buffer.ends().borrow();
        let window = WINDOW_PAIRS as u64;
        let letters = ends.get(Stream::DeadLetters.index()).copied().unwrap_or_default();
        let mut from = letters.next.saturating_sub(window).max(letters.oldest);
        while from < letters.next {
            let blocks = self.options.buffer.blocks(Stream::DeadLetters, from, REPLAY_BLOCKS).await?;
            let Some(last) = blocks.last() else { break };
            from = last.range.last + 1;
            for record in blocks.iter().filter_map(|block| block.records().ok()).flatten() {
                if let RecordBody::DeadLetter(letter) = record.record.body {
                    self.redelivery.remember(NO_POINT, letter.message_hash);
                }
            }
        }
        let readings = ends.get(Stream::Readings.index()).copied().unwrap_or_default();
        // Without a snapshot the detectors start with what the window holds: older readings have little to say.
        let window_from = readings.next.saturating_sub(window);
        let mut from = if seen_below == 0 { window_from } else { window_from.min(seen_below) }.max(readings.oldest);
        while from < readings.next {
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
                    self.redelivery.remember(row.reading.point, row.reading.message_hash);
                    if row.sequence >= seen_below {
                        self.options.judge.replay(&row.reading, &tick);
                    }
                }
            }
        }
        Ok(())
    }

    /// Runs until every sender of `intakes` is gone; then commits what is left and keeps the judge's state.
    pub async fn run(mut self, mut intakes: mpsc::Receiver<Intake>) {
        let mut flight: Option<(Flight, Pending)> = None;
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        let mut first_waiting: Option<Instant> = None;
        let mut last_intake = Instant::now();
        let mut open = true;
        while open || flight.is_some() || !self.pending.is_empty() {
            self.options.status.ingest_turns.add(1);
            let now = Instant::now();
            // While a commit is on its way, nothing can depart, however due it is.
            let due = if flight.is_some() { now + TURN } else { self.due(now, first_waiting, last_intake, open) };
            tokio::select! {
                biased;
                (result, took) = landing(&mut flight), if flight.is_some() => {
                    let Some((_, landed)) = flight.take() else { continue };
                    match result {
                        Ok(_) => {
                            backoff.succeed();
                            self.settle(landed, took);
                        }
                        Err(error) => flight = Some((self.again(&error, &landed, backoff.next_wait()), landed)),
                    }
                }
                intake = intakes.recv(), if open && !self.pending.is_full() => match intake {
                    Some(intake) => {
                        last_intake = Instant::now();
                        first_waiting.get_or_insert(last_intake);
                        self.take(intake);
                    }
                    None => open = false,
                },
                () = tokio::time::sleep_until(due) => {}
            }
            self.take_events();
            if self.pending.has_content() {
                first_waiting.get_or_insert_with(Instant::now);
            }
            let now = Instant::now();
            if flight.is_none() && !self.pending.is_empty() && now >= self.due(now, first_waiting, last_intake, open) {
                let full = Pending::new(self.options.receipts.len());
                let departing = std::mem::replace(&mut self.pending, full);
                first_waiting = None;
                if departing.has_content() {
                    let snapshot = self.due_snapshot();
                    flight = Some((self.depart(&departing, Duration::ZERO, snapshot), departing));
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
        let Some(status) = self.options.status.sources.get(usize::from(source)).cloned() else { return };
        let mut receipts = Vec::with_capacity(messages.len().min(INTAKE_MESSAGES_MAX));
        let mut keep = Vec::with_capacity(samples.len());
        let mut position = 0;
        for message in messages {
            let count = message.samples as usize;
            let own = samples.get(position..position + count).unwrap_or_default();
            position += count;
            let mut duplicates = 0;
            for sample in own {
                let known = message.redelivered && self.redelivery.recognises(sample.point, sample.message_hash);
                duplicates += u64::from(known);
                keep.push(!known);
                if !known {
                    self.redelivery.remember(sample.point, sample.message_hash);
                }
            }
            status.duplicate.add(duplicates);
            status.received.add(count as u64 + message.rejects.len() as u64);
            let (fresh, repeated) = self.reject(&status.name, &message, &tick);
            status.rejected.add(fresh);
            status.duplicate.add(repeated);
            receipts.extend(message.receipt);
        }
        let mut kept = keep.into_iter();
        samples.retain(|_| kept.next().unwrap_or(false));
        let before = self.pending.judged.dead_lettered;
        self.options.judge.step(&samples, &tick, &mut self.pending.judged);
        let dead_lettered = self.pending.judged.dead_lettered - before;
        status.rejected.add(dead_lettered);
        if let Some(accepted) = self.pending.accepted.get_mut(usize::from(source)) {
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
    fn reject(&mut self, source: &str, message: &Message, tick: &Tick) -> (u64, u64) {
        let count = message.rejects.len() as u64;
        if count > 0 && message.redelivered && self.redelivery.recognises(NO_POINT, message.hash) {
            return (0, count);
        }
        for (index, reject) in message.rejects.iter().enumerate() {
            self.redelivery.remember(NO_POINT, message.hash);
            self.dead_letter(source, reject, message.hash, index, tick);
        }
        (count, 0)
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
    fn depart(&mut self, pending: &Pending, wait: Duration, snapshot: Option<Vec<u8>>) -> Flight {
        let points = self.options.registry.unsaved();
        let encoded = pending.encode(&mut self.encoder).map_err(|error| BufferError::Disk(error.to_string()));
        let buffer = self.options.buffer.clone();
        let registry = self.options.registry.clone();
        Box::pin(async move {
            tokio::time::sleep(wait).await;
            let started = Instant::now();
            let last_point = points.last().map(|(id, _)| *id);
            let result = match encoded {
                Ok(drafts) => buffer.commit(Commit { points, drafts, snapshot }).await,
                Err(error) => Err(error),
            };
            if let (Ok(_), Some(last)) = (&result, last_point) {
                registry.mark_saved(last);
            }
            (result, started.elapsed())
        })
    }

    /// The commit failed: nothing is acknowledged, nothing is dropped; it is tried again.
    fn again(&mut self, error: &BufferError, landed: &Pending, wait: Duration) -> Flight {
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
        self.depart(landed, wait, None)
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
            let Some(sender) = self.options.receipts.get(usize::from(source)) else { continue };
            if let Err(error) = sender.try_send(receipts) {
                // The sender redelivers what was not acknowledged, and it is recognised then.
                tracing::warn!(source, %error, "receipts could not be handed back");
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
async fn landing(flight: &mut Option<(Flight, Pending)>) -> (Result<Committed, BufferError>, Duration) {
    match flight {
        Some((flight, _)) => flight.await,
        None => std::future::pending().await,
    }
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
