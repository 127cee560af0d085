//! Encryption at rest: every value of every database and every small file with contents, under a key that is not on the card.
//!
//! XChaCha20-Poly1305 with a random nonce for each value: 24 random bytes never repeat, so that no counter has to survive a power
//! cut. An encrypted value is an envelope, little endian:
//!
//! ```text
//! magic "FBE1" | length of what follows the nonce u32 | key id [u8; 4] | nonce [u8; 24] | ciphertext and tag
//! ```
//!
//! Magic, length and key id are associated data. The whole block is inside, header included: times and counts say much about
//! a plant. The key file holds one key a line, 64 hexadecimal digits: the first one writes, all of them read.

use super::BufferError;
use crate::secret::Secret;
use bytes::Bytes;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use sha2::{Digest, Sha256};
use std::fmt;
use std::sync::Arc;

/// First bytes of an envelope.
pub(super) const MAGIC: [u8; 4] = *b"FBE1";

/// Magic, length, key id: what is authenticated beside the plain bytes.
const HEAD_BYTES: usize = 12;
const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;

/// What an envelope adds to a value.
pub(super) const ENVELOPE_BYTES: usize = HEAD_BYTES + NONCE_BYTES + TAG_BYTES;

/// Bytes of a key.
const KEY_BYTES: usize = 32;

/// Most keys of a file: one that writes, and those of past rotations that old chunks still need.
const KEYS_MAX: usize = 16;

/// The keys of a store; without any, values are stored as they are. Prints no key.
#[derive(Clone, Default)]
pub struct Cipher {
    keys: Arc<[Key]>,
}

struct Key {
    id: [u8; 4],
    cipher: XChaCha20Poly1305,
}

/// Why a key file cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A line is no key.
    #[error(
        "line {0} of the key file is no key: each line must be 64 hexadecimal digits; `openssl rand -hex 32` makes a fresh one"
    )]
    Line(usize),
    /// There is none.
    #[error("the key file holds no key; `openssl rand -hex 32` makes one")]
    Empty,
    /// There are too many.
    #[error("the key file holds more than {KEYS_MAX} keys; remove those that no chunk needs any more, the oldest last")]
    TooMany,
}

impl Cipher {
    /// The keys of a key file: empty lines and lines that begin with `#` are passed over.
    ///
    /// # Errors
    /// If a line is no key, or there is none.
    pub fn from_key_file(file: &Secret) -> Result<Self, KeyError> {
        let lines = file.expose().lines().map(str::trim).zip(1..);
        let lines = lines.filter(|(line, _)| !line.is_empty() && !line.starts_with('#'));
        let keys: Vec<Key> =
            lines.map(|(line, number)| key(line).ok_or(KeyError::Line(number))).collect::<Result<_, _>>()?;
        match keys.len() {
            0 => Err(KeyError::Empty),
            1..=KEYS_MAX => Ok(Self { keys: keys.into() }),
            _ => Err(KeyError::TooMany),
        }
    }

    /// What of a value goes to disk.
    pub(super) fn close(&self, plain: Vec<u8>) -> Result<Vec<u8>, BufferError> {
        let Some(key) = self.keys.first() else { return Ok(plain) };
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(|error| BufferError::Disk(format!("no random numbers: {error}")))?;
        let length = u32::try_from(plain.len() + TAG_BYTES)
            .map_err(|_| BufferError::Disk(format!("{} bytes are too many to encrypt at once", plain.len())))?;
        let mut envelope = Vec::with_capacity(plain.len() + ENVELOPE_BYTES);
        envelope.extend_from_slice(&MAGIC);
        envelope.extend_from_slice(&length.to_le_bytes());
        envelope.extend_from_slice(&key.id);
        let payload = Payload { msg: &plain, aad: &envelope };
        let ciphertext = key
            .cipher
            .encrypt(XNonce::from_slice(&nonce), payload)
            .map_err(|_| BufferError::Disk("a value could not be encrypted".to_owned()))?;
        envelope.extend_from_slice(&nonce);
        envelope.extend_from_slice(&ciphertext);
        Ok(envelope)
    }

    /// The value of what lies on disk. What is no envelope was written before encryption was switched on.
    ///
    /// # Errors
    /// [`BufferError::Locked`] if its key is not among ours; [`BufferError::Damaged`] if it is not what was written.
    pub(super) fn open(&self, stored: Bytes) -> Result<Bytes, BufferError> {
        if envelope_bytes(&stored) != Some(stored.len()) {
            return Ok(stored);
        }
        let (Some((head, rest)), Some(id)) = (stored.split_at_checked(HEAD_BYTES), stored.get(8..HEAD_BYTES)) else {
            return Ok(stored);
        };
        let key = self.keys.iter().find(|key| key.id == id).ok_or_else(|| BufferError::Locked(hex::encode(id)))?;
        let (nonce, ciphertext) = rest.split_at_checked(NONCE_BYTES).unwrap_or_default();
        let payload = Payload { msg: ciphertext, aad: head };
        let plain = key.cipher.decrypt(XNonce::from_slice(nonce), payload);
        plain
            .map(Bytes::from)
            .map_err(|_| BufferError::Damaged("an encrypted value is not what was written".to_owned()))
    }
}

/// How long the envelope is that begins here; `None` if none does.
pub(super) fn envelope_bytes(bytes: &[u8]) -> Option<usize> {
    let (magic, rest) = bytes.split_first_chunk::<4>()?;
    let (length, _) = rest.split_first_chunk::<4>()?;
    let length = u32::from_le_bytes(*length) as usize;
    (*magic == MAGIC && length >= TAG_BYTES).then(|| (HEAD_BYTES + NONCE_BYTES).saturating_add(length))
}

fn key(line: &str) -> Option<Key> {
    let mut bytes = [0; KEY_BYTES];
    hex::decode_to_slice(line, &mut bytes).ok()?;
    let mut hash = Sha256::new();
    hash.update(b"forebay key id");
    hash.update(bytes);
    let id = *hash.finalize().first_chunk::<4>()?;
    Some(Key { id, cipher: XChaCha20Poly1305::new(&bytes.into()) })
}

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|key| hex::encode(key.id))).finish()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::secret::SecretFile;
    use proptest::prelude::*;

    const A: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    const B: &str = "ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

    fn cipher(text: &str) -> Result<Cipher, KeyError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, text).unwrap();
        Cipher::from_key_file(&SecretFile(path.display().to_string()).read().unwrap())
    }

    #[test]
    fn a_key_file_is_one_key_a_line_and_says_which_line_is_none() {
        assert_eq!(cipher(&format!("# written 2026\n\n{A}\n{B}\n")).unwrap().keys.len(), 2);
        assert_eq!(cipher(&format!("{A}\nsecret\n")).unwrap_err(), KeyError::Line(2));
        assert_eq!(cipher("# none yet\n").unwrap_err(), KeyError::Empty);
        assert_eq!(cipher(&format!("{A}\n").repeat(17)).unwrap_err(), KeyError::TooMany);
    }

    #[test]
    fn after_a_rotation_the_old_key_still_reads_and_the_new_one_writes() {
        let old = Bytes::from(cipher(A).unwrap().close(b"reading".to_vec()).unwrap());
        let both = cipher(&format!("{B}\n{A}")).unwrap();
        assert_eq!(both.open(old.clone()).unwrap(), "reading");
        let fresh = Bytes::from(both.close(b"reading".to_vec()).unwrap());
        assert_eq!(cipher(B).unwrap().open(fresh).unwrap(), "reading");
        assert!(matches!(cipher(B).unwrap().open(old), Err(BufferError::Locked(_))));
    }

    #[test]
    fn the_debug_form_shows_no_key() {
        assert!(!format!("{:?}", cipher(A).unwrap()).contains(&A[..8]));
    }

    proptest! {
        #[test]
        fn any_value_comes_back_and_any_flipped_bit_is_seen(plain: Vec<u8>, bit: prop::sample::Index) {
            let cipher = cipher(A).unwrap();
            let mut stored = cipher.close(plain.clone()).unwrap();
            prop_assert_eq!(stored.len(), plain.len() + ENVELOPE_BYTES);
            prop_assert_eq!(cipher.open(Bytes::from(stored.clone())).unwrap(), plain);
            let bit = bit.index(stored.len() * 8);
            stored[bit / 8] ^= 1 << (bit % 8);
            // A flipped magic or length makes a plain value of it, which no reader of values takes.
            let opened = cipher.open(Bytes::from(stored.clone()));
            prop_assert!(opened.is_err() || (bit < 64 && opened.unwrap() == stored));
        }

        #[test]
        fn anything_else_is_taken_as_it_is_or_refused(bytes: Vec<u8>) {
            let stored = Bytes::from(bytes);
            if let Ok(opened) = cipher(A).unwrap().open(stored.clone()) {
                prop_assert_eq!(opened, stored);
            }
        }
    }
}
