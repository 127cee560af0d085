//! Random words: session ids, API tokens, the set-up token; and their digests, which alone are kept.

use super::AccessError;
use sha2::{Digest, Sha256};

/// 64 characters that pass through a URL, a cookie and a shell unchanged.
const PLAIN: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// 32 characters that are told apart on a label: Crockford's, without i, l, o and u.
const READABLE: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Characters of a secret word: 6 bits each, 258 together.
pub(super) const WORD_CHARS: usize = 43;

/// What is kept of a secret word.
pub(super) type Hash = [u8; 32];

/// The SHA-256 of a secret. Comparing digests takes a time that says nothing about the secret.
pub(super) fn digest(secret: &str) -> Hash {
    Sha256::digest(secret).into()
}

/// A secret word of 258 random bits.
pub(super) fn word() -> Result<String, AccessError> {
    Ok(pick(PLAIN, bytes::<WORD_CHARS>()?))
}

/// Characters for people to type, 5 random bits each.
pub(super) fn readable<const CHARS: usize>() -> Result<String, AccessError> {
    Ok(pick(READABLE, bytes::<CHARS>()?))
}

/// A length that divides 256 makes every character equally likely.
fn pick<const LETTERS: usize, const CHARS: usize>(letters: &[u8; LETTERS], random: [u8; CHARS]) -> String {
    random
        .iter()
        .filter_map(|byte| letters.get(usize::from(*byte) % LETTERS))
        .map(|letter| char::from(*letter))
        .collect()
}

pub(super) fn bytes<const COUNT: usize>() -> Result<[u8; COUNT], AccessError> {
    let mut random = [0; COUNT];
    getrandom::fill(&mut random).map_err(|e| AccessError::Disk(format!("the system gives no random numbers: {e}")))?;
    Ok(random)
}

/// What someone may have typed for a readable word: any case, any separators, o for 0, i and l for 1.
pub(super) fn as_readable(typed: &str) -> String {
    let plain = typed.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase());
    plain
        .map(|c| {
            if c == 'o' {
                '0'
            } else if c == 'i' || c == 'l' {
                '1'
            } else {
                c
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_words_are_alike_and_all_are_as_long() {
        let words: std::collections::HashSet<String> = (0..100).map(|_| word().unwrap()).collect();
        assert_eq!(words.len(), 100);
        assert!(words.iter().all(|word| word.len() == WORD_CHARS));
    }

    #[test]
    fn what_is_typed_from_a_label_is_read_as_it_was_meant() {
        assert_eq!(as_readable(" FOREBAY 7K3M_9Q2X "), as_readable("forebay-7k3m-9q2x"));
        assert_eq!(as_readable("O0Il"), "0011");
    }
}
