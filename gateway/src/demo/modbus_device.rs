//! A Modbus TCP device with two units, one of which falls silent now and then.

use super::DemoError;
use super::signal::{Shape, Signal};
use super::tally::Tally;
use std::collections::BTreeMap;
use std::future::{Ready, ready};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_modbus::server::Service;
use tokio_modbus::server::tcp::{Server, accept_tcp_connection};
use tokio_modbus::{ExceptionCode, Request, Response, SlaveRequest};

/// The boiler: two temperatures, the flow and the burner.
pub(super) const BOILER: u8 = 1;
/// The power meter, which falls silent.
pub(super) const METER: u8 = 2;

/// Addresses beyond this do not exist.
const ADDRESS_END: u16 = 32;

/// The four tables, told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Table {
    Coils,
    Holding,
    Input,
}

/// Where the values lie: unit, table, first address, and how many addresses each takes. The gateway's configuration
/// reads the same.
const VALUES: [(u8, Table, u16, u16); 6] = [
    (BOILER, Table::Holding, 0, 1),
    (BOILER, Table::Holding, 1, 1),
    (BOILER, Table::Input, 8, 2),
    (BOILER, Table::Coils, 0, 1),
    (METER, Table::Input, 0, 2),
    (METER, Table::Input, 4, 1),
];

const SUPPLY: Shape = Shape { middle: 71.0, swing: 4.0, period_s: 70.0, noise: 0.1 };
const RETURN: Shape = Shape { middle: 52.0, swing: 3.0, period_s: 70.0, noise: 0.1 };
const FLOW: Shape = Shape { middle: 8.4, swing: 0.6, period_s: 50.0, noise: 0.05 };
const POWER: Shape = Shape { middle: 23.0, swing: 6.0, period_s: 40.0, noise: 0.3 };
const VOLTAGE: Shape = Shape { middle: 230.0, swing: 1.5, period_s: 35.0, noise: 0.4 };

/// The device, bound to a free port of loopback.
#[derive(Debug)]
pub(super) struct ModbusDevice {
    listener: TcpListener,
    address: SocketAddr,
    units: Arc<Units>,
}

/// What the connections to the device share.
#[derive(Debug)]
pub(super) struct Units {
    meter_is_dead: AtomicBool,
    /// Nothing is answered any more: what was answered has arrived.
    is_off: AtomicBool,
    /// The gateway's source is connected; whoever connects beside it looks in, as a test of the source does.
    has_reader: AtomicBool,
    sensors: Mutex<Sensors>,
    tally: Arc<Tally>,
}

/// A connection to the device.
#[derive(Debug)]
struct Connection {
    units: Arc<Units>,
    /// What it is answered counts as sent: its values go upstream.
    is_reader: bool,
}

#[derive(Debug)]
struct Sensors {
    started: Instant,
    supply: Signal,
    back: Signal,
    flow: Signal,
    power: Signal,
    voltage: Signal,
}

impl ModbusDevice {
    /// Binds the device; it serves once it runs.
    pub(super) async fn bind(seed: u64, tally: Arc<Tally>) -> Result<Self, DemoError> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(DemoError::ModbusDevice)?;
        let address = listener.local_addr().map_err(DemoError::ModbusDevice)?;
        let sensors = Sensors {
            started: Instant::now(),
            supply: Signal::new(SUPPLY, seed),
            back: Signal::new(RETURN, seed.wrapping_add(1)),
            flow: Signal::new(FLOW, seed.wrapping_add(2)),
            power: Signal::new(POWER, seed.wrapping_add(3)),
            voltage: Signal::new(VOLTAGE, seed.wrapping_add(4)),
        };
        let units = Units {
            meter_is_dead: AtomicBool::new(false),
            is_off: AtomicBool::new(false),
            has_reader: AtomicBool::new(false),
            sensors: Mutex::new(sensors),
            tally,
        };
        Ok(Self { listener, address, units: Arc::new(units) })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// For telling it what goes wrong.
    pub(super) fn units(&self) -> Arc<Units> {
        Arc::clone(&self.units)
    }

    /// Serves until the task ends.
    pub(super) async fn run(self) {
        let service = |_: SocketAddr| Ok(Some(Connection::new(&self.units)));
        let on_connected = |stream, peer| async move { accept_tcp_connection(stream, peer, service) };
        // A listener of loopback that fails shows as a device that the gateway cannot reach.
        Server::new(self.listener).serve(&on_connected, |_| {}).await.ok();
    }
}

impl Units {
    /// The power meter falls silent, or answers again.
    pub(super) fn set_meter_dead(&self, is_dead: bool) {
        self.meter_is_dead.store(is_dead, Ordering::SeqCst);
    }

    /// Falls silent for good.
    pub(super) fn switch_off(&self) {
        self.is_off.store(true, Ordering::SeqCst);
    }

    /// The answer, and how many values are in it.
    fn answer(&self, unit: u8, request: &Request<'_>) -> Result<Option<(Response, u64)>, ExceptionCode> {
        if self.is_off.load(Ordering::SeqCst) || (unit == METER && self.meter_is_dead.load(Ordering::SeqCst)) {
            return Ok(None);
        }
        let (table, address, count) = match *request {
            Request::ReadCoils(address, count) => (Table::Coils, address, count),
            Request::ReadHoldingRegisters(address, count) => (Table::Holding, address, count),
            Request::ReadInputRegisters(address, count) => (Table::Input, address, count),
            _ => return Err(ExceptionCode::IllegalFunction),
        };
        let end = address.saturating_add(count);
        if end > ADDRESS_END || ![BOILER, METER].contains(&unit) {
            return Err(ExceptionCode::IllegalDataAddress);
        }
        let cells = self.sensors.lock().unwrap_or_else(PoisonError::into_inner).cells(unit, table);
        let words = (address..end).map(|address| cells.get(&address).copied().unwrap_or(0));
        let response = match table {
            Table::Coils => Response::ReadCoils(words.map(|word| word != 0).collect()),
            Table::Holding => Response::ReadHoldingRegisters(words.collect()),
            Table::Input => Response::ReadInputRegisters(words.collect()),
        };
        let values = VALUES.iter().filter(|(of_unit, of_table, first, width)| {
            (*of_unit, *of_table) == (unit, table) && *first >= address && first + width <= end
        });
        Ok(Some((response, values.count() as u64)))
    }
}

impl Connection {
    fn new(units: &Arc<Units>) -> Self {
        Self { units: Arc::clone(units), is_reader: !units.has_reader.swap(true, Ordering::SeqCst) }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.is_reader {
            self.units.has_reader.store(false, Ordering::SeqCst);
        }
    }
}

impl Sensors {
    /// What lies in a table now, by address.
    fn cells(&mut self, unit: u8, table: Table) -> BTreeMap<u16, u16> {
        let elapsed = self.started.elapsed();
        match (unit, table) {
            (BOILER, Table::Holding) => {
                [(0, tenths(self.supply.at(elapsed))), (1, tenths(self.back.at(elapsed)))].into()
            }
            (BOILER, Table::Input) => {
                // Low word first, as many devices do: "cdab".
                let [high, low] = words(self.flow.at(elapsed));
                [(8, low), (9, high)].into()
            }
            (BOILER, Table::Coils) => [(0, burner(elapsed))].into(),
            (METER, Table::Input) => {
                let [high, low] = words(self.power.at(elapsed));
                [(0, high), (1, low), (4, tenths(self.voltage.at(elapsed)))].into()
            }
            _ => BTreeMap::new(),
        }
    }
}

/// On for 20 s of every 30 s.
fn burner(elapsed: Duration) -> u16 {
    u16::from(elapsed.as_secs() % 30 < 20)
}

/// A signed register in tenths of the unit.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the bits of an i16 go over the wire")]
fn tenths(value: f64) -> u16 {
    (value * 10.0).round() as i16 as u16
}

/// The two words of an IEEE 754 single, high word first.
#[expect(clippy::cast_possible_truncation, reason = "the register holds a single")]
fn words(value: f64) -> [u16; 2] {
    let [a, b, c, d] = (value as f32).to_be_bytes();
    [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])]
}

impl Service for Connection {
    type Request = SlaveRequest<'static>;
    type Response = Option<Response>;
    type Exception = ExceptionCode;
    type Future = Ready<Result<Self::Response, Self::Exception>>;

    fn call(&self, request: Self::Request) -> Self::Future {
        let answer = self.units.answer(request.slave, &request.request);
        if let (true, Ok(Some((_, values)))) = (self.is_reader, &answer) {
            self.units.tally.answered.add(*values);
        }
        ready(answer.map(|answer| answer.map(|(response, _)| response)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use tokio::task::JoinSet;
    use tokio_modbus::Slave;
    use tokio_modbus::client::{Reader as _, tcp};
    use tokio_modbus::prelude::SlaveContext as _;

    #[tokio::test]
    async fn the_gateway_reads_its_values_and_each_that_was_answered_is_counted() {
        let tally = Arc::new(Tally::default());
        let device = ModbusDevice::bind(1, Arc::clone(&tally)).await.unwrap();
        let (address, units) = (device.address(), device.units());
        let mut tasks = JoinSet::new();
        tasks.spawn(device.run());

        let mut client = tcp::connect_slave(address, Slave(BOILER)).await.unwrap();
        let holding = client.read_holding_registers(0, 2).await.unwrap().unwrap();
        assert!(holding.iter().all(|tenths| (400..800).contains(tenths)), "{holding:?}");
        let flow = client.read_input_registers(8, 2).await.unwrap().unwrap();
        let [high, low] = [flow[1].to_be_bytes(), flow[0].to_be_bytes()];
        let flow = f32::from_be_bytes([high[0], high[1], low[0], low[1]]);
        assert!((7.0..10.0).contains(&flow), "{flow}");
        assert_eq!(client.read_coils(0, 1).await.unwrap().unwrap(), [true]);
        assert_eq!(client.read_holding_registers(40, 1).await.unwrap(), Err(ExceptionCode::IllegalDataAddress));
        assert_eq!(tally.answered.get(), 4);

        let mut beside = tcp::connect_slave(address, Slave(BOILER)).await.unwrap();
        assert_eq!(beside.read_holding_registers(0, 2).await.unwrap().unwrap().len(), 2);
        assert_eq!(tally.answered.get(), 4, "who looks in beside the gateway is answered, and takes nothing upstream");
        drop(beside);

        units.set_meter_dead(true);
        client.set_slave(Slave(METER));
        let silence = tokio::time::timeout(Duration::from_millis(50), client.read_input_registers(0, 5)).await;
        assert!(silence.is_err());
        assert_eq!(tally.answered.get(), 4);

        units.set_meter_dead(false);
        drop(client);
        while units.has_reader.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
        let mut client = tcp::connect_slave(address, Slave(METER)).await.unwrap();
        assert_eq!(client.read_input_registers(0, 5).await.unwrap().unwrap().len(), 5);
        assert_eq!(tally.answered.get(), 6);
    }
}
