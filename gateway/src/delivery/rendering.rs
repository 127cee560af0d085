//! Rendering: what a node of a run looks like upstream, and what a refused record becomes.

use super::{Delivery, DeliveryOptions, Rendering, Setback};
use crate::block::records::{self, DeadLetter, Gap, GapReason, RawBytes, Record, RecordBody};
use crate::buffer::Run;
use crate::reading::{Sequence, SequenceRange, Stream};
use crate::sinks::encode::{RenderContext, Renderer};
use crate::sinks::{Rendered, Sink};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

impl<S: Sink> Delivery<S> {
    /// The records of a node: a pure function of the run and its pinned configuration.
    pub(super) async fn render(
        &mut self,
        index: usize,
        run: &Run,
        node: SequenceRange,
    ) -> Result<Vec<Rendered>, Setback> {
        if !self.renderers.contains_key(&run.config_version) {
            let renderer = self.renderer(index, run).await?;
            let present = self.config_version();
            self.renderers.retain(|version, _| *version == present);
            self.renderers.insert(run.config_version, renderer);
        }
        let blocks = self.lanes.get(index).map(|work| work.blocks.as_slice()).unwrap_or_default();
        let Some(renderer) = self.renderers.get_mut(&run.config_version) else { return Ok(Vec::new()) };
        match renderer.render(run.range, node, blocks) {
            Ok(records) => {
                let bytes: usize = records.iter().map(|record| record.json.len()).sum();
                if !records.is_empty() {
                    self.record_bytes = 0.5 * self.record_bytes + 0.5 * (bytes as f64 / records.len() as f64);
                }
                Ok(records)
            }
            Err(error) => Err(self.paused(index, &error.to_string())),
        }
    }

    async fn renderer(&mut self, index: usize, run: &Run) -> Result<Renderer, Setback> {
        let Rendering { config_version, mut tags } = self.options.rendering.borrow().clone();
        if run.config_version != config_version {
            let text = self.options.buffer.config(run.config_version).await.map_err(|error| self.disk(&error))?;
            if let Some(older) = text.as_deref().and_then(|text| (self.options.tags_of)(text)) {
                tags = Arc::new(older);
            } else {
                let version = run.config_version;
                tracing::warn!(version, "an older configuration cannot be read; the present tags are used");
            }
        }
        let context = RenderContext {
            gateway: self.options.gateway.clone(),
            epoch: self.options.epoch,
            tags,
            registry: self.options.registry.clone(),
        };
        Renderer::new(run.render_version, context).map_err(|error| self.paused(index, &error.to_string()))
    }

    /// What refused records become: dead letters; a refused dead letter becomes a gap.
    pub(super) async fn refusals(&mut self, index: usize, sequences: &[Sequence], reason: &str) -> Vec<Record> {
        let Some(stream) = self.lanes.get(index).map(|work| work.stream) else { return Vec::new() };
        let mut records = Vec::new();
        for sequence in sequences {
            let range = SequenceRange { first: *sequence, last: *sequence };
            let now_us = self.options.clock.tick().wall_us;
            let DeliveryOptions { name, epoch, .. } = &self.options;
            let id = xxh3_64(format!("{name}/{epoch}/{stream}/{sequence}").as_bytes());
            if stream == Stream::DeadLetters {
                let gap = Gap {
                    stream,
                    range,
                    first_time_us: now_us,
                    last_time_us: now_us,
                    reason: GapReason::RefusedDeadLetter,
                    sinks: vec![(name.clone(), range)],
                    in_flight: false,
                };
                records.push(Record { id, time_us: now_us, body: RecordBody::Gap(gap) });
                continue;
            }
            let letter = DeadLetter {
                source: format!("sink/{name}"),
                position: format!("{stream}/{sequence}"),
                error: reason.to_owned(),
                rule: "sink".to_owned(),
                config_version: self.config_version(),
                raw: Vec::new(),
                part: 0,
                parts: 1,
                raw_bytes: 0,
                raw_sha256: None,
                message_hash: 0,
            };
            // If it cannot be read any more, the dead letter still says which one it was and why.
            let raw = self.raw_of(index, range).await.unwrap_or_default();
            records.extend(records::dead_letters(id, now_us, &letter, &RawBytes::of(&raw)));
        }
        records
    }

    /// A refused record as it was offered.
    async fn raw_of(&mut self, index: usize, range: SequenceRange) -> Result<Vec<u8>, Setback> {
        let Some(run) = self.lanes.get(index).and_then(|work| work.lane.run.clone()) else { return Ok(Vec::new()) };
        self.load_blocks(index, run.range).await?;
        let rendered = self.render(index, &run, range).await?;
        Ok(rendered.first().map(|record| record.json.to_vec()).unwrap_or_default())
    }
}
