//! A stream as a file, piece by piece: a piece is made when the reader takes it, so that a slow reader holds nothing up.

use super::csv::{READINGS_HEAD, RECORDS_HEAD, put_reading, put_record};
use super::locate::part_between;
use super::records::RecordFilter;
use super::tail::CALL_BLOCKS;
use super::views::RecordView;
use super::{History, HistoryError};
use crate::block::Block;
use crate::block::columns::ReadingRow;
use crate::reading::{PointId, Sequence, SequenceRange, Stream, UnixMicros};
use crate::sinks::encode::{RENDER_VERSION, RenderContext, Renderer, View};
use crate::sinks::route::Route;
use crate::site::{DeviceTags, PointPattern};
use bytes::Bytes;
use futures_util::stream;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;

/// How an export is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ExportFormat {
    /// One JSON object a line, as sinks get them.
    #[default]
    Ndjson,
    /// A table; the first line names the columns.
    Csv,
}

/// What is exported.
#[derive(Clone, Debug, Default)]
pub struct ExportRequest {
    /// Which records; for readings only the times count.
    pub filter: RecordFilter,
    /// Only these readings' points; all, if there is no pattern.
    pub points: Vec<PointPattern>,
    /// Only this point's readings, whatever the patterns.
    pub only: Option<PointId>,
    /// How it is written.
    pub format: ExportFormat,
    /// The tags of the devices, which stand in readings as JSON.
    pub tags: Arc<DeviceTags>,
}

/// An export under way.
struct Work {
    history: History,
    stream: Stream,
    request: ExportRequest,
    from_us: UnixMicros,
    to_us: UnixMicros,
    parts: VecDeque<SequenceRange>,
    at: Sequence,
    renderer: Renderer,
    head: Option<&'static str>,
    _turn: OwnedSemaphorePermit,
}

impl History {
    /// The records of a stream in ascending order, in pieces of at most sixteen blocks (about 4 MiB as JSON). It takes the turn of a
    /// heavy read until it is dropped. An error ends it: what came before is whole lines.
    ///
    /// # Errors
    /// If others read already, a time makes no sense, or the disk fails.
    pub async fn export(
        &self,
        stream: Stream,
        request: ExportRequest,
    ) -> Result<impl stream::Stream<Item = Result<Bytes, HistoryError>> + Send + use<>, HistoryError> {
        if matches!(stream, Stream::Raw | Stream::Aggregates) {
            return Err(HistoryError::Request(format!("{stream} cannot be exported")));
        }
        let from_us = request.filter.from_us.unwrap_or(UnixMicros::MIN);
        let to_us = request.filter.to_us.unwrap_or(UnixMicros::MAX);
        if from_us > to_us {
            return Err(HistoryError::Request("the export ends before it begins; swap from and to".to_owned()));
        }
        let turn = self.turn().await?;
        let mut parts = VecDeque::new();
        let stretches = self.buffer.stretches_between(stream, from_us, to_us).await?;
        let last = stretches.len().saturating_sub(1);
        for (number, stretch) in stretches.into_iter().enumerate() {
            let is_edge = (number == 0 && from_us > UnixMicros::MIN) || (number == last && to_us < UnixMicros::MAX);
            let part = if is_edge {
                part_between(&self.buffer, stream, stretch, from_us, to_us).await?
            } else {
                Some(stretch)
            };
            parts.extend(part);
        }
        let context = RenderContext {
            gateway: self.gateway.to_string(),
            epoch: self.epoch,
            view: View { tags: request.tags.clone(), route: Route::default() },
            registry: self.registry.clone(),
        };
        let renderer = Renderer::new(RENDER_VERSION, context)?;
        let head = match request.format {
            ExportFormat::Csv if stream == Stream::Readings => Some(READINGS_HEAD),
            ExportFormat::Csv => Some(RECORDS_HEAD),
            ExportFormat::Ndjson => None,
        };
        let at = parts.front().map_or(0, |part| part.first);
        let history = self.clone();
        let work = Work { history, stream, request, from_us, to_us, parts, at, renderer, head, _turn: turn };
        Ok(stream::try_unfold(work, |mut work| async move {
            let piece = work.next().await?;
            Ok(piece.map(|piece| (piece, work)))
        }))
    }
}

impl Work {
    /// The next piece that is not empty.
    async fn next(&mut self) -> Result<Option<Bytes>, HistoryError> {
        let mut out = Vec::new();
        if let Some(head) = self.head.take() {
            out.extend_from_slice(head.as_bytes());
            out.push(b'\n');
        }
        while let Some(part) = self.parts.front().copied() {
            let blocks = self.history.buffer.blocks(self.stream, self.at, CALL_BLOCKS).await?;
            let end = blocks.last().map(|block| block.range.last);
            for block in blocks.iter().filter(|block| block.range.first <= part.last) {
                self.put_block(block, part, &mut out)?;
            }
            match end {
                Some(end) if end < part.last => self.at = end.saturating_add(1),
                _ => {
                    self.parts.pop_front();
                    self.at = self.parts.front().map_or(0, |part| part.first);
                }
            }
            if !out.is_empty() {
                return Ok(Some(out.into()));
            }
        }
        Ok((!out.is_empty()).then(|| out.into()))
    }

    fn put_block(&mut self, block: &Block, part: SequenceRange, out: &mut Vec<u8>) -> Result<(), HistoryError> {
        if block.meta.first_time_us > self.to_us || block.meta.last_time_us < self.from_us {
            return Ok(());
        }
        // A block that cannot be read is in the books as a gap; the file has what is left.
        if self.stream == Stream::Readings {
            let mut rows = block.readings().unwrap_or_default();
            rows.retain(|row| (part.first..=part.last).contains(&row.sequence) && self.wants(row));
            if self.request.format == ExportFormat::Csv {
                for row in &rows {
                    if let Some(key) = self.history.registry.key(row.reading.point) {
                        put_reading(row, &key, out).unwrap_or_default();
                    }
                }
                return Ok(());
            }
            let wanted: Vec<Sequence> = rows.iter().map(|row| row.sequence).collect();
            return self.put_json(block, &wanted, out);
        }
        let mut wanted = Vec::new();
        for numbered in block.records().unwrap_or_default() {
            let sequence = numbered.sequence;
            let view = RecordView::of(numbered);
            if !(part.first..=part.last).contains(&sequence) || !self.request.filter.wants(&view) {
                continue;
            }
            if self.request.format == ExportFormat::Csv {
                put_record(&view, out).unwrap_or_default();
            } else {
                wanted.push(sequence);
            }
        }
        self.put_json(block, &wanted, out)
    }

    fn put_json(&mut self, block: &Block, wanted: &[Sequence], out: &mut Vec<u8>) -> Result<(), HistoryError> {
        for stretch in stretches(wanted) {
            for record in self.renderer.render_block(block, stretch)? {
                out.extend_from_slice(&record.json);
                out.push(b'\n');
            }
        }
        Ok(())
    }

    fn wants(&self, row: &ReadingRow) -> bool {
        (self.from_us..=self.to_us).contains(&row.received_at_us) && self.names(row.reading.point)
    }

    fn names(&self, point: PointId) -> bool {
        if let Some(only) = self.request.only {
            return only == point;
        }
        let matches = |pattern: &PointPattern| {
            self.history.registry.key(point).is_some_and(|key| pattern.matches(&key.device, &key.point))
        };
        self.request.points.is_empty() || self.request.points.iter().any(matches)
    }
}

/// Sequences in ascending order as ranges.
#[must_use]
pub fn stretches(wanted: &[Sequence]) -> Vec<SequenceRange> {
    let mut stretches: Vec<SequenceRange> = Vec::new();
    for sequence in wanted.iter().copied() {
        match stretches.last_mut() {
            Some(stretch) if stretch.last.checked_add(1) == Some(sequence) => stretch.last = sequence,
            _ => stretches.push(SequenceRange { first: sequence, last: sequence }),
        }
    }
    stretches
}
