//! The fields of a place as HTML, from the shape of the file: a field each, tables within it as groups, lists of tables as
//! links to forms of their own. What someone has typed already stands in them, and what is wrong with it stands there.

use super::words::{Piece, pieces, readable, readable_as, word_of};
use crate::config::edit::{Place, Step};
use crate::config::form::{self, Field, Form, Kind, Word};
use crate::web::failure::FieldError;
use crate::web::locale::Locale;
use crate::web::pages;
use askama::Template;

/// Most groups within groups; the file is four deep, and a list of its own begins a form of its own.
const DEPTH_MAX: usize = 6;

/// Characters of what a choice means that fit into its line.
const MEANING_CHARS_MAX: usize = 72;

/// Items of a list that are shown; a list of more is changed in the text or the sheet.
pub(super) const ITEMS_MAX: usize = 500;

/// Keys that name an item, the best first.
const NAMING: [&str; 6] = ["name", "device", "point", "points", "id", "filter"];

/// Keys that say most of an item, the best first; the others follow.
const TELLING: [&str; 9] = ["url", "port", "brokers", "id", "point", "address", "every_ms", "range", "tags"];

/// Most things that are said of an item, and characters of all of them.
const SAID_MAX: usize = 6;
const SAID_CHARS_MAX: usize = 240;

/// What a form is made from.
pub(super) struct Source<'s> {
    /// The text, with the kinds that were chosen, so that it is decided which fields there are.
    pub(super) draft: &'s str,
    /// The place of the form.
    pub(super) place: &'s Place,
    /// What was typed, by names from the place on.
    pub(super) typed: &'s [(String, String)],
    /// What is wrong with it.
    pub(super) errors: &'s [FieldError],
    /// Language.
    pub(super) l: Locale,
}

/// A form as it is shown.
pub(super) struct Drawn {
    /// Its fields.
    pub(super) html: String,
    /// Where errors stand, each with what stands there.
    pub(super) slots: Vec<Slot>,
    /// What is wrong elsewhere.
    pub(super) elsewhere: Vec<FieldError>,
}

/// Where the errors of a field stand.
#[derive(Template)]
#[template(path = "settings/slot.html")]
pub(super) struct Slot {
    /// The id of its field.
    pub(super) id: String,
    /// What its field is called.
    pub(super) label: String,
    /// What is wrong.
    pub(super) errors: Vec<String>,
    /// Whether it takes the place of the one that is shown.
    pub(super) swap: bool,
}

#[derive(Template)]
#[template(path = "settings/input.html")]
struct Input<'f> {
    l: Locale,
    id: String,
    name: String,
    key: String,
    label: String,
    about: Vec<Piece>,
    control: Control,
    typed: String,
    placeholder: String,
    hint: String,
    required: bool,
    /// Whether choosing decides which other fields there are.
    decides: bool,
    secret_typed: bool,
    wrong: bool,
    slot: String,
    kind: &'f Kind,
}

enum Control {
    Line,
    Number,
    Area(usize),
    Choice(Vec<Choice>),
    Ticks(Vec<Choice>),
    Secret,
}

struct Choice {
    value: String,
    words: String,
    chosen: bool,
}

#[derive(Template)]
#[template(path = "settings/group.html")]
struct Group {
    l: Locale,
    legend: String,
    key: String,
    about: Vec<Piece>,
    slot: String,
    rows: Vec<String>,
    more: Vec<String>,
    /// Whether it is folded as a whole: it is not there yet.
    folded: bool,
    /// Whether the further options are shown unfolded.
    open: bool,
}

#[derive(Template)]
#[template(path = "settings/items.html")]
struct Items {
    l: Locale,
    label: String,
    key: String,
    about: Vec<Piece>,
    slot: String,
    known: Vec<Item>,
    left_out: usize,
    add: String,
}

/// One table of a list.
pub(super) struct Item {
    /// Its name.
    pub(super) name: String,
    /// What it says.
    pub(super) says: String,
    /// Where it is changed.
    pub(super) href: String,
}

struct Drawing<'s> {
    source: &'s Source<'s>,
    slots: Vec<Slot>,
    used: Vec<bool>,
}

/// Draws the fields of a place; `None` if no option has it.
pub(super) fn draw(source: &Source<'_>) -> Option<Drawn> {
    let form = form::at(source.draft, source.place, None)?;
    let mut drawing = Drawing { source, slots: Vec::new(), used: vec![false; source.errors.len()] };
    let (rows, more) = drawing.rows(&form, 0);
    let open = rows.is_empty();
    let group = Group {
        l: source.l,
        legend: String::new(),
        key: String::new(),
        about: Vec::new(),
        slot: String::new(),
        rows,
        more,
        folded: false,
        open,
    };
    let elsewhere = source.errors.iter().zip(&drawing.used).filter(|(_, used)| !**used);
    let elsewhere = elsewhere.map(|(error, _)| error.clone()).collect();
    Some(Drawn { html: group.render().ok()?, slots: drawing.slots, elsewhere })
}

/// The tables of a list, each with its name and what it says.
pub(super) fn items(text: &str, list: &Place, l: Locale) -> Vec<Item> {
    let form = form::at(text, list, None).map(|form| form.fields).unwrap_or_default();
    let item = |field: Field| {
        let (name, says) = summary(&field, l);
        Item { name, says, href: edit_at(&field.path) }
    };
    form.into_iter().take(ITEMS_MAX).map(item).collect()
}

/// The name of an item and what else it says, in one line.
fn summary(field: &Field, l: Locale) -> (String, String) {
    let value = format!("it = {}", field.value.as_deref().unwrap_or("{}"));
    let table = toml::from_str::<toml::Table>(&value).ok();
    let table = table.and_then(|table| table.get("it").and_then(toml::Value::as_table).cloned()).unwrap_or_default();
    let known = NAMING.iter().find_map(|key| Some((*key, plain(table.get(*key)?)?)));
    let number = field.name.parse::<usize>().map_or_else(|_| field.name.clone(), |index| l.f1("Number {}", index + 1));
    let kind = ["type", "kind"].iter().find_map(|key| said(key, table.get(*key)?, l));
    let told = |key: &str| known.as_ref().is_some_and(|(known, _)| *known == key) || key == "type" || key == "kind";
    let rank = |key: &str| TELLING.iter().position(|telling| *telling == key).unwrap_or(TELLING.len());
    let mut pairs: Vec<_> = table.iter().filter(|(key, _)| !told(key)).collect();
    pairs.sort_by_key(|(key, _)| rank(key));
    let says = pairs.into_iter().filter_map(|(key, value)| match value {
        // Tags are called as someone has called them; what is in other tables has a name of its own, which says enough.
        toml::Value::Table(tags) if key == "tags" => {
            let pairs = tags.iter().filter_map(|(tag, value)| Some(format!("{tag} = {}", plain(value)?)));
            Some(format!("{}: {}", readable(key, l), pairs.collect::<Vec<_>>().join(", ")))
        }
        toml::Value::Table(table) => {
            let pairs = table.iter().filter_map(|(key, value)| pair(key, value, l));
            Some(pairs.collect::<Vec<_>>().join(" · ")).filter(|said| !said.is_empty())
        }
        value => pair(key, value, l),
    });
    let says = kind.into_iter().chain(says).take(SAID_MAX).collect::<Vec<_>>().join(" · ");
    (known.map_or(number, |(_, name)| name), says.chars().take(SAID_CHARS_MAX).collect())
}

/// An option with its value: `Possible range: −100 – 5000`.
fn pair(key: &str, value: &toml::Value, l: Locale) -> Option<String> {
    let said = match value {
        toml::Value::Array(items) if items.iter().any(toml::Value::is_table) => items.len().to_string(),
        toml::Value::Array(items) if !items.is_empty() && items.iter().all(|item| item.as_str().is_none()) => {
            items.iter().filter_map(|item| said(key, item, l)).collect::<Vec<_>>().join(" – ")
        }
        toml::Value::Array(items) => items.iter().filter_map(|item| said(key, item, l)).collect::<Vec<_>>().join(", "),
        value => said(key, value, l)?,
    };
    let is_list = matches!(value, toml::Value::Array(items) if items.iter().any(toml::Value::is_table));
    (!said.is_empty()).then(|| format!("{}: {said}", readable_as(key, is_list, value.is_integer(), l)))
}

/// A value in words, where the file has a word for it.
fn said(key: &str, value: &toml::Value, l: Locale) -> Option<String> {
    match value {
        toml::Value::String(word) => {
            Some(word_of(key, word).map_or_else(|| word.clone(), |words| l.t(words).to_owned()))
        }
        toml::Value::Boolean(on) => Some(l.t(if *on { "on" } else { "off" }).to_owned()),
        toml::Value::Float(number) => Some(l.exact(*number)),
        value => plain(value),
    }
}

fn plain(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Array(_) | toml::Value::Table(_) => None,
        value => Some(value.to_string()),
    }
}

/// The address of the form of a place.
pub(super) fn edit_at(place: &Place) -> String {
    format!("/settings/edit?{}", pages::query(&[("at", &place.to_string())]))
}

/// Whether one input holds it.
pub(super) fn is_plain(kind: &Kind) -> bool {
    !matches!(kind, Kind::Table | Kind::Variants { .. } | Kind::List { .. } | Kind::Map { .. })
}

impl Drawing<'_> {
    /// The rows of a table: those that are always seen, and those behind "More options".
    fn rows(&mut self, form: &Form, depth: usize) -> (Vec<String>, Vec<String>) {
        let (mut rows, mut more) = (Vec::new(), Vec::new());
        if let Some(tag) = &form.tag {
            let path = form.path.key(&tag.name);
            rows.push(self.tag(&path, &tag.name, tag.word.as_deref(), &tag.words, depth > 0));
            if tag.word.is_none() {
                return (rows, more);
            }
        }
        for field in &form.fields {
            let name = self.name(&field.path);
            let typed = self.source.typed.iter().any(|(other, typed)| {
                !typed.trim().is_empty() && other.strip_prefix(&name).is_some_and(|rest| !rest.starts_with(is_letter))
            });
            let path = field.path.to_string();
            let wrong = self.source.errors.iter().any(|error| is_within(&error.path, &path));
            let seen = field.required || field.value.is_some() || typed || wrong;
            let Some(row) = self.field(field, depth, typed || wrong) else { continue };
            if seen { rows.push(row) } else { more.push(row) }
        }
        (rows, more)
    }

    fn field(&mut self, field: &Field, depth: usize, touched: bool) -> Option<String> {
        match &field.kind {
            Kind::Table | Kind::Variants { .. } if depth < DEPTH_MAX => self.group(field, depth, touched),
            Kind::List { of, .. } if matches!(**of, Kind::Table | Kind::Variants { .. }) => self.list(field, depth),
            Kind::Table | Kind::Variants { .. } => None,
            Kind::List { of, .. } if !is_plain(of) => None,
            Kind::Map { of } if !is_plain(of) => None,
            _ => Some(self.input(field)),
        }
    }

    fn group(&mut self, field: &Field, depth: usize, touched: bool) -> Option<String> {
        let form = form::at(self.source.draft, &field.path, None)?;
        let slot = self.slot(&field.path, false);
        let (rows, more) = self.rows(&form, depth + 1);
        let group = Group {
            l: self.source.l,
            legend: readable(&field.name, self.source.l),
            key: field.name.clone(),
            about: pieces(&field.description, self.source.l),
            slot,
            open: rows.is_empty(),
            rows,
            more,
            folded: !field.required && field.value.is_none() && !touched,
        };
        group.render().ok()
    }

    fn list(&mut self, field: &Field, depth: usize) -> Option<String> {
        let in_text = form::at(self.source.draft, self.source.place, None).is_some_and(|form| form.exists);
        let l = self.source.l;
        let none = matches!(field.kind, Kind::List { count: 0, .. });
        // A table that is yet to be takes the first item of its list along: it may not be without.
        if none && (field.required || !in_text) && depth < DEPTH_MAX {
            let first = field.path.item(0);
            let form = form::at(self.source.draft, &first, None)?;
            let slot = self.slot(&field.path, false);
            let (rows, more) = self.rows(&form, depth + 1);
            let group = Group {
                l,
                legend: readable_as(&field.name, true, false, l),
                key: field.name.clone(),
                about: pieces(&field.description, self.source.l),
                slot,
                rows,
                more,
                folded: !field.required,
                open: false,
            };
            return group.render().ok();
        }
        let slot = self.slot(&field.path, true);
        let items = items(self.source.draft, &field.path, l);
        let count = if let Kind::List { count, .. } = field.kind { count } else { 0 };
        let list = Items {
            l,
            label: readable_as(&field.name, true, false, l),
            key: field.name.clone(),
            about: pieces(&field.description, self.source.l),
            slot,
            left_out: count.saturating_sub(items.len()),
            known: items,
            add: edit_at(&field.path.item(count)),
        };
        list.render().ok()
    }

    fn tag(&mut self, path: &Place, key: &str, word: Option<&str>, words: &[Word], optional: bool) -> String {
        let l = self.source.l;
        let none = if optional { l.t("none") } else { l.t("Choose …") };
        let first = Choice { value: String::new(), words: none.to_owned(), chosen: word.is_none() };
        let words = words.iter().map(|known| choice(known, word == Some(known.word.as_str()), l));
        let options = std::iter::once(first).chain(words).collect();
        let kind = Kind::Text;
        let name = self.name(path);
        let slot = self.slot(path, false);
        let wrong = self.wrong();
        let input = Input {
            l,
            id: id_of(&name),
            key: key.to_owned(),
            label: readable(key, l),
            about: Vec::new(),
            control: Control::Choice(options),
            typed: String::new(),
            placeholder: String::new(),
            hint: String::new(),
            required: !optional,
            decides: true,
            secret_typed: false,
            wrong,
            slot,
            kind: &kind,
            name,
        };
        input.render().unwrap_or_default()
    }

    fn input(&mut self, field: &Field) -> String {
        let l = self.source.l;
        let name = self.name(&field.path);
        let typed = self.source.typed.iter().find(|(other, _)| *other == name).map(|(_, typed)| typed.clone());
        let typed = typed.unwrap_or_else(|| field.typed.clone());
        let secret_typed = self.source.typed.iter().any(|(other, typed)| {
            other.strip_prefix(super::edit::SECRET).is_some_and(|other| other == name) && !typed.is_empty()
        });
        let usual = field.default.clone().filter(|_| field.value.is_none()).unwrap_or_default();
        let slot = self.slot(&field.path, true);
        let wrong = self.wrong();
        let control = control(field, &typed, &usual, l);
        let input = Input {
            l,
            id: id_of(&name),
            key: field.name.clone(),
            label: readable_as(&field.name, false, matches!(field.kind, Kind::Integer { .. }), l),
            about: pieces(&field.description, self.source.l),
            hint: hint(&field.kind, l),
            placeholder: if usual.is_empty() { String::new() } else { l.f1("usual: {}", usual.replace('\n', ", ")) },
            control,
            typed,
            required: field.required,
            decides: false,
            secret_typed,
            wrong,
            slot,
            kind: &field.kind,
            name,
        };
        input.render().unwrap_or_default()
    }

    /// The place where the errors of a field stand, with those that there are; `below` takes those below it, too.
    fn slot(&mut self, path: &Place, below: bool) -> String {
        let text = path.to_string();
        let mut errors = Vec::new();
        for (error, used) in self.source.errors.iter().zip(&mut self.used) {
            if !*used && (error.path == text || (below && is_within(&error.path, &text))) {
                *used = true;
                errors.push(self.source.l.say(&error.message).into_owned());
            }
        }
        let name = self.name(path);
        let label = path.split_last().map(|(_, step)| match step {
            Step::Key(key) => readable(key, self.source.l),
            Step::Item(index) => self.source.l.f1("Number {}", index + 1),
        });
        let slot = Slot { id: id_of(&name), label: label.unwrap_or_default(), errors, swap: false };
        let html = slot.render().unwrap_or_default();
        self.slots.push(slot);
        html
    }

    /// Whether the last slot has errors.
    fn wrong(&self) -> bool {
        self.slots.last().is_some_and(|slot| !slot.errors.is_empty())
    }

    /// The name of a field: its place from the form's place on.
    fn name(&self, path: &Place) -> String {
        let below = path.steps().iter().skip(self.source.place.steps().len());
        let name = below.fold(Place::root(), |name, step| match step {
            Step::Key(key) => name.key(key),
            Step::Item(index) => name.item(*index),
        });
        name.to_string()
    }
}

fn is_letter(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_' || letter == '-'
}

/// Whether a path is another one or lies below it.
fn is_within(path: &str, around: &str) -> bool {
    path.strip_prefix(around).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// The id of a field in the page.
fn id_of(name: &str) -> String {
    let plain = name.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' });
    format!("f-{}", plain.collect::<String>())
}

fn choice(word: &Word, chosen: bool, l: Locale) -> Choice {
    let meaning = l.say(&word.description).replace('`', "");
    let first = meaning.split_once(". ").map_or(meaning.as_str(), |(first, _)| first).trim_end_matches('.');
    let mut short: String = first.chars().take(MEANING_CHARS_MAX).collect();
    if short.len() < first.len() {
        short.push('…');
    }
    let words = if short.is_empty() { word.word.clone() } else { format!("{} – {short}", word.word) };
    Choice { value: word.word.clone(), words, chosen }
}

fn control(field: &Field, typed: &str, usual: &str, l: Locale) -> Control {
    let first = |chosen| {
        let words = match (usual, field.required) {
            ("", true) => l.t("Choose …").to_owned(),
            ("", false) => l.t("not set").to_owned(),
            ("true", _) => l.f1("usual: {}", l.t("on")),
            ("false", _) => l.f1("usual: {}", l.t("off")),
            (usual, _) => l.f1("usual: {}", usual),
        };
        Choice { value: String::new(), words, chosen }
    };
    match &field.kind {
        Kind::Boolean => {
            let option = |value: &str, words: &'static str| Choice {
                value: value.to_owned(),
                words: l.t(words).to_owned(),
                chosen: typed == value,
            };
            let options = [first(typed.is_empty()), option("true", "on"), option("false", "off")];
            Control::Choice(options.into())
        }
        Kind::Choice { words } => {
            let known = words.iter().map(|word| choice(word, word.word == typed, l));
            Control::Choice(std::iter::once(first(typed.is_empty())).chain(known).collect())
        }
        Kind::List { of, .. } if matches!(**of, Kind::Choice { .. }) => {
            let Kind::Choice { words } = &**of else { return Control::Line };
            let ticked = |word: &Word| typed.lines().any(|line| line.trim() == word.word);
            Control::Ticks(words.iter().map(|word| choice(word, ticked(word), l)).collect())
        }
        Kind::List { length, .. } => Control::Area(length.unwrap_or(3).clamp(2, 6).max(typed.lines().count().min(12))),
        Kind::Map { .. } => Control::Area(3.max(typed.lines().count().min(12))),
        Kind::SecretFile => Control::Secret,
        Kind::Integer { .. } | Kind::Number => Control::Number,
        _ => Control::Line,
    }
}

/// How it is written.
fn hint(kind: &Kind, l: Locale) -> String {
    match kind {
        Kind::Duration => l.t("With its unit: 500 ms, 10 s, 5 min, 2 h, 7 days.").to_owned(),
        Kind::Size => l.t("With its unit: 512 KiB, 64 MiB, 2 GiB.").to_owned(),
        Kind::Integer { min: Some(min), max: Some(max) } => {
            l.f2("A whole number from {} to {}.", l.integer(*min), l.integer(*max))
        }
        Kind::Integer { .. } => l.t("A whole number.").to_owned(),
        Kind::Number => l.t("A number.").to_owned(),
        Kind::Character => l.t("Exactly one character.").to_owned(),
        Kind::List { of, .. } if matches!(**of, Kind::Choice { .. }) => String::new(),
        Kind::List { length: Some(length), .. } => l.f1("{} values, one a line.", *length),
        Kind::List { .. } => l.t("One a line.").to_owned(),
        Kind::Map { .. } => l.t("One a line, as: site = north").to_owned(),
        _ => String::new(),
    }
}
