//! Moves an item of a list as it is written, with its comments.

use super::layout::Layout;
use super::place::{Place, Step};
use super::sync::Splice;
use std::ops::Range;
use toml_edit::{Array, Document, Item, TableLike, Value};

/// The text with an item elsewhere; `None` if its lines are not its own.
pub(super) fn shift(text: &str, list: &Place, from: usize, to: usize, newline: &str) -> Option<String> {
    let document = Document::parse(text).ok()?;
    let layout = Layout::of(&document);
    let mut splices = match find(document.as_table(), list)? {
        Found::Tables => tables(&layout, list, from, to, newline)?,
        Found::Array(items) => lines(&layout, items, from, to)?,
    };
    splices.sort_by_key(|splice| splice.range.start);
    super::splice(text, splices)
}

enum Found<'t> {
    Tables,
    Array(&'t Array),
}

fn find<'t>(root: &'t dyn TableLike, place: &Place) -> Option<Found<'t>> {
    enum At<'t> {
        Table(&'t dyn TableLike),
        Item(&'t Item),
        Value(&'t Value),
    }
    let at = place.steps().iter().try_fold(At::Table(root), |at, step| match (at, step) {
        (At::Table(table), Step::Key(key)) => Some(match table.get(key)? {
            Item::Value(value) => At::Value(value),
            Item::Table(table) => At::Table(table),
            item => At::Item(item),
        }),
        (At::Value(value), Step::Key(key)) => value.as_inline_table()?.get(key).map(At::Value),
        (At::Value(value), Step::Item(index)) => value.as_array()?.get(*index).map(At::Value),
        (At::Item(item), Step::Item(index)) => {
            item.as_array_of_tables()?.get(*index).map(|table| At::Table(table as &dyn TableLike))
        }
        _ => None,
    })?;
    match at {
        At::Item(Item::ArrayOfTables(_)) => Some(Found::Tables),
        At::Value(Value::Array(items)) => Some(Found::Array(items)),
        _ => None,
    }
}

/// Items with headers: what stands below the header goes with it, and the comment right above.
fn tables(layout: &Layout<'_>, list: &Place, from: usize, to: usize, newline: &str) -> Option<Vec<Splice>> {
    let region = |index: usize| {
        let item = list.item(index);
        let range = layout.above(layout.block(&item)?.start)..layout.region_end(&item)?;
        layout.within(&item).all(|block| range.contains(&block.start)).then_some(range)
    };
    let (moved, target) = (region(from)?, region(to)?);
    let piece = layout.slice(moved.clone());
    let piece = if piece.ends_with('\n') { piece.to_owned() } else { format!("{piece}{newline}") };
    let mut cut = layout.empty_above(moved.start)..moved.end;
    while cut.start == 0 && cut.end < layout.text.len() {
        let line = cut.end..layout.line_end(cut.end);
        if !layout.slice(line.clone()).trim().is_empty() {
            break;
        }
        cut.end = line.end;
    }
    let paste = if to < from {
        Splice { range: target.start..target.start, text: format!("{piece}{newline}") }
    } else {
        let broken = if layout.slice(target.clone()).ends_with('\n') { "" } else { newline };
        Splice { range: target.end..target.end, text: format!("{broken}{newline}{piece}") }
    };
    Some(vec![Splice { range: cut, text: String::new() }, paste])
}

/// Items with lines of their own, each with its comma.
fn lines(layout: &Layout<'_>, items: &Array, from: usize, to: usize) -> Option<Vec<Splice>> {
    let line = |index: usize| -> Option<Range<usize>> {
        let span = items.get(index)?.span()?;
        let comma = layout.behind_space(span.end);
        let own = layout.is_first_in_line(span.start)
            && layout.slice(comma..comma + 1) == ","
            && layout.is_rest_empty(comma + 1);
        own.then(|| layout.above(layout.line_start(span.start))..layout.line_end(comma + 1))
    };
    let (moved, target) = (line(from)?, line(to)?);
    let at = if to < from { target.start } else { target.end };
    let paste = Splice { range: at..at, text: layout.slice(moved.clone()).to_owned() };
    Some(vec![Splice { range: moved, text: String::new() }, paste])
}
