//! Range: operating limits, and what is physically possible (QARTOD gross range test: "suspect" and "fail").

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The limits of a value; each pair is lowest and highest, both allowed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RangeOptions {
    /// Where the plant is run: outside, the reading is flagged.
    #[serde(default)]
    pub operating: Option<[f64; 2]>,
    /// What can be at all: outside, the action of the check applies.
    #[serde(default)]
    pub possible: Option<[f64; 2]>,
}
