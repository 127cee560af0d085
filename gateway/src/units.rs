//! Durations and sizes as people write them: `"7 days"`, `"2 GiB"`.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A duration with its unit: `"200 ms"`, `"10 min"`, `"7 days"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HumanDuration(pub Duration);

/// A size with its unit: `"256 KiB"`, `"2 GiB"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// Why a duration or size could not be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum UnitError {
    /// No whole number in front.
    #[error("{0:?} does not start with a whole number")]
    NoNumber(String),
    /// The unit is unknown.
    #[error("{found:?} is not a unit; use one of {known}")]
    UnknownUnit {
        /// What stood there.
        found: String,
        /// What may stand there.
        known: &'static str,
    },
    /// The value does not fit.
    #[error("{0:?} is too large")]
    TooLarge(String),
}

const DURATION_UNITS: [(&str, u64); 17] = [
    ("ms", 1),
    ("s", 1_000),
    ("sec", 1_000),
    ("second", 1_000),
    ("seconds", 1_000),
    ("min", 60_000),
    ("minute", 60_000),
    ("minutes", 60_000),
    ("h", 3_600_000),
    ("hour", 3_600_000),
    ("hours", 3_600_000),
    ("d", 86_400_000),
    ("day", 86_400_000),
    ("days", 86_400_000),
    ("w", 604_800_000),
    ("week", 604_800_000),
    ("weeks", 604_800_000),
];

const SIZE_UNITS: [(&str, u64); 7] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
];

fn parse(text: &str, units: &[(&str, u64)], known: &'static str) -> Result<u64, UnitError> {
    let text = text.trim();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(UnitError::NoNumber(text.to_owned()));
    }
    let unit = unit.trim();
    let Some((_, factor)) = units.iter().find(|(name, _)| *name == unit) else {
        return Err(UnitError::UnknownUnit { found: unit.to_owned(), known });
    };
    let number: u64 = number.parse().map_err(|_| UnitError::TooLarge(text.to_owned()))?;
    number.checked_mul(*factor).ok_or_else(|| UnitError::TooLarge(text.to_owned()))
}

/// The largest unit of `units` that divides `amount`.
fn render(amount: u64, units: &[(&str, u64)], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let best = units.iter().rev().find(|(_, factor)| amount != 0 && amount.is_multiple_of(*factor));
    let (name, factor) = best.copied().unwrap_or((units.first().map_or("", |unit| unit.0), 1));
    write!(f, "{} {name}", amount / factor)
}

impl FromStr for HumanDuration {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        parse(text, &DURATION_UNITS, "ms, s, min, h, days, weeks").map(|ms| Self(Duration::from_millis(ms)))
    }
}

impl FromStr for ByteSize {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        parse(text, &SIZE_UNITS, "B, KiB, MiB, GiB, kB, MB, GB").map(Self)
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: [(&str, u64); 5] =
            [("ms", 1), ("s", 1_000), ("min", 60_000), ("h", 3_600_000), ("days", 86_400_000)];
        render(u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX), &SHOWN, f)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: [(&str, u64); 4] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
        render(self.0, &SHOWN, f)
    }
}

macro_rules! text_in_files {
    ($type:ty, $name:literal, $pattern:literal) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "pattern": $pattern })
            }
        }
    };
}

// As many digits as fit whatever follows them.
text_in_files!(
    HumanDuration,
    "Duration",
    r"^\s*([0-9]{1,19}\s*ms|[0-9]{1,10}\s*(s|sec|seconds?|min|minutes?|h|hours?|d|days?|w|weeks?))\s*$"
);
text_in_files!(ByteSize, "Size", r"^\s*([0-9]{1,19}\s*B|[0-9]{1,10}\s*(KiB|MiB|GiB|kB|MB|GB))\s*$");

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn durations_and_sizes_read_as_people_write_them() {
        assert_eq!("10 min".parse::<HumanDuration>().unwrap().0, Duration::from_secs(600));
        assert_eq!("7days".parse::<HumanDuration>().unwrap().0, Duration::from_secs(604_800));
        assert_eq!("2 GiB".parse::<ByteSize>().unwrap().0, 2 << 30);
        assert_eq!(ByteSize(256 << 10).to_string(), "256 KiB");
        assert_eq!(HumanDuration(Duration::from_millis(1_500)).to_string(), "1500 ms");
    }

    #[test]
    fn a_missing_unit_or_number_is_named() {
        assert!("10".parse::<HumanDuration>().unwrap_err().to_string().contains("ms, s, min"));
        assert!("GiB".parse::<ByteSize>().unwrap_err().to_string().contains("whole number"));
        assert!("99999999999999 GiB".parse::<ByteSize>().unwrap_err().to_string().contains("too large"));
    }
}
