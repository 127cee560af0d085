//! Forms as the page shows them, and what is typed into them.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::config::edit::{Edit, apply};

const EXAMPLE: &str = include_str!("../../../forebay.example.toml");

fn place(text: &str) -> Place {
    text.parse().unwrap()
}

fn typed(fields: &[(&str, &str)]) -> Vec<(String, String)> {
    fields.iter().map(|(name, typed)| ((*name).to_owned(), (*typed).to_owned())).collect()
}

fn edits(path: &str, fields: &[(&str, &str)]) -> Result<Vec<Edit>, Vec<crate::config::Problem>> {
    from_fields(EXAMPLE, &place(path), &typed(fields))
}

/// Fills in every form of the file with what stands in it, from the top down.
fn fill(path: &Place, forms: &mut usize) {
    let form = at(EXAMPLE, path, None).unwrap();
    *forms += 1;
    for field in &form.fields {
        let nested = matches!(field.kind, Kind::Table | Kind::Variants { .. })
            || matches!(&field.kind, Kind::List { of, .. } if matches!(**of, Kind::Table | Kind::Variants { .. }));
        if nested {
            if field.value.is_some() {
                fill(&field.path, forms);
            }
            continue;
        }
        let fields = vec![(String::new(), field.typed.clone())];
        let edits = from_fields(EXAMPLE, &field.path, &fields)
            .unwrap_or_else(|problems| panic!("{}: {problems:?}", field.path));
        assert_eq!(edits, [], "{}", field.path);
    }
}

#[test]
fn every_option_of_the_example_has_a_field_that_says_what_stands_there() {
    let mut forms = 0;
    fill(&Place::root(), &mut forms);
    assert!(forms > 40, "{forms}");
}

#[test]
fn a_form_has_the_fields_of_its_kind() {
    let form = at(EXAMPLE, &place("source[1]"), None).unwrap();
    let tag = form.tag.unwrap();
    assert_eq!((tag.name.as_str(), tag.word.as_deref(), tag.words.len()), ("type", Some("modbus"), 3));
    let url = form.fields.iter().find(|field| field.name == "url").unwrap();
    assert_eq!((url.required, &url.kind, url.typed.as_str()), (true, &Kind::Text, "tcp://192.0.2.10:502"));
    let timeout = form.fields.iter().find(|field| field.name == "timeout_ms").unwrap();
    assert_eq!((timeout.default.as_deref(), timeout.value.as_deref()), (Some("500"), Some("500")));
    // One that is yet to be.
    let form = at(EXAMPLE, &place("sink[9]"), Some("http")).unwrap();
    assert!(!form.exists && form.fields.iter().any(|field| field.name == "auth"));
    assert!(at(EXAMPLE, &place("sauce"), None).is_none());
    assert!(serde_json::to_string(&at("", &Place::root(), None).unwrap()).unwrap().contains("gateway"));
}

#[test]
fn what_is_typed_becomes_what_the_option_takes() {
    let changed = edits(
        "source[1]",
        &[
            ("url", "tcp://192.0.2.11:502"),
            ("timeout_ms", " 1 000 "),
            ("quiet_ms", ""),
            ("unit[0].registers[0].scale", "0,5"),
            ("unit[0].registers[0].offset", "-1,25"),
            ("unit[0].registers[0].not_available", ""),
            ("unit[0].registers[1].order", "abcd"),
        ],
    )
    .unwrap();
    let text = apply(EXAMPLE, &changed).unwrap();
    assert!(text.contains("url = \"tcp://192.0.2.11:502\"") && text.contains("timeout_ms = 1000"));
    assert!(text.contains("kind = \"i16\", scale = 0.5, unit = \"°C\", offset = -1.25 }"), "{text}");
    let text = apply(EXAMPLE, &edits("device[0]", &[("tags", "site = south\nline: 4")]).unwrap()).unwrap();
    assert!(text.contains("tags = { site = \"south\", line = \"4\" }") || text.contains("\"line\" = \"4\""), "{text}");
    let text = apply(EXAMPLE, &edits("sink[0]", &[("brokers", "a:1, b:2")]).unwrap()).unwrap();
    assert!(text.contains("brokers = [\"a:1\", \"b:2\"]"), "{text}");
    let text = apply(EXAMPLE, &edits("sink[1]", &[("auth.bearer_file", "")]).unwrap()).unwrap();
    assert!(!text.contains("auth ="), "{text}");
    let text =
        apply(EXAMPLE, &edits("check[0]", &[("range.operating[0]", "25"), ("range.operating[1]", "90,5")]).unwrap())
            .unwrap();
    assert!(text.contains("operating = [25.0, 90.5]"), "{text}");
}

#[test]
fn another_kind_takes_out_what_it_may_not_have() {
    let changed = edits("source[0].subscribe[0]", &[("payload.format", "number")]).unwrap();
    let text = apply(EXAMPLE, &changed).unwrap();
    assert!(text.contains("unit = \"\"\npayload = { format = \"number\" }"), "{text}");
    assert!(crate::config::parse("t", text).is_ok());
}

#[test]
fn what_is_wrong_is_told_at_its_field() {
    let problems = edits(
        "buffer",
        &[("commit_interval_ms", "soon"), ("disk_max", "2"), ("when_full", "drop_newest"), ("colour", "red")],
    )
    .unwrap_err();
    let paths: Vec<_> = problems.iter().map(|problem| problem.path.as_str()).collect();
    assert_eq!(paths, ["buffer.commit_interval_ms", "buffer.disk_max", "buffer.when_full", "buffer.colour"]);
    assert!(problems.iter().all(|problem| problem.line > 1));
    assert_eq!(edits("gateway", &[("id", "")]).unwrap_err()[0].path, "gateway.id");
}

#[test]
fn a_hidden_secret_stays_when_its_field_is_not_changed() {
    let text = "[[source]]\ntype = \"mqtt\"\nname = \"a\"\nurl = \"mqtt://ann:s3cret@broker\"\n";
    let form = at(text, &place("source[0]"), None).unwrap();
    let url = form.fields.iter().find(|field| field.name == "url").unwrap();
    assert_eq!(url.typed, "mqtt://***@broker");
    let fields = |url: &str| from_fields(text, &place("source[0]"), &typed(&[("url", url)]));
    assert_eq!(fields("mqtt://***@broker"), Ok(Vec::new()));
    assert!(fields("mqtt://***@other").unwrap_err()[0].message.contains("put it into a file"));
}
