//! A number or a switch in text.

use super::{DecodeError, excerpt, finite};
use crate::reading::{Outcome, Value};

/// Longest text of a number, in bytes: every `f64` can be written in less, padding included.
const NUMBER_BYTES_MAX: usize = 512;

/// Whole numbers stay whole; `nan` and `inf` are no value.
pub(super) fn decode(bytes: &[u8]) -> Result<Outcome, DecodeError> {
    let refuse = || DecodeError::NotNumber(excerpt(bytes));
    if bytes.len() > NUMBER_BYTES_MAX {
        return Err(refuse());
    }
    let text = std::str::from_utf8(bytes).map_err(|_| refuse())?.trim();
    let switch = |on: &str, off: &str| {
        let is_on = text.eq_ignore_ascii_case(on);
        (is_on || text.eq_ignore_ascii_case(off)).then_some(is_on)
    };
    if let Some(on) = switch("true", "false").or_else(|| switch("on", "off")) {
        return Ok(Ok(Value::Boolean(on)));
    }
    if let Ok(integer) = text.parse::<i64>() {
        return Ok(Ok(Value::Integer(integer)));
    }
    text.parse::<f64>().map(finite).map_err(|_| refuse())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::reading::NoData;

    #[test]
    fn numbers_and_switches_are_read_with_space_around_them() {
        let cases: [(&str, Outcome); 8] = [
            (" 71.5\r\n", Ok(Value::Number(71.5))),
            ("-7", Ok(Value::Integer(-7))),
            ("1e3", Ok(Value::Number(1000.0))),
            ("9223372036854775808", Ok(Value::Number(9_223_372_036_854_775_808.0))),
            ("ON", Ok(Value::Boolean(true))),
            ("false", Ok(Value::Boolean(false))),
            ("NaN", Err(NoData::NotFinite)),
            ("1e999", Err(NoData::NotFinite)),
        ];
        for (text, outcome) in cases {
            assert_eq!(decode(text.as_bytes()).unwrap(), outcome, "{text}");
        }
    }

    #[test]
    fn what_is_not_a_number_is_shown() {
        for text in ["", "71,5", "0x10", "12 bar"] {
            assert!(decode(text.as_bytes()).unwrap_err().to_string().contains(text), "{text}");
        }
        assert!(decode(&[0xff; 1000]).unwrap_err().to_string().len() < 200);
    }
}
