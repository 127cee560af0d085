//! What a change on trial shows of itself: whether the sources that it concerns bring values.

use crate::config::Config;
use crate::config::desk::Doubts;
use crate::reading::{PointId, UnixMicros};
use crate::site::Registry;
use crate::sources::SourceOptions;
use crate::status::Status;
use std::sync::Arc;

/// Looks at what a change concerns since it began.
pub(super) struct Witness {
    status: Arc<Status>,
    registry: Arc<Registry>,
    since_us: UnixMicros,
    /// As of the last look; a source that has spoken once is believed from there on.
    doubts: Doubts,
}

impl Witness {
    /// For the change from one configuration to another that runs `since_us`.
    pub(super) fn new(
        (status, registry): (Arc<Status>, Arc<Registry>),
        (old, new): (&Config, &Config),
        since_us: UnixMicros,
    ) -> Self {
        let concerned = new.source.iter().filter(|source| !old.source.contains(source));
        let silent: Vec<String> = concerned.map(SourceOptions::name).map(str::to_owned).collect();
        let no_reading = silent.is_empty() && !new.source.is_empty();
        Self { status, registry, since_us, doubts: Doubts { no_reading, silent } }
    }

    /// What is left to doubt. That a device gave no answer is a reading, too, but proves nothing.
    pub(super) fn look(&mut self) -> Doubts {
        if !self.doubts.flows() {
            self.listen();
        }
        self.doubts.clone()
    }

    fn listen(&mut self) {
        let Self { status, registry, since_us, doubts } = self;
        status.read_points(|points| {
            for (index, live) in points.iter().enumerate() {
                let Some(live) = live.as_ref().filter(|live| live.received_at_us >= *since_us) else { continue };
                if live.outcome.is_err() {
                    continue;
                }
                doubts.no_reading = false;
                let Some(key) = u32::try_from(index).ok().and_then(|id| registry.key(PointId(id))) else { continue };
                doubts.silent.retain(|name| **name != *key.source);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::config;
    use crate::reading::{AnomalyScore, Flags, Outcome, Quality, Value};
    use crate::status::PointLive;

    fn config(sources: &[(&str, u16)]) -> Config {
        let mut text = "[gateway]\nid = \"plant-7\"\n".to_owned();
        for (name, port) in sources {
            text += &format!("[[source]]\ntype = \"mqtt\"\nname = {name:?}\nurl = \"mqtt://127.0.0.1:{port}\"\n");
            text += "[[source.subscribe]]\nfilter = \"a\"\ndevice = \"d\"\npoint = \"p\"\n";
            text += "payload = { format = \"number\" }\n";
        }
        config::parse("test", text).unwrap().config
    }

    fn spoke(witness: &Witness, source: &str, at_us: UnixMicros, outcome: Outcome) {
        let id = witness.registry.intern("device", "point", "", source).unwrap();
        witness.status.update_points(|points| {
            points.resize(points.len().max(id.0 as usize + 1), None);
            points[id.0 as usize] = Some(PointLive {
                outcome,
                received_at_us: at_us,
                usual_us: 0,
                quality: Quality::Good,
                flags: Flags::default(),
                score: AnomalyScore::default(),
                note: String::new(),
                sparkline: [].into(),
            });
        });
    }

    fn witness(old: &[(&str, u16)], new: &[(&str, u16)]) -> Witness {
        Witness::new((Arc::default(), Arc::default()), (&config(old), &config(new)), 100)
    }

    #[test]
    fn each_source_that_a_change_concerns_must_bring_a_value() {
        let mut witness = witness(&[("stays", 1)], &[("stays", 1), ("meter-bus", 2), ("line-2", 3)]);
        assert_eq!(witness.look().silent, ["meter-bus", "line-2"]);
        spoke(&witness, "stays", 150, Ok(Value::Number(1.0)));
        spoke(&witness, "line-2", 150, Ok(Value::Number(1.0)));
        spoke(&witness, "meter-bus", 99, Ok(Value::Number(1.0)));
        assert_eq!(witness.look().silent, ["meter-bus"], "others flow, and it spoke before the change only");
        assert!(witness.look().to_string().starts_with("meter-bus has not brought a value"));
        spoke(&witness, "meter-bus", 151, Ok(Value::Number(1.0)));
        assert!(!witness.look().any());
    }

    #[test]
    fn any_source_will_do_for_a_change_that_concerns_none() {
        let mut witness = witness(&[("stays", 1)], &[("stays", 1)]);
        assert!(witness.look().no_reading);
        spoke(&witness, "stays", 150, Ok(Value::Number(1.0)));
        assert!(!witness.look().any());
    }
}
