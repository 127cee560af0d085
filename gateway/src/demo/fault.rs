//! What goes wrong in the simulated plant now and then, when, and how to say it.

use super::mqtt_device::DEVICES;
use fastrand::Rng;
use std::time::Duration;

/// The first fault: a person has seen by then how it looks when all is well.
pub(super) const FIRST_AFTER: Duration = Duration::from_secs(3);
/// From one fault to the next: in half a minute each kind comes once.
pub(super) const NEXT_AFTER: Duration = Duration::from_secs(4);
/// How long a stuck sensor stays stuck and a dead unit dead.
pub(super) const LASTS: Duration = Duration::from_secs(5);
/// Noise on the serial line, in bytes.
pub(super) const NOISE_BYTES: usize = 40;

/// Something that goes wrong. Devices are positions in [`DEVICES`]; it strikes their first point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// One reading is far off.
    Spike(usize),
    /// A sensor repeats itself.
    Stuck(usize),
    /// One reading is what cannot be.
    Impossible(usize),
    /// One message is not JSON.
    Garbled(usize),
    /// A Modbus unit does not answer.
    DeadUnit,
    /// The serial line carries noise, and a bit of the next frame is turned over.
    Noise,
}

impl Fault {
    /// What happens and what to expect, for a person.
    pub(super) fn words(self) -> String {
        let at = |device: usize| {
            let device = DEVICES.get(device % DEVICES.len());
            device.map_or_else(String::new, |device| format!("{}/{}", device.name, device.points[0].name))
        };
        let seconds = LASTS.as_secs();
        match self {
            Self::Spike(device) => format!("{} jumps for one reading: it is flagged as an anomaly", at(device)),
            Self::Stuck(device) => format!("{} is stuck for {seconds} s: its readings stay delivered", at(device)),
            Self::Impossible(device) => format!("{} sends what cannot be: a dead letter", at(device)),
            Self::Garbled(device) => format!("{} sends half a message: a dead letter", at(device)),
            Self::DeadUnit => format!("the power meter (Modbus unit 2) is dead for {seconds} s"),
            Self::Noise => "noise on the serial line damages a frame: the microcontroller sends it again".to_owned(),
        }
    }
}

/// The faults of a plant in their order, without end.
pub(super) fn sequence(seed: u64) -> impl Iterator<Item = Fault> {
    let mut rng = Rng::with_seed(seed);
    (0_usize..).map(move |turn| {
        let device = rng.usize(..DEVICES.len());
        match turn % 6 {
            0 => Fault::DeadUnit,
            // By now the detectors have seen enough to know what is usual.
            1 => Fault::Spike(device),
            2 => Fault::Impossible(device),
            3 => Fault::Noise,
            4 => Fault::Stuck(device),
            _ => Fault::Garbled(device),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_comes_within_half_a_minute_and_has_its_words() {
        let time_left = Duration::from_secs(30).saturating_sub(FIRST_AFTER);
        let count = usize::try_from(time_left.as_secs() / NEXT_AFTER.as_secs()).unwrap_or(0);
        let faults: Vec<Fault> = sequence(1).take(count).collect();
        let kinds: std::collections::HashSet<_> = faults.iter().map(std::mem::discriminant).collect();
        assert_eq!(kinds.len(), 6);
        assert!(faults.iter().all(|fault| fault.words().len() > 20));
    }
}
