//! Watching the disk: damage is told, a commit that takes long is told, one that hangs stops the turns that the watchdog counts.

use crate::block::records::Severity;
use crate::reading::UnixMicros;
use crate::status::{Status, Trouble};
use std::time::Duration;
use tokio::sync::watch;

/// A commit under way for so long is told: a card that tidies itself up may pause for a second or two, not more.
const SLOW: Duration = Duration::from_secs(5);
/// A commit under way for so long hangs: far above the pauses of a worn card. Only a new start shows whether the disk can
/// still be written; nothing unacknowledged is lost by it.
const HANGS: Duration = Duration::from_secs(20);
/// The trouble's key.
const KEY: &str = "buffer/slow";

/// The key of a trouble that tells of damage, before its words.
const DAMAGE_KEY: &str = "buffer/damage/";

/// Tells what the buffer has found damaged, at its start and while it runs.
#[derive(Debug)]
pub(super) struct Damages {
    found: watch::Receiver<Vec<String>>,
    told: Vec<String>,
}

impl Damages {
    /// Nothing is told yet.
    pub(super) fn new(found: watch::Receiver<Vec<String>>) -> Self {
        Self { found, told: Vec::new() }
    }

    /// Raises a trouble for each damage that is not told yet; one that newer ones have pushed out of the list ends.
    pub(super) fn tell(&mut self, status: &Status, now_us: UnixMicros) {
        let found = self.found.borrow_and_update();
        if *found == self.told {
            return;
        }
        for gone in self.told.iter().filter(|told| !found.contains(told)) {
            status.clear(&format!("{DAMAGE_KEY}{gone}"), now_us);
        }
        for damage in found.iter() {
            let trouble = Trouble {
                subject: "buffer".to_owned(),
                what: format!("Part of the buffer was damaged and set aside: {damage}"),
                advice: "What can still be read is delivered; what is lost is told upstream, as a gap or by a new epoch. Check the card, and replace it if this happens again"
                    .to_owned(),
                severity: Severity::Error,
                since_us: now_us,
            };
            status.raise(&format!("{DAMAGE_KEY}{damage}"), trouble);
        }
        self.told.clone_from(&found);
    }
}

/// Called at each turn of the loop with how long the commit on its way has taken, if there is one.
pub(super) fn turn(status: &Status, under_way: Option<Duration>, now_us: UnixMicros) {
    let under_way = under_way.unwrap_or_default();
    if under_way < HANGS {
        status.ingest_turns.add(1);
    }
    if under_way < SLOW {
        return status.clear(KEY, now_us);
    }
    let trouble = Trouble {
        subject: "buffer".to_owned(),
        what: format!("A commit takes {} s", under_way.as_secs()),
        advice: "Check the card and the disk's health (dmesg)".to_owned(),
        severity: Severity::Warning,
        since_us: now_us,
    };
    status.raise(KEY, trouble);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_told_once_and_as_long_as_it_is_among_the_newest() {
        let (found, seen) = watch::channel(vec!["a".to_owned(), "b".to_owned()]);
        let (status, mut damages) = (Status::default(), Damages::new(seen));
        let told = |status: &Status| status.troubles().iter().map(|trouble| trouble.what.clone()).collect::<Vec<_>>();
        damages.tell(&status, 1);
        damages.tell(&status, 2);
        assert_eq!(told(&status).len(), 2);
        found.send_replace(vec!["b".to_owned(), "c".to_owned()]);
        damages.tell(&status, 3);
        assert!(
            matches!(told(&status).as_slice(), [b, c] if b.ends_with('b') && c.ends_with('c')),
            "{:?}",
            told(&status)
        );
    }

    #[test]
    fn a_commit_that_takes_long_is_told_until_it_lands() {
        let status = Status::default();
        turn(&status, Some(SLOW.mul_f32(0.9)), 1);
        assert_eq!(status.troubles(), []);
        turn(&status, Some(Duration::from_secs(7)), 2);
        let troubles = status.troubles();
        assert_eq!(troubles.iter().map(|trouble| trouble.what.as_str()).collect::<Vec<_>>(), ["A commit takes 7 s"]);
        turn(&status, None, 3);
        assert_eq!((status.troubles(), status.ingest_turns.get()), (vec![], 3));
    }

    #[test]
    fn a_commit_that_hangs_stops_the_turns_that_the_watchdog_counts() {
        let status = Status::default();
        turn(&status, Some(HANGS), 1);
        turn(&status, Some(HANGS * 2), 2);
        assert_eq!(status.ingest_turns.get(), 0);
        turn(&status, Some(Duration::ZERO), 3);
        assert_eq!(status.ingest_turns.get(), 1);
    }
}
