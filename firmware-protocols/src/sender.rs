//! The device's side of delivery: keeps every numbered message until the gateway has it on disk.
//!
//! The sender does no I/O and has no clock. The firmware's loop asks it what to write ([`Sender::poll`]) and tells it
//! what was acknowledged ([`Sender::acknowledge`]). When an acknowledgement stays out, all that is unacknowledged
//! goes again, oldest first, after a [`Hello`] that says where it begins: a gateway that was restarted, or is a new
//! one, finds its place by that.

use crate::frame::{EncodeError, FrameBuffer, UNNUMBERED};
use crate::message::{Body, Hello, MAX_DEVICE_BYTES, MAX_FIRMWARE_BYTES, encode};
use core::fmt;
use heapless::{Deque, String};

/// Wait for an acknowledgement before everything is sent again. A gateway acknowledges after its next commit, 200 ms
/// by default.
pub const ACK_TIMEOUT_MS: u64 = 1_000;
/// The wait doubles up to this while nothing is acknowledged, so that an absent gateway does not keep a battery busy.
pub const ACK_TIMEOUT_MAX_MS: u64 = 8_000;

/// A sender of one boot with room for `N` unacknowledged messages of 255 bytes each.
///
/// `N` times the messages per second is the outage of the gateway that a device survives without a loss; 8 is a good
/// start.
#[derive(Debug)]
pub struct Sender<const N: usize> {
    boot: u32,
    firmware: String<MAX_FIRMWARE_BYTES>,
    device: String<MAX_DEVICE_BYTES>,
    next_sequence: u32,
    /// Oldest first, sequences without a hole.
    queue: Deque<Queued, N>,
    /// How many of the queue have been sent in this round.
    sent: usize,
    is_hello_due: bool,
    hello: FrameBuffer,
    last_sent_ms: u64,
    timeout_ms: u64,
}

#[derive(Debug)]
struct Queued {
    sequence: u32,
    frame: FrameBuffer,
}

impl<const N: usize> Sender<N> {
    /// A sender that begins with a [`Hello`]. `boot` must differ from boot to boot: take it from a random number
    /// generator, or count boots in flash.
    #[must_use]
    pub fn new(boot: u32, firmware: String<MAX_FIRMWARE_BYTES>, device: String<MAX_DEVICE_BYTES>) -> Self {
        Self {
            boot,
            firmware,
            device,
            next_sequence: 1,
            queue: Deque::new(),
            sent: 0,
            is_hello_due: true,
            hello: FrameBuffer::new(),
            last_sent_ms: 0,
            timeout_ms: ACK_TIMEOUT_MS,
        }
    }

    /// Takes a numbered message and returns its sequence. It goes out with the next [`Sender::poll`].
    ///
    /// # Errors
    ///
    /// See [`SendError`]; the message was not taken and no sequence was used.
    pub fn send(&mut self, body: &Body) -> Result<u32, SendError> {
        if !body.kind().is_numbered() {
            return Err(SendError::NotNumbered);
        }
        if self.queue.is_full() {
            return Err(SendError::Full);
        }
        let sequence = self.next_sequence;
        let next_sequence = sequence.checked_add(1).ok_or(SendError::OutOfSequences)?;
        let mut frame = FrameBuffer::new();
        encode(self.boot, body, sequence, &mut frame).map_err(SendError::Encode)?;
        self.queue.push_back(Queued { sequence, frame }).map_err(|_| SendError::Full)?;
        self.next_sequence = next_sequence;
        Ok(sequence)
    }

    /// The next bytes for the line, or none for now. Call it until it returns none; `now_ms` is the device's
    /// monotonic clock.
    pub fn poll(&mut self, now_ms: u64) -> Option<&[u8]> {
        let is_round_over = self.sent >= self.queue.len();
        let waited_ms = now_ms.saturating_sub(self.last_sent_ms);
        if is_round_over && !self.queue.is_empty() && waited_ms >= self.timeout_ms {
            self.sent = 0;
            self.is_hello_due = true;
            self.timeout_ms = self.timeout_ms.saturating_mul(2).min(ACK_TIMEOUT_MAX_MS);
        }
        if self.is_hello_due {
            self.is_hello_due = false;
            self.last_sent_ms = now_ms;
            return self.encode_hello();
        }
        let next = self.queue.iter().nth(self.sent)?;
        self.sent = self.sent.saturating_add(1);
        self.last_sent_ms = now_ms;
        Some(&next.frame)
    }

    /// Forgets everything up to `sequence` if the acknowledgement is for this boot. One for what was never sent is
    /// ignored.
    pub fn acknowledge(&mut self, boot: u32, sequence: u32) {
        if boot != self.boot || sequence >= self.next_sequence {
            return;
        }
        while self.queue.front().is_some_and(|oldest| oldest.sequence <= sequence) {
            self.forget_oldest();
            self.timeout_ms = ACK_TIMEOUT_MS;
        }
    }

    /// Gives up the oldest message to make room, and returns its sequence. The gateway learns of it by a [`Hello`]
    /// and counts the loss.
    pub fn drop_oldest(&mut self) -> Option<u32> {
        let sequence = self.forget_oldest()?;
        self.is_hello_due = true;
        Some(sequence)
    }

    /// Messages that are not acknowledged.
    #[must_use]
    pub fn unacknowledged(&self) -> usize {
        self.queue.len()
    }

    /// The random number of this boot.
    #[must_use]
    pub fn boot(&self) -> u32 {
        self.boot
    }

    fn forget_oldest(&mut self) -> Option<u32> {
        let oldest = self.queue.pop_front()?;
        self.sent = self.sent.saturating_sub(1);
        Some(oldest.sequence)
    }

    fn encode_hello(&mut self) -> Option<&[u8]> {
        let oldest = self.queue.front().map_or(self.next_sequence, |oldest| oldest.sequence);
        let hello = Hello { oldest, firmware: self.firmware.clone(), device: self.device.clone() };
        encode(self.boot, &Body::Hello(hello), UNNUMBERED, &mut self.hello).ok()?;
        Some(&self.hello)
    }
}

/// Why a [`Sender`] does not take a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendError {
    /// Nothing is acknowledged fast enough: try later, or make room with [`Sender::drop_oldest`].
    Full,
    /// The message is of a kind that is not repeated: encode it with [`crate::message::Message::encode`].
    NotNumbered,
    /// All 2³² sequences are used, after 13 years at 10 a second: restart with a new boot number.
    OutOfSequences,
    /// The message does not fit into a frame.
    Encode(EncodeError),
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => write!(f, "queue of unacknowledged messages is full; try later or drop the oldest"),
            Self::NotNumbered => write!(f, "message of this kind is not repeated; encode it without the sender"),
            Self::OutOfSequences => write!(f, "all sequences of this boot are used; restart with a new boot number"),
            Self::Encode(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for SendError {}
