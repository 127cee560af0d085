//! Rates and the age of what waits, from counters looked at once a second.

use super::snapshot::Books;
use crate::reading::MonoMicros;
use std::collections::VecDeque;

/// How many looks a rate spans. At one a second, ten seconds: short enough to show a change, long enough to be calm
/// while commits and runs arrive in steps.
const LOOKS_MAX: usize = 11;

/// How many marks of "by then, so many were accepted" are kept. When they are full, every other one goes: the age of
/// what waits stays true to 1/256 of the time since the start, in 8 KiB.
const MARKS_MAX: usize = 512;

/// Looks back at the counters.
#[derive(Debug, Default)]
pub(super) struct Meter {
    looks: VecDeque<Look>,
    marks: Vec<Mark>,
    mark_every: u64,
    looked: u64,
}

#[derive(Debug)]
struct Look {
    mono_us: MonoMicros,
    books: Books,
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    mono_us: MonoMicros,
    next: u64,
}

impl Meter {
    /// Takes one look.
    pub(super) fn look(&mut self, mono_us: MonoMicros, books: Books) {
        if self.looked.is_multiple_of(self.mark_every.max(1)) {
            if self.marks.len() >= MARKS_MAX {
                let mut index = 0_usize;
                self.marks.retain(|_| {
                    index += 1;
                    !index.is_multiple_of(2)
                });
                self.mark_every = self.mark_every.max(1) * 2;
            }
            self.marks.push(Mark { mono_us, next: books.next });
        }
        self.looked += 1;
        if self.looks.len() >= LOOKS_MAX {
            self.looks.pop_front();
        }
        self.looks.push_back(Look { mono_us, books });
    }

    /// Change per second of a number over the last looks; `None` before there are two.
    pub(super) fn per_second(&self, pick: impl Fn(&Books) -> Option<u64>) -> Option<f64> {
        let (first, last) = (self.looks.front()?, self.looks.back()?);
        let span_us = last.mono_us.checked_sub(first.mono_us).filter(|span_us| *span_us > 0)?;
        let change = pick(&last.books)? as f64 - pick(&first.books)? as f64;
        Some(change * 1e6 / span_us as f64)
    }

    /// When the reading of this sequence was accepted; `None` if that was before the first look.
    pub(super) fn accepted_at(&self, sequence: u64) -> Option<MonoMicros> {
        let after = self.marks.partition_point(|mark| mark.next <= sequence);
        self.marks.get(after.checked_sub(1)?).map(|mark| mark.mono_us)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::collections::HashMap;

    fn books(next: u64) -> Books {
        Books { next, accepted: HashMap::from([("bus".to_owned(), next)]), ..Books::default() }
    }

    #[test]
    fn a_rate_is_told_over_the_last_ten_seconds_only() {
        let mut meter = Meter::default();
        assert_eq!(meter.per_second(|books| Some(books.next)), None);
        for second in 0..20 {
            let next = if second < 9 { 0 } else { (second - 9) * 50 };
            meter.look(second * 1_000_000, books(next));
        }
        let rate = meter.per_second(|books| books.accepted.get("bus").copied()).unwrap();
        assert!((rate - 50.0).abs() < 1e-9, "{rate}");
    }

    #[test]
    fn the_age_of_what_waits_stays_known_over_days_in_bounded_memory() {
        let mut meter = Meter::default();
        for second in 0..200_000_u64 {
            meter.look(second * 1_000_000, books(second * 10));
        }
        assert!(meter.marks.len() <= MARKS_MAX);
        let at_s = meter.accepted_at(1_000_000).unwrap() / 1_000_000;
        assert!((99_000..=100_000).contains(&at_s), "{at_s}");
        assert_eq!(Meter::default().accepted_at(5), None);
    }
}
