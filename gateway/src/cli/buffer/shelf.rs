//! Where the tools read from: a running gateway over its socket, or copies of a stopped one's files.

use crate::app;
use crate::buffer::{BufferError, ChunkName, RawBlock, Report, StoppedBuffer};
use crate::config::Config;
use crate::control::{self, ControlError, Request, WireBlock};
use crate::reading::{Sequence, Stream};
use crate::site::PointKey;
use anyhow::{Result, anyhow};
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};

/// A buffer to read from.
pub(super) enum Shelf {
    /// The gateway runs and has this data directory.
    Live(PathBuf),
    /// It does not run.
    Stopped(Box<StoppedBuffer>),
}

impl Shelf {
    /// Finds out whether the gateway runs.
    ///
    /// # Errors
    /// If it runs but does not answer, or there is no buffer.
    pub(super) async fn open(config: &Config) -> Result<Self> {
        let data_dir = &config.gateway.data_dir;
        match control::ask::<Report>(data_dir, &Request::Report, |_| {}).await {
            Ok(_) => return Ok(Self::Live(data_dir.clone())),
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
            Self::Live(data_dir) => ask(data_dir, &Request::Report).await,
            Self::Stopped(buffer) => Ok(buffer.report()),
        }
    }

    /// The names of all points, by number.
    pub(super) async fn points(&self) -> Result<Vec<PointKey>> {
        match self {
            Self::Stopped(buffer) => Ok(buffer.points().to_vec()),
            Self::Live(data_dir) => {
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
    ) -> Result<Option<Vec<RawBlock>>, ControlError> {
        match self {
            Self::Stopped(buffer) => {
                let found = buffer.look(chunk, stream, from);
                found.map(Some).map_err(|error| ControlError::Failed(error.to_string()))
            }
            Self::Live(data_dir) => {
                let request = Request::Look { chunk: chunk.clone(), stream, from };
                let found: Vec<WireBlock> = control::ask(data_dir, &request, |_| {}).await?;
                if found.is_empty() {
                    let report: Report = control::ask(data_dir, &Request::Report, |_| {}).await?;
                    if !report.chunks.iter().any(|held| held.name == *chunk) {
                        return Ok(None);
                    }
                }
                Ok(Some(found.into_iter().filter_map(WireBlock::into_raw).collect()))
            }
        }
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
