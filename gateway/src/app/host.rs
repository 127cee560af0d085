//! The gateway as a process: started, told to go by another configuration, started anew in place, stopped. Everything that asks
//! for such a thing (signals, tools, the desk) is worked off here, one at a time.

use super::plan::Plan;
use super::reload::needs_restart;
use super::trial::Trials;
use super::{AppError, Event, Handles, Running, build_sinks, page, start_by, supervisor};
use crate::access::{Action, Rights, Who};
use crate::block::records::Severity;
use crate::clock::Clock;
use crate::config::desk::{Desk, DeskRequest, DeskState, Revision};
use crate::config::history::{History, Kept};
use crate::config::secrets::Secrets;
use crate::config::{self, Config, Loaded};
use crate::control::ReloadRequest;
use crate::logs::LogRing;
use crate::site::Registry;
use crate::status::{Status, Trouble};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;

/// The key of the trouble that the file on disk is not what runs.
pub(super) const FILE_TROUBLE: &str = "config/reload";

/// Who is said to have made a text that the history does not know.
const AS_FOUND: &str = "the file as it was found";

/// A gateway and what may be asked of it.
pub(super) struct Host {
    /// The file of the configuration.
    pub(super) path: PathBuf,
    /// What the file held when it was last read or written; nothing if there is none yet.
    pub(super) on_disk: Option<String>,
    /// The configuration that comes back from a trial.
    pub(super) confirmed: Loaded,
    /// The configuration that runs, as people wrote it.
    pub(super) current: Config,
    pub(super) trials: Trials,
    pub(super) clock: Clock,
    /// Absent while it is started anew.
    running: Option<Running>,
    pub(super) handles: Handles,
    /// What the watchdog looks at.
    watched: watch::Sender<Option<Arc<Status>>>,
}

/// What is asked of the gateway.
pub(super) enum Asked {
    /// To read the file again; by a signal, nobody waits for the answer.
    Reload(Option<ReloadRequest>),
    /// Something at the desk.
    Desk(DeskRequest),
    /// Something else speaks against the trial than before, or nothing any more.
    Doubts,
    /// Nobody has confirmed in time.
    Late,
    /// A trial that was taken back was told long enough.
    ToldEnough,
}

/// Why the gateway does not go by another configuration.
pub(super) enum Stays {
    /// The old one runs on; why, for a person.
    Refused(String),
    /// Neither runs.
    Ended(AppError),
}

/// Runs the gateway until it is asked to stop (SIGTERM, SIGINT), telling systemd how it is. On SIGHUP, or when the command line
/// asks for it, the configuration is read again from `path`; without `has_file` there is none yet, and the first confirmed change
/// makes it.
///
/// # Errors
/// If it cannot start, or a part ends that must not end.
pub async fn run(loaded: Loaded, path: PathBuf, has_file: bool, logs: LogRing) -> Result<(), AppError> {
    let mut host = Host::start(loaded, path, has_file, logs).await?;
    let mut watchdog = pin!(supervisor::tell_systemd(host.watched.subscribe()));
    let mut stop = pin!(supervisor::asked_to_stop());
    let mut hangups = supervisor::Hangups::new();
    let ended = loop {
        let asked = tokio::select! {
            asked = host.next() => match asked {
                Ok(asked) => asked,
                Err(error) => break Err(error),
            },
            () = &mut stop => break Ok(()),
            never = &mut watchdog => match never {},
            () = hangups.next() => Asked::Reload(None),
        };
        let done = tokio::select! {
            done = host.work(asked) => done,
            // Half of a change is as good as none: all parts end, and the next start reads the file.
            () = &mut stop => break Ok(()),
            never = &mut watchdog => match never {},
        };
        if let Err(error) = done {
            break Err(error);
        }
    };
    supervisor::tell_stopping();
    tracing::info!("stopping");
    if let Some(running) = host.running.take() {
        running.stop().await;
    }
    ended
}

impl Host {
    async fn start(loaded: Loaded, path: PathBuf, has_file: bool, logs: LogRing) -> Result<Self, AppError> {
        let clock = Clock::system();
        let on_disk = has_file.then(|| loaded.text.clone());
        let mut state = DeskState::of(&loaded.text);
        state.unwritable = config::file::check_writable(&path).err().map(|error| error.to_string());
        if let Some(why) = &state.unwritable {
            tracing::warn!("changes made on the page cannot be kept: {why}");
        }
        let state = watch::Sender::new(state);
        let (desk, requests) = Desk::new(state.subscribe());
        let mut handles = Handles { desk, access: None, logs };
        let running = start_by(Plan::settled(loaded.clone()), clock.clone(), handles.clone()).await?;
        handles.access = Some(running.web_state.access.clone());
        tracing::info!(page = running.page.map(|page| page::address(page, running.web_state.tls.mode())), "ready");
        let watched = watch::Sender::new(Some(running.status.clone()));
        settle_files(&loaded, on_disk.as_deref(), &clock);
        let (current, trials) = (loaded.config.clone(), Trials::new(requests, state));
        let mut host =
            Self { path, on_disk, confirmed: loaded, current, trials, clock, running: Some(running), handles, watched };
        host.tell_what_was_on_trial().await;
        Ok(host)
    }

    /// What is asked next; an error if a part has ended that must not end.
    async fn next(&mut self) -> Result<Asked, AppError> {
        let Some(running) = &mut self.running else { return Err(AppError::Ended("the gateway".to_owned())) };
        tokio::select! {
            event = running.event() => match event {
                Event::Ended(error) => Err(error),
                Event::Reload(asked) => Ok(Asked::Reload(Some(asked))),
            },
            asked = self.trials.next() => Ok(asked),
        }
    }

    /// Does what is asked; an error if nothing runs afterwards.
    async fn work(&mut self, asked: Asked) -> Result<(), AppError> {
        supervisor::tell_reloading();
        let done = match asked {
            Asked::Reload(asked) => {
                let (answer, ended) = match self.reload_file().await {
                    Ok(lines) => (Ok(lines), Ok(())),
                    Err(Stays::Refused(words)) => (Err(words), Ok(())),
                    Err(Stays::Ended(error)) => (Err(error.to_string()), Err(error)),
                };
                if let Ok(lines) = &answer {
                    let who = Who { name: "forebay".to_owned(), rights: Rights::default(), ..Who::tool() };
                    let detail = format!("the file was read again: {}", lines.join("; "));
                    self.note(who, Action::ConfigurationKept, detail).await;
                }
                if let Some(asked) = asked {
                    // Whoever asked may have gone.
                    asked.send(answer).ok();
                }
                ended
            }
            // Much is kept over its awaits: not in every other turn of the loop, too.
            Asked::Desk(request) => Box::pin(self.serve(request)).await,
            Asked::Late => self.take_back_late().await,
            Asked::Doubts => {
                self.trials.tell_doubts();
                Ok(())
            }
            Asked::ToldEnough => {
                self.forget_reverted();
                Ok(())
            }
        };
        supervisor::tell_reloaded();
        done
    }

    /// Reads the file again and goes on by it: the answer says what changed, a line each, or everything that is wrong. On any
    /// error the old configuration stays in all its parts, and the page says so. A file that is sound ends a trial.
    async fn reload_file(&mut self) -> Result<Vec<String>, Stays> {
        let result = match config::load(&self.path) {
            Ok(loaded) => self.take_in(loaded).await,
            Err(errors) => Err(Stays::Refused(errors.to_string())),
        };
        let now_us = self.clock.tick().wall_us;
        match &result {
            Ok(lines) => {
                tracing::info!(changes = lines.join("; "), "the configuration was read again");
                self.clear(FILE_TROUBLE);
            }
            Err(Stays::Refused(words)) => {
                tracing::error!("the configuration was read again and refused; the old one stays: {words}");
                let trouble = Trouble {
                    subject: "configuration".to_owned(),
                    what: format!("The new configuration was refused and the old one stays: {words}"),
                    advice: "Correct the file and reload again (forebay reload)".to_owned(),
                    severity: Severity::Error,
                    since_us: now_us,
                };
                self.raise(FILE_TROUBLE, trouble);
            }
            Err(Stays::Ended(_)) => {}
        }
        result
    }

    /// Goes on by what the file says. What needs a restart is left to a person who restarts: a script that has the file read again
    /// does not expect the page and all connections to go.
    async fn take_in(&mut self, loaded: Loaded) -> Result<Vec<String>, Stays> {
        if let Some(what) = needs_restart(&self.confirmed.config, &loaded.config) {
            return Err(Stays::Refused(format!(
                "{what} has changed, which needs a restart of forebay; everything else waits with it"
            )));
        }
        warn(&loaded);
        let mut lines = super::reload::changes(&self.current, &loaded.config);
        self.go(Plan::settled(loaded.clone())).await?;
        self.on_disk = Some(loaded.text.clone());
        (self.current, self.confirmed) = (loaded.config.clone(), loaded);
        if let Some(by) = self.end_trial("the file was read again, and it goes first") {
            lines.push(format!("the change of {by} that was on trial has ended"));
        }
        self.publish();
        Ok(lines)
    }

    /// Goes on by a plan, if need be by starting everything anew.
    pub(super) async fn go(&mut self, plan: Plan) -> Result<(), Stays> {
        let Some(running) = &mut self.running else {
            return Err(Stays::Ended(AppError::Ended("the gateway".to_owned())));
        };
        if needs_restart(&running.plan.config, &plan.config).is_some() {
            return self.restart(plan).await;
        }
        running.go_by(plan).await.map_err(|error| Stays::Refused(error.to_string()))
    }

    /// Whether a plan needs a start in place.
    pub(super) fn must_restart(&self, plan: &Plan) -> bool {
        self.running.as_ref().is_none_or(|running| needs_restart(&running.plan.config, &plan.config).is_some())
    }

    /// Whether a plan moves the page, so that the connection of whoever asked over it ends.
    pub(super) fn moves_page(&self, plan: &Plan) -> bool {
        self.running.as_ref().is_some_and(|running| running.plan.config.web.listen != plan.config.web.listen)
    }

    /// Whether the page can be had where a plan moves it.
    pub(super) async fn look_at_page(&self, plan: &Plan) -> Result<(), Stays> {
        let own_port = self.running.as_ref().and_then(|running| running.page).map(|page| page.port());
        let free = super::reload::can_listen(&plan.config.web.listen, own_port).await;
        free.map_err(|error| Stays::Refused(error.to_string()))
    }

    /// What of a plan can be seen to fail without a stop.
    pub(super) fn look_over(plan: &Plan) -> Result<(), Stays> {
        let is_fit = build_sinks(&plan.config.gateway.id, &plan.config.sink).and(plan.store_options().map(drop));
        is_fit.map_err(|error| Stays::Refused(error.to_string()))
    }

    /// Ends everything in order and starts it by a plan, in the same process. If that fails, what ran before is started again.
    ///
    /// Whoever asked over the page or the control socket must have an answer before: their connections end, too.
    pub(super) async fn restart(&mut self, plan: Plan) -> Result<(), Stays> {
        Self::look_over(&plan)?;
        let Some(old) = self.running.take() else {
            return Err(Stays::Ended(AppError::Ended("the gateway".to_owned())));
        };
        tracing::info!("everything is started anew in place");
        self.watched.send_replace(None);
        let before = old.plan.clone();
        old.stop().await;
        let error = match self.start_anew(plan).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        tracing::error!(%error, "the gateway could not be started anew; it goes back to what ran before");
        self.start_anew(before).await.map_err(Stays::Ended)?;
        Err(Stays::Refused(error.to_string()))
    }

    async fn start_anew(&mut self, plan: Plan) -> Result<(), AppError> {
        let running = start_by(plan, self.clock.clone(), self.handles.clone()).await?;
        self.watched.send_replace(Some(running.status.clone()));
        self.running = Some(running);
        Ok(())
    }

    /// The last values of the points, and their names.
    pub(super) fn points(&self) -> Option<(Arc<Status>, Arc<Registry>)> {
        let state = &self.running.as_ref()?.web_state;
        Some((state.status.clone(), state.registry.clone()))
    }

    /// Raises a trouble, where there is a gateway to tell it.
    pub(super) fn raise(&self, key: &str, trouble: Trouble) {
        if let Some(running) = &self.running {
            running.status.raise(key, trouble);
        }
    }

    /// Ends a trouble, if it was raised.
    pub(super) fn clear(&self, key: &str) {
        if let Some(running) = &self.running {
            running.status.clear(key, self.clock.tick().wall_us);
        }
    }

    /// Publishes what runs and what is on trial.
    pub(super) fn publish(&self) {
        let text: &str = self.running.as_ref().map_or(&self.confirmed.text, |running| &running.plan.text);
        self.trials.publish(text, &self.confirmed.text);
    }
}

/// Puts in order what a power cut, or someone else, has left: a file that the history does not know as its newest is kept there, and
/// secrets that nobody names any more go. What cannot be done is told and holds nothing up.
fn settle_files(loaded: &Loaded, on_disk: Option<&str>, clock: &Clock) {
    let data_dir = &loaded.config.gateway.data_dir;
    let history = History::of(data_dir);
    let versions = history.list();
    if let (Some(text), Some(newest)) = (on_disk, versions.first())
        && newest.revision != Revision::of(text)
    {
        let (at_us, by) = (clock.tick().wall_us, AS_FOUND.to_owned());
        let kept = Kept { at_us, by, changes: Vec::new(), note: String::new() };
        if let Err(error) = history.keep(text, kept) {
            tracing::warn!(%error, "the file as it was found could not be kept in the history");
        }
    }
    let secrets = Secrets::of(data_dir);
    if secrets.list().is_empty() {
        return;
    }
    let mut texts = vec![loaded.text.clone()];
    texts.extend(versions.iter().filter_map(|version| Some(history.get(version.n).ok()?.1)));
    if texts.len() <= versions.len() {
        // A version that cannot be read may name any of them.
        return;
    }
    let wall_us = u64::try_from(clock.tick().wall_us).unwrap_or_default();
    let removed = secrets.tidy(&texts, SystemTime::UNIX_EPOCH + Duration::from_micros(wall_us));
    if !removed.is_empty() {
        tracing::info!(names = removed.join(", "), "secrets that nobody names any more were removed");
    }
}

/// Logs what may be meant, but should be known.
pub(super) fn warn(loaded: &Loaded) {
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_file_that_the_history_does_not_know_is_kept_there_and_secrets_of_no_use_go() {
        let dir = tempfile::tempdir().unwrap();
        let secrets = Secrets::of(dir.path());
        let named = secrets.write("broker-password", "s3cret").unwrap();
        secrets.write("try-out-1234abcd", "s3cret").unwrap();
        let text = format!("[gateway]\nid = \"a\"\ndata_dir = {:?}\n", dir.path());
        let loaded = |text: &str| config::parse("test", text.to_owned()).unwrap();
        // One that was never set: nobody knows how long a secret has lain.
        let clock = Clock::manual(1, 1, 0);
        let history = History::of(dir.path());
        settle_files(&loaded(&text), Some(&text), &clock);
        assert!(history.list().is_empty(), "before the first change there is nothing to go back to");
        assert_eq!(secrets.list(), ["broker-password"]);

        let kept = Kept { at_us: 1, by: "anna".to_owned(), changes: Vec::new(), note: String::new() };
        history.keep(&format!("{text}# {}\n", named.display()), kept).unwrap();
        settle_files(&loaded(&text), Some(&text), &clock);
        let newest = &history.list()[0];
        assert_eq!((newest.by.as_str(), history.get(newest.n).unwrap().1.as_str()), (AS_FOUND, text.as_str()));
        settle_files(&loaded(&text), Some(&text), &clock);
        assert_eq!(history.list().len(), 2, "once");
        let late = Clock::manual(1, 1, 4_000_000_000_000_000);
        settle_files(&loaded(&text), Some(&text), &late);
        assert_eq!(secrets.list(), ["broker-password"], "an older version names it");
    }
}
