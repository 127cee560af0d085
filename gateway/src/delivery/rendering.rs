//! Rendering: what a node of a run looks like upstream, and what a refused record becomes.

use super::{Delivery, DeliveryOptions, Setback};
use crate::block::Block;
use crate::block::records::{self, DeadLetter, Gap, GapReason, RawBytes, Record, RecordBody};
use crate::buffer::Run;
use crate::reading::{Sequence, SequenceRange, Stream};
use crate::sinks::encode::{Batch, RenderContext, Renderer, Selection, View};
use crate::sinks::{Rendered, Sink};
use xxhash_rust::xxh3::xxh3_64;

/// What records of a backlog say as their `lane`.
const HISTORY: &str = "history";

impl<S: Sink> Delivery<S> {
    /// The records of a node: a pure function of the run and its pinned configuration.
    pub(super) async fn render(
        &mut self,
        index: usize,
        run: &Run,
        node: SequenceRange,
    ) -> Result<Vec<Rendered>, Setback> {
        self.load_selection(index, run).await?;
        let renderer = self.renderer(index, run.config_version, run.render_version).await?;
        let Some(work) = self.lanes.get(index) else { return Ok(Vec::new()) };
        let Some((_, selection)) = &work.selection else { return Ok(Vec::new()) };
        let batch = Batch {
            stream: work.stream,
            covers: run.covers(),
            records: selection.records(),
            lane: run.history.then_some(HISTORY),
            replay: None,
        };
        let Some(renderer) = self.renderers.get_mut(&renderer) else { return Ok(Vec::new()) };
        match renderer.render(&batch, node, selection) {
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

    /// Adds what of a block is for the sink, as a configuration has it; gives back how many records that are.
    pub(super) async fn select(
        &mut self,
        index: usize,
        config_version: u32,
        render_version: u8,
        range: SequenceRange,
        block: &Block,
        into: &mut Selection,
    ) -> Result<u64, Setback> {
        let renderer = self.renderer(index, config_version, render_version).await?;
        let Some(renderer) = self.renderers.get_mut(&renderer) else { return Ok(0) };
        renderer.select(range, block, into).map_err(|error| self.paused(index, &error.to_string()))
    }

    /// Makes sure that the renderer of a configuration is there; the answer is its key. The newest one and one older are kept.
    async fn renderer(&mut self, index: usize, config_version: u32, render_version: u8) -> Result<u32, Setback> {
        if self.renderers.contains_key(&config_version) {
            return Ok(config_version);
        }
        let present = self.options.rendering.borrow().clone();
        let mut view = View { tags: present.tags, route: self.route.clone() };
        if config_version != present.config_version {
            let text = self.options.buffer.config(config_version).await.map_err(|error| self.disk(&error))?;
            if let Some(older) = text.as_deref().and_then(|text| (self.options.view_of)(text)) {
                view = older;
            } else {
                let version = config_version;
                tracing::warn!(version, "an older configuration cannot be read; the present tags and route are used");
            }
        }
        let context = RenderContext {
            gateway: self.options.gateway.clone(),
            epoch: self.options.epoch,
            view,
            registry: self.options.registry.clone(),
        };
        let renderer =
            Renderer::new(render_version, context).map_err(|error| self.paused(index, &error.to_string()))?;
        self.renderers.retain(|version, _| *version == present.config_version);
        self.renderers.insert(config_version, renderer);
        Ok(config_version)
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
        let rendered = self.render(index, &run, range).await?;
        Ok(rendered.first().map(|record| record.json.to_vec()).unwrap_or_default())
    }
}
