//! The desk over the control socket: tries a configuration, keeps it or takes it back, and says what is on trial.

use super::{Control, REQUEST_TIME};
use crate::access::{Action, Deed, Kind, Rights, Who};
use crate::config::desk::{Change, DeskError, Revision};
use serde::{Deserialize, Serialize};
use std::future::Future;
use std::time::Duration;
use tokio::time::timeout;

/// What runs and what is on trial, without the texts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeskStatus {
    /// Names the text that runs.
    pub revision: String,
    /// The trial under way.
    pub trial: Option<TrialStatus>,
    /// How the last trial ended that was not kept: who had made it, and why.
    pub reverted: Option<(String, String)>,
    /// Why a change cannot be kept.
    pub unwritable: Option<String>,
}

/// A trial.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrialStatus {
    /// Who made the change.
    pub by: String,
    /// Seconds until it goes back by itself.
    pub left_s: u64,
    /// What changed, a line each.
    pub changes: Vec<String>,
    /// Whether readings have come in since, from every source that the change concerns.
    pub flows: bool,
    /// What speaks against keeping it, in words.
    #[serde(default)]
    pub doubts: String,
}

impl DeskStatus {
    /// The same in words, a line each.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("revision {}", self.revision)];
        match &self.trial {
            Some(trial) => {
                let flow = if trial.flows { "; readings flow" } else { "" };
                let doubts = if trial.doubts.is_empty() { String::new() } else { format!("; {}", trial.doubts) };
                let (by, left_s) = (&trial.by, trial.left_s);
                lines.push(format!("on trial, by {by}: goes back in {left_s} s unless confirmed{flow}{doubts}"));
                lines.extend(trial.changes.iter().map(|change| format!("  {change}")));
            }
            None => lines.push("nothing is on trial".to_owned()),
        }
        lines.extend(self.reverted.iter().map(|(by, why)| format!("the last change of {by} was taken back: {why}")));
        lines.extend(self.unwritable.iter().map(|why| format!("changes cannot be kept: {why}")));
        lines
    }
}

pub(super) fn status(control: &Control) -> DeskStatus {
    let now_us = control.clock.mono_us();
    let state = control.desk.state();
    let state = state.borrow();
    DeskStatus {
        revision: state.revision.0.clone(),
        trial: state.trial.as_ref().map(|trial| TrialStatus {
            by: trial.by.clone(),
            left_s: trial.until_mono_us.saturating_sub(now_us) / 1_000_000,
            changes: trial.changes.clone(),
            flows: trial.doubts.flows(),
            doubts: trial.doubts.to_string(),
        }),
        reverted: state.reverted.as_ref().map(|reverted| (reverted.by.clone(), reverted.why.clone())),
        unwritable: state.unwritable.clone(),
    }
}

pub(super) async fn try_out(
    control: &Control,
    text: String,
    base: Revision,
    confirm_within_s: u64,
    by: &str,
) -> Result<Vec<String>, String> {
    let change = Change { text, base, by: by.to_owned(), confirm_within: Duration::from_secs(confirm_within_s) };
    let lines = in_time(control.desk.try_out(change)).await?;
    note(control, by, Action::ConfigurationTried, &lines).await;
    Ok(lines)
}

pub(super) async fn confirm(control: &Control, by: &str, force: bool) -> Result<(), String> {
    let lines = on_trial(control);
    in_time(control.desk.confirm(by, force)).await?;
    note(control, by, Action::ConfigurationKept, &lines).await;
    Ok(())
}

pub(super) async fn revert(control: &Control, by: &str) -> Result<(), String> {
    let lines = on_trial(control);
    in_time(control.desk.revert(by)).await?;
    note(control, by, Action::ConfigurationTakenBack, &lines).await;
    Ok(())
}

/// What the trial under way has changed, a line each.
fn on_trial(control: &Control) -> Vec<String> {
    control.desk.state().borrow().trial.as_ref().map(|trial| trial.changes.clone()).unwrap_or_default()
}

/// Writes into the audit log what was done at the command line.
async fn note(control: &Control, by: &str, action: Action, lines: &[String]) {
    let who = Who { name: by.to_owned(), kind: Kind::Tool, rights: Rights::default(), role: None };
    let (subject, detail) = ("configuration".to_owned(), lines.join("\n"));
    // That it could not be written is logged there; what runs already runs.
    control.access.record(Deed { who, from: None, action, subject, detail }).await.ok();
}

async fn in_time<T>(asked: impl Future<Output = Result<T, DeskError>>) -> Result<T, String> {
    let late = |_| format!("this takes longer than {} s; look at the page or the log", REQUEST_TIME.as_secs());
    timeout(REQUEST_TIME, asked).await.map_err(late)?.map_err(|error| match error {
        DeskError::Invalid(problems) => {
            let words: Vec<String> = problems.iter().map(ToString::to_string).collect();
            words.join("\n")
        }
        error => error.to_string(),
    })
}
