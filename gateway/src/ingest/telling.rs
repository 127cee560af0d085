//! Telling: troubles as alerts, and the last value of each point for the page.

use crate::block::columns::JudgedReading;
use crate::block::records::{self, Alert, Record, RecordBody};
use crate::clock::Tick;
use crate::reading::Value;
use crate::site::Registry;
use crate::status::{HealthEvent, PointLive, SPARKLINE_VALUES, Status, Trouble};
use std::collections::VecDeque;
use xxhash_rust::xxh3::xxh3_64;

/// A trouble that began or ended, as an alert.
pub(super) fn health_alert(event: &HealthEvent) -> Record {
    let Trouble { subject, what, advice, severity, .. } = &event.trouble;
    let alert = Alert {
        rule: "health".to_owned(),
        severity: *severity,
        subject: records::field(subject),
        message: records::field(&format!("{what}. {advice}.")),
        value: None,
        raised: event.raised,
    };
    let id = xxh3_64(format!("{subject}/{what}/{}/{}", event.raised, event.at_us).as_bytes());
    Record { id, time_us: event.at_us, body: RecordBody::Alert(alert) }
}

/// Puts the last values where the page finds them.
pub(super) fn show(status: &Status, registry: &Registry, tick: &Tick, readings: &[JudgedReading]) {
    status.update_points(|points| {
        if points.len() < registry.len() {
            points.resize(registry.len(), None);
        }
        for reading in readings {
            let Some(slot) = points.get_mut(reading.point.0 as usize) else { continue };
            let received_at_us = tick.wall_of(reading.received_mono_us);
            let number = reading.outcome.as_ref().ok().and_then(Value::as_number);
            let live = slot.get_or_insert_with(|| PointLive {
                outcome: reading.outcome.clone(),
                received_at_us: 0,
                usual_us: 0,
                quality: reading.quality,
                flags: reading.flags,
                score: reading.score,
                note: String::new(),
                sparkline: VecDeque::new(),
            });
            let new_second = received_at_us / 1_000_000 != live.received_at_us / 1_000_000;
            if let (true, Some(number)) = (new_second, number) {
                if live.sparkline.len() >= SPARKLINE_VALUES {
                    live.sparkline.pop_front();
                }
                #[expect(clippy::cast_possible_truncation, reason = "a sparkline is drawn 44 pixels high")]
                live.sparkline.push_back(number as f32);
            }
            live.outcome.clone_from(&reading.outcome);
            live.heard(received_at_us);
            live.quality = reading.quality;
            live.flags = reading.flags;
            live.score = reading.score;
            live.note.clear();
            if let Some(note) = &reading.note {
                let unit = registry.key(reading.point).map(|key| key.unit.clone()).unwrap_or_default();
                live.note = note.words(number, &unit);
            }
        }
    });
}
