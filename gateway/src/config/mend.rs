//! Mends a file whose structure is wrong, so that what is right in it can be read and its meaning checked, too: all
//! errors are named at once. What is unknown or wrong goes; what must be there is filled in with something harmless.
//!
//! What a mended part is found to say may follow from the mending: [`is_doubtful`] tells, and it is not repeated.

use super::problem::Problem;
use super::shape::{Choice, Shape, Table};
use super::structure::{fault, variant_meant};
use super::tree::{self, Node};
use std::borrow::Cow;
use toml::Spanned;
use toml::de::{DeArray, DeInteger, DeTable, DeValue};

/// What stands for a text that is missing: it fits as a name, too.
const TEXT: &str = "-";

/// Makes a table fit its shape.
pub(super) fn table(found: &mut DeTable<'_>, shape: &Table) {
    keys(found, shape, None);
}

/// Whether an error at `path` may come from the mending of a file in which `findings` were wrong: what is wrong is part of
/// it, it is not written in the file, or it stands in the same item of an inner list, where keys depend on each other.
/// `unjudged` are the tables of which it is not known what they should be; only their names can be trusted.
pub(super) fn is_doubtful(path: &str, tree: &Spanned<DeTable<'_>>, findings: &[Problem], unjudged: &[String]) -> bool {
    let any_below = |root: &str| findings.iter().any(|finding| is_below(root, &finding.path));
    if !path.contains(['.', '[']) {
        return findings.iter().any(|finding| finding.path == path);
    }
    let part = path.split('.').next().unwrap_or_default();
    if !any_below(part) {
        return false;
    }
    let inner_item = path.rfind(']').and_then(|end| path.get(..=end)).filter(|item| *item != part);
    any_below(path)
        || !tree::exists(tree, path)
        || inner_item.is_some_and(any_below)
        || unjudged.iter().any(|table| is_below(table, path) && path != tree::join(table, "name"))
}

/// Whether `path` is `root` or lies below it.
fn is_below(root: &str, path: &str) -> bool {
    path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// Mends a value as far as it goes; whether it fits now.
fn value(found: &mut Node<'_>, shape: &Shape) -> bool {
    match (shape, found.get_mut()) {
        (Shape::Table(table), DeValue::Table(found)) => keys(found, table, None),
        (Shape::Tagged { tag, variants, .. }, DeValue::Table(found)) => tagged(found, tag, variants),
        (Shape::Map(item), DeValue::Table(found)) => retain(found, |_, found| value(found, item)),
        (Shape::List { item, length }, DeValue::Array(items)) => {
            for found in items.iter_mut() {
                if !value(found, item) {
                    *found = stand_in(item);
                }
            }
            return length.is_none_or(|length| items.len() == length);
        }
        (shape, found) => return fault("", shape, found).is_none(),
    }
    true
}

/// Keeps what is wanted, after it was mended.
fn retain(found: &mut DeTable<'_>, mut keep: impl FnMut(&str, &mut Node<'_>) -> bool) {
    let all = std::mem::take(found).into_iter();
    *found = all.filter_map(|(name, mut value)| keep(name.get_ref(), &mut value).then_some((name, value))).collect();
}

fn keys(found: &mut DeTable<'_>, table: &Table, tag: Option<&str>) {
    retain(found, |name, found| Some(name) == tag || table.key(name).is_some_and(|key| value(found, &key.shape)));
    for key in table.keys.iter().filter(|key| key.required) {
        if !found.contains_key(key.name.as_str()) {
            found.insert(spanned(key.name.clone().into()), stand_in(&key.shape));
        }
    }
}

fn tagged(found: &mut DeTable<'_>, tag: &str, variants: &[(Choice, Table)]) {
    let said = found.get(tag).and_then(|value| value.get_ref().as_str()).unwrap_or_default();
    // Of something that is not known the first will do: nothing but its name is looked at.
    let Some((choice, table)) = variant_meant(said, variants).or_else(|| variants.first()) else { return };
    found.insert(spanned(tag.to_owned().into()), spanned(DeValue::String(choice.word.clone().into())));
    keys(found, table, Some(tag));
}

/// The least that fits.
fn stand_in<'a>(shape: &Shape) -> Node<'a> {
    let text = |text: &str| DeValue::String(Cow::Owned(text.to_owned()));
    spanned(match shape {
        Shape::Table(table) => {
            let mut found = DeTable::new();
            keys(&mut found, table, None);
            DeValue::Table(found)
        }
        Shape::Tagged { tag, variants, .. } => {
            let mut found = DeTable::new();
            tagged(&mut found, tag, variants);
            DeValue::Table(found)
        }
        Shape::Map(_) => DeValue::Table(DeTable::new()),
        Shape::List { item, length } => {
            let mut items = DeArray::new();
            (0..length.unwrap_or_default()).for_each(|_| items.push(stand_in(item)));
            DeValue::Array(items)
        }
        Shape::Choice(words) => text(words.first().map_or(TEXT, |choice| &choice.word)),
        Shape::Text { .. } | Shape::SecretFile | Shape::Unknown => text(TEXT),
        Shape::Duration => text("1 s"),
        Shape::Size => text("1 GiB"),
        Shape::Integer { .. } | Shape::Number => DeValue::Integer(DeInteger::default()),
        Shape::Boolean => DeValue::Boolean(false),
    })
}

/// A value that stands nowhere in the file.
fn spanned<T>(value: T) -> Spanned<T> {
    Spanned::new(0..0, value)
}
