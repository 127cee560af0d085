//! The configuration on disk: replaced as a whole, so that a power cut leaves the old file or the new one, never half of one.

use crate::fault;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Rights of a file that was not there: the service and its group may read it.
const MODE_NEW: u32 = 0o640;

/// Rights of what may hold secrets.
pub(super) const MODE_SECRET: u32 = 0o600;

/// Rights of a folder of what may hold secrets.
const MODE_SECRET_DIR: u32 = 0o700;

/// Most links that are followed to the file; more are a circle.
const LINKS_MAX: usize = 8;

/// Why a file cannot be written, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Unwritable {
    /// The file system takes no changes.
    #[error(
        "{0:?} is on a file system that is mounted read-only; remount it writable, or change the file where the system is built"
    )]
    ReadOnly(PathBuf),
    /// The user may not.
    #[error(
        "the user that runs forebay may not write in {0:?}; allow it (chown forebay: and, under systemd, ReadWritePaths=), or change the file by hand"
    )]
    Forbidden(PathBuf),
    /// The disk is full.
    #[error("there is no space left on the file system of {0:?}; make room and try again")]
    Full(PathBuf),
    /// The file is mounted by itself, so that no other can take its place.
    #[error("{0:?} is mounted by itself and cannot be replaced; mount the folder around it instead")]
    Mounted(PathBuf),
    /// A folder has its name.
    #[error("{0:?} is a folder; name the file in it")]
    Folder(PathBuf),
    /// Something else.
    #[error("{path:?} cannot be written: {error}")]
    Other {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

/// Writes the file: it keeps its rights and its owner, and stays where a link leads to.
///
/// # Errors
/// If it cannot be written; the old file is there unchanged then.
pub fn write(path: &Path, text: &str) -> Result<(), Unwritable> {
    let target = target(path)?;
    let old = fs::metadata(&target).ok();
    if old.as_ref().is_some_and(fs::Metadata::is_dir) {
        return Err(Unwritable::Folder(target));
    }
    let mode = old.as_ref().map_or(MODE_NEW, |old| old.permissions().mode() & 0o777);
    let owner = old.map(|old| (old.uid(), old.gid()));
    replace(&target, text.as_bytes(), mode, owner).map_err(|error| unwritable(&target, error))
}

/// Whether the file could be written now, without touching it: to say beforehand that a change cannot be kept.
///
/// # Errors
/// If it cannot.
pub fn check_writable(path: &Path) -> Result<(), Unwritable> {
    let target = target(path)?;
    if target.is_dir() {
        return Err(Unwritable::Folder(target));
    }
    let fresh = fresh_name(&target).map_err(|error| unwritable(&target, error))?;
    let mut options = OpenOptions::new();
    let tried = options.write(true).create(true).truncate(true).mode(MODE_SECRET).open(&fresh);
    tried.and_then(|_| fs::remove_file(&fresh)).map_err(|error| unwritable(&target, error))
}

/// Where links lead to, also to a file that is not there yet.
fn target(path: &Path) -> Result<PathBuf, Unwritable> {
    let mut target = path.to_owned();
    for _ in 0..LINKS_MAX {
        let Ok(next) = fs::read_link(&target) else { return Ok(target) };
        target = target.parent().unwrap_or(Path::new(".")).join(next);
    }
    let error = io::Error::other("too many links, one to the next");
    Err(Unwritable::Other { path: path.to_owned(), error })
}

fn unwritable(path: &Path, error: io::Error) -> Unwritable {
    let path = path.to_owned();
    let folder = || path.parent().map_or_else(|| path.clone(), Path::to_owned);
    match error.kind() {
        ErrorKind::ReadOnlyFilesystem => Unwritable::ReadOnly(path),
        ErrorKind::PermissionDenied => Unwritable::Forbidden(folder()),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Unwritable::Full(path),
        ErrorKind::ResourceBusy => Unwritable::Mounted(path),
        ErrorKind::IsADirectory => Unwritable::Folder(path),
        _ => Unwritable::Other { path, error },
    }
}

/// The name of the file that is to take another's place; it is in the same folder, so that taking it is one step.
fn fresh_name(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, "it has no name"))?;
    let mut fresh = std::ffi::OsString::from(".");
    fresh.push(name);
    fresh.push(".new");
    Ok(path.with_file_name(fresh))
}

fn replace(path: &Path, bytes: &[u8], mode: u32, owner: Option<(u32, u32)>) -> io::Result<()> {
    let fresh = fresh_name(path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE_SECRET).open(&fresh)?;
        file.write_all(bytes)?;
        if let Some((user, group)) = owner {
            // Only root may give a file away; for everyone else it is theirs already, or becomes theirs.
            std::os::unix::fs::fchown(&file, Some(user), Some(group)).ok();
        }
        file.set_permissions(Permissions::from_mode(mode))?;
        file.sync_all()?;
        fault::point("config.file_written");
        fs::rename(&fresh, path)
    };
    write().inspect_err(|_| {
        // A half-written file is of no use; if it cannot be removed, the next writing does it.
        fs::remove_file(&fresh).ok();
    })?;
    fault::point("config.file_renamed");
    File::open(folder)?.sync_all()
}

/// Writes a file that only its owner may read, in a folder that only its owner may enter.
pub(super) fn write_secret(path: &Path, bytes: &[u8]) -> Result<(), Unwritable> {
    let folder = path.parent().unwrap_or(Path::new("."));
    make_secret_dir(folder).map_err(|error| unwritable(folder, error))?;
    replace(path, bytes, MODE_SECRET, None).map_err(|error| unwritable(path, error))
}

fn make_secret_dir(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let around = folder.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(around)?;
    fs::DirBuilder::new().create(folder)?;
    fs::set_permissions(folder, Permissions::from_mode(MODE_SECRET_DIR))?;
    File::open(around)?.sync_all()
}

/// Removes a file for good; one that is not there is as good as removed.
pub(super) fn remove(path: &Path) -> Result<(), Unwritable> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(unwritable(path, error)),
        _ => {}
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| unwritable(path, error))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_file_is_replaced_and_keeps_its_rights() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("forebay.toml");
        write(&path, "a = 1\n").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        fs::set_permissions(&path, Permissions::from_mode(0o604)).unwrap();
        // What a killed gateway has left does not stand in the way.
        fs::write(folder.path().join(".forebay.toml.new"), "half").unwrap();
        write(&path, "a = 2\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "a = 2\n");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o604);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        check_writable(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "a = 2\n");
    }

    #[test]
    fn a_link_stays_and_the_file_behind_it_changes() {
        let folder = tempfile::tempdir().unwrap();
        let (link, real) = (folder.path().join("link.toml"), folder.path().join("real.toml"));
        std::os::unix::fs::symlink("real.toml", &link).unwrap();
        write(&link, "a = 1\n").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&real).unwrap(), "a = 1\n");
        let circle = folder.path().join("circle");
        std::os::unix::fs::symlink("circle", &circle).unwrap();
        assert!(write(&circle, "").unwrap_err().to_string().contains("links"));
    }

    #[test]
    fn what_cannot_be_written_says_why_and_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let said = |path: &Path| write(path, "").unwrap_err().to_string();
        assert!(said(folder.path()).contains("is a folder"));
        // A file of the kernel: neither root nor anyone else makes files beside it.
        let kernel = check_writable(Path::new("/proc/forebay.toml")).unwrap_err().to_string();
        assert!(kernel.contains("/proc"), "{kernel}");
        let path = PathBuf::from("/etc/forebay/forebay.toml");
        let text = |kind: ErrorKind| unwritable(&path, kind.into()).to_string();
        assert!(text(ErrorKind::ReadOnlyFilesystem).contains("remount it writable"));
        assert!(text(ErrorKind::PermissionDenied).contains("may not write in \"/etc/forebay\""));
        assert!(text(ErrorKind::StorageFull).contains("make room"));
        assert!(text(ErrorKind::ResourceBusy).contains("mount the folder"));
    }

    #[test]
    fn secrets_are_for_their_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secrets/broker");
        write_secret(&path, b"s3cret").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert!(!path.exists());
    }
}
