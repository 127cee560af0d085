//! What came from a spreadsheet, as rows of a sheet; and what was not understood, for someone to say.

use super::draft::{Draft, SHEET_ROWS_FORM_MAX};
use crate::config::sheet::{self, Row};

/// Headings that are asked about; a table of a manual has fewer.
const UNKNOWN_MAX: usize = 20;

/// What was made of a pasted text.
#[derive(Clone, Debug, Default)]
pub(in crate::web) struct PastedView {
    /// How many rows were taken over.
    pub(in crate::web) rows: usize,
    /// How many were not, as the form holds no more.
    pub(in crate::web) left: usize,
    /// How many rows it holds.
    pub(in crate::web) holds: usize,
    /// What is wrong with the text as a whole.
    pub(in crate::web) wrong: Vec<String>,
    /// How many headings were understood, and how many there are; none without headings.
    pub(in crate::web) headings: Option<(usize, usize)>,
    /// Those that were not: each with the name of its field.
    pub(in crate::web) unknown: Vec<(String, String)>,
    /// What was made of cells, as far as it is not said: each sentence once, with how many rows it is of.
    pub(in crate::web) notes: Vec<(String, usize)>,
    /// The text, to be read once more.
    pub(in crate::web) text: String,
    /// Which rows came of it, to be replaced then.
    pub(in crate::web) first: usize,
}

/// Puts rows that came from a spreadsheet behind those that are there; empty ones give way. A text that is taken over once more
/// takes the place of its own rows. Of more rows than the form holds the first are taken, and it is said that the others are not.
pub(in crate::web) fn paste(draft: &mut Draft, list: &str) {
    let mut own = |name: &str| draft.fields.remove(&format!("_{name}.{list}")).unwrap_or_default();
    let (text, again, before) = (own("paste"), own("again"), own("pasted"));
    let is_again = text.trim().is_empty();
    let text = if is_again { again } else { text };
    if !list.ends_with(".registers") || text.trim().is_empty() {
        return;
    }
    let said = |number: usize| {
        let mut own = |name: &str| draft.fields.remove(&format!("_{name}.{list}.{number}")).unwrap_or_default();
        (own("heading"), own("column"))
    };
    let chosen: Vec<(String, String)> =
        (0..UNKNOWN_MAX).map(said).filter(|(heading, _)| is_again && !heading.is_empty()).collect();
    let mut rows: Vec<Row> = draft.sheet(list);
    if is_again && let Some((first, count)) = before.split_once(':') {
        let (first, count): (usize, usize) = (first.parse().unwrap_or(usize::MAX), count.parse().unwrap_or(0));
        let end = first.saturating_add(count).min(rows.len());
        rows.drain(first.min(end)..end);
    }
    let pasted = sheet::paste_as(&text, &chosen);
    rows.retain(|row| row.0.iter().any(|cell| !cell.is_empty()));
    let first = rows.len();
    let count = pasted.rows.len().min(SHEET_ROWS_FORM_MAX.saturating_sub(first));
    let left = pasted.rows.len() - count;
    rows.extend(pasted.rows.into_iter().take(count));
    draft.put_sheet(list, &rows);
    let mut wrong = Vec::new();
    for cell in pasted.problems {
        if cell.row >= count {
            // Of rows that were not taken only what is said of the text as a whole.
            if cell.column.is_empty() {
                wrong.push(cell.message);
            }
            continue;
        }
        let name = format!("{list}[{}].{}", first + cell.row, cell.column);
        draft.wrong.entry(name.trim_end_matches('.').to_owned()).or_insert(cell.message);
    }
    let mut notes: Vec<(String, usize)> = Vec::new();
    for note in pasted.notes.into_iter().filter(|note| note.column == "table" && note.row < count) {
        match notes.iter_mut().find(|(message, _)| *message == note.message) {
            Some((_, rows)) => *rows += 1,
            None => notes.push((note.message, 1)),
        }
    }
    let unknown: Vec<String> = pasted.unknown.into_iter().take(UNKNOWN_MAX).collect();
    let view = PastedView {
        rows: count,
        left,
        holds: SHEET_ROWS_FORM_MAX,
        wrong,
        headings: pasted.headings.then_some((pasted.understood, pasted.understood + unknown.len())),
        unknown: unknown
            .into_iter()
            .enumerate()
            .map(|(number, heading)| (format!("{list}.{number}"), heading))
            .collect(),
        notes,
        text,
        first,
    };
    draft.pasted.insert(list.to_owned(), view);
}
