//! `forebay reload`: has the running gateway read its configuration again, and says what changed or what is wrong.

use crate::config;
use crate::control::{self, ControlError, Request};
use anyhow::{Result, anyhow};
use std::io::Write;
use std::path::Path;

/// Asks the gateway whose configuration this is.
pub(super) fn execute(path: &Path) -> Result<()> {
    // A file with errors is told at once, with all of them; the gateway would say the same.
    let loaded = config::load(path)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let asked = control::ask(&loaded.config.gateway.data_dir, &Request::Reload, |_| ());
    let lines: Vec<String> = runtime.block_on(asked).map_err(|error| match error {
        ControlError::NotRunning(path) => {
            anyhow!("no gateway answers at {path}; if gateway.data_dir was changed, restart forebay instead")
        }
        error => anyhow!("the configuration was not reloaded: {error}"),
    })?;
    let mut out = std::io::stdout().lock();
    for line in lines {
        writeln!(out, "{line}")?;
    }
    Ok(())
}
