//! Recovery: a sink that remembers its own cursors moves the ledger's, so that what it has is not offered again.

use super::{Delivery, Setback, run};
use crate::buffer::{Cursor, Lane};
use crate::fault;
use crate::sinks::{Sink, SinkError};

impl<S: Sink> Delivery<S> {
    /// Takes over from an older self: what the sink says it has moves the ledger's cursors.
    pub(super) async fn recover(&mut self) -> Result<(), Setback> {
        self.agreed = false;
        let of_lanes = self.lanes.iter().filter_map(|work| work.lane.remote_position).max();
        let from_position = of_lanes.max(self.replays.remote_position(&self.options.name));
        let remote = match self.options.sink.recover(from_position).await {
            Ok(remote) => remote,
            Err(SinkError::Unreachable(reason)) => return Err(self.sink_retries(&reason)),
            Err(SinkError::Misconfigured(reason)) => return Err(self.sink_pauses(&reason)),
        };
        for (stream, cursor) in remote {
            if let Some(id) = cursor.replay {
                if cursor.epoch == self.options.epoch {
                    self.replays.heard(id, &cursor);
                }
                continue;
            }
            let own = |work: &super::LaneWork| work.stream == stream && work.name == self.options.name;
            let Some(index) = self.lanes.iter().position(own) else { continue };
            if cursor.epoch != self.options.epoch {
                tracing::warn!(
                    sink = self.options.name, %stream, epoch = %cursor.epoch,
                    "the sink remembers another data directory of this gateway; it is left alone"
                );
                continue;
            }
            let next = self.next(stream);
            // The position may have been an older self's: the store's copy of the lane is the one to move.
            self.reload(index).await?;
            let Some(work) = self.lanes.get(index) else { continue };
            if !run::is_of_ledger(&work.lane, &cursor.cursor, cursor.run_mark, next) {
                return Err(self.sink_pauses(&format!(
                    "another copy of this data directory has delivered {stream} up to {} (this one up to {}): this one was restored \
                     from an older copy, or cloned for a second gateway; stop the other gateway if there is one, and move \
                     data_dir/buffer aside here, so that a new epoch begins",
                    cursor.cursor.from, work.lane.cursor.from
                )));
            }
            let mut lane = work.lane.clone();
            let filtered = self.filtered_of(index, &lane, &cursor.cursor).await;
            let held = run::catch_up(&mut lane, &cursor.cursor, next, filtered);
            lane.remote_position = Some(cursor.position);
            let records = self.refusals(index, &held, "refused before a restart").await;
            fault::point("delivery.before_catch_up_saved");
            self.save(index, lane, records).await?;
            fault::point("delivery.after_catch_up_saved");
        }
        self.agreed = true;
        self.sink_recovered();
        Ok(())
    }

    /// How much of what the sink has and the ledger does not know yet was not for the sink. What cannot be read any more counts
    /// as delivered.
    async fn filtered_of(&mut self, index: usize, lane: &Lane, remote: &Cursor) -> u64 {
        let had = run::caught_up(lane, remote);
        let Some(run) = lane.run.as_ref().filter(|_| !had.is_empty()) else { return 0 };
        if self.load_selection(index, run).await.is_err() {
            return 0;
        }
        let Some((_, selection)) = self.lanes.get(index).and_then(|work| work.selection.as_ref()) else { return 0 };
        had.iter().map(|range| range.count().saturating_sub(selection.count_in(*range))).sum()
    }
}
