//! A request's body with its limits: in bytes, in all its time, and in the time that nothing of it comes.

use axum::body::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};

/// Most bytes of any body: a configuration of 1 MiB, each of its characters escaped by a form. A screen that takes less says so
/// itself.
pub(super) const BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Longest time in which nothing of a body comes.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Longest time for all of a body: 4 MiB over a slow mobile connection.
const TIME_MAX: Duration = Duration::from_secs(120);

/// How a body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// As it should, or not yet.
    Whole,
    /// It did not come in time.
    TooSlow,
    /// It went on and on.
    TooLarge,
}

/// How a body ended, for whoever answers the request.
#[derive(Debug, Default)]
pub(super) struct Fate(AtomicU8);

/// The body of a request, within its limits.
#[derive(Debug)]
pub(super) struct Timed {
    body: Incoming,
    fate: Arc<Fate>,
    bytes: u64,
    /// The end of all of it.
    until: Instant,
    /// Only while a handler waits for more.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Fate {
    /// How it ended.
    pub(super) fn get(&self) -> End {
        match self.0.load(Ordering::Acquire) {
            0 => End::Whole,
            1 => End::TooSlow,
            _ => End::TooLarge,
        }
    }

    fn set(&self, end: End) {
        self.0.store(end as u8, Ordering::Release);
    }
}

impl Timed {
    /// Its time begins now.
    pub(super) fn new(body: Incoming, fate: Arc<Fate>) -> Self {
        Self { body, fate, bytes: 0, until: Instant::now() + TIME_MAX, waiting: None }
    }

    fn end(&self, end: End, kind: io::ErrorKind, words: &'static str) -> io::Error {
        self.fate.set(end);
        io::Error::new(kind, words)
    }
}

impl Body for Timed {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
            let until = self.until.min(Instant::now() + PAUSE_MAX);
            ready!(self.waiting.get_or_insert_with(|| Box::pin(sleep_until(until))).as_mut().poll(cx));
            let late = self.end(End::TooSlow, io::ErrorKind::TimedOut, "the body came too slowly");
            return Poll::Ready(Some(Err(late.into())));
        };
        self.waiting = None;
        let frame = frame.transpose()?;
        let more = frame.as_ref().and_then(Frame::data_ref).map_or(0, Bytes::len);
        self.bytes = self.bytes.saturating_add(more as u64);
        if self.bytes > BYTES_MAX {
            let large = self.end(End::TooLarge, io::ErrorKind::FileTooLarge, "the body is too large");
            return Poll::Ready(Some(Err(large.into())));
        }
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
