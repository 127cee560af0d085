//! The viewer's language, and how numbers are written there.
//!
//! English stands in the code and the templates: `l.t("Sources")`. Another language is a catalogue, `language/de/`, from
//! each English text to its own. `{}` stands for what is filled in. Text that lower floors made (what is wrong with a unit)
//! is recognised by its pattern and said anew, first in English: the log names options as the file does, the page calls them
//! as its forms do. What no catalogue knows stays English rather than missing.

use axum::http::{HeaderMap, header};
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Display;
use std::sync::LazyLock;

/// The cookie that says which language someone chose on the page.
pub(in crate::web) const LANGUAGE_COOKIE: &str = "forebay-language";

/// Languages that write decimals with a comma, by the beginning of their tag (CLDR 46, `decimal`); the others here use a point.
const COMMA_LANGUAGES: [&str; 26] = [
    "bg", "bs", "ca", "cs", "da", "de", "el", "es", "et", "fi", "fr", "hr", "hu", "id", "it", "lt", "lv", "nb", "nl",
    "pl", "pt", "ro", "sk", "sl", "sv", "tr",
];

/// A language of the page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(in crate::web) enum Language {
    /// English, in which everything is written.
    #[default]
    English,
    /// German.
    German,
}

/// How someone reads: language and decimal sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::web) struct Locale {
    /// The language.
    pub(in crate::web) language: Language,
    /// What stands before decimals.
    pub(in crate::web) decimal: char,
}

impl Locale {
    /// English with a decimal point.
    #[cfg(test)]
    pub(in crate::web) const ENGLISH: Self = Self { language: Language::English, decimal: '.' };

    /// What a browser asks for: what was chosen on the page, else the first language it names that there is.
    pub(in crate::web) fn of(headers: &HeaderMap) -> Self {
        let accepted = headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let tags = || accepted.split(',').map(|tag| tag.split([';', '-']).next().unwrap_or_default().trim());
        let comma = |tag: &str| COMMA_LANGUAGES.iter().any(|language| language.eq_ignore_ascii_case(tag));
        let decimal = if tags().next().is_some_and(comma) { ',' } else { '.' };
        let chosen = super::visit::cookie(headers, LANGUAGE_COOKIE).and_then(Language::of);
        match chosen {
            Some(Language::German) => Self { language: Language::German, decimal: ',' },
            Some(Language::English) => Self { language: Language::English, decimal },
            None => Self { language: tags().find_map(Language::of).unwrap_or_default(), decimal },
        }
    }

    /// The language's tag (BCP 47), for `lang`.
    pub(in crate::web) fn tag(self) -> &'static str {
        self.language.tag()
    }

    /// A text of the page in this language.
    pub(in crate::web) fn t(self, english: &'static str) -> &'static str {
        self.catalogue().and_then(|catalogue| catalogue.texts.get(english)).map_or(english, String::as_str)
    }

    /// A text of the page with `{}` filled in, in order.
    pub(in crate::web) fn f(self, english: &'static str, values: &[&dyn Display]) -> String {
        fill(self.t(english), values)
    }

    /// The same with one value, for templates.
    pub(in crate::web) fn f1(self, english: &'static str, value: impl Display) -> String {
        self.f(english, &[&value])
    }

    /// The same with two values, for templates.
    pub(in crate::web) fn f2(self, english: &'static str, first: impl Display, second: impl Display) -> String {
        self.f(english, &[&first, &second])
    }

    /// A text that lower floors made, as far as the catalogue knows its pattern.
    pub(in crate::web) fn say(self, english: &str) -> Cow<'_, str> {
        let english = without_numbers(english);
        let Some(catalogue) = self.catalogue() else { return Cow::Owned(plain(english, self.decimal)) };
        if let Some(text) = catalogue.texts.get(&english) {
            return Cow::Borrowed(text);
        }
        let english = plain(english, self.decimal);
        Cow::Owned(catalogue.said(&english, NESTED_MAX, self.decimal).unwrap_or(english))
    }

    /// Whether a text is known in this language.
    #[cfg(test)]
    pub(in crate::web) fn knows(self, english: &str) -> bool {
        self.catalogue().is_none_or(|catalogue| catalogue.texts.contains_key(english))
    }

    fn catalogue(self) -> Option<&'static Catalogue> {
        match self.language {
            Language::English => None,
            Language::German => Some(&GERMAN),
        }
    }
}

impl Language {
    /// Every language, with its name in itself.
    pub(in crate::web) const ALL: [(Self, &'static str); 2] = [(Self::English, "English"), (Self::German, "Deutsch")];

    /// The language of a tag, if there is one.
    pub(in crate::web) fn of(tag: &str) -> Option<Self> {
        Self::ALL.into_iter().map(|(language, _)| language).find(|language| language.tag().eq_ignore_ascii_case(tag))
    }

    /// Its tag.
    pub(in crate::web) fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::German => "de",
        }
    }
}

/// The texts of a language.
struct Catalogue {
    texts: HashMap<String, String>,
    /// The literal parts between the `{}` of what lower floors say, the longest text first, so that the most exact one is found.
    patterns: Vec<(Vec<String>, String)>,
    /// Whether it says English anew: there what it does not know may stand beside what it knows.
    is_english: bool,
}

/// The German catalogue, a file for each group of screens, and last what lower floors say.
const GERMAN_TEXTS: [&str; 9] = [
    include_str!("language/de/frame.toml"),
    include_str!("language/de/people.toml"),
    include_str!("language/de/settings.toml"),
    include_str!("language/de/rules.toml"),
    include_str!("language/de/ways.toml"),
    include_str!("language/de/see.toml"),
    include_str!("language/de/reference.toml"),
    GERMAN_SAID[0],
    GERMAN_SAID[1],
];

/// What lower floors say: only these are looked for as patterns.
const GERMAN_SAID: [&str; 2] = [include_str!("language/de/said.toml"), include_str!("language/de/problems.toml")];

/// What lower floors say with the names of options, in words for someone who never sees the file.
const PLAIN_SAID: &str = include_str!("language/en/said.toml");

static PLAIN: LazyLock<Catalogue> =
    LazyLock::new(|| Catalogue { is_english: true, ..Catalogue::read(&[PLAIN_SAID], &[PLAIN_SAID]) });

static GERMAN: LazyLock<Catalogue> = LazyLock::new(|| Catalogue::read(&GERMAN_TEXTS, &GERMAN_SAID));

/// How the number of an error of the system begins.
const OS_ERROR: &str = " (os error ";

/// How deep a sentence may stand in another one: a trouble names its cause, and the cause what the system said.
const NESTED_MAX: u8 = 3;

/// Longest value in a place of a pattern, in characters: a name or a number. What is longer is a sentence that must be known.
const VALUE_CHARS_MAX: usize = 60;

impl Catalogue {
    /// Reads a catalogue; a test holds that those in the binary are sound. What two groups of screens say alike, the first says.
    fn read(files: &[&str], said: &[&str]) -> Self {
        let parse = |file: &str| toml::from_str::<HashMap<String, String>>(file).unwrap_or_default();
        let mut texts: HashMap<String, String> = HashMap::new();
        for file in files.iter().rev() {
            texts.extend(parse(file));
        }
        let pattern = |(english, text): (String, String)| {
            let parts: Vec<String> = english.split("{}").map(ToOwned::to_owned).collect();
            (parts.len() > 1).then_some((parts, text))
        };
        let mut patterns: Vec<_> = said.iter().flat_map(|file| parse(file)).filter_map(pattern).collect();
        patterns.sort_by_key(|(parts, _)| std::cmp::Reverse(parts.iter().map(String::len).sum::<usize>()));
        Self { texts, patterns, is_english: false }
    }

    /// What a lower floor said, in this language; none unless all of it is known.
    fn said(&self, english: &str, nested: u8, decimal: char) -> Option<String> {
        if let Some(text) = self.texts.get(english).filter(|_| nested == NESTED_MAX || english.contains(' ')) {
            return Some(text.clone());
        }
        let nested = nested.checked_sub(1)?;
        let whole = self.patterns.iter().find_map(|(parts, text)| {
            let values = captures(parts, english)?;
            let values = values.iter().map(|value| self.value(value, nested, decimal)).collect::<Option<Vec<_>>>()?;
            let values: Vec<&dyn Display> = values.iter().map(|value| value as &dyn Display).collect();
            Some(fill(text, &values))
        });
        // What happened, then what to do: what happened may be another program's own words.
        let in_parts = || {
            let (what, advice) = english.rsplit_once("; ")?;
            let advice = self.said(advice, nested, decimal)?;
            Some(format!("{}; {advice}", self.said(what, nested, decimal).unwrap_or_else(|| what.to_owned())))
        };
        // A trouble that became an alert is what happened and what to do in one text.
        let in_sentences = || {
            let (what, advice) = english.strip_suffix('.').unwrap_or(english).split_once(". ")?;
            let parts = [self.said(what, nested, decimal), self.said(advice, nested, decimal)];
            let known =
                if self.is_english { parts.iter().any(Option::is_some) } else { parts.iter().all(Option::is_some) };
            let [first, second] = parts;
            let (first, second) =
                (first.unwrap_or_else(|| what.to_owned()), second.unwrap_or_else(|| advice.to_owned()));
            known.then(|| format!("{first}. {}", super::words::capital(&second)))
        };
        whole.or_else(in_parts).or_else(in_sentences)
    }

    /// What stands in a place of a pattern: said anew if it is known; a name or a number as it is; no unknown sentence.
    fn value(&self, value: &str, nested: u8, decimal: char) -> Option<String> {
        let is_short = || value.chars().count() <= VALUE_CHARS_MAX && !value.contains(". ");
        self.said(value, nested, decimal).or_else(|| is_short().then(|| figure(value, decimal)))
    }
}

/// What a lower floor said, in English for the page.
fn plain(english: String, decimal: char) -> String {
    PLAIN.said(&english, NESTED_MAX, decimal).unwrap_or(english)
}

/// A number with its unit as the page writes it: a true minus, the viewer's decimal sign. Anything else stays as it is.
fn figure(value: &str, decimal: char) -> String {
    let (number, unit) = value.split_once(' ').map_or((value, ""), |(number, unit)| (number, unit));
    let is_figure =
        number.parse::<f64>().is_ok() && number.starts_with(|first: char| first == '-' || first.is_ascii_digit());
    if !is_figure || unit.contains(|letter: char| letter == ' ' || letter.is_ascii_digit()) {
        return value.to_owned();
    }
    let number = super::words::written(number, !unit.is_empty(), decimal);
    if unit.is_empty() { number } else { format!("{number} {unit}") }
}

/// What the system said, without the number of its error: ` (os error 111)` helps nobody on a page.
fn without_numbers(english: &str) -> String {
    let mut plain = english.to_owned();
    while let Some(at) = plain.find(OS_ERROR) {
        let rest = plain.split_off(at);
        match rest.split_once(')') {
            Some((_, behind)) => plain.push_str(behind),
            None => return plain + &rest,
        }
    }
    plain
}

/// Puts values in the places of `{}`, in order; `{1}`, `{2}` … name one, for languages with another order.
fn fill(text: &str, values: &[&dyn Display]) -> String {
    let mut filled = String::with_capacity(text.len() + 16 * values.len());
    let (mut rest, mut next) = (text, 0);
    while let Some((before, after)) = rest.split_once('{') {
        let Some((place, behind)) = after.split_once('}') else { break };
        filled.push_str(before);
        let index = place.parse::<usize>().map_or(next, |number| number.saturating_sub(1));
        next += usize::from(place.is_empty());
        match values.get(index) {
            Some(value) => filled.push_str(&value.to_string()),
            None => filled.push('…'),
        }
        rest = behind;
    }
    filled + rest
}

/// What stands in the places of `{}`, if the text has this pattern.
fn captures(parts: &[String], text: &str) -> Option<Vec<String>> {
    let (first, others) = parts.split_first()?;
    let mut rest = text.strip_prefix(first.as_str())?;
    let mut found = Vec::with_capacity(others.len());
    for (index, part) in others.iter().enumerate() {
        let is_last = index + 1 == others.len();
        let at = match part.as_str() {
            "" => rest.len(),
            part if is_last => rest.len().checked_sub(part.len()).filter(|at| rest.get(*at..) == Some(part))?,
            part => rest.find(part)?,
        };
        found.push(rest.get(..at)?.to_owned());
        rest = rest.get(at + part.len()..)?;
    }
    rest.is_empty().then_some(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use axum::http::HeaderValue;

    fn asked(language: &'static str) -> Locale {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_LANGUAGE, HeaderValue::from_static(language));
        Locale::of(&headers)
    }

    #[test]
    fn a_browser_is_answered_in_the_first_language_that_there_is() {
        assert_eq!(asked("de-AT,de;q=0.9,en;q=0.5").language, Language::German);
        assert_eq!(asked("fr-FR,de;q=0.8").language, Language::German);
        assert_eq!(asked("ja").language, Language::English);
        assert_eq!(asked("").language, Language::English);
    }

    #[test]
    fn numbers_follow_the_viewer_even_where_the_language_is_missing() {
        assert_eq!(asked("fr-FR").decimal, ',');
        assert_eq!(asked("en-GB,de").decimal, '.');
    }

    #[test]
    fn what_is_chosen_on_the_page_wins() {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_LANGUAGE, HeaderValue::from_static("de"));
        headers.insert(header::COOKIE, HeaderValue::from_static("a=b; forebay-language=en"));
        assert_eq!(Locale::of(&headers).language, Language::English);
    }

    #[test]
    fn options_are_called_as_the_forms_call_them() {
        for (log, page) in [
            (
                "Paused of the dead-letters: 401 Unauthorized: no; check the token in auth.bearer_file: the endpoint does not know it or it has expired",
                "takes no dead letters: 401 Unauthorized: no; the endpoint does not know the token, or it has expired",
            ),
            (
                "there is nothing at \"/value\"; check the JSON pointer `value`",
                "nothing stands at \"/value\" in the message",
            ),
            ("Unit 4 does not answer", "Unit 4 does not answer"),
        ] {
            assert_eq!(Locale::ENGLISH.say(log), page);
        }
        for name in ["bearer_file", "password_file", "`value`", "os error", "JSON pointer", "format =", "dead-letters:"]
        {
            let told = PLAIN.texts.values().find(|text| text.contains(name));
            assert_eq!(told, None, "the page would say {name}");
        }
    }

    #[test]
    fn what_is_said_plainly_is_said_in_german_too() {
        let missing: Vec<_> = PLAIN.texts.values().filter(|text| !GERMAN.texts.contains_key(*text)).collect();
        assert!(missing.is_empty(), "not in German yet: {missing:#?}");
    }

    #[test]
    fn values_fill_their_places_and_are_found_again() {
        assert_eq!(fill("{} of {}", &[&1, &2]), "1 of 2");
        assert_eq!(fill("{2} von {1}", &[&1, &2]), "2 von 1");
        assert_eq!(fill("{} and {", &[&1]), "1 and {");
        let parts = |text: &str| -> Vec<String> { text.split("{}").map(ToOwned::to_owned).collect() };
        assert_eq!(captures(&parts("unit {} on {}"), "unit 4 on bus").unwrap(), ["4", "bus"]);
        assert_eq!(captures(&parts("{} waits."), "a. b waits.").unwrap(), ["a. b"]);
        assert_eq!(captures(&parts("unit {}"), "point 4"), None);
    }

    #[test]
    fn what_lower_floors_say_is_said_as_a_whole_or_left_as_it_is() {
        let german = Locale { language: Language::German, decimal: ',' };
        for (english, said) in [
            ("Unit 2 does not answer", "Gerät 2 am Bus antwortet nicht"),
            (
                "-1000 °C: 900 °C below the possible -100 °C",
                "\u{2212}1\u{202f}000 °C: 900 °C unter den möglichen \u{2212}100 °C",
            ),
            (
                "The broker at plant:1883 cannot be reached: the connection to the broker failed: Connection refused (os error 111)",
                "der Broker plant:1883 ist nicht erreichbar: dort nimmt niemand an",
            ),
            (
                "Nothing arrives of the alerts: no answer within 500 ms",
                "Alarme kommen nicht an: keine Antwort innerhalb von 500 ms",
            ),
            (
                "Paused: 401 Unauthorized: no such token; check the path of url: there is nothing to POST to",
                "nimmt nichts an: 401 Unauthorized: no such token; prüfen Sie den Pfad der Adresse: Dort wird nichts angenommen",
            ),
            (
                "Unit 2 does not answer. Check its wiring and unit id.",
                "Gerät 2 am Bus antwortet nicht. Prüfen Sie seine Verdrahtung und Gerätenummer",
            ),
            ("Unit 2 does not answer. Its fan is off", "Unit 2 does not answer. Its fan is off"),
            ("some of two", "some of two"),
        ] {
            assert_eq!(german.say(english), said);
        }
    }

    #[test]
    fn a_pattern_has_words_enough_to_be_told_from_others() {
        for (parts, _) in Catalogue::read(&GERMAN_TEXTS, &GERMAN_SAID).patterns {
            let words = parts.iter().flat_map(|part| part.split_whitespace()).count();
            let begins = parts.first().is_some_and(|first| first.len() >= 7);
            assert!(words >= 3 || begins, "{parts:?} could take any sentence");
        }
    }

    #[test]
    fn the_catalogues_are_sound() {
        let texts = GERMAN_TEXTS.map(|file| toml::from_str::<HashMap<String, String>>(file).unwrap());
        for (english, german) in texts.iter().flatten() {
            let places = |text: &str| text.matches('{').count();
            assert_eq!(places(english), places(german), "{english:?} and {german:?} fill different places");
            assert!(!german.is_empty(), "{english:?} has no German");
        }
    }

    /// The literal texts that are said in a file: what stands in `t("…")`, `f1("…")` and their like.
    fn said_in(text: &str) -> Vec<String> {
        let code = text.split("#[cfg(test)]").next().unwrap();
        let mut said = Vec::new();
        for call in [".t(", ".f(", ".f1(", ".f2("] {
            for rest in code.split(call).skip(1) {
                let Some(rest) = rest.trim_start().strip_prefix('"') else { continue };
                let mut literal = String::new();
                let mut chars = rest.chars();
                while let Some(char) = chars.next().filter(|char| *char != '"') {
                    literal.push(if char == '\\' { chars.next().unwrap() } else { char });
                }
                said.push(literal);
            }
        }
        said
    }

    fn files_below(folder: &std::path::Path, found: &mut Vec<std::path::PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.extension().and_then(|extension| extension.to_str()) {
                None if path.is_dir() => files_below(&path, found),
                Some("rs" | "html") => found.push(path),
                _ => {}
            }
        }
    }

    #[test]
    fn every_text_of_the_page_is_in_every_catalogue() {
        let texts = Catalogue::read(&GERMAN_TEXTS, &GERMAN_SAID).texts;
        let mut files = Vec::new();
        files_below(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/web"), &mut files);
        let mut missing = std::collections::BTreeSet::new();
        for file in files.into_iter().filter(|file| !file.ends_with("locale.rs")) {
            for said in said_in(&std::fs::read_to_string(&file).unwrap()) {
                if !texts.contains_key(&said) {
                    missing.insert(format!("{}: {said:?}", file.file_name().unwrap().to_string_lossy()));
                }
            }
        }
        assert!(missing.is_empty(), "not in German yet:\n{}", missing.into_iter().collect::<Vec<_>>().join("\n"));
    }
}
