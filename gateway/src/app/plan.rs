//! The plan: the configuration that the gateway goes by. A confirmed one is run as it stands; one on trial is run so that it can be
//! taken back without losing or repeating anything.
//!
//! On trial
//! - the buffer keeps what both configurations need (limits, times, lanes of removed sinks);
//! - a sink that would bring its records to another place, or other records, is held: what it delivered or passed over could not be
//!   taken back, and the place of the confirmed configuration would miss it. New sinks deliver;
//! - an MQTT source goes on in the confirmed one's session at the broker and takes also what that subscribed to, so that nothing waits
//!   there that was taken in already, and nothing is sent that nobody means;
//! - the buffer is written under the keys of the confirmed configuration: others could not be read after taking it back.

use super::{AppError, store_options};
use crate::buffer::StoreOptions;
use crate::config::{Config, Loaded};
use crate::sinks::SinkOptions;
use crate::sources::SourceOptions;
use crate::sources::mqtt::MqttOptions;
use std::collections::BTreeSet;

/// What the gateway goes by.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// As it runs.
    pub(super) config: Config,
    /// As people wrote it.
    pub(super) text: String,
    /// Sinks that deliver nothing until the trial ends.
    pub(super) held: BTreeSet<String>,
    /// On trial: what comes back if nobody confirms.
    before: Option<Box<Config>>,
}

impl Plan {
    /// A configuration that is confirmed.
    pub(super) fn settled(loaded: Loaded) -> Self {
        Self { config: loaded.config, text: loaded.text, held: BTreeSet::new(), before: None }
    }

    /// A configuration on trial, after a confirmed one.
    pub(super) fn on_trial(before: &Config, loaded: Loaded) -> Self {
        let Loaded { mut config, text, .. } = loaded;
        let same_gateway = before.gateway.id == config.gateway.id;
        let same_tags = before.device == config.device;
        let is_held = |sink: &&SinkOptions| {
            let known = before.sink.iter().find(|known| known.name() == sink.name());
            known.is_some_and(|known| {
                let by_tags = !same_tags && sink.route().route().asks_for_tags();
                // Under another name of the gateway the same records would be others upstream.
                !(same_gateway && known.is_as_good_as(sink)) || by_tags
            })
        };
        let held = config.sink.iter().filter(is_held).map(|sink| sink.name().to_owned()).collect();
        keep_sessions(before, &mut config);
        config.buffer.encryption.clone_from(&before.buffer.encryption);
        Self { config, text, held, before: Some(Box::new(before.clone())) }
    }

    /// What the buffer needs.
    pub(super) fn store_options(&self) -> Result<StoreOptions, AppError> {
        let own = store_options(&self.config)?;
        match &self.before {
            Some(before) => Ok(store_options(before)?.that_keep_both(&own)),
            None => Ok(own),
        }
    }

    /// Whether a sink is in the configuration, or comes back with the one before.
    pub(super) fn knows_sink(&self, name: &str) -> bool {
        let mut configs = [&self.config].into_iter().chain(self.before.as_deref());
        configs.any(|config| config.sink_names().any(|known| known == name))
    }
}

/// Has MQTT sources go on in the sessions that the confirmed configuration has at its brokers: those of the same name, and where one
/// is gone, a new one that takes the same messages.
fn keep_sessions(before: &Config, config: &mut Config) {
    let names: BTreeSet<String> = config.source_names().map(str::to_owned).collect();
    let mut orphans: Vec<&MqttOptions> = before.source.iter().filter_map(mqtt).collect();
    orphans.retain(|old| !names.contains(&old.name));
    for source in &mut config.source {
        let known = before.source.iter().find(|known| known.name() == source.name());
        let SourceOptions::Mqtt(new) = source else { continue };
        let old = match known {
            Some(known) => mqtt(known).filter(|old| *old != new || before.gateway.id != config.gateway.id),
            None => orphans.iter().position(|old| new.shares_with(old)).map(|index| orphans.swap_remove(index)),
        };
        if let Some(old) = old {
            *new = new.in_session_of(old, &before.gateway.id);
        }
    }
}

fn mqtt(source: &SourceOptions) -> Option<&MqttOptions> {
    match source {
        SourceOptions::Mqtt(options) => Some(options),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::config;

    fn loaded(text: &str) -> Loaded {
        config::parse("test", format!("[gateway]\nid = \"plant-7\"\n{text}")).unwrap()
    }

    fn sink(name: &str, more: &str) -> String {
        format!("[[sink]]\ntype = \"http\"\nname = \"{name}\"\n{more}\n")
    }

    const A: &str = "url = \"http://127.0.0.1:1\"";

    fn held(before: &str, after: &str) -> Vec<String> {
        Plan::on_trial(&loaded(before).config, loaded(after)).held.into_iter().collect()
    }

    #[test]
    fn a_sink_is_held_where_what_it_does_could_not_be_taken_back() {
        let before = sink("cloud", A);
        assert_eq!(held(&before, &before), Vec::<String>::new());
        assert_eq!(
            held(&before, &sink("cloud", &format!("{A}\nlinger_ms = 7\nstreams = [\"readings\"]"))),
            Vec::<String>::new()
        );
        assert_eq!(held(&before, &sink("cloud", "url = \"http://127.0.0.1:2\"")), ["cloud"]);
        assert_eq!(held(&before, &sink("cloud", &format!("{A}\ndevices = [\"a*\"]"))), ["cloud"]);
        assert_eq!(held(&before, &(before.clone() + &sink("fresh", A))), Vec::<String>::new());
        let tagged = sink("cloud", &format!("{A}\ntags = {{ zone = \"a\" }}"));
        let device = "[[device]]\nid = \"mill\"\ntags = { zone = \"a\" }\n".to_owned();
        assert_eq!(held(&tagged, &(device.clone() + &tagged)), ["cloud"]);
        assert_eq!(held(&before, &(device + &before)), Vec::<String>::new());
    }

    #[test]
    fn an_mqtt_source_keeps_its_session_also_under_another_name_of_itself_or_of_the_gateway() {
        let source = |name: &str, filter: &str| {
            format!(
                "[[source]]\ntype = \"mqtt\"\nname = \"{name}\"\nurl = \"mqtt://127.0.0.1\"\n[[source.subscribe]]\nfilter = \"{filter}\"\ndevice = \"d\"\npoint = \"p\"\npayload = {{ format = \"json\", value = \"/v\" }}\n"
            )
        };
        let before = loaded(&source("broker", "a/#")).config;
        let session = |text: &str| {
            let plan = Plan::on_trial(&before, loaded(text));
            let options = mqtt(plan.config.source.first().unwrap()).unwrap().clone();
            (options.session(&plan.config.gateway.id), options.subscribe.len())
        };
        let own = "forebay-plant-7-broker".to_owned();
        assert_eq!(session(&source("broker", "b/#")), (own.clone(), 2));
        assert_eq!(session(&source("renamed", "a/#")), (own.clone(), 1));
        assert_eq!(session(&source("other", "b/#")), ("forebay-plant-7-other".to_owned(), 1));
        let mut other = loaded(&source("broker", "a/#"));
        other.config.gateway.id = "plant-8".to_owned();
        let plan = Plan::on_trial(&before, other);
        assert_eq!(mqtt(plan.config.source.first().unwrap()).unwrap().session("plant-8"), own);
        assert_eq!(
            Plan::on_trial(&before, loaded(&source("broker", "a/#"))).config.source,
            before.source,
            "it stays alone"
        );
    }

    #[test]
    fn the_buffer_keeps_the_lanes_of_a_removed_sink_and_its_replays_on_trial_only() {
        let before = loaded(&sink("cloud", A));
        let trial = Plan::on_trial(&before.config, loaded(""));
        assert!(trial.knows_sink("cloud"));
        assert!(trial.store_options().unwrap().has_lane("cloud", crate::reading::Stream::Readings));
        let kept = Plan::settled(loaded(""));
        assert!(!kept.knows_sink("cloud"));
        assert!(!kept.store_options().unwrap().has_lane("cloud", crate::reading::Stream::Readings));
    }
}
