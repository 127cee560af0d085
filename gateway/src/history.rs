//! What charts and lists of records read from the kept history: little of it at a time, never gigabytes.
//!
//! ```text
//! chart   ── plan: which sequences, and whether minutes are fine enough ── envelope: readings and minutes into columns
//!         ├─ tail     minutes of the chunks that have no summaries yet, and a small cache of those that have
//!         └─ marks    what checks and detectors said in the time that is shown
//! records ── pages of alerts, dead letters and gaps, the newest first
//! export  ── a stream as NDJSON or as a table, piece by piece
//! ```
//!
//! Everything goes through the buffer's bounded calls, sixteen blocks at most each, so that commits go on in between. At most
//! [`HEAVY_READS_MAX`] such reads run at once: a board has one card, and readings on their way in matter more than a chart.

mod chart;
mod csv;
mod envelope;
mod export;
mod locate;
mod marks;
mod records;
mod replays;
mod tail;
#[cfg(test)]
mod tests;
mod views;

pub use chart::{COLUMNS_MAX, COLUMNS_MIN, Chart, ChartArrays, ChartRequest, RAW_SAMPLES_MAX};
pub use csv::{READINGS_HEAD, RECORDS_HEAD, put_reading, put_record, time_text};
pub use envelope::{Column, GAPS_MAX, Sample, Statistics, TimeGap};
pub use export::{ExportFormat, ExportRequest, stretches};
pub use marks::{MARKS_MAX, Mark, MarkKind, Marks};
pub use records::{PAGE_RECORDS_MAX, Page, RecordFilter};
pub use views::{RawView, RecordView, RecordWhat, SinkLoss};

use crate::buffer::{Buffer, BufferError};
use crate::reading::{Epoch, PointId};
use crate::sinks::encode::RenderError;
use crate::site::Registry;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tail::Tails;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Charts and exports that read at once; a board has one card.
pub const HEAVY_READS_MAX: usize = 2;

/// Reads that wait for their turn; more than this are refused at once.
const WAITING_MAX: usize = 16;

/// How long a read waits for its turn: a person looks at an empty chart no longer.
const TURN_WAIT: Duration = Duration::from_secs(10);

/// Why nothing can be shown of the history.
#[derive(Clone, Debug, thiserror::Error)]
pub enum HistoryError {
    /// The buffer could not give it.
    #[error(transparent)]
    Buffer(#[from] BufferError),
    /// A record cannot be written as text.
    #[error(transparent)]
    Render(#[from] RenderError),
    /// Others read already.
    #[error("{HEAVY_READS_MAX} charts or exports are being read already; try again in a few seconds")]
    Busy,
    /// What is asked for makes no sense.
    #[error("{0}")]
    Request(String),
    /// There is no such point.
    #[error("there is no point number {}; the list of points has those there are", point.0)]
    NoPoint {
        /// The number.
        point: PointId,
    },
    /// Nobody waits for it any more.
    #[error("the reader has gone")]
    Cancelled,
}

/// The kept history, for readers. Clones share their turns and their cache.
#[derive(Clone)]
pub struct History {
    buffer: Buffer,
    registry: Arc<Registry>,
    gateway: Arc<str>,
    epoch: Epoch,
    turns: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    tails: Arc<Mutex<Tails>>,
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("History").field("gateway", &self.gateway).field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

impl History {
    /// The history that this buffer keeps. The gateway's name and the epoch stand in exported records.
    #[must_use]
    pub fn new(buffer: Buffer, registry: Arc<Registry>, gateway: &str, epoch: Epoch) -> Self {
        Self {
            buffer,
            registry,
            gateway: gateway.into(),
            epoch,
            turns: Arc::new(Semaphore::new(HEAVY_READS_MAX)),
            waiting: Arc::new(Semaphore::new(WAITING_MAX)),
            tails: Arc::default(),
        }
    }

    /// A history of a buffer that is closed: for tests of what only shows that there is none.
    #[must_use]
    pub fn absent() -> Self {
        Self::new(Buffer::closed(), Arc::default(), "", Epoch(0))
    }

    /// Waits for the turn of a heavy read; it lasts until the permit is dropped.
    async fn turn(&self) -> Result<OwnedSemaphorePermit, HistoryError> {
        let Ok(_place) = self.waiting.try_acquire() else { return Err(HistoryError::Busy) };
        match tokio::time::timeout(TURN_WAIT, self.turns.clone().acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(HistoryError::Busy),
        }
    }
}
