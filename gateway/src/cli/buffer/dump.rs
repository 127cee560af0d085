//! `forebay buffer dump`: records or blocks, a line each, for a person to read.

use super::blocks::{Blocks, Step};
use super::shelf::Shelf;
use super::{ConfigOption, stream};
use crate::block::records::{NumberedRecord, RecordBody};
use crate::block::{Block, BlockError};
use crate::cli::when;
use crate::reading::{Sequence, SequenceRange, Stream, Value};
use crate::site::PointKey;
use anyhow::{Result, bail};
use clap::Args;
use std::fmt::Write as _;
use std::io::{BufWriter, Write};

/// Records of a block are told in a line each; of a long text so many characters.
const TEXT_CHARS_MAX: usize = 200;

#[derive(Debug, Args)]
pub(in crate::cli) struct DumpArguments {
    #[command(flatten)]
    config: ConfigOption,
    /// Which stream: readings, alerts, gaps, dead-letters.
    #[arg(long, default_value = "readings")]
    stream: String,
    /// The first sequence [default: the oldest].
    #[arg(long, value_name = "SEQUENCE")]
    from: Option<Sequence>,
    /// The last sequence [default: the newest].
    #[arg(long, value_name = "SEQUENCE")]
    to: Option<Sequence>,
    /// Only so many of the newest.
    #[arg(long, value_name = "COUNT", conflicts_with_all = ["from", "to"])]
    last: Option<u64>,
    /// A line for each block instead of each record.
    #[arg(long)]
    blocks: bool,
}

pub(super) async fn run(arguments: DumpArguments) -> Result<()> {
    let config = arguments.config.load()?.config;
    let stream = stream(&arguments.stream)?;
    let mut shelf = Shelf::open(&config).await?;
    let report = shelf.report().await?;
    let points = shelf.points().await?;
    let next = report.ends.get(stream.index()).map_or(0, |ends| ends.next);
    let first = arguments.last.map_or(arguments.from.unwrap_or(0), |last| next.saturating_sub(last));
    let range = SequenceRange { first, last: arguments.to.unwrap_or(Sequence::MAX) };
    if range.first > range.last {
        bail!("--from {} is after --to {}", range.first, range.last);
    }
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut faults = 0;
    let mut blocks = Blocks::of(&report, stream, range, |_| true);
    while let Some(step) = blocks.next(&mut shelf).await? {
        let told = match step {
            Step::Gone(_) => Ok(()),
            Step::Bad { chunk, what } => Err(format!("{chunk}: {what}")),
            Step::Sound(block) if arguments.blocks => {
                block_line(&block, &mut out)?;
                Ok(())
            }
            Step::Sound(block) => match record_lines(&block, range, &points) {
                Ok(lines) => {
                    out.write_all(lines.as_bytes())?;
                    Ok(())
                }
                Err(error) => Err(format!("{}/{}: {error}", block.meta.stream, block.range)),
            },
        };
        if let Err(what) = told {
            faults += 1;
            writeln!(out, "wrong: {what}")?;
        }
    }
    out.flush()?;
    if faults > 0 {
        bail!("not all of it could be read; `forebay buffer verify` says what is wrong");
    }
    Ok(())
}

fn block_line(block: &Block, out: &mut impl Write) -> std::io::Result<()> {
    let meta = &block.meta;
    writeln!(
        out,
        "{}/{}  {} to {}  {} records, {} bytes, {} unpacked, configuration {}, clock {}",
        meta.stream,
        block.range,
        when::show(meta.first_time_us),
        when::show(meta.last_time_us),
        meta.count,
        block.bytes().len(),
        meta.unpacked_bytes,
        meta.config_version,
        meta.time_quality.name(),
    )
}

fn record_lines(block: &Block, range: SequenceRange, points: &[PointKey]) -> Result<String, BlockError> {
    let is_wanted = |sequence: Sequence| (range.first..=range.last).contains(&sequence);
    let mut lines = String::new();
    if block.meta.stream == Stream::Readings {
        for row in block.readings()?.iter().filter(|row| is_wanted(row.sequence)) {
            reading_line(row, points, &mut lines);
        }
    } else {
        for record in block.records()?.iter().filter(|record| is_wanted(record.sequence)) {
            record_line(record, &mut lines);
        }
    }
    Ok(lines)
}

fn reading_line(row: &crate::block::columns::ReadingRow, points: &[PointKey], lines: &mut String) {
    let reading = &row.reading;
    let (device, point, unit) = match points.get(reading.point.0 as usize) {
        Some(key) => (&*key.device, &*key.point, &*key.unit),
        None => ("?", "?", ""),
    };
    let value = match &reading.outcome {
        Ok(Value::Number(number)) => number.to_string(),
        Ok(Value::Integer(integer)) => integer.to_string(),
        Ok(Value::Boolean(boolean)) => boolean.to_string(),
        Ok(Value::Text(text)) => format!("{:?}", short(text)),
        Err(absence) => format!("none ({})", absence.name()),
    };
    let flags: Vec<&str> = reading.flags.names().collect();
    let gap = if unit.is_empty() { "" } else { " " };
    let quality = reading.quality.name();
    let time = when::show(row.received_at_us);
    // Writing to a string cannot fail.
    writeln!(lines, "{} {time} {device}/{point} {value}{gap}{unit} {quality} {}", row.sequence, flags.join(",")).ok();
}

fn record_line(numbered: &NumberedRecord, lines: &mut String) {
    let record = &numbered.record;
    let what = match &record.body {
        RecordBody::Alert(alert) => {
            let state = if alert.raised { "raised" } else { "over" };
            format!(
                "alert {} {state} {} ({}): {}",
                alert.severity.name(),
                alert.subject,
                alert.rule,
                short(&alert.message)
            )
        }
        RecordBody::DeadLetter(letter) => format!(
            "dead letter {} {} ({}): {}; part {} of {}, {} bytes",
            letter.source,
            letter.position,
            letter.rule,
            short(&letter.error),
            letter.part + 1,
            letter.parts,
            letter.raw_bytes
        ),
        RecordBody::Gap(gap) => {
            let sinks: Vec<String> = gap.sinks.iter().map(|(sink, range)| format!("{sink} {range}")).collect();
            format!(
                "gap {} {} to {} ({}), {} to {}; lost for {}",
                gap.stream,
                gap.range.first,
                gap.range.last,
                gap.reason.name(),
                when::show_second(gap.first_time_us),
                when::show_second(gap.last_time_us),
                sinks.join(", ")
            )
        }
        RecordBody::Missed(missed) => {
            format!("missed {} at {} {} ({})", missed.count, missed.source, missed.position, missed.reason.name())
        }
    };
    // Writing to a string cannot fail.
    writeln!(lines, "{} {} {what}", numbered.sequence, when::show(record.time_us)).ok();
}

/// A line stays a line: without control characters, and not too long.
fn short(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(TEXT_CHARS_MAX).collect()
}
