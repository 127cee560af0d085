//! The life of a run: its halving tree, and what each answer makes of it. Pure, so that every path is tested without a sink.

use crate::buffer::{CURSOR_RANGES_MAX, Cursor, Lane, Run};
use crate::reading::{Sequence, SequenceRange};

/// Refused records held back while nothing proves that the sink takes anything. As many in a row mean a wrong address or
/// schema, not so many bad readings: then the sink pauses.
pub(super) const HELD_MAX: usize = 16;

/// The node that is offered next.
pub(super) fn node(run: &Run) -> SequenceRange {
    run.nodes.last().copied().unwrap_or(run.range)
}

/// What of a lane a run is taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The oldest undelivered records, whatever they are.
    InOrder,
    /// What comes in now.
    Live,
    /// The backlog.
    History,
}

/// The undelivered sequences of a part of a stream that ends before `next`.
pub(super) fn undelivered_in(cursor: &Cursor, part: Part, next: Sequence) -> u64 {
    let ranges = cursor.ranges.iter().map(|range| range.count()).sum::<u64>();
    let open = next.saturating_sub(cursor.from);
    match part {
        Part::InOrder => ranges + open,
        Part::Live => open,
        Part::History => ranges,
    }
}

/// The undelivered sequences of a stream that ends before `next`.
fn undelivered(cursor: &Cursor, next: Sequence) -> u64 {
    undelivered_in(cursor, Part::InOrder, next)
}

/// The first undelivered stretch in a part of a stream that ends before `next`.
pub(super) fn first_stretch(cursor: &Cursor, part: Part, next: Sequence) -> Option<SequenceRange> {
    let open = (cursor.from < next).then(|| SequenceRange { first: cursor.from, last: next - 1 });
    let range = cursor.ranges.first().copied();
    match part {
        Part::InOrder => range.or(open),
        Part::Live => open,
        Part::History => range,
    }
}

/// The cursor once a range at the front of one of its parts is resolved.
pub(super) fn without(cursor: &Cursor, range: SequenceRange) -> Cursor {
    let mut left: Vec<SequenceRange> = Vec::with_capacity(cursor.ranges.len() + 1);
    for part in parts(cursor) {
        if part.overlap(range).is_none() {
            left.push(part);
            continue;
        }
        if part.first < range.first {
            left.push(SequenceRange { first: part.first, last: range.first - 1 });
        }
        if part.last > range.last {
            left.push(SequenceRange { first: range.last + 1, last: part.last });
        }
    }
    // The open part goes on for ever, so it is the last.
    let from = left.pop().map_or(cursor.from, |open| open.first);
    Cursor { ranges: left, from }
}

/// Makes history of everything that waits, so that live readings go on from `next`. False if the cursor has no room for
/// another range: then the backlog stays with live readings, in order.
pub(super) fn split(lane: &mut Lane, next: Sequence) -> bool {
    let Cursor { ranges, from } = &mut lane.cursor;
    let Some(last) = next.checked_sub(1).filter(|last| last >= from) else { return false };
    let has_room = ranges.len() + 1 < CURSOR_RANGES_MAX;
    match ranges.last_mut() {
        Some(range) if range.last + 1 == *from => range.last = last,
        _ if has_room => ranges.push(SequenceRange { first: *from, last }),
        _ => return false,
    }
    *from = next;
    overtake(lane);
    true
}

/// Notes that what is undelivered before the open part of the cursor comes later than some of that part: another order must not
/// mix the two again.
pub(super) fn overtake(lane: &mut Lane) {
    if !lane.cursor.ranges.is_empty() {
        lane.overtaken_below = lane.cursor.from;
    }
}

/// Whether some of what is undelivered was overtaken.
pub(super) fn has_history(lane: &Lane) -> bool {
    let is_pinned = lane.run.as_ref().is_some_and(|run| run.history);
    is_pinned || lane.cursor.ranges.first().is_some_and(|range| range.first < lane.overtaken_below)
}

/// Books a range as not for the sink; the next run covers it.
pub(super) fn pass_over(lane: &mut Lane, range: SequenceRange, history: bool) {
    lane.filtered += range.count();
    lane.cursor = without(&lane.cursor, range);
    let skipped = if history { &mut lane.history_skipped_from } else { &mut lane.skipped_from };
    *skipped = Some(skipped.map_or(range.first, |from| from.min(range.first)));
    if lane.cursor.ranges.is_empty()
        && let Some(first) = lane.history_skipped_from.take()
    {
        // No history is left to say so; everything up to the live readings is known, so that their next run can.
        lane.skipped_from = Some(lane.skipped_from.map_or(first, |from| from.min(first)));
    }
}

/// Where the next run begins to cover, and that it does.
pub(super) fn cover(lane: &mut Lane, first: Sequence, history: bool) -> Sequence {
    let skipped = if history { &mut lane.history_skipped_from } else { &mut lane.skipped_from };
    skipped.take().map_or(first, |from| from.min(first))
}

/// What a refusal asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Offer the halves.
    Halved,
    /// These records are refused; the sink has taken others, so they become dead letters.
    DeadLetters(Vec<Sequence>),
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

/// What is known of a sink that refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// It has taken records of this stream since it started.
    Proven,
    /// It has taken records of other streams, so its address and its key are right, and few of this one were refused so far.
    Vouched,
    /// Nothing.
    None,
}

/// The sink refused the node.
pub(super) fn refused(lane: &mut Lane, proof: Proof) -> Refusal {
    let Some(run) = &mut lane.run else { return Refusal::AllRefused };
    let node = node(run);
    if let Some((left, right)) = node.halves() {
        run.nodes.pop();
        run.nodes.extend([right, left]);
        return Refusal::Halved;
    }
    if proof == Proof::Proven {
        lane.refused += 1;
        close_node(lane);
        return Refusal::DeadLetters(vec![node.first]);
    }
    if proof == Proof::Vouched && run.held.len() + 1 < HELD_MAX && run.nodes.len() <= 1 {
        // A small run that is refused whole, such as a stream's only record: it would stand in the way for ever.
        run.held.push(node.first);
        close_node(lane);
        return Refusal::DeadLetters(release_held(lane));
    }
    if run.held.len() + 1 >= HELD_MAX || run.nodes.len() <= 1 {
        // Nothing was taken, so nothing is repeated by offering those that were held back once more.
        let held = std::mem::take(&mut run.held);
        if run.nodes.is_empty() {
            return Refusal::AllRefused;
        }
        run.nodes.extend(held.iter().rev().map(|sequence| SequenceRange { first: *sequence, last: *sequence }));
        if let Some(first) = held.first() {
            let back = SequenceRange { first: *first, last: node.last };
            lane.cursor = with(&lane.cursor, back, lane.overtaken_below);
        }
        return Refusal::AllRefused;
    }
    run.held.push(node.first);
    close_node(lane);
    Refusal::Held
}

/// The node is behind: the cursor moves over it, and after the last one the run is over. What is held back keeps it open.
fn close_node(lane: &mut Lane) {
    let Some(run) = &mut lane.run else { return };
    let node = node(run);
    run.nodes.pop();
    lane.cursor = without(&lane.cursor, node);
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

/// None of the node's records is for the sink.
pub(super) fn skipped(lane: &mut Lane) {
    let Some(run) = &lane.run else { return };
    lane.filtered += node(run).count();
    close_node(lane);
}

/// Whether a part of the run is behind already, other than held back: the sink has taken it, or its neighbours.
pub(super) fn has_moved(lane: &Lane) -> bool {
    lane.run.as_ref().is_some_and(|run| {
        let left = overlap_count(&lane.cursor, run.range) + run.held.len() as u64;
        left < run.range.count()
    })
}

/// Whether the sink's own cursor, moved by the run of this mark, can be this ledger's: what it has beyond the ledger's cursor is of
/// the run that the ledger has pinned. Otherwise another copy of the data directory has delivered.
pub(super) fn is_of_ledger(lane: &Lane, remote: &Cursor, mark: u64, next: Sequence) -> bool {
    let end = next.max(remote.from);
    let is_beyond = undelivered(&intersection(&lane.cursor, remote), end) < undelivered(&lane.cursor, end);
    !is_beyond || (remote.from <= next && lane.run.as_ref().is_some_and(|run| run.mark == mark))
}

/// The sink says what it still lacks: what the ledger has as undelivered beyond that was delivered just before a crash.
/// `filtered` of it were not for the sink. Returns the sequences that were held back and are dead letters now.
pub(super) fn catch_up(lane: &mut Lane, remote: &Cursor, next: Sequence, filtered: u64) -> Vec<Sequence> {
    let cursor = intersection(&lane.cursor, remote);
    let resolved = undelivered(&lane.cursor, next).saturating_sub(undelivered(&cursor, next));
    if resolved == 0 {
        return Vec::new();
    }
    lane.cursor = cursor;
    lane.delivered += resolved.saturating_sub(filtered);
    lane.filtered += filtered.min(resolved);
    let Some(run) = &mut lane.run else { return Vec::new() };
    // Cursors stand at the ends of nodes only.
    run.nodes.retain(|node| overlap_count(&lane.cursor, *node) > 0);
    if overlap_count(&lane.cursor, run.range) == 0 {
        run.nodes.clear();
        return release_held(lane);
    }
    std::mem::take(&mut run.held).into_iter().inspect(|_| lane.refused += 1).collect()
}

/// What of the lane's run the sink has according to its own cursor, and the ledger does not know yet.
pub(super) fn caught_up(lane: &Lane, remote: &Cursor) -> Vec<SequenceRange> {
    let Some(run) = &lane.run else { return Vec::new() };
    let ours: Vec<_> = parts(&lane.cursor).filter_map(|part| part.overlap(run.range)).collect();
    let mut had = Vec::new();
    for part in ours {
        let mut first = part.first;
        for lacking in parts(remote).filter_map(|lacking| lacking.overlap(part)) {
            if lacking.first > first {
                had.push(SequenceRange { first, last: lacking.first - 1 });
            }
            first = lacking.last.saturating_add(1);
        }
        if first <= part.last {
            had.push(SequenceRange { first, last: part.last });
        }
    }
    had
}

/// How many sequences of a range are undelivered.
fn overlap_count(cursor: &Cursor, range: SequenceRange) -> u64 {
    parts(cursor).filter_map(|part| part.overlap(range)).map(SequenceRange::count).sum()
}

/// The undelivered ranges, the open one last.
fn parts(cursor: &Cursor) -> impl Iterator<Item = SequenceRange> {
    let open = SequenceRange { first: cursor.from, last: Sequence::MAX };
    cursor.ranges.iter().copied().chain([open])
}

/// What is undelivered by both.
fn intersection(ours: &Cursor, theirs: &Cursor) -> Cursor {
    let from = ours.from.max(theirs.from);
    let below = |part: SequenceRange| {
        let last = part.last.min(from.checked_sub(1)?);
        (part.first <= last).then_some(SequenceRange { first: part.first, last })
    };
    let mut ranges: Vec<_> = parts(ours)
        .filter_map(below)
        .flat_map(|our| parts(theirs).filter_map(below).filter_map(move |their| our.overlap(their)).collect::<Vec<_>>())
        .collect();
    ranges.sort_unstable();
    Cursor { ranges, from }
}

/// The cursor with a range that is undelivered again; what begins at `apart` is not joined to what ends before it.
fn with(cursor: &Cursor, range: SequenceRange, apart: Sequence) -> Cursor {
    let mut all: Vec<_> = parts(cursor).chain([range]).collect();
    all.sort_unstable();
    let mut merged: Vec<SequenceRange> = Vec::with_capacity(all.len());
    for part in all {
        match merged.last_mut() {
            Some(last) if part.first <= last.last.saturating_add(1) && part.first != apart => {
                last.last = last.last.max(part.last);
            }
            _ => merged.push(part),
        }
    }
    let from = merged.pop().map_or(cursor.from, |open| open.first);
    Cursor { ranges: merged, from }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_the_pinned_run_can_have_moved_the_sinks_cursor_beyond_the_ledgers() {
        let at = |from| Cursor { ranges: Vec::new(), from };
        let pinned = Run { mark: 7, ..Run::new(SequenceRange { first: 10, last: 19 }, 1, 1) };
        let lane = Lane { cursor: at(10), run: Some(pinned), ..Lane::default() };
        assert!(is_of_ledger(&lane, &at(20), 7, 100), "committed, and the ledger did not hear of it");
        assert!(is_of_ledger(&lane, &at(10), 3, 100), "the run before");
        assert!(is_of_ledger(&lane, &at(5), 2, 100), "the cluster was restored from an older copy");
        assert!(!is_of_ledger(&lane, &at(20), 8, 100), "a clone pinned the same sequences with other readings");
        assert!(!is_of_ledger(&lane, &at(90), 9, 100), "the ledger was restored and has grown on");
        assert!(!is_of_ledger(&Lane { run: None, ..lane }, &at(20), 7, 100), "nothing was offered");
    }

    fn lane(count: u64) -> Lane {
        let range = SequenceRange { first: 0, last: count - 1 };
        Lane { run: Some(Run::new(range, 1, 1)), ..Lane::default() }
    }

    /// A sink that refuses every node with a bad record in it; returns lane, dead letters, and whether it gave up.
    fn bisect(count: u64, bad: &dyn Fn(u64) -> bool, proven: bool) -> (Lane, Vec<Sequence>, bool) {
        let (mut lane, mut letters) = (lane(count), Vec::new());
        let mut proof = if proven { Proof::Proven } else { Proof::None };
        for _ in 0..4 * count + 4 {
            let Some(run) = &lane.run else { return (lane, letters, false) };
            let node = node(run);
            if (node.first..=node.last).any(bad) {
                match refused(&mut lane, proof) {
                    Refusal::DeadLetters(sequences) => letters.extend(sequences),
                    Refusal::AllRefused => return (lane, letters, true),
                    Refusal::Halved | Refusal::Held => {}
                }
            } else {
                proof = Proof::Proven;
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
            assert_eq!(lane.undelivered(count), count);
            assert!(lane.run.is_some_and(|run| run.held.is_empty()));
        }
    }

    #[test]
    fn a_late_refusal_after_a_restart_takes_back_only_what_was_held() {
        let mut lane = lane(8);
        for _ in 0..3 {
            assert_eq!(refused(&mut lane, Proof::None), Refusal::Halved);
        }
        assert!(delivered(&mut lane, 1).is_empty());
        assert!(has_moved(&lane));
        assert!((0..12).any(|_| refused(&mut lane, Proof::None) == Refusal::AllRefused));
        assert_eq!((lane.delivered, lane.cursor.from, lane.undelivered(8)), (1, 1, 7));
        assert_eq!(lane.run.as_ref().map(node), Some(SequenceRange { first: 1, last: 1 }));
    }

    #[test]
    fn what_is_taken_back_does_not_join_history_and_what_overtook_it() {
        let mut lane = Lane { cursor: Cursor { ranges: Vec::new(), from: 0 }, ..Lane::default() };
        assert!(split(&mut lane, 10) && has_history(&lane));
        lane.run = Some(Run::new(SequenceRange { first: 10, last: 49 }, 1, 1));
        assert!((0..200).any(|_| refused(&mut lane, Proof::None) == Refusal::AllRefused));
        assert_eq!(lane.cursor, Cursor { ranges: vec![SequenceRange { first: 0, last: 9 }], from: 10 });
        lane.cursor.ranges.clear();
        assert!(!has_history(&lane));
    }

    #[test]
    fn a_hole_does_not_hide_what_the_sink_has() {
        let mut lane = lane(20);
        lane.cursor = Cursor { ranges: vec![SequenceRange { first: 10, last: 19 }], from: 30 };
        if let Some(run) = &mut lane.run {
            run.range = SequenceRange { first: 10, last: 19 };
        }
        catch_up(&mut lane, &Cursor { ranges: Vec::new(), from: 30 }, 50, 0);
        assert_eq!((lane.cursor, lane.run, lane.delivered), (Cursor { ranges: Vec::new(), from: 30 }, None, 10));
    }

    proptest! {
        #[test]
        fn cursors_are_sets(
            ours in proptest::collection::btree_set(0u64..12, 0..6), theirs in proptest::collection::btree_set(0u64..12, 0..6),
            back in 0u64..10, length in 0u64..4,
        ) {
            let cursor = |holes: &std::collections::BTreeSet<u64>| {
                let mut cursor = Cursor { ranges: Vec::new(), from: 12 };
                for sequence in (0..12).filter(|sequence| !holes.contains(sequence)) {
                    cursor = with(&cursor, SequenceRange { first: sequence, last: sequence }, 0);
                }
                cursor
            };
            let has = |cursor: &Cursor, at: u64| parts(cursor).any(|part| (part.first..=part.last).contains(&at));
            let (a, b) = (cursor(&ours), cursor(&theirs));
            let both = intersection(&a, &b);
            let less = without(&a, SequenceRange { first: back, last: back + length });
            let more = with(&a, SequenceRange { first: back, last: back + length }, 0);
            for at in 0..20 {
                prop_assert_eq!(has(&a, at), !ours.contains(&at));
                prop_assert_eq!(has(&both, at), has(&a, at) && has(&b, at));
                prop_assert_eq!(has(&less, at), has(&a, at) && !(back..=back + length).contains(&at));
                prop_assert_eq!(has(&more, at), has(&a, at) || (back..=back + length).contains(&at));
            }
        }
    }

    #[test]
    fn what_the_sink_says_it_has_is_not_sent_again() {
        let mut whole = lane(100);
        assert!(catch_up(&mut whole, &Cursor { ranges: Vec::new(), from: 100 }, 250, 0).is_empty());
        assert_eq!((whole.delivered, whole.run.is_none(), whole.cursor.from), (100, true, 100));
        let mut halved = lane(100);
        assert_eq!(refused(&mut halved, Proof::Proven), Refusal::Halved);
        catch_up(&mut halved, &Cursor { ranges: Vec::new(), from: 50 }, 250, 0);
        assert_eq!(halved.run.as_ref().map(node), Some(SequenceRange { first: 50, last: 99 }));
        assert_eq!(halved.delivered, 50);
        let mut behind = lane(100);
        behind.cursor.from = 40;
        catch_up(&mut behind, &Cursor { ranges: Vec::new(), from: 10 }, 250, 0);
        assert_eq!((behind.cursor.from, behind.delivered), (40, 0));
    }
}
