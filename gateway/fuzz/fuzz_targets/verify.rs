//! Any lines: a verifier counts or refuses each, and its report closes.
#![no_main]

use forebay::verify::Verifier;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut verifier = Verifier::new(None);
    for line in bytes.split(|byte| *byte == b'\n') {
        verifier.take(line).ok();
    }
    for report in verifier.reports() {
        let Some(range) = report.range else { continue };
        assert!(u128::from(report.records) + u128::from(report.missing) <= u128::from(range.last - range.first) + 1);
    }
});
