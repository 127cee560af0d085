//! The options as forms: which fields stand at a place of the file, what each takes, and what it has now; and back: what
//! was typed into fields as edits. Both follow the shape of the file, so that every option is there as soon as it exists.

mod fields;
#[cfg(test)]
mod tests;
mod typed;

pub use fields::from_fields;
pub(super) use typed::number;

use super::edit::{Place, Step};
use super::shape::{self, Choice, Key, Shape, Table};
use schemars::JsonSchema;
use serde::Serialize;
use toml_edit::{Document, Item, TableLike, Value};

/// The fields of one table, or the items of a list or map.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Form {
    /// The place.
    pub path: Place,
    /// What stands there.
    pub description: String,
    /// Whether it is in the text.
    pub exists: bool,
    /// The key that decides which fields there are, if one does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<Tag>,
    /// The fields, required ones first.
    pub fields: Vec<Field>,
}

/// The key that decides what a table is.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Tag {
    /// The key: `type`, `kind`, `format`.
    pub name: String,
    /// Its word now, or the one asked for; `None` if it is not decided.
    pub word: Option<String>,
    /// The words it may have.
    pub words: Vec<Word>,
}

/// One of some words.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Word {
    /// The word.
    pub word: String,
    /// What it means.
    pub description: String,
}

/// One option.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Field {
    /// Its key; the index of an item.
    pub name: String,
    /// Its place.
    pub path: Place,
    /// What it is for.
    pub description: String,
    /// Whether it must be there.
    pub required: bool,
    /// What holds without it, as a person would type it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// What it takes.
    pub kind: Kind,
    /// What stands there now, as TOML; secrets in addresses are hidden.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The same as it stands in an input, secrets hidden, too; empty for nothing.
    pub typed: String,
}

/// What a field takes.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Kind {
    /// Any text.
    Text,
    /// Exactly one character.
    Character,
    /// The path of a file with a secret, or the name of a credential.
    SecretFile,
    /// `10 min`
    Duration,
    /// `2 GiB`
    Size,
    /// A whole number.
    Integer {
        /// The smallest, if there is one.
        #[serde(skip_serializing_if = "Option::is_none")]
        min: Option<i64>,
        /// The largest, if there is one.
        #[serde(skip_serializing_if = "Option::is_none")]
        max: Option<i64>,
    },
    /// A number.
    Number,
    /// Yes or no.
    Boolean,
    /// One of some words.
    Choice {
        /// The words.
        words: Vec<Word>,
    },
    /// A table with a form of its own, of one of several kinds.
    Variants {
        /// The key that decides.
        tag: String,
        /// The kinds.
        words: Vec<Word>,
    },
    /// A table with a form of its own.
    Table,
    /// A list.
    List {
        /// What its items are.
        of: Box<Kind>,
        /// How many there must be, if that is fixed.
        #[serde(skip_serializing_if = "Option::is_none")]
        length: Option<usize>,
        /// How many there are.
        count: usize,
    },
    /// A table with keys of one's own choosing.
    Map {
        /// What its values are.
        of: Box<Kind>,
    },
}

/// What is found in a text.
#[derive(Clone, Copy)]
enum Found<'t> {
    Table(&'t dyn TableLike),
    Item(&'t Item),
    Value(&'t Value),
    Nothing,
}

/// The form of a place. `variant` is the word of the tag if the table is yet to be or shall become another; a text with
/// wrong syntax has nothing anywhere. `None` if no option has that path, or what is on the way is undecided.
#[must_use]
pub fn at(text: &str, place: &Place, variant: Option<&str>) -> Option<Form> {
    let document = Document::parse(text).ok();
    let found = document.as_ref().map_or(Found::Nothing, |document| Found::Table(document.as_table()));
    let (key, found) = descend(&root(), found, place)?;
    let mut form = Form {
        path: place.clone(),
        description: key.description.clone(),
        exists: !matches!(found, Found::Nothing),
        tag: None,
        fields: Vec::new(),
    };
    match &key.shape {
        Shape::Table(table) => form.keys(table, found),
        Shape::Tagged { tag, variants, .. } => {
            let word = variant.or_else(|| found.key(tag).text());
            if let Some((choice, table)) = variants.iter().find(|(choice, _)| Some(choice.word.as_str()) == word) {
                form.description = choice.description.clone();
                form.keys(table, found);
            }
            let words = variants.iter().map(|(choice, _)| Word::of(choice)).collect();
            form.tag = Some(Tag { name: tag.clone(), word: word.map(str::to_owned), words });
        }
        Shape::List { item, .. } => {
            for index in 0..found.count() {
                form.fields.push(field(&key, index.to_string(), place.item(index), item, found.item(index)));
            }
        }
        Shape::Map(item) => {
            for name in found.names() {
                form.fields.push(field(&key, name.clone(), place.key(&name), item, found.key(&name)));
            }
        }
        shape => form.fields.push(field(&key, key.name.clone(), place.clone(), shape, found)),
    }
    Some(form)
}

/// The tables of a list as they would be typed, each key with its cell.
pub(super) fn tables(text: &str, place: &Place, items_max: usize) -> Vec<Vec<(String, String)>> {
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
pub(super) struct Options(Table);

/// The options of a Modbus register.
pub(super) fn register_options() -> Options {
    let registers = Place::root().key("source").item(0).key("unit").item(0).key("registers").item(0);
    Options(match descend(&root(), Found::Nothing, &registers) {
        Some((Key { shape: Shape::Table(table), .. }, _)) => table,
        _ => Table::default(),
    })
}

impl Options {
    /// The TOML value of a cell; `None` for an empty one.
    pub(super) fn value(&self, key: &str, cell: &str) -> Result<Option<String>, String> {
        let Some(key) = self.0.key(key) else { return Ok(None) };
        match cell.trim() {
            "" if key.required => Err("this must not be empty".to_owned()),
            "" => Ok(None),
            _ => typed::to_toml(&key.name, &key.shape, cell).map(Some),
        }
    }
}

/// What a text typed for a place is as TOML, by the option there.
pub(super) fn value_at(place: &Place, typed: &str) -> Result<String, String> {
    match descend(&root(), Found::Nothing, place) {
        Some((key, _)) => typed::to_toml(&key.name, &key.shape, typed),
        None => Ok(super::edit::quote(typed)),
    }
}

/// The whole file as an option.
fn root() -> Key {
    Key {
        name: String::new(),
        description: "The whole configuration.".to_owned(),
        required: true,
        default: None,
        shape: Shape::Table(shape::of_config()),
    }
}

impl Form {
    fn keys(&mut self, table: &Table, found: Found<'_>) {
        for key in &table.keys {
            let path = self.path.key(&key.name);
            self.fields.push(field(key, key.name.clone(), path, &key.shape, found.key(&key.name)));
        }
    }
}

fn field(key: &Key, name: String, path: Place, shape: &Shape, found: Found<'_>) -> Field {
    Field {
        name,
        path,
        description: key.description.clone(),
        required: key.required,
        default: key.default.as_ref().filter(|_| !matches!(shape, Shape::Table(_))).map(typed::of_default),
        kind: Kind::of(shape, found),
        value: found.toml().map(|text| super::redacted_toml(&text)),
        typed: super::redacted_toml(&typed::of_found(shape, found)),
    }
}

/// The option at a place, and what stands there.
fn descend<'t>(root: &Key, found: Found<'t>, place: &Place) -> Option<(Key, Found<'t>)> {
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
fn tag_key(tag: &str, variants: &[(Choice, Table)]) -> Key {
    Key {
        name: tag.to_owned(),
        description: String::new(),
        required: true,
        default: None,
        shape: Shape::Choice(variants.iter().map(|(choice, _)| choice.clone()).collect()),
    }
}

/// An item of a list or map: it is described as the whole is.
fn item_key(key: &Key, item: &Shape) -> Key {
    let description = match item {
        Shape::Table(table) if !table.description.is_empty() => table.description.clone(),
        Shape::Tagged { description, .. } if !description.is_empty() => description.clone(),
        _ => key.description.clone(),
    };
    Key { name: key.name.clone(), description, required: true, default: None, shape: item.clone() }
}

impl Word {
    fn of(choice: &Choice) -> Self {
        Self { word: choice.word.clone(), description: choice.description.clone() }
    }
}

impl Kind {
    fn of(shape: &Shape, found: Found<'_>) -> Self {
        let some = |limit: i64| (limit != i64::MIN && limit != i64::MAX).then_some(limit);
        match shape {
            Shape::Table(_) => Self::Table,
            Shape::Tagged { tag, variants, .. } => Self::Variants {
                tag: tag.clone(),
                words: variants.iter().map(|(choice, _)| Word::of(choice)).collect(),
            },
            Shape::Map(item) => Self::Map { of: Box::new(Self::of(item, Found::Nothing)) },
            Shape::List { item, length } => {
                Self::List { of: Box::new(Self::of(item, Found::Nothing)), length: *length, count: found.count() }
            }
            Shape::Choice(words) => Self::Choice { words: words.iter().map(Word::of).collect() },
            Shape::Text { one_character: true } => Self::Character,
            Shape::Text { .. } | Shape::Unknown => Self::Text,
            Shape::SecretFile => Self::SecretFile,
            Shape::Duration => Self::Duration,
            Shape::Size => Self::Size,
            Shape::Integer { min, max } => Self::Integer { min: some(*min), max: some(*max) },
            Shape::Number => Self::Number,
            Shape::Boolean => Self::Boolean,
        }
    }
}

impl<'t> Found<'t> {
    fn of(item: Option<&'t Item>) -> Self {
        match item {
            None | Some(Item::None) => Self::Nothing,
            Some(Item::Value(value)) => Self::Value(value),
            Some(Item::Table(table)) => Self::Table(table),
            Some(item) => Self::Item(item),
        }
    }

    fn table(self) -> Option<&'t dyn TableLike> {
        match self {
            Self::Table(table) => Some(table),
            Self::Item(item) => item.as_table_like(),
            Self::Value(Value::InlineTable(table)) => Some(table),
            _ => None,
        }
    }

    fn key(self, name: &str) -> Self {
        self.table().map_or(Self::Nothing, |table| Self::of(table.get(name)))
    }

    fn item(self, index: usize) -> Self {
        match self {
            Self::Value(Value::Array(items)) => items.get(index).map_or(Self::Nothing, Self::Value),
            Self::Item(Item::ArrayOfTables(tables)) => {
                tables.get(index).map_or(Self::Nothing, |table| Self::Table(table))
            }
            _ => Self::Nothing,
        }
    }

    fn count(self) -> usize {
        match self {
            Self::Value(Value::Array(items)) => items.len(),
            Self::Item(Item::ArrayOfTables(tables)) => tables.len(),
            _ => 0,
        }
    }

    fn names(self) -> Vec<String> {
        self.table().map(|table| table.iter().map(|(name, _)| name.to_owned()).collect()).unwrap_or_default()
    }

    fn text(self) -> Option<&'t str> {
        match self {
            Self::Value(value) => value.as_str(),
            _ => None,
        }
    }

    /// As TOML in one piece, whatever its layout is.
    fn toml(self) -> Option<String> {
        match self {
            Self::Nothing => None,
            Self::Value(value) => Some(super::edit::value_text(value)),
            Self::Table(table) => Some(super::edit::table_text(table)),
            Self::Item(item) => super::edit::item_text(item),
        }
    }
}
