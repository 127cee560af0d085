//! Exponential backoff with full jitter, so that a fleet does not come back all at once.

use std::time::Duration;

/// Waits that grow by doubling up to a ceiling; each wait is drawn evenly between a tenth of the step and the step
/// ("full jitter": Exponential Backoff And Jitter, AWS Architecture Blog, 2015; the floor keeps a retry from being at once).
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    ceiling: Duration,
    failures: u32,
}

impl Backoff {
    /// A backoff whose first step is `first` and whose longest is `ceiling`.
    #[must_use]
    pub fn new(first: Duration, ceiling: Duration) -> Self {
        Self { first, ceiling, failures: 0 }
    }

    /// The next wait, drawn at random.
    pub fn next_wait(&mut self) -> Duration {
        let step = self.first.saturating_mul(1 << self.failures.min(20)).min(self.ceiling);
        self.failures = self.failures.saturating_add(1);
        step.mul_f64(0.1 + 0.9 * fastrand::f64())
    }

    /// How many failures there were since the last success.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Starts over after a success.
    pub fn succeed(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_ceiling_and_start_over_after_a_success() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        for _ in 0..100 {
            let wait = backoff.next_wait();
            assert!(wait >= Duration::from_millis(10) && wait <= Duration::from_secs(5));
        }
        assert_eq!(backoff.failures(), 100);
        backoff.succeed();
        assert!(backoff.next_wait() <= Duration::from_millis(100));
    }
}
