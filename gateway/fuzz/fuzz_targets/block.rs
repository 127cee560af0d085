//! Any bytes behind a correct checksum: a block is read or refused, and what is read is bounded.
#![no_main]

use bytes::Bytes;
use forebay::block::{Block, RECORDS_MAX};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut sound = bytes.to_vec();
    sound.extend_from_slice(&crc32c::crc32c(bytes).to_le_bytes());
    let Ok(block) = Block::parse(Bytes::from(sound)) else { return };
    if let Ok(rows) = block.readings() {
        assert!(rows.len() <= RECORDS_MAX);
    }
    drop((block.records(), block.points(), block.ticks()));
});
