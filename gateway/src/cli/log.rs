//! Where log lines go: the journal with their fields under systemd, otherwise standard error.

use crate::logs::LogRing;
use anyhow::{Context, Result, anyhow};
use rustix::fs::fstat;
use std::io::IsTerminal;
use tracing_subscriber::prelude::*;
use tracing_subscriber::{EnvFilter, fmt};

/// The environment variable with the filter, as `info` or `forebay::buffer=debug,warn`.
const FILTER_VARIABLE: &str = "FOREBAY_LOG";

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// To the journal if standard error goes there anyway, otherwise as text.
    #[default]
    Auto,
    /// Text for people, on standard error.
    Text,
    /// One JSON object a line, on standard error.
    Json,
    /// To the journal, with fields.
    Journal,
}

/// Starts logging for the whole process: `said` is the filter of what is written out, `kept` that of the newest lines, which are
/// kept for the page, whatever the format. The environment may have another one for both.
///
/// # Errors
/// If the filter is wrong or there is no journal to write to.
pub(super) fn start(format: Format, said: &str, kept: &str) -> Result<LogRing> {
    let wanted = std::env::var(FILTER_VARIABLE).ok();
    let filter = |usual: &str| {
        let filter = wanted.as_deref().unwrap_or(usual);
        EnvFilter::try_new(filter).map_err(|_| {
            anyhow!("{FILTER_VARIABLE}={filter:?} is no log filter; try \"info\" or \"forebay::buffer=debug,warn\"")
        })
    };
    let (said, ring) = (filter(said)?, LogRing::default());
    let registry = tracing_subscriber::registry().with(ring.layer().with_filter(filter(kept)?));
    let text = || fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    let format = match format {
        Format::Auto if stderr_is_journal() => Format::Journal,
        other => other,
    };
    match format {
        Format::Json => registry.with(text().json().with_filter(said)).try_init()?,
        Format::Journal => registry.with(journal()?.with_filter(said)).try_init()?,
        Format::Text | Format::Auto => registry.with(text().with_filter(said)).try_init()?,
    }
    Ok(ring)
}

fn journal() -> Result<tracing_journald::Layer> {
    tracing_journald::layer().context("the journal cannot be reached; use --log-format text")
}

/// Whether standard error is the journal stream that systemd set up: the variable alone is handed down to children whose
/// standard error goes elsewhere, so that device and inode must match (systemd.exec(5), `$JOURNAL_STREAM`).
fn stderr_is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    fstat(std::io::stderr()).is_ok_and(|stat| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}
