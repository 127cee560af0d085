//! The command line: what can be asked of the binary, and what it answers with.

mod buffer;
#[path = "cli/config.rs"]
mod config_tool;
mod log;
mod people;
mod reload;
mod replay;
mod selftest;
mod verify_stream;
mod when;

use crate::app::{self, FirstStart};
use crate::config::{self, ConfigErrors, Loaded};
#[cfg(feature = "demo")]
use crate::demo;
use crate::logs::LogRing;
use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Exit status for a bad configuration: `EX_CONFIG` of sysexits(3); systemd does not restart the service on it.
const EXIT_CONFIG: u8 = 78;

/// Exit status for everything else that goes wrong.
const EXIT_FAILURE: u8 = 1;

/// Where the configuration is unless another file is named.
const CONFIG_FILE: &str = "/etc/forebay/forebay.toml";

/// What is logged unless `FOREBAY_LOG` says otherwise.
const LOG_FILTER: &str = "info";

/// The same for the tools, which say themselves what they find.
const TOOL_LOG_FILTER: &str = "off";

/// The same for the demo, which tells what happens itself; its broker logs every goodbye as an error.
#[cfg(feature = "demo")]
const DEMO_LOG_FILTER: &str = "error,rumqttd=off";

/// What the page of the demo keeps: all that a gateway would say.
#[cfg(feature = "demo")]
const DEMO_PAGE_FILTER: &str = "info,rumqttd=off";

/// When the demo ends by itself, in seconds.
#[cfg(feature = "demo")]
const DEMO_SECONDS_VARIABLE: &str = "DEMO_SECONDS";

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
    Run(RunArguments),
    /// Checks a configuration and names everything that is wrong in it.
    Check(ConfigArgument),
    /// Has the running gateway read its configuration again: only what changed is stopped and started.
    Reload(ConfigArgument),
    /// Tries another configuration on the running gateway: it goes back by itself unless it is confirmed in time.
    #[command(subcommand)]
    Config(config_tool::ConfigCommand),
    /// Prints the reference of the configuration, as Markdown.
    Reference,
    /// Looks into the buffer of a running or stopped gateway: what it holds, whether it is sound, what is in it.
    #[command(subcommand)]
    Buffer(buffer::BufferCommand),
    /// Says whether what arrived upstream is complete, each record once and in order, from the records alone.
    VerifyStream(verify_stream::VerifyStream),
    /// Sends records of the past to a sink once more: by time and points, each once, beside its own delivery.
    Replay(replay::ReplayArguments),
    /// Lists, adds and removes who may sign in at the page, and changes their roles and passwords.
    #[command(subcommand)]
    People(people::PeopleCommand),
    /// Makes, lists and revokes API tokens, with which programs ask the page.
    #[command(subcommand)]
    Token(people::TokenCommand),
    /// Prints the set-up token, which the page asks for before anyone may enter.
    SetUpToken(people::Where),
    /// Tries on this very board and card whether what is acknowledged survives its end.
    #[command(subcommand)]
    Selftest(selftest::SelfTest),
    /// Shows a simulated plant, a gateway and an ingest endpoint on this machine, with faults and an outage; the exit status
    /// is 0 if every reading arrived exactly once.
    #[cfg(feature = "demo")]
    Demo(DemoArguments),
}

#[derive(Debug, clap::Args)]
struct ConfigArgument {
    /// The configuration [default: /etc/forebay/forebay.toml].
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// The same, by name.
    #[arg(long, value_name = "FILE", conflicts_with = "file")]
    config: Option<PathBuf>,
}

impl ConfigArgument {
    fn path(self) -> PathBuf {
        self.file.or(self.config).unwrap_or_else(|| PathBuf::from(CONFIG_FILE))
    }
}

#[derive(Debug, clap::Args)]
struct RunArguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// Folder for everything that must survive a restart, while there is no configuration yet; afterwards that says it
    /// [default: /var/lib/forebay].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where the page listens, while there is no configuration yet [default: 0.0.0.0:8080].
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
}

#[cfg(feature = "demo")]
#[derive(Debug, clap::Args)]
struct DemoArguments {
    /// End after so many seconds instead of at Ctrl-C [default: the environment variable `DEMO_SECONDS`].
    #[arg(long)]
    seconds: Option<u64>,
    /// Keep the gateway's data and configuration.
    #[arg(long)]
    keep: bool,
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
        Command::Run(run) => {
            let path = run.config.path();
            let (loaded, has_file) = load_or_begin(&path, &FirstStart { data_dir: run.data_dir, listen: run.listen })?;
            let logs = log::start(arguments.log_format, LOG_FILTER, LOG_FILTER)?;
            for warning in &loaded.warnings {
                tracing::warn!("{}:{warning}", path.display());
            }
            if !has_file {
                let file = path.display();
                tracing::info!(
                    "there is no {file} yet: the gateway begins with what is built in, and the page makes the file"
                );
            }
            run_gateway(loaded, path, has_file, logs)
        }
        Command::Config(command) => config_tool::execute(command),
        Command::Check(argument) => check(&argument.path()),
        Command::VerifyStream(arguments) => verify_stream::run(arguments),
        Command::People(command) => people::execute(command),
        Command::Token(command) => people::execute_token(command),
        Command::SetUpToken(place) => people::show_set_up_token(&place),
        Command::Selftest(test) => selftest::run(test),
        Command::Reload(argument) => reload::execute(&argument.path()),
        Command::Reference => Ok(write!(std::io::stdout().lock(), "{}", config::reference())?),
        Command::Replay(arguments) => replay::run(&arguments),
        Command::Buffer(command) => {
            log::start(arguments.log_format, TOOL_LOG_FILTER, TOOL_LOG_FILTER)?;
            buffer::execute(command)
        }
        #[cfg(feature = "demo")]
        Command::Demo(demo) => {
            let logs = log::start(arguments.log_format, DEMO_LOG_FILTER, DEMO_PAGE_FILTER)?;
            show_demo(&demo, logs)
        }
    }
}

/// The configuration, and whether it is from the file. Only where there is no file at all a built-in one takes its place: a file that
/// cannot be read or is wrong must not be passed over.
fn load_or_begin(path: &Path, first: &FirstStart) -> Result<(Loaded, bool)> {
    match config::load(path) {
        Err(ConfigErrors::Unreadable { error, .. }) if error.kind() == std::io::ErrorKind::NotFound => {
            let text = app::built_in(first).context("the first start cannot be prepared")?;
            Ok((config::parse("what is built in", text)?, false))
        }
        loaded => Ok((loaded?, true)),
    }
}

/// Runs the gateway.
fn run_gateway(loaded: Loaded, path: PathBuf, has_file: bool, logs: LogRing) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    Ok(runtime.block_on(app::run(loaded, path, has_file, logs))?)
}

/// Shows the demo.
#[cfg(feature = "demo")]
fn show_demo(arguments: &DemoArguments, logs: LogRing) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let verdict = runtime.block_on(demo::run(demo_seconds(arguments)?, arguments.keep, logs))?;
    anyhow::ensure!(verdict.is_exactly_once(), "the demo's books do not close");
    Ok(())
}

/// When the demo ends by itself; an empty variable is as good as none.
#[cfg(feature = "demo")]
fn demo_seconds(arguments: &DemoArguments) -> Result<Option<u64>> {
    let text = std::env::var(DEMO_SECONDS_VARIABLE).unwrap_or_default();
    if arguments.seconds.is_some() || text.is_empty() {
        return Ok(arguments.seconds);
    }
    let seconds =
        text.parse().map_err(|_| anyhow::anyhow!("{DEMO_SECONDS_VARIABLE}={text:?} is no whole number of seconds"))?;
    Ok(Some(seconds))
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
