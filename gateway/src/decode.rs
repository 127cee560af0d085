//! Payload formats: bytes to values and times. Total: any bytes give values or an error, never a panic.

mod json;
mod number;

use crate::reading::{NoData, Outcome, TEXT_BYTES_MAX, UnixMicros, Value};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Largest payload that is decoded, in bytes: a parsed document takes up to 16 times its text.
pub const PAYLOAD_BYTES_MAX: usize = 1024 * 1024;

/// How a payload is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "format", rename_all = "lowercase", deny_unknown_fields)]
pub enum Payload {
    /// A JSON document; where value and time stand is told by JSON pointers (RFC 6901).
    Json {
        /// Where the value stands; empty for the whole document.
        #[serde(default)]
        value: String,
        /// Where the device's own time stands: RFC 3339 text, or Unix time in seconds, milliseconds or microseconds
        /// (told apart by magnitude). A message without it is taken, without a time of its own.
        #[serde(default)]
        time: Option<String>,
    },
    /// The whole payload is one number, or `true`, `false`, `on`, `off`.
    Number {},
}

impl Payload {
    /// The format's name, as rules of dead letters name it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Json { .. } => "json",
            Self::Number {} => "number",
        }
    }

    /// What is wrong with the options: path within them, and message.
    #[must_use]
    pub fn problems(&self) -> Vec<(String, String)> {
        let Self::Json { value, time } = self else { return Vec::new() };
        let pointers = [("value", Some(value)), ("time", time.as_ref())];
        let wrong = |pointer: &&String| !pointer.is_empty() && !pointer.starts_with('/');
        let problems = pointers.into_iter().filter_map(|(key, pointer)| Some((key, pointer.filter(wrong)?)));
        problems
            .map(|(key, pointer)| {
                (key.to_owned(), format!("JSON pointer {pointer:?} must start with a slash: write \"/{pointer}\""))
            })
            .collect()
    }
}

/// What a payload says.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// The value, or why there is none.
    pub outcome: Outcome,
    /// The device's own time, where it sends one.
    pub observed_at_us: Option<UnixMicros>,
}

/// Why bytes are not a value.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DecodeError {
    /// Too many bytes.
    #[error("payload of {0} bytes is longer than {PAYLOAD_BYTES_MAX} bytes")]
    TooLong(usize),
    /// Not JSON.
    #[error("payload is not JSON: {0}")]
    NotJson(String),
    /// Nothing stands where the value should be.
    #[error("there is nothing at {0:?}; check the JSON pointer `value`")]
    Missing(String),
    /// An array or object stands where the value should be.
    #[error("at {pointer:?} stands an {found}; `value` must point to a number, switch or text")]
    NotScalar {
        /// Where.
        pointer: String,
        /// What stands there.
        found: &'static str,
    },
    /// A text value is too long.
    #[error("text value of {0} bytes is longer than {TEXT_BYTES_MAX} bytes")]
    TextTooLong(usize),
    /// The device's time is not a time.
    #[error("{0} is not a time: use RFC 3339 text, or Unix time in seconds, milliseconds or microseconds")]
    BadTime(String),
    /// Not a number or switch.
    #[error("{0:?} is not a number, `true`, `false`, `on` or `off`")]
    NotNumber(String),
}

/// Decodes a payload. Pure; reads neither clock nor state.
///
/// # Errors
/// If the bytes are not what the format says.
pub fn payload(format: &Payload, bytes: &[u8]) -> Result<Decoded, DecodeError> {
    if bytes.len() > PAYLOAD_BYTES_MAX {
        return Err(DecodeError::TooLong(bytes.len()));
    }
    match format {
        Payload::Json { value, time } => json::decode(bytes, value, time.as_deref()),
        Payload::Number {} => Ok(Decoded { outcome: number::decode(bytes)?, observed_at_us: None }),
    }
}

/// Decodes one number or switch in text, as it stands on a line or between separators.
///
/// # Errors
/// If the text is neither.
pub fn number(text: &[u8]) -> Result<Outcome, DecodeError> {
    number::decode(text)
}

/// A number as an outcome.
///
/// # Errors
/// NaN and infinities are no value.
pub fn finite(number: f64) -> Outcome {
    if number.is_finite() { Ok(Value::Number(number)) } else { Err(NoData::NotFinite) }
}

/// At most 40 characters of bytes from outside, for an error's words.
fn excerpt(bytes: &[u8]) -> String {
    // 160 bytes hold at least 40 characters of UTF-8.
    String::from_utf8_lossy(bytes.get(..160).unwrap_or(bytes)).chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_payload_above_the_limit_is_refused_with_its_size() {
        let bytes = vec![b'1'; PAYLOAD_BYTES_MAX + 1];
        let error = payload(&Payload::Number {}, &bytes).unwrap_err();
        assert!(error.to_string().contains("1048577"));
    }

    #[test]
    fn a_pointer_without_slash_is_told_how_to_be_written() {
        let problems = Payload::Json { value: "temp".into(), time: Some("/ts".into()) }.problems();
        assert_eq!(problems.len(), 1);
        assert!(problems[0].1.contains("\"/temp\""));
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_value_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let formats = [
                Payload::Number {},
                Payload::Json { value: String::new(), time: None },
                Payload::Json { value: "/a/0/~1b".into(), time: Some("/t".into()) },
            ];
            for format in formats {
                if let Ok(Decoded { outcome: Ok(Value::Number(number)), .. }) = payload(&format, &bytes) {
                    prop_assert!(number.is_finite());
                }
            }
        }

        #[test]
        fn any_json_time_gives_a_time_or_an_error(time in "[-0-9TZ:.+e\" ]{0,40}") {
            let document = format!("{{\"v\":1,\"t\":{time}}}");
            let format = Payload::Json { value: "/v".into(), time: Some("/t".into()) };
            drop(payload(&format, document.as_bytes()));
        }

        #[test]
        fn every_finite_number_survives_its_text(number in proptest::num::f64::NORMAL) {
            let decoded = payload(&Payload::Number {}, format!("{number:e}").as_bytes()).unwrap();
            prop_assert_eq!(decoded.outcome, Ok(Value::Number(number)));
        }
    }
}
