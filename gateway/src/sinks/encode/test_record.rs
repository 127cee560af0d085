//! The record of a try-out: a reading like any other, but for its last field.

use super::selection::Part;
use super::{Batch, RENDER_VERSION, RenderContext, RenderError, Renderer, Selection, View};
use crate::block::columns::JudgedReading;
use crate::block::columns::ReadingRow;
use crate::clock::Tick;
use crate::reading::{AnomalyScore, Epoch, Flags, NO_HASH, Quality, SequenceRange, Stream, Value};
use crate::sinks::Rendered;
use crate::site::Registry;
use bytes::Bytes;
use std::sync::Arc;

/// The device that no plant has.
const DEVICE: &str = "forebay-test";
/// Its point.
const POINT: &str = "test";
/// What the last brace of the record becomes.
const MARK: &[u8] = b",\"test\":true}";

/// One reading of a made-up device, rendered as all are and marked with `"test":true`. `epoch` is one that no data directory
/// has, so that its sequence is none of a real stream.
///
/// # Errors
/// None in practice: its point is made here.
pub fn test_record(gateway: &str, epoch: Epoch, now: Tick) -> Result<Rendered, RenderError> {
    let registry = Registry::default();
    let unknown = |_| RenderError::UnknownPoint { point: crate::reading::PointId(0), sequence: 0 };
    let point = registry.intern(DEVICE, POINT, "", DEVICE).map_err(unknown)?;
    let reading = JudgedReading {
        point,
        outcome: Ok(Value::Integer(1)),
        observed_at_us: None,
        received_mono_us: now.mono_us,
        quality: Quality::Good,
        flags: Flags::default(),
        score: AnomalyScore::default(),
        message_hash: NO_HASH,
        note: None,
    };
    let row = ReadingRow { sequence: 0, reading, received_at_us: now.wall_us };
    let range = SequenceRange { first: 0, last: 0 };
    let batch = Batch { stream: Stream::Readings, covers: range, records: 1, lane: None, replay: None };
    let mut selection = Selection::default();
    selection.push(Part::Readings(now.quality, vec![row]));
    let context =
        RenderContext { gateway: gateway.to_owned(), epoch, view: View::default(), registry: Arc::new(registry) };
    let rendered = Renderer::new(RENDER_VERSION, context)?.render(&batch, range, &selection)?;
    let record = rendered.into_iter().next();
    let record = record.ok_or(RenderError::UnknownPoint { point, sequence: 0 })?;
    let mut json = record.json.strip_suffix(b"}").unwrap_or(&record.json).to_vec();
    json.extend_from_slice(MARK);
    Ok(Rendered { key: record.key, json: Bytes::from(json) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::reading::TimeQuality;

    #[test]
    fn the_test_record_is_a_reading_that_says_what_it_is() {
        let now = Tick { mono_us: 5, wall_us: 1_764_000_000_000_000, quality: TimeQuality::Ntp };
        let record = test_record("plant-7", Epoch(42), now).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&record.json).unwrap();
        assert_eq!(&*record.key, "forebay-test");
        for (field, expected) in [
            ("v", 1.into()),
            ("gateway", "plant-7".into()),
            ("epoch", format!("{:032x}", 42).into()),
            ("seq", 0.into()),
            ("device", "forebay-test".into()),
            ("point", "test".into()),
            ("value", 1.into()),
            ("quality", "good".into()),
            ("batch", "readings/0-0".into()),
            ("batch_records", 1.into()),
            ("test", serde_json::Value::from(true)),
        ] {
            assert_eq!(json[field], expected, "{field}");
        }
    }
}
