//! `forebay demo`: a simulated plant, the gateway and an ingest endpoint in one process, with faults and an outage, and a
//! verdict at the end.

mod books;
mod broker;
mod configuration;
mod course;
mod fault;
mod folder;
mod microcontroller;
mod modbus_device;
mod mqtt_device;
mod narrator;
mod plant;
mod receiver;
mod serial_line;
mod signal;
mod tally;
mod verdict;

pub use verdict::Verdict;

use crate::access::{Access, SetUpError};
use crate::app::{self, AppError, Running};
use crate::clock::Clock;
use crate::config::{self, ConfigErrors};
use crate::logs::LogRing;
use crate::reading::Stream;
use crate::status::{HasHealth as _, State, Status};
use books::OfSource;
use configuration::Addresses;
use course::Course;
use fault::Fault;
use folder::Folder;
use mqtt_device::DEVICES;
use narrator::Now;
use plant::Plant;
use receiver::Receiver;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;
use tally::SOURCES;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

/// Where the page is, if nobody else is there.
const PAGE_PORT: u16 = 8080;

/// Who can sign in at the demo's page.
const PERSON: &str = "demo";
/// Whoever has locked this file, in the folder for temporary files, may take that port.
const PAGE_CLAIM_FILE: &str = "forebay-demo-page.lock";
/// How long the gateway may take to subscribe at the broker.
const SUBSCRIBE_LIMIT: Duration = Duration::from_secs(10);
/// How long what is on its way may take to arrive after the plant has stopped.
const SETTLE_LIMIT: Duration = Duration::from_secs(30);
/// Between two looks at a state that is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Which fault comes next, and the plant, are the same in every run.
const FAULT_SEED: u64 = 4;

/// Why the demo could not be shown.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// There is no folder for the data.
    #[error("the demo's folder {path:?} cannot be used: {error}; point TMPDIR to a folder that can be written")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The broker does not start.
    #[error("the simulated broker does not start: {0}")]
    Broker(String),
    /// The Modbus device does not start.
    #[error("the simulated Modbus device does not start: {0}")]
    ModbusDevice(std::io::Error),
    /// There is no pseudo-terminal.
    #[error("the simulated serial line cannot be opened: {0}; check that /dev/pts is mounted")]
    SerialLine(std::io::Error),
    /// The receiver does not start.
    #[error("the ingest endpoint cannot listen: {0}")]
    Receiver(std::io::Error),
    /// The signals that end the demo cannot be heard.
    #[error("signals cannot be received: {0}")]
    Signals(std::io::Error),
    /// The configuration that the demo made is refused.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// The gateway did not start, or did not go on.
    #[error(transparent)]
    App(#[from] AppError),
    /// Nobody can be let in.
    #[error(transparent)]
    Access(#[from] SetUpError),
    /// The gateway does not reach the broker.
    #[error("the gateway has not subscribed within {SUBSCRIBE_LIMIT:?}: {0}")]
    NotSubscribed(String),
}

/// Shows the demo and returns its verdict, which it has printed. It ends after so many seconds, or when it is told to
/// (SIGINT, SIGTERM).
///
/// # Errors
/// If a part of the plant, the receiver or the gateway does not start.
pub async fn run(seconds: Option<u64>, keep: bool, logs: LogRing) -> Result<Verdict, DemoError> {
    let folder = Folder::make(keep)?;
    let mut plant = Plant::start().await?;
    let receiver = Receiver::start()?;
    let course = Course { seconds };
    let clock = Clock::system();
    let page = Page::claim();
    let password = let_in(&folder, &clock).await?;
    let gateway = start_gateway(&folder, &plant, &receiver, (&clock, logs), page.address).await?;
    narrator::begin(&[
        ("page", gateway.page.map_or_else(|| "its port is taken".to_owned(), |page| format!("http://{page}"))),
        ("", format!("sign in as {PERSON} with {password}")),
        ("plant", format!("{} MQTT devices on {}", DEVICES.len(), plant.broker)),
        ("", format!("a Modbus device with two units on {}", plant.modbus)),
        ("", format!("a microcontroller on {}", plant.serial)),
        ("endpoint", receiver.url()),
        ("data", format!("{} ({})", folder.path().display(), folder.fate())),
        ("course", course.words()),
    ]);
    wait_until_subscribed(&gateway.status).await?;
    plant.publish(&clock);
    let mut stage = Stage { plant, receiver, gateway, course, started: Instant::now() };
    stage.play().await?;
    stage.close().await
}

/// Sets the gateway up for [`PERSON`], so that the page can be looked at; the token becomes the password, since it is random and
/// made to be typed.
async fn let_in(folder: &Folder, clock: &Clock) -> Result<String, DemoError> {
    let data_dir = folder.path().join("data");
    std::fs::create_dir_all(&data_dir).map_err(|error| AppError::DataDir { path: data_dir.clone(), error })?;
    let access = Access::open(&data_dir, clock.clone()).map_err(SetUpError::from)?;
    let password = access.set_up_token().unwrap_or_default();
    access.set_up(&password, PERSON, &password, IpAddr::V4(Ipv4Addr::LOCALHOST)).await?;
    Ok(password)
}

async fn start_gateway(
    folder: &Folder,
    plant: &Plant,
    receiver: &Receiver,
    (clock, logs): (&Clock, LogRing),
    page: SocketAddr,
) -> Result<Running, DemoError> {
    let text = configuration::text(&Addresses {
        data_dir: &folder.path().join("data"),
        page,
        broker: plant.broker,
        modbus: plant.modbus,
        serial: &plant.serial,
        receiver: &receiver.url(),
    });
    let path = folder.path().join("forebay.toml");
    std::fs::write(&path, text).map_err(|error| DemoError::Folder { path: path.clone(), error })?;
    let loaded = config::load(&path)?;
    Ok(app::start(loaded.config, loaded.text, clock.clone(), logs).await?)
}

/// Where the page is: its usual port, or any free one if another demo or program has that.
#[derive(Debug)]
struct Page {
    address: SocketAddr,
    /// Demos that start together agree by this lock which of them has the usual port.
    _claim: Option<File>,
}

impl Page {
    fn claim() -> Self {
        let usual = SocketAddr::from((Ipv4Addr::LOCALHOST, PAGE_PORT));
        let claim = File::create(std::env::temp_dir().join(PAGE_CLAIM_FILE)).ok();
        let claim = claim.filter(|file| file.try_lock().is_ok() && TcpListener::bind(usual).is_ok());
        let address = if claim.is_some() { usual } else { (Ipv4Addr::LOCALHOST, 0).into() };
        Self { address, _claim: claim }
    }
}

async fn wait_until_subscribed(status: &Status) -> Result<(), DemoError> {
    let Some(source) = status.sources().first().cloned() else { return Ok(()) };
    let deadline = Instant::now() + SUBSCRIBE_LIMIT;
    while source.health().state != State::Live {
        if Instant::now() >= deadline {
            return Err(DemoError::NotSubscribed(source.health().last_error.unwrap_or_default()));
        }
        sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// Everything that takes part.
struct Stage {
    plant: Plant,
    receiver: Receiver,
    gateway: Running,
    course: Course,
    started: Instant,
}

impl Stage {
    /// Lets the plant run, with its faults and the outages of the endpoint, until the course is over.
    async fn play(&mut self) -> Result<(), DemoError> {
        let mut terminate = signal(SignalKind::terminate()).map_err(DemoError::Signals)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(DemoError::Signals)?;
        let mut ticks = interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut faults = fault::sequence(FAULT_SEED);
        let mut next_fault = fault::FIRST_AFTER;
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                error = self.gateway.ended() => return Err(error.into()),
                _ = ticks.tick() => {}
            }
            let second = self.second();
            if self.course.is_over(second) {
                break;
            }
            self.move_endpoint(second).await?;
            if self.started.elapsed() >= next_fault {
                next_fault += fault::NEXT_AFTER;
                if let Some(fault) = faults.next() {
                    self.strike(fault);
                }
            }
            self.tell();
        }
        Ok(())
    }

    fn strike(&mut self, fault: Fault) {
        narrator::fault(fault);
        self.plant.strike(fault);
    }

    /// Takes the endpoint away or brings it back, as the course wants it.
    async fn move_endpoint(&mut self, second: u64) -> Result<(), DemoError> {
        match (self.course.is_away(second), self.receiver.is_there()) {
            (true, true) => {
                let has_left_one = self.receiver.take_away().await;
                let worst = if has_left_one { ", with a request applied but not answered" } else { "" };
                narrator::event(&format!("the endpoint is taken away{worst}"));
            }
            (false, false) => {
                self.receiver.bring_back().await?;
                narrator::event("the endpoint is back on the same port");
            }
            _ => {}
        }
        Ok(())
    }

    /// Stops the plant, waits for what is on its way, stops the gateway in order, and compares the books.
    async fn close(mut self) -> Result<Verdict, DemoError> {
        if !self.receiver.is_there() {
            self.receiver.bring_back().await?;
            narrator::event("the endpoint is back on the same port");
        }
        narrator::event("the plant stops; what is on its way may arrive");
        self.plant.stop().await;
        self.settle().await;
        self.tell();
        let Self { plant, receiver, gateway, .. } = self;
        let status = gateway.status.clone();
        gateway.stop().await;
        let verdict = Verdict::new(&plant.tally, &status, &receiver.books());
        narrator::end(&verdict);
        Ok(verdict)
    }

    /// Waits until the receiver has all that was sent, and all that the gateway had accepted by then.
    async fn settle(&self) {
        let deadline = Instant::now() + SETTLE_LIMIT;
        let mut next_line = Instant::now() + Duration::from_secs(1);
        let mut accepted = None;
        while Instant::now() < deadline {
            if accepted.is_none() && self.has_all_that_was_sent() {
                accepted = Some(verdict::on_disk(&self.gateway.status));
            }
            if accepted.is_some_and(|accepted| self.received() >= accepted) {
                return;
            }
            if Instant::now() >= next_line {
                next_line += Duration::from_secs(1);
                self.tell();
            }
            sleep(LOOK_EVERY).await;
        }
        narrator::event("not everything has arrived in time");
    }

    /// Whether every value that was sent has arrived, as a reading or as a dead letter. The gateway's own counts would not
    /// do: it accepts absences, too, which nobody sent.
    fn has_all_that_was_sent(&self) -> bool {
        let books = self.receiver.books();
        SOURCES.iter().zip(self.plant.tally.sent()).all(|(source, sent)| {
            let OfSource { values, dead_letters, .. } = books.source(source);
            values + dead_letters >= sent
        })
    }

    fn received(&self) -> u64 {
        self.receiver.books().stream(Stream::Readings.name()).once
    }

    fn second(&self) -> u64 {
        self.started.elapsed().as_secs()
    }

    fn tell(&self) {
        narrator::second(&Now {
            at_s: self.second(),
            sent: self.plant.tally.sent().iter().sum(),
            status: &self.gateway.status,
            received: self.received(),
            is_there: self.receiver.is_there(),
        });
    }
}
