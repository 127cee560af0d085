//! A note that a change is on trial, beside the data: what is left of it if the power goes, so that the next start can say what
//! became of it. Without the text: the file of the configuration has never been touched.

use super::desk::Revision;
use super::file::{self, Unwritable};
use crate::reading::UnixMicros;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The file below `data_dir`.
const FILE: &str = "on-trial.json";
/// Most lines of what changed that are noted, and characters of each and of the names: what a person reads in a banner.
const LINES_MAX: usize = 20;
const CHARS_MAX: usize = 300;
/// Largest note that is read, in bytes: what is longer than these together in JSON, was not written here.
const BYTES_MAX: u64 = 64 * 1024;

/// What is noted of a trial.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Who made the change.
    pub by: String,
    /// When it began to run.
    pub since_us: UnixMicros,
    /// What changed, a line each.
    pub changes: Vec<String>,
    /// The text that was tried: the one that starts, if it was kept in the last moment.
    pub revision: Revision,
}

/// Notes a trial, in place of an older one.
///
/// # Errors
/// If it cannot be written.
pub fn note(data_dir: &Path, note: &Note) -> Result<(), Unwritable> {
    let cut = |text: &String| text.chars().take(CHARS_MAX).collect::<String>();
    let note =
        Note { by: cut(&note.by), changes: note.changes.iter().take(LINES_MAX).map(cut).collect(), ..note.clone() };
    let text = serde_json::to_vec(&note).unwrap_or_default();
    file::write_secret(&path(data_dir), &text)
}

/// What was noted, if there is anything that can be read.
#[must_use]
pub fn noted(data_dir: &Path) -> Option<Note> {
    let mut text = Vec::new();
    File::open(path(data_dir)).ok()?.take(BYTES_MAX).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Removes the note.
///
/// # Errors
/// If it cannot be removed.
pub fn forget(data_dir: &Path) -> Result<(), Unwritable> {
    if path(data_dir).exists() { file::remove(&path(data_dir)) } else { Ok(()) }
}

fn path(data_dir: &Path) -> PathBuf {
    data_dir.join(FILE)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_note_is_private_and_short_and_goes_when_it_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(noted(dir.path()), None);
        forget(dir.path()).unwrap();
        let changes = vec!["ä".repeat(100_000); 1_000];
        let long = Note { by: "anna".to_owned(), since_us: 7, changes, revision: Revision::of("a") };
        note(dir.path(), &long).unwrap();
        let path = path(dir.path());
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(path.metadata().unwrap().len() < BYTES_MAX);
        let found = noted(dir.path()).unwrap();
        assert_eq!((found.by.as_str(), found.since_us, found.changes.len()), ("anna", 7, LINES_MAX));
        std::fs::write(&path, "{half").unwrap();
        assert_eq!(noted(dir.path()), None);
        forget(dir.path()).unwrap();
        assert!(!path.exists());
    }
}
