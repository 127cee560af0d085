//! Trials: a configuration handed in at the desk runs until someone keeps it, takes it back, or the time is over.
//!
//! The file on disk stays the confirmed one all the while, so that a gateway that ends on trial starts with that.

use super::AppError;
use super::host::{Asked, FILE_TROUBLE, Host, Stays, warn};
use super::plan::Plan;
use super::reload::changes;
use super::witness::Witness;
use crate::access::{Action, Deed, Who};
use crate::block::records::Severity;
use crate::config::desk::{
    CONFIRM_WITHIN, Change, DeskError, DeskRequest, DeskState, Doubts, Reverted, Revision, Trial,
};
use crate::config::history::{History, Kept};
use crate::config::on_trial::{self, Note};
use crate::config::{self, ConfigErrors, FILE_BYTES_MAX, Loaded};
use crate::reading::{MonoMicros, UnixMicros};
use crate::status::Trouble;
use crate::units::HumanDuration;
use std::io;
use std::path::Path;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until};

/// How the names of those who made one trial are told together, how many of them, and what the others are called.
const AND: &str = ", ";
const NAMED_MAX: usize = 3;
const OTHERS: &str = "others";
/// The key of the trouble that a change was taken back.
const REVERTED: &str = "config/trial";
/// The key of the trouble that a change could not be kept after all.
const KEPT: &str = "config/kept";
/// Why a change that was on trial does not run after a start.
const STARTED_ANEW: &str = "the gateway started anew while it was on trial";
/// How often it is looked whether a change works: until values have come in, each look goes through all points.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a change that was taken back is told: someone who drove away has heard of it by then, and the page keeps it for longer.
const REVERTED_TOLD: Duration = Duration::from_hours(1);

/// The desk as the gateway sees it.
pub(super) struct Trials {
    requests: mpsc::Receiver<DeskRequest>,
    state: watch::Sender<DeskState>,
    underway: Option<Underway>,
    /// A trial that was taken back is told until then.
    told_until: Option<Instant>,
}

/// A trial.
pub(super) struct Underway {
    pub(super) by: String,
    loaded: Loaded,
    lines: Vec<String>,
    since_us: UnixMicros,
    until_us: UnixMicros,
    until_mono_us: MonoMicros,
    deadline: Instant,
    /// Looks whether it works.
    witness: Witness,
    /// What speaks against it, as of the last look.
    doubts: Doubts,
}

impl Trials {
    pub(super) fn new(requests: mpsc::Receiver<DeskRequest>, state: watch::Sender<DeskState>) -> Self {
        Self { requests, state, underway: None, told_until: None }
    }

    /// What the desk asks next.
    pub(super) async fn next(&mut self) -> Asked {
        let Self { requests, underway, told_until, .. } = self;
        let deadline = underway.as_ref().map(|trial| trial.deadline);
        tokio::select! {
            Some(request) = requests.recv() => Asked::Desk(request),
            () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => Asked::Late,
            () = sleep_until(told_until.unwrap_or_else(Instant::now)), if told_until.is_some() => Asked::ToldEnough,
            () = look(underway.as_mut()) => Asked::Doubts,
        }
    }

    /// Has everyone see what speaks against the trial by now.
    pub(super) fn tell_doubts(&self) {
        let Some(doubts) = self.underway.as_ref().map(|trial| trial.doubts.clone()) else { return };
        self.state.send_modify(|state| {
            if let Some(trial) = &mut state.trial {
                trial.doubts = doubts;
            }
        });
    }

    /// Publishes what runs, what is on trial, and what comes back.
    pub(super) fn publish(&self, text: &str, confirmed: &str) {
        self.state.send_modify(|state| {
            state.text = text.into();
            state.revision = Revision::of(text);
            state.trial = self.underway.as_ref().map(|trial| Trial {
                by: trial.by.clone(),
                since_us: trial.since_us,
                until_us: trial.until_us,
                until_mono_us: trial.until_mono_us,
                changes: trial.lines.clone(),
                before: confirmed.into(),
                doubts: trial.doubts.clone(),
            });
        });
    }
}

impl Underway {
    /// Looks whether something else speaks against it by now.
    fn look(&mut self) -> bool {
        let doubts = self.witness.look();
        let is_another = doubts != self.doubts;
        self.doubts = doubts;
        is_another
    }
}

/// Returns when something else speaks against a trial than before, or nothing any more.
async fn look(trial: Option<&mut Underway>) {
    let Some(trial) = trial else { return std::future::pending().await };
    loop {
        sleep(LOOK_EVERY).await;
        if trial.look() {
            return;
        }
    }
}

/// A change that was looked over.
struct Wanted {
    plan: Plan,
    loaded: Loaded,
    lines: Vec<String>,
    by: String,
    within: Duration,
}

impl Host {
    /// Does what was asked at the desk; an error if nothing runs afterwards.
    ///
    /// What needs a start in place is answered before it, since that ends the connection of whoever asked; how it went is in the
    /// state of the desk.
    pub(super) async fn serve(&mut self, request: DeskRequest) -> Result<(), AppError> {
        match request {
            DeskRequest::Try(change, done) => Box::pin(self.serve_try(change, Reply(Some(done)))).await,
            DeskRequest::Confirm { by, force, done } => self.confirm(&by, force, Reply(Some(done))).await,
            DeskRequest::Revert { by, done } => {
                let mut done = Reply(Some(done));
                if self.trials.underway.is_none() {
                    done.send(Err(DeskError::NoTrial));
                    return Ok(());
                }
                let plan = Plan::settled(self.confirmed.clone());
                if self.must_restart(&plan) || self.moves_page(&plan) {
                    done.send(Ok(()));
                }
                done.tell(self.take_back(format!("{by} took it back")).await)
            }
        }
    }

    async fn serve_try(&mut self, change: Change, mut done: Reply<Vec<String>>) -> Result<(), AppError> {
        let wanted = match self.look_at(change) {
            Ok(wanted) => wanted,
            Err(error) => {
                done.send(Err(error));
                return Ok(());
            }
        };
        let lines = wanted.lines.clone();
        if wanted.loaded.text == self.confirmed.text {
            let back = match self.trials.underway {
                Some(_) => self.take_back(format!("{} went back to the text before", wanted.by)).await,
                None => Ok(()),
            };
            return done.tell(back.map(|()| lines));
        }
        warn(&wanted.loaded);
        if !self.must_restart(&wanted.plan) && self.moves_page(&wanted.plan) {
            return Box::pin(self.move_page(wanted, done)).await;
        }
        if !self.must_restart(&wanted.plan) {
            let went = self.go(wanted.plan.clone()).await;
            if went.is_ok() {
                self.begin(wanted);
            }
            return done.tell(went.map(|()| lines));
        }
        if let Err(stays) = Self::look_over(&wanted.plan) {
            return done.tell(Err(stays));
        }
        done.send(Ok(lines));
        let went = self.restart(wanted.plan.clone()).await;
        self.begin_or_tell(went, wanted)
    }

    /// Tries a change that moves the page. Whoever asked over it is answered first: the old page waits for answers under way.
    async fn move_page(&mut self, wanted: Wanted, mut done: Reply<Vec<String>>) -> Result<(), AppError> {
        let looked = match Self::look_over(&wanted.plan) {
            Ok(()) => self.look_at_page(&wanted.plan).await,
            stays => stays,
        };
        if let Err(stays) = looked {
            return done.tell(Err(stays));
        }
        done.send(Ok(wanted.lines.clone()));
        let went = self.go(wanted.plan.clone()).await;
        self.begin_or_tell(went, wanted)
    }

    /// Begins the trial of a change that goes, after whoever asked for it was answered; or says on every page that it did not.
    fn begin_or_tell(&mut self, went: Result<(), Stays>, wanted: Wanted) -> Result<(), AppError> {
        match went {
            Ok(()) => self.begin(wanted),
            Err(Stays::Refused(words)) => {
                let text = Some(wanted.loaded.text);
                self.tell_reverted(wanted.by, wanted.lines, text, format!("it did not start: {words}"));
            }
            Err(Stays::Ended(error)) => return Err(error),
        }
        Ok(())
    }

    /// Looks a change over without doing anything.
    fn look_at(&self, change: Change) -> Result<Wanted, DeskError> {
        let now = self.trials.state.borrow().revision.clone();
        if change.base != now {
            return Err(DeskError::Conflict { now });
        }
        if change.text.len() as u64 > FILE_BYTES_MAX {
            let max = FILE_BYTES_MAX / 1024;
            return Err(DeskError::Refused(format!("a configuration may have at most {max} KiB")));
        }
        let file = self.path.display().to_string();
        let loaded = config::parse_with_secrets(&file, change.text).map_err(|errors| match errors {
            ConfigErrors::Invalid(problems) => DeskError::Invalid(problems.errors),
            errors => DeskError::Refused(errors.to_string()),
        })?;
        let confirmed = &self.confirmed.config;
        if loaded.config.gateway.data_dir != confirmed.gateway.data_dir {
            return Err(DeskError::Refused(
                "gateway.data_dir: everything that the gateway has is in it, so it cannot be changed while it runs; stop it, move the folder, change the file, and start it".to_owned(),
            ));
        }
        let plan = Plan::on_trial(confirmed, loaded.clone());
        let mut lines = changes(confirmed, &loaded.config);
        let wait = |name: &String| format!("sink {name:?} delivers nothing until the change is kept or taken back");
        lines.extend(plan.held.iter().map(wait));
        let within = change.confirm_within.clamp(*CONFIRM_WITHIN.start(), *CONFIRM_WITHIN.end());
        Ok(Wanted { plan, loaded, lines, by: change.by, within })
    }

    /// Notes that a change is on trial from now on.
    fn begin(&mut self, wanted: Wanted) {
        let Wanted { plan, loaded, lines, by, within } = wanted;
        self.current = loaded.config.clone();
        let Some(points) = self.points() else { return };
        let since_us = self.clock.tick().wall_us;
        let until_us = since_us.saturating_add(i64::try_from(within.as_micros()).unwrap_or(i64::MAX));
        tracing::info!(by, within = %HumanDuration(within), changes = lines.join("; "), "a change is on trial");
        let mut witness = Witness::new(points, (&self.confirmed.config, &loaded.config), &plan.held, since_us);
        let doubts = witness.look();
        let by = self.trials.underway.as_ref().map_or_else(|| by.clone(), |before| both(&before.by, &by));
        self.trials.underway = Some(Underway {
            by,
            loaded,
            lines,
            since_us,
            until_us,
            until_mono_us: self.clock.mono_us().saturating_add(u64::try_from(within.as_micros()).unwrap_or(u64::MAX)),
            deadline: Instant::now() + within,
            witness,
            doubts,
        });
        self.note_trial();
        self.forget_reverted();
        self.publish();
    }

    /// Notes beside the data what is on trial, for a start that finds nothing else of it.
    fn note_trial(&self) {
        let Some(trial) = &self.trials.underway else { return };
        let (by, changes, revision) = (trial.by.clone(), trial.lines.clone(), Revision::of(&trial.loaded.text));
        let note = Note { by, since_us: trial.since_us, changes, revision };
        if let Err(error) = on_trial::note(&self.confirmed.config.gateway.data_dir, &note) {
            tracing::warn!(%error, "it could not be noted that a change is on trial");
        }
    }

    /// Ends the trial under way, if there is one, and forgets what was noted of it.
    fn end(&mut self) -> Option<Underway> {
        let trial = self.trials.underway.take()?;
        forget_note(&self.confirmed.config.gateway.data_dir);
        Some(trial)
    }

    /// Says what became of a change that was on trial when the gateway ended, however it did.
    pub(super) async fn tell_what_was_on_trial(&mut self) {
        let data_dir = self.confirmed.config.gateway.data_dir.clone();
        let noted = on_trial::noted(&data_dir);
        // One that was kept in the last moment is what has started.
        if let Some(note) = noted.filter(|note| note.revision != Revision::of(&self.confirmed.text)) {
            let Note { by, changes, .. } = note;
            let what = format!("the change of {by} was on trial as the gateway ended, and the old configuration runs:");
            let detail = format!("{what}\n{}", changes.join("\n"));
            self.note(Who::gateway(), Action::ConfigurationTakenBack, detail).await;
            self.tell_reverted(by, changes, None, STARTED_ANEW.to_owned());
        }
        forget_note(&data_dir);
    }

    async fn confirm(&mut self, by: &str, force: bool, mut done: Reply<()>) -> Result<(), AppError> {
        let loaded = match self.write_trial(force) {
            Ok(loaded) => loaded,
            Err(error) => {
                done.send(Err(error));
                return Ok(());
            }
        };
        let plan = Plan::settled(loaded.clone());
        if self.must_restart(&plan) {
            done.send(Ok(()));
        }
        // Sinks that were held deliver from here on, and what only the old configuration needed goes.
        if let Err(stays) = self.go(plan).await {
            if let Err(error) = self.put_back() {
                let file = self.path.display();
                tracing::error!(%error, %file, "the file could not be put back: it holds a configuration that did not start");
            }
            if let (true, Stays::Refused(words)) = (done.is_sent(), &stays) {
                self.raise(
                    KEPT,
                    trouble(format!("The change could not be kept: {words}"), Severity::Error, self.now_us()),
                );
            }
            return done.tell(Err(stays));
        }
        let trial = self.end();
        self.keep_in_history(&loaded, by, trial.map(|trial| trial.lines).unwrap_or_default());
        tracing::info!(by, file = %self.path.display(), "the change is kept");
        self.on_disk = Some(loaded.text.clone());
        self.confirmed = loaded;
        self.trials.state.send_modify(|state| state.unwritable = None);
        self.clear(FILE_TROUBLE);
        self.clear(KEPT);
        self.publish();
        done.send(Ok(()));
        Ok(())
    }

    /// Writes what is on trial into the file; gives it back.
    fn write_trial(&mut self, force: bool) -> Result<Loaded, DeskError> {
        // The last look may be a moment old.
        if self.trials.underway.as_mut().is_some_and(Underway::look) {
            self.trials.tell_doubts();
        }
        let Some(trial) = &self.trials.underway else { return Err(DeskError::NoTrial) };
        if trial.doubts.any() && !force {
            return Err(DeskError::Doubtful(trial.doubts.clone()));
        }
        let file = self.path.display().to_string();
        let on_disk = match std::fs::read(&self.path) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(DeskError::Unwritable(format!("{file} cannot be read: {error}"))),
        };
        let is_known = on_disk.as_deref() == self.on_disk.as_ref().map(String::as_bytes);
        if !is_known && on_disk.as_deref() != Some(trial.loaded.text.as_bytes()) {
            return Err(DeskError::FileChanged(file));
        }
        config::file::write(&self.path, &trial.loaded.text).map_err(|error| {
            let why = format!("{file}: {error}");
            self.trials.state.send_modify(|state| state.unwritable = Some(why.clone()));
            DeskError::Unwritable(why)
        })?;
        Ok(trial.loaded.clone())
    }

    /// Brings the file back to what it held.
    fn put_back(&self) -> Result<(), String> {
        match &self.on_disk {
            Some(text) => config::file::write(&self.path, text).map_err(|error| error.to_string()),
            None => std::fs::remove_file(&self.path).map_err(|error| error.to_string()),
        }
    }

    /// Keeps a configuration that was confirmed, and ahead of the first one that which it replaces, so that there is a way back; what
    /// cannot be kept is told and holds nothing up.
    fn keep_in_history(&self, loaded: &Loaded, by: &str, changes: Vec<String>) {
        let history = History::of(&self.confirmed.config.gateway.data_dir);
        let kept = |by: &str, changes| Kept { at_us: self.now_us(), by: by.to_owned(), changes, note: String::new() };
        let first = match &self.on_disk {
            Some(text) if history.list().is_empty() => {
                history.keep(text, kept("the file as it was", Vec::new())).map(drop)
            }
            _ => Ok(()),
        };
        if let Err(error) = first.and_then(|()| history.keep(&loaded.text, kept(by, changes)).map(drop)) {
            tracing::warn!(%error, "the configuration could not be kept in the history");
        }
    }

    /// Takes the trial back, since nobody has confirmed it.
    pub(super) async fn take_back_late(&mut self) -> Result<(), AppError> {
        let within_us = self.trials.underway.as_ref().map_or(0, |trial| trial.until_us.saturating_sub(trial.since_us));
        let within = HumanDuration(Duration::from_micros(within_us.try_into().unwrap_or(0)));
        let why = format!("nobody confirmed it within {within}");
        let by = self.trials.underway.as_ref().map(|trial| trial.by.clone()).unwrap_or_default();
        let taken_back = self.take_back(why.clone()).await;
        let detail = format!("the change of {by} went back by itself: {why}");
        self.note(Who::gateway(), Action::ConfigurationTakenBack, detail).await;
        match taken_back {
            Err(Stays::Ended(error)) => Err(error),
            _ => Ok(()),
        }
    }

    /// Writes into the audit log what nobody did on the page.
    pub(super) async fn note(&self, who: Who, action: Action, detail: String) {
        let Some(access) = &self.handles.access else { return };
        let subject = "configuration".to_owned();
        // Logged where it failed; the configuration is back all the same.
        access.record(Deed { who, from: None, action, subject, detail }).await.ok();
    }

    /// Goes back to the confirmed configuration. If it does not run beside what was tried, everything is started anew by it.
    async fn take_back(&mut self, why: String) -> Result<(), Stays> {
        let plan = Plan::settled(self.confirmed.clone());
        if let Err(stays) = self.go(plan.clone()).await {
            let Stays::Refused(words) = stays else { return Err(stays) };
            tracing::error!("the configuration before the trial does not come back as it is: {words}");
            self.restart(plan).await.map_err(|stays| match stays {
                Stays::Refused(words) => Stays::Ended(AppError::TakeBack(words)),
                stays @ Stays::Ended(_) => stays,
            })?;
        }
        self.current = self.confirmed.config.clone();
        if let Some(trial) = self.end() {
            self.tell_reverted(trial.by, trial.lines, Some(trial.loaded.text), why);
        }
        self.publish();
        Ok(())
    }

    /// Ends a trial that another configuration has put an end to.
    pub(super) fn end_trial(&mut self, why: &str) -> Option<String> {
        let trial = self.end()?;
        self.tell_reverted(trial.by.clone(), trial.lines, Some(trial.loaded.text), why.to_owned());
        Some(trial.by)
    }

    /// Says that a change was tried and not kept, and why.
    fn tell_reverted(&mut self, by: String, changes: Vec<String>, text: Option<String>, why: String) {
        let now_us = self.now_us();
        tracing::warn!(by, "the change on trial was taken back: {why}");
        let what = format!("The change that {by} tried was taken back: {why}");
        self.raise(REVERTED, trouble(what, Severity::Info, now_us));
        self.trials.told_until = Some(Instant::now() + REVERTED_TOLD);
        let reverted = Reverted { at_us: now_us, by, why, changes, text: text.map(Into::into) };
        self.trials.state.send_modify(|state| state.reverted = Some(reverted));
    }

    fn now_us(&self) -> UnixMicros {
        self.clock.tick().wall_us
    }

    /// Ends the telling of a trial that was taken back; what was tried is shown until the next one.
    pub(super) fn forget_reverted(&mut self) {
        self.trials.told_until = None;
        self.clear(REVERTED);
        if self.trials.underway.is_some() {
            self.trials.state.send_modify(|state| state.reverted = None);
        }
    }
}

fn forget_note(data_dir: &Path) {
    if let Err(error) = on_trial::forget(data_dir) {
        tracing::warn!(%error, "the note of a change on trial could not be removed; the next start tells of it again");
    }
}

/// Who made a trial that more than one had a hand in.
fn both(before: &str, by: &str) -> String {
    let known = before.split(AND).any(|name| name == by) || before.ends_with(OTHERS);
    if known {
        before.to_owned()
    } else if before.split(AND).count() >= NAMED_MAX {
        format!("{before}{AND}{OTHERS}")
    } else {
        format!("{before}{AND}{by}")
    }
}

fn trouble(what: String, severity: Severity, since_us: UnixMicros) -> Trouble {
    let advice = "The configuration before it runs again; what was tried can be tried again at the page".to_owned();
    Trouble { subject: "configuration".to_owned(), what, advice, severity, since_us }
}

/// Where an answer goes, once.
struct Reply<T>(Option<oneshot::Sender<Result<T, DeskError>>>);

impl<T> Reply<T> {
    /// Answers, unless that is done.
    fn send(&mut self, answer: Result<T, DeskError>) {
        if let Some(done) = self.0.take() {
            // Whoever asked may have gone.
            done.send(answer).ok();
        }
    }

    fn is_sent(&self) -> bool {
        self.0.is_none()
    }

    /// Answers with how it went; an error if nothing runs any more.
    fn tell(&mut self, went: Result<T, Stays>) -> Result<(), AppError> {
        match went {
            Ok(done) => self.send(Ok(done)),
            Err(Stays::Refused(words)) => self.send(Err(DeskError::Refused(words))),
            Err(Stays::Ended(error)) => {
                self.send(Err(DeskError::Refused(error.to_string())));
                return Err(error);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_had_a_hand_in_a_trial_is_named_once() {
        assert_eq!(both("anna", "ben"), "anna, ben");
        assert_eq!(both("anna, ben", "anna"), "anna, ben");
        assert_eq!(both("anna, ben", "cleo"), "anna, ben, cleo");
        let many = both("anna, ben, cleo", "dora");
        assert_eq!(many, "anna, ben, cleo, others");
        assert_eq!(both(&many, "emil"), many);
    }
}
