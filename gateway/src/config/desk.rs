//! The desk: where a changed configuration is handed in, tried, and kept or taken back. The page and the tools hold a
//! [`Desk`]; the gateway works the requests off one at a time, between its other events.
//!
//! A change runs on trial first: the file on disk stays the old one until someone confirms. If nobody does within the time
//! set, or the gateway ends meanwhile, the old configuration is back by itself.

use crate::reading::{MonoMicros, UnixMicros};
use sha2::{Digest, Sha256};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

use super::Problem;

/// Requests that wait: people at pages, and a tool or two.
pub const REQUESTS_MAX: usize = 8;

/// How long someone may take to confirm: long enough to walk to the device, short enough that a lost gateway comes back while
/// its integrator is still on the phone.
pub const CONFIRM_WITHIN: std::ops::RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_secs(3_600);

/// How many names of sources are told together; with one more than that, it is told, too.
pub const NAMED_MAX: usize = 3;

/// Names a text of the configuration: the first 16 hexadecimal digits of its SHA-256.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct Revision(pub String);

impl Revision {
    /// The revision of a text.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let mut digits = hex::encode(Sha256::digest(text));
        digits.truncate(16);
        Self(digits)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What runs, and what is on trial.
#[derive(Clone, Debug)]
pub struct DeskState {
    /// The text that runs now, with its secrets: never to be shown before [`super::redacted_toml`].
    pub text: Arc<str>,
    /// Its revision.
    pub revision: Revision,
    /// The trial under way, if the running text is not confirmed yet.
    pub trial: Option<Trial>,
    /// How the last trial ended without being confirmed, until the next one begins.
    pub reverted: Option<Reverted>,
    /// Why a change cannot be kept (the file may not be written, there is none); empty if it can.
    pub unwritable: Option<String>,
}

impl DeskState {
    /// A text that runs, with nothing on trial.
    #[must_use]
    pub fn of(text: &str) -> Self {
        Self { text: text.into(), revision: Revision::of(text), trial: None, reverted: None, unwritable: None }
    }
}

/// A configuration that runs but is not confirmed yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// Who made the change.
    pub by: String,
    /// When it began to run.
    pub since_us: UnixMicros,
    /// When it is taken back unless confirmed, as far as the wall clock goes on as it does.
    pub until_us: UnixMicros,
    /// The same by the monotonic clock, which it goes by.
    pub until_mono_us: MonoMicros,
    /// What changed, a line each.
    pub changes: Vec<String>,
    /// The confirmed text that comes back.
    pub before: Arc<str>,
    /// What speaks against keeping it, so far.
    pub doubts: Doubts,
}

/// What speaks against keeping a change, so far: it is kept all the same only by whoever says so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Doubts {
    /// No reading has come in since it began, from whichever source: for a change that concerns none.
    pub no_reading: bool,
    /// It takes away the last source, so that none is left that could bring a reading.
    pub no_source: bool,
    /// Sources that it adds or changes and that have brought no value since.
    pub silent: Vec<String>,
    /// Sinks that it adds or changes and that take nothing.
    pub stuck: Vec<Stuck>,
}

/// A sink that takes nothing.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub struct Stuck {
    /// Its name.
    pub sink: String,
    /// What it says.
    pub why: String,
}

impl Doubts {
    /// Whether there are any.
    #[must_use]
    pub fn any(&self) -> bool {
        !(self.flows() && self.stuck.is_empty())
    }

    /// Whether readings flow, from every source that the change concerns.
    #[must_use]
    pub fn flows(&self) -> bool {
        !(self.no_reading || self.no_source) && self.silent.is_empty()
    }
}

impl fmt::Display for Doubts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Vec::new();
        if self.no_reading {
            words.push("no reading has come in since the change".to_owned());
        }
        if self.no_source {
            words.push("no source is left".to_owned());
        }
        if !self.silent.is_empty() {
            let have = if self.silent.len() == 1 { "has" } else { "have" };
            words.push(format!("{} {have} not brought a value since the change", listed(&self.silent)));
        }
        words.extend(self.stuck.iter().map(|Stuck { sink, why }| format!("the sink {sink} takes nothing: {why}")));
        f.write_str(&words.join("; "))
    }
}

/// Names as one says them; the first few of many.
fn listed(names: &[String]) -> String {
    match (names, names.get(..NAMED_MAX)) {
        ([] | [_], _) => names.concat(),
        (_, Some(first)) if names.len() > NAMED_MAX + 1 => {
            format!("{} and {} others", first.join(", "), names.len() - NAMED_MAX)
        }
        ([most @ .., last], _) => format!("{} and {last}", most.join(", ")),
    }
}

/// How a trial ended without being kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reverted {
    /// When.
    pub at_us: UnixMicros,
    /// Who had made the change.
    pub by: String,
    /// Why: nobody confirmed, somebody took it back.
    pub why: String,
    /// What it had changed, a line each.
    pub changes: Vec<String>,
    /// The text that was tried, so that it is not lost; nothing if the gateway ended meanwhile, which noted its changes only.
    pub text: Option<Arc<str>>,
}

/// What is asked of the desk.
#[derive(Debug)]
pub enum DeskRequest {
    /// Run this text on trial.
    Try(Change, oneshot::Sender<Result<Vec<String>, DeskError>>),
    /// Keep what is on trial: write the file. `force` keeps it though something speaks against it.
    Confirm {
        /// Who.
        by: String,
        /// Also though something speaks against it.
        force: bool,
        /// The answer.
        done: oneshot::Sender<Result<(), DeskError>>,
    },
    /// Take back what is on trial.
    Revert {
        /// Who.
        by: String,
        /// The answer.
        done: oneshot::Sender<Result<(), DeskError>>,
    },
}

/// A change that is handed in.
#[derive(Clone, Debug)]
pub struct Change {
    /// The whole new text.
    pub text: String,
    /// The revision that it was made from; another one by now is a conflict.
    pub base: Revision,
    /// Who.
    pub by: String,
    /// How long it waits to be confirmed, within [`CONFIRM_WITHIN`].
    pub confirm_within: Duration,
}

/// Why the desk did not do it. The old configuration runs on in all its parts.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DeskError {
    /// The text is wrong.
    #[error("{} things are wrong with the configuration; nothing was changed", .0.len())]
    Invalid(Vec<Problem>),
    /// Someone else was faster.
    #[error(
        "the configuration was changed meanwhile (it is at {now}); look at the newest one and make the change again"
    )]
    Conflict {
        /// The revision now.
        now: Revision,
    },
    /// The file was edited since the gateway read it; it is not overwritten.
    #[error(
        "{0} was changed by another hand since it was read, and is not overwritten: take that in (forebay reload), which ends the trial, or put back what stood there, then keep the change again"
    )]
    FileChanged(String),
    /// The gateway could not go on by it.
    #[error("{0}")]
    Refused(String),
    /// The file could not be written; the trial goes on.
    #[error("the file could not be written: {0}")]
    Unwritable(String),
    /// There is no trial.
    #[error("nothing is on trial: it was confirmed or taken back already")]
    NoTrial,
    /// Something speaks against it.
    #[error("{0}; wait, take the change back, or keep it all the same")]
    Doubtful(Doubts),
    /// The gateway is about to end.
    #[error("the gateway is about to end and takes no change")]
    Closed,
}

/// Where changes are handed in; cheap to clone.
#[derive(Clone, Debug)]
pub struct Desk {
    requests: mpsc::Sender<DeskRequest>,
    state: watch::Receiver<DeskState>,
    /// Who watches a closed desk waits, and does not turn in circles.
    _own: Option<Arc<watch::Sender<DeskState>>>,
}

impl Desk {
    /// A desk where nobody takes anything in, with this text on it: for a gateway without a file.
    #[must_use]
    pub fn closed(text: &str) -> Self {
        let unwritable =
            Some("this gateway was started without a file of its own, so its configuration stays as it is".to_owned());
        let (own, state) = watch::channel(DeskState { unwritable, ..DeskState::of(text) });
        Self { _own: Some(Arc::new(own)), ..Self::new(state).0 }
    }

    /// A desk whose requests arrive at the returned receiver.
    #[must_use]
    pub fn new(state: watch::Receiver<DeskState>) -> (Self, mpsc::Receiver<DeskRequest>) {
        let (requests, requests_out) = mpsc::channel(REQUESTS_MAX);
        (Self { requests, state, _own: None }, requests_out)
    }

    /// What runs, and what is on trial.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<DeskState> {
        self.state.clone()
    }

    /// Runs a text on trial; answers with what changed, a line each, once it runs.
    ///
    /// # Errors
    /// If the text is wrong, was made from an old revision, or cannot run. The old configuration runs on then.
    pub async fn try_out(&self, change: Change) -> Result<Vec<String>, DeskError> {
        self.ask(|done| DeskRequest::Try(change, done)).await
    }

    /// Keeps what is on trial.
    ///
    /// # Errors
    /// If there is none, something speaks against it (and not `force`), or the file cannot be written.
    pub async fn confirm(&self, by: &str, force: bool) -> Result<(), DeskError> {
        self.ask(|done| DeskRequest::Confirm { by: by.to_owned(), force, done }).await
    }

    /// Takes back what is on trial.
    ///
    /// # Errors
    /// If there is none.
    pub async fn revert(&self, by: &str) -> Result<(), DeskError> {
        self.ask(|done| DeskRequest::Revert { by: by.to_owned(), done }).await
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, DeskError>>) -> DeskRequest,
    ) -> Result<T, DeskError> {
        let (done, answer) = oneshot::channel();
        if self.requests.send(request(done)).await.is_err() {
            let why = self.state.borrow().unwritable.clone();
            return Err(why.map_or(DeskError::Closed, DeskError::Refused));
        }
        answer.await.map_err(|_| DeskError::Closed)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_silent_is_named() {
        let said = |names: &[&str]| {
            let silent = names.iter().map(|name| (*name).to_owned()).collect();
            Doubts { silent, ..Doubts::default() }.to_string()
        };
        assert_eq!(said(&["meter-bus"]), "meter-bus has not brought a value since the change");
        assert_eq!(said(&["a", "b"]), "a and b have not brought a value since the change");
        assert_eq!(said(&["a", "b", "c", "d"]), "a, b, c and d have not brought a value since the change");
        assert_eq!(said(&["a", "b", "c", "d", "e"]), "a, b, c and 2 others have not brought a value since the change");
        assert!(!Doubts::default().any());
    }
}
