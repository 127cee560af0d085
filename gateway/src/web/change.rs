//! The one way in which the page and the interface change the configuration: a whole new text is looked at, handed in on
//! trial, and written into the audit log with what differs. What is wrong comes back at its place.

use super::failure::{Failure, FieldError};
use super::live::Shared;
use super::visit::Visit;
use crate::access::{Action, Deed};
use crate::config::desk::{Change, DeskError, Revision};
use crate::config::history::{DiffKind, diff};
use crate::config::{
    Config, Examined, FILE_BYTES_MAX, HttpsMode, Problem, Reserved, examine, parse, redacted_toml, restore,
};
use crate::reading::MonoMicros;
use crate::secret::SecretFile;
use axum::http::StatusCode;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// How long a change waits to be confirmed if nobody chose: enough to look at a live value, and to walk to the device.
pub(in crate::web) const CONFIRM_WITHIN: Duration = Duration::from_secs(5 * 60);

/// Most trials within [`TRIALS_WINDOW`], and most of one person or token: more than hands can do; a program that turns in circles is
/// stopped, and does not stop the others.
const TRIALS_MAX: usize = 30;
const OWN_TRIALS_MAX: usize = 15;
const TRIALS_WINDOW: Duration = Duration::from_secs(60);

/// Texts that are looked at once: each takes a processor for up to some seconds if it is as long as one may be.
const LOOKS_MAX: usize = 2;

/// How long a look waits for its turn: the page asks as someone types.
const LOOK_WAIT: Duration = Duration::from_secs(10);

/// When a refused look may be tried again, in seconds.
const RETRY_AFTER_S: u64 = 5;

/// The times that a form offers, in minutes.
pub(in crate::web) const CONFIRM_MINUTES: [u64; 4] = [1, 5, 15, 60];

/// The time that a form's field `confirm_within` says, in minutes; the usual one for anything that is not offered.
pub(in crate::web) fn confirm_within(minutes: &str) -> Duration {
    let offered = minutes.trim().parse().ok().filter(|minutes| CONFIRM_MINUTES.contains(minutes));
    offered.map_or(CONFIRM_WITHIN, |minutes| Duration::from_secs(minutes * 60))
}

/// When the last trials began.
#[derive(Debug, Default)]
pub(in crate::web) struct Trials(Mutex<VecDeque<(MonoMicros, String)>>);

impl Trials {
    /// One more, unless there were too many just now: each stops and starts parts of the gateway, and is in the audit log.
    fn begin(&self, by: &str, now_us: MonoMicros) -> Result<(), Failure> {
        let mut begun = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let window_us = u64::try_from(TRIALS_WINDOW.as_micros()).unwrap_or(u64::MAX);
        while begun.front().is_some_and(|(at_us, _)| now_us.saturating_sub(*at_us) >= window_us) {
            begun.pop_front();
        }
        let own = begun.iter().filter(|(_, known)| known == by).count();
        if begun.len() >= TRIALS_MAX || own >= OWN_TRIALS_MAX {
            let sentence = "the configuration was changed many times within a minute; wait a minute, then try again";
            let failure = Failure::new(StatusCode::TOO_MANY_REQUESTS, "Too many attempts", sentence);
            return Err(Failure { retry_after_s: Some(TRIALS_WINDOW.as_secs()), ..failure });
        }
        begun.push_back((now_us, by.to_owned()));
        Ok(())
    }
}

/// Hands in a new text of the configuration, made from the revision `base`; it runs on trial once this returns, and what
/// changed is answered, a line each. `what` names the change in the audit log: a name, or a place. Secrets that were hidden
/// when the text was shown are put back.
pub(in crate::web) async fn hand_in(
    shared: &Shared,
    visit: &Visit,
    base: &str,
    text: String,
    what: &str,
) -> Result<Vec<String>, Failure> {
    hand_in_within(shared, visit, base, text, what, CONFIRM_WITHIN).await
}

/// The same with a time of one's own to confirm it.
pub(in crate::web) async fn hand_in_within(
    shared: &Shared,
    visit: &Visit,
    base: &str,
    text: String,
    what: &str,
    confirm_within: Duration,
) -> Result<Vec<String>, Failure> {
    try_text(shared, visit, base, text, what, confirm_within).await.map(|(changes, _)| changes)
}

/// The same, and the revision that runs now.
pub(in crate::web) async fn try_text(
    shared: &Shared,
    visit: &Visit,
    base: &str,
    text: String,
    what: &str,
    confirm_within: Duration,
) -> Result<(Vec<String>, Revision), Failure> {
    let text = restored(shared, &text).await?;
    let examined = look_at(text.clone()).await?;
    if !examined.problems.is_empty() {
        return Err(wrong(&examined.problems));
    }
    shared.trials.begin(&by_whom(visit), shared.state.clock.mono_us())?;
    let before = shared.state.desk.state().borrow().text.clone();
    refuse_running(&before, examined).await?;
    let (running, wanted) = (before.to_string(), text.clone());
    let change =
        Change { text: text.clone(), base: Revision(base.to_owned()), by: visit.name().to_owned(), confirm_within };
    let (changes, revision) = (shared.state.desk.try_out(change).await.map_err(failed)?, Revision::of(&text));
    let difference = apart(move || difference(&before, &text)).await?;
    record(shared, visit, Action::ConfigurationTried, what, difference).await;
    say_where(visit, &running, &wanted, "open it there and keep the change, or it goes back by itself").await?;
    Ok((changes, revision))
}

/// Says on the page where it is from now on, if a change moves it: what comes next would not be answered here.
async fn say_where(visit: &Visit, old: &str, new: &str, next: &str) -> Result<(), Failure> {
    if visit.interface {
        return Ok(());
    }
    let (old, new) = (old.to_owned(), new.to_owned());
    let listens = apart(move || {
        let web = |text: String| parse("configuration", text).ok().map(|loaded| loaded.config.web);
        web(old).zip(web(new)).filter(|(old, new)| old.listen != new.listen).map(|(_, new)| new)
    });
    let Some(web) = listens.await? else { return Ok(()) };
    let (name, port) = web.listen.rsplit_once(':').unwrap_or((&web.listen, ""));
    let everywhere = name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|address| address.is_unspecified());
    let host = if everywhere && !visit.host.is_empty() { visit.host.as_str() } else { name };
    let scheme = if visit.secure && web.https != HttpsMode::Off { "https" } else { "http" };
    let sentence = format!("the page moves to {scheme}://{host}:{port}; {next}");
    Err(Failure::new(StatusCode::OK, "The page moves", sentence))
}

/// Who asks, apart from another of the same name that is no person, or none.
pub(in crate::web) fn by_whom(visit: &Visit) -> String {
    format!("{:?} {}", visit.who.as_ref().map(|who| who.kind), visit.name())
}

/// Refuses a text that names as a secret what the gateway that runs keeps for itself, though the text has it elsewhere.
async fn refuse_running(running: &str, examined: Examined) -> Result<(), Failure> {
    let running = running.to_owned();
    let refusals = apart(move || {
        let running = parse("configuration", running).ok()?.config;
        Some(Reserved::of(&running).refusals(&examined.config?))
    });
    match refusals.await?.unwrap_or_default().as_slice() {
        [] => Ok(()),
        [(path, message), ..] => Err(unfit_at(path, message.clone())),
    }
}

/// Refuses to try, or to search with, a secret that the gateway keeps for itself. The option is named as in the request.
pub(in crate::web) async fn refuse_reserved(
    config: &Config,
    secret: Option<(&str, &SecretFile)>,
) -> Result<(), Failure> {
    let Some((path, file)) = secret else { return Ok(()) };
    let (reserved, file) = (Reserved::of(config), file.clone());
    match apart(move || reserved.refusal(&file)).await? {
        Some(message) => Err(unfit_at(path, message)),
        None => Ok(()),
    }
}

/// Something that does not fit at one place.
pub(in crate::web) fn unfit_at(path: &str, message: String) -> Failure {
    let field = FieldError { path: path.to_owned(), message: message.clone(), line: 0, column: 0 };
    Failure::unfit(message, vec![field])
}

/// A try-out or a search, for the audit log.
pub(in crate::web) struct Look<'a> {
    /// What it is.
    pub(in crate::web) what: String,
    /// Where it goes to.
    pub(in crate::web) address: String,
    /// The file of the secret that goes there.
    pub(in crate::web) secret: Option<&'a SecretFile>,
}

/// Writes a try-out or a search into the audit log, before it begins.
pub(in crate::web) async fn record_look(shared: &Shared, visit: &Visit, look: Look<'_>) {
    let secret = look.secret.map_or_else(String::new, |file| format!(", with the secret in {:?}", file.0));
    let detail = look.what + &secret;
    record(shared, visit, Action::Operated, &redacted_toml(&look.address), detail).await;
}

/// Keeps what is on trial; with `force` also though something speaks against it.
pub(in crate::web) async fn keep(
    shared: &Shared,
    visit: &Visit,
    force: bool,
    seen: Option<&Revision>,
) -> Result<(), Failure> {
    is_still(shared, seen)?;
    let difference = on_trial(shared).await?;
    shared.state.desk.confirm(visit.name(), force).await.map_err(failed)?;
    record(shared, visit, Action::ConfigurationKept, "configuration", difference).await;
    Ok(())
}

/// Takes back what is on trial; what was seen, if that is said.
pub(in crate::web) async fn take_back(shared: &Shared, visit: &Visit, seen: Option<&Revision>) -> Result<(), Failure> {
    is_still(shared, seen)?;
    let desk = shared.state.desk.state().borrow().clone();
    let difference = on_trial(shared).await?;
    shared.state.desk.revert(visit.name()).await.map_err(failed)?;
    record(shared, visit, Action::ConfigurationTakenBack, "configuration", difference).await;
    let before = desk.trial.map(|trial| trial.before.to_string()).unwrap_or_default();
    say_where(visit, &desk.text, &before, "open it there again").await
}

/// Nobody decides about what they have not seen: whoever says what that was is told if another text runs by now.
pub(in crate::web) fn is_still(shared: &Shared, seen: Option<&Revision>) -> Result<(), Failure> {
    let now = shared.state.desk.state().borrow().revision.clone();
    match seen {
        Some(seen) if *seen != now => Err(failed(DeskError::Conflict { now })),
        _ => Ok(()),
    }
}

/// A text that was shown, with its hidden secrets put back from what runs, or from what was tried last.
pub(in crate::web) async fn restored(shared: &Shared, shown: &str) -> Result<String, Failure> {
    if shown.len() as u64 > FILE_BYTES_MAX {
        let sentence = format!("the text is larger than {} KiB", FILE_BYTES_MAX / 1024);
        return Err(Failure::unfit(sentence, Vec::new()));
    }
    // Browsers end the lines of a text area as in mail.
    let shown = shown.replace("\r\n", "\n");
    let desk = shared.state.desk.state();
    let (running, tried) = {
        let desk = desk.borrow();
        (desk.text.clone(), desk.reverted.as_ref().and_then(|reverted| reverted.text.clone()))
    };
    let restored = counted(move || {
        restore(&shown, &running)
            .or_else(|problems| tried.and_then(|tried| restore(&shown, &tried).ok()).ok_or(problems))
    });
    restored.await?.map_err(|problems| wrong(&problems))
}

/// Looks at a text as `forebay check` does, on a thread that may wait: it may be long, and files are read.
pub(in crate::web) async fn look_at(text: String) -> Result<Examined, Failure> {
    counted(move || examine(&text)).await
}

/// Does what takes a whole text apart, a few at a time: readings need the processor as well.
async fn counted<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    static LOOKS: Semaphore = Semaphore::const_new(LOOKS_MAX);
    let Ok(Ok(turn)) = timeout(LOOK_WAIT, LOOKS.acquire()).await else {
        let sentence = "several texts of the configuration are looked at already; try again in some seconds";
        return Err(Failure { retry_after_s: Some(RETRY_AFTER_S), ..Failure::unavailable(sentence) });
    };
    // The work goes on though nobody waits any more; so does its turn.
    apart(move || {
        let _turn = turn;
        work()
    })
    .await
}

/// Does what waits for the disk, or counts for long, on a thread that may.
pub(in crate::web) async fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| Failure::unavailable("the gateway is about to end; open its page again in a minute"))
}

/// What is wrong with a text, each at its place.
pub(in crate::web) fn wrong(problems: &[Problem]) -> Failure {
    let detail = match problems {
        [one] => one.message.clone(),
        problems => format!("{} things are wrong with the configuration; nothing was changed", problems.len()),
    };
    Failure::unfit(detail, problems.iter().map(FieldError::from).collect())
}

/// What differs between two texts, without their secrets, as text for the audit log.
pub(in crate::web) fn difference(old: &str, new: &str) -> String {
    let mut text = String::new();
    for line in diff(&redacted_toml(old), &redacted_toml(new)) {
        text.push_str(match line.kind {
            DiffKind::Same => " ",
            DiffKind::Removed => "-",
            DiffKind::Added => "+",
            DiffKind::Skipped => "…",
        });
        text.push_str(&line.text);
        text.push('\n');
    }
    text
}

/// What the trial under way has changed.
async fn on_trial(shared: &Shared) -> Result<String, Failure> {
    let desk = shared.state.desk.state();
    let desk = desk.borrow().clone();
    let Some(trial) = desk.trial else { return Ok(String::new()) };
    apart(move || difference(&trial.before, &desk.text)).await
}

async fn record(shared: &Shared, visit: &Visit, action: Action, subject: &str, detail: String) {
    let Some(who) = visit.who.clone() else { return };
    let deed = Deed { who, from: Some(visit.from), action, subject: subject.to_owned(), detail };
    // That it could not be written is logged there; what runs already runs.
    shared.state.access.record(deed).await.ok();
}

fn failed(error: DeskError) -> Failure {
    match error {
        DeskError::Invalid(problems) => wrong(&problems),
        DeskError::Refused(why) => Failure::unfit(why, Vec::new()),
        DeskError::Conflict { .. } | DeskError::FileChanged(_) | DeskError::NoTrial | DeskError::Doubtful(_) => {
            Failure::conflict(error.to_string())
        }
        DeskError::Unwritable(_) | DeskError::Closed => Failure::unavailable(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_turns_in_circles_does_not_wash_the_audit_log_away() {
        let trials = Trials::default();
        let refused = |by: &str, now_us| trials.begin(by, now_us).err().map(|failure| failure.status.as_u16());
        for _ in 0..OWN_TRIALS_MAX {
            assert_eq!(refused("loop", 5), None);
        }
        assert_eq!(refused("loop", 6), Some(429));
        for _ in OWN_TRIALS_MAX..TRIALS_MAX {
            assert_eq!(refused("anna", 6), None, "one who turns in circles does not stop the others");
        }
        assert_eq!(refused("ben", 6), Some(429));
        assert_eq!(refused("loop", 5 + 60_000_000), None);
    }
}
