//! Checks: what is asked of a reading. Each check is its own file and a pure function of value and state.

pub mod range;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A check of some points.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckOptions {
    /// Which points, as `device/point`; `*` stands for any run of characters.
    pub points: String,
    /// The limits of the value.
    #[serde(default)]
    pub range: Option<range::RangeOptions>,
    /// How much a violation matters.
    #[serde(default)]
    pub severity: CheckSeverity,
    /// What happens to a reading outside the possible range; outside the operating range it is flagged.
    #[serde(default)]
    pub action: Action,
}

/// How much a violation matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CheckSeverity {
    /// Noted.
    Info,
    /// The reading's quality becomes uncertain.
    #[default]
    Warning,
    /// The reading's quality becomes bad.
    Error,
}

/// What happens to a reading that violates a check.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It goes on, flagged.
    #[default]
    Flag,
    /// It becomes a dead letter.
    DeadLetter,
}

impl CheckOptions {
    /// What is wrong, as pairs of path below these options and message.
    #[must_use]
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        match &self.range {
            Some(range::RangeOptions { operating: None, possible: None }) => {
                problems.push(("range".to_owned(), "no limits are given; add operating or possible".to_owned()));
            }
            Some(range) => {
                let below = range.problems().into_iter();
                problems.extend(below.map(|(path, message)| (format!("range.{path}"), message)));
            }
            None => problems.push((String::new(), "nothing is checked; add a range".to_owned())),
        }
        problems
    }
}
