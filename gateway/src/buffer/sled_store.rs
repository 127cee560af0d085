//! One sled database, opened and written so that what it acknowledges is on disk. The only file that names sled.
//!
//! Why each step is there was measured on sled 0.34.7:
//! - `flush()` writes and calls `sync_file_range`, which is no promise (its manual page): the file is synchronised by a
//!   handle of our own after every batch, and a batch stays below one segment, since a segment may be reused early.
//! - `conf` and directories are never synchronised by sled: a new database does it here.
//! - A value above about 128 KiB becomes a file in `blobs/`, never synchronised: values stay at a few KiB.
//! - `open` may panic on a torn file, and refuses while a half-written snapshot lies about.

use super::cipher::Cipher;
use super::{BufferError, files};
use bytes::Bytes;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Size of a log segment: blocks of 6 KiB stay far below what sled would put into a file of its own.
pub(super) const SEGMENT_BYTES: usize = 512 * 1024;

/// Most bytes of one batch: half a segment, so that the unsynchronised log never reaches the next one.
pub(super) const BATCH_BYTES_MAX: usize = SEGMENT_BYTES / 2;

/// Cache of one database. sled would take 1 GiB.
const CACHE_BYTES: u64 = 8 * 1024 * 1024;

/// The log's file: everything is in it; the files beside it only make opening faster.
pub(super) const LOG: &str = "db";

/// sled gives up its file lock only when its last thread lets go; that takes moments after a drop.
const LOCK_TRIES: u32 = 100;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// Target of the trace of writes: `written` and then `synchronised`, each with the path of its database.
pub const WRITES_TARGET: &str = "forebay::buffer::writes";

/// A key and its value.
pub(super) type Pair = (Vec<u8>, Bytes);

/// A key and what becomes of it: a new value, or none.
pub(super) type Write = (Vec<u8>, Option<Vec<u8>>);

/// A small ordered map on disk. One thread only.
pub(super) struct Database {
    /// Always there, until dropped.
    sled: Option<sled::Db>,
    log: File,
    /// What everything beside the log occupies: it changes only when a database is opened or closed.
    beside_bytes: u64,
    path: PathBuf,
    cipher: Cipher,
}

impl Database {
    /// Opens a database, making it if need be; `cipher` stands between its values and the disk.
    ///
    /// # Errors
    /// [`BufferError::Damaged`] if what lies there is no whole database; otherwise what the disk said.
    pub(super) fn open(path: &Path, cipher: &Cipher) -> Result<Self, BufferError> {
        files::make_dir(path)?;
        for name in files::names(path)?.iter().filter(|name| name.ends_with(".generating")) {
            files::remove_all(&path.join(name))?;
        }
        let fresh = !path.join(LOG).exists();
        let sled = open_sled(path).map_err(|error| distrust(path, error))?;
        let log_path = path.join(LOG);
        let log = File::open(&log_path).map_err(|e| files::error("open", &log_path, &e))?;
        let mut database =
            Self { sled: Some(sled), log, beside_bytes: 0, path: path.to_owned(), cipher: cipher.clone() };
        if fresh {
            database.with(|sled| sled.flush().map(drop))?;
            for name in files::names(path)? {
                let file = path.join(name);
                File::open(&file)
                    .and_then(|file| file.sync_all())
                    .map_err(|e| files::error("synchronise", &file, &e))?;
            }
        }
        // Also an old log: after a mere crash it shows what the page cache has, and all of that may be read from now on.
        database.log.sync_all().map_err(|e| files::error("synchronise", &log_path, &e))?;
        files::sync_dir(path)?;
        path.parent().map_or(Ok(()), files::sync_dir)?;
        database.beside_bytes = files::occupied_bytes(path).saturating_sub(files::file_bytes(&database.log));
        Ok(database)
    }

    /// Writes one batch, all or nothing; it is on disk when this returns. After an error nobody knows what is on disk: the
    /// database must not be written again.
    ///
    /// # Errors
    /// What the disk said.
    pub(super) fn write(&self, writes: Vec<Write>) -> Result<(), BufferError> {
        let mut batch = sled::Batch::default();
        for (key, value) in writes {
            match value {
                Some(value) => batch.insert(key, self.cipher.close(value)?),
                None => batch.remove(key),
            }
        }
        self.with(move |sled| {
            sled.apply_batch(batch)?;
            sled.flush().map(drop)
        })?;
        tracing::trace!(target: WRITES_TARGET, path = %self.path.display(), "written");
        self.log.sync_data().map_err(|e| files::error("synchronise", &self.path, &e))?;
        tracing::trace!(target: WRITES_TARGET, path = %self.path.display(), "synchronised");
        Ok(())
    }

    /// The value of a key.
    ///
    /// # Errors
    /// If the page that should hold it cannot be read.
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Bytes>, BufferError> {
        let value = self.with(|sled| Ok(sled.get(key)?.map(|value| Bytes::copy_from_slice(&value))))?;
        value.map(|value| self.cipher.open(value)).transpose()
    }

    /// The first pairs from `first` to `last`, both included, at most `pairs_max`.
    ///
    /// # Errors
    /// If a page on the way cannot be read.
    pub(super) fn scan(&self, first: &[u8], last: &[u8], pairs_max: usize) -> Result<Vec<Pair>, BufferError> {
        let pairs: Vec<Pair> =
            self.with(|sled| sled.range(first..=last).take(pairs_max).map(|pair| pair.map(owned)).collect())?;
        pairs.into_iter().map(|(key, value)| Ok((key, self.cipher.open(value)?))).collect()
    }

    /// The last pair from `first` to `last`, both included.
    ///
    /// # Errors
    /// If a page on the way cannot be read.
    pub(super) fn last(&self, first: &[u8], last: &[u8]) -> Result<Option<Pair>, BufferError> {
        let pair = self.with(|sled| sled.range(first..=last).next_back().map(|pair| pair.map(owned)).transpose())?;
        pair.map(|(key, value)| Ok((key, self.cipher.open(value)?))).transpose()
    }

    /// Bytes that it occupies on disk, as they are now.
    pub(super) fn occupied_bytes(&self) -> u64 {
        self.beside_bytes + files::file_bytes(&self.log)
    }

    /// Whether sled put a value into a file of its own, which it never synchronises: a limit was broken.
    pub(super) fn has_blobs(&self) -> bool {
        fs::read_dir(self.path.join("blobs")).is_ok_and(|mut entries| entries.next().is_some())
    }

    /// Calls sled; a panic inside becomes an error.
    fn with<T>(&self, work: impl FnOnce(&sled::Db) -> sled::Result<T>) -> Result<T, BufferError> {
        let Some(sled) = &self.sled else { return Err(BufferError::Closed) };
        match catch_unwind(AssertUnwindSafe(|| work(sled))) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(translate(&self.path, &error)),
            Err(_) => Err(BufferError::Damaged(format!("{}: sled could not make sense of it", self.path.display()))),
        }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let sled = self.sled.take();
        // A database that met damage may panic once more when it is dropped; there is nothing left to lose.
        catch_unwind(AssertUnwindSafe(|| drop(sled))).ok();
    }
}

fn open_sled(path: &Path) -> Result<sled::Db, BufferError> {
    let config = sled::Config::new()
        .path(path)
        .segment_size(SEGMENT_BYTES)
        .cache_capacity(CACHE_BYTES)
        // Every batch is flushed by hand.
        .flush_every_ms(None);
    let mut tries = LOCK_TRIES;
    loop {
        match catch_unwind(AssertUnwindSafe(|| config.open())) {
            Ok(Ok(sled)) => return Ok(sled),
            Ok(Err(error)) if tries > 0 && is_locked(&error) => {
                tries -= 1;
                std::thread::sleep(LOCK_PAUSE);
            }
            Ok(Err(error)) => return Err(translate(path, &error)),
            Err(_) => {
                return Err(BufferError::Damaged(format!("{}: sled could not make sense of it", path.display())));
            }
        }
    }
}

/// sled wraps the lock's error in one of its own and keeps only the words.
fn is_locked(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(error) if error.to_string().contains("could not acquire lock"))
}

fn translate(path: &Path, error: &sled::Error) -> BufferError {
    match error {
        sled::Error::Io(error) if error.kind() == ErrorKind::UnexpectedEof => {
            BufferError::Damaged(format!("{}: it ends too early", path.display()))
        }
        // A directory lies where a file should.
        sled::Error::Io(error) if matches!(error.kind(), ErrorKind::IsADirectory | ErrorKind::NotADirectory) => {
            BufferError::Damaged(format!("{}: {error}", path.display()))
        }
        sled::Error::Io(error) => files::error("use", path, error),
        other => BufferError::Damaged(format!("{}: {other}", path.display())),
    }
}

/// sled calls a log damaged that it could not finish opening for want of room; on a full disk that proves nothing.
fn distrust(path: &Path, error: BufferError) -> BufferError {
    match error {
        BufferError::Damaged(reason) if files::free_bytes(path).is_some_and(|free| free < SEGMENT_BYTES as u64) => {
            BufferError::DiskFull(format!("cannot open {reason}"))
        }
        error => error,
    }
}

fn owned((key, value): (sled::IVec, sled::IVec)) -> Pair {
    (key.to_vec(), Bytes::copy_from_slice(&value))
}
