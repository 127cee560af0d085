//! Where the tools read from: a running gateway over its socket, or copies of a stopped one's files.

use crate::app;
use crate::buffer::{BufferError, ChunkCopies, ChunkName, ChunkReport, RawBlock, Report, StoppedBuffer};
use crate::config::Config;
use crate::control::{self, ControlError, Request, WireBlock};
use crate::reading::{Sequence, Stream};
use crate::site::PointKey;
use anyhow::{Result, anyhow};
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A buffer to read from.
pub(super) enum Shelf {
    /// The gateway runs.
    Live(Box<LiveShelf>),
    /// It does not run.
    Stopped(Box<StoppedBuffer>),
}

/// A running gateway: sealed chunks are copied, so that nobody waits and the disk is read, not the gateway's memory; the rest goes
/// over the socket.
pub(super) struct LiveShelf {
    data_dir: PathBuf,
    sealed: BTreeSet<ChunkName>,
    copies: ChunkCopies,
}

/// Why nothing can be said of a place.
pub(super) enum LookError {
    /// What lies there cannot be read.
    Bad(String),
    /// There is no going on: the gateway is gone, or a key is missing.
    Fatal(anyhow::Error),
}

impl From<ControlError> for LookError {
    fn from(error: ControlError) -> Self {
        match error {
            ControlError::Failed(what) => Self::Bad(what),
            error => Self::Fatal(error.into()),
        }
    }
}

impl From<BufferError> for LookError {
    fn from(error: BufferError) -> Self {
        match error {
            // Damage it is not, and no repair helps.
            BufferError::Locked(_) => Self::Fatal(error.into()),
            error => Self::Bad(error.to_string()),
        }
    }
}

impl Shelf {
    /// Finds out whether the gateway runs.
    ///
    /// # Errors
    /// If it runs but does not answer, or there is no buffer.
    pub(super) async fn open(config: &Config) -> Result<Self> {
        let data_dir = &config.gateway.data_dir;
        match control::ask::<Report>(data_dir, &Request::Report, |_| {}).await {
            Ok(report) => {
                let cipher = app::store_options(config)?.cipher;
                let sealed = report.chunks.into_iter().filter(|chunk| chunk.is_sealed).map(|chunk| chunk.name);
                return Ok(Self::Live(Box::new(LiveShelf {
                    data_dir: data_dir.clone(),
                    sealed: sealed.collect(),
                    copies: ChunkCopies::make(data_dir, &cipher)?,
                })));
            }
            Err(ControlError::NotRunning(_)) => {}
            Err(error) => return Err(error.into()),
        }
        let cipher = app::store_options(config)?.cipher;
        match StoppedBuffer::open(data_dir, &cipher) {
            Ok(buffer) => Ok(Self::Stopped(Box::new(buffer))),
            Err(error) => Err(explained(error, data_dir)),
        }
    }

    /// Whether the gateway runs.
    pub(super) fn is_live(&self) -> bool {
        matches!(self, Self::Live(_))
    }

    /// What the buffer says about itself.
    pub(super) async fn report(&self) -> Result<Report> {
        match self {
            Self::Live(live) => ask(&live.data_dir, &Request::Report).await,
            Self::Stopped(buffer) => Ok(buffer.report()),
        }
    }

    /// The names of all points, by number.
    pub(super) async fn points(&self) -> Result<Vec<PointKey>> {
        match self {
            Self::Stopped(buffer) => Ok(buffer.points().to_vec()),
            Self::Live(live) => {
                let data_dir = &live.data_dir;
                let mut points: Vec<PointKey> = Vec::new();
                loop {
                    let more: Vec<PointKey> = ask(data_dir, &Request::Points { from: points.len() }).await?;
                    if more.is_empty() {
                        return Ok(points);
                    }
                    points.extend(more);
                }
            }
        }
    }

    /// What lies in a chunk at and after a sequence; `None` if a running gateway has given the chunk up meanwhile.
    pub(super) async fn look(
        &mut self,
        chunk: &ChunkName,
        stream: Stream,
        from: Sequence,
    ) -> Result<Option<Vec<RawBlock>>, LookError> {
        match self {
            Self::Stopped(buffer) => Ok(Some(buffer.look(chunk, stream, from)?)),
            Self::Live(live) => live.look(chunk, stream, from).await,
        }
    }

    /// What is wrong with the file of a chunk, whatever can be read of it all the same.
    pub(super) async fn fault(&mut self, chunk: &ChunkReport) -> Result<Option<String>, LookError> {
        match self {
            Self::Stopped(buffer) => Ok(buffer.fault(chunk)?),
            Self::Live(live) => live.fault(chunk).await,
        }
    }
}

impl LiveShelf {
    /// Where its socket is.
    pub(super) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    async fn look(
        &mut self,
        chunk: &ChunkName,
        stream: Stream,
        from: Sequence,
    ) -> Result<Option<Vec<RawBlock>>, LookError> {
        let found: Result<Vec<RawBlock>, LookError> = if self.sealed.contains(chunk) {
            self.copies.look(chunk, stream, from).map_err(LookError::from)
        } else {
            let request = Request::Look { chunk: chunk.clone(), stream, from };
            let found = control::ask::<Vec<WireBlock>>(&self.data_dir, &request, |_| {}).await;
            found.map(|found| found.into_iter().filter_map(WireBlock::into_raw).collect()).map_err(LookError::from)
        };
        match found {
            Ok(found) if !found.is_empty() => Ok(Some(found)),
            Err(error @ LookError::Fatal(_)) => Err(error),
            found => match self.held(chunk).await? {
                Some(_) => found.map(Some),
                None => Ok(None),
            },
        }
    }

    async fn fault(&mut self, chunk: &ChunkReport) -> Result<Option<String>, LookError> {
        if let Ok(None) = self.fault_now(chunk) {
            return Ok(None);
        }
        // The gateway may have written to it meanwhile, sealed it or given it up: a fault is there twice.
        self.copies.forget();
        match self.held(&chunk.name).await? {
            Some(held) => Ok(self.fault_now(&held)?),
            None => Ok(None),
        }
    }

    fn fault_now(&mut self, chunk: &ChunkReport) -> Result<Option<String>, BufferError> {
        if chunk.is_sealed { self.copies.fault(chunk) } else { self.copies.fault_of_active(chunk) }
    }

    /// What the gateway says of a chunk now; `None` if it has given it up.
    async fn held(&self, chunk: &ChunkName) -> Result<Option<ChunkReport>, LookError> {
        let report: Report = control::ask(&self.data_dir, &Request::Report, |_| {}).await?;
        Ok(report.chunks.into_iter().find(|held| held.name == *chunk))
    }
}

/// Asks the gateway for something.
pub(super) async fn ask<T: DeserializeOwned>(data_dir: &Path, request: &Request) -> Result<T> {
    Ok(control::ask(data_dir, request, |_| {}).await?)
}

/// Why neither way leads to the buffer.
fn explained(error: BufferError, data_dir: &Path) -> anyhow::Error {
    match error {
        BufferError::InUse(_) => anyhow!(
            "a program holds the buffer in {} but does not answer at {}: a gateway that is just starting or stopping (try again in a \
             moment), one of an older version, or another tool",
            data_dir.join("buffer").display(),
            control::socket_path(data_dir).display()
        ),
        BufferError::Forbidden(reason) => {
            anyhow!("{reason}; run this as root or as the user that runs the gateway (sudo -u forebay …)")
        }
        error => error.into(),
    }
}
