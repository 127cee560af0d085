//! Ingest: takes what sources read, recognises redeliveries, judges, commits, and only then hands receipts back.
//!
//! One task, one loop. While one commit is on its way to the disk, the next one is collected; more than that is never
//! held: the channel from the sources fills up and they wait.

mod audit;
mod forward;
mod pace;
mod pending;
mod places;
mod redelivery;
mod telling;
mod watch;

pub use pace::CommitPace;
pub use pending::{PENDING_READINGS_MAX, PENDING_RECORDS_MAX};
pub use places::{Feed, Receipts};
pub use redelivery::WINDOW_PAIRS;

use crate::backoff::Backoff;
use crate::block::columns::Encoder;
use crate::block::records::{self, DeadLetter, Record, RecordBody, Severity};
use crate::buffer::{Books, Buffer, BufferError, Commit, Committed};
use crate::clock::{Clock, Tick};
use crate::fault;
use crate::judge::{Judge, Rules};
use crate::reading::{Flags, Sample, Sequence};
use crate::site::{PointKey, Registry};
use crate::sources::{INTAKE_MESSAGES_MAX, Intake, Message, Reject};
use crate::status::{Status, Trouble};
use pace::{Pace, Waiting};
use pending::Pending;
use places::{Place, Places};
use redelivery::Redelivery;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use telling::{health_alert, show};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_64;

/// The loop turns at least so often, which is what the watchdog watches as long as commits land.
const TURN: Duration = Duration::from_secs(1);
/// How often the judge's state is kept: what lies after it is replayed at the start, and each costs the card its size.
const SNAPSHOT_EVERY: Duration = Duration::from_mins(10);
/// First and longest wait before a commit that failed is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// The key of the trouble that more is written a day than allowed.
const BUDGET_TROUBLE: &str = "buffer/budget";

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
    /// The sources.
    pub feeds: Vec<Feed>,
    /// The books as they are on disk: they go on from there.
    pub books: Books,
    /// How long a reading may wait for the disk.
    pub pace: CommitPace,
    /// Version of the configuration.
    pub config_version: u32,
}

/// Another configuration, for an ingest loop that runs.
#[derive(Debug)]
pub struct Change {
    /// The rules, with the version of the configuration.
    pub rules: Rules,
    /// How long a reading may wait for the disk.
    pub pace: CommitPace,
    /// Sources that are new, or start anew.
    pub feeds: Vec<Feed>,
    /// Slots of sources that are configured no longer; what they brought last is still taken in.
    pub gone: Vec<u16>,
    /// Answered once all that comes from now on is taken in by it.
    pub done: oneshot::Sender<()>,
}

/// The ingest loop.
#[derive(Debug)]
pub struct Ingest {
    options: IngestOptions,
    encoder: Encoder,
    places: Places,
    pending: Pending,
    pace: Pace,
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
    pub async fn open(mut options: IngestOptions, snapshot: Option<(Sequence, Vec<u8>)>) -> Result<Self, BufferError> {
        let encoder = Encoder::new().map_err(|error| BufferError::Disk(error.to_string()))?;
        let mut places = Places::new(std::mem::take(&mut options.books.sources));
        for feed in options.feeds.drain(..) {
            places.admit(feed);
        }
        let (pending, pace) = (Pending::default(), Pace::new(options.pace));
        let mut ingest = Self { options, encoder, places, pending, pace, last_snapshot: Instant::now() };
        ingest.audit_start();
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

    /// Runs until every sender of `intakes` is gone; then commits what is left and keeps the judge's state. Ends early if
    /// the buffer is gone: nothing can be stored any more, and what is not acknowledged comes again after a new start.
    pub async fn run(mut self, mut intakes: mpsc::Receiver<Intake>, mut changes: mpsc::Receiver<Change>) {
        let mut flight: Option<Flight> = None;
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        let mut first_waiting: Option<Instant> = None;
        let mut open = true;
        let mut damages = watch::Damages::new(self.options.buffer.damages());
        while open || flight.is_some() || !self.pending.is_empty() {
            let under_way = flight.as_ref().map(|flight| flight.departure.elapsed());
            let now_us = self.options.clock.tick().wall_us;
            watch::turn(&self.options.status, under_way, now_us);
            damages.tell(&self.options.status, now_us);
            let now = Instant::now();
            // While a commit is on its way, nothing can depart, however due it is.
            let due = if flight.is_some() { now + TURN } else { self.due(now, first_waiting, open) };
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
                Some(change) = changes.recv() => self.change(change),
                intake = intakes.recv(), if open && !self.pending.is_full() => match intake {
                    Some(intake) => self.take(intake),
                    None => open = false,
                },
                () = tokio::time::sleep_until(due) => {}
            }
            // What waits stays bounded also while the disk hangs: further events wait in their own place.
            if !self.pending.is_full() {
                self.take_events();
            }
            self.places.hand_receipts_back();
            if !self.pending.is_empty() {
                first_waiting.get_or_insert_with(Instant::now);
            }
            let now = Instant::now();
            if flight.is_none() && !self.pending.is_empty() && now >= self.due(now, first_waiting, open) {
                let mut departing = std::mem::take(&mut self.pending);
                departing.books = self.places.books();
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
    fn due(&self, now: Instant, first_waiting: Option<Instant>, open: bool) -> Instant {
        // Receipts of redeliveries alone: what they stand for is on disk already.
        if !open || self.pending.is_full() || (first_waiting.is_some() && !self.pending.has_content()) {
            return now;
        }
        let judged = &self.pending.judged;
        let is_urgent = self.pending.is_at_risk || !judged.records.is_empty();
        let waiting = Waiting { since: first_waiting, readings: judged.readings.len(), is_urgent };
        self.pace.due(&waiting).map_or(now + TURN, |due| due.min(now + TURN))
    }

    /// Goes on by another configuration: state of points that it does not touch stays.
    fn change(&mut self, change: Change) {
        let Change { rules, pace, feeds, gone, done } = change;
        let tick = self.options.clock.tick();
        self.options.config_version = rules.config_version;
        self.pace.set_options(pace);
        self.pending.tick(tick, self.options.clock.boot_id, rules.config_version);
        self.pending.judged.records.extend(self.options.judge.set_rules(rules, &tick));
        for slot in gone {
            self.places.dismiss(slot);
            self.pace.forget(slot);
        }
        for feed in feeds {
            self.pace.forget(feed.slot);
            self.places.admit(feed);
        }
        // Whoever asked may have gone.
        done.send(()).ok();
    }

    /// Takes one intake in: redeliveries out, samples to the judge, rejects to the dead letters, receipts to wait.
    fn take(&mut self, intake: Intake) {
        let tick = self.options.clock.tick();
        self.pending.tick(tick, self.options.clock.boot_id, self.options.config_version);
        self.learn_points();
        let Intake { source, start, messages, mut samples, missed, .. } = intake;
        let Some(place) = self.places.get_mut(source) else { return };
        let judged = &mut self.pending.judged;
        let mut receipts = Vec::with_capacity(messages.len().min(INTAKE_MESSAGES_MAX));
        let mut keep = Vec::with_capacity(samples.len());
        let mut position = 0;
        for message in messages {
            if message.begins_anew {
                place.redelivery = Redelivery::new();
            }
            let count = message.samples as usize;
            // A broker keeps what is not acknowledged; a microcontroller, too, but in little memory and with a clock of its own.
            let is_kept_by_sender = message.receipt.is_some() && place.status.kind == "mqtt";
            self.pending.is_at_risk |= !is_kept_by_sender && (count > 0 || !message.rejects.is_empty());
            let own = samples.get(position..position + count).unwrap_or_default();
            position += count;
            let mut duplicates = 0;
            for sample in own {
                let known = message.redelivered && is_known(&place.redelivery, &self.options.registry, sample);
                duplicates += u64::from(known);
                keep.push(!known);
                if !known {
                    place.redelivery.remember(sample.point, sample.message_hash);
                }
            }
            place.books.duplicate += duplicates;
            place.books.received += count as u64 + message.rejects.len() as u64;
            reject(place, &message, &tick, self.options.config_version, &mut judged.records);
            receipts.extend(message.receipt);
        }
        let mut kept = keep.into_iter();
        samples.retain(|_| kept.next().unwrap_or(false));
        let records_before = judged.records.len();
        let before = judged.dead_lettered;
        self.options.judge.step(&samples, &tick, judged);
        let dead_lettered = judged.dead_lettered - before;
        place.books.rejected += dead_lettered;
        place.books.accepted += samples.len() as u64 - dead_lettered;
        remember_letters(&mut place.redelivery, judged.records.iter().skip(records_before));
        for missed in missed {
            let id = xxh3_64(format!("{}/{}/{}", missed.source, missed.position, tick.mono_us).as_bytes());
            judged.records.push(Record { id, time_us: tick.wall_us, body: RecordBody::Missed(missed) });
        }
        self.pace.took(source, receipts.len(), Instant::now());
        if !receipts.is_empty() {
            self.pending.receipts.push((source, start, receipts));
        }
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
        let books = Some(carries.books.clone());
        let encoded = carries.encode(&mut self.encoder).map_err(|error| BufferError::Disk(error.to_string()));
        let buffer = self.options.buffer.clone();
        let registry = self.options.registry.clone();
        let end = Box::pin(async move {
            tokio::time::sleep_until(departure).await;
            let last_point = points.last().map(|(id, _)| *id);
            let result = match encoded {
                Ok(drafts) => {
                    fault::point("ingest.before_commit");
                    buffer.commit(Commit { points, drafts, snapshot, books }).await
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
            BufferError::Full { what: "the buffer", .. } => {
                "Check why nothing is taken upstream, or raise buffer.disk_max"
            }
            BufferError::Full { .. } => "Check why nothing is taken upstream, or raise its disk_max in [buffer.limits]",
            BufferError::DiskFull(_) => "Free some space on the disk",
            _ => "Check the card and the file system",
        };
        // The trouble is logged once; this happens again each second.
        tracing::debug!(%error, "a commit failed; readings wait and are tried again");
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
        self.places.show(&landed.books);
        self.audit(&landed.books);
        let flagged = landed.judged.readings.iter().filter(|reading| reading.flags != Flags::default()).count();
        status.flagged.add(flagged as u64);
        show(status, &self.options.registry, &self.options.clock.tick(), &landed.judged.readings);
        let mut handed_back: BTreeMap<u16, usize> = BTreeMap::new();
        for (source, start, receipts) in landed.receipts {
            *handed_back.entry(source).or_default() += receipts.len();
            self.places.owe(source, start, receipts);
        }
        self.places.hand_receipts_back();
        let now = Instant::now();
        for (source, receipts) in handed_back {
            self.pace.handed_back(source, receipts, now);
        }
        self.keep_budget(now);
    }

    /// Follows the budget of bytes written a day; where it cannot be kept, a person is told, and nothing is lost for it.
    fn keep_budget(&mut self, now: Instant) {
        let wear = self.options.buffer.usage().borrow().wear;
        let now_us = self.options.clock.tick().wall_us;
        if self.pace.keep_budget(wear.recent_bytes_per_day, now) {
            return self.options.status.clear(BUDGET_TROUBLE, now_us);
        }
        let written = wear.recent_bytes_per_day.unwrap_or_default() >> 20;
        let trouble = Trouble {
            subject: "buffer".to_owned(),
            what: format!("At this rate {written} MiB are written a day, more than buffer.daily_write_max"),
            advice: "Nothing is lost for it. Let fewer readings come, raise buffer.commit_interval_max_ms (250 ms at most count where \
                     a sink has order = \"live_first\") or raise the limit"
                .to_owned(),
            severity: Severity::Warning,
            since_us: now_us,
        };
        self.options.status.raise(BUDGET_TROUBLE, trouble);
    }

    async fn keep_snapshot(&self) {
        let (snapshot, books) = (Some(self.options.judge.snapshot()), Some(self.places.books()));
        let commit = Commit { snapshot, books, ..Commit::default() };
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

/// Makes dead letters of what a message has that could not be decoded.
fn reject(place: &mut Place, message: &Message, tick: &Tick, config_version: u32, records: &mut Vec<Record>) {
    let known = |reject: &Reject| place.redelivery.recognises_letter(&reject.position, message.hash);
    let count = message.rejects.len() as u64;
    if message.redelivered && message.rejects.iter().any(known) {
        place.books.duplicate += count;
        return;
    }
    let first = records.len();
    for (index, reject) in message.rejects.iter().enumerate() {
        let letter = DeadLetter {
            source: place.status.name.clone(),
            position: reject.position.clone(),
            error: reject.error.clone(),
            rule: reject.rule.to_owned(),
            config_version,
            raw: Vec::new(),
            part: 0,
            parts: 1,
            raw_bytes: 0,
            raw_sha256: None,
            message_hash: message.hash,
        };
        let moment = if message.hash == 0 { tick.mono_us } else { u64::from(message.hash) };
        let id = xxh3_64(format!("{}/{}/{moment}/{index}", letter.source, reject.position).as_bytes());
        records.extend(records::dead_letters(id, tick.wall_us, &letter, &reject.raw));
    }
    remember_letters(&mut place.redelivery, records.iter().skip(first));
    place.books.rejected += count;
}

/// Remembers the dead letters among records.
fn remember_letters<'a>(redelivery: &mut Redelivery, records: impl Iterator<Item = &'a Record>) {
    for record in records {
        if let RecordBody::DeadLetter(letter) = &record.body {
            redelivery.remember_letter(letter);
        }
    }
}
