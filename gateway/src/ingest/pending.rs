//! What was judged and waits for the disk: readings with their ticks and frames, records, receipts and counts.

use crate::block::Draft;
use crate::block::columns::{Encoder, Frame, JudgedReading};
use crate::block::records;
use crate::clock::Tick;
use crate::judge::Judged;
use crate::reading::MonoMicros;
use crate::sources::Receipt;
use crate::status::SourceBooks;
use std::collections::BTreeMap;

/// Most readings that wait for the disk: about 256 KiB of blocks, the size of a commit. Then sources wait.
pub const PENDING_READINGS_MAX: usize = 20_000;
/// Most records that wait for the disk: dead letters of noise may be 4 KiB each.
pub const PENDING_RECORDS_MAX: usize = 256;
/// Most batches of receipts that wait: a flood of redeliveries brings receipts without readings.
const PENDING_RECEIPTS_MAX: usize = 256;
/// A wall clock that moved against the monotonic one by more than this begins a new block: slewing (500 ppm at most,
/// adjtimex(2)) stays below it within a commit, a step does not.
const CLOCK_STEP_US: u64 = 1_000;

/// What waits for the disk.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// Readings and records.
    pub(super) judged: Judged,
    ticks: Vec<(usize, MonoMicros)>,
    /// Where in the readings each frame begins.
    frames: Vec<(usize, Frame)>,
    /// Whether any of it would be lost with the power: nobody would send it again.
    pub(super) is_at_risk: bool,
    /// What to hand back once it is on disk: a source's slot, which start of it, and the receipts.
    pub(super) receipts: Vec<(u16, u32, Vec<Receipt>)>,
    /// The books as they stand once it is on disk, by source; filled in when it departs.
    pub(super) books: BTreeMap<String, SourceBooks>,
}

impl Pending {
    /// Whether nothing waits for the disk and nobody for a receipt.
    #[must_use]
    pub(super) fn is_empty(&self) -> bool {
        !self.has_content() && self.receipts.is_empty()
    }

    /// Whether something waits for the disk.
    #[must_use]
    pub(super) fn has_content(&self) -> bool {
        !self.judged.readings.is_empty() || !self.judged.records.is_empty()
    }

    /// Whether no more may be taken in before the next commit.
    #[must_use]
    pub(super) fn is_full(&self) -> bool {
        self.judged.readings.len() >= PENDING_READINGS_MAX
            || self.judged.records.len() >= PENDING_RECORDS_MAX
            || self.receipts.len() >= PENDING_RECEIPTS_MAX
    }

    /// Notes a tick before the readings that follow; the clock was set, its quality or the
    /// configuration changed: a new frame begins.
    pub(super) fn tick(&mut self, tick: Tick, boot_id: u128, config_version: u32) {
        let position = self.judged.readings.len();
        self.ticks.push((position, tick.mono_us));
        let same = self.frames.last().is_some_and(|(_, frame)| {
            let moved_us = frame.base.wall_of(tick.mono_us).abs_diff(tick.wall_us);
            frame.base.quality == tick.quality && frame.config_version == config_version && moved_us <= CLOCK_STEP_US
        });
        if !same {
            self.frames.push((position, Frame { boot_id, base: tick, config_version }));
        }
    }

    /// Encodes all that waits, in order.
    ///
    /// # Errors
    /// If the compressor has no memory.
    pub(super) fn encode(&self, encoder: &mut Encoder) -> std::io::Result<Vec<Draft>> {
        let mut drafts = Vec::new();
        let readings = &self.judged.readings;
        for (index, (from, frame)) in self.frames.iter().enumerate() {
            let until = self.frames.get(index + 1).map_or(readings.len(), |(next, _)| *next);
            let part = readings.get(*from..until).unwrap_or_default();
            self.encode_part(encoder, part, *from, until, frame, &mut drafts)?;
        }
        if let Some((_, frame)) = self.frames.last() {
            drafts.extend(records::encode(&self.judged.records, frame)?);
        }
        Ok(drafts)
    }

    fn encode_part(
        &self,
        encoder: &mut Encoder,
        part: &[JudgedReading],
        from: usize,
        until: usize,
        frame: &Frame,
        drafts: &mut Vec<Draft>,
    ) -> std::io::Result<()> {
        let inside = self.ticks.iter().filter(|(position, _)| (from..until).contains(position));
        let ticks: Vec<_> = inside.map(|(position, mono_us)| (position - from, *mono_us)).collect();
        encoder.encode(part, &ticks, frame, drafts)
    }
}
