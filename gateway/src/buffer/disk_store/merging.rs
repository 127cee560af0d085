//! Sealed chunks of readings in quiet moments: summaries and index are added, and small blocks merged into full ones.
//!
//! A chunk whose blocks are full keeps them, and its summaries are added to it. One with small blocks is written anew beside
//! itself as `NNNNNNNN.merging`, read back and compared with the old one, and takes its place by renames; a crash at any
//! point leaves the old or the new, which the next start finds. It is done in steps of a few milliseconds, and never
//! at the cost of anything: where there is no room for a second chunk, or something else needs it, the merge gives way.

use super::super::chunk::{self, Chunk, ChunkId, ChunkState, Extent, Sealed};
use super::super::family::Family;
use super::super::merge::{self, COPIED_READINGS_MIN, Merger};
use super::super::minutes::{self, Digest, MinuteSummary};
use super::super::sled_store::{BATCH_BYTES_MAX, Write};
use super::super::store::BLOCKS_MAX;
use super::super::{BufferError, Replay, files};
use super::DiskStore;
use crate::block::{BLOCK_BYTES_MAX, Block, BlockFlags};
use crate::reading::{PointId, Sequence, Stream, TimeQuality, UnixMicros};
use std::path::PathBuf;

/// Ends the name of a chunk that is being merged; what bears it at a start is removed.
const MERGING: &str = "merging";

/// Ends the name of a merged chunk that is whole, while it takes its place.
const MERGED: &str = "merged";

/// Ends the name of the old chunk while the new one takes its place.
const REPLACED: &str = "replaced";

/// Readings from the end of the stream whose message hashes are kept: more than a start looks through to recognise redeliveries (eight
/// windows of 60 000).
const HASHES_KEPT: u64 = 500_000;

/// Merged blocks are written together until they have so many bytes: each write is a synchronisation.
const WRITE_BYTES: usize = 64 * 1024;

/// Places in a chunk at which its blocks are looked at, to tell whether they are small.
const SAMPLES: u64 = 4;

/// Blocks with at least so many bytes are full enough.
const FULL_BYTES_MIN: usize = BLOCK_BYTES_MAX * 4 / 5;

/// The work on one chunk.
pub(super) struct Job {
    id: ChunkId,
    /// What it held when the work began; if that has changed, the work is void.
    extents: Vec<Extent>,
    stage: Stage,
    digest: Digest,
    hashes_from: Sequence,
    merge: Option<Merge>,
}

/// Where the work stands: the sequence of readings it goes on with.
#[derive(Clone, Copy)]
enum Stage {
    Read(Sequence),
    Compare(Sequence),
}

/// The new chunk.
struct Merge {
    path: PathBuf,
    chunk: Chunk,
    merger: Merger,
    finished: Vec<Sealed>,
}

impl DiskStore {
    /// One step; false if there is nothing to do until the next look at the house.
    pub(super) fn digest_step(&mut self) -> bool {
        if self.digesting_rests {
            return false;
        }
        if let Err(error) = self.hold_on() {
            // What is half merged lies where the path does not lead now; it is left until it leads there again.
            tracing::warn!(%error, "no chunk can be merged and summarised now");
            self.digesting_rests = true;
            return false;
        }
        let result = self.digest_step_once();
        match self.let_go_if_read_only(result) {
            Ok(true) => return true,
            Ok(false) => {}
            Err(BufferError::Damaged(reason)) => {
                let id = self.job.as_ref().map(|job| job.id);
                self.abandon_merge();
                if let Some(id) = id
                    && let Err(error) = self.salvage(id, &reason)
                {
                    tracing::warn!(%error, "a chunk was found damaged and cannot be repaired now");
                }
            }
            Err(error) => {
                tracing::warn!(%error, "a sealed chunk cannot be merged and summarised now");
                if let Some(id) = self.job.as_ref().filter(|job| job.merge.is_some()).map(|job| job.id) {
                    self.give_up_merging(id);
                }
                self.abandon_merge();
            }
        }
        self.digesting_rests = true;
        false
    }

    /// Gives up the merge under way, whose room something else needs; false if there is none.
    pub(super) fn abandon_merge(&mut self) -> bool {
        let Some(merge) = self.job.take().and_then(|job| job.merge) else { return false };
        self.digesting_rests = true;
        let path = merge.path.clone();
        drop(merge);
        if let Err(error) = files::remove_dir(&path) {
            tracing::warn!(%error, "a chunk that was being merged cannot be removed yet");
        }
        true
    }

    /// Keeps in mind that the merge of a chunk has failed: it would be written again and again. It is only summarised then.
    fn give_up_merging(&mut self, id: ChunkId) {
        self.unmergeable.retain(|id| self.index.contains_key(id));
        self.unmergeable.insert(id);
    }

    /// Bytes that the merge under way occupies.
    pub(super) fn merging_bytes(&self, family: Family) -> u64 {
        let merge = self.job.as_ref().filter(|job| job.id.0 == family).and_then(|job| job.merge.as_ref());
        merge.map_or(0, |merge| merge.chunk.database().occupied_bytes())
    }

    fn digest_step_once(&mut self) -> Result<bool, BufferError> {
        let Some(mut job) = self.job.take().map_or_else(|| self.next_job(), |job| Ok(Some(job)))? else {
            return Ok(false);
        };
        let is_current =
            self.index.get(&job.id).is_some_and(|info| info.state == ChunkState::Sealed && info.extents == job.extents);
        if !is_current {
            self.job = Some(job);
            self.abandon_merge();
            return Ok(true);
        }
        let result = match job.stage {
            Stage::Read(at) => self.read_step(&mut job, at),
            Stage::Compare(at) => self.compare_step(&mut job, at),
        };
        // Also after an error: who abandons it must find what it has made.
        match result {
            Ok(Some(stage)) => {
                job.stage = stage;
                self.job = Some(job);
            }
            Ok(None) => {
                let id = job.id;
                self.finish_job(job).inspect_err(|_| self.give_up_merging(id))?;
            }
            Err(error) => {
                self.job = Some(job);
                return Err(error);
            }
        }
        Ok(true)
    }

    /// The oldest chunk that waits for it. Readings that the judge may have to be brought forward with stay as they are; so do those
    /// that a sink or a replay has not got yet, since a retry must be the same bytes, and a merge drops message hashes.
    fn next_job(&mut self) -> Result<Option<Job>, BufferError> {
        if self.ledger.state().replays.values().any(Replay::is_running) {
            return Ok(None);
        }
        let stream = Stream::Readings;
        let waits = |extent: &Extent| extent.range.last < self.snapshot_at;
        let mut chunks = self.index.range((Family::Readings, 0)..=(Family::Readings, u32::MAX));
        let found = chunks.find(|(id, info)| {
            let waits = info.extent(stream).is_some_and(waits);
            let is_due = info.state == ChunkState::Sealed && waits && !info.digested;
            is_due && !self.unsound.contains(id) && self.is_resolved(**id)
        });
        let Some((id, info)) = found else { return Ok(None) };
        let (id, bytes, extents) = (*id, info.bytes, info.extents.clone());
        let Some(extent) = info.extent(stream).copied() else { return Ok(None) };
        let hashes_from = self.next[stream.index()].saturating_sub(HASHES_KEPT);
        let mut job = Job {
            id,
            extents,
            stage: Stage::Read(extent.range.first),
            digest: Digest::default(),
            hashes_from,
            merge: None,
        };
        // A chunk may hold other streams, too, once there are any: such a one is summarised, not merged.
        let may_merge = job.extents.len() == 1 && !self.unmergeable.contains(&id);
        if may_merge && self.has_small_blocks(id, &extent)? && self.has_room_for(bytes) {
            let merge = self.begin_merge(id, hashes_from).inspect_err(|_| self.give_up_merging(id))?;
            job.merge = Some(merge);
        }
        Ok(Some(job))
    }

    fn begin_merge(&self, id: ChunkId, hashes_from: Sequence) -> Result<Merge, BufferError> {
        let path = self.path(id).with_extension(MERGING);
        files::remove_dir(&path)?;
        let chunk = Chunk::open(&path, &self.options.cipher)?;
        let merger = Merger::new(self.epoch, hashes_from)?;
        Ok(Merge { path, chunk, merger, finished: Vec::new() })
    }

    /// Whether merging would pay: by a look at a few places.
    fn has_small_blocks(&mut self, id: ChunkId, extent: &Extent) -> Result<bool, BufferError> {
        let (mut blocks, mut readings, mut bytes) = (0, 0, 0);
        for sample in 0..SAMPLES {
            let at = extent.range.first + extent.range.count() / SAMPLES * sample;
            for block in self.read_chunk(id, extent.stream, at, BLOCKS_MAX)? {
                blocks += 1;
                readings += usize::from(block.meta.count);
                bytes += block.bytes().len();
            }
        }
        Ok(readings < blocks * COPIED_READINGS_MIN && bytes < blocks * FULL_BYTES_MIN)
    }

    /// Reads some blocks: into the digest, and into the new chunk if there is one.
    fn read_step(&mut self, job: &mut Job, at: Sequence) -> Result<Option<Stage>, BufferError> {
        let blocks = self.read_chunk(job.id, Stream::Readings, at, BLOCKS_MAX)?;
        for block in &blocks {
            // A block that cannot be read is kept as it is: whoever reads it is told.
            let rows = block.readings().ok();
            if let Some(rows) = &rows {
                job.digest.add(rows, block.meta.time_quality != TimeQuality::Unset);
            }
            if let Some(merge) = &mut job.merge {
                merge.merger.add(block, rows.as_deref(), &mut merge.finished)?;
            }
        }
        let pages = job.digest.full_pages()?;
        self.keep_pages(job, pages)?;
        if let Some(last) = blocks.last() {
            self.keep_merged(job, WRITE_BYTES)?;
            return Ok(Some(Stage::Read(last.range.last + 1)));
        }
        if let Some(merge) = &mut job.merge {
            merge.merger.flush(&mut merge.finished)?;
        }
        self.keep_merged(job, 0)?;
        let (minutes, index) = std::mem::take(&mut job.digest).finish()?;
        self.keep_pages(job, minutes)?;
        // Last: where it is, all the summaries are.
        self.keep_pages(job, index)?;
        let first =
            job.extents.iter().find(|extent| extent.stream == Stream::Readings).map(|extent| extent.range.first);
        Ok(first.filter(|_| job.merge.is_some()).map(Stage::Compare))
    }

    /// Reads a block of the new chunk back and compares it with the old one's readings.
    fn compare_step(&mut self, job: &mut Job, at: Sequence) -> Result<Option<Stage>, BufferError> {
        let (Some(merge), Some(extent)) = (&job.merge, job.extents.first()) else { return Ok(None) };
        let differs = || BufferError::Disk(format!("{} is not what was merged", merge.path.display()));
        let found = merge.chunk.read(self.epoch, extent, at, 1, self.holes(Stream::Readings));
        let Some(merged) = found.map_err(|_| differs())?.pop() else {
            // Nothing may be left in the old one either.
            let rest = self.read_chunk(job.id, Stream::Readings, at, 1)?;
            return if rest.is_empty() { Ok(None) } else { Err(differs()) };
        };
        let mut originals: Vec<Block> = Vec::new();
        while originals.last().is_none_or(|block| block.range.last < merged.range.last) {
            let from = originals.last().map_or(merged.range.first, |block| block.range.last + 1);
            let more = self.read_chunk(job.id, Stream::Readings, from, BLOCKS_MAX)?;
            if more.is_empty() {
                return Err(differs());
            }
            originals.extend(more);
        }
        // A copy is the same whatever it is; it may have been merged before, with other hashes.
        let is_same = if originals.first() == Some(&merged) {
            true
        } else if merged.meta.flags.0 & BlockFlags::MERGED == 0 {
            false
        } else {
            let mut rows = Vec::new();
            for block in originals {
                rows.extend(block.readings().map_err(|_| differs())?);
            }
            rows.retain(|row| merged.range.first <= row.sequence && row.sequence <= merged.range.last);
            merge::same(&merged.readings().map_err(|_| differs())?, &rows, job.hashes_from)
        };
        if is_same { Ok(Some(Stage::Compare(merged.range.last + 1))) } else { Err(differs()) }
    }

    /// Writes finished blocks to the new chunk, if they have so many bytes.
    fn keep_merged(&self, job: &mut Job, bytes_min: usize) -> Result<(), BufferError> {
        let Some(merge) = &mut job.merge else { return Ok(()) };
        let bytes: usize = merge.finished.iter().map(|block| block.bytes.len()).sum();
        if bytes == 0 || bytes < bytes_min {
            return Ok(());
        }
        let points = &self.ledger.state().points;
        let blocks = std::mem::take(&mut merge.finished);
        merge.chunk.append(&blocks, None, |id| points.get(id.0 as usize).cloned())
    }

    /// Writes pages to the new chunk, or into the sealed one where its blocks stay.
    fn keep_pages(&mut self, job: &Job, pages: Vec<Write>) -> Result<(), BufferError> {
        let mut bytes = 0;
        let mut batches: Vec<Vec<Write>> = Vec::new();
        for page in pages {
            let page_bytes = page.0.len() + page.1.as_ref().map_or(0, Vec::len);
            if batches.is_empty() || bytes + page_bytes > BATCH_BYTES_MAX {
                batches.push(Vec::new());
                bytes = 0;
            }
            bytes += page_bytes;
            if let Some(batch) = batches.last_mut() {
                batch.push(page);
            }
        }
        for batch in batches {
            if let Some(merge) = &job.merge {
                merge.chunk.database().write(batch)?;
            } else {
                self.open_sealed(job.id)?;
                let Some((_, chunk)) = self.open.back() else { return Err(BufferError::Closed) };
                if let Err(error) = chunk.database().write(batch) {
                    self.unsound.insert(job.id);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// The new chunk takes the old one's place, if there is one; then the work is done.
    fn finish_job(&mut self, job: Job) -> Result<(), BufferError> {
        if let Some(mut merge) = job.merge {
            let old = self.path(job.id);
            self.open_sealed(job.id)?;
            let books = self.open.back().and_then(|(_, chunk)| chunk::books(chunk.database()));
            if let Some(books) = books {
                merge.chunk.append(&[], Some(&books), |_| None)?;
            }
            drop(merge.chunk);
            self.shut(job.id);
            let (new, aside) = (old.with_extension(MERGED), old.with_extension(REPLACED));
            for left in [&aside, &new] {
                files::remove_dir(left)?;
            }
            files::rename(&merge.path, &new)?;
            files::rename(&old, &aside)?;
            if let Err(error) = files::rename(&new, &old) {
                files::rename(&aside, &old)?;
                return Err(error);
            }
            files::remove_dir(&aside)?;
            self.measure_chunk(job.id);
        }
        if let Some(info) = self.index.get_mut(&job.id) {
            info.digested = true;
            self.unsaved.insert(job.id);
        }
        Ok(())
    }

    /// Finishes what a crash interrupted: the merged chunk takes its place if the old one has left it, or else the old one does.
    pub(super) fn finish_merges(&self) -> Result<(), BufferError> {
        let dir = self.root.join(Family::Readings.name());
        // In the order of their names: a merged chunk comes before the one that it replaces.
        for name in files::names(&dir)? {
            let Some((number, kind)) = name.split_once('.') else { continue };
            let (path, place) = (dir.join(&name), dir.join(number));
            let id = number.parse().ok().map(|number: u32| (Family::Readings, number));
            let is_kept = id.and_then(|id| self.index.get(&id)).is_some_and(|info| info.state != ChunkState::Dropped);
            match kind {
                MERGED | REPLACED if is_kept && !place.exists() => files::rename(&path, &place)?,
                MERGING | MERGED | REPLACED => files::remove_dir(&path)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// The summaries of a point in a chunk; `None` if it has none yet.
    pub(super) fn minutes_in(
        &mut self,
        id: ChunkId,
        point: PointId,
        from_us: UnixMicros,
        to_us: UnixMicros,
    ) -> Result<Option<Vec<MinuteSummary>>, BufferError> {
        if self.index.get(&id).is_none_or(|info| !info.digested) {
            return Ok(None);
        }
        self.open_sealed(id)?;
        let Some((_, chunk)) = self.open.back() else { return Err(BufferError::Closed) };
        let database = chunk.database();
        let page = database.last(&minutes::index_key(PointId(0)), &minutes::index_key(point))?;
        let extents = page.map_or(Ok(Vec::new()), |(_, page)| minutes::extents(&page))?;
        let known = extents.into_iter().find(|extent| extent.point == point);
        if known.is_none_or(|extent| extent.first_time_us > to_us || extent.last_time_us < from_us) {
            return Ok(Some(Vec::new()));
        }
        let (mut summaries, mut first) = (Vec::new(), 0);
        loop {
            let pages = database.scan(
                &minutes::minutes_key(point, first),
                &minutes::minutes_key(point, u32::MAX),
                BLOCKS_MAX,
            )?;
            for (_, page) in &pages {
                summaries.extend(minutes::summaries(page)?);
                first += 1;
            }
            if pages.len() < BLOCKS_MAX {
                break;
            }
        }
        let minute_us = minutes::MINUTE_US;
        summaries.retain(|summary| summary.minute_us <= to_us && summary.minute_us.saturating_add(minute_us) > from_us);
        Ok(Some(summaries))
    }
}

#[cfg(test)]
impl DiskStore {
    /// Seals the chunk of readings, however little it holds.
    pub(in crate::buffer) fn seal_for_test(&mut self) {
        self.retire(Family::Readings);
    }

    /// Whether the next step puts a merged chunk in the old one's place.
    pub(in crate::buffer) fn is_compared_for_test(&self) -> bool {
        let last = |job: &Job| job.extents.first().map(|extent| extent.range.last);
        self.job
            .as_ref()
            .is_some_and(|job| matches!((job.stage, last(job)), (Stage::Compare(at), Some(last)) if at > last))
    }
}
