//! Times as RFC 3339 in UTC: milliseconds, and microseconds where there are some.

use crate::reading::UnixMicros;

const MICROS_PER_DAY: i64 = 86_400_000_000;

/// 0000-01-01T00:00:00Z and 9999-12-31T23:59:59.999999Z: RFC 3339 has no other years, so times beyond become these.
const EARLIEST_US: UnixMicros = -719_528 * MICROS_PER_DAY;
const LATEST_US: UnixMicros = 2_932_897 * MICROS_PER_DAY - 1;

/// `"2026-11-20T`: 12 bytes.
type DateText = [u8; 12];

/// Writes times and remembers the last date: readings that follow one another are mostly of one day.
pub(super) struct Dates {
    day: i64,
    text: DateText,
}

impl Default for Dates {
    fn default() -> Self {
        Self { day: 0, text: date_text(0) }
    }
}

impl Dates {
    /// A time in quotes.
    pub(super) fn put(&mut self, out: &mut Vec<u8>, time_us: UnixMicros) {
        let time_us = time_us.clamp(EARLIEST_US, LATEST_US);
        let day = time_us.div_euclid(MICROS_PER_DAY);
        let of_day_us = time_us.rem_euclid(MICROS_PER_DAY);
        if day != self.day {
            *self = Self { day, text: date_text(day) };
        }
        let (second, micro) = (of_day_us / 1_000_000, of_day_us % 1_000_000);
        let [h1, h2] = two_digits(second / 3_600);
        let [m1, m2] = two_digits(second / 60 % 60);
        let [s1, s2] = two_digits(second % 60);
        let [c1, c2] = two_digits(micro / 10_000);
        let [c3, c4] = two_digits(micro / 100 % 100);
        let [c5, c6] = two_digits(micro % 100);
        out.extend_from_slice(&self.text);
        out.extend_from_slice(&[h1, h2, b':', m1, m2, b':', s1, s2, b'.', c1, c2, c3]);
        if micro % 1_000 != 0 {
            out.extend_from_slice(&[c4, c5, c6]);
        }
        out.extend_from_slice(b"Z\"");
    }
}

/// Proleptic Gregorian date of a day counted from 1970-01-01: `civil_from_days` of Howard Hinnant, "chrono-Compatible Low-Level
/// Date Algorithms" (2013). Eras are 400 years of 146 097 days, years begin in March.
fn date_text(day: i64) -> DateText {
    let shifted = day + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let [y1, y2] = two_digits(year / 100);
    let [y3, y4] = two_digits(year % 100);
    let [m1, m2] = two_digits(month);
    let [d1, d2] = two_digits(day_of_month);
    [b'"', y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, b'T']
}

/// The two decimal digits of a number in 0..=99.
#[expect(clippy::cast_possible_truncation, reason = "a digit is in 0..=9")]
fn two_digits(number: i64) -> [u8; 2] {
    let digit = |value: i64| b'0' + value.rem_euclid(10) as u8;
    [digit(number / 10), digit(number)]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    fn text(time_us: UnixMicros) -> String {
        let mut out = Vec::new();
        Dates::default().put(&mut out, time_us);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn milliseconds_always_and_microseconds_where_there_are_some() {
        assert_eq!(text(0), r#""1970-01-01T00:00:00.000Z""#);
        assert_eq!(text(1_790_000_000_140_000), r#""2026-09-21T14:13:20.140Z""#);
        assert_eq!(text(1_790_000_000_140_001), r#""2026-09-21T14:13:20.140001Z""#);
        assert_eq!(text(-1), r#""1969-12-31T23:59:59.999999Z""#);
    }

    #[test]
    fn times_beyond_the_years_of_the_standard_become_its_first_and_last() {
        assert_eq!(text(i64::MIN), r#""0000-01-01T00:00:00.000Z""#);
        assert_eq!(text(i64::MAX), r#""9999-12-31T23:59:59.999999Z""#);
    }

    proptest! {
        #[test]
        fn every_time_reads_back_the_same(time_us in EARLIEST_US..=LATEST_US - MICROS_PER_DAY) {
            let written = text(time_us);
            let read: jiff::Timestamp = written.trim_matches('"').parse().unwrap();
            prop_assert_eq!(read.as_microsecond(), time_us);
        }
    }
}
