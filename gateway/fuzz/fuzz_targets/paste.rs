//! Any clipboard as a register map: rows with their problems, and out again.
#![no_main]

use forebay::config::sheet::{export, paste, to_edit};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let pasted = paste(text);
    drop(export(&pasted.rows, ';'));
    if let Ok(place) = "source[0].unit[0].registers".parse() {
        drop(to_edit(&place, &pasted.rows));
    }
});
