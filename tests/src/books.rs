//! The books: what was sent against what arrived, reading by reading.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use serde_json::Value;

/// Readings of each kind that a verdict names.
const EXAMPLES_MAX: usize = 5;

/// Whole numbers up to this one, 2^53, are exact in a float of 64 bits.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// One reading, told from all others of the test by the counter it carries as its value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entry {
    /// The device.
    pub device: String,
    /// The point of the device.
    pub point: String,
    /// The value: each device and point counts up, so that no two readings are alike.
    pub counter: i64,
}

impl Entry {
    /// An entry.
    #[must_use]
    pub fn new(device: &str, point: &str, counter: i64) -> Self {
        Self { device: device.to_owned(), point: point.to_owned(), counter }
    }

    /// The entry of a delivered reading; `None` if it lacks a device or a point, or its value is not a whole number.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "only whole numbers within range pass the comparison")]
    pub fn of_reading(reading: &Value) -> Option<Self> {
        let value = reading.get("value")?;
        let counter = match value.as_i64() {
            Some(counter) => counter,
            None => value.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < EXACT_MAX)? as i64,
        };
        Some(Self::new(reading.get("device")?.as_str()?, reading.get("point")?.as_str()?, counter))
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{} #{}", self.device, self.point, self.counter)
    }
}

/// What became of the expected readings.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Expected readings that arrived exactly once.
    pub once: usize,
    /// Expected readings that arrived more often.
    pub repeated: Vec<Entry>,
    /// Expected readings that did not arrive.
    pub missing: Vec<Entry>,
    /// Arrivals that nobody expected.
    pub unexpected: Vec<Entry>,
    /// Readings whose first arrival came after that of a later one of the same device and point.
    pub out_of_order: Vec<Entry>,
}

impl Verdict {
    /// Compares what was expected with what arrived, given in the order of arrival.
    #[must_use]
    pub fn new(expected: impl IntoIterator<Item = Entry>, received: impl IntoIterator<Item = Entry>) -> Self {
        let expected: BTreeSet<Entry> = expected.into_iter().collect();
        let mut arrivals: BTreeMap<Entry, usize> = BTreeMap::new();
        let mut latest: HashMap<(String, String), i64> = HashMap::new();
        let mut verdict = Self::default();
        for entry in received {
            let count = arrivals.entry(entry.clone()).or_default();
            *count += 1;
            if *count > 1 {
                continue;
            }
            let latest = latest.entry((entry.device.clone(), entry.point.clone())).or_insert(entry.counter);
            if entry.counter < *latest {
                verdict.out_of_order.push(entry);
            } else {
                *latest = entry.counter;
            }
        }
        for entry in &expected {
            match arrivals.remove(entry) {
                None => verdict.missing.push(entry.clone()),
                Some(1) => verdict.once += 1,
                Some(_) => verdict.repeated.push(entry.clone()),
            }
        }
        verdict.unexpected = arrivals.into_keys().collect();
        verdict
    }

    /// Whether every expected reading arrived once, in order, and nothing else did.
    #[must_use]
    pub fn is_exactly_once(&self) -> bool {
        [&self.repeated, &self.missing, &self.unexpected, &self.out_of_order].iter().all(|kind| kind.is_empty())
    }

    /// Fails the test, with the whole verdict, unless every expected reading arrived once and in order.
    pub fn assert_exactly_once(&self, where_to: &str) {
        assert!(self.is_exactly_once(), "the books of {where_to} do not close: {self}");
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} once", self.once)?;
        let kinds = [
            ("repeated", &self.repeated),
            ("missing", &self.missing),
            ("unexpected", &self.unexpected),
            ("out of order", &self.out_of_order),
        ];
        for (name, entries) in kinds {
            write!(out, ", {} {name}", entries.len())?;
            if !entries.is_empty() {
                let examples: Vec<String> = entries.iter().take(EXAMPLES_MAX).map(ToString::to_string).collect();
                let more = if entries.len() > EXAMPLES_MAX { ", ..." } else { "" };
                write!(out, " ({}{more})", examples.join(", "))?;
            }
        }
        Ok(())
    }
}

/// The places at which the gateway's own sequence goes back within a device: none, if order is kept.
///
/// Each item names the device and the two sequences.
#[must_use]
pub fn sequence_setbacks<'a>(readings: impl IntoIterator<Item = &'a Value>) -> Vec<String> {
    let mut latest: HashMap<(&str, &str), u64> = HashMap::new();
    let mut setbacks = Vec::new();
    for reading in readings {
        let name = |key| reading.get(key).and_then(Value::as_str).unwrap_or_default();
        let sequence = reading.get("seq").and_then(Value::as_u64).unwrap_or_default();
        let latest = latest.entry((name("epoch"), name("device"))).or_default();
        if sequence <= *latest && *latest > 0 {
            setbacks.push(format!("{}: {sequence} after {latest}", name("device")));
        }
        *latest = sequence;
    }
    setbacks
}
