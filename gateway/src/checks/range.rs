//! Range: operating limits, and what is physically possible (QARTOD gross range test, U.S. IOOS manual for in-situ
//! temperature and salinity data 2.1, test 4: "suspect" outside the operator's span, "fail" outside the sensor's).

use crate::reading::Reason;
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

/// Which limits a value violates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outside {
    /// The operating range.
    Operating,
    /// What is possible.
    Possible,
}

/// A violated limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Violation {
    /// Which limits.
    pub outside: Outside,
    /// On which side.
    pub reason: Reason,
    /// The limit.
    pub limit: f64,
}

impl RangeOptions {
    /// What is wrong, as pairs of path below these options and message.
    #[must_use]
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        let mut problem = |path: &str, message: &str| problems.push((path.to_owned(), message.to_owned()));
        for (path, pair) in [("operating", self.operating), ("possible", self.possible)] {
            match pair {
                Some([low, high]) if !(low.is_finite() && high.is_finite()) => {
                    problem(path, "expected two finite numbers");
                }
                Some([low, high]) if low > high => problem(path, "the lowest value comes first"),
                _ => {}
            }
        }
        if let (Some([low, high]), Some([lowest, highest])) = (self.operating, self.possible)
            && lowest <= highest
            && (low < lowest || high > highest)
        {
            problem("operating", "the operating range must lie inside the possible range");
        }
        problems
    }

    /// The gravest violation of a value, if any.
    #[must_use]
    pub fn check(&self, value: f64) -> Option<Violation> {
        let violated = |limits: Option<[f64; 2]>, outside| {
            let [low, high] = limits?;
            let (reason, limit) = if value < low {
                (Reason::Below, low)
            } else if value > high {
                (Reason::Above, high)
            } else {
                return None;
            };
            Some(Violation { outside, reason, limit })
        };
        violated(self.possible, Outside::Possible).or_else(|| violated(self.operating, Outside::Operating))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_allowed_and_the_gravest_violation_is_named() {
        let range = RangeOptions { operating: Some([20.0, 95.0]), possible: Some([-40.0, 150.0]) };
        assert_eq!(range.check(20.0), None);
        assert_eq!(range.check(95.0), None);
        let operating = Violation { outside: Outside::Operating, reason: Reason::Above, limit: 95.0 };
        assert_eq!(range.check(95.1), Some(operating));
        let possible = Violation { outside: Outside::Possible, reason: Reason::Below, limit: -40.0 };
        assert_eq!(range.check(-40.5), Some(possible));
    }
}
