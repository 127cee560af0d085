//! Where the store lies, and whether its path still leads there.
//!
//! A file system that takes no writes any more must be unmounted to be repaired, and that needs every file on it closed. So
//! the store lets go of everything, and takes hold again when the path leads to its own epoch on a file system that can be
//! written. Anything else at that path (an empty mount point, another card) is left alone: readings written there would
//! be out of sight as soon as the right one is mounted again.

use super::super::family::Family;
use super::super::wear::Meter;
use super::super::{BufferError, files};
use super::DiskStore;
use super::high_water::HighWater;
use super::opening::{EPOCH, EPOCH_BYTES_MAX, LOCK};
use std::fs::{File, Metadata, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// How often a lock that somebody has is tried again. It is held by the open file, and a child that a process begins has all of its files
/// until it has become another program (flock(2), execve(2)): a store that was closed just now may seem to be in use for a moment.
const LOCK_TRIES_MAX: u32 = 10;

/// Between two tries.
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// The directory of the store, held against other processes.
pub(super) struct Place {
    /// None while it is let go.
    lock: Option<File>,
    device: u64,
    inode: u64,
}

impl Place {
    /// Takes hold of a directory.
    ///
    /// # Errors
    /// [`BufferError::InUse`] if another process has it; otherwise what the disk said.
    pub(super) fn take(root: &Path) -> Result<Self, BufferError> {
        let path = root.join(LOCK);
        let lock = File::create(&path).map_err(|e| files::error("make", &path, &e))?;
        let mut held = lock.try_lock();
        for _ in 0..LOCK_TRIES_MAX {
            if !matches!(held, Err(TryLockError::WouldBlock)) {
                break;
            }
            std::thread::sleep(LOCK_PAUSE);
            held = lock.try_lock();
        }
        match held {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(BufferError::InUse(root.display().to_string())),
            Err(TryLockError::Error(e)) => return Err(files::error("lock", &path, &e)),
        }
        let meta = root.metadata().map_err(|e| files::error("look at", root, &e))?;
        Ok(Self { lock: Some(lock), device: meta.dev(), inode: meta.ino() })
    }

    fn is(&self, meta: &Metadata) -> bool {
        self.lock.is_some() && (self.device, self.inode) == (meta.dev(), meta.ino())
    }
}

impl DiskStore {
    /// Sees to it that what is written now goes where the store lies: called before anything is made by its path.
    ///
    /// # Errors
    /// [`BufferError::Elsewhere`] if something else is there; otherwise what the disk said.
    pub(super) fn hold_on(&mut self) -> Result<(), BufferError> {
        let root = self.root.display();
        let meta = self.root.metadata();
        let meta = meta.map_err(|error| BufferError::Elsewhere(format!("{root} cannot be looked at: {error}")))?;
        if self.place.is(&meta) {
            return Ok(());
        }
        let found = files::read_whole(&self.root.join(EPOCH), EPOCH_BYTES_MAX)?;
        if found.is_none_or(|found| found != format!("{}\n", self.epoch).into_bytes()) {
            return Err(BufferError::Elsewhere(format!("{root} does not hold epoch {}", self.epoch)));
        }
        self.let_go();
        self.place = Place::take(&self.root)?;
        self.file_system_bytes = files::total_bytes(&self.root).unwrap_or(u64::MAX);
        self.meter = Meter::of(&self.root);
        self.high_water = HighWater::open(&self.root, self.epoch);
        tracing::info!("the buffer's file system is back");
        if let Err(error) = self.finish_merges().and_then(|()| self.finish_repairs()) {
            tracing::warn!(%error, "what was interrupted when the file system went cannot be finished yet");
        }
        Ok(())
    }

    /// Closes every file. What was admitted stays in the index; nothing is added to the chunks that were open.
    pub(super) fn let_go(&mut self) {
        for family in Family::ALL {
            self.retire(family);
        }
        self.job = None;
        self.open.clear();
        self.ledger.close();
        self.high_water.close();
        self.place.lock = None;
    }

    /// Lets go if the disk says that its file system takes no writes any more.
    pub(super) fn let_go_if_read_only<T>(&mut self, result: Result<T, BufferError>) -> Result<T, BufferError> {
        if matches!(result, Err(BufferError::ReadOnly(_))) {
            self.let_go();
        }
        result
    }
}
