//! Checks the tree of a file against the shape that it must have and finds everything that is wrong, not only the first.
//!
//! Messages repeat what was found only where the file had to choose among known words, or give a number, duration or size:
//! whatever else stands in a file may be a secret in the wrong place.

use super::problem::{Findings, Lines};
use super::shape::{Choice, Key, Shape, Table};
use super::suggest::{did_you_mean, nearest, quoted};
use super::tree::{Node, join, kind_of};
use crate::units::{ByteSize, HumanDuration};
use std::borrow::Cow;
use std::fmt::Write;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

/// Checks a whole file; returns the paths of the tables of which it cannot be told what they should be.
pub(super) fn check(
    root: &Spanned<DeTable<'_>>,
    shape: &Table,
    lines: &Lines<'_>,
    findings: &mut Findings,
) -> Vec<String> {
    let mut walk = Walk { lines, findings, unjudged: Vec::new() };
    walk.keys("", root.get_ref(), &(0..0), shape, None);
    walk.unjudged
}

/// Checks the names of the tables at the top only: in a file with wrong syntax the rest cannot be trusted, but a misspelt
/// `[[source]]` is often why the `[[source.unit]]` below it is refused.
pub(super) fn check_top(root: &Spanned<DeTable<'_>>, shape: &Table, lines: &Lines<'_>, findings: &mut Findings) {
    let mut walk = Walk { lines, findings, unjudged: Vec::new() };
    for (name, value) in root.get_ref() {
        let table = matches!(value.get_ref(), DeValue::Table(_) | DeValue::Array(_));
        // What stood below a header that cannot be read is at the top now, where it is not known.
        if table && lines.is_header(&name.span()) && shape.key(name.get_ref()).is_none() {
            walk.unknown_key("", root.get_ref(), name, shape);
        }
    }
}

struct Walk<'a> {
    lines: &'a Lines<'a>,
    findings: &'a mut Findings,
    unjudged: Vec<String>,
}

impl Walk<'_> {
    fn report(&mut self, span: &Range<usize>, path: &str, message: String) {
        self.findings.add(self.lines.problem(span, path, message));
    }

    /// Every key of a table is known and every required key is there; `tag` has been looked at already.
    fn keys(&mut self, path: &str, found: &DeTable<'_>, span: &Range<usize>, table: &Table, tag: Option<&str>) {
        let mut meant = Vec::new();
        for (name, value) in found {
            match table.key(name.get_ref()) {
                Some(key) => self.value(&join(path, name.get_ref()), key, value),
                None if Some(name.get_ref().as_ref()) == tag => {}
                None => meant.extend(self.unknown_key(path, found, name, table)),
            }
        }
        for key in &table.keys {
            // A misspelt key has been reported where it stands.
            let there = found.contains_key(key.name.as_str()) || meant.contains(&key.name.as_str());
            if key.required && !there {
                self.report(span, path, missing(key));
            }
        }
    }

    /// Reports a key that does not exist; the one that is probably meant comes back.
    fn unknown_key<'t>(
        &mut self,
        path: &str,
        found: &DeTable<'_>,
        name: &Spanned<Cow<'_, str>>,
        table: &'t Table,
    ) -> Option<&'t str> {
        let all = || table.keys.iter().map(|key| key.name.as_str());
        let free = all().filter(|key| !found.contains_key(*key));
        let near = nearest(name.get_ref(), free).or_else(|| nearest(name.get_ref(), all()));
        let message = unknown("key", name.get_ref(), near, all());
        self.report(&name.span(), &join(path, name.get_ref()), message);
        near
    }

    fn value(&mut self, path: &str, key: &Key, found: &Node<'_>) {
        // A table header names the key of a list: `[[source]]`, not `[source]`.
        if let (Shape::List { item, .. }, DeValue::Table(_)) = (&key.shape, found.get_ref())
            && matches!(**item, Shape::Table(_) | Shape::Tagged { .. })
        {
            let message = format!("there may be several; write [[{}]] for each", header(path));
            return self.report(&found.span(), path, message);
        }
        self.shape(path, &key.name, &key.shape, found);
    }

    /// `name` is the key that the value belongs to.
    fn shape(&mut self, path: &str, name: &str, shape: &Shape, found: &Node<'_>) {
        let span = found.span();
        let wrong = match (shape, found.get_ref()) {
            (Shape::Table(table), DeValue::Table(keys)) => return self.keys(path, keys, &span, table, None),
            (Shape::Tagged { tag, variants, .. }, DeValue::Table(keys)) => {
                return self.tagged(path, keys, &span, tag, variants);
            }
            (Shape::Map(item), DeValue::Table(keys)) => {
                for (key, value) in keys {
                    self.shape(&join(path, key.get_ref()), key.get_ref(), item, value);
                }
                return;
            }
            (Shape::List { item, length }, DeValue::Array(items)) => {
                for (index, value) in items.iter().enumerate() {
                    self.shape(&format!("{path}[{index}]"), name, item, value);
                }
                match length {
                    Some(length) if items.len() != *length => {
                        Some(format!("expected {length} items, found {}", items.len()))
                    }
                    _ => None,
                }
            }
            (shape, found) => fault(name, shape, found),
        };
        if let Some(message) = wrong {
            self.report(&span, path, message);
        }
    }

    fn tagged(
        &mut self,
        path: &str,
        found: &DeTable<'_>,
        span: &Range<usize>,
        tag: &str,
        variants: &[(Choice, Table)],
    ) {
        let words = || variants.iter().map(|(choice, _)| choice.word.as_str());
        let said = found.get(tag).and_then(|value| value.get_ref().as_str()).unwrap_or_default();
        match found.get(tag).map(|value| (value, value.get_ref())) {
            Some((_, DeValue::String(text))) if words().any(|word| word == text) => {}
            Some((value, DeValue::String(text))) => {
                let message = unknown(tag, text, nearest(text, words()), words());
                self.report(&value.span(), &join(path, tag), message);
            }
            Some((value, other)) => {
                let message = format!("expected {}, found {}", one_of(words()), kind_of(other));
                self.report(&value.span(), &join(path, tag), message);
            }
            None => match found.keys().find(|key| nearest(key.get_ref(), [tag]).is_some()) {
                Some(key) => {
                    let message = format!("unknown key {}; did you mean {tag:?}?", quoted(key.get_ref()));
                    self.report(&key.span(), &join(path, key.get_ref()), message);
                }
                None => self.report(span, path, format!("missing key {tag:?} ({})", one_of(words()))),
            },
        }
        if let Some((_, table)) = variant_meant(said, variants) {
            return self.keys(path, found, span, table, Some(tag));
        }
        // Of something unknown only what everything of its kind must have can be asked for.
        self.unjudged.push(path.to_owned());
        let Some(((_, first), others)) = variants.split_first() else { return };
        let everywhere =
            |key: &Key| others.iter().all(|(_, table)| table.key(&key.name).is_some_and(|key| key.required));
        for key in first.keys.iter().filter(|key| key.required && everywhere(key)) {
            if !found.contains_key(key.name.as_str()) {
                self.report(span, path, missing(key));
            }
        }
    }
}

/// What is wrong with a single value; `name` is the key that it belongs to.
pub(super) fn fault(name: &str, shape: &Shape, found: &DeValue<'_>) -> Option<String> {
    match (shape, found) {
        (Shape::Choice(words), DeValue::String(text)) => {
            let words = || words.iter().map(|choice| choice.word.as_str());
            let near = || nearest(text, words());
            (!words().any(|word| word == text)).then(|| unknown(name, text, near(), words()))
        }
        (Shape::Text { one_character: true }, DeValue::String(text)) => {
            (text.chars().count() != 1).then(|| "expected exactly one character".to_owned())
        }
        (Shape::Text { .. } | Shape::SecretFile, DeValue::String(_))
        | (Shape::Boolean, DeValue::Boolean(_))
        | (Shape::Unknown, _) => None,
        (Shape::Duration, DeValue::String(text)) => text
            .parse::<HumanDuration>()
            .err()
            .map(|error| format!("{} is not a duration such as \"10 min\" or \"7 days\": {error}", quoted(text))),
        (Shape::Size, DeValue::String(text)) => text
            .parse::<ByteSize>()
            .err()
            .map(|error| format!("{} is not a size such as \"256 KiB\" or \"2 GiB\": {error}", quoted(text))),
        (Shape::Integer { min, max }, DeValue::Integer(number)) => outside(number, *min, *max),
        (Shape::Number, DeValue::Integer(number)) => outside(number, i64::MIN, i64::MAX),
        (Shape::Number, DeValue::Float(number)) => {
            let finite = number.as_str().parse::<f64>().is_ok_and(f64::is_finite);
            (!finite).then(|| "expected a finite number".to_owned())
        }
        (shape, found) => Some(format!("expected {}, found {}{}", expected(shape), kind_of(found), hint(shape, found))),
    }
}

/// The variant that a tag names, or the one that is probably meant.
pub(super) fn variant_meant<'a>(said: &str, variants: &'a [(Choice, Table)]) -> Option<&'a (Choice, Table)> {
    let named = |word: &str| variants.iter().find(|(choice, _)| choice.word == word);
    let words = variants.iter().map(|(choice, _)| choice.word.as_str());
    named(said).or_else(|| named(nearest(said, words)?))
}

/// `unknown kind "f33"; did you mean "f32"? (one of bool, i16, …)`
fn unknown<'a>(what: &str, found: &str, near: Option<&str>, words: impl Iterator<Item = &'a str>) -> String {
    format!("unknown {what} {}{} ({})", quoted(found), did_you_mean(near), one_of(words))
}

fn one_of<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let words: Vec<&str> = words.collect();
    match words.as_slice() {
        [] => "no more keys here".to_owned(),
        [word] => format!("only {word}"),
        words => format!("one of {}", words.join(", ")),
    }
}

/// `missing key "url": address of the broker`
fn missing(key: &Key) -> String {
    let mut message = format!("missing key {:?}", key.name);
    // Errors are one line that starts small and ends without a full stop.
    let mut letters = key.description.trim_end_matches('.').chars();
    if let Some(first) = letters.next() {
        let rest = letters.as_str();
        let word = rest.chars().next().is_some_and(char::is_lowercase);
        let first = if word { first.to_lowercase().to_string() } else { first.to_string() };
        // Writing to a String cannot fail.
        write!(message, " ({first}{rest})").ok();
    }
    message
}

fn outside(number: &DeInteger<'_>, min: i64, max: i64) -> Option<String> {
    let inside = i64::from_str_radix(number.as_str(), number.radix()).is_ok_and(|number| (min..=max).contains(&number));
    (!inside).then(|| match (min, max) {
        (i64::MIN, i64::MAX) => "the number is too large".to_owned(),
        (min, i64::MAX) => format!("expected a whole number of at least {min}"),
        (min, max) => format!("expected a whole number from {min} to {max}"),
    })
}

fn expected(shape: &Shape) -> String {
    match shape {
        Shape::Table(_) | Shape::Tagged { .. } | Shape::Map(_) => "a table".to_owned(),
        Shape::List { length: Some(length), .. } => format!("a list of {length}"),
        Shape::List { .. } => "a list".to_owned(),
        Shape::Choice(words) => one_of(words.iter().map(|choice| choice.word.as_str())),
        Shape::Text { .. } | Shape::Unknown => "a string in quotes".to_owned(),
        Shape::SecretFile => "the name of a file or credential in quotes".to_owned(),
        Shape::Duration => "a duration with its unit in quotes, such as \"10 min\"".to_owned(),
        Shape::Size => "a size with its unit in quotes, such as \"2 GiB\"".to_owned(),
        Shape::Integer { .. } => "a whole number".to_owned(),
        Shape::Number => "a number".to_owned(),
        Shape::Boolean => "true or false".to_owned(),
    }
}

/// The table header of a path: `source.unit` for `source[1].unit`.
fn header(path: &str) -> String {
    path.split('[').map(|part| part.split_once(']').map_or(part, |(_, rest)| rest)).collect()
}

/// What to do about a number or truth in quotes, or a table that is there once written as if there were many.
fn hint(shape: &Shape, found: &DeValue<'_>) -> &'static str {
    if let (Shape::Table(_), DeValue::Array(_)) = (shape, found) {
        return "; there is only one, write its name in single brackets";
    }
    let text = found.as_str().unwrap_or_default();
    let plain = match shape {
        Shape::Integer { .. } | Shape::Number => text.parse::<f64>().is_ok(),
        Shape::Boolean => text.parse::<bool>().is_ok(),
        _ => false,
    };
    if plain { "; leave out the quotes" } else { "" }
}
