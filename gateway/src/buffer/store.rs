//! What a store can do: small, synchronous, one caller at a time. The owner thread calls it, nobody else.

use super::inspect::{ChunkName, RawBlock, Report};
use super::{
    BootOffset, BufferError, Commit, Committed, Ends, Lane, LaneChange, MinuteSummary, Replay, Start, StoreOptions,
    Usage,
};
use crate::block::Block;
use crate::reading::{PointId, Sequence, SequenceRange, Stream, UnixMicros};

/// Most blocks of one answer: at 6 KiB each an answer stays below 100 KiB, and sled loads no more than one leaf or two.
pub(super) const BLOCKS_MAX: usize = 16;

/// A place for blocks and for the books about them.
pub(crate) trait Store {
    /// Makes blocks durable and gives them their sequences, in order within each stream.
    fn commit(&mut self, commit: &Commit) -> Result<Committed, BufferError>;

    /// The block that holds `from`, or the next one there is, and those after it.
    fn blocks(&mut self, stream: Stream, from: Sequence, blocks_max: usize) -> Result<Vec<Block>, BufferError>;

    /// The stretches of sequences, ascending, of which any record may be of the time from `from_us` to `to_us`: as coarse as
    /// the store knows without reading blocks.
    fn stretches_between(&self, stream: Stream, from_us: UnixMicros, to_us: UnixMicros) -> Vec<SequenceRange>;

    /// The summaries of a point in one of these stretches of readings; `None` if it has none yet.
    fn minutes(
        &mut self,
        _stretch: SequenceRange,
        _point: PointId,
        _from_us: UnixMicros,
        _to_us: UnixMicros,
    ) -> Result<Option<Vec<MinuteSummary>>, BufferError> {
        Ok(None)
    }

    /// Where each stream begins and ends.
    fn ends(&self) -> Ends;

    /// A sink's lane; a sink never seen starts where it wants to.
    fn lane_from(&mut self, sink: &str, stream: Stream, start: Start) -> Result<Lane, BufferError>;

    /// A sink's lane; a sink never seen starts at the oldest record kept.
    #[cfg(test)]
    fn lane(&mut self, sink: &str, stream: Stream) -> Result<Lane, BufferError> {
        self.lane_from(sink, stream, Start::Oldest)
    }

    /// Replaces a lane and appends the records that the change brings, all or nothing.
    fn change_lane(&mut self, change: &LaneChange) -> Result<Lane, BufferError>;

    /// The version number of a configuration text.
    fn keep_config(&mut self, toml: &str) -> Result<u32, BufferError>;

    /// The configuration text of a version.
    fn config(&mut self, version: u32) -> Result<Option<String>, BufferError>;

    /// The offset of a boot, if it is decided.
    fn boot_offset(&self, boot_id: u128) -> Option<BootOffset>;

    /// Decides the offset of a boot, once; what holds is the answer.
    fn keep_boot_offset(&mut self, boot_id: u128, offset: BootOffset) -> Result<BootOffset, BufferError>;

    /// What lies on disk.
    fn usage(&mut self) -> Usage;

    /// What was found damaged and set aside since the start, the newest last.
    fn damages(&self) -> &[String] {
        &[]
    }

    /// What it says about itself; only a store on disk has chunks to tell of.
    fn report(&mut self) -> Result<Report, BufferError> {
        Err(BufferError::Absent("memory".to_owned()))
    }

    /// What lies in a chunk at and after a sequence, unchecked; nothing if the chunk is gone.
    fn look(&mut self, _chunk: &ChunkName, _stream: Stream, _from: Sequence) -> Result<Vec<RawBlock>, BufferError> {
        Err(BufferError::Absent("memory".to_owned()))
    }

    /// Brings back what is sound of a chunk that was found damaged; says what was set aside.
    fn salvage_chunk(&mut self, _chunk: &ChunkName, _reason: &str) -> Result<Vec<String>, BufferError> {
        Err(BufferError::Absent("memory".to_owned()))
    }

    /// Takes other limits, retention and sinks, but no other keys; what no longer fits goes as the new limits say, a few chunks at a time.
    fn reconfigure(&mut self, options: StoreOptions) -> Result<(), BufferError>;

    /// The replays there are, by number.
    fn replays(&self) -> Vec<Replay> {
        Vec::new()
    }

    /// Keeps a replay, a new one under a new number.
    fn keep_replay(&mut self, _replay: &Replay) -> Result<Replay, BufferError> {
        Err(BufferError::Absent("memory".to_owned()))
    }

    /// The housekeeping of a quiet moment: retention, leftovers, ballast.
    fn maintain(&mut self);

    /// One step of work that can wait for quiet, a few milliseconds at most: it is called while no call waits, again and
    /// again until the answer is `false` (nothing to do now), and then at the next quiet moment.
    fn idle_step(&mut self) -> bool {
        false
    }
}
