//! What the tests of sources share: a context, and its far ends in place of ingest.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::{Intake, Receipt, Source, SourceContext};
use crate::clock::Clock;
use crate::status::{HasHealth as _, SourceStatus, State, Status};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Longest wait for what a test expects.
const PATIENCE: Duration = Duration::from_secs(20);

/// Takes intakes in place of ingest.
pub(super) struct FarEnd {
    pub(super) intakes: mpsc::Receiver<Intake>,
    pub(super) receipts: mpsc::Sender<Vec<Receipt>>,
    pub(super) status: Arc<SourceStatus>,
    pub(super) all: Arc<Status>,
    pub(super) stop: CancellationToken,
    pub(super) registry: Arc<crate::site::Registry>,
}

/// A context with this clock, and its far ends; `intakes_max` intakes find room.
pub(super) fn context(clock: Clock, intakes_max: usize) -> (SourceContext, FarEnd) {
    let (intakes, intakes_end) = mpsc::channel(intakes_max);
    let (receipts_end, receipts) = mpsc::channel(64);
    let (status, all, registry, stop) = <(Arc<SourceStatus>, Arc<Status>, _, CancellationToken)>::default();
    let far = FarEnd {
        intakes: intakes_end,
        receipts: receipts_end,
        status: Arc::clone(&status),
        all: Arc::clone(&all),
        stop: stop.clone(),
        registry: Arc::clone(&registry),
    };
    let gateway = "gateway".into();
    (SourceContext { slot: 0, start: 0, registry, intakes, receipts, status, all, clock, stop, gateway }, far)
}

/// Starts a source on the system's clock.
#[expect(clippy::disallowed_methods, reason = "a test has no supervisor")]
pub(super) fn start(source: impl Source, intakes_max: usize) -> (FarEnd, JoinHandle<()>) {
    let (context, far) = context(Clock::system(), intakes_max);
    (far, tokio::spawn(source.run(context)))
}

impl FarEnd {
    /// The next intake that brings something; that a sender begins anew is left out.
    pub(super) async fn intake(&mut self) -> Intake {
        loop {
            let mut intake = self.any_intake().await;
            intake.messages.retain(|message| !message.begins_anew);
            if !intake.is_empty() {
                return intake;
            }
        }
    }

    /// The next intake as it came.
    pub(super) async fn any_intake(&mut self) -> Intake {
        timeout(PATIENCE, self.intakes.recv()).await.unwrap().unwrap()
    }

    pub(super) async fn receipt(&self, intake: &Intake) {
        let receipts = intake.messages.iter().filter_map(|message| message.receipt).collect();
        self.receipts.send(receipts).await.unwrap();
    }

    pub(super) async fn until(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self) {
            let health = self.status.health();
            assert!(Instant::now() < deadline, "{what} did not come: {health:?}, {:?}", self.all.troubles());
            sleep(Duration::from_millis(5)).await;
        }
    }

    pub(super) async fn until_state(&self, state: State) {
        self.until(state.name(), |far| far.status.health().state == state).await;
    }

    pub(super) async fn until_trouble(&self, words: &str) {
        self.until(words, |far| far.all.troubles().iter().any(|trouble| trouble.what.contains(words))).await;
    }
}
