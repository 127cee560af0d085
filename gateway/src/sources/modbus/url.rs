//! The URL of a Modbus bus: `tcp://`, `rtu://` or `rtu-over-tcp://`.

use crate::sources::address::HostPort;
use crate::sources::line::{LineSettings, Parity, baud_problem};

/// The port of Modbus TCP (Modbus Messaging on TCP/IP Implementation Guide V1.0b, section 4.2.1).
const TCP_PORT: u16 = 502;
/// The speed that every device must know (Modbus over Serial Line V1.02, section 2.3).
const BAUD_DEFAULT: u32 = 19_200;

/// Where the bus is and how it is spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum BusAddress {
    /// Modbus TCP.
    Tcp(HostPort),
    /// Modbus RTU on a serial port.
    Rtu(LineSettings),
    /// Modbus RTU frames over a TCP connection, as simple serial servers speak.
    RtuOverTcp(HostPort),
}

impl BusAddress {
    /// Reads the URL; the error names what is wrong.
    pub(super) fn parse(url: &str) -> Result<Self, String> {
        match url.split_once("://") {
            Some(("tcp", address)) => HostPort::parse(address, TCP_PORT).map(Self::Tcp),
            Some(("rtu-over-tcp", address)) => HostPort::parse(address, TCP_PORT).map(Self::RtuOverTcp),
            Some(("rtu", rest)) => line(rest).map(Self::Rtu),
            _ => Err(format!(
                "{url:?} must start with tcp://, rtu:// or rtu-over-tcp://, as in \"rtu:///dev/ttyUSB0?baud=19200&parity=even\""
            )),
        }
    }

    /// Whether units may have any number, and not only 1 to 247.
    pub(super) fn is_tcp(&self) -> bool {
        matches!(self, Self::Tcp(_))
    }
}

fn line(text: &str) -> Result<LineSettings, String> {
    let (port, query) = text.split_once('?').unwrap_or((text, ""));
    if !port.starts_with('/') || port.contains('\0') {
        return Err(format!("{port:?} is not the path of a port; write three slashes, as in rtu:///dev/ttyUSB0"));
    }
    // Even parity is the default of Modbus over Serial Line V1.02, section 2.5.1; without parity come two stop bits.
    let mut line =
        LineSettings { port: port.to_owned(), baud: BAUD_DEFAULT, parity: Parity::Even, two_stop_bits: false };
    let mut stop_bits_told = false;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=').unwrap_or((pair, "")) {
            ("baud", baud) => {
                line.baud = baud.parse().map_err(|_| format!("baud {baud:?} is not a whole number"))?;
                baud_problem(line.baud).map_or(Ok(()), Err)?;
            }
            ("parity", "none") => line.parity = Parity::None,
            ("parity", "even") => line.parity = Parity::Even,
            ("parity", "odd") => line.parity = Parity::Odd,
            ("parity", parity) => return Err(format!("parity {parity:?} must be none, even or odd")),
            ("stop_bits", bits @ ("1" | "2")) => (line.two_stop_bits, stop_bits_told) = (bits == "2", true),
            ("stop_bits", bits) => return Err(format!("stop_bits {bits:?} must be 1 or 2")),
            ("data_bits", "8") => {}
            ("data_bits", bits) => return Err(format!("data_bits {bits:?} must be 8: Modbus RTU sends bytes")),
            (key, _) => return Err(format!("{key:?} is unknown; use baud, parity, data_bits, stop_bits")),
        }
    }
    if !stop_bits_told {
        line.two_stop_bits = line.parity == Parity::None;
    }
    Ok(line)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_serial_bus_is_read_with_the_defaults_of_the_standard() {
        let line = |url| match BusAddress::parse(url).unwrap() {
            BusAddress::Rtu(line) => line,
            other => panic!("{other:?}"),
        };
        let standard = line("rtu:///dev/ttyUSB0");
        assert_eq!((standard.baud, standard.parity, standard.two_stop_bits), (19_200, Parity::Even, false));
        let none = line("rtu:///dev/ttyUSB0?baud=9600&parity=none");
        assert_eq!((none.baud, none.parity, none.two_stop_bits), (9_600, Parity::None, true));
        assert!(!line("rtu:///dev/ttyUSB0?parity=none&stop_bits=1&data_bits=8").two_stop_bits);
    }

    #[test]
    fn tcp_addresses_have_the_standard_port() {
        let address = HostPort { host: "10.0.0.5".into(), port: 502 };
        assert_eq!(BusAddress::parse("tcp://10.0.0.5").unwrap(), BusAddress::Tcp(address.clone()));
        assert_eq!(BusAddress::parse("rtu-over-tcp://10.0.0.5:502").unwrap(), BusAddress::RtuOverTcp(address));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (url, part) in [
            ("10.0.0.5", "must start with"),
            ("rtu://dev/ttyUSB0", "three slashes"),
            ("rtu:///dev/ttyUSB0?baud=fast", "whole number"),
            ("rtu:///dev/ttyUSB0?baud=0", "must be 1 to"),
            ("rtu:///dev/ttyUSB0?parity=mark", "none, even or odd"),
            ("rtu:///dev/ttyUSB0?data_bits=7", "must be 8"),
            ("rtu:///dev/ttyUSB0?speed=1", "\"speed\" is unknown"),
        ] {
            let error = BusAddress::parse(url).unwrap_err();
            assert!(error.contains(part), "{url}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_gives_an_address_or_an_error(text in "(rtu:///)?\\PC{0,60}") {
            drop(BusAddress::parse(&text));
        }
    }
}
