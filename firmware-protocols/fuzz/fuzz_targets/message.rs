//! Any payload behind a correct checksum: decoding never panics, and a message that is read is
//! written and read as the same.
#![no_main]

use firmware_protocols::{Decoder, Frame, FrameBuffer, Message};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, payload)) = bytes.split_first() else {
        return;
    };
    let Ok(message) = Message::decode(&Frame {
        kind: *kind,
        sequence: 1,
        payload,
    }) else {
        return;
    };
    let mut wire = FrameBuffer::new();
    message
        .encode(1, &mut wire)
        .expect("a message that was read is written");
    Decoder::new().feed(&wire, |frame| {
        let again = Message::decode(&frame.expect("intact")).expect("a message");
        let mut second = FrameBuffer::new();
        again.encode(1, &mut second).expect("is written");
        // Bytes are compared, because a NaN is not equal to itself.
        assert_eq!(wire, second);
    });
});
