//! The only place that reads clocks: boot id, monotonic and wall time, and how far the wall time can be trusted.

use crate::reading::{MonoMicros, TimeQuality, UnixMicros};
use rustix::time::{ClockId, clock_gettime};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// A wall clock before this was never set: no Forebay existed (2026-01-01T00:00:00Z).
pub const EARLIEST_PLAUSIBLE_US: UnixMicros = 1_767_225_600_000_000;

/// systemd-timesyncd touches this file once the clock is synchronised (systemd-time-wait-sync.service(8)).
///
/// chrony and ntpd leave no such file: under them the clock counts as unverified. What the kernel knows (adjtimex(2)) no safe
/// interface gives.
const TIMESYNC_MARK: &str = "/run/systemd/timesync/synchronized";

/// A moment on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tick {
    /// The boot's monotonic clock.
    pub mono_us: MonoMicros,
    /// The wall clock.
    pub wall_us: UnixMicros,
    /// How far the wall clock can be trusted.
    pub quality: TimeQuality,
}

impl Tick {
    /// Wall time of a monotonic moment of the same boot, by this tick's pair of clocks.
    #[must_use]
    pub fn wall_of(&self, mono_us: MonoMicros) -> UnixMicros {
        let distance_us = i64::try_from(i128::from(mono_us) - i128::from(self.mono_us)).unwrap_or(0);
        self.wall_us.saturating_add(distance_us)
    }
}

/// Where time comes from: the system, or a test.
#[derive(Clone, Debug)]
pub struct Clock {
    /// The kernel's random id of this boot; monotonic times of different boots do not compare.
    pub boot_id: u128,
    hands: Hands,
}

#[derive(Clone, Debug)]
enum Hands {
    System,
    Manual(Arc<Manual>),
}

#[derive(Debug)]
struct Manual {
    mono_us: AtomicU64,
    wall_us: AtomicI64,
}

impl Clock {
    /// The system's clocks.
    #[must_use]
    pub fn system() -> Self {
        Self { boot_id: boot_id(), hands: Hands::System }
    }

    /// A clock that stands still until it is moved with [`Clock::set`].
    #[must_use]
    pub fn manual(boot_id: u128, mono_us: MonoMicros, wall_us: UnixMicros) -> Self {
        let manual = Manual { mono_us: AtomicU64::new(mono_us), wall_us: AtomicI64::new(wall_us) };
        Self { boot_id, hands: Hands::Manual(Arc::new(manual)) }
    }

    /// Moves a manual clock; a system clock stays as it is.
    pub fn set(&self, mono_us: MonoMicros, wall_us: UnixMicros) {
        if let Hands::Manual(manual) = &self.hands {
            manual.mono_us.store(mono_us, Ordering::SeqCst);
            manual.wall_us.store(wall_us, Ordering::SeqCst);
        }
    }

    /// The monotonic clock alone: cheap, for stamping samples.
    #[must_use]
    pub fn mono_us(&self) -> MonoMicros {
        match &self.hands {
            Hands::System => u64::try_from(micros(ClockId::Boottime)).unwrap_or(0),
            Hands::Manual(manual) => manual.mono_us.load(Ordering::SeqCst),
        }
    }

    /// Both clocks, and how far the wall clock can be trusted.
    #[must_use]
    pub fn tick(&self) -> Tick {
        match &self.hands {
            Hands::System => {
                let wall_us = micros(ClockId::Realtime);
                Tick { mono_us: self.mono_us(), wall_us, quality: quality(wall_us, Path::new(TIMESYNC_MARK).exists()) }
            }
            Hands::Manual(manual) => {
                let wall_us = manual.wall_us.load(Ordering::SeqCst);
                Tick { mono_us: self.mono_us(), wall_us, quality: quality(wall_us, true) }
            }
        }
    }
}

fn quality(wall_us: UnixMicros, synchronised: bool) -> TimeQuality {
    if wall_us < EARLIEST_PLAUSIBLE_US {
        TimeQuality::Unset
    } else if synchronised {
        TimeQuality::Ntp
    } else {
        TimeQuality::Unverified
    }
}

fn micros(clock: ClockId) -> i64 {
    let time = clock_gettime(clock);
    time.tv_sec.saturating_mul(1_000_000).saturating_add(time.tv_nsec / 1_000)
}

/// The kernel's boot id; a random one where there is none, so that monotonic times of two runs never mix.
fn boot_id() -> u128 {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    u128::from_str_radix(&text.trim().replace('-', ""), 16).unwrap_or_else(|_| fastrand::u128(..))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_never_set_says_so() {
        assert_eq!(quality(0, true), TimeQuality::Unset);
        assert_eq!(quality(EARLIEST_PLAUSIBLE_US, false), TimeQuality::Unverified);
        assert_eq!(quality(EARLIEST_PLAUSIBLE_US, true), TimeQuality::Ntp);
    }

    #[test]
    fn wall_time_follows_monotonic_time_backwards_and_forwards() {
        let tick = Tick { mono_us: 1_000, wall_us: 5_000_000, quality: TimeQuality::Ntp };
        assert_eq!(tick.wall_of(1_500), 5_000_500);
        assert_eq!(tick.wall_of(400), 4_999_400);
    }
}
