//! Offsets of boots: how a monotonic time of a boot becomes wall time, decided once and never changed, since what was offered
//! with one must be offered with the same again.

use super::super::ledger::Entry;
use super::super::{BootOffset, BufferError};
use super::DiskStore;
use crate::reading::TimeQuality;

/// How many boots are remembered, the newest by their wall time: a gateway that restarts daily keeps two months.
const BOOTS_MAX: usize = 64;

impl DiskStore {
    /// Keeps the offset of a boot, unless it was decided before, and says what holds.
    pub(super) fn keep_offset(&mut self, boot_id: u128, offset: BootOffset) -> Result<BootOffset, BufferError> {
        let boots = &self.ledger.state().boots;
        if let Some(decided) = boots.get(&boot_id) {
            return Ok(*decided);
        }
        // Monotonic time begins with the boot, so the offset is the boot's wall time.
        let oldest = boots.iter().min_by_key(|(_, offset)| offset.offset_us).map(|(id, _)| *id);
        let mut entries = vec![Entry::Boot(boot_id, Some(offset))];
        entries.extend(oldest.filter(|_| boots.len() >= BOOTS_MAX).map(|id| Entry::Boot(id, None)));
        self.write_ledger(entries)?;
        Ok(offset)
    }

    /// Decides the offset of this boot with the first commit after the clock has become plausible.
    pub(super) fn keep_own_offset(&mut self) -> Result<(), BufferError> {
        let boot_id = self.clock.boot_id;
        if self.ledger.state().boots.contains_key(&boot_id) {
            return Ok(());
        }
        let tick = self.clock.tick();
        if tick.quality == TimeQuality::Unset {
            return Ok(());
        }
        self.keep_offset(boot_id, BootOffset { offset_us: tick.wall_of(0), quality: tick.quality }).map(drop)
    }
}
