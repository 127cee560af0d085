//! The one way in which the page and the interface change the configuration: a whole new text is looked at, handed in on
//! trial, and written into the audit log with what differs. What is wrong comes back at its place.

use super::failure::{Failure, FieldError};
use super::live::Shared;
use super::visit::Visit;
use crate::access::{Action, Deed};
use crate::config::desk::{Change, DeskError, Revision};
use crate::config::history::{DiffKind, diff};
use crate::config::{Config, Examined, Problem, Reserved, examine, parse, redacted_toml, restore};
use crate::secret::SecretFile;
use std::time::Duration;

/// How long a change waits to be confirmed if nobody chose: enough to look at a live value, and to walk to the device.
pub(in crate::web) const CONFIRM_WITHIN: Duration = Duration::from_secs(5 * 60);

/// The times that a form offers, in minutes.
pub(in crate::web) const CONFIRM_MINUTES: [u64; 4] = [1, 5, 15, 60];

/// The time that a form's field `confirm_within` says, in minutes; the usual one for anything that is not offered.
pub(in crate::web) fn confirm_within(minutes: &str) -> Duration {
    let offered = minutes.trim().parse().ok().filter(|minutes| CONFIRM_MINUTES.contains(minutes));
    offered.map_or(CONFIRM_WITHIN, |minutes| Duration::from_secs(minutes * 60))
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
    let text = restored(shared, &text)?;
    let examined = look_at(text.clone()).await?;
    if !examined.problems.is_empty() {
        return Err(wrong(&examined.problems));
    }
    let before = shared.state.desk.state().borrow().text.clone();
    refuse_running(&before, examined).await?;
    let change =
        Change { text: text.clone(), base: Revision(base.to_owned()), by: visit.name().to_owned(), confirm_within };
    let changes = shared.state.desk.try_out(change).await.map_err(failed)?;
    record(shared, visit, Action::ConfigurationTried, what, difference(&before, &text)).await;
    Ok(changes)
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

fn unfit_at(path: &str, message: String) -> Failure {
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

/// Keeps what is on trial; with `force` also though no reading has come in.
pub(in crate::web) async fn keep(shared: &Shared, visit: &Visit, force: bool) -> Result<(), Failure> {
    let difference = on_trial(shared);
    shared.state.desk.confirm(visit.name(), force).await.map_err(failed)?;
    record(shared, visit, Action::ConfigurationKept, "configuration", difference).await;
    Ok(())
}

/// Takes back what is on trial.
pub(in crate::web) async fn take_back(shared: &Shared, visit: &Visit) -> Result<(), Failure> {
    let difference = on_trial(shared);
    shared.state.desk.revert(visit.name()).await.map_err(failed)?;
    record(shared, visit, Action::ConfigurationTakenBack, "configuration", difference).await;
    Ok(())
}

/// A text that was shown, with its hidden secrets put back from what runs, or from what was tried last.
pub(in crate::web) fn restored(shared: &Shared, shown: &str) -> Result<String, Failure> {
    // Browsers end the lines of a text area as in mail.
    let shown = shown.replace("\r\n", "\n");
    let desk = shared.state.desk.state();
    let (running, tried) = {
        let desk = desk.borrow();
        (desk.text.clone(), desk.reverted.as_ref().map(|reverted| reverted.text.clone()))
    };
    restore(&shown, &running)
        .or_else(|problems| tried.and_then(|tried| restore(&shown, &tried).ok()).ok_or(problems))
        .map_err(|problems| wrong(&problems))
}

/// Looks at a text as `forebay check` does, on a thread that may wait: it may be long, and files are read.
pub(in crate::web) async fn look_at(text: String) -> Result<Examined, Failure> {
    apart(move || examine(&text)).await
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
fn on_trial(shared: &Shared) -> String {
    let desk = shared.state.desk.state();
    let desk = desk.borrow().clone();
    desk.trial.map_or_else(String::new, |trial| difference(&trial.before, &desk.text))
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
        DeskError::Conflict { .. } | DeskError::FileChanged(_) | DeskError::NoTrial | DeskError::NothingFlows => {
            Failure::conflict(error.to_string())
        }
        DeskError::Unwritable(_) | DeskError::Closed => Failure::unavailable(error.to_string()),
    }
}
