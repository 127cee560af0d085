//! Random choices of a test, told so that a failing run can be repeated.

use fastrand::Rng;

/// Repeats the choices of an earlier run, as far as the machine's own timing lets it.
const SEED_VARIABLE: &str = "E2E_SEED";

/// A generator and its seed, which belongs into every message of failure.
#[must_use]
pub fn seeded() -> (Rng, u64) {
    let given = std::env::var(SEED_VARIABLE).ok();
    let seed = given.map_or_else(
        || fastrand::u64(..),
        |text| text.parse().unwrap_or_else(|_| panic!("{SEED_VARIABLE}={text:?} is no whole number")),
    );
    eprintln!("choices by {SEED_VARIABLE}={seed}");
    (Rng::with_seed(seed), seed)
}
