//! What takes a text of the configuration apart is done aside: forms, the file, the history, templates. A long text may take seconds,
//! and the threads that answer are those that carry the readings.

use super::guard::works_on_text;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Condvar, Mutex, PoisonError};
use std::task::{Context, Poll};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::block_in_place;

/// Texts that are taken apart at once: a board has two cores or four, and the readings need one.
const TURNS_MAX: usize = 2;

/// Who works on a text now.
struct Turns {
    taken: Mutex<usize>,
    given_back: Condvar,
}

/// One of them, given back when it is dropped.
struct Turn<'a>(&'a Turns);

static TURNS: Turns = Turns { taken: Mutex::new(0), given_back: Condvar::new() };

impl Turns {
    /// Waits for a turn; on a thread that may wait.
    fn take(&self) -> Turn<'_> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let busy = |taken: &mut usize| *taken >= TURNS_MAX;
        let mut taken = self.given_back.wait_while(taken, busy).unwrap_or_else(PoisonError::into_inner);
        *taken += 1;
        Turn(self)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut taken = self.0.taken.lock().unwrap_or_else(PoisonError::into_inner);
        *taken = taken.saturating_sub(1);
        self.0.given_back.notify_one();
    }
}

/// Answers what works on a text aside, a few at once; everything else as it comes.
pub(super) async fn answer(request: Request, next: Next) -> Response {
    // Where there is one thread alone, as in a test, there is no other that could go on.
    let has_others = Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread;
    if !has_others || !works_on_text(request.method(), request.uri().path()) {
        return next.run(request).await;
    }
    let mut answer = pin!(next.run(request));
    poll_fn(|cx: &mut Context<'_>| -> Poll<Response> {
        block_in_place(|| {
            let _turn = TURNS.take();
            answer.as_mut().poll(cx)
        })
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::body::Body;
    use axum::middleware;
    use axum::routing::get;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;
    use tokio::task::JoinSet;
    use tokio::time::timeout;
    use tower::ServiceExt;

    static WORKING: AtomicUsize = AtomicUsize::new(0);
    static MOST: AtomicUsize = AtomicUsize::new(0);

    async fn long() -> &'static str {
        let now = WORKING.fetch_add(1, Ordering::SeqCst) + 1;
        MOST.fetch_max(now, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(100));
        WORKING.fetch_sub(1, Ordering::SeqCst);
        "done"
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn long_texts_hold_nothing_else_up_and_are_taken_apart_a_few_at_once() {
        let router = Router::new()
            .route("/settings/edit", get(long))
            .route("/live", get(|| async { "alive" }))
            .layer(middleware::from_fn(answer));
        let ask = |path: &str| router.clone().oneshot(Request::get(path).body(Body::empty()).unwrap());
        let mut long = JoinSet::new();
        for _ in 0..8 {
            long.spawn(ask("/settings/edit"));
        }
        while WORKING.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        for _ in 0..20 {
            let alive = timeout(Duration::from_secs(5), ask("/live")).await.unwrap().unwrap();
            assert_eq!(alive.status(), 200);
        }
        assert!(!long.is_empty());
        while let Some(done) = long.join_next().await {
            assert_eq!(done.unwrap().unwrap().status(), 200);
        }
        assert!(MOST.load(Ordering::SeqCst) <= TURNS_MAX);
    }
}
