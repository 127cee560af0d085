//! The simulated plant as a whole: starts its parts, passes faults on to them, and stops them when all they sent has
//! been acknowledged.

use super::fault::{Fault, LASTS};
use super::microcontroller::Microcontroller;
use super::modbus_device::{ModbusDevice, Units};
use super::mqtt_device::{self, DEVICES, Wiring};
use super::serial_line::SerialLine;
use super::tally::Tally;
use super::{DemoError, broker};
use crate::clock::Clock;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Makes the same plant every time, so that two runs compare.
const SEED: u64 = 17;
/// Faults on their way to a part; there is one every few seconds.
const FAULTS_MAX: usize = 4;

/// The plant. Dropping it ends everything but the broker.
#[derive(Debug)]
pub(super) struct Plant {
    /// Where the broker is.
    pub(super) broker: SocketAddr,
    /// Where the Modbus device is.
    pub(super) modbus: SocketAddr,
    /// The serial port.
    pub(super) serial: String,
    /// What it has sent.
    pub(super) tally: Arc<Tally>,
    units: Arc<Units>,
    devices: Vec<mpsc::Sender<Fault>>,
    noise: mpsc::Sender<()>,
    /// Those who send and have to be waited for; the microcontroller leaves its line behind.
    senders: JoinSet<Option<SerialLine>>,
    /// The line without its microcontroller: silent, but there.
    line: Option<SerialLine>,
    /// Those who only answer.
    helpers: JoinSet<()>,
    stop: CancellationToken,
}

impl Plant {
    /// Switches on what may come before the gateway: broker, Modbus device and microcontroller.
    pub(super) async fn start() -> Result<Self, DemoError> {
        let tally = Arc::new(Tally::default());
        let stop = CancellationToken::new();
        let broker = broker::start().await?;
        let device = ModbusDevice::bind(SEED, Arc::clone(&tally)).await?;
        let (modbus, units) = (device.address(), device.units());
        let mut line = SerialLine::open().map_err(DemoError::SerialLine)?;
        let serial = line.path().to_owned();
        let (noise, noises) = mpsc::channel(FAULTS_MAX);
        let microcontroller = Microcontroller::new(SEED, Arc::clone(&tally));
        let stopped = stop.clone();
        let mut senders = JoinSet::new();
        senders.spawn(async move {
            if let Err(error) = microcontroller.run(&mut line, noises, stopped).await {
                tracing::error!(%error, "the simulated serial line broke");
            }
            Some(line)
        });
        let mut helpers = JoinSet::new();
        helpers.spawn(device.run());
        Ok(Self {
            broker,
            modbus,
            serial,
            tally,
            units,
            devices: Vec::new(),
            noise,
            senders,
            line: None,
            helpers,
            stop,
        })
    }

    /// Switches on the devices that publish. Not before the gateway has subscribed: a broker keeps nothing for those who
    /// have not.
    pub(super) fn publish(&mut self, clock: &Clock) {
        for position in 0..DEVICES.len() {
            let (fault, faults) = mpsc::channel(FAULTS_MAX);
            self.devices.push(fault);
            let wiring = Wiring {
                position,
                seed: SEED,
                broker: self.broker,
                faults,
                tally: Arc::clone(&self.tally),
                clock: clock.clone(),
                stop: self.stop.clone(),
            };
            self.senders.spawn(async move {
                mqtt_device::run(wiring).await;
                None
            });
        }
    }

    /// Lets something go wrong. A part that has not dealt with its last faults is spared this one.
    pub(super) fn strike(&mut self, fault: Fault) {
        match fault {
            Fault::Spike(device) | Fault::Stuck(device) | Fault::Impossible(device) | Fault::Garbled(device) => {
                if let Some(device) = self.devices.get(device) {
                    device.try_send(fault).ok();
                }
            }
            Fault::Noise => {
                self.noise.try_send(()).ok();
            }
            Fault::DeadUnit => {
                self.units.set_meter_dead(true);
                let units = Arc::clone(&self.units);
                self.helpers.spawn(async move {
                    sleep(LASTS).await;
                    units.set_meter_dead(false);
                });
            }
        }
    }

    /// Stops sending, and returns when broker and gateway have acknowledged what was sent or have had their time for it.
    pub(super) async fn stop(&mut self) {
        self.stop.cancel();
        self.units.switch_off();
        while let Some(ended) = self.senders.join_next().await {
            if let Ok(Some(line)) = ended {
                self.line = Some(line);
            }
        }
    }
}
