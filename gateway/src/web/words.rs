//! Numbers and times as the page says them: rounded to what matters, with units, always the same width where they tick.

use super::locale::Locale;
use crate::reading::UnixMicros;
use jiff::Timestamp;

/// Stands between a number and its unit, so that a line never breaks there (U+00A0).
const NBSP: char = '\u{a0}';

/// A part that is less than one in so many of the whole has a unit of its own.
const SHOWN_PART: u64 = 20;

/// Groups the digits of a long number (U+202F, narrow).
const GROUP: char = '\u{202f}';

/// Counts up to here are shown in full; above, three digits and a prefix say enough.
const COUNT_IN_FULL_BELOW: u64 = 1_000_000;

impl Locale {
    /// A count: `412`, `14 600`, `35.6 M`.
    pub(in crate::web) fn count(self, number: u64) -> String {
        self.written(count(number))
    }

    /// A rate: `0.5/s`, `412/s`, `31.2 k/s`.
    pub(in crate::web) fn rate(self, per_second: f64) -> String {
        self.written(rate(per_second))
    }

    /// The number of a rate alone.
    pub(in crate::web) fn rate_of(self, per_second: f64) -> String {
        self.written(rate_of(per_second))
    }

    /// A size: `12 MiB`, `816 B`.
    pub(in crate::web) fn bytes(self, size: u64) -> String {
        self.written(bytes(size))
    }

    /// A part of a whole, both in the unit of the whole as long as that shows it: `0.76 of 2 GiB`, `12 MiB of 2 GiB`.
    pub(in crate::web) fn bytes_of(self, part: u64, whole: u64) -> String {
        let (unit, size) = size_unit(whole);
        if part > 0 && part < whole / SHOWN_PART {
            return self.f("{} of {}", &[&self.bytes(part), &self.bytes(whole)]);
        }
        let (part, whole) = (self.written(in_unit(part, size)), self.written(in_unit(whole, size)));
        self.f("{} of {}", &[&part, &format!("{whole}{NBSP}{unit}")])
    }

    /// A measured number: `52.1`, `3.20`, `0.420`, `1 013`, `1.2e-6`.
    pub(in crate::web) fn number(self, value: f64) -> String {
        self.written(number(value))
    }

    /// A number as someone set it, with all its decimals: `-100`, `0.5`.
    pub(in crate::web) fn exact(self, value: f64) -> String {
        written(&value.to_string(), true, self.decimal)
    }

    /// A whole number in full: `-1 204`.
    pub(in crate::web) fn integer(self, value: i64) -> String {
        self.written(integer(value))
    }

    /// A span of time: `a moment`, `40 s`, `6 min`, `3 h`, `5 days`. `page.js` says it the same way.
    pub(in crate::web) fn span(self, span_us: i64) -> String {
        let seconds = span_us / 1_000_000;
        match seconds {
            ..5 => self.t("a moment").to_owned(),
            5..60 => format!("{seconds}{NBSP}s"),
            60..7_200 => format!("{}{NBSP}min", seconds / 60),
            7_200..172_800 => format!("{}{NBSP}h", seconds / 3_600),
            _ => format!("{}{NBSP}{}", seconds / 86_400, self.t("days")),
        }
    }

    /// How long ago: `6 min ago`.
    pub(in crate::web) fn ago(self, span_us: i64) -> String {
        self.f("{} ago", &[&self.span(span_us)])
    }

    /// A small number as a word, as a person would say it; from ten on in digits.
    pub(in crate::web) fn number_word(self, number: usize) -> String {
        const WORDS: [&str; 10] = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];
        WORDS.get(number).map_or_else(|| number.to_string(), |word| self.t(word).to_owned())
    }

    /// A number as it is written here.
    fn written(self, text: String) -> String {
        if self.decimal == '.' { text } else { text.replace('.', &self.decimal.to_string()) }
    }
}

/// A count: `412`, `14 600`, `35.6 M`.
fn count(count: u64) -> String {
    if count < COUNT_IN_FULL_BELOW { grouped(&count.to_string()) } else { prefixed(count as f64) }
}

/// A rate: `0.5/s`, `412/s`, `31.2 k/s`.
fn rate(per_second: f64) -> String {
    format!("{}/s", rate_of(per_second))
}

/// The number of a rate alone.
fn rate_of(per_second: f64) -> String {
    if per_second < 0.05 {
        "0".to_owned()
    } else if per_second < 9.95 {
        let text = format!("{per_second:.1}");
        text.strip_suffix(".0").map_or(text.clone(), ToOwned::to_owned)
    } else if per_second < 999.5 {
        format!("{per_second:.0}")
    } else {
        prefixed(per_second)
    }
}

/// Three significant digits and a prefix: `35.6 M`.
fn prefixed(number: f64) -> String {
    let (scaled, prefix) = match number {
        n if n < 999_500.0 => (n / 1e3, 'k'),
        n if n < 999_500_000.0 => (n / 1e6, 'M'),
        n => (n / 1e9, 'G'),
    };
    format!("{}{NBSP}{prefix}", three_digits(scaled))
}

fn three_digits(number: f64) -> String {
    match number {
        n if n < 9.995 => format!("{n:.2}"),
        n if n < 99.95 => format!("{n:.1}"),
        n => format!("{n:.0}"),
    }
}

/// The units of sizes, the largest first; anything fits the last.
const SIZES: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// A size: `12 MiB`, `816 B`.
fn bytes(bytes: u64) -> String {
    let (unit, size) = size_unit(bytes);
    format!("{}{NBSP}{unit}", in_unit(bytes, size))
}

fn size_unit(bytes: u64) -> (&'static str, u64) {
    SIZES.into_iter().find(|(_, size)| bytes >= *size).unwrap_or(("B", 1))
}

fn in_unit(bytes: u64, size: u64) -> String {
    let number = three_digits(bytes as f64 / size as f64);
    if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.').to_owned() } else { number }
}

/// A measured number: `52.1`, `3.20`, `0.420`, `1 013`, `1.2e-6`. Decimals depend on the size alone, so that a value
/// that ticks keeps its width.
fn number(number: f64) -> String {
    let size = number.abs();
    let text = match size {
        0.0 => "0".to_owned(),
        s if !(0.000_1..1e9).contains(&s) => return minus(&format!("{number:.2e}")),
        s if s < 0.1 => format!("{number:.4}"),
        s if s < 1.0 => format!("{number:.3}"),
        s if s < 10.0 => format!("{number:.2}"),
        s if s < 1_000.0 => format!("{number:.1}"),
        _ => format!("{number:.0}"),
    };
    minus(&grouped(&text))
}

/// A number that was written with a point and a hyphen, in the viewer's way.
pub(in crate::web) fn written(number: &str, group: bool, decimal: char) -> String {
    let number = if group { grouped(number) } else { number.to_owned() };
    minus(&number).replace('.', &decimal.to_string())
}

/// A whole number in full: `-1 204`.
fn integer(integer: i64) -> String {
    minus(&grouped(&integer.to_string()))
}

/// A true minus is as wide as a digit; a hyphen is not.
fn minus(text: &str) -> String {
    text.replace('-', "\u{2212}")
}

/// Groups the digits before the point by three, from four digits on.
fn grouped(text: &str) -> String {
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let (sign, digits) = whole.split_at(usize::from(whole.starts_with('-')));
    let mut out = String::from(sign);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(GROUP);
        }
        out.push(digit);
    }
    out + rest
}

/// A moment: what machines read, and what people see until `page.js` says it in their own zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::web) struct Moment {
    /// RFC 3339 in UTC, to the second.
    pub(in crate::web) machine: String,
    /// `2026-11-20 13:24:50 UTC`.
    pub(in crate::web) person: String,
    /// How long ago it was: `6 min`.
    pub(in crate::web) span: String,
    /// The same as a phrase: `6 min ago`.
    pub(in crate::web) ago: String,
}

impl Moment {
    /// A moment seen from `now_us`.
    pub(in crate::web) fn new(at_us: UnixMicros, now_us: UnixMicros, l: Locale) -> Self {
        let second = Timestamp::from_microsecond(at_us).unwrap_or_default().as_second();
        let machine = Timestamp::from_second(second).unwrap_or_default().to_string();
        let person = machine.replace('T', " ").replace('Z', " UTC");
        let span_us = now_us.saturating_sub(at_us);
        Self { machine, person, span: l.span(span_us), ago: l.ago(span_us) }
    }
}

/// What happened and what to do, each a sentence of its own: lower floors join them with a semicolon.
pub(in crate::web) fn sentences(text: &str) -> String {
    let parts = text.split("; ").map(sentence).filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join(" ")
}

/// Puts a capital where a sentence begins.
pub(in crate::web) fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// Puts a full stop and a capital where a person would.
pub(in crate::web) fn sentence(text: &str) -> String {
    let mut out = capital(text.trim());
    if !out.is_empty() && !out.ends_with(['.', '!', '?']) {
        out.push('.');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const EN: Locale = Locale::ENGLISH;

    fn plain(text: &str) -> String {
        text.replace([NBSP, GROUP], " ")
    }

    #[test]
    fn counts_and_rates_are_rounded_to_what_matters() {
        assert_eq!(plain(&count(9_876)), "9 876");
        assert_eq!(plain(&count(35_640_000)), "35.6 M");
        assert_eq!(plain(&count(999_600)), "999 600");
        assert_eq!(plain(&count(1_000_000)), "1.00 M");
        assert_eq!(plain(&count(u64::MAX)), "18446744074 G");
        assert_eq!(rate(0.5), "0.5/s");
        assert_eq!(rate(6.0), "6/s");
        assert_eq!(plain(&rate(31_000.0)), "31.0 k/s");
    }

    #[test]
    fn sizes_compare_in_one_unit() {
        assert_eq!(plain(&EN.bytes_of(816_043_786, 2 << 30)), "0.76 of 2 GiB");
        assert_eq!(plain(&EN.bytes_of(0, 2 << 30)), "0 of 2 GiB");
        assert_eq!(plain(&EN.bytes_of(12 << 20, 2 << 30)), "12 MiB of 2 GiB");
        assert_eq!(plain(&bytes(0)), "0 B");
        assert_eq!(plain(&bytes(2 << 30)), "2 GiB");
        assert_eq!(plain(&bytes(100 << 20)), "100 MiB");
        assert_eq!(plain(&bytes(7)), "7 B");
    }

    #[test]
    fn values_keep_their_width_and_their_sign() {
        assert_eq!(number(3.2), "3.20");
        assert_eq!(number(-52.14), "\u{2212}52.1");
        assert_eq!(plain(&number(1_013.25)), "1 013");
        assert_eq!(number(-0.0), "0");
        assert_eq!(number(1.2e-6), "1.20e\u{2212}6");
        assert_eq!(plain(&integer(i64::MIN)), "\u{2212}9 223 372 036 854 775 808");
    }

    #[test]
    fn spans_grow_coarser_with_age() {
        assert_eq!(EN.span(-5), "a moment");
        assert_eq!(plain(&EN.span(40_000_000)), "40 s");
        assert_eq!(plain(&EN.span(6 * 60_000_000)), "6 min");
        assert_eq!(plain(&EN.span(90 * 60_000_000)), "90 min");
        assert_eq!(plain(&EN.span(47 * 3_600_000_000)), "47 h");
        assert_eq!(plain(&EN.span(48 * 3_600_000_000)), "2 days");
    }

    #[test]
    fn a_time_that_no_calendar_knows_is_shown_rather_than_refused() {
        assert_eq!(Moment::new(i64::MAX, 0, EN).machine, "1970-01-01T00:00:00Z");
    }
}
