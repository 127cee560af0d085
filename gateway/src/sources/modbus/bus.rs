//! The connection to a Modbus bus: opens it, asks one question at a time, and drops it after anything that could leave
//! a late reply behind.

use super::plan::Block;
use super::url::BusAddress;
use super::{ModbusOptions, Table};
use crate::sources::address::HostPort;
use crate::sources::line;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_modbus::client::{Client as _, Context, rtu, tcp};
use tokio_modbus::prelude::SlaveContext as _;
use tokio_modbus::{Request, Response, Slave};

/// How long opening a TCP connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Bits of a character: start, eight data, parity or a second stop bit, stop (Modbus over Serial Line V1.02, section 2.5.1).
const BITS_PER_CHARACTER: f64 = 11.0;
/// Silence between frames, in characters (section 2.5.1.1).
const SILENT_CHARACTERS: f64 = 3.5;
/// Above 19200 baud the silence does not shrink further (section 2.5.1.1).
const SILENCE_MIN_FAST: Duration = Duration::from_micros(1_750);

/// A bus and, as long as it is fit for use, the connection to it.
pub(super) struct Bus {
    address: BusAddress,
    timeout: Duration,
    silence: Duration,
    connection: Option<Context>,
    quiet_since: Instant,
}

/// Why a request gave no values.
#[derive(Debug)]
pub(super) enum Failure {
    /// The device said why.
    Exception(u8),
    /// Nothing came in time.
    Timeout,
    /// The connection broke, or the reply was not one to this request.
    Broken(String),
    /// The connection could not be opened.
    NotConnected(String),
}

impl Bus {
    pub(super) fn new(address: BusAddress, options: &ModbusOptions) -> Self {
        Self::open(address, Duration::from_millis(options.timeout_ms), Duration::from_millis(options.quiet_ms))
    }

    /// A bus whose replies may take `timeout`, with at least `quiet` between frames.
    pub(super) fn open(address: BusAddress, timeout: Duration, quiet: Duration) -> Self {
        let silence = match &address {
            BusAddress::Rtu(line) => quiet.max(silence_between_frames(line.baud)),
            BusAddress::Tcp(_) | BusAddress::RtuOverTcp(_) => quiet,
        };
        Self { address, timeout, silence, connection: None, quiet_since: Instant::now() }
    }

    /// Opens the connection if there is none.
    pub(super) async fn connect(&mut self) -> Result<(), Failure> {
        self.connection().await.map(|_| ())
    }

    /// Reads a block; bits come as 0 and 1. A connection that had been idle and turns out to be closed is opened
    /// again once, since many devices close idle connections.
    pub(super) async fn read(&mut self, unit: u8, block: &Block) -> Result<Vec<u16>, Failure> {
        let was_open = self.connection.is_some();
        match self.ask(unit, block).await {
            Err(Failure::Broken(_)) if was_open => self.ask(unit, block).await,
            outcome => outcome,
        }
    }

    async fn ask(&mut self, unit: u8, block: &Block) -> Result<Vec<u16>, Failure> {
        sleep_until(self.quiet_since + self.silence).await;
        let reply_timeout = self.timeout;
        let connection = self.connection().await?;
        connection.set_slave(Slave(unit));
        let reply = timeout(reply_timeout, connection.call(request(block))).await;
        self.quiet_since = Instant::now();
        let failure = match reply {
            Ok(Ok(Ok(response))) => match cells(response, block) {
                Some(cells) => return Ok(cells),
                None => Failure::Broken("the reply has another length than asked for".to_owned()),
            },
            Ok(Ok(Err(exception))) => return Err(Failure::Exception(exception.into())),
            Ok(Err(error)) => Failure::Broken(explain(&error)),
            Err(_) => Failure::Timeout,
        };
        // A reply that comes later would be taken for the answer to the next request.
        self.connection = None;
        Err(failure)
    }

    async fn connection(&mut self) -> Result<&mut Context, Failure> {
        let opened = match self.connection.take() {
            Some(connection) => connection,
            None => open(&self.address).await.map_err(Failure::NotConnected)?,
        };
        Ok(self.connection.insert(opened))
    }
}

async fn open(address: &BusAddress) -> Result<Context, String> {
    // The unit is set before each request.
    let any = Slave(0);
    match address {
        BusAddress::Tcp(host) => Ok(tcp::attach_slave(connect(host).await?, any)),
        BusAddress::RtuOverTcp(host) => Ok(rtu::attach_slave(connect(host).await?, any)),
        BusAddress::Rtu(settings) => {
            let port = settings.open()?;
            line::discard_input(&port)?;
            Ok(rtu::attach_slave(port, any))
        }
    }
}

async fn connect(host: &HostPort) -> Result<TcpStream, String> {
    let stream = match timeout(CONNECT_TIMEOUT, TcpStream::connect(host.to_string())).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(format!("no connection to {host}: {error}")),
        Err(_) => return Err(format!("no connection to {host} within {} s", CONNECT_TIMEOUT.as_secs())),
    };
    // Requests are tiny: waiting to fill a packet would only delay them.
    stream.set_nodelay(true).map_err(|error| format!("no connection to {host}: {error}"))?;
    Ok(stream)
}

fn request(block: &Block) -> Request<'static> {
    let (address, count) = (block.address, block.count);
    match block.table {
        Table::Coil => Request::ReadCoils(address, count),
        Table::Discrete => Request::ReadDiscreteInputs(address, count),
        Table::Holding => Request::ReadHoldingRegisters(address, count),
        Table::Input => Request::ReadInputRegisters(address, count),
    }
}

/// The cells of a reply; `None` if it has another length than asked for. Bits come in whole bytes, so there may be more.
fn cells(response: Response, block: &Block) -> Option<Vec<u16>> {
    let count = usize::from(block.count);
    match response {
        Response::ReadCoils(bits) | Response::ReadDiscreteInputs(bits) => {
            let bits = bits.get(..count).filter(|_| bits.len() < count + 8)?;
            Some(bits.iter().map(|bit| u16::from(*bit)).collect())
        }
        Response::ReadHoldingRegisters(words) | Response::ReadInputRegisters(words) => {
            (words.len() == count).then_some(words)
        }
        _ => None,
    }
}

/// The library reads the end of a TCP connection as "Success".
fn explain(error: &tokio_modbus::Error) -> String {
    match error {
        tokio_modbus::Error::Transport(io)
            if io.raw_os_error() == Some(0) || io.kind() == std::io::ErrorKind::BrokenPipe =>
        {
            "the device closed the connection".to_owned()
        }
        tokio_modbus::Error::Transport(io) if io.to_string().contains("remaining on stream") => {
            "the device closed the connection in the middle of a reply".to_owned()
        }
        tokio_modbus::Error::Protocol(_) => "the reply is not one to this request".to_owned(),
        tokio_modbus::Error::Transport(io) => io.to_string(),
    }
}

fn silence_between_frames(baud: u32) -> Duration {
    let silence = Duration::from_secs_f64(SILENT_CHARACTERS * BITS_PER_CHARACTER / f64::from(baud.max(1)));
    silence.max(SILENCE_MIN_FAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_silence_is_three_and_a_half_characters_and_never_below_the_standards_floor() {
        assert_eq!(silence_between_frames(9_600).as_micros(), 4_010);
        assert_eq!(silence_between_frames(115_200), SILENCE_MIN_FAST);
    }
}
