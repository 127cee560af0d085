//! Any change of any text: it is made or refused, and what was hidden comes back as it was.
#![no_main]

use forebay::config::edit::{Edit, Place, apply};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &str, &str, u8)| {
    let (text, path, value, what) = input;
    assert_eq!(forebay::config::restore(&forebay::config::redacted_toml(text), text).as_deref(), Ok(text));
    let Ok(path) = path.parse::<Place>() else { return };
    let edit = match what % 4 {
        0 => Edit::set(&path, value),
        1 => Edit::remove(&path),
        2 => Edit::append(&path, value),
        _ => Edit::Move { path, from: usize::from(what / 4 % 4), to: usize::from(what / 16 % 4) },
    };
    drop(apply(text, &[edit]));
});
