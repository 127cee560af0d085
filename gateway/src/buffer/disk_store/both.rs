//! What two configurations need of one store: while the second is on trial, nothing may go that the first would have kept.

use super::super::family::Family;
use super::super::{FamilyLimits, Limit, StoreOptions, WhenFull};
use super::Limits;

impl StoreOptions {
    /// Options under which everything stays that either of the two keeps: the larger limits, the longer times, the lanes of the sinks
    /// of both, and sources that wait where either says so. What other programs keep free is as `self` has it, unless the other asks for
    /// less.
    #[must_use]
    pub fn that_keep_both(&self, other: &Self) -> Self {
        let (old, new) = (
            Limits { options: self, file_system_bytes: u64::MAX },
            Limits { options: other, file_system_bytes: u64::MAX },
        );
        let limit = |family| Limit {
            disk_bytes_max: Some(old.bytes_max(family).max(new.bytes_max(family))),
            age_max_us: old.age_max_us(family).zip(new.age_max_us(family)).map(|(old, new)| old.max(new)),
            when_full: Some(patient(old.when_full(family), new.when_full(family))),
        };
        let mut sinks = self.sinks.clone();
        for lanes in &other.sinks {
            match sinks.iter_mut().find(|known| known.name == lanes.name) {
                Some(known) => {
                    let further = lanes.streams.iter().filter(|stream| !known.streams.contains(stream)).copied();
                    let further: Vec<_> = further.collect();
                    known.streams.extend(further);
                }
                None => sinks.push(lanes.clone()),
            }
        }
        Self {
            data_dir: self.data_dir.clone(),
            disk_bytes_max: self.disk_bytes_max.max(other.disk_bytes_max),
            limits: FamilyLimits {
                alerts: limit(Family::Vital),
                dead_letters: limit(Family::Letters),
                readings: limit(Family::Readings),
                raw: limit(Family::Raw),
            },
            free_bytes_min: match (self.free_bytes_min, other.free_bytes_min) {
                (Some(old), Some(new)) => Some(old.min(new)),
                (old, _) => old,
            },
            when_full: patient(self.when_full, other.when_full),
            card: other.card,
            keep_delivered_us: self.keep_delivered_us.max(other.keep_delivered_us),
            cipher: self.cipher.clone(),
            sinks,
        }
    }
}

/// Where one of them waits, both wait: what is dropped is gone for the other.
fn patient(old: WhenFull, new: WhenFull) -> WhenFull {
    if old == WhenFull::Block || new == WhenFull::Block { WhenFull::Block } else { WhenFull::DropOldest }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::SinkLanes;
    use crate::reading::Stream;

    #[test]
    fn what_either_keeps_is_kept() {
        const MIB: u64 = 1 << 20;
        let lanes = |name: &str, streams: &[Stream]| SinkLanes { name: name.to_owned(), streams: streams.to_vec() };
        let mut old = StoreOptions::new("data".into());
        old.disk_bytes_max = 512 * MIB;
        old.limits.readings.age_max_us = Some(60);
        old.limits.raw.age_max_us = Some(60);
        old.free_bytes_min = Some(10 * MIB);
        old.sinks = vec![lanes("cloud", &[Stream::Readings]), lanes("plant", &[Stream::Alerts])];
        let mut new = StoreOptions::new("data".into());
        new.disk_bytes_max = 64 * MIB;
        new.limits.readings.disk_bytes_max = Some(8 * MIB);
        new.limits.readings.age_max_us = Some(90);
        new.limits.readings.when_full = Some(WhenFull::Block);
        new.keep_delivered_us = 1;
        new.free_bytes_min = Some(20 * MIB);
        new.sinks = vec![lanes("cloud", &[Stream::Gaps]), lanes("fresh", &[Stream::Readings])];

        let both = old.that_keep_both(&new);
        assert_eq!(both.disk_bytes_max, 512 * MIB);
        assert_eq!(both.limits.readings.disk_bytes_max, Some(512 * MIB));
        assert_eq!(both.limits.alerts.disk_bytes_max, Some(64 * MIB), "an eighth of the larger");
        assert_eq!((both.limits.readings.age_max_us, both.limits.raw.age_max_us), (Some(90), None));
        assert_eq!(both.limits.readings.when_full, Some(WhenFull::Block));
        assert_eq!(both.limits.raw.when_full, Some(WhenFull::DropOldest));
        assert_eq!((both.keep_delivered_us, both.free_bytes_min), (old.keep_delivered_us, Some(10 * MIB)));
        for (sink, stream) in [
            ("cloud", Stream::Readings),
            ("cloud", Stream::Gaps),
            ("plant", Stream::Alerts),
            ("fresh", Stream::Readings),
        ] {
            assert!(both.has_lane(sink, stream), "{sink} {stream}");
        }
    }
}
