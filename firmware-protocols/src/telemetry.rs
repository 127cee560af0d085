//! What a device measures: samples by channel number, and the names of the channels.
//!
//! Samples name their channel by a number, because a name in every sample would be most of the line's traffic. A
//! device says which name and unit a number has ([`Describe`]) after it starts and when the gateway asks.
//!
//! [`Describe`] after the boot number:
//!
//! | size | field                                                            |
//! |------|------------------------------------------------------------------|
//! | 1    | number of channels, at most 6; then for each:                    |
//! | 1    | channel                                                          |
//! | 1+n  | name: size in bytes, at most 24, then UTF-8                      |
//! | 1+n  | unit: size in bytes, at most 12, then UTF-8; empty if it has none |
//!
//! [`Telemetry`] after the boot number:
//!
//! | size | field                                                                                           |
//! |------|-------------------------------------------------------------------------------------------------|
//! | 8    | `uptime_ms` u64                                                                                 |
//! | 1    | number of samples, at most 16; then for each 8 bytes:                                           |
//! | 1    | channel                                                                                         |
//! | 1    | kind of value: 0 not available, 1 f32, 2 i32, 3 bool                                            |
//! | 2    | `age_ms` u16                                                                                    |
//! | 4    | f32 (IEEE 754), i32, bool as u32 of 0 or 1, or the reason for not available as u32 of at most 255 |

use crate::cobs::NoRoom;
use crate::message::MessageError;
use crate::wire::{Payload, Reader, put, put_count, put_text};
use heapless::{String, Vec};

/// Samples of one [`Telemetry`]: 141 bytes of payload, 14 ms at 115 200 baud.
pub const MAX_SAMPLES: usize = 16;
/// Channels of one [`Describe`]: as many as fit when every name and unit is as long as it may be. More channels, more
/// messages.
pub const MAX_CHANNELS: usize = 6;
/// Name of a channel, which becomes the name of a point.
pub const MAX_NAME_BYTES: usize = 24;
/// Unit of a channel.
pub const MAX_UNIT_BYTES: usize = 12;

/// Samples that were taken together or one after the other.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Telemetry {
    /// The device's monotonic clock when the message was made, in milliseconds since its boot.
    pub uptime_ms: u64,
    /// The samples.
    pub samples: Vec<Sample, MAX_SAMPLES>,
}

/// One sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Which channel of the device.
    pub channel: u8,
    /// What was measured.
    pub value: Value,
    /// How long before the message's `uptime_ms` it was measured, in milliseconds.
    pub age_ms: u16,
}

/// A measured value, or why there is none.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    /// A number. Send [`Value::NotAvailable`] rather than a NaN.
    F32(f32),
    /// A whole number.
    I32(i32),
    /// On or off.
    Bool(bool),
    /// There is none.
    NotAvailable(Reason),
}

/// Why there is no value. Numbers without a name here are kept as they are, so a device may have its own from 128 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reason(pub u8);

impl Reason {
    /// The device does not say.
    pub const UNSPECIFIED: Self = Self(0);
    /// No sensor is connected.
    pub const NOT_CONNECTED: Self = Self(1);
    /// The sensor did not answer in time.
    pub const TIMEOUT: Self = Self(2);
    /// The sensor says that it is faulty.
    pub const SENSOR_FAULT: Self = Self(3);
    /// The sensor answered, but its checksum was wrong.
    pub const CHECKSUM: Self = Self(4);
    /// The sensor is warming up or switched off.
    pub const NOT_READY: Self = Self(5);
}

/// Names and units of channels. It adds to what was said before in the same boot.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Describe {
    /// The channels.
    pub channels: Vec<Channel, MAX_CHANNELS>,
}

/// What a channel measures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel {
    /// Its number in the samples.
    pub channel: u8,
    /// Its name.
    pub name: String<MAX_NAME_BYTES>,
    /// Its unit, empty if it has none.
    pub unit: String<MAX_UNIT_BYTES>,
}

impl Telemetry {
    pub(crate) fn write(&self, out: &mut Payload) -> Result<(), NoRoom> {
        put(&self.uptime_ms.to_le_bytes(), out)?;
        put_count(self.samples.len(), out)?;
        for sample in &self.samples {
            let (kind, value) = sample.value.to_wire();
            put(&[sample.channel, kind], out)?;
            put(&sample.age_ms.to_le_bytes(), out)?;
            put(&value, out)?;
        }
        Ok(())
    }

    pub(crate) fn read(from: &mut Reader<'_>) -> Result<Self, MessageError> {
        let uptime_ms = from.u64("uptime_ms")?;
        let mut samples = Vec::new();
        for _ in 0..from.count("samples", MAX_SAMPLES)? {
            let [channel, kind, age_low, age_high, value @ ..] = from.bytes::<8>("sample")?;
            let value = Value::from_wire(kind, value)?;
            let sample = Sample { channel, value, age_ms: u16::from_le_bytes([age_low, age_high]) };
            samples.push(sample).map_err(|_| MessageError::Missing { field: "sample" })?;
        }
        Ok(Self { uptime_ms, samples })
    }
}

impl Value {
    fn to_wire(self) -> (u8, [u8; 4]) {
        match self {
            Self::NotAvailable(Reason(reason)) => (0, u32::from(reason).to_le_bytes()),
            Self::F32(value) => (1, value.to_le_bytes()),
            Self::I32(value) => (2, value.to_le_bytes()),
            Self::Bool(value) => (3, u32::from(value).to_le_bytes()),
        }
    }

    fn from_wire(kind: u8, value: [u8; 4]) -> Result<Self, MessageError> {
        match (kind, value) {
            (0, [reason, 0, 0, 0]) => Ok(Self::NotAvailable(Reason(reason))),
            (1, value) => Ok(Self::F32(f32::from_le_bytes(value))),
            (2, value) => Ok(Self::I32(i32::from_le_bytes(value))),
            (3, [0, 0, 0, 0]) => Ok(Self::Bool(false)),
            (3, [1, 0, 0, 0]) => Ok(Self::Bool(true)),
            (0, _) => Err(MessageError::OutOfRange { field: "reason" }),
            (3, _) => Err(MessageError::OutOfRange { field: "bool" }),
            _ => Err(MessageError::OutOfRange { field: "kind of value" }),
        }
    }
}

impl Describe {
    pub(crate) fn write(&self, out: &mut Payload) -> Result<(), NoRoom> {
        put_count(self.channels.len(), out)?;
        for channel in &self.channels {
            put(&[channel.channel], out)?;
            put_text(&channel.name, out)?;
            put_text(&channel.unit, out)?;
        }
        Ok(())
    }

    pub(crate) fn read(from: &mut Reader<'_>) -> Result<Self, MessageError> {
        let mut channels = Vec::new();
        for _ in 0..from.count("channels", MAX_CHANNELS)? {
            let channel = Channel { channel: from.u8("channel")?, name: from.text("name")?, unit: from.text("unit")? };
            channels.push(channel).map_err(|_| MessageError::Missing { field: "channel" })?;
        }
        Ok(Self { channels })
    }
}
