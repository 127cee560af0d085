//! Hides what may be secret in a file before it is shown: users and passwords in URLs, and what stands after `?` in a web
//! address. Other secrets are in files of their own.

use super::problem::{Lines, Problem};
use super::tree::{Node, join};
use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;
use toml::de::{DeTable, DeValue};

/// What is said where it is not clear what was hidden.
pub(super) const RETYPE: &str = "*** stands for a secret that is not known for this address; type the secret, or better put it into a file (password_file, bearer_file)";

/// Most hidden addresses that are put back in a text: every source and sink has one, and comments some more.
const HIDDEN_MAX: usize = 1_000;

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

/// Puts back what was hidden in a text that was shown and changed since: only where the whole value is as it was shown, at the
/// same option, or in a comment whose line is as it was. A secret must not go to another host, nor into an option that others
/// may read.
///
/// # Errors
/// With each place where it is not clear what was hidden.
pub fn restore(shown: &str, original: &str) -> Result<String, Vec<Problem>> {
    if shown == redacted_toml(original) {
        return Ok(original.to_owned());
    }
    let (known_places, found_places) = (places(original), places(shown));
    let mut known: HashMap<String, Vec<Known<'_>>> = HashMap::new();
    // Many may stand in one value or line.
    let mut last: Option<(&str, Rc<str>)> = None;
    for address in addresses(original).filter(Address::hides) {
        let place = place_of(&known_places, address.start);
        let raw = around(original, place, address.start);
        let around = match &last {
            Some((same, shown)) if std::ptr::eq(*same, raw) => shown.clone(),
            _ => Rc::from(redacted_toml(raw)),
        };
        last = Some((raw, around.clone()));
        let alike = known.entry(address.shown.clone()).or_default();
        let is_again = |last: &Known<'_>| Rc::ptr_eq(&last.around, &around) && last.address.raw == address.raw;
        if !alike.last().is_some_and(is_again) {
            alike.push(Known { address, place, around });
        }
    }
    let lines = Lines::new(shown);
    let mut problems = Vec::new();
    let mut restored = String::with_capacity(original.len());
    let mut at = 0;
    for (count, address) in addresses(shown).filter(Address::is_hidden).enumerate() {
        if count >= HIDDEN_MAX {
            let message =
                format!("there are more than {HIDDEN_MAX} hidden secrets (***); type them, or leave them out");
            return Err(vec![lines.problem(&(address.start..address.start), "", message)]);
        }
        let place = place_of(&found_places, address.start);
        let around = around(shown, place, address.start);
        let only = |is_there: fn(Option<&PlacedText>, Option<&PlacedText>) -> bool| {
            let fits = |known: &&Known<'_>| {
                known.address.scheme == address.scheme && is_there(known.place, place) && *known.around == *around
            };
            let mut fit = known.get(address.raw)?.iter().filter(fits);
            let first = fit.next()?;
            fit.all(|other| other.address.raw == first.address.raw).then_some(first.address.raw)
        };
        let Some(raw) = only(is_same_place).or_else(|| only(is_same_option)) else {
            let path = place.map(|place| place.path.clone()).unwrap_or_default();
            problems.push(lines.problem(&(address.start..address.start), &path, RETYPE.to_owned()));
            continue;
        };
        restored.push_str(shown.get(at..address.start).unwrap_or_default());
        restored.push_str(raw);
        at = address.start + address.raw.len();
    }
    restored.push_str(shown.get(at..).unwrap_or_default());
    if problems.is_empty() { Ok(restored) } else { Err(problems) }
}

/// An address with something to hide, and where it stands.
struct Known<'t> {
    address: Address<'t>,
    place: Option<&'t PlacedText>,
    /// The value that it is in, or the line of the comment, as it is shown.
    around: Rc<str>,
}

/// The value around an address, without its quotes; outside of values, the line.
fn around<'t>(text: &'t str, place: Option<&PlacedText>, at: usize) -> &'t str {
    if let Some(place) = place {
        return text.get(place.range.clone()).unwrap_or_default().trim_matches(['"', '\'']);
    }
    let (before, after) = text.split_at_checked(at).unwrap_or((text, ""));
    let start = before.rfind('\n').map_or(0, |end| end + 1);
    let end = after.find('\n').map_or(text.len(), |end| at + end);
    text.get(start..end).unwrap_or_default()
}

/// Whether both are the value of one option, or both in a comment.
fn is_same_place(known: Option<&PlacedText>, found: Option<&PlacedText>) -> bool {
    known.map(|place| &place.name) == found.map(|place| &place.name)
}

/// Whether both are the address of a source, or both of a sink: one that was renamed goes to the same host still.
fn is_same_option(known: Option<&PlacedText>, found: Option<&PlacedText>) -> bool {
    let (Some(known), Some(found)) = (known, found) else { return false };
    let is_url = |list: &str, place: &PlacedText| {
        place.path.strip_prefix(list).and_then(|rest| rest.split_once(']')).is_some_and(|(_, option)| option == ".url")
    };
    ["source[", "sink["].into_iter().any(|list| is_url(list, known) && is_url(list, found))
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
    let after = places.partition_point(|place| place.range.start <= at);
    places.get(after.checked_sub(1)?).filter(|place| place.range.contains(&at))
}

/// Every text value, in the order of the file.
fn places(text: &str) -> Vec<PlacedText> {
    let (tree, _) = DeTable::parse_recoverable(text);
    let mut found = Vec::new();
    for (key, value) in tree.get_ref() {
        place_texts(&mut found, join("", key.get_ref()), join("", key.get_ref()), value);
    }
    found.sort_by_key(|place| place.range.start);
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

    #[test]
    fn a_hidden_secret_is_put_back_at_its_own_option_only() {
        let original = "# old: http://host/v1?key=old\n[[sink]]\nname = \"up\"\nurl = \"http://host/v1?key=s3cret\"\n";
        let shown = redacted_toml(original);
        for elsewhere in [
            "[[device]]\nid = \"d\"\ntags = { site = \"http://host/v1?***\" }\n",
            "[[device]]\nid = \"d\"\ntags = { \"http://host/v1?***\" = \"x\" }\n",
            "[[source]]\nname = \"up\"\nusername = \"http://host/v1?***\"\n",
            "[[source]]\nname = \"up\"\nurl = \"http://host/v1?***\"\n",
            "[[sink]]\nname = \"more\"\nurl = \"tcp://elsewhere http://host/v1?***\"\n",
            "# http://host/v1?***\n",
            "x = '''\n# old: http://host/v1?***\n'''\n",
        ] {
            let problems = restore(&format!("{shown}{elsewhere}"), original).err().unwrap_or_default();
            assert_eq!(problems.len(), 1, "{elsewhere}");
        }
        // Under another name it still goes to the same host.
        let renamed = shown.replace("\"up\"", "\"cloud\"");
        assert_eq!(restore(&renamed, original), Ok(original.replace("\"up\"", "\"cloud\"")));
    }

    #[test]
    fn a_text_full_of_hidden_secrets_is_turned_away_soon() {
        let line = |n: usize| format!("k{n} = \"http://h{n}/v1?***\"\n");
        let many: String = (0..30_000).map(line).collect();
        let problems = restore(&many, "url = \"http://h/v1?key=s3cret\"\n").err().unwrap_or_default();
        assert_eq!(problems.len(), 1, "one sentence is enough");
        // One line with many.
        let original = format!("# {}\n", "http://h/v1?key=s3cret ".repeat(900));
        let shown = format!("{}x = 1\n", redacted_toml(&original));
        assert_eq!(restore(&shown, &original), Ok(format!("{original}x = 1\n")));
    }

    proptest::proptest! {
        #[test]
        fn what_was_shown_unchanged_is_the_original(text in "([a-z=\"\n# ]|http://|mqtt://[a-z]@h|\\?|\\*\\*\\*@|\\PC){0,40}") {
            proptest::prop_assert_eq!(restore(&redacted_toml(&text), &text), Ok(text.clone()));
            drop(restore(&text, &redacted_toml(&text)));
        }
    }
}
