//! `forebay verify-stream`: whether what arrived upstream is complete, from the records alone.

use crate::reading::Stream;
use crate::sinks::kafka;
use crate::verify::{StreamReport, Verifier};
use anyhow::{Context as _, Result};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::Instant;

/// Longest record that is read, in bytes: a dead letter of 4 KiB, escaped, and the longest text with all its tags stay far below.
const LINE_BYTES_MAX: u64 = 1024 * 1024;

/// Wrong lines that are named one by one.
const WRONG_TOLD: u64 = 5;

/// How often progress is told.
const TOLD_EVERY: Duration = Duration::from_secs(2);

#[derive(Debug, clap::Args)]
pub(super) struct VerifyStream {
    /// Files with one record a line, of all streams in any order: gaps and dead letters explain what is missing. Without
    /// any, and without --kafka, standard input.
    #[arg(value_name = "FILE", conflicts_with = "kafka")]
    files: Vec<PathBuf>,
    /// Read the topics of a Kafka cluster instead: brokers, `host:port`, separated by commas.
    #[arg(long, value_name = "BROKERS", requires = "topic_prefix")]
    kafka: Option<String>,
    /// The `topic_prefix` of the sink.
    #[arg(long, value_name = "PREFIX")]
    topic_prefix: Option<String>,
    /// The sink that delivered: only what this one lost or refused explains a missing record.
    #[arg(long, value_name = "NAME")]
    sink: Option<String>,
    /// The sink was there from the first record on: what lies before the first that arrived has to be explained, too. Without it a stream may
    /// begin anywhere, as for a sink that was added later.
    #[arg(long)]
    from_beginning: bool,
}

/// Reads everything and says what is complete; an error if anything is not.
pub(super) fn run(arguments: VerifyStream) -> Result<()> {
    let mut intake = Intake::new(arguments.sink, arguments.from_beginning);
    if let Some(brokers) = &arguments.kafka {
        let prefix = arguments.topic_prefix.unwrap_or_default();
        for stream in Stream::DELIVERED {
            let topic = format!("{prefix}.{stream}");
            let mut number = 0;
            kafka::read_topic(brokers, &topic, |record| {
                number += 1;
                intake.take(record, &topic, number);
            })?;
        }
    } else if arguments.files.is_empty() {
        intake.read(std::io::stdin().lock(), "standard input")?;
    }
    for path in &arguments.files {
        let file = File::open(path).with_context(|| format!("{} cannot be read", path.display()))?;
        intake.read(BufReader::new(file), &path.display().to_string())?;
    }
    intake.conclude()
}

struct Intake {
    verifier: Verifier,
    records: u64,
    wrong: u64,
    told: Instant,
}

impl Intake {
    fn new(sink: Option<String>, from_beginning: bool) -> Self {
        let verifier = Verifier::new(sink);
        let verifier = if from_beginning { verifier.with_beginning() } else { verifier };
        Self { verifier, records: 0, wrong: 0, told: Instant::now() }
    }

    fn read(&mut self, mut lines: impl BufRead, name: &str) -> Result<()> {
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            let read = (&mut lines).take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
            if read.with_context(|| format!("{name} cannot be read"))? == 0 {
                break;
            }
            if !line.trim_ascii().is_empty() {
                self.take(&line, name, number);
            }
        }
        Ok(())
    }

    fn take(&mut self, record: &[u8], name: &str, number: u64) {
        self.records += 1;
        if let Err(error) = self.verifier.take(record) {
            self.wrong += 1;
            if self.wrong <= WRONG_TOLD {
                // Nobody is left to be told if standard error is closed.
                writeln!(std::io::stderr(), "{name}:{number}: {error}").ok();
            }
        }
        if self.told.elapsed() >= TOLD_EVERY {
            self.told = Instant::now();
            writeln!(std::io::stderr(), "{} records read", self.records).ok();
        }
    }

    fn conclude(self) -> Result<()> {
        let mut out = std::io::stdout().lock();
        let reports = self.verifier.reports();
        for report in &reports {
            write!(out, "{}", words(report))?;
        }
        if self.verifier.replayed() > 0 {
            writeln!(out, "{} replayed records passed over: they are copies", self.verifier.replayed())?;
        }
        anyhow::ensure!(self.records > 0, "there are no records");
        anyhow::ensure!(self.wrong == 0, "{} of {} lines are no records of this format", self.wrong, self.records);
        let incomplete = reports.iter().filter(|report| !report.is_complete()).count();
        anyhow::ensure!(
            incomplete == 0,
            "{incomplete} of {} streams are not complete, once and in order",
            reports.len()
        );
        Ok(())
    }
}

/// A stream's report for a person.
fn words(report: &StreamReport) -> String {
    let StreamReport { name, records, range, repeated, reordered, lost, refused, filtered, missing, holes } = report;
    let begins_late = range.is_some_and(|range| range.first > 0);
    let range = range.map(|range| format!(", {range}")).unwrap_or_default();
    let verdict = if report.is_complete() { "complete, each once, in order" } else { "NOT COMPLETE" };
    let mut text = format!("{name}: {records} records{range}: {verdict}\n");
    let mut line = |count: u64, what: &str| {
        if count > 0 {
            // Writing into a string cannot fail.
            writeln!(text, "  {count:>10} {what}").ok();
        }
    };
    for (reason, count) in lost {
        line(*count, &format!("lost before delivery and told as a gap ({reason})"));
    }
    line(*refused, "refused, and told as dead letters");
    line(*filtered, "not for this sink (their batches are complete)");
    line(*repeated, "repeated");
    line(*reordered, "out of order");
    let first: Vec<String> = holes.iter().map(ToString::to_string).collect();
    line(
        *missing,
        &format!("MISSING without a word: {}{}", first.join(", "), if holes.len() == 10 { ", …" } else { "" }),
    );
    if begins_late {
        text.push_str("  what lies before its first record was not asked for (--from-beginning)\n");
    }
    text
}
