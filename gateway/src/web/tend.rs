//! What is looked after while the page is served: who is signed in is written down, and that the audit log fills is told.

use super::WebState;
use crate::access::{PutAside, TEND_EVERY};
use crate::block::records::Severity;
use crate::reading::{MonoMicros, UnixMicros};
use crate::status::Trouble;
use tokio_util::sync::CancellationToken;

/// The key of the trouble that a file of the audit log was put aside.
const AUDIT_TROUBLE: &str = "audit/put-aside";

/// How long that is told: someone comes by within a day, and an alert went upstream at once.
const TOLD_US: MonoMicros = 24 * 3_600 * 1_000_000;

/// A file that was filled within so long was not filled by people, in microseconds: a week.
const FAST_US: UnixMicros = 7 * 24 * 3_600 * 1_000_000;

/// An hour, in microseconds.
const HOUR_US: UnixMicros = 3_600 * 1_000_000;

/// Looks after both until `stop`.
pub(super) async fn tend(state: WebState, stop: CancellationToken) {
    let mut told_us = None;
    loop {
        tokio::select! {
            () = stop.cancelled() => return state.access.settle_sessions().await,
            () = tokio::time::sleep(TEND_EVERY) => {}
        }
        state.access.tend().await;
        told_us = tell(&state, told_us);
    }
}

/// Tells that a file was put aside, and no longer after a day; since when it is told.
pub(super) fn tell(state: &WebState, told_us: Option<MonoMicros>) -> Option<MonoMicros> {
    let now = state.clock.tick();
    if let Some(put_aside) = state.access.take_put_aside() {
        state.status.raise(AUDIT_TROUBLE, trouble(put_aside));
        return Some(now.mono_us);
    }
    let told_us = told_us?;
    if now.mono_us.saturating_sub(told_us) < TOLD_US {
        return Some(told_us);
    }
    state.status.clear(AUDIT_TROUBLE, now.wall_us);
    None
}

fn trouble(PutAside { at_us, since_us }: PutAside) -> Trouble {
    let took_us = at_us.saturating_sub(since_us).max(0);
    let is_fast = took_us < FAST_US;
    let hours = took_us / HOUR_US + 1;
    Trouble {
        subject: "audit log".to_owned(),
        what: format!("The audit log has filled a file within {hours} h and begun the next one"),
        advice: "Look there who does so much; four files are kept, and the oldest entries go first: download what must be kept".to_owned(),
        severity: if is_fast { Severity::Warning } else { Severity::Info },
        since_us: at_us,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_filled_within_hours_is_a_warning_and_one_of_years_a_word() {
        let fast = trouble(PutAside { at_us: 5 * HOUR_US, since_us: HOUR_US });
        assert_eq!(fast.severity, Severity::Warning);
        assert!(fast.what.contains("within 5 h"), "{}", fast.what);
        let slow = trouble(PutAside { at_us: 9_000 * HOUR_US, since_us: 0 });
        assert_eq!(slow.severity, Severity::Info);
    }
}
