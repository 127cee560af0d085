//! Looking into the store while it works, in small steps: nothing is repaired, nothing is written.

use super::super::chunk::{ChunkId, ChunkState};
use super::super::family::Family;
use super::super::inspect::{self, ChunkName, RawBlock, Report, SetAside};
use super::super::store::Store;
use super::super::{BufferError, files};
use super::DiskStore;
use super::opening::QUARANTINE;
use crate::reading::{Sequence, Stream};
use std::path::Path;

impl DiskStore {
    /// What the store says about itself.
    pub(super) fn make_report(&self) -> Report {
        let state = self.ledger.state();
        Report {
            epoch: self.epoch,
            ends: self.ends(),
            chunks: inspect::chunk_reports(&self.index, |id| files::occupied_bytes(&self.path(id))),
            lanes: inspect::lane_reports(&state.lanes),
            holes: inspect::hole_reports(&state.holes),
            promised_blocks: state.outbox.len() as u64,
            points: state.points.len() as u64,
            disk_bytes: files::occupied_bytes(&self.root),
            free_bytes: files::free_bytes(&self.root).unwrap_or(0),
            quarantine: quarantine(&self.root),
            problems: Vec::new(),
        }
    }

    /// What lies in a chunk at and after a sequence, unchecked; nothing if the chunk is gone meanwhile.
    pub(super) fn look_into(
        &mut self,
        name: &ChunkName,
        stream: Stream,
        from: Sequence,
    ) -> Result<Vec<RawBlock>, BufferError> {
        match self.named(name) {
            Some(id) => self.opened(id)?.look(stream, from),
            None => Ok(Vec::new()),
        }
    }

    /// Salvages a chunk that a tool has found damaged; says what was set aside. Nothing happens to one that is gone meanwhile.
    pub(super) fn salvage_named(&mut self, name: &ChunkName, reason: &str) -> Result<Vec<String>, BufferError> {
        self.named(name).map_or(Ok(Vec::new()), |id| self.salvage(id, reason))
    }

    fn named(&self, name: &ChunkName) -> Option<ChunkId> {
        let family = Family::ALL.into_iter().find(|family| family.name() == name.family)?;
        let id = (family, name.number);
        self.index.get(&id).filter(|info| info.state != ChunkState::Dropped).map(|_| id)
    }
}

/// What was set aside, the oldest first.
pub(in crate::buffer) fn quarantine(root: &Path) -> Vec<SetAside> {
    let dir = root.join(QUARANTINE);
    let names = files::names(&dir).unwrap_or_default();
    names.into_iter().map(|name| SetAside { bytes: files::occupied_bytes(&dir.join(&name)), name }).collect()
}
