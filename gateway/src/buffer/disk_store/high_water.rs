//! The high-water mark: how far each stream had come, beside the chunks, so that a chunk whose end is cut off is found out.
//!
//! A log that lost its end looks like one that never had it. The mark is written after each commit is durable, so it never
//! promises too much, and not synchronised, so it costs no wear; after a power cut it may be older than the chunks, which is no
//! harm. With the chunks intact it says nothing new.

use crate::reading::{Epoch, Sequence};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Its name in the buffer's directory.
const NAME: &str = "high-water";
/// Epoch, six sequences, CRC-32C of both; all little endian.
const MARK_BYTES: usize = 16 + 6 * 8 + 4;

/// The mark of one store.
#[derive(Debug)]
pub(super) struct HighWater {
    /// Absent if it cannot be opened: then damage at a chunk's end goes unnoticed, as without a mark.
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
        let mut bytes = [0; MARK_BYTES];
        let read = file.as_ref().is_some_and(|file| file.read_exact_at(&mut bytes, 0).is_ok());
        let found = if read { decode(&bytes, epoch) } else { None };
        Self { file, epoch, found: found.unwrap_or_default() }
    }

    /// The next sequences that the run before had reached.
    pub(super) fn found(&self) -> [Sequence; 6] {
        self.found
    }

    /// Closes the file; nothing is noted any more.
    pub(super) fn close(&mut self) {
        self.file = None;
    }

    /// Notes how far the streams have come.
    pub(super) fn set(&self, next: &[Sequence; 6]) {
        let written = self.file.as_ref().map(|file| file.write_all_at(&encode(self.epoch, next), 0));
        if let Some(Err(error)) = written {
            tracing::debug!(%error, "the high-water mark could not be written");
        }
    }
}

/// The next sequences that a mark vouches for, read without touching it.
pub(in crate::buffer) fn promised_by_mark(root: &Path, epoch: Epoch) -> [Sequence; 6] {
    let mut bytes = [0; MARK_BYTES];
    let read = File::open(root.join(NAME)).and_then(|file| file.read_exact_at(&mut bytes, 0));
    read.ok().and_then(|()| decode(&bytes, epoch)).unwrap_or_default()
}

fn encode(epoch: Epoch, next: &[Sequence; 6]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(MARK_BYTES);
    bytes.extend_from_slice(&epoch.0.to_le_bytes());
    bytes.extend(next.iter().flat_map(|sequence| sequence.to_le_bytes()));
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
    bytes
}

fn decode(bytes: &[u8; MARK_BYTES], epoch: Epoch) -> Option<[Sequence; 6]> {
    let (sequences, _) = bytes.get(16..)?.as_chunks::<8>();
    let mut next = [0; 6];
    for (next, sequence) in next.iter_mut().zip(sequences) {
        *next = Sequence::from_le_bytes(*sequence);
    }
    (encode(epoch, &next) == bytes).then_some(next)
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
        open(7).set(&[1, 2, 3, 4, 5, u64::MAX]);
        assert_eq!(open(7).found(), [1, 2, 3, 4, 5, u64::MAX]);
        assert_eq!(open(8).found(), [0; 6]);
        let path = dir.path().join(NAME);
        let mut torn = std::fs::read(&path).unwrap();
        torn[20] ^= 1;
        std::fs::write(&path, &torn).unwrap();
        assert_eq!(open(7).found(), [0; 6]);
        std::fs::write(&path, &torn[..30]).unwrap();
        assert_eq!(open(7).found(), [0; 6]);
    }
}
