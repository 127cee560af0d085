//! An attempt: one node of a lane's run is offered, and what came of it is saved.

use super::pinning::Pinned;
use super::run::{self, Part, Proof, Refusal};
use super::schedule::Turn;
use super::telling::LEDGER_RETRY;
use super::{Delivery, DeliveryOptions, HISTORY_RUN, HISTORY_RUN_BYTES, Setback, lane_work::REFUSAL_WINDOW, link};
use crate::block::records::Record;
use crate::buffer::{BufferError, Lane, LaneChange, Run};
use crate::fault;
use crate::reading::{SequenceRange, Stream};
use crate::sinks::{Offer, Outcome, Rendered, Sink};
use std::time::Duration;
use tokio::time::Instant;

/// A lane in which so much was refused, beside one in a hundred of what was taken, is not vouched for by the other lanes.
const VOUCHED_REFUSALS_MAX: u64 = 16;

impl<S: Sink> Delivery<S> {
    /// One attempt at one node of the lane's run, which is pinned first if there is none.
    pub(super) async fn work(&mut self, turn: Turn) -> Result<(), Setback> {
        let index = turn.lane;
        let Some(mut lane) = self.lanes.get(index).map(|work| work.lane.clone()) else { return Ok(()) };
        if lane.run.is_none() {
            match self.pin(index, &mut lane, turn.part).await? {
                Pinned::Run => {}
                Pinned::Passed => {
                    self.keep_passed(index, lane);
                    return Ok(());
                }
                Pinned::Changed => return self.save(index, lane, Vec::new()).await,
                // The store has nothing there yet; it is not asked again at once.
                Pinned::Nothing => return Err(self.lane_waits(index, LEDGER_RETRY)),
            }
            fault::point("delivery.before_pin_saved");
            self.save(index, lane, Vec::new()).await?;
            fault::point("delivery.after_pin_saved");
        }
        let Some(run) = self.lanes.get(index).and_then(|work| work.lane.run.clone()) else { return Ok(()) };
        let node = run::node(&run);
        let records = self.render(index, &run, node).await?;
        if records.is_empty() {
            // None of it is for this sink.
            let Some(mut lane) = self.lanes.get(index).map(|work| work.lane.clone()) else { return Ok(()) };
            run::skipped(&mut lane);
            return self.save(index, lane, Vec::new()).await;
        }
        match self.offer(index, run.history, node, &records).await {
            Outcome::Delivered { remote_position } => {
                self.delivered(index, &run, records.len() as u64, remote_position).await
            }
            Outcome::Refused { reason } => self.refused(index, node, &reason).await,
            Outcome::Retry { after, reason } => Err(self.retry(index, after, &reason)),
            Outcome::Pause { reason } => Err(self.paused(index, &reason)),
        }
    }

    async fn offer(&mut self, index: usize, history: bool, node: SequenceRange, records: &[Rendered]) -> Outcome {
        let Some(work) = self.lanes.get_mut(index) else {
            return Outcome::Retry { after: None, reason: "the lane is gone".to_owned() };
        };
        let DeliveryOptions { gateway, epoch, status, sink, clock, .. } = &mut self.options;
        let offer = Offer {
            key: format!("{gateway}/{epoch}/{}/{}/{node}", work.name, work.stream),
            stream: work.stream,
            replay: None,
            range: node,
            records,
            epoch: *epoch,
            run_mark: work.lane.run.as_ref().map_or(0, |run| run.mark),
            cursor_after: &run::without(&work.lane.cursor, node),
        };
        let (started, sent_before) = (Instant::now(), sink.bytes_sent());
        let outcome = sink.deliver(&offer).await;
        let (took, sent) = (started.elapsed(), sink.bytes_sent().saturating_sub(sent_before));
        status.attempts.add(1);
        status.sent_bytes.add(sent);
        status.last_attempt_us.set(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        link::count(&mut work.lane.sent, clock.tick().wall_us, sent, history);
        let json_bytes: usize = records.iter().map(|record| record.json.len()).sum();
        self.link.sent(Instant::now(), sent, json_bytes as u64, history);
        if history && matches!(outcome, Outcome::Delivered { .. }) {
            self.learn_history_run(took);
        }
        outcome
    }

    /// Makes the next run of history smaller if this one took too long, larger if it was through at once.
    pub(super) fn learn_history_run(&mut self, took: Duration) {
        if took > HISTORY_RUN {
            self.history_bytes = (self.history_bytes / 2.0).max(HISTORY_RUN_BYTES.1);
        } else if took < HISTORY_RUN / 2 {
            self.history_bytes = (self.history_bytes * 2.0).min(self.options.run_bytes_max as f64);
        }
    }

    /// The sink has the node of `run`: from here on it must not be offered again, whatever the disk says. So the books are
    /// saved until that succeeds, or the program ends (then the sink's own cursor, or the same key, tells).
    async fn delivered(
        &mut self,
        index: usize,
        run: &Run,
        records: u64,
        remote_position: Option<i64>,
    ) -> Result<(), Setback> {
        let mut held_count = 0;
        loop {
            let Some(mut lane) = self.lanes.get(index).map(|work| work.lane.clone()) else { return Ok(()) };
            if lane.run.as_ref() != Some(run) {
                // An eviction or a salvage has given the run up meanwhile and booked it as a gap of unknown outcome.
                break;
            }
            let held = run::delivered(&mut lane, records);
            held_count = held.len() as u64;
            lane.remote_position = remote_position.or(lane.remote_position);
            let letters = self.refusals(index, &held, "refused while its neighbours were taken").await;
            if let Some(part) = self.next_part(index, &lane) {
                // The next run is pinned by the same write that resolves this one: half the synchronisations while catching
                // up. If it cannot be read now, it is pinned later.
                self.pin(index, &mut lane, part).await.ok();
            }
            fault::point("delivery.before_books_saved");
            let mut saved = self.save(index, lane, letters).await;
            if let Err(Setback::Reload(_)) = saved {
                saved = self.reload(index).await;
                if saved.is_ok() {
                    continue;
                }
            }
            match saved {
                Ok(()) => break,
                // Going on would offer it again, for the ledger does not know of it; after the next start the sink tells.
                Err(setback) if self.options.stop.is_cancelled() || self.options.halt.is_cancelled() => {
                    return Err(setback);
                }
                Err(_) => tokio::time::sleep(LEDGER_RETRY).await,
            }
        }
        fault::point("delivery.after_books_saved");
        self.succeeded(index, records, held_count);
        Ok(())
    }

    /// What the next run is taken from, if one is to follow at once. History only follows where no live reading waits: once
    /// pinned, its run must be through before they can go.
    fn next_part(&self, index: usize, lane: &Lane) -> Option<Part> {
        let work = self.lanes.get(index)?;
        if lane.run.is_some() {
            return None;
        }
        let part = self.main_part(work.stream, lane);
        (run::undelivered_in(&lane.cursor, part, self.next(work.stream)) > 0 && self.is_full(index, part))
            .then_some(part)
    }

    async fn refused(&mut self, index: usize, node: SequenceRange, reason: &str) -> Result<(), Setback> {
        self.options.status.retries.add(1);
        let proof = self.proof(index);
        let Some(work) = self.lanes.get_mut(index) else { return Ok(()) };
        let mut lane = work.lane.clone();
        match run::refused(&mut lane, proof) {
            Refusal::Halved | Refusal::Held => {
                fault::point("delivery.before_halving_saved");
                self.save(index, lane, Vec::new()).await?;
                fault::point("delivery.after_halving_saved");
                Ok(())
            }
            Refusal::DeadLetters(sequences) => {
                if work.count(0, sequences.len() as u64) {
                    // From now on a refusal is held back until something succeeds, and counting begins anew.
                    (work.proven, work.doubted, work.offered, work.refused) = (false, true, 0.0, 0.0);
                    return Err(self.paused(index, &format!(
                        "more than 1 % of the last {REFUSAL_WINDOW} records were refused, the last one with: {reason}; check \
                         the schema that the endpoint expects"
                    )));
                }
                let letters = self.refusals(index, &sequences, reason).await;
                self.save(index, lane, letters).await
            }
            Refusal::AllRefused => {
                self.save(index, lane, Vec::new()).await?;
                Err(self.paused(index, &format!(
                    "everything is refused, the last one ({node}) with: {reason}; check the address and the schema that it expects"
                )))
            }
        }
    }

    /// What is known of the sink when it refuses something of a lane.
    fn proof(&self, index: usize) -> Proof {
        let Some(work) = self.lanes.get(index) else { return Proof::None };
        if work.proven || (!work.doubted && run::has_moved(&work.lane)) {
            return Proof::Proven;
        }
        // An endpoint that takes nothing of one stream must not turn all of it into dead letters, so this ends, also over restarts.
        // A dead letter would become a gap: it waits rather.
        let refusals_max = VOUCHED_REFUSALS_MAX + work.lane.delivered / 100;
        let is_vouched = self.lanes.iter().any(|other| other.proven) && work.lane.refused < refusals_max;
        if is_vouched && !work.doubted && work.stream != Stream::DeadLetters { Proof::Vouched } else { Proof::None }
    }

    /// Saves a lane and takes what the store made of it.
    pub(super) async fn save(&mut self, index: usize, lane: Lane, records: Vec<Record>) -> Result<(), Setback> {
        let Some(work) = self.lanes.get(index) else { return Ok(()) };
        if lane == work.lane && records.is_empty() && work.unsaved_since.is_none() {
            return Ok(());
        }
        let stream = work.stream;
        let change = LaneChange { sink: work.name.clone(), stream, lane, records };
        match self.options.buffer.change_lane(change).await {
            Ok(saved) => {
                debug_assert!(saved.closes(self.next(stream)), "the books of {stream} do not close: {saved:?}");
                if let Some(work) = self.lanes.get_mut(index) {
                    work.lane = saved;
                    work.unsaved_since = None;
                }
                Ok(())
            }
            Err(BufferError::Stale { .. }) => Err(Setback::Reload(index)),
            Err(error) => Err(self.disk(&error)),
        }
    }
}
