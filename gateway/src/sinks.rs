//! Sinks: one attempt at one node of a run, and what came of it.
//!
//! A sink never sleeps, retries or decides; `delivery` does.

pub mod encode;
pub mod http;
pub mod kafka;

use crate::buffer::Cursor;
use crate::reading::{Epoch, SequenceRange, Stream};
use std::future::Future;
use std::time::Duration;

/// What a sink is asked to deliver: a run, or a node of its halving tree. The same node is the same bytes on every attempt.
#[derive(Debug)]
pub struct Offer<'a> {
    /// `<gateway>/<epoch>/<sink>/<stream>/<first>-<last>`: the same on every retry and after every restart.
    pub key: String,
    /// The stream.
    pub stream: Stream,
    /// The sequences it carries; some of them may have no record (filtered).
    pub range: SequenceRange,
    /// The rendered records, in order.
    pub records: &'a [Rendered],
    /// The data directory's epoch.
    pub epoch: Epoch,
    /// Where the lane's cursor will stand once this is delivered; Kafka writes it in the same transaction.
    pub cursor_after: &'a Cursor,
}

/// One record as it goes upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// The device, or what else keeps its order: the Kafka key.
    pub key: String,
    /// One JSON object, without a newline.
    pub json: Vec<u8>,
}

/// What came of an offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The sink has it, exactly once.
    Delivered {
        /// Where the sink's own cursor record now stands, if it keeps one.
        remote_position: Option<i64>,
    },
    /// Try the same bytes again, not before `after` if the sink said so.
    Retry {
        /// What the sink asked for (`Retry-After`).
        after: Option<Duration>,
        /// Why, for a person.
        reason: String,
    },
    /// The sink will never take this as it is: bisect.
    Refused {
        /// Why, for a person.
        reason: String,
    },
    /// Nothing will go until someone changes something: stand still and say so.
    Pause {
        /// Why and what to do, for a person.
        reason: String,
    },
}

/// A cursor that the sink itself remembers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteCursor {
    /// The epoch it was written in.
    pub epoch: Epoch,
    /// The cursor.
    pub cursor: Cursor,
    /// Where the record stands.
    pub position: i64,
}

/// Why a sink could not say where it stands.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// Try again later.
    #[error("{0}")]
    Unreachable(String),
    /// Nothing will change until someone changes something.
    #[error("{0}")]
    Misconfigured(String),
}

/// One way upstream. Delivery owns it and offers it one run at a time, over all streams.
pub trait Sink: Send + 'static {
    /// Before the first offer, and whenever [`Sink::must_recover`] says so: takes over from an older self and says where the
    /// sink's own cursors stand, by stream. Sinks that keep none return none.
    ///
    /// `from_position` is the highest position that the ledger remembers of them: offers go one at a time, so nothing that
    /// it does not know can lie before.
    ///
    /// # Errors
    /// If the sink cannot be reached, or is set up wrongly.
    fn recover(
        &mut self,
        from_position: Option<i64>,
    ) -> impl Future<Output = Result<Vec<(Stream, RemoteCursor)>, SinkError>> + Send;

    /// One attempt.
    fn deliver(&mut self, offer: &Offer<'_>) -> impl Future<Output = Outcome> + Send;

    /// Whether [`Sink::recover`] must run before the next offer (at start, when fenced, after a fatal error).
    fn must_recover(&self) -> bool;
}
