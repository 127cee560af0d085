//! Whose turn it is: one run of a sink is under way at a time, and this says which. Pure.

use super::run::Part;
use std::collections::BTreeMap;

/// So often a lane that could go is passed over, then it goes next whatever else waits: without that a sink that can hardly keep
/// up with its readings would never get a dead letter.
const PASSED_OVER_MAX: u32 = 16;

/// What goes first, the first first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    /// Alerts and gaps: few, and somebody waits for them.
    Vital,
    /// Readings, all of them or those of now.
    Live,
    /// Dead letters.
    Letters,
    /// The backlog of readings where live ones go first.
    History,
}

/// A lane that can go now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    /// The position of the lane.
    pub(super) lane: usize,
    pub(super) class: Class,
    /// What a new run is taken from.
    pub(super) part: Part,
}

/// Remembers who was passed over.
#[derive(Debug, Default)]
pub(super) struct Turns {
    passed_over: BTreeMap<(usize, Class), u32>,
}

impl Turns {
    /// One of those that can go.
    pub(super) fn choose(&mut self, ready: &[Turn]) -> Option<Turn> {
        let times = |turn: &Turn| self.passed_over.get(&(turn.lane, turn.class)).copied().unwrap_or(0);
        let rank = |turn: &&Turn| {
            let times = times(turn);
            (times < PASSED_OVER_MAX, turn.class, u32::MAX - times, turn.lane)
        };
        let chosen = *ready.iter().min_by_key(rank)?;
        let others = ready.iter().filter(|turn| **turn != chosen);
        self.passed_over = others.map(|turn| ((turn.lane, turn.class), times(turn) + 1)).collect();
        Some(chosen)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    const ALL: [Turn; 5] = [
        Turn { lane: 0, class: Class::Vital, part: Part::InOrder },
        Turn { lane: 1, class: Class::Vital, part: Part::InOrder },
        Turn { lane: 2, class: Class::Live, part: Part::Live },
        Turn { lane: 2, class: Class::History, part: Part::History },
        Turn { lane: 3, class: Class::Letters, part: Part::InOrder },
    ];

    #[test]
    fn alerts_go_before_readings_readings_before_letters_and_history_last() {
        let mut ready = ALL.to_vec();
        let mut order = Vec::new();
        while let Some(turn) = Turns::default().choose(&ready) {
            ready.retain(|other| *other != turn);
            order.push((turn.lane, turn.class));
        }
        let expected =
            [(0, Class::Vital), (1, Class::Vital), (2, Class::Live), (3, Class::Letters), (2, Class::History)];
        assert_eq!(order, expected);
    }

    proptest! {
        #[test]
        fn nobody_waits_for_ever(always: [bool; 5], sometimes in prop::collection::vec(any::<[bool; 5]>(), 200)) {
            let mut turns = Turns::default();
            let mut waited = [0_u32; 5];
            for sometimes in sometimes {
                let is_ready = |index: usize| always[index] || sometimes[index];
                let ready: Vec<Turn> = (0..5).filter(|index| is_ready(*index)).map(|index| ALL[index]).collect();
                let Some(chosen) = turns.choose(&ready) else { continue };
                prop_assert!(ready.contains(&chosen));
                for index in 0..5 {
                    waited[index] = if is_ready(index) && ALL[index] != chosen { waited[index] + 1 } else { 0 };
                    // Those that are overdue, too, go one after the other.
                    prop_assert!(waited[index] < PASSED_OVER_MAX + 5);
                }
            }
        }

        #[test]
        fn live_readings_wait_for_few_other_runs(rounds in 1..300_u32) {
            // History always waits, live readings come now and then: they never wait for more than what was overdue before.
            let mut turns = Turns::default();
            for round in 0..rounds {
                let ready = if round % 3 == 0 { vec![ALL[2], ALL[3]] } else { vec![ALL[3]] };
                let chosen = turns.choose(&ready).unwrap();
                prop_assert!(ready.len() == 1 || chosen == ALL[2]);
            }
        }
    }
}
