//! What is written to the card, as the kernel counts it: per reading, per day, and how long the card lasts at that.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// Unit of the sectors in a block device's statistics, whatever its own sector size (Documentation/block/stat.rst).
const SECTOR_BYTES: u64 = 512;

/// How often the counters are read: commits come in beats of seconds, and a day has many of these.
const SAMPLE_EVERY: Duration = Duration::from_secs(10);

/// The rates are averages over about this time, or since the start.
const AVERAGE_OVER: Duration = Duration::from_hours(1);

/// What paces commits follows sooner.
const RECENT_OVER: Duration = Duration::from_mins(5);

/// Before, an average would tell of the start rather than of the day.
const AVERAGE_FROM: Duration = Duration::from_mins(1);

const DAY: Duration = Duration::from_hours(24);

/// What a card takes before it wears out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Card {
    /// Its capacity in bytes.
    pub capacity_bytes: u64,
    /// How often each cell can be written.
    pub write_cycles: u64,
}

/// What is written; nothing where the kernel does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wear {
    /// Bytes that this process had written since it started.
    pub written_bytes: Option<u64>,
    /// Bytes that the block device of the buffer was given to write since it is there, by all programs, with what the file system
    /// adds.
    pub device_written_bytes: Option<u64>,
    /// Bytes that this process writes a day, at the rate of the last hour.
    pub bytes_per_day: Option<u64>,
    /// The same at the rate of the last minutes.
    pub recent_bytes_per_day: Option<u64>,
    /// Bytes that the block device is given to write a day, at the rate of the last hour.
    pub device_bytes_per_day: Option<u64>,
    /// Bytes that this process writes for each reading, at the rate of the last hour.
    pub bytes_per_reading: Option<u64>,
    /// Days that the card lasts from new at the rate of the last hour, if its capacity is known.
    pub card_days: Option<u64>,
}

/// Reads the counters now and then.
#[derive(Debug, Default)]
pub(super) struct Meter {
    /// Statistics of the block device; none where there is no such device (overlay, tmpfs).
    device: Option<PathBuf>,
    last: Option<(Duration, Counters)>,
    bytes: Rate,
    recent_bytes: Rate,
    device_bytes: Rate,
    readings: Rate,
    wear: Wear,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counters {
    process: Option<u64>,
    device: Option<u64>,
    readings: u64,
}

/// A moving average of something a second.
#[derive(Debug, Default)]
struct Rate {
    per_second: f64,
    seen: Duration,
}

impl Meter {
    /// Counts for the file system of a directory.
    pub(super) fn of(root: &Path) -> Self {
        let device = std::fs::metadata(root).ok().map(|meta| {
            let number = std::os::unix::fs::MetadataExt::dev(&meta);
            let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
            PathBuf::from(format!("/sys/dev/block/{major}:{minor}/stat"))
        });
        Self { device, ..Self::default() }
    }

    /// What is written, looked at anew if it is time; `now` counts from anywhere, `readings` all that were ever stored.
    pub(super) fn look(&mut self, now: Duration, readings: u64, card: Option<Card>) -> Wear {
        if self.last.is_none_or(|(at, _)| now.saturating_sub(at) >= SAMPLE_EVERY) {
            let process = std::fs::read_to_string("/proc/self/io").ok().and_then(|text| process_bytes(&text));
            let device = self.device.as_ref().and_then(|path| std::fs::read_to_string(path).ok());
            let device = device.and_then(|text| device_bytes(&text));
            self.take(now, Counters { process, device, readings }, card);
        }
        self.wear
    }

    fn take(&mut self, now: Duration, counters: Counters, card: Option<Card>) {
        if let Some((at, before)) = self.last {
            let time = now.saturating_sub(at);
            let grown = |now: Option<u64>, before: Option<u64>| Some(now?.saturating_sub(before?));
            let written = grown(counters.process, before.process);
            self.bytes.add(written, time, AVERAGE_OVER);
            self.recent_bytes.add(written, time, RECENT_OVER);
            self.device_bytes.add(grown(counters.device, before.device), time, AVERAGE_OVER);
            self.readings.add(Some(counters.readings.saturating_sub(before.readings)), time, AVERAGE_OVER);
        }
        self.last = Some((now, counters));
        let device_bytes_per_day = self.device_bytes.per_day();
        self.wear = Wear {
            written_bytes: counters.process,
            device_written_bytes: counters.device,
            bytes_per_day: self.bytes.per_day(),
            recent_bytes_per_day: self.recent_bytes.per_day(),
            device_bytes_per_day,
            bytes_per_reading: self.bytes.per(&self.readings),
            card_days: card.and_then(|card| card_days(card, device_bytes_per_day.or(self.bytes.per_day())?)),
        };
    }
}

impl Rate {
    fn add(&mut self, amount: Option<u64>, time: Duration, over: Duration) {
        let (Some(amount), false) = (amount, time.is_zero()) else { return };
        self.seen = (self.seen + time).min(over);
        let weight = time.div_duration_f64(self.seen).min(1.0);
        self.per_second += weight * (amount as f64 / time.as_secs_f64() - self.per_second);
    }

    fn per_day(&self) -> Option<u64> {
        (self.seen >= AVERAGE_FROM).then(|| whole(self.per_second * DAY.as_secs_f64()))
    }

    fn per(&self, other: &Self) -> Option<u64> {
        let is_known = self.seen >= AVERAGE_FROM && other.per_second > 0.0;
        is_known.then(|| whole(self.per_second / other.per_second))
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of bytes, never negative")]
fn whole(amount: f64) -> u64 {
    amount.round() as u64
}

/// Days until every cell of a card was written as often as it can be; none if nothing is written.
fn card_days(card: Card, bytes_per_day: u64) -> Option<u64> {
    let bytes = u128::from(card.capacity_bytes) * u128::from(card.write_cycles);
    Some(u64::try_from(bytes.checked_div(u128::from(bytes_per_day))?).unwrap_or(u64::MAX))
}

/// `write_bytes` less `cancelled_write_bytes`, which a file had that went before it was written (proc(5)).
fn process_bytes(io: &str) -> Option<u64> {
    let field = |name: &str| {
        let value = io.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        value.trim().parse::<u64>().ok()
    };
    Some(field("write_bytes")?.saturating_sub(field("cancelled_write_bytes").unwrap_or(0)))
}

/// The seventh number: sectors written (Documentation/block/stat.rst).
fn device_bytes(stat: &str) -> Option<u64> {
    let sectors: u64 = stat.split_whitespace().nth(6)?.parse().ok()?;
    Some(sectors.saturating_mul(SECTOR_BYTES))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const MIB: u64 = 1 << 20;

    /// A meter after so many minutes of the same.
    fn after(minutes: u64, device: bool, card: Option<Card>) -> Wear {
        let mut meter = Meter::default();
        for minute in 0..=minutes {
            let device = device.then_some(minute * 3 * MIB);
            let counters = Counters { process: Some(minute * MIB), device, readings: minute * 1_024 };
            meter.take(Duration::from_secs(60 * minute), counters, card);
        }
        meter.wear
    }

    #[test]
    fn rates_are_known_after_a_minute_and_per_reading_and_day() {
        assert_eq!(after(0, true, None).bytes_per_day, None);
        let wear = after(300, true, None);
        assert_eq!((wear.written_bytes, wear.device_written_bytes), (Some(300 * MIB), Some(900 * MIB)));
        let day = [wear.bytes_per_day, wear.recent_bytes_per_day, wear.device_bytes_per_day];
        assert_eq!(day, [Some(1_440 * MIB), Some(1_440 * MIB), Some(3 * 1_440 * MIB)]);
        assert_eq!((wear.bytes_per_reading, wear.card_days), (Some(1_024), None));
    }

    #[test]
    fn a_card_lasts_by_what_its_device_is_given_to_write_or_else_by_our_own_part() {
        let of_32_gib = Card { capacity_bytes: 32 << 30, write_cycles: 500 };
        let card = Some(of_32_gib);
        let days = (32 << 10) * 500 / 1_440;
        assert_eq!(after(300, true, card).card_days, Some(days / 3));
        assert_eq!(after(300, false, card).card_days, Some(days));
        assert_eq!(card_days(of_32_gib, 0), None);
    }

    #[test]
    fn the_rate_follows_what_is_written_now() {
        let mut meter = Meter::default();
        let mut written = 0;
        for minute in 0..200 {
            written += if minute < 60 { 10 * MIB } else { MIB };
            let counters = Counters { process: Some(written), device: None, readings: 0 };
            meter.take(Duration::from_secs(60 * minute), counters, None);
        }
        let mib_a_minute = |per_day: Option<u64>| per_day.unwrap() / 1_440 / (MIB / 100);
        assert!((100..=101).contains(&mib_a_minute(meter.wear.recent_bytes_per_day)));
        assert!((150..250).contains(&mib_a_minute(meter.wear.bytes_per_day)), "{:?}", meter.wear);
    }

    #[test]
    fn the_kernels_words_are_understood() {
        let io = "rchar: 1\nwchar: 2\nwrite_bytes: 8192\ncancelled_write_bytes: 4096\n";
        assert_eq!((process_bytes(io), process_bytes("rchar: 1\n")), (Some(4_096), None));
        let stat = "     446     216    36922    6384    10      20    4000    13 0 1 2\n";
        assert_eq!((device_bytes(stat), device_bytes("")), (Some(4_000 * 512), None));
    }
}
