//! What a text says, without its layout: the values that edits change. The text follows the model, never the other way.

use super::place::{Place, Step};
use super::{Edit, EditError};
use toml_edit::{Item, TableLike, Value};

/// A value in the file.
#[derive(Clone, Debug)]
pub(super) enum Tree {
    /// Anything that has no parts.
    Leaf(Leaf),
    /// A list.
    List {
        /// Its items.
        items: Vec<Tree>,
        /// Whether each item has a header of its own, `[[source]]`, so that the list ends with its last item.
        headers: bool,
    },
    /// A table.
    Table {
        /// Its keys as they are written.
        keys: Vec<(String, Tree)>,
        /// Whether it is there only because something stands below it, so that it ends with that.
        implied: bool,
    },
}

/// A value without parts: what it means, and how to write it.
#[derive(Clone, Debug)]
pub(super) struct Leaf {
    meaning: Meaning,
    pub(super) text: String,
}

#[derive(Clone, Debug, PartialEq)]
enum Meaning {
    Text(String),
    Integer(i64),
    /// By its bits: every number is the same as itself.
    Float(u64),
    Boolean(bool),
    Time(String),
}

impl Tree {
    /// What a document says.
    pub(super) fn of_table(table: &dyn TableLike, implied: bool) -> Self {
        let keys = table.iter().filter_map(|(key, item)| Some((key.to_owned(), Self::of_item(item)?)));
        Self::Table { keys: keys.collect(), implied }
    }

    /// What an item says; nothing of what is not there.
    pub(super) fn of_item(item: &Item) -> Option<Self> {
        Some(match item {
            Item::None => return None,
            Item::Value(value) => Self::of_value(value),
            Item::Table(table) => Self::of_table(table, table.is_implicit() || table.is_dotted()),
            Item::ArrayOfTables(tables) => {
                let items = tables.iter().map(|table| Self::of_table(table, false)).collect();
                Self::List { items, headers: true }
            }
        })
    }

    /// What a value says.
    pub(super) fn of_value(value: &Value) -> Self {
        let meaning = match value {
            Value::Array(items) => {
                return Self::List { items: items.iter().map(Self::of_value).collect(), headers: false };
            }
            Value::InlineTable(table) => return Self::of_table(table, table.is_dotted()),
            Value::String(text) => Meaning::Text(text.value().clone()),
            Value::Integer(number) => Meaning::Integer(*number.value()),
            Value::Float(number) => Meaning::Float(number.value().to_bits()),
            Value::Boolean(truth) => Meaning::Boolean(*truth.value()),
            Value::Datetime(time) => Meaning::Time(time.value().to_string()),
        };
        let text = value.clone().decorated("", "").to_string();
        Self::Leaf(Leaf { meaning, text })
    }

    /// An empty table.
    pub(super) fn empty() -> Self {
        Self::Table { keys: Vec::new(), implied: false }
    }

    /// The key of a table.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Table { keys, .. } => keys.iter().find(|(name, _)| name == key).map(|(_, value)| value),
            _ => None,
        }
    }

    /// Whether nothing need be written for it.
    pub(super) fn is_nothing(&self) -> bool {
        match self {
            Self::Leaf(_) => false,
            Self::List { items, headers } => *headers && items.is_empty(),
            Self::Table { keys, implied } => *implied && keys.iter().all(|(_, value)| value.is_nothing()),
        }
    }

    /// What stands at a place.
    pub(super) fn at(&self, place: &Place) -> Option<&Self> {
        place.steps().iter().try_fold(self, |tree, step| match (tree, step) {
            (Self::Table { .. }, Step::Key(key)) => tree.get(key),
            (Self::List { items, .. }, Step::Item(index)) => items.get(*index),
            _ => None,
        })
    }

    fn step_mut(&mut self, step: &Step) -> Option<&mut Self> {
        match (self, step) {
            (Self::Table { keys, .. }, Step::Key(key)) => {
                keys.iter_mut().find(|(name, _)| name == key).map(|(_, value)| value)
            }
            (Self::List { items, .. }, Step::Item(index)) => items.get_mut(*index),
            _ => None,
        }
    }

    fn at_mut(&mut self, place: &Place) -> Option<&mut Self> {
        place.steps().iter().try_fold(self, |tree, step| tree.step_mut(step))
    }
}

impl PartialEq for Tree {
    /// Whether both say the same: the order of keys and the way of writing do not matter.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Leaf(one), Self::Leaf(two)) => one.meaning == two.meaning,
            (Self::List { items: one, .. }, Self::List { items: two, .. }) => one == two,
            (Self::Table { keys: one, .. }, Self::Table { keys: two, .. }) => {
                let covered = |a: &[(String, Self)], b: &Self| {
                    a.iter().all(|(key, value)| value.is_nothing() || b.get(key).is_some_and(|other| value == other))
                };
                covered(one, other) && two.iter().all(|(key, value)| value.is_nothing() || self.get(key).is_some())
            }
            _ => false,
        }
    }
}

/// Does one edit.
pub(super) fn apply(root: &mut Tree, edit: &Edit) -> Result<(), EditError> {
    match edit {
        Edit::Set { path, value } => set(root, path, parse_value(path, value)?),
        Edit::Remove { path } => remove(root, path),
        Edit::Append { path, value } => {
            let length = match root.at(path) {
                Some(Tree::List { items, .. }) => items.len(),
                Some(_) => return Err(EditError::NotAList { path: path.clone() }),
                None => 0,
            };
            set(root, &path.item(length), parse_value(path, value)?)
        }
        Edit::Insert { path, index, value } => {
            let value = parse_value(path, value)?;
            if *index == 0 && root.at(path).is_none() {
                return set(root, &path.item(0), value);
            }
            let items = list(root, path)?;
            if *index > items.len() {
                return Err(EditError::Nothing { path: path.item(*index) });
            }
            items.insert(*index, value);
            Ok(())
        }
        Edit::Move { path, from, to } => {
            let items = list(root, path)?;
            for index in [*from, *to] {
                if index >= items.len() {
                    return Err(EditError::Nothing { path: path.item(index) });
                }
            }
            let item = items.remove(*from);
            items.insert(*to, item);
            Ok(())
        }
    }
}

/// A value as it was typed in TOML.
pub(super) fn parse_value(path: &Place, text: &str) -> Result<Tree, EditError> {
    let value = text.trim().parse::<Value>();
    let value = value.map_err(|error| EditError::Value {
        path: path.clone(),
        message: error.message().split('\n').next().unwrap_or_default().to_owned(),
    })?;
    Ok(Tree::of_value(&value))
}

fn list<'t>(root: &'t mut Tree, path: &Place) -> Result<&'t mut Vec<Tree>, EditError> {
    match root.at_mut(path) {
        Some(Tree::List { items, .. }) => Ok(items),
        Some(_) => Err(EditError::NotAList { path: path.clone() }),
        None => Err(EditError::Nothing { path: path.clone() }),
    }
}

/// Sets a value; tables and first items that are missing on the way come into being.
fn set(root: &mut Tree, path: &Place, value: Tree) -> Result<(), EditError> {
    let mut tree = root;
    let mut place = Place::root();
    let steps = path.steps();
    for (depth, step) in steps.iter().enumerate() {
        if tree.step_mut(step).is_none() {
            let missing = match steps.get(depth + 1) {
                Some(Step::Key(_)) => Tree::empty(),
                Some(Step::Item(_)) => Tree::List { items: Vec::new(), headers: false },
                None => value.clone(),
            };
            match (&mut *tree, step) {
                (Tree::Table { keys, .. }, Step::Key(key)) => keys.push((key.clone(), missing)),
                (Tree::List { items, .. }, Step::Item(index)) if *index == items.len() => items.push(missing),
                (_, Step::Item(index)) => return Err(EditError::Nothing { path: place.item(*index) }),
                (_, Step::Key(_)) => return Err(EditError::NotATable { path: place }),
            }
        }
        place = match step {
            Step::Key(key) => place.key(key),
            Step::Item(index) => place.item(*index),
        };
        tree = tree.step_mut(step).ok_or_else(|| EditError::Nothing { path: place.clone() })?;
    }
    if path.steps().is_empty() && !matches!(value, Tree::Table { .. }) {
        return Err(EditError::NotATable { path: place });
    }
    *tree = value;
    Ok(())
}

fn remove(root: &mut Tree, path: &Place) -> Result<(), EditError> {
    let nothing = || EditError::Nothing { path: path.clone() };
    let (around, step) = path.split_last().ok_or_else(nothing)?;
    match (root.at_mut(&around).ok_or_else(nothing)?, step) {
        (Tree::Table { keys, .. }, Step::Key(key)) => {
            let at = keys.iter().position(|(name, _)| name == key).ok_or_else(nothing)?;
            keys.remove(at);
        }
        (Tree::List { items, .. }, Step::Item(index)) if *index < items.len() => drop(items.remove(*index)),
        _ => return Err(nothing()),
    }
    Ok(())
}
