//! `forebay buffer repair`: brings back what is sound, and says what was set aside, lost and told upstream.

use super::ConfigOption;
use super::shelf::{Shelf, ask};
use super::verify::{self, Findings};
use crate::app;
use crate::buffer::{Buffer, ChunkName, Report};
use crate::clock::Clock;
use crate::config::Config;
use crate::control::Request;
use crate::reading::{SequenceRange, Stream};
use anyhow::{Result, bail};
use clap::Args;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

#[derive(Debug, Args)]
pub(in crate::cli) struct RepairArguments {
    #[command(flatten)]
    config: ConfigOption,
}

pub(super) async fn run(arguments: RepairArguments) -> Result<()> {
    let config = arguments.config.load()?.config;
    let mut shelf = Shelf::open(&config).await?;
    let before = shelf.report().await?;
    let found = verify::verify(&mut shelf).await?;
    let mut out = std::io::stdout().lock();
    if shelf.is_live() && found.fault_count == 0 {
        verify::print(&found, &mut out)?;
        return Ok(());
    }
    let aside = match shelf {
        Shelf::Live(live) => repair_live(live.data_dir(), &found.damaged).await?,
        Shelf::Stopped(stopped) => {
            // Its lock must be free for who opens the buffer in earnest.
            drop(stopped);
            repair_stopped(&config, &found.damaged).await?
        }
    };
    let mut shelf = Shelf::open(&config).await?;
    let after = shelf.report().await?;
    tell(&found, &aside, &before, &after, &mut out)?;
    let left = verify::verify(&mut shelf).await?;
    verify::print(&left, &mut out)?;
    if left.fault_count > 0 {
        bail!("something is still wrong; please report it with what `forebay buffer verify` says");
    }
    Ok(())
}

/// The gateway salvages what was found; what is beside the chunks waits for its next start.
async fn repair_live(data_dir: &Path, damaged: &BTreeMap<ChunkName, String>) -> Result<Vec<String>> {
    let mut aside = Vec::new();
    for (chunk, reason) in damaged {
        let request = Request::Salvage { chunk: chunk.clone(), reason: reason.clone() };
        let more: Vec<String> = ask(data_dir, &request).await?;
        aside.extend(more);
    }
    Ok(aside)
}

/// Opening the buffer repairs what a start would; then what was found is salvaged.
async fn repair_stopped(config: &Config, damaged: &BTreeMap<ChunkName, String>) -> Result<Vec<String>> {
    let (buffer, opened) = Buffer::open(app::store_options(config)?, Clock::system()).await?;
    let mut aside = opened.quarantined;
    for (chunk, reason) in damaged {
        // Opening may have salvaged it already, under the same name.
        if !aside.iter().any(|line| line.contains(&chunk.to_string())) {
            aside.extend(buffer.salvage_chunk(chunk, reason).await?);
        }
    }
    buffer.close().await;
    Ok(aside)
}

fn tell(
    found: &Findings,
    aside: &[String],
    before: &Report,
    after: &Report,
    out: &mut impl Write,
) -> std::io::Result<()> {
    for fault in &found.faults {
        writeln!(out, "found: {fault}")?;
    }
    for line in aside {
        writeln!(out, "set aside: {line}")?;
    }
    if before.epoch != after.epoch {
        writeln!(
            out,
            "the ledger was lost with the sinks' cursors: a new epoch {} begins, the old buffer is kept whole in quarantine",
            after.epoch
        )?;
        return Ok(());
    }
    let is_new = |hole: &&(Stream, SequenceRange)| !before.holes.contains(hole);
    let mut lost = 0;
    for (stream, range) in after.holes.iter().filter(is_new) {
        writeln!(out, "lost: {} records of {stream}, {} to {}", range.count(), range.first, range.last)?;
        lost += range.count();
    }
    let gaps = |report: &Report| report.ends.get(Stream::Gaps.index()).map_or(0, |ends| ends.next);
    let told = gaps(after).saturating_sub(gaps(before));
    if lost == 0 {
        writeln!(out, "lost: nothing")?;
    } else if told == 0 {
        writeln!(out, "every sink had them already, so nobody needs to be told")?;
    } else {
        let plural = if told == 1 { "" } else { "s" };
        writeln!(out, "told: {told} gap record{plural}, delivered to the sinks like readings")?;
    }
    Ok(())
}
