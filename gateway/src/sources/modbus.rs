//! Modbus TCP and RTU: polls registers of units on one bus.
//!
//! One task owns the bus. A poll is made only while ingest has room for its samples; otherwise it is missed and counted,
//! never queued. Modbus cannot send a value again, so nothing is acknowledged and messages have no hash.

mod bus;
#[cfg(test)]
mod device_tests;
mod plan;
mod unit;
mod url;
mod value;

use crate::backoff::Backoff;
use crate::block::records::Severity;
use crate::reading::{NoData, Sample};
use crate::sources::{Intake, Message, Source, SourceContext};
use crate::status::{HasHealth as _, State};
use bus::{Bus, Failure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::{Instant, sleep, sleep_until};
use unit::Poll;
use url::BusAddress;

/// Most registers on one bus: at 19200 baud a poll of them all takes half a minute.
const REGISTERS_MAX: usize = 10_000;
/// Shortest time between polls of a unit: a request and its reply take about as long on a fast line.
const EVERY_MS_MIN: u64 = 10;
/// Longest time between polls, one day: a longer one is a typing error.
const EVERY_MS_MAX: u64 = 86_400_000;
/// Longest time a reply may take: longer, and one silent unit stops the bus for everyone.
const TIMEOUT_MS_MAX: u64 = 60_000;
/// First wait before the connection is opened again.
const REOPEN_FIRST: Duration = Duration::from_millis(500);
/// Longest wait before the connection is opened again.
const REOPEN_MAX: Duration = Duration::from_secs(5);
/// Failed openings in a row after which a person is told: a device that restarts is back before.
const REOPEN_FAILURES_TOLD: u32 = 3;
/// The trouble's part of the connection as a whole.
const CONNECTION: &str = "connection";

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
        let stop = context.stop.clone();
        // Between polls nothing is under way that could be lost: Modbus has no acknowledgements.
        stop.run_until_cancelled(poll_for_ever(&self.options, &context)).await;
    }
}

async fn poll_for_ever(options: &ModbusOptions, context: &SourceContext) {
    let address = match BusAddress::parse(&options.url) {
        Ok(address) => address,
        Err(error) => return context.fail(State::Paused, &format!("url: {error}")),
    };
    let mut polls = Vec::new();
    for unit in &options.unit {
        match Poll::new(unit, &context.registry, &options.name) {
            Ok(poll) => polls.push(poll),
            Err(error) => context.fail(State::Degraded, &format!("unit {} is not polled: {error}", unit.id)),
        }
    }
    let mut poller = Poller { name: &options.name, context, bus: Bus::new(address, options), polls, was_open: false };
    loop {
        poller.open(&options.url).await;
        let error = poller.poll_until_disconnected().await;
        poller.disconnected(&error).await;
    }
}

struct Poller<'a> {
    name: &'a str,
    context: &'a SourceContext,
    bus: Bus,
    polls: Vec<Poll>,
    was_open: bool,
}

impl Poller<'_> {
    /// Returns once the bus is open.
    async fn open(&mut self, url: &str) {
        let mut backoff = Backoff::new(REOPEN_FIRST, REOPEN_MAX);
        while let Err(failure) = self.bus.connect().await {
            let Failure::NotConnected(error) = failure else { continue };
            if backoff.failures() == 0 && !self.was_open {
                self.disconnected(&error).await;
            } else {
                self.context.fail(State::Down, &error);
            }
            let wait = backoff.next_wait();
            if backoff.failures() >= REOPEN_FAILURES_TOLD {
                let what = format!("The Modbus bus at {url} cannot be reached: {error}");
                self.context.raise(CONNECTION, Severity::Error, what, "Check power, cable and address");
            }
            sleep(wait).await;
        }
        if self.was_open {
            self.context.status.reconnects.add(1);
        }
        self.was_open = true;
        self.context.clear(CONNECTION);
        self.set_state();
        let now = Instant::now();
        self.polls.iter_mut().for_each(|poll| poll.due = now);
    }

    /// Polls each unit when it is due; returns why the bus could not be reached any more.
    async fn poll_until_disconnected(&mut self) -> String {
        loop {
            let due = self.polls.iter().enumerate().min_by_key(|(_, poll)| poll.due);
            let Some((index, due)) = due.map(|(index, poll)| (index, poll.due)) else {
                // Every unit was refused when the source started: there is nothing to do until it stops.
                std::future::pending::<()>().await;
                continue;
            };
            sleep_until(due).await;
            if let Err(error) = self.poll(index).await {
                return error;
            }
        }
    }

    /// One poll of one unit, if there is room for what it gives.
    async fn poll(&mut self, index: usize) -> Result<(), String> {
        let Some(poll) = self.polls.get_mut(index) else { return Ok(()) };
        let Ok(room) = self.context.intakes.try_reserve() else {
            let missed = 1 + poll.schedule(Instant::now());
            poll.miss(missed);
            self.context.status.missed.add(missed);
            return Ok(());
        };
        let mut intake = self.context.intake();
        let outcome = read_all(poll, &mut self.bus, self.context, &mut intake).await;
        let now = Instant::now();
        let late = poll.schedule(now);
        poll.miss(late);
        self.context.status.missed.add(late);
        intake.missed.extend(poll.tell_missed(self.name, now));
        if !intake.is_empty() {
            room.send(intake);
        }
        self.set_state();
        outcome
    }

    /// Says once for every point that there is no connection.
    async fn disconnected(&mut self, error: &str) {
        self.context.fail(State::Down, error);
        let mono_us = self.context.clock.mono_us();
        let absent = |poll: &Poll| -> Vec<Sample> {
            let blocks = poll.blocks.iter();
            blocks.flat_map(|block| poll.absent(block, NoData::NotConnected, mono_us)).collect()
        };
        let mut intake = self.context.intake();
        intake.push(Message::default(), self.polls.iter().flat_map(absent));
        if let Err(TrySendError::Full(intake)) = self.context.intakes.try_send(intake) {
            // Nothing is polled meanwhile, so waiting holds nobody up. A closed channel means that the gateway stops.
            drop(self.context.intakes.send(intake).await);
        }
    }

    fn set_state(&self) {
        let silent = self.polls.iter().any(Poll::is_silent);
        self.context.set_state(if silent { State::Degraded } else { State::Live });
    }
}

/// Reads every block of a unit into the intake; an error means that the bus cannot be reached.
async fn read_all(poll: &mut Poll, bus: &mut Bus, context: &SourceContext, intake: &mut Intake) -> Result<(), String> {
    let mut samples = Vec::new();
    let mut outcome = Ok(());
    let mut position = 0;
    while let Some(block) = poll.blocks.get(position).cloned() {
        let read = bus.read(poll.id, &block).await;
        let mono_us = context.clock.mono_us();
        let failure = match read {
            Ok(cells) => {
                note_answer(poll, context);
                samples.extend(poll.values(&block, &cells, mono_us));
                position += 1;
                continue;
            }
            Err(failure) => failure,
        };
        let (why, error) = match failure {
            Failure::Exception(code) => {
                note_answer(poll, context);
                if !poll.split(position, code) {
                    samples.extend(poll.absent(&block, NoData::Exception(code), mono_us));
                    position += 1;
                }
                continue;
            }
            Failure::Timeout => (NoData::Timeout, "no reply in time".to_owned()),
            Failure::Broken(error) => (NoData::NotConnected, error),
            Failure::NotConnected(error) => {
                // What was read stays; every point is said to be absent by `disconnected`.
                outcome = Err(error);
                break;
            }
        };
        // A unit that does not answer one request would keep the bus waiting for each of the others, too.
        let rest = poll.blocks.iter().skip(position);
        samples.extend(rest.flat_map(|block| poll.absent(block, why, mono_us)));
        note_failure(poll, context, &error);
        break;
    }
    if !samples.is_empty() {
        intake.push(Message::default(), samples);
    }
    outcome
}

fn note_answer(poll: &mut Poll, context: &SourceContext) {
    if poll.answered() {
        context.clear(&format!("unit-{}", poll.id));
    }
}

fn note_failure(poll: &mut Poll, context: &SourceContext, error: &str) {
    let fell_silent = poll.failed();
    // The state follows once the poll is over: another unit may be silent, too.
    context.fail(context.status.health().state, &format!("unit {}: {error}", poll.id));
    if fell_silent {
        let what = format!("Unit {} does not answer", poll.id);
        context.raise(&format!("unit-{}", poll.id), Severity::Warning, what, "Check its wiring and unit id");
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
