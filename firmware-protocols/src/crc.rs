//! CRC-32C (Castagnoli), the checksum that ends every frame.
//!
//! The polynomial is 0x1EDC6F41, reflected, with initial value and final XOR 0xFFFFFFFF, as in iSCSI (RFC 3720,
//! section 12.1). It goes on the wire in little endian, so that body and checksum together are one code word in the
//! order in which a UART sends its bits, least significant first.
//!
//! Every error of up to 5 bits in a frame's body is found, at the longest of 2016 bits too (Hamming distance 6):
//! `tests/checksum.rs` computes it, in agreement with Koopman, "32-Bit Cyclic Redundancy Codes for Internet
//! Applications" (DSN 2002). So is every burst of up to 32 bits, as by any CRC of 32 bits. What else is wrong passes
//! with probability 2⁻³².
//!
//! These guarantees are about the bytes of the body. COBS carries one code byte at the front and one in place of
//! every zero of the body; an error that hits a code byte or a delimiter moves zeros about and so becomes a longer
//! error. It must then also pass the checks of groups and length, and beyond them the 2⁻³² hold.

use ::crc::{CRC_32_ISCSI, Crc, NoTable};

/// Size of the checksum on the wire.
pub const CRC_BYTES: usize = 4;

/// Computed bit by bit. The longest frame takes 248 bytes × 8 steps, some ten thousand cycles or 0.2 ms at 64 MHz,
/// while a UART at 115 200 baud needs 22 ms to send it: a table would spend 1 KiB of a microcontroller's flash to
/// save one percent.
const CRC_32C: Crc<u32, NoTable> = Crc::<u32, NoTable>::new(&CRC_32_ISCSI);

/// The CRC-32C of `bytes`.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    CRC_32C.checksum(bytes)
}

#[cfg(test)]
mod tests {
    use super::crc32c;

    #[test]
    fn the_checksum_is_the_one_of_the_catalogue_and_of_rfc_3720() {
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
        // RFC 3720, appendix B.4: 32 bytes of zeros, sent as aa 36 91 8a.
        assert_eq!(crc32c(&[0; 32]).to_le_bytes(), [0xAA, 0x36, 0x91, 0x8A]);
    }
}
