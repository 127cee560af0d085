//! The private files of the room: a directory and files for the gateway's user alone, written whole, durable on return.
//!
//! Root writes here too, in a directory of a user with fewer rights: no link is ever followed.

use super::AccessError;
use crate::fault;
use rustix::fs::OFlags;
use rustix::process::geteuid;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Mode of the directory: its owner's alone.
const DIR_MODE: u32 = 0o700;

/// Mode of every file in it.
const FILE_MODE: u32 = 0o600;

/// The file that is locked while anything in the directory changes.
const LOCK_FILE: &str = "lock";

/// How often a lock is tried, and how long between: 5 s together. Whoever holds it writes a small file, on a slow card.
const LOCK_TRIES_MAX: u32 = 250;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// Says what could not be done where, and what helps.
pub(super) fn error(what: &str, path: &Path, error: &io::Error) -> AccessError {
    let help = match error.kind() {
        ErrorKind::PermissionDenied => "; run this as root, or as the user of the gateway",
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "; the disk is full: make room",
        ErrorKind::ReadOnlyFilesystem => "; the disk is mounted read-only",
        _ => "",
    };
    AccessError::Disk(format!("cannot {what} {}: {error}{help}", path.display()))
}

/// Makes the private directory, or makes an old one private.
pub(super) fn private_dir(path: &Path) -> Result<(), AccessError> {
    if !path.is_dir() {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(|e| error("make", parent, &e))?;
        }
        let made = DirBuilder::new().mode(DIR_MODE).create(path);
        match made {
            Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(error("make", path, &e)),
            _ => {}
        }
        File::open(path).and_then(|dir| give_to_owner(&dir, path)).map_err(|e| error("give away", path, &e))?;
        if let Some(parent) = path.parent() {
            sync_dir(parent)?;
        }
    }
    let meta = fs::symlink_metadata(path).map_err(|e| error("look at", path, &e))?;
    if !meta.is_dir() {
        let path = path.display();
        return Err(AccessError::Damaged(format!("{path} is no directory; remove it and restart forebay")));
    }
    if meta.mode() & 0o077 != 0 {
        let private = fs::Permissions::from_mode(DIR_MODE);
        fs::set_permissions(path, private).map_err(|e| error("make private", path, &e))?;
    }
    Ok(())
}

/// What root makes belongs to whom the directory above belongs to: the gateway has to read what the command line wrote.
fn give_to_owner(file: &File, path: &Path) -> io::Result<()> {
    if !geteuid().is_root() {
        return Ok(());
    }
    let Some(above) = path.parent() else { return Ok(()) };
    let owner = fs::metadata(above)?;
    fchown(file, Some(owner.uid()), Some(owner.gid()))
}

fn sync_dir(path: &Path) -> Result<(), AccessError> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(|e| error("synchronise", path, &e))
}

/// Replaces a whole private file: after a power cut there is the old one or the new one.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), AccessError> {
    let fresh = path.with_extension("new");
    let write = || {
        // What a power cut left half-written.
        fs::remove_file(&fresh).or_else(|e| if e.kind() == ErrorKind::NotFound { Ok(()) } else { Err(e) })?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&fresh)?;
        give_to_owner(&file, &fresh)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fault::point("access.file_written");
        fs::rename(&fresh, path)?;
        fault::point("access.file_renamed");
        Ok(())
    };
    write().map_err(|e| {
        // Half a file is of no use to anyone; if it cannot be removed it is overwritten the next time.
        fs::remove_file(&fresh).ok();
        error("write", path, &e)
    })?;
    path.parent().map_or(Ok(()), sync_dir)
}

/// Opens a private file to append to it.
pub(super) fn open_to_append(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(FILE_MODE);
    let file = options.custom_flags(no_link()).open(path)?;
    give_to_owner(&file, path)?;
    Ok(file)
}

/// Opens a private file to read it.
pub(super) fn open_to_read(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(no_link()).open(path)
}

fn no_link() -> i32 {
    OFlags::NOFOLLOW.bits().cast_signed()
}

/// Reads an open file of at most `bytes_max`.
pub(super) fn read_bounded(file: &File, path: &Path, bytes_max: u64) -> Result<Vec<u8>, AccessError> {
    let mut bytes = Vec::new();
    file.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes).map_err(|e| error("read", path, &e))?;
    if bytes.len() as u64 > bytes_max {
        return Err(AccessError::Damaged(format!("{} is larger than {bytes_max} bytes", path.display())));
    }
    Ok(bytes)
}

/// Removes a file, durably; one that is not there is as good.
pub(super) fn remove(path: &Path) -> Result<(), AccessError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        Err(e) => Err(error("remove", path, &e)),
        Ok(()) => path.parent().map_or(Ok(()), sync_dir),
    }
}

/// Renames within the directory, durably; what is not there stays away.
pub(super) fn rename(from: &Path, to: &Path) -> Result<(), AccessError> {
    match fs::rename(from, to) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        Err(e) => Err(error("rename", from, &e)),
        Ok(()) => from.parent().map_or(Ok(()), sync_dir),
    }
}

/// Keeps others out, tasks and programs, until it is dropped. It waits, so it belongs on a thread that may.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "held open: the kernel gives up the lock when it is closed")] File);

impl Lock {
    pub(super) fn take(dir: &Path) -> Result<Self, AccessError> {
        let path: PathBuf = dir.join(LOCK_FILE);
        let file = open_to_append(&path).map_err(|e| error("open", &path, &e))?;
        for _ in 0..LOCK_TRIES_MAX {
            match file.try_lock() {
                Ok(()) => return Ok(Self(file)),
                Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
                Err(TryLockError::Error(e)) => return Err(error("lock", &path, &e)),
            }
        }
        Err(AccessError::Disk(format!("{} stays locked by another program; try again", path.display())))
    }
}
