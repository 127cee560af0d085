//! COBS: rewrites bytes so that none is 0x00, which is then free to mark where a frame ends.
//!
//! Cheshire and Baker, "Consistent Overhead Byte Stuffing" (IEEE/ACM Transactions on Networking 7(2), 1999). Every
//! group is a code byte `n` and `n - 1` bytes that are not zero; between two groups stands a zero, unless the first
//! has the code 0xFF.

use core::fmt;
use heapless::{CapacityError, Vec};

/// The byte that never occurs inside an encoded frame.
pub const DELIMITER: u8 = 0x00;

/// A group of this code is full: 254 bytes and no zero after them.
const FULL_GROUP_CODE: u8 = 0xFF;
/// The bytes of a full group.
const FULL_GROUP_BYTES: usize = 254;

/// Appends the encoding of `body` to `out`, without a delimiter: one byte more than `body` and one more for every 254
/// bytes.
///
/// # Errors
///
/// `out` has no room; what it then holds is of no use.
pub fn encode<const N: usize>(body: &[u8], out: &mut Vec<u8, N>) -> Result<(), NoRoom> {
    let mut runs = body.split(|byte| *byte == DELIMITER).peekable();
    while let Some(run) = runs.next() {
        let mut rest = run;
        let mut ends_full = false;
        while let Some((group, after)) = rest.split_at_checked(FULL_GROUP_BYTES) {
            append_group(FULL_GROUP_CODE, group, out)?;
            rest = after;
            ends_full = true;
        }
        // Nothing follows a full group at the very end: an empty group there would stand for a zero that is not in
        // the body.
        let at_end = runs.peek().is_none();
        if !(at_end && ends_full && rest.is_empty()) {
            let code = u8::try_from(rest.len().saturating_add(1)).unwrap_or(FULL_GROUP_CODE);
            append_group(code, rest, out)?;
        }
    }
    Ok(())
}

fn append_group<const N: usize>(code: u8, group: &[u8], out: &mut Vec<u8, N>) -> Result<(), NoRoom> {
    out.extend_from_slice(&[code])?;
    out.extend_from_slice(group)?;
    Ok(())
}

/// Undoes the encoding byte by byte; it holds two bytes of state whatever the length.
#[derive(Debug, Clone, Default)]
pub struct Unstuffer {
    /// Bytes that the current group still lacks.
    missing: u8,
    /// A zero comes before the next group, if there is one.
    owes_zero: bool,
}

impl Unstuffer {
    /// Takes the next encoded byte, which must not be the delimiter, and appends what it means to `body`.
    ///
    /// # Errors
    ///
    /// `body` is full: the frame is longer than the reader accepts.
    pub fn push<const N: usize>(&mut self, byte: u8, body: &mut Vec<u8, N>) -> Result<(), NoRoom> {
        if let Some(missing) = self.missing.checked_sub(1) {
            self.missing = missing;
            return Ok(body.extend_from_slice(&[byte])?);
        }
        if self.owes_zero {
            body.extend_from_slice(&[DELIMITER])?;
        }
        self.missing = byte.saturating_sub(1);
        self.owes_zero = byte != FULL_GROUP_CODE;
        Ok(())
    }

    /// The last group is whole, so a delimiter may come here.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.missing == 0
    }
}

/// The bytes do not fit into the buffer that is there for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoRoom;

impl From<CapacityError> for NoRoom {
    fn from(_: CapacityError) -> Self {
        Self
    }
}

impl fmt::Display for NoRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no room in the buffer")
    }
}

impl core::error::Error for NoRoom {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends a test")]

    use super::{Unstuffer, encode};
    use heapless::Vec;

    fn assert_encodes(body: &[u8], encoded: &[u8]) {
        let mut out: Vec<u8, 600> = Vec::new();
        encode(body, &mut out).unwrap();
        assert_eq!(out, encoded, "encoding of {body:02x?}");
        let mut back: Vec<u8, 600> = Vec::new();
        let mut unstuffer = Unstuffer::default();
        for byte in encoded {
            unstuffer.push(*byte, &mut back).unwrap();
        }
        assert!(unstuffer.is_whole());
        assert_eq!(back, body, "decoding of {encoded:02x?}");
    }

    #[test]
    fn short_bodies_hold_both_ways() {
        assert_encodes(&[], &[1]);
        assert_encodes(&[0], &[1, 1]);
        assert_encodes(&[0, 0], &[1, 1, 1]);
        assert_encodes(&[0x11, 0x22, 0, 0x33], &[3, 0x11, 0x22, 2, 0x33]);
        assert_encodes(&[0x11, 0, 0, 0], &[2, 0x11, 1, 1, 1]);
    }

    #[test]
    fn runs_around_a_full_group_hold_both_ways() {
        for zeros_after in 0..3 {
            for length in [253_usize, 254, 255, 508, 509] {
                let mut body: Vec<u8, 600> = Vec::new();
                body.resize(length, 7).unwrap();
                body.resize(length + zeros_after, 0).unwrap();
                let mut encoded: Vec<u8, 600> = Vec::new();
                encode(&body, &mut encoded).unwrap();
                assert!(!encoded.contains(&0));
                assert_encodes(&body, &encoded);
            }
        }
        let mut full: Vec<u8, 255> = Vec::new();
        encode(&[7; 254], &mut full).unwrap();
        assert_eq!(full.len(), 255, "a full group at the end needs no empty one after it");
    }
}
