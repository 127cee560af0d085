//! Fault points: places where a test has the process end on the spot, as a crash would end it.
//!
//! They exist with the cargo feature `fault-points` only, which no release has; without it a point is nothing.

/// Every point, by the order of a reading's way. `FOREBAY_FAULT=<point>:<n>` ends the process (SIGKILL) at the n-th pass.
pub const POINTS: &[&str] = &[
    "ingest.before_commit",
    "ingest.after_commit",
    "ingest.after_receipts",
    "delivery.before_pin_saved",
    "delivery.after_pin_saved",
    "kafka.before_begin",
    "kafka.record_produced",
    "kafka.cursor_produced",
    "kafka.before_commit",
    "kafka.after_commit",
    "http.before_send",
    "http.answer_begun",
    "http.answer_read",
    "delivery.before_books_saved",
    "delivery.after_books_saved",
    "delivery.before_halving_saved",
    "delivery.after_halving_saved",
    "kafka.after_init",
    "kafka.reading_cursors",
    "delivery.before_catch_up_saved",
    "delivery.after_catch_up_saved",
    "config.file_written",
    "config.file_renamed",
    "access.file_written",
    "access.file_renamed",
    "certificate.file_written",
    "certificate.file_renamed",
];

#[cfg(all(feature = "fault-points", not(debug_assertions)))]
compile_error!("the feature fault-points is for tests: no release may end itself because of a variable");

/// Ends the process here, if the test asked for this pass.
#[cfg(feature = "fault-points")]
pub fn point(name: &'static str) {
    armed::pass(name);
}

/// Nothing: this build has no fault points.
#[cfg(not(feature = "fault-points"))]
#[inline(always)]
#[allow(clippy::inline_always, reason = "a point must cost nothing where there are none")]
pub fn point(_name: &'static str) {}

#[cfg(feature = "fault-points")]
mod armed {
    use rustix::process::{Signal, getpid, kill_process};
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// The one point of this process that ends it, and the passes left until then.
    struct Armed {
        point: &'static str,
        passes_left: AtomicU64,
    }

    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();

    pub(super) fn pass(name: &str) {
        let Some(armed) = ARMED.get_or_init(read) else { return };
        if armed.point != name || armed.passes_left.fetch_sub(1, Ordering::SeqCst) != 1 {
            return;
        }
        // An error cannot be: every process may signal itself.
        kill_process(getpid(), Signal::KILL).ok();
        loop {
            std::thread::park();
        }
    }

    /// A variable that names no point is a mistake of the test, which sees that the process does not end.
    fn read() -> Option<Armed> {
        let text = std::env::var("FOREBAY_FAULT").ok()?;
        let (name, passes) = text.split_once(':')?;
        let point = super::POINTS.iter().find(|point| **point == name)?;
        Some(Armed { point, passes_left: AtomicU64::new(passes.parse().ok()?) })
    }
}
