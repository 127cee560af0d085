//! A JSON document: value and time by JSON pointer.

use super::{DecodeError, Decoded, excerpt, finite};
use crate::reading::{NoData, Outcome, TEXT_BYTES_MAX, UnixMicros, Value};
use serde_json::Value as Json;

/// Unix times below this are seconds: 10^11 s is the year 5138, 10^11 ms was March 1973.
const SECONDS_BELOW: f64 = 1e11;
/// Unix times below this are milliseconds, by the same reasoning.
const MILLISECONDS_BELOW: f64 = 1e14;
/// Unix times below this are microseconds; above stands no time of ours.
const MICROSECONDS_BELOW: f64 = 1e17;

pub(super) fn decode(bytes: &[u8], value: &str, time: Option<&str>) -> Result<Decoded, DecodeError> {
    // serde_json stops at 128 levels of nesting.
    let document: Json = serde_json::from_slice(bytes).map_err(|error| DecodeError::NotJson(error.to_string()))?;
    let found = document.pointer(value).ok_or_else(|| DecodeError::Missing(value.to_owned()))?;
    let outcome = outcome(found, value)?;
    let stamp = time.and_then(|pointer| document.pointer(pointer)).filter(|stamp| !stamp.is_null());
    Ok(Decoded { outcome, observed_at_us: stamp.map(unix_micros).transpose()? })
}

fn outcome(json: &Json, pointer: &str) -> Result<Outcome, DecodeError> {
    let not_scalar = |found| DecodeError::NotScalar { pointer: pointer.to_owned(), found };
    match json {
        Json::Null => Ok(Err(NoData::NotAvailable)),
        Json::Bool(on) => Ok(Ok(Value::Boolean(*on))),
        Json::Number(number) => Ok(match number.as_i64() {
            Some(integer) => Ok(Value::Integer(integer)),
            None => finite(number.as_f64().unwrap_or(f64::NAN)),
        }),
        Json::String(text) if text.len() > TEXT_BYTES_MAX => Err(DecodeError::TextTooLong(text.len())),
        Json::String(text) => Ok(Ok(Value::Text(text.as_str().into()))),
        Json::Array(_) => Err(not_scalar("array")),
        Json::Object(_) => Err(not_scalar("object")),
    }
}

/// RFC 3339 text, or a Unix time whose unit its magnitude tells.
fn unix_micros(json: &Json) -> Result<UnixMicros, DecodeError> {
    let refuse = || DecodeError::BadTime(excerpt(json.to_string().as_bytes()));
    match json {
        Json::String(text) => text.parse().map(jiff::Timestamp::as_microsecond).map_err(|_| refuse()),
        Json::Number(number) => number.as_f64().and_then(scaled_to_micros).ok_or_else(refuse),
        _ => Err(refuse()),
    }
}

/// A double holds microseconds exactly until the year 2255 (2^53 µs).
#[expect(clippy::cast_possible_truncation, reason = "below 10^17 in magnitude, which an i64 holds")]
fn scaled_to_micros(time: f64) -> Option<UnixMicros> {
    let micros_per_unit = match time.abs() {
        size if size < SECONDS_BELOW => 1e6,
        size if size < MILLISECONDS_BELOW => 1e3,
        size if size < MICROSECONDS_BELOW => 1.0,
        _ => return None,
    };
    Some((time * micros_per_unit).round() as UnixMicros)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn outcome_of(document: &str, pointer: &str) -> Result<Outcome, DecodeError> {
        decode(document.as_bytes(), pointer, None).map(|decoded| decoded.outcome)
    }

    #[test]
    fn every_kind_of_value_is_taken_from_where_the_pointer_says() {
        let document =
            r#"{"a":{"b":[71.5,-3]},"on":true,"none":null,"mode":"auto","x/y":1,"big":18446744073709551615}"#;
        let cases: [(&str, Outcome); 7] = [
            ("/a/b/0", Ok(Value::Number(71.5))),
            ("/a/b/1", Ok(Value::Integer(-3))),
            ("/on", Ok(Value::Boolean(true))),
            ("/none", Err(NoData::NotAvailable)),
            ("/mode", Ok(Value::Text("auto".into()))),
            ("/x~1y", Ok(Value::Integer(1))),
            ("/big", Ok(Value::Number(18_446_744_073_709_551_615.0))),
        ];
        for (pointer, outcome) in cases {
            assert_eq!(outcome_of(document, pointer).unwrap(), outcome, "{pointer}");
        }
        assert_eq!(outcome_of("71.5", "").unwrap(), Ok(Value::Number(71.5)));
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert!(outcome_of(r#"{"v":1}"#, "/value").unwrap_err().to_string().contains("\"/value\""));
        assert!(outcome_of(r#"{"v":[1]}"#, "/v").unwrap_err().to_string().contains("array"));
        assert!(outcome_of(r#"{"v":1"#, "/v").unwrap_err().to_string().contains("column"));
        let long = format!("\"{}\"", "x".repeat(TEXT_BYTES_MAX + 1));
        assert_eq!(outcome_of(&long, ""), Err(DecodeError::TextTooLong(TEXT_BYTES_MAX + 1)));
        assert!(matches!(outcome_of(&"[".repeat(100_000), ""), Err(DecodeError::NotJson(_))));
    }

    #[test]
    fn the_time_is_read_in_every_usual_form() {
        let expected = 1_795_168_800_123_000;
        for time in [
            "\"2026-11-20T10:00:00.123Z\"",
            "\"2026-11-20T11:00:00.123+01:00\"",
            "1795168800.123",
            "1795168800123",
            "1795168800123000",
        ] {
            let document = format!("{{\"v\":1,\"t\":{time}}}");
            let decoded = decode(document.as_bytes(), "/v", Some("/t")).unwrap();
            assert_eq!(decoded.observed_at_us, Some(expected), "{time}");
        }
    }

    #[test]
    fn a_message_without_a_time_is_taken_and_one_with_a_wrong_time_refused() {
        assert_eq!(decode(b"{\"v\":1}", "/v", Some("/t")).unwrap().observed_at_us, None);
        assert_eq!(decode(b"{\"v\":1,\"t\":null}", "/v", Some("/t")).unwrap().observed_at_us, None);
        for time in ["\"yesterday\"", "1e18", "true"] {
            let document = format!("{{\"v\":1,\"t\":{time}}}");
            assert!(decode(document.as_bytes(), "/v", Some("/t")).unwrap_err().to_string().contains("is not a time"));
        }
    }
}
