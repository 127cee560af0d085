//! A source or a way upstream as it stands in a form: what was typed, field by field, and what becomes of it in the text of the
//! configuration.

use super::bus::BusFields;
use super::pasting::PastedView;
use crate::config::edit::{Edit, Place, apply, quote};
use crate::config::form::{self, Kind};
use crate::config::sheet::{self, COLUMNS, Row};
use crate::config::{Config, Problem, examine};
use std::collections::{BTreeMap, BTreeSet};

/// Most fields of one form: a sheet of 2 000 registers and what is around it.
pub(in crate::web) const FIELDS_MAX: usize = 20_000;

/// Most rows of a sheet in the text that are shown as inputs: a browser on an old phone still scrolls them.
pub(in crate::web) const SHEET_ROWS_SHOWN_MAX: usize = 500;

/// Most rows of a sheet that a form holds once rows were pasted into it: as many as are shown, and some to add to a long sheet.
pub(in crate::web) const SHEET_ROWS_FORM_MAX: usize = SHEET_ROWS_SHOWN_MAX + 100;

/// How deep forms go into tables of tables: `source[0].unit[0].registers[0]` and one to spare.
const DEPTH_MAX: usize = 4;

/// The lists of a source that a form shows row by row.
const LISTS: [(&str, &str); 3] = [("mqtt", "subscribe"), ("modbus", "unit"), ("serial", "payload.columns")];

/// Which end of the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::web) enum Side {
    /// Where readings come from.
    Source,
    /// Where they go.
    Sink,
}

impl Side {
    /// Its list in the configuration.
    pub(in crate::web) fn key(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Sink => "sink",
        }
    }

    /// Its place on the page.
    pub(in crate::web) fn root(self) -> &'static str {
        match self {
            Self::Source => "/sources",
            Self::Sink => "/upstream",
        }
    }

    /// The name of what its list shows live.
    pub(in crate::web) fn live(self) -> &'static str {
        self.root().trim_start_matches('/')
    }

    /// The name of what the screen of one shows live.
    pub(in crate::web) fn live_one(self, name: &str) -> String {
        match self {
            Self::Source => format!("source:{name}"),
            Self::Sink => format!("upstream:{name}"),
        }
    }

    /// What it is called as a place.
    pub(in crate::web) fn title(self) -> &'static str {
        match self {
            Self::Source => "Sources",
            Self::Sink => "Upstream",
        }
    }

    /// The names there are, in the order of the configuration.
    pub(in crate::web) fn names(self, config: &Config) -> Vec<String> {
        match self {
            Self::Source => config.source.iter().map(|source| source.name().to_owned()).collect(),
            Self::Sink => config.sink.iter().map(|sink| sink.name().to_owned()).collect(),
        }
    }
}

/// A form and what is in it.
#[derive(Clone, Debug)]
pub(in crate::web) struct Draft {
    /// Which end.
    pub(in crate::web) side: Side,
    /// Its place in the list; the list's end for a new one.
    pub(in crate::web) at: usize,
    /// The name of the one that is changed; empty for a new one.
    pub(in crate::web) was: String,
    /// Each field, named from the place on; those that begin with `_` are the form's own.
    pub(in crate::web) fields: BTreeMap<String, String>,
    /// What is wrong, by field.
    pub(in crate::web) wrong: BTreeMap<String, String>,
    /// What was just made of pasted texts, by sheet.
    pub(in crate::web) pasted: BTreeMap<String, PastedView>,
    /// How many rows each list has in the text.
    had: BTreeMap<String, usize>,
    /// The rows of each sheet in the text that the form does not show: they come behind those that it does, as they are.
    unshown: BTreeMap<String, Vec<Row>>,
}

impl Draft {
    /// A new one.
    pub(in crate::web) fn new(side: Side, config: &Config) -> Self {
        let at = side.names(config).len();
        Self {
            side,
            at,
            was: String::new(),
            fields: BTreeMap::new(),
            wrong: BTreeMap::new(),
            pasted: BTreeMap::new(),
            had: BTreeMap::new(),
            unshown: BTreeMap::new(),
        }
    }

    /// One that is there, as it stands in the text.
    pub(in crate::web) fn of(side: Side, text: &str, config: &Config, name: &str) -> Option<Self> {
        let at = side.names(config).iter().position(|known| known == name)?;
        let mut draft = Self { at, was: name.to_owned(), ..Self::new(side, config) };
        draft.collect(text, &draft.place(), "", 0);
        // A line's end cannot be typed into a field, and is what holds without it.
        if draft.get("framing.delimiter") == "\n" {
            draft.fields.remove("framing.delimiter");
        }
        if let Some(bus) = BusFields::of_url(draft.get("url")).filter(|_| draft.kind() == "modbus") {
            draft.fields.extend(bus.fields());
        }
        Some(draft)
    }

    /// What was sent, on the ground of what is there.
    pub(in crate::web) fn filled(mut self, fields: impl IntoIterator<Item = (String, String)>) -> Self {
        let before = self.get("url").to_owned();
        self.fields = fields.into_iter().take(FIELDS_MAX).collect();
        let bus = BusFields::read(|name| self.get(name).to_owned());
        if self.kind() == "modbus"
            && let Some(url) = bus.url()
        {
            // An address that says the same stays as it is written.
            let same = BusFields::of_url(&before).is_some_and(|before| before == bus);
            self.set("url", if same { before } else { url });
        }
        self
    }

    fn collect(&mut self, text: &str, place: &Place, prefix: &str, depth: usize) {
        let Some(form) = form::at(text, place, None).filter(|_| depth <= DEPTH_MAX) else { return };
        if let Some(tag) = &form.tag {
            self.set(&join(prefix, &tag.name), tag.word.clone().unwrap_or_default());
        }
        for field in &form.fields {
            let name = join(prefix, &field.name);
            match &field.kind {
                Kind::Table | Kind::Variants { .. } if field.value.is_some() => {
                    self.collect(text, &field.path, &name, depth + 1);
                }
                Kind::Table | Kind::Variants { .. } | Kind::Map { .. } => {}
                Kind::List { .. } if field.name == "registers" => {
                    let mut rows = sheet::rows(text, &field.path);
                    let unshown = rows.split_off(rows.len().min(SHEET_ROWS_SHOWN_MAX));
                    self.put_sheet(&name, &rows);
                    self.unshown.insert(name, unshown);
                }
                Kind::List { of, count, .. } if matches!(**of, Kind::Table | Kind::Variants { .. }) => {
                    self.had.insert(name.clone(), *count);
                    for index in 0..*count {
                        self.collect(text, &field.path.item(index), &format!("{name}[{index}]"), depth + 1);
                    }
                }
                _ => self.set(&name, field.typed.clone()),
            }
        }
    }

    /// The place in the configuration.
    pub(in crate::web) fn place(&self) -> Place {
        Place::root().key(self.side.key()).item(self.at)
    }

    /// What kind it is: `mqtt`, `http` …
    pub(in crate::web) fn kind(&self) -> &str {
        self.get("type")
    }

    /// What is in a field.
    pub(in crate::web) fn get(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    /// Fills a field.
    pub(in crate::web) fn set(&mut self, name: &str, value: impl Into<String>) {
        self.fields.insert(name.to_owned(), value.into());
    }

    /// The rows of a list that the form shows.
    pub(in crate::web) fn rows(&self, list: &str) -> Vec<usize> {
        let begin = format!("{list}[");
        let index = |name: &String| name.strip_prefix(&begin)?.split_once(']')?.0.parse().ok();
        self.fields.keys().filter_map(index).collect::<BTreeSet<usize>>().into_iter().collect()
    }

    /// Adds a row, with what is known of it.
    pub(in crate::web) fn add_row(&mut self, list: &str, fields: &[(String, String)]) -> usize {
        let last = self.rows(list).last().map_or(0, |last| last + 1);
        let index = last.max(self.had.get(list).copied().unwrap_or(0));
        let row = format!("{list}[{index}]");
        for (name, value) in fields {
            self.set(&join(&row, name), value.clone());
        }
        index
    }

    /// Takes a row out; those that are not in the text yet close up.
    pub(in crate::web) fn drop_row(&mut self, list: &str, index: usize) {
        let had = self.had.get(list).copied().unwrap_or(0);
        let begin = format!("{list}[");
        let mut kept = BTreeMap::new();
        for (name, value) in std::mem::take(&mut self.fields) {
            let row = name.strip_prefix(&begin).and_then(|rest| rest.split_once(']'));
            match row.and_then(|(at, rest)| Some((at.parse::<usize>().ok()?, rest))) {
                Some((at, _)) if at == index => {}
                Some((at, rest)) if at > index && at > had && index >= had => {
                    kept.insert(format!("{begin}{}]{rest}", at - 1), value);
                }
                _ => drop(kept.insert(name, value)),
            }
        }
        self.fields = kept;
    }

    /// The rows of a sheet that the form shows; `list` is `unit[0].registers`.
    pub(in crate::web) fn sheet(&self, list: &str) -> Vec<Row> {
        let cell = |index: usize, key: &str| self.get(&format!("{list}[{index}].{key}")).trim().to_owned();
        self.rows(list).into_iter().map(|index| Row(COLUMNS.map(|column| cell(index, column.key)))).collect()
    }

    /// The rows of a sheet that are in the text and not in the form.
    pub(in crate::web) fn unshown(&self, list: &str) -> &[Row] {
        self.unshown.get(list).map_or(&[], Vec::as_slice)
    }

    /// Every row of a sheet: those in the form, and behind them those that it does not show.
    pub(in crate::web) fn whole_sheet(&self, list: &str) -> Vec<Row> {
        let mut rows = self.sheet(list);
        rows.extend_from_slice(self.unshown(list));
        rows
    }

    /// Puts rows in place of those of a sheet that the form shows.
    pub(in crate::web) fn put_sheet(&mut self, list: &str, rows: &[Row]) {
        let begin = format!("{list}[");
        self.fields.retain(|name, _| !name.starts_with(&begin));
        for (index, row) in rows.iter().enumerate() {
            self.put_row(list, index, row);
        }
    }

    fn put_row(&mut self, list: &str, index: usize, row: &Row) {
        for (column, cell) in COLUMNS.iter().zip(&row.0) {
            self.set(&format!("{list}[{index}].{}", column.key), cell.clone());
        }
    }

    /// What is wrong with a field.
    pub(in crate::web) fn wrong(&self, name: &str) -> &str {
        self.wrong.get(name).map_or("", String::as_str)
    }

    /// Notes what is wrong, each at its field; what is elsewhere stands at the top.
    pub(in crate::web) fn note(&mut self, problems: &[Problem]) {
        let place = self.place().to_string();
        for problem in problems {
            let below = problem.path.strip_prefix(&place).map(|below| below.trim_start_matches('.'));
            let name = match below {
                Some("url") if self.kind() == "modbus" => "_host".to_owned(),
                Some("password_file") => "_password".to_owned(),
                Some("auth.bearer_file" | "auth") => "_token".to_owned(),
                // The problem of a part of a field is the field's.
                Some(below) => self.shown(below),
                None => String::new(),
            };
            let message = match below {
                // A register that is not shown has no field that could say it.
                Some(below) if name.is_empty() && below.contains("registers[") => {
                    format!("{}: {}", problem.path, problem.message)
                }
                Some(_) => problem.message.clone(),
                None if problem.path.is_empty() => problem.message.clone(),
                None => format!("{}: {}", problem.path, problem.message),
            };
            self.wrong.entry(name).or_insert(message);
        }
    }

    /// The field that a path belongs to: its own, or that of what is around it; the whole form if there is none.
    fn shown(&self, below: &str) -> String {
        let mut path = below;
        loop {
            if self.fields.contains_key(path) {
                return path.to_owned();
            }
            let Some(end) = path.rfind(['.', '[']) else { return String::new() };
            path = path.get(..end).unwrap_or_default();
        }
    }

    /// Takes out what does not go with what was chosen.
    fn settled(&self) -> BTreeMap<String, String> {
        let mut fields: BTreeMap<String, String> = self
            .fields
            .iter()
            .filter(|(name, _)| !name.starts_with('_'))
            .map(|(n, v)| (n.clone(), v.clone()))
            .collect();
        let numbers: Vec<String> =
            self.rows("subscribe").into_iter().map(|index| format!("subscribe[{index}].payload")).collect();
        for payload in numbers.iter().filter(|payload| self.get(&join(payload, "format")) == "number") {
            fields.retain(|name, _| !name.starts_with(payload.as_str()) || name.ends_with(".format"));
        }
        if self.kind() == "serial" {
            let firmware = self.get("framing.kind") == "firmware";
            let csv = self.get("payload.format") == "csv";
            fields.retain(|name, value| match name.as_str() {
                _ if firmware && (name.starts_with("payload.") || name.starts_with("framing.")) => {
                    name == "framing.kind"
                }
                "framing.delimiter" => !value.is_empty(),
                "payload.point" | "payload.unit" => !csv,
                "payload.separator" => csv,
                _ if name.starts_with("payload.columns") => csv,
                _ => true,
            });
        }
        fields
    }

    /// The text of the configuration with what the form says.
    pub(in crate::web) fn text(&self, running: &str) -> Result<String, Vec<Problem>> {
        let whole = |message: String| vec![Problem { line: 0, column: 0, path: self.place().to_string(), message }];
        let place = self.place();
        let settled = self.settled();
        let plain: Vec<(String, String)> = settled
            .iter()
            .filter(|(name, _)| !name.contains("registers["))
            .map(|(n, v)| (n.clone(), v.clone()))
            .collect();
        let mut edits = Vec::new();
        if self.was.is_empty() && self.rows("unit").is_empty() && self.kind().is_empty() {
            return Err(whole("choose what kind it is first".to_owned()));
        }
        if self.was.is_empty() {
            // What decides which options there are comes first.
            edits.push(Edit::set(&place.key("type"), quote(self.kind())));
        }
        // The options of a new one are read in the light of its kind.
        let ground = apply(running, &edits).map_err(|error| whole(error.to_string()))?;
        let mut edits = form::from_fields(&ground, &place, &plain)?;
        let mut problems = Vec::new();
        for unit in self.rows("unit") {
            let list = format!("unit[{unit}].registers");
            let Ok(registers) = place.below(&list) else { continue };
            match sheet::to_edit(&registers, &self.whole_sheet(&list)) {
                Ok(edit) => edits.push(edit),
                Err(cells) => problems.extend(cells.into_iter().map(|cell| Problem {
                    line: 0,
                    column: 0,
                    path: registers.item(cell.row).key(&cell.column).to_string(),
                    message: cell.message,
                })),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        for (_, list) in LISTS.iter().filter(|(kind, _)| *kind == self.kind()) {
            let rows = self.rows(list);
            let had = self.had.get(*list).copied().unwrap_or(0);
            let below = place.below(list).map_err(|error| whole(error.to_string()))?;
            let csv = *list != "payload.columns" || self.get("payload.format") == "csv";
            let gone = (0..had).rev().filter(|index| csv && !rows.contains(index));
            edits.extend(gone.map(|index| Edit::remove(&below.item(index))));
        }
        if self.get("framing.kind") == "firmware" && has(&ground, &place.key("payload")) {
            edits.push(Edit::remove(&place.key("payload")));
        }
        apply(&ground, &edits).map_err(|error| whole(error.to_string()))
    }

    /// The whole configuration with what the form says; what is wrong is noted at its field.
    pub(in crate::web) fn examined(&mut self, running: &str) -> Option<(String, Config)> {
        self.wrong.clear();
        let problems = match self.text(running) {
            Ok(text) => {
                let examined = examine(&text);
                match examined.config {
                    Some(config) => return Some((text, config)),
                    None => examined.problems,
                }
            }
            Err(problems) => problems,
        };
        self.note(&problems);
        None
    }
}

fn has(text: &str, place: &Place) -> bool {
    form::at(text, place, None).is_some_and(|form| form.exists)
}

fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const EXAMPLE: &str = include_str!("../../../../forebay.example.toml");

    fn config() -> Config {
        examine(EXAMPLE).config.unwrap()
    }

    #[test]
    fn a_form_that_is_sent_as_it_was_shown_changes_nothing() {
        for (side, names) in [(Side::Source, Side::Source.names(&config())), (Side::Sink, Side::Sink.names(&config()))]
        {
            for name in names {
                let draft = Draft::of(side, EXAMPLE, &config(), &name).unwrap();
                let fields = draft.fields.clone();
                let text = draft.filled(fields).text(EXAMPLE).unwrap();
                stays_as_it_was(&text, &name);
            }
        }
    }

    fn stays_as_it_was(text: &str, name: &str) {
        for (line, (new, old)) in text.lines().zip(EXAMPLE.lines()).enumerate() {
            assert_eq!(new, old, "{name}, line {}", line + 1);
        }
        assert_eq!(text, EXAMPLE, "{name}");
    }

    #[test]
    fn a_new_source_stands_at_the_end_with_what_was_typed() {
        let draft = Draft::new(Side::Source, &config());
        let fields = [
            ("type", "mqtt"),
            ("name", "hall"),
            ("url", "mqtt://10.0.0.9:1883"),
            ("subscribe[0].filter", "hall/+"),
            ("subscribe[0].device", "{1}"),
            ("subscribe[0].point", "{2}"),
            ("subscribe[0].payload.format", "number"),
            ("subscribe[0].payload.value", "/left/over"),
        ];
        let mut draft = draft.filled(fields.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let (_, config) = draft.examined(EXAMPLE).unwrap_or_else(|| panic!("{:?}", draft.wrong));
        assert_eq!(config.source.last().unwrap().name(), "hall");
    }

    #[test]
    fn what_is_wrong_stands_at_its_field() {
        let mut draft = Draft::of(Side::Source, EXAMPLE, &config(), "plant-broker").unwrap();
        draft.set("url", "http://10.0.0.9");
        draft.set("subscribe[1].filter", "a/#/b");
        assert!(draft.examined(EXAMPLE).is_none());
        assert_eq!(draft.wrong.keys().collect::<Vec<_>>(), ["subscribe[1].filter", "url"]);
        let mut draft = Draft::of(Side::Source, EXAMPLE, &config(), "boiler-bus").unwrap();
        draft.set("unit[0].registers[1].kind", "f33");
        assert!(draft.examined(EXAMPLE).is_none());
        assert!(draft.wrong("unit[0].registers[1].kind").contains("f32"), "{:?}", draft.wrong);
    }

    #[test]
    fn a_row_that_goes_is_out_of_the_text_and_the_others_keep_their_comments() {
        let mut draft = Draft::of(Side::Source, EXAMPLE, &config(), "plant-broker").unwrap();
        draft.drop_row("subscribe", 0);
        let at = draft.add_row("subscribe", &[("filter".to_owned(), "new/+".to_owned())]);
        assert_eq!((at, draft.rows("subscribe")), (2, vec![1, 2]));
        draft.drop_row("subscribe", 2);
        let (text, config) = draft.examined(EXAMPLE).unwrap();
        assert!(text.contains("# Topics such as meter/7/power"), "{text}");
        assert_eq!(config.source[0].name(), "plant-broker");
        assert!(!text.contains("plant/+/+\"\nqos"), "{text}");
    }
}
