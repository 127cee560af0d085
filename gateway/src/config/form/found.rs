//! What stands at a place of a text, whatever its layout is, and which option that is.

use crate::config::edit::{Place, Step};
use crate::config::shape::{self, Choice, Key, Shape, Table};
use std::sync::LazyLock;
use toml_edit::{Item, TableLike, Value};

/// What is found in a text.
#[derive(Clone, Copy)]
pub(super) enum Found<'t> {
    Table(&'t dyn TableLike),
    Item(&'t Item),
    Value(&'t Value),
    Nothing,
}

impl<'t> Found<'t> {
    pub(super) fn of(item: Option<&'t Item>) -> Self {
        match item {
            None | Some(Item::None) => Self::Nothing,
            Some(Item::Value(value)) => Self::Value(value),
            Some(Item::Table(table)) => Self::Table(table),
            Some(item) => Self::Item(item),
        }
    }

    pub(super) fn table(self) -> Option<&'t dyn TableLike> {
        match self {
            Self::Table(table) => Some(table),
            Self::Item(item) => item.as_table_like(),
            Self::Value(Value::InlineTable(table)) => Some(table),
            _ => None,
        }
    }

    pub(super) fn key(self, name: &str) -> Self {
        self.table().map_or(Self::Nothing, |table| Self::of(table.get(name)))
    }

    pub(super) fn item(self, index: usize) -> Self {
        match self {
            Self::Value(Value::Array(items)) => items.get(index).map_or(Self::Nothing, Self::Value),
            Self::Item(Item::ArrayOfTables(tables)) => {
                tables.get(index).map_or(Self::Nothing, |table| Self::Table(table))
            }
            _ => Self::Nothing,
        }
    }

    pub(super) fn count(self) -> usize {
        match self {
            Self::Value(Value::Array(items)) => items.len(),
            Self::Item(Item::ArrayOfTables(tables)) => tables.len(),
            _ => 0,
        }
    }

    pub(super) fn names(self) -> Vec<String> {
        self.table().map(|table| table.iter().map(|(name, _)| name.to_owned()).collect()).unwrap_or_default()
    }

    pub(super) fn text(self) -> Option<&'t str> {
        match self {
            Self::Value(value) => value.as_str(),
            _ => None,
        }
    }

    /// As TOML in one piece, whatever its layout is.
    pub(super) fn toml(self) -> Option<String> {
        match self {
            Self::Nothing => None,
            Self::Value(value) => Some(crate::config::edit::value_text(value)),
            Self::Table(table) => Some(crate::config::edit::table_text(table)),
            Self::Item(item) => crate::config::edit::item_text(item),
        }
    }
}

/// The option at a place, and what stands there.
pub(super) fn descend<'t>(root: &Key, found: Found<'t>, place: &Place) -> Option<(Key, Found<'t>)> {
    let mut key = root.clone();
    let mut found = found;
    for step in place.steps() {
        (key, found) = match (&key.shape, step) {
            (Shape::Table(table), Step::Key(name)) => (table.key(name)?.clone(), found.key(name)),
            (Shape::Tagged { tag, variants, .. }, Step::Key(name)) => {
                let word = found.key(tag).text();
                let of_word = variants.iter().find(|(choice, _)| Some(choice.word.as_str()) == word);
                // What every kind has under that name needs no decision.
                let known = of_word.and_then(|(_, table)| table.key(name));
                let anywhere = || variants.iter().find_map(|(_, table)| table.key(name));
                let known = known.or_else(|| if of_word.is_none() { anywhere() } else { None });
                let below = known.cloned().or_else(|| (name == tag).then(|| tag_key(tag, variants)))?;
                (below, found.key(name))
            }
            (Shape::Map(item), Step::Key(name)) => (item_key(&key, item), found.key(name)),
            (Shape::List { item, .. }, Step::Item(index)) => (item_key(&key, item), found.item(*index)),
            _ => return None,
        };
    }
    Some((key, found))
}

/// The key that decides, as a choice.
pub(super) fn tag_key(tag: &str, variants: &[(Choice, Table)]) -> Key {
    Key {
        name: tag.to_owned(),
        description: String::new(),
        required: true,
        default: None,
        shape: Shape::Choice(variants.iter().map(|(choice, _)| choice.clone()).collect()),
    }
}

/// An item of a list or map: it is described as the whole is.
pub(super) fn item_key(key: &Key, item: &Shape) -> Key {
    let description = match item {
        Shape::Table(table) if !table.description.is_empty() => table.description.clone(),
        Shape::Tagged { description, .. } if !description.is_empty() => description.clone(),
        _ => key.description.clone(),
    };
    Key { name: key.name.clone(), description, required: true, default: None, shape: item.clone() }
}

/// The whole file as an option.
pub(super) fn root() -> Key {
    /// The shape does not change while the program runs, and a page asks for it many times.
    static ROOT: LazyLock<Key> = LazyLock::new(|| Key {
        name: String::new(),
        description: "The whole configuration.".to_owned(),
        required: true,
        default: None,
        shape: Shape::Table(shape::of_config()),
    });
    ROOT.clone()
}
