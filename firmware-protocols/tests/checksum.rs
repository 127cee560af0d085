//! What the checksum finds at the length of the longest frame, computed and not only cited.

use firmware_protocols::crc::crc32c;
use firmware_protocols::frame::{HEADER_BYTES, MAX_PAYLOAD_BYTES};

/// How the checksum's error looks when one bit of the longest body is flipped, for every bit. A CRC
/// is linear: when several bits are flipped, these are combined by XOR, and 0 would go unnoticed.
fn syndromes() -> Vec<u32> {
    let mut covered = [0_u8; HEADER_BYTES + MAX_PAYLOAD_BYTES];
    let intact = crc32c(&covered);
    let mut syndromes: Vec<u32> = (0..32).map(|bit| 1 << bit).collect();
    for bit in 0..covered.len() * 8 {
        covered[bit / 8] ^= 1 << (bit % 8);
        syndromes.push(crc32c(&covered) ^ intact);
        covered[bit / 8] ^= 1 << (bit % 8);
    }
    syndromes
}

#[test]
fn any_odd_number_of_flipped_bits_in_the_longest_body_is_found() {
    // XOR keeps the parity of the number of ones, and 0 has none.
    assert!(syndromes().iter().all(|syndrome| syndrome.count_ones() % 2 == 1));
}

#[test]
fn any_two_or_four_flipped_bits_in_the_longest_body_are_found() {
    let syndromes = syndromes();
    let mut pairs = Vec::new();
    for (at, first) in syndromes.iter().enumerate() {
        pairs.extend(syndromes.iter().skip(at + 1).map(|second| first ^ second));
    }
    pairs.sort_unstable();
    assert!(!pairs.contains(&0), "two flipped bits cancel each other");
    assert!(pairs.windows(2).all(|two| two[0] != two[1]), "four flipped bits cancel each other");
}
