//! Tries a source before it is saved: connects, reads, shows, and leaves no trace.

use super::{Intake, SourceContext, SourceOptions};
use super::{modbus, mqtt, serial};
use crate::clock::Clock;
use crate::reading::Sample;
use crate::site::Registry;
use crate::status::{SourceStatus, Status};
use crate::tryout::{Step, Steps, TRY_OUT_LIMIT, TriedValue, TryReport, excerpt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

impl SourceOptions {
    /// Tries the source of these options, within `limit` and at most [`TRY_OUT_LIMIT`], beside the running gateway.
    ///
    /// Nothing of it is stored and nothing is acknowledged for the `running` sources: an MQTT broker sees another client with
    /// a session that it forgets, and a serial port that a running source reads is left alone
    /// ([`Verdict::InUse`](crate::tryout::Verdict::InUse)). `watcher` is told each step when it begins and when it is over.
    pub async fn try_out(
        &self,
        running: &[SourceOptions],
        watcher: Option<mpsc::Sender<Step>>,
        limit: Duration,
    ) -> TryReport {
        let mut steps = Steps::new(watcher);
        let deadline = Instant::now() + limit.min(TRY_OUT_LIMIT);
        if timeout_at(deadline, self.take_steps(running, &mut steps)).await.is_err() {
            steps.out_of_time();
        }
        steps.report()
    }

    async fn take_steps(&self, running: &[SourceOptions], steps: &mut Steps) {
        let problems = match self {
            Self::Mqtt(options) => options.problems(),
            Self::Modbus(options) => options.problems(),
            Self::Serial(options) => options.problems(),
        };
        if let Some((path, problem)) = problems.into_iter().next() {
            steps.begin("check the settings");
            return steps.failed(format!("{path}: {problem}"), "change it, then try again");
        }
        if let Some(port) = self.serial_port()
            && let Some(owner) = owner(port, running)
        {
            steps.begin(format!("open {port}"));
            let detail = format!("source {owner:?} of the running gateway reads this port; its values are the answer");
            return steps.in_use(owner, detail);
        }
        match self {
            Self::Mqtt(options) => mqtt::tryout::take_steps(options, steps).await,
            Self::Modbus(options) => modbus::tryout::take_steps(options, running, steps).await,
            Self::Serial(options) => serial::tryout::take_steps(options, steps).await,
        }
    }
}

/// The running source that reads a port, under whichever name.
pub(super) fn owner(port: &str, running: &[SourceOptions]) -> Option<String> {
    let device = real(port);
    let owner = running.iter().find(|source| source.serial_port().is_some_and(|other| real(other) == device))?;
    Some(owner.name().to_owned())
}

/// The device file that a name leads to.
fn real(port: &str) -> PathBuf {
    std::fs::canonicalize(port).unwrap_or_else(|_| Path::new(port).to_owned())
}

/// A context for the parts of a source that want one, whose far ends nobody reads.
pub(super) fn context(name: &str) -> SourceContext {
    // Neither channel is used; they have the least room that there is.
    let (intakes, _) = mpsc::channel(1);
    let (_, receipts) = mpsc::channel(1);
    SourceContext {
        slot: 0,
        start: 0,
        registry: Arc::new(Registry::default()),
        intakes,
        receipts,
        status: Arc::new(SourceStatus::new(&format!("{name} (try-out)"), "tryout", "")),
        all: Arc::new(Status::default()),
        clock: Clock::system(),
        stop: CancellationToken::new(),
        gateway: "tryout".into(),
    }
}

/// The value of a sample with its names.
pub(super) fn tried(sample: &Sample, registry: &Registry, origin: &str, raw: &str) -> TriedValue {
    let mut value = TriedValue::of(&sample.outcome, origin, raw);
    if let Some(key) = registry.key(sample.point) {
        value.device = key.device.to_string();
        value.point = key.point.to_string();
        value.unit = key.unit.to_string();
    }
    value.observed_at_us = sample.observed_at_us;
    value
}

/// The values of an intake, and what of it could not be read.
pub(super) fn all_tried(intake: &Intake, registry: &Registry, origin: &str, raw: &str) -> Vec<TriedValue> {
    let values = intake.samples.iter().map(|sample| tried(sample, registry, origin, raw));
    let rejects = intake.messages.iter().flat_map(|message| &message.rejects);
    let unread = rejects.map(|reject| {
        let raw = excerpt(reject.raw.kept());
        TriedValue::unread(&reject.position, raw, Some(reject.error.clone()))
    });
    values.chain(unread).collect()
}
