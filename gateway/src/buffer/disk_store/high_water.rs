//! The high-water mark: how far each stream and the ledger had come, beside them, so that a cut-off end or an old copy is found out.
//!
//! A log that lost its end looks like one that never had it, and an old copy of the ledger like the ledger of then. The mark is
//! written after each commit and each write of the ledger is durable, so it never promises too much, and not synchronised, so
//! it costs no wear; after a power cut it may be older than what it speaks of, which is no harm. With all intact it says nothing new.

use super::super::files;
use crate::reading::{Epoch, Sequence};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Its name in the buffer's directory.
pub(super) const NAME: &str = "high-water";
/// Epoch, six sequences, the ledger's generation, CRC-32C of all that; little endian.
const MARK_BYTES: usize = 16 + 6 * 8 + 8 + 4;

/// What a mark says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// Whose it is.
    pub(super) epoch: Epoch,
    /// The next sequences: all below were durable.
    pub(super) next: [Sequence; 6],
    /// The newest generation of the ledger that was durable.
    pub(super) generation: u64,
}

/// The mark of one store.
#[derive(Debug)]
pub(super) struct HighWater {
    /// Absent if it cannot be opened: then damage at an end goes unnoticed, as without a mark.
    file: Option<File>,
    epoch: Epoch,
    found: [Sequence; 6],
}

impl HighWater {
    /// Opens the mark and reads what the run before has left. One of another epoch, or a torn one, promises nothing.
    pub(super) fn open(root: &Path, epoch: Epoch) -> Self {
        let path = root.join(NAME);
        let file = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let file = file.inspect_err(|error| tracing::warn!(%error, "{} cannot be opened", path.display())).ok();
        Self { file, epoch, found: promised_by_mark(root, epoch) }
    }

    /// The next sequences that the run before had reached.
    pub(super) fn found(&self) -> [Sequence; 6] {
        self.found
    }

    /// Closes the file; nothing is noted any more.
    pub(super) fn close(&mut self) {
        self.file = None;
    }

    /// Notes how far the streams and the ledger have come. What the run before had reached stays a promise until it is kept.
    pub(super) fn set(&self, next: &[Sequence; 6], generation: u64) {
        let mut mark = Mark { epoch: self.epoch, next: self.found, generation };
        for (mark, next) in mark.next.iter_mut().zip(next) {
            *mark = (*mark).max(*next);
        }
        let written = self.file.as_ref().map(|file| file.write_all_at(&encode(&mark), 0));
        if let Some(Err(error)) = written {
            tracing::debug!(%error, "the high-water mark could not be written");
        }
    }
}

/// The next sequences that a mark vouches for, read without touching it.
pub(in crate::buffer) fn promised_by_mark(root: &Path, epoch: Epoch) -> [Sequence; 6] {
    read(root).filter(|mark| mark.epoch == epoch).map(|mark| mark.next).unwrap_or_default()
}

/// The mark that lies in a store's directory, whosever it is; none if it is not whole.
pub(super) fn read(root: &Path) -> Option<Mark> {
    let bytes = files::read_whole(&root.join(NAME), MARK_BYTES as u64).ok()??;
    decode(bytes.first_chunk()?)
}

fn encode(mark: &Mark) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(MARK_BYTES);
    bytes.extend_from_slice(&mark.epoch.0.to_le_bytes());
    bytes.extend(mark.next.iter().flat_map(|sequence| sequence.to_le_bytes()));
    bytes.extend_from_slice(&mark.generation.to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
    bytes
}

fn decode(bytes: &[u8; MARK_BYTES]) -> Option<Mark> {
    let (epoch, rest) = bytes.split_first_chunk::<16>()?;
    let (numbers, _) = rest.as_chunks::<8>();
    let mut mark = Mark { epoch: Epoch(u128::from_le_bytes(*epoch)), next: [0; 6], generation: 0 };
    let places = mark.next.iter_mut().chain([&mut mark.generation]);
    for (place, number) in places.zip(numbers) {
        *place = u64::from_le_bytes(*number);
    }
    (encode(&mark) == bytes).then_some(mark)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_mark_is_found_by_its_own_epoch_and_only_whole() {
        let dir = tempfile::tempdir().unwrap();
        let open = |epoch| HighWater::open(dir.path(), Epoch(epoch));
        assert_eq!(open(7).found(), [0; 6]);
        open(7).set(&[1, 2, 3, 4, 5, u64::MAX], 9);
        assert_eq!(open(7).found(), [1, 2, 3, 4, 5, u64::MAX]);
        assert_eq!(open(8).found(), [0; 6]);
        assert_eq!(read(dir.path()).unwrap().generation, 9);
        let path = dir.path().join(NAME);
        let mut torn = std::fs::read(&path).unwrap();
        torn[20] ^= 1;
        std::fs::write(&path, &torn).unwrap();
        assert_eq!((open(7).found(), read(dir.path())), ([0; 6], None));
        std::fs::write(&path, &torn[..30]).unwrap();
        assert_eq!(open(7).found(), [0; 6]);
    }

    #[test]
    fn what_the_run_before_had_reached_is_promised_until_it_is_reached_again() {
        let dir = tempfile::tempdir().unwrap();
        HighWater::open(dir.path(), Epoch(7)).set(&[0, 90, 0, 0, 0, 0], 9);
        HighWater::open(dir.path(), Epoch(7)).set(&[0, 40, 3, 0, 0, 0], 10);
        assert_eq!(HighWater::open(dir.path(), Epoch(7)).found(), [0, 90, 3, 0, 0, 0]);
    }
}
