//! The audit log: who changed what, when, from where; a line of JSON each, on disk before it counts as done.

mod reading;
#[cfg(test)]
mod tests;

use super::AccessError;
use super::files::{self, Lock};
use super::rights::{Kind, Who};
use crate::reading::UnixMicros;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Longest detail, in bytes: some hundred lines of a difference; what is longer is cut, so that nobody washes the log away with
/// long ones. A configuration that was kept is in the history as a whole.
pub const DETAIL_BYTES_MAX: usize = 8 * 1024;

/// Longest subject, in bytes: a name.
const SUBJECT_BYTES_MAX: usize = 512;

/// Entries of one page.
pub const PAGE_ENTRIES_MAX: usize = 500;

/// A file is put aside when it is so long.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Files kept, with the one that is written: 16 MiB, which is years of changes.
const FILES_MAX: usize = 4;

/// Longest line that is read, in bytes: a detail of control characters alone takes six times its length in JSON.
const LINE_BYTES_MAX: u64 = 6 * DETAIL_BYTES_MAX as u64 + 16 * 1024;

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// The gateway was set up.
    SetUp,
    /// Someone entered a wrong set-up token.
    SetUpRefused,
    /// Someone signed in.
    SignedIn,
    /// Someone could not sign in.
    SignInRefused,
    /// Someone signed out.
    SignedOut,
    /// Someone signed out in all browsers.
    SignedOutEverywhere,
    /// A person was added.
    PersonAdded,
    /// A person was removed.
    PersonRemoved,
    /// A person got another role.
    RoleChanged,
    /// A person got another password.
    PasswordChanged,
    /// An API token was made.
    TokenMade,
    /// An API token was revoked.
    TokenRevoked,
    /// A configuration was put on trial.
    ConfigurationTried,
    /// A configuration on trial was kept.
    ConfigurationKept,
    /// A configuration on trial was taken back.
    ConfigurationTakenBack,
    /// The certificate was changed.
    CertificateChanged,
    /// Something was done beside the configuration: a replay, a try-out, a search.
    Operated,
    /// What another version of Forebay wrote.
    #[serde(other)]
    Other,
}

/// One line of the audit log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Entry {
    /// Counts up with each entry; the cursor of pages.
    pub number: u64,
    /// When, by the wall clock.
    pub at_us: UnixMicros,
    /// Who.
    pub who: String,
    /// Whose name that is.
    pub kind: Kind,
    /// From which address; none on the machine itself.
    #[serde(default)]
    pub from: Option<String>,
    /// What was done.
    pub action: Action,
    /// To what or whom.
    #[serde(default)]
    pub subject: String,
    /// More: text, or a unified diff.
    #[serde(default)]
    pub detail: String,
}

/// What is to be written down.
#[derive(Clone, Debug)]
pub struct Deed {
    /// Who does it.
    pub who: Who,
    /// From which address; none on the machine itself.
    pub from: Option<IpAddr>,
    /// What.
    pub action: Action,
    /// To what or whom.
    pub subject: String,
    /// More: text, or a unified diff. Never a secret.
    pub detail: String,
}

/// Which entries are wanted; all of them by default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct AuditFilter {
    /// By whom: the whole name, in any case.
    pub who: Option<String>,
    /// What was done.
    pub action: Option<Action>,
    /// A text that who, subject or detail contains, in any case.
    pub text: Option<String>,
    /// Not before this.
    pub since_us: Option<UnixMicros>,
    /// Before this.
    pub until_us: Option<UnixMicros>,
}

/// Entries, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct AuditPage {
    /// The entries.
    pub entries: Vec<Entry>,
    /// Where the next page begins; none after the last one.
    pub before: Option<u64>,
}

/// The log's files.
#[derive(Debug)]
pub(super) struct Audit {
    dir: PathBuf,
    file_bytes_max: u64,
    put_aside: Mutex<Option<PutAside>>,
}

/// A file of the log was full and was put aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PutAside {
    /// When.
    pub at_us: UnixMicros,
    /// When the first entry of it was written.
    pub since_us: UnixMicros,
}

impl Audit {
    pub(super) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), file_bytes_max: FILE_BYTES_MAX, put_aside: Mutex::default() }
    }

    /// Writes one entry; it is on disk on return.
    pub(super) fn append(&self, deed: Deed, at_us: UnixMicros) -> Result<Entry, AccessError> {
        let lock = Lock::take(&self.dir)?;
        self.make_room(at_us)?;
        let path = self.path(0);
        let entry = Entry {
            number: self.last_number()? + 1,
            at_us,
            who: deed.who.name,
            kind: deed.who.kind,
            from: deed.from.map(|from| from.to_canonical().to_string()),
            action: deed.action,
            subject: cut(deed.subject, SUBJECT_BYTES_MAX),
            detail: cut(deed.detail, DETAIL_BYTES_MAX),
        };
        let mut line = serde_json::to_vec(&entry).map_err(|e| AccessError::Disk(e.to_string()))?;
        line.push(b'\n');
        let mut write = || {
            let mut file = files::open_to_append(&path)?;
            if ends_torn(&mut file)? {
                // A power cut left half a line: it must not swallow this one.
                line.insert(0, b'\n');
            }
            file.write_all(&line)?;
            file.sync_data()
        };
        write().map_err(|e| files::error("write", &path, &e))?;
        drop(lock);
        Ok(entry)
    }

    /// The file of an age: 0 is the one that is written.
    fn path(&self, age: usize) -> PathBuf {
        self.dir.join(if age == 0 { "audit.ndjson".to_owned() } else { format!("audit.{age}.ndjson") })
    }

    /// Puts a full file aside; the oldest goes.
    fn make_room(&self, now_us: UnixMicros) -> Result<(), AccessError> {
        if std::fs::metadata(self.path(0)).map_or(0, |meta| meta.len()) < self.file_bytes_max {
            return Ok(());
        }
        let since_us = self.first_us().unwrap_or(now_us);
        for age in (1..FILES_MAX).rev() {
            files::rename(&self.path(age - 1), &self.path(age))?;
        }
        *self.put_aside.lock().unwrap_or_else(PoisonError::into_inner) = Some(PutAside { at_us: now_us, since_us });
        Ok(())
    }

    /// What was put aside since this was last asked.
    pub(super) fn take_put_aside(&self) -> Option<PutAside> {
        self.put_aside.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// When the first entry of the file that is written was made.
    fn first_us(&self) -> Option<UnixMicros> {
        let file = files::open_to_read(&self.path(0)).ok()?;
        let mut line = Vec::new();
        BufReader::new(file.take(LINE_BYTES_MAX)).read_until(b'\n', &mut line).ok()?;
        serde_json::from_slice::<Entry>(&line).ok().map(|entry| entry.at_us)
    }
}

/// Whether the last line of a file has no end.
fn ends_torn(file: &mut (impl Read + Seek)) -> std::io::Result<bool> {
    if file.seek(SeekFrom::End(0))? == 0 {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last != [b'\n'])
}

/// A text of at most so many bytes; what is cut off is told.
fn cut(mut text: String, bytes_max: usize) -> String {
    const MARK: &str = "…";
    if text.len() > bytes_max {
        let mut end = bytes_max.saturating_sub(MARK.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push_str(MARK);
    }
    text
}
