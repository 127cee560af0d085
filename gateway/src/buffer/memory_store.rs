//! The model of a store: the same promises without a disk, as plainly as they can be written.

use super::store::{BLOCKS_MAX, Store};
use super::{
    BootOffset, BufferError, Commit, Committed, Ends, Lane, LaneChange, Start, StoreOptions, StreamEnds, Usage, lanes,
};
use crate::block::columns::Frame;
use crate::block::{Block, records};
use crate::clock::Clock;
use crate::reading::{Epoch, Sequence, SequenceRange, Stream, UnixMicros};
use std::collections::BTreeMap;

pub(super) struct MemoryStore {
    epoch: Epoch,
    clock: Clock,
    blocks: BTreeMap<(Stream, Sequence), Block>,
    next: [Sequence; 6],
    lanes: BTreeMap<(String, Stream), Lane>,
    configs: Vec<String>,
    boots: BTreeMap<u128, BootOffset>,
}

impl MemoryStore {
    pub(super) fn new(epoch: Epoch, clock: Clock) -> Self {
        Self {
            epoch,
            clock,
            blocks: BTreeMap::new(),
            next: [0; 6],
            lanes: BTreeMap::new(),
            configs: Vec::new(),
            boots: BTreeMap::new(),
        }
    }

    /// Forgets what is below `oldest`, as the store on disk did for want of room.
    pub(super) fn drop_below(&mut self, stream: Stream, oldest: Sequence) {
        let Some(last) = oldest.checked_sub(1) else { return };
        self.blocks.retain(|(of, first), _| *of != stream || *first >= oldest);
        for ((_, of), lane) in &mut self.lanes {
            if *of == stream {
                lanes::lose(lane, SequenceRange { first: 0, last });
            }
        }
    }

    /// Takes over the gap records that the store on disk wrote by itself.
    pub(super) fn take_over(&mut self, block: Block) {
        self.next[block.meta.stream.index()] = block.range.last + 1;
        self.blocks.insert((block.meta.stream, block.range.first), block);
    }

    fn append(&mut self, drafts: &[crate::block::Draft]) -> Result<Committed, BufferError> {
        let mut committed = Committed::default();
        for draft in drafts {
            let next = &mut self.next[draft.meta.stream.index()];
            let block =
                Block::parse(draft.seal(self.epoch, *next)).map_err(|error| BufferError::Damaged(error.to_string()))?;
            *next = block.range.last + 1;
            committed.ranges.push(block.range);
            self.blocks.insert((draft.meta.stream, block.range.first), block);
        }
        Ok(committed)
    }
}

impl Store for MemoryStore {
    fn commit(&mut self, commit: &Commit) -> Result<Committed, BufferError> {
        self.append(&commit.drafts)
    }

    fn blocks(&mut self, stream: Stream, from: Sequence, blocks_max: usize) -> Result<Vec<Block>, BufferError> {
        let all = self.blocks.range((stream, 0)..=(stream, Sequence::MAX)).map(|(_, block)| block);
        let wanted = all.filter(|block| block.range.last >= from);
        Ok(wanted.take(blocks_max.clamp(1, BLOCKS_MAX)).cloned().collect())
    }

    fn stretches_between(&self, stream: Stream, from_us: UnixMicros, to_us: UnixMicros) -> Vec<SequenceRange> {
        let all = self.blocks.range((stream, 0)..=(stream, Sequence::MAX)).map(|(_, block)| block);
        let wanted = all.filter(|block| block.meta.first_time_us <= to_us && block.meta.last_time_us >= from_us);
        wanted.map(|block| block.range).collect()
    }

    fn ends(&self) -> Ends {
        let mut ends = Ends::default();
        for stream in Stream::ALL {
            let next = self.next[stream.index()];
            let oldest = self.blocks.range((stream, 0)..=(stream, Sequence::MAX)).next();
            ends[stream.index()] = StreamEnds { oldest: oldest.map_or(next, |((_, first), _)| *first), next };
        }
        ends
    }

    fn lane_from(&mut self, sink: &str, stream: Stream, start: Start) -> Result<Lane, BufferError> {
        let since = lanes::begin(self.ends()[stream.index()], start);
        let lane = self.lanes.entry((sink.to_owned(), stream)).or_insert_with(|| lanes::fresh(since, &[]));
        Ok(lane.clone())
    }

    fn change_lane(&mut self, change: &LaneChange) -> Result<Lane, BufferError> {
        let held = self.lane(&change.sink, change.stream)?;
        if held.revision != change.lane.revision {
            return Err(BufferError::Stale { sink: change.sink.clone(), stream: change.stream });
        }
        let lane = Lane { revision: held.revision + 1, ..change.lane.clone() };
        self.lanes.insert((change.sink.clone(), change.stream), lane.clone());
        let config_version = u32::try_from(self.configs.len()).unwrap_or(u32::MAX);
        let frame = Frame { boot_id: self.clock.boot_id, base: self.clock.tick(), config_version };
        let drafts = records::encode(&change.records, &frame).map_err(|error| BufferError::Disk(error.to_string()))?;
        self.append(&drafts)?;
        Ok(lane)
    }

    fn keep_config(&mut self, toml: &str) -> Result<u32, BufferError> {
        let position = self.configs.iter().position(|known| known == toml).unwrap_or_else(|| {
            self.configs.push(toml.to_owned());
            self.configs.len() - 1
        });
        Ok(u32::try_from(position + 1).unwrap_or(u32::MAX))
    }

    fn config(&mut self, version: u32) -> Result<Option<String>, BufferError> {
        Ok(version.checked_sub(1).and_then(|index| self.configs.get(index as usize)).cloned())
    }

    fn boot_offset(&self, boot_id: u128) -> Option<BootOffset> {
        self.boots.get(&boot_id).copied()
    }

    fn keep_boot_offset(&mut self, boot_id: u128, offset: BootOffset) -> Result<BootOffset, BufferError> {
        Ok(*self.boots.entry(boot_id).or_insert(offset))
    }

    fn usage(&mut self) -> Usage {
        Usage::default()
    }

    fn reconfigure(&mut self, _: StoreOptions) -> Result<(), BufferError> {
        Ok(())
    }

    fn maintain(&mut self) {}
}
