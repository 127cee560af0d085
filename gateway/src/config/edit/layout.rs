//! Where things stand in a text: its headers, the lines below each, and what lies between.

use super::place::Place;
use std::ops::Range;
use toml_edit::{Document, Item, Key, Table, Value};

/// A header with the lines below it, up to the next header.
#[derive(Debug)]
pub(super) struct Block {
    /// What the header names; the lines before the first header are the whole file's.
    pub(super) place: Place,
    /// Where the line of the header starts.
    pub(super) start: usize,
    /// Behind the last line with something of it.
    pub(super) end: usize,
}

/// A text whose parts have been found.
pub(super) struct Layout<'a> {
    pub(super) text: &'a str,
    /// Every header, in the order of the text.
    pub(super) blocks: Vec<Block>,
}

impl<'a> Layout<'a> {
    pub(super) fn of(document: &'a Document<&'a str>) -> Self {
        let mut layout = Self { text: document.raw(), blocks: Vec::new() };
        layout.collect(&Place::root(), document.as_table());
        layout.blocks.sort_by_key(|block| block.start);
        layout
    }

    fn collect(&mut self, place: &Place, table: &Table) {
        if place.steps().is_empty() || !(table.is_implicit() || table.is_dotted()) {
            let header = if place.steps().is_empty() { 0..0 } else { table.span().unwrap_or_default() };
            let behind = if header.end == 0 { 0 } else { self.line_end(header.end) };
            let last = leaves(table).into_iter().map(|(_, value)| self.line_end(value.end)).max();
            let start = self.line_start(header.start);
            self.blocks.push(Block { place: place.clone(), start, end: behind.max(last.unwrap_or_default()) });
        }
        for (key, item) in table {
            match item {
                Item::Table(below) => self.collect(&place.key(key), below),
                Item::ArrayOfTables(tables) => {
                    for (index, below) in tables.iter().enumerate() {
                        self.collect(&place.key(key).item(index), below);
                    }
                }
                _ => {}
            }
        }
    }

    /// The header of exactly this place.
    pub(super) fn block(&self, place: &Place) -> Option<&Block> {
        self.blocks.iter().find(|block| block.place == *place)
    }

    /// The nearest header around a place that has none.
    pub(super) fn host(&self, place: &Place) -> Option<&Block> {
        let around = self.blocks.iter().filter(|block| place.is_within(&block.place));
        around.max_by_key(|block| block.place.steps().len())
    }

    /// All headers at and below a place.
    pub(super) fn within<'s>(&'s self, place: &'s Place) -> impl Iterator<Item = &'s Block> {
        self.blocks.iter().filter(|block| block.place.is_within(place))
    }

    /// Behind a place and everything that follows it below it; for the whole file its end.
    pub(super) fn region_end(&self, place: &Place) -> Option<usize> {
        if place.steps().is_empty() {
            return Some(self.text.len());
        }
        let rest = self.blocks.iter().skip_while(|block| !block.place.is_within(place));
        rest.take_while(|block| block.place.is_within(place)).last().map(|block| block.end)
    }

    /// Where the comments start that stand right above a line.
    pub(super) fn above(&self, line: usize) -> usize {
        let mut start = line;
        while let Some(before) = start.checked_sub(1) {
            let previous = self.line_start(before);
            if !self.slice(previous..before).trim_start().starts_with('#') {
                break;
            }
            start = previous;
        }
        start
    }

    /// Where the empty lines start that stand right above a line.
    pub(super) fn empty_above(&self, line: usize) -> usize {
        let mut start = line;
        while let Some(before) = start.checked_sub(1) {
            let previous = self.line_start(before);
            if !self.slice(previous..before).trim().is_empty() {
                break;
            }
            start = previous;
        }
        start
    }

    pub(super) fn line_start(&self, at: usize) -> usize {
        self.slice(0..at).rfind('\n').map_or(0, |line| line + 1)
    }

    /// Behind the line break.
    pub(super) fn line_end(&self, at: usize) -> usize {
        self.slice(at..self.text.len()).find('\n').map_or(self.text.len(), |line| at + line + 1)
    }

    pub(super) fn slice(&self, range: Range<usize>) -> &'a str {
        self.text.get(range).unwrap_or_default()
    }

    /// Behind spaces, line breaks and comments.
    pub(super) fn behind_space(&self, mut at: usize) -> usize {
        loop {
            let rest = self.slice(at..self.text.len());
            let behind = at + rest.len() - rest.trim_start().len();
            at = if self.slice(behind..self.text.len()).starts_with('#') { self.line_end(behind) } else { behind };
            if at == behind {
                return at;
            }
        }
    }

    /// Whether nothing but a comment follows in the line.
    pub(super) fn is_rest_empty(&self, at: usize) -> bool {
        let rest = self.slice(at..self.line_end(at)).trim();
        rest.is_empty() || rest.starts_with('#')
    }

    /// Whether nothing stands before it in the line.
    pub(super) fn is_first_in_line(&self, at: usize) -> bool {
        self.slice(self.line_start(at)..at).trim().is_empty()
    }
}

/// The keys that stand below a table's own header, each with its value; what is dotted is followed.
pub(super) fn leaves(table: &Table) -> Vec<(Range<usize>, Range<usize>)> {
    let mut found = Vec::new();
    for (name, item) in table {
        match item {
            Item::Value(value) => found.extend(table.key(name).and_then(|key| spans(key, value))),
            Item::Table(below) if below.is_dotted() => found.extend(leaves(below)),
            _ => {}
        }
    }
    found
}

/// Where a key and its value stand. A value in braces that is only implied by a dotted key is as long as what it holds.
pub(super) fn spans(key: &Key, value: &Value) -> Option<(Range<usize>, Range<usize>)> {
    Some((key.span()?, value.span()?))
}
