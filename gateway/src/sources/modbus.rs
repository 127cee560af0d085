//! Modbus TCP and RTU: polls registers of units on one bus.
//!
//! One task owns the bus. A poll is made only while ingest has room for its samples; otherwise it is missed and counted,
//! never queued. Modbus cannot send a value again, so nothing is acknowledged and messages have no hash.

mod bus;
#[cfg(test)]
mod device_tests;
mod plan;
mod poller;
pub(super) mod question;
pub(super) mod tryout;
mod unit;
mod url;
mod value;

use crate::sources::{Source, SourceContext};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::BusAddress;

/// Most registers on one bus: at 19200 baud a poll of them all takes half a minute.
const REGISTERS_MAX: usize = 10_000;
/// Shortest time between polls of a unit: a request and its reply take about as long on a fast line.
const EVERY_MS_MIN: u64 = 10;
/// Longest time between polls, one day: a longer one is a typing error.
const EVERY_MS_MAX: u64 = 86_400_000;
/// Longest time a reply may take: longer, and one silent unit stops the bus for everyone.
const TIMEOUT_MS_MAX: u64 = 60_000;

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

impl ModbusOptions {
    /// What is wrong with the options: path within them, and message.
    #[must_use]
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        let mut add = |path: String, message: String| problems.push((path, message));
        let address = BusAddress::parse(&self.url).map_err(|message| add("url".into(), message)).ok();
        if self.timeout_ms == 0 || self.timeout_ms > TIMEOUT_MS_MAX {
            add("timeout_ms".into(), format!("{} must be 1 to {TIMEOUT_MS_MAX}", self.timeout_ms));
        }
        if self.quiet_ms > TIMEOUT_MS_MAX {
            add("quiet_ms".into(), format!("{} must be at most {TIMEOUT_MS_MAX}", self.quiet_ms));
        }
        if self.unit.is_empty() {
            add("unit".into(), "there is no unit to poll; add [[source.unit]]".into());
        }
        if self.unit.iter().map(|unit| unit.registers.len()).sum::<usize>() > REGISTERS_MAX {
            add("unit".into(), format!("there are more than {REGISTERS_MAX} registers on one bus"));
        }
        for (index, unit) in self.unit.iter().enumerate() {
            let path = format!("unit[{index}]");
            if address.as_ref().is_some_and(|address| !address.is_tcp()) && !(1..=247).contains(&unit.id) {
                add(format!("{path}.id"), format!("{} must be 1 to 247 on a serial bus", unit.id));
            }
            if self.unit.iter().take(index).any(|other| other.id == unit.id && other.every_ms == unit.every_ms) {
                add(format!("{path}.id"), format!("unit {} is there twice; put its registers together", unit.id));
            }
            if unit.device.is_empty() {
                add(format!("{path}.device"), "the device name is empty".into());
            }
            if !(EVERY_MS_MIN..=EVERY_MS_MAX).contains(&unit.every_ms) {
                add(format!("{path}.every_ms"), format!("{} must be {EVERY_MS_MIN} to {EVERY_MS_MAX}", unit.every_ms));
            }
            if unit.registers.is_empty() {
                add(format!("{path}.registers"), "there is no register to read".into());
            }
            for (position, register) in unit.registers.iter().enumerate() {
                let taken = |other: &Register| (&other.point, &other.unit) == (&register.point, &register.unit);
                if unit.registers.iter().take(position).any(taken) {
                    let path = format!("{path}.registers[{position}].point");
                    add(path, format!("point {:?} is there twice in this unit", register.point));
                }
                for (key, message) in register.problems() {
                    add(format!("{path}.registers[{position}].{key}"), message);
                }
            }
        }
        problems
    }
}

impl Register {
    fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        if self.point.is_empty() {
            problems.push(("point", "the point name is empty".to_owned()));
        }
        if self.address.checked_add(self.width() - 1).is_none() {
            let message = format!("a value of two registers at {} would end beyond 65535", self.address);
            problems.push(("address", message));
        }
        if !self.scale.is_finite() || self.scale == 0.0 {
            problems.push(("scale", format!("{} must be a finite number other than 0", self.scale)));
        }
        if !self.offset.is_finite() {
            problems.push(("offset", format!("{} must be a finite number", self.offset)));
        }
        problems
    }
}

/// A Modbus bus as a source.
pub struct ModbusSource {
    options: ModbusOptions,
}

impl ModbusSource {
    /// A source with these options, whose [`ModbusOptions::problems`] are none.
    #[must_use]
    pub fn new(options: ModbusOptions) -> Self {
        Self { options }
    }
}

impl Source for ModbusSource {
    async fn run(self, context: SourceContext) {
        poller::poll_until_stopped(&self.options, &context).await;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    pub(super) fn register(table: Table, address: u16, kind: Kind) -> Register {
        Register {
            point: format!("{table:?}-{address}"),
            table,
            address,
            kind,
            order: WordOrder::Abcd,
            scale: 1.0,
            offset: 0.0,
            unit: String::new(),
            not_available: None,
        }
    }

    pub(super) fn unit(id: u8, every_ms: u64, registers: Vec<Register>) -> Unit {
        Unit { id, device: format!("unit-{id}"), every_ms, registers }
    }

    #[test]
    fn every_problem_is_told_with_its_path() {
        let wrong = Register { scale: 0.0, ..register(Table::Holding, 65_535, Kind::F32) };
        let options = ModbusOptions {
            name: "bus".into(),
            url: "rtu:///dev/ttyUSB0?baud=0".into(),
            timeout_ms: 0,
            quiet_ms: 0,
            unit: vec![unit(1, 1_000, vec![wrong]), unit(1, 1_000, vec![])],
        };
        let paths: Vec<_> = options.problems().into_iter().map(|(path, _)| path).collect();
        assert_eq!(
            paths,
            [
                "url",
                "timeout_ms",
                "unit[0].registers[0].address",
                "unit[0].registers[0].scale",
                "unit[1].id",
                "unit[1].registers"
            ]
        );
    }

    #[test]
    fn a_serial_bus_has_units_1_to_247_only() {
        let with = |url: &str, id| ModbusOptions {
            name: "bus".into(),
            url: url.into(),
            timeout_ms: 500,
            quiet_ms: 0,
            unit: vec![unit(id, 1_000, vec![register(Table::Input, 0, Kind::U16)])],
        };
        assert_eq!(with("tcp://10.0.0.5", 255).problems(), []);
        assert_eq!(with("rtu:///dev/ttyUSB0", 247).problems(), []);
        assert_eq!(with("rtu:///dev/ttyUSB0", 255).problems()[0].0, "unit[0].id");
    }
}
