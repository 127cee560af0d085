//! `forebay buffer verify`: reads every block, checks it, and checks that what is missing is accounted for. Changes nothing.

use super::ConfigOption;
use super::blocks::{Blocks, Step};
use super::shelf::{LookError, Shelf};
use super::stats::size;
use crate::block::records::{GapReason, RecordBody};
use crate::block::{Block, BlockError, Layout};
use crate::buffer::{ChunkName, Report};
use crate::reading::{Sequence, SequenceRange, Stream};
use anyhow::{Result, bail};
use clap::Args;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::time::Duration;
use tokio::time::Instant;

/// Faults that are told one by one; a ruined card has as many as it has blocks.
const FAULTS_TOLD_MAX: usize = 100;

/// Longer than this, and it says how far it is.
const PROGRESS_AFTER: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
pub(in crate::cli) struct VerifyArguments {
    #[command(flatten)]
    config: ConfigOption,
}

/// What was found.
#[derive(Default)]
pub(super) struct Findings {
    pub(super) blocks: u64,
    pub(super) records: u64,
    pub(super) bytes: u64,
    /// Records that are missing, with a gap or hole on record that says so.
    pub(super) told: u64,
    /// Records that are missing and nobody says so.
    pub(super) untold: u64,
    /// What is wrong, at most [`FAULTS_TOLD_MAX`].
    pub(super) faults: Vec<String>,
    pub(super) fault_count: u64,
    /// What is wrong with which chunk: what a repair takes up.
    pub(super) damaged: BTreeMap<ChunkName, String>,
}

impl Findings {
    fn fault(&mut self, what: String) {
        self.fault_count += 1;
        if self.faults.len() < FAULTS_TOLD_MAX {
            self.faults.push(what);
        }
    }

    fn chunk_fault(&mut self, chunk: &ChunkName, what: &str) {
        self.fault(format!("{chunk}: {what}"));
        self.damaged.entry(chunk.clone()).or_insert_with(|| what.to_owned());
    }
}

pub(super) async fn run(arguments: VerifyArguments) -> Result<()> {
    let config = arguments.config.load()?.config;
    let mut shelf = Shelf::open(&config).await?;
    let findings = verify(&mut shelf).await?;
    let mut out = std::io::stdout().lock();
    print(&findings, &mut out)?;
    if findings.fault_count > 0 {
        bail!(
            "{} found; `forebay buffer repair` brings back what is sound and tells the rest upstream as a gap",
            super::super::count(usize::try_from(findings.fault_count).unwrap_or(usize::MAX), "fault")
        );
    }
    Ok(())
}

/// Prints what was found.
pub(super) fn print(findings: &Findings, out: &mut impl Write) -> Result<()> {
    for fault in &findings.faults {
        writeln!(out, "wrong: {fault}")?;
    }
    let more = findings.fault_count - findings.faults.len() as u64;
    if more > 0 {
        writeln!(out, "and {more} more")?;
    }
    let Findings { blocks, records, bytes, told, untold, .. } = findings;
    writeln!(out, "read {blocks} blocks with {records} records, {}", size(*bytes))?;
    if *told > 0 {
        writeln!(out, "{told} records are missing that the buffer knows to be lost")?;
    }
    if *untold > 0 {
        writeln!(out, "{untold} records are missing that nothing accounts for")?;
    }
    if findings.fault_count == 0 {
        writeln!(out, "all of it is sound")?;
    }
    Ok(())
}

/// Looks at everything.
///
/// # Errors
/// If the gateway goes away meanwhile, or a key is missing.
pub(super) async fn verify(shelf: &mut Shelf) -> Result<Findings> {
    let report = shelf.report().await?;
    let mut findings = Findings::default();
    for problem in &report.problems {
        findings.fault(problem.clone());
    }
    for lane in &report.lanes {
        let next = report.ends.get(lane.stream.index()).map_or(0, |ends| ends.next);
        if !lane.lane.closes(next) {
            findings.fault(format!("the books of sink {:?} for {} do not close", lane.sink, lane.stream));
        }
    }
    let mut progress = Progress::new(&report);
    let mut missing: Vec<(Stream, SequenceRange, Option<ChunkName>)> = Vec::new();
    let mut gaps: Vec<(Stream, SequenceRange)> = Vec::new();
    let mut examined: BTreeSet<ChunkName> = BTreeSet::new();
    for stream in Stream::ALL {
        let Some(ends) = report.ends.get(stream.index()).copied() else { continue };
        let mut expected = ends.oldest;
        let mut blamed: Option<ChunkName> = None;
        let all = SequenceRange { first: 0, last: Sequence::MAX };
        let mut blocks = Blocks::of(&report, stream, all, |_| true);
        while let Some(step) = blocks.next(shelf).await? {
            match step {
                Step::Gone(through) => expected = expected.max(through.saturating_add(1)),
                Step::Bad { chunk, what } => {
                    findings.chunk_fault(&chunk, &what);
                    blamed = Some(chunk);
                }
                Step::Sound(block) => {
                    let chunk = blocks.chunk_of(&report, block.range.first);
                    if let Some(chunk) = &chunk
                        && examined.insert(chunk.clone())
                    {
                        examine(shelf, &report, chunk, &mut findings).await?;
                    }
                    if block.range.first > expected {
                        let range = SequenceRange { first: expected, last: block.range.first - 1 };
                        let place = blocks.chunk_of(&report, expected);
                        missing.push((stream, range, blamed.take().or(place)));
                    }
                    expected = expected.max(block.range.last.saturating_add(1));
                    if let Err(error) = decode(&block, report.points, &mut gaps) {
                        let what = format!("the block of {stream} at {}: {error}", block.range.first);
                        match chunk {
                            Some(chunk) => findings.chunk_fault(&chunk, &what),
                            None => findings.fault(what),
                        }
                    }
                    findings.blocks += 1;
                    findings.records += block.range.count();
                    findings.bytes += block.bytes().len() as u64;
                    progress.report(findings.records);
                }
            }
        }
        if expected < ends.next {
            let range = SequenceRange { first: expected, last: ends.next - 1 };
            let place = blocks.chunk_of(&report, expected).or_else(|| last_chunk(&report, stream));
            missing.push((stream, range, blamed.or(place)));
        }
    }
    // A running gateway may have salvaged a chunk meanwhile.
    let holes = if shelf.is_live() { shelf.report().await?.holes } else { report.holes };
    gaps.extend(holes);
    for (stream, range, chunk) in missing {
        let explained = covered(stream, range, &gaps);
        findings.told += explained;
        let untold = range.count() - explained;
        findings.untold += untold;
        if untold > 0 {
            let what = format!("{untold} records of {stream} between {} and {} are missing", range.first, range.last);
            match chunk {
                Some(chunk) => findings.chunk_fault(&chunk, &what),
                None => findings.fault(what),
            }
        }
    }
    Ok(findings)
}

/// Looks at the file of a chunk as a whole: its blocks may all be readable, from a gateway's memory or in spite of a fault.
async fn examine(shelf: &mut Shelf, report: &Report, chunk: &ChunkName, findings: &mut Findings) -> Result<()> {
    let Some(chunk) = report.chunks.iter().find(|held| held.name == *chunk) else { return Ok(()) };
    match shelf.fault(chunk).await {
        Ok(None) => Ok(()),
        Ok(Some(what)) | Err(LookError::Bad(what)) => {
            findings.chunk_fault(&chunk.name, &what);
            Ok(())
        }
        Err(LookError::Fatal(error)) => Err(error),
    }
}

/// Reads a block in full; gaps are noted, since they account for what is missing.
fn decode(block: &Block, points: u64, gaps: &mut Vec<(Stream, SequenceRange)>) -> Result<(), BlockError> {
    match block.meta.layout {
        Layout::Columns => {
            let rows = block.readings()?;
            if rows.len() as u64 != block.range.count() {
                return Err(BlockError::Body("it holds another number of readings than it says"));
            }
            if rows.iter().any(|row| u64::from(row.reading.point.0) >= points) {
                return Err(BlockError::Body("it names a point that the ledger does not have"));
            }
        }
        Layout::Records => {
            for numbered in block.records()? {
                if let RecordBody::Gap(gap) = numbered.record.body
                    && gap.reason != GapReason::RefusedDeadLetter
                {
                    gaps.push((gap.stream, gap.range));
                }
            }
        }
    }
    Ok(())
}

/// How many sequences of a range some gap or hole tells of.
fn covered(stream: Stream, range: SequenceRange, gaps: &[(Stream, SequenceRange)]) -> u64 {
    let mut parts: Vec<SequenceRange> =
        gaps.iter().filter(|(of, _)| *of == stream).filter_map(|(_, gap)| gap.overlap(range)).collect();
    parts.sort_unstable();
    let (mut count, mut from) = (0, range.first);
    for part in parts {
        if part.last >= from {
            count += part.last - part.first.max(from) + 1;
            from = part.last.saturating_add(1);
        }
    }
    count
}

fn last_chunk(report: &Report, stream: Stream) -> Option<ChunkName> {
    let holds = |chunk: &&crate::buffer::ChunkReport| chunk.extents.iter().any(|extent| extent.stream == stream);
    report.chunks.iter().rev().find(holds).map(|chunk| chunk.name.clone())
}

/// Says on standard error how far it is, if it takes long.
struct Progress {
    records: u64,
    began: Instant,
    told: Instant,
}

impl Progress {
    fn new(report: &Report) -> Self {
        let records = report.ends.iter().map(|ends| ends.next.saturating_sub(ends.oldest)).sum();
        Self { records, began: Instant::now(), told: Instant::now() }
    }

    fn report(&mut self, done: u64) {
        if self.told.elapsed() < PROGRESS_AFTER {
            return;
        }
        self.told = Instant::now();
        let share = done as f64 / self.records.max(1) as f64;
        let left = self.began.elapsed().as_secs_f64() * (1.0 - share).max(0.0) / share.max(1e-9);
        // Nobody is left to be told if standard error is closed.
        writeln!(std::io::stderr(), "{done} of {} records, {:.0} %, {left:.0} s left", self.records, share * 100.0)
            .ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_several_gaps_tell_is_counted_once() {
        let range = |first, last| SequenceRange { first, last };
        let gaps = [
            (Stream::Readings, range(0, 4)),
            (Stream::Readings, range(8, 20)),
            (Stream::Readings, range(3, 9)),
            (Stream::Alerts, range(0, 100)),
        ];
        assert_eq!(covered(Stream::Readings, range(2, 30), &gaps), 19);
        assert_eq!(covered(Stream::Readings, range(21, 30), &gaps), 0);
    }
}
