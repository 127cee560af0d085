//! What a person types into a field, and the TOML value that it is.

use super::found::Found;
use crate::config::edit::quote;
use crate::config::shape::Shape;
use crate::config::structure::fault;
use toml::de::{DeTable, DeValue};
use toml_edit::{TableLike, Value};

/// What stands in an input for what is in the file.
pub(super) fn of_found(shape: &Shape, found: Found<'_>) -> String {
    match (shape, found) {
        (Shape::List { item, .. }, Found::Value(Value::Array(items))) if is_plain(item) => {
            items.iter().map(plain).collect::<Vec<_>>().join("\n")
        }
        (Shape::Map(item), found) if is_plain(item) => found.table().map(map).unwrap_or_default(),
        (_, Found::Value(value)) => plain(value),
        _ => String::new(),
    }
}

fn map(table: &dyn TableLike) -> String {
    let pairs = table.iter().filter_map(|(key, item)| Some(format!("{key} = {}", plain(item.as_value()?))));
    pairs.collect::<Vec<_>>().join("\n")
}

/// A value without quotes.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.value().clone(),
        value => crate::config::edit::value_text(value),
    }
}

/// What holds without the option, as it would be typed.
pub(super) fn of_default(default: &serde_json::Value) -> String {
    match default {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Array(items) => items.iter().map(of_default).collect::<Vec<_>>().join("\n"),
        other => other.to_string(),
    }
}

pub(super) fn is_plain(shape: &Shape) -> bool {
    !matches!(shape, Shape::Table(_) | Shape::Tagged { .. } | Shape::Map(_) | Shape::List { .. })
}

/// The TOML value of what was typed, which is not empty.
///
/// # Errors
/// With what is wrong with it.
pub(super) fn to_toml(name: &str, shape: &Shape, typed: &str) -> Result<String, String> {
    let text = match shape {
        Shape::Text { .. } | Shape::Unknown => quote(typed),
        Shape::SecretFile | Shape::Choice(_) | Shape::Duration | Shape::Size => quote(typed.trim()),
        Shape::Boolean => match typed.trim().to_lowercase().as_str() {
            "true" | "on" | "yes" | "1" | "ja" => "true".to_owned(),
            "false" | "off" | "no" | "0" | "nein" => "false".to_owned(),
            _ => return Err("expected true or false".to_owned()),
        },
        Shape::Integer { .. } => integer(typed).ok_or("expected a whole number")?,
        Shape::Number => number(typed).ok_or("expected a number, such as 0.5")?,
        Shape::List { item, .. } if is_plain(item) && !typed.trim_start().starts_with('[') => {
            let items = typed.split(|letter| letter == '\n' || letter == ';' || (letter == ',' && !is_number(item)));
            let items = items.map(str::trim).filter(|item| !item.is_empty());
            let items: Result<Vec<String>, String> = items.map(|typed| to_toml(name, item, typed)).collect();
            format!("[{}]", items?.join(", "))
        }
        Shape::Map(item) if is_plain(item) && !typed.trim_start().starts_with('{') => {
            let lines = typed.lines().map(str::trim).filter(|line| !line.is_empty());
            let pairs: Result<Vec<String>, String> = lines.map(|line| pair(name, item, line)).collect();
            format!("{{ {} }}", pairs?.join(", "))
        }
        Shape::List { .. } | Shape::Map(_) | Shape::Table(_) | Shape::Tagged { .. } => {
            let read = typed.trim().parse::<Value>();
            read.map_err(|error| error.message().lines().next().unwrap_or_default().to_owned())?;
            return Ok(typed.trim().to_owned());
        }
    };
    judge(name, shape, &text).map_or(Ok(text), Err)
}

/// `site = north`
fn pair(name: &str, item: &Shape, line: &str) -> Result<String, String> {
    let (key, value) = line.split_once(['=', ':']).ok_or("write a line for each, as: site = north")?;
    let key = key.trim().trim_matches('"');
    if key.is_empty() {
        return Err("write a line for each, as: site = north".to_owned());
    }
    let value = value.trim();
    let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
    Ok(format!("{} = {}", quote(key), to_toml(name, item, value)?))
}

fn is_number(shape: &Shape) -> bool {
    matches!(shape, Shape::Integer { .. } | Shape::Number)
}

/// A whole number, also as 0x10; a space or apostrophe between thousands does not matter.
fn integer(typed: &str) -> Option<String> {
    let digits: String = typed.chars().filter(|letter| !letter.is_whitespace() && *letter != '\'').collect();
    if let Some(hex) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        return i64::from_str_radix(hex, 16).ok().filter(|number| *number >= 0).map(|_| format!("0x{hex}"));
    }
    digits.parse::<i64>().ok().map(|number| number.to_string())
}

/// A number, with a point or a comma; written with its point so that it stays a number.
pub(in crate::config) fn number(typed: &str) -> Option<String> {
    let digits: String = typed.chars().filter(|letter| !letter.is_whitespace() && *letter != '\'').collect();
    let comma = digits.matches(',').count() == 1 && !digits.contains('.');
    let digits = if comma { digits.replace(',', ".") } else { digits };
    let value = digits.parse::<f64>().ok().filter(|value| value.is_finite())?;
    let plain = digits.trim_start_matches(['+', '-']).bytes().all(|byte| byte.is_ascii_digit());
    let written = digits.parse::<Value>().is_ok_and(|value| value.is_float());
    Some(if plain || !written { format!("{value:?}") } else { digits })
}

/// What the check of the file would say.
fn judge(name: &str, shape: &Shape, value: &str) -> Option<String> {
    let line = format!("v = {value}");
    let (tree, errors) = DeTable::parse_recoverable(&line);
    if let Some(error) = errors.first() {
        return Some(error.message().to_owned());
    }
    match (shape, tree.get_ref().get("v").map(toml::Spanned::get_ref)) {
        (Shape::List { length: Some(length), .. }, Some(DeValue::Array(items))) if items.len() != *length => {
            Some(format!("expected {length} items, found {}", items.len()))
        }
        (Shape::List { .. } | Shape::Map(_), _) | (_, None) => None,
        (shape, Some(found)) => fault(name, shape, found),
    }
}
