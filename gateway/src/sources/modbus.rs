//! Modbus TCP and RTU: polls registers of units on one bus.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A Modbus bus to poll.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModbusOptions {
    /// Name of the source, unique in the file.
    pub name: String,
    /// `tcp://host:port`, `rtu:///dev/…?baud=19200&parity=even&data_bits=8&stop_bits=1`, or `rtu-over-tcp://host:port`.
    pub url: String,
    /// How long a reply may take, in milliseconds.
    #[serde(default = "timeout_ms")]
    pub timeout_ms: u64,
    /// Silence between frames on a serial bus, in milliseconds; never less than 3.5 characters.
    #[serde(default)]
    pub quiet_ms: u64,
    /// The units on the bus.
    pub unit: Vec<Unit>,
}

/// A unit on the bus and its registers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Unit {
    /// Unit id, 0 to 247 (255 for many TCP devices).
    pub id: u8,
    /// Device name of its points.
    pub device: String,
    /// Milliseconds between polls.
    #[serde(default = "every_ms")]
    pub every_ms: u64,
    /// The registers to read.
    pub registers: Vec<Register>,
}

/// One value in a unit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Register {
    /// Point name.
    pub point: String,
    /// Which table it is in.
    pub table: Table,
    /// Address counted from 0, as it goes over the wire (40001 in a manual is holding 0).
    pub address: u16,
    /// How its bits are read; ignored for coils and discrete inputs.
    #[serde(default)]
    pub kind: Kind,
    /// Order of the four bytes of a 32-bit value; `abcd` is big endian.
    #[serde(default)]
    pub order: WordOrder,
    /// Factor from the raw number to the unit.
    #[serde(default = "scale")]
    pub scale: f64,
    /// Added after scaling.
    #[serde(default)]
    pub offset: f64,
    /// Unit of the scaled value.
    #[serde(default)]
    pub unit: String,
    /// Raw number by which the device says that it has no value (for example 32768 for 0x8000).
    #[serde(default)]
    pub not_available: Option<i64>,
}

/// The four tables of Modbus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Table {
    /// Coils (function 1).
    Coil,
    /// Discrete inputs (function 2).
    Discrete,
    /// Holding registers (function 3).
    Holding,
    /// Input registers (function 4).
    Input,
}

/// How the bits of a register are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// One switch: any bit set.
    Bool,
    /// Signed, one register.
    I16,
    /// Unsigned, one register.
    #[default]
    U16,
    /// Signed, two registers.
    I32,
    /// Unsigned, two registers.
    U32,
    /// IEEE 754 single precision, two registers.
    F32,
}

/// Order of the bytes of a 32-bit value over two registers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WordOrder {
    /// Big endian: high word first.
    #[default]
    Abcd,
    /// Low word first.
    Cdab,
    /// High word first, bytes swapped.
    Badc,
    /// Little endian: low word first, bytes swapped.
    Dcba,
}

fn timeout_ms() -> u64 {
    500
}

fn every_ms() -> u64 {
    1_000
}

fn scale() -> f64 {
    1.0
}
