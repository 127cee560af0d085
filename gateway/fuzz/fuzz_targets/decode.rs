//! Any payload: values or an error, in every format.
#![no_main]

use forebay::decode::{self, Payload};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let json = Payload::Json { value: "/value".to_owned(), time: Some("/ts".to_owned()) };
    for format in [json, Payload::Json { value: String::new(), time: None }, Payload::Number {}] {
        drop(decode::payload(&format, bytes));
    }
});
