//! A disk in memory, as far as a store's promises depend on it: what is not synchronised may be gone after a crash.
//!
//! It follows sled with a synchronisation after each batch. A write of the ledger is one batch, there in full or not at all.
//! A chunk's log may lose any end of what was not synchronised, never a middle, since a torn block fails its checksum and ends
//! the log. Families are synchronised one after the other, so a crash may keep a commit's dead letters and lose its readings.
//! What a failed write may have left is counted in by a start, unless the ledger was written since and sealed it out.

use super::family::Family;
use super::{Books, BootOffset, BufferError, Lane};
use crate::block::Block;
use crate::reading::{Epoch, Sequence, SequenceRange, Stream};
use crate::site::PointKey;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of blocks from which on the next ones go to a fresh chunk: small, so that a small cap holds several.
const CHUNK_BYTES_MAX: u64 = 8 * 1024;

/// A step of the disk; a fault may befall each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// A batch goes to the ledger.
    LedgerWrite,
    /// The ledger is synchronised.
    LedgerSync,
    /// Blocks go to a chunk.
    ChunkWrite,
    /// A chunk is synchronised.
    ChunkSync,
}

/// What becomes of a step.
#[derive(Clone, Debug)]
pub(crate) enum Verdict {
    /// It is done.
    Go,
    /// It fails with this error.
    Fail(BufferError),
    /// The power goes before it is done.
    Crash,
}

/// Decides about each step.
pub(crate) type Faults = Box<dyn FnMut(Operation) -> Verdict + Send>;

/// The disk: what outlives a crash of those who use it. Clones are the same disk.
#[derive(Clone)]
pub(crate) struct MemoryDisk(Arc<Mutex<Platter>>);

/// What the ledger holds.
#[derive(Clone, Default)]
pub(super) struct Ledger {
    pub(super) points: Vec<PointKey>,
    pub(super) lanes: BTreeMap<(String, Stream), Lane>,
    pub(super) holes: [Vec<SequenceRange>; 6],
    /// Blocks that are promised and not in their chunk yet.
    pub(super) outbox: Vec<Block>,
    pub(super) configs: Vec<String>,
    pub(super) boots: BTreeMap<u128, BootOffset>,
    /// The books of ingest, as far as the ledger was told.
    pub(super) books: Books,
    /// Chunks below these numbers are dropped, by family.
    pub(super) dropped_below: BTreeMap<Family, u32>,
}

/// A block in its place.
pub(super) struct Placed {
    pub(super) chunk: u32,
    pub(super) block: Block,
}

pub(super) struct Platter {
    pub(super) epoch: Epoch,
    /// The ledger as it was last synchronised.
    pub(super) ledger: Ledger,
    /// A write of the ledger whose synchronisation failed or never came: after a crash it holds, or it does not.
    unsynced_ledger: Option<Ledger>,
    pub(super) blocks: BTreeMap<(Stream, Sequence), Placed>,
    /// Blocks of a commit that is under way or failed, and whether they are synchronised.
    limbo: Vec<(Block, bool)>,
    /// The books of ingest that go with the last family of the commit in limbo.
    limbo_books: Option<(Family, Books)>,
    /// The books of ingest as they are with the last block, and as they are by now.
    chunk_books: Books,
    pub(super) books: Books,
    pub(super) next: [Sequence; 6],
    pub(super) snapshot: Option<(Sequence, Vec<u8>)>,
    /// Blocks that give back something else than was written, and nobody has noticed.
    pub(super) damaged: Vec<Block>,
    /// Bytes of all blocks in their places.
    pub(super) bytes: u64,
    /// The chunk that blocks of a family are added to, and its bytes.
    active: BTreeMap<Family, (u32, u64)>,
    faults: Faults,
    has_crashed: bool,
    /// Every block that became readable since somebody asked.
    admitted: Vec<Block>,
}

impl MemoryDisk {
    /// An empty disk.
    pub(crate) fn new(epoch: Epoch, faults: Faults) -> Self {
        Self(Arc::new(Mutex::new(Platter {
            epoch,
            ledger: Ledger::default(),
            unsynced_ledger: None,
            blocks: BTreeMap::new(),
            limbo: Vec::new(),
            limbo_books: None,
            chunk_books: Books::default(),
            books: Books::default(),
            next: [0; 6],
            snapshot: None,
            damaged: Vec::new(),
            bytes: 0,
            active: BTreeMap::new(),
            faults,
            has_crashed: false,
            admitted: Vec::new(),
        })))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Platter> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the power went during a step.
    pub(crate) fn has_crashed(&self) -> bool {
        self.lock().has_crashed
    }

    /// What a crash leaves, by chance: of each family's unsynchronised blocks the first few, of an unsynchronised ledger the
    /// old or the new one.
    pub(crate) fn crash(&self, random: &mut fastrand::Rng) {
        let mut platter = self.lock();
        let limbo = std::mem::take(&mut platter.limbo);
        let sealed_out = match platter.unsynced_ledger.take() {
            Some(ledger) if random.bool() => {
                platter.ledger = ledger;
                true
            }
            _ => false,
        };
        let limbo_books = platter.limbo_books.take();
        for family in Family::ALL {
            let own: Vec<_> = limbo.iter().filter(|(block, _)| Family::of(block.meta.stream) == family).collect();
            let synced = own.iter().filter(|(_, is_synced)| *is_synced).count();
            let kept = if sealed_out { 0 } else { random.usize(synced..=own.len()) };
            if kept > 0
                && kept == own.len()
                && let Some((last, books)) = &limbo_books
                && family == *last
            {
                // One batch with the blocks.
                platter.chunk_books = books.clone();
            }
            for (block, _) in own.into_iter().take(kept) {
                platter.admit(block.clone());
            }
        }
        let newest = if platter.chunk_books.revision > platter.ledger.books.revision {
            platter.chunk_books.clone()
        } else {
            platter.ledger.books.clone()
        };
        platter.books = newest;
        platter.has_crashed = false;
    }

    /// Damages a block that was promised to be there, if there is one; it is noticed when somebody reads it.
    pub(crate) fn damage(&self, random: &mut fastrand::Rng) -> Option<(Stream, SequenceRange)> {
        let mut platter = self.lock();
        let key = platter.blocks.keys().nth(random.usize(..platter.blocks.len().max(1))).copied()?;
        let placed = platter.blocks.remove(&key)?;
        platter.bytes -= placed.block.bytes().len() as u64;
        let found = (key.0, placed.block.range);
        platter.damaged.push(placed.block);
        Some(found)
    }

    /// The blocks that became readable since this was last asked, in the order in which they did.
    pub(crate) fn take_admitted(&self) -> Vec<Block> {
        std::mem::take(&mut self.lock().admitted)
    }

    /// The next sequence of each stream, by its index.
    pub(crate) fn next(&self) -> [Sequence; 6] {
        self.lock().next
    }

    /// Whether a record can be read.
    pub(crate) fn holds(&self, stream: Stream, sequence: Sequence) -> bool {
        let platter = self.lock();
        let before = platter.blocks.range(..=(stream, sequence)).next_back();
        before.is_some_and(|((of, _), placed)| *of == stream && placed.block.range.last >= sequence)
    }

    /// What does not add up in the books of ingest.
    pub(crate) fn faults(&self) -> Vec<String> {
        let platter = self.lock();
        platter.books.faults(platter.next)
    }

    /// The lanes in the ledger.
    pub(crate) fn lanes(&self) -> BTreeMap<(String, Stream), Lane> {
        self.lock().ledger.lanes.clone()
    }
}

impl Platter {
    /// After a crash nothing is done any more.
    fn ask(&mut self, operation: Operation) -> Result<(), BufferError> {
        if self.has_crashed {
            return Err(BufferError::Closed);
        }
        match (self.faults)(operation) {
            Verdict::Go => Ok(()),
            Verdict::Fail(error) => Err(error),
            Verdict::Crash => {
                self.has_crashed = true;
                Err(BufferError::Closed)
            }
        }
    }

    /// Writes the ledger, all or nothing; what a failed commit left in the chunks does not count from here on.
    pub(super) fn write_ledger(&mut self, ledger: Ledger) -> Result<(), BufferError> {
        let ledger = Ledger { books: self.books.clone(), ..ledger };
        self.ask(Operation::LedgerWrite)?;
        self.unsynced_ledger = Some(ledger);
        self.ask(Operation::LedgerSync)?;
        if let Some(ledger) = self.unsynced_ledger.take() {
            self.ledger = ledger;
        }
        self.limbo.clear();
        self.limbo_books = None;
        Ok(())
    }

    /// Makes blocks durable, family by family; readable only when all are.
    pub(super) fn append(&mut self, blocks: &[Block], books: Option<&Books>) -> Result<(), BufferError> {
        if !self.limbo.is_empty() {
            // A fresh chunk stands in the ledger before it is begun, and with it what the one before holds.
            self.write_ledger(self.ledger.clone())?;
        }
        let last = blocks.iter().map(|block| Family::of(block.meta.stream)).max();
        self.limbo_books = last.zip(books.cloned());
        for family in Family::ALL {
            let own = blocks.iter().filter(|block| Family::of(block.meta.stream) == family);
            let from = self.limbo.len();
            if own.clone().next().is_none() {
                continue;
            }
            self.ask(Operation::ChunkWrite)?;
            self.limbo.extend(own.map(|block| (block.clone(), false)));
            self.ask(Operation::ChunkSync)?;
            for (_, is_synced) in self.limbo.iter_mut().skip(from) {
                *is_synced = true;
            }
        }
        for (block, _) in std::mem::take(&mut self.limbo) {
            self.admit(block);
        }
        if let Some((_, books)) = self.limbo_books.take() {
            self.chunk_books = books;
        }
        Ok(())
    }

    pub(super) fn admit(&mut self, block: Block) {
        let stream = block.meta.stream;
        let bytes = block.bytes().len() as u64;
        let (chunk, chunk_bytes) = self.active.entry(Family::of(stream)).or_insert((1, 0));
        if *chunk_bytes >= CHUNK_BYTES_MAX {
            (*chunk, *chunk_bytes) = (*chunk + 1, 0);
        }
        *chunk_bytes += bytes;
        self.bytes += bytes;
        self.next[stream.index()] = block.range.last + 1;
        self.admitted.push(block.clone());
        self.blocks.insert((stream, block.range.first), Placed { chunk: *chunk, block });
    }

    /// The blocks of a stream, ascending.
    pub(super) fn blocks_of(&self, stream: Stream) -> impl Iterator<Item = &Block> {
        self.blocks.range((stream, 0)..=(stream, Sequence::MAX)).map(|(_, placed)| &placed.block)
    }

    /// The oldest chunk of a family that holds anything.
    pub(super) fn oldest_chunk(&self, family: Family) -> Option<u32> {
        let own = self.blocks.iter().filter(|((stream, _), _)| Family::of(*stream) == family);
        own.map(|(_, placed)| placed.chunk).min()
    }

    /// What a chunk holds: of each stream its sequences, and the times of its first and last record.
    pub(super) fn extents(&self, family: Family, chunk: u32) -> BTreeMap<Stream, (SequenceRange, (i64, i64))> {
        let mut extents = BTreeMap::new();
        let own =
            self.blocks.iter().filter(|((stream, _), placed)| Family::of(*stream) == family && placed.chunk == chunk);
        for ((stream, _), Placed { block, .. }) in own {
            let times = (block.meta.first_time_us, block.meta.last_time_us);
            let (range, around) = extents.entry(*stream).or_insert((block.range, times));
            range.last = block.range.last;
            *around = (around.0.min(times.0), around.1.max(times.1));
        }
        extents
    }

    /// Forgets the chunks that the ledger says are dropped.
    pub(super) fn sweep_dropped(&mut self) {
        let below = &self.ledger.dropped_below;
        let is_kept = |stream: &Stream, placed: &Placed| {
            below.get(&Family::of(*stream)).is_none_or(|below| placed.chunk >= *below)
        };
        self.blocks.retain(|(stream, _), placed| is_kept(stream, placed));
        for (family, below) in below {
            // Nothing is added to a chunk that is dropped.
            let (chunk, bytes) = self.active.entry(*family).or_insert((1, 0));
            if *chunk < *below {
                (*chunk, *bytes) = (*below, 0);
            }
        }
        self.bytes = self.blocks.values().map(|placed| placed.block.bytes().len() as u64).sum();
    }
}
