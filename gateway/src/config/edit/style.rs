//! How new values are written: as the example file has them. Parts have headers, what belongs to one of their keys stands
//! in braces, and a list of tables has a line for each.

use super::model::Tree;
use super::place::{Place, Step, key_text};
use crate::config::shape::{self, Key, Shape, Table};
use std::fmt::Write;

/// Longest list that is written in one line, in bytes: the width of the example.
const LINE_BYTES_MAX: usize = 100;

/// How a key of a table with a header is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `key = …`
    Line,
    /// `[key]`
    Header,
    /// `[[key]]`, once an item.
    Headers,
}

/// Knows the shape of the file.
pub(super) struct Style {
    shape: Table,
    /// How lines end.
    pub(super) newline: &'static str,
}

impl Style {
    pub(super) fn of(text: &str) -> Self {
        Self { shape: shape::of_config(), newline: newline_of(text) }
    }

    /// For values alone, which need no shape.
    pub(super) fn of_values() -> Self {
        Self { shape: Table::default(), newline: "\n" }
    }

    /// How the value at a place is written, if what is around it has a header.
    pub(super) fn form(&self, place: &Place, value: &Tree) -> Form {
        match (self.form_by_shape(place), value) {
            (Form::Header, Tree::Table { .. }) => Form::Header,
            (Form::Headers, Tree::List { items, .. })
                if !items.is_empty() && items.iter().all(|item| matches!(item, Tree::Table { .. })) =>
            {
                Form::Headers
            }
            _ => Form::Line,
        }
    }

    fn form_by_shape(&self, place: &Place) -> Form {
        let mut keys: Vec<&Key> = self.shape.keys.iter().collect();
        let mut form = Form::Header;
        let mut in_list = false;
        for step in place.steps() {
            let Step::Key(name) = step else { continue };
            let Some(key) = keys.into_iter().find(|key| key.name == *name) else { return Form::Line };
            let (shape, is_list) = match &key.shape {
                Shape::List { item, .. } => (item.as_ref(), true),
                shape => (shape, false),
            };
            keys = keys_of(shape);
            let has_parts = keys.iter().any(|key| !is_plain(&key.shape));
            form = match (form, is_list) {
                (Form::Line, _) => Form::Line,
                (_, true) if !keys.is_empty() && (!in_list || has_parts) => Form::Headers,
                (_, false) if !in_list && !is_plain(shape) => Form::Header,
                _ => Form::Line,
            };
            in_list |= is_list;
        }
        form
    }

    /// A value as it stands behind `key = `; `indent` is that of the line.
    pub(super) fn value(&self, value: &Tree, indent: &str) -> String {
        match value {
            Tree::Leaf(leaf) => leaf.text.clone(),
            Tree::Table { keys, .. } => {
                let keys: Vec<String> = keys
                    .iter()
                    .filter(|(_, value)| !value.is_nothing())
                    .map(|(key, value)| self.pair(key, value, indent))
                    .collect();
                if keys.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", keys.join(", ")) }
            }
            Tree::List { items, .. } => {
                let deeper = format!("{indent}  ");
                let written: Vec<String> = items.iter().map(|item| self.value(item, &deeper)).collect();
                let length = written.iter().map(String::len).sum::<usize>();
                let tables = items.iter().any(|item| matches!(item, Tree::Table { .. }));
                if !tables && length <= LINE_BYTES_MAX {
                    return format!("[{}]", written.join(", "));
                }
                let lines = written.iter().map(|item| format!("{deeper}{item},{}", self.newline));
                format!("[{}{}{indent}]", self.newline, lines.collect::<String>())
            }
        }
    }

    /// `key = value`
    pub(super) fn pair(&self, key: &str, value: &Tree, indent: &str) -> String {
        format!("{} = {}", key_text(key), self.value(value, indent))
    }

    /// A table with its header, and what stands below it, without an empty line before it.
    pub(super) fn block(&self, place: &Place, value: &Tree, repeated: bool, out: &mut String) {
        let name = place.keys().map(key_text).collect::<Vec<_>>().join(".");
        let header = if repeated { format!("[[{name}]]") } else { format!("[{name}]") };
        // Writing to a String cannot fail.
        write!(out, "{header}{}", self.newline).ok();
        let Tree::Table { keys, .. } = value else { return };
        let forms = || keys.iter().map(|(key, value)| (key, value, self.form(&place.key(key), value)));
        for (key, value, _) in forms().filter(|(_, value, form)| *form == Form::Line && !value.is_nothing()) {
            write!(out, "{}{}", self.pair(key, value, ""), self.newline).ok();
        }
        for (key, value, form) in forms().filter(|(_, value, form)| *form != Form::Line && !value.is_nothing()) {
            self.blocks(&place.key(key), value, form, out);
        }
    }

    /// A value that has headers, each with an empty line before it.
    pub(super) fn blocks(&self, place: &Place, value: &Tree, form: Form, out: &mut String) {
        match value {
            Tree::List { items, .. } if form == Form::Headers => {
                for (index, item) in items.iter().enumerate() {
                    out.push_str(self.newline);
                    self.block(&place.item(index), item, true, out);
                }
            }
            value => {
                out.push_str(self.newline);
                self.block(place, value, false, out);
            }
        }
    }
}

/// How the lines of a text end.
pub(super) fn newline_of(text: &str) -> &'static str {
    if text.contains("\r\n") { "\r\n" } else { "\n" }
}

/// The keys that a table of this shape may have, whatever its tag says.
fn keys_of(shape: &Shape) -> Vec<&Key> {
    match shape {
        Shape::Table(table) => table.keys.iter().collect(),
        Shape::Tagged { variants, .. } => variants.iter().flat_map(|(_, table)| &table.keys).collect(),
        _ => Vec::new(),
    }
}

/// Whether values of this shape have no parts.
fn is_plain(shape: &Shape) -> bool {
    !matches!(shape, Shape::Table(_) | Shape::Tagged { .. } | Shape::Map(_) | Shape::List { .. })
}
