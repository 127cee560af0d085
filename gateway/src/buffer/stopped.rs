//! A buffer whose gateway does not run, looked at without opening it: its ledger is copied and the copy opened, since opening in
//! place would begin to repair.

use super::chunk::{ChunkId, ChunkInfo, ChunkState, Extent};
use super::copies::ChunkCopies;
use super::disk_store::{self, LEDGER};
use super::family::Family;
use super::inspect::{self, ChunkName, ChunkReport, RawBlock, Report};
use super::ledger::{Ledger, State};
use super::{BufferError, Cipher, Ends, StreamEnds, files};
use crate::reading::{Epoch, Sequence, SequenceRange, Stream};
use crate::site::PointKey;
use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

/// A stopped buffer; held under its lock, so that no gateway starts on it meanwhile.
pub struct StoppedBuffer {
    root: PathBuf,
    _lock: File,
    state: State,
    epoch: Epoch,
    next: [Sequence; 6],
    index: BTreeMap<ChunkId, ChunkInfo>,
    problems: Vec<String>,
    copies: ChunkCopies,
}

impl std::fmt::Debug for StoppedBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoppedBuffer").field("root", &self.root).finish_non_exhaustive()
    }
}

impl StoppedBuffer {
    /// Takes the lock of `data_dir/buffer` and reads a copy of its ledger. Copies of one chunk at a time, about 16 MB, lie in the
    /// system's directory for temporary files.
    ///
    /// # Errors
    /// If there is no buffer, a gateway has it, its key is missing, or copies cannot be made.
    pub fn open(data_dir: &Path, cipher: &Cipher) -> Result<Self, BufferError> {
        let root = data_dir.join("buffer");
        let lock = lock(&root)?;
        let mut copies = ChunkCopies::make(data_dir, cipher)?;
        let mut problems = Vec::new();
        let state = match copied_ledger(&root, copies.scratch(), cipher) {
            Ok(state) => state,
            Err(error @ BufferError::Locked(_)) => return Err(error),
            Err(error) => {
                problems.push(format!("the ledger cannot be read: {error}"));
                State::default()
            }
        };
        let mut index = state.chunks.clone();
        for id in chunks_on_disk(&root)? {
            if let std::collections::btree_map::Entry::Vacant(place) = index.entry(id) {
                if state.epoch.is_some() {
                    problems.push(format!("the ledger does not know chunk {}", ChunkName::of(id)));
                }
                place.insert(ChunkInfo::begun([0; 6]));
            }
        }
        let epoch = state.epoch.or_else(|| disk_store::named_epoch(&root)).unwrap_or(Epoch(0));
        copies.set_epoch(epoch);
        let mut next = state.next;
        for (next, found) in next.iter_mut().zip(disk_store::promised_by_mark(&root, epoch)) {
            *next = (*next).max(found);
        }
        let mut buffer = Self { root, _lock: lock, epoch, next, index, problems, copies, state };
        buffer.survey_active()?;
        Ok(buffer)
    }

    /// What it says about itself.
    #[must_use]
    pub fn report(&self) -> Report {
        Report {
            epoch: self.epoch,
            ends: self.ends(),
            chunks: inspect::chunk_reports(&self.index, |id| files::occupied_bytes(&self.path(id))),
            lanes: inspect::lane_reports(&self.state.lanes),
            holes: inspect::hole_reports(&self.state.holes),
            promised_blocks: self.state.outbox.len() as u64,
            points: self.state.points.len() as u64,
            disk_bytes: files::occupied_bytes(&self.root),
            free_bytes: files::free_bytes(&self.root).unwrap_or(0),
            quarantine: disk_store::quarantine(&self.root),
            problems: self.problems.clone(),
        }
    }

    /// Its points, by number.
    #[must_use]
    pub fn points(&self) -> &[PointKey] {
        &self.state.points
    }

    /// What lies in a chunk at and after a sequence, unchecked.
    ///
    /// # Errors
    /// If the chunk is gone or cannot be read there.
    pub fn look(&mut self, name: &ChunkName, stream: Stream, from: Sequence) -> Result<Vec<RawBlock>, BufferError> {
        self.copies.look(name, stream, from)
    }

    /// What is wrong with the file of a chunk, whatever can be read of it all the same.
    ///
    /// # Errors
    /// As [`Self::look`].
    pub fn fault(&mut self, chunk: &ChunkReport) -> Result<Option<String>, BufferError> {
        self.copies.fault(chunk)
    }

    /// The ledger does not say what the chunks hold that blocks were last added to: they are read through. What ledger and mark
    /// promise of them they must hold, whatever is found: looking at it tells what is wrong.
    fn survey_active(&mut self) -> Result<(), BufferError> {
        let promised = self.next;
        let active: Vec<(ChunkId, ChunkInfo)> = self
            .index
            .iter()
            .filter(|(_, info)| info.state == ChunkState::Active)
            .map(|(id, info)| (*id, info.clone()))
            .collect();
        for (id, mut info) in active {
            if !self.path(id).is_dir() && id.0.streams().all(|stream| of(&promised, stream) <= of(&info.base, stream)) {
                // Its place in the index was written, its directory not yet.
                continue;
            }
            info.extents = match self.copies.survey(id, &info.base, &promised) {
                Ok(extents) => extents,
                Err(error @ BufferError::Locked(_)) => return Err(error),
                Err(_) => Vec::new(),
            };
            // What is in the next chunk of the family is not missing here.
            let following = self.index.range((id.0, id.1.saturating_add(1))..=(id.0, u32::MAX)).next();
            let end = following.map_or([Sequence::MAX; 6], |(_, info)| info.base);
            for stream in id.0.streams() {
                promise(&mut info, stream, of(&promised, stream).min(of(&end, stream)));
            }
            for extent in &info.extents {
                if let Some(next) = self.next.get_mut(extent.stream.index()) {
                    *next = (*next).max(extent.range.last.saturating_add(1));
                }
            }
            self.index.insert(id, info);
        }
        Ok(())
    }

    fn ends(&self) -> Ends {
        let mut ends = Ends::default();
        for (stream, ends) in Stream::ALL.into_iter().zip(&mut ends) {
            let next = self.next_of(stream);
            let held = self.index.values().filter_map(|info| info.extent(stream)).map(|extent| extent.range.first);
            *ends = StreamEnds { oldest: held.min().unwrap_or(next), next };
        }
        ends
    }

    fn next_of(&self, stream: Stream) -> Sequence {
        of(&self.next, stream)
    }

    fn path(&self, (family, number): ChunkId) -> PathBuf {
        self.root.join(family.name()).join(format!("{number:08}"))
    }
}

fn of(sequences: &[Sequence; 6], stream: Stream) -> Sequence {
    sequences.get(stream.index()).copied().unwrap_or(0)
}

/// Lets a chunk's part of a stream reach from where the chunk was begun to before `next` at least.
fn promise(info: &mut ChunkInfo, stream: Stream, next: Sequence) {
    let first = of(&info.base, stream);
    let promised = next.checked_sub(1).filter(|last| *last >= first);
    match (info.extents.iter_mut().find(|extent| extent.stream == stream), promised) {
        (Some(extent), last) => {
            extent.range.first = first;
            extent.range.last = extent.range.last.max(last.unwrap_or(0));
        }
        (None, Some(last)) => {
            let range = SequenceRange { first, last };
            info.extents.push(Extent { stream, range, first_time_us: 0, last_time_us: 0 });
        }
        (None, None) => {}
    }
}

/// Takes the lock without making its file: a directory that never held a buffer stays as it is.
fn lock(root: &Path) -> Result<File, BufferError> {
    let path = root.join("lock");
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(BufferError::Absent(root.display().to_string()));
        }
        Err(error) => return Err(files::error("open", &path, &error)),
    };
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(BufferError::InUse(root.display().to_string())),
        Err(TryLockError::Error(error)) => Err(files::error("lock", &path, &error)),
    }
}

fn copied_ledger(root: &Path, scratch: &Path, cipher: &Cipher) -> Result<State, BufferError> {
    let path = Ledger::lying_at(&root.join(LEDGER));
    let copy = scratch.join(LEDGER);
    files::copy_files(&path, &copy, |_| true)?;
    Ledger::open(&copy, cipher).map(Ledger::into_state)
}

/// Chunks by the names of their directories.
fn chunks_on_disk(root: &Path) -> Result<Vec<ChunkId>, BufferError> {
    let mut chunks = Vec::new();
    for family in Family::ALL {
        let dir = root.join(family.name());
        let names = if dir.is_dir() { files::names(&dir)? } else { Vec::new() };
        chunks.extend(names.iter().filter_map(|name| Some((family, name.parse().ok()?))));
    }
    Ok(chunks)
}
