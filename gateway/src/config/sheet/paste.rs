//! Reads what was copied from a spreadsheet or a CSV file, whatever it is.

use super::{COLUMNS, CellProblem, ROWS_MAX, Row, cells, check};
use schemars::JsonSchema;
use serde::Serialize;

/// Longest text, in bytes: as long as a configuration.
const TEXT_BYTES_MAX: usize = 1024 * 1024;

/// Most cells of a row; what stands further to the right is left out.
const CELLS_MAX: usize = 64;

/// What came of a pasted text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Pasted {
    /// The rows, in the words of the file.
    pub rows: Vec<Row>,
    /// What is wrong with them.
    pub problems: Vec<CellProblem>,
    /// What was made of cells that say something else: an address as manuals count.
    pub notes: Vec<CellProblem>,
    /// Whether the first line was read as headings; otherwise the columns go by their order.
    pub headings: bool,
    /// Headings that no column goes by; what stands below them is left out.
    pub unknown: Vec<String>,
    /// How many headings were understood.
    pub understood: usize,
}

/// Reads a pasted text: cells between tabs, or else semicolons, or else commas; in quotes where need be.
#[must_use]
pub fn paste(text: &str) -> Pasted {
    paste_as(text, &[])
}

/// The same, with what someone says of headings: each with the key of its column, or nothing to leave it out.
#[must_use]
pub fn paste_as(text: &str, chosen: &[(String, String)]) -> Pasted {
    let whole = |message: String| Pasted {
        problems: vec![CellProblem { row: 0, column: String::new(), message }],
        ..Pasted::default()
    };
    if text.len() > TEXT_BYTES_MAX {
        return whole(format!("the text is larger than {} KiB; paste it in parts", TEXT_BYTES_MAX / 1024));
    }
    let text = text.trim_start_matches('\u{feff}');
    let lines = records(text, separator(text));
    let mut lines = lines.into_iter().filter(|cells| cells.iter().any(|cell| !cell.trim().is_empty())).peekable();
    let mut pasted = Pasted::default();
    let mut order: Vec<Option<usize>> = (0..COLUMNS.len()).map(Some).collect();
    if let Some(first) = lines.peek() {
        let said = |cell: &str| chosen.iter().find(|(heading, _)| heading == cell.trim()).map(|(_, key)| key);
        let of_key = |key: &String| COLUMNS.iter().position(|column| column.key == key);
        let column = |cell: &String| said(cell).map_or_else(|| cells::column(cell), of_key);
        let known: Vec<Option<usize>> = first.iter().map(column).collect();
        let count = known.iter().flatten().count();
        if count >= 2 || (count == 1 && first.len() == 1) {
            let unknown = first.iter().zip(&known).filter(|(cell, known)| known.is_none() && !cell.trim().is_empty());
            pasted.unknown = unknown.map(|(cell, _)| cell.trim().chars().take(100).collect()).collect();
            pasted.headings = true;
            pasted.understood = count;
            order = known;
            lines.next();
        }
    }
    for (index, line) in lines.enumerate() {
        if index == ROWS_MAX {
            pasted.problems.push(CellProblem {
                row: index,
                column: String::new(),
                message: format!("there are more than {ROWS_MAX} rows; the rest was left out"),
            });
            break;
        }
        pasted.take(index, &line, &order);
    }
    pasted.problems.extend(check(&pasted.rows));
    pasted
}

impl Pasted {
    fn take(&mut self, index: usize, line: &[String], order: &[Option<usize>]) {
        let mut row = Row::default();
        for (cell, column) in line.iter().zip(order) {
            let Some(at) = *column else { continue };
            let (Some(column), Some(place)) = (COLUMNS.get(at), row.0.get_mut(at)) else { continue };
            // Of two columns that go by one name the first that says something counts.
            if place.is_empty() {
                *place = cells::in_our_words(column.key, cell);
            }
        }
        let (table, address, note) = cells::address(row.cell("table"), row.cell("address"));
        let [_, table_cell, address_cell, ..] = &mut row.0;
        (*table_cell, *address_cell) = (table, address);
        let mut tell = |column: &str, message: String| {
            self.notes.push(CellProblem { row: index, column: column.to_owned(), message });
        };
        if let Some(message) = note {
            tell("address", message);
        }
        // Manuals that name no table mean the one in which nearly all values are.
        if table_cell.is_empty() && !address_cell.is_empty() {
            "holding".clone_into(table_cell);
            tell("table", "no table was given: taken for a holding register".to_owned());
        }
        self.rows.push(row);
    }
}

/// What stands between cells.
fn separator(text: &str) -> char {
    let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    ['\t', ';'].into_iter().find(|separator| first.contains(*separator)).unwrap_or(',')
}

/// The cells of each line; a cell in quotes may hold anything, and a quote twice.
fn records(text: &str, separator: char) -> Vec<Vec<String>> {
    let mut records = Vec::new();
    let mut record: Vec<String> = Vec::new();
    let mut cell = String::new();
    let mut quoted = false;
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => {
                letters.next();
                cell.push('"');
            }
            '"' if quoted => quoted = false,
            '"' if cell.is_empty() => quoted = true,
            '\r' if !quoted => {}
            '\n' if !quoted => {
                record.push(std::mem::take(&mut cell));
                records.push(std::mem::take(&mut record));
                // Headings, and one more so that it is told that there are too many.
                if records.len() > ROWS_MAX + 1 {
                    return records;
                }
            }
            letter if letter == separator && !quoted => {
                let cell = std::mem::take(&mut cell);
                if record.len() < CELLS_MAX {
                    record.push(cell);
                }
            }
            letter => cell.push(letter),
        }
    }
    if !cell.is_empty() || !record.is_empty() {
        record.push(cell);
        records.push(record);
    }
    records
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_german_table_of_a_manual_becomes_rows() {
        let pasted = paste(
            "Bezeichnung;Registeradresse;Datentyp;Faktor;Einheit;Bemerkung\r\nVorlauf;40001;INT16;0,1;°C;oben\r\n\"Fluss; 2\";0x10;Float;;m³/h;\r\n",
        );
        assert!(pasted.headings);
        assert_eq!(pasted.unknown, ["Bemerkung"]);
        assert_eq!(pasted.rows[0].0[..8], ["Vorlauf", "holding", "0", "i16", "", "0,1", "", "°C"].map(str::to_owned));
        assert_eq!((pasted.rows[1].cell("point"), pasted.rows[1].cell("address")), ("Fluss; 2", "16"));
        let notes: Vec<_> = pasted.notes.iter().map(|note| (note.row, note.column.as_str())).collect();
        assert_eq!(notes, [(0, "address"), (1, "table")], "the second does not say its table");
        assert_eq!((pasted.rows[1].cell("table"), pasted.problems.len()), ("holding", 0));
    }

    #[test]
    fn near_spellings_are_understood_and_someone_may_say_what_a_heading_means() {
        let text = "Nmae\tAdress\tTyp\tKommentar\tWas es misst\nflow\t8\tu16\tx\tl/s\n";
        let pasted = paste(text);
        assert_eq!(
            (pasted.understood, &pasted.unknown[..]),
            (3, &["Kommentar".to_owned(), "Was es misst".to_owned()][..])
        );
        assert_eq!((pasted.rows[0].cell("point"), pasted.rows[0].cell("address")), ("flow", "8"));
        let said = [("Was es misst".to_owned(), "unit".to_owned()), ("Kommentar".to_owned(), String::new())];
        let pasted = paste_as(text, &said);
        assert_eq!((pasted.rows[0].cell("unit"), pasted.understood), ("l/s", 4));
    }

    #[test]
    fn without_headings_the_columns_go_by_their_order() {
        let pasted = paste("flow\tinput\t8\tf32\tcdab\t\t\tm³/h\n");
        assert!(!pasted.headings && pasted.problems.is_empty(), "{pasted:?}");
        assert_eq!(pasted.rows[0].cell("unit"), "m³/h");
    }

    #[test]
    fn too_much_is_told() {
        let pasted = paste(&"a\tcoil\t1\n".repeat(ROWS_MAX + 5));
        assert_eq!(pasted.rows.len(), ROWS_MAX);
        assert!(pasted.problems[0].message.contains("left out"));
        assert_eq!(paste(&"x".repeat(TEXT_BYTES_MAX + 1)).problems.len(), 1);
    }
}
