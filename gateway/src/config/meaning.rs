//! Checks what a well-formed file says: names, limits, and how its parts go together.

use super::network::Network;
use super::{BufferOptions, Config, HttpsMode, WebOptions};
use crate::sinks::SinkOptions;
use crate::site::{NAME_BYTES_MAX, PointPattern};
use crate::sources::SourceOptions;
use crate::units::{ByteSize, HumanDuration};
use serde_json::Value;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

/// Most sources: each has its own task, connection and counters on the page.
const SOURCES_MAX: usize = 64;

/// Most sinks: each keeps a cursor in every stream and holds delivered chunks back until it has them, too.
const SINKS_MAX: usize = 16;

/// Most devices with tags; more than the points allow would be without a reading.
const DEVICES_MAX: usize = 10_000;

/// Most tags of a device: every reading of it carries them upstream.
const TAGS_MAX: usize = 32;

/// Most checks, and most anomaly rules: a new point is matched against all of them.
const RULES_MAX: usize = 1_000;

/// Words that stand where a name may stand in an address of the page.
const PAGE_WORDS: [&str; 5] = ["new", "try", "check", "jobs", "discover"];

/// Options that name what people see, and how deep they may stand.
const SHOWN: [&str; 3] = ["device", "point", "unit"];
const SHOWN_DEPTH_MAX: usize = 16;

/// Most reverse proxies: each request is held against all of them.
const PROXIES_MAX: usize = 16;

/// Longest id of a gateway and name of a source or sink, in bytes: they are part of every key, client id and metric.
const ID_BYTES_MAX: usize = 64;

/// Least disk space: one open and one sealed chunk of each family, the ledger and the ballast fit.
const DISK_BYTES_MIN: u64 = 64 << 20;

/// Least space for a part of the buffer with a limit of its own: four of the smallest chunks, so that dropping one does not empty it.
const FAMILY_BYTES_MIN: u64 = 8 << 20;

/// Shortest age at which undelivered records are dropped: well above how often that is looked at.
const AGE_MIN: Duration = Duration::from_mins(1);

/// Longest time that browsers are told to take HTTPS alone: what their lists of such sites ask for.
const HSTS_MAX: Duration = Duration::from_secs(730 * 24 * 3_600);

/// What was found: pairs of path and message.
#[derive(Debug, Default)]
pub(super) struct Meaning {
    /// What must be changed.
    pub(super) errors: Vec<(String, String)>,
    /// What may be meant, but should be known.
    pub(super) warnings: Vec<(String, String)>,
}

/// Checks the whole configuration.
pub(super) fn check(config: &Config) -> Meaning {
    let mut meaning = Meaning::default();
    meaning.gateway(config);
    meaning.counts(config);
    meaning.devices(config);
    meaning.sources(&config.source);
    meaning.sinks(&config.sink);
    for (index, check) in config.check.iter().enumerate() {
        meaning.pattern(&format!("check[{index}].points"), &check.points);
        meaning.part(&format!("check[{index}]"), check.problems());
    }
    for (index, anomaly) in config.anomaly.iter().enumerate() {
        meaning.pattern(&format!("anomaly[{index}].points"), &anomaly.points);
        meaning.part(&format!("anomaly[{index}]"), anomaly.problems());
    }
    meaning
}

impl Meaning {
    fn error(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.errors.push((path.into(), message.into()));
    }

    fn warning(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.warnings.push((path.into(), message.into()));
    }

    /// Takes over what a part of the configuration found out about itself.
    fn part<P: AsRef<str>>(&mut self, path: &str, problems: Vec<(P, String)>) {
        for (below, message) in problems {
            // A part may repeat its address, and that may carry a token.
            let message = super::redacted_toml(&message);
            self.error(format!("{path}.{}", below.as_ref()).trim_end_matches('.'), message);
        }
    }

    fn pattern(&mut self, path: &str, points: &str) {
        if PointPattern::parse(points).is_none() {
            self.error(path, "expected device/point, where * stands for any run of characters, such as \"boiler-*/*\"");
        }
    }

    fn gateway(&mut self, config: &Config) {
        if let Err(message) = check_id(&config.gateway.id) {
            self.error("gateway.id", message);
        }
        self.shown_names(config);
        if config.gateway.data_dir.as_os_str().is_empty() {
            self.error("gateway.data_dir", "expected the path of a folder");
        }
        self.web(&config.web);
        if config.buffer.disk_max.0 < DISK_BYTES_MIN {
            self.error("buffer.disk_max", "the buffer needs at least 64 MiB");
        }
        if config.buffer.commit_interval_max_ms < config.buffer.commit_interval_ms {
            self.error(
                "buffer.commit_interval_max_ms",
                "it is shorter than commit_interval_ms; no reading may wait longer",
            );
        }
        self.limits(&config.buffer);
    }

    /// Names of devices, points and units, wherever a source says them.
    fn shown_names(&mut self, config: &Config) {
        for (index, source) in config.source.iter().enumerate() {
            // Options always become JSON.
            let value = serde_json::to_value(source).unwrap_or_default();
            self.shown_names_in(&format!("source[{index}]"), &value, SHOWN_DEPTH_MAX);
        }
    }

    fn shown_names_in(&mut self, path: &str, value: &Value, depth: usize) {
        let Some(deeper) = depth.checked_sub(1) else { return };
        match value {
            Value::Object(table) => {
                for (key, value) in table {
                    let path = super::tree::join(path, key);
                    match value {
                        Value::String(name) if SHOWN.contains(&key.as_str()) && name.chars().any(deceives) => {
                            self.error(path, "expected a name without control characters and invisible marks");
                        }
                        value => self.shown_names_in(&path, value, deeper),
                    }
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.shown_names_in(&format!("{path}[{index}]"), item, deeper);
                }
            }
            _ => {}
        }
    }

    fn web(&mut self, web: &WebOptions) {
        match listens_on_loopback(&web.listen) {
            None => {
                self.error("web.listen", "expected an address and port, such as \"127.0.0.1:8080\" or \"[::1]:8080\"");
            }
            Some(false) if web.https == HttpsMode::Off => self.warning(
                "web.https",
                "passwords and readings cross the network for everyone to read; leave it at \"required\", or listen on 127.0.0.1 behind a proxy",
            ),
            Some(_) => {}
        }
        for (index, proxy) in web.trusted_proxies.iter().enumerate() {
            if index >= PROXIES_MAX {
                self.error("web.trusted_proxies", format!("at most {PROXIES_MAX} are possible"));
                break;
            }
            if proxy.parse::<Network>().is_err() {
                self.error(
                    format!("web.trusted_proxies[{index}]"),
                    "expected an address such as \"127.0.0.1\", or a network such as \"10.0.0.0/24\"",
                );
            }
        }
        let missing = match (&web.certificate_file, &web.key_file) {
            (Some(_), None) => Some(("certificate_file", "key_file")),
            (None, Some(_)) => Some(("key_file", "certificate_file")),
            _ => None,
        };
        if let Some((there, missing)) = missing {
            self.error(
                format!("web.{there}"),
                format!("it goes together with {missing}; give both, or neither for a certificate that the gateway makes itself"),
            );
        }
        match web.hsts {
            Some(_) if web.https == HttpsMode::Off => {
                self.error("web.hsts", "browsers would be told to use HTTPS, which web.https switches off; remove one of the two");
            }
            Some(HumanDuration(time)) if time > HSTS_MAX => {
                self.error("web.hsts", "at most 730 days; a browser that has seen it takes nothing else for so long");
            }
            Some(_) if web.certificate_file.is_none() => self.warning(
                "web.hsts",
                "no browser trusts the certificate that the gateway makes itself, and with this none lets anybody pass its warning; bring one at Settings, Security, set certificate_file, or remove hsts",
            ),
            _ => {}
        }
    }

    fn limits(&mut self, buffer: &BufferOptions) {
        let ByteSize(all) = buffer.disk_max;
        let mut sum = 0_u64;
        for (key, limit) in buffer.limits.each() {
            let path = format!("buffer.limits.{key}");
            if let Some(ByteSize(bytes)) = limit.disk_max {
                if bytes < FAMILY_BYTES_MIN {
                    self.error(format!("{path}.disk_max"), "a part of the buffer needs at least 8 MiB");
                }
                sum = sum.saturating_add(bytes);
            }
            if limit.age_max.is_some_and(|age| age.0 < AGE_MIN) {
                self.error(format!("{path}.age_max"), "the shortest age is 1 min, and it is looked at every 10 s");
            }
        }
        if sum > all {
            let sum = ByteSize(sum);
            let message = format!(
                "the limits of the parts add up to {sum}, more than buffer.disk_max; lower one, or raise buffer.disk_max"
            );
            self.error("buffer.limits", message);
        }
    }

    fn counts(&mut self, config: &Config) {
        let counts = [
            ("source", config.source.len(), SOURCES_MAX),
            ("sink", config.sink.len(), SINKS_MAX),
            ("device", config.device.len(), DEVICES_MAX),
            ("check", config.check.len(), RULES_MAX),
            ("anomaly", config.anomaly.len(), RULES_MAX),
        ];
        for (path, count, max) in counts {
            if count > max {
                self.error(path, format!("there are {count}, and at most {max} are possible"));
            }
        }
        if config.source.is_empty() {
            self.warning("", "there is no [[source]]: nothing will be read");
        }
        if config.sink.is_empty() {
            self.warning("", "there is no [[sink]]: readings are kept in the buffer and go nowhere");
        }
    }

    fn devices(&mut self, config: &Config) {
        self.unique("device", "id", config.device.iter().map(|device| device.id.as_str()));
        for (index, device) in config.device.iter().enumerate() {
            let path = format!("device[{index}]");
            if let Err(message) = check_text(&device.id) {
                self.error(format!("{path}.id"), message);
            }
            if device.tags.len() > TAGS_MAX {
                self.error(format!("{path}.tags"), format!("a device may have at most {TAGS_MAX} tags"));
            }
            for (tag, value) in &device.tags {
                if let Err(message) = check_text(tag).and_then(|()| check_text(value)) {
                    self.error(super::tree::join(&format!("{path}.tags"), tag), message);
                }
            }
        }
    }

    fn sources(&mut self, sources: &[SourceOptions]) {
        self.unique("source", "name", sources.iter().map(SourceOptions::name));
        let mut ports = HashMap::new();
        for (index, source) in sources.iter().enumerate() {
            let path = format!("source[{index}]");
            if let Err(message) = check_name(source.name()) {
                self.error(format!("{path}.name"), message);
            }
            if let Some(port) = source.serial_port()
                && let Some(first) = ports.insert(port, index)
            {
                let key = if matches!(source, SourceOptions::Modbus(_)) { "url" } else { "port" };
                let message = format!("source[{first}] already has this serial port; one line has one reader");
                self.error(format!("{path}.{key}"), message);
            }
            match source {
                SourceOptions::Mqtt(options) => {
                    let url = [options.url.as_str()];
                    self.addressed(&path, "url", &url, "username and password_file", options.problems());
                }
                SourceOptions::Modbus(options) => {
                    let url = [options.url.as_str()];
                    self.addressed(&path, "url", &url, "none, Modbus knows no users", options.problems());
                }
                SourceOptions::Serial(options) => self.part(&path, options.problems()),
            }
        }
    }

    fn sinks(&mut self, sinks: &[SinkOptions]) {
        self.unique("sink", "name", sinks.iter().map(SinkOptions::name));
        for (index, sink) in sinks.iter().enumerate() {
            let path = format!("sink[{index}]");
            if let Err(message) = check_name(sink.name()) {
                self.error(format!("{path}.name"), message);
            }
            match sink {
                SinkOptions::Http(options) => {
                    let url = [options.url.as_str()];
                    self.addressed(&path, "url", &url, "auth = { bearer_file = \"…\" }", options.problems());
                }
                SinkOptions::Kafka(options) => {
                    let brokers: Vec<&str> = options.brokers.iter().map(String::as_str).collect();
                    self.addressed(&path, "brokers", &brokers, "host:port alone", options.problems());
                }
            }
        }
    }

    /// Takes over the problems of a part that names its peers at `key`. An address with a user or password in it is refused
    /// here, and what the part says of it is left out, since that may repeat the password.
    fn addressed<P: AsRef<str>>(
        &mut self,
        path: &str,
        key: &str,
        addresses: &[&str],
        instead: &str,
        mut problems: Vec<(P, String)>,
    ) {
        if addresses.iter().any(|address| names_user(address)) {
            let message = format!("a user or password does not belong here, this file is no secret; use {instead}");
            self.error(format!("{path}.{key}"), message);
            problems.retain(|(below, _)| below.as_ref() != key);
        }
        self.part(path, problems);
    }

    fn unique<'a>(&mut self, list: &str, key: &str, names: impl Iterator<Item = &'a str>) {
        let mut seen = HashMap::new();
        for (index, name) in names.enumerate() {
            if let Some(first) = seen.get(name) {
                let message = format!("{list}[{first}] already has this {key}; each needs its own");
                self.error(format!("{list}[{index}].{key}"), message);
            } else {
                seen.insert(name, index);
            }
        }
    }
}

/// An id goes into keys, topics, client ids and file names.
fn check_id(id: &str) -> Result<(), String> {
    let fit = id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if matches!(id, "." | "..") {
        return Err(format!("{id:?} means a folder and not a thing; choose another name"));
    }
    if fit && (1..=ID_BYTES_MAX).contains(&id.len()) {
        return Ok(());
    }
    Err(format!("expected 1 to {ID_BYTES_MAX} letters, digits, '-', '_' or '.'"))
}

/// A name that is also a part of the addresses of the page.
fn check_name(name: &str) -> Result<(), String> {
    if PAGE_WORDS.contains(&name) {
        return Err(format!("{name:?} is what the page calls something of its own; choose another name"));
    }
    check_id(name)
}

/// Whether it shows nothing, or changes how others beside it are shown: two names could look alike, or one backwards.
fn deceives(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{061c}')
}

/// A name that people see.
fn check_text(text: &str) -> Result<(), String> {
    if (1..=NAME_BYTES_MAX).contains(&text.len()) && !text.chars().any(deceives) {
        return Ok(());
    }
    Err(format!("expected 1 to {NAME_BYTES_MAX} bytes without control characters and invisible marks"))
}

/// Whether an address is on this machine only; `None` if it is no address.
fn listens_on_loopback(listen: &str) -> Option<bool> {
    if let Some(port) = listen.strip_prefix("localhost:") {
        return port.parse::<u16>().is_ok().then_some(true);
    }
    listen.parse::<SocketAddr>().ok().map(|address| address.ip().is_loopback())
}

/// Whether an address names a user before its host; an `@` in a path (of a port, of an endpoint) is none.
fn names_user(address: &str) -> bool {
    let path = address.starts_with("rtu:///");
    let web = address.split_once("://").filter(|(scheme, _)| scheme.starts_with("http"));
    let authority = web.map_or(address, |(_, rest)| rest.split(['/', '?', '#']).next().unwrap_or_default());
    !path && authority.contains('@')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Vec<String> {
        let errors = crate::config::examine(text).problems;
        errors.iter().map(|problem| format!("{}: {}", problem.path, problem.message)).collect()
    }

    #[test]
    fn names_that_are_addresses_or_deceive_are_refused_where_they_stand() {
        let source = |name: &str, device: &str, unit: &str| {
            format!(
                "[gateway]\nid = \"a\"\n[[source]]\ntype = \"mqtt\"\nname = \"{name}\"\nurl = \"mqtt://h\"\nclient_id = \"b\"\nsubscribe = [{{ filter = \"a\", device = \"{device}\", point = \"p\", unit = \"{unit}\", payload = {{ format = \"number\" }} }}]\n"
            )
        };
        assert_eq!(said(&source("hall", "dryer", "°C")), Vec::<String>::new());
        for name in ["new", "try", "check", "jobs", "discover", ".", ".."] {
            let said = said(&source(name, "dryer", "°C"));
            assert!(said.len() == 1 && said[0].starts_with("source[0].name: "), "{name}: {said:?}");
        }
        for (device, unit, path) in [
            ("dr\\u202eyer", "°C", "source[0].subscribe[0].device"),
            ("dr\\nyer", "°C", "source[0].subscribe[0].device"),
            ("dryer", "\\u200b°C", "source[0].subscribe[0].unit"),
        ] {
            let said = said(&source("hall", device, unit));
            assert!(said.iter().any(|said| said.starts_with(path)), "{device} {unit}: {said:?}");
        }
        assert!(said("[gateway]\nid = \"..\"\n")[0].starts_with("gateway.id: "));
        let sink = "[gateway]\nid = \"a\"\n[[sink]]\ntype = \"http\"\nname = \"new\"\nurl = \"http://h\"\n";
        assert!(said(sink)[0].starts_with("sink[0].name: "));
        let proxy = "[gateway]\nid = \"a\"\n[web]\ntrusted_proxies = [\"127.0.0.1\", \"proxy\"]\n";
        assert!(said(proxy)[0].starts_with("web.trusted_proxies[1]: "), "{:?}", said(proxy));
    }

    #[test]
    fn a_user_is_seen_before_the_host_only() {
        for address in ["mqtt://ann@host:1883", "mqtt:/ann:p/w@host", "ann:pw@host:9092", "https://ann:pw@host/x"] {
            assert!(names_user(address), "{address}");
        }
        for address in ["https://host/@path?a=b@c", "rtu:///dev/tty@1?baud=9600", "tcp://host:502", "host:9092"] {
            assert!(!names_user(address), "{address}");
        }
    }
}
