//! Hides what may be secret in a file before it is shown: users and passwords in URLs, and what stands after `?` in a web
//! address. Other secrets are in files of their own.

use super::problem::{Lines, Problem};
use super::tree::{Node, join};
use std::ops::Range;
use toml::de::{DeTable, DeValue};

/// What is said where it is not clear what was hidden.
pub(super) const RETYPE: &str = "*** stands for a secret that is not known for this address; type the secret, or better put it into a file (password_file, bearer_file)";

/// What stands in place of something hidden.
const HIDDEN: &str = "***";

/// Where an address ends in a file.
const ENDS: [char; 8] = ['"', '\'', ' ', '\t', '\n', '\r', ',', '`'];

/// The text of a configuration, comments and all, fit to be shown.
#[must_use]
pub fn redacted_toml(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut at = 0;
    for address in addresses(text) {
        shown.push_str(text.get(at..address.start).unwrap_or_default());
        shown.push_str(&address.shown);
        at = address.start + address.raw.len();
    }
    shown.push_str(text.get(at..).unwrap_or_default());
    shown
}

/// Puts back what was hidden in a text that was shown and changed since: wherever the same address stands, it is the old one
/// with its secret. An address of which another part was changed needs its secret anew: it must not go to somewhere else.
///
/// # Errors
/// With each place where it is not clear what was hidden.
pub fn restore(shown: &str, original: &str) -> Result<String, Vec<Problem>> {
    if shown == redacted_toml(original) {
        return Ok(original.to_owned());
    }
    let known: Vec<Address<'_>> = addresses(original).filter(Address::hides).collect();
    let known_places = places(original);
    let (found, found_places) = (addresses(shown).collect::<Vec<_>>(), places(shown));
    let lines = Lines::new(shown);
    let mut problems = Vec::new();
    let mut restored = String::with_capacity(original.len());
    let mut at = 0;
    for address in found.iter().filter(|address| address.is_hidden()) {
        let place = place_of(&found_places, address.start);
        let same = || known.iter().filter(|known| known.shown == address.raw && known.scheme == address.scheme);
        let one = same().next().filter(|first| same().all(|other| other.raw == first.raw));
        let name = |place: &PlacedText| place.name.clone();
        let placed = || {
            let mut placed = same()
                .filter(|known| place.is_some() && place_of(&known_places, known.start).map(name) == place.map(name));
            placed.next().filter(|_| placed.next().is_none())
        };
        let Some(known) = one.or_else(placed) else {
            let path = place.map(|place| place.path.clone()).unwrap_or_default();
            problems.push(lines.problem(&(address.start..address.start), &path, RETYPE.to_owned()));
            continue;
        };
        restored.push_str(shown.get(at..address.start).unwrap_or_default());
        restored.push_str(known.raw);
        at = address.start + address.raw.len();
    }
    restored.push_str(shown.get(at..).unwrap_or_default());
    if problems.is_empty() { Ok(restored) } else { Err(problems) }
}

/// Whether something in the text was hidden.
pub(super) fn is_hidden(text: &str) -> bool {
    addresses(text).any(|address| address.is_hidden())
}

/// An address in a text.
struct Address<'t> {
    start: usize,
    scheme: &'t str,
    raw: &'t str,
    shown: String,
}

impl Address<'_> {
    /// Whether showing it hides something.
    fn hides(&self) -> bool {
        self.raw != self.shown
    }

    /// Whether it is one of which something was hidden.
    fn is_hidden(&self) -> bool {
        self.raw.starts_with("***@") || self.raw.ends_with("?***")
    }
}

/// Every address: what stands between `://` and its end.
fn addresses(text: &str) -> impl Iterator<Item = Address<'_>> {
    let mut behind = 0;
    std::iter::from_fn(move || {
        let rest = text.get(behind..)?;
        let start = behind + rest.find("://")? + 3;
        let after = text.get(start..)?;
        let raw = after.get(..after.find(ENDS).unwrap_or(after.len()))?;
        let before = text.get(behind..start - 3)?;
        let scheme = before.rsplit(|letter: char| !letter.is_ascii_alphanumeric()).next().unwrap_or_default();
        let mut shown = String::new();
        push_address(&mut shown, raw, before.ends_with("http") || before.ends_with("https"));
        behind = start + raw.len();
        Some(Address { start, scheme, raw, shown })
    })
}

/// A text value in the file, named so that it is found again when others come and go before it.
#[derive(Debug)]
struct PlacedText {
    name: String,
    path: String,
    range: Range<usize>,
}

fn place_of(places: &[PlacedText], at: usize) -> Option<&PlacedText> {
    places.iter().find(|place| place.range.contains(&at))
}

fn places(text: &str) -> Vec<PlacedText> {
    let (tree, _) = DeTable::parse_recoverable(text);
    let mut found = Vec::new();
    for (key, value) in tree.get_ref() {
        place_texts(&mut found, join("", key.get_ref()), join("", key.get_ref()), value);
    }
    found
}

fn place_texts(found: &mut Vec<PlacedText>, name: String, path: String, value: &Node<'_>) {
    match value.get_ref() {
        DeValue::String(_) => found.push(PlacedText { name, path, range: value.span() }),
        DeValue::Table(keys) => {
            for (key, value) in keys {
                place_texts(found, join(&name, key.get_ref()), join(&path, key.get_ref()), value);
            }
        }
        DeValue::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                let own = value.get_ref().get("name").and_then(|name| name.get_ref().as_str());
                let item = own.map_or_else(|| format!("{name}[{index}]"), |own| format!("{name}[{own:?}]"));
                place_texts(found, item, format!("{path}[{index}]"), value);
            }
        }
        _ => {}
    }
}

/// A password may hold a `/` that should have been escaped, so that everything before the last `@` is hidden, even where
/// that hides a path.
fn push_address(shown: &mut String, address: &str, web: bool) {
    let address = address.rsplit_once('@').map_or(address, |(_, host)| {
        shown.push_str(HIDDEN);
        shown.push('@');
        host
    });
    match address.split_once('?') {
        Some((place, _)) if web => {
            shown.push_str(place);
            shown.push('?');
            shown.push_str(HIDDEN);
        }
        _ => shown.push_str(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_passwords_in_urls_are_hidden() {
        let text = "# was mqtt://ann:s3cret@broker:1883\nurl = \"https://bob:p/w@d@host/v1?token=abc#x\" # yes\nport = 'rtu:///dev/a?baud=9600'\n";
        let shown = redacted_toml(text);
        assert_eq!(
            shown,
            "# was mqtt://***@broker:1883\nurl = \"https://***@host/v1?***\" # yes\nport = 'rtu:///dev/a?baud=9600'\n"
        );
    }

    #[test]
    fn a_file_without_urls_stays_as_it_is() {
        for text in ["", "a = 1\n# b@c\n", "://", "x = \"http://\""] {
            assert_eq!(redacted_toml(text), text);
        }
    }

    #[test]
    fn a_secret_that_was_hidden_is_back_when_the_rest_is_saved() {
        let original = "# at mqtt://a:b@old\n[[source]]\nname = \"one\"\nurl = \"mqtt://ann:1@broker\"\n[[source]]\nname = \"two\"\nurl = \"mqtt://bob:2@broker\"\n";
        let shown = redacted_toml(original);
        // The first goes: the second is still found by its name.
        let second =
            shown.split_once("[[source]]\nname = \"two\"").map(|(_, rest)| format!("[[source]]\nname = \"two\"{rest}"));
        let restored = restore(&second.unwrap_or_default(), original);
        assert_eq!(restored, Ok("[[source]]\nname = \"two\"\nurl = \"mqtt://bob:2@broker\"\n".to_owned()));
        let added = format!("{shown}x = 1\n");
        assert_eq!(restore(&added, original), Ok(format!("{original}x = 1\n")));
        let moved = shown.replacen("***@broker", "***@elsewhere", 1);
        let problems = restore(&moved, original).err().unwrap_or_default();
        assert_eq!((problems.len(), problems[0].path.as_str(), problems[0].line), (1, "source[0].url", 4));
        assert!(problems[0].message.contains("put it into a file"));
        assert!(restore("x = \"https://host/?***\"", "").is_err());
    }

    proptest::proptest! {
        #[test]
        fn what_was_shown_unchanged_is_the_original(text in "([a-z=\"\n# ]|http://|mqtt://[a-z]@h|\\?|\\*\\*\\*@|\\PC){0,40}") {
            proptest::prop_assert_eq!(restore(&redacted_toml(&text), &text), Ok(text.clone()));
            drop(restore(&text, &redacted_toml(&text)));
        }
    }
}
