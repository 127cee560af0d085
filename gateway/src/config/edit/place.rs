//! Places in the file, written as in problems: `source[1].unit[0].registers[2].kind`.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt::{self, Write};
use std::str::FromStr;

/// Most steps of a place: the file is six deep, and a longer path is a mistake or an attack.
const STEPS_MAX: usize = 32;

/// One step down from a table or a list.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// The key of a table.
    Key(String),
    /// The item of a list, counted from 0.
    Item(usize),
}

/// A place in the file; the whole file is the empty place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Place(Vec<Step>);

/// Why a text is no place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no place in the configuration; write it as source[1].unit[0].registers[2].kind")]
pub struct NoPlace(String);

impl Place {
    /// The whole file.
    #[must_use]
    pub fn root() -> Self {
        Self::default()
    }

    /// The key below this place.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        self.step(Step::Key(key.to_owned()))
    }

    /// The item below this place.
    #[must_use]
    pub fn item(&self, index: usize) -> Self {
        self.step(Step::Item(index))
    }

    /// A place below this one, written as from here: `payload.format`, `[2].kind`.
    ///
    /// # Errors
    /// If `below` is no place, or the whole is too deep.
    pub fn below(&self, below: &str) -> Result<Self, NoPlace> {
        let below: Self = below.parse()?;
        let mut place = self.clone();
        place.0.extend(below.0);
        if place.0.len() > STEPS_MAX { Err(NoPlace(place.to_string())) } else { Ok(place) }
    }

    /// The way to the place.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    /// The table or list around the place, and the step from there; `None` for the whole file.
    #[must_use]
    pub fn split_last(&self) -> Option<(Self, &Step)> {
        self.0.split_last().map(|(last, around)| (Self(around.to_vec()), last))
    }

    /// Whether this place is `around` or lies below it.
    #[must_use]
    pub fn is_within(&self, around: &Self) -> bool {
        self.0.starts_with(&around.0)
    }

    /// The keys on the way, without items: the name of a table header.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|step| match step {
            Step::Key(key) => Some(key.as_str()),
            Step::Item(_) => None,
        })
    }

    fn step(&self, step: Step) -> Self {
        let mut place = self.clone();
        place.0.push(step);
        place
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (depth, step) in self.0.iter().enumerate() {
            match step {
                Step::Item(index) => write!(f, "[{index}]")?,
                Step::Key(key) if depth == 0 => f.write_str(&key_text(key))?,
                Step::Key(key) => write!(f, ".{}", key_text(key))?,
            }
        }
        Ok(())
    }
}

/// A key as TOML writes it: in quotes unless it is a plain word.
pub(super) fn key_text(key: &str) -> Cow<'_, str> {
    if !key.is_empty() && key.bytes().all(is_plain) {
        return Cow::Borrowed(key);
    }
    let mut quoted = String::from("\"");
    for letter in key.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            letter if letter.is_control() => {
                // Writing to a String cannot fail.
                write!(quoted, "\\u{:04X}", u32::from(letter)).ok();
            }
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    Cow::Owned(quoted)
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

impl FromStr for Place {
    type Err = NoPlace;

    fn from_str(text: &str) -> Result<Self, NoPlace> {
        let wrong = || NoPlace(text.chars().take(200).collect());
        let mut steps = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            if steps.len() == STEPS_MAX {
                return Err(wrong());
            }
            if let Some(after) = rest.strip_prefix('[') {
                let (digits, after) = after.split_once(']').ok_or_else(wrong)?;
                let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
                let index = digits.parse().ok().filter(|_| plain).ok_or_else(wrong)?;
                steps.push(Step::Item(index));
                rest = after;
                continue;
            }
            let key = if steps.is_empty() { rest } else { rest.strip_prefix('.').ok_or_else(wrong)? };
            let (key, after) = read_key(key).ok_or_else(wrong)?;
            steps.push(Step::Key(key));
            rest = after;
        }
        Ok(Self(steps))
    }
}

/// The key that a text begins with, and what follows it.
fn read_key(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.bytes().position(|byte| !is_plain(byte)).unwrap_or(text.len());
        let (key, after) = text.split_at_checked(end)?;
        return (!key.is_empty()).then(|| (key.to_owned(), after));
    };
    let mut key = String::new();
    let mut letters = quoted.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((key, quoted.get(at + 1..)?)),
            '\\' => key.push(match letters.next()?.1 {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                'u' => {
                    // As TOML writes it, \u0007, and as messages of this program do, \u{7}.
                    let digits = letters.as_str();
                    let (digits, length) = match digits.strip_prefix('{') {
                        Some(braced) => braced.split_once('}').map(|(digits, _)| (digits, digits.len() + 2))?,
                        None => (digits.get(..4)?, 4),
                    };
                    letters.by_ref().take(length).for_each(drop);
                    char::from_u32(u32::from_str_radix(digits, 16).ok()?)?
                }
                letter => letter,
            }),
            letter => key.push(letter),
        }
    }
    None
}

impl Serialize for Place {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Place {
    fn schema_name() -> Cow<'static, str> {
        "Place".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "examples": ["source[1].unit[0].registers[2].kind"] })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_place_reads_as_a_problem_names_it() {
        let place: Place = "source[1].unit[0].registers[2].kind".parse().unwrap();
        assert_eq!(place, Place::root().key("source").item(1).key("unit").item(0).key("registers").item(2).key("kind"));
        assert_eq!("device[0].tags.\"a b\"".parse::<Place>().unwrap().steps().len(), 4);
        for wrong in ["a..b", ".a", "a[", "a[x]", "a[1", "a[+1]", "a b", "a.\"b", "a[99999999999999999999999]"] {
            assert!(wrong.parse::<Place>().unwrap_err().to_string().contains("source[1]"), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn every_place_reads_as_it_is_written(steps in prop::collection::vec(prop_oneof![
            any::<String>().prop_map(Step::Key), any::<usize>().prop_map(Step::Item)
        ], 0..8)) {
            let place = Place(steps);
            prop_assert_eq!(place.to_string().parse::<Place>().unwrap(), place);
        }

        #[test]
        fn any_text_is_a_place_or_refused(text in any::<String>()) {
            drop(text.parse::<Place>());
        }
    }
}
