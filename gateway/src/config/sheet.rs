//! A register map as a sheet: the registers of a Modbus unit as rows of cells, as they come from a spreadsheet or a manual
//! and go back to one.

mod cells;
mod paste;

pub use paste::{Pasted, paste, paste_as};

use super::edit::{Edit, Place};
use super::form;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Most rows: as many registers as a bus may have.
pub const ROWS_MAX: usize = 10_000;

/// A column of the sheet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// The option of a register.
    pub key: &'static str,
    /// Its heading, to be translated.
    pub heading: &'static str,
}

/// The columns, in the order in which a sheet without headings has them.
pub const COLUMNS: [Column; 9] = [
    Column { key: "point", heading: "Point" },
    Column { key: "table", heading: "Table" },
    Column { key: "address", heading: "Address" },
    Column { key: "kind", heading: "Kind" },
    Column { key: "order", heading: "Order" },
    Column { key: "scale", heading: "Scale" },
    Column { key: "offset", heading: "Offset" },
    Column { key: "unit", heading: "Unit" },
    Column { key: "not_available", heading: "Not available" },
];

/// A row: a cell for each of [`COLUMNS`], empty for what is not given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Row(pub [String; COLUMNS.len()]);

/// What is wrong with a cell, or what was made of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct CellProblem {
    /// The row, counted from 0.
    pub row: usize,
    /// The key of the column; empty for the whole row.
    pub column: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl Row {
    /// The cell of a column.
    #[must_use]
    pub fn cell(&self, key: &str) -> &str {
        let at = COLUMNS.iter().position(|column| column.key == key);
        at.and_then(|at| self.0.get(at)).map_or("", String::as_str)
    }

    fn is_empty(&self) -> bool {
        self.0.iter().all(|cell| cell.trim().is_empty())
    }

    fn cells(&self) -> impl Iterator<Item = (&'static str, &str)> {
        COLUMNS.iter().zip(&self.0).map(|(column, cell)| (column.key, cell.as_str()))
    }
}

/// The rows of the registers at a place of a text, `source[1].unit[0].registers`.
#[must_use]
pub fn rows(text: &str, place: &Place) -> Vec<Row> {
    let tables = form::tables(text, place, ROWS_MAX);
    let cell = |table: &[(String, String)], key: &str| {
        table.iter().find(|(name, _)| name == key).map(|(_, cell)| cell.clone()).unwrap_or_default()
    };
    tables.iter().map(|table| Row(COLUMNS.map(|column| cell(table, column.key)))).collect()
}

/// What is wrong with rows; empty ones are passed over.
#[must_use]
pub fn check(rows: &[Row]) -> Vec<CellProblem> {
    registers(rows).err().unwrap_or_default()
}

/// The rows as the registers at a place, in place of those that are there. Comments between registers that stay, stay.
///
/// # Errors
/// With what is wrong with the rows.
pub fn to_edit(place: &Place, rows: &[Row]) -> Result<Edit, Vec<CellProblem>> {
    Ok(Edit::set(place, format!("[{}]", registers(rows)?.join(", "))))
}

/// Each row as TOML.
fn registers(rows: &[Row]) -> Result<Vec<String>, Vec<CellProblem>> {
    if rows.len() > ROWS_MAX {
        let message = format!("there are more than {ROWS_MAX} rows; a bus cannot have as many registers");
        return Err(vec![CellProblem { row: ROWS_MAX, column: String::new(), message }]);
    }
    let options = form::register_options();
    let mut problems = Vec::new();
    let mut registers = Vec::new();
    let mut points = HashMap::new();
    for (row, cells) in rows.iter().enumerate().filter(|(_, cells)| !cells.is_empty()) {
        let mut problem =
            |column: &str, message: String| problems.push(CellProblem { row, column: column.to_owned(), message });
        let mut pairs = Vec::new();
        for (key, cell) in cells.cells() {
            match options.value(key, cell) {
                Ok(Some(value)) => pairs.push(format!("{key} = {value}")),
                Ok(None) => {}
                Err(message) => problem(key, message),
            }
        }
        let point = (cells.cell("point").trim(), cells.cell("unit").trim());
        if let Some(first) = points.insert(point, row).filter(|_| !point.0.is_empty()) {
            problem("point", format!("{:?} is in row {} already", point.0, first + 1));
        }
        registers.push(format!("{{ {} }}", pairs.join(", ")));
    }
    if problems.is_empty() { Ok(registers) } else { Err(problems) }
}

/// The rows with their headings as text for a spreadsheet; `separator` is a tab, `;` or `,`.
#[must_use]
pub fn export(rows: &[Row], separator: char) -> String {
    let quoted = |cell: &str| {
        // A spreadsheet must not take a cell of ours for a formula.
        let formula =
            cell.starts_with(['=', '@', '\t', '\r']) || cell.starts_with(['+', '-']) && form::number(cell).is_none();
        let cell = if formula { format!("'{cell}") } else { cell.to_owned() };
        let plain = !cell.contains([separator, '"', '\n', '\r']);
        if plain { cell } else { format!("\"{}\"", cell.replace('"', "\"\"")) }
    };
    let separator = separator.to_string();
    let mut text = COLUMNS.map(|column| column.key.to_owned()).join(&separator) + "\r\n";
    for row in rows {
        text += &row.0.iter().map(|cell| quoted(cell)).collect::<Vec<_>>().join(&separator);
        text += "\r\n";
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::config::edit::apply;
    use proptest::prelude::*;

    const EXAMPLE: &str = include_str!("../../forebay.example.toml");

    fn place() -> Place {
        "source[1].unit[0].registers".parse().unwrap()
    }

    #[test]
    fn the_rows_of_a_unit_are_its_registers_and_back() {
        let rows = rows(EXAMPLE, &place());
        assert_eq!(rows.len(), 5);
        assert_eq!(rows[0].0, ["supply_temp", "holding", "0", "i16", "", "0.1", "", "°C", "-32768"].map(str::to_owned));
        let edit = to_edit(&place(), &rows).unwrap();
        assert_eq!(apply(EXAMPLE, &[edit]).unwrap(), EXAMPLE);
        for separator in ['\t', ';', ','] {
            assert_eq!(paste(&export(&rows, separator)).rows, rows, "{separator:?}");
        }
    }

    #[test]
    fn a_cell_says_what_is_wrong_with_it() {
        let mut rows = rows(EXAMPLE, &place());
        rows[0].0[2] = "70000".to_owned();
        rows[1].0[3] = "f33".to_owned();
        rows[2].0[0] = String::new();
        rows[4].0[0] = "pump_on".to_owned();
        let problems = check(&rows);
        let places: Vec<_> = problems.iter().map(|problem| (problem.row, problem.column.as_str())).collect();
        assert_eq!(places, [(0, "address"), (1, "kind"), (2, "point"), (4, "point")]);
        assert!(problems[1].message.contains("did you mean \"f32\""), "{}", problems[1].message);
    }

    proptest! {
        #[test]
        fn what_is_exported_is_pasted_as_it_was(cells in prop::collection::vec(prop::collection::vec("[a-zA-Z ,;\"\t\n]{1,6}", 9), 1..5)) {
            let rows: Vec<Row> = cells.into_iter().map(|cells| Row(std::array::from_fn(|at| {
                // Points are kept as they are; the other cells are put into the words of the file.
                if at == 0 || at == 7 { format!("p{}q", cells[at]) } else { String::new() }
            }))).collect();
            prop_assert_eq!(paste(&export(&rows, '\t')).rows, rows);
        }

        #[test]
        fn any_clipboard_becomes_rows(text in "([a-z0-9,;\"\t\n\r=.x-]|\\PC){0,200}") {
            let pasted = paste(&text);
            drop(to_edit(&place(), &pasted.rows));
        }
    }
}
