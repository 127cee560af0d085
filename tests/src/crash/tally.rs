//! The totals of the campaign: what a stretch came to, and the file that keeps the sum from run to run.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::books::Verdict;

/// Faults that are kept word by word.
const EXAMPLES_MAX: usize = 10;

/// What a stretch came to.
#[derive(Debug, Default)]
pub struct Tally {
    /// Deaths.
    pub rounds: u64,
    /// How long it took.
    pub seconds: u64,
    /// Messages that the broker acknowledged to the publishers.
    pub acknowledged: u64,
    /// Readings of the Modbus devices that arrived.
    pub polled: u64,
    /// By sink.
    pub sinks: BTreeMap<String, Faults>,
}

/// What was wrong at one sink.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Faults {
    /// Acknowledged and not there.
    pub lost: u64,
    /// There more than once, or never sent.
    pub repeated: u64,
    /// There before an older one of the same device and point.
    pub reordered: u64,
    /// Holes and repetitions in the gateway's own sequences, and other words.
    pub other: u64,
    /// The first ones, in words.
    pub examples: Vec<String>,
}

/// The sum of all stretches.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Deaths.
    pub rounds: u64,
    /// How long they took.
    pub seconds: u64,
    /// Messages that the broker acknowledged to the publishers.
    pub acknowledged: u64,
    /// Readings of the Modbus devices that arrived.
    pub polled: u64,
    /// By sink.
    pub sinks: BTreeMap<String, Faults>,
}

impl Faults {
    /// What a comparison found at a sink.
    #[must_use]
    pub fn of(verdict: &Verdict, sink: &str) -> Self {
        let mut faults = Self {
            lost: verdict.missing.len() as u64,
            repeated: (verdict.repeated.len() + verdict.unexpected.len()) as u64,
            reordered: verdict.out_of_order.len() as u64,
            ..Self::default()
        };
        if !verdict.is_exactly_once() {
            faults.examples.push(format!("{sink}: {verdict}"));
        }
        faults
    }

    /// Holes and repetitions in the sequences of each gateway: a stretch's go from the first to the last without either.
    #[must_use]
    pub fn of_sequences(readings: &[Value]) -> Self {
        let mut sequences: BTreeMap<(&str, &str), Vec<u64>> = BTreeMap::new();
        for reading in readings {
            let text = |key: &str| reading[key].as_str().unwrap_or_default();
            let number = reading["seq"].as_u64().unwrap_or_default();
            sequences.entry((text("gateway"), text("epoch"))).or_default().push(number);
        }
        let mut faults = Self::default();
        for ((gateway, epoch), numbers) in sequences {
            let distinct: BTreeSet<u64> = numbers.iter().copied().collect();
            let (Some(first), Some(last)) = (distinct.first(), distinct.last()) else { continue };
            let holes = last - first + 1 - distinct.len() as u64;
            let repetitions = (numbers.len() - distinct.len()) as u64;
            if holes + repetitions > 0 {
                faults.note(format!("{gateway}/{epoch}: {holes} holes, {repetitions} repetitions in {first}-{last}"));
            }
        }
        faults
    }

    /// Notes something that fits nowhere else.
    pub fn note(&mut self, words: String) {
        self.other += 1;
        self.examples.push(words);
    }

    /// Adds another's.
    pub fn add(&mut self, other: &Self) {
        self.lost += other.lost;
        self.repeated += other.repeated;
        self.reordered += other.reordered;
        self.other += other.other;
        self.examples.extend(other.examples.iter().cloned());
        self.examples.truncate(EXAMPLES_MAX);
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.lost + self.repeated + self.reordered + self.other == 0
    }
}

impl Totals {
    /// Reads the file of an earlier run; nothing was done if there is none.
    ///
    /// # Errors
    /// If it is not such a file.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        match std::fs::read(path) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
            Err(_) => Ok(Self::default()),
        }
    }

    /// Writes the file.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        Ok(std::fs::write(path, serde_json::to_vec_pretty(self)?)?)
    }

    /// Whether nothing was wrong in any round.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.sinks.values().all(Faults::is_none)
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{} rounds in {} s, {} messages acknowledged, {} registers read",
            self.rounds, self.seconds, self.acknowledged, self.polled
        )?;
        for (sink, faults) in &self.sinks {
            let Faults { lost, repeated, reordered, other, examples } = faults;
            write!(
                out,
                "\n  {sink:<6} {lost} lost, {repeated} repeated, {reordered} reordered, {other} otherwise wrong"
            )?;
            for example in examples {
                write!(out, "\n         {example}")?;
            }
        }
        Ok(())
    }
}
