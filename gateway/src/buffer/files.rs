//! Files that are on disk when a function returns: whole files, directories, removals; and what they occupy.

use super::BufferError;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Unit of `st_blocks` (stat(2)).
const STAT_BLOCK_BYTES: u64 = 512;

/// Deepest directory that is measured or copied: chunk, `blobs`, its files.
const DEPTH_MAX: usize = 6;

/// A name for a directory that is going away; what bears it at a start is removed.
const DEAD: &str = ".dead";

/// Says what the disk said, and tells a full, a forbidden and a read-only one from a broken one.
pub(super) fn error(what: &str, path: &Path, error: &io::Error) -> BufferError {
    let text = format!("cannot {what} {}: {error}", path.display());
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => BufferError::DiskFull(text),
        ErrorKind::PermissionDenied => BufferError::Forbidden(text),
        ErrorKind::ReadOnlyFilesystem => BufferError::ReadOnly(text),
        _ => BufferError::Disk(text),
    }
}

/// Synchronises a directory: names made, changed or removed in it are durable then.
pub(super) fn sync_dir(path: &Path) -> Result<(), BufferError> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(|e| error("synchronise", path, &e))
}

/// Makes a directory with its parents, durably.
pub(super) fn make_dir(path: &Path) -> Result<(), BufferError> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        make_dir(parent)?;
    }
    fs::create_dir(path).map_err(|e| error("make", path, &e))?;
    path.parent().map_or(Ok(()), sync_dir)
}

/// Replaces a whole file: after a crash there is the old one or the new one.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), BufferError> {
    let fresh = path.with_extension("new");
    let write = || {
        let mut file = File::create(&fresh)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&fresh, path)
    };
    write().map_err(|e| {
        // The half-written file is of no use to anyone; if it cannot be removed it is overwritten the next time.
        fs::remove_file(&fresh).ok();
        error("write", path, &e)
    })?;
    path.parent().map_or(Ok(()), sync_dir)
}

/// Reads a file of at most `bytes_max`; `None` if there is none.
pub(super) fn read_whole(path: &Path, bytes_max: u64) -> Result<Option<Vec<u8>>, BufferError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(error("open", path, &e)),
    };
    let mut bytes = Vec::new();
    match file.take(bytes_max).read_to_end(&mut bytes) {
        // A directory in its place holds nothing of it.
        Err(e) if e.kind() == ErrorKind::IsADirectory => Ok(Some(Vec::new())),
        Err(e) => Err(error("read", path, &e)),
        Ok(_) => Ok(Some(bytes)),
    }
}

/// Renames, durably, within one directory or between two.
pub(super) fn rename(from: &Path, to: &Path) -> Result<(), BufferError> {
    fs::rename(from, to).map_err(|e| error("rename", from, &e))?;
    for dir in [from.parent(), to.parent()].into_iter().flatten() {
        sync_dir(dir)?;
    }
    Ok(())
}

/// Removes a directory, or a file that lies in its place: renamed first, so that no half of it is ever taken for a whole.
pub(super) fn remove_dir(path: &Path) -> Result<(), BufferError> {
    if !path.exists() {
        return Ok(());
    }
    let mut dead = path.as_os_str().to_owned();
    dead.push(DEAD);
    let dead = PathBuf::from(dead);
    remove_all(&dead)?;
    fs::rename(path, &dead).map_err(|e| error("rename", path, &e))?;
    remove_all(&dead)?;
    path.parent().map_or(Ok(()), sync_dir)
}

/// Removes what an interrupted [`remove_dir`] left in a directory.
pub(super) fn remove_dead(dir: &Path) -> Result<(), BufferError> {
    for name in names(dir)? {
        if name.ends_with(DEAD) {
            remove_all(&dir.join(name))?;
        }
    }
    Ok(())
}

/// Removes whatever bears a name, if anything does.
pub(super) fn remove_all(path: &Path) -> Result<(), BufferError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => return Ok(()),
    };
    removed.map_err(|e| error("remove", path, &e))
}

/// The names in a directory, sorted; names that are not UTF-8 are not ours and left out.
pub(super) fn names(dir: &Path) -> Result<Vec<String>, BufferError> {
    let entries = fs::read_dir(dir).map_err(|e| error("list", dir, &e))?;
    let mut names: Vec<String> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    Ok(names)
}

/// Bytes that a file or directory really occupies. What vanishes while it is measured counts nothing.
pub(super) fn occupied_bytes(path: &Path) -> u64 {
    occupied(path, DEPTH_MAX)
}

/// Bytes that an open file really occupies; one question to the kernel, whatever lies beside it.
pub(super) fn file_bytes(file: &File) -> u64 {
    file.metadata().map_or(0, |meta| meta.blocks() * STAT_BLOCK_BYTES)
}

/// Bytes that lie in a directory, without the directory itself: an empty one holds nothing.
pub(super) fn contents_bytes(path: &Path) -> u64 {
    names(path).unwrap_or_default().iter().map(|name| occupied_bytes(&path.join(name))).sum()
}

fn occupied(path: &Path, depth: usize) -> u64 {
    let Ok(meta) = fs::symlink_metadata(path) else { return 0 };
    let own = meta.blocks() * STAT_BLOCK_BYTES;
    if !meta.is_dir() || depth == 0 {
        return own;
    }
    let Ok(entries) = fs::read_dir(path) else { return own };
    own + entries.flatten().map(|entry| occupied(&entry.path(), depth - 1)).sum::<u64>()
}

/// Copies the plain files of a directory for which `wanted` says yes; its sub-directories are left.
pub(super) fn copy_files(from: &Path, to: &Path, wanted: impl Fn(&str) -> bool) -> Result<(), BufferError> {
    make_dir(to)?;
    for name in names(from)?.iter().filter(|name| wanted(name)) {
        let source = from.join(name);
        if source.is_file() {
            fs::copy(&source, to.join(name)).map_err(|e| error("copy", &source, &e))?;
        }
    }
    Ok(())
}

/// Bytes free to this program on the file system of `path`; `None` if it cannot be asked.
pub(super) fn free_bytes(path: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(path).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Bytes of the whole file system of `path`; `None` if it cannot be asked.
pub(super) fn total_bytes(path: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(path).ok()?;
    Some(stat.f_blocks.saturating_mul(stat.f_frsize))
}

/// Makes a file that really occupies its bytes, so that removing it frees them.
pub(super) fn reserve(path: &Path, bytes: u64) -> io::Result<()> {
    let file = File::create(path)?;
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes)?;
    file.sync_all()
}
