//! Trying a source or a sink before it is saved: what was done step by step, how long it took, what came of it.
//!
//! A try-out runs beside the gateway and changes nothing in it: no reading of it is stored, nothing is acknowledged on behalf
//! of the running sources.

pub mod reach;

use crate::reading::{Outcome, UnixMicros, Value};
use schemars::JsonSchema;
use serde::Serialize;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Longest that a try-out may take: someone stands there with a phone in the hand.
pub const TRY_OUT_LIMIT: Duration = Duration::from_secs(15);

/// Most steps that are told: eight units of a bus with eight requests each, and what comes before them.
pub const STEPS_MAX: usize = 80;

/// Most values that are shown: eight units of a bus with 32 registers each.
pub const VALUES_MAX: usize = 256;

/// Most bytes of a payload, an answer or an error that are shown.
pub const EXCERPT_BYTES_MAX: usize = 1_024;

/// One step of a try-out, in the order in which they were taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Step {
    /// Its place, from 0. A step is told twice: when it begins (`running`) and when it is over; the second replaces the first.
    pub position: usize,
    /// What was done: "connect to 10.0.0.5:1883".
    pub what: String,
    /// How long it took so far, in milliseconds.
    pub took_ms: u64,
    /// What came of it.
    pub outcome: StepOutcome,
}

/// What came of a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum StepOutcome {
    /// It is under way; never in a report.
    Running,
    /// It went well.
    Ok {
        /// What was found, for a person.
        detail: String,
    },
    /// It did not work.
    Failed {
        /// What went wrong, with the exact error.
        what: String,
        /// What to do about it.
        advice: String,
    },
}

/// What a try-out came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every step went well.
    Works,
    /// Some of it works: a value came or a record arrived, and a step failed.
    Partly,
    /// It does not work.
    Fails,
    /// The running gateway reads this port itself, so it was left alone; show the running source's values.
    InUse,
}

/// A value that a source brought while it was tried.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct TriedValue {
    /// Where it stood: a topic, unit and register, line.
    pub origin: String,
    /// The bytes that it was read from: an excerpt of the payload, or words in hexadecimal.
    pub raw: String,
    /// Device name; empty if nothing could be read.
    pub device: String,
    /// Point name; empty if nothing could be read.
    pub point: String,
    /// Unit of the value.
    pub unit: String,
    /// The value; none if there is none.
    pub value: Option<serde_json::Value>,
    /// Why there is no value: `timeout`, `exception`, `not_available`, `not_connected`, `not_finite`.
    pub no_data: Option<String>,
    /// The device's own time, in microseconds since 1970, where it sends one.
    pub observed_at_us: Option<UnixMicros>,
    /// Why it could not be read, and where in the bytes, if so.
    pub error: Option<String>,
}

/// What came of a try-out.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct TryReport {
    /// All in all.
    pub verdict: Verdict,
    /// The running source that reads the port, with [`Verdict::InUse`].
    pub in_use_by: Option<String>,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// The values that came.
    pub values: Vec<TriedValue>,
}

impl TryReport {
    /// The first step that failed: what, and what to do.
    #[must_use]
    pub fn failure(&self) -> Option<(&str, &str)> {
        self.steps.iter().find_map(|step| match &step.outcome {
            StepOutcome::Failed { what, advice } => Some((what.as_str(), advice.as_str())),
            StepOutcome::Ok { .. } | StepOutcome::Running => None,
        })
    }
}

/// Notes the steps of a try-out and tells them to whoever watches.
#[derive(Debug)]
pub struct Steps {
    /// Those that are over.
    taken: Vec<Step>,
    values: Vec<TriedValue>,
    watcher: Option<mpsc::Sender<Step>>,
    begun: Instant,
    /// The step under way: what, and since when.
    current: Option<(String, Instant)>,
    is_proved: bool,
    in_use_by: Option<String>,
}

impl Steps {
    /// No step yet. A watcher that is slow or gone misses steps; the report has all.
    #[must_use]
    pub fn new(watcher: Option<mpsc::Sender<Step>>) -> Self {
        Self {
            taken: Vec::new(),
            values: Vec::new(),
            watcher,
            begun: Instant::now(),
            current: None,
            is_proved: false,
            in_use_by: None,
        }
    }

    /// Begins a step; one that is under way counts as done.
    pub fn begin(&mut self, what: impl Into<String>) {
        if self.current.is_some() {
            self.ok("");
        }
        let what = what.into();
        self.current = Some((what.clone(), Instant::now()));
        self.tell(&Step { position: self.taken.len(), what, took_ms: 0, outcome: StepOutcome::Running });
    }

    /// The step went well.
    pub fn ok(&mut self, detail: impl Into<String>) {
        self.end(StepOutcome::Ok { detail: detail.into() });
    }

    /// The step did not work.
    pub fn failed(&mut self, what: impl Into<String>, advice: impl Into<String>) {
        self.end(StepOutcome::Failed { what: cut(what.into()), advice: advice.into() });
    }

    /// Notes a value that came.
    pub fn value(&mut self, value: TriedValue) {
        if self.values.len() < VALUES_MAX {
            self.values.push(value);
        }
    }

    /// Whether a step has failed so far.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.taken.iter().any(|step| matches!(step.outcome, StepOutcome::Failed { .. }))
    }

    /// The port is read by a running source: nothing was tried.
    pub fn in_use(&mut self, owner: String, detail: impl Into<String>) {
        self.ok(detail);
        self.in_use_by = Some(owner);
    }

    /// Something was proved to work, so a failed step means that it works in part.
    pub fn works(&mut self) {
        self.is_proved = true;
    }

    /// The time is over in the middle of a step.
    pub fn out_of_time(&mut self) {
        let what = format!("not over after {} s in all", self.begun.elapsed().as_secs());
        self.failed(what, "the other end is too slow or does not answer; check the network, then try again");
    }

    /// What came of it all.
    #[must_use]
    pub fn report(mut self) -> TryReport {
        if self.current.is_some() {
            self.ok("");
        }
        let is_proved = self.is_proved || self.values.iter().any(|value| value.value.is_some());
        let verdict = match (self.has_failed(), is_proved) {
            _ if self.in_use_by.is_some() => Verdict::InUse,
            (false, _) => Verdict::Works,
            (true, true) => Verdict::Partly,
            (true, false) => Verdict::Fails,
        };
        let Self { taken: steps, values, in_use_by, begun, .. } = self;
        TryReport { verdict, in_use_by, took_ms: millis(begun), steps, values }
    }

    fn end(&mut self, outcome: StepOutcome) {
        let Some((what, since)) = self.current.take() else { return };
        let step = Step { position: self.taken.len(), what, took_ms: millis(since), outcome };
        self.tell(&step);
        if self.taken.len() < STEPS_MAX {
            self.taken.push(step);
        }
    }

    fn tell(&mut self, step: &Step) {
        // Whoever cannot keep up finds all of it in the report.
        if self.watcher.as_ref().is_some_and(|watcher| watcher.try_send(step.clone()).is_err()) {
            self.watcher = None;
        }
    }
}

impl TriedValue {
    /// A value with what its outcome says; names are to be filled in.
    #[must_use]
    pub fn of(outcome: &Outcome, origin: impl Into<String>, raw: impl Into<String>) -> Self {
        let (value, no_data) = match outcome {
            Ok(value) => (Some(json(value)), None),
            Err(absence) => (None, Some(absence.name().to_owned())),
        };
        Self { value, no_data, ..Self::unread(origin, raw, None) }
    }

    /// Bytes that could not be read, and why.
    #[must_use]
    pub fn unread(origin: impl Into<String>, raw: impl Into<String>, error: Option<String>) -> Self {
        Self {
            origin: origin.into(),
            raw: raw.into(),
            device: String::new(),
            point: String::new(),
            unit: String::new(),
            value: None,
            no_data: None,
            observed_at_us: None,
            error,
        }
    }

    /// `boiler/temp = 71.5 °C`, or why there is no value.
    #[must_use]
    pub fn words(&self) -> String {
        let name = if self.device.is_empty() { self.origin.clone() } else { format!("{}/{}", self.device, self.point) };
        let unit = if self.unit.is_empty() { String::new() } else { format!(" {}", self.unit) };
        match (&self.value, &self.no_data, &self.error) {
            (Some(serde_json::Value::String(text)), ..) => format!("{name} = {text:?}"),
            (Some(value), ..) => format!("{name} = {}{unit}", digits(value)),
            (None, Some(absence), _) => format!("{name} has no value: {}", absence_words(absence)),
            (None, None, Some(error)) => format!("{name}: {error}"),
            (None, None, None) => name,
        }
    }
}

/// A number as it was meant: one of four bytes has digits behind the seventh that nobody measured.
fn digits(value: &serde_json::Value) -> String {
    #[expect(clippy::cast_possible_truncation, reason = "it is looked at whether anything was lost")]
    let single = value.as_f64().map(|number| number as f32);
    match single {
        Some(single) if value.is_f64() && value.as_f64() == Some(f64::from(single)) => single.to_string(),
        _ => value.to_string(),
    }
}

/// Why there is no value, in words.
#[must_use]
pub fn absence_words(absence: &str) -> &str {
    match absence {
        "timeout" => "the device did not answer in time",
        "exception" => "the device answered with an exception",
        "not_available" => "the device says: not available",
        "not_connected" => "there is no connection to the device",
        "not_finite" => "the device sent no finite number",
        other => other,
    }
}

/// A value as JSON shows it.
#[must_use]
pub fn json(value: &Value) -> serde_json::Value {
    match value {
        Value::Number(number) => serde_json::Value::from(*number),
        Value::Integer(integer) => serde_json::Value::from(*integer),
        Value::Boolean(on) => serde_json::Value::from(*on),
        Value::Text(text) => serde_json::Value::from(&**text),
    }
}

/// The beginning of bytes from outside for a person: text with control characters as spaces, or hexadecimal digits where it is
/// no text.
#[must_use]
pub fn excerpt(bytes: &[u8]) -> String {
    let begin = bytes.get(..EXCERPT_BYTES_MAX).unwrap_or(bytes);
    let text = match std::str::from_utf8(begin) {
        Ok(text) => Some(text),
        // A character that the cut split is left out.
        Err(error) if error.error_len().is_none() && begin.len() < bytes.len() => {
            begin.get(..error.valid_up_to()).and_then(|begin| std::str::from_utf8(begin).ok())
        }
        Err(_) => None,
    };
    let is_text = |text: &&str| text.chars().all(|c| !c.is_control() || matches!(c, '\n' | '\r' | '\t'));
    let mut shown = match text.filter(is_text) {
        Some(text) => text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().trim().to_owned(),
        // Two digits a byte.
        None => hex::encode(begin.get(..EXCERPT_BYTES_MAX / 2).unwrap_or(begin)),
    };
    if begin.len() < bytes.len() {
        shown.push('…');
    }
    shown
}

/// At most [`EXCERPT_BYTES_MAX`] bytes of a text.
fn cut(mut text: String) -> String {
    if text.len() > EXCERPT_BYTES_MAX {
        text.truncate(text.floor_char_boundary(EXCERPT_BYTES_MAX));
        text.push('…');
    }
    text
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    #[tokio::test]
    async fn a_watcher_sees_each_step_begin_and_end_and_the_report_has_them_in_order() {
        let (sender, mut watcher) = mpsc::channel(8);
        let mut steps = Steps::new(Some(sender));
        steps.begin("connect");
        steps.ok("10.0.0.5");
        steps.begin("ask");
        steps.failed("no answer", "check the wiring");
        let report = steps.report();
        let mut seen = Vec::new();
        while let Some(step) = watcher.recv().await {
            seen.push((step.position, matches!(step.outcome, StepOutcome::Running)));
        }
        assert_eq!(seen, [(0, true), (0, false), (1, true), (1, false)]);
        assert_eq!(report.verdict, Verdict::Fails);
        assert_eq!(report.failure(), Some(("no answer", "check the wiring")));
        assert_eq!(report.steps.iter().map(|step| step.what.as_str()).collect::<Vec<_>>(), ["connect", "ask"]);
    }

    #[test]
    fn a_value_beside_a_failure_means_that_it_works_in_part() {
        let mut steps = Steps::new(None);
        steps.begin("unit 1");
        steps.value(TriedValue::of(&Ok(Value::Integer(7)), "unit 1", "0007"));
        steps.begin("unit 2");
        steps.failed("no reply", "check the unit id");
        assert_eq!(steps.report().verdict, Verdict::Partly);
    }

    #[test]
    fn bytes_are_shown_as_text_or_as_digits_and_never_too_many() {
        assert_eq!(excerpt(b"{\"v\":1}\n"), "{\"v\":1}");
        assert_eq!(excerpt(&[0, 255]), "00ff");
        let long = "ä".repeat(1_000);
        assert!(excerpt(long.as_bytes()).ends_with("ä…"));
        assert!(excerpt(&vec![b'x'; 5_000]).len() <= EXCERPT_BYTES_MAX + 3);
    }

    proptest! {
        #[test]
        fn any_bytes_have_an_excerpt(bytes in proptest::collection::vec(any::<u8>(), 0..3_000)) {
            let shown = excerpt(&bytes);
            prop_assert!(shown.len() <= EXCERPT_BYTES_MAX + '…'.len_utf8());
            prop_assert!(!shown.contains(char::is_control));
        }
    }
}
