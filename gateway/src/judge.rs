//! Judging: from samples to readings, alerts and dead letters in one pure step. No I/O, no clock: time comes in as ticks,
//! so that the same function runs live, over history and when its own state is brought forward after a restart.

use crate::anomaly::{AnomalyOptions, ResidualState};
use crate::block::columns::JudgedReading;
use crate::block::records::{self, Alert, DeadLetter, RawBytes, Record, RecordBody, Severity};
use crate::checks::range::{Outside, RangeOptions, Violation};
use crate::checks::{Action, CheckOptions, CheckSeverity};
use crate::clock::Tick;
use crate::reading::{AnomalyScore, Detector, Flags, Note, PointId, Quality, Sample, Value};
use crate::site::{PointKey, PointPattern};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

/// A device's clock may be ahead of the gateway's by so much before the reading is flagged (design invariant 6).
const CLOCK_AHEAD_MAX_US: i64 = 60_000_000;

/// So many ordinary readings in a row end an alert: one would let it flap.
const CALM_READINGS: u8 = 10;

/// Version of the snapshot's bytes; a snapshot of another version is left aside and state is learned anew.
const SNAPSHOT_VERSION: u8 = 1;

/// What the configuration asks of readings.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// The checks, in the order of the file.
    pub checks: Vec<CheckOptions>,
    /// What is watched, in the order of the file; the first that names a point is its own.
    pub anomalies: Vec<AnomalyOptions>,
    /// Version of the configuration.
    pub config_version: u32,
}

/// What a step gives.
#[derive(Debug, Default)]
pub struct Judged {
    /// Readings, in the order of their samples.
    pub readings: Vec<JudgedReading>,
    /// Alerts and dead letters.
    pub records: Vec<Record>,
    /// Samples that became dead letters.
    pub dead_lettered: u64,
}

/// The rules and the state of every point.
#[derive(Debug)]
pub struct Judge {
    rules: Rules,
    boot_id: u128,
    points: Vec<Point>,
}

#[derive(Debug)]
struct Point {
    key: Arc<PointKey>,
    ranges: Vec<RangeRule>,
    false_alarms_per_month: Option<f64>,
    state: PointState,
}

#[derive(Debug, PartialEq)]
struct RangeRule {
    range: RangeOptions,
    severity: CheckSeverity,
    action: Action,
}

/// What is remembered of a point; saved as a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct PointState {
    residual: ResidualState,
    range_alarm: Alarm,
    anomaly_alarm: Alarm,
}

/// Raised at the first violation, over after some calm.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Alarm {
    raised: bool,
    calm: u8,
}

impl Alarm {
    /// Takes in one reading; says whether the alarm begins (`true`) or ends (`false`) with it.
    fn step(&mut self, violated: bool) -> Option<bool> {
        if violated {
            self.calm = 0;
            let begins = !self.raised;
            self.raised = true;
            return begins.then_some(true);
        }
        if self.raised {
            self.calm = self.calm.saturating_add(1);
            if self.calm >= CALM_READINGS {
                self.raised = false;
                return Some(false);
            }
        }
        None
    }
}

impl Judge {
    /// A judge that has seen nothing yet.
    #[must_use]
    pub fn new(rules: Rules, boot_id: u128) -> Self {
        Self { rules, boot_id, points: Vec::new() }
    }

    /// How many points it knows.
    #[must_use]
    pub fn known(&self) -> usize {
        self.points.len()
    }

    /// Makes it know further points, in order of their ids, and finds the rules of each.
    pub fn learn_points(&mut self, keys: impl IntoIterator<Item = Arc<PointKey>>) {
        for key in keys {
            let (ranges, false_alarms_per_month) = self.rules.of(&key);
            self.points.push(Point { ranges, false_alarms_per_month, state: PointState::default(), key });
        }
    }

    /// Goes on by other rules. What is remembered of a point stays, but for what a changed rule no longer means: its alarm is
    /// over, which the alerts that come back say, and a detector that watches no more forgets.
    pub fn set_rules(&mut self, rules: Rules, tick: &Tick) -> Vec<Record> {
        self.rules = rules;
        let mut ended = Vec::new();
        for point in &mut self.points {
            let (ranges, false_alarms_per_month) = self.rules.of(&point.key);
            if point.ranges != ranges {
                point.ranges = ranges;
                ended.extend(point.end_alarm("range", tick));
            }
            if point.false_alarms_per_month.is_some() && false_alarms_per_month.is_none() {
                ended.extend(point.end_alarm("anomaly", tick));
                point.state.residual = ResidualState::default();
            }
            point.false_alarms_per_month = false_alarms_per_month;
        }
        ended
    }

    /// Judges samples in order and appends what comes of them. Samples of points that it was not told of are left out:
    /// call [`Judge::learn_points`] first.
    pub fn step(&mut self, samples: &[Sample], tick: &Tick, out: &mut Judged) {
        for sample in samples {
            let Some(point) = self.points.get_mut(sample.point.0 as usize) else { continue };
            let mut reading = JudgedReading {
                point: sample.point,
                outcome: sample.outcome.clone(),
                observed_at_us: sample.observed_at_us,
                received_mono_us: sample.received_mono_us,
                quality: Quality::Good,
                flags: Flags::default(),
                score: AnomalyScore::default(),
                message_hash: sample.message_hash,
                note: None,
            };
            let context = Context { tick, boot_id: self.boot_id, config_version: self.rules.config_version };
            if point.judge(&mut reading, &context, &mut out.records) {
                out.readings.push(reading);
            } else {
                out.dead_lettered += 1;
            }
        }
    }

    /// Brings state forward over a reading that was judged before the last snapshot was lost.
    pub fn replay(&mut self, reading: &JudgedReading, tick: &Tick) {
        let Some(point) = self.points.get_mut(reading.point.0 as usize) else { return };
        let context = Context { tick, boot_id: self.boot_id, config_version: self.rules.config_version };
        // Its alerts went out when it was judged first.
        point.judge(&mut reading.clone(), &context, &mut Vec::new());
    }

    /// The state of every point, to be kept.
    #[must_use]
    pub fn snapshot(&self) -> Vec<u8> {
        let states: Vec<&PointState> = self.points.iter().map(|point| &point.state).collect();
        let mut bytes = vec![SNAPSHOT_VERSION];
        // Plain numbers always serialise.
        bytes.extend(postcard::to_stdvec(&states).unwrap_or_default());
        bytes
    }

    /// Takes the state of the points that it knows from a snapshot; says whether the snapshot could be read.
    pub fn restore(&mut self, snapshot: &[u8]) -> bool {
        let Some((&SNAPSHOT_VERSION, bytes)) = snapshot.split_first() else { return false };
        let Ok(states) = postcard::from_bytes::<Vec<PointState>>(bytes) else { return false };
        for (point, state) in self.points.iter_mut().zip(states) {
            point.state = state;
        }
        true
    }
}

/// What all readings of a step have in common.
struct Context<'a> {
    tick: &'a Tick,
    boot_id: u128,
    config_version: u32,
}

impl Rules {
    /// What is asked of a point: its ranges, and how sensitively it is watched, if it is.
    fn of(&self, key: &PointKey) -> (Vec<RangeRule>, Option<f64>) {
        let named = |pattern: &str| {
            PointPattern::parse(pattern).is_some_and(|pattern| pattern.matches(&key.device, &key.point))
        };
        let checks = self.checks.iter().filter(|check| named(&check.points));
        let ranges = checks
            .filter_map(|check| {
                let range = check.range.clone()?;
                Some(RangeRule { range, severity: check.severity, action: check.action })
            })
            .collect();
        let watched = self.anomalies.iter().find(|anomaly| named(&anomaly.points));
        (ranges, watched.map(|anomaly| anomaly.false_alarms_per_month))
    }
}

impl Point {
    /// Ends an alarm whose rule is not what it was; the alert that says so, if it was raised.
    fn end_alarm(&mut self, rule: &str, tick: &Tick) -> Option<Record> {
        let alarm = if rule == "range" { &mut self.state.range_alarm } else { &mut self.state.anomaly_alarm };
        if !std::mem::take(alarm).raised {
            return None;
        }
        let alert = Alert {
            rule: rule.to_owned(),
            severity: Severity::Info,
            subject: self.subject(),
            message: "the rule was changed".to_owned(),
            value: None,
            raised: false,
        };
        let id = xxh3_64(format!("{}/{rule}/changed/{}", alert.subject, tick.mono_us).as_bytes());
        Some(Record { id, time_us: tick.wall_us, body: RecordBody::Alert(alert) })
    }

    /// How alerts and dead letters name it.
    fn subject(&self) -> String {
        format!("{}/{}", self.key.device, self.key.point)
    }

    /// Judges one reading in place; `false` if it becomes a dead letter.
    fn judge(&mut self, reading: &mut JudgedReading, context: &Context<'_>, records: &mut Vec<Record>) -> bool {
        let ahead_us = reading.observed_at_us.map_or(0, |time_us| time_us.saturating_sub(context.tick.wall_us));
        if ahead_us > CLOCK_AHEAD_MAX_US {
            reading.flags.insert(Flags::CLOCK_AHEAD);
            reading.quality = reading.quality.max(Quality::Uncertain);
        }
        if reading.outcome.is_err() {
            reading.flags.insert(Flags::NO_DATA);
            reading.quality = Quality::Bad;
            return true;
        }
        let Some(value) = reading.outcome.as_ref().ok().and_then(Value::as_number) else { return true };
        if !self.judge_range(reading, value, context, records) {
            return false;
        }
        if let Some(false_alarms_per_month) = self.false_alarms_per_month {
            let verdict = self.state.residual.step(value, reading.received_mono_us, false_alarms_per_month);
            reading.score = verdict.score;
            if let Some(note) = verdict.note {
                reading.flags.insert(Flags::ANOMALY);
                reading.quality = reading.quality.max(Quality::Uncertain);
                reading.note = reading.note.or(Some(note));
            }
            if let Some(raised) = self.state.anomaly_alarm.step(verdict.note.is_some()) {
                records.push(self.alert("anomaly", Severity::Warning, raised, value, verdict.note, reading, context));
            }
        }
        true
    }

    fn judge_range(
        &mut self,
        reading: &mut JudgedReading,
        value: f64,
        context: &Context<'_>,
        records: &mut Vec<Record>,
    ) -> bool {
        if self.ranges.is_empty() {
            return true;
        }
        let violations = self.ranges.iter().filter_map(|rule| Some((rule, rule.range.check(value)?)));
        // The gravest speaks: what cannot be before what should not be, then by severity.
        let gravest =
            violations.max_by_key(|(rule, violation)| (violation.outside == Outside::Possible, rule.severity));
        let gravest = gravest.map(|(rule, violation)| (rule.severity, rule.action, violation));
        if let Some(raised) = self.state.range_alarm.step(gravest.is_some()) {
            let severity = gravest.map_or(Severity::Info, |(severity, ..)| alert_severity(severity));
            let note = gravest.map(|(.., violation)| range_note(&violation));
            records.push(self.alert("range", severity, raised, value, note, reading, context));
        }
        let Some((severity, action, violation)) = gravest else { return true };
        if violation.outside == Outside::Possible && action == Action::DeadLetter {
            records.extend(self.dead_letter(reading, value, &violation, context));
            return false;
        }
        reading.flags.insert(match violation.outside {
            Outside::Operating => Flags::OPERATING_RANGE,
            Outside::Possible => Flags::POSSIBLE_RANGE,
        });
        reading.quality = reading.quality.max(match (violation.outside, severity) {
            (Outside::Possible, _) | (_, CheckSeverity::Error) => Quality::Bad,
            (_, CheckSeverity::Warning) => Quality::Uncertain,
            (_, CheckSeverity::Info) => Quality::Good,
        });
        reading.note = Some(range_note(&violation));
        true
    }

    #[expect(clippy::too_many_arguments, reason = "an alert is put together from all that is known here")]
    fn alert(
        &self,
        rule: &str,
        severity: Severity,
        raised: bool,
        value: f64,
        note: Option<Note>,
        reading: &JudgedReading,
        context: &Context<'_>,
    ) -> Record {
        let words = match note {
            Some(note) => note.words(Some(value), &self.key.unit),
            None => format!("ordinary again for {CALM_READINGS} readings"),
        };
        let alert = Alert {
            rule: rule.to_owned(),
            severity,
            subject: self.subject(),
            message: words,
            value: Some(value),
            raised,
        };
        Record {
            id: event_id(context.boot_id, reading, rule),
            time_us: context.tick.wall_of(reading.received_mono_us),
            body: RecordBody::Alert(alert),
        }
    }

    /// The reading as a dead letter; its raw bytes are the reading in words that can be judged again.
    fn dead_letter(
        &self,
        reading: &JudgedReading,
        value: f64,
        violation: &Violation,
        context: &Context<'_>,
    ) -> Vec<Record> {
        let received_at_us = context.tick.wall_of(reading.received_mono_us);
        let raw = serde_json::json!({
            "device": &*self.key.device, "point": &*self.key.point, "unit": &*self.key.unit, "value": value,
            "observed_at_us": reading.observed_at_us, "received_at_us": received_at_us,
        });
        let letter = DeadLetter {
            source: self.key.source.to_string(),
            position: self.subject(),
            error: range_note(violation).impossible(value, &self.key.unit),
            rule: "range".to_owned(),
            config_version: context.config_version,
            raw: Vec::new(),
            part: 0,
            parts: 1,
            raw_bytes: 0,
            raw_sha256: None,
            message_hash: reading.message_hash,
        };
        let id = event_id(context.boot_id, reading, "dead-letter");
        records::dead_letters(id, received_at_us, &letter, &RawBytes::of(raw.to_string().as_bytes()))
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a note keeps single precision")]
fn range_note(violation: &Violation) -> Note {
    Note { detector: Detector::Range, reason: violation.reason, expected: violation.limit as f32 }
}

fn alert_severity(severity: CheckSeverity) -> Severity {
    match severity {
        CheckSeverity::Info => Severity::Info,
        CheckSeverity::Warning => Severity::Warning,
        CheckSeverity::Error => Severity::Error,
    }
}

/// The same event gets the same id when it is judged again after a crash.
fn event_id(boot_id: u128, reading: &JudgedReading, rule: &str) -> u64 {
    let PointId(point) = reading.point;
    let mut bytes = Vec::with_capacity(64);
    bytes.extend_from_slice(&boot_id.to_le_bytes());
    bytes.extend_from_slice(&point.to_le_bytes());
    if reading.message_hash == 0 {
        bytes.extend_from_slice(&reading.received_mono_us.to_le_bytes());
    } else {
        bytes.extend_from_slice(&reading.message_hash.to_le_bytes());
    }
    bytes.extend_from_slice(rule.as_bytes());
    xxh3_64(&bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::reading::TimeQuality;

    fn rules(operating_max: f64, false_alarms_per_month: Option<f64>) -> Rules {
        let range = RangeOptions { operating: Some([0.0, operating_max]), possible: None };
        let check = CheckOptions {
            points: "boiler-*/*".to_owned(),
            range: Some(range),
            severity: CheckSeverity::Warning,
            action: Action::Flag,
        };
        let watch = |rate| AnomalyOptions { points: "*/*".to_owned(), false_alarms_per_month: rate };
        Rules {
            checks: vec![check],
            anomalies: false_alarms_per_month.map(watch).into_iter().collect(),
            config_version: 1,
        }
    }

    fn tick(second: u64) -> Tick {
        Tick { mono_us: second * 1_000_000, wall_us: 1_790_000_000_000_000, quality: TimeQuality::Ntp }
    }

    /// A judge that knows a boiler above its range and a pump, both after a minute.
    fn judge() -> Judge {
        let mut judge = Judge::new(rules(90.0, Some(4.0)), 7);
        let key = |device: &str| {
            Arc::new(PointKey { device: device.into(), point: "temp".into(), unit: "°C".into(), source: "bus".into() })
        };
        judge.learn_points([key("boiler-1"), key("pump-1")]);
        for second in 0..60 {
            let sample = |point| Sample {
                point: PointId(point),
                outcome: Ok(Value::Number(95.0 + (second % 3) as f64)),
                observed_at_us: None,
                received_mono_us: second * 1_000_000,
                message_hash: 0,
            };
            judge.step(&[sample(0), sample(1)], &tick(second), &mut Judged::default());
        }
        judge
    }

    #[test]
    fn other_rules_leave_alone_what_is_remembered_of_points_that_they_do_not_touch() {
        let mut judge = judge();
        let before = judge.snapshot();
        assert_eq!(judge.set_rules(rules(90.0, Some(1.0)), &tick(61)), []);
        assert_eq!(judge.snapshot(), before, "how sensitive the watch is changes nothing that was learned");
        let pump = judge.points[1].state.clone();
        judge.set_rules(rules(80.0, Some(1.0)), &tick(62));
        assert_eq!(judge.points[1].state, pump);
    }

    #[test]
    fn an_alarm_whose_rule_changed_is_over_and_says_so() {
        let mut judge = judge();
        let ended = judge.set_rules(rules(100.0, None), &tick(61));
        let alerts: Vec<_> = ended
            .iter()
            .map(|record| match &record.body {
                RecordBody::Alert(alert) => (alert.rule.as_str(), alert.subject.as_str(), alert.raised),
                _ => ("", "", true),
            })
            .collect();
        assert_eq!(alerts, [("range", "boiler-1/temp", false)]);
        assert_eq!(judge.points[0].state, PointState::default(), "a watch that ended has forgotten");
    }
}
