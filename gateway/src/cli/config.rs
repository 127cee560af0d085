//! `forebay config`: tries another configuration on the running gateway, keeps it or takes it back.

use crate::config;
use crate::config::desk::Revision;
use crate::control::{self, ControlError, DeskStatus, Request};
use crate::units::{HumanDuration, UnitError};
use anyhow::{Context as _, Result, anyhow};
use clap::Subcommand;
use serde::de::DeserializeOwned;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a change waits to be confirmed unless the command line says otherwise.
const CONFIRM_WITHIN: Duration = Duration::from_mins(5);

/// What can be done with a changed configuration.
#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Runs another configuration on trial. The file of the gateway stays as it is until the change is confirmed.
    Try {
        /// The new configuration.
        #[arg(value_name = "NEW")]
        new: PathBuf,
        /// When it goes back by itself, as 90s, 5m or 1h, at least 10s and at most 1h.
        #[arg(long, value_name = "TIME", value_parser = duration, default_value_t = HumanDuration(CONFIRM_WITHIN))]
        confirm_within: HumanDuration,
        #[command(flatten)]
        gateway: Gateway,
    },
    /// Keeps what is on trial: writes the file.
    Confirm {
        /// Also though something speaks against it: no reading has come in since, a source that changed is silent, or a sink takes nothing.
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        gateway: Gateway,
    },
    /// Takes back what is on trial.
    Revert {
        #[command(flatten)]
        gateway: Gateway,
    },
    /// Says what runs and what is on trial.
    Status {
        #[command(flatten)]
        gateway: Gateway,
    },
}

/// Which gateway is meant.
#[derive(Debug, clap::Args)]
pub(super) struct Gateway {
    /// The configuration of the gateway, which says where it is [default: /etc/forebay/forebay.toml].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The data directory of the gateway, where it has no configuration yet.
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    data_dir: Option<PathBuf>,
}

impl Gateway {
    fn data_dir(self) -> Result<PathBuf> {
        if let Some(data_dir) = self.data_dir {
            return Ok(data_dir);
        }
        let path = self.config.unwrap_or_else(|| PathBuf::from(super::CONFIG_FILE));
        if !path.exists() {
            return Ok(config::default_data_dir());
        }
        // Also of a file that is wrong elsewhere: the gateway that runs may have been started with a better one.
        let text = std::fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
        let table: toml::Table = text.parse().with_context(|| format!("{} is no TOML", path.display()))?;
        let data_dir = table.get("gateway").and_then(|gateway| gateway.get("data_dir")).and_then(toml::Value::as_str);
        Ok(data_dir.map_or_else(config::default_data_dir, PathBuf::from))
    }
}

fn duration(text: &str) -> Result<HumanDuration, String> {
    // Beside the units of the file, the one that everyone types.
    let minutes = text.strip_suffix('m').filter(|number| number.ends_with(|last: char| last.is_ascii_digit()));
    let text = minutes.map_or_else(|| text.to_owned(), |number| format!("{number} min"));
    let duration: HumanDuration = text.parse().map_err(|error: UnitError| error.to_string())?;
    if config::desk::CONFIRM_WITHIN.contains(&duration.0) {
        return Ok(duration);
    }
    Err("expected 10s to 1h".to_owned())
}

/// Does what the command says.
pub(super) fn execute(command: ConfigCommand) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match command {
        ConfigCommand::Try { new, confirm_within, gateway } => {
            let data_dir = gateway.data_dir()?;
            // A file with errors is told at once, with all of them, by its own name.
            let text = config::load(&new)?.text;
            let DeskStatus { revision, .. } = ask(&data_dir, &Request::ConfigStatus)?;
            let confirm_within_s = confirm_within.0.as_secs();
            let request = Request::ConfigTry { text, base: Revision(revision), confirm_within_s };
            let lines: Vec<String> = ask(&data_dir, &request)?;
            for line in lines {
                writeln!(out, "{line}")?;
            }
            writeln!(out, "on trial: goes back in {confirm_within} unless confirmed (forebay config confirm)")?;
        }
        ConfigCommand::Confirm { force, gateway } => {
            let () = ask(&gateway.data_dir()?, &Request::ConfigConfirm { force })?;
            writeln!(out, "kept")?;
        }
        ConfigCommand::Revert { gateway } => {
            let () = ask(&gateway.data_dir()?, &Request::ConfigRevert)?;
            writeln!(out, "taken back")?;
        }
        ConfigCommand::Status { gateway } => {
            let status: DeskStatus = ask(&gateway.data_dir()?, &Request::ConfigStatus)?;
            for line in status.lines() {
                writeln!(out, "{line}")?;
            }
        }
    }
    Ok(())
}

fn ask<T: DeserializeOwned>(data_dir: &Path, request: &Request) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    runtime.block_on(control::ask(data_dir, request, |_| ())).map_err(|error| match error {
        ControlError::NotRunning(path) => anyhow!("no gateway answers at {path}"),
        error => anyhow!("{error}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_to_confirm_is_read_as_people_type_it_and_kept_within_reason() {
        assert_eq!(duration("5m"), Ok(HumanDuration(Duration::from_mins(5))));
        assert_eq!(duration("90s"), Ok(HumanDuration(Duration::from_secs(90))));
        assert_eq!(duration("1 h"), Ok(HumanDuration(Duration::from_hours(1))));
        for wrong in ["", "m", "5", "9s", "2h", "500ms", "soon"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
