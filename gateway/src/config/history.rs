//! The texts that were confirmed, with who and when: to look at what changed, and to go back.
//!
//! Each is a file `000007.toml` with a `000007.json` beside it, written after it: a text without one is what a power cut has
//! left and is not listed. Texts may hold secrets in addresses, so that only the gateway's user may read them.

mod diff;
mod merge;

pub use diff::{DiffKind, DiffLine, diff};
pub use merge::merge;

use super::desk::Revision;
use super::file::{self, Unwritable};
use crate::reading::UnixMicros;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Most texts that are kept: a change a day for a season.
pub const VERSIONS_MAX: usize = 100;

/// Most room for all of them, in bytes: sixteen of the largest files.
const VERSIONS_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Largest description of a text, in bytes.
const META_BYTES_MAX: u64 = 64 * 1024;

/// Most lines that say what changed, and the longest of them and of a note, in characters.
const CHANGES_MAX: usize = 100;
const LINE_CHARS_MAX: usize = 400;

/// Most files that are looked at in the folder: what is kept, twice over, and leftovers.
const ENTRIES_MAX: usize = 1_000;

/// A text that was confirmed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Version {
    /// Its number, counted up from 1.
    pub n: u64,
    /// When it was confirmed, in microseconds since 1970.
    pub at_us: UnixMicros,
    /// Who made the change.
    pub by: String,
    /// The revision of the text.
    pub revision: Revision,
    /// What changed, a line each.
    #[serde(default)]
    pub changes: Vec<String>,
    /// Why, if someone said so.
    #[serde(default)]
    pub note: String,
}

/// What is said of a text when it is kept.
#[derive(Clone, Debug)]
pub struct Kept {
    /// When it was confirmed.
    pub at_us: UnixMicros,
    /// Who made the change.
    pub by: String,
    /// What changed, a line each.
    pub changes: Vec<String>,
    /// Why, if someone said so.
    pub note: String,
}

/// Why a text is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// There is none of that number.
    #[error("version {0} is not kept; only the last {VERSIONS_MAX} are")]
    Unknown(u64),
    /// Its file says something else than was kept.
    #[error("the file of version {0} is damaged and cannot be taken back")]
    Damaged(u64),
    /// The disk refuses.
    #[error(transparent)]
    Unwritable(#[from] Unwritable),
    /// Its description is larger than any.
    #[error("the description of the change cannot be written: {0}")]
    Description(#[from] serde_json::Error),
}

/// The folder of the texts.
#[derive(Clone, Debug)]
pub struct History {
    folder: PathBuf,
}

impl History {
    /// The history of a gateway.
    #[must_use]
    pub fn of(data_dir: &Path) -> Self {
        Self { folder: data_dir.join("config-history") }
    }

    /// Keeps a text, and drops the oldest where there are too many.
    ///
    /// # Errors
    /// If it cannot be written; the others are there unchanged then.
    pub fn keep(&self, text: &str, kept: Kept) -> Result<Version, HistoryError> {
        let n = self.numbers().last().map_or(1, |last| last.saturating_add(1));
        let short = |line: String| line.chars().take(LINE_CHARS_MAX).collect::<String>();
        let version = Version {
            n,
            at_us: kept.at_us,
            by: short(kept.by),
            revision: Revision::of(text),
            changes: kept.changes.into_iter().take(CHANGES_MAX).map(short).collect(),
            note: short(kept.note),
        };
        let description = serde_json::to_vec(&version)?;
        file::write_secret(&self.path(n, "toml"), text.as_bytes())?;
        file::write_secret(&self.path(n, "json"), &description)?;
        self.prune();
        Ok(version)
    }

    /// All of them, the newest first.
    #[must_use]
    pub fn list(&self) -> Vec<Version> {
        let numbers = self.numbers().into_iter().rev();
        numbers.filter_map(|n| self.version(n)).take(VERSIONS_MAX).collect()
    }

    /// A text with what is known of it.
    ///
    /// # Errors
    /// If there is none of that number, or it is not what was kept.
    pub fn get(&self, n: u64) -> Result<(Version, String), HistoryError> {
        let version = self.version(n).ok_or(HistoryError::Unknown(n))?;
        let text = read(&self.path(n, "toml"), super::FILE_BYTES_MAX).ok_or(HistoryError::Damaged(n))?;
        if Revision::of(&text) == version.revision { Ok((version, text)) } else { Err(HistoryError::Damaged(n)) }
    }

    fn version(&self, n: u64) -> Option<Version> {
        let version: Version = serde_json::from_str(&read(&self.path(n, "json"), META_BYTES_MAX)?).ok()?;
        (version.n == n && self.path(n, "toml").is_file()).then_some(version)
    }

    /// Every number of which a file is there.
    fn numbers(&self) -> BTreeSet<u64> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten().take(ENTRIES_MAX);
        let number = |name: String| {
            let stem = name.strip_suffix(".toml").or_else(|| name.strip_suffix(".json"))?;
            let plain = stem.len() >= 6 && stem.bytes().all(|byte| byte.is_ascii_digit());
            stem.parse().ok().filter(|_| plain)
        };
        entries.filter_map(|entry| number(entry.file_name().into_string().ok()?)).collect()
    }

    fn prune(&self) {
        let mut bytes = 0;
        for (rank, n) in self.numbers().into_iter().rev().enumerate() {
            let files = [self.path(n, "json"), self.path(n, "toml")];
            bytes += files.iter().filter_map(|file| Some(fs::metadata(file).ok()?.len())).sum::<u64>();
            if rank > 0 && (rank >= VERSIONS_MAX || bytes > VERSIONS_BYTES_MAX) {
                // What cannot be removed now is removed after the next change.
                for file in &files {
                    fs::remove_file(file).ok();
                }
            }
        }
    }

    fn path(&self, n: u64, extension: &str) -> PathBuf {
        self.folder.join(format!("{n:06}.{extension}"))
    }
}

/// A text file that is no larger than it may be.
fn read(path: &Path, bytes_max: u64) -> Option<String> {
    let mut text = String::new();
    let read = File::open(path).ok()?.take(bytes_max + 1).read_to_string(&mut text).ok()?;
    (read as u64 <= bytes_max).then_some(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn kept(by: &str) -> Kept {
        Kept { at_us: 1, by: by.to_owned(), changes: vec!["sink cloud: url".to_owned()], note: String::new() }
    }

    #[test]
    fn what_was_kept_is_listed_newest_first_and_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let history = History::of(folder.path());
        assert_eq!(history.list(), []);
        history.keep("a = 1\n", kept("ann")).unwrap();
        history.keep("a = 2\n", kept("bob")).unwrap();
        let list: Vec<_> = history.list().into_iter().map(|version| (version.n, version.by)).collect();
        assert_eq!(list, [(2, "bob".to_owned()), (1, "ann".to_owned())]);
        assert_eq!(history.get(1).unwrap().1, "a = 1\n");
        assert!(history.get(3).unwrap_err().to_string().contains("version 3"));
    }

    #[test]
    fn only_the_last_hundred_stay() {
        let folder = tempfile::tempdir().unwrap();
        let history = History::of(folder.path());
        for n in 0..103 {
            history.keep(&format!("a = {n}\n"), kept("ann")).unwrap();
        }
        let list = history.list();
        assert_eq!((list.len(), list[0].n, list[99].n), (100, 103, 4));
        let large = "#".repeat(1 << 20);
        for _ in 0..17 {
            history.keep(&large, kept("ann")).unwrap();
        }
        assert!(history.list().len() < 17, "{}", history.list().len());
    }

    #[test]
    fn what_a_power_cut_or_someone_else_has_left_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let history = History::of(folder.path());
        history.keep("a = 1\n", kept("ann")).unwrap();
        let inside = folder.path().join("config-history");
        for (name, text) in [("000002.toml", "half"), ("000003.json", "{"), ("notes.txt", ""), ("5.toml", "")] {
            fs::write(inside.join(name), text).unwrap();
        }
        assert_eq!(history.list().len(), 1);
        assert_eq!(history.keep("a = 4\n", kept("ann")).unwrap().n, 4);
        fs::write(inside.join("000001.toml"), "a = 9\n").unwrap();
        assert!(history.get(1).unwrap_err().to_string().contains("damaged"));
    }
}
