//! The gateway's configuration for the simulated plant, as the text of a file.

use super::microcontroller;
use super::modbus_device::{BOILER, METER};
use super::mqtt_device::UNITS;
use super::tally::{MODBUS, MQTT, SERIAL};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

/// Name of the sink that delivers to the receiver.
pub(super) const SINK: &str = "cloud";

/// Where everything is.
#[derive(Debug)]
pub(super) struct Addresses<'a> {
    /// Folder of the gateway's data.
    pub(super) data_dir: &'a Path,
    /// The page, `host:port`.
    pub(super) page: SocketAddr,
    /// The broker.
    pub(super) broker: SocketAddr,
    /// The Modbus device.
    pub(super) modbus: SocketAddr,
    /// The serial port.
    pub(super) serial: &'a str,
    /// Where to POST, with `{stream}`.
    pub(super) receiver: &'a str,
}

/// Writes the file.
pub(super) fn text(addresses: &Addresses<'_>) -> String {
    let Addresses { data_dir, page, broker, modbus, serial, receiver } = addresses;
    let data_dir = data_dir.display();
    let probe = microcontroller::DEVICE;
    let mut subscriptions = String::new();
    for (point, unit) in UNITS {
        let subscription = format!(
            r#"[[source.subscribe]]
filter = "plant/+/{point}"
device = "{{2}}"
point = "{{3}}"
unit = "{unit}"
payload = {{ format = "json", value = "/value", time = "/ts" }}
"#
        );
        // Writing to a string cannot fail.
        writeln!(subscriptions, "{subscription}").ok();
    }
    format!(
        r#"# The gateway of the demo: everything it reads and writes is simulated, on this machine.

[gateway]
id = "demo"
data_dir = "{data_dir}"

[web]
listen = "{page}"

[[device]]
id = "boiler-3"
tags = {{ site = "demo", zone = "A", equipment = "boiler" }}

[[device]]
id = "meter-1"
tags = {{ site = "demo", zone = "A", equipment = "power meter" }}

[[device]]
id = "{probe}"
tags = {{ site = "demo", zone = "B", equipment = "probe" }}

[[source]]
type = "mqtt"
name = "{MQTT}"
url = "mqtt://{broker}"

{subscriptions}[[source]]
type = "modbus"
name = "{MODBUS}"
url = "tcp://{modbus}"

[[source.unit]]
id = {BOILER}
device = "boiler-3"
every_ms = 1000
registers = [
  {{ point = "supply_temperature", table = "holding", address = 0, kind = "i16", scale = 0.1, unit = "°C" }},
  {{ point = "return_temperature", table = "holding", address = 1, kind = "i16", scale = 0.1, unit = "°C" }},
  {{ point = "flow", table = "input", address = 8, kind = "f32", order = "cdab", unit = "m³/h" }},
  {{ point = "burner", table = "coil", address = 0 }},
]

[[source.unit]]
id = {METER}
device = "meter-1"
every_ms = 1000
registers = [
  {{ point = "power", table = "input", address = 0, kind = "f32", unit = "kW" }},
  {{ point = "voltage", table = "input", address = 4, kind = "i16", scale = 0.1, unit = "V" }},
]

[[source]]
type = "serial"
name = "{SERIAL}"
port = "{serial}"
framing = {{ kind = "firmware" }}
device = "{probe}"

[[check]]
points = "*/*"
range = {{ possible = [-100.0, 5000.0] }}
severity = "error"
action = "dead_letter"

[[check]]
points = "boiler-*/temperature"
range = {{ operating = [60.0, 80.0] }}

[[anomaly]]
points = "*/*"

[[sink]]
type = "http"
name = "{SINK}"
url = "{receiver}"
# Watching is more fun when little waits: the default of a second makes larger requests.
linger_ms = 200
timeout_ms = 2000
"#
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::config;
    use crate::demo::tally::SOURCES;
    use crate::sources::SourceOptions;

    #[test]
    fn the_gateway_takes_it_without_a_word() {
        let addresses = Addresses {
            data_dir: Path::new("/var/demo"),
            page: "127.0.0.1:0".parse().unwrap(),
            broker: "127.0.0.1:1883".parse().unwrap(),
            modbus: "127.0.0.1:502".parse().unwrap(),
            serial: "/dev/pts/7",
            receiver: "http://127.0.0.1:8081/v1/{stream}",
        };
        let loaded = config::parse("demo.toml", text(&addresses)).unwrap();
        assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
        let names: Vec<_> = loaded.config.source.iter().map(SourceOptions::name).collect();
        assert_eq!(names, SOURCES);
    }
}
