//! Recognising redeliveries: which (point, message hash) pairs are on disk or on the way there, within a bounded window.

use crate::reading::{NO_HASH, PointId};
use std::collections::{HashMap, VecDeque};

/// Pairs remembered: half of MQTT's 65 535 packet identifiers, since the hash covers the identifier, and one that has come
/// round again must not be taken for a redelivery. Brokers keep far fewer messages in flight.
pub const WINDOW_PAIRS: usize = 32_768;

/// Stands for the point of a message that became a dead letter as a whole.
pub(super) const NO_POINT: PointId = PointId(u32::MAX);

/// The pairs of the window, each with how often it is in there.
#[derive(Debug, Default)]
pub(super) struct Redelivery {
    order: VecDeque<(PointId, u32)>,
    held: HashMap<(PointId, u32), u32>,
}

impl Redelivery {
    /// Remembers an accepted pair; the oldest one gives way.
    pub(super) fn remember(&mut self, point: PointId, message_hash: u32) {
        if message_hash == NO_HASH {
            return;
        }
        if self.order.len() >= WINDOW_PAIRS {
            self.forget_oldest();
        }
        self.order.push_back((point, message_hash));
        *self.held.entry((point, message_hash)).or_default() += 1;
    }

    /// Whether a redelivered pair was accepted before. It stays remembered: a message may be redelivered more than once.
    #[must_use]
    pub(super) fn recognises(&self, point: PointId, message_hash: u32) -> bool {
        message_hash != NO_HASH && self.held.contains_key(&(point, message_hash))
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
        let mut redelivery = Redelivery::default();
        redelivery.remember(PointId(1), 7);
        assert!(redelivery.recognises(PointId(1), 7));
        assert!(redelivery.recognises(PointId(1), 7));
        assert!(!redelivery.recognises(PointId(2), 7));
        for hash in 0..WINDOW_PAIRS {
            redelivery.remember(PointId(3), 1_000 + u32::try_from(hash).unwrap_or(0));
        }
        assert!(!redelivery.recognises(PointId(1), 7));
        assert_eq!(redelivery.order.len(), WINDOW_PAIRS);
    }

    #[test]
    fn what_cannot_be_redelivered_is_never_recognised() {
        let mut redelivery = Redelivery::default();
        redelivery.remember(PointId(1), NO_HASH);
        assert!(!redelivery.recognises(PointId(1), NO_HASH));
    }
}
