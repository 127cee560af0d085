//! The table: what was measured, its goal, its figure.

use std::fs;
use std::path::Path;

/// Bytes in a megabyte.
const MEGABYTE: f64 = 1e6;
/// The largest stripped binary that is wanted, in megabytes.
const BINARY_MB_MAX: f64 = 20.0;

/// Rows so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<[String; 3]>,
}

impl Report {
    /// Begins a scenario.
    pub(crate) fn scenario(&mut self, title: &str) {
        eprintln!("measuring: {title}");
        self.rows.push([title.to_owned(), String::new(), String::new()]);
    }

    /// A figure that has a goal.
    pub(crate) fn goal(&mut self, what: &str, goal: &str, is_met: bool, figure: impl Into<String>) {
        let verdict = if is_met { "" } else { "  MISSED" };
        self.rows.push([format!("  {what}"), goal.to_owned(), figure.into() + verdict]);
    }

    /// A figure that explains others.
    pub(crate) fn note(&mut self, what: &str, figure: impl Into<String>) {
        self.rows.push([format!("  {what}"), String::new(), figure.into()]);
    }

    /// The size of the binary.
    pub(crate) fn binary(&mut self, path: &Path) {
        self.scenario("the binary");
        let megabytes = fs::metadata(path).expect("the binary is there").len() as f64 / MEGABYTE;
        let is_met = megabytes <= BINARY_MB_MAX;
        self.goal("stripped size, MB", &format!("<= {BINARY_MB_MAX}"), is_met, format!("{megabytes:.1}"));
    }

    /// Prints all of it.
    pub(crate) fn print(&self) {
        let width =
            |column: usize| self.rows.iter().filter_map(move |row| row.get(column)).map(|text| text.chars().count());
        let (what, goal) = (width(0).max().unwrap_or(0).min(62), width(1).max().unwrap_or(0));
        for [title, wanted, figure] in &self.rows {
            println!("{}", format!("{title:<what$}  {wanted:<goal$}  {figure}").trim_end());
        }
    }
}
