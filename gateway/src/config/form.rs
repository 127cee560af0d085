//! The options as forms: which fields stand at a place of the file, what each takes, and what it has now; and back: what
//! was typed into fields as edits. Both follow the shape of the file, so that every option is there as soon as it exists.

mod cells;
mod fields;
mod found;
#[cfg(test)]
mod tests;
mod typed;

pub(super) use cells::{register_options, tables, value_at};
pub use fields::from_fields;
pub(super) use typed::number;

use super::edit::Place;
use super::shape::{Choice, Key, Shape, Table};
use found::{Found, descend, root};
use schemars::JsonSchema;
use serde::Serialize;
use toml_edit::Document;

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

/// Whether what was typed is a number, as a field for numbers takes it.
#[must_use]
pub fn is_number(typed: &str) -> bool {
    number(typed).is_some()
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
                form.description.clone_from(&choice.description);
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
