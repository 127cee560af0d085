//! What is wrong with a file, each with its place, printed like a compiler does.

use std::fmt;
use std::ops::Range;

/// Most problems that are listed; a file that is wrong throughout is not read to its end by anyone.
const PROBLEMS_SHOWN_MAX: usize = 100;

/// Most problems that are kept, so that a megabyte of rubbish does not become many megabytes of messages.
const PROBLEMS_KEPT_MAX: usize = 1_000;

/// One thing that is wrong, or doubtful.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Line, counted from 1.
    pub line: usize,
    /// Character in the line, counted from 1.
    pub column: usize,
    /// Where in the configuration, as `source[1].unit[0].registers[2].kind`; empty where there is none.
    pub path: String,
    /// What is wrong and what to do.
    pub message: String,
}

/// Everything that is wrong with one file, in the order of its lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    /// The file's name as given.
    pub file: String,
    /// The errors, at least one, at most 1 000.
    pub errors: Vec<Problem>,
}

/// Collects problems up to a limit.
#[derive(Debug, Default)]
pub(super) struct Findings(Vec<Problem>);

impl Findings {
    pub(super) fn add(&mut self, problem: Problem) {
        if self.0.len() < PROBLEMS_KEPT_MAX {
            self.0.push(problem);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, in the order in which they were found.
    pub(super) fn as_slice(&self) -> &[Problem] {
        &self.0
    }

    /// All of them, in the order of the file's lines.
    pub(super) fn into_sorted(mut self) -> Vec<Problem> {
        self.0.sort_by_key(|problem| (problem.line, problem.column));
        self.0
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigErrors {
    /// The file cannot be read.
    #[error("configuration {file:?} cannot be read: {error}")]
    Unreadable {
        /// The file's name as given.
        file: String,
        /// What the system said.
        error: std::io::Error,
    },
    /// The file is larger than anything that is a configuration.
    #[error("configuration {file:?} is larger than {} KiB; is it the right file?", super::FILE_BYTES_MAX / 1024)]
    TooLarge {
        /// The file's name as given.
        file: String,
    },
    /// The file is not text.
    #[error("configuration {file:?} is not UTF-8 text at byte {at}; save it as UTF-8")]
    NotText {
        /// The file's name as given.
        file: String,
        /// The first byte that is not.
        at: usize,
    },
    /// The file says something wrong.
    #[error("{0}")]
    Invalid(Problems),
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in self.errors.iter().take(PROBLEMS_SHOWN_MAX) {
            writeln!(f, "{}:{problem}", self.file)?;
        }
        match self.errors.len() {
            1 => f.write_str("1 error"),
            count if count > PROBLEMS_SHOWN_MAX => {
                let more = if count == PROBLEMS_KEPT_MAX { " or more" } else { "" };
                write!(f, "{count} errors{more}, the first {PROBLEMS_SHOWN_MAX} shown")
            }
            count => write!(f, "{count} errors"),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.line, self.column)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

/// Turns byte positions of a text into lines and columns.
#[derive(Debug)]
pub(super) struct Lines<'a> {
    text: &'a str,
    /// Where each line starts.
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Self { text, starts: std::iter::once(0).chain(breaks).collect() }
    }

    /// Whether what is at `span` begins a table header.
    pub(super) fn is_header(&self, span: &Range<usize>) -> bool {
        self.text.get(..span.start).is_some_and(|before| before.ends_with('['))
    }

    /// The problem at the start of `span`.
    pub(super) fn problem(&self, span: &Range<usize>, path: &str, message: String) -> Problem {
        let line = self.starts.partition_point(|start| *start <= span.start).max(1);
        let start = self.starts.get(line - 1).copied().unwrap_or_default();
        let before = self.text.as_bytes().get(start..span.start).unwrap_or_default();
        let column = String::from_utf8_lossy(before).chars().count() + 1;
        Problem { line, column, path: path.to_owned(), message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_count_from_one_and_in_characters() {
        let lines = Lines::new("a = 1\nunit = \"m³/h\" x\n");
        let at = |byte: usize| {
            let problem = lines.problem(&(byte..byte), "", String::new());
            (problem.line, problem.column)
        };
        assert_eq!(at(0), (1, 1));
        assert_eq!(at(6), (2, 1));
        assert_eq!(at(21), (2, 15));
        assert_eq!(at(999), (3, 1));
    }
}
