//! What a verifier reads of a record; everything else is passed over.

use crate::reading::SequenceRange;
use serde::Deserialize;
use std::borrow::Cow;

/// The version of the format that is understood.
const VERSION: u64 = 1;

/// Why a record cannot be counted.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// It is no JSON object of this format.
    #[error("it is no record of this format: {0}")]
    Json(#[from] serde_json::Error),
    /// A newer program wrote it.
    #[error("it is of version {0}, this program knows version {VERSION}: update it")]
    Version(u64),
    /// A field makes no sense.
    #[error("field `{field}` makes no sense: {value:?}")]
    Field {
        /// The field.
        field: &'static str,
        /// What it holds.
        value: String,
    },
    /// The input has more of something than any stream of ours.
    #[error("more than {max} {what}: the input is no stream of this kind, or far out of order; verify it in parts")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        max: usize,
    },
}

/// The fields that matter.
#[derive(Debug, Deserialize)]
pub(super) struct Line<'a> {
    v: u64,
    pub(super) gateway: String,
    pub(super) epoch: String,
    pub(super) seq: u64,
    #[serde(borrow)]
    batch: Cow<'a, str>,
    pub(super) batch_records: Option<u64>,
    #[serde(borrow)]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) device: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) lane: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) replay: Option<Cow<'a, str>>,
    /// Whether it is the record of a try-out, which is of no stream.
    #[serde(default)]
    pub(super) test: bool,
    #[serde(borrow)]
    source: Option<Cow<'a, str>>,
    #[serde(borrow)]
    position: Option<Cow<'a, str>>,
    #[serde(borrow)]
    stream: Option<Cow<'a, str>>,
    #[serde(borrow)]
    reason: Option<Cow<'a, str>>,
    first: Option<u64>,
    last: Option<u64>,
    #[serde(default, borrow)]
    sinks: Vec<SinkLoss<'a>>,
}

/// What a gap tells.
#[derive(Debug)]
pub(super) struct Loss<'a> {
    /// The stream that lost something.
    pub(super) stream: &'a str,
    /// What it lost.
    pub(super) ranges: Vec<SequenceRange>,
    /// Why.
    pub(super) reason: &'a str,
}

#[derive(Debug, Deserialize)]
struct SinkLoss<'a> {
    #[serde(borrow)]
    sink: Cow<'a, str>,
    first: u64,
    last: u64,
}

impl<'a> Line<'a> {
    /// Reads one record.
    pub(super) fn parse(json: &'a [u8]) -> Result<Self, RecordError> {
        let line: Self = serde_json::from_slice(json)?;
        if line.v == VERSION { Ok(line) } else { Err(RecordError::Version(line.v)) }
    }

    /// The stream and the sequences of its batch.
    pub(super) fn batch_range(&self) -> Result<(&str, SequenceRange), RecordError> {
        let parsed = self.batch.split_once('/').and_then(|(stream, range)| {
            let (first, last) = range.split_once('-')?;
            Some((stream, range_of(first.parse().ok()?, last.parse().ok()?)?))
        });
        let wrong = || RecordError::Field { field: "batch", value: self.batch.to_string() };
        parsed.filter(|(_, range)| (range.first..=range.last).contains(&self.seq)).ok_or_else(wrong)
    }

    /// Of a gap: the stream, what was lost (for `sink`, or for any), and why.
    pub(super) fn gap(&self, sink: Option<&str>) -> Result<Option<Loss<'_>>, RecordError> {
        if self.kind.as_deref() != Some("gap") {
            return Ok(None);
        }
        let (Some(stream), Some(reason), Some(first), Some(last)) = (&self.stream, &self.reason, self.first, self.last)
        else {
            return Err(RecordError::Field { field: "stream, reason, first, last", value: "missing".to_owned() });
        };
        let whole = (first, last);
        let of_sink = self.sinks.iter().filter(|loss| sink == Some(&loss.sink)).map(|loss| (loss.first, loss.last));
        let lost: Vec<_> = if sink.is_some() { of_sink.collect() } else { vec![whole] };
        let wrong = || RecordError::Field { field: "first, last", value: format!("{first}, {last}") };
        let ranges = lost.into_iter().map(|(first, last)| range_of(first, last).ok_or_else(wrong));
        Ok(Some(Loss { stream, ranges: ranges.collect::<Result<_, _>>()?, reason }))
    }

    /// Of a dead letter that a sink's refusal made: the stream and the sequence that it refused.
    pub(super) fn refusal(&self, sink: Option<&str>) -> Option<(&str, u64)> {
        let refused_by = self.source.as_deref()?.strip_prefix("sink/")?;
        if self.kind.as_deref() != Some("dead_letter") || sink.is_some_and(|sink| sink != refused_by) {
            return None;
        }
        let (stream, sequence) = self.position.as_deref()?.split_once('/')?;
        Some((stream, sequence.parse().ok()?))
    }
}

/// `None` if the last comes before the first.
fn range_of(first: u64, last: u64) -> Option<SequenceRange> {
    (first <= last).then_some(SequenceRange { first, last })
}
