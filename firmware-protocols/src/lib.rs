//! The wire between microcontrollers and Forebay: one crate for both ends, without allocation and without I/O.
//!
//! A line carries **frames** ([`frame`]): COBS between zero bytes, with a CRC-32C. A frame carries a **message**
//! ([`message`], [`telemetry`]). A device's numbered messages are delivered at least once: [`sender`] repeats them
//! until the gateway has them on disk, [`receiver`] recognises what came before. [`decoder`] finds frames in any
//! stream of bytes.
//!
//! The loop of a microcontroller:
//!
//! ```
//! use firmware_protocols::{Body, Decoder, Message, Sample, Sender, Telemetry, Value};
//!
//! # fn uptime_ms() -> u64 { 1_000 }
//! # fn random_u32() -> u32 { 0x1122_3344 }
//! # fn read_thermometer() -> f32 { 71.5 }
//! # fn uart_write(bytes: &[u8]) { assert!(bytes.len() <= firmware_protocols::frame::MAX_FRAME_BYTES) }
//! # fn uart_read() -> impl Iterator<Item = u8> { core::iter::empty() }
//! # fn main() -> Result<(), Box<dyn core::error::Error>> {
//! // Once, after reset.
//! let mut sender: Sender<8> = Sender::new(random_u32(), "1.4.0".try_into()?, "probe-1".try_into()?);
//! let mut decoder = Decoder::new();
//!
//! // Whenever there is something to say.
//! let mut telemetry = Telemetry { uptime_ms: uptime_ms(), ..Telemetry::default() };
//! let sample = Sample { channel: 0, value: Value::F32(read_thermometer()), age_ms: 0 };
//! let is_full = telemetry.samples.push(sample).is_err();
//! assert!(!is_full);
//! sender.send(&Body::Telemetry(telemetry))?;
//!
//! // In every turn of the loop.
//! for byte in uart_read() {
//!     if let Some(Ok(frame)) = decoder.push(byte)
//!         && let Ok(Message { boot, body: Body::Ack(ack) }) = Message::decode(&frame)
//!     {
//!         sender.acknowledge(boot, ack.sequence);
//!     }
//! }
//! while let Some(bytes) = sender.poll(uptime_ms()) {
//!     uart_write(bytes);
//! }
//! # Ok(())
//! # }
//! ```
#![no_std]
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

pub mod cobs;
pub mod crc;
pub mod decoder;
pub mod frame;
pub mod message;
pub mod receiver;
pub mod sender;
pub mod telemetry;
mod wire;

pub use decoder::{Counters, Decoder};
pub use frame::{Frame, FrameBuffer, FrameError, Kind};
pub use message::{Ack, Body, Hello, Level, Log, Message, MessageError, TimeReply, TimeRequest};
pub use receiver::{Greeting, Receiver, Verdict};
pub use sender::{SendError, Sender};
pub use telemetry::{Channel, Describe, Reason, Sample, Telemetry, Value};
