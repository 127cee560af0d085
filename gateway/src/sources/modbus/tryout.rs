//! Tries a Modbus source: connection, then each unit with its first requests, every register with its raw words.

use super::bus::{Bus, Failure};
use super::plan::Block;
use super::question::told;
use super::unit::Poll;
use super::url::BusAddress;
use super::{ModbusOptions, Register, Unit};
use crate::reading::NoData;
use crate::site::Registry;
use crate::sources::SourceOptions;
use crate::sources::tryout::tried;
use crate::tryout::{Steps, TriedValue, reach};

/// Most units that are asked: one after the other, a silent one costs its timeout.
const UNITS_MAX: usize = 8;
/// Most registers of a unit that are shown.
const REGISTERS_MAX: usize = 32;
/// Most requests to a unit: a merged request that is refused becomes one for each register.
const REQUESTS_MAX: usize = 40;

/// Takes the steps; units that fail do not keep the others from being asked.
pub(in crate::sources) async fn take_steps(options: &ModbusOptions, running: &[SourceOptions], steps: &mut Steps) {
    let address = match BusAddress::parse(&options.url) {
        Ok(address) => address,
        Err(problem) => {
            steps.begin("read the address of the bus");
            return steps.failed(problem, "change url, then try again");
        }
    };
    let shown = match &address {
        BusAddress::Rtu(line) => format!("open {}", line.port),
        BusAddress::Tcp(host) | BusAddress::RtuOverTcp(host) => {
            if reach::resolve(steps, &host.host, host.port).await.is_none() {
                return;
            }
            format!("connect to {host}")
        }
    };
    steps.begin(shown);
    let mut bus = Bus::new(address, options);
    if let Err(failure) = bus.connect().await {
        let (what, mut advice) = told(&failure, 0, options.timeout_ms);
        if running.iter().any(|source| source.address() == options.url) {
            "the running gateway is connected to it, and many devices take one connection only: save and look at the live values"
                .clone_into(&mut advice);
        }
        return steps.failed(what, advice);
    }
    steps.ok("");
    let registry = Registry::default();
    for unit in options.unit.iter().take(UNITS_MAX) {
        try_unit(unit, options, &mut bus, &registry, steps).await;
    }
    if options.unit.len() > UNITS_MAX {
        steps.begin("the other units");
        steps.ok(format!("{} more were not asked", options.unit.len() - UNITS_MAX));
    }
}

/// Asks a unit for its registers; what came of each is a value.
async fn try_unit(unit: &Unit, options: &ModbusOptions, bus: &mut Bus, registry: &Registry, steps: &mut Steps) {
    steps.begin(format!("read unit {} ({})", unit.id, unit.device));
    let mut poll = match Poll::new(unit, registry, &options.name) {
        Ok(poll) => poll,
        Err(error) => return steps.failed(error.to_string(), "change the name, then try again"),
    };
    let (mut shown, mut position, mut requests) = (0, 0, 0);
    let (mut read, mut refused): (Vec<String>, Vec<(String, String)>) = (Vec::new(), Vec::new());
    while shown < REGISTERS_MAX && requests < REQUESTS_MAX {
        let Some(block) = poll.blocks.get(position).cloned() else { break };
        requests += 1;
        match bus.read(unit.id, &block).await {
            Ok(cells) => {
                for value in values(&poll, &block, unit, &cells, registry).into_iter().take(REGISTERS_MAX - shown) {
                    shown += 1;
                    read.push(value.words());
                    steps.value(value);
                }
            }
            Err(Failure::Exception(code)) if poll.split(position, code) => continue,
            Err(failure) => {
                let (what, advice) = told(&failure, unit.id, options.timeout_ms);
                let is_over = !matches!(failure, Failure::Exception(_));
                for value in absent(&block, unit, &failure, &what).into_iter().take(REGISTERS_MAX - shown) {
                    shown += 1;
                    steps.value(value);
                }
                let asked = format!("{what}, asked for {}", span(&block));
                refused.push((asked, advice));
                // A unit that does not answer one request would not answer the others either.
                if is_over {
                    break;
                }
            }
        }
        position += 1;
    }
    match refused.into_iter().next() {
        Some((what, advice)) if read.is_empty() => steps.failed(what, advice),
        Some((what, advice)) => steps.failed(format!("{what}; {} other registers were read", read.len()), advice),
        None => {
            let left = unit.registers.len().saturating_sub(shown);
            let more = if left > 0 { format!(", and {left} more registers that were not read") } else { String::new() };
            let few: Vec<String> = read.into_iter().take(4).collect();
            steps.ok(format!("{}{more}", few.join(", ")));
        }
    }
}

/// The values of a block, each with its raw words.
fn values(poll: &Poll, block: &Block, unit: &Unit, cells: &[u16], registry: &Registry) -> Vec<TriedValue> {
    // The try's clock does not matter: nothing is stored.
    let samples = poll.values(block, cells, 0);
    let registers = block.registers.iter().filter_map(|position| unit.registers.get(*position));
    let pairs = samples.iter().zip(registers);
    pairs
        .map(|(sample, register)| {
            let first = usize::from(register.address.saturating_sub(block.address));
            let words = cells.get(first..).unwrap_or_default().iter().take(usize::from(register.width()));
            let raw: Vec<String> = words.map(|word| raw(register, *word)).collect();
            tried(sample, registry, &origin(unit, register), &raw.join(" "))
        })
        .collect()
}

fn raw(register: &Register, word: u16) -> String {
    if register.table.is_bits() { word.to_string() } else { format!("{word:04x}") }
}

/// The registers of a block that was not read.
fn absent(block: &Block, unit: &Unit, failure: &Failure, what: &str) -> Vec<TriedValue> {
    let why = match failure {
        Failure::Exception(code) => NoData::Exception(*code),
        Failure::Timeout => NoData::Timeout,
        Failure::Broken(_) | Failure::NotConnected(_) => NoData::NotConnected,
    };
    let registers = block.registers.iter().filter_map(|position| unit.registers.get(*position));
    registers
        .map(|register| TriedValue {
            device: unit.device.clone(),
            point: register.point.clone(),
            unit: register.unit.clone(),
            error: Some(what.to_owned()),
            ..TriedValue::of(&Err(why), origin(unit, register), "")
        })
        .collect()
}

fn origin(unit: &Unit, register: &Register) -> String {
    format!("unit {}, {} {}", unit.id, register.table.name(), register.address)
}

fn span(block: &Block) -> String {
    match block.count {
        1 => format!("{} {}", block.table.name(), block.address),
        count => {
            let last = u32::from(block.address) + u32::from(count) - 1;
            format!("{} {} to {last}", block.table.name(), block.address)
        }
    }
}
