//! Finds what must change in a text so that it says what is wanted, and nothing else changes.

use super::entries::Entry;
use super::layout::{Layout, leaves, spans};
use super::model::Tree;
use super::place::{Place, Step};
use super::style::{Form, Style};
use std::ops::Range;
use toml_edit::{Array, ArrayOfTables, InlineTable, Item, Table, Value};

/// A piece of the text, and what stands there instead.
#[derive(Debug)]
pub(super) struct Splice {
    pub(super) range: Range<usize>,
    pub(super) text: String,
}

/// Collects the changes of one pass.
pub(super) struct Sync<'a> {
    pub(super) layout: &'a Layout<'a>,
    pub(super) style: &'a Style,
    pub(super) splices: Vec<Splice>,
}

impl<'a> Sync<'a> {
    /// A table with a header, or of dotted keys.
    pub(super) fn table(&mut self, place: &Place, found: &Table, wanted: &Tree) {
        let Tree::Table { keys, .. } = wanted else { return };
        for (name, item) in found {
            let below = place.key(name);
            match (item, wanted.get(name).filter(|wanted| !wanted.is_nothing())) {
                (_, Some(wanted)) if Some(wanted) == Tree::of_item(item).as_ref() => {}
                (Item::Value(value), Some(wanted)) => self.value(value, wanted),
                (Item::Table(found), Some(wanted @ Tree::Table { .. })) => self.table(&below, found, wanted),
                (Item::ArrayOfTables(found), Some(Tree::List { items, .. }))
                    if !items.is_empty() && items.iter().all(|item| matches!(item, Tree::Table { .. })) =>
                {
                    self.tables(&below, found, items);
                }
                (Item::Table(found), None) if Tree::of_table(found, found.is_implicit()).is_nothing() => {}
                (Item::Value(value), None) => {
                    if let Some((key, value)) = found.key(name).and_then(|key| spans(key, value)) {
                        self.remove_line(key.start, value.end);
                    }
                }
                (item, _) => self.remove_below(&below, item),
            }
        }
        let missing = keys.iter().filter(|(key, value)| !found.contains_key(key) && !value.is_nothing());
        let forms = missing.map(|(key, value)| (key, value, self.style.form(&place.key(key), value)));
        let (lines, blocks): (Vec<_>, Vec<_>) = forms.partition(|(_, _, form)| *form == Form::Line);
        if !lines.is_empty() {
            let pairs = lines.into_iter().map(|(key, value, _)| (key.as_str(), value));
            self.add_lines(place, found, &pairs.collect::<Vec<_>>());
        } else if !blocks.is_empty() {
            let mut text = String::new();
            for (key, value, form) in blocks {
                self.style.blocks(&place.key(key), value, form, &mut text);
            }
            let end = self.layout.region_end(place).or_else(|| self.layout.host(place).map(|host| host.end));
            self.insert_lines(end.unwrap_or(self.layout.text.len()), text);
        }
    }

    /// New keys below the last of their table.
    fn add_lines(&mut self, place: &Place, found: &Table, pairs: &[(&str, &Tree)]) {
        let newline = self.style.newline;
        let own = if place.steps().is_empty() || !found.is_implicit() && !found.is_dotted() {
            self.layout.block(place)
        } else if found.is_dotted() {
            self.layout.host(place)
        } else {
            None
        };
        let Some(own) = own else {
            // Only parts of the table have headers: it gets its own before them.
            let mut text = String::new();
            let keys = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).clone())).collect();
            self.style.block(place, &Tree::Table { keys, implied: false }, false, &mut text);
            text.push_str(newline);
            let first = self.layout.within(place).next().map(|block| self.layout.above(block.start));
            return self.insert_lines(first.unwrap_or(self.layout.text.len()), text);
        };
        let last = leaves(found).into_iter().map(|(_, value)| value.end).max();
        let at = last.map_or(own.end, |last| self.layout.line_end(last));
        let indent = leaves(found).into_iter().map(|(key, _)| key.start).max().map_or("", |key| {
            let line = self.layout.line_start(key);
            let text = self.layout.slice(line..key);
            text.get(..text.len() - text.trim_start().len()).unwrap_or_default()
        });
        let depth = own.place.steps().len();
        let dotted = place.steps().iter().skip(depth).fold(String::new(), |dotted, step| match step {
            Step::Key(key) => dotted + &super::place::key_text(key) + ".",
            Step::Item(_) => dotted,
        });
        let lines = pairs
            .iter()
            .map(|(key, value)| format!("{indent}{dotted}{}{newline}", self.style.pair(key, value, indent)));
        self.insert_lines(at, lines.collect());
    }

    /// A list whose items have headers.
    fn tables(&mut self, place: &Place, found: &ArrayOfTables, wanted: &[Tree]) {
        let old: Vec<Tree> = found.iter().map(|table| Tree::of_table(table, false)).collect();
        let gap = Gap::between(&old, wanted);
        for (offset, (table, wanted)) in found.iter().zip(wanted).enumerate().skip(gap.first).take(gap.shared) {
            self.table(&place.item(offset), table, wanted);
        }
        for index in gap.removed() {
            self.remove_blocks(&place.item(index));
        }
        let added: Vec<&Tree> = wanted.iter().skip(gap.added().start).take(gap.added().len()).collect();
        if added.is_empty() {
            return;
        }
        let mut text = String::new();
        let mut at = None;
        if let Some(before) = gap.added().start.checked_sub(1) {
            at = self.layout.region_end(&place.item(before));
        }
        for wanted in added {
            if at.is_some() {
                text.push_str(self.style.newline);
            }
            self.style.block(&place.item(0), wanted, true, &mut text);
            if at.is_none() {
                text.push_str(self.style.newline);
            }
        }
        let first = || self.layout.block(&place.item(0)).map(|block| self.layout.above(block.start));
        self.insert_lines(at.or_else(first).unwrap_or(self.layout.text.len()), text);
    }

    /// A value behind `=` or in a list.
    fn value(&mut self, found: &Value, wanted: &Tree) {
        if Tree::of_value(found) == *wanted {
            return;
        }
        match (found, wanted) {
            (Value::InlineTable(found), Tree::Table { .. }) if !is_dotted_within(found) => self.braces(found, wanted),
            (Value::Array(found), Tree::List { items, .. }) => self.list(found, items),
            _ => {
                let Some(range) = found.span() else { return };
                let text = self.style.value(wanted, self.indent(range.start));
                self.splices.push(Splice { range, text });
            }
        }
    }

    fn braces(&mut self, found: &InlineTable, wanted: &Tree) {
        let (Tree::Table { keys, .. }, Some(span)) = (wanted, found.span()) else { return };
        let mut entries = Vec::new();
        let mut removed = None;
        for (name, value) in found {
            let Some((key, value_span)) = found.key(name).and_then(|key| spans(key, value)) else { return };
            match wanted.get(name).filter(|wanted| !wanted.is_nothing()) {
                Some(wanted) => self.value(value, wanted),
                None => removed = Some(entries.len()),
            }
            entries.push(Entry { start: key.start, end: value_span.end });
        }
        let missing = keys.iter().filter(|(key, value)| !found.contains_key(key) && !value.is_nothing());
        let indent = self.indent(span.start);
        let missing: Vec<String> = missing.map(|(key, value)| self.style.pair(key, value, indent)).collect();
        if let Some(index) = removed {
            self.cut_entries(&entries, index..index + 1);
        } else if !missing.is_empty() {
            self.add_entries(&span, &entries, entries.len(), &missing, false);
        }
    }

    fn list(&mut self, found: &Array, wanted: &[Tree]) {
        let Some(span) = found.span() else { return };
        let old: Vec<Tree> = found.iter().map(Tree::of_value).collect();
        let spans = found.iter().filter_map(Value::span);
        let entries: Vec<Entry> = spans.map(|span| Entry { start: span.start, end: span.end }).collect();
        let gap = Gap::between(&old, wanted);
        for (value, wanted) in found.iter().zip(wanted).skip(gap.first).take(gap.shared) {
            self.value(value, wanted);
        }
        let added: Vec<&Tree> = wanted.iter().skip(gap.added().start).take(gap.added().len()).collect();
        if !gap.removed().is_empty() {
            self.cut_entries(&entries, gap.removed());
        } else if !added.is_empty() {
            let lines = added.iter().any(|item| matches!(item, Tree::Table { .. }));
            let indent = match entries.first() {
                Some(first) => self.indent(first.start).to_owned(),
                None => format!("{}  ", self.indent(span.start)),
            };
            let added: Vec<String> = added.iter().map(|item| self.style.value(item, &indent)).collect();
            self.add_entries(&span, &entries, gap.added().start, &added, lines);
        }
    }

    /// Takes out a line `key = value`; a comment behind it stays on a line of its own.
    fn remove_line(&mut self, key: usize, value_end: usize) {
        let (start, end) = (self.layout.line_start(key), self.layout.line_end(value_end));
        let rest = self.layout.slice(value_end..end);
        let range = match rest.find('#') {
            Some(comment) => key..value_end + comment,
            None => start..end,
        };
        // A dotted key begins before its last word.
        let from = self.layout.slice(start..key);
        let range = if range.start == start { range } else { start + from.len() - from.trim_start().len()..range.end };
        self.splices.push(Splice { range, text: String::new() });
    }

    /// Takes out everything at and below a place.
    fn remove_below(&mut self, place: &Place, item: &Item) {
        if let Item::Table(table) = item {
            for (key, value) in leaves(table).into_iter().filter(|_| table.is_dotted()) {
                self.remove_line(key.start, value.end);
            }
        }
        self.remove_blocks(place);
    }

    /// Takes out headers with their lines, and the comments right above them.
    fn remove_blocks(&mut self, place: &Place) {
        for block in self.layout.within(place) {
            let start = self.layout.above(block.start);
            let empty = self.layout.empty_above(start);
            let mut end = block.end;
            if empty == 0 {
                while end < self.layout.text.len()
                    && self.layout.slice(end..self.layout.line_end(end)).trim().is_empty()
                {
                    end = self.layout.line_end(end);
                }
            }
            self.splices.push(Splice { range: empty..end, text: String::new() });
        }
    }

    fn insert_lines(&mut self, at: usize, text: String) {
        let unended = at > 0 && !self.layout.slice(0..at).ends_with('\n');
        let text = if unended { format!("{}{text}", self.style.newline) } else { text };
        // A file does not begin with an empty line.
        let text = if at == 0 { text.trim_start().to_owned() } else { text };
        self.splices.push(Splice { range: at..at, text });
    }

    /// The spaces at the start of the line.
    pub(super) fn indent(&self, at: usize) -> &'a str {
        let line = self.layout.slice(self.layout.line_start(at)..at);
        line.get(..line.len() - line.trim_start_matches([' ', '\t']).len()).unwrap_or_default()
    }
}

fn is_dotted_within(table: &InlineTable) -> bool {
    table.is_dotted() || table.iter().any(|(_, value)| value.as_inline_table().is_some_and(InlineTable::is_dotted))
}

/// The part of a list that differs, between equal items before and behind it.
struct Gap {
    first: usize,
    /// Items that are there before and after, with another content.
    shared: usize,
    old: usize,
    new: usize,
}

impl Gap {
    fn between(old: &[Tree], new: &[Tree]) -> Self {
        let first = old.iter().zip(new).take_while(|(old, new)| old == new).count();
        let rest = old.len().min(new.len()) - first;
        let last = old.iter().rev().zip(new.iter().rev()).take(rest).take_while(|(old, new)| old == new).count();
        let (old, new) = (old.len() - first - last, new.len() - first - last);
        Self { first, shared: old.min(new), old, new }
    }

    /// What goes, by its old index.
    fn removed(&self) -> Range<usize> {
        self.first + self.shared..self.first + self.old
    }

    /// What comes, by its new index.
    fn added(&self) -> Range<usize> {
        self.first + self.shared..self.first + self.new
    }
}
