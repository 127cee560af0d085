//! Modbus devices: pymodbus as a server on TCP or on a serial line, told what to hold and how to behave.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Command};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::ports::Port;
use crate::process::{Process, installed_peer};
use crate::serial::{self, Line};

/// The rate of the serial line, in baud; a pseudo-terminal does not keep to it.
pub const BAUD: u32 = 19_200;

/// The four kinds of registers.
#[derive(Debug, Clone, Copy)]
pub enum Table {
    /// Bits, read by function 1.
    Coil,
    /// Bits that cannot be written, read by function 2.
    Discrete,
    /// Words, read by function 3.
    Holding,
    /// Words that cannot be written, read by function 4.
    Input,
}

impl Table {
    fn name(self) -> &'static str {
        match self {
            Self::Coil => "coil",
            Self::Discrete => "discrete",
            Self::Holding => "holding",
            Self::Input => "input",
        }
    }
}

/// How a unit behaves from now on.
#[derive(Debug, Clone, Copy)]
pub enum Behaviour {
    /// Answers.
    Normal,
    /// Does not answer.
    Silent,
    /// Answers every request with this exception code (1 to 8, 10, 11).
    Exception(u8),
    /// Answers after this many milliseconds.
    Slow(u64),
}

/// A server with as many units as it is told of; all others are silent. Dropping it ends it.
#[derive(Debug)]
pub struct Modbus {
    /// Absent while it is stopped. First, so that it ends before its log goes.
    server: Option<Server>,
    place: Place,
    /// What it was told, to be told again after a restart. Counters begin anew.
    told: Vec<Value>,
    directory: TempDir,
}

#[derive(Debug)]
enum Place {
    Tcp(Port),
    Rtu(Cable),
}

/// The gateway's line, the server's line and what carries bytes between them.
#[derive(Debug)]
struct Cable {
    gateway: Arc<Line>,
    server: Arc<Line>,
    carry: JoinHandle<()>,
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.carry.abort();
    }
}

#[derive(Debug)]
struct Server {
    /// Kept for its end.
    _process: Process,
    /// Behind a lock, so that a command and its answer stay together.
    pipes: Mutex<Pipes>,
}

#[derive(Debug)]
struct Pipes {
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Modbus {
    /// Starts a server on TCP.
    #[must_use]
    pub fn tcp() -> Self {
        Self::start(Place::Tcp(Port::reserve()))
    }

    /// Starts a server on a serial line. Needs a Tokio runtime for the cable.
    #[must_use]
    pub fn rtu() -> Self {
        let (gateway, server) = (Arc::new(Line::plugged()), Arc::new(Line::plugged()));
        let carry = tokio::spawn(serial::connect(Arc::clone(&gateway), Arc::clone(&server)));
        Self::start(Place::Rtu(Cable { gateway, server, carry }))
    }

    fn start(place: Place) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut modbus = Self { server: None, place, told: Vec::new(), directory };
        modbus.start_again();
        modbus
    }

    /// The address, as a source of the gateway names it.
    #[must_use]
    pub fn url(&self) -> String {
        match &self.place {
            Place::Tcp(port) => format!("tcp://127.0.0.1:{}", port.number()),
            Place::Rtu(cable) => format!("rtu://{}?baud={BAUD}", cable.gateway.path().display()),
        }
    }

    /// The TCP port.
    ///
    /// # Panics
    ///
    /// If it is on a serial line.
    #[must_use]
    pub fn port(&self) -> u16 {
        match &self.place {
            Place::Tcp(port) => port.number(),
            Place::Rtu(_) => panic!("a server on a serial line has no port"),
        }
    }

    /// The gateway's end of the serial line, for noise and unplugging.
    ///
    /// # Panics
    ///
    /// If it is on TCP.
    #[must_use]
    pub fn line(&self) -> &Line {
        match &self.place {
            Place::Rtu(cable) => &cable.gateway,
            Place::Tcp(_) => panic!("a server on TCP has no serial line"),
        }
    }

    /// Sets registers (or bits, as 0 and 1) from `address` on.
    pub fn set(&mut self, unit: u8, table: Table, address: u16, values: &[u16]) {
        self.tell(json!({"do": "set", "unit": unit, "table": table.name(), "address": address, "values": values}));
    }

    /// Makes a counter of one or two registers, most significant first: the first read gives 1, the next 2.
    pub fn count(&mut self, unit: u8, table: Table, address: u16, words: u8) {
        self.tell(json!({"do": "count", "unit": unit, "table": table.name(), "address": address, "words": words}));
    }

    /// The latest value that the counter at `address` was read as: how often it was read.
    #[must_use]
    pub fn served(&self, unit: u8, table: Table, address: u16) -> u64 {
        let answer = self.ask(&json!({"do": "served", "unit": unit, "table": table.name(), "address": address}));
        answer["served"].as_u64().expect("the server says how often it was read")
    }

    /// Makes a unit behave so from now on.
    pub fn behave(&mut self, unit: u8, behaviour: Behaviour) {
        let (mode, code, delay_ms) = match behaviour {
            Behaviour::Normal => ("normal", 4, 0),
            Behaviour::Silent => ("silent", 4, 0),
            Behaviour::Exception(code) => ("exception", code, 0),
            Behaviour::Slow(delay_ms) => ("slow", 4, delay_ms),
        };
        self.tell(json!({"do": "mode", "unit": unit, "mode": mode, "code": code, "delay_ms": delay_ms}));
    }

    /// Ends the server: connections break, new ones are refused; on a serial line all units are silent.
    pub fn stop(&mut self) {
        self.server = None;
    }

    /// Starts it again at the same place and tells it again what it was told. Counters begin anew.
    pub fn start_again(&mut self) {
        let port_number;
        let (kind, place): (&str, &Path) = match &self.place {
            Place::Tcp(port) => {
                port_number = port.number().to_string();
                ("tcp", Path::new(&port_number))
            }
            Place::Rtu(cable) => ("rtu", cable.server.path()),
        };
        let server = Server::start(kind, place, &self.directory.path().join("modbus.log"));
        for command in &self.told {
            server.ask(command);
        }
        self.server = Some(server);
    }

    fn tell(&mut self, command: Value) {
        self.ask(&command);
        self.told.push(command);
    }

    fn ask(&self, command: &Value) -> Value {
        self.server.as_ref().expect("the Modbus server is stopped").ask(command)
    }
}

impl Server {
    fn start(kind: &str, place: &Path, log: &Path) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/modbus_server.py");
        let mut command = Command::new(installed_peer("venv/bin/python"));
        command.arg(script).arg(kind).arg(place).args(["--baud", &BAUD.to_string()]);
        let mut process = Process::start_piped("the Modbus server", &command, log);
        let commands = process.child().stdin.take().expect("its input is a pipe");
        let answers = BufReader::new(process.child().stdout.take().expect("its output is a pipe"));
        let server = Self { _process: process, pipes: Mutex::new(Pipes { commands, answers }) };
        // Its first line says that it listens.
        server.pipes.lock().unwrap_or_else(PoisonError::into_inner).answer();
        server
    }

    fn ask(&self, command: &Value) -> Value {
        let mut pipes = self.pipes.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(pipes.commands, "{command}").expect("the Modbus server takes commands");
        pipes.answer()
    }
}

impl Pipes {
    fn answer(&mut self) -> Value {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("the Modbus server's output can be read");
        serde_json::from_str(&line).expect("the Modbus server ended without an answer; its log is below")
    }
}
