//! A chunk that cannot be read: bring back what is sound, write down what is lost, set the rest aside, go on.

use super::super::chunk::{ChunkId, ChunkInfo, ChunkState};
use super::super::ledger::Entry;
use super::super::salvage::{self, Salvaged, Wanted};
use super::super::sled_store::LOG;
use super::super::{BufferError, files};
use super::DiskStore;
use super::opening::QUARANTINE;
use crate::block::records::GapReason;
use crate::reading::{SequenceRange, Stream};
use std::path::{Path, PathBuf};

/// Ends the name of a repaired chunk before it takes its place; what bears it at a start is begun again.
const REPAIRED: &str = "repaired";

impl DiskStore {
    /// Replaces a damaged chunk by what can be brought back of it. Afterwards the chunk is sealed and sound, or gone; every
    /// sequence that is missing is a known hole, in the books of each sink that had not got it, and told by a gap.
    pub(super) fn salvage(&mut self, id: ChunkId, reason: &str) -> Result<(), BufferError> {
        tracing::error!(family = id.0.name(), chunk = id.1, reason, "a chunk is damaged; bringing back what is sound");
        self.shut(id);
        let path = self.path(id);
        let known = self.known_ranges(id, &path);
        let aside = self.quarantine_path(&format!("{}-{:08}", id.0.name(), id.1));
        let salvaged = if path.is_dir() {
            self.repair(&path, &aside, &known).or_else(|error| {
                tracing::error!(%error, "the damaged chunk cannot be repaired here; it is set aside as it is");
                give_up_repair(&path, &aside)?;
                Ok(Salvaged { info: ChunkInfo::begun([0; 6]), missing: known.clone(), books: None })
            })?
        } else {
            Salvaged { info: ChunkInfo::begun([0; 6]), missing: known.clone(), books: None }
        };
        if let Some(books) = &salvaged.books {
            self.take_books(books.clone());
        }
        self.quarantined.push(format!("{}: {reason}; kept in {}", path.display(), aside.display()));
        if let Err(error) = self.book_damage(id, &known, salvaged) {
            // The chunk is gone from its place: the next look at it, or the next start, books the loss.
            tracing::error!(%error, "the loss could not be written down yet");
        }
        self.trim_quarantine();
        self.try_outbox();
        Ok(())
    }

    /// Puts a sound chunk in a damaged one's place, with what both ways into the damaged one give: the whole, and its log
    /// without the small files that lead into it. Both are tried on copies, since opening may cut off what it does not
    /// understand; the original goes to the quarantine as it was.
    fn repair(&self, path: &Path, aside: &Path, known: &[(Stream, SequenceRange)]) -> Result<Salvaged, BufferError> {
        let [whole, log_alone] = ["whole", "log"].map(|name| aside.with_extension(name));
        let repaired = path.with_extension(REPAIRED);
        files::remove_dir(&repaired)?;
        files::copy_files(path, &whole, |_| true)?;
        files::copy_files(path, &log_alone, |name| name == LOG)?;
        let wanted =
            Wanted { epoch: self.epoch, known, points: &self.ledger.state().points, cipher: &self.options.cipher };
        let salvaged = salvage::copy_sound_blocks(&[&whole, &log_alone], &repaired, &wanted)?;
        files::remove_dir(&whole)?;
        files::remove_dir(&log_alone)?;
        files::rename(path, aside)?;
        if salvaged.info.extents.is_empty() {
            files::remove_dir(&repaired)?;
        } else {
            files::rename(&repaired, path)?;
        }
        Ok(salvaged)
    }

    /// What a chunk is known to hold, or must hold by the ledger's next sequences, or can be seen to hold.
    fn known_ranges(&self, id: ChunkId, path: &Path) -> Vec<(Stream, SequenceRange)> {
        let Some(info) = self.index.get(&id) else { return Vec::new() };
        if info.state != ChunkState::Active {
            return info.extents.iter().map(|extent| (extent.stream, extent.range)).collect();
        }
        let promised = self.promised();
        let range = |stream: Stream| {
            let first = info.base[stream.index()];
            let admitted = info.extent(stream).map(|extent| extent.range.last);
            let promised = promised[stream.index()].checked_sub(1);
            let seen = salvage::last_sequence(path, &self.options.cipher, self.epoch, stream);
            let last = [admitted, promised, seen].into_iter().flatten().max()?;
            (first <= last).then_some((stream, SequenceRange { first, last }))
        };
        id.0.streams().filter_map(range).collect()
    }

    /// Writes down what a repaired chunk holds and what it lost.
    fn book_damage(
        &mut self,
        id: ChunkId,
        known: &[(Stream, SequenceRange)],
        salvaged: Salvaged,
    ) -> Result<(), BufferError> {
        let Some(old) = self.index.get(&id).cloned() else { return Ok(()) };
        let mut info = salvaged.info;
        info.base = old.base;
        info.state = if info.extents.is_empty() { ChunkState::Dropped } else { ChunkState::Sealed };
        info.bytes = files::occupied_bytes(&self.path(id));
        for (stream, range) in known {
            // The holes at either end belong to the extent too, so that a reader knows them for what they are.
            if let Some(extent) = info.extents.iter_mut().find(|extent| extent.stream == *stream) {
                extent.range = *range;
            }
            let next = &mut self.next[stream.index()];
            *next = (*next).max(range.last.saturating_add(1));
        }
        let (mut entries, mut gaps, mut lanes) = (Vec::new(), Vec::new(), self.lanes());
        for (stream, hole) in salvaged.missing {
            if self.holes(stream).iter().any(|known| known.first <= hole.first && hole.last <= known.last) {
                continue;
            }
            let around = old.extent(stream).or(info.extent(stream));
            let times = around.map_or((0, 0), |extent| (extent.first_time_us, extent.last_time_us));
            entries.push(Entry::Hole(stream, hole, true));
            gaps.extend(self.book_loss(stream, hole, hole, times, GapReason::Corruption, &mut lanes));
        }
        entries.extend(self.changed_lanes(lanes));
        entries.push(Entry::Chunk(id, Some(info.clone())));
        entries.extend(self.outbox_entries(&gaps)?);
        let owed = self.unsaved.remove(&id);
        if let Err(error) = self.write_ledger(entries) {
            // The index says as before what was here, so that whoever looks next finds the loss again and books it.
            if owed {
                self.unsaved.insert(id);
            }
            return Err(error);
        }
        self.index.insert(id, info);
        self.sweep_dropped();
        Ok(())
    }

    /// A fresh name in the quarantine; names sort by age.
    pub(super) fn quarantine_path(&self, what: &str) -> PathBuf {
        quarantine_path(&self.root, self.clock.tick().wall_us, what)
    }
}

/// A fresh name in the quarantine; names sort by age.
pub(super) fn quarantine_path(root: &Path, wall_us: i64, what: &str) -> PathBuf {
    let dir = root.join(QUARANTINE);
    let time = wall_us.max(0);
    let named = |again: u32| dir.join(format!("{time:020}-{again:04}-{what}"));
    (0..=u32::MAX).map(named).find(|path| !path.exists()).unwrap_or_else(|| named(u32::MAX))
}

/// Sets a chunk aside unrepaired, which takes no room, and removes what the repair has left.
fn give_up_repair(path: &Path, aside: &Path) -> Result<(), BufferError> {
    for copy in [aside.with_extension("whole"), aside.with_extension("log"), path.with_extension(REPAIRED)] {
        if let Err(error) = files::remove_dir(&copy) {
            tracing::warn!(%error, "a copy made for a repair is left");
        }
    }
    if path.exists() { files::rename(path, aside) } else { Ok(()) }
}
