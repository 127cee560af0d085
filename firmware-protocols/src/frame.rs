//! The frame: what carries one message over a line that may lose, add and change bytes.
//!
//! On the wire a frame is `00`, the COBS encoding of its body, `00`. The leading delimiter ends whatever noise came
//! before it. The body:
//!
//! | offset | size | field    | meaning                                                                        |
//! |--------|------|----------|--------------------------------------------------------------------------------|
//! | 0      | 1    | version  | 1                                                                              |
//! | 1      | 1    | kind     | which message the payload is, see [`Kind`]; the high bit: gateway to device    |
//! | 2      | 2    | length   | bytes of payload, at most 240; must match what is there                        |
//! | 4      | 4    | sequence | counts the numbered messages of one boot from 1; 0 is a frame without a number |
//! | 8      | n    | payload  | see [`crate::message`]; begins with the boot number                            |
//! | 8 + n  | 4    | checksum | CRC-32C of all bytes before it                                                 |
//!
//! All numbers are little endian. An acknowledgement of sequence 7 to boot 0x11223344, byte by byte:
//!
//! ```text
//! body   01 81 08 00 00 00 00 00 44 33 22 11 07 00 00 00 83 c2 40 84
//!        |  |  |     |           |           |           checksum
//!        |  |  |     |           |           payload: the sequence that is on disk
//!        |  |  |     |           payload: boot
//!        |  |  |     sequence: without a number
//!        |  |  length: 8
//!        |  kind: acknowledgement
//!        version
//!
//! wire   00 04 01 81 08 01 01 01 01 06 44 33 22 11 07 01 01 05 83 c2 40 84 00
//!        -- ==          == == == == ==                == ==                --
//!        -- delimiter, == COBS code: at the front and in place of every zero
//! ```
//!
//! How the protocol grows: payload fields are only ever appended, so a reader ignores the bytes after those it knows,
//! and takes a field that an older sender lacks as absent. Anything else is a new kind or a new version. In every
//! version the first byte is the version and the last four are the CRC-32C, so that damage is told from news.

use crate::cobs::{self, DELIMITER, NoRoom};
use crate::crc::{CRC_BYTES, crc32c};
use core::fmt;
use heapless::Vec;

/// The version that this crate writes and reads.
pub const VERSION: u8 = 1;
/// The fields before the payload.
pub const HEADER_BYTES: usize = 8;
/// Payload of one frame. With header and checksum it stays below 254 bytes, so that COBS always costs exactly one
/// byte.
pub const MAX_PAYLOAD_BYTES: usize = 240;
/// Header, payload and checksum.
pub const MAX_BODY_BYTES: usize = HEADER_BYTES + MAX_PAYLOAD_BYTES + CRC_BYTES;
/// The longest frame on the wire: body, one byte of COBS, two delimiters.
pub const MAX_FRAME_BYTES: usize = MAX_BODY_BYTES + 3;
/// The sequence of frames that are neither counted nor acknowledged nor repeated.
pub const UNNUMBERED: u32 = 0;

/// Room for any frame as it goes on the wire.
pub type FrameBuffer = Vec<u8, MAX_FRAME_BYTES>;

/// The messages of version 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A device introduces itself.
    Hello,
    /// Names and units of channels.
    Describe,
    /// Samples.
    Telemetry,
    /// A line of text for people.
    Log,
    /// A device asks for the time.
    TimeRequest,
    /// The gateway has it on disk.
    Ack,
    /// The gateway tells the time.
    TimeReply,
    /// The gateway asks for the names of the channels.
    DescribeRequest,
}

impl Kind {
    /// The byte on the wire.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Hello => 0x01,
            Self::Describe => 0x02,
            Self::Telemetry => 0x03,
            Self::Log => 0x04,
            Self::TimeRequest => 0x05,
            Self::Ack => 0x81,
            Self::TimeReply => 0x82,
            Self::DescribeRequest => 0x83,
        }
    }

    /// The kind of a byte on the wire, if this version knows it.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0x01 => Some(Self::Hello),
            0x02 => Some(Self::Describe),
            0x03 => Some(Self::Telemetry),
            0x04 => Some(Self::Log),
            0x05 => Some(Self::TimeRequest),
            0x81 => Some(Self::Ack),
            0x82 => Some(Self::TimeReply),
            0x83 => Some(Self::DescribeRequest),
            _ => None,
        }
    }
}

/// One intact frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The byte of the [`Kind`]. It may be one that only newer firmware knows: such a frame is intact and can be
    /// acknowledged.
    pub kind: u8,
    /// Number within the boot, or [`UNNUMBERED`].
    pub sequence: u32,
    /// The message, at most [`MAX_PAYLOAD_BYTES`].
    pub payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Writes the frame as it goes on the wire, delimiters included, and returns its size in bytes. What `out` held
    /// before is gone.
    ///
    /// # Errors
    ///
    /// The payload is longer than [`MAX_PAYLOAD_BYTES`].
    pub fn encode(&self, out: &mut FrameBuffer) -> Result<usize, EncodeError> {
        let too_long = EncodeError { payload_bytes: self.payload.len() };
        if self.payload.len() > MAX_PAYLOAD_BYTES {
            return Err(too_long);
        }
        let length = u16::try_from(self.payload.len()).map_err(|_| too_long)?;
        self.write(length, out).map_err(|NoRoom| too_long)?;
        Ok(out.len())
    }

    fn write(&self, length: u16, out: &mut FrameBuffer) -> Result<(), NoRoom> {
        let mut body: Vec<u8, MAX_BODY_BYTES> = Vec::new();
        body.extend_from_slice(&[VERSION, self.kind])?;
        body.extend_from_slice(&length.to_le_bytes())?;
        body.extend_from_slice(&self.sequence.to_le_bytes())?;
        body.extend_from_slice(self.payload)?;
        let checksum = crc32c(&body);
        body.extend_from_slice(&checksum.to_le_bytes())?;

        out.clear();
        out.extend_from_slice(&[DELIMITER])?;
        cobs::encode(&body, out)?;
        out.extend_from_slice(&[DELIMITER])?;
        Ok(())
    }

    /// Reads a body, without COBS and delimiters.
    ///
    /// # Errors
    ///
    /// See [`FrameError`]. The checksum is looked at first, so every other error is one that the sender made.
    pub fn parse(body: &'a [u8]) -> Result<Self, FrameError> {
        let too_short = FrameError::TooShort { body_bytes: body.len() };
        let (covered, checksum) = body.split_last_chunk::<CRC_BYTES>().ok_or(too_short)?;
        let (header, payload) = covered.split_first_chunk::<HEADER_BYTES>().ok_or(too_short)?;
        if crc32c(covered) != u32::from_le_bytes(*checksum) {
            return Err(FrameError::Checksum);
        }
        let [version, kind, length_low, length_high, sequence @ ..] = *header;
        if version != VERSION {
            return Err(FrameError::UnknownVersion { version });
        }
        let stated = u16::from_le_bytes([length_low, length_high]);
        if usize::from(stated) != payload.len() {
            return Err(FrameError::Length { stated, present_bytes: payload.len() });
        }
        Ok(Self { kind, sequence: u32::from_le_bytes(sequence), payload })
    }

    /// The boot number that every payload begins with. Boot and sequence together name a message even when the rest
    /// of it cannot be decoded, so that it can be set aside and acknowledged instead of being repeated for ever.
    #[must_use]
    pub fn boot(&self) -> Option<u32> {
        self.payload.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
    }
}

/// The payload does not fit into a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncodeError {
    /// How long it is.
    pub payload_bytes: usize,
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "payload of {} bytes is longer than the {MAX_PAYLOAD_BYTES} of a frame", self.payload_bytes)
    }
}

impl core::error::Error for EncodeError {}

/// Why bytes between two delimiters are not a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameError {
    /// More bytes than any frame has: noise, another protocol or another baud rate. Everything up to the next
    /// delimiter is skipped.
    Oversize,
    /// The delimiter came in the middle of a COBS group.
    Truncated,
    /// Too few bytes for header and checksum.
    TooShort {
        /// What there was.
        body_bytes: usize,
    },
    /// The checksum is not that of the bytes.
    Checksum,
    /// Intact, but of a version that this crate does not know: the device's firmware is newer than the gateway.
    UnknownVersion {
        /// What the frame says.
        version: u8,
    },
    /// Intact, but the length field is wrong: the sender's encoder has a fault.
    Length {
        /// What the frame says.
        stated: u16,
        /// What there is.
        present_bytes: usize,
    },
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Oversize => {
                write!(f, "more than {MAX_FRAME_BYTES} bytes without a delimiter; check baud rate and framing")
            }
            Self::Truncated => write!(f, "frame ends in the middle; bytes were lost on the line"),
            Self::TooShort { body_bytes } => {
                write!(f, "{body_bytes} bytes are too few for a frame")
            }
            Self::Checksum => write!(f, "checksum does not match; bytes were changed on the line"),
            Self::UnknownVersion { version } => {
                write!(f, "frame version {version} is unknown, this side reads version {VERSION}; update it")
            }
            Self::Length { stated, present_bytes } => {
                write!(f, "frame states {stated} bytes of payload but has {present_bytes}; check the sender's encoder")
            }
        }
    }
}

impl core::error::Error for FrameError {}
