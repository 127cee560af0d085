//! What differs between two texts, line by line, with a few lines around each change.

use schemars::JsonSchema;
use serde::Serialize;
use similar::{ChangeTag, TextDiff};
use std::time::Duration;

/// Lines shown around a change.
const AROUND: usize = 3;

/// Most lines of a difference; nobody reads more.
pub(super) const DIFF_LINES_MAX: usize = 2_000;

/// Longest time for finding the smallest difference; behind it a larger one will do.
const SEARCH_MAX: Duration = Duration::from_millis(200);

/// A line of a difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DiffLine {
    /// What happened to it.
    pub kind: DiffKind,
    /// Its number in the old text, counted from 1.
    pub old_line: Option<usize>,
    /// Its number in the new text, counted from 1.
    pub new_line: Option<usize>,
    /// The line, without its end.
    pub text: String,
}

/// What happened to a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DiffKind {
    /// Nothing.
    Same,
    /// It went.
    Removed,
    /// It came.
    Added,
    /// Lines were left out here.
    Skipped,
}

/// What differs; nothing if nothing does. To be shown it must be made of redacted texts.
#[must_use]
pub fn diff(old: &str, new: &str) -> Vec<DiffLine> {
    let diff = TextDiff::configure().timeout(SEARCH_MAX).diff_lines(old, new);
    let mut lines: Vec<DiffLine> = Vec::new();
    let skipped = || DiffLine { kind: DiffKind::Skipped, old_line: None, new_line: None, text: String::new() };
    for group in diff.grouped_ops(AROUND) {
        let starts_later = group.first().is_some_and(|op| op.old_range().start > 0 || op.new_range().start > 0);
        if starts_later {
            lines.push(skipped());
        }
        for change in group.iter().flat_map(|op| diff.iter_changes(op)) {
            if lines.len() >= DIFF_LINES_MAX {
                lines.push(skipped());
                return lines;
            }
            let kind = match change.tag() {
                ChangeTag::Equal => DiffKind::Same,
                ChangeTag::Delete => DiffKind::Removed,
                ChangeTag::Insert => DiffKind::Added,
            };
            let text: &str = change.value();
            lines.push(DiffLine {
                kind,
                old_line: change.old_index().map(|line| line + 1),
                new_line: change.new_index().map(|line| line + 1),
                text: text.trim_end_matches(['\n', '\r']).to_owned(),
            });
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_line_stands_between_those_around_it() {
        let old: String = (1..=20).fold(String::new(), |text, n| format!("{text}line {n}\n"));
        let new = old.replace("line 10\n", "LINE 10\n");
        let lines = diff(&old, &new);
        let text: Vec<_> = lines.iter().map(|line| (line.kind, line.text.as_str())).collect();
        assert_eq!(text[0], (DiffKind::Skipped, ""));
        assert_eq!(text[4..6], [(DiffKind::Removed, "line 10"), (DiffKind::Added, "LINE 10")]);
        assert_eq!((lines.len(), lines[4].old_line, lines[5].new_line), (9, Some(10), Some(10)));
        assert_eq!(diff(&old, &old), []);
    }

    #[test]
    fn two_large_texts_without_a_common_line_end_in_time() {
        let side = |letter: char| (0..60_000).map(|n| n.to_string()).collect::<Vec<_>>().join(&format!("{letter}\n"));
        assert_eq!(diff(&side('a'), &side('b')).len(), DIFF_LINES_MAX + 1);
    }
}
