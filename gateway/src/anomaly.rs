//! Anomaly detection: one streaming detector a point, its score and its words.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which points are watched for what is unusual.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AnomalyOptions {
    /// Which points, as `device/point`; `*` stands for any run of characters.
    pub points: String,
    /// False alarms to expect for one point in 30 days of ordinary data; fewer make it less sensitive.
    #[serde(default = "false_alarms_per_month")]
    pub false_alarms_per_month: f64,
}

fn false_alarms_per_month() -> f64 {
    4.0
}
