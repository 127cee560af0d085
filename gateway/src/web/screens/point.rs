//! How one point is shown: value, state and a sentence.

use crate::reading::{Flags, NoData, PointId, UnixMicros, Value};
use crate::site::PointKey;
use crate::status::{HasHealth, PointLive, State, Status};
use crate::web::locale::Locale;
use crate::web::sparkline::{self, Sparkline};
use crate::web::words::Moment;
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::BTreeSet;

/// Longest text value that a card shows, in characters.
const TEXT_CHARS_MAX: usize = 40;

/// How a point is, the worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::web) enum PointState {
    /// Nothing spoke.
    Good,
    /// Nothing spoke, but the value is old: its source is down, or it is silent for longer than is usual for it.
    Old,
    /// A check spoke, with less to say than the ones below.
    Uncertain,
    /// The last sample had no value.
    NoData,
    /// The detector spoke.
    Unusual,
    /// Outside the operating range.
    OutOfRange,
    /// Outside what is possible.
    Impossible,
}

/// The moment at which points are looked at, and the sources that bring nothing then.
#[derive(Clone, Debug, Default)]
pub(in crate::web) struct Look {
    /// This moment.
    pub(in crate::web) now_us: UnixMicros,
    down: BTreeSet<String>,
}

impl Look {
    /// At the sources as they are.
    pub(in crate::web) fn new(status: &Status, now_us: UnixMicros) -> Self {
        let sources = status.sources();
        let down = sources.iter().filter(|source| matches!(source.health().state, State::Down | State::Paused));
        Self { now_us, down: down.map(|source| source.name.clone()).collect() }
    }

    /// Whether a source is down.
    pub(in crate::web) fn is_down(&self, source: &str) -> bool {
        self.down.contains(source)
    }
}

impl PointState {
    /// The state of a point whose source is down or not. What was wrong with the last value stays said; what was good is old
    /// once nothing follows.
    pub(in crate::web) fn of(live: &PointLive, is_down: bool, now_us: UnixMicros) -> Self {
        use crate::reading::Quality;
        if live.outcome.is_err() {
            return Self::NoData;
        }
        if live.flags.contains(Flags::POSSIBLE_RANGE) {
            return Self::Impossible;
        }
        if live.flags.contains(Flags::OPERATING_RANGE) {
            return Self::OutOfRange;
        }
        if live.flags.contains(Flags::ANOMALY) {
            return Self::Unusual;
        }
        if live.quality != Quality::Good {
            return Self::Uncertain;
        }
        if is_down || live.is_silent(now_us) {
            return Self::Old;
        }
        Self::Good
    }

    /// Whether someone should look at it.
    pub(in crate::web) fn asks_for_a_look(self) -> bool {
        self > Self::Old
    }

    /// What the page calls it.
    pub(in crate::web) fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Old => "old",
            Self::Uncertain => "uncertain",
            Self::NoData => "no data",
            Self::Unusual => "unusual",
            Self::OutOfRange => "out of range",
            Self::Impossible => "impossible",
        }
    }

    /// The class that gives it shape and colour.
    pub(in crate::web) fn tone(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Old => "idle",
            Self::Uncertain | Self::NoData => "warn",
            Self::Unusual | Self::OutOfRange | Self::Impossible => "bad",
        }
    }
}

/// A point as a card or a line of the table.
pub(in crate::web) struct PointView {
    /// Its number.
    pub(in crate::web) id: u32,
    /// The device's name.
    pub(in crate::web) device: String,
    /// The quantity's name, with spaces where people would write them.
    pub(in crate::web) point: String,
    /// The unit.
    pub(in crate::web) unit: String,
    /// The source's name.
    pub(in crate::web) source: String,
    /// The value, rounded; a dash where there is none.
    pub(in crate::web) value: String,
    /// Whether there is a value.
    pub(in crate::web) has_value: bool,
    /// Whether the value is words rather than a number.
    pub(in crate::web) is_text: bool,
    /// Its state.
    pub(in crate::web) state: PointState,
    /// What there is to say about it.
    pub(in crate::web) sentence: String,
    /// When the last sample came.
    pub(in crate::web) received: Moment,
    /// The last values.
    pub(in crate::web) line: Option<Sparkline>,
}

impl PointView {
    /// A point seen from `now_us`; `None` stands for one that has not spoken since the start.
    pub(in crate::web) fn new(id: PointId, key: &PointKey, last: Option<&PointLive>, look: &Look, l: Locale) -> Self {
        let (now_us, is_down) = (look.now_us, look.is_down(&key.source));
        let line = last.and_then(|last| sparkline::draw(&last.sparkline));
        Self {
            id: id.0,
            device: key.device.to_string(),
            point: key.point.replace('_', " "),
            unit: key.unit.to_string(),
            source: key.source.to_string(),
            value: last
                .and_then(|last| last.outcome.as_ref().ok())
                .map_or_else(|| "–".to_owned(), |value| value_beside(value, last, l)),
            has_value: last.is_some_and(|last| last.outcome.is_ok()),
            is_text: last.is_some_and(|last| matches!(last.outcome, Ok(Value::Text(_) | Value::Boolean(_)))),
            state: last.map_or(PointState::Old, |last| PointState::of(last, is_down, now_us)),
            sentence: match last {
                None => l.t("no value since the start").to_owned(),
                Some(_) if is_down => l.f1("nothing comes in: {} is down", &key.source),
                Some(last) => sentence(last, line.as_ref(), now_us, l),
            },
            received: Moment::new(last.map_or(now_us, |last| last.received_at_us), now_us, l),
            line,
        }
    }
}

impl PointView {
    /// Whether the unit stands beside the value: a dash has none.
    pub(in crate::web) fn has_unit(&self) -> bool {
        self.has_value && !self.unit.is_empty()
    }
}

pub(in crate::web) fn value(value: &Value, l: Locale) -> String {
    match value {
        Value::Number(number) => l.number(*number),
        Value::Integer(integer) => l.integer(*integer),
        Value::Boolean(true) => l.t("on").to_owned(),
        Value::Boolean(false) => l.t("off").to_owned(),
        Value::Text(text) if text.chars().count() > TEXT_CHARS_MAX => {
            text.chars().take(TEXT_CHARS_MAX - 1).chain(['…']).collect()
        }
        Value::Text(text) => text.to_string(),
    }
}

/// A value with the decimals of those before it: `7.00` where the others are 6.82 and 7.14, though the device sent 7.
fn value_beside(now: &Value, last: Option<&PointLive>, l: Locale) -> String {
    let has_decimals = || last.is_some_and(|last| last.sparkline.iter().any(|value| value.fract() != 0.0));
    match now {
        Value::Integer(integer) if has_decimals() => l.number(*integer as f64),
        now => value(now, l),
    }
}

fn sentence(last: &PointLive, line: Option<&Sparkline>, now_us: UnixMicros, l: Locale) -> String {
    if !last.note.is_empty() {
        return l.say(&last.note).into_owned();
    }
    if let Err(no_data) = last.outcome {
        return no_data_words(no_data, l);
    }
    if last.is_silent(now_us) {
        return match last.usual_us {
            0 => l.t("silent for a while").to_owned(),
            usual_us => l.f1("silent, though it usually speaks every {}", every(usual_us, l)),
        };
    }
    let Some(line) = line else { return String::new() };
    let (min, max) = (l.number(line.min.into()), l.number(line.max.into()));
    let values = last.sparkline.len();
    if min == max {
        l.f2("{} for the last {} values", min, values)
    } else {
        l.f("{} to {} in the last {} values", &[&min, &max, &values])
    }
}

/// A spacing of readings: `1 s` also for what is shorter, which nobody needs finer here.
fn every(usual_us: i64, l: Locale) -> String {
    match usual_us.saturating_add(500_000) / 1_000_000 {
        0 | 1 => "1\u{a0}s".to_owned(),
        seconds @ 2..60 => format!("{seconds}\u{a0}s"),
        _ => l.span(usual_us),
    }
}

/// Why there is no value, in words.
pub(in crate::web) fn no_data_words(no_data: NoData, l: Locale) -> String {
    match no_data {
        NoData::Timeout => l.t("the device did not answer in time").to_owned(),
        NoData::Exception(code) => l.f1("the device answered with exception {}", code),
        NoData::NotAvailable => l.t("the device says: not available").to_owned(),
        NoData::NotConnected => l.t("there is no connection to the device").to_owned(),
        NoData::NotFinite => l.t("the device sent no finite number").to_owned(),
    }
}
