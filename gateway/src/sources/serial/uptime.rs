//! Translates a device's uptime to the gateway's clock.

use crate::reading::MonoMicros;

/// How fast the two clocks may drift apart: twice what a poor crystal does (100 ppm).
const DRIFT_PPM: u64 = 200;

/// When the device started, on the gateway's monotonic clock. A message can only be late, never early, so the earliest
/// start that any message implied is the best; it creeps forward, because clocks drift.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct UptimeClock {
    best: Option<(i64, MonoMicros)>,
}

impl UptimeClock {
    /// The start, by this message and those before; negative if the device runs for longer than the gateway's boot.
    pub(super) fn started_us(&mut self, uptime_ms: u64, mono_us: MonoMicros) -> i64 {
        let now = i64::try_from(mono_us).unwrap_or(i64::MAX);
        let implied = now.saturating_sub(i64::try_from(uptime_ms.saturating_mul(1_000)).unwrap_or(i64::MAX));
        let started = match self.best {
            Some((best, since)) => {
                let drift = mono_us.saturating_sub(since).saturating_mul(DRIFT_PPM) / 1_000_000;
                implied.min(best.saturating_add(i64::try_from(drift).unwrap_or(i64::MAX)))
            }
            None => implied,
        };
        self.best = Some((started, mono_us));
        started
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_message_does_not_move_the_start_and_a_prompt_one_does() {
        let mut clock = UptimeClock::default();
        assert_eq!(clock.started_us(1_000, 11_500_000), 10_500_000);
        assert_eq!(clock.started_us(2_000, 12_000_000), 10_000_000);
        let late = clock.started_us(3_000, 73_000_000);
        assert_eq!(late, 10_000_000 + 61 * 200, "but for what the clocks may have drifted");
        assert_eq!(clock.started_us(100_000, 73_000_000), -27_000_000);
    }

    #[test]
    fn a_drifting_clock_is_followed() {
        let mut clock = UptimeClock::default();
        // The device's clock is 100 ppm slow: each second of ours it counts 999.9 ms.
        let starts: Vec<_> = (0..100_000_u64).map(|s| clock.started_us(s * 9_999 / 10, s * 1_000_000)).collect();
        let expected = 99_999 * 100;
        assert!(starts.last().is_some_and(|start| (start - expected).abs() < 2_000), "{:?}", starts.last());
    }

    #[test]
    fn any_times_give_a_start() {
        for (uptime_ms, mono_us) in [(u64::MAX, 0), (0, u64::MAX), (u64::MAX, u64::MAX)] {
            let mut clock = UptimeClock::default();
            clock.started_us(0, 0);
            clock.started_us(uptime_ms, mono_us);
        }
    }
}
