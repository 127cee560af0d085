//! Recovery: a sink that remembers its own cursors moves the ledger's, so that what it has is not offered again.

use super::{Delivery, Setback, run};
use crate::fault;
use crate::sinks::{Sink, SinkError};

impl<S: Sink> Delivery<S> {
    /// Takes over from an older self: what the sink says it has moves the ledger's cursors.
    pub(super) async fn recover(&mut self) -> Result<(), Setback> {
        self.agreed = false;
        let from_position = self.lanes.iter().filter_map(|work| work.lane.remote_position).max();
        let remote = match self.options.sink.recover(from_position).await {
            Ok(remote) => remote,
            Err(SinkError::Unreachable(reason)) => return Err(self.sink_retries(&reason)),
            Err(SinkError::Misconfigured(reason)) => return Err(self.sink_pauses(&reason)),
        };
        for (stream, cursor) in remote {
            let Some(index) = self.lanes.iter().position(|work| work.stream == stream) else { continue };
            if cursor.epoch != self.options.epoch {
                tracing::warn!(
                    sink = self.options.name, %stream, epoch = %cursor.epoch,
                    "the sink remembers another data directory of this gateway; it is left alone"
                );
                continue;
            }
            let next = self.next(stream);
            // The position may have been an older self's: the store's copy of the lane is the one to move.
            self.reload(index).await;
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
            let held = run::catch_up(&mut lane, &cursor.cursor, next);
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
}
