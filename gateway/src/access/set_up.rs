//! The set-up token: it lets the first administrator in, once.

use super::book::BookFile;
use super::files::{self, Lock};
use super::people;
use super::random::{as_readable, digest, readable};
use super::{Access, AccessError, Action, By, Role, SetUpError, Who};
use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::Path;

/// The file in the private directory; an image may bring it along.
const FILE: &str = "set-up-token";

/// What is to be printed and stuck onto the device; there until it is set up.
const LABEL_FILE: &str = "label.txt";

/// What tokens of our own begin with, so that a label says what it is.
const PREFIX: &str = "forebay";

/// Random characters of a token: 5 bits each, 80 together, in groups to be read aloud.
const CHARS: usize = 16;
const GROUP_CHARS: usize = 4;

/// Shortest token that an image may bring along, in characters: what is printed on a label must not be guessed.
const CHARS_MIN: usize = 16;

/// Longest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 512;

impl Access {
    /// Whether there is anybody who may enter. If that cannot be told it counts as set up, so that nobody sets up anew what
    /// is only damaged.
    #[must_use]
    pub fn is_set_up(&self) -> bool {
        self.0.book.current().map_or(true, |book| !book.people.is_empty())
    }

    /// The set-up token, until the gateway is set up.
    #[must_use]
    pub fn set_up_token(&self) -> Option<String> {
        if self.is_set_up() {
            return None;
        }
        read(&self.0.dir.join(FILE)).inspect_err(|error| tracing::warn!("no set-up token: {error}")).ok()?
    }

    /// Writes down what a label on the device says: where the page is, and the set-up token. Nothing, once it is set up.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub async fn write_label(&self, addresses: &[String], fingerprint: Option<&str>) -> Result<(), AccessError> {
        let Some(token) = self.set_up_token() else { return Ok(()) };
        let mut lines = vec!["Forebay".to_owned()];
        lines.extend(addresses.iter().map(|address| format!("Page:         {address}")));
        lines.push(format!("Set-up token: {token}"));
        lines.extend(fingerprint.map(|fingerprint| format!("Certificate:  SHA-256 {fingerprint}")));
        let text = lines.join("\n") + "\n";
        self.apart(move |inner| files::write_whole(&inner.dir.join(LABEL_FILE), text.as_bytes())).await
    }

    /// Whether this is the set-up token, for a page that asks for it before it asks for a name; a wrong one counts.
    ///
    /// # Errors
    /// If it is not, too many were not, or the gateway is set up already.
    pub async fn check_set_up_token(&self, token: &str, from: IpAddr) -> Result<(), SetUpError> {
        if let Some(error) = self.problem() {
            return Err(error.into());
        }
        if self.is_set_up() {
            return Err(SetUpError::Already);
        }
        let now_us = self.0.clock.mono_us();
        let attempt = match self.0.throttle.begin(None, from, now_us) {
            Ok(attempt) => attempt,
            Err(after) => {
                self.report_set_up(from, "too many wrong tokens").await;
                return Err(SetUpError::TooMany { after });
            }
        };
        let right = self.set_up_token().is_some_and(|right| is_same(&right, token));
        if !right {
            self.report_set_up(from, "wrong token").await;
            return Err(SetUpError::WrongToken);
        }
        self.0.throttle.succeeded(attempt);
        Ok(())
    }

    /// Sets up the gateway: makes the first administrator and puts the token out of force.
    ///
    /// # Errors
    /// If the token is wrong, name or password will not do, or someone was faster.
    pub async fn set_up(&self, token: &str, name: &str, password: &str, from: IpAddr) -> Result<Who, SetUpError> {
        self.check_set_up_token(token, from).await?;
        let (name, hash) = self.new_person(name, password).await?;
        let by = By::new(Who::person(&name, Role::Administrator), from);
        let row = people::row(&name, Role::Administrator, hash, &by, self.0.clock.tick().wall_us)?;
        let made = self.apart(move |inner| {
            inner.book.change(|book| {
                let first = book.people.is_empty();
                if first {
                    book.people.push(row);
                }
                Ok(first)
            })
        });
        if !made.await? {
            return Err(SetUpError::Already);
        }
        self.end_set_up().await;
        self.note(&by, Action::SetUp, &name, String::new()).await;
        tracing::info!("{name} set up this gateway from {from}");
        Ok(by.who)
    }

    /// Removes the token: someone may enter now.
    pub(super) async fn end_set_up(&self) {
        // Out of force in any case, because there is a person; the file is only tidied away.
        let removed = self.apart(|inner| tidy_away(&inner.dir)).await;
        removed.unwrap_or_else(|error| tracing::warn!("the set-up token has no force any more, but {error}"));
    }

    /// Makes a token if nobody may enter yet and none was brought along; removes one that has no force any more.
    pub(super) fn prepare_set_up(&self) -> Result<(), AccessError> {
        prepare(&self.0.dir, &self.0.book)
    }

    async fn report_set_up(&self, from: IpAddr, why: &str) {
        let Some(unreported) = self.0.throttle.report(self.0.clock.mono_us()) else { return };
        tracing::warn!("set-up from {from} refused: {why}{}", super::entering::others(unreported));
        let nobody = By::new(super::entering::stranger(), from);
        let detail = format!("{why}{}", super::entering::others(unreported));
        self.note(&nobody, Action::SetUpRefused, "", detail).await;
    }
}

fn prepare(dir: &Path, book: &BookFile) -> Result<(), AccessError> {
    // With a damaged book nobody enters, with or without a token.
    let Ok(people) = book.current() else { return Ok(()) };
    let path = dir.join(FILE);
    if !people.people.is_empty() {
        return tidy_away(dir);
    }
    let _lock = Lock::take(dir)?;
    if read(&path)?.is_some() {
        return Ok(());
    }
    let mut token = PREFIX.to_owned();
    for (at, c) in readable::<CHARS>()?.chars().enumerate() {
        if at % GROUP_CHARS == 0 {
            token.push('-');
        }
        token.push(c);
    }
    files::write_whole(&path, format!("{token}\n").as_bytes())
}

/// Removes the token and its label.
fn tidy_away(dir: &Path) -> Result<(), AccessError> {
    files::remove(&dir.join(LABEL_FILE))?;
    files::remove(&dir.join(FILE))
}

/// The token in a file; `None` if there is no file, or an empty one.
fn read(path: &Path) -> Result<Option<String>, AccessError> {
    let file = match files::open_to_read(path) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(files::error("open", path, &e)),
    };
    let bytes = files::read_bounded(&file, path, FILE_BYTES_MAX)?;
    let text = String::from_utf8_lossy(&bytes);
    let token = text.trim();
    if token.is_empty() {
        return Ok(None);
    }
    if token.chars().count() < CHARS_MIN {
        let path = path.display();
        return Err(AccessError::Damaged(format!(
            "the set-up token in {path} is shorter than {CHARS_MIN} characters and would be guessed; \
             write a longer one, or remove the file and restart forebay"
        )));
    }
    Ok(Some(token.to_owned()))
}

/// Compares digests, which takes a time that says nothing about the token. One of our own may be typed in any case, with any
/// separators; one that was brought along is taken as it is.
fn is_same(right: &str, typed: &str) -> bool {
    let plain = |token: &str| {
        let token = as_readable(token);
        token.strip_prefix(&as_readable(PREFIX)).map_or_else(|| token.clone(), str::to_owned)
    };
    if right.starts_with(PREFIX) {
        digest(&plain(right)) == digest(&plain(typed))
    } else {
        digest(right) == digest(typed.trim())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_of_our_own_may_be_typed_as_it_is_read_from_a_label() {
        let right = "forebay-7k3m-9q2x-01ab-cdef";
        for typed in [right, "FOREBAY 7K3M 9Q2X OIAB CDEF", "7k3m9q2x01abcdef", " 7k3m-9q2x-olab-cdef\n"] {
            assert!(is_same(right, typed), "{typed:?}");
        }
        for typed in ["", "forebay", "forebay-7k3m-9q2x-01ab-cde", "forebay-7k3m-9q2x-01ab-cdeg"] {
            assert!(!is_same(right, typed), "{typed:?}");
        }
        assert!(is_same("Brought-Along-By-An-Image", " Brought-Along-By-An-Image "));
        assert!(!is_same("Brought-Along-By-An-Image", "brought-along-by-an-image"));
    }
}
