//! A set of sequences as separate ranges.

use crate::reading::{Sequence, SequenceRange};
use std::collections::BTreeMap;

/// Sequences, as ranges that neither touch nor overlap: last by first.
#[derive(Clone, Debug, Default)]
pub(super) struct Ranges(BTreeMap<Sequence, Sequence>);

impl Ranges {
    /// How many separate ranges there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Adds one; false if it was there.
    pub(super) fn insert(&mut self, sequence: Sequence) -> bool {
        self.insert_range(SequenceRange { first: sequence, last: sequence }) > 0
    }

    /// Adds a range; how many of it were not there.
    pub(super) fn insert_range(&mut self, range: SequenceRange) -> u64 {
        let fresh = range.count() - self.count_within(range);
        let SequenceRange { mut first, mut last } = range;
        // What touches at either end is joined.
        while let Some((start, end)) = self.0.range(..=last.saturating_add(1)).next_back().map(|(s, e)| (*s, *e)) {
            if end.saturating_add(1) < first {
                break;
            }
            self.0.remove(&start);
            (first, last) = (first.min(start), last.max(end));
        }
        self.0.insert(first, last);
        fresh
    }

    /// First and last of all.
    pub(super) fn hull(&self) -> Option<SequenceRange> {
        let (first, last) = (*self.0.first_key_value()?.0, *self.0.last_key_value()?.1);
        Some(SequenceRange { first, last })
    }

    /// How many of a range are there.
    pub(super) fn count_within(&self, range: SequenceRange) -> u64 {
        self.within(range).map(SequenceRange::count).sum()
    }

    /// The parts of a range that are not there, ascending.
    pub(super) fn missing_within(&self, range: SequenceRange) -> impl Iterator<Item = SequenceRange> + use<> {
        let mut missing = Vec::new();
        let mut next = Some(range.first);
        for part in self.within(range) {
            if let Some(first) = next.filter(|first| *first < part.first) {
                missing.push(SequenceRange { first, last: part.first - 1 });
            }
            next = part.last.checked_add(1);
        }
        if let Some(first) = next.filter(|first| *first <= range.last) {
            missing.push(SequenceRange { first, last: range.last });
        }
        missing.into_iter()
    }

    /// The parts of a range that are there, ascending.
    fn within(&self, range: SequenceRange) -> impl Iterator<Item = SequenceRange> {
        let before = self.0.range(..range.first).next_back();
        let parts = before.into_iter().chain(self.0.range(range.first..=range.last));
        parts.filter_map(move |(first, last)| SequenceRange { first: *first, last: *last }.overlap(range))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn it_is_a_set_of_numbers(ranges in prop::collection::vec((0_u64..60, 0_u64..9), 0..40), (at, length) in (0_u64..70, 0_u64..30)) {
            let (mut set, mut model) = (Ranges::default(), BTreeSet::new());
            for (first, more) in ranges {
                let fresh = (first..=first + more).filter(|number| model.insert(*number)).count() as u64;
                prop_assert_eq!(set.insert_range(SequenceRange { first, last: first + more }), fresh);
            }
            let range = SequenceRange { first: at, last: at + length };
            prop_assert_eq!(set.count_within(range), model.range(at..=at + length).count() as u64);
            let missing: Vec<u64> = set.missing_within(range).flat_map(|part| part.first..=part.last).collect();
            let expected: Vec<u64> = (at..=at + length).filter(|number| !model.contains(number)).collect();
            prop_assert_eq!(missing, expected);
            prop_assert_eq!(set.hull().map(|hull| (hull.first, hull.last)), model.first().copied().zip(model.last().copied()));
            let touches = set.0.iter().zip(set.0.keys().skip(1)).any(|((_, last), next)| last + 1 >= *next);
            prop_assert!(!touches);
        }
    }

    #[test]
    fn the_highest_number_is_a_number() {
        let mut set = Ranges::default();
        assert!(set.insert(Sequence::MAX));
        assert!(!set.insert(Sequence::MAX));
        assert_eq!(set.missing_within(SequenceRange { first: Sequence::MAX - 1, last: Sequence::MAX }).count(), 1);
    }
}
