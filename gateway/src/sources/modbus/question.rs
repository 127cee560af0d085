//! One question to a Modbus device, and its answer read in every way that makes sense.

use super::bus::{Bus, Failure};
use super::plan::{BITS_MAX, Block, WORDS_MAX};
use super::url::BusAddress;
use super::{Kind, Register, TIMEOUT_MS_MAX, Table, WordOrder, value};
use crate::sources::SourceOptions;
use crate::sources::discover::DiscoverError;
use crate::sources::tryout::owner;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// Longest wait for all of it: a person waits, and a reply takes at most seconds.
const ASK_LIMIT: Duration = Duration::from_secs(15);
/// Values beyond these are hardly measurements: a wrong reading of bits gives 1e-30 or 1e30 far more often than a device does.
const PLAUSIBLE: std::ops::RangeInclusive<f64> = 1e-4..=1e9;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModbusQuestion {
    /// The bus, as in a source: `tcp://host:port`, `rtu:///dev/…?baud=19200&parity=even`, `rtu-over-tcp://host:port`.
    #[schemars(length(min = 1))]
    pub url: String,
    /// Unit id.
    pub unit: u8,
    /// Which table.
    pub table: Table,
    /// First address, counted from 0 as it goes over the wire (40001 in a manual is holding 0).
    pub address: u16,
    /// How many registers (at most 125) or bits (at most 2000).
    #[schemars(range(min = 1, max = 2_000))]
    pub count: u16,
    /// How long the reply may take, in milliseconds.
    #[serde(default = "timeout_ms")]
    #[schemars(range(min = 1, max = "TIMEOUT_MS_MAX"))]
    pub timeout_ms: u64,
    /// Silence between frames on a serial bus, in milliseconds; never less than 3.5 characters.
    #[serde(default)]
    #[schemars(range(max = "TIMEOUT_MS_MAX"))]
    pub quiet_ms: u64,
}

fn timeout_ms() -> u64 {
    1_000
}

/// What a device answered.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct ModbusAnswer {
    /// How long connecting and asking took, in milliseconds.
    pub took_ms: u64,
    /// The registers in order, or bits as 0 and 1.
    pub words: Vec<u16>,
    /// The registers as four hexadecimal digits; empty for bits.
    pub hex: Vec<String>,
    /// Each address read in every way that makes sense, the likeliest ways first.
    pub readings: Vec<WordReading>,
}

/// One way to read the words at an address.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct WordReading {
    /// The first address.
    pub address: u16,
    /// How the bits are read.
    pub kind: Kind,
    /// The order of bytes over two registers.
    pub order: WordOrder,
    /// Factor: 1, or 0.1 for devices that send tenths.
    pub scale: f64,
    /// What comes of it.
    pub value: serde_json::Value,
    /// Whether the value looks like a measurement: for what spans two registers, neither tiny nor huge.
    pub is_plausible: bool,
}

/// Asks once.
pub(in crate::sources) async fn ask(
    question: &ModbusQuestion,
    running: &[SourceOptions],
) -> Result<ModbusAnswer, DiscoverError> {
    let wrong = |what: String| DiscoverError::new(what, "change it, then ask again");
    let address = BusAddress::parse(&question.url).map_err(wrong)?;
    let count_max = if question.table.is_bits() { BITS_MAX } else { WORDS_MAX };
    if !(1..=count_max).contains(&question.count) {
        return Err(wrong(format!("count {} must be 1 to {count_max}", question.count)));
    }
    if question.address.checked_add(question.count - 1).is_none() {
        return Err(wrong(format!("{} from address {} on end beyond 65535", question.count, question.address)));
    }
    if !(1..=TIMEOUT_MS_MAX).contains(&question.timeout_ms) || question.quiet_ms > TIMEOUT_MS_MAX {
        return Err(wrong(format!("timeout_ms must be 1 to {TIMEOUT_MS_MAX}, quiet_ms at most that")));
    }
    if let BusAddress::Rtu(line) = &address
        && let Some(owner) = owner(&line.port, running)
    {
        return Err(DiscoverError::in_use(&line.port, &owner));
    }
    let silence = Duration::from_millis(question.quiet_ms);
    let mut bus = Bus::open(address, Duration::from_millis(question.timeout_ms), silence);
    let block =
        Block { table: question.table, address: question.address, count: question.count, registers: Vec::new() };
    let begun = Instant::now();
    match timeout(ASK_LIMIT, bus.read(question.unit, &block)).await {
        Ok(Ok(words)) => Ok(answer(question, words, begun)),
        Ok(Err(failure)) => {
            let (what, advice) = told(&failure, question.unit, question.timeout_ms);
            Err(DiscoverError::new(what, advice))
        }
        Err(_) => Err(DiscoverError::new(
            format!("no answer within {} s in all", ASK_LIMIT.as_secs()),
            "check the network, then ask again",
        )),
    }
}

fn answer(question: &ModbusQuestion, words: Vec<u16>, begun: Instant) -> ModbusAnswer {
    let is_bits = question.table.is_bits();
    let hex = if is_bits { Vec::new() } else { words.iter().map(|word| format!("{word:04x}")).collect() };
    let took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    ModbusAnswer { took_ms, readings: readings(question.table, question.address, &words), hex, words }
}

/// Every way to read each address. Double words are read at each address that has a neighbour, since nobody knows where
/// they begin.
fn readings(table: Table, first: u16, words: &[u16]) -> Vec<WordReading> {
    let orders = [WordOrder::Abcd, WordOrder::Cdab, WordOrder::Badc, WordOrder::Dcba];
    let doubles = [Kind::F32, Kind::I32, Kind::U32];
    let mut found = Vec::new();
    for (offset, address) in (0..words.len()).zip(first..=u16::MAX) {
        let cells = words.get(offset..).unwrap_or_default();
        let mut add = |kind, order, scale| found.extend(reading(table, address, kind, order, scale, cells));
        if table.is_bits() {
            add(Kind::Bool, WordOrder::Abcd, 1.0);
            continue;
        }
        let word = cells.first().copied().unwrap_or_default();
        add(Kind::U16, WordOrder::Abcd, 1.0);
        add(Kind::U16, WordOrder::Abcd, 0.1);
        // Without the highest bit both are the same.
        if word & 0x8000 != 0 {
            add(Kind::I16, WordOrder::Abcd, 1.0);
            add(Kind::I16, WordOrder::Abcd, 0.1);
        }
        for (kind, order) in doubles.into_iter().flat_map(|kind| orders.map(|order| (kind, order))) {
            add(kind, order, 1.0);
        }
    }
    found.retain(|reading| reading.is_plausible || !matches!(reading.kind, Kind::F32));
    found
}

fn reading(table: Table, address: u16, kind: Kind, order: WordOrder, scale: f64, cells: &[u16]) -> Option<WordReading> {
    let register = Register {
        point: String::new(),
        table,
        address,
        kind,
        order,
        scale,
        offset: 0.0,
        unit: String::new(),
        not_available: None,
    };
    let outcome = value::outcome(&register, cells)?.ok()?;
    let number = outcome.as_number();
    let is_wide = register.width() > 1;
    let is_plausible = number.is_none_or(|number| !is_wide || number == 0.0 || PLAUSIBLE.contains(&number.abs()));
    let value = crate::tryout::json(&outcome);
    Some(WordReading { address, kind, order, scale, value, is_plausible })
}

/// What a failure means to a person, and what to do about it.
pub(super) fn told(failure: &Failure, unit: u8, timeout_ms: u64) -> (String, String) {
    let (what, advice) = match failure {
        Failure::Exception(code) => {
            let (name, advice) = exception(*code);
            (format!("unit {unit} answers with exception {code} ({name})"), advice)
        }
        Failure::Timeout => (
            format!("no reply from unit {unit} within {timeout_ms} ms"),
            "check the unit id first, then wiring, speed and parity; a slow device needs a larger timeout_ms",
        ),
        Failure::Broken(error) => (
            format!("unit {unit}: {error}"),
            "check that the device speaks this kind of Modbus (TCP or RTU), and speed and parity on a serial bus",
        ),
        Failure::NotConnected(error) => match error.split_once("; ") {
            // A port says itself what to do.
            Some((what, advice)) => (what.to_owned(), advice),
            None => (
                error.clone(),
                "check address and port, that the device is on, and that no other program holds its only connection",
            ),
        },
    };
    (what, advice.to_owned())
}

/// The name of an exception (Modbus Application Protocol V1.1b3, section 7) and what to do.
fn exception(code: u8) -> (&'static str, &'static str) {
    match code {
        1 => ("illegal function", "the device has no such table: try holding instead of input, or the other way round"),
        2 => (
            "illegal data address",
            "the device has nothing at that address: many manuals count from 1 or write 40001 for holding 0",
        ),
        3 => ("illegal data value", "the device does not take this count: ask for fewer registers"),
        4 => ("server device failure", "the device has a fault of its own: look at its display, restart it"),
        5 => ("acknowledge", "the device needs longer: try again in a moment"),
        6 => ("server device busy", "the device is busy: try again in a moment"),
        8 => ("memory parity error", "the device has a fault in its memory: have it serviced"),
        10 => ("gateway path unavailable", "the Modbus gateway does not know this unit: check its configuration"),
        11 => (
            "gateway target device failed to respond",
            "the Modbus gateway is there, but unit does not answer it: check the unit id and its wiring",
        ),
        _ => ("unknown to the standard", "look into the device's manual"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    fn has(readings: &[WordReading], kind: Kind, order: WordOrder, scale: f64, value: f64) -> bool {
        readings.iter().any(|reading| {
            reading.address == 7
                && (reading.kind, reading.order) == (kind, order)
                && reading.scale.to_bits() == scale.to_bits()
                && reading.value.as_f64().is_some_and(|found| (found - value).abs() < 1e-4)
        })
    }

    #[test]
    fn words_are_read_in_every_way_that_makes_sense() {
        // 123.456 is 0x42f6e979 in IEEE 754; here with the low word first.
        let readings = readings(Table::Holding, 7, &[0xe979, 0x42f6]);
        assert!(has(&readings, Kind::F32, WordOrder::Cdab, 1.0, 123.456));
        assert!(has(&readings, Kind::U16, WordOrder::Abcd, 0.1, 5_976.9));
        assert!(has(&readings, Kind::I16, WordOrder::Abcd, 1.0, -5_767.0));
        assert!(has(&readings, Kind::U32, WordOrder::Abcd, 1.0, f64::from(0xe979_42f6_u32)));
        let implausible = |reading: &&WordReading| reading.kind == Kind::F32 && !reading.is_plausible;
        assert_eq!(readings.iter().find(implausible), None);
    }

    #[test]
    fn bits_are_switches() {
        let readings = readings(Table::Coil, 3, &[1, 0]);
        let values: Vec<_> = readings.iter().map(|reading| (reading.address, reading.value.clone())).collect();
        assert_eq!(values, [(3, true.into()), (4, false.into())]);
    }

    #[tokio::test]
    async fn a_question_that_cannot_be_asked_is_told() {
        let question = |url: &str, address, count| ModbusQuestion {
            url: url.into(),
            unit: 1,
            table: Table::Holding,
            address,
            count,
            timeout_ms: 100,
            quiet_ms: 0,
        };
        for (question, part) in [
            (question("http://10.0.0.5", 0, 1), "tcp://"),
            (question("tcp://127.0.0.1:1", 0, 0), "must be 1 to 125"),
            (question("tcp://127.0.0.1:1", 0, 126), "must be 1 to 125"),
            (question("tcp://127.0.0.1:1", 65_535, 2), "beyond 65535"),
            (question("tcp://127.0.0.1:1", 0, 1), "refused"),
        ] {
            let error = ask(&question, &[]).await.unwrap_err();
            assert!(error.what.contains(part), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_words_are_read(first in any::<u16>(), words in proptest::collection::vec(any::<u16>(), 0..125)) {
            let readings = readings(Table::Input, first, &words);
            prop_assert!(readings.len() <= words.len() * 16);
        }
    }
}
