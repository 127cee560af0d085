//! The life of a run: its halving tree, and what each answer makes of it. Pure, so that every path is tested without a sink.

use crate::buffer::{Cursor, Lane, Run};
use crate::reading::{Sequence, SequenceRange};

/// Refused records held back while nothing proves that the sink takes anything. As many in a row mean a wrong address or
/// schema, not so many bad readings: then the sink pauses.
pub(super) const HELD_MAX: usize = 16;

/// The node that is offered next.
pub(super) fn node(run: &Run) -> SequenceRange {
    run.nodes.last().copied().unwrap_or(run.range)
}

/// The undelivered sequences of a stream that ends before `next`.
pub(super) fn undelivered(cursor: &Cursor, next: Sequence) -> u64 {
    cursor.ranges.iter().map(|range| range.count()).sum::<u64>() + next.saturating_sub(cursor.from)
}

/// The first undelivered stretch of a stream that ends before `next`.
pub(super) fn first_stretch(cursor: &Cursor, next: Sequence) -> Option<SequenceRange> {
    let open = (cursor.from < next).then(|| SequenceRange { first: cursor.from, last: next - 1 });
    cursor.ranges.first().copied().or(open)
}

/// The cursor once everything up to and including `last` is resolved.
pub(super) fn advance(cursor: &Cursor, last: Sequence) -> Cursor {
    let rest = cursor.ranges.iter().filter(|range| range.last > last);
    let ranges = rest.map(|range| SequenceRange { first: range.first.max(last + 1), last: range.last }).collect();
    Cursor { ranges, from: cursor.from.max(last + 1) }
}

/// Undelivered records of a lane whose stream ends before `next`: those before the cursor that are held back count, too.
pub(super) fn backlog(lane: &Lane, next: Sequence) -> u64 {
    let held = lane.run.as_ref().map_or(0, |run| run.held.len() as u64);
    undelivered(&lane.cursor, next) + held
}

/// What a refusal asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Offer the halves.
    Halved,
    /// This record is refused; the sink has taken others, so it becomes a dead letter.
    DeadLetter(Sequence),
    /// This record is refused, and nothing proves yet that the sink takes anything: it is held back.
    Held,
    /// So much was refused, and nothing taken, that the sink itself must be wrong.
    AllRefused,
}

/// The sink took the node, `records` of it (the others were not for it). Returns the sequences held back so far: now that
/// the sink is proven to take something, they are dead letters.
pub(super) fn delivered(lane: &mut Lane, records: u64) -> Vec<Sequence> {
    let Some(run) = &lane.run else { return Vec::new() };
    let count = node(run).count();
    lane.delivered += records;
    lane.filtered += count.saturating_sub(records);
    close_node(lane);
    release_held(lane)
}

/// The sink refused the node. `proven` says whether the sink has taken anything since it started.
pub(super) fn refused(lane: &mut Lane, proven: bool) -> Refusal {
    let Some(run) = &mut lane.run else { return Refusal::AllRefused };
    let node = node(run);
    if let Some((left, right)) = node.halves() {
        run.nodes.pop();
        run.nodes.extend([right, left]);
        return Refusal::Halved;
    }
    if proven {
        lane.refused += 1;
        close_node(lane);
        return Refusal::DeadLetter(node.first);
    }
    if run.held.len() + 1 >= HELD_MAX || run.nodes.len() <= 1 {
        // Nothing was taken, so nothing is repeated by beginning again once the sink is mended.
        run.nodes.clear();
        run.held.clear();
        lane.cursor.from = run.range.first;
        return Refusal::AllRefused;
    }
    run.held.push(node.first);
    close_node(lane);
    Refusal::Held
}

/// The node is behind: the cursor moves over it, and after the last one the run is over. What is held back keeps it open.
fn close_node(lane: &mut Lane) {
    let Some(run) = &mut lane.run else { return };
    let last = node(run).last;
    run.nodes.pop();
    lane.cursor = advance(&lane.cursor, last);
    if run.nodes.is_empty() && run.held.is_empty() {
        lane.run = None;
    }
}

fn release_held(lane: &mut Lane) -> Vec<Sequence> {
    let Some(run) = &mut lane.run else { return Vec::new() };
    let held = std::mem::take(&mut run.held);
    lane.refused += held.len() as u64;
    if run.nodes.is_empty() {
        lane.run = None;
    }
    held
}

/// The sink's own cursor is ahead of the ledger's: what lies between was delivered just before a crash. Returns the sequences
/// that were held back and are dead letters now.
pub(super) fn catch_up(lane: &mut Lane, remote: &Cursor, next: Sequence) -> Vec<Sequence> {
    if remote.from <= lane.cursor.from || remote.from > next {
        return Vec::new();
    }
    let before = undelivered(&lane.cursor, next);
    lane.cursor = advance(&lane.cursor, remote.from - 1);
    lane.delivered += before - undelivered(&lane.cursor, next);
    let Some(run) = &mut lane.run else { return Vec::new() };
    // Cursors stand at the ends of nodes only.
    run.nodes.retain(|node| node.last >= remote.from);
    if run.range.last < remote.from {
        run.nodes.clear();
    }
    release_held(lane)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lane(count: u64) -> Lane {
        let range = SequenceRange { first: 0, last: count - 1 };
        let run = Run { range, config_version: 1, render_version: 1, nodes: Vec::new(), held: Vec::new() };
        Lane { run: Some(run), ..Lane::default() }
    }

    /// A sink that refuses every node with a bad record in it; returns lane, dead letters, and whether it gave up.
    fn bisect(count: u64, bad: &dyn Fn(u64) -> bool, proven: bool) -> (Lane, Vec<Sequence>, bool) {
        let (mut lane, mut proven, mut letters) = (lane(count), proven, Vec::new());
        for _ in 0..4 * count + 4 {
            let Some(run) = &lane.run else { return (lane, letters, false) };
            let node = node(run);
            if (node.first..=node.last).any(bad) {
                match refused(&mut lane, proven) {
                    Refusal::DeadLetter(sequence) => letters.push(sequence),
                    Refusal::AllRefused => return (lane, letters, true),
                    Refusal::Halved | Refusal::Held => {}
                }
            } else {
                proven = true;
                letters.extend(delivered(&mut lane, node.count()));
            }
        }
        (lane, letters, true)
    }

    proptest! {
        #[test]
        fn a_bisection_finds_just_the_bad_records_and_the_books_close(
            count in 1u64..300, bad in proptest::collection::btree_set(0u64..300, 0..20),
        ) {
            let (lane, mut letters, gave_up) = bisect(count, &|sequence| bad.contains(&sequence), true);
            letters.sort_unstable();
            let expected: Vec<_> = bad.iter().copied().filter(|sequence| *sequence < count).collect();
            prop_assert!(!gave_up);
            prop_assert_eq!(letters, expected);
            prop_assert_eq!(lane.delivered + lane.refused, count);
            prop_assert_eq!(lane.cursor, Cursor { ranges: Vec::new(), from: count });
        }

        #[test]
        fn before_anything_was_taken_refusals_are_held_and_then_told_all_at_once(
            count in 40u64..300, bad in proptest::collection::btree_set(0u64..40, 1..10),
        ) {
            let (lane, mut letters, gave_up) = bisect(count, &|sequence| bad.contains(&sequence), false);
            letters.sort_unstable();
            prop_assert!(!gave_up);
            prop_assert_eq!(letters, bad.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(lane.delivered + lane.refused, count);
        }
    }

    #[test]
    fn a_sink_that_refuses_everything_makes_no_dead_letter_and_the_run_begins_again() {
        for count in [1, 2, 40, 5_000] {
            let (lane, letters, gave_up) = bisect(count, &|_| true, false);
            assert!(gave_up);
            assert_eq!(letters, Vec::<Sequence>::new());
            assert_eq!(backlog(&lane, count), count);
            assert!(lane.run.is_some_and(|run| run.nodes.is_empty() && run.held.is_empty()));
        }
    }

    #[test]
    fn what_the_sink_says_it_has_is_not_sent_again() {
        let mut whole = lane(100);
        assert!(catch_up(&mut whole, &Cursor { ranges: Vec::new(), from: 100 }, 250).is_empty());
        assert_eq!((whole.delivered, whole.run.is_none(), whole.cursor.from), (100, true, 100));
        let mut halved = lane(100);
        assert_eq!(refused(&mut halved, true), Refusal::Halved);
        catch_up(&mut halved, &Cursor { ranges: Vec::new(), from: 50 }, 250);
        assert_eq!(halved.run.as_ref().map(node), Some(SequenceRange { first: 50, last: 99 }));
        assert_eq!(halved.delivered, 50);
        let mut behind = lane(100);
        behind.cursor.from = 40;
        catch_up(&mut behind, &Cursor { ranges: Vec::new(), from: 10 }, 250);
        assert_eq!((behind.cursor.from, behind.delivered), (40, 0));
    }
}
