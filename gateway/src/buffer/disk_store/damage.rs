//! A chunk that cannot be read: bring back what is sound, write down what is lost, set the rest aside, go on.
//!
//! A salvage reads the bytes of logs and writes a fresh chunk, `NNNNNNNN.repairing`, which becomes `.repaired` when it is whole;
//! then the damaged chunk goes to the quarantine, the repaired one takes its place, and the ledger learns what is lost. Ended
//! at any moment it is begun again, or finished by [`DiskStore::finish_repairs`]; the damaged chunk itself is never written.

use super::super::chunk::{ChunkId, ChunkState, Extent};
use super::super::family::Family;
use super::super::ledger::Entry;
use super::super::salvage::{self, Salvaged, Wanted};
use super::super::scan::{Condition, Found, Log};
use super::super::sled_store::LOG;
use super::super::{BufferError, files};
use super::DiskStore;
use super::opening::QUARANTINE;
use crate::block::records::GapReason;
use crate::reading::{Sequence, SequenceRange, Stream, UnixMicros};
use std::path::{Path, PathBuf};

/// Ends the name of a chunk that is being written for a damaged one.
const REPAIRING: &str = "repairing";

/// Ends its name when it is whole.
const REPAIRED: &str = "repaired";

/// Chunks that lie in each other's places are sought over so many of them: each is read through twice, which must not make a start long.
const RING_MAX: usize = 4;

/// Holes that one write of the ledger takes, with their gaps: a few dozen KiB, however a chunk is riddled.
const HOLES_PER_WRITE: usize = 64;

/// Texts of the newest damages that are kept for a person.
const TEXTS_MAX: usize = 16;

/// What a chunk is known to hold.
type Known = Vec<(Stream, SequenceRange)>;

/// The logs that may hold what a chunk has lost, and what was found in them.
struct Gathered {
    /// The damaged chunk, then those that lie in its place and it in theirs.
    ring: Vec<ChunkId>,
    logs: Vec<Log>,
    found: Found,
    /// The damaged chunk is what a power cut leaves.
    is_torn: bool,
}

impl DiskStore {
    /// Replaces a damaged chunk by what can be brought back of it. Afterwards the chunk is sealed and sound, or gone; every
    /// sequence that is missing is a known hole, in the books of each sink that had not got it, and told by a gap. The answer
    /// is what a person is told.
    ///
    /// # Errors
    /// If there is no room for a fresh chunk, or its key is missing: then the chunk is as it was, but takes no more blocks.
    pub(super) fn salvage(&mut self, id: ChunkId, reason: &str) -> Result<Vec<String>, BufferError> {
        if !self.path(id).exists() {
            // The last rename of a merge or of a repair may have failed: then the whole chunk lies beside its place.
            self.abandon_merge();
            self.finish_merges()?;
            if self.path(id).exists() {
                return Ok(Vec::new());
            }
            self.finish_repairs()?;
        }
        tracing::warn!(family = id.0.name(), chunk = id.1, reason, "a chunk is damaged; bringing back what is sound");
        self.end(id);
        let gathered = self.gather(id)?;
        let mut repairs = Vec::new();
        for member in &gathered.ring {
            self.end(*member);
            let known = self.known_ranges(*member, &gathered.found);
            repairs.push((*member, self.rebuild(*member, &gathered, &known)?, known));
        }
        let mut told = Vec::new();
        for (member, salvaged, known) in repairs {
            told.extend(self.put_in_place(member, reason, gathered.is_torn, &salvaged, &known)?);
            if let Err(error) = self.book_damage(member, &known, salvaged) {
                // The chunk has lost what it has lost: the next look at it, or the next start, books it.
                tracing::error!(%error, "the loss could not be written down yet");
            }
        }
        for told in &told {
            self.tell_damage(told.clone());
        }
        // Books count what a batch brings; those of one that was never whole count what is not there.
        let next = self.next;
        let mut books = gathered.found.books.into_values().rev();
        if let Some(books) = books.find(|books| books.next().iter().zip(next).all(|(booked, next)| *booked <= next)) {
            self.take_books(books);
        }
        self.trim_quarantine();
        self.try_outbox();
        Ok(told)
    }

    /// Closes a chunk; one that blocks are added to is sealed, with what it was acknowledged to hold.
    fn end(&mut self, id: ChunkId) {
        if self.active.get(&id.0).is_some_and(|(number, _)| *number == id.1) {
            self.retire(id.0);
        }
        self.shut(id);
    }

    /// As [`Self::salvage`]; where there is no room for it, the chunk is left as it is, sealed, and salvaged when it is read.
    pub(super) fn salvage_or_seal(&mut self, id: ChunkId, reason: &str) -> Result<(), BufferError> {
        let error = match self.with_relief(|store| store.salvage(id, reason)) {
            Err(BufferError::DiskFull(error)) => error,
            other => return other.map(drop),
        };
        let Some(mut info) = self.index.get(&id).cloned() else { return Ok(()) };
        tracing::error!(error, "there is no room to salvage a chunk; it is left for later");
        if info.state == ChunkState::Active {
            let found = self.gather(id)?.found;
            let extents = self.known_ranges(id, &found).into_iter().map(|(stream, range)| {
                let (first_time_us, last_time_us) = self.times_around(stream, range, Some(&found));
                let next = &mut self.next[stream.index()];
                *next = (*next).max(range.last.saturating_add(1));
                Extent { stream, range, first_time_us, last_time_us }
            });
            info.extents = extents.collect();
            info.state = ChunkState::Sealed;
            info.bytes = files::occupied_bytes(&self.path(id));
            self.index.insert(id, info);
            self.unsaved.insert(id);
        }
        Ok(())
    }

    /// Looks through the chunk's log. If it holds another chunk's blocks, that one's log is looked through as well: one may lie
    /// in the other's place.
    fn gather(&self, id: ChunkId) -> Result<Gathered, BufferError> {
        let (mut ring, mut logs, mut found) = (vec![id], Vec::new(), Found::default());
        let seal = (self.epoch, &self.options.cipher);
        let mut is_torn = false;
        while let Some(member) = ring.last() {
            // A log that is gone or no file has nothing to give.
            let Ok(log) = Log::open(self.path(*member).join(LOG)) else { break };
            is_torn |= ring.len() == 1 && matches!(log.condition(), Condition::Torn(_));
            let number = logs.len();
            log.find(number, seal, |stream, range| self.claims(id, stream, range), &mut found)?;
            logs.push(log);
            if number > 0 && found.is_from(number) {
                // What was missing lies there: each of the ring has another's place.
                found = Found::default();
                for (number, log) in logs.iter().enumerate() {
                    let of_ring = |stream, range| ring.iter().any(|member| self.claims(*member, stream, range));
                    log.find(number, seal, of_ring, &mut found)?;
                }
                return Ok(Gathered { ring, logs, found, is_torn: false });
            }
            let owner = found.strangers.get(&number).and_then(|(stream, at)| self.chunk_at(*stream, *at));
            match owner.filter(|owner| !ring.contains(owner) && ring.len() < RING_MAX) {
                Some(owner) => ring.push(owner),
                None => break,
            }
        }
        ring.truncate(1);
        logs.truncate(1);
        Ok(Gathered { ring, logs, found, is_torn })
    }

    /// Whether a block would be the chunk's.
    pub(super) fn claims(&self, id: ChunkId, stream: Stream, range: SequenceRange) -> bool {
        let Some(info) = self.index.get(&id).filter(|_| Family::of(stream) == id.0) else { return false };
        match (info.state, info.extent(stream)) {
            (ChunkState::Active, _) => range.first >= info.base[stream.index()],
            (_, Some(extent)) => extent.range.first <= range.first && range.last <= extent.range.last,
            (_, None) => false,
        }
    }

    /// What a chunk is known to hold, or must hold by the promises of ledger and mark, and what follows on that without a hole.
    fn known_ranges(&self, id: ChunkId, found: &Found) -> Known {
        let Some(info) = self.index.get(&id) else { return Known::new() };
        if info.state != ChunkState::Active {
            return info.extents.iter().map(|extent| (extent.stream, extent.range)).collect();
        }
        let promised = self.promised();
        // What is in the next chunk of the family is not missing here.
        let following = self.index.range((id.0, id.1.saturating_add(1))..=(id.0, u32::MAX)).next();
        let end = following.map_or([Sequence::MAX; 6], |(_, info)| info.base);
        let range = |stream: Stream| {
            let first = info.base[stream.index()];
            let admitted = info.extent(stream).map_or(first, |extent| extent.range.last.saturating_add(1));
            let next = found.follow(stream, admitted.max(promised[stream.index()])).min(end[stream.index()]);
            (first < next).then(|| (stream, SequenceRange { first, last: next - 1 }))
        };
        id.0.streams().filter_map(range).collect()
    }

    /// Writes a fresh chunk beside the damaged one. Nothing else is changed.
    fn rebuild(&self, id: ChunkId, gathered: &Gathered, known: &Known) -> Result<Salvaged, BufferError> {
        let [repairing, repaired] = [REPAIRING, REPAIRED].map(|name| self.path(id).with_extension(name));
        files::remove_dir(&repairing)?;
        files::remove_dir(&repaired)?;
        let points = &self.ledger.state().points;
        let wanted = Wanted { epoch: self.epoch, known, points, cipher: &self.options.cipher };
        let salvaged = salvage::copy_sound_blocks(&gathered.logs, &gathered.found, &repairing, &wanted);
        match salvaged {
            Ok(salvaged) if !salvaged.info.extents.is_empty() => {
                files::rename(&repairing, &repaired)?;
                Ok(salvaged)
            }
            other => {
                // Half a chunk would keep a full disk full; what cannot be removed now is removed before the next try.
                files::remove_dir(&repairing).ok();
                other
            }
        }
    }

    /// Sets the damaged chunk aside, puts the repaired one in its place, and finds the words for it.
    fn put_in_place(
        &mut self,
        id: ChunkId,
        reason: &str,
        is_torn: bool,
        salvaged: &Salvaged,
        known: &Known,
    ) -> Result<Option<String>, BufferError> {
        let path = self.path(id);
        let mut told = None;
        let lost: u64 = salvaged.missing.iter().map(|(_, range)| range.count()).sum();
        let held: u64 = known.iter().map(|(_, range)| range.count()).sum();
        if lost == 0 && (is_torn || held == 0) {
            // A power cut in the middle of a batch, or of the first steps of a chunk: nothing of it was acknowledged, nobody needs to
            // hear of it.
            files::remove_dir(&path)?;
        } else {
            let mut text = format!("{reason}; of {held} records {} were brought back", held.saturating_sub(lost));
            if path.exists() {
                let aside = self.quarantine_path(&format!("{}-{:08}", id.0.name(), id.1));
                files::rename(&path, &aside)?;
                text = format!("{text}; the damaged files are in {} as long as there is room", aside.display());
            }
            told = Some(text);
        }
        let repaired = path.with_extension(REPAIRED);
        if repaired.exists() {
            files::rename(&repaired, &path)?;
        }
        Ok(told)
    }

    /// Finishes repairs that a kill interrupted. What is repaired takes its place, the damaged chunk goes to the quarantine; what
    /// is half repaired is removed, since the damaged chunk is still there. Other names are nobody's business.
    pub(super) fn finish_repairs(&mut self) -> Result<(), BufferError> {
        for family in Family::ALL {
            let dir = self.root.join(family.name());
            for name in files::names(&dir)? {
                let path = dir.join(&name);
                let Some((number, kind)) = name.split_once('.') else { continue };
                let id = number.parse().ok().map(|number: u32| (family, number));
                match (kind, id) {
                    (REPAIRED, Some(id))
                        if self.index.get(&id).is_some_and(|info| info.state != ChunkState::Dropped) =>
                    {
                        let place = self.path(id);
                        self.shut(id);
                        if place.exists() {
                            let aside = self.quarantine_path(&format!("{}-{number}", family.name()));
                            files::rename(&place, &aside)?;
                        }
                        self.tell_damage(format!("{} was damaged; its repair is finished", place.display()));
                        files::rename(&path, &place)?;
                        if let Some(info) = self.index.get_mut(&id) {
                            // A repaired chunk has blocks alone.
                            info.digested = false;
                            self.unsaved.insert(id);
                        }
                    }
                    (REPAIRED | REPAIRING, _) => files::remove_dir(&path)?,
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Writes down what a repaired chunk holds and what it lost.
    fn book_damage(&mut self, id: ChunkId, known: &Known, salvaged: Salvaged) -> Result<(), BufferError> {
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
        let mut entries = Vec::new();
        for holes in salvaged.missing.chunks(HOLES_PER_WRITE) {
            if !entries.is_empty() {
                // What is booked is known the next time, should the rest fail.
                self.write_ledger(std::mem::take(&mut entries))?;
            }
            entries = self.hole_entries(holes, |stream| old.extent(stream).or(info.extent(stream)))?;
        }
        entries.push(Entry::Chunk(id, Some(info.clone())));
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

    /// The entries of losses that are not known yet: the holes, the gaps that tell of them, and the lanes that lost something.
    fn hole_entries<'a>(
        &self,
        holes: &[(Stream, SequenceRange)],
        around: impl Fn(Stream) -> Option<&'a Extent>,
    ) -> Result<Vec<Entry>, BufferError> {
        let (mut entries, mut gaps, mut lanes) = (Vec::new(), Vec::new(), self.lanes());
        for (stream, hole) in holes.iter().copied() {
            if self.holes(stream).iter().any(|known| known.first <= hole.first && hole.last <= known.last) {
                continue;
            }
            let times = around(stream).map_or_else(
                || self.times_around(stream, hole, None),
                |extent| (extent.first_time_us, extent.last_time_us),
            );
            entries.push(Entry::Hole(stream, hole, true));
            gaps.extend(self.book_loss(stream, hole, hole, times, GapReason::Corruption, &mut lanes));
        }
        entries.extend(self.changed_lanes(lanes));
        entries.extend(self.outbox_entries(&gaps)?);
        Ok(entries)
    }

    /// Between which times records lie that nobody can read: as near as what is found of them, or what lies before them and now.
    fn times_around(&self, stream: Stream, range: SequenceRange, found: Option<&Found>) -> (UnixMicros, UnixMicros) {
        let newest = found.map(|found| found.newest(stream)).unwrap_or_default();
        let times = newest.values().filter(|(held, _)| held.overlap(range).is_some()).map(|(_, place)| place.times);
        if let Some(times) = times.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))) {
            return times;
        }
        let now_us = self.clock.tick().wall_us;
        let before = self.index.values().filter_map(|info| info.extent(stream));
        let before = before.filter(|extent| extent.range.last < range.first).map(|extent| extent.last_time_us).max();
        (before.unwrap_or(now_us), now_us)
    }

    /// Keeps the words for a person.
    pub(super) fn tell_damage(&mut self, told: String) {
        tracing::error!("{told}");
        self.quarantined.push(told);
        if self.quarantined.len() > TEXTS_MAX {
            self.quarantined.remove(0);
        }
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
