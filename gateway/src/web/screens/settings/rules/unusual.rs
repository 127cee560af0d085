//! What is unusual: a detector learns how a point behaves and says when it behaves otherwise.

use super::Kind;
use super::values::{Input, Sheet, Values, plain};
use crate::config::form;
use crate::web::failure::FieldError;
use crate::web::locale::Locale;
use askama::Template;

const ALARMS: &str = "false_alarms_per_month";

/// What holds where the file says nothing.
const USUAL_ALARMS: &str = "4.0";

/// The kind.
pub(super) struct Unusual;

#[derive(Template)]
#[template(path = "settings/rules/unusual.html")]
struct Form {
    l: Locale,
    alarms: Input,
    slot: String,
}

impl Kind for Unusual {
    fn key(&self) -> &'static str {
        "unusual"
    }

    fn list(&self) -> &'static str {
        "anomaly"
    }

    fn mark(&self) -> Option<&'static str> {
        None
    }

    fn rule(&self) -> &'static str {
        "anomaly"
    }

    fn name(&self) -> &'static str {
        "What is unusual"
    }

    fn about(&self) -> &'static str {
        "A detector learns by itself, within 30 readings, how a point moves. What it would not have expected is marked, and an alert says so."
    }

    fn fields(&self) -> &'static [&'static str] {
        &[ALARMS]
    }

    fn is_in_unit(&self) -> bool {
        false
    }

    fn says(&self, values: &Values, _unit: &str, l: Locale) -> Vec<String> {
        let alarms = values.number(ALARMS).or(USUAL_ALARMS.parse().ok()).unwrap_or_default();
        vec![l.f1("watched for what is unusual, about {} false alarms a month", plain(alarms, l))]
    }

    fn draw(&self, sheet: &Sheet<'_>) -> askama::Result<String> {
        let mut alarms = sheet.number(ALARMS);
        if alarms.value.is_empty() && sheet.entry.typed.is_empty() {
            "4".clone_into(&mut alarms.value);
        }
        Form { l: sheet.l, alarms, slot: sheet.slot(ALARMS)? }.render()
    }

    fn written(&self, sheet: &Sheet<'_>) -> Result<Vec<(String, String)>, Vec<FieldError>> {
        let typed = sheet.get(ALARMS).trim();
        if !typed.is_empty() && !form::is_number(typed) {
            return Err(vec![sheet.wrong(ALARMS, "expected a number, such as 0.5")]);
        }
        let usual = typed.replace(',', ".").parse::<f64>().ok() == USUAL_ALARMS.parse().ok();
        let kept = !sheet.kept.get(ALARMS).is_empty();
        let typed = if usual && !kept { String::new() } else { typed.to_owned() };
        Ok(vec![(ALARMS.to_owned(), typed)])
    }
}
