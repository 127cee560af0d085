//! Edits as the page makes them, and any edit on any text.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use proptest::prelude::*;

const EXAMPLE: &str = include_str!("../../../forebay.example.toml");

fn place(text: &str) -> Place {
    text.parse().unwrap()
}

fn set(text: &str, path: &str, value: &str) -> String {
    apply(text, &[Edit::set(&place(path), value)]).unwrap()
}

fn remove(text: &str, path: &str) -> String {
    apply(text, &[Edit::remove(&place(path))]).unwrap()
}

#[test]
fn a_changed_value_changes_only_itself() {
    let changed = set(EXAMPLE, "source[1].unit[0].registers[1].kind", "\"i32\"");
    assert_eq!(changed, EXAMPLE.replace("address = 8, kind = \"f32\"", "address = 8, kind = \"i32\""));
    let changed = set(EXAMPLE, "buffer.disk_max", "\"4 GiB\"");
    assert_eq!(changed, EXAMPLE.replace("disk_max = \"2 GiB\"", "disk_max = \"4 GiB\""));
}

#[test]
fn an_option_that_was_not_written_gets_its_line_below_the_others() {
    let changed = set(EXAMPLE, "source[1].quiet_ms", "7");
    assert_eq!(changed, EXAMPLE.replace("timeout_ms = 500\n", "timeout_ms = 500\nquiet_ms = 7\n"));
    let changed = set(EXAMPLE, "source[1].unit[0].registers[3].offset", "1.5");
    assert_eq!(
        changed,
        EXAMPLE.replace("table = \"coil\", address = 0 }", "table = \"coil\", address = 0, offset = 1.5 }")
    );
}

#[test]
fn new_parts_look_as_in_the_example() {
    let text = "# Plant 7.\n[gateway]\nid = \"a\"\n";
    let unit = "{ id = 1, device = \"d\", registers = [{ point = \"p\", table = \"coil\", address = 0 }, { point = \"q\", table = \"coil\", address = 1 }] }";
    let changed = apply(
        text,
        &[
            Edit::append(&place("source"), format!("{{ type = \"modbus\", name = \"bus\", unit = [{unit}] }}")),
            Edit::set(&place("buffer.limits.raw.disk_max"), "\"64 MiB\""),
            Edit::set(&place("buffer.disk_max"), "\"1 GiB\""),
            Edit::append(&place("device"), "{ id = \"d\", tags = { site = \"north\" } }"),
        ],
    )
    .unwrap();
    let expected = "\
# Plant 7.
[gateway]
id = \"a\"

[[source]]
type = \"modbus\"
name = \"bus\"

[[source.unit]]
id = 1
device = \"d\"
registers = [
  { point = \"p\", table = \"coil\", address = 0 },
  { point = \"q\", table = \"coil\", address = 1 },
]

[buffer]
disk_max = \"1 GiB\"

[buffer.limits]

[buffer.limits.raw]
disk_max = \"64 MiB\"

[[device]]
id = \"d\"
tags = { site = \"north\" }
";
    assert_eq!(changed, expected);
}

#[test]
fn an_item_comes_and_goes_where_it_belongs() {
    let changed =
        apply(EXAMPLE, &[Edit::append(&place("source[1].unit"), "{ id = 2, device = \"b\", registers = [] }")])
            .unwrap();
    let added = "  { point = \"door_open\", table = \"discrete\", address = 3 },\n]\n\n[[source.unit]]\nid = 2\ndevice = \"b\"\nregisters = []\n\n# Modbus on a serial";
    assert!(changed.contains(added), "{changed}");
    assert_eq!(remove(&changed, "source[1].unit[1]"), EXAMPLE);
    let first = Edit::Insert { path: place("device"), index: 0, value: "{ id = \"x\" }".to_owned() };
    let changed = apply(EXAMPLE, &[first]).unwrap();
    assert!(
        changed.contains("when_full") && changed.contains("\n\n[[device]]\nid = \"x\"\n\n# Devices and their tags"),
        "{changed}"
    );
    let row = "{ point = \"n\", table = \"coil\", address = 9 }";
    let changed = apply(EXAMPLE, &[Edit::append(&place("source[1].unit[0].registers"), row)]).unwrap();
    assert_eq!(
        changed,
        EXAMPLE.replace("address = 3 },\n]", "address = 3 },\n  { point = \"n\", table = \"coil\", address = 9 },\n]")
    );
}

#[test]
fn a_part_that_is_removed_takes_the_words_right_above_it_along() {
    let changed = remove(EXAMPLE, "source[0]");
    assert!(!changed.contains("An MQTT broker") && !changed.contains("plant/+/+"), "{changed}");
    assert!(changed.contains("equipment = \"probe\" }\n\n# Modbus over the network.\n[[source]]"), "{changed}");
    assert!(crate::config::parse("t", changed).is_ok());
}

#[test]
fn a_key_that_is_removed_leaves_the_words_of_its_author() {
    let changed = remove(EXAMPLE, "buffer.disk_max");
    assert_eq!(changed, EXAMPLE.replace("disk_max = \"2 GiB\"\n", ""));
    assert_eq!(remove("a = 1 # one\nb = 2\n", "a"), "# one\nb = 2\n");
}

#[test]
fn what_is_moved_takes_its_words_along() {
    let shift = |text: &str, path: &str, from, to| apply(text, &[Edit::Move { path: place(path), from, to }]).unwrap();
    let moved = shift(EXAMPLE, "source", 0, 2);
    assert!(moved.contains("quiet_ms = 5") && moved.contains("]\n\n# An MQTT broker. A message is"), "{moved}");
    let mut before = comments(EXAMPLE);
    let mut after = comments(&moved);
    before.sort_unstable();
    after.sort_unstable();
    assert_eq!(before, after);
    assert_eq!(shift(&moved, "source", 2, 0), EXAMPLE);
    let rows = "l = [\n  # first\n  { a = 1 }, # one\n  { a = 2 }, # two\n  { a = 3 }, # three\n]\n";
    let turned = "l = [\n  { a = 2 }, # two\n  { a = 3 }, # three\n  # first\n  { a = 1 }, # one\n]\n";
    assert_eq!(shift(rows, "l", 0, 2), turned);
    assert_eq!(shift(turned, "l", 2, 0), rows);
    assert_eq!(shift("l = [1, 2, 3]\n", "l", 2, 0), "l = [3, 1, 2]\n");
}

#[test]
fn a_text_that_cannot_be_changed_says_why() {
    let error = |text: &str, edit: Edit| apply(text, &[edit]).unwrap_err().to_string();
    assert!(error("a = \n", Edit::remove(&place("a"))).contains("line 1"));
    assert!(error("a = 1\n", Edit::remove(&place("b"))).contains("b: nothing stands there"));
    assert!(error("a = 1\n", Edit::append(&place("a"), "1")).contains("no list"));
    assert!(error("a = 1\n", Edit::set(&place("a"), "x y")).contains("no TOML value"));
    assert!(error("a = 1\n", Edit::set(&place("a.b"), "1")).contains("no table"));
    assert!(error("", Edit::set(&place("a"), format!("\"{}\"", "x".repeat(1 << 20)))).contains("larger than"));
}

#[test]
fn every_way_of_writing_can_be_changed() {
    for (text, path, value, expected) in [
        ("a.b.c = 1\na.b.d = 2\nx = 3\n", "a.b.e", "4", "a.b.c = 1\na.b.d = 2\na.b.e = 4\nx = 3\n"),
        ("[a.b]\nc = 1\n", "a.d", "2", "[a]\nd = 2\n\n[a.b]\nc = 1\n"),
        ("l = []\n", "l[0]", "1", "l = [1]\n"),
        ("l = [ # none\n]\n", "l[0]", "1", "l = [1,\n # none\n]\n"),
        ("l = [1, 2,]\n", "l[2]", "3", "l = [1, 2, 3,]\n"),
        ("l = [\n  1, # one\n  2 # two\n]\n", "l[2]", "3", "l = [\n  1, # one\n  2, # two\n  3,\n]\n"),
        ("t = {}\n", "t.a", "1", "t = { a = 1 }\n"),
        ("t = { a.b = 1 }\n", "t.a.c", "2", "t = { a = { b = 1, c = 2 } }\n"),
        ("a = 1", "b", "2", "a = 1\nb = 2\n"),
        ("a = 1\r\n", "b", "2", "a = 1\r\nb = 2\r\n"),
        ("\u{feff}a = 1\n", "a", "2", "\u{feff}a = 2\n"),
        ("\"a b\" = 1 # x\n", "\"a b\"", "'''y'''", "\"a b\" = '''y''' # x\n"),
    ] {
        assert_eq!(set(text, path, value), expected, "{text:?}");
    }
}

#[test]
fn a_column_of_a_large_sheet_is_changed_cell_by_cell() {
    let row =
        |n: usize, scale: &str| format!("{{ point = \"p{n}\", table = \"holding\", address = {n}, scale = {scale} }}");
    let list = |scale: &str| format!("[{}]", (0..2_000).map(|n| row(n, scale)).collect::<Vec<_>>().join(", "));
    let text = set("# mine\n[a]\n", "a.rows", &list("1.0"));
    let changed = set(&text, "a.rows", &list("0.5"));
    assert_eq!(changed, text.replace("scale = 1.0", "scale = 0.5"));
}

/// Every place with a value in a text.
fn places(tree: &Tree, place: &Place, found: &mut Vec<(Place, String)>) {
    if !place.steps().is_empty() {
        found.push((place.clone(), Style::of_values().value(tree, "")));
    }
    match tree {
        Tree::Leaf(_) => {}
        Tree::List { items, .. } => {
            items.iter().enumerate().for_each(|(index, item)| places(item, &place.item(index), found));
        }
        Tree::Table { keys, .. } => keys.iter().for_each(|(key, value)| places(value, &place.key(key), found)),
    }
}

fn tree(text: &str) -> Tree {
    Tree::of_table(parse(text).unwrap().as_table(), false)
}

fn comments(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.split_once('#').map(|(_, comment)| comment.trim())).collect()
}

#[test]
fn setting_what_is_there_already_changes_nothing_and_keys_come_and_go_without_a_trace() {
    let mut found = Vec::new();
    places(&tree(EXAMPLE), &Place::root(), &mut found);
    assert!(found.len() > 150);
    let same: Vec<Edit> = found.iter().map(|(place, value)| Edit::set(place, value.clone())).collect();
    assert_eq!(apply(EXAMPLE, &same).unwrap(), EXAMPLE);
    for (place, _) in found.iter().filter(|(_, value)| value.starts_with('{')) {
        let fresh = place.key("fresh");
        let with = apply(EXAMPLE, &[Edit::set(&fresh, "1")]).unwrap();
        assert_eq!(comments(&with), comments(EXAMPLE), "{fresh}");
        assert_eq!(apply(&with, &[Edit::remove(&fresh)]).unwrap(), EXAMPLE, "{fresh}");
    }
}

/// Texts as people write them, and worse.
fn any_toml() -> impl Strategy<Value = String> {
    let key = prop::sample::select(vec!["a", "b", "c", "source", "unit", "a.b", "\"x y\""]);
    let value = prop::sample::select(vec![
        "1",
        "\"t\"",
        "[1, 2]",
        "[]",
        "{}",
        "{ a = 1, b = 2 }",
        "[\n  1, # one\n  { a = 1 },\n]",
        "{ a.b = 1 }",
        "'''\nm\n'''",
        "nan",
    ]);
    let line = prop_oneof![
        (key.clone(), value).prop_map(|(key, value)| format!("{key} = {value}\n")),
        key.clone().prop_map(|key| format!("[{key}]\n")),
        key.prop_map(|key| format!("[[{key}]]\n")),
        Just("# words\n".to_owned()),
        Just("\n".to_owned()),
    ];
    prop::collection::vec(line, 0..12).prop_map(|lines| lines.concat()).prop_filter("TOML", |text| parse(text).is_ok())
}

fn any_edit() -> impl Strategy<Value = Edit> {
    let step = prop_oneof![
        prop::sample::select(vec!["a", "b", "c", "source", "unit", "x y"]).prop_map(|key| Step::Key(key.to_owned())),
        (0..3_usize).prop_map(Step::Item)
    ];
    let place = prop::collection::vec(step, 0..4).prop_map(|steps| {
        steps.into_iter().fold(Place::root(), |place, step| match step {
            Step::Key(key) => place.key(&key),
            Step::Item(index) => place.item(index),
        })
    });
    let value = prop::sample::select(vec![
        "1",
        "\"t\"",
        "[]",
        "[{ a = 1 }, { b = [1] }]",
        "{}",
        "{ a = { b = 1 }, c = 2 }",
        "oops",
    ]);
    (place, value, 0..5, 0..3_usize, 0..3_usize).prop_map(|(path, value, what, from, to)| match what {
        0 => Edit::Set { path, value: value.to_owned() },
        1 => Edit::Remove { path },
        2 => Edit::Append { path, value: value.to_owned() },
        3 => Edit::Insert { path, index: from, value: value.to_owned() },
        _ => Edit::Move { path, from, to },
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn an_edit_does_what_it_says_or_nothing(text in any_toml(), edits in prop::collection::vec(any_edit(), 1..4)) {
        let mut wanted = tree(&text);
        let sound = edits.iter().try_for_each(|edit| model::apply(&mut wanted, edit)).is_ok();
        match apply(&text, &edits) {
            Ok(changed) => prop_assert!(sound && tree(&changed) == wanted),
            Err(error) => prop_assert!(!sound, "{}", error),
        }
    }

    #[test]
    fn what_is_set_to_what_it_is_stays_byte_for_byte(text in any_toml()) {
        let mut found = Vec::new();
        places(&tree(&text), &Place::root(), &mut found);
        for (place, value) in found {
            prop_assert_eq!(apply(&text, &[Edit::set(&place, value)]).unwrap(), text.clone());
        }
    }

    #[test]
    fn any_text_and_any_path_are_answered(text in any::<String>(), path in any::<String>(), value in any::<String>()) {
        if let Ok(path) = path.parse::<Place>() {
            drop(apply(&text, &[Edit::set(&path, value.clone())]));
            drop(apply(&text, &[Edit::append(&path, value), Edit::remove(&path)]));
        }
    }
}
