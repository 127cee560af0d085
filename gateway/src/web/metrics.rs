//! `/metrics`: the same numbers for Prometheus, in the `OpenMetrics` text format. docs/metrics.md lists them.

use super::live::Shared;
use super::pages;
use super::snapshot::{LaneView, SinkView, Snapshot, SourceView};
use super::visit::Visit;
use crate::status::State as Health;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// The content type of the `OpenMetrics` text format 1.0.0.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Kernel ticks in a second of `/proc/self/stat`: `USER_HZ` is 100 on every architecture that Linux runs this on (proc(5)).
const TICKS_PER_SECOND: f64 = 100.0;

/// Every state, for one series each.
const STATES: [Health; 5] = [Health::Starting, Health::Live, Health::Degraded, Health::Down, Health::Paused];

type Labels = Vec<(&'static str, String)>;

/// One counter of a source.
type Pick = fn(&SourceView) -> u64;

/// `GET /metrics`.
pub(super) async fn page(State(shared): State<Arc<Shared>>, visit: Visit) -> Response {
    let registry = collect(&shared.snapshot());
    let mut body = String::new();
    if let Err(error) = encode(&mut body, &registry) {
        tracing::error!(%error, "the metrics could not be written");
        return pages::text(StatusCode::INTERNAL_SERVER_ERROR, &visit, "text/plain", "no metrics\n".to_owned());
    }
    pages::text(StatusCode::OK, &visit, OPEN_METRICS, body)
}

/// A fresh registry from one snapshot: numbers that belong together are of one moment.
fn collect(snapshot: &Snapshot) -> Registry {
    let mut all = Registry::default();
    let forebay = all.sub_registry_with_prefix("forebay");
    gateway(forebay, snapshot);
    sources(forebay, &snapshot.sources);
    sinks(forebay, &snapshot.sinks);
    books(forebay, snapshot);
    buffer(forebay, snapshot);
    process(all.sub_registry_with_prefix("process"));
    all
}

fn counters(to: &mut Registry, name: &str, help: &str, series: impl IntoIterator<Item = (Labels, u64)>) {
    let family = Family::<Labels, Counter>::default();
    for (labels, value) in series {
        family.get_or_create(&labels).inc_by(value);
    }
    to.register(name, help, family);
}

fn gauges(
    to: &mut Registry,
    name: &str,
    help: &str,
    unit: Option<Unit>,
    series: impl IntoIterator<Item = (Labels, f64)>,
) {
    let family = Family::<Labels, Gauge<f64, AtomicU64>>::default();
    for (labels, value) in series {
        family.get_or_create(&labels).set(value);
    }
    match unit {
        Some(unit) => to.register_with_unit(name, help, unit, family),
        None => to.register(name, help, family),
    }
}

fn one<T>(value: T) -> [(Labels, T); 1] {
    [(Labels::new(), value)]
}

fn seconds(us: i64) -> f64 {
    us as f64 / 1e6
}

fn gateway(to: &mut Registry, snapshot: &Snapshot) {
    let labels = vec![("version", snapshot.version.clone()), ("gateway", snapshot.gateway.clone())];
    to.register("build", "Version of the program and id of the gateway", Info::new(labels));
    let uptime = seconds(snapshot.now_us - snapshot.started_us);
    gauges(to, "uptime", "Time since the start", Some(Unit::Seconds), one(uptime));
    let ready = if snapshot.ready { 1.0 } else { 0.0 };
    gauges(to, "ready", "1 once the buffer is open and the sources are started", None, one(ready));
    gauges(to, "points", "Points known", None, one(snapshot.points as f64));
    let troubles = ["info", "warning", "error"].map(|severity| {
        let count = snapshot.troubles.iter().filter(|trouble| trouble.severity == severity).count();
        (vec![("severity", severity.to_owned())], count as f64)
    });
    gauges(to, "troubles", "Things that need a person now", None, troubles);
    counters(to, "ingest_turns", "Turns of the ingest loop", one(snapshot.ingest_turns));
    counters(to, "flagged_readings", "Readings that a check flagged", one(snapshot.flagged));
    counters(to, "commits", "Commits made durable", one(snapshot.commits));
    let last_s = snapshot.last_commit_us as f64 / 1e6;
    gauges(to, "commit_last_duration", "Duration of the last commit", Some(Unit::Seconds), one(last_s));
}

fn states<'a>(
    subject: &'static str,
    of: impl Iterator<Item = (&'a str, &'static str, &'static str)>,
) -> Vec<(Labels, f64)> {
    let series = |(name, kind, now): (&str, &'static str, &'static str)| {
        let (name, kind) = (name.to_owned(), kind.to_owned());
        STATES.map(|state| {
            let labels = vec![(subject, name.clone()), ("kind", kind.clone()), ("state", state.name().to_owned())];
            (labels, if state.name() == now { 1.0 } else { 0.0 })
        })
    };
    of.flat_map(series).collect()
}

fn sources(to: &mut Registry, sources: &[SourceView]) {
    let labels = |source: &SourceView| vec![("source", source.name.clone()), ("kind", source.kind.to_owned())];
    let table: [(&str, &str, Pick); 7] = [
        ("source_received_samples", "Samples received, duplicates and rejects included", |source| source.received),
        ("source_accepted_samples", "Samples accepted into the buffer", |source| source.accepted),
        ("source_duplicate_samples", "Samples recognised as delivered before", |source| source.duplicate),
        ("source_rejected_samples", "What became a dead letter instead of a sample", |source| source.rejected),
        ("source_missed", "Polls, frames or bytes that never came in", |source| source.missed),
        ("source_errors", "Transport errors", |source| source.errors),
        ("source_reconnects", "Connections made after the first", |source| source.reconnects),
    ];
    for (name, help, pick) in table {
        counters(to, name, help, sources.iter().map(|source| (labels(source), pick(source))));
    }
    let now = sources.iter().map(|source| (source.name.as_str(), source.kind, source.health.state));
    gauges(to, "source_state", "1 for the state that the source is in", None, states("source", now));
}

fn sinks(to: &mut Registry, sinks: &[SinkView]) {
    let lanes = |pick: fn(&LaneView) -> u64| {
        sinks.iter().flat_map(move |sink| {
            let labels = |stream: &str| {
                vec![("sink", sink.name.clone()), ("kind", sink.kind.to_owned()), ("stream", stream.to_owned())]
            };
            sink.streams.iter().map(move |(stream, lane)| (labels(stream), pick(lane)))
        })
    };
    counters(to, "sink_accepted_records", "Records accepted since the sink began", lanes(|lane| lane.accepted));
    counters(to, "sink_delivered_records", "Records delivered", lanes(|lane| lane.delivered));
    counters(to, "sink_filtered_records", "Records that the sink was not to have", lanes(|lane| lane.filtered));
    counters(to, "sink_refused_records", "Records that the sink refused", lanes(|lane| lane.refused));
    counters(to, "sink_lost_records", "Records lost before delivery: gaps", lanes(|lane| lane.gaps));
    let backlog = lanes(|lane| lane.undelivered).map(|(labels, count)| (labels, count as f64));
    gauges(to, "sink_backlog_records", "Records undelivered", None, backlog);
    let history = lanes(|lane| lane.history).map(|(labels, count)| (labels, count as f64));
    gauges(to, "sink_history_records", "Records undelivered that follow newer ones as history", None, history);
    let oldest = sinks.iter().flat_map(|sink| {
        let labels = |stream: &str| {
            vec![("sink", sink.name.clone()), ("kind", sink.kind.to_owned()), ("stream", stream.to_owned())]
        };
        let waiting = sink.streams.iter();
        waiting.filter_map(move |(stream, lane)| Some((labels(stream), lane.oldest_us? as f64 / 1e6)))
    });
    let help = "When the oldest undelivered record was taken, in seconds since 1970; absent if nothing waits";
    gauges(to, "sink_oldest_undelivered_timestamp", help, Some(Unit::Seconds), oldest);
    let labels = |sink: &SinkView| vec![("sink", sink.name.clone()), ("kind", sink.kind.to_owned())];
    counters(to, "sink_attempts", "Attempts made", sinks.iter().map(|sink| (labels(sink), sink.attempts)));
    let sent = sinks.iter().map(|sink| (labels(sink), sink.sent_bytes));
    counters(to, "sink_sent_bytes", "Bytes sent, as far as the sink knows it", sent);
    let left = sinks.iter().filter_map(|sink| Some((labels(sink), sink.budget_left_bytes? as f64)));
    gauges(to, "sink_budget_left", "Bytes left of the day's budget of the link", Some(Unit::Bytes), left);
    let retries = sinks.iter().map(|sink| (labels(sink), sink.retries));
    counters(to, "sink_retries", "Attempts that had to be made again", retries);
    let last = sinks.iter().map(|sink| (labels(sink), sink.last_attempt_us as f64 / 1e6));
    gauges(to, "sink_last_attempt_duration", "Duration of the last attempt", Some(Unit::Seconds), last);
    let now = sinks.iter().map(|sink| (sink.name.as_str(), sink.kind, sink.health.state));
    gauges(to, "sink_state", "1 for the state that the sink is in", None, states("sink", now));
}

/// Whether all that came in, and all that is to go out, is accounted for.
fn books(to: &mut Registry, snapshot: &Snapshot) {
    let flag = |closes: bool| if closes { 1.0 } else { 0.0 };
    let label = |of: &str, name: &str, stream: &str| {
        [("of", of), ("name", name), ("stream", stream)].map(|(label, value)| (label, value.to_owned())).to_vec()
    };
    let ingest = [(label("ingest", "", ""), flag(snapshot.ingest_books_close))];
    let lanes = snapshot.sinks.iter().flat_map(|sink| {
        let lanes = sink.streams.iter();
        lanes.map(move |(stream, lane)| (label("sink", &sink.name, stream), flag(lane.closes)))
    });
    let help = "1 if every record is accounted for; 0 is a defect";
    gauges(to, "books_closed", help, None, ingest.into_iter().chain(lanes));
    let recovered = snapshot.recovered.iter().map(|(stream, count)| (vec![("stream", (*stream).to_owned())], *count));
    let help = "Records found durable at a start though no commit of theirs had finished";
    counters(to, "recovered_records", help, recovered);
}

fn buffer(to: &mut Registry, snapshot: &Snapshot) {
    let buffer = &snapshot.buffer;
    for (name, help, bytes) in [
        ("buffer_used", "What the buffer occupies on disk", buffer.disk_bytes),
        ("buffer_limit", "What the buffer may occupy", buffer.disk_bytes_max),
        ("buffer_quarantine", "What was set aside because it could not be read", buffer.quarantine_bytes),
        ("buffer_disk_free", "What is free on the buffer's file system", buffer.free_bytes),
        ("buffer_disk_free_min", "What stays free of it for other programs", buffer.free_bytes_min),
    ] {
        gauges(to, name, help, Some(Unit::Bytes), one(bytes as f64));
    }
    let part = |name: &str| vec![("part", name.to_owned())];
    let used = buffer.parts.iter().map(|(name, [used, _])| (part(name), *used as f64));
    gauges(to, "buffer_part_used", "What a part of the buffer occupies", Some(Unit::Bytes), used);
    let limit = buffer.parts.iter().map(|(name, [_, limit])| (part(name), *limit as f64));
    gauges(to, "buffer_part_limit", "What a part of the buffer may occupy", Some(Unit::Bytes), limit);
    for (name, help, bytes) in [
        ("written_per_reading", "What the gateway writes for each reading", buffer.written_bytes_per_reading),
        ("written_per_day", "What the gateway writes a day at the rate of the last hour", buffer.written_bytes_per_day),
        ("device_written_per_day", "What the card is given to write a day", buffer.device_written_bytes_per_day),
    ] {
        gauges(to, name, help, Some(Unit::Bytes), bytes.map(|bytes| (Labels::new(), bytes as f64)));
    }
    counters(to, "written_bytes", "What the gateway wrote", buffer.written_bytes.map(|bytes| (Labels::new(), bytes)));
    let life = buffer.card_days.map(|days| (Labels::new(), days as f64 * 86_400.0));
    gauges(to, "card_life", "How long the card lasts from new at this rate", Some(Unit::Seconds), life);
    gauges(to, "buffer_chunks", "Chunks on disk", None, one(buffer.chunks as f64));
    let streams = || buffer.streams.iter().map(|(stream, ends)| (vec![("stream", (*stream).to_owned())], ends));
    let ever = streams().map(|(labels, ends)| (labels, ends.next));
    counters(to, "stream_records", "Records made durable since the data directory began", ever);
    let held = streams().map(|(labels, ends)| (labels, ends.next.saturating_sub(ends.oldest) as f64));
    gauges(to, "stream_held_records", "Records still on disk, delivered ones included", None, held);
}

fn process(to: &mut Registry) {
    let memory = std::fs::read_to_string("/proc/self/status").ok().and_then(|text| resident_bytes(&text));
    let help = "Memory that the process holds";
    gauges(to, "resident_memory", help, Some(Unit::Bytes), memory.map(|bytes| (Labels::new(), bytes)));
    let cpu = std::fs::read_to_string("/proc/self/stat").ok().and_then(|text| cpu_seconds(&text));
    let family = Family::<Labels, Counter<f64, AtomicU64>>::default();
    family.get_or_create(&Labels::new()).inc_by(cpu.unwrap_or(0.0));
    to.register_with_unit("cpu", "Processor time used, user and system", Unit::Seconds, family);
}

/// `VmRSS` of `/proc/self/status`, in KiB there (proc(5)).
fn resident_bytes(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1_024.0)
}

/// Fields 14 and 15 of `/proc/self/stat`; the name in field 2 may hold spaces and ends with the last parenthesis (proc(5)).
fn cpu_seconds(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_are_understood() {
        assert_eq!(resident_bytes("Name:\tx\nVmRSS:\t    1024 kB\n"), Some(1_048_576.0));
        let stat = "7 (a (b) c) S 1 7 7 0 -1 4194560 10 0 0 0 150 50 0 0 20";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        assert_eq!(cpu_seconds("nonsense"), None);
    }
}
