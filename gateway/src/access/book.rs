//! `people.json`: people and API tokens on disk, written whole, read again when another program has changed it.
//!
//! A file that is there but cannot be understood never counts as an empty one: nobody gets in until it is mended.

use super::AccessError;
use super::files::{self, Lock};
use super::rights::{Rights, Role};
use crate::reading::UnixMicros;
use serde::{Deserialize, Serialize};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

/// The file's name in the private directory.
const FILE: &str = "people.json";

/// What is written into it.
const VERSION: u32 = 1;

/// Largest file that is read, in bytes: 64 people and 64 tokens take a tenth of it.
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// Everyone who may enter.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Book {
    version: u32,
    /// In the order in which they were added.
    pub(super) people: Vec<PersonRow>,
    /// In the order in which they were made.
    #[serde(default)]
    pub(super) tokens: Vec<TokenRow>,
}

/// One person.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct PersonRow {
    pub(super) name: String,
    pub(super) role: Role,
    /// The password's hash, in the PHC string format.
    pub(super) password: String,
    /// Random, and another one with each password: a session of an earlier one is over.
    pub(super) key: String,
    pub(super) made_us: UnixMicros,
    pub(super) made_by: String,
    pub(super) password_us: UnixMicros,
}

/// One API token.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct TokenRow {
    pub(super) name: String,
    pub(super) rights: Rights,
    /// SHA-256 of the token, in hexadecimal.
    pub(super) sha256: String,
    pub(super) made_us: UnixMicros,
    pub(super) made_by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) expires_us: Option<UnixMicros>,
}

impl Book {
    fn empty() -> Self {
        Self { version: VERSION, people: Vec::new(), tokens: Vec::new() }
    }

    pub(super) fn person(&self, name: &str) -> Option<&PersonRow> {
        let name = folded(name);
        self.people.iter().find(|person| folded(&person.name) == name)
    }

    pub(super) fn person_mut(&mut self, name: &str) -> Result<&mut PersonRow, AccessError> {
        let folded_name = folded(name);
        self.people
            .iter_mut()
            .find(|person| folded(&person.name) == folded_name)
            .ok_or_else(|| AccessError::NoSuchPerson(name.to_owned()))
    }

    /// Whether somebody else is an administrator too.
    pub(super) fn has_administrator_beside(&self, name: &str) -> bool {
        let name = folded(name);
        self.people.iter().any(|person| person.role == Role::Administrator && folded(&person.name) != name)
    }
}

/// Names that differ in case alone are the same name.
pub(super) fn folded(name: &str) -> String {
    name.trim().to_lowercase()
}

/// The book on disk, and what was read of it last.
#[derive(Debug)]
pub(super) struct BookFile {
    dir: PathBuf,
    path: PathBuf,
    read: RwLock<Read>,
}

#[derive(Debug)]
struct Read {
    /// What the file looked like; `None`: there was none.
    stamp: Option<Stamp>,
    book: Result<Arc<Book>, AccessError>,
    /// Whether there ever was a file: one that vanishes does not open the door.
    seen: bool,
}

/// Tells one state of the file from another: each is a file of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    bytes: u64,
    changed: (i64, i64),
}

impl Stamp {
    fn of(meta: &std::fs::Metadata) -> Self {
        Self { inode: meta.ino(), bytes: meta.len(), changed: (meta.mtime(), meta.mtime_nsec()) }
    }
}

impl BookFile {
    /// The book in a private directory; what is wrong with it is told by [`BookFile::current`].
    pub(super) fn open(dir: &Path) -> Self {
        let read = Read { stamp: None, book: Ok(Arc::new(Book::empty())), seen: false };
        Self { dir: dir.to_owned(), path: dir.join(FILE), read: RwLock::new(read) }
    }

    /// The book as it is on disk now.
    pub(super) fn current(&self) -> Result<Arc<Book>, AccessError> {
        let stamp = match std::fs::metadata(&self.path) {
            Ok(meta) => Some(Stamp::of(&meta)),
            Err(e) if e.kind() == ErrorKind::NotFound => None,
            Err(e) => return Err(files::error("look at", &self.path, &e)),
        };
        {
            let read = self.read.read().unwrap_or_else(PoisonError::into_inner);
            if read.stamp == stamp && (stamp.is_some() || !read.seen) {
                return read.book.clone();
            }
        }
        self.load()
    }

    fn load(&self) -> Result<Arc<Book>, AccessError> {
        let mut read = self.read.write().unwrap_or_else(PoisonError::into_inner);
        let file = match files::open_to_read(&self.path) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound && !read.seen => return Ok(Arc::new(Book::empty())),
            Err(e) if e.kind() == ErrorKind::NotFound => {
                return Err(AccessError::Damaged(format!(
                    "{} is gone; put it back, or restart forebay to set it up anew",
                    self.path.display()
                )));
            }
            // Not remembered: rights may change without a trace in the stamp.
            Err(e) => return Err(files::error("open", &self.path, &e)),
        };
        let stamp = file.metadata().map_err(|e| files::error("look at", &self.path, &e))?;
        let book = files::read_bounded(&file, &self.path, FILE_BYTES_MAX).and_then(|bytes| self.parse(&bytes));
        if let Err(error) = &book {
            tracing::error!("nobody can sign in: {error}");
        }
        let book = book.map(Arc::new);
        *read = Read { stamp: Some(Stamp::of(&stamp)), book: book.clone(), seen: true };
        book
    }

    fn parse(&self, bytes: &[u8]) -> Result<Book, AccessError> {
        let help = "put back a good copy, or remove it as root and restart forebay to set it up anew";
        let damaged =
            |why: &str| AccessError::Damaged(format!("{} cannot be used: {why}; {help}", self.path.display()));
        let book: Book = serde_json::from_slice(bytes).map_err(|e| damaged(&e.to_string()))?;
        if book.version != VERSION {
            return Err(damaged(&format!("it is of version {}, this forebay knows {VERSION}", book.version)));
        }
        if !book.people.is_empty() && !book.people.iter().any(|person| person.role == Role::Administrator) {
            return Err(damaged("nobody in it is an administrator"));
        }
        Ok(book)
    }

    /// Changes the book, on disk first; others, here and in other programs, wait meanwhile. Nothing changes if it fails.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Book) -> Result<T, AccessError>) -> Result<T, AccessError> {
        let lock = Lock::take(&self.dir)?;
        let mut book = Book::clone(&*self.current()?);
        let answer = change(&mut book)?;
        let mut bytes = serde_json::to_vec_pretty(&book).map_err(|e| AccessError::Disk(e.to_string()))?;
        bytes.push(b'\n');
        files::write_whole(&self.path, &bytes)?;
        drop(lock);
        Ok(answer)
    }
}
