//! What a rule has in its fields: as the file has it, as someone typed it, and what is wrong with it.

use super::super::draft::Entry;
use super::super::fields::Slot;
use super::Kind;
use crate::config::edit::Place;
use crate::config::form::{self, Kind as Takes};
use crate::web::failure::FieldError;
use crate::web::locale::Locale;
use askama::Template;
use std::collections::BTreeMap;

/// How deep the tables of a rule are nested at most; the file has one level.
const DEPTH_MAX: usize = 4;

/// The values of a rule, by name from the rule on, as they would be typed: `range.operating` has a line for each number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Values(BTreeMap<String, String>);

impl Values {
    /// Those that stand in the file.
    pub(super) fn of(text: &str, at: &Place) -> Self {
        let mut values = Self::default();
        values.take(text, at, "", DEPTH_MAX);
        values
    }

    fn take(&mut self, text: &str, at: &Place, before: &str, deeper: usize) {
        let Some(form) = form::at(text, at, None).filter(|_| deeper > 0) else { return };
        for field in form.fields {
            let name = format!("{before}{}", field.name);
            if matches!(field.kind, Takes::Table) {
                self.take(text, &field.path, &format!("{name}."), deeper - 1);
            } else if !field.typed.is_empty() {
                self.0.insert(name, field.typed);
            }
        }
    }

    /// A value; `range.operating[1]` is the second line of `range.operating`. Empty for none.
    pub(super) fn get(&self, name: &str) -> &str {
        if let Some(value) = self.0.get(name) {
            return value;
        }
        let item = name.strip_suffix(']').and_then(|name| name.rsplit_once('['));
        let line = item.and_then(|(list, index)| self.0.get(list)?.lines().nth(index.parse().ok()?));
        line.unwrap_or_default()
    }

    /// The number of a field, if it is one.
    pub(super) fn number(&self, name: &str) -> Option<f64> {
        self.get(name).parse().ok()
    }
}

/// A form of a rule: what is in it, and what is wrong.
pub(super) struct Sheet<'a> {
    /// What is made.
    pub(super) kind: &'static dyn Kind,
    /// Where it stands, or will stand.
    pub(super) entry: &'a Entry,
    /// What the file has.
    pub(super) kept: &'a Values,
    /// What is wrong with what was typed.
    pub(super) errors: &'a [FieldError],
    /// The unit of its points; empty where they have several, or none.
    pub(super) unit: &'a str,
    /// Language.
    pub(super) l: Locale,
}

/// An input.
pub(super) struct Input {
    /// Its id.
    pub(super) id: String,
    /// Its name.
    pub(super) name: &'static str,
    /// What stands in it.
    pub(super) value: String,
    /// Whether something is wrong with it.
    pub(super) wrong: bool,
}

impl Sheet<'_> {
    /// What stands in a field: what was typed, or what the file has.
    pub(super) fn get(&self, name: &str) -> &str {
        let typed = self.entry.typed.iter().find(|(typed, _)| typed == name);
        typed.map_or_else(|| self.kept.get(name), |(_, typed)| typed.as_str())
    }

    /// An input with what stands in it.
    pub(super) fn input(&self, name: &'static str) -> Input {
        Input { id: id(name), name, value: self.get(name).to_owned(), wrong: self.errors_of(name).next().is_some() }
    }

    /// The same for a number: as it is written in the viewer's language.
    pub(super) fn number(&self, name: &'static str) -> Input {
        let mut input = self.input(name);
        let is_typed = self.entry.typed.iter().any(|(typed, _)| typed == name);
        if !is_typed {
            let plain = input.value.strip_suffix(".0").unwrap_or(&input.value);
            input.value = plain.replace('.', &self.l.decimal.to_string());
        }
        input
    }

    fn errors_of<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'s FieldError> {
        let path = self.path(name);
        self.errors.iter().filter(move |error| error.path == path)
    }

    fn path(&self, name: &str) -> String {
        self.entry.at.below(name).unwrap_or_else(|_| self.entry.at.clone()).to_string()
    }

    /// Where the errors of a field stand.
    pub(super) fn slot(&self, name: &str) -> askama::Result<String> {
        self.errors_at(name, false).render()
    }

    fn errors_at(&self, name: &str, swap: bool) -> Slot {
        let said = |error: &FieldError| crate::web::words::sentence(&self.l.say(&error.message));
        Slot { id: id(name), label: String::new(), errors: self.errors_of(name).map(said).collect(), swap }
    }

    /// Every place of errors, to be put in place of those that are shown.
    pub(super) fn slots(&self) -> Vec<Slot> {
        self.names().map(|name| self.errors_at(name, true)).collect()
    }

    /// What is wrong that no field of this form shows.
    pub(super) fn elsewhere(&self) -> Vec<FieldError> {
        let shown: Vec<String> = self.names().map(|name| self.path(name)).collect();
        self.errors.iter().filter(|error| !shown.contains(&error.path)).cloned().collect()
    }

    fn names(&self) -> impl Iterator<Item = &'static str> {
        ["", "points"].into_iter().chain(self.kind.fields().iter().copied())
    }

    /// Something is wrong with a field.
    pub(super) fn wrong(&self, name: &str, message: &str) -> FieldError {
        FieldError { path: self.path(name), message: message.to_owned(), line: 0, column: 0 }
    }

    /// A choice that is the usual one is written only where the file says it already.
    pub(super) fn chosen(&self, name: &str, usual: &str) -> (String, String) {
        let typed = self.get(name);
        let kept = !self.kept.get(name).is_empty();
        (name.to_owned(), if typed == usual && !kept { String::new() } else { typed.to_owned() })
    }

    /// Two numbers that are one option, the lower first: both, or none.
    pub(super) fn pair(&self, list: &str, names: [&str; 2], errors: &mut Vec<FieldError>) -> (String, String) {
        let typed = names.map(|name| self.get(name).trim().to_owned());
        if typed.iter().all(String::is_empty) {
            return (list.to_owned(), String::new());
        }
        let mut lines = Vec::new();
        for (name, typed) in names.into_iter().zip(typed) {
            let number = typed.replace('\u{2212}', "-");
            if number.is_empty() {
                errors.push(self.wrong(name, "a lowest and a highest value belong together; fill in both, or none"));
            } else if !form::is_number(&number) {
                errors.push(self.wrong(name, "expected a number, such as 0.5"));
            }
            lines.push(number);
        }
        (list.to_owned(), lines.join("\n"))
    }
}

/// `4`, `−0.5`: what was set is told as it was set, without decimals that nobody wrote.
pub(super) fn plain(number: f64, l: Locale) -> String {
    number.to_string().replace('-', "\u{2212}").replace('.', &l.decimal.to_string())
}

/// The id of a field.
fn id(name: &str) -> String {
    let plain = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '-' };
    format!("f-{}", name.chars().map(plain).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_name_also_within_tables_and_lists() {
        let text = "[[check]]\npoints = \"a/*\"\nrange = { operating = [2, 8.5] }\n";
        let values = Values::of(text, &Place::root().key("check").item(0));
        assert_eq!(values.get("points"), "a/*");
        assert_eq!(values.number("range.operating[1]"), Some(8.5));
        assert_eq!(values.get("range.possible[0]"), "");
    }
}
