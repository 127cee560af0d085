//! Replays: records of the past go to the sink once more, run by run, when nothing else is to go.
//!
//! A replay has keys and a topic of its own, moves no cursor, counts in no books and holds nothing back on disk: what is gone when
//! its turn comes is told in its result. Its place is in the ledger before each attempt, as that of a lane is, so that it goes on
//! after a crash with the same bytes under the same key.

use super::pinning::PASSED_SAVED_AFTER;
use super::telling::{LEDGER_RETRY, PAUSE_PROBE, RETRY_AFTER_MAX};
use super::{Delivery, DeliveryOptions, RETRY_FIRST, Setback, link, link::Leave};
use crate::backoff::Backoff;
use crate::block::Block;
use crate::buffer::{BufferError, Cursor, Replay, ReplayRun, ReplayState};
use crate::reading::{PointId, Sequence, SequenceRange};
use crate::sinks::encode::{Batch, RENDER_VERSION, RenderContext, Renderer, Selection, View};
use crate::sinks::{Offer, Outcome, RemoteCursor, Rendered, Sink};
use crate::site::PointPattern;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_64;

/// Blocks read at a time.
const READ_BLOCKS: usize = 16;
/// Most blocks that are looked through in one go, so that live readings wait for a few hundredths of a second at most.
const BLOCKS_MAX: usize = 64;
/// After so many turns of others a replay has one, too: a sink that is always busy would never get to it.
const PASSED_OVER_MAX: u32 = 64;
/// So many records refused and none taken: the sink does not take replays.
const REFUSED_MAX: u64 = 16;

/// The replays of a sink.
pub(super) struct Replays {
    seen: watch::Receiver<Vec<Replay>>,
    /// What the sink itself says it has of a replay: all below the sequence; and where its record stands.
    remote: BTreeMap<u32, (Sequence, i64)>,
    /// What works for one replay; made anew for another.
    tools: Option<Tools>,
    backoff: Backoff,
    not_before: Option<Instant>,
    /// Turns of others while it could have gone.
    passed_over: u32,
    /// A replay that has come further than the ledger knows, past records that nobody asked for, and since when.
    passed: Option<(Replay, Instant)>,
}

/// What works for one replay.
struct Tools {
    id: u32,
    renderer: Renderer,
    patterns: Vec<PointPattern>,
    points: HashMap<PointId, bool>,
    /// What the pinned run brings.
    selection: Option<(SequenceRange, Selection)>,
}

impl Replays {
    pub(super) fn new(seen: watch::Receiver<Vec<Replay>>, retry_max: Duration) -> Self {
        let backoff = Backoff::new(RETRY_FIRST, retry_max);
        Self { seen, remote: BTreeMap::new(), tools: None, backoff, not_before: None, passed_over: 0, passed: None }
    }

    /// The oldest replay of a sink that goes on.
    fn current(&self, sink: &str) -> Option<Replay> {
        self.seen.borrow().iter().find(|replay| replay.sink == sink && replay.is_running()).cloned()
    }

    /// What was passed over since this replay was kept, if anything was, and since when.
    fn passed(&self, replay: &Replay) -> Option<(Replay, Instant)> {
        let is_same = |passed: &Replay| (passed.id, passed.revision) == (replay.id, replay.revision);
        self.passed.as_ref().filter(|(passed, _)| is_same(passed)).cloned()
    }

    /// Where the sink's newest record of a replay stands.
    pub(super) fn remote_position(&self, sink: &str) -> Option<i64> {
        let seen = self.seen.borrow();
        let positions = seen.iter().filter(|replay| replay.sink == sink).filter_map(|replay| replay.remote_position);
        positions.chain(self.remote.values().map(|(_, position)| *position)).max()
    }

    /// The sink says how much it has of a replay. One of another copy of this data directory is left alone.
    pub(super) fn heard(&mut self, id: u32, cursor: &RemoteCursor) {
        let seen = self.seen.borrow();
        if seen.iter().any(|replay| replay.id == id && mark(replay) == cursor.run_mark) {
            self.remote.insert(id, (cursor.cursor.from, cursor.position));
        }
        self.remote.retain(|id, _| seen.iter().any(|replay| replay.id == *id && replay.is_running()));
    }
}

impl<S: Sink> Delivery<S> {
    /// Whether a replay has its turn now; `others`: a lane could go, too.
    pub(super) fn replay_may_go(&mut self, others: bool) -> bool {
        let now = Instant::now();
        let is_later = |moment: Option<Instant>| moment.is_some_and(|moment| moment > now);
        if self.options.stop.is_cancelled()
            || is_later(self.replays.not_before)
            || is_later(self.probe_at)
            || self.replays.current(&self.options.name).is_none()
            || self.history_leave() != Leave::Now
        {
            return false;
        }
        if others && self.replays.passed_over < PASSED_OVER_MAX {
            self.replays.passed_over += 1;
            return false;
        }
        self.replays.passed_over = 0;
        true
    }

    /// One step of the oldest replay.
    pub(super) async fn replay(&mut self) -> Result<(), Setback> {
        let Some(mut replay) = self.replays.current(&self.options.name) else { return Ok(()) };
        if let Some((passed, _)) = self.replays.passed(&replay) {
            replay = passed;
        }
        let Some(range) = replay.range else { return self.look_up(replay).await };
        if replay.next > range.last {
            self.end(&mut replay, ReplayState::Done);
            return self.keep(replay).await;
        }
        if self.replays.tools.as_ref().is_none_or(|tools| tools.id != replay.id) {
            self.replays.tools = Some(self.replay_tools(&replay).await?);
        }
        match replay.run.clone() {
            None => self.pin_replay(replay, range).await,
            Some(run) => self.offer_replay(replay, &run).await,
        }
    }

    /// Finds out among which sequences the records are, and with what they are rendered.
    async fn look_up(&mut self, mut replay: Replay) -> Result<(), Setback> {
        if !self.options.route.streams().contains(&replay.stream) {
            let reason =
                format!("{} do not go to sink {:?}; add them to its streams", replay.stream, self.options.name);
            return Err(self.fail(replay, reason).await);
        }
        let found = self.options.buffer.sequences_between(replay.stream, replay.from_us, replay.to_us).await;
        replay.range = found.map_err(|error| self.disk(&error))?;
        replay.config_version = self.config_version();
        replay.render_version = RENDER_VERSION;
        match replay.range {
            Some(range) => replay.next = range.first,
            None => self.end(&mut replay, ReplayState::Done),
        }
        self.keep(replay).await
    }

    async fn replay_tools(&mut self, replay: &Replay) -> Result<Tools, Setback> {
        let present = self.options.rendering.borrow().clone();
        let mut view = View { tags: present.tags, route: self.route.clone() };
        if replay.config_version != present.config_version {
            let text = self.options.buffer.config(replay.config_version).await.map_err(|error| self.disk(&error))?;
            if let Some(older) = text.as_deref().and_then(|text| (self.options.view_of)(text)) {
                view = older;
            }
        }
        let context = RenderContext {
            gateway: self.options.gateway.clone(),
            epoch: self.options.epoch,
            view,
            registry: self.options.registry.clone(),
        };
        let renderer = match Renderer::new(replay.render_version, context) {
            Ok(renderer) => renderer,
            Err(error) => return Err(self.fail(replay.clone(), error.to_string()).await),
        };
        let patterns = replay.points.iter().filter_map(|text| PointPattern::parse(text)).collect();
        Ok(Tools { id: replay.id, renderer, patterns, points: HashMap::new(), selection: None })
    }

    /// How many records the next run may have.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "at least 1, at most some ten thousand"
    )]
    fn replay_records_max(&self) -> u64 {
        (self.history_run_bytes() / self.record_bytes).max(1.0) as u64
    }

    /// Looks for the next run. Where nothing is asked for, the place moves on without one.
    async fn pin_replay(&mut self, mut replay: Replay, range: SequenceRange) -> Result<(), Setback> {
        let records_max = self.replay_records_max();
        // A run may have ended inside a block.
        let range = SequenceRange { first: replay.next, last: range.last };
        let mut selection = Selection::default();
        let mut lost: Vec<SequenceRange> = Vec::new();
        let (mut at, mut blocks) = (replay.next, 0);
        'reading: while at <= range.last && blocks < BLOCKS_MAX && selection.records() < records_max {
            let read = self.options.buffer.blocks(replay.stream, at, READ_BLOCKS).await;
            let read = read.map_err(|error| self.disk(&error))?;
            let is_end = read.first().is_none_or(|block| block.range.first > range.last);
            if is_end {
                lost.push(SequenceRange { first: at, last: range.last });
                at = range.last + 1;
                break;
            }
            for block in read.iter().filter(|block| block.range.first <= range.last) {
                if block.range.first > at {
                    lost.push(SequenceRange { first: at, last: block.range.first - 1 });
                }
                if let Err(error) = self.select_replay(&replay, range, block, &mut selection) {
                    return Err(self.fail(replay, error).await);
                }
                at = block.range.last.min(range.last) + 1;
                blocks += 1;
                if selection.records() >= records_max {
                    break 'reading;
                }
            }
        }
        if let Some(last) = selection.nth(records_max) {
            selection.truncate(last);
            at = last + 1;
        }
        let span = SequenceRange { first: replay.next, last: at.saturating_sub(1) };
        replay.lost += lost.iter().filter_map(|lost| lost.overlap(span)).map(SequenceRange::count).sum::<u64>();
        if selection.records() == 0 {
            replay.next = at;
        } else {
            replay.run = Some(ReplayRun { range: span, records: selection.records(), nodes: Vec::new() });
            if let Some(tools) = &mut self.replays.tools {
                tools.selection = Some((span, selection));
            }
        }
        if replay.next > range.last {
            self.end(&mut replay, ReplayState::Done);
        } else if replay.run.is_none() {
            let since = self.replays.passed(&replay).map_or_else(Instant::now, |(_, since)| since);
            if since.elapsed() < PASSED_SAVED_AFTER {
                self.replays.passed = Some((replay, since));
                return Ok(());
            }
        }
        self.keep(replay).await
    }

    /// Adds what of a block is asked for.
    fn select_replay(
        &mut self,
        replay: &Replay,
        range: SequenceRange,
        block: &Block,
        into: &mut Selection,
    ) -> Result<(), String> {
        let Some(tools) = &mut self.replays.tools else { return Ok(()) };
        if block.meta.first_time_us > replay.to_us || block.meta.last_time_us < replay.from_us {
            return Ok(());
        }
        let mut of_block = Selection::default();
        tools.renderer.select(range, block, &mut of_block).map_err(|error| error.to_string())?;
        let registry = &self.options.registry;
        of_block.retain(|time_us, point| {
            let is_named = |id: PointId| {
                *tools.points.entry(id).or_insert_with(|| {
                    let key = registry.key(id);
                    key.is_some_and(|key| tools.patterns.iter().any(|pattern| pattern.matches(&key.device, &key.point)))
                })
            };
            (replay.from_us..=replay.to_us).contains(&time_us)
                && (tools.patterns.is_empty() || point.is_none_or(is_named))
        });
        into.append(of_block);
        Ok(())
    }

    /// One attempt at the next part of the run.
    async fn offer_replay(&mut self, mut replay: Replay, run: &ReplayRun) -> Result<(), Setback> {
        let node = run.nodes.last().copied().unwrap_or(run.range);
        if !self.load_replay(&replay, run).await? {
            // Something of it is gone: what is left would be other bytes under the same key.
            let left = SequenceRange { first: replay.next, last: run.range.last };
            replay.lost += run.records.min(left.count());
            advance(&mut replay, run.range.last);
            return self.keep(replay).await;
        }
        if let Some((has_below, position)) = self.replays.remote.get(&replay.id).copied()
            && has_below > replay.next
        {
            // The sink had it already when the gateway or the link broke down.
            let had = SequenceRange { first: replay.next, last: has_below - 1 };
            let tools = self.replays.tools.as_ref();
            let selection = tools.and_then(|tools| tools.selection.as_ref());
            replay.delivered += selection.map_or(0, |(_, selection)| selection.count_in(had));
            replay.remote_position = Some(position);
            advance(&mut replay, had.last);
            return self.keep(replay).await;
        }
        let Some(tools) = &mut self.replays.tools else { return Ok(()) };
        let Some((_, selection)) = &tools.selection else { return Ok(()) };
        let batch = Batch {
            stream: replay.stream,
            covers: run.range,
            records: run.records,
            lane: None,
            replay: Some(replay.id),
        };
        let records = match tools.renderer.render(&batch, node, selection) {
            Ok(records) => records,
            Err(error) => return Err(self.fail(replay, error.to_string()).await),
        };
        if records.is_empty() {
            advance(&mut replay, node.last);
            return self.keep(replay).await;
        }
        match self.attempt(&replay, node, &records).await {
            Outcome::Delivered { remote_position } => {
                self.replayed(&replay, node, records.len() as u64, remote_position).await
            }
            Outcome::Refused { reason } => self.replay_refused(replay, node, reason).await,
            Outcome::Retry { after, reason } => {
                self.options.status.retries.add(1);
                let wait = self.replays.backoff.next_wait();
                self.replay_waits(replay, after.map_or(wait, |after| after.min(RETRY_AFTER_MAX).max(wait)), reason)
                    .await
            }
            Outcome::Pause { reason } => self.replay_waits(replay, PAUSE_PROBE, reason).await,
        }
    }

    /// Makes sure that what the run brings is in memory; false if not all of it is on disk any more.
    async fn load_replay(&mut self, replay: &Replay, run: &ReplayRun) -> Result<bool, Setback> {
        let loaded = |tools: &Tools| tools.selection.as_ref().is_some_and(|(range, _)| *range == run.range);
        if !self.replays.tools.as_ref().is_some_and(loaded) {
            let mut selection = Selection::default();
            let mut at = run.range.first;
            while at <= run.range.last {
                let read = self.options.buffer.blocks(replay.stream, at, READ_BLOCKS).await;
                let read = read.map_err(|error| self.disk(&error))?;
                let Some(last) = read.last().map(|block| block.range.last) else { break };
                for block in read.iter().filter(|block| block.range.first <= run.range.last) {
                    if let Err(error) = self.select_replay(replay, run.range, block, &mut selection) {
                        return Err(self.fail(replay.clone(), error).await);
                    }
                }
                at = last + 1;
            }
            if let Some(tools) = &mut self.replays.tools {
                tools.selection = Some((run.range, selection));
            }
        }
        let selection = self.replays.tools.as_ref().and_then(|tools| tools.selection.as_ref());
        Ok(selection.is_some_and(|(_, selection)| selection.records() == run.records))
    }

    async fn attempt(&mut self, replay: &Replay, node: SequenceRange, records: &[Rendered]) -> Outcome {
        let DeliveryOptions { gateway, epoch, name, status, sink, clock, .. } = &mut self.options;
        let offer = Offer {
            key: format!("{gateway}/{epoch}/{name}/{}/{node}/replay-{}", replay.stream, replay.id),
            stream: replay.stream,
            replay: Some(replay.id),
            range: node,
            records,
            epoch: *epoch,
            run_mark: mark(replay),
            cursor_after: &Cursor { ranges: Vec::new(), from: node.last + 1 },
        };
        let (started, sent_before) = (Instant::now(), sink.bytes_sent());
        let outcome = sink.deliver(&offer).await;
        let (took, sent) = (started.elapsed(), sink.bytes_sent().saturating_sub(sent_before));
        status.attempts.add(1);
        status.sent_bytes.add(sent);
        // A replay takes from the link's budget what a backlog would.
        if let Some(work) = self.lanes.first_mut() {
            link::count(&mut work.lane.sent, clock.tick().wall_us, sent, true);
            work.unsaved_since.get_or_insert_with(Instant::now);
        }
        let json_bytes: usize = records.iter().map(|record| record.json.len()).sum();
        self.link.sent(Instant::now(), sent, json_bytes as u64, true);
        if matches!(outcome, Outcome::Delivered { .. }) {
            self.learn_history_run(took);
        }
        outcome
    }

    /// The sink has the node: it must not be offered again, so this is saved until that succeeds, or the program ends.
    async fn replayed(
        &mut self,
        offered: &Replay,
        node: SequenceRange,
        records: u64,
        remote_position: Option<i64>,
    ) -> Result<(), Setback> {
        (self.replays.not_before, self.replays.passed_over) = (None, 0);
        self.replays.backoff.succeed();
        let mut replay = offered.clone();
        loop {
            replay.delivered += records;
            replay.remote_position = remote_position.or(replay.remote_position);
            replay.trouble = None;
            advance(&mut replay, node.last);
            if replay.is_running() && replay.range.is_none_or(|range| replay.next > range.last) {
                self.end(&mut replay, ReplayState::Done);
            }
            match self.options.buffer.keep_replay(replay).await {
                Ok(_) => return Ok(()),
                Err(BufferError::Stale { .. }) => {}
                Err(error) => drop(self.disk(&error)),
            }
            if self.options.stop.is_cancelled() || self.options.halt.is_cancelled() {
                return Ok(());
            }
            tokio::time::sleep(LEDGER_RETRY / 10).await;
            // It may have been called off meanwhile; what it has sent counts all the same.
            let held = self.replays.seen.borrow().iter().find(|held| held.id == offered.id).cloned();
            match held {
                Some(held) => replay = held,
                None => return Ok(()),
            }
        }
    }

    async fn replay_refused(&mut self, mut replay: Replay, node: SequenceRange, reason: String) -> Result<(), Setback> {
        if let (Some((left, right)), Some(run)) = (node.halves(), &mut replay.run) {
            run.nodes.pop();
            run.nodes.extend([right, left]);
            return self.keep(replay).await;
        }
        replay.refused += 1;
        if replay.delivered == 0 && replay.refused >= REFUSED_MAX {
            let told = format!("the sink refuses everything, the last one ({node}) with: {reason}");
            return Err(self.fail(replay, told).await);
        }
        advance(&mut replay, node.last);
        self.keep(replay).await
    }

    /// It is tried again later; the reason is kept once, not at each attempt.
    async fn replay_waits(&mut self, mut replay: Replay, wait: Duration, reason: String) -> Result<(), Setback> {
        self.replays.not_before = Some(Instant::now() + wait);
        if replay.trouble.is_none() {
            replay.trouble = Some(reason);
            return self.keep(replay).await;
        }
        Ok(())
    }

    /// It cannot go on, whatever happens.
    async fn fail(&mut self, mut replay: Replay, reason: String) -> Setback {
        tracing::error!(sink = self.options.name, replay = replay.id, reason, "a replay has ended early");
        self.end(&mut replay, ReplayState::Failed(reason));
        self.keep(replay).await.err().unwrap_or(Setback::Lane)
    }

    fn end(&self, replay: &mut Replay, state: ReplayState) {
        replay.state = state;
        replay.run = None;
        replay.trouble = None;
        replay.ended_us = Some(self.options.clock.tick().wall_us);
    }

    async fn keep(&mut self, replay: Replay) -> Result<(), Setback> {
        match self.options.buffer.keep_replay(replay).await {
            Ok(_) => Ok(()),
            // Somebody has called it off.
            Err(BufferError::Stale { .. }) => Err(Setback::Lane),
            Err(error) => Err(self.disk(&error)),
        }
    }
}

/// Tells a replay from another one of the same number in a copy of this data directory.
fn mark(replay: &Replay) -> u64 {
    let Replay { id, created_us, from_us, to_us, .. } = replay;
    xxh3_64(format!("{id}/{created_us}/{from_us}/{to_us}").as_bytes())
}

/// Everything up to and including `last` is behind. What is left of a part that it ends inside of is a part of its own.
fn advance(replay: &mut Replay, last: Sequence) {
    replay.next = replay.next.max(last + 1);
    let next = replay.next;
    if let Some(run) = &mut replay.run {
        if run.nodes.is_empty() {
            run.nodes.push(run.range);
        }
        run.nodes.retain(|node| node.last >= next);
        run.nodes.iter_mut().for_each(|node| node.first = node.first.max(next));
    }
    replay.run.take_if(|run| run.range.last < next);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::reading::Stream;

    fn range(first: Sequence, last: Sequence) -> SequenceRange {
        SequenceRange { first, last }
    }

    fn replay(nodes: Vec<SequenceRange>) -> Replay {
        Replay {
            id: 1,
            sink: "cloud".to_owned(),
            stream: Stream::Readings,
            from_us: 0,
            to_us: 1,
            points: Vec::new(),
            created_us: 0,
            ended_us: None,
            state: ReplayState::Running,
            range: Some(range(0, 99)),
            next: 0,
            config_version: 0,
            render_version: 0,
            run: Some(ReplayRun { range: range(0, 9), records: 10, nodes }),
            delivered: 0,
            refused: 0,
            lost: 0,
            remote_position: None,
            trouble: None,
            revision: 0,
        }
    }

    #[test]
    fn what_is_left_of_a_part_is_offered_without_what_is_behind() {
        let mut whole = replay(Vec::new());
        advance(&mut whole, 3);
        assert_eq!(whole.run.unwrap().nodes, [range(4, 9)]);
        let mut halved = replay(vec![range(5, 9), range(0, 4)]);
        advance(&mut halved, 2);
        assert_eq!(halved.run.unwrap().nodes, [range(5, 9), range(3, 4)]);
        let mut done = replay(vec![range(5, 9)]);
        advance(&mut done, 9);
        assert_eq!((done.run, done.next), (None, 10));
    }
}
