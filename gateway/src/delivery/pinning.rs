//! Pinning: what the next run brings. What is not for the sink is passed over without a request and, as long as nothing else is
//! to be written, without a write: a sink that wants one device in a thousand costs reading, nothing more.

use super::run::{self, Part};
use super::{Delivery, Setback};
use crate::block::Block;
use crate::buffer::{Lane, Run};
use crate::reading::{Sequence, SequenceRange, Stream};
use crate::sinks::Sink;
use crate::sinks::encode::{RENDER_VERSION, Selection};
use crate::sinks::pace::Order;
use std::time::Duration;
use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_64;

/// Blocks read at a time.
const READ_BLOCKS: usize = 16;
/// Most blocks of a run, and most that are looked through in one go: 256 000 readings, a few tenths of a second.
const RUN_BLOCKS_MAX: usize = 512;
/// What was passed over is saved after this: a crash has it read again, and the chunks are held so much longer.
pub(super) const PASSED_SAVED_AFTER: Duration = Duration::from_secs(10);
/// Live readings that are older than the longest wait between two attempts and the slowest commit together were held up by an
/// outage or a restart, not by the ordinary way.
const HISTORY_AFTER: Duration = Duration::from_secs(10);

/// What came of looking for a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pinned {
    /// The lane has one now.
    Run,
    /// Records were passed over; nothing is to be saved yet.
    Passed,
    /// The lane has changed, and is to be saved: a loss was booked, or a backlog became history.
    Changed,
    /// The store has nothing there.
    Nothing,
}

/// A run being put together.
#[derive(Default)]
struct Gathered {
    selection: Selection,
    /// What it spans so far.
    range: Option<SequenceRange>,
    blocks: usize,
}

impl<S: Sink> Delivery<S> {
    /// Whether live readings go before their backlog in this lane: by the option, or because they have and the backlog of then is
    /// not drained yet. Its consumer could not tell otherwise that it is late.
    pub(super) fn is_live_first(&self, stream: Stream, lane: &Lane) -> bool {
        stream == Stream::Readings && (self.options.pace.order == Order::LiveFirst || run::has_history(lane))
    }

    /// What runs of this lane are taken from, unless they are history.
    pub(super) fn main_part(&self, stream: Stream, lane: &Lane) -> Part {
        if self.is_live_first(stream, lane) { Part::Live } else { Part::InOrder }
    }

    /// Whether a whole run waits in a part of the lane.
    pub(super) fn is_full(&self, index: usize, part: Part) -> bool {
        let Some(work) = self.lanes.get(index) else { return false };
        work.waiting_in(part, self.next(work.stream)) * self.record_bytes >= self.options.run_bytes_max as f64
    }

    /// Looks for the next run in a part of the lane and puts it into `lane`.
    pub(super) async fn pin(&mut self, index: usize, lane: &mut Lane, part: Part) -> Result<Pinned, Setback> {
        let Some(stream) = self.lanes.get(index).map(|work| work.stream) else { return Ok(Pinned::Nothing) };
        let next = self.next(stream);
        let Some(stretch) = run::first_stretch(&lane.cursor, part, next) else { return Ok(Pinned::Nothing) };
        let history = part == Part::History;
        let bytes_max = if history { self.history_run_bytes() } else { self.options.run_bytes_max as f64 };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small and positive")]
        let records_max = (bytes_max / self.record_bytes).max(1.0) as u64;
        let version = self.config_version();
        let before = lane.clone();
        let mut gathered = Gathered::default();
        let mut from = stretch.first;
        'reading: while from <= stretch.last && gathered.blocks < RUN_BLOCKS_MAX {
            let read =
                self.options.buffer.blocks(stream, from, READ_BLOCKS).await.map_err(|error| self.disk(&error))?;
            let Some(reach) = read.last().map(|block| block.range.last) else {
                if gathered.range.is_none() {
                    self.skip_lost(stream, lane, SequenceRange { first: from, last: stretch.last });
                }
                break;
            };
            for block in read {
                let asked = SequenceRange { first: from, last: stretch.last };
                let found = block.range.overlap(asked);
                if found.is_none_or(|found| found.first > from) {
                    if gathered.range.is_some() {
                        break 'reading;
                    }
                    let last = found.map_or(stretch.last, |found| found.first - 1);
                    self.skip_lost(stream, lane, SequenceRange { first: from, last });
                }
                let Some(found) = found else { break 'reading };
                from = found.last + 1;
                let wanted =
                    self.select(index, version, RENDER_VERSION, found, &block, &mut gathered.selection).await?;
                gathered.blocks += 1;
                if let Some(work) = self.lanes.get_mut(index) {
                    work.learn_share(wanted, found.count());
                    work.oldest_us = Some(block.meta.first_time_us);
                }
                match &mut gathered.range {
                    None if wanted == 0 => run::pass_over(lane, found, history),
                    None if part == Part::Live && self.is_backlog(&block) && self.split(lane, next) => {
                        return Ok(Pinned::Changed);
                    }
                    None => gathered.range = Some(found),
                    Some(range) => range.last = found.last,
                }
                if gathered.selection.records() >= records_max {
                    break 'reading;
                }
            }
            from = from.max(reach.saturating_add(1));
        }
        let Some(mut range) = gathered.range else {
            return Ok(match lane {
                lane if *lane == before => Pinned::Nothing,
                lane if lane.gaps == before.gaps => Pinned::Passed,
                _ => Pinned::Changed,
            });
        };
        if gathered.selection.records() > records_max
            && let Some(last) = gathered.selection.nth(records_max)
        {
            gathered.selection.truncate(last);
            range.last = last;
        }
        if part == Part::Live {
            run::overtake(lane);
        }
        let covers_from = run::cover(lane, range.first, history);
        let mark = self.mark(stream, range);
        lane.run = Some(Run { covers_from, mark, history, ..Run::new(range, version, RENDER_VERSION) });
        if let Some(work) = self.lanes.get_mut(index) {
            work.selection = Some((range, gathered.selection));
            work.waiting = None;
        }
        Ok(Pinned::Run)
    }

    /// A number that no other pinning of the same sequences has: boot and moment differ, on another board or after a restore.
    fn mark(&self, stream: Stream, range: SequenceRange) -> u64 {
        let (boot_id, mono_us) = (self.options.clock.boot_id, self.options.clock.mono_us());
        xxh3_64(format!("{boot_id}/{mono_us}/{}/{stream}/{range}", self.options.name).as_bytes())
    }

    /// Whether a live reading has waited so long that it belongs to a backlog.
    fn is_backlog(&self, block: &Block) -> bool {
        let now = self.options.clock.tick();
        let meta = &block.meta;
        let age_us = if meta.boot_id == self.options.clock.boot_id {
            // Within one boot the monotonic clock knows it, also before the wall clock is set.
            let behind = meta.last_time_us.saturating_sub(meta.wall_base_us);
            let taken = i64::try_from(meta.mono_base_us).unwrap_or(i64::MAX).saturating_add(behind);
            i64::try_from(now.mono_us).unwrap_or(i64::MAX).saturating_sub(taken)
        } else {
            now.wall_us.saturating_sub(meta.last_time_us)
        };
        let limit = HISTORY_AFTER + self.options.linger;
        u128::try_from(age_us).unwrap_or(0) > limit.as_micros()
    }

    /// Makes history of what waits, where the option says so. Not while something was passed over since the last live run: the next
    /// one is to cover that.
    fn split(&self, lane: &mut Lane, next: Sequence) -> bool {
        let is_asked = self.options.pace.order == Order::LiveFirst && lane.skipped_from.is_none();
        let done = is_asked && run::split(lane, next);
        if done {
            let waiting = run::undelivered_in(&lane.cursor, Part::History, next);
            tracing::info!(sink = self.options.name, waiting, "live readings go first; what waited follows as history");
        }
        done
    }

    /// The store records the gap when it loses a block; here the books follow it.
    fn skip_lost(&self, stream: Stream, lane: &mut Lane, lost: SequenceRange) {
        tracing::error!(sink = self.options.name, %stream, missing = lost.count(), from = lost.first, "records are missing on disk");
        lane.gaps += lost.count();
        lane.cursor = run::without(&lane.cursor, lost);
    }

    /// Makes sure that what the lane's run brings is in memory (after a restart it is not).
    pub(super) async fn load_selection(&mut self, index: usize, run: &Run) -> Result<(), Setback> {
        let Some(work) = self.lanes.get(index) else { return Ok(()) };
        if work.selection.as_ref().is_some_and(|(range, _)| *range == run.range) {
            return Ok(());
        }
        let stream = work.stream;
        let mut selection = Selection::default();
        let mut from = run.range.first;
        while from <= run.range.last {
            let read =
                self.options.buffer.blocks(stream, from, READ_BLOCKS).await.map_err(|error| self.disk(&error))?;
            let Some(last) = read.last() else { break };
            from = last.range.last + 1;
            for block in &read {
                self.select(index, run.config_version, run.render_version, run.range, block, &mut selection).await?;
            }
        }
        if let Some(work) = self.lanes.get_mut(index) {
            work.selection = Some((run.range, selection));
        }
        Ok(())
    }

    /// Keeps what was passed over in memory; the store hears of it with the next run, or after a while.
    pub(super) fn keep_passed(&mut self, index: usize, lane: Lane) {
        if let Some(work) = self.lanes.get_mut(index) {
            work.lane = lane;
            work.waiting = None;
            work.unsaved_since.get_or_insert_with(Instant::now);
        }
    }

    /// The lane with what was passed over long ago, if there is one; at the end, with what was passed over at all.
    pub(super) fn unsaved_lane(&self, at_end: bool) -> Option<usize> {
        let now = Instant::now();
        let is_due = |since: Instant| at_end || now >= since + PASSED_SAVED_AFTER;
        self.lanes.iter().position(|work| work.unsaved_since.is_some_and(is_due))
    }

    /// Saves what was passed over.
    pub(super) async fn save_passed(&mut self, index: usize) -> Result<(), Setback> {
        let Some(lane) = self.lanes.get(index).map(|work| work.lane.clone()) else { return Ok(()) };
        self.save(index, lane, Vec::new()).await
    }
}
