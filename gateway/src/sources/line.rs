//! Opens serial ports, for the sources that read from one.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio_serial::{ClearBuffer, DataBits, SerialPort as _, SerialPortBuilderExt as _, StopBits};

/// An open serial port.
pub type Line = tokio_serial::SerialStream;

/// Fastest line, in bits per second: what the fastest USB adapters do (FTDI FT232H data sheet: 12 Mbaud).
pub const BAUD_MAX: u32 = 12_000_000;

/// Parity of each character.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Parity {
    /// No parity bit.
    #[default]
    None,
    /// Even number of ones.
    Even,
    /// Odd number of ones.
    Odd,
}

/// How a port is opened; always with 8 data bits, since every protocol here sends bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineSettings {
    /// Path of the port; a symbolic link is resolved anew each time it is opened.
    pub port: String,
    /// Bits per second.
    pub baud: u32,
    /// Parity of each character.
    pub parity: Parity,
    /// Whether a character ends with two stop bits instead of one.
    pub two_stop_bits: bool,
}

impl LineSettings {
    /// Opens the port, for this process alone.
    ///
    /// # Errors
    /// A sentence that says what is wrong and what to do.
    pub fn open(&self) -> Result<Line, String> {
        let parity = match self.parity {
            Parity::None => tokio_serial::Parity::None,
            Parity::Even => tokio_serial::Parity::Even,
            Parity::Odd => tokio_serial::Parity::Odd,
        };
        let stop_bits = if self.two_stop_bits { StopBits::Two } else { StopBits::One };
        let builder = tokio_serial::new(&self.port, self.baud).parity(parity).stop_bits(stop_bits);
        builder.data_bits(DataBits::Eight).open_native_async().map_err(|error| self.explain(&error))
    }

    fn explain(&self, error: &tokio_serial::Error) -> String {
        let port = &self.port;
        match error.kind() {
            tokio_serial::ErrorKind::Io(std::io::ErrorKind::PermissionDenied) => {
                format!("serial port {port} may not be opened; add the user of this service to the group `dialout`")
            }
            tokio_serial::ErrorKind::NoDevice if std::path::Path::new(port).exists() => {
                format!("serial port {port} cannot be opened ({error}); check that no other program uses it")
            }
            tokio_serial::ErrorKind::NoDevice | tokio_serial::ErrorKind::Io(std::io::ErrorKind::NotFound) => {
                format!("serial port {port} is not there; check that it is plugged in")
            }
            _ => format!("serial port {port} cannot be opened: {error}"),
        }
    }
}

/// Forgets what came in before anyone asked.
///
/// # Errors
/// What the system said.
pub fn discard_input(line: &Line) -> Result<(), String> {
    line.clear(ClearBuffer::Input).map_err(|error| error.to_string())
}

/// What is wrong with a speed, if anything.
#[must_use]
pub fn baud_problem(baud: u32) -> Option<String> {
    let message = || format!("baud {baud} must be 1 to {BAUD_MAX}, usually 9600, 19200 or 115200");
    (baud == 0 || baud > BAUD_MAX).then(message)
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    /// The far end of a line, and the path at which the line can be opened as a port.
    pub(in crate::sources) fn pseudo_terminal() -> (Line, String) {
        let (far_end, port) = Line::pair().unwrap();
        let path = port.name().unwrap();
        (far_end, path)
    }

    #[test]
    fn a_port_that_is_not_there_is_told_with_what_to_do() {
        let settings =
            LineSettings { port: "/dev/no-such-port".into(), baud: 9_600, parity: Parity::Even, two_stop_bits: true };
        let error = settings.open().unwrap_err();
        assert!(error.contains("/dev/no-such-port is not there; check that it is plugged in"), "{error}");
    }

    #[test]
    fn an_impossible_speed_is_told() {
        assert!(baud_problem(0).is_some() && baud_problem(9_600).is_none());
    }
}
