//! Templates of devices: a piece of configuration with gaps, `{{unit}}`, that are filled in where a device is added. Some come
//! with the program; others are files in `data_dir/templates`.
//!
//! A template is TOML throughout: a gap stands in quotes also where a number belongs, and becomes what the option takes.

use super::edit::{self, Edit, Place, Step, quote};
use super::file;
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

/// Longest name, in characters.
const NAME_CHARS_MAX: usize = 60;

/// What comes with the program.
const BUILT_IN: [(&str, &str); 5] = [
    ("eastron-sdm120", include_str!("template/eastron-sdm120.toml")),
    ("eastron-sdm630", include_str!("template/eastron-sdm630.toml")),
    ("json-topics", include_str!("template/json-topics.toml")),
    ("pulse-counter", include_str!("template/pulse-counter.toml")),
    ("temperature-probe", include_str!("template/temperature-probe.toml")),
];

/// What of a source becomes a gap of a template: the key, and what belongs there.
const GAPS: [(&str, &str); 4] = [
    ("name", "Name of the source"),
    ("url", "Where it is"),
    ("port", "The serial port"),
    ("device", "Name of the device"),
];

/// Why a template was not saved.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// Its name is no name.
    #[error("the name of a template has 1 to 60 characters, letters and digits among them")]
    Name,
    /// There is one of that name.
    #[error("there is a template of this name already; remove it first, or choose another name")]
    Taken,
    /// There are too many.
    #[error("there are {TEMPLATES_MAX} templates already; remove one that is not used any more")]
    Full,
    /// It is too large.
    #[error("the source is larger than a template may be ({} KiB)", TEMPLATE_BYTES_MAX / 1024)]
    TooLarge,
    /// There is no source at the place.
    #[error("there is no source at {0}; it may have been removed meanwhile")]
    Nothing(Place),
    /// The template cannot be made of it.
    #[error(transparent)]
    Edit(#[from] edit::EditError),
    /// The disk refuses.
    #[error(transparent)]
    Unwritable(#[from] file::Unwritable),
}

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

/// Makes a template of a source: its name, its address and its device become gaps, proposed as they are; secrets in the
/// address are left out.
///
/// # Errors
/// If there is no source, or none can be made of it.
pub fn of_source(text: &str, source: &Place, name: &str, description: &str) -> Result<String, TemplateError> {
    let nothing = || TemplateError::Nothing(source.clone());
    let form = form::at(text, source, None).filter(|form| form.exists).ok_or_else(nothing)?;
    let is_source = matches!(source.steps(), [Step::Key(list), Step::Item(_)] if list == "source");
    let list = Place::root().key("source");
    let found = form::at(text, &list, None).map(|form| form.fields).unwrap_or_default();
    let value = found.into_iter().find(|field| field.path == *source).and_then(|field| field.value);
    let value = value.filter(|_| is_source).ok_or_else(nothing)?;
    let mut edits = vec![Edit::append(&list, value)];
    let head = Place::root().key("template");
    let mut edits_of_head =
        vec![Edit::set(&head.key("name"), quote(name)), Edit::set(&head.key("description"), quote(description))];
    for (key, about) in GAPS {
        let Some(field) = form.fields.iter().find(|field| field.name == key && field.value.is_some()) else { continue };
        edits.push(Edit::set(&list.item(0).key(key), quote(&format!("{{{{{key}}}}}"))));
        let default = if super::redact::is_hidden(&field.typed) { "" } else { &field.typed };
        let (about, default) = (quote(about), quote(default));
        let ask = format!("{{ name = {}, description = {about}, default = {default} }}", quote(key));
        edits_of_head.push(Edit::append(&head.key("ask"), ask));
    }
    edits_of_head.extend(edits);
    Ok(edit::apply("", &edits_of_head)?)
}

/// Saves a template of one's own; its file is named after it.
///
/// # Errors
/// If it has no name, there is one of that name, or it cannot be written.
pub fn save(data_dir: &Path, name: &str, text: &str) -> Result<Template, TemplateError> {
    let words = name.to_lowercase();
    let words = words.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let id = words.collect::<Vec<_>>().join("-");
    if id.is_empty() || name.chars().count() > NAME_CHARS_MAX {
        return Err(TemplateError::Name);
    }
    if text.len() as u64 > TEMPLATE_BYTES_MAX {
        return Err(TemplateError::TooLarge);
    }
    let known = list(data_dir);
    if known.iter().any(|template| template.id == id) {
        return Err(TemplateError::Taken);
    }
    if known.len() >= TEMPLATES_MAX {
        return Err(TemplateError::Full);
    }
    let template = read(&id, text, false).ok_or(TemplateError::Name)?;
    file::write(&data_dir.join("templates").join(format!("{id}.toml")), text)?;
    Ok(template)
}

/// Removes a template of one's own.
///
/// # Errors
/// If its file cannot be removed.
pub fn remove(data_dir: &Path, id: &str) -> Result<(), TemplateError> {
    let known = list(data_dir).into_iter().any(|template| template.id == id && !template.built_in);
    if !known {
        return Ok(());
    }
    Ok(file::remove(&data_dir.join("templates").join(format!("{id}.toml")))?)
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
    fn a_source_becomes_a_template_and_comes_back_as_a_source() {
        let folder = tempfile::tempdir().unwrap();
        let example = include_str!("../../forebay.example.toml");
        for index in 0..5 {
            let place = Place::root().key("source").item(index);
            let name = format!("Mine {index}");
            let text = of_source(example, &place, &name, "what I have").unwrap();
            let saved = save(folder.path(), &name, &text).unwrap();
            assert!(!saved.ask.is_empty() && saved.id == format!("mine-{index}"), "{text}");
            let values = typed(&[("name", "fresh")]);
            let filled = edit::apply("[gateway]\nid = \"a\"\n", &fill(&saved, &values, None).unwrap()).unwrap();
            let loaded = parse("t", filled.clone()).unwrap_or_else(|error| panic!("{error:?}\n{filled}"));
            assert_eq!(loaded.config.source[0].name(), "fresh");
        }
        assert!(matches!(save(folder.path(), "mine 1", ""), Err(TemplateError::Taken)));
        assert!(matches!(save(folder.path(), "../../etc", ""), Err(TemplateError::Name)));
        remove(folder.path(), "mine-1").unwrap();
        remove(folder.path(), "../mine-2").unwrap();
        assert_eq!(list(folder.path()).len(), BUILT_IN.len() + 4);
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
