//! Any text as a configuration: it is read or refused with its errors, and hiding secrets in it never fails.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    drop(forebay::config::redacted_toml(text));
    if let Err(errors) = forebay::config::parse("fuzz.toml", text.to_owned()) {
        assert!(!errors.to_string().is_empty());
    }
});
