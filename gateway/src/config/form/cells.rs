//! Options as the cells of a sheet.

use super::found::{Found, descend, root};
use super::typed;
use crate::config::edit::Place;
use crate::config::shape::{Key, Shape, Table};
use toml_edit::Document;

/// The tables of a list as they would be typed, each key with its cell.
pub(in crate::config) fn tables(text: &str, place: &Place, items_max: usize) -> Vec<Vec<(String, String)>> {
    let document = Document::parse(text).ok();
    let found = document.as_ref().map_or(Found::Nothing, |document| Found::Table(document.as_table()));
    let Some((key, list)) = descend(&root(), found, place) else { return Vec::new() };
    let Shape::List { item, .. } = &key.shape else { return Vec::new() };
    let Shape::Table(table) = item.as_ref() else { return Vec::new() };
    let cells = |item: Found<'_>| {
        let cells = table.keys.iter().map(|key| (key.name.clone(), typed::of_found(&key.shape, item.key(&key.name))));
        cells.collect()
    };
    (0..list.count().min(items_max)).map(|index| cells(list.item(index))).collect()
}

/// The options of a register, for cells.
pub(in crate::config) struct Options(Table);

/// The options of a Modbus register.
pub(in crate::config) fn register_options() -> Options {
    let registers = Place::root().key("source").item(0).key("unit").item(0).key("registers").item(0);
    Options(match descend(&root(), Found::Nothing, &registers) {
        Some((Key { shape: Shape::Table(table), .. }, _)) => table,
        _ => Table::default(),
    })
}

impl Options {
    /// The TOML value of a cell; `None` for an empty one.
    pub(in crate::config) fn value(&self, key: &str, cell: &str) -> Result<Option<String>, String> {
        let Some(key) = self.0.key(key) else { return Ok(None) };
        match cell.trim() {
            "" if key.required => Err("this must not be empty".to_owned()),
            "" => Ok(None),
            _ => typed::to_toml(&key.name, &key.shape, cell).map(Some),
        }
    }
}

/// What a text typed for a place is as TOML, by the option there.
pub(in crate::config) fn value_at(place: &Place, typed: &str) -> Result<String, String> {
    match descend(&root(), Found::Nothing, place) {
        Some((key, _)) => typed::to_toml(&key.name, &key.shape, typed),
        None => Ok(crate::config::edit::quote(typed)),
    }
}
