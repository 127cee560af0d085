//! The model of a store: the same promises without a disk of its own, as plainly as they can be written.

use super::family::Family;
use super::memory_disk::{Ledger, MemoryDisk, Platter, Verdict};
use super::store::{BLOCKS_MAX, Store};
use super::{
    BootOffset, BufferError, Commit, Committed, Ends, Lane, LaneChange, Opened, SinkLanes, Start, StoreOptions,
    StreamEnds, Usage, WhenFull, lanes,
};
use crate::block::columns::Frame;
use crate::block::records::{self, Gap, GapReason, Record, RecordBody};
use crate::block::{Block, Draft};
use crate::clock::Clock;
use crate::reading::{Epoch, Sequence, SequenceRange, Stream, TimeQuality, UnixMicros};
use std::sync::MutexGuard;

/// What the model is opened with.
#[derive(Clone, Debug)]
pub(crate) struct MemoryOptions {
    /// Most bytes of blocks.
    pub(crate) bytes_max: u64,
    /// What happens then.
    pub(crate) when_full: WhenFull,
    /// How long delivered blocks are kept, in microseconds.
    pub(crate) keep_delivered_us: i64,
    /// The configured sinks.
    pub(crate) sinks: Vec<SinkLanes>,
}

/// A store on a disk in memory.
pub(crate) struct MemoryStore {
    disk: MemoryDisk,
    clock: Clock,
    options: MemoryOptions,
}

impl MemoryStore {
    /// A store of its own that nothing befalls and that never drops anything by itself.
    pub(super) fn new(epoch: Epoch, clock: Clock) -> Self {
        let disk = MemoryDisk::new(epoch, Box::new(|_| Verdict::Go));
        let options = MemoryOptions {
            bytes_max: u64::MAX,
            when_full: WhenFull::DropOldest,
            keep_delivered_us: i64::MAX,
            sinks: Vec::new(),
        };
        Self { disk, clock, options }
    }

    /// The same with room for so many bytes.
    pub(super) fn with_room(mut self, bytes_max: u64) -> Self {
        self.options.bytes_max = bytes_max;
        self
    }

    /// Opens what is on a disk, as the store on a real one does: what was dropped goes, damage is booked, promises are kept.
    pub(crate) fn open(disk: MemoryDisk, options: MemoryOptions, clock: Clock) -> Result<(Self, Opened), BufferError> {
        let store = Self { disk, clock, options };
        let mut platter = store.disk.lock();
        platter.sweep_dropped();
        let next = platter.next;
        platter.books.recover(next);
        let mut quarantined = Vec::new();
        for block in &platter.damaged {
            quarantined.push(format!("{}/{} was damaged", block.meta.stream, block.range));
        }
        for stream in Stream::ALL {
            store.book_damage(&mut platter, stream, 0)?;
        }
        store.try_outbox(&mut platter);
        let ledger = &platter.ledger;
        let opened = Opened {
            epoch: Some(platter.epoch),
            fresh_epoch: false,
            points: ledger.points.clone(),
            snapshot: platter.snapshot.clone().filter(|(at, _)| *at <= platter.next[Stream::Readings.index()]),
            configs: (1..).zip(ledger.configs.iter().cloned()).collect(),
            books: platter.books.clone(),
            quarantined,
        };
        drop(platter);
        Ok((store, opened))
    }

    /// Forgets what is below `oldest`, as the store on disk did for want of room.
    pub(super) fn drop_below(&mut self, stream: Stream, oldest: Sequence) {
        let Some(last) = oldest.checked_sub(1) else { return };
        let mut platter = self.disk.lock();
        platter.blocks.retain(|(of, first), _| *of != stream || *first >= oldest);
        for ((_, of), lane) in &mut platter.ledger.lanes {
            if *of == stream {
                lanes::lose(lane, SequenceRange { first: 0, last });
            }
        }
    }

    /// Counts a lane's changes as the store on disk does.
    pub(super) fn revise(&mut self, sink: &str, stream: Stream, revision: u64) {
        if let Some(lane) = self.disk.lock().ledger.lanes.get_mut(&(sink.to_owned(), stream)) {
            lane.revision = revision;
        }
    }

    /// Takes over the gap records that the store on disk wrote by itself.
    pub(super) fn take_over(&mut self, block: Block) {
        self.disk.lock().admit(block);
    }

    fn frame(&self, ledger: &Ledger) -> Frame {
        let config_version = u32::try_from(ledger.configs.len()).unwrap_or(u32::MAX);
        Frame { boot_id: self.clock.boot_id, base: self.clock.tick(), config_version }
    }

    /// Promises records in the ledger: whole blocks with the sequences that they will have.
    fn promise(&self, platter: &Platter, ledger: &mut Ledger, records: &[Record]) -> Result<(), BufferError> {
        let mut next = platter.next;
        for block in &ledger.outbox {
            next[block.meta.stream.index()] = block.range.last + 1;
        }
        let drafts =
            records::encode(records, &self.frame(ledger)).map_err(|error| BufferError::Disk(error.to_string()))?;
        ledger.outbox.extend(seal(platter.epoch, &mut next, &drafts)?);
        Ok(())
    }

    /// Puts promised blocks where they belong; until that succeeds nothing else takes their sequences.
    fn deliver_outbox(platter: &mut Platter) -> Result<(), BufferError> {
        if platter.ledger.outbox.is_empty() {
            return Ok(());
        }
        let missing = |block: &&Block| block.range.first >= platter.next[block.meta.stream.index()];
        let blocks: Vec<Block> = platter.ledger.outbox.iter().filter(missing).cloned().collect();
        platter.append(&blocks, None)?;
        platter.books.write_own(counts(&blocks));
        platter.write_ledger(Ledger { outbox: Vec::new(), ..platter.ledger.clone() })
    }

    /// Where the promise is enough for now.
    #[expect(clippy::unused_self, reason = "beside the other steps of an opening")]
    fn try_outbox(&self, platter: &mut Platter) {
        Self::deliver_outbox(platter).ok();
    }

    /// Takes what cannot be read at or after `from` out of the lanes, and tells of it.
    fn book_damage(&self, platter: &mut Platter, stream: Stream, from: Sequence) -> Result<(), BufferError> {
        let is_met = |block: &Block| block.meta.stream == stream && block.range.last >= from;
        let met: Vec<Block> = platter.damaged.iter().filter(|block| is_met(block)).cloned().collect();
        if met.is_empty() {
            return Ok(());
        }
        let (mut ledger, mut gaps) = (platter.ledger.clone(), Vec::new());
        for block in met {
            let times = (block.meta.first_time_us, block.meta.last_time_us);
            gaps.extend(self.book_loss(&mut ledger, stream, block.range, block.range, times, GapReason::Corruption));
            let holes = &mut ledger.holes[stream.index()];
            holes.push(block.range);
            holes.sort_unstable();
        }
        self.promise(platter, &mut ledger, &gaps)?;
        platter.write_ledger(ledger)?;
        platter.damaged.retain(|block| !is_met(block));
        self.try_outbox(platter);
        Ok(())
    }

    /// Takes a loss out of every lane of a stream and gives the gap that tells of it, if a configured sink lost anything.
    fn book_loss(
        &self,
        ledger: &mut Ledger,
        stream: Stream,
        lost: SequenceRange,
        range: SequenceRange,
        (first_time_us, last_time_us): (UnixMicros, UnixMicros),
        reason: GapReason,
    ) -> Option<Record> {
        let (mut sinks, mut in_flight) = (Vec::new(), false);
        for ((sink, _), lane) in ledger.lanes.iter_mut().filter(|((_, of), _)| *of == stream) {
            let ranges = match lanes::lose(lane, lost) {
                Some(found) => {
                    in_flight |= found.in_flight;
                    found.ranges
                }
                None => lanes::undelivered(&lane.cursor, lost),
            };
            if self.options.sinks.iter().any(|known| known.name == *sink) {
                sinks.extend(ranges.into_iter().map(|range| (sink.clone(), range)));
            }
        }
        if sinks.is_empty() {
            return None;
        }
        let gap = Gap { stream, range, first_time_us, last_time_us, reason, sinks, in_flight };
        Some(Record { id: range.first, time_us: self.clock.tick().wall_us, body: RecordBody::Gap(gap) })
    }

    /// Makes room for a commit of so many bytes.
    fn make_room(&self, platter: &mut Platter, bytes: u64) -> Result<(), BufferError> {
        let max_bytes = self.options.bytes_max;
        while platter.bytes.saturating_add(bytes) > max_bytes {
            let of_family = |family| platter.oldest_chunk(family).map(|chunk| (family, chunk));
            let oldest: Vec<(Family, u32)> = Family::LEAST_WORTHY_FIRST.into_iter().filter_map(of_family).collect();
            let resolved = oldest.iter().find(|(family, chunk)| self.is_resolved(platter, *family, *chunk));
            let unresolved = oldest.first().filter(|_| self.options.when_full == WhenFull::DropOldest);
            let Some((family, chunk)) = resolved.or(unresolved).copied() else {
                return Err(BufferError::Full { what: "the buffer", used_bytes: platter.bytes, max_bytes });
            };
            self.drop_chunk(platter, family, chunk, GapReason::Cap)?;
        }
        Ok(())
    }

    /// Whether every configured sink is done with all of a chunk.
    fn is_resolved(&self, platter: &Platter, family: Family, chunk: u32) -> bool {
        let extents = platter.extents(family, chunk);
        let is_configured = |sink: &String| self.options.sinks.iter().any(|known| known.name == *sink);
        let mut lanes = platter.ledger.lanes.iter().filter(|((sink, _), _)| is_configured(sink));
        lanes.all(|((_, stream), lane)| extents.get(stream).is_none_or(|(range, _)| lanes::resolved(lane, *range)))
    }

    /// Drops a chunk; every sink that had not got all of it has the loss in its ledger, and a gap tells of it.
    fn drop_chunk(
        &self,
        platter: &mut Platter,
        family: Family,
        chunk: u32,
        reason: GapReason,
    ) -> Result<(), BufferError> {
        let (mut ledger, mut gaps) = (platter.ledger.clone(), Vec::new());
        for (stream, (range, times)) in platter.extents(family, chunk) {
            let lost = SequenceRange { first: 0, last: range.last };
            gaps.extend(self.book_loss(&mut ledger, stream, lost, range, times, reason));
            ledger.holes[stream.index()].retain(|hole| hole.last > range.last);
        }
        self.promise(platter, &mut ledger, &gaps)?;
        ledger.dropped_below.insert(family, chunk + 1);
        platter.write_ledger(ledger)?;
        platter.sweep_dropped();
        self.try_outbox(platter);
        Ok(())
    }

    fn lane_in(platter: &mut Platter, sink: &str, stream: Stream, start: Start) -> Result<Lane, BufferError> {
        let key = (sink.to_owned(), stream);
        if let Some(lane) = platter.ledger.lanes.get(&key) {
            return Ok(lane.clone());
        }
        let since = lanes::begin(ends(platter)[stream.index()], start);
        let lane = lanes::fresh(since, &platter.ledger.holes[stream.index()]);
        let mut ledger = platter.ledger.clone();
        ledger.lanes.insert(key, lane.clone());
        platter.write_ledger(ledger)?;
        Ok(lane)
    }

    fn platter(&self) -> MutexGuard<'_, Platter> {
        self.disk.lock()
    }
}

impl Store for MemoryStore {
    fn commit(&mut self, commit: &Commit) -> Result<Committed, BufferError> {
        let mut platter = self.platter();
        let bytes: usize = commit.drafts.iter().map(|draft| draft.body.len()).sum();
        self.make_room(&mut platter, bytes as u64)?;
        let tick = self.clock.tick();
        if tick.quality != TimeQuality::Unset && !platter.ledger.boots.contains_key(&self.clock.boot_id) {
            let mut ledger = platter.ledger.clone();
            let offset = BootOffset { offset_us: tick.wall_of(0), quality: tick.quality };
            ledger.boots.insert(self.clock.boot_id, offset);
            platter.write_ledger(ledger)?;
        }
        let known = platter.ledger.points.len();
        if commit.points.iter().any(|(id, _)| id.0 as usize >= known) {
            let mut ledger = platter.ledger.clone();
            let fresh = commit.points.iter().filter(|(id, _)| id.0 as usize >= known);
            ledger.points.extend(fresh.map(|(_, key)| key.as_ref().clone()));
            platter.write_ledger(ledger)?;
        }
        Self::deliver_outbox(&mut platter)?;
        let mut next = platter.next;
        let blocks = seal(platter.epoch, &mut next, &commit.drafts)?;
        let mut books = platter.books.clone();
        books.commit(commit.books.as_ref(), counts(&blocks));
        if blocks.is_empty() {
            if books.sources != platter.books.sources {
                let before = std::mem::replace(&mut platter.books, books);
                let ledger = platter.ledger.clone();
                if let Err(error) = platter.write_ledger(ledger) {
                    platter.books = before;
                    return Err(error);
                }
            }
        } else {
            platter.append(&blocks, Some(&books))?;
            platter.books = books;
        }
        if let Some(state) = &commit.snapshot {
            platter.snapshot = Some((platter.next[Stream::Readings.index()], state.clone()));
        }
        Ok(Committed { ranges: blocks.iter().map(|block| block.range).collect() })
    }

    fn blocks(&mut self, stream: Stream, from: Sequence, blocks_max: usize) -> Result<Vec<Block>, BufferError> {
        let mut platter = self.platter();
        self.book_damage(&mut platter, stream, from)?;
        let wanted = platter.blocks_of(stream).filter(|block| block.range.last >= from);
        Ok(wanted.take(blocks_max.clamp(1, BLOCKS_MAX)).cloned().collect())
    }

    fn stretches_between(&self, stream: Stream, from_us: UnixMicros, to_us: UnixMicros) -> Vec<SequenceRange> {
        let platter = self.platter();
        let is_of_time = |block: &&Block| block.meta.first_time_us <= to_us && block.meta.last_time_us >= from_us;
        platter.blocks_of(stream).filter(is_of_time).map(|block| block.range).collect()
    }

    fn ends(&self) -> Ends {
        ends(&self.platter())
    }

    fn lane_from(&mut self, sink: &str, stream: Stream, start: Start) -> Result<Lane, BufferError> {
        Self::lane_in(&mut self.platter(), sink, stream, start)
    }

    fn change_lane(&mut self, change: &LaneChange) -> Result<Lane, BufferError> {
        let mut platter = self.platter();
        let held = Self::lane_in(&mut platter, &change.sink, change.stream, Start::Oldest)?;
        if held.revision != change.lane.revision {
            return Err(BufferError::Stale { sink: change.sink.clone(), stream: change.stream });
        }
        let mut lane = Lane { revision: held.revision + 1, ..change.lane.clone() };
        for hole in &platter.ledger.holes[change.stream.index()] {
            // Losses that had to wait for the cursor to come nearer.
            lanes::lose(&mut lane, *hole);
        }
        let mut ledger = platter.ledger.clone();
        ledger.lanes.insert((change.sink.clone(), change.stream), lane.clone());
        self.promise(&platter, &mut ledger, &change.records)?;
        platter.write_ledger(ledger)?;
        self.try_outbox(&mut platter);
        Ok(lane)
    }

    fn keep_config(&mut self, toml: &str) -> Result<u32, BufferError> {
        let mut platter = self.platter();
        let version = |index: usize| u32::try_from(index + 1).unwrap_or(u32::MAX);
        if let Some(known) = platter.ledger.configs.iter().position(|known| known == toml) {
            return Ok(version(known));
        }
        let mut ledger = platter.ledger.clone();
        ledger.configs.push(toml.to_owned());
        let kept = version(ledger.configs.len() - 1);
        platter.write_ledger(ledger)?;
        Ok(kept)
    }

    fn config(&mut self, version: u32) -> Result<Option<String>, BufferError> {
        let configs = &self.platter().ledger.configs;
        Ok(version.checked_sub(1).and_then(|index| configs.get(index as usize)).cloned())
    }

    fn boot_offset(&self, boot_id: u128) -> Option<BootOffset> {
        self.platter().ledger.boots.get(&boot_id).copied()
    }

    fn keep_boot_offset(&mut self, boot_id: u128, offset: BootOffset) -> Result<BootOffset, BufferError> {
        let mut platter = self.platter();
        if let Some(known) = platter.ledger.boots.get(&boot_id) {
            return Ok(*known);
        }
        let mut ledger = platter.ledger.clone();
        ledger.boots.insert(boot_id, offset);
        platter.write_ledger(ledger)?;
        Ok(offset)
    }

    fn usage(&mut self) -> Usage {
        Usage { disk_bytes: self.platter().bytes, disk_bytes_max: self.options.bytes_max, ..Usage::default() }
    }

    fn reconfigure(&mut self, options: StoreOptions) -> Result<(), BufferError> {
        self.options.sinks = options.sinks;
        Ok(())
    }

    fn maintain(&mut self) {
        let mut platter = self.platter();
        self.try_outbox(&mut platter);
        let now = self.clock.tick();
        if now.quality == TimeQuality::Unset {
            return;
        }
        for family in Family::ALL {
            let Some(chunk) = platter.oldest_chunk(family) else { continue };
            let last_us = platter.extents(family, chunk).values().map(|(_, (_, last_us))| *last_us).max();
            let passed =
                last_us.is_some_and(|last_us| last_us.saturating_add(self.options.keep_delivered_us) < now.wall_us);
            if passed && self.is_resolved(&platter, family, chunk) {
                self.drop_chunk(&mut platter, family, chunk, GapReason::Age).ok();
            }
        }
    }
}

fn ends(platter: &Platter) -> Ends {
    let mut ends = Ends::default();
    for stream in Stream::ALL {
        let next = platter.next[stream.index()];
        let oldest = platter.blocks_of(stream).next().map_or(next, |block| block.range.first);
        ends[stream.index()] = StreamEnds { oldest, next };
    }
    ends
}

/// How many records blocks have, by stream.
fn counts(blocks: &[Block]) -> [u64; 6] {
    let mut counts = [0; 6];
    for block in blocks {
        counts[block.meta.stream.index()] += block.range.count();
    }
    counts
}

/// Blocks with the next sequences of their streams.
fn seal(epoch: Epoch, next: &mut [Sequence; 6], drafts: &[Draft]) -> Result<Vec<Block>, BufferError> {
    let mut blocks = Vec::with_capacity(drafts.len());
    for draft in drafts {
        let next = &mut next[draft.meta.stream.index()];
        let block = Block::parse(draft.seal(epoch, *next)).map_err(|error| BufferError::Damaged(error.to_string()))?;
        *next = block.range.last + 1;
        blocks.push(block);
    }
    Ok(blocks)
}
