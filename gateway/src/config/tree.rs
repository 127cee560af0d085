//! The file as a tree in which every key and value knows where it stands, and paths through it.

use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A value and its place.
pub(super) type Node<'a> = Spanned<DeValue<'a>>;

/// The path of a key below a table; keys that are not plain words are quoted as in TOML.
pub(super) fn join(path: &str, key: &str) -> String {
    let plain = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    let key = if plain { key.to_owned() } else { super::suggest::quoted(key) };
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

/// Where the value at `path` stands; if it is not written in the file, the nearest table around it.
pub(super) fn locate(root: &Spanned<DeTable<'_>>, path: &str) -> Range<usize> {
    follow(root, path).0
}

/// Whether there is a value at `path`.
pub(super) fn exists(root: &Spanned<DeTable<'_>>, path: &str) -> bool {
    follow(root, path).1
}

/// How far a path leads: where the last value on it stands, and whether that is its end.
fn follow(root: &Spanned<DeTable<'_>>, path: &str) -> (Range<usize>, bool) {
    let mut table = Some(root.get_ref());
    let mut node: Option<&Node<'_>> = None;
    let mut span = 0..0;
    // `a[1].b` is walked as `a`, `1`, `b`.
    for step in path.split(['.', '[']) {
        let next = match step.strip_suffix(']') {
            Some(index) => node.and_then(|node| node.get_ref().get(index.parse::<usize>().ok()?)),
            None => table.and_then(|table| table.get(step)),
        };
        let Some(next) = next else { return (span, false) };
        span = next.span();
        table = next.get_ref().as_table();
        node = Some(next);
    }
    (span, true)
}

/// What kind of value it is, as TOML calls it.
pub(super) fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
