//! Edits as the page makes them, and any edit on any text.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

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
