//! The shape that the file must have, taken from the JSON schema of the option types: what `structure` checks against
//! and `reference` prints.

use super::Config;
use serde_json::Value;

/// What may stand at one place of the file.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Shape {
    /// A table with known keys.
    Table(Table),
    /// A table whose other keys depend on the value of one of them, the tag.
    Tagged {
        /// The deciding key: `type`, `kind`, `format`.
        tag: String,
        /// What it stands for as a whole.
        description: String,
        /// Each value of the tag and the table that goes with it.
        variants: Vec<(Choice, Table)>,
    },
    /// A table with keys of the user's choosing.
    Map(Box<Shape>),
    /// A list.
    List {
        /// What each item is.
        item: Box<Shape>,
        /// The exact number of items, if it is fixed.
        length: Option<usize>,
    },
    /// One of some words.
    Choice(Vec<Choice>),
    /// Any text, or exactly one character.
    Text {
        /// Whether it is exactly one character.
        one_character: bool,
    },
    /// The name of a file or credential with a secret in it.
    SecretFile,
    /// A duration with its unit.
    Duration,
    /// A size with its unit.
    Size,
    /// A whole number within limits, both allowed.
    Integer {
        /// The smallest.
        min: i64,
        /// The largest.
        max: i64,
    },
    /// A number, finite.
    Number,
    /// `true` or `false`.
    Boolean,
    /// A form of schema that is not known here; a test holds that no option has it.
    Unknown,
}

/// The keys of a table.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Table {
    /// What the table is.
    pub(super) description: String,
    /// Its keys: required ones first, as declared, then the others by name.
    pub(super) keys: Vec<Key>,
}

/// One key of a table.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Key {
    /// The key.
    pub(super) name: String,
    /// What it is for.
    pub(super) description: String,
    /// Whether it must be there.
    pub(super) required: bool,
    /// What holds without it; `None` for nothing.
    pub(super) default: Option<Value>,
    /// What may stand there.
    pub(super) shape: Shape,
}

/// One word of a choice.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Choice {
    /// The word.
    pub(super) word: String,
    /// What it means.
    pub(super) description: String,
}

/// The shape of the whole file.
pub(super) fn of_config() -> Table {
    let schema = schemars::schema_for!(Config);
    table(schema.as_value(), schema.as_value(), None)
}

impl Table {
    /// The key of that name.
    pub(super) fn key(&self, name: &str) -> Option<&Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

/// The keys of an object schema; `tag` is left out, since its value is what chose the table.
fn table(root: &Value, node: &Value, tag: Option<&str>) -> Table {
    let required: Vec<&str> = list(node, "required").iter().filter_map(Value::as_str).collect();
    let rank = |name: &str| required.iter().position(|key| *key == name).unwrap_or(required.len());
    let properties = node.get("properties").and_then(Value::as_object);
    let mut keys: Vec<Key> = properties
        .into_iter()
        .flatten()
        .filter(|(name, _)| Some(name.as_str()) != tag)
        .map(|(name, property)| Key {
            name: name.clone(),
            description: description(property),
            required: required.contains(&name.as_str()),
            default: property.get("default").filter(|default| !default.is_null()).cloned(),
            shape: shape(root, property),
        })
        .collect();
    keys.sort_by_key(|key| rank(&key.name));
    Table { description: description(node), keys }
}

fn shape(root: &Value, node: &Value) -> Shape {
    if let Some(name) = node.get("$ref").and_then(Value::as_str).and_then(|path| path.strip_prefix("#/$defs/")) {
        return match name {
            "Duration" => Shape::Duration,
            "Size" => Shape::Size,
            "SecretFile" => Shape::SecretFile,
            _ => root.get("$defs").and_then(|defs| defs.get(name)).map_or(Shape::Unknown, |node| shape(root, node)),
        };
    }
    // An optional value is "this or null", and TOML has no null.
    if let Some(some) = list(node, "anyOf").iter().find(|node| type_of(node) != "null") {
        return shape(root, some);
    }
    let variants = list(node, "oneOf");
    if !variants.is_empty() {
        return one_of(root, node, variants);
    }
    match type_of(node) {
        "object" => match node.get("additionalProperties") {
            Some(item) if item.is_object() => Shape::Map(Box::new(shape(root, item))),
            _ => Shape::Table(table(root, node, None)),
        },
        "array" => Shape::List {
            item: Box::new(node.get("items").map_or(Shape::Unknown, |item| shape(root, item))),
            length: node.get("maxItems").and_then(Value::as_u64).and_then(|items| usize::try_from(items).ok()),
        },
        "string" if node.get("enum").is_some() => Shape::Choice(words(node)),
        "string" => Shape::Text { one_character: node.get("maxLength").and_then(Value::as_u64) == Some(1) },
        "integer" => Shape::Integer {
            min: node.get("minimum").and_then(Value::as_i64).unwrap_or(i64::MIN),
            max: node.get("maximum").and_then(Value::as_i64).unwrap_or(i64::MAX),
        },
        "number" => Shape::Number,
        "boolean" => Shape::Boolean,
        _ => Shape::Unknown,
    }
}

/// Tables told apart by a tag, or words each with its meaning.
fn one_of(root: &Value, node: &Value, variants: &[Value]) -> Shape {
    let Some(tag) = variants.iter().find_map(tag_of) else {
        return Shape::Choice(variants.iter().flat_map(words).collect());
    };
    let table_of = |variant: &Value| {
        let word = variant.pointer(&format!("/properties/{tag}/const"))?.as_str()?.to_owned();
        let description = description(variant);
        Some((Choice { word, description }, table(root, variant, Some(&tag))))
    };
    Shape::Tagged {
        tag: tag.clone(),
        description: description(node),
        variants: variants.iter().filter_map(table_of).collect(),
    }
}

/// The key of an object schema that has one fixed value.
fn tag_of(variant: &Value) -> Option<String> {
    let properties = variant.get("properties")?.as_object()?;
    properties.iter().find(|(_, property)| property.get("const").is_some()).map(|(name, _)| name.clone())
}

/// The words of a `const` or `enum` schema.
fn words(node: &Value) -> Vec<Choice> {
    let constant = node.get("const").into_iter();
    let words = constant.chain(list(node, "enum")).filter_map(Value::as_str);
    words.map(|word| Choice { word: word.to_owned(), description: description(node) }).collect()
}

/// The `type` of a schema; of several, the first that is not null.
fn type_of(node: &Value) -> &str {
    match node.get("type") {
        Some(Value::String(name)) => name,
        Some(Value::Array(names)) => {
            names.iter().filter_map(Value::as_str).find(|name| *name != "null").unwrap_or_default()
        }
        _ => "",
    }
}

fn list<'a>(node: &'a Value, key: &str) -> &'a [Value] {
    node.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The documentation comment as one line.
fn description(node: &Value) -> String {
    let text = node.get("description").and_then(Value::as_str).unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unknown(path: &str, shape: &Shape, found: &mut Vec<String>) {
        let mut keys = |table: &Table| {
            for key in &table.keys {
                if key.description.is_empty() {
                    found.push(format!("{path}.{} has no description", key.name));
                }
                unknown(&format!("{path}.{}", key.name), &key.shape, found);
            }
        };
        match shape {
            Shape::Table(table) => keys(table),
            Shape::Tagged { variants, .. } => variants.iter().for_each(|(_, table)| keys(table)),
            Shape::Map(item) | Shape::List { item, .. } => unknown(path, item, found),
            Shape::Choice(words) if words.iter().any(|word| word.description.is_empty()) => {
                found.push(format!("{path} has a word without description"));
            }
            Shape::Unknown => found.push(format!("{path} has an unknown form")),
            _ => {}
        }
    }

    #[test]
    fn every_option_has_a_known_form_and_a_description() {
        let mut found = Vec::new();
        unknown("", &Shape::Table(of_config()), &mut found);
        assert_eq!(found, Vec::<String>::new());
    }
}
