//! The address of a Modbus bus as fields that people can fill, and back.

use std::fmt::Write as _;

/// The fields: how the bus is reached, then where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::web) struct BusFields {
    /// `tcp`, `rtu`, `rtu-over-tcp`.
    reach: String,
    host: String,
    line: String,
    baud: String,
    parity: String,
    stop_bits: String,
}

impl BusFields {
    /// The fields of an address; `None` for one that is written in a way of its own.
    pub(in crate::web) fn of_url(url: &str) -> Option<Self> {
        let (reach, rest) = url.split_once("://")?;
        let mut fields = Self { reach: reach.to_owned(), ..Self::default() };
        if reach != "rtu" {
            rest.clone_into(&mut fields.host);
            return matches!(reach, "tcp" | "rtu-over-tcp").then_some(fields);
        }
        let (line, query) = rest.split_once('?').unwrap_or((rest, ""));
        line.clone_into(&mut fields.line);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=')? {
                ("baud", value) => value.clone_into(&mut fields.baud),
                ("parity", value) => value.clone_into(&mut fields.parity),
                ("stop_bits", value) => value.clone_into(&mut fields.stop_bits),
                ("data_bits", "8") => {}
                _ => return None,
            }
        }
        Some(fields)
    }

    /// The fields of a form.
    pub(in crate::web) fn read(get: impl Fn(&str) -> String) -> Self {
        let get = |name: &str| get(name).trim().to_owned();
        Self {
            reach: get("_reach"),
            host: get("_host"),
            line: get("_line"),
            baud: get("_baud"),
            parity: get("_parity"),
            stop_bits: get("_stop_bits"),
        }
    }

    /// The names of the fields, and what is in them.
    pub(in crate::web) fn fields(&self) -> Vec<(String, String)> {
        [
            ("_reach", &self.reach),
            ("_host", &self.host),
            ("_line", &self.line),
            ("_baud", &self.baud),
            ("_parity", &self.parity),
            ("_stop_bits", &self.stop_bits),
        ]
        .map(|(name, value)| (name.to_owned(), value.clone()))
        .to_vec()
    }

    /// The address; `None` if the form has no such fields. What is missing is left to the checks.
    pub(in crate::web) fn url(&self) -> Option<String> {
        match self.reach.as_str() {
            "" => None,
            "rtu" => {
                let mut url = format!("rtu://{}", self.line);
                let pairs = [("baud", &self.baud), ("parity", &self.parity), ("stop_bits", &self.stop_bits)];
                let pairs = pairs.into_iter().filter(|(_, value)| !value.is_empty());
                for (index, (name, value)) in pairs.enumerate() {
                    // Writing into a string does not fail.
                    _ = write!(url, "{}{name}={value}", if index == 0 { '?' } else { '&' });
                }
                Some(url)
            }
            reach => Some(format!("{reach}://{}", self.host)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn an_address_becomes_fields_and_back() {
        for url in
            ["tcp://192.0.2.10:502", "rtu-over-tcp://a:1", "rtu:///dev/ttyUSB0?baud=19200&parity=even", "rtu:///dev/a"]
        {
            assert_eq!(BusFields::of_url(url).unwrap().url().unwrap(), url);
        }
        assert_eq!(BusFields::of_url("rtu:///dev/a?speed=9"), None);
        assert_eq!(BusFields::of_url("mqtt://a"), None);
    }
}
