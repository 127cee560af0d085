//! `forebay buffer stats`: streams, books, chunks, as a table or as JSON.

use super::ConfigOption;
use super::shelf::Shelf;
use crate::buffer::Report;
use crate::cli::when;
use crate::config::Config;
use crate::reading::{Stream, UnixMicros};
use anyhow::Result;
use clap::Args;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::Write;

#[derive(Debug, Args)]
pub(in crate::cli) struct StatsArguments {
    #[command(flatten)]
    config: ConfigOption,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// All of it, as `--json` prints it.
#[derive(Serialize)]
struct Stats {
    running: bool,
    epoch: String,
    disk_bytes: u64,
    disk_bytes_max: u64,
    free_bytes: u64,
    points: u64,
    /// Blocks that wait in the ledger to be appended.
    promised_blocks: u64,
    streams: Vec<StreamStats>,
    books: Vec<Books>,
    families: BTreeMap<String, Family>,
    quarantine: Vec<crate::buffer::SetAside>,
    holes: Vec<Hole>,
    problems: Vec<String>,
}

#[derive(Serialize)]
struct StreamStats {
    stream: &'static str,
    oldest: u64,
    next: u64,
    first_time: Option<String>,
    last_time: Option<String>,
}

#[derive(Serialize)]
struct Books {
    sink: String,
    stream: &'static str,
    configured: bool,
    since: u64,
    accepted: u64,
    delivered: u64,
    filtered: u64,
    undelivered: u64,
    refused: u64,
    gaps: u64,
    closes: bool,
}

#[derive(Default, Serialize)]
struct Family {
    chunks: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct Hole {
    stream: &'static str,
    first: u64,
    last: u64,
}

pub(super) async fn run(arguments: StatsArguments) -> Result<()> {
    let config = arguments.config.load()?.config;
    let shelf = Shelf::open(&config).await?;
    let stats = stats(&shelf.report().await?, &config, shelf.is_live());
    let mut out = std::io::stdout().lock();
    if arguments.json {
        serde_json::to_writer_pretty(&mut out, &stats).map_err(std::io::Error::from)?;
        writeln!(out)?;
    } else {
        print(&stats, &mut out)?;
    }
    Ok(())
}

fn stats(report: &Report, config: &Config, running: bool) -> Stats {
    let ends = |stream: Stream| report.ends.get(stream.index()).copied().unwrap_or_default();
    let time = |time_us: Option<UnixMicros>| time_us.filter(|time_us| *time_us != 0).map(when::show_second);
    let streams = Stream::ALL.into_iter().filter(|stream| ends(*stream).next > 0).map(|stream| {
        let extents = || report.chunks.iter().flat_map(|chunk| &chunk.extents).filter(move |e| e.stream == stream);
        StreamStats {
            stream: stream.name(),
            oldest: ends(stream).oldest,
            next: ends(stream).next,
            first_time: time(extents().map(|extent| extent.first_time_us).min()),
            last_time: time(extents().map(|extent| extent.last_time_us).max()),
        }
    });
    let books = report.lanes.iter().map(|report| {
        let (lane, next) = (&report.lane, ends(report.stream).next);
        Books {
            sink: report.sink.clone(),
            stream: report.stream.name(),
            configured: config.sink_names().any(|name| name == report.sink),
            since: lane.since,
            accepted: next.saturating_sub(lane.since),
            delivered: lane.delivered,
            filtered: lane.filtered,
            undelivered: lane.undelivered(next),
            refused: lane.refused,
            gaps: lane.gaps,
            closes: lane.closes(next),
        }
    });
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    for chunk in &report.chunks {
        let family = families.entry(chunk.name.family.clone()).or_default();
        family.chunks += 1;
        family.bytes += chunk.bytes;
    }
    let hole = |(stream, range): &(Stream, crate::reading::SequenceRange)| Hole {
        stream: stream.name(),
        first: range.first,
        last: range.last,
    };
    Stats {
        running,
        epoch: report.epoch.to_string(),
        disk_bytes: report.disk_bytes,
        disk_bytes_max: config.buffer.disk_max.0,
        free_bytes: report.free_bytes,
        points: report.points,
        promised_blocks: report.promised_blocks,
        streams: streams.collect(),
        books: books.collect(),
        families,
        quarantine: report.quarantine.clone(),
        holes: report.holes.iter().map(hole).collect(),
        problems: report.problems.clone(),
    }
}

fn print(stats: &Stats, out: &mut impl Write) -> std::io::Result<()> {
    let running = if stats.running { "the gateway is running" } else { "the gateway is stopped" };
    writeln!(out, "epoch {}, {} points, {running}", stats.epoch, stats.points)?;
    let (used, max, free) = (size(stats.disk_bytes), size(stats.disk_bytes_max), size(stats.free_bytes));
    writeln!(out, "disk  {used} of {max}, {free} free on the file system")?;
    for (name, family) in &stats.families {
        let plural = if family.chunks == 1 { "" } else { "s" };
        writeln!(out, "      {name}: {} chunk{plural}, {}", family.chunks, size(family.bytes))?;
    }
    for problem in &stats.problems {
        writeln!(out, "wrong: {problem}")?;
    }
    writeln!(out)?;
    let mut rows = vec![row(["stream", "oldest", "next", "records", "from", "to"])];
    for stream in &stats.streams {
        let time = |time: &Option<String>| time.clone().unwrap_or_else(|| "-".to_owned());
        rows.push(vec![
            stream.stream.to_owned(),
            stream.oldest.to_string(),
            stream.next.to_string(),
            (stream.next - stream.oldest.min(stream.next)).to_string(),
            time(&stream.first_time),
            time(&stream.last_time),
        ]);
    }
    table(&rows, 1, out)?;
    writeln!(out)?;
    let head = ["sink", "stream", "accepted", "delivered", "filtered", "undelivered", "refused", "gaps", "books"];
    let mut rows = vec![row(head)];
    for books in &stats.books {
        let sink = if books.configured { books.sink.clone() } else { format!("{} (not configured)", books.sink) };
        let numbers = [books.accepted, books.delivered, books.filtered, books.undelivered, books.refused, books.gaps];
        let closes = if books.closes { "close" } else { "DO NOT CLOSE" };
        rows.push(
            [sink, books.stream.to_owned()]
                .into_iter()
                .chain(numbers.map(|number| number.to_string()))
                .chain([closes.to_owned()])
                .collect(),
        );
    }
    table(&rows, 2, out)?;
    for hole in &stats.holes {
        writeln!(out, "lost to damage: {} {} to {}", hole.stream, hole.first, hole.last)?;
    }
    let bytes: u64 = stats.quarantine.iter().map(|aside| aside.bytes).sum();
    if !stats.quarantine.is_empty() {
        writeln!(out, "\nset aside in quarantine, {}:", size(bytes))?;
        for aside in &stats.quarantine {
            writeln!(out, "  {} ({})", aside.name, size(aside.bytes))?;
        }
    }
    Ok(())
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

/// Columns as wide as their widest cell; the first `left` and all that hold words flush left, numbers flush right.
fn table(rows: &[Vec<String>], left: usize, out: &mut impl Write) -> std::io::Result<()> {
    let columns = rows.first().map_or(0, Vec::len);
    let widest = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(widest).collect();
    for row in rows {
        let mut line = String::new();
        for ((column, cell), width) in row.iter().enumerate().zip(&widths) {
            let is_number = cell.bytes().all(|byte| byte.is_ascii_digit());
            let is_head_of_numbers = rows
                .get(1)
                .and_then(|row| row.get(column))
                .is_some_and(|cell| cell.bytes().all(|byte| byte.is_ascii_digit()));
            let padded = if column >= left && (is_number || is_head_of_numbers) {
                format!("{cell:>width$}")
            } else {
                format!("{cell:<width$}")
            };
            line.push_str(&padded);
            line.push_str("  ");
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// Bytes as people read them.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let unit = UNITS.iter().find(|(_, unit)| bytes >= *unit);
    unit.map_or_else(|| format!("{bytes} B"), |(name, unit)| format!("{:.1} {name}", bytes as f64 / *unit as f64))
}
