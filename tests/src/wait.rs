//! Waiting for a condition by asking again and again, with a limit and a message.

use std::fmt::Display;
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Between two questions: short enough not to slow a test, long enough not to take a core from the peer.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Asks `condition` until it gives a value, and fails the test after `limit`.
///
/// `what` completes the sentence "waited 5 s for ...".
pub async fn until_some<T, F>(what: impl Display, limit: Duration, mut condition: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {limit:?} for {what}");
        sleep(POLL_INTERVAL).await;
    }
}

/// Asks `condition` until it holds, and fails the test after `limit`.
pub async fn until(what: impl Display, limit: Duration, mut condition: impl FnMut() -> bool) {
    until_some(what, limit, || {
        let holds = condition();
        async move { holds.then_some(()) }
    })
    .await;
}
