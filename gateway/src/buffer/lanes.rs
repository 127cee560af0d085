//! What a sink still has to get, and what losing a range means for its books. Pure; the store and its model share it.

use super::{CURSOR_RANGES_MAX, Cursor, Lane, Start, StreamEnds};
use crate::reading::{Sequence, SequenceRange};

/// What a lane lost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Loss {
    /// The undelivered sequences that it will never get.
    pub(super) ranges: Vec<SequenceRange>,
    /// An attempt was under way, whose outcome nobody knows now.
    pub(super) in_flight: bool,
}

/// A lane of a sink that was never seen: everything from `since` on is undelivered, nothing before is its loss. What is known to be
/// missing since then is a gap in its books.
pub(super) fn fresh(since: Sequence, holes: &[SequenceRange]) -> Lane {
    let mut lane = Lane { since, cursor: Cursor { ranges: Vec::new(), from: since }, ..Lane::default() };
    for hole in holes {
        lose(&mut lane, *hole);
    }
    lane.revision = 0;
    lane
}

/// Where the books of a new lane begin.
pub(super) fn begin(ends: StreamEnds, start: Start) -> Sequence {
    match start {
        Start::Oldest => ends.oldest,
        Start::Now => ends.next,
    }
}

/// Takes a lost range out of a lane and counts it as a gap. A run that touches it is given up whole: its outcome is
/// unknown, and offering the rest of it again under another name could deliver twice.
///
/// `None` if nothing of it was undelivered, or if the cursor had to have more than [`CURSOR_RANGES_MAX`] ranges for it; then
/// the loss is booked later, when the cursor has come nearer (a hole at the cursor's front never needs a further range).
pub(super) fn lose(lane: &mut Lane, lost: SequenceRange) -> Option<Loss> {
    let run = lane.run.take_if(|run| run.range.overlap(lost).is_some());
    let lost = run.as_ref().map_or(lost, |run| hull(run.range, lost));
    let mut ranges = undelivered(&lane.cursor, lost);
    let held = run.iter().flat_map(|run| &run.held);
    ranges.extend(held.map(|sequence| SequenceRange { first: *sequence, last: *sequence }));
    let cursor = without(&lane.cursor, lost).filter(|_| !ranges.is_empty());
    let Some(cursor) = cursor else {
        lane.run = run.or(lane.run.take());
        return None;
    };
    if let Some(run) = run.as_ref().filter(|run| run.covers_from < run.range.first) {
        // What was passed over before the run is known to the sink with the next one.
        let skipped = if run.history { &mut lane.history_skipped_from } else { &mut lane.skipped_from };
        *skipped = Some(skipped.map_or(run.covers_from, |from| from.min(run.covers_from)));
    }
    lane.gaps += ranges.iter().map(|range| range.count()).sum::<u64>();
    lane.cursor = cursor;
    lane.revision += 1;
    Some(Loss { ranges, in_flight: run.is_some() })
}

/// Whether every record of a range was delivered, filtered, refused or lost.
pub(super) fn resolved(lane: &Lane, range: SequenceRange) -> bool {
    let mut held = lane.run.iter().flat_map(|run| &run.held);
    undelivered(&lane.cursor, range).is_empty() && !held.any(|sequence| (range.first..=range.last).contains(sequence))
}

/// The undelivered part of a range.
pub(super) fn undelivered(cursor: &Cursor, range: SequenceRange) -> Vec<SequenceRange> {
    let open = SequenceRange { first: cursor.from, last: Sequence::MAX };
    cursor.ranges.iter().chain([&open]).filter_map(|part| part.overlap(range)).collect()
}

/// The cursor without a range; `None` if that needs too many ranges.
fn without(cursor: &Cursor, range: SequenceRange) -> Option<Cursor> {
    let mut ranges = Vec::with_capacity(cursor.ranges.len() + 1);
    for part in &cursor.ranges {
        if part.overlap(range).is_none() {
            ranges.push(*part);
            continue;
        }
        if part.first < range.first {
            ranges.push(SequenceRange { first: part.first, last: range.first - 1 });
        }
        if part.last > range.last {
            ranges.push(SequenceRange { first: range.last + 1, last: part.last });
        }
    }
    let mut from = cursor.from;
    if range.last >= from {
        if range.first > from {
            ranges.push(SequenceRange { first: from, last: range.first - 1 });
        }
        from = range.last.saturating_add(1);
    }
    (ranges.len() < CURSOR_RANGES_MAX).then_some(Cursor { ranges, from })
}

fn hull(a: SequenceRange, b: SequenceRange) -> SequenceRange {
    SequenceRange { first: a.first.min(b.first), last: a.last.max(b.last) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::buffer::Run;

    fn range(first: Sequence, last: Sequence) -> SequenceRange {
        SequenceRange { first, last }
    }

    fn lane(from: Sequence) -> Lane {
        Lane { cursor: Cursor { ranges: Vec::new(), from }, ..Lane::default() }
    }

    #[test]
    fn losing_the_oldest_moves_the_cursor_and_counts_only_what_was_undelivered() {
        let mut lane = lane(30);
        let loss = lose(&mut lane, range(0, 49)).unwrap();
        assert_eq!(loss.ranges, [range(30, 49)]);
        assert_eq!((lane.cursor.from, lane.gaps, lane.revision), (50, 20, 1));
        assert_eq!(lose(&mut lane, range(0, 49)), None);
    }

    #[test]
    fn a_hole_ahead_of_the_cursor_splits_it() {
        let mut lane = lane(10);
        lose(&mut lane, range(20, 29)).unwrap();
        assert_eq!(lane.cursor, Cursor { ranges: vec![range(10, 19)], from: 30 });
        assert!(resolved(&lane, range(20, 29)));
        assert!(!resolved(&lane, range(19, 20)));
    }

    #[test]
    fn a_run_that_touches_the_loss_is_given_up_whole_with_what_it_held_back() {
        let mut lane = lane(30);
        lane.run = Some(Run { nodes: vec![range(30, 39)], held: vec![12, 25], ..Run::new(range(10, 39), 1, 1) });
        assert!(!resolved(&lane, range(20, 29)));
        assert!(resolved(&lane, range(13, 24)));
        let loss = lose(&mut lane, range(0, 19)).unwrap();
        assert_eq!(loss.ranges, [range(30, 39), range(12, 12), range(25, 25)]);
        assert!(loss.in_flight);
        assert_eq!((lane.run.clone(), lane.cursor.from, lane.gaps), (None, 40, 12));
    }

    #[test]
    fn a_loss_that_is_booked_already_leaves_a_later_run_alone() {
        let mut lane = lane(0);
        lose(&mut lane, range(10, 19)).unwrap();
        lane.run = Some(Run::new(range(0, 9), 1, 1));
        let before = lane.clone();
        assert_eq!(lose(&mut lane, range(10, 19)), None);
        assert_eq!(lane, before);
    }

    #[test]
    fn too_many_holes_wait_until_the_cursor_is_nearer() {
        let mut lane = lane(0);
        for hole in 1..=8 {
            lose(&mut lane, range(hole * 10, hole * 10));
        }
        assert_eq!((lane.cursor.ranges.len(), lane.gaps), (CURSOR_RANGES_MAX - 1, 7));
        lane.cursor.ranges.remove(0);
        assert!(lose(&mut lane, range(80, 80)).is_some());
    }
}
