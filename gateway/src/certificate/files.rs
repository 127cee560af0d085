//! The private files of certificates: written whole, for the gateway's user alone.

use super::CertificateError;
use crate::fault;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Largest file that is read: a certificate with its names takes two kilobytes, and a chain has at most eight.
pub(super) const FILE_BYTES_MAX: u64 = 64 * 1024;

/// The folder of the certificates below `data_dir`.
pub(super) fn folder(data_dir: &Path) -> PathBuf {
    data_dir.join("access").join("tls")
}

/// A text that is no larger than it may be.
pub(super) fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than any certificate"));
    }
    Ok(text)
}

/// Writes files of a folder one after the other, each whole; the folder is made if need be.
pub(super) fn save(folder: &Path, files: &[(&Path, &str)]) -> Result<(), CertificateError> {
    let failed = |path: &Path, error| CertificateError::File { path: path.to_owned(), doing: "written", error };
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|error| failed(folder, error))?;
    for (path, text) in files {
        write_whole(path, text).map_err(|error| failed(path, error))?;
    }
    sync(folder).map_err(|error| failed(folder, error))
}

/// Removes a file, durably; one that is not there is as good.
pub(super) fn remove(folder: &Path, path: &Path) -> Result<(), CertificateError> {
    let removed = match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => Err(error),
        Ok(()) => sync(folder),
    };
    removed.map_err(|error| CertificateError::File { path: path.to_owned(), doing: "removed", error })
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// The old text or the new one is there, never half of it; nobody else may read it.
fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let fresh = path.with_extension("new");
    // One that a power cut left may be anybody's to read.
    fs::remove_file(&fresh)
        .or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fault::point("certificate.file_written");
    fs::rename(&fresh, path)?;
    fault::point("certificate.file_renamed");
    Ok(())
}
