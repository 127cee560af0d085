//! `forebay buffer`: what the buffer holds, whether it is sound, what is in it, and what to do if it is damaged.
//!
//! On a running gateway all of it goes over the control socket in small steps; on a stopped one the tools look at copies, under the
//! buffer's lock. Only `repair` changes anything.

mod blocks;
mod dump;
mod export;
mod repair;
mod shelf;
mod stats;
mod verify;

use super::CONFIG_FILE;
use crate::config::{self, Loaded};
use crate::reading::Stream;
use anyhow::{Result, anyhow};
use clap::{Args, Subcommand};
use std::io::{self, ErrorKind};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(super) enum BufferCommand {
    /// Shows what the buffer holds, and whether the books of every sink close.
    Stats(stats::StatsArguments),
    /// Reads and checks every block, and changes nothing; the exit status is 1 if anything is wrong.
    Verify(verify::VerifyArguments),
    /// Prints records for a person to read.
    Dump(dump::DumpArguments),
    /// Writes records as NDJSON or CSV.
    Export(export::ExportArguments),
    /// Brings back what is sound of damaged files, and says what was lost and set aside.
    Repair(repair::RepairArguments),
}

/// Whose buffer is meant.
#[derive(Debug, Args)]
pub(super) struct ConfigOption {
    /// The gateway's configuration.
    #[arg(long, value_name = "FILE", default_value = CONFIG_FILE)]
    config: PathBuf,
}

impl ConfigOption {
    pub(super) fn load(&self) -> Result<Loaded> {
        Ok(config::load(&self.config)?)
    }
}

/// Does what is asked; an answer that nobody reads to its end (`| head`) is no failure.
pub(super) fn execute(command: BufferCommand) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        match command {
            BufferCommand::Stats(arguments) => stats::run(arguments).await,
            BufferCommand::Verify(arguments) => verify::run(arguments).await,
            BufferCommand::Dump(arguments) => dump::run(arguments).await,
            BufferCommand::Export(arguments) => export::run(arguments).await,
            BufferCommand::Repair(arguments) => repair::run(arguments).await,
        }
    });
    match result {
        Err(error) if error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == ErrorKind::BrokenPipe) => Ok(()),
        result => result,
    }
}

/// Reads the name of a stream.
pub(super) fn stream(text: &str) -> Result<Stream> {
    Stream::ALL.into_iter().find(|stream| stream.name() == text).ok_or_else(|| {
        let names = Stream::ALL.map(Stream::name).join(", ");
        anyhow!("{text:?} is no stream; use one of {names}")
    })
}
