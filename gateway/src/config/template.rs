//! Templates of devices: a piece of configuration with gaps, `{{unit}}`, that are filled in where a device is added. Some come
//! with the program; others are files in `data_dir/templates`.
//!
//! A template is TOML throughout: a gap stands in quotes also where a number belongs, and becomes what the option takes.

use super::edit::{self, Edit, Place, quote};
use super::form;
use super::problem::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use toml_edit::{Document, Value};

/// Largest template, in bytes: a device with some hundred registers.
const TEMPLATE_BYTES_MAX: u64 = 64 * 1024;

/// Most templates of one's own.
const TEMPLATES_MAX: usize = 200;

/// What comes with the program.
const BUILT_IN: [(&str, &str); 5] = [
    ("eastron-sdm120", include_str!("template/eastron-sdm120.toml")),
    ("eastron-sdm630", include_str!("template/eastron-sdm630.toml")),
    ("json-topics", include_str!("template/json-topics.toml")),
    ("pulse-counter", include_str!("template/pulse-counter.toml")),
    ("temperature-probe", include_str!("template/temperature-probe.toml")),
];

/// A template and what it asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Template {
    /// Its name in addresses: that of its file.
    pub id: String,
    /// Its name for people.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Whether it came with the program.
    pub built_in: bool,
    /// What has to be filled in, in the order of asking.
    pub ask: Vec<Ask>,
    /// The template as it is written.
    #[serde(skip)]
    pub text: String,
}

/// A gap in a template.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// Its name, as in `{{name}}`.
    pub name: String,
    /// What belongs there.
    #[serde(default)]
    pub description: String,
    /// What is proposed.
    #[serde(default)]
    pub default: String,
}

#[derive(Deserialize)]
struct Written {
    template: Head,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    name: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    ask: Vec<Ask>,
}

/// All templates: one's own, then those that came with the program. What cannot be read is passed over.
#[must_use]
pub fn list(data_dir: &Path) -> Vec<Template> {
    let entries = fs::read_dir(data_dir.join("templates")).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).take(TEMPLATES_MAX).collect();
    paths.sort();
    let own = paths.iter().filter_map(|path| {
        let id = path.file_name()?.to_str()?.strip_suffix(".toml")?;
        let mut text = String::new();
        let length = File::open(path).ok()?.take(TEMPLATE_BYTES_MAX + 1).read_to_string(&mut text).ok()?;
        if length as u64 > TEMPLATE_BYTES_MAX { None } else { read(id, &text, false) }
    });
    own.chain(BUILT_IN.iter().filter_map(|(id, text)| read(id, text, true))).collect()
}

fn read(id: &str, text: &str, built_in: bool) -> Option<Template> {
    let Written { template: Head { name, description, ask } } = toml::from_str(text).ok()?;
    Some(Template { id: id.to_owned(), name, description, built_in, ask, text: text.to_owned() })
}

/// The edits that add what a template describes. What is left empty has its default. With `into`, the list of units of a
/// source, only the units of the template are added, there: the bus exists already.
///
/// # Errors
/// With what is wrong with the values, each at the name of its gap.
pub fn fill(template: &Template, values: &[(String, String)], into: Option<&Place>) -> Result<Vec<Edit>, Vec<Problem>> {
    let document = Document::parse(template.text.as_str()).map_err(|error| vec![problem("", error.to_string())])?;
    let values = template.ask.iter().map(|ask| {
        let typed = values.iter().find(|(name, _)| *name == ask.name).map_or("", |(_, typed)| typed.trim());
        (ask.name.as_str(), if typed.is_empty() { ask.default.as_str() } else { typed })
    });
    let mut filling = Filling { values: values.collect(), problems: Vec::new() };
    for (name, value) in filling.values.clone() {
        if value.is_empty() {
            filling.problems.push(problem(name, "this must not be empty".to_owned()));
        }
    }
    let mut edits = Vec::new();
    for (key, item) in document.as_table().iter().filter(|(key, _)| *key != "template") {
        let Some(Ok(Value::Array(items))) = edit::item_text(item).map(|text| text.parse::<Value>()) else {
            filling.problems.push(problem("", format!("a template may only add to lists, and {key} is none")));
            continue;
        };
        let list = Place::root().key(key);
        match into {
            None => {
                let items = items.iter().map(|item| Edit::append(&list, filling.value(&list.item(0), item)));
                edits.extend(items);
            }
            Some(into) if key == "source" => {
                let units = items.iter().filter_map(|item| item.as_inline_table()?.get("unit")?.as_array());
                let place = list.item(0).key("unit").item(0);
                let units: Vec<Edit> =
                    units.flatten().map(|unit| Edit::append(into, filling.value(&place, unit))).collect();
                edits.extend(units);
            }
            Some(_) => edits.extend(items.iter().map(|item| Edit::append(&list, filling.value(&list.item(0), item)))),
        }
    }
    if filling.problems.is_empty() { Ok(edits) } else { Err(filling.problems) }
}

fn problem(name: &str, message: String) -> Problem {
    Problem { line: 1, column: 1, path: name.to_owned(), message }
}

struct Filling<'t> {
    values: Vec<(&'t str, &'t str)>,
    problems: Vec<Problem>,
}

impl Filling<'_> {
    /// A value as TOML, its gaps filled.
    fn value(&mut self, place: &Place, value: &Value) -> String {
        match value {
            Value::InlineTable(table) => {
                let pairs =
                    table.iter().map(|(key, value)| format!("{} = {}", quote(key), self.value(&place.key(key), value)));
                format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", "))
            }
            Value::Array(items) => {
                let items = items.iter().map(|item| self.value(&place.item(0), item));
                format!("[{}]", items.collect::<Vec<_>>().join(", "))
            }
            Value::String(text) => self.text(place, text.value()),
            value => edit::value_text(value),
        }
    }

    fn text(&mut self, place: &Place, text: &str) -> String {
        let whole = self.values.iter().find(|(name, _)| text == format!("{{{{{name}}}}}"));
        if let Some(&(name, typed)) = whole {
            return form::value_at(place, typed).unwrap_or_else(|message| {
                self.problems.push(problem(name, message));
                quote(typed)
            });
        }
        // Once from left to right: what is filled in is not filled again.
        let mut filled = String::new();
        let mut rest = text;
        while let Some((before, gap)) = rest.split_once("{{") {
            filled.push_str(before);
            let known = gap.split_once("}}").and_then(|(name, behind)| {
                let value = self.values.iter().find(|(known, _)| *known == name.trim())?;
                Some((value.1, behind))
            });
            let Some((value, behind)) = known else {
                self.problems.push(problem("", format!("the template does not ask for the gap in {text:?}")));
                return quote(text);
            };
            filled.push_str(value);
            rest = behind;
        }
        quote(&(filled + rest))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::config::parse;

    fn typed(values: &[(&str, &str)]) -> Vec<(String, String)> {
        values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn every_built_in_template_is_a_sound_configuration_once_it_is_filled() {
        let folder = tempfile::tempdir().unwrap();
        let templates = list(folder.path());
        assert_eq!(templates.len(), BUILT_IN.len());
        for template in templates {
            let edits = fill(&template, &[], None).unwrap();
            let text = edit::apply("[gateway]\nid = \"a\"\n", &edits).unwrap();
            assert!(parse(&template.id, text.clone()).is_ok(), "{:?}\n{text}", parse(&template.id, text.clone()));
        }
    }

    #[test]
    fn a_gap_becomes_what_its_option_takes() {
        let template = read("p", BUILT_IN[4].1, true).unwrap();
        let values = typed(&[("unit", "17"), ("device", "a \"b\""), ("address", "0x10")]);
        let text = edit::apply("[gateway]\nid = \"a\"\n", &fill(&template, &values, None).unwrap()).unwrap();
        assert!(text.contains("\n[[source.unit]]\nid = 17\n") && text.contains("address = 0x10"), "{text}");
        let problems = fill(&template, &typed(&[("unit", "seven")]), None).unwrap_err();
        assert_eq!(problems[0].path, "unit");
    }

    #[test]
    fn a_device_joins_a_bus_that_is_there() {
        let example = include_str!("../../forebay.example.toml");
        let template = read("p", BUILT_IN[0].1, true).unwrap();
        let into: Place = "source[2].unit".parse().unwrap();
        let text = edit::apply(example, &fill(&template, &typed(&[("unit", "18")]), Some(&into)).unwrap()).unwrap();
        let loaded = parse("t", text).unwrap();
        assert_eq!(loaded.config.source.len(), parse("t", example.to_owned()).unwrap().config.source.len());
        assert!(loaded.text.contains("id = 18\ndevice = \"meter-1\""));
    }

    #[test]
    fn ones_own_templates_come_first_and_broken_ones_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("templates");
        fs::create_dir(&own).unwrap();
        fs::write(own.join("mine.toml"), "[template]\nname = \"Mine\"\n[[device]]\nid = \"{{x}}\"\n").unwrap();
        fs::write(own.join("broken.toml"), "[template").unwrap();
        let templates = list(folder.path());
        assert_eq!((templates.len(), templates[0].name.as_str()), (BUILT_IN.len() + 1, "Mine"));
        assert!(fill(&templates[0], &[], None).unwrap_err()[0].message.contains("does not ask"));
    }
}
