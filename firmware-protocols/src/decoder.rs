//! Finds frames in a stream of bytes, whatever else is in it.
//!
//! The decoder keeps at most one body. Every delimiter starts it afresh, so after any noise the next whole frame is
//! found: a sender begins each frame with a delimiter.

use crate::cobs::{DELIMITER, Unstuffer};
use crate::frame::{Frame, FrameError, Kind, MAX_BODY_BYTES};
use heapless::Vec;

/// What a decoder has seen since it was made.
///
/// Every byte that is not a delimiter is in a good frame, in `bytes_discarded`, or in the frame that is still coming
/// in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Intact frames, those of unknown kind included.
    pub frames_good: u64,
    /// Intact frames of a kind that this version does not know.
    pub unknown_kinds: u64,
    /// Intact frames of a version that this crate does not know; not good.
    pub unknown_versions: u64,
    /// Frames with a wrong checksum.
    pub crc_errors: u64,
    /// Stretches without a delimiter that were longer than a frame.
    pub oversize: u64,
    /// Frames too short, cut off or with a wrong length field.
    pub malformed: u64,
    /// Bytes that were not part of a good frame, delimiters not counted.
    pub bytes_discarded: u64,
}

impl Counters {
    fn count(&mut self, outcome: &Result<Frame<'_>, FrameError>) {
        if let Ok(frame) = outcome
            && Kind::from_code(frame.kind).is_none()
        {
            increment(&mut self.unknown_kinds, 1);
        }
        let counter = match outcome {
            Ok(_) => &mut self.frames_good,
            Err(FrameError::Checksum) => &mut self.crc_errors,
            Err(FrameError::Oversize) => &mut self.oversize,
            Err(FrameError::UnknownVersion { .. }) => &mut self.unknown_versions,
            Err(FrameError::Truncated | FrameError::TooShort { .. } | FrameError::Length { .. }) => &mut self.malformed,
        };
        increment(counter, 1);
    }
}

fn increment(counter: &mut u64, by: u64) {
    *counter = counter.saturating_add(by);
}

/// A decoder for one line.
#[derive(Debug, Clone, Default)]
pub struct Decoder {
    unstuffer: Unstuffer,
    body: Vec<u8, MAX_BODY_BYTES>,
    /// Encoded bytes of the frame that is coming in.
    bytes_pending: u64,
    /// The frame is too long: nothing counts until the next delimiter.
    is_skipping: bool,
    counters: Counters,
}

impl Decoder {
    /// A decoder that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What it has seen so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Takes one byte; returns a frame or an error when this byte ends one.
    ///
    /// # Errors
    ///
    /// The inner result says why the bytes since the last delimiter are not a frame. The decoder goes on with the
    /// next byte.
    pub fn push(&mut self, byte: u8) -> Option<Result<Frame<'_>, FrameError>> {
        if byte == DELIMITER {
            return self.end_frame();
        }
        if self.is_skipping {
            increment(&mut self.counters.bytes_discarded, 1);
            return None;
        }
        if self.bytes_pending == 0 {
            // The body stayed until now because the last result borrowed it.
            self.body.clear();
        }
        self.bytes_pending = self.bytes_pending.saturating_add(1);
        if self.unstuffer.push(byte, &mut self.body).is_ok() {
            return None;
        }
        // Said at once and not at the delimiter, which a line at the wrong baud rate may never bring.
        self.discard_pending();
        self.is_skipping = true;
        let outcome = Err(FrameError::Oversize);
        self.counters.count(&outcome);
        Some(outcome)
    }

    /// Takes any number of bytes and hands every frame and error to `on_frame`, in order.
    pub fn feed(&mut self, bytes: &[u8], mut on_frame: impl FnMut(Result<Frame<'_>, FrameError>)) {
        for byte in bytes {
            if let Some(outcome) = self.push(*byte) {
                on_frame(outcome);
            }
        }
    }

    /// Forgets a frame that is half in, as after the line was closed and opened again.
    pub fn reset(&mut self) {
        self.discard_pending();
        self.is_skipping = false;
    }

    fn end_frame(&mut self) -> Option<Result<Frame<'_>, FrameError>> {
        let is_whole = self.unstuffer.is_whole();
        self.unstuffer = Unstuffer::default();
        self.is_skipping = false;
        if self.bytes_pending == 0 {
            return None;
        }
        let outcome = if is_whole { Frame::parse(&self.body) } else { Err(FrameError::Truncated) };
        self.counters.count(&outcome);
        if outcome.is_err() {
            increment(&mut self.counters.bytes_discarded, self.bytes_pending);
        }
        self.bytes_pending = 0;
        Some(outcome)
    }

    fn discard_pending(&mut self) {
        increment(&mut self.counters.bytes_discarded, self.bytes_pending);
        self.bytes_pending = 0;
        self.unstuffer = Unstuffer::default();
    }
}
