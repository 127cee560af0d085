//! Routing: which records go to a sink. A pure function of the configuration and the record.

use crate::buffer::{SinkLanes, Start};
use crate::reading::Stream;
use crate::site::{DeviceTags, PointPattern};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Most patterns of a sink: every new point is matched against all of them.
const PATTERNS_MAX: usize = 256;

/// What goes to a sink, and where a new one begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RouteOptions {
    /// The streams that go to the sink. A stream that is not named here is not kept for it.
    #[serde(default = "all_streams")]
    pub streams: Vec<SinkStream>,
    /// Only devices whose name is one of these; `*` stands for any run of characters. None: all.
    #[serde(default)]
    pub devices: Vec<String>,
    /// Only these points, as `device/point`. None: all.
    #[serde(default)]
    pub points: Vec<String>,
    /// Only devices that have all of these tags.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// Where a sink begins that is new in the file.
    #[serde(default)]
    pub start: Start,
}

/// A stream that can go to a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SinkStream {
    /// What checks, detectors and the gateway itself have to report.
    Alerts,
    /// What was lost, and what never came in.
    Gaps,
    /// The readings.
    Readings,
    /// What was refused, as it came in.
    DeadLetters,
}

/// Which readings and alerts go to a sink, ready to be asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// One of them must match; none means all. Beside devices and points both must match.
    devices: Vec<PointPattern>,
    points: Vec<PointPattern>,
    tags: BTreeMap<String, String>,
}

impl SinkStream {
    fn stream(self) -> Stream {
        match self {
            Self::Alerts => Stream::Alerts,
            Self::Gaps => Stream::Gaps,
            Self::Readings => Stream::Readings,
            Self::DeadLetters => Stream::DeadLetters,
        }
    }
}

impl RouteOptions {
    /// What cannot work, as the option's path below the sink and a sentence.
    pub(super) fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        if self.streams.is_empty() {
            problems.push(("streams", "nothing would go to this sink; name a stream, or remove the sink".to_owned()));
        }
        let expected = "where * stands for any run of characters";
        if self.devices.iter().any(|device| device_pattern(device).is_none()) {
            problems.push(("devices", format!("expected the names of devices, {expected}, such as \"boiler-*\"")));
        }
        if self.points.iter().any(|points| PointPattern::parse(points).is_none()) {
            problems.push(("points", format!("expected device/point, {expected}, such as \"boiler-*/*\"")));
        }
        for (path, patterns) in [("devices", &self.devices), ("points", &self.points)] {
            if patterns.len() > PATTERNS_MAX {
                problems.push((path, format!("there are {}, and at most {PATTERNS_MAX} are possible", patterns.len())));
            }
        }
        problems
    }

    /// The streams that go to the sink, each once, in the order of [`Stream::DELIVERED`].
    #[must_use]
    pub fn streams(&self) -> Vec<Stream> {
        let taken = |stream: &Stream| self.streams.iter().any(|taken| taken.stream() == *stream);
        Stream::DELIVERED.into_iter().filter(taken).collect()
    }

    /// The lanes of a sink of this name.
    #[must_use]
    pub fn lanes(&self, name: &str) -> SinkLanes {
        SinkLanes { name: name.to_owned(), streams: self.streams() }
    }

    /// Which readings and alerts go to the sink.
    #[must_use]
    pub fn route(&self) -> Route {
        Route {
            devices: self.devices.iter().filter_map(|device| device_pattern(device)).collect(),
            points: self.points.iter().filter_map(|points| PointPattern::parse(points)).collect(),
            tags: self.tags.clone(),
        }
    }
}

impl Default for RouteOptions {
    fn default() -> Self {
        Self {
            streams: all_streams(),
            devices: Vec::new(),
            points: Vec::new(),
            tags: BTreeMap::new(),
            start: Start::default(),
        }
    }
}

impl Route {
    /// Whether a point goes to the sink.
    #[must_use]
    pub fn wants(&self, device: &str, point: &str, tags: &DeviceTags) -> bool {
        let one_of = |patterns: &[PointPattern]| {
            patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches(device, point))
        };
        let is_tagged = || {
            let tags = tags.0.get(device);
            self.tags.iter().all(|(name, value)| tags.and_then(|tags| tags.get(name)) == Some(value))
        };
        one_of(&self.devices) && one_of(&self.points) && is_tagged()
    }

    /// Whether the tags of devices decide.
    #[must_use]
    pub fn asks_for_tags(&self) -> bool {
        !self.tags.is_empty()
    }

    /// Whether an alert goes to the sink: one about a point goes where the point goes; one about a source, a sink or the
    /// gateway itself concerns everyone whose readings pass here. Names of sources and sinks have no slash.
    #[must_use]
    pub fn wants_alert(&self, subject: &str, tags: &DeviceTags) -> bool {
        subject.split_once('/').is_none_or(|(device, point)| self.wants(device, point, tags))
    }
}

fn device_pattern(device: &str) -> Option<PointPattern> {
    PointPattern::parse(&format!("{device}/*"))
}

fn all_streams() -> Vec<SinkStream> {
    vec![SinkStream::Alerts, SinkStream::Gaps, SinkStream::Readings, SinkStream::DeadLetters]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn route(toml: &str) -> Route {
        toml::from_str::<RouteOptions>(toml).unwrap().route()
    }

    fn tags() -> DeviceTags {
        let north = BTreeMap::from([("site".to_owned(), "north".to_owned()), ("zone".to_owned(), "A".to_owned())]);
        DeviceTags([("boiler-1".to_owned(), north)].into())
    }

    #[test]
    fn a_sink_without_a_word_about_it_gets_everything() {
        let options: RouteOptions = toml::from_str("").unwrap();
        assert_eq!(options, RouteOptions::default());
        assert_eq!(options.streams(), Stream::DELIVERED);
        assert!(options.route().wants("anything", "at all", &DeviceTags::default()));
    }

    #[test]
    fn devices_points_and_tags_must_all_agree() {
        let route = route("devices = [\"boiler-*\", \"pump-1\"]\npoints = [\"*/temp\"]\ntags = { site = \"north\" }");
        assert!(route.wants("boiler-1", "temp", &tags()));
        assert!(!route.wants("boiler-1", "flow", &tags()));
        assert!(!route.wants("boiler-2", "temp", &tags()), "it has no tags");
        assert!(!route.wants("valve-1", "temp", &tags()));
        assert!(!route.wants("pump-1", "temp", &tags()));
    }

    #[test]
    fn an_alert_goes_where_its_point_goes_and_one_about_the_gateway_to_all() {
        let route = route("devices = [\"boiler-1\"]");
        assert!(route.wants_alert("boiler-1/temp", &tags()));
        assert!(!route.wants_alert("boiler-2/temp", &tags()));
        assert!(route.wants_alert("plant-broker", &tags()));
    }

    #[test]
    fn what_is_no_pattern_is_named() {
        let options: RouteOptions =
            toml::from_str("streams = []\ndevices = [\"a/b\"]\npoints = [\"boiler-3\"]").unwrap();
        let paths: Vec<_> = options.problems().into_iter().map(|(path, _)| path).collect();
        assert_eq!(paths, ["streams", "devices", "points"]);
    }
}
