//! The limits in force: what each family may occupy, where its chunks are full, and what stays free for other programs.

use super::super::family::Family;
use super::super::{Limit, StoreOptions, WhenFull};

/// Where a chunk is full.
const CHUNK_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Below this a chunk would be little more than the segment that sled begins with.
const CHUNK_BYTES_MIN: u64 = 2 * 1024 * 1024;

/// A small cap or file system has smaller chunks, so that dropping one does not empty the buffer.
const CHUNKS_IN_CAP: u64 = 16;

/// A family has at least so many chunks at its own limit, so that dropping one does not empty it.
const CHUNKS_IN_FAMILY: u64 = 4;

/// What alerts and dead letters may occupy without a limit of their own: this part of the cap, but room for two chunks.
const SMALL_FAMILY_SHARE: u64 = 8;

/// Of the file system this part stays free: 5 %, which is also what ext4 keeps back for root (mke2fs(8), `-m`).
const FREE_SHARE: u64 = 20;

/// Below this journald would stop a small board's log (journald.conf(5): it keeps 15 % free, its smallest file is 512 KiB), and an
/// update of a package does not fit.
const FREE_BYTES_MIN: u64 = 16 * 1024 * 1024;

/// More than this other programs do not need to be spared.
const FREE_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// A tiny file system keeps at most this part free, or nothing would be left for readings.
const FREE_SHARE_MAX: u64 = 8;

/// The limits of a store on a file system.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits<'a> {
    /// What was configured.
    pub(super) options: &'a StoreOptions,
    /// Size of the file system; without bound if it cannot be asked.
    pub(super) file_system_bytes: u64,
}

impl Limits<'_> {
    fn of(&self, family: Family) -> &Limit {
        match family {
            Family::Vital => &self.options.limits.alerts,
            Family::Letters => &self.options.limits.dead_letters,
            Family::Readings => &self.options.limits.readings,
            Family::Raw => &self.options.limits.raw,
        }
    }

    /// What a family may occupy.
    pub(super) fn bytes_max(&self, family: Family) -> u64 {
        let all = self.options.disk_bytes_max;
        let default = match family {
            Family::Vital | Family::Letters => (all / SMALL_FAMILY_SHARE).max(2 * CHUNK_BYTES_MIN),
            Family::Readings | Family::Raw => all,
        };
        self.of(family).disk_bytes_max.unwrap_or(default).min(all)
    }

    /// How old a record of a family may become undelivered, if there is a limit.
    pub(super) fn age_max_us(&self, family: Family) -> Option<i64> {
        self.of(family).age_max_us
    }

    /// What happens where a family, or everything, is full.
    pub(super) fn when_full(&self, family: Family) -> WhenFull {
        self.of(family).when_full.unwrap_or(self.options.when_full)
    }

    /// Where a chunk of a family is full.
    pub(super) fn chunk_bytes_max(&self, family: Family) -> u64 {
        let all = self.options.disk_bytes_max.min(self.file_system_bytes) / CHUNKS_IN_CAP;
        all.min(self.bytes_max(family) / CHUNKS_IN_FAMILY).clamp(CHUNK_BYTES_MIN, CHUNK_BYTES_MAX)
    }

    /// What stays free on the file system for other programs.
    pub(super) fn free_bytes_min(&self) -> u64 {
        let default = (self.file_system_bytes / FREE_SHARE).clamp(FREE_BYTES_MIN, FREE_BYTES_MAX);
        self.options.free_bytes_min.unwrap_or_else(|| default.min(self.file_system_bytes / FREE_SHARE_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    fn options(disk_bytes_max: u64) -> StoreOptions {
        StoreOptions { disk_bytes_max, ..StoreOptions::new("/nowhere".into()) }
    }

    #[test]
    fn what_stays_free_suits_the_file_system() {
        let free = |file_system_bytes| Limits { options: &options(64 * MIB), file_system_bytes }.free_bytes_min() / MIB;
        assert_eq!([free(48 * MIB), free(160 * MIB), free(4096 * MIB), free(u64::MAX)], [6, 16, 204, 512]);
        let asked = StoreOptions { free_bytes_min: Some(0), ..options(64 * MIB) };
        assert_eq!(Limits { options: &asked, file_system_bytes: 4096 * MIB }.free_bytes_min(), 0);
    }

    #[test]
    fn each_family_has_its_part_and_chunks_that_suit_it() {
        let mut options = options(64 * MIB);
        options.limits.readings =
            Limit { disk_bytes_max: Some(20 * MIB), age_max_us: Some(5), when_full: Some(WhenFull::Block) };
        let limits = Limits { options: &options, file_system_bytes: u64::MAX };
        assert_eq!(Family::ALL.map(|family| limits.bytes_max(family) / MIB), [8, 8, 20, 64]);
        assert_eq!(Family::ALL.map(|family| limits.chunk_bytes_max(family) / MIB), [2, 2, 4, 4]);
        assert_eq!(
            (limits.when_full(Family::Readings), limits.when_full(Family::Raw)),
            (WhenFull::Block, WhenFull::DropOldest)
        );
        assert_eq!((limits.age_max_us(Family::Readings), limits.age_max_us(Family::Vital)), (Some(5), None));
    }
}
