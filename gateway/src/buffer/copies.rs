//! Copies of chunks, to look at without touching the originals: opening a chunk may cut off what it does not understand.

use super::chunk::{Chunk, ChunkId};
use super::family::Family;
use super::inspect::{ChunkName, RawBlock};
use super::{BufferError, Cipher, files};
use crate::reading::{Sequence, Stream};
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
/// The chunks of a stopped gateway may be copied, and the sealed ones of a running one: they get no block any more. Where the
/// gateway writes to one all the same, or puts a merged one in its place, the copy is made again.
pub struct ChunkCopies {
    root: PathBuf,
    cipher: Cipher,
    /// The copy that is open. Before the directory it lies in, so that it is closed first.
    open: Option<(ChunkId, Chunk)>,
    scratch: Scratch,
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
        Ok(Self { root, cipher: cipher.clone(), open: None, scratch: Scratch::make()? })
    }

    /// What lies in a chunk at and after a sequence, unchecked.
    ///
    /// # Errors
    /// If the chunk is gone, or cannot be copied or read there.
    pub fn look(&mut self, name: &ChunkName, stream: Stream, from: Sequence) -> Result<Vec<RawBlock>, BufferError> {
        let family = Family::ALL.into_iter().find(|family| family.name() == name.family);
        let family = family.ok_or_else(|| BufferError::Damaged(format!("there is no chunk {name}")))?;
        self.chunk((family, name.number))?.look(stream, from)
    }

    /// A copy of a chunk, open; the copy before it goes.
    pub(super) fn chunk(&mut self, id: ChunkId) -> Result<&Chunk, BufferError> {
        if self.open.as_ref().is_none_or(|(open, _)| *open != id) {
            self.open = None;
            let path = self.root.join(id.0.name()).join(format!("{:08}", id.1));
            let copy = self.scratch.0.join("chunk");
            copy_at_rest(&path, &copy)?;
            self.open = Some((id, Chunk::open(&copy, &self.cipher)?));
        }
        self.open.as_ref().map(|(_, chunk)| chunk).ok_or(BufferError::Closed)
    }

    /// The place itself.
    pub(super) fn scratch(&self) -> &Path {
        &self.scratch.0
    }
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
