//! The configuration against slips of the pen and rubbish.
#![allow(clippy::unwrap_used, reason = "tests")]

use forebay::config::{ConfigErrors, Problem, parse, redacted_toml};
use proptest::prelude::*;

const EXAMPLE: &str = include_str!("../forebay.example.toml");

fn errors(text: &str) -> Vec<Problem> {
    match parse("forebay.toml", text.to_owned()) {
        Ok(_) => Vec::new(),
        Err(ConfigErrors::Invalid(problems)) => problems.errors,
        Err(other) => unreachable!("a text is read already: {other}"),
    }
}

/// Byte positions of all keys of the example, in headers and before `=`; what the user names (tags) is left out.
fn keys() -> Vec<std::ops::Range<usize>> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut keys = Vec::new();
    let mut start = 0;
    for line in EXAMPLE.split_inclusive('\n') {
        if line.starts_with('[') {
            let mut at = start;
            for part in line.split(|c| !word(c)) {
                if !part.is_empty() {
                    keys.push(at..at + part.len());
                }
                at += part.len() + 1;
            }
        } else if !line.trim_start().starts_with('#') {
            let ends = line.match_indices(" = ").map(|(end, _)| end);
            let ends = ends.take(if line.starts_with("tags") { 1 } else { usize::MAX });
            for end in ends {
                let from = line[..end].rfind(|c| !word(c)).map_or(0, |at| at + 1);
                keys.push(start + from..start + end);
            }
        }
        start += line.len();
    }
    keys
}

#[test]
fn every_misspelt_key_is_named_where_it_stands_with_the_right_one() {
    let keys = keys();
    assert!(keys.len() > 120, "only {} keys found in the example", keys.len());
    for key in keys {
        let name = &EXAMPLE[key.clone()];
        let line = EXAMPLE[..key.start].lines().count().max(1) + usize::from(EXAMPLE[..key.start].ends_with('\n'));
        let last = if name.ends_with('x') { 'y' } else { 'x' };
        let slip = format!("{}{last}", &name[..name.len() - 1]);
        let text = format!("{}{slip}{}", &EXAMPLE[..key.start], &EXAMPLE[key.end..]);
        let errors = errors(&text);
        let expected = format!("unknown key {slip:?}; did you mean {name:?}?");
        assert!(
            errors.iter().any(|error| error.line == line && error.message.starts_with(&expected)),
            "line {line}: expected {expected} among {errors:#?}"
        );
    }
}

#[test]
fn a_secret_in_the_wrong_place_is_not_repeated() {
    let secret = "hunter2-s3cret";
    for (from, to) in [
        ("auth = { bearer_file = \"cloud-token\" }", format!("auth = \"{secret}\"")),
        ("auth = { bearer_file = \"cloud-token\" }", format!("auth = {{ bearer = \"{secret}\" }}")),
        ("auth = { bearer_file = \"cloud-token\" }", format!("auth = {{ bearer_file = [\"{secret}\"] }}")),
        ("password_file = \"/etc/forebay/broker-password\"", format!("password = \"{secret}\"")),
        ("mqtt://127.0.0.1:1883", format!("mqtt://forebay:{secret}@127.0.0.1:1883")),
        ("mqtt://127.0.0.1:1883", format!("mqtts:/forebay:{secret}@127.0.0.1")),
        ("tcp://192.0.2.10:502", format!("modbus://ann:{secret}/@192.0.2.10:502")),
        ("https://ingest", format!("https://ann:{secret}@ingest")),
        ("https://ingest", format!("ftp:/ann:{secret}@ingest")),
        ("https://ingest.example.com/v1/readings", format!("https://ingest.example.com:x/v1?token={secret}")),
        ("192.0.2.20:9092", format!("ann:{secret}@192.0.2.20")),
        ("username = \"forebay\"", format!("username = \"{secret}")),
    ] {
        assert!(EXAMPLE.contains(from), "{from}");
        let text = EXAMPLE.replace(from, &to);
        let error = parse("forebay.toml", text.clone()).unwrap_err();
        assert!(!format!("{error} {error:?}").contains(secret), "{error}");
    }
}

#[test]
fn the_example_reads_back_as_it_was_written() {
    let config = parse("forebay.toml", EXAMPLE.to_owned()).unwrap().config;
    let written = toml::to_string(&config).unwrap();
    assert_eq!(parse("forebay.toml", written).unwrap().config, config);
    assert_eq!(config.device_tags().0["boiler-3"]["zone"], "A");
    assert_eq!(config.sink_names().collect::<Vec<_>>(), ["plant-kafka", "cloud"]);
    assert_eq!(config.source_names().count(), 6);
}

#[test]
fn a_megabyte_of_rubbish_is_refused_in_few_words() {
    use std::fmt::Write;
    let mut text = String::new();
    for key in 0..60_000 {
        writeln!(text, "k{key} = {key}").unwrap();
    }
    let error = parse("forebay.toml", text).unwrap_err().to_string();
    assert_eq!(error.lines().count(), 101);
    assert!(error.ends_with("1000 errors or more, the first 100 shown"));
    assert!(parse("forebay.toml", "[".repeat(1 << 20)).is_err());
    assert!(parse("forebay.toml", format!("a = {}", "[".repeat(1 << 19))).is_err());
    assert!(parse("forebay.toml", format!("{} = 1", "a.".repeat(1 << 19))).is_err());
}

/// Pieces that come close to a configuration.
fn piece() -> impl Strategy<Value = String> {
    let words = [
        "[[source]]\n",
        "[[source.unit]]\n",
        "[gateway]\n",
        "[web]\n",
        "type = ",
        "\"modbus\"\n",
        "\"mqtt\"\n",
        "id = ",
        "payload = { format = ",
        "\"json\" }\n",
        "registers = [",
        "{ ",
        " }",
        "]",
        ",",
        "=",
        "\"",
        "'",
        "\n",
        ".",
        "inf",
        "-nan",
        "0x7fffffffffffffffffff",
        "1e999",
        "2026-11-20T10:00:00Z",
        "\"10 min\"",
        "\"99999999999 GiB\"",
        "°",
        "\u{feff}",
        "\r\n",
        "#",
        "\"\"\"",
        "\\u0000",
        "tags = ",
        "range = { operating = [",
        "tcp://a@b",
        "?",
        "\0",
    ];
    prop_oneof![4 => proptest::sample::select(words.to_vec()).prop_map(str::to_owned), 1 => ".{0,6}"]
}

/// The example with a stretch of it cut out, doubled or put elsewhere.
fn damaged_example() -> impl Strategy<Value = String> {
    let characters = EXAMPLE.chars().count();
    (0..characters, 0..200_usize, 0..characters).prop_map(move |(from, length, to)| {
        let mut text: Vec<char> = EXAMPLE.chars().collect();
        let cut: Vec<char> = text.drain(from..(from + length).min(characters)).collect();
        let to = to.min(text.len());
        text.splice(to..to, cut);
        text.into_iter().collect()
    })
}

fn stays_sound(text: &str) {
    let lines = text.split('\n').count();
    for error in errors(text) {
        assert!((1..=lines).contains(&error.line) && error.column > 0 && !error.message.is_empty(), "{error}");
        assert_eq!(error.to_string().lines().count(), 1, "{error}");
    }
    assert!(redacted_toml(text).lines().count() <= lines, "hiding adds no lines");
}

proptest! {
    #[test]
    fn rubbish_never_panics(pieces in proptest::collection::vec(piece(), 0..40)) {
        stays_sound(&pieces.concat());
    }

    #[test]
    fn a_damaged_example_never_panics(text in damaged_example()) {
        stays_sound(&text);
    }
}
