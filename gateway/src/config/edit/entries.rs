//! Entries of a list or of a table in braces: how new ones are put between the others, and how old ones go.

use super::sync::{Splice, Sync};
use std::ops::Range;

/// Where an entry stands, without its comma.
pub(super) struct Entry {
    pub(super) start: usize,
    pub(super) end: usize,
}

impl Sync<'_> {
    /// New entries of a list or table in braces before that of an index.
    pub(super) fn add_entries(
        &mut self,
        span: &Range<usize>,
        entries: &[Entry],
        index: usize,
        added: &[String],
        lines: bool,
    ) {
        let newline = self.style.newline;
        let Some(first) = entries.first() else {
            let inside = span.start + 1..span.end.saturating_sub(1);
            let indent = self.indent(span.start);
            let text = if lines {
                added.iter().fold(String::new(), |text, item| format!("{text}{newline}{indent}  {item},"))
                    + newline
                    + indent
            } else if self.layout.slice(span.start..inside.start) == "{" {
                format!(" {} ", added.join(", "))
            } else {
                added.join(", ")
            };
            // A comment in an empty list stays, on lines of its own.
            let empty = self.layout.slice(inside.clone()).trim().is_empty();
            let range = if empty { inside } else { inside.start..inside.start };
            let text = if empty { text } else { format!("{},{newline}", text.trim_end()).replace(",,", ",") };
            return self.splices.push(Splice { range, text });
        };
        let own_lines = self.layout.is_first_in_line(first.start);
        let indent = self.indent(first.start);
        let as_lines = || added.iter().fold(String::new(), |text, item| format!("{text}{indent}{item},{newline}"));
        if let Some(next) = entries.get(index) {
            let (at, text) = if own_lines && self.layout.is_first_in_line(next.start) {
                (self.layout.above(self.layout.line_start(next.start)), as_lines())
            } else {
                (next.start, added.iter().fold(String::new(), |text, item| format!("{text}{item}, ")))
            };
            return self.splices.push(Splice { range: at..at, text });
        }
        let last = entries.last().map_or(first.end, |entry| entry.end);
        let behind = self.layout.behind_space(last);
        let comma = self.layout.slice(behind..behind + 1) == ",";
        let at = if comma { behind + 1 } else { last };
        if own_lines && self.layout.is_rest_empty(at) {
            let range = last..self.layout.line_end(at);
            let rest = self.layout.slice(range.clone());
            let text = if comma { format!("{rest}{}", as_lines()) } else { format!(",{rest}{}", as_lines()) };
            return self.splices.push(Splice { range, text });
        }
        let text = added.iter().fold(String::new(), |text, item| format!("{text}, {item}"));
        self.splices.push(Splice { range: last..last, text });
    }

    /// Takes entries out of a list or table in braces.
    pub(super) fn cut_entries(&mut self, entries: &[Entry], cut: Range<usize>) {
        let (Some(first), Some(last)) = (entries.get(cut.start), cut.end.checked_sub(1).and_then(|at| entries.get(at)))
        else {
            return;
        };
        let behind = self.layout.behind_space(last.end);
        let comma = self.layout.slice(behind..behind + 1) == ",";
        let end = if comma { behind + 1 } else { last.end };
        if self.layout.is_first_in_line(first.start) && self.layout.is_rest_empty(end) {
            let range = self.layout.line_start(first.start)..self.layout.line_end(end);
            return self.splices.push(Splice { range, text: String::new() });
        }
        let is_space =
            |range: Range<usize>| self.layout.slice(range).chars().all(|letter| letter == ' ' || letter == ',');
        let before = cut.start.checked_sub(1).and_then(|at| entries.get(at));
        let range = match (entries.get(cut.end), before) {
            (Some(next), _) if is_space(last.end..next.start) => first.start..next.start,
            (None, Some(before)) if is_space(before.end..first.start) => before.end..last.end,
            _ => first.start..end,
        };
        self.splices.push(Splice { range, text: String::new() });
    }
}
