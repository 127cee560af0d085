//! The command line: what can be asked of the binary, and what it answers with.

mod log;

use crate::app;
use crate::config::{self, ConfigErrors, Loaded};
use anyhow::Result;
use clap::{Parser, Subcommand};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Exit status for a bad configuration: `EX_CONFIG` of sysexits(3); systemd does not restart the service on it.
const EXIT_CONFIG: u8 = 78;

/// Exit status for everything else that goes wrong.
const EXIT_FAILURE: u8 = 1;

/// Edge gateway: reads sensors, judges readings, keeps them safe on disk, delivers each exactly once.
#[derive(Debug, Parser)]
#[command(name = "forebay", version)]
struct Arguments {
    /// How the log is written.
    #[arg(long, global = true, value_enum, default_value_t)]
    log_format: log::Format,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the gateway until it is told to stop.
    Run(ConfigArgument),
    /// Checks a configuration and names everything that is wrong in it.
    Check(ConfigArgument),
    /// Prints the reference of the configuration, as Markdown.
    Reference,
}

#[derive(Debug, clap::Args)]
struct ConfigArgument {
    /// The configuration.
    #[arg(long, value_name = "FILE", default_value = "/etc/forebay/forebay.toml")]
    config: PathBuf,
}

/// Does what the command line asks; the exit status is 0, 78 for a bad configuration, 1 for other failures.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match execute(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to be told if standard error is closed.
            writeln!(std::io::stderr(), "{error:#}").ok();
            let config = error.downcast_ref::<ConfigErrors>().is_some();
            ExitCode::from(if config { EXIT_CONFIG } else { EXIT_FAILURE })
        }
    }
}

fn execute(arguments: Arguments) -> Result<()> {
    match arguments.command {
        Command::Run(argument) => {
            let loaded = config::load(&argument.config)?;
            log::start(arguments.log_format)?;
            for warning in &loaded.warnings {
                tracing::warn!("{}:{warning}", argument.config.display());
            }
            run(loaded)
        }
        Command::Check(argument) => check(&argument.config),
        Command::Reference => Ok(write!(std::io::stdout().lock(), "{}", config::reference())?),
    }
}

/// Runs the gateway.
fn run(loaded: Loaded) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    Ok(runtime.block_on(app::run(loaded.config, loaded.text))?)
}

/// Says what a sound file holds; the warnings come first.
fn check(path: &Path) -> Result<()> {
    let Loaded { config, warnings, .. } = config::load(path)?;
    let mut out = std::io::stdout().lock();
    for warning in &warnings {
        writeln!(out, "{}:{warning} (warning)", path.display())?;
    }
    writeln!(
        out,
        "{}: no errors; {}, {}, {}, {}, {}",
        path.display(),
        count(config.source.len(), "source"),
        count(config.device.len(), "device"),
        count(config.check.len(), "check"),
        count(config.anomaly.len(), "anomaly rule"),
        count(config.sink.len(), "sink"),
    )?;
    Ok(())
}

fn count(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
