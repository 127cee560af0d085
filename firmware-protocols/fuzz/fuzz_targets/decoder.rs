//! Any bytes on the line: the decoder never panics, and its books close.
#![no_main]

use firmware_protocols::{Decoder, FrameBuffer, Message};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut decoder = Decoder::new();
    let mut good_bytes = 0;
    let mut on_byte = |decoder: &mut Decoder, byte| {
        if let Some(Ok(frame)) = decoder.push(byte) {
            let mut again = FrameBuffer::new();
            frame
                .encode(&mut again)
                .expect("a frame that came in goes out");
            good_bytes += again.len() - 2;
            drop(Message::decode(&frame));
        }
    };
    for byte in bytes {
        on_byte(&mut decoder, *byte);
    }
    on_byte(&mut decoder, 0);
    let discarded = usize::try_from(decoder.counters().bytes_discarded).expect("fits");
    let delimiters = bytes.iter().filter(|byte| **byte == 0).count();
    assert_eq!(good_bytes + discarded + delimiters, bytes.len());
});
