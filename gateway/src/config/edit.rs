//! Changes values in a text of the configuration and leaves everything else as it stands, byte for byte: comments, order,
//! empty lines, the way numbers are written.
//!
//! The edits are made on what the text says; then the text is changed until it says the same. Whatever the text looked
//! like, the result never says anything else.

mod entries;
mod layout;
mod model;
mod place;
mod shift;
mod style;
mod sync;
#[cfg(test)]
mod tests;

pub use place::{NoPlace, Place, Step};

use layout::Layout;
use model::Tree;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use style::Style;
use sync::{Splice, Sync};
use toml_edit::Document;

/// Most edits in one go: a form or a sheet has fewer, and a sheet is one.
pub const EDITS_MAX: usize = 1_000;

/// Most passes over a text. A pass changes every place that does not touch another; more than a few are needed only where
/// many keys of one table go.
const PASSES_MAX: usize = 100;

/// Most of them that move an item: each is a pass of its own.
const MOVES_MAX: usize = 20;

/// One change. A value is written as in the file: `"text"`, `20.5`, `{ format = "number" }`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Edit {
    /// Puts a value there, in place of what stands there, if anything. Tables on the way come into being.
    Set {
        /// Where.
        path: Place,
        /// What, as TOML.
        value: String,
    },
    /// Takes out a key or an item with everything below it.
    Remove {
        /// Where.
        path: Place,
    },
    /// Adds an item at the end of a list, which comes into being if it is not there.
    Append {
        /// The list.
        path: Place,
        /// The item, as TOML.
        value: String,
    },
    /// Adds an item before another.
    Insert {
        /// The list.
        path: Place,
        /// Its index then.
        index: usize,
        /// The item, as TOML.
        value: String,
    },
    /// Puts an item elsewhere in its list.
    Move {
        /// The list.
        path: Place,
        /// Its index now.
        from: usize,
        /// Its index then.
        to: usize,
    },
}

/// Why a text was not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The text, or what would come of it, is too large.
    #[error("the configuration would be larger than {} KiB; nothing was changed", super::FILE_BYTES_MAX / 1024)]
    TooLarge,
    /// Too much at once.
    #[error("more than {EDITS_MAX} changes or {MOVES_MAX} moves at once; make them in parts")]
    TooMany,
    /// The text is no TOML.
    #[error("the text has a mistake in line {line} ({message}); correct it there first")]
    Syntax {
        /// Line, counted from 1.
        line: usize,
        /// What the parser said.
        message: String,
    },
    /// There is nothing.
    #[error("{path}: nothing stands there; it may have been removed meanwhile")]
    Nothing {
        /// Where.
        path: Place,
    },
    /// It has no items.
    #[error("{path}: this is no list")]
    NotAList {
        /// Where.
        path: Place,
    },
    /// It has no keys.
    #[error("{path}: this is no table")]
    NotATable {
        /// Where.
        path: Place,
    },
    /// What should be put there is no value.
    #[error("{path}: this is no TOML value: {message}")]
    Value {
        /// Where.
        path: Place,
        /// What the parser said.
        message: String,
    },
    /// It is written in a way that cannot be changed part by part.
    #[error("this part of the file is written in a way that cannot be changed here; change it in the text")]
    Layout,
}

impl Edit {
    /// Puts a TOML value there.
    #[must_use]
    pub fn set(path: &Place, value: impl Into<String>) -> Self {
        Self::Set { path: path.clone(), value: value.into() }
    }

    /// Takes it out.
    #[must_use]
    pub fn remove(path: &Place) -> Self {
        Self::Remove { path: path.clone() }
    }

    /// Adds a TOML value at the end of a list.
    #[must_use]
    pub fn append(path: &Place, value: impl Into<String>) -> Self {
        Self::Append { path: path.clone(), value: value.into() }
    }

    /// Where it changes something.
    #[must_use]
    pub fn path(&self) -> &Place {
        match self {
            Self::Set { path, .. }
            | Self::Remove { path }
            | Self::Append { path, .. }
            | Self::Insert { path, .. }
            | Self::Move { path, .. } => path,
        }
    }
}

/// A text as a TOML value, in quotes.
#[must_use]
pub fn quote(text: &str) -> String {
    toml_edit::Value::from(text).to_string()
}

/// A value as TOML in one line, lists of tables excepted.
pub(super) fn value_text(value: &toml_edit::Value) -> String {
    Style::of_values().value(&Tree::of_value(value), "")
}

/// A table as TOML in braces, whatever its layout is.
pub(super) fn table_text(table: &dyn toml_edit::TableLike) -> String {
    Style::of_values().value(&Tree::of_table(table, false), "")
}

/// What an item says as TOML; `None` for nothing.
pub(super) fn item_text(item: &toml_edit::Item) -> Option<String> {
    Some(Style::of_values().value(&Tree::of_item(item)?, ""))
}

/// Makes changes, one after the other: all of them, or none.
///
/// # Errors
/// If the text is no TOML, an edit names a place that is not there, or the result would be too large.
pub fn apply(text: &str, edits: &[Edit]) -> Result<String, EditError> {
    let moves = edits.iter().filter(|edit| matches!(edit, Edit::Move { .. })).count();
    if edits.len() > EDITS_MAX || moves > MOVES_MAX {
        return Err(EditError::TooMany);
    }
    check_size(text.len())?;
    let mark = text.strip_prefix('\u{feff}').map_or(0, |rest| text.len() - rest.len());
    let (mark, text) = text.split_at(mark);
    let mut wanted = Tree::of_table(parse(text)?.as_table(), false);
    let mut text = text.to_owned();
    for edit in edits {
        // An item is moved as it is written: what was changed before must be in the text by then.
        let moved = match edit {
            Edit::Move { path, from, to } if from != to => {
                text = follow(text, &wanted)?;
                shift::shift(&text, path, *from, *to, style::newline_of(&text))
            }
            _ => None,
        };
        model::apply(&mut wanted, edit)?;
        text = moved.filter(|moved| says(moved, &wanted)).unwrap_or(text);
    }
    let text = follow(text, &wanted)?;
    check_size(text.len() + mark.len())?;
    Ok(format!("{mark}{text}"))
}

fn says(text: &str, wanted: &Tree) -> bool {
    parse(text).is_ok_and(|document| Tree::of_table(document.as_table(), false) == *wanted)
}

fn check_size(bytes: usize) -> Result<(), EditError> {
    if bytes as u64 > super::FILE_BYTES_MAX { Err(EditError::TooLarge) } else { Ok(()) }
}

/// Changes a text until it says what is wanted.
fn follow(mut text: String, wanted: &Tree) -> Result<String, EditError> {
    let style = Style::of(&text);
    for _ in 0..PASSES_MAX {
        // What a change has made of the text must be TOML, or the change was wrong.
        let document = parse(&text).map_err(|_| EditError::Layout)?;
        if Tree::of_table(document.as_table(), false) == *wanted {
            return Ok(text);
        }
        let layout = Layout::of(&document);
        let mut sync = Sync { layout: &layout, style: &style, splices: Vec::new() };
        sync.table(&Place::root(), document.as_table(), wanted);
        let changed = splice(&text, sync.splices).filter(|changed| *changed != text).ok_or(EditError::Layout)?;
        check_size(changed.len())?;
        text = changed;
    }
    Err(EditError::Layout)
}

/// Makes the changes that do not touch each other; the others come in the next pass.
fn splice(text: &str, mut splices: Vec<Splice>) -> Option<String> {
    splices.sort_by_key(|splice| (splice.range.start, splice.range.end));
    let mut changed = String::with_capacity(text.len());
    let mut at = 0;
    let mut last: Option<Splice> = None;
    for splice in splices {
        let touches = last.as_ref().is_some_and(|last| {
            let (before, range) = (&last.range, &splice.range);
            let inserts = before.is_empty() || range.is_empty();
            range.start < before.end || range.start == before.start || inserts && range.start == before.end
        });
        if touches {
            continue;
        }
        changed.push_str(text.get(at..splice.range.start)?);
        changed.push_str(&splice.text);
        at = splice.range.end;
        last = Some(splice);
    }
    changed.push_str(text.get(at..)?);
    Some(changed)
}

fn parse(text: &str) -> Result<Document<&str>, EditError> {
    Document::parse(text).map_err(|error| {
        let at = error.span().unwrap_or_default().start;
        let before = text.get(..at).unwrap_or(text);
        EditError::Syntax {
            line: before.matches('\n').count() + 1,
            message: error.message().split('\n').next().unwrap_or_default().to_owned(),
        }
    })
}
