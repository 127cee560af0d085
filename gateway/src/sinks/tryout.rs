//! Tries a sink before it is saved: connects, sends one test record, reads what the other end says of it.

use super::{Rendered, SinkOptions};
use super::{encode, http, kafka};
use crate::clock::Clock;
use crate::reading::Epoch;
use crate::tryout::{Step, Steps, TRY_OUT_LIMIT, TryReport};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

impl SinkOptions {
    /// Tries the sink of these options, within `limit` and at most [`TRY_OUT_LIMIT`], beside the running one of the same name.
    ///
    /// One record goes out: a reading of the made-up device `forebay-test` with `"test":true` (docs/record-format.md). No
    /// cursor moves, no producer is fenced. `watcher` is told each step when it begins and when it is over.
    pub async fn try_out(&self, gateway: &str, watcher: Option<mpsc::Sender<Step>>, limit: Duration) -> TryReport {
        let mut steps = Steps::new(watcher);
        let deadline = Instant::now() + limit.min(TRY_OUT_LIMIT);
        if timeout_at(deadline, self.take_steps(gateway, &mut steps)).await.is_err() {
            steps.out_of_time();
        }
        steps.report()
    }

    async fn take_steps(&self, gateway: &str, steps: &mut Steps) {
        let problems = match self {
            Self::Http(options) => options.problems(),
            Self::Kafka(options) => options.problems(),
        };
        if let Some((path, problem)) = problems.into_iter().next() {
            steps.begin("check the settings");
            return steps.failed(format!("{path}: {problem}"), "change it, then try again");
        }
        let test = match TestRecord::new(gateway) {
            Ok(test) => test,
            Err(error) => {
                steps.begin("make a test record");
                return steps.failed(error.to_string(), "report this: it is a fault of the gateway");
            }
        };
        match self {
            Self::Http(options) => http::tryout::take_steps(options, &test, steps).await,
            Self::Kafka(options) => kafka::tryout::take_steps(gateway, options, test, steps).await,
        }
    }
}

/// A record that proves the way, and its name.
#[derive(Debug)]
pub(super) struct TestRecord {
    /// `<gateway>/test/<random>`: no key of a run looks like it.
    pub(super) key: String,
    /// Of no data directory.
    pub(super) epoch: Epoch,
    pub(super) record: Rendered,
}

impl TestRecord {
    fn new(gateway: &str) -> Result<Self, encode::RenderError> {
        let epoch = Epoch(fastrand::u128(..));
        let record = encode::test_record(gateway, epoch, Clock::system().tick())?;
        Ok(Self { key: format!("{gateway}/test/{:016x}", fastrand::u64(..)), epoch, record })
    }
}
