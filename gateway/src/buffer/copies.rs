//! Copies of chunks, to look at without touching the originals. Opening a chunk cuts off what follows a fault, so the copy of
//! one whose log is not whole is not opened either: what is sound is found in its bytes.

use super::chunk::{Chunk, ChunkId, Extent};
use super::disk_store::named_epoch;
use super::family::Family;
use super::inspect::{ChunkName, ChunkReport, RawBlock};
use super::scan::{Condition, Found, Log};
use super::sled_store::LOG;
use super::store::BLOCKS_MAX;
use super::{BufferError, Cipher, files};
use crate::reading::{Epoch, Sequence, SequenceRange, Stream};
use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// How often a copy is made of a chunk that changes or is out of its place meanwhile.
const COPY_TRIES: usize = 5;
/// Between two of them: longer than it takes to write pages of a chunk, or to put a merged one in its place.
const COPY_PAUSE: Duration = Duration::from_millis(200);

/// One copy at a time, of about 16 MB, in the system's directory for temporary files.
///
/// Where a running gateway writes to a chunk meanwhile, or puts a merged one in its place, the copy is made again.
pub struct ChunkCopies {
    root: PathBuf,
    epoch: Epoch,
    cipher: Cipher,
    /// The copy that is open. Before the directory it lies in, so that it is closed first.
    open: Option<Copy>,
    scratch: Scratch,
}

/// A copy of a chunk.
struct Copy {
    id: ChunkId,
    log: Log,
    condition: Condition,
    content: Content,
}

/// What a copy holds.
enum Content {
    /// Its log is whole.
    Opened(Box<Chunk>),
    /// The sound blocks of a log that is not.
    Found(Found),
}

impl std::fmt::Debug for ChunkCopies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChunkCopies").field("root", &self.root).finish_non_exhaustive()
    }
}

impl ChunkCopies {
    /// Makes the place for copies of chunks of `data_dir/buffer`.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn make(data_dir: &Path, cipher: &Cipher) -> Result<Self, BufferError> {
        let root = data_dir.join("buffer");
        let epoch = named_epoch(&root).unwrap_or(Epoch(0));
        Ok(Self { root, epoch, cipher: cipher.clone(), open: None, scratch: Scratch::make()? })
    }

    /// Whose blocks are looked for, where the ledger knows better than the name beside it.
    pub(super) fn set_epoch(&mut self, epoch: Epoch) {
        self.epoch = epoch;
    }

    /// What lies in a chunk at and after a sequence, unchecked.
    ///
    /// # Errors
    /// If the chunk is gone, cannot be copied or read there, or its key is missing.
    pub fn look(&mut self, name: &ChunkName, stream: Stream, from: Sequence) -> Result<Vec<RawBlock>, BufferError> {
        let cipher = self.cipher.clone();
        let copy = self.copy(id_of(name)?)?;
        let found = match &copy.content {
            Content::Opened(chunk) => return chunk.look(stream, from),
            Content::Found(found) => found.newest(stream),
        };
        let ahead = found.values().filter(|(range, _)| range.last >= from);
        let blocks = ahead.filter_map(|(range, place)| Some((range.first, copy.log.read(place, &cipher)?)));
        Ok(blocks.take(BLOCKS_MAX).map(|(first, block)| RawBlock { first, bytes: block.bytes().clone() }).collect())
    }

    /// What is wrong with the log of a chunk, whatever can be read of it all the same. The end of one that blocks are still added
    /// to may be torn: a power cut leaves it so, and nothing is lost by it.
    ///
    /// # Errors
    /// As [`Self::look`].
    pub fn fault(&mut self, chunk: &ChunkReport) -> Result<Option<String>, BufferError> {
        Ok(match &self.copy(id_of(&chunk.name)?)?.condition {
            Condition::Torn(what) if chunk.is_sealed => Some(what.clone()),
            Condition::Broken(what) => Some(what.clone()),
            Condition::Torn(_) | Condition::Whole => None,
        })
    }

    /// As [`Self::fault`], of a chunk that a running gateway adds blocks to: also what it should hold and its file does not.
    /// The gateway itself reads such a chunk from memory and may not have noticed.
    ///
    /// # Errors
    /// As [`Self::look`].
    pub fn fault_of_active(&mut self, chunk: &ChunkReport) -> Result<Option<String>, BufferError> {
        if let Some(what) = self.fault(chunk)? {
            return Ok(Some(what));
        }
        let seal = (self.epoch, &self.cipher.clone());
        let copy = self.copy(id_of(&chunk.name)?)?;
        let mut found = Found::default();
        copy.log.find(0, seal, |_, _| true, &mut found)?;
        for extent in &chunk.extents {
            let blocks = found.newest(extent.stream);
            let held: u64 =
                blocks.values().filter_map(|(held, _)| held.overlap(extent.range)).map(SequenceRange::count).sum();
            let missing = extent.range.count().saturating_sub(held);
            if missing > 0 {
                let stream = extent.stream;
                return Ok(Some(format!(
                    "its file lacks {missing} records of {stream} that the gateway has in memory"
                )));
            }
        }
        Ok(None)
    }

    /// Lets go of the copy: the next look makes a new one.
    pub fn forget(&mut self) {
        self.open = None;
    }

    /// What a chunk holds from `base` on. Of a log that is not whole: what follows without a hole on `promised`, as a start of
    /// the gateway takes it over.
    pub(super) fn survey(
        &mut self,
        id: ChunkId,
        base: &[Sequence; 6],
        promised: &[Sequence; 6],
    ) -> Result<Vec<Extent>, BufferError> {
        let epoch = self.epoch;
        let found = match &self.copy(id)?.content {
            Content::Opened(chunk) => return chunk.survey(epoch, id.0, base),
            Content::Found(found) => found,
        };
        let extent = |stream: Stream| {
            let (first, promised) = (*base.get(stream.index())?, *promised.get(stream.index())?);
            let last = found.follow(stream, promised.max(first)).checked_sub(1).filter(|last| *last >= first)?;
            let times = found.newest(stream).into_values().map(|(_, place)| place.times);
            let (first_time_us, last_time_us) = times.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))).unwrap_or_default();
            Some(Extent { stream, range: SequenceRange { first, last }, first_time_us, last_time_us })
        };
        Ok(id.0.streams().filter_map(extent).collect())
    }

    /// A copy of a chunk; the copy before it goes.
    fn copy(&mut self, id: ChunkId) -> Result<&Copy, BufferError> {
        if self.open.as_ref().is_none_or(|open| open.id != id) {
            self.open = None;
            let path = self.root.join(id.0.name()).join(format!("{:08}", id.1));
            let place = self.scratch.0.join("chunk");
            copy_at_rest(&path, &place)?;
            let log = Log::open(place.join(LOG)).map_err(|error| match error {
                BufferError::Damaged(_) => BufferError::Damaged(format!("{} has no log", path.display())),
                error => error,
            })?;
            let log = log.told_as(path.join(LOG));
            let condition = log.condition();
            let content = if condition == Condition::Whole {
                Content::Opened(Box::new(Chunk::open(&place, &self.cipher)?))
            } else {
                let mut found = Found::default();
                log.find(0, (self.epoch, &self.cipher), |stream, _| Family::of(stream) == id.0, &mut found)?;
                Content::Found(found)
            };
            self.open = Some(Copy { id, log, condition, content });
        }
        self.open.as_ref().ok_or(BufferError::Closed)
    }

    /// The place itself.
    pub(super) fn scratch(&self) -> &Path {
        &self.scratch.0
    }
}

fn id_of(name: &ChunkName) -> Result<ChunkId, BufferError> {
    let family = Family::ALL.into_iter().find(|family| family.name() == name.family);
    family.map(|family| (family, name.number)).ok_or_else(|| BufferError::Damaged(format!("there is no chunk {name}")))
}

/// Copies a chunk as it is at one moment, if one of the tries finds it at rest; else as the last try finds it.
fn copy_at_rest(path: &Path, copy: &Path) -> Result<(), BufferError> {
    let mut tried = 1;
    loop {
        let before = stamps(path);
        let copied = if before.is_empty() {
            Err(BufferError::Damaged(format!("{} is gone", path.display())))
        } else {
            files::remove_dir(copy)?;
            files::copy_files(path, copy, |_| true)
        };
        if tried == COPY_TRIES || copied.is_ok() && stamps(path) == before {
            return copied;
        }
        tried += 1;
        thread::sleep(COPY_PAUSE);
    }
}

/// What is another once a file was written, made or replaced: name, inode, bytes and time of the last change, of all of them.
fn stamps(path: &Path) -> Vec<(String, u64, u64, i64, i64)> {
    let stamp = |name: String| {
        let meta = fs::symlink_metadata(path.join(&name)).ok()?;
        Some((name, meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec()))
    };
    files::names(path).unwrap_or_default().into_iter().filter_map(stamp).collect()
}

/// A directory of our own for copies; removed when dropped.
#[derive(Debug)]
struct Scratch(PathBuf);

impl Scratch {
    fn make() -> Result<Self, BufferError> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|error| BufferError::Disk(format!("no random numbers: {error}")))?;
        let path = std::env::temp_dir().join(format!("forebay-{}", hex::encode(random)));
        fs::DirBuilder::new().mode(0o700).create(&path).map_err(|error| files::error("make", &path, &error))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, path = %self.0.display(), "copies are left behind");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_chunk_that_is_being_replaced_is_copied_once_it_is_in_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let [path, merged, copy] = ["chunk", "chunk.merged", "copy"].map(|name| dir.path().join(name));
        fs::create_dir(&merged).unwrap();
        fs::write(merged.join("db"), "blocks").unwrap();
        thread::scope(|scope| {
            let copied = scope.spawn(|| copy_at_rest(&path, &copy));
            fs::rename(&merged, &path).unwrap();
            copied.join().unwrap().unwrap();
        });
        assert_eq!(fs::read(copy.join("db")).unwrap(), b"blocks");
        fs::remove_dir_all(&path).unwrap();
        assert!(copy_at_rest(&path, &copy).unwrap_err().to_string().contains("is gone"));
    }
}
