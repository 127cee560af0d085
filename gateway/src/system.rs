//! The board itself: processor, memory, disk, temperature, addresses and what it is, as the kernel says it in /proc and /sys.
//!
//! Whatever the kernel does not say here stays unknown; nothing fails. The parsers take any text. A library for this would
//! bring processes, users and five other systems along for a dozen small files.

mod facts;
mod network;
mod parse;

pub use facts::{Board, Disk, Memory, Processor, System, Temperature, Throttling, TimeState};
pub use network::Address;
