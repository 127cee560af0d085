//! The messages between devices and the gateway, and their bytes.
//!
//! Every payload begins with the boot number (u32), a random number that the device makes when it starts: the
//! sender's own, or in what the gateway sends the one of the device it is for. Boot and sequence name a message. Then
//! come, little endian:
//!
//! | message                 | number | fields                                                                         |
//! |-------------------------|--------|--------------------------------------------------------------------------------|
//! | [`Hello`] 0x01          | no     | `oldest` u32, firmware text (at most 16 bytes), device text (at most 32 bytes) |
//! | [`Describe`] 0x02       | yes    | see [`crate::telemetry`]                                                       |
//! | [`Telemetry`] 0x03      | yes    | see [`crate::telemetry`]                                                       |
//! | [`Log`] 0x04            | yes    | `uptime_ms` u64, level u8 (1 error … 5 trace), text (at most 120 bytes)        |
//! | [`TimeRequest`] 0x05    | no     | `uptime_ms` u64                                                                |
//! | [`Ack`] 0x81            | no     | `sequence` u32                                                                 |
//! | [`TimeReply`] 0x82      | no     | `uptime_ms` u64, `unix_us` i64                                                 |
//! | `DescribeRequest` 0x83  | no     | none                                                                           |
//!
//! A text is its size in bytes (u8) and that many bytes of UTF-8. Numbered messages are repeated until they are
//! acknowledged (see [`crate::sender`]); the others would be wrong when repeated late, and go with sequence 0.

use crate::cobs::NoRoom;
use crate::frame::{EncodeError, Frame, FrameBuffer, Kind};
use crate::telemetry::{Describe, Telemetry};
use crate::wire::{Payload, Reader, put, put_text};
use core::fmt;
use heapless::String;

/// Version text of a firmware.
pub const MAX_FIRMWARE_BYTES: usize = 16;
/// Name of a device.
pub const MAX_DEVICE_BYTES: usize = 32;
/// Text of a [`Log`].
pub const MAX_LOG_BYTES: usize = 120;

/// One message of one boot.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// The random number that the device made when it started.
    pub boot: u32,
    /// What it says.
    pub body: Body,
}

/// What a message says.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "boxing would need an allocator")]
pub enum Body {
    /// A device introduces itself.
    Hello(Hello),
    /// Names and units of channels.
    Describe(Describe),
    /// Samples.
    Telemetry(Telemetry),
    /// A line of text for people.
    Log(Log),
    /// A device asks for the time.
    TimeRequest(TimeRequest),
    /// The gateway has it on disk.
    Ack(Ack),
    /// The gateway tells the time.
    TimeReply(TimeReply),
    /// The gateway does not know a channel of this boot: send all [`Describe`] again.
    DescribeRequest,
}

/// A device introduces itself: when it starts and before it repeats anything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hello {
    /// The oldest sequence that is not acknowledged, or the next one if all are. What is older will not be sent any
    /// more, so a gateway that does not know this boot begins here.
    pub oldest: u32,
    /// Version of its firmware.
    pub firmware: String<MAX_FIRMWARE_BYTES>,
    /// Its name.
    pub device: String<MAX_DEVICE_BYTES>,
}

/// A line of text for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// The device's clock, in milliseconds since its boot.
    pub uptime_ms: u64,
    /// How much it matters.
    pub level: Level,
    /// The text.
    pub text: String<MAX_LOG_BYTES>,
}

/// How much a [`Log`] matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something does not work.
    Error,
    /// Something may soon not work.
    Warn,
    /// News.
    Info,
    /// For who looks for a fault.
    Debug,
    /// Every step.
    Trace,
}

/// A device asks for the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeRequest {
    /// The device's clock when it asks, in milliseconds since its boot.
    pub uptime_ms: u64,
}

/// Everything of this boot up to `sequence` is on disk: the device may forget it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    /// The highest sequence up to which nothing is missing.
    pub sequence: u32,
}

/// The answer to a [`TimeRequest`]. A device that receives it at `now_ms` takes `unix_us` for the time at the middle
/// between `uptime_ms` and `now_ms` (RFC 5905, section 8, with both of the gateway's times in one).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeReply {
    /// `uptime_ms` of the request.
    pub uptime_ms: u64,
    /// The gateway's time: microseconds since 1970-01-01 UTC.
    pub unix_us: i64,
}

impl Message {
    /// Writes the message as a frame and returns its size in bytes.
    ///
    /// # Errors
    ///
    /// None in practice: the limits of the fields keep every message below the limit of a frame.
    pub fn encode(&self, sequence: u32, out: &mut FrameBuffer) -> Result<usize, EncodeError> {
        encode(self.boot, &self.body, sequence, out)
    }

    /// Reads the message of an intact frame. Bytes after the last known field are ignored: newer firmware may have
    /// appended some.
    ///
    /// # Errors
    ///
    /// See [`MessageError`]. The frame is intact, so the sender meant what it sent: set it aside, and acknowledge it
    /// with [`Frame::boot`] and its sequence, or it comes again for ever.
    pub fn decode(frame: &Frame<'_>) -> Result<Self, MessageError> {
        let kind = Kind::from_code(frame.kind).ok_or(MessageError::UnknownKind { kind: frame.kind })?;
        let mut from = Reader::new(frame.payload);
        let boot = from.u32("boot")?;
        let body = match kind {
            Kind::Hello => Body::Hello(Hello {
                oldest: from.u32("oldest")?,
                firmware: from.text("firmware")?,
                device: from.text("device")?,
            }),
            Kind::Describe => Body::Describe(Describe::read(&mut from)?),
            Kind::Telemetry => Body::Telemetry(Telemetry::read(&mut from)?),
            Kind::Log => Body::Log(Log {
                uptime_ms: from.u64("uptime_ms")?,
                level: Level::from_code(from.u8("level")?)?,
                text: from.text("text")?,
            }),
            Kind::TimeRequest => Body::TimeRequest(TimeRequest { uptime_ms: from.u64("uptime_ms")? }),
            Kind::Ack => Body::Ack(Ack { sequence: from.u32("sequence")? }),
            Kind::DescribeRequest => Body::DescribeRequest,
            Kind::TimeReply => {
                Body::TimeReply(TimeReply { uptime_ms: from.u64("uptime_ms")?, unix_us: from.i64("unix_us")? })
            }
        };
        Ok(Self { boot, body })
    }
}

/// Writes `body` of `boot` as a frame, without a [`Message`] around it.
pub(crate) fn encode(boot: u32, body: &Body, sequence: u32, out: &mut FrameBuffer) -> Result<usize, EncodeError> {
    let mut payload = Payload::new();
    let written = put(&boot.to_le_bytes(), &mut payload).and_then(|()| body.write(&mut payload));
    written.map_err(|NoRoom| EncodeError { payload_bytes: payload.len() })?;
    Frame { kind: body.kind().code(), sequence, payload: &payload }.encode(out)
}

impl Body {
    /// The kind of frame it travels in.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Hello(_) => Kind::Hello,
            Self::Describe(_) => Kind::Describe,
            Self::Telemetry(_) => Kind::Telemetry,
            Self::Log(_) => Kind::Log,
            Self::TimeRequest(_) => Kind::TimeRequest,
            Self::Ack(_) => Kind::Ack,
            Self::TimeReply(_) => Kind::TimeReply,
            Self::DescribeRequest => Kind::DescribeRequest,
        }
    }

    fn write(&self, out: &mut Payload) -> Result<(), NoRoom> {
        match self {
            Self::Hello(hello) => {
                put(&hello.oldest.to_le_bytes(), out)?;
                put_text(&hello.firmware, out)?;
                put_text(&hello.device, out)
            }
            Self::Describe(describe) => describe.write(out),
            Self::Telemetry(telemetry) => telemetry.write(out),
            Self::Log(log) => {
                put(&log.uptime_ms.to_le_bytes(), out)?;
                put(&[log.level.code()], out)?;
                put_text(&log.text, out)
            }
            Self::TimeRequest(request) => put(&request.uptime_ms.to_le_bytes(), out),
            Self::Ack(ack) => put(&ack.sequence.to_le_bytes(), out),
            Self::DescribeRequest => Ok(()),
            Self::TimeReply(reply) => {
                put(&reply.uptime_ms.to_le_bytes(), out)?;
                put(&reply.unix_us.to_le_bytes(), out)
            }
        }
    }
}

impl Kind {
    /// Messages of this kind carry a sequence and are repeated until they are acknowledged.
    #[must_use]
    pub const fn is_numbered(self) -> bool {
        matches!(self, Self::Describe | Self::Telemetry | Self::Log)
    }
}

impl Level {
    fn code(self) -> u8 {
        match self {
            Self::Error => 1,
            Self::Warn => 2,
            Self::Info => 3,
            Self::Debug => 4,
            Self::Trace => 5,
        }
    }

    fn from_code(code: u8) -> Result<Self, MessageError> {
        match code {
            1 => Ok(Self::Error),
            2 => Ok(Self::Warn),
            3 => Ok(Self::Info),
            4 => Ok(Self::Debug),
            5 => Ok(Self::Trace),
            _ => Err(MessageError::OutOfRange { field: "level" }),
        }
    }
}

/// Why an intact frame is not a message that this version knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageError {
    /// Newer firmware sends kinds that this side does not know.
    UnknownKind {
        /// What the frame says.
        kind: u8,
    },
    /// The payload ends before this field.
    Missing {
        /// Its name.
        field: &'static str,
    },
    /// A list or text is longer than it may be.
    TooMany {
        /// Its name.
        field: &'static str,
        /// Its items or bytes.
        count: u8,
        /// What it may have.
        max: usize,
    },
    /// A text is not UTF-8.
    NotUtf8 {
        /// Its name.
        field: &'static str,
    },
    /// A code has no meaning.
    OutOfRange {
        /// The field's name.
        field: &'static str,
    },
}

impl fmt::Display for MessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownKind { kind } => {
                write!(f, "message kind {kind:#04x} is unknown; the firmware is newer than this side, update it")
            }
            Self::Missing { field } => write!(f, "payload ends before field \"{field}\"; check the sender's encoder"),
            Self::TooMany { field, count, max } => {
                write!(f, "field \"{field}\" has {count} items or bytes, at most {max} are allowed")
            }
            Self::NotUtf8 { field } => write!(f, "field \"{field}\" is not UTF-8; check the sender's encoder"),
            Self::OutOfRange { field } => {
                write!(f, "field \"{field}\" has a code without a meaning; check the sender's encoder")
            }
        }
    }
}

impl core::error::Error for MessageError {}
