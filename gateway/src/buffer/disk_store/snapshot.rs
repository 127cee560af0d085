//! The judge's snapshot: its state after a sequence, in a file of its own, since it is far larger than a value may be.
//!
//! `magic "FBS1" | epoch u128 | sequence u64 | state | CRC-32C u32`, little endian.

use super::super::cipher::{Cipher, ENVELOPE_BYTES};
use super::super::{BufferError, files};
use super::DiskStore;
use crate::reading::{Epoch, Sequence, Stream};
use std::path::Path;

const MAGIC: [u8; 4] = *b"FBS1";
const HEADER_BYTES: usize = 28;
const CHECKSUM_BYTES: usize = 4;

/// Longest snapshot: 100 000 points at some 600 bytes each.
const SNAPSHOT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The file's name in the store's directory.
pub(super) const NAME: &str = "snapshot";

impl DiskStore {
    /// Keeps the state that the judge has after all readings there are.
    pub(super) fn keep_snapshot(&self, state: &[u8]) -> Result<(), BufferError> {
        if state.len() > SNAPSHOT_BYTES_MAX {
            return Err(BufferError::Disk(format!(
                "a snapshot of {} bytes is not kept; the limit is {SNAPSHOT_BYTES_MAX}",
                state.len()
            )));
        }
        let mut bytes = Vec::with_capacity(HEADER_BYTES + state.len() + CHECKSUM_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&self.epoch.0.to_le_bytes());
        bytes.extend_from_slice(&self.next[Stream::Readings.index()].to_le_bytes());
        bytes.extend_from_slice(state);
        let checksum = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        files::write_whole(&self.root.join(NAME), &self.options.cipher.close(bytes)?)
    }
}

/// Reads the snapshot of this epoch; `None` if there is none.
///
/// # Errors
/// [`BufferError::Damaged`] if there is one that is not whole.
pub(super) fn read(root: &Path, cipher: &Cipher, epoch: Epoch) -> Result<Option<(Sequence, Vec<u8>)>, BufferError> {
    let path = root.join(NAME);
    let bytes_max = HEADER_BYTES + SNAPSHOT_BYTES_MAX + CHECKSUM_BYTES + ENVELOPE_BYTES;
    let Some(bytes) = files::read_whole(&path, bytes_max as u64)? else { return Ok(None) };
    let damaged = || BufferError::Damaged(format!("{} is not whole", path.display()));
    let (of, sequence, state) = parse(&cipher.open(bytes.into())?).ok_or_else(damaged)?;
    Ok((of == epoch).then_some((sequence, state)))
}

fn parse(bytes: &[u8]) -> Option<(Epoch, Sequence, Vec<u8>)> {
    let (checked, checksum) = bytes.split_last_chunk::<CHECKSUM_BYTES>()?;
    if crc32c::crc32c(checked) != u32::from_le_bytes(*checksum) {
        return None;
    }
    let (magic, rest) = checked.split_first_chunk::<4>()?;
    let (epoch, rest) = rest.split_first_chunk::<16>()?;
    let (sequence, state) = rest.split_first_chunk::<8>()?;
    (*magic == MAGIC).then(|| (Epoch(u128::from_le_bytes(*epoch)), u64::from_le_bytes(*sequence), state.to_vec()))
}
