//! Readings and records as tables: a line each, fields as RFC 4180 wants them.

use super::views::{RecordView, RecordWhat};
use crate::block::columns::ReadingRow;
use crate::reading::{UnixMicros, Value};
use crate::site::PointKey;
use std::io::{self, Write};

/// The first line of a table of readings.
pub const READINGS_HEAD: &str =
    "seq,received_at,observed_at,device,point,value,unit,quality,flags,anomaly,no_data,source";

/// The first line of a table of records.
pub const RECORDS_HEAD: &str = "seq,at,kind,severity,subject,rule,message,position,count,first,last,value,raw_hex";

/// A time for people and files, in UTC; times beyond the years 0 to 9999 become their number.
#[must_use]
pub fn time_text(time_us: UnixMicros) -> String {
    jiff::Timestamp::from_microsecond(time_us).map_or_else(|_| time_us.to_string(), |time| format!("{time:.6}"))
}

/// Writes a reading.
///
/// # Errors
/// What the writer says.
pub fn put_reading(row: &ReadingRow, key: &PointKey, out: &mut impl Write) -> io::Result<()> {
    let reading = &row.reading;
    let (value, no_data) = match &reading.outcome {
        Ok(Value::Number(number)) => (number.to_string(), ""),
        Ok(Value::Integer(integer)) => (integer.to_string(), ""),
        Ok(Value::Boolean(boolean)) => (boolean.to_string(), ""),
        Ok(Value::Text(text)) => (quoted(text), ""),
        Err(absence) => (String::new(), absence.name()),
    };
    let flags: Vec<&str> = reading.flags.names().collect();
    let anomaly = if reading.score.0 == 0 { String::new() } else { format!("{:.4}", reading.score.as_unit()) };
    writeln!(
        out,
        "{},{},{},{},{},{value},{},{},{},{anomaly},{no_data},{}",
        row.sequence,
        time_text(row.received_at_us),
        reading.observed_at_us.map(time_text).unwrap_or_default(),
        quoted(&key.device),
        quoted(&key.point),
        quoted(&key.unit),
        reading.quality.name(),
        flags.join(" "),
        quoted(&key.source),
    )
}

/// Writes an alert, a dead letter, a gap or what was missed.
///
/// # Errors
/// What the writer says.
pub fn put_record(record: &RecordView, out: &mut impl Write) -> io::Result<()> {
    let number = |value: Option<u64>| value.map(|value| value.to_string()).unwrap_or_default();
    let (kind, severity, rule, position) = match &record.what {
        RecordWhat::Alert { rule, severity, raised, .. } => {
            (if *raised { "alert" } else { "alert_over" }, *severity, rule.as_str(), "")
        }
        RecordWhat::DeadLetter { rule, position, .. } => ("dead_letter", "", rule.as_str(), position.as_str()),
        RecordWhat::Gap { .. } => ("gap", "", "", ""),
        RecordWhat::Missed { position, .. } => ("missed", "", "", position.as_str()),
    };
    let (count, first, last) = match &record.what {
        RecordWhat::Gap { count, first, last, .. } => (Some(*count), Some(*first), Some(*last)),
        RecordWhat::Missed { count, .. } => (Some(*count), None, None),
        RecordWhat::Alert { .. } | RecordWhat::DeadLetter { .. } => (None, None, None),
    };
    let (value, raw) = match &record.what {
        RecordWhat::Alert { value: Some(value), .. } => (value.to_string(), ""),
        RecordWhat::DeadLetter { raw, .. } => (String::new(), raw.hex.as_str()),
        _ => (String::new(), ""),
    };
    writeln!(
        out,
        "{},{},{kind},{severity},{},{},{},{},{},{},{},{value},{raw}",
        record.sequence,
        time_text(record.at_us),
        quoted(record.subject()),
        quoted(rule),
        quoted(record.words()),
        quoted(position),
        number(count),
        number(first),
        number(last),
    )
}

/// A field in quotes where it holds a comma, a quote or a line end. What a spreadsheet would take for a formula stays a text:
/// names and payloads come from outside, and `=HYPERLINK(…)` in one must do nothing on somebody's desk.
fn quoted(text: &str) -> String {
    let guard = if text.starts_with(['=', '+', '-', '@', '\t']) && text.parse::<f64>().is_err() { "'" } else { "" };
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{guard}{}\"", text.replace('"', "\"\""))
    } else {
        format!("{guard}{text}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_quoted_where_they_must_be() {
        assert_eq!(quoted("boiler-3"), "boiler-3");
        assert_eq!(quoted("a,b"), "\"a,b\"");
        assert_eq!(quoted("say \"no\"\n"), "\"say \"\"no\"\"\n\"");
    }

    #[test]
    fn a_name_from_outside_is_no_formula_in_a_spreadsheet() {
        assert_eq!(quoted("=1+1"), "'=1+1");
        assert_eq!(quoted("@SUM(A1,A2)"), "\"'@SUM(A1,A2)\"");
        assert_eq!(quoted("-12.5"), "-12.5");
    }
}
