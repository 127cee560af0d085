//! The words of the field: values, typed absence, samples, quality, flags, scores, streams and sequences.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Longest text value that is kept, in bytes; longer text is refused at the source.
pub const TEXT_BYTES_MAX: usize = 1024;

/// Microseconds since the Unix epoch, UTC. Negative before 1970, as a board with a dead battery may report.
pub type UnixMicros = i64;

/// Microseconds of the boot's monotonic clock (`CLOCK_BOOTTIME`: it also counts suspend).
pub type MonoMicros = u64;

/// Position of a record in its stream and epoch, counted from 0, without holes.
pub type Sequence = u64;

/// A measured quantity of a device, interned: names appear at the edges only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PointId(pub u32);

/// Identity of one data directory: 128 random bits made with it. Sequences count within an epoch.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Epoch(pub u128);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Epoch({self})")
    }
}

/// A measured value as it came, never altered by a check. Numbers are finite.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Value {
    /// A finite floating-point number.
    Number(f64),
    /// A whole number.
    Integer(i64),
    /// A switch position.
    Boolean(bool),
    /// Text of at most [`TEXT_BYTES_MAX`] bytes.
    Text(Box<str>),
}

impl Value {
    /// The value as a number for checks and detectors; text and switches have none.
    #[must_use]
    pub fn as_number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Integer(integer) => Some(*integer as f64),
            Self::Boolean(_) | Self::Text(_) => None,
        }
    }
}

/// Why a sample has no value: absence is typed, never a magic number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum NoData {
    /// The device did not answer in time.
    Timeout,
    /// The device answered with an exception of this code (Modbus Application Protocol 1.1b3, section 7).
    Exception(u8),
    /// The device answered with its own "not available".
    NotAvailable,
    /// There is no connection to the device.
    NotConnected,
    /// The device sent NaN or an infinity.
    NotFinite,
}

impl NoData {
    /// The name used in JSON and on the page.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Exception(_) => "exception",
            Self::NotAvailable => "not_available",
            Self::NotConnected => "not_connected",
            Self::NotFinite => "not_finite",
        }
    }
}

/// What a sample says: a value, or why there is none.
pub type Outcome = Result<Value, NoData>;

/// Decoded, not yet judged.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Whose value it is.
    pub point: PointId,
    /// The value, or why there is none.
    pub outcome: Outcome,
    /// The device's own clock, where it sends one.
    pub observed_at_us: Option<UnixMicros>,
    /// When the gateway received it, on the boot's monotonic clock.
    pub received_mono_us: MonoMicros,
    /// Hash of the message that carried it ([`NO_HASH`] where the source cannot redeliver).
    pub message_hash: u32,
}

/// The message hash of a sample whose source cannot redeliver.
pub const NO_HASH: u32 = 0;

/// The OPC UA quality classes (OPC UA Part 8, severity bits of a `StatusCode`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Quality {
    /// Fit for use.
    #[default]
    Good,
    /// Usable with care: a check of lesser severity spoke.
    Uncertain,
    /// Not fit for use, or absent.
    Bad,
}

impl Quality {
    /// The name used in JSON and on the page.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Uncertain => "uncertain",
            Self::Bad => "bad",
        }
    }

    /// Its number in a block.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Good => 0,
            Self::Uncertain => 1,
            Self::Bad => 2,
        }
    }

    /// The class of a number in a block; `None` if no class has it.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        [Self::Good, Self::Uncertain, Self::Bad].into_iter().find(|quality| quality.code() == code)
    }
}

/// The set of checks that spoke about a reading. Bits are part of the block format: they are only ever added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Flags(pub u32);

impl Flags {
    /// Outside the operating range.
    pub const OPERATING_RANGE: Self = Self(1);
    /// Outside what is physically possible.
    pub const POSSIBLE_RANGE: Self = Self(1 << 1);
    /// The anomaly detector calls it unusual.
    pub const ANOMALY: Self = Self(1 << 2);
    /// There is no value.
    pub const NO_DATA: Self = Self(1 << 3);
    /// Thinned out by exception reporting: stored, but skipped by sinks.
    pub const THINNED: Self = Self(1 << 4);
    /// The device's clock was ahead of the gateway's by more than a minute.
    pub const CLOCK_AHEAD: Self = Self(1 << 5);

    /// Every flag with its name in JSON, in bit order.
    pub const NAMES: [(Self, &'static str); 6] = [
        (Self::OPERATING_RANGE, "operating_range"),
        (Self::POSSIBLE_RANGE, "possible_range"),
        (Self::ANOMALY, "anomaly"),
        (Self::NO_DATA, "no_data"),
        (Self::THINNED, "thinned"),
        (Self::CLOCK_AHEAD, "clock_ahead"),
    ];

    /// Whether every flag of `other` is set.
    #[must_use]
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Sets the flags of `other`.
    pub fn insert(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// The names of the flags that are set, in bit order.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().filter(move |(flag, _)| self.contains(*flag)).map(|(_, name)| name)
    }
}

/// How unusual a reading is: the tail probability `p` of seeing something at least as odd, in half decibels
/// (`-20 · log10 p`, capped at 255), 0 for unscored. One byte keeps both ends honest: 0.999 and 0.999999 differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AnomalyScore(pub u8);

impl AnomalyScore {
    /// The score of a tail probability in 0..=1; anything else counts as its nearest bound.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0..=255 before the cast")]
    pub fn from_tail_probability(probability: f64) -> Self {
        let probability = if probability.is_nan() { 1.0 } else { probability.clamp(1e-13, 1.0) };
        Self((-20.0 * probability.log10()).round().clamp(0.0, 255.0) as u8)
    }

    /// The score in 0..1 as people read it: one minus the tail probability.
    #[must_use]
    pub fn as_unit(self) -> f64 {
        1.0 - 10f64.powf(-f64::from(self.0) / 20.0)
    }
}

/// How far the gateway's clock could be trusted when a block was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TimeQuality {
    /// The wall clock is before this program was built: it was never set.
    #[default]
    Unset,
    /// The wall clock is plausible, but nobody vouches for it.
    Unverified,
    /// The system's time service says that the clock is synchronised.
    Ntp,
    /// The wall time was computed afterwards from boot id and monotonic time.
    Repaired,
}

impl TimeQuality {
    /// Every quality; the position is its number in a block.
    pub const ALL: [Self; 4] = [Self::Unset, Self::Unverified, Self::Ntp, Self::Repaired];

    /// The name used in JSON and on the page.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unset => "unset",
            Self::Unverified => "unverified",
            Self::Ntp => "ntp",
            Self::Repaired => "repaired",
        }
    }

    /// Its number in a block.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Unset => 0,
            Self::Unverified => 1,
            Self::Ntp => 2,
            Self::Repaired => 3,
        }
    }

    /// The quality of a number in a block; `None` if no quality has it.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|quality| quality.code() == code)
    }
}

/// A line of records with its own sequences, priority and retention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Stream {
    /// Payloads as they came; off unless asked for.
    Raw,
    /// Judged readings.
    Readings,
    /// Windowed aggregates.
    Aggregates,
    /// What someone should know.
    Alerts,
    /// What could not become a reading, or was refused upstream.
    DeadLetters,
    /// What was lost, and what never came in.
    Gaps,
}

impl Stream {
    /// Every stream; the position is its number in keys and blocks.
    pub const ALL: [Self; 6] =
        [Self::Raw, Self::Readings, Self::Aggregates, Self::Alerts, Self::DeadLetters, Self::Gaps];

    /// The streams that sinks deliver today.
    pub const DELIVERED: [Self; 4] = [Self::Alerts, Self::Gaps, Self::Readings, Self::DeadLetters];

    /// The name used in topics, keys and on the page.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Readings => "readings",
            Self::Aggregates => "aggregates",
            Self::Alerts => "alerts",
            Self::DeadLetters => "dead-letters",
            Self::Gaps => "gaps",
        }
    }

    /// Its number in keys and blocks.
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }

    /// Its position in a table of all streams.
    #[must_use]
    pub fn index(self) -> usize {
        self as usize
    }

    /// The stream of a number in a key or block; `None` if no stream has it.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Consecutive sequences of one stream, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SequenceRange {
    /// The first sequence.
    pub first: Sequence,
    /// The last sequence, not below the first.
    pub last: Sequence,
}

impl SequenceRange {
    /// How many sequences it holds.
    #[must_use]
    pub fn count(self) -> u64 {
        self.last.saturating_sub(self.first).saturating_add(1)
    }

    /// The part that both ranges share, if any.
    #[must_use]
    pub fn overlap(self, other: Self) -> Option<Self> {
        let first = self.first.max(other.first);
        let last = self.last.min(other.last);
        (first <= last).then_some(Self { first, last })
    }

    /// The two halves that a bisection tries, the first one the larger; `None` for a single sequence.
    #[must_use]
    pub fn halves(self) -> Option<(Self, Self)> {
        if self.first >= self.last {
            return None;
        }
        let middle = self.first + (self.last - self.first) / 2;
        Some((Self { first: self.first, last: middle }, Self { first: middle + 1, last: self.last }))
    }
}

impl fmt::Display for SequenceRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// Which detector spoke. Numbers are part of the block format: they are only ever added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Detector {
    /// A check of the range.
    Range,
    /// The distance from a short forecast, against its usual error.
    Residual,
}

/// Why it spoke. Numbers are part of the block format: they are only ever added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Reason {
    /// Higher than expected.
    Above,
    /// Lower than expected.
    Below,
}

/// What a check or detector has to say about one reading, beyond its flag.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Note {
    /// Who spoke.
    pub detector: Detector,
    /// Why.
    pub reason: Reason,
    /// What was expected: the forecast, or the limit.
    pub expected: f32,
}

impl Detector {
    /// The name used in JSON and on the page.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Range => "range",
            Self::Residual => "residual",
        }
    }

    /// Its number in a block.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Range => 0,
            Self::Residual => 1,
        }
    }

    /// The detector of a number in a block; `None` if a newer program wrote it.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        [Self::Range, Self::Residual].into_iter().find(|detector| detector.code() == code)
    }
}

impl Reason {
    /// Its number in a block.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Above => 0,
            Self::Below => 1,
        }
    }

    /// The reason of a number in a block; `None` if a newer program wrote it.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        [Self::Above, Self::Below].into_iter().find(|reason| reason.code() == code)
    }
}

impl Note {
    /// The sentence for a person: `6.2 °C above the 90 °C that is allowed`.
    #[must_use]
    pub fn words(&self, value: Option<f64>, unit: &str) -> String {
        let side = match self.reason {
            Reason::Above => "above",
            Reason::Below => "below",
        };
        let what = match self.detector {
            Detector::Range => "the limit of",
            Detector::Residual => "the expected",
        };
        let expected = short(f64::from(self.expected));
        let gap = if unit.is_empty() { "" } else { " " };
        match value {
            Some(value) => {
                let distance = short((value - f64::from(self.expected)).abs());
                format!("{distance}{gap}{unit} {side} {what} {expected}{gap}{unit}")
            }
            None => format!("{side} {what} {expected}{gap}{unit}"),
        }
    }
}

impl Note {
    /// The sentence about a value that cannot be, the value first: `-1000 °C: 900 °C below the possible -100 °C`.
    #[must_use]
    pub fn impossible(&self, value: f64, unit: &str) -> String {
        let gap = if unit.is_empty() { "" } else { " " };
        let words = self.words(Some(value), unit).replacen("the limit of", "the possible", 1);
        format!("{}{gap}{unit}: {words}", short(value))
    }
}

/// A number with three digits that matter, as people say it.
#[must_use]
pub fn short(number: f64) -> String {
    let magnitude = number.abs();
    let decimals = if magnitude >= 100.0 || magnitude == 0.0 {
        0
    } else if magnitude >= 10.0 {
        1
    } else if magnitude >= 1.0 {
        2
    } else {
        3
    };
    let text = format!("{number:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}
