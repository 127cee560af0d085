//! What is asked of a list of records, in the address of a screen or of the interface.

use crate::history::RecordFilter;
use crate::reading::{Sequence, UnixMicros};
use crate::web::failure::Failure;
use crate::web::pages;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::Deserialize;

/// Longest filter that is used, in characters.
pub(in crate::web) const FILTER_CHARS_MAX: usize = 128;

/// What a form on the page sends. Its fields are texts, since an empty field is sent, too.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::web) struct Ask {
    /// A text that stands in the record.
    pub(in crate::web) text: String,
    /// The source, sink or point that it is about.
    pub(in crate::web) source: String,
    /// Not before this time in UTC, as a form sends it: `2026-11-20T13:24`.
    pub(in crate::web) from: String,
    /// Not after it.
    pub(in crate::web) to: String,
    /// Only records below this sequence.
    pub(in crate::web) before: String,
    /// How an export is written: `csv`, else `ndjson`.
    pub(in crate::web) format: String,
}

impl Ask {
    /// The filter.
    ///
    /// # Errors
    /// If a time is none.
    pub(in crate::web) fn filter(&self) -> Result<RecordFilter, Failure> {
        let (from_us, to_us) = (time(&self.from)?, time(&self.to)?);
        if let (Some(from_us), Some(to_us)) = (from_us, to_us)
            && from_us > to_us
        {
            return Err(Failure::bad("the time ends before it begins; swap from and to"));
        }
        // A form knows minutes: the last one counts to its end.
        let to_us = to_us.map(|to_us| to_us.saturating_add(59_999_999));
        Ok(RecordFilter { text: filled(&self.text), source: filled(&self.source), from_us, to_us })
    }

    /// Where the page begins.
    ///
    /// # Errors
    /// If it is no number.
    pub(in crate::web) fn before(&self) -> Result<Option<Sequence>, Failure> {
        let text = self.before.trim();
        let wrong = || Failure::bad(format!("before is {text:?}; use the number of a record"));
        if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(|_| wrong()) }
    }

    /// Whether anything narrows the list.
    pub(in crate::web) fn narrows(&self) -> bool {
        [&self.text, &self.source, &self.from, &self.to].iter().any(|text| !text.trim().is_empty())
    }

    /// An address with the same filter.
    pub(in crate::web) fn address(&self, root: &str, more: &[(&str, &str)]) -> String {
        let mut pairs =
            vec![("text", self.text.as_str()), ("source", &self.source), ("from", &self.from), ("to", &self.to)];
        pairs.extend_from_slice(more);
        let query = pages::query(&pairs);
        if query.is_empty() { root.to_owned() } else { format!("{root}?{query}") }
    }
}

/// A text of a filter, if there is one.
pub(in crate::web) fn filled(text: &str) -> Option<String> {
    let text: String = text.trim().chars().take(FILTER_CHARS_MAX).collect();
    (!text.is_empty()).then_some(text)
}

fn time(text: &str) -> Result<Option<UnixMicros>, Failure> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let read = text.parse::<DateTime>().and_then(|at| at.to_zoned(TimeZone::UTC));
    let wrong = |_| Failure::bad(format!("{text:?} is no time; write it as 2026-11-20T13:24, in UTC"));
    read.map(|at| Some(at.timestamp().as_microsecond())).map_err(wrong)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn times_of_a_form_are_read_as_utc_and_nonsense_is_told() {
        assert_eq!(time("1970-01-01T00:01").unwrap(), Some(60_000_000));
        assert_eq!(time("").unwrap(), None);
        for text in ["yesterday", "2026-13-01T00:00", "\u{0}", "-999999-01-01T00:00"] {
            assert!(time(text).is_err(), "{text}");
        }
        let ask = Ask { from: "2026-11-20T13:24".into(), to: "2026-11-20T13:23".into(), ..Ask::default() };
        assert!(ask.filter().is_err());
    }
}
