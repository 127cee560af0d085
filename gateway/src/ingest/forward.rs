//! Bringing forward at the start: the judge's state and the redelivery windows over what is on disk.

use super::Ingest;
use super::redelivery::{WINDOW_LETTERS, WINDOW_PAIRS};
use crate::block::records::RecordBody;
use crate::buffer::{BufferError, StreamEnds};
use crate::clock::Tick;
use crate::reading::{Sequence, Stream};
use std::collections::BTreeMap;

/// Blocks read at a time while state is brought forward.
const REPLAY_BLOCKS: usize = 16;
/// Windows of so many sources are looked for on disk at the start: sources share the streams, and what was unacknowledged
/// when the gateway ended is at their end. About 260 000 readings, which a small board decodes in a second.
const REBUILD_WINDOWS_MAX: usize = 8;

impl Ingest {
    /// What sources no longer configured brought is passed over.
    pub(super) async fn bring_forward(&mut self, seen_below: Sequence) -> Result<(), BufferError> {
        let slots = self.places.slots();
        self.bring_letters_forward(&slots).await?;
        self.bring_readings_forward(&slots, seen_below).await
    }

    async fn bring_letters_forward(&mut self, slots: &BTreeMap<String, u16>) -> Result<(), BufferError> {
        let ends = self.ends(Stream::DeadLetters);
        let mut from = ends.next.saturating_sub(self.rebuilt(WINDOW_LETTERS)).max(ends.oldest);
        while from < ends.next {
            let blocks = self.options.buffer.blocks(Stream::DeadLetters, from, REPLAY_BLOCKS).await?;
            let Some(last) = blocks.last() else { break };
            from = last.range.last + 1;
            for record in blocks.iter().filter_map(|block| block.records().ok()).flatten() {
                let RecordBody::DeadLetter(letter) = record.record.body else { continue };
                let slot = slots.get(letter.source.as_str());
                if let Some(place) = slot.and_then(|slot| self.places.get_mut(*slot)) {
                    place.redelivery.remember_letter(&letter);
                }
            }
        }
        Ok(())
    }

    async fn bring_readings_forward(
        &mut self,
        slots: &BTreeMap<String, u16>,
        seen_below: Sequence,
    ) -> Result<(), BufferError> {
        let points = self.options.registry.since(0);
        let slot_of: Vec<_> = points.iter().map(|key| slots.get(&*key.source).copied()).collect();
        let ends = self.ends(Stream::Readings);
        // Without a snapshot the detectors start with the last readings: older ones have little to say.
        let unseen_from = if seen_below == 0 { ends.next.saturating_sub(WINDOW_PAIRS as u64) } else { seen_below };
        let mut from = ends.next.saturating_sub(self.rebuilt(WINDOW_PAIRS)).min(unseen_from).max(ends.oldest);
        while from < ends.next {
            let blocks = self.options.buffer.blocks(Stream::Readings, from, REPLAY_BLOCKS).await?;
            let Some(last) = blocks.last() else { break };
            from = last.range.last + 1;
            for block in &blocks {
                let Ok(rows) = block.readings() else { continue };
                let tick = Tick {
                    mono_us: block.meta.mono_base_us,
                    wall_us: block.meta.wall_base_us,
                    quality: block.meta.time_quality,
                };
                for row in rows {
                    let slot = slot_of.get(row.reading.point.0 as usize).copied().flatten();
                    if let Some(place) = slot.and_then(|slot| self.places.get_mut(slot)) {
                        place.redelivery.remember(row.reading.point, row.reading.message_hash);
                    }
                    if row.sequence >= unseen_from {
                        self.options.judge.replay(&row.reading, &tick);
                    }
                }
            }
        }
        Ok(())
    }

    fn ends(&self, stream: Stream) -> StreamEnds {
        self.options.buffer.ends().borrow().get(stream.index()).copied().unwrap_or_default()
    }

    /// How many records are looked through to fill the windows of this length again.
    fn rebuilt(&self, window: usize) -> u64 {
        (window * self.places.len().min(REBUILD_WINDOWS_MAX)) as u64
    }
}
