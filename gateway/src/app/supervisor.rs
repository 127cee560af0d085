//! Tasks under a name: who runs, who ended though nobody asked, who does not end when asked. And the service manager's side of it.

use crate::status::Status;
use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// A group of tasks that run until they are told to stop.
#[derive(Debug)]
pub(super) struct Supervisor {
    kind: &'static str,
    tasks: JoinSet<String>,
    stop: CancellationToken,
}

impl Supervisor {
    /// A group without tasks; `kind` names it in the log.
    pub(super) fn new(kind: &'static str) -> Self {
        Self { kind, tasks: JoinSet::new(), stop: CancellationToken::new() }
    }

    /// What tells its tasks to stop.
    pub(super) fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Starts a task.
    pub(super) fn spawn(&mut self, name: &str, task: impl Future<Output = ()> + Send + 'static) {
        let name = name.to_owned();
        self.tasks.spawn(async move {
            task.await;
            name
        });
    }

    /// Returns when a task has ended though nobody asked; never, if there is none.
    pub(super) async fn ended(&mut self) -> String {
        match self.tasks.join_next().await {
            Some(Ok(name)) => format!("{} {name:?}", self.kind),
            Some(Err(error)) => format!("{}: {error}", self.kind),
            None => std::future::pending().await,
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
/// commit hangs (`sd_notify(3)`).
pub(super) async fn tell_systemd(status: Arc<Status>) -> Infallible {
    notify(&[sd_notify::NotifyState::Ready]);
    let Some(limit) = sd_notify::watchdog_enabled() else { return std::future::pending().await };
    let mut turns = status.ingest_turns.get();
    loop {
        tokio::time::sleep(limit / 3).await;
        let now = status.ingest_turns.get();
        if now == turns {
            tracing::error!("ingest or its disk stands still; the service manager will restart the gateway");
        } else {
            notify(&[sd_notify::NotifyState::Watchdog]);
        }
        turns = now;
    }
}

/// Tells systemd that the end was asked for.
pub(super) fn tell_stopping() {
    notify(&[sd_notify::NotifyState::Stopping]);
}

fn notify(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager was not told");
    }
}
