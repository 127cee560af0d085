//! Browsers that someone signed in with before: each bears a sealed note of whom it is known to, so that strangers who guess at
//! that name do not keep it waiting. It lets nobody in.

use super::AccessError;
use super::book::folded;
use super::files;
use super::random::{Hash, bytes, digest};
use chacha20poly1305::aead::{Aead, KeyInit};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The file with the key that seals the notes.
const FILE: &str = "device-key";

/// Bytes of the key and of a note's nonce.
const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;

/// Longest note that is opened, in characters: a name of 64 characters of four bytes, nonce and tag, as hexadecimal digits.
const NOTE_CHARS_MAX: usize = 2 * (NONCE_BYTES + 64 * 4 + 16);

/// Seals and opens the notes; the key is made at the first need.
pub(super) struct Devices {
    path: PathBuf,
    cipher: OnceLock<Option<XChaCha20Poly1305>>,
}

impl std::fmt::Debug for Devices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Devices(***)")
    }
}

impl Devices {
    pub(super) fn of(dir: &Path) -> Self {
        Self { path: dir.join(FILE), cipher: OnceLock::new() }
    }

    /// A note for the browser of someone who has just signed in.
    pub(super) fn make(&self, name: &str) -> Option<String> {
        let nonce = bytes::<NONCE_BYTES>().ok()?;
        let sealed = self.cipher()?.encrypt(XNonce::from_slice(&nonce), folded(name).as_bytes()).ok()?;
        Some(hex::encode([nonce.as_slice(), &sealed].concat()))
    }

    /// What tells this browser from others, if it bears a note for this name.
    pub(super) fn of_note(&self, note: &str, name: &str) -> Option<Hash> {
        if note.len() > NOTE_CHARS_MAX {
            return None;
        }
        let bytes = hex::decode(note).ok()?;
        let (nonce, sealed) = bytes.split_at_checked(NONCE_BYTES)?;
        let known = self.cipher()?.decrypt(XNonce::from_slice(nonce), sealed).ok()?;
        (known == folded(name).as_bytes()).then(|| digest(note))
    }

    fn cipher(&self) -> Option<&XChaCha20Poly1305> {
        let made = self.cipher.get_or_init(|| {
            let key = self.key();
            let key =
                key.inspect_err(|error| tracing::warn!("no browser is known from one sign-in to the next: {error}"));
            key.ok().map(|key| XChaCha20Poly1305::new(&key.into()))
        });
        made.as_ref()
    }

    /// The key on disk, or a new one.
    fn key(&self) -> Result<[u8; KEY_BYTES], AccessError> {
        let read = files::open_to_read(&self.path).ok();
        let read = read.and_then(|file| files::read_bounded(&file, &self.path, KEY_BYTES as u64).ok());
        if let Some(key) = read.and_then(|key| key.try_into().ok()) {
            return Ok(key);
        }
        let key = bytes::<KEY_BYTES>()?;
        files::write_whole(&self.path, &key)?;
        Ok(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_note_is_for_one_name_and_of_one_gateway_and_outlives_a_restart() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let devices = Devices::of(dir.path());
        let note = devices.make("Eva").unwrap();
        assert!(devices.of_note(&note, "eva ").is_some());
        assert_eq!(devices.of_note(&note, "Max"), None);
        assert_eq!(Devices::of(dir.path()).of_note(&note, "Eva"), devices.of_note(&note, "Eva"));
        assert_eq!(Devices::of(other.path()).of_note(&note, "Eva"), None);
        assert_ne!(devices.make("Eva"), devices.make("Eva"));
    }

    proptest! {
        #[test]
        fn whatever_a_stranger_sends_is_no_note(note in "[0-9a-f]{0,200}|.{0,40}") {
            let dir = tempfile::tempdir().unwrap();
            prop_assert_eq!(Devices::of(dir.path()).of_note(&note, ""), None);
        }
    }
}
