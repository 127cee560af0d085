//! What a change on trial shows of itself: whether the sources that it concerns bring values, and the
//! sinks that it concerns take them.

use crate::config::Config;
use crate::config::desk::{Doubts, Stuck};
use crate::reading::{PointId, Stream, UnixMicros};
use crate::sinks::SinkOptions;
use crate::site::Registry;
use crate::sources::SourceOptions;
use crate::status::{HasHealth, SinkStatus, State, Status};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Looks at what a change concerns since it began.
pub(super) struct Witness {
    status: Arc<Status>,
    registry: Arc<Registry>,
    since_us: UnixMicros,
    /// The sinks that the change concerns, and what they had delivered as it began.
    sinks: Vec<(String, u64)>,
    /// As of the last look; a source that has spoken once is believed from there on.
    doubts: Doubts,
}

impl Witness {
    /// For the change from one configuration to another that runs `since_us`. Of sinks that are `held` nothing can be known yet.
    pub(super) fn new(
        (status, registry): (Arc<Status>, Arc<Registry>),
        (old, new): (&Config, &Config),
        held: &BTreeSet<String>,
        since_us: UnixMicros,
    ) -> Self {
        let concerned = new.source.iter().filter(|source| !old.source.contains(source));
        let silent: Vec<String> = concerned.map(SourceOptions::name).map(str::to_owned).collect();
        let no_reading = silent.is_empty() && !new.source.is_empty();
        let no_source = new.source.is_empty() && !old.source.is_empty();
        let concerned = new.sink.iter().filter(|sink| !old.sink.contains(sink) && !held.contains(sink.name()));
        let named: Vec<&str> = concerned.map(SinkOptions::name).collect();
        let all = status.sinks();
        let concerned = all.iter().filter(|sink| named.contains(&sink.name.as_str()));
        let sinks = concerned.map(|sink| (sink.name.clone(), delivered(sink))).collect();
        Self { status, registry, since_us, sinks, doubts: Doubts { no_reading, no_source, silent, stuck: Vec::new() } }
    }

    /// What is left to doubt. That a device gave no answer is a reading, too, but proves nothing.
    pub(super) fn look(&mut self) -> Doubts {
        if !self.doubts.flows() {
            self.listen();
        }
        let sinks = self.status.sinks();
        let stuck = self.sinks.iter().filter_map(|(name, before)| {
            let sink = sinks.iter().find(|sink| sink.name == *name)?;
            stuck(sink, *before)
        });
        self.doubts.stuck = stuck.collect();
        self.doubts.clone()
    }

    fn listen(&mut self) {
        let Self { status, registry, since_us, doubts, .. } = self;
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

/// Whether a sink takes nothing: it is paused, or it has failed and delivered nothing since. One that had nothing to deliver is well.
fn stuck(sink: &SinkStatus, before: u64) -> Option<Stuck> {
    let health = sink.health();
    let is_stuck = match health.state {
        State::Paused => true,
        State::Down | State::Degraded => delivered(sink) <= before,
        State::Starting | State::Live => false,
    };
    let why = health.last_error.filter(|_| is_stuck)?;
    Some(Stuck { sink: sink.name.clone(), why })
}

/// Records that a sink has delivered, of all streams.
fn delivered(sink: &SinkStatus) -> u64 {
    Stream::ALL.into_iter().map(|stream| sink.lane(stream).delivered).sum()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::config;
    use crate::reading::{AnomalyScore, Flags, Outcome, Quality, Value};
    use crate::status::{LaneBooks, PointLive};

    fn parsed(tables: &[String]) -> Config {
        config::parse("test", format!("[gateway]\nid = \"plant-7\"\n{}", tables.concat())).unwrap().config
    }

    fn config(sources: &[(&str, u16)]) -> Config {
        let source = |(name, port): &(&str, u16)| {
            format!(
                "[[source]]\ntype = \"mqtt\"\nname = {name:?}\nurl = \"mqtt://127.0.0.1:{port}\"\n\
                 [[source.subscribe]]\nfilter = \"a\"\ndevice = \"d\"\npoint = \"p\"\n\
                 payload = {{ format = \"number\" }}\n"
            )
        };
        parsed(&sources.iter().map(source).collect::<Vec<_>>())
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
        Witness::new((Arc::default(), Arc::default()), (&config(old), &config(new)), &BTreeSet::new(), 100)
    }

    fn with_sinks(names: &[&str]) -> Config {
        let sink = |name: &&str| format!("[[sink]]\ntype = \"http\"\nname = {name:?}\nurl = \"http://127.0.0.1:1\"\n");
        parsed(&names.iter().map(sink).collect::<Vec<_>>())
    }

    #[test]
    fn a_sink_that_a_change_concerns_is_doubted_while_it_takes_nothing() {
        let status = Arc::new(Status::default());
        let named = |name: &str| Arc::new(SinkStatus::new(name, "http", ""));
        let (cloud, audit, held) = (named("cloud"), named("audit"), named("held"));
        status.set_sinks(vec![cloud.clone(), audit.clone(), held.clone()]);
        cloud.set_error(State::Paused, "it answers 403", 150);
        held.set_error(State::Paused, "it waits for the change", 150);
        let (old, new) = (with_sinks(&["cloud"]), with_sinks(&["cloud", "audit", "held"]));
        let held = BTreeSet::from(["held".to_owned()]);
        let mut witness = Witness::new((status, Arc::default()), (&old, &new), &held, 100);
        assert!(!witness.look().any(), "nothing to deliver, held by the trial, or of no concern");
        audit.set_error(State::Paused, "it answers 401", 150);
        assert_eq!(witness.look().to_string(), "the sink audit takes nothing: it answers 401");
        assert!(witness.look().any() && witness.look().flows());
        audit.set_error(State::Down, "it cannot be reached", 160);
        assert_eq!(witness.look().to_string(), "the sink audit takes nothing: it cannot be reached");
        audit.set_lane(Stream::Readings, LaneBooks { accepted: 1, delivered: 1, ..LaneBooks::default() });
        assert!(!witness.look().any(), "it has delivered since, and fails now and then");
        audit.set_state(State::Live, 170);
        assert!(!witness.look().any());
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
    fn a_change_that_takes_the_last_source_away_does_not_flow() {
        let mut witness_of_none = witness(&[("goes", 1)], &[]);
        assert!(!witness_of_none.look().flows());
        assert_eq!(witness_of_none.look().to_string(), "no source is left");
        assert!(!witness(&[], &[]).look().any(), "where there was none, none is missed");
    }

    #[test]
    fn any_source_will_do_for_a_change_that_concerns_none() {
        let mut witness = witness(&[("stays", 1)], &[("stays", 1)]);
        assert!(witness.look().no_reading);
        spoke(&witness, "stays", 150, Ok(Value::Number(1.0)));
        assert!(!witness.look().any());
    }
}
