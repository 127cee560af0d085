//! Limits: what is normal for a point, what is possible for it, and what happens outside.

use super::Kind;
use super::values::{Input, Sheet, Values, plain};
use crate::web::failure::FieldError;
use crate::web::locale::Locale;
use askama::Template;

const NORMAL: [&str; 2] = ["range.operating[0]", "range.operating[1]"];
const POSSIBLE: [&str; 2] = ["range.possible[0]", "range.possible[1]"];

/// What a value outside the normal means: what the file calls it, and its words.
const SEVERITIES: [(&str, &str); 3] = [
    ("warning", "needs a look: marked “uncertain”"),
    ("error", "needs you now: marked “bad”"),
    ("info", "good to know: only told"),
];

/// What becomes of a value outside the possible.
const ACTIONS: [(&str, &str); 2] =
    [("flag", "goes upstream, marked “bad”"), ("dead_letter", "set aside as a dead letter")];

/// The kind.
pub(super) struct Limits;

struct Pair {
    legend: &'static str,
    hint: &'static str,
    low: Input,
    high: Input,
    slot: String,
    slots: [String; 2],
}

#[derive(Template)]
#[template(path = "settings/rules/limits.html")]
struct Form<'a> {
    l: Locale,
    unit: &'a str,
    slot: String,
    pairs: [Pair; 2],
    severity: Input,
    severities: [(&'static str, &'static str); 3],
    severity_slot: String,
    action: Input,
    actions: [(&'static str, &'static str); 2],
    action_slot: String,
}

impl Kind for Limits {
    fn key(&self) -> &'static str {
        "limits"
    }

    fn list(&self) -> &'static str {
        "check"
    }

    fn mark(&self) -> Option<&'static str> {
        Some("range")
    }

    fn rule(&self) -> &'static str {
        "range"
    }

    fn name(&self) -> &'static str {
        "Limits"
    }

    fn about(&self) -> &'static str {
        "A value outside its limits is marked, and an alert says so; the measured value itself is never changed."
    }

    fn fields(&self) -> &'static [&'static str] {
        &[
            "range",
            "range.operating",
            "range.operating[0]",
            "range.operating[1]",
            "range.possible",
            "range.possible[0]",
            "range.possible[1]",
            "severity",
            "action",
        ]
    }

    fn is_in_unit(&self) -> bool {
        true
    }

    fn says(&self, values: &Values, unit: &str, l: Locale) -> Vec<String> {
        let pair = |text: &'static str, names: [&str; 2]| {
            let [low, high] = names.map(|name| values.number(name));
            let gap = if unit.is_empty() { "" } else { "\u{a0}" };
            Some(l.f2(text, plain(low?, l), format!("{}{gap}{unit}", plain(high?, l))))
        };
        let aside = values.get("action") == "dead_letter";
        let possible = if aside { "possible from {} to {}, set aside beyond" } else { "possible from {} to {}" };
        let grave = match values.get("severity") {
            "error" => Some(l.t("outside needs you now").to_owned()),
            "info" => Some(l.t("outside is good to know").to_owned()),
            _ => None,
        };
        [pair("normal from {} to {}", NORMAL), pair(possible, POSSIBLE), grave].into_iter().flatten().collect()
    }

    fn draw(&self, sheet: &Sheet<'_>) -> askama::Result<String> {
        let pair = |legend, hint, list, [low, high]: [&'static str; 2]| -> askama::Result<Pair> {
            Ok(Pair {
                legend,
                hint,
                low: sheet.number(low),
                high: sheet.number(high),
                slot: sheet.slot(list)?,
                slots: [sheet.slot(low)?, sheet.slot(high)?],
            })
        };
        let choice = |name: &'static str, usual: &str| {
            let mut input = sheet.input(name);
            if input.value.is_empty() {
                usual.clone_into(&mut input.value);
            }
            input
        };
        Form {
            l: sheet.l,
            unit: sheet.unit,
            slot: sheet.slot("range")?,
            pairs: [
                pair("Normal", "Where the plant is run. Both ends are allowed.", "range.operating", NORMAL)?,
                pair(
                    "Possible",
                    "What the sensor can measure at all: outside, it is broken.",
                    "range.possible",
                    POSSIBLE,
                )?,
            ],
            severity: choice("severity", "warning"),
            severities: SEVERITIES,
            severity_slot: sheet.slot("severity")?,
            action: choice("action", "flag"),
            actions: ACTIONS,
            action_slot: sheet.slot("action")?,
        }
        .render()
    }

    fn written(&self, sheet: &Sheet<'_>) -> Result<Vec<(String, String)>, Vec<FieldError>> {
        let mut errors = Vec::new();
        let normal = sheet.pair("range.operating", NORMAL, &mut errors);
        let possible = sheet.pair("range.possible", POSSIBLE, &mut errors);
        if normal.1.is_empty() && possible.1.is_empty() {
            errors.push(sheet.wrong("range", "no limits are given; fill in what is normal, or what is possible"));
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(vec![normal, possible, sheet.chosen("severity", "warning"), sheet.chosen("action", "flag")])
    }
}
