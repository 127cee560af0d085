//! Looks whether the files with secrets can be read. One that cannot is no error of the configuration: a systemd credential
//! exists only while the service runs, and a token may come later.

use super::problem::{Lines, Problem};
use super::shape::{self, Shape, Table};
use super::tree::{Node, join};
use crate::secret::SecretFile;
use toml::de::{DeTable, DeValue};

/// A warning for each secret of a sound file that cannot be read now.
pub(super) fn unreadable(text: &str) -> Vec<Problem> {
    let (tree, _) = DeTable::parse_recoverable(text);
    let mut look = Look { lines: Lines::new(text), warnings: Vec::new() };
    look.keys("", tree.get_ref(), &shape::of_config());
    look.warnings
}

struct Look<'a> {
    lines: Lines<'a>,
    warnings: Vec<Problem>,
}

impl Look<'_> {
    fn keys(&mut self, path: &str, found: &DeTable<'_>, table: &Table) {
        for (name, value) in found {
            if let Some(key) = table.key(name.get_ref()) {
                self.value(&join(path, name.get_ref()), value, &key.shape);
            }
        }
    }

    fn value(&mut self, path: &str, found: &Node<'_>, shape: &Shape) {
        match (shape, found.get_ref()) {
            (Shape::Table(table), DeValue::Table(keys)) => self.keys(path, keys, table),
            (Shape::Tagged { tag, variants, .. }, DeValue::Table(keys)) => {
                let word = keys.get(tag.as_str()).and_then(|value| value.get_ref().as_str());
                if let Some((_, table)) = variants.iter().find(|(choice, _)| Some(choice.word.as_str()) == word) {
                    self.keys(path, keys, table);
                }
            }
            (Shape::Map(item), DeValue::Table(keys)) => {
                for (name, value) in keys {
                    self.value(&join(path, name.get_ref()), value, item);
                }
            }
            (Shape::List { item, .. }, DeValue::Array(items)) => {
                for (index, value) in items.iter().enumerate() {
                    self.value(&format!("{path}[{index}]"), value, item);
                }
            }
            (Shape::SecretFile, DeValue::String(name)) => {
                if let Err(error) = SecretFile(name.clone().into_owned()).read() {
                    self.warnings.push(self.lines.problem(&found.span(), path, error.to_string()));
                }
            }
            _ => {}
        }
    }
}
