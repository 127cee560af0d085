//! Room on disk: what is used, what may go, and how it goes without a hole in the books.
//!
//! A chunk leaves in three steps, and a crash between any two of them is finished at the next start: its gaps and the
//! lanes that lost something are written to the ledger together with the word that the chunk is dropped; its directory is
//! renamed and removed; the index entry goes with the next write of the ledger.

use super::super::chunk::{ChunkId, ChunkState};
use super::super::family::Family;
use super::super::ledger::Entry;
use super::super::sled_store::SEGMENT_BYTES;
use super::super::{BufferError, FamilyUsage, Lane, Usage, WhenFull, files, lanes};
use super::DiskStore;
use super::opening::QUARANTINE;
use crate::block::Draft;
use crate::block::records::{Gap, GapReason, Record, RecordBody};
use crate::reading::{SequenceRange, Stream, TimeQuality};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// Chunks and ledger grow by segments.
const GROWTH_BYTES: u64 = SEGMENT_BYTES as u64;

/// How many bytes on disk a byte of blocks takes at most (measured: 2.1, and the last segment is not full).
const AMPLIFICATION: u64 = 3;

/// The file that is removed first when the disk is full.
pub(super) const BALLAST: &str = "ballast";

/// Its largest size: enough to write a large ledger anew, which dropping a chunk may need.
const BALLAST_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// The ballast is at most this part of the cap, and of the file system.
const BALLAST_SHARE: u64 = 16;

/// Below this the ballast would not hold a small ledger and what a start writes on opening its chunks.
const BALLAST_BYTES_MIN: u64 = START_BYTES_MIN;

/// Below this a start frees room first: the ledger written anew, the active chunks of three families, and what sled notes when
/// it opens one.
const START_BYTES_MIN: u64 = 5 * SEGMENT_BYTES as u64;

/// What is set aside is kept for a look in at most this part of the cap, and gives way before anything sound does.
const QUARANTINE_CAP_SHARE: u64 = 4;

/// Most chunks that one look at retention or at limits drops, so that commits and readers do not wait for long; the next look goes on.
pub(super) const DROPPED_PER_LOOK: usize = 8;

/// Chunks given up in a row without a commit that succeeded since: then other programs take the room as fast as it is made, and giving up
/// more helps only them.
const IN_VAIN_MAX: u32 = 2;

/// A record that may wait for so long is in a chunk that is begun anew this many times within that, so that what is dropped for
/// its age is hardly older.
const CHUNKS_PER_AGE: i64 = 8;

/// Room that the merge of a chunk leaves beside that of the second chunk: what commits need until it gives way.
const SPARE_BYTES: u64 = 4 * SEGMENT_BYTES as u64;

/// Lanes by sink and stream.
pub(super) type Lanes = BTreeMap<(String, Stream), Lane>;

impl DiskStore {
    /// Sees to it that blocks fit: each family below its own limit, all of them below the cap, and what other programs need left
    /// free.
    ///
    /// # Errors
    /// [`BufferError::Full`] or [`BufferError::DiskFull`] if nothing may go.
    pub(super) fn make_room_for(&mut self, drafts: &[Draft]) -> Result<(), BufferError> {
        let mut families: BTreeMap<Family, u64> = BTreeMap::new();
        for draft in drafts {
            *families.entry(Family::of(draft.meta.stream)).or_default() += draft.body.len() as u64;
        }
        let mut all = 0;
        for (family, bytes) in &families {
            let needed = GROWTH_BYTES + bytes.saturating_mul(AMPLIFICATION);
            self.make_room_in(*family, needed)?;
            all += needed;
        }
        // What explains a loss may take what else stays free.
        let spares_others = families.keys().any(|family| *family != Family::Vital);
        self.make_room(all, spares_others)
    }

    /// Sees to it that a family stays below its own limit. Far above a limit that was lowered it only shrinks: nobody waits until all
    /// has gone that is too much.
    fn make_room_in(&mut self, family: Family, needed: u64) -> Result<(), BufferError> {
        let before_bytes = self.family_bytes(family);
        // Each round drops a chunk or ends.
        for round in 0.. {
            let (used_bytes, max_bytes) = (self.family_bytes(family), self.limits().bytes_max(family));
            let with_needed = used_bytes.saturating_add(needed);
            if with_needed <= max_bytes || round >= DROPPED_PER_LOOK && with_needed <= before_bytes {
                return Ok(());
            }
            if self.merging_bytes(family) > 0 && self.abandon_merge() {
                continue;
            }
            let Some(id) = self.expendable(family) else {
                return Err(BufferError::Full { what: family.part(), used_bytes, max_bytes });
            };
            self.give_up(id)?;
        }
        Ok(())
    }

    /// Sees to it that so many bytes more stay below the cap, and off what other programs need if `spares_others`. Far above a cap
    /// that was lowered, as [`Self::make_room_in`].
    pub(super) fn make_room(&mut self, bytes: u64, spares_others: bool) -> Result<(), BufferError> {
        // The ledger grows with it, and may have to be written anew beside the old one.
        let needed = bytes.saturating_add(GROWTH_BYTES).saturating_add(self.ledger.fresh_bytes());
        let before_bytes = self.used_bytes();
        // Each round drops a chunk or ends.
        for round in 0.. {
            let used_bytes = self.used_bytes();
            let max_bytes = self.options.disk_bytes_max;
            let with_needed = used_bytes.saturating_add(needed);
            let is_below_cap = with_needed <= max_bytes;
            let shrinks = round >= DROPPED_PER_LOOK && with_needed <= before_bytes;
            let fits = self.fits_file_system(used_bytes, needed, spares_others);
            if (is_below_cap || shrinks) && fits.is_ok() {
                return Ok(());
            }
            let is_in_vain = is_below_cap && self.gives_up_in_vain();
            if is_in_vain || !self.drop_one(is_below_cap)? {
                return Err(match fits {
                    Err(error) if is_below_cap => error,
                    _ => BufferError::Full { what: "the buffer", used_bytes, max_bytes },
                });
            }
        }
        Ok(())
    }

    /// Whether so many bytes more leave free what other programs need. Where those have taken of it, the buffer stays as large as it is:
    /// the oldest gives way to the newest, but nothing is given up for their files.
    fn fits_file_system(&mut self, used_bytes: u64, needed: u64, spares_others: bool) -> Result<(), BufferError> {
        let free_bytes = files::free_bytes(&self.root).unwrap_or(u64::MAX);
        let free_bytes_min = self.limits().free_bytes_min();
        if needed.saturating_add(free_bytes_min) <= free_bytes {
            self.grows_to_bytes = None;
            return Ok(());
        }
        let grows_to_bytes = *self.grows_to_bytes.get_or_insert(used_bytes);
        let stays = used_bytes.saturating_add(needed) <= grows_to_bytes;
        if needed <= free_bytes && (stays || !spares_others) {
            return Ok(());
        }
        Err(BufferError::DiskFull(format!(
            "{free_bytes} bytes are free, {needed} are needed, and {free_bytes_min} are left to other programs"
        )))
    }

    /// Whether other programs take the room as fast as it is made: nothing could be written in it, or the buffer has become smaller by a
    /// chunk since the file system had no more room for it.
    fn gives_up_in_vain(&self) -> bool {
        let chunk_bytes = self.limits().chunk_bytes_max(Family::Readings);
        let has_shrunk =
            self.grows_to_bytes.is_some_and(|bytes| self.used_bytes().saturating_add(chunk_bytes) <= bytes);
        has_shrunk || self.given_up_in_vain >= IN_VAIN_MAX
    }

    /// Drops a chunk on a full disk, with the ballast's room to write the books in. What cannot be done shows at the next
    /// write. The ballast is back afterwards as far as it fits: readings never fill its place, and the next start needs it.
    pub(super) fn relieve(&mut self) {
        release_ballast(&self.root);
        if !self.gives_up_in_vain()
            && let Err(error) = self.drop_one(true)
        {
            tracing::warn!(%error, "the disk is full and no chunk could be dropped");
        }
        self.sweep_dropped();
        self.restore_ballast();
    }

    /// Does what frees room sooner or later, and so may use the ballast's place; if that is not enough, a chunk goes.
    pub(super) fn with_relief<T>(
        &mut self,
        mut work: impl FnMut(&mut Self) -> Result<T, BufferError>,
    ) -> Result<T, BufferError> {
        let mut result = work(self);
        if let Err(BufferError::DiskFull(_)) = result {
            release_ballast(&self.root);
            result = work(self);
            if let Err(BufferError::DiskFull(_)) = result {
                self.relieve();
                result = work(self);
            }
            // At once, as far as it fits: were the process to end now, the next start would need it.
            self.restore_ballast();
        }
        self.let_go_if_read_only(result)
    }

    /// Drops what is missed least: what was set aside, else a chunk that every sink is done with, or, where the policy says so, the oldest of
    /// the least worthy family; what tells of losses does not go for want of room on the file system. False if there is none.
    fn drop_one(&mut self, spares_vital: bool) -> Result<bool, BufferError> {
        if self.abandon_merge() || self.drop_quarantined() {
            return Ok(true);
        }
        let mut families = Family::LEAST_WORTHY_FIRST.into_iter();
        let done = families.find_map(|family| self.oldest_chunk(family).filter(|id| self.is_resolved(*id)));
        let mut families = Family::LEAST_WORTHY_FIRST.into_iter();
        let id = done.or_else(|| {
            families.find_map(|family| self.expendable(family).filter(|_| !spares_vital || family != Family::Vital))
        });
        id.map_or(Ok(false), |id| self.give_up(id).map(|()| true))
    }

    /// The oldest chunk of a family, if every sink is done with it or the policy says that it gives way.
    fn expendable(&self, family: Family) -> Option<ChunkId> {
        let gives_way = self.limits().when_full(family) == WhenFull::DropOldest;
        self.oldest_chunk(family).filter(|id| gives_way || self.is_resolved(*id))
    }

    fn give_up(&mut self, id: ChunkId) -> Result<(), BufferError> {
        if !self.is_resolved(id) {
            tracing::warn!(family = id.0.name(), chunk = id.1, "the buffer is full: giving up its oldest");
            self.given_up_in_vain = self.given_up_in_vain.saturating_add(1);
        }
        self.drop_chunk(id, GapReason::Cap)
    }

    /// The oldest chunk of a family that holds anything. Chunks go in order, so that a stream's losses are at its old end.
    fn oldest_chunk(&self, family: Family) -> Option<ChunkId> {
        let mut chunks = self.index.range((family, 0)..=(family, u32::MAX));
        chunks.find(|(_, info)| !info.extents.is_empty()).map(|(id, _)| *id)
    }

    /// Whether every configured sink is done with all of a chunk. Lanes of other sinks hold nothing back.
    pub(super) fn is_resolved(&self, id: ChunkId) -> bool {
        let Some(info) = self.index.get(&id) else { return false };
        let lanes = self.ledger.state().lanes.iter();
        let mut lanes = lanes.filter(|((sink, stream), _)| self.options.has_lane(sink, *stream));
        lanes.all(|((_, stream), lane)| info.extent(*stream).is_none_or(|extent| lanes::resolved(lane, extent.range)))
    }

    /// Drops a chunk; every sink that had not got all of it has the loss in its books, and a gap tells of it.
    fn drop_chunk(&mut self, id: ChunkId, reason: GapReason) -> Result<(), BufferError> {
        if self.active.get(&id.0).is_some_and(|(number, _)| *number == id.1) {
            self.retire(id.0);
        }
        let Some(info) = self.index.get(&id).cloned() else { return Ok(()) };
        let (mut entries, mut gaps, mut lanes) = (Vec::new(), Vec::new(), self.lanes());
        for extent in &info.extents {
            // Everything older went before, so the loss reaches down to the beginning and splits no cursor.
            let lost = SequenceRange { first: 0, last: extent.range.last };
            let times = (extent.first_time_us, extent.last_time_us);
            gaps.extend(self.book_loss(extent.stream, lost, extent.range, times, reason, &mut lanes));
            let past = self.holes(extent.stream).iter().filter(|hole| hole.last <= extent.range.last);
            entries.extend(past.map(|hole| Entry::Hole(extent.stream, *hole, false)));
        }
        entries.extend(self.changed_lanes(lanes));
        entries.extend(self.outbox_entries(&gaps)?);
        let mut dropped = info.clone();
        dropped.state = ChunkState::Dropped;
        dropped.extents = Vec::new();
        entries.push(Entry::Chunk(id, Some(dropped.clone())));
        self.unsaved.remove(&id);
        if let Err(error) = self.write_ledger(entries) {
            self.unsaved.insert(id);
            return Err(error);
        }
        self.index.insert(id, dropped);
        self.sweep_dropped();
        self.try_outbox();
        Ok(())
    }

    /// The lanes as they stand, to book losses in.
    pub(super) fn lanes(&self) -> Lanes {
        self.ledger.state().lanes.clone()
    }

    /// The entries of the lanes that losses have changed.
    pub(super) fn changed_lanes(&self, lanes: Lanes) -> Vec<Entry> {
        let held = &self.ledger.state().lanes;
        let changed = lanes.into_iter().filter(|(key, lane)| held.get(key) != Some(lane));
        changed.map(|((sink, stream), lane)| Entry::Lane(sink, stream, lane)).collect()
    }

    /// Takes a loss out of every lane of a stream and gives the gap that tells of it, if a configured sink lost anything.
    pub(super) fn book_loss(
        &self,
        stream: Stream,
        lost: SequenceRange,
        range: SequenceRange,
        (first_time_us, last_time_us): (i64, i64),
        reason: GapReason,
        lanes: &mut Lanes,
    ) -> Option<Record> {
        let (mut sinks, mut in_flight) = (Vec::new(), false);
        for ((sink, _), lane) in lanes.iter_mut().filter(|((_, of), _)| *of == stream) {
            let ranges = match lanes::lose(lane, lost) {
                Some(found) => {
                    in_flight |= found.in_flight;
                    found.ranges
                }
                None => lanes::undelivered(&lane.cursor, lost),
            };
            if self.options.has_lane(sink, stream) {
                sinks.extend(ranges.into_iter().map(|range| (sink.clone(), range)));
            }
        }
        if sinks.is_empty() {
            return None;
        }
        let id = xxhash_rust::xxh3::xxh3_64(format!("gap/{}/{stream}/{range}", self.epoch).as_bytes());
        let gap = Gap { stream, range, first_time_us, last_time_us, reason, sinks, in_flight };
        Some(Record { id, time_us: self.clock.tick().wall_us, body: RecordBody::Gap(gap) })
    }

    /// Removes the directories of dropped chunks. What cannot be removed now is tried again later.
    pub(super) fn sweep_dropped(&mut self) {
        let dropped: Vec<ChunkId> =
            self.index.iter().filter(|(_, info)| info.state == ChunkState::Dropped).map(|(id, _)| *id).collect();
        for id in dropped {
            self.shut(id);
            match files::remove_dir(&self.path(id)) {
                // The highest number of a family stays, so that it is never given twice.
                Ok(()) if self.index.range((id.0, id.1 + 1)..=(id.0, u32::MAX)).next().is_some() => {
                    if self.ledger.write(vec![Entry::Chunk(id, None)]).is_ok() {
                        self.index.remove(&id);
                        self.unsaved.remove(&id);
                    }
                }
                Ok(()) => {
                    if let Some(info) = self.index.get_mut(&id) {
                        info.bytes = 0;
                    }
                }
                Err(error) => tracing::warn!(%error, "a dropped chunk cannot be removed yet"),
            }
        }
    }

    /// Retention, ballast, quarantine, the ledger's size.
    pub(super) fn keep_house(&mut self) {
        self.sweep_dropped();
        for family in Family::ALL {
            self.retire_aged(family);
        }
        for _ in 0..DROPPED_PER_LOOK {
            let Some(id) = Family::ALL.into_iter().find_map(|family| self.outlived(family)) else { break };
            if let Err(error) = self.drop_chunk(id, GapReason::Age) {
                tracing::warn!(%error, "a chunk whose time has passed cannot be dropped yet");
                break;
            }
        }
        self.keep_limits(DROPPED_PER_LOOK);
        if let Err(error) = self.ledger.compact() {
            tracing::warn!(%error, "the ledger could not be made anew");
        }
        self.trim_quarantine();
        self.restore_ballast();
        for (id, chunk) in self.active.iter().map(|(family, (number, chunk))| ((*family, *number), chunk)) {
            if chunk.database().has_blobs() {
                tracing::error!(
                    family = id.0.name(),
                    chunk = id.1,
                    "a block was too large for the log; power cuts can lose it"
                );
            }
        }
    }

    /// Brings the store below its limits where it is above, since they were lowered or other programs need room: at most so many
    /// chunks. What may not be given up stays, and then nothing is added.
    pub(super) fn keep_limits(&mut self, chunks_max: usize) {
        let in_vain = self.given_up_in_vain;
        for _ in 0..chunks_max {
            let Some(id) = self.superfluous() else { break };
            if let Err(error) = self.give_up(id) {
                tracing::warn!(%error, "a chunk cannot be dropped yet");
                break;
            }
        }
        // What is above a limit does not go for want of room.
        self.given_up_in_vain = in_vain;
    }

    /// A chunk that is too much: of a family above its limit, of all above the cap, or one that every sink is done with, while less
    /// is free than other programs need.
    fn superfluous(&self) -> Option<ChunkId> {
        let limits = self.limits();
        let families = || Family::LEAST_WORTHY_FIRST.into_iter();
        let done = |family| self.oldest_chunk(family).filter(|id| self.is_resolved(*id));
        let above = families().filter(|family| self.family_bytes(*family) > limits.bytes_max(*family));
        let mut chunks = above.filter_map(|family| self.expendable(family));
        if let Some(id) = chunks.next() {
            return Some(id);
        }
        let is_above_cap = self.used_bytes() > self.options.disk_bytes_max;
        let is_short = files::free_bytes(&self.root).is_some_and(|free| free < limits.free_bytes_min());
        if !is_above_cap && !is_short {
            return None;
        }
        let superfluous = families().find_map(done);
        superfluous.or_else(|| families().find_map(|family| self.expendable(family)).filter(|_| is_above_cap))
    }

    /// Begins a fresh chunk in good time where a family's records may only wait for so long: chunks go whole.
    fn retire_aged(&mut self, family: Family) {
        let Some(age_max_us) = self.limits().age_max_us(family) else { return };
        let Some((number, _)) = self.active.get(&family) else { return };
        let now = self.clock.tick();
        let Some(info) = self.index.get(&(family, *number)) else { return };
        let first_time_us = info.extents.iter().map(|extent| extent.first_time_us).min();
        let is_aged = |first: i64| first.saturating_add(age_max_us / CHUNKS_PER_AGE) < now.wall_us;
        if now.quality != TimeQuality::Unset && first_time_us.is_some_and(is_aged) {
            self.retire(family);
        }
    }

    /// The oldest chunk of a family, if its time has passed: as undelivered, or as delivered to every sink.
    fn outlived(&self, family: Family) -> Option<ChunkId> {
        let now = self.clock.tick();
        if now.quality == TimeQuality::Unset {
            return None;
        }
        let id = self.oldest_chunk(family)?;
        let last_time_us = self.index.get(&id)?.extents.iter().map(|extent| extent.last_time_us).max()?;
        let is_past = |age_us: i64| last_time_us.saturating_add(age_us) < now.wall_us;
        let undelivered_is_past = self.limits().age_max_us(family).is_some_and(is_past);
        let delivered_is_past = is_past(self.options.keep_delivered_us) && self.is_resolved(id);
        (undelivered_is_past || delivered_is_past).then_some(id)
    }

    /// Bytes that a family's chunks occupy.
    fn family_bytes(&self, family: Family) -> u64 {
        let chunks = self.index.range((family, 0)..=(family, u32::MAX));
        let sealed: u64 = chunks.filter(|(_, info)| info.state != ChunkState::Active).map(|(_, info)| info.bytes).sum();
        let active = self.active.get(&family);
        sealed + self.merging_bytes(family) + active.map_or(0, |(_, chunk)| chunk.database().occupied_bytes())
    }

    /// Bytes that the store's files occupy. Sealed chunks were measured when they were sealed; the rest is measured now.
    fn used_bytes(&self) -> u64 {
        let chunks: u64 = Family::ALL.into_iter().map(|family| self.family_bytes(family)).sum();
        let files = [super::snapshot::NAME, BALLAST];
        let files: u64 = files.iter().map(|name| files::occupied_bytes(&self.root.join(name))).sum();
        chunks + self.ledger.occupied_bytes() + self.configs_bytes + files + self.quarantine_bytes
    }

    /// Whether a second chunk of so many bytes fits in, and leaves commits what they need, without anything giving way.
    pub(super) fn has_room_for(&self, bytes: u64) -> bool {
        let needed = bytes.saturating_add(SPARE_BYTES);
        let fits = |used_bytes: u64, bytes_max: u64| used_bytes.saturating_add(needed) <= bytes_max;
        let free_bytes = files::free_bytes(&self.root).unwrap_or(0);
        fits(self.used_bytes(), self.options.disk_bytes_max)
            && fits(self.family_bytes(Family::Readings), self.limits().bytes_max(Family::Readings))
            && fits(self.limits().free_bytes_min(), free_bytes)
    }

    /// Measures every sealed chunk, however many there are.
    pub(super) fn measure_sealed(&mut self) {
        let sealed: Vec<ChunkId> =
            self.index.iter().filter(|(_, info)| info.state == ChunkState::Sealed).map(|(id, _)| *id).collect();
        for id in sealed {
            self.measure_chunk(id);
        }
    }

    /// Measures a chunk that nobody has open.
    pub(super) fn measure_chunk(&mut self, id: ChunkId) {
        let bytes = files::occupied_bytes(&self.path(id));
        if let Some(info) = self.index.get_mut(&id) {
            info.bytes = bytes;
        }
    }

    /// Measures what may have changed since the last time: a sealed chunk changes only while a reader has it open.
    pub(super) fn measure(&mut self) -> Usage {
        self.measure_configs();
        for (id, chunk) in &self.open {
            if let Some(info) = self.index.get_mut(id) {
                info.bytes = chunk.database().occupied_bytes();
            }
        }
        let (card, readings) = (self.options.card, self.next[Stream::Readings.index()]);
        let wear = self.meter.look(Duration::from_micros(self.clock.tick().mono_us), readings, card);
        let extents = self.index.values().flat_map(|info| &info.extents);
        Usage {
            disk_bytes: self.used_bytes(),
            disk_bytes_max: self.options.disk_bytes_max,
            quarantine_bytes: self.quarantine_bytes,
            chunks: self.index.values().filter(|info| info.state != ChunkState::Dropped).count() as u64,
            families: Family::ALL.map(|family| FamilyUsage {
                name: family.name(),
                disk_bytes: self.family_bytes(family),
                disk_bytes_max: self.limits().bytes_max(family),
            }),
            free_bytes: files::free_bytes(&self.root).unwrap_or(0),
            free_bytes_min: self.limits().free_bytes_min(),
            wear,
            oldest_time_us: extents.map(|extent| extent.first_time_us).min(),
        }
    }

    /// Makes the ballast, as much of it as there is room for.
    pub(super) fn restore_ballast(&mut self) {
        let path = self.root.join(BALLAST);
        let share = self.options.disk_bytes_max.min(self.file_system_bytes) / BALLAST_SHARE;
        let wanted = share.clamp(BALLAST_BYTES_MIN, BALLAST_BYTES_MAX);
        let held = path.metadata().map_or(0, |meta| meta.len());
        let possible = held.saturating_add(files::free_bytes(&self.root).unwrap_or(0)).min(wanted);
        // By whole segments: less is of no use to a ledger, and a full disk is not asked again and again.
        let bytes = possible - possible % GROWTH_BYTES;
        if bytes <= held {
            return;
        }
        if let Err(error) = files::reserve(&path, bytes) {
            tracing::warn!(%error, "the ballast could not be made; a full disk will be harder to leave");
            // A file that does not hold its bytes would be taken for one that does.
            std::fs::remove_file(&path).ok();
        }
    }

    /// Keeps the quarantine within its limit: the oldest goes first.
    pub(super) fn trim_quarantine(&mut self) {
        self.quarantine_bytes = files::contents_bytes(&self.root.join(QUARANTINE));
        while self.quarantine_bytes > self.options.disk_bytes_max / QUARANTINE_CAP_SHARE {
            if !self.drop_quarantined() {
                return;
            }
        }
    }

    /// Removes the oldest thing that was set aside; false if there is none, or it cannot be removed.
    fn drop_quarantined(&mut self) -> bool {
        let dropped = drop_quarantined(&self.root);
        if dropped {
            self.quarantine_bytes = files::contents_bytes(&self.root.join(QUARANTINE));
        }
        dropped
    }
}

/// Frees room for a start on a full disk, before anything is opened: the ballast, then what was set aside, the oldest first.
pub(super) fn free_for_start(root: &Path) {
    let is_short = || files::free_bytes(root).is_some_and(|free| free < START_BYTES_MIN);
    if is_short() {
        release_ballast(root);
    }
    while is_short() && drop_quarantined(root) {}
}

fn release_ballast(root: &Path) {
    let ballast = root.join(BALLAST);
    if ballast.exists() {
        tracing::warn!("the disk is full: giving up the ballast");
        if let Err(error) = std::fs::remove_file(&ballast) {
            tracing::warn!(%error, "the ballast cannot be removed");
        }
    }
}

fn drop_quarantined(root: &Path) -> bool {
    let path = root.join(QUARANTINE);
    let names = files::names(&path).unwrap_or_default();
    let Some(oldest) = names.first() else { return false };
    let removed = files::remove_dir(&path.join(oldest));
    if let Err(error) = &removed {
        tracing::warn!(%error, "the quarantine cannot be trimmed");
    }
    removed.is_ok()
}
