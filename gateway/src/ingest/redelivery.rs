//! Recognising redeliveries: what a source brought before and is on disk or on the way there, within bounded windows.

use crate::block::records::DeadLetter;
use crate::reading::{NO_HASH, PointId};
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use xxhash_rust::xxh3::xxh3_64;

/// Readings remembered of each source. A broker redelivers oldest first, so the window must reach back over all that it had
/// in flight: with a shorter one, each reading taken in twice pushes out the one that comes next. But it must stay below
/// MQTT's 65 535 packet identifiers, which the hash covers: one that has come round again is no redelivery. A full window is
/// about 2.2 MiB (8 bytes in order, 131 072 places of 13 bytes in the map); a source that cannot redeliver has none.
pub const WINDOW_PAIRS: usize = 60_000;

/// Dead letters remembered of each source, about 70 KiB: they outlast readings, so they are kept few, lest one whose packet
/// identifier has come round be taken for a redelivery. Far more than brokers have in flight (mosquitto: 20).
pub(super) const WINDOW_LETTERS: usize = 1_024;

/// What one source brought: readings apart from dead letters, so that neither pushes the other out.
#[derive(Debug)]
pub(super) struct Redelivery {
    readings: Window<PointId>,
    /// By hash of the position, which for a judged one is `device/point`.
    letters: Window<u64>,
}

impl Redelivery {
    /// A source that brought nothing yet.
    #[must_use]
    pub(super) fn new() -> Self {
        Self { readings: Window::new(WINDOW_PAIRS), letters: Window::new(WINDOW_LETTERS) }
    }

    /// Remembers a sample.
    pub(super) fn remember(&mut self, point: PointId, message_hash: u32) {
        self.readings.remember(point, message_hash);
    }

    /// Remembers a dead letter; one that is split is remembered once.
    pub(super) fn remember_letter(&mut self, letter: &DeadLetter) {
        if letter.part == 0 {
            self.letters.remember(xxh3_64(letter.position.as_bytes()), letter.message_hash);
        }
    }

    /// Whether a sample that may be redelivered was taken in before. It stays remembered: it may come more than once.
    #[must_use]
    pub(super) fn recognises(&self, point: PointId, message_hash: u32) -> bool {
        self.readings.holds(point, message_hash)
    }

    /// Whether what may be redelivered became a dead letter at this position.
    #[must_use]
    pub(super) fn recognises_letter(&self, position: &str, message_hash: u32) -> bool {
        self.letters.holds(xxh3_64(position.as_bytes()), message_hash)
    }
}

/// The last pairs of a place and a message's hash, each with how often it is in there.
#[derive(Debug)]
struct Window<P> {
    pairs_max: usize,
    order: VecDeque<(P, u32)>,
    held: HashMap<(P, u32), u32>,
}

impl<P: Copy + Eq + Hash> Window<P> {
    fn new(pairs_max: usize) -> Self {
        Self { pairs_max, order: VecDeque::new(), held: HashMap::new() }
    }

    /// Remembers a pair; the oldest one gives way.
    fn remember(&mut self, place: P, message_hash: u32) {
        if message_hash == NO_HASH {
            return;
        }
        if self.order.len() >= self.pairs_max {
            self.forget_oldest();
        }
        self.order.push_back((place, message_hash));
        *self.held.entry((place, message_hash)).or_default() += 1;
    }

    fn holds(&self, place: P, message_hash: u32) -> bool {
        message_hash != NO_HASH && self.held.contains_key(&(place, message_hash))
    }

    fn forget_oldest(&mut self) {
        let Some(pair) = self.order.pop_front() else { return };
        if let Some(count) = self.held.get_mut(&pair) {
            *count -= 1;
            if *count == 0 {
                self.held.remove(&pair);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_recognised_again_and_again_until_the_window_has_moved_on() {
        let mut redelivery = Redelivery::new();
        redelivery.remember(PointId(1), 7);
        assert!(redelivery.recognises(PointId(1), 7));
        assert!(redelivery.recognises(PointId(1), 7));
        assert!(!redelivery.recognises(PointId(2), 7));
        for hash in 0..WINDOW_PAIRS {
            redelivery.remember(PointId(3), 1_000 + u32::try_from(hash).unwrap_or(0));
        }
        assert!(!redelivery.recognises(PointId(1), 7));
        assert_eq!(redelivery.readings.order.len(), WINDOW_PAIRS);
    }

    #[test]
    fn what_cannot_be_redelivered_is_never_recognised() {
        let mut redelivery = Redelivery::new();
        redelivery.remember(PointId(1), NO_HASH);
        assert!(!redelivery.recognises(PointId(1), NO_HASH));
    }
}
