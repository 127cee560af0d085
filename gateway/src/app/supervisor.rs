//! Tasks under a name: who runs, who ended though nobody asked, who does not end when asked. And the service manager's side of it.

use crate::status::Status;
use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::{AbortHandle, Id, JoinSet};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

/// Longest that a start in place may take: the same as the unit's `TimeoutStartSec`.
const RESTART_TIME: Duration = Duration::from_mins(5);

/// A group of tasks that run until they are told to stop, together or one by one.
#[derive(Debug)]
pub(super) struct Supervisor {
    kind: &'static str,
    tasks: JoinSet<()>,
    parts: HashMap<Id, Part>,
    /// One that ended while others were awaited.
    ended: Option<String>,
    stop: CancellationToken,
}

#[derive(Debug)]
struct Part {
    name: String,
    stop: CancellationToken,
    task: AbortHandle,
}

impl Supervisor {
    /// A group without tasks; `kind` names it in the log.
    pub(super) fn new(kind: &'static str) -> Self {
        let stop = CancellationToken::new();
        Self { kind, tasks: JoinSet::new(), parts: HashMap::new(), ended: None, stop }
    }

    /// What tells all of its tasks to stop.
    pub(super) fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Starts a task that is told to stop only together with all others.
    pub(super) fn spawn(&mut self, name: &str, task: impl Future<Output = ()> + Send + 'static) {
        self.spawn_part(name, CancellationToken::new(), task);
    }

    /// Starts a task that `stop` tells to end by itself.
    pub(super) fn spawn_part(
        &mut self,
        name: &str,
        stop: CancellationToken,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let task = self.tasks.spawn(task);
        self.parts.insert(task.id(), Part { name: name.to_owned(), stop, task });
    }

    /// Returns when a task has ended though nobody asked; never, if there is none.
    pub(super) async fn ended(&mut self) -> String {
        if let Some(name) = self.ended.take() {
            return name;
        }
        match self.tasks.join_next_with_id().await {
            Some(Ok((id, ()))) => self.name_of(id),
            Some(Err(error)) => format!("{}: {error}", self.name_of(error.id())),
            None => std::future::pending().await,
        }
    }

    /// Tells the tasks of these names to stop and waits for them; those that have not ended after `limit` are named in the
    /// log and ended where they stand.
    pub(super) async fn stop_parts(&mut self, names: &[&str], limit: Duration) {
        let mut deadline = Instant::now() + limit;
        let meant = |part: &Part| names.contains(&part.name.as_str());
        self.parts.values().filter(|part| meant(part)).for_each(|part| part.stop.cancel());
        while self.parts.values().any(meant) {
            match timeout_at(deadline, self.tasks.join_next_with_id()).await {
                Ok(Some(Ok((id, ())))) => self.note_end(id, names),
                Ok(Some(Err(error))) => self.note_end(error.id(), names),
                Ok(None) => return,
                Err(_) => {
                    for part in self.parts.values().filter(|part| meant(part)) {
                        tracing::warn!(kind = self.kind, name = part.name, ?limit, "did not end in time");
                        part.task.abort();
                    }
                    // An ended task is seen at once.
                    deadline += limit;
                }
            }
        }
    }

    /// Tells the tasks to stop and waits for them.
    pub(super) async fn stop(self, limit: Duration) {
        self.stop.cancel();
        self.finish(limit).await;
    }

    /// Waits for the tasks to end; those that have not after `limit` are counted in the log and left behind.
    pub(super) async fn finish(mut self, limit: Duration) {
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(limit, all).await.is_err() {
            tracing::warn!(kind = self.kind, left = self.tasks.len(), ?limit, "did not end in time");
        }
        self.tasks.shutdown().await;
    }

    fn note_end(&mut self, id: Id, asked: &[&str]) {
        let is_asked = self.parts.get(&id).is_some_and(|part| asked.contains(&part.name.as_str()));
        let name = self.name_of(id);
        if !is_asked {
            self.ended = Some(name);
        }
    }

    /// The name of a task that has ended.
    fn name_of(&mut self, id: Id) -> String {
        let name = self.parts.remove(&id).map_or_else(|| "?".to_owned(), |part| part.name);
        format!("{} {name:?}", self.kind)
    }
}

/// Signals that ask for a reload (SIGHUP).
#[derive(Debug)]
pub(super) struct Hangups(Option<Signal>);

impl Hangups {
    /// From now on SIGHUP does not end the process.
    pub(super) fn new() -> Self {
        let hangups = signal(SignalKind::hangup());
        Self(hangups.inspect_err(|error| tracing::warn!(%error, "SIGHUP cannot be heard")).ok())
    }

    /// Returns when another one has come.
    pub(super) async fn next(&mut self) {
        let Some(hangups) = &mut self.0 else { return std::future::pending().await };
        if hangups.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

/// Returns when the process is asked to stop.
pub(super) async fn asked_to_stop() {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Tells systemd that all is up, and keeps its watchdog calm for as long as the ingest loop turns and no
/// commit hangs (`sd_notify(3)`). While the gateway is started anew in place there is none to watch, for at most
/// [`RESTART_TIME`].
pub(super) async fn tell_systemd(watched: watch::Receiver<Option<Arc<Status>>>) -> Infallible {
    notify(&[sd_notify::NotifyState::Ready]);
    let Some(limit) = sd_notify::watchdog_enabled() else { return std::future::pending().await };
    let turns = || watched.borrow().as_ref().map(|status| (Arc::as_ptr(status), status.ingest_turns.get()));
    let (mut before, mut absent) = (None, Duration::ZERO);
    loop {
        tokio::time::sleep(limit / 3).await;
        let now = turns().map(|(status, turns)| (status.addr(), turns));
        absent = if now.is_none() { absent + limit / 3 } else { Duration::ZERO };
        if absent > RESTART_TIME || now.is_some() && now == before {
            tracing::error!("ingest or its disk stands still; the service manager will restart the gateway");
        } else {
            notify(&[sd_notify::NotifyState::Watchdog]);
        }
        before = now;
    }
}

/// Tells systemd that the end was asked for.
pub(super) fn tell_stopping() {
    notify(&[sd_notify::NotifyState::Stopping]);
}

/// Tells systemd that a reload begins; [`tell_reloaded`] ends it (`sd_notify(3)`).
pub(super) fn tell_reloading() {
    let now = sd_notify::NotifyState::monotonic_usec_now();
    match now {
        Ok(now) => notify(&[sd_notify::NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "the service manager was not told"),
    }
}

/// Tells systemd that a reload is over, however it went.
pub(super) fn tell_reloaded() {
    notify(&[sd_notify::NotifyState::Ready]);
}

fn notify(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager was not told");
    }
}
