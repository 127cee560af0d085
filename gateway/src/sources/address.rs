//! Host and port of a URL, read totally.

use std::fmt;

/// Longest host name, in bytes (RFC 1035, section 2.3.4).
const HOST_BYTES_MAX: usize = 255;

/// Where to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// Name or address; an IPv6 address keeps its brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl HostPort {
    /// Reads `host`, `host:port` or `[ipv6]:port`.
    ///
    /// # Errors
    /// A sentence that names what is wrong.
    pub fn parse(text: &str, default_port: u16) -> Result<Self, String> {
        if text.contains('@') {
            return Err("user and password do not belong into the URL, where everyone sees them".to_owned());
        }
        let host_bytes = if text.starts_with('[') { text.find(']').map(|end| end + 1) } else { text.find(':') };
        let (host, port) = text.split_at_checked(host_bytes.unwrap_or(text.len())).unwrap_or((text, ""));
        let port = match port.strip_prefix(':') {
            Some(port) => port.parse().ok().filter(|port| *port != 0),
            None => port.is_empty().then_some(default_port),
        };
        let port = port.ok_or_else(|| format!("{text:?} has no port of 1 to 65535 after the colon"))?;
        let fits = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        let inner = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
        let is_host = match inner {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => !host.is_empty() && host.len() <= HOST_BYTES_MAX && host.chars().all(fits),
        };
        if !is_host {
            return Err(format!("{host:?} is not a host name or address; IPv6 addresses stand in brackets"));
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_and_addresses_are_read_with_and_without_port() {
        for (text, shown) in [
            ("broker", "broker:1883"),
            ("10.0.0.5:1884", "10.0.0.5:1884"),
            ("[::1]:1885", "[::1]:1885"),
            ("[fe80::1]", "[fe80::1]:1883"),
        ] {
            assert_eq!(HostPort::parse(text, 1883).unwrap().to_string(), shown);
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, part) in [
            ("", "host name"),
            ("broker:", "no port"),
            ("broker:0", "no port"),
            ("broker:99999", "no port"),
            ("user:secret@broker", "user and password"),
            ("[::1", "host name"),
            ("bro ker", "host name"),
        ] {
            let error = HostPort::parse(text, 1883).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_gives_an_address_or_an_error(text in "\\PC{0,40}") {
            drop(HostPort::parse(&text, 502));
        }
    }
}
