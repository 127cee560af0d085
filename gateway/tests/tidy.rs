//! The house rules a compiler does not know: imports run one way, one module names a library, every file says its purpose.
#![allow(clippy::unwrap_used, reason = "a tidy test that cannot read the sources must fail")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// The rooms, floor by floor, lowest first: invariant 8 of ARCHITECTURE.md, with the floors split where one room needs its
/// neighbour. A room imports from floors below its own and from nowhere else.
const FLOORS: &[&[&str]] = &[
    &["reading", "units", "secret", "backoff", "fault"],
    &["clock", "tryout"],
    &["block", "site", "certificate"],
    &["checks", "anomaly", "decode", "status", "verify", "logs", "system"],
    &["buffer"],
    &["judge", "sources", "sinks"],
    &["ingest", "delivery", "config", "access", "history"],
    &["web", "control"],
    &["app"],
    // Puts a whole plant around the gateway, so it stands on all of it; only the command line starts it.
    &["demo", "selftest"],
    // The same for the tests, on a paused clock.
    &["simulation"],
    &["cli"],
    &["main"],
];

/// Libraries that one module each may name, so that replacing one is a change in one place.
const NAMED_ONCE: &[&str] =
    &["sled", "rdkafka", "rumqttc", "tokio_modbus", "tokio_serial", "prometheus_client", "sd_notify"];

/// A file longer than this has more than one job.
const FILE_LINES_MAX: usize = 600;

#[test]
fn imports_run_down_the_floors() {
    let mut faults = String::new();
    for file in gateway_sources() {
        let room = file.room();
        let Some(floor) = floor_of(&room) else {
            if room != "lib" {
                let hint = "give it a floor in FLOORS of gateway/tests/tidy.rs and in ARCHITECTURE.md";
                writeln!(faults, "{}: room `{room}` has no floor: {hint}", file.name).unwrap();
            }
            continue;
        };
        for (line, target) in imports(&file.code) {
            let target_room = target.split("::").next().unwrap_or_default();
            if target_room == room || is_options_type(&target) {
                continue;
            }
            // Names that are no room are items of lib.rs, which imports nothing.
            let Some(target_floor) = floor_of(target_room) else { continue };
            if target_floor >= floor {
                let why = if target_floor == floor { "is beside" } else { "stands above" };
                let cure = "move what both need to a floor below, or pass it in as an argument";
                writeln!(faults, "{}:{line}: `{target_room}` {why} `{room}`: {cure}", file.name).unwrap();
            }
        }
        for (line, text) in file.lines_of_code() {
            let hides_floor = text.contains("crate::{") || climbs(text) >= file.depth_of(text);
            if hides_floor {
                writeln!(faults, "{}:{line}: write `crate::room::…`, one room a line: the floor must show", file.name)
                    .unwrap();
            }
        }
    }
    assert!(faults.is_empty(), "imports that do not run down:\n{faults}");
}

#[test]
fn one_module_names_a_library() {
    let mut faults = String::new();
    for library in NAMED_ONCE {
        let mut places = BTreeMap::new();
        // The simulated plant is the other end of the same wires.
        for file in gateway_sources().into_iter().filter(|file| file.room() != "demo") {
            if let Some(line) = file.first_line_naming(library) {
                places.entry(file.module()).or_insert_with(|| format!("{}:{line}", file.name));
            }
        }
        if places.len() > 1 {
            let places: Vec<_> = places.into_values().collect();
            let cure = "keep it behind one module and hand out types of our own";
            writeln!(faults, "`{library}` is named in {}: {cure}", places.join(" and ")).unwrap();
        }
    }
    assert!(faults.is_empty(), "libraries that have spread:\n{faults}");
}

#[test]
fn every_file_says_its_purpose_in_its_first_line() {
    let mut faults = String::new();
    for file in all_sources() {
        let first = file.text.lines().next().unwrap_or_default();
        if !first.starts_with("//! ") {
            writeln!(faults, "{}:1: begin with `//! ` and the file's one job", file.name).unwrap();
        }
    }
    assert!(faults.is_empty(), "files without a purpose:\n{faults}");
}

#[test]
fn no_file_has_grown_past_one_job() {
    let mut faults = String::new();
    for file in all_sources() {
        let lines = file.text.lines().count();
        if lines > FILE_LINES_MAX {
            writeln!(faults, "{}:{lines}: longer than {FILE_LINES_MAX} lines: split it by job", file.name).unwrap();
        }
    }
    assert!(faults.is_empty(), "files that are too long:\n{faults}");
}

#[test]
fn every_fault_point_has_its_place() {
    let mut found: Vec<String> = Vec::new();
    for file in gateway_sources().into_iter().filter(|file| file.room() != "fault") {
        let names = file.text.split("fault::point(\"").skip(1).filter_map(|rest| rest.split('"').next());
        found.extend(names.map(str::to_owned));
    }
    let mut listed: Vec<String> = forebay::fault::POINTS.iter().map(|point| (*point).to_owned()).collect();
    found.sort();
    listed.sort();
    assert_eq!(found, listed, "the points in the code, and those of fault.rs");
}

#[test]
fn nothing_is_left_for_later_in_a_comment() {
    let marks = ["TODO", "FIXME", "XXX", "HACK"];
    let mut faults = String::new();
    for file in all_sources().into_iter().filter(|file| !file.name.ends_with("tidy.rs")) {
        for (line, text) in (1..).zip(file.text.lines()) {
            if let Some(mark) = marks.iter().find(|mark| words(text).any(|word| word == **mark)) {
                writeln!(faults, "{}:{line}: {mark}: do it, or open an issue and remove the mark", file.name).unwrap();
            }
        }
    }
    assert!(faults.is_empty(), "work left in comments:\n{faults}");
}

#[test]
fn the_reader_of_imports_sees_code_and_nothing_else() {
    let text = "use crate::block::Block;\n// use crate::web;\nlet s = \"crate::app\"; crate::site::find('\"');\n";
    let found = imports(&blank_comments_and_strings(text));
    let expected = [(1, "block::Block"), (3, "site::find")].map(|(line, path)| (line, path.to_owned()));
    assert_eq!(found, expected);
    assert_eq!(blank_comments_and_strings("a /* b\n */ '\"' r#\"c\"# 'd \"\\\"\" e").replace(' ', ""), "a\n'de");
}

/// One Rust file.
struct Source {
    /// Path from the repository's root.
    name: String,
    /// As it is.
    text: String,
    /// With comments and string literals blanked out; lines stay where they were.
    code: String,
}

impl Source {
    /// The room of the gateway the file belongs to: `sinks` for `sinks.rs` and for everything in `sinks/`.
    fn room(&self) -> String {
        self.module().split('/').next().unwrap_or_default().to_owned()
    }

    /// The room, and the module inside it: `sinks/kafka` for `sinks/kafka.rs` and for everything in `sinks/kafka/`.
    fn module(&self) -> String {
        let inside = self.name.strip_prefix("gateway/src/").unwrap_or(&self.name).trim_end_matches(".rs");
        inside.split('/').take(2).collect::<Vec<_>>().join("/")
    }

    /// Modules from the crate down to this line: 1 for a room's own file, one more where the line stands in an inline module.
    fn depth_of(&self, line: &str) -> usize {
        let inline = usize::from(line.starts_with(' '));
        self.name.matches('/').count() - 1 + inline
    }

    fn lines_of_code(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..).zip(self.code.lines())
    }

    /// The first line that uses the library by its name: `sled::Db`, `use sled;`.
    fn first_line_naming(&self, library: &str) -> Option<usize> {
        let path = format!("{library}::");
        let import = format!("use {library}");
        let names = |text: &str| {
            let at_start = |at: usize| !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
            text.match_indices(&path).any(|(at, _)| at_start(at))
                || text.trim() == format!("{import};")
                || text.contains(&format!("{import} as"))
        };
        self.lines_of_code().find(|(_, text)| names(text)).map(|(line, _)| line)
    }
}

fn floor_of(room: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&room))
}

/// How many modules `super::super::…` goes up.
fn climbs(line: &str) -> usize {
    let Some(at) = line.find("super::") else { return 0 };
    let chain = &line[at..];
    (chain.len() - chain.trim_start_matches("super::").len()) / "super::".len()
}

/// The types of the configuration file are plain data that everything configured may read, whatever its floor.
fn is_options_type(target: &str) -> bool {
    target.strip_prefix("config::").is_some_and(|name| name.ends_with("Options"))
}

/// The line and the path of everything named from `crate::`.
fn imports(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (line, text) in (1..).zip(code.lines()) {
        for (at, start) in text.match_indices("crate::") {
            let rest = &text[at + start.len()..];
            let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(rest.len());
            found.push((line, rest[..end].to_owned()));
        }
    }
    found
}

/// The text with comments and string literals replaced by spaces, newlines kept.
fn blank_comments_and_strings(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let length = skipped(rest, out.ends_with(|c: char| c.is_alphanumeric() || c == '_'));
        if length == 0 {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        } else {
            out.extend(rest[..length].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
            rest = &rest[length..];
        }
    }
    out
}

/// Bytes of the comment or literal that the text begins with, or 0.
fn skipped(text: &str, after_word: bool) -> usize {
    let until = |from: usize, end: &str| text[from..].find(end).map_or(text.len(), |at| from + at + end.len());
    if text.starts_with("//") {
        return text.find('\n').unwrap_or(text.len());
    }
    if text.starts_with("/*") {
        return until(2, "*/");
    }
    if !after_word && text.starts_with('r') {
        let hashes = text[1..].len() - text[1..].trim_start_matches('#').len();
        if text[1 + hashes..].starts_with('"') {
            return until(2 + hashes, &format!("\"{}", "#".repeat(hashes)));
        }
    }
    if text.starts_with("'\"'") {
        return 3;
    }
    if text.starts_with('"') {
        let mut escaped = false;
        let end = text.char_indices().skip(1).find(|&(_, c)| {
            let is_end = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            is_end
        });
        return end.map_or(text.len(), |(at, _)| at + 1);
    }
    0
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric())
}

fn gateway_sources() -> Vec<Source> {
    sources_in(&["gateway/src"])
}

fn all_sources() -> Vec<Source> {
    sources_in(&["gateway", "firmware-protocols", "tests"])
}

fn sources_in(directories: &[&str]) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut paths = Vec::new();
    for directory in directories {
        collect(&root.join(directory), &mut paths);
    }
    assert!(!paths.is_empty(), "no Rust files under {directories:?}");
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
            let text = fs::read_to_string(&path).unwrap();
            let code = blank_comments_and_strings(&text);
            Source { name, text, code }
        })
        .collect()
}

fn collect(directory: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            collect(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
}
