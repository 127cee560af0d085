//! Everything the gateway says about itself, read at one moment: what the overview shows and `/api/v1/status` answers.

use super::WebState;
use super::rates::Meter;
use crate::block::records::Severity;
use crate::buffer::Usage;
use crate::clock::Tick;
use crate::reading::{NoData, PointId, Stream, UnixMicros};
use crate::status::{HasHealth, Health, LaneBooks, PointLive, SinkStatus, SourceBooks, SourceStatus, Trouble};
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// The trouble of a buffer that takes nothing.
const NOT_STORED: &str = "buffer/commit";

/// The counters that rates are made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::web) struct Books {
    /// Readings accepted by the buffer since the epoch began.
    pub(in crate::web) next: u64,
    /// Samples accepted, by source.
    pub(in crate::web) accepted: HashMap<String, u64>,
    /// Samples rejected, by source.
    pub(in crate::web) rejected: HashMap<String, u64>,
    /// The books of the readings, by sink.
    pub(in crate::web) sinks: HashMap<String, LaneBooks>,
}

/// Messages a second that may be unreadable before somebody is told: ten a minute.
const REJECTED_PER_SECOND_MAX: f64 = 10.0 / 60.0;

impl Books {
    /// The counters as they stand.
    pub(in crate::web) fn read(state: &WebState) -> Self {
        let (sources, sinks) = (state.status.sources(), state.status.sinks());
        Self {
            next: state.ends.borrow()[Stream::Readings.index()].next,
            accepted: sources.iter().map(|source| (source.name.clone(), source.books().accepted)).collect(),
            rejected: sources.iter().map(|source| (source.name.clone(), source.books().rejected)).collect(),
            sinks: sinks.iter().map(|sink| (sink.name.clone(), sink.lane(Stream::Readings))).collect(),
        }
    }
}

/// The gateway at one moment.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::web) struct Snapshot {
    /// The gateway's id.
    pub(in crate::web) gateway: String,
    /// The program's version.
    pub(in crate::web) version: String,
    /// Whether the buffer is open and the sources are started.
    pub(in crate::web) ready: bool,
    /// This moment, by the gateway's wall clock.
    pub(in crate::web) now_us: UnixMicros,
    /// How far the wall clock can be trusted.
    pub(in crate::web) time_quality: &'static str,
    /// When the gateway started.
    pub(in crate::web) started_us: UnixMicros,
    /// What needs a person, the gravest first.
    pub(in crate::web) troubles: Vec<TroubleView>,
    /// The sources, in the order of the configuration.
    pub(in crate::web) sources: Vec<SourceView>,
    /// The buffer.
    pub(in crate::web) buffer: BufferView,
    /// The sinks, in the order of the configuration.
    pub(in crate::web) sinks: Vec<SinkView>,
    /// Whether the books of ingest close.
    pub(in crate::web) ingest_books_close: bool,
    /// Records found durable at a start though no commit of theirs had finished, by stream.
    pub(in crate::web) recovered: BTreeMap<&'static str, u64>,
    /// Readings that a check flagged, since the start.
    pub(in crate::web) flagged: u64,
    /// Points known.
    pub(in crate::web) points: u64,
    /// Turns of the ingest loop.
    pub(in crate::web) ingest_turns: u64,
    /// Commits made since the start.
    pub(in crate::web) commits: u64,
    /// Duration of the last commit.
    pub(in crate::web) last_commit_us: u64,
}

/// A trouble.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::web) struct TroubleView {
    /// Whose trouble.
    pub(in crate::web) subject: String,
    /// What is wrong.
    pub(in crate::web) what: String,
    /// What to do.
    pub(in crate::web) advice: String,
    /// `info`, `warning`, `error`.
    pub(in crate::web) severity: &'static str,
    /// Since when.
    pub(in crate::web) since_us: UnixMicros,
}

/// State, since when, and the last error.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::web) struct HealthView {
    /// `starting`, `live`, `degraded`, `down`, `paused`.
    pub(in crate::web) state: &'static str,
    /// Since when.
    pub(in crate::web) since_us: UnixMicros,
    /// The last error, kept after it is over.
    pub(in crate::web) last_error: Option<String>,
    /// When it was.
    pub(in crate::web) last_error_us: Option<UnixMicros>,
}

/// A source.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::web) struct SourceView {
    /// Its name.
    pub(in crate::web) name: String,
    /// `mqtt`, `modbus`, `serial`.
    pub(in crate::web) kind: &'static str,
    /// Where it reads from.
    pub(in crate::web) address: String,
    /// Its health.
    #[serde(flatten)]
    pub(in crate::web) health: HealthView,
    /// Readings accepted per second, over the last ten seconds.
    pub(in crate::web) accepted_per_second: Option<f64>,
    /// Messages rejected per second, over the last ten seconds.
    #[serde(skip)]
    pub(in crate::web) rejected_per_second: Option<f64>,
    /// Points that its devices refuse to give, of how many, with the first of them and why.
    #[serde(skip)]
    pub(in crate::web) refused: Option<RefusedPoints>,
    /// Samples received.
    pub(in crate::web) received: u64,
    /// Samples accepted.
    pub(in crate::web) accepted: u64,
    /// Samples recognised as delivered before.
    pub(in crate::web) duplicate: u64,
    /// What became a dead letter instead.
    pub(in crate::web) rejected: u64,
    /// What never came in.
    pub(in crate::web) missed: u64,
    /// Transport errors.
    pub(in crate::web) errors: u64,
    /// Connections made after the first.
    pub(in crate::web) reconnects: u64,
}

/// Points that a device answers for without a value: a wrong register, mostly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::web) struct RefusedPoints {
    /// How many.
    pub(in crate::web) count: usize,
    /// Of how many points of the source.
    pub(in crate::web) of: usize,
    /// The first of them: device and quantity.
    pub(in crate::web) first: (Arc<str>, Arc<str>),
    /// Why it has none.
    pub(in crate::web) why: NoData,
}

/// The buffer.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::web) struct BufferView {
    /// Whether what comes in is stored.
    pub(in crate::web) is_storing: bool,
    /// Bytes that it occupies.
    pub(in crate::web) disk_bytes: u64,
    /// Bytes that it may occupy.
    pub(in crate::web) disk_bytes_max: u64,
    /// Bytes set aside because they could not be read.
    pub(in crate::web) quarantine_bytes: u64,
    /// Bytes free on its file system.
    pub(in crate::web) free_bytes: u64,
    pub(in crate::web) free_bytes_min: u64,
    /// What each part occupies and may occupy, by name.
    pub(in crate::web) parts: BTreeMap<&'static str, [u64; 2]>,
    /// Bytes written by this process since its start, for each reading and a day; nothing where the kernel does not say.
    pub(in crate::web) written_bytes: Option<u64>,
    pub(in crate::web) written_bytes_per_reading: Option<u64>,
    pub(in crate::web) written_bytes_per_day: Option<u64>,
    /// Bytes that the block device is given to write a day, by all programs.
    pub(in crate::web) device_written_bytes_per_day: Option<u64>,
    pub(in crate::web) card_days: Option<u64>,
    /// Chunks on disk.
    pub(in crate::web) chunks: u64,
    /// Time of the oldest record held.
    pub(in crate::web) oldest_time_us: Option<UnixMicros>,
    /// When the oldest reading that still waits was accepted, as far as this is known.
    pub(in crate::web) oldest_waiting_us: Option<UnixMicros>,
    /// Where each stream begins and ends.
    pub(in crate::web) streams: BTreeMap<&'static str, EndsView>,
}

/// Where a stream begins and ends.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::web) struct EndsView {
    /// The oldest sequence still held.
    pub(in crate::web) oldest: u64,
    /// The sequence that the next record will get: so many were ever accepted.
    pub(in crate::web) next: u64,
}

/// A sink.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::web) struct SinkView {
    /// Its name.
    pub(in crate::web) name: String,
    /// `kafka`, `http`.
    pub(in crate::web) kind: &'static str,
    /// Where it delivers to.
    pub(in crate::web) address: String,
    /// Its health.
    #[serde(flatten)]
    pub(in crate::web) health: HealthView,
    /// Readings delivered per second, over the last ten seconds.
    pub(in crate::web) delivered_per_second: Option<f64>,
    /// How fast the waiting readings grow (or, below zero, shrink), per second.
    pub(in crate::web) backlog_growth_per_second: Option<f64>,
    /// Readings lost before delivery per second: they shrink what waits, too.
    pub(in crate::web) lost_per_second: Option<f64>,
    /// Attempts made.
    pub(in crate::web) attempts: u64,
    /// Attempts that had to be made again.
    pub(in crate::web) retries: u64,
    /// Duration of the last attempt.
    pub(in crate::web) last_attempt_us: u64,
    /// Bytes sent since the start.
    pub(in crate::web) sent_bytes: u64,
    /// Bytes left of the day's budget of the link, if it has one.
    pub(in crate::web) budget_left_bytes: Option<u64>,
    /// The books of each stream.
    pub(in crate::web) streams: BTreeMap<&'static str, LaneView>,
}

/// The books of one sink in one stream: accepted is the sum of the five that follow.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub(in crate::web) struct LaneView {
    /// Whether the books close.
    pub(in crate::web) closes: bool,
    /// Records accepted since the sink began.
    pub(in crate::web) accepted: u64,
    /// Records delivered.
    pub(in crate::web) delivered: u64,
    /// Records that the sink was not to have.
    pub(in crate::web) filtered: u64,
    /// Records undelivered.
    pub(in crate::web) undelivered: u64,
    /// Records that the sink refused.
    pub(in crate::web) refused: u64,
    /// Records lost before delivery.
    pub(in crate::web) gaps: u64,
    /// Those undelivered that follow newer ones as history.
    pub(in crate::web) history: u64,
    /// When the oldest undelivered record was taken, as far as it was read.
    pub(in crate::web) oldest_us: Option<UnixMicros>,
}

impl SinkView {
    /// The books of the readings.
    pub(in crate::web) fn readings(&self) -> &LaneView {
        static NONE: LaneView = LaneView {
            closes: true,
            accepted: 0,
            delivered: 0,
            filtered: 0,
            undelivered: 0,
            refused: 0,
            gaps: 0,
            history: 0,
            oldest_us: None,
        };
        self.streams.get(Stream::Readings.name()).unwrap_or(&NONE)
    }
}

impl Snapshot {
    /// Reads everything.
    pub(in crate::web) fn take(state: &WebState, meter: &Meter) -> Self {
        let status = &state.status;
        let tick = state.clock.tick();
        let mut refused = refused(state);
        Self {
            gateway: status.gateway.clone(),
            version: state.version.to_owned(),
            ready: status.is_ready(),
            now_us: tick.wall_us,
            time_quality: tick.quality.name(),
            started_us: status.started_us,
            troubles: status.troubles().into_iter().map(TroubleView::from).collect(),
            sources: status
                .sources()
                .iter()
                .map(|source| source_view(source, meter, refused.remove(&source.name)))
                .collect(),
            buffer: buffer_view(state, meter, &tick),
            sinks: status.sinks().iter().map(|sink| sink_view(sink, meter)).collect(),
            ingest_books_close: status.ingest_books_open.get() == 0,
            recovered: Stream::ALL.into_iter().map(|stream| (stream.name(), status.recovered(stream))).collect(),
            flagged: status.flagged.get(),
            points: state.registry.len() as u64,
            ingest_turns: status.ingest_turns.get(),
            commits: status.commits.get(),
            last_commit_us: status.last_commit_us.get(),
        }
    }
}

/// The name of a severity in JSON and metrics.
pub(in crate::web) fn severity_name(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Error => "error",
    }
}

impl From<Trouble> for TroubleView {
    fn from(trouble: Trouble) -> Self {
        Self {
            subject: trouble.subject,
            what: trouble.what,
            advice: trouble.advice,
            severity: severity_name(trouble.severity),
            since_us: trouble.since_us,
        }
    }
}

impl From<Health> for HealthView {
    fn from(health: Health) -> Self {
        Self {
            state: health.state.name(),
            since_us: health.since_us,
            last_error_us: health.last_error.is_some().then_some(health.last_error_us),
            last_error: health.last_error,
        }
    }
}

impl SourceView {
    /// Whether messages that cannot be read come now, more than one in six seconds: no blip.
    pub(in crate::web) fn is_rejecting(&self) -> bool {
        self.rejected_per_second.is_some_and(|rate| rate > REJECTED_PER_SECOND_MAX)
    }
}

/// The points that are refused, by source. A point that is not answered for is the trouble of its unit, and told as one.
fn refused(state: &WebState) -> HashMap<String, RefusedPoints> {
    let refused: Vec<(PointId, NoData)> = state.status.read_points(|points| {
        let why = |point: &PointLive| match point.outcome {
            Err(why @ NoData::Exception(_)) => Some(why),
            _ => None,
        };
        let numbered = points.iter().enumerate();
        let found = numbered.filter_map(|(index, point)| Some((u32::try_from(index).ok()?, why(point.as_ref()?)?)));
        found.map(|(index, why)| (PointId(index), why)).collect()
    });
    let mut by_source: HashMap<String, RefusedPoints> = HashMap::new();
    for (id, why) in refused {
        let Some(key) = state.registry.key(id) else { continue };
        let first = || RefusedPoints { count: 0, of: 0, first: (key.device.clone(), key.point.clone()), why };
        by_source.entry(key.source.to_string()).or_insert_with(first).count += 1;
    }
    // Counted only where something is refused: a gateway may know 100 000 points.
    if !by_source.is_empty() {
        for key in state.registry.since(0) {
            if let Some(of_source) = by_source.get_mut(&*key.source) {
                of_source.of += 1;
            }
        }
    }
    by_source
}

fn source_view(source: &SourceStatus, meter: &Meter, refused: Option<RefusedPoints>) -> SourceView {
    let SourceBooks { received, accepted, duplicate, rejected, missed } = source.books();
    SourceView {
        name: source.name.clone(),
        kind: source.kind,
        address: source.address.clone(),
        health: source.health().into(),
        accepted_per_second: meter.per_second(|books| books.accepted.get(&source.name).copied()),
        rejected_per_second: meter.per_second(|books| books.rejected.get(&source.name).copied()),
        refused,
        received,
        accepted,
        duplicate,
        rejected,
        missed,
        errors: source.errors.get(),
        reconnects: source.reconnects.get(),
    }
}

fn sink_view(sink: &SinkStatus, meter: &Meter) -> SinkView {
    let lane = |stream: Stream| {
        let books = sink.lane(stream);
        let LaneBooks { accepted, delivered, filtered, refused, gaps, undelivered, history, oldest_us } = books;
        LaneView {
            closes: books.closes(),
            accepted,
            delivered,
            filtered,
            undelivered,
            refused,
            gaps,
            history,
            oldest_us,
        }
    };
    let per_second = |pick: fn(&LaneBooks) -> u64| meter.per_second(|books| books.sinks.get(&sink.name).map(pick));
    SinkView {
        name: sink.name.clone(),
        kind: sink.kind,
        address: sink.address.clone(),
        health: sink.health().into(),
        delivered_per_second: per_second(|lane| lane.delivered),
        backlog_growth_per_second: per_second(|lane| lane.undelivered),
        lost_per_second: per_second(|lane| lane.gaps),
        attempts: sink.attempts.get(),
        retries: sink.retries.get(),
        last_attempt_us: sink.last_attempt_us.get(),
        sent_bytes: sink.sent_bytes.get(),
        budget_left_bytes: Some(sink.budget_left_bytes.get()).filter(|left| *left != u64::MAX),
        streams: Stream::ALL.into_iter().map(|stream| (stream.name(), lane(stream))).collect(),
    }
}

fn buffer_view(state: &WebState, meter: &Meter, tick: &Tick) -> BufferView {
    let usage: Usage = *state.usage.borrow();
    let ends = *state.ends.borrow();
    let [oldest, next] = [ends[Stream::Readings.index()].oldest, ends[Stream::Readings.index()].next];
    let waiting = state.status.backlog(Stream::Readings);
    let oldest_waiting_us = match next.saturating_sub(waiting) {
        _ if waiting == 0 => None,
        // Nothing delivered is kept: the oldest that is held is the oldest that waits.
        first if first <= oldest => usage.oldest_time_us,
        first => meter.accepted_at(first).map(|mono_us| tick.wall_of(mono_us)),
    };
    BufferView {
        is_storing: !state.status.is_troubled(NOT_STORED),
        disk_bytes: usage.disk_bytes,
        disk_bytes_max: usage.disk_bytes_max,
        quarantine_bytes: usage.quarantine_bytes,
        free_bytes: usage.free_bytes,
        free_bytes_min: usage.free_bytes_min,
        parts: usage.families.iter().map(|part| (part.name, [part.disk_bytes, part.disk_bytes_max])).collect(),
        written_bytes: usage.wear.written_bytes,
        written_bytes_per_reading: usage.wear.bytes_per_reading,
        written_bytes_per_day: usage.wear.bytes_per_day,
        device_written_bytes_per_day: usage.wear.device_bytes_per_day,
        card_days: usage.wear.card_days,
        chunks: usage.chunks,
        oldest_time_us: usage.oldest_time_us,
        oldest_waiting_us,
        streams: Stream::ALL
            .into_iter()
            .map(|stream| {
                let end = ends[stream.index()];
                (stream.name(), EndsView { oldest: end.oldest, next: end.next })
            })
            .collect(),
    }
}
