//! Anomaly detection: one streaming detector a point, its score and its words.
//!
//! The first detector forecasts the next value by exponential smoothing and compares the error of the forecast with its
//! usual size. It needs no training, no season and 48 bytes a point.

use crate::reading::{AnomalyScore, Detector, MonoMicros, Note, Reason};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which points are watched for what is unusual.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AnomalyOptions {
    /// Which points, as `device/point`; `*` stands for any run of characters.
    pub points: String,
    /// False alarms to expect for one point in 30 days of ordinary data; fewer make it less sensitive.
    #[serde(default = "false_alarms_per_month")]
    pub false_alarms_per_month: f64,
}

fn false_alarms_per_month() -> f64 {
    4.0
}

/// Most false alarms a month that can be asked for: one a minute.
const FALSE_ALARMS_PER_MONTH_MAX: f64 = 43_200.0;

impl AnomalyOptions {
    /// What is wrong, as pairs of path below these options and message.
    #[must_use]
    pub fn problems(&self) -> Vec<(String, String)> {
        // Zero would ask for a detector that never speaks.
        if self.false_alarms_per_month > 0.0 && self.false_alarms_per_month <= FALSE_ALARMS_PER_MONTH_MAX {
            return Vec::new();
        }
        let message = format!("expected more than 0 and at most {FALSE_ALARMS_PER_MONTH_MAX}");
        vec![("false_alarms_per_month".to_owned(), message)]
    }
}

/// Readings seen before the first score: the scale must have settled.
const WARM_UP_READINGS: u16 = 30;
/// Weight of the newest value in the forecast: about the last five values count.
const LEVEL_WEIGHT: f64 = 0.3;
/// Weight of the newest error in its usual size: about the last hundred errors count.
const SCALE_WEIGHT: f64 = 0.02;
/// An error counts at most so many usual sizes when the usual size is learned, so that one spike does not blind the detector.
const LEARNED_ERROR_MAX: f64 = 4.0;
/// After so many unusual readings in a row the new level is the ordinary one.
const REGIME_READINGS: u8 = 20;
/// Standard deviation over mean absolute error of a normal variable: sqrt(pi / 2).
const DEVIATION_PER_MEAN_ERROR: f64 = 1.253_314_137_315_500_3;
/// Seconds in the 30 days that the setting speaks of.
const MONTH_S: f64 = 30.0 * 86_400.0;

/// What the detector remembers of a point.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ResidualState {
    /// The forecast.
    level: f64,
    /// The last value.
    last: f64,
    /// Usual size of the forecast's error.
    mean_error: f32,
    /// Smallest step between different values: the sensor's resolution, below which no error is unusual.
    resolution: f32,
    /// Usual time between readings, in seconds.
    interval_s: f32,
    /// When the last one came.
    last_mono_us: MonoMicros,
    /// Readings seen, up to the warm-up.
    seen: u16,
    /// Unusual readings in a row.
    unusual: u8,
}

/// What the detector says of one reading.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Verdict {
    /// How unusual it is.
    pub score: AnomalyScore,
    /// Set if it is unusual enough to be flagged.
    pub note: Option<Note>,
}

impl ResidualState {
    /// Scores a value and learns from it. `false_alarms_per_month` sets how unusual is unusual enough.
    pub fn step(&mut self, value: f64, mono_us: MonoMicros, false_alarms_per_month: f64) -> Verdict {
        let since_us = mono_us.checked_sub(self.last_mono_us);
        self.last_mono_us = mono_us;
        if self.seen == 0 {
            self.level = value;
            self.last = value;
            self.seen = 1;
            return Verdict::default();
        }
        if let Some(since_us) = since_us {
            let seconds = (since_us as f64 / 1e6).min(86_400.0);
            self.interval_s = blend(f64::from(self.interval_s), seconds, 0.05);
        }
        let error = value - self.level;
        let size = error.abs();
        let moved = (value - self.last).abs();
        self.last = value;
        if moved > 0.0 && (self.resolution == 0.0 || moved < f64::from(self.resolution)) {
            self.resolution = narrow(moved);
        }
        let scale = (f64::from(self.mean_error) * DEVIATION_PER_MEAN_ERROR)
            .max(f64::from(self.resolution))
            .max(self.level.abs() * 1e-9)
            .max(f64::from(f32::MIN_POSITIVE));
        let warm = self.seen >= WARM_UP_READINGS;
        let probability = if warm { tail_probability(size / scale) } else { 1.0 };
        let unusual = warm && probability < self.threshold(false_alarms_per_month);
        let verdict = Verdict {
            score: if warm { AnomalyScore::from_tail_probability(probability) } else { AnomalyScore::default() },
            note: unusual.then(|| Note {
                detector: Detector::Residual,
                reason: if error > 0.0 { Reason::Above } else { Reason::Below },
                expected: narrow(self.level),
            }),
        };
        self.learn(value, size, scale, unusual);
        verdict
    }

    /// The tail probability below which a reading is flagged: so many false alarms over so many readings a month.
    fn threshold(&self, false_alarms_per_month: f64) -> f64 {
        let readings_per_month = MONTH_S / f64::from(self.interval_s).max(1e-3);
        (false_alarms_per_month / readings_per_month).clamp(1e-12, 0.01)
    }

    fn learn(&mut self, value: f64, size: f64, scale: f64, unusual: bool) {
        if unusual && self.unusual < REGIME_READINGS {
            self.unusual += 1;
            return;
        }
        let regime_changed = self.unusual >= REGIME_READINGS;
        self.unusual = 0;
        if regime_changed {
            self.level = value;
            return;
        }
        self.seen = self.seen.saturating_add(1).min(WARM_UP_READINGS);
        let settled = self.seen >= WARM_UP_READINGS;
        let learned = if settled { size.min(LEARNED_ERROR_MAX * scale) } else { size };
        // Until it has settled every error counts alike.
        let weight = if settled { SCALE_WEIGHT } else { 1.0 / f64::from(self.seen) };
        self.mean_error = narrow(blend(f64::from(self.mean_error), learned, weight).into());
        self.level += LEVEL_WEIGHT * (value - self.level);
    }
}

/// Two-sided tail probability of Student's t with 4 degrees of freedom (Abramowitz and Stegun 26.7.4): forecast errors of
/// plant data have heavier tails than a normal variable. With s = t / sqrt(4 + t²) it is (1 − s)² (2 + s) / 2.
fn tail_probability(t: f64) -> f64 {
    let s = t / (4.0 + t * t).sqrt();
    // 1 − s² = 4 / (4 + t²), so that nothing cancels far out.
    let rest = 4.0 / (4.0 + t * t) / (1.0 + s);
    (rest * rest * (2.0 + s) / 2.0).clamp(0.0, 1.0)
}

#[expect(clippy::cast_possible_truncation, reason = "state is kept in single precision on purpose")]
fn narrow(number: f64) -> f32 {
    number as f32
}

fn blend(old: f64, new: f64, weight: f64) -> f32 {
    narrow(old + weight * (new - old))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn feed(state: &mut ResidualState, second: u64, value: f64) -> Verdict {
        state.step(value, second * 1_000_000, 4.0)
    }

    fn noisy(rng: &mut fastrand::Rng, second: u64) -> f64 {
        let noise: f64 = (0..12).map(|_| rng.f64()).sum::<f64>() - 6.0;
        60.0 + 5.0 * (second as f64 / 600.0).sin() + 0.2 * noise
    }

    #[test]
    fn ordinary_readings_are_not_flagged_for_a_week() {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut state = ResidualState::default();
        let flagged =
            (0..7 * 86_400).filter(|second| feed(&mut state, *second, noisy(&mut rng, *second)).note.is_some());
        assert!(flagged.count() <= 1);
    }

    #[test]
    fn a_spike_is_flagged_with_its_side_and_what_was_expected_and_the_next_reading_is_not() {
        let mut rng = fastrand::Rng::with_seed(8);
        let mut state = ResidualState::default();
        for second in 0..3_600 {
            feed(&mut state, second, noisy(&mut rng, second));
        }
        let before = noisy(&mut rng, 3_600);
        let verdict = feed(&mut state, 3_600, before + 30.0);
        let note = verdict.note.unwrap();
        assert_eq!((note.detector, note.reason), (Detector::Residual, Reason::Above));
        assert!((f64::from(note.expected) - before).abs() < 2.0);
        assert!(verdict.score.as_unit() > 0.999);
        assert!(feed(&mut state, 3_601, noisy(&mut rng, 3_601)).note.is_none());
    }

    #[test]
    fn a_new_level_becomes_ordinary() {
        let mut rng = fastrand::Rng::with_seed(9);
        let mut state = ResidualState::default();
        let mut late = 0;
        for second in 0..7_200u64 {
            let shift = if second >= 3_600 { 40.0 } else { 0.0 };
            let flagged = feed(&mut state, second, noisy(&mut rng, second) + shift).note.is_some();
            late += u32::from(flagged && second > 3_660);
        }
        assert_eq!(late, 0);
    }

    #[test]
    fn a_still_sensor_that_moves_by_its_resolution_is_ordinary() {
        let mut state = ResidualState::default();
        for second in 0..100 {
            feed(&mut state, second, if second % 10 == 0 { 20.1 } else { 20.0 });
        }
        let flagged = (100..4_000u64)
            .filter(|second| feed(&mut state, *second, if second % 500 == 0 { 20.1 } else { 20.0 }).note.is_some());
        assert_eq!(flagged.count(), 0);
    }

    #[test]
    fn the_tail_is_that_of_the_tables() {
        assert!((tail_probability(2.776) - 0.05).abs() < 1e-3);
        assert!((tail_probability(4.604) - 0.01).abs() < 1e-3);
    }
}
