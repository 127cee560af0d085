//! The store on disk: chunks of blocks in four families, and the ledger that holds the books together.

mod append;
mod boots;
mod both;
mod configs;
mod damage;
mod high_water;
mod limits;
mod look;
mod merging;
mod opening;
mod place;
mod room;
mod snapshot;
mod strays;

pub(super) use high_water::promised_by_mark;
pub(super) use look::quarantine;
pub(super) use opening::{LEDGER, named_epoch};

use super::chunk::{Chunk, ChunkId, ChunkInfo, ChunkState};
use super::family::Family;
use super::inspect::{ChunkName, RawBlock, Report};
use super::lanes;
use super::ledger::{Entry, Ledger};
use super::replay::{self, Replay};
use super::scan::{Condition, Log};
use super::sled_store::LOG;
use super::store::{BLOCKS_MAX, Store};
use super::wear::Meter;
use super::{
    Books, BootOffset, BufferError, Commit, Committed, Ends, Lane, LaneChange, MinuteSummary, Start, StoreOptions,
    StreamEnds, Usage,
};
use crate::block::columns::Frame;
use crate::block::{Block, records};
use crate::clock::Clock;
use crate::reading::{Epoch, PointId, Sequence, SequenceRange, Stream, UnixMicros};
use high_water::HighWater;
use limits::Limits;
use merging::Job;
use place::Place;
use room::DROPPED_PER_LOOK;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;

/// Most sealed chunks that are open at a time, for readers that are behind; the least recently read one is closed first.
const OPEN_SEALED_MAX: usize = 2;

/// The store on disk.
pub(super) struct DiskStore {
    options: StoreOptions,
    clock: Clock,
    /// `data_dir/buffer`.
    root: PathBuf,
    /// Held as long as the store lives: one process only.
    place: Place,
    epoch: Epoch,
    ledger: Ledger,
    /// Every chunk. Sealed ones also stand in the ledger; where they do not yet, they are in `unsaved`.
    index: BTreeMap<ChunkId, ChunkInfo>,
    /// Index entries that changed since the ledger was written; they go with its next write.
    unsaved: BTreeSet<ChunkId>,
    /// The chunks that blocks are added to.
    active: BTreeMap<Family, (u32, Chunk)>,
    /// Open sealed chunks, the least recently read first.
    open: VecDeque<(ChunkId, Chunk)>,
    /// The next sequence of each stream: everything below is durable, or was lost and is on record.
    next: [Sequence; 6],
    /// How far the streams had come when the store was left.
    high_water: HighWater,
    /// Size of the file system; without bound if it cannot be asked.
    file_system_bytes: u64,
    /// What the store occupied when other programs' files had reached what stays free; until they go it grows no more.
    grows_to_bytes: Option<u64>,
    /// Chunks that were given up since something was last written: room that others took at once.
    given_up_in_vain: u32,
    /// The books of ingest as of the last commit.
    books: Books,
    /// The ledger is owed the books: the chunk that had them last is sealed, or nothing else holds them.
    owes_books: bool,
    /// Bytes that the kept configurations occupy.
    configs_bytes: u64,
    /// Counts what is written.
    meter: Meter,
    /// Bytes in `quarantine`.
    quarantine_bytes: u64,
    /// What was set aside since the start, for a person.
    quarantined: Vec<String>,
    /// The sequence of readings that the judge's snapshot has seen all below of.
    snapshot_at: Sequence,
    /// The sealed chunk that is being merged and summarised.
    job: Option<Job>,
    /// No sealed chunk waits for that, or none can have it now: until the next look at the house.
    digesting_rests: bool,
    /// Sealed chunks that a write has failed in: they are never written again.
    unsound: BTreeSet<ChunkId>,
    /// Sealed chunks whose merge has failed: they are only summarised.
    unmergeable: BTreeSet<ChunkId>,
}

impl Store for DiskStore {
    fn commit(&mut self, commit: &Commit) -> Result<Committed, BufferError> {
        let committed = match self.commit_once(commit) {
            Err(BufferError::DiskFull(_)) => {
                self.relieve();
                self.commit_once(commit)
            }
            other => other,
        };
        let committed = self.let_go_if_read_only(committed)?;
        if !commit.drafts.is_empty() {
            self.given_up_in_vain = 0;
        }
        if let Some(state) = &commit.snapshot {
            // The blocks are durable: a snapshot that cannot be kept costs a longer replay at the next start, no more.
            let kept = self.make_room(state.len() as u64, true).and_then(|()| self.keep_snapshot(state));
            match kept {
                Ok(()) => {
                    self.snapshot_at = self.next[Stream::Readings.index()];
                    self.digesting_rests = false;
                }
                Err(error) => tracing::warn!(%error, "the judge's snapshot could not be kept"),
            }
        }
        Ok(committed)
    }

    fn blocks(&mut self, stream: Stream, from: Sequence, blocks_max: usize) -> Result<Vec<Block>, BufferError> {
        // Opening a chunk may write, and what is read is delivered, which makes room.
        self.with_relief(|store| store.blocks_once(stream, from, blocks_max))
    }

    fn stretches_between(&self, stream: Stream, from_us: UnixMicros, to_us: UnixMicros) -> Vec<SequenceRange> {
        let extents = self.index.values().filter_map(|info| info.extent(stream));
        let wanted = extents.filter(|extent| extent.first_time_us <= to_us && extent.last_time_us >= from_us);
        wanted.map(|extent| extent.range).collect()
    }

    fn minutes(
        &mut self,
        stretch: SequenceRange,
        point: PointId,
        from_us: UnixMicros,
        to_us: UnixMicros,
    ) -> Result<Option<Vec<MinuteSummary>>, BufferError> {
        let Some(id) = self.chunk_at(Stream::Readings, stretch.first) else { return Ok(None) };
        match self.minutes_in(id, point, from_us, to_us) {
            Err(BufferError::Damaged(reason)) => {
                tracing::warn!(reason, chunk = id.1, "summaries cannot be read: the readings themselves will be");
                Ok(None)
            }
            other => other,
        }
    }

    fn ends(&self) -> Ends {
        let mut ends = Ends::default();
        for stream in Stream::ALL {
            let next = self.next[stream.index()];
            ends[stream.index()] = StreamEnds { oldest: self.oldest(stream), next };
        }
        ends
    }

    fn lane_from(&mut self, sink: &str, stream: Stream, start: Start) -> Result<Lane, BufferError> {
        self.with_relief(|store| store.lane_once(sink, stream, start))
    }

    fn change_lane(&mut self, change: &LaneChange) -> Result<Lane, BufferError> {
        self.with_relief(|store| store.change_lane_once(change))
    }

    fn keep_config(&mut self, toml: &str) -> Result<u32, BufferError> {
        self.with_relief(|store| store.keep_config_text(toml))
    }

    fn config(&mut self, version: u32) -> Result<Option<String>, BufferError> {
        self.config_or_tell(version)
    }

    fn boot_offset(&self, boot_id: u128) -> Option<BootOffset> {
        self.ledger.state().boots.get(&boot_id).copied()
    }

    fn keep_boot_offset(&mut self, boot_id: u128, offset: BootOffset) -> Result<BootOffset, BufferError> {
        self.keep_offset(boot_id, offset)
    }

    fn usage(&mut self) -> Usage {
        self.measure()
    }

    fn reconfigure(&mut self, options: StoreOptions) -> Result<(), BufferError> {
        if options.data_dir != self.options.data_dir {
            let what = "data_dir is another; a store stays where it was opened, restart forebay for that";
            return Err(BufferError::Elsewhere(what.to_owned()));
        }
        // What lies on disk is under the keys of the start: others need a restart.
        self.options = StoreOptions { cipher: self.options.cipher.clone(), ..options };
        self.keep_limits(DROPPED_PER_LOOK);
        self.trim_quarantine();
        Ok(())
    }

    fn damages(&self) -> &[String] {
        &self.quarantined
    }

    fn maintain(&mut self) {
        if let Err(error) = self.hold_on() {
            return tracing::warn!(%error, "the buffer cannot be looked after now");
        }
        self.try_outbox();
        self.keep_house();
        self.digesting_rests = false;
    }

    fn idle_step(&mut self) -> bool {
        self.digest_step()
    }

    fn report(&mut self) -> Result<Report, BufferError> {
        Ok(self.make_report())
    }

    fn look(&mut self, chunk: &ChunkName, stream: Stream, from: Sequence) -> Result<Vec<RawBlock>, BufferError> {
        self.look_into(chunk, stream, from)
    }

    fn replays(&self) -> Vec<Replay> {
        self.ledger.state().replays.values().cloned().collect()
    }

    fn keep_replay(&mut self, replay: &Replay) -> Result<Replay, BufferError> {
        self.with_relief(|store| {
            let (kept, dropped) = replay::keep(&store.ledger.state().replays, replay)?;
            let mut entries = vec![Entry::Replay(kept.id, Some(kept.clone()))];
            entries.extend(dropped.into_iter().map(|id| Entry::Replay(id, None)));
            store.write_ledger(entries)?;
            Ok(kept)
        })
    }

    fn salvage_chunk(&mut self, chunk: &ChunkName, reason: &str) -> Result<Vec<String>, BufferError> {
        self.salvage_named(chunk, reason)
    }
}

impl DiskStore {
    fn lane_once(&mut self, sink: &str, stream: Stream, start: Start) -> Result<Lane, BufferError> {
        if let Some(lane) = self.ledger.state().lanes.get(&(sink.to_owned(), stream)) {
            return Ok(lane.clone());
        }
        let lane = lanes::fresh(lanes::begin(self.ends()[stream.index()], start), self.holes(stream));
        self.write_ledger(vec![Entry::Lane(sink.to_owned(), stream, lane.clone())])?;
        Ok(lane)
    }

    fn blocks_once(&mut self, stream: Stream, from: Sequence, blocks_max: usize) -> Result<Vec<Block>, BufferError> {
        self.hold_on()?;
        let blocks_max = blocks_max.clamp(1, BLOCKS_MAX);
        let mut blocks: Vec<Block> = Vec::new();
        let mut at = from;
        while blocks.len() < blocks_max {
            let Some(id) = self.chunk_at(stream, at) else { break };
            let found = match self.read_chunk(id, stream, at, blocks_max - blocks.len()) {
                Err(BufferError::Damaged(reason)) => {
                    // What cannot be read is salvaged and its holes go into the books; then this reads what is left.
                    self.salvage(id, &reason)?;
                    match self.chunk_at(stream, at) {
                        None => break,
                        Some(id) => self.read_chunk(id, stream, at, blocks_max - blocks.len())?,
                    }
                }
                other => other?,
            };
            at = match found.last() {
                Some(block) => block.range.last + 1,
                // Only holes are left in this chunk.
                None => match self.index.get(&id).and_then(|info| info.extent(stream)) {
                    Some(extent) => extent.range.last.saturating_add(1).max(at + 1),
                    None => break,
                },
            };
            blocks.extend(found);
        }
        Ok(blocks)
    }

    fn commit_once(&mut self, commit: &Commit) -> Result<Committed, BufferError> {
        self.hold_on()?;
        self.make_room_for(&commit.drafts)?;
        self.keep_own_offset()?;
        self.keep_points(&commit.points)?;
        self.append_drafts(&commit.drafts, commit.books.as_ref())
    }

    fn change_lane_once(&mut self, change: &LaneChange) -> Result<Lane, BufferError> {
        let held = self.lane_once(&change.sink, change.stream, Start::Oldest)?;
        if held.revision != change.lane.revision {
            return Err(BufferError::Stale { sink: change.sink.clone(), stream: change.stream });
        }
        let mut lane = change.lane.clone();
        lane.revision += 1;
        for hole in self.holes(change.stream) {
            // Losses that had to wait for the cursor to come nearer.
            lanes::lose(&mut lane, *hole);
        }
        let mut entries = vec![Entry::Lane(change.sink.clone(), change.stream, lane.clone())];
        entries.extend(self.outbox_entries(&change.records)?);
        self.write_ledger(entries)?;
        self.try_outbox();
        Ok(lane)
    }

    /// The limits in force.
    fn limits(&self) -> Limits<'_> {
        Limits { options: &self.options, file_system_bytes: self.file_system_bytes }
    }

    /// The next sequences that ledger and high-water mark vouch for: all below were durable once.
    fn promised(&self) -> [Sequence; 6] {
        let mut promised = self.ledger.state().next;
        for (promised, found) in promised.iter_mut().zip(self.high_water.found()) {
            *promised = (*promised).max(found);
        }
        promised
    }

    fn path(&self, (family, number): ChunkId) -> PathBuf {
        self.root.join(family.name()).join(format!("{number:08}"))
    }

    fn holes(&self, stream: Stream) -> &[SequenceRange] {
        &self.ledger.state().holes[stream.index()]
    }

    /// The oldest sequence kept; the next one if none is.
    fn oldest(&self, stream: Stream) -> Sequence {
        let kept = self.index.values().filter_map(|info| info.extent(stream)).map(|extent| extent.range.first).min();
        kept.unwrap_or(self.next[stream.index()])
    }

    /// The first chunk that holds anything of a stream at or after a sequence.
    fn chunk_at(&self, stream: Stream, from: Sequence) -> Option<ChunkId> {
        let family = Family::of(stream);
        let mut chunks = self.index.range((family, 0)..=(family, u32::MAX));
        chunks.find(|(_, info)| info.extent(stream).is_some_and(|extent| extent.range.last >= from)).map(|(id, _)| *id)
    }

    fn read_chunk(
        &mut self,
        id: ChunkId,
        stream: Stream,
        from: Sequence,
        blocks_max: usize,
    ) -> Result<Vec<Block>, BufferError> {
        let Some(extent) = self.index.get(&id).and_then(|info| info.extent(stream)).copied() else {
            return Ok(Vec::new());
        };
        let (epoch, holes) = (self.epoch, self.holes(stream).to_vec());
        self.opened(id)?.read(epoch, &extent, from, blocks_max, &holes)
    }

    /// A chunk, opened if need be.
    fn opened(&mut self, id: ChunkId) -> Result<&Chunk, BufferError> {
        if self.active.get(&id.0).is_none_or(|(number, _)| *number != id.1) {
            self.open_sealed(id)?;
        }
        match self.active.get(&id.0) {
            Some((number, chunk)) if *number == id.1 => Ok(chunk),
            _ => match self.open.back() {
                Some((open, chunk)) if *open == id => Ok(chunk),
                _ => Err(BufferError::Closed),
            },
        }
    }

    /// Sees to it that a sealed chunk is open, as the most recently read one.
    fn open_sealed(&mut self, id: ChunkId) -> Result<(), BufferError> {
        if let Some(position) = self.open.iter().position(|(open, _)| *open == id) {
            if let Some(found) = self.open.remove(position) {
                self.open.push_back(found);
            }
            return Ok(());
        }
        let chunk = self.open_whole(id)?;
        self.shelve(id, chunk);
        Ok(())
    }

    /// Opens a chunk that there is, if nothing of it is lost by that: sled clears what it cannot read.
    fn open_whole(&self, id: ChunkId) -> Result<Chunk, BufferError> {
        let path = self.path(id);
        let log = Log::open(path.join(LOG))?;
        if let Condition::Torn(what) | Condition::Broken(what) = log.condition() {
            return Err(BufferError::Damaged(what));
        }
        // Another chunk's log beside this one's small files would be misread, and cleared.
        let first = log.first_block(self.epoch, &self.options.cipher);
        if first.is_some_and(|(stream, range)| !self.claims(id, stream, range)) {
            return Err(BufferError::Damaged(format!("{} holds another chunk's blocks", path.display())));
        }
        Chunk::open(&path, &self.options.cipher)
    }

    /// Keeps a sealed chunk open for readers.
    fn shelve(&mut self, id: ChunkId, chunk: Chunk) {
        while self.open.len() >= OPEN_SEALED_MAX {
            let Some((closed, chunk)) = self.open.pop_front() else { break };
            drop(chunk);
            self.measure_chunk(closed);
        }
        self.open.push_back((id, chunk));
    }

    /// Closes a chunk, whatever it is.
    fn shut(&mut self, id: ChunkId) {
        self.open.retain(|(open, _)| *open != id);
        if self.active.get(&id.0).is_some_and(|(number, _)| *number == id.1) {
            self.active.remove(&id.0);
        }
    }

    /// Writes the ledger, together with what it is owed: changed index entries and the next sequences.
    fn write_ledger(&mut self, mut entries: Vec<Entry>) -> Result<(), BufferError> {
        self.hold_on()?;
        for id in &self.unsaved {
            let info = self.index.get(id).filter(|info| info.state != ChunkState::Active);
            if let Some(info) = info {
                entries.push(Entry::Chunk(*id, Some(info.clone())));
            }
        }
        entries.push(Entry::Next(self.next));
        if self.owes_books {
            entries.push(Entry::Books(self.books.clone()));
        }
        self.ledger.write(entries)?;
        self.high_water.set(&self.next, self.ledger.state().generation);
        self.unsaved.clear();
        self.owes_books = false;
        Ok(())
    }

    /// Keeps books that no chunk takes.
    fn keep_books(&mut self, books: Books) -> Result<(), BufferError> {
        if books.sources == self.books.sources && books.streams == self.books.streams {
            return Ok(());
        }
        let before = std::mem::replace(&mut self.books, books);
        self.owes_books = true;
        let written = self.write_ledger(Vec::new());
        if written.is_err() {
            self.books = before;
        }
        written
    }

    /// The frame of records that the store itself writes.
    fn frame(&self) -> Frame {
        let config_version = self.ledger.state().configs.last_key_value().map_or(0, |(version, _)| *version);
        Frame { boot_id: self.clock.boot_id, base: self.clock.tick(), config_version }
    }

    fn encode(&self, records: &[records::Record]) -> Result<Vec<crate::block::Draft>, BufferError> {
        records::encode(records, &self.frame())
            .map_err(|error| BufferError::Disk(format!("cannot pack a record: {error}")))
    }
}
