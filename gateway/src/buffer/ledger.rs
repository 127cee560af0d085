//! The ledger: what the store knows beside its blocks, mirrored in memory and kept in one small database.
//!
//! A write is one batch, all or nothing. After a failed write the database is never written again: the next write makes a
//! fresh one from the mirror and puts it in the old one's place. Two renames do it, and a start finishes them:
//! `ledger.new` beside no `ledger` is whole, since it was synchronised before `ledger` was moved away.

mod entry;

pub(super) use entry::{ConfigMark, Entry};

use super::chunk::{ChunkId, ChunkInfo};
use super::sled_store::{BATCH_BYTES_MAX, Database};
use super::{Books, BootOffset, BufferError, Cipher, Lane, Replay, files};
use crate::reading::{Epoch, Sequence, SequenceRange, Stream};
use crate::site::PointKey;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// How many entries are read in one go.
const SCAN_PAIRS: usize = 256;

/// Below this the database is left alone, however little of it is in use.
const COMPACT_BYTES_MIN: u64 = 16 * 1024 * 1024;

/// How often its fresh size the database may occupy before it is made anew: sled's file never shrinks.
const COMPACT_FACTOR: u64 = 4;

/// The mirror: every entry by its key.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) epoch: Option<Epoch>,
    /// Counts the writes: an older copy of the ledger shows by it.
    pub(super) generation: u64,
    pub(super) next: [Sequence; 6],
    pub(super) points: Vec<PointKey>,
    pub(super) lanes: BTreeMap<(String, Stream), Lane>,
    pub(super) chunks: BTreeMap<ChunkId, ChunkInfo>,
    pub(super) holes: [Vec<SequenceRange>; 6],
    pub(super) outbox: BTreeMap<u64, Bytes>,
    pub(super) configs: BTreeMap<u32, ConfigMark>,
    pub(super) boots: BTreeMap<u128, BootOffset>,
    pub(super) books: Books,
    pub(super) replays: BTreeMap<u32, Replay>,
}

impl State {
    /// Takes an entry in. Points must come in the order of their numbers; false if one is out of order.
    fn apply(&mut self, entry: Entry) -> bool {
        match entry {
            Entry::Epoch(epoch) => self.epoch = Some(epoch),
            Entry::Generation(generation) => self.generation = generation,
            Entry::Next(next) => self.next = next,
            Entry::Point(id, key) => {
                if let Some(known) = self.points.get(id.0 as usize) {
                    return *known == key;
                }
                if self.points.len() != id.0 as usize {
                    return false;
                }
                self.points.push(key);
            }
            Entry::Lane(sink, stream, lane) => drop(self.lanes.insert((sink, stream), lane)),
            Entry::Chunk(id, Some(info)) => drop(self.chunks.insert(id, info)),
            Entry::Chunk(id, None) => drop(self.chunks.remove(&id)),
            Entry::Hole(stream, range, there) => {
                let holes = &mut self.holes[stream.index()];
                holes.retain(|hole| hole.first != range.first);
                if there {
                    holes.push(range);
                    holes.sort_unstable();
                }
            }
            Entry::Outbox(index, Some(block)) => drop(self.outbox.insert(index, block)),
            Entry::Outbox(index, None) => drop(self.outbox.remove(&index)),
            Entry::Config(version, Some(mark)) => drop(self.configs.insert(version, mark)),
            Entry::Config(version, None) => drop(self.configs.remove(&version)),
            Entry::Replay(id, Some(replay)) => drop(self.replays.insert(id, replay)),
            Entry::Replay(id, None) => drop(self.replays.remove(&id)),
            Entry::Boot(id, Some(offset)) => drop(self.boots.insert(id, offset)),
            Entry::Boot(id, None) => drop(self.boots.remove(&id)),
            Entry::Books(books) => self.books = books,
        }
        true
    }

    /// Everything, to be written anew.
    fn entries(&self) -> impl Iterator<Item = Entry> {
        let points =
            self.points.iter().zip(0..).map(|(key, id)| Entry::Point(crate::reading::PointId(id), key.clone()));
        let lanes = self.lanes.iter().map(|((sink, stream), lane)| Entry::Lane(sink.clone(), *stream, lane.clone()));
        let chunks = self.chunks.iter().map(|(id, info)| Entry::Chunk(*id, Some(info.clone())));
        let holes = Stream::ALL
            .into_iter()
            .flat_map(|stream| self.holes[stream.index()].iter().map(move |hole| Entry::Hole(stream, *hole, true)));
        let outbox = self.outbox.iter().map(|(index, block)| Entry::Outbox(*index, Some(block.clone())));
        let configs = self.configs.iter().map(|(version, mark)| Entry::Config(*version, Some(*mark)));
        let boots = self.boots.iter().map(|(id, offset)| Entry::Boot(*id, Some(*offset)));
        let replays = self.replays.iter().map(|(id, replay)| Entry::Replay(*id, Some(replay.clone())));
        let first = self.epoch.map(Entry::Epoch).into_iter();
        let first = first.chain([Entry::Generation(self.generation)]);
        let first = first.chain([Entry::Next(self.next), Entry::Books(self.books.clone())]);
        let rest = outbox.chain(configs).chain(boots).chain(replays);
        first.chain(points).chain(lanes).chain(chunks).chain(holes).chain(rest)
    }
}

/// The ledger, open.
pub(super) struct Ledger {
    path: PathBuf,
    cipher: Cipher,
    /// None after a failed write, until the next one has made it anew.
    database: Option<Database>,
    state: State,
    /// Its size when it was opened or made.
    fresh_bytes: u64,
}

impl Ledger {
    /// Makes a ledger for a new epoch.
    pub(super) fn create(path: &Path, epoch: Epoch, cipher: &Cipher) -> Result<Self, BufferError> {
        let mut ledger = Self {
            path: path.to_owned(),
            cipher: cipher.clone(),
            database: None,
            state: State::default(),
            fresh_bytes: 0,
        };
        ledger.write(vec![Entry::Epoch(epoch), Entry::Next([0; 6])])?;
        Ok(ledger)
    }

    /// Whether there is a ledger to open, after finishing what a crash interrupted.
    pub(super) fn exists(path: &Path) -> Result<bool, BufferError> {
        let fresh = fresh_path(path);
        if !path.exists() && fresh.join(WHOLE).exists() {
            files::rename(&fresh, path)?;
        }
        Ok(path.exists())
    }

    /// Where the ledger lies, without finishing what a crash interrupted.
    pub(super) fn lying_at(path: &Path) -> PathBuf {
        let fresh = fresh_path(path);
        if !path.exists() && fresh.join(WHOLE).exists() { fresh } else { path.to_owned() }
    }

    /// What it held when it was opened, as it is closed.
    pub(super) fn into_state(self) -> State {
        self.state
    }

    /// Opens the ledger and reads all of it.
    ///
    /// # Errors
    /// [`BufferError::Damaged`] if it cannot be read in full; otherwise what the disk said.
    pub(super) fn open(path: &Path, cipher: &Cipher) -> Result<Self, BufferError> {
        let database = Database::open(path, cipher)?;
        let mut state = State::default();
        let mut first = Vec::new();
        loop {
            let pairs = database.scan(&first, &[u8::MAX], SCAN_PAIRS)?;
            for (key, value) in &pairs {
                let known = Entry::decode(key, value).is_some_and(|entry| state.apply(entry));
                if !known && Entry::is_of_another_version(value) {
                    let what = "it was written by another version of this program";
                    return Err(BufferError::Damaged(format!("{}: {what}", path.display())));
                }
                if !known {
                    return Err(BufferError::Damaged(format!("{}: an entry makes no sense", path.display())));
                }
            }
            match pairs.last() {
                Some((key, _)) if pairs.len() == SCAN_PAIRS => {
                    first.clone_from(key);
                    first.push(0);
                }
                _ => break,
            }
        }
        if state.epoch.is_none() {
            return Err(BufferError::Damaged(format!("{}: it does not say whose it is", path.display())));
        }
        let fresh_bytes = files::occupied_bytes(path);
        Ok(Self { path: path.to_owned(), cipher: cipher.clone(), database: Some(database), state, fresh_bytes })
    }

    /// What it holds.
    pub(super) fn state(&self) -> &State {
        &self.state
    }

    /// Its size when it was opened or made: about what it takes to write it anew.
    pub(super) fn fresh_bytes(&self) -> u64 {
        self.fresh_bytes
    }

    /// Writes entries, all or nothing; they are on disk when this returns. At most a few dozen KiB at once.
    pub(super) fn write(&mut self, mut entries: Vec<Entry>) -> Result<(), BufferError> {
        entries.push(Entry::Generation(self.state.generation.saturating_add(1)));
        let written = match &self.database {
            Some(database) => database.write(entries.iter().map(Entry::encode).collect()),
            None => self.write_anew(&entries),
        };
        if let Err(error) = written {
            if self.database.take().is_none() {
                return Err(error);
            }
            tracing::warn!(%error, "the ledger could not be written; making it anew from memory");
            self.write_anew(&entries)?;
        }
        for entry in entries {
            self.state.apply(entry);
        }
        Ok(())
    }

    /// Closes the database; the next write makes it anew.
    pub(super) fn close(&mut self) {
        self.database = None;
    }

    /// Makes the database anew at a start: small, and without whatever sled made of a log that was cut off. Where there is no
    /// room for a second one, the old one stays in use.
    pub(super) fn renew(&mut self) {
        self.database = None;
        if let Err(error) = self.write_anew(&[]) {
            tracing::warn!(%error, "the ledger could not be made anew");
            if self.path.exists() {
                // If this fails too, the next write makes it anew.
                self.database = Database::open(&self.path, &self.cipher).ok();
            }
        }
    }

    /// Bytes that it occupies on disk.
    pub(super) fn occupied_bytes(&self) -> u64 {
        self.database.as_ref().map_or_else(|| files::occupied_bytes(&self.path), Database::occupied_bytes)
    }

    /// Makes the database anew if far more of it lies on disk than is in use.
    pub(super) fn compact(&mut self) -> Result<(), BufferError> {
        if self.occupied_bytes() < COMPACT_BYTES_MIN.max(self.fresh_bytes.saturating_mul(COMPACT_FACTOR)) {
            return Ok(());
        }
        self.database = None;
        self.write_anew(&[])
    }

    fn write_anew(&mut self, entries: &[Entry]) -> Result<(), BufferError> {
        let fresh = fresh_path(&self.path);
        // Where the last rename has failed, what lies there is the only ledger.
        Self::exists(&self.path)?;
        files::remove_dir(&fresh)?;
        if let Err(error) = self.write_fresh(&fresh, entries) {
            // Half a ledger is of no use and would keep a full disk full; if it cannot be removed now, the next try does.
            files::remove_dir(&fresh).ok();
            return Err(error);
        }
        files::remove_dir(&self.path)?;
        files::rename(&fresh, &self.path)?;
        self.database = Some(Database::open(&self.path, &self.cipher)?);
        self.fresh_bytes = files::occupied_bytes(&self.path);
        Ok(())
    }

    fn write_fresh(&self, fresh: &Path, entries: &[Entry]) -> Result<(), BufferError> {
        let database = Database::open(fresh, &self.cipher)?;
        let mut batch = Vec::new();
        let mut batch_bytes = 0;
        for (key, value) in self.state.entries().map(|entry| entry.encode()) {
            batch_bytes += key.len() + value.as_ref().map_or(0, Vec::len);
            batch.push((key, value));
            if batch_bytes >= BATCH_BYTES_MAX {
                database.write(std::mem::take(&mut batch))?;
                batch_bytes = 0;
            }
        }
        // The news comes last and in one batch: it is there in full or not at all.
        database.write(batch)?;
        database.write(entries.iter().map(Entry::encode).collect())?;
        drop(database);
        files::write_whole(&fresh.join(WHOLE), b"")
    }
}

/// Marks a ledger that was written in full before it took the old one's place.
const WHOLE: &str = "whole";

fn fresh_path(path: &Path) -> PathBuf {
    path.with_extension("new")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_ledger_that_could_not_be_put_in_its_place_is_put_there_before_it_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        // With so long a name nothing can be moved out of the way that lies beside the ledger: whoever tries fails.
        let path = dir.path().join("l".repeat(247));
        let mut ledger = Ledger::create(&path, Epoch(7), &Cipher::default()).unwrap();
        ledger.close();
        std::fs::rename(&path, fresh_path(&path)).unwrap();
        std::fs::write(fresh_path(&path).join(WHOLE), b"").unwrap();
        ledger.write(vec![Entry::Next([9; 6])]).unwrap();
        drop(ledger);
        let ledger = Ledger::open(&path, &Cipher::default()).unwrap();
        assert_eq!((ledger.state().epoch, ledger.state().next), (Some(Epoch(7)), [9; 6]));
    }
}
