//! Adding blocks: active chunks, their rotation, and the outbox of blocks that are promised but not yet in place.

use super::super::chunk::{Chunk, ChunkInfo, ChunkState, Sealed};
use super::super::family::Family;
use super::super::files;
use super::super::ledger::Entry;
use super::super::{Books, BufferError, Committed};
use super::DiskStore;
use crate::block::records::Record;
use crate::block::{BLOCK_BYTES_MAX, Block, Draft, HEADER_BYTES, RECORDS_MAX};
use crate::reading::{PointId, Sequence, SequenceRange};
use crate::site::PointKey;
use crate::status::SourceBooks;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;

/// How many new points one ledger write takes: about 30 KiB.
const POINTS_PER_WRITE: usize = 256;

/// A chunk that failed is left and a fresh one tried once; a second failure is the disk's answer.
const TRIES: usize = 2;

impl DiskStore {
    /// Keeps new points in the ledger, before any block that names them.
    pub(super) fn keep_points(&mut self, points: &[(PointId, Arc<PointKey>)]) -> Result<(), BufferError> {
        let known = self.ledger.state().points.len();
        let fresh: Vec<Entry> = points
            .iter()
            .filter(|(id, _)| id.0 as usize >= known)
            .map(|(id, key)| Entry::Point(*id, key.as_ref().clone()))
            .collect();
        for entries in fresh.chunks(POINTS_PER_WRITE) {
            self.write_ledger(entries.to_vec())?;
        }
        Ok(())
    }

    /// Gives drafts their sequences and makes them durable, family by family; visible only when all are.
    pub(super) fn append_drafts(
        &mut self,
        drafts: &[Draft],
        sources: Option<&BTreeMap<String, SourceBooks>>,
    ) -> Result<Committed, BufferError> {
        // Promised records have their sequences already.
        self.deliver_outbox()?;
        let mut next = self.next;
        let mut blocks = Vec::with_capacity(drafts.len());
        for draft in drafts {
            blocks.push(sealed(self.epoch, &mut next, draft)?);
        }
        let ranges = blocks.iter().map(|block| block.range).collect();
        let mut books = self.books.clone();
        books.commit(sources, counts(&blocks));
        if blocks.is_empty() {
            // No chunk is written; the ledger takes them.
            return self.keep_books(books).map(|()| Committed { ranges });
        }
        self.append(blocks, Some(&books))?;
        self.books = books;
        Ok(Committed { ranges })
    }

    /// Makes blocks durable and then visible. After an error none of them is visible, and the chunks that some of them may
    /// have reached are never written again: the next try goes to fresh ones, and the newer chunk wins.
    fn append(&mut self, blocks: Vec<Sealed>, books: Option<&Books>) -> Result<(), BufferError> {
        let mut families: BTreeMap<Family, Vec<Sealed>> = BTreeMap::new();
        for block in blocks {
            families.entry(Family::of(block.stream)).or_default().push(block);
        }
        let mut written = Vec::new();
        let last = families.keys().next_back().copied();
        for (family, blocks) in &families {
            written.push(*family);
            let books = books.filter(|_| Some(*family) == last);
            if let Err(error) = self.append_family(*family, blocks, books) {
                for family in written {
                    self.retire_unsound(family);
                }
                return Err(error);
            }
        }
        for (family, blocks) in families {
            let Some((number, _)) = self.active.get(&family) else { continue };
            let Some(info) = self.index.get_mut(&(family, *number)) else { continue };
            for block in &blocks {
                info.admit(block);
                self.next[block.stream.index()] = block.range.last + 1;
            }
        }
        self.high_water.set(&self.next, self.ledger.state().generation);
        Ok(())
    }

    fn append_family(&mut self, family: Family, blocks: &[Sealed], books: Option<&Books>) -> Result<(), BufferError> {
        let mut tries = TRIES;
        loop {
            tries -= 1;
            let result = self.append_once(family, blocks, books);
            let Err(error) = result else { return Ok(()) };
            tracing::warn!(%error, family = family.name(), "a chunk could not be written; going on in a fresh one");
            self.retire_unsound(family);
            if tries == 0 || matches!(error, BufferError::DiskFull(_)) {
                return Err(error);
            }
        }
    }

    fn append_once(&mut self, family: Family, blocks: &[Sealed], books: Option<&Books>) -> Result<(), BufferError> {
        self.ready(family)?;
        let points = &self.ledger.state().points;
        match self.active.get_mut(&family) {
            None => Err(BufferError::Closed),
            Some((_, chunk)) => chunk.append(blocks, books, |id| points.get(id.0 as usize).cloned()),
        }
    }

    /// Sees to it that a family has an active chunk with room. Its index entry is in the ledger before its directory is made.
    fn ready(&mut self, family: Family) -> Result<(), BufferError> {
        if let Some((_, chunk)) = self.active.get(&family) {
            if chunk.database().occupied_bytes() < self.limits().chunk_bytes_max(family) {
                return Ok(());
            }
            self.retire(family);
        }
        let last = self.index.range((family, 0)..=(family, u32::MAX)).next_back().map(|((_, number), _)| *number);
        // At 16 MB a chunk, 32 bits last for 64 PB.
        let id = (family, last.map_or(1, |last| last.saturating_add(1)));
        let info = ChunkInfo::begun(self.next);
        self.write_ledger(vec![Entry::Chunk(id, Some(info.clone()))])?;
        let path = self.path(id);
        // Whatever lies there was begun and never counted.
        files::remove_dir(&path)?;
        self.index.insert(id, info);
        match Chunk::open(&path, &self.options.cipher) {
            Ok(chunk) => {
                self.active.insert(family, (id.1, chunk));
                Ok(())
            }
            Err(error) => {
                self.forget_empty(id);
                Err(error)
            }
        }
    }

    /// Ends the active chunk of a family: what was admitted stays, nothing is ever added.
    pub(super) fn retire(&mut self, family: Family) {
        let Some((number, chunk)) = self.active.remove(&family) else { return };
        let id = (family, number);
        let bytes = chunk.database().occupied_bytes();
        let Some(info) = self.index.get_mut(&id) else { return };
        info.state = ChunkState::Sealed;
        info.bytes = bytes;
        // It may be the one with the newest books, and nobody looks for them in a sealed chunk.
        self.owes_books = true;
        if info.extents.is_empty() {
            drop(chunk);
            self.forget_empty(id);
        } else {
            self.unsaved.insert(id);
            self.shelve(id, chunk);
            self.digesting_rests = false;
        }
    }

    /// Ends the active chunk of a family because a write to it has failed, or may have.
    fn retire_unsound(&mut self, family: Family) {
        if let Some((number, _)) = self.active.get(&family) {
            self.unsound.insert((family, *number));
        }
        self.retire(family);
    }

    /// Takes a chunk out of the index that holds nothing that counts.
    fn forget_empty(&mut self, id: super::ChunkId) {
        if let Some(info) = self.index.get_mut(&id) {
            info.state = ChunkState::Dropped;
            self.unsaved.insert(id);
        }
        self.sweep_dropped();
    }

    /// The entries that promise records: whole blocks with the sequences that they will have. They go into the ledger with
    /// the change that gives rise to them; a crash on the way to their chunk repeats nothing, since the sequence tells
    /// whether a block has arrived.
    pub(super) fn outbox_entries(&self, records: &[Record]) -> Result<Vec<Entry>, BufferError> {
        let outbox = &self.ledger.state().outbox;
        let mut next = self.next;
        for block in outbox.values() {
            if let Ok(block) = Block::parse(block.clone()) {
                let next = &mut next[block.meta.stream.index()];
                *next = (*next).max(block.range.last + 1);
            }
        }
        let first = outbox.last_key_value().map_or(0, |(index, _)| index + 1);
        let mut entries = Vec::new();
        for (draft, index) in self.encode(records)?.iter().zip(first..) {
            let block = sealed(self.epoch, &mut next, draft)?;
            entries.push(Entry::Outbox(index, Some(block.bytes)));
        }
        Ok(entries)
    }

    /// Puts promised blocks where they belong. Until that succeeds nothing else may take their sequences.
    pub(super) fn deliver_outbox(&mut self) -> Result<(), BufferError> {
        if self.ledger.state().outbox.is_empty() {
            return Ok(());
        }
        let outbox: Vec<(u64, Bytes)> = self.ledger.state().outbox.iter().map(|(k, v)| (*k, v.clone())).collect();
        let mut missing = Vec::new();
        for (_, bytes) in &outbox {
            match Block::parse(bytes.clone()) {
                Ok(block) if block.range.first >= self.next[block.meta.stream.index()] => {
                    missing.push(Sealed::again(&block, Vec::new()));
                }
                Ok(_) => {}
                Err(error) => tracing::error!(%error, "a promised record is damaged and left out"),
            }
        }
        let counts = counts(&missing);
        self.append(missing, None)?;
        self.books.write_own(counts);
        self.owes_books = true;
        self.write_ledger(outbox.into_iter().map(|(index, _)| Entry::Outbox(index, None)).collect())
    }

    /// As [`Self::deliver_outbox`], where the promise is enough for now.
    pub(super) fn try_outbox(&mut self) {
        if let Err(error) = self.deliver_outbox() {
            tracing::warn!(%error, "records wait in the ledger until they can be appended");
        }
    }
}

/// How many records blocks hold, by stream.
fn counts(blocks: &[Sealed]) -> [u64; 6] {
    let mut counts = [0; 6];
    for block in blocks {
        counts[block.stream.index()] += block.range.count();
    }
    counts
}

fn sealed(epoch: crate::reading::Epoch, next: &mut [Sequence; 6], draft: &Draft) -> Result<Sealed, BufferError> {
    let meta = &draft.meta;
    let next = &mut next[meta.stream.index()];
    let first = *next;
    let bytes = draft.seal(epoch, first);
    if meta.count == 0 || usize::from(meta.count) > RECORDS_MAX || bytes.len() > BLOCK_BYTES_MAX + HEADER_BYTES {
        return Err(BufferError::Damaged(format!(
            "a draft of {} records and {} bytes is no block; a block has 1 to {RECORDS_MAX} records and at most {BLOCK_BYTES_MAX} bytes",
            meta.count,
            bytes.len()
        )));
    }
    *next = first + u64::from(meta.count);
    let range = SequenceRange { first, last: *next - 1 };
    let (first_time_us, last_time_us) = (meta.first_time_us, meta.last_time_us);
    Ok(Sealed { stream: meta.stream, range, first_time_us, last_time_us, points: draft.points.clone(), bytes })
}

#[cfg(test)]
impl DiskStore {
    /// The state between the first family of a commit and its last.
    pub(in crate::buffer) fn append_half_for_test(&mut self, drafts: &[Draft]) {
        let mut next = self.next;
        let blocks = drafts.iter().filter_map(|draft| sealed(self.epoch, &mut next, draft).ok()).collect();
        self.append(blocks, None).unwrap_or_default();
    }

    /// The state between a lane's change and the append of its records.
    pub(in crate::buffer) fn promise_for_test(&mut self, records: &[Record]) -> Vec<Entry> {
        let entries = self.outbox_entries(records).unwrap_or_default();
        self.promise_again_for_test(entries.clone());
        entries
    }

    /// The state between the append of records and the end of their promise.
    pub(in crate::buffer) fn promise_again_for_test(&mut self, entries: Vec<Entry>) {
        self.write_ledger(entries).unwrap_or_default();
    }
}
