//! Times on the command line: RFC 3339, or how long ago.

use crate::reading::UnixMicros;
use crate::units::HumanDuration;
use anyhow::{Result, anyhow};

/// Reads `2026-11-20T10:00:00Z`, `2 h ago` or `now`.
///
/// # Errors
/// If it is none of them.
pub(super) fn parse(text: &str, now_us: UnixMicros) -> Result<UnixMicros> {
    let text = text.trim();
    if text == "now" {
        return Ok(now_us);
    }
    if let Some(ago) = text.strip_suffix("ago") {
        let duration: HumanDuration = ago.trim().parse().map_err(|error| anyhow!("{text:?} is no time: {error}"))?;
        return Ok(now_us.saturating_sub(i64::try_from(duration.0.as_micros()).unwrap_or(i64::MAX)));
    }
    text.parse::<jiff::Timestamp>().map(jiff::Timestamp::as_microsecond).map_err(|_| {
        anyhow!(
            "{text:?} is no time; write 2026-11-20T10:00:00Z (with Z or an offset such as +01:00), \"2 h ago\" or now"
        )
    })
}

pub(super) use crate::history::time_text as show;

/// A time for tables: to the second.
pub(super) fn show_second(time_us: UnixMicros) -> String {
    jiff::Timestamp::from_microsecond(time_us).map_or_else(|_| time_us.to_string(), |time| format!("{time:.0}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        let now_us = 1_790_000_000_000_000;
        assert_eq!(parse("now", now_us).unwrap(), now_us);
        assert_eq!(parse(" 2 h ago ", now_us).unwrap(), now_us - 7_200_000_000);
        assert_eq!(parse("2026-09-21T14:13:20.5Z", now_us).unwrap(), now_us + 500_000);
        assert_eq!(parse("2026-09-21T16:13:20+02:00", now_us).unwrap(), now_us);
    }

    #[test]
    fn what_is_no_time_is_told_with_what_would_be_one() {
        for text in ["", "yesterday", "2 parsecs ago", "2026-09-21", "2026-13-01T00:00:00Z", "ago"] {
            let told = parse(text, 0).unwrap_err().to_string();
            assert!(told.contains("is no time"), "{told}");
        }
    }
}
