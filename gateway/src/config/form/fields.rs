//! What was typed into the fields of a form, as edits.

use super::found::{Found, descend, item_key, root, tag_key};
use super::typed::to_toml;
use crate::config::edit::{Edit, Place, Step};
use crate::config::problem::{Lines, Problem};
use crate::config::redact;
use crate::config::shape::{Key, Shape, Table};
use crate::config::tree;
use toml::de::DeTable;
use toml_edit::Document;

/// Turns the fields of a place into edits of a text. A field is named from the place on: `url`, `payload.format`,
/// `range.possible[0]`; a field that is left empty takes the option out; one that has what is there already changes nothing.
/// Where the key that decides what a table is gets another word, what the table may not have then goes.
///
/// # Errors
/// With what is wrong, each at its field.
pub fn from_fields(text: &str, place: &Place, fields: &[(String, String)]) -> Result<Vec<Edit>, Vec<Problem>> {
    let document = Document::parse(text).ok();
    let found = document.as_ref().map_or(Found::Nothing, |document| Found::Table(document.as_table()));
    let mut work = Work { text, root: root(), found, fields: Vec::new(), edits: Vec::new(), problems: Vec::new() };
    for (name, typed) in fields {
        match place.below(name) {
            Ok(path) => work.fields.push((path, typed.clone())),
            Err(error) => work.problem(place, error.to_string()),
        }
    }
    work.tags();
    for (path, typed) in work.fields.clone() {
        work.field(&path, &typed);
    }
    if work.problems.is_empty() { Ok(work.edits) } else { Err(work.problems) }
}

struct Work<'t> {
    text: &'t str,
    root: Key,
    found: Found<'t>,
    fields: Vec<(Place, String)>,
    edits: Vec<Edit>,
    problems: Vec<Problem>,
}

impl Work<'_> {
    fn problem(&mut self, path: &Place, message: String) {
        let (tree, _) = DeTable::parse_recoverable(self.text);
        let path = path.to_string();
        let span = tree::locate(&tree, &path);
        self.problems.push(Lines::new(self.text).problem(&span, &path, message));
    }

    /// Takes out what a table may not have once its tag has another word.
    fn tags(&mut self) {
        for (path, typed) in self.fields.clone() {
            let Some((around, Step::Key(name))) = path.split_last() else { continue };
            let Some((key, found)) = descend(&self.root, self.found, &around) else { continue };
            let Shape::Tagged { tag, variants, .. } = &key.shape else { continue };
            let now = found.key(tag).text();
            if tag != name || now == Some(typed.trim()) || now.is_none() {
                continue;
            }
            let Some((_, table)) = variants.iter().find(|(choice, _)| choice.word == typed.trim()) else { continue };
            let kept = |key: &str| key == tag || table.key(key).is_some();
            self.edits.extend(found.names().iter().filter(|key| !kept(key)).map(|key| Edit::remove(&around.key(key))));
        }
    }

    fn field(&mut self, path: &Place, typed: &str) {
        let Some(key) = self.option(path) else {
            return self.problem(path, "there is no such option here".to_owned());
        };
        let found = descend(&self.root, self.found, path).map_or(Found::Nothing, |(_, found)| found);
        let exists = !matches!(found, Found::Nothing);
        // Browsers end the lines of a text area as in mail.
        let typed = typed.replace("\r\n", "\n");
        let now = super::typed::of_found(&key.shape, found);
        if exists && (typed == now || typed == redact::redacted_toml(&now)) {
            return;
        }
        if redact::is_hidden(&typed) {
            return self.problem(path, redact::RETYPE.to_owned());
        }
        // A space or a line break may be just the text that is meant.
        let blank = typed.is_empty() || !matches!(key.shape, Shape::Text { .. });
        if blank && typed.trim().is_empty() {
            if key.required && self.is_wanted(path) {
                return self.problem(path, format!("{:?} must not be empty", key.name));
            }
            if exists {
                let path = self.emptied(path);
                if !self.edits.iter().any(|edit| path.is_within(edit.path()) && matches!(edit, Edit::Remove { .. })) {
                    self.edits.push(Edit::remove(&path));
                }
            }
            return;
        }
        match to_toml(&key.name, &key.shape, &typed) {
            Ok(value) => self.edits.push(Edit::set(path, value)),
            Err(message) => self.problem(path, message),
        }
    }

    /// The option of a field, in view of the words that the form itself gives to tags.
    fn option(&self, path: &Place) -> Option<Key> {
        let mut key = self.root.clone();
        let mut at = Place::root();
        let mut found = self.found;
        for step in path.steps() {
            let shape = match (&key.shape, step) {
                (Shape::Tagged { tag, variants, .. }, Step::Key(name)) => {
                    let said = at.key(tag);
                    let typed = self.fields.iter().find(|(path, _)| *path == said).map(|(_, typed)| typed.trim());
                    let word = typed.or_else(|| found.key(tag).text());
                    let table = variants.iter().find(|(choice, _)| Some(choice.word.as_str()) == word);
                    if name == tag {
                        Some(tag_key(tag, variants))
                    } else {
                        table.and_then(|(_, table)| table.key(name)).cloned()
                    }
                }
                (Shape::Table(table), Step::Key(name)) => Table::key(table, name).cloned(),
                (Shape::Map(item), Step::Key(_)) | (Shape::List { item, .. }, Step::Item(_)) => {
                    Some(Key { required: false, ..item_key(&key, item) })
                }
                _ => None,
            };
            key = shape?;
            (at, found) = match step {
                Step::Key(name) => (at.key(name), found.key(name)),
                Step::Item(index) => (at.item(*index), found.item(*index)),
            };
        }
        Some(key)
    }

    /// Whether the table around a required field will be there: it is the form's own, or another of its fields is filled.
    fn is_wanted(&self, path: &Place) -> bool {
        let Some((around, _)) = path.split_last() else { return true };
        let optional = self.option(&around).is_some_and(|key| !key.required);
        let filled = |(other, typed): &(Place, String)| other.is_within(&around) && !typed.trim().is_empty();
        !optional || self.fields.iter().any(filled)
    }

    /// The outermost optional table that is left empty when all its fields are.
    fn emptied(&self, path: &Place) -> Place {
        let mut emptied = path.clone();
        while let Some((around, Step::Key(_))) = emptied.split_last() {
            let Some((key, found)) = descend(&self.root, self.found, &around) else { break };
            let optional = self.option(&around).is_some_and(|key| !key.required);
            let table = matches!(key.shape, Shape::Table(_) | Shape::Tagged { .. });
            let cleared = |name: &String| {
                let below = around.key(name);
                let mut fields = self.fields.iter().filter(|(other, _)| other.is_within(&below)).peekable();
                fields.peek().is_some() && fields.all(|(_, typed)| typed.trim().is_empty())
            };
            if around.steps().len() < 2 || !optional || !table || !found.names().iter().all(cleared) {
                break;
            }
            emptied = around;
        }
        emptied
    }
}
