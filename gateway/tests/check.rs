//! `forebay check` and `forebay reference` as a person at a terminal sees them.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::process::{Command, Output};

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/forebay.example.toml");

fn forebay(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_forebay")).args(arguments).output().unwrap()
}

/// Exit status, standard output and standard error of `forebay check` on a text, run in the file's folder.
fn check(text: &[u8]) -> (Option<i32>, String, String) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("forebay.toml"), text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    let output = command.current_dir(folder.path()).args(["check", "--config", "forebay.toml"]).output().unwrap();
    (output.status.code(), text_of(&output.stdout), text_of(&output.stderr))
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn the_example_is_accepted() {
    for arguments in [&["check", "--config", EXAMPLE][..], &["check", EXAMPLE]] {
        let output = forebay(arguments);
        assert_eq!(text_of(&output.stderr), "");
        assert_eq!(output.status.code(), Some(0));
        assert!(text_of(&output.stdout).contains("no errors; 6 sources"), "{}", text_of(&output.stdout));
    }
}

#[test]
fn all_mistakes_are_named_at_once_with_place_and_remedy() {
    let text = r#"[gateway]
id = "plant 7"
[buffer]
disk_max = "2 Gib"
keep_delivered = 7
commit_interval_ms = 9
[[sources]]
type = "mqtt"
[[source]]
type = "modbuss"
[[source]]
type = "modbus"
name = "bus"
[[source.unit]]
id = 300
device = "boiler"
registers = [
  { point = "a", table = "holding", address = 0, kind = "f33", scale = "0.1" },
  { point = "b", table = "Input", adress = 1 },
  { point = "c", table = "coil", address = 2, colour = 3 },
]
[[check]]
points = "a/b"
range = { operating = [1, 2, 3], possible = [nan, 5] }
[anomaly]
points = "*/*"
"#;
    let (status, out, err) = check(text.as_bytes());
    assert_eq!((status, out.as_str()), (Some(78), ""));
    let expected = r#"forebay.toml:2:6: gateway.id: expected 1 to 64 letters, digits, '-', '_' or '.'
forebay.toml:4:12: buffer.disk_max: "2 Gib" is not a size such as "256 KiB" or "2 GiB": "Gib" is not a unit; use one of B, KiB, MiB, GiB, kB, MB, GB
forebay.toml:5:18: buffer.keep_delivered: expected a duration with its unit in quotes, such as "10 min", found a whole number
forebay.toml:6:22: buffer.commit_interval_ms: expected a whole number from 10 to 5000
forebay.toml:7:3: sources: unknown key "sources"; did you mean "source"? (one of gateway, anomaly, buffer, check, device, sink, source, web)
forebay.toml:9:1: source[0]: missing key "name" (name of the source, unique in the file)
forebay.toml:9:1: source[0]: missing key "url" (`tcp://host:port`, `rtu:///dev/…?baud=19200&parity=even&data_bits=8&stop_bits=1`, or `rtu-over-tcp://host:port`)
forebay.toml:9:1: source[0]: missing key "unit" (the units on the bus)
forebay.toml:10:8: source[0].type: unknown type "modbuss"; did you mean "modbus"? (one of mqtt, modbus, serial)
forebay.toml:11:1: source[1]: missing key "url" (`tcp://host:port`, `rtu:///dev/…?baud=19200&parity=even&data_bits=8&stop_bits=1`, or `rtu-over-tcp://host:port`)
forebay.toml:15:6: source[1].unit[0].id: expected a whole number from 0 to 255
forebay.toml:18:57: source[1].unit[0].registers[0].kind: unknown kind "f33"; did you mean "f32"? (one of bool, i16, u16, i32, u32, f32)
forebay.toml:18:72: source[1].unit[0].registers[0].scale: expected a number, found a string; leave out the quotes
forebay.toml:19:26: source[1].unit[0].registers[1].table: unknown table "Input"; did you mean "input"? (one of coil, discrete, holding, input)
forebay.toml:19:35: source[1].unit[0].registers[1].adress: unknown key "adress"; did you mean "address"? (one of point, table, address, kind, not_available, offset, order, scale, unit)
forebay.toml:20:47: source[1].unit[0].registers[2].colour: unknown key "colour" (one of point, table, address, kind, not_available, offset, order, scale, unit)
forebay.toml:24:23: check[0].range.operating: expected 2 items, found 3
forebay.toml:24:46: check[0].range.possible[0]: expected a finite number
forebay.toml:25:1: anomaly: there may be several; write [[anomaly]] for each
19 errors
"#;
    assert_eq!(err, expected);
}

#[test]
fn names_limits_and_patterns_are_checked() {
    let text = r#"[gateway]
id = "plant 7"
[web]
listen = "0.0.0.0:8080"
[buffer]
disk_max = "1 MiB"
[[device]]
id = "boiler"
[[device]]
id = "boiler"
[[source]]
type = "serial"
name = "line"
port = "/dev/ttyUSB0"
framing = { kind = "firmware" }
device = "probe"
[[source]]
type = "modbus"
name = "line"
url = "rtu:///dev/ttyUSB0?baud=9600"
[[source.unit]]
id = 1
device = "meter"
registers = [{ point = "power", table = "input", address = 0 }]
[[check]]
points = "boiler"
range = { operating = [5, 50], possible = [10, 0] }
[[check]]
points = "boiler/*"
[[anomaly]]
points = "a/b/c"
false_alarms_per_month = 0
[[sink]]
type = "http"
name = "cloud"
url = "https://ann:hunter2@example.com/"
"#;
    let (status, _, err) = check(text.as_bytes());
    assert_eq!(status, Some(78));
    let expected = r#"forebay.toml:2:6: gateway.id: expected 1 to 64 letters, digits, '-', '_' or '.'
forebay.toml:6:12: buffer.disk_max: the buffer needs at least 64 MiB
forebay.toml:10:6: device[1].id: device[0] already has this id; each needs its own
forebay.toml:19:8: source[1].name: source[0] already has this name; each needs its own
forebay.toml:20:7: source[1].url: source[0] already has this serial port; one line has one reader
forebay.toml:26:10: check[0].points: expected device/point, where * stands for any run of characters, such as "boiler-*/*"
forebay.toml:27:43: check[0].range.possible: the lowest value comes first
forebay.toml:28:1: check[1]: nothing is checked; add a range
forebay.toml:31:10: anomaly[0].points: expected device/point, where * stands for any run of characters, such as "boiler-*/*"
forebay.toml:32:26: anomaly[0].false_alarms_per_month: expected more than 0 and at most 43200
forebay.toml:36:7: sink[0].url: a user or password does not belong here, this file is no secret; use auth = { bearer_file = "…" }
11 errors
"#;
    assert_eq!(err, expected);
}

#[test]
fn a_wrong_structure_hides_no_wrong_meaning_and_makes_none_up() {
    let text = r#"[gateway]
id = "plant 7"
colour = 1
[web]
listen = "127.0.0.1:70000"
[[source]]
type = "opcua"
url = "opc.tcp://10.0.0.1"
[[source]]
type = "serial"
name = "bus"
port = "ttyUSB0"
framing = { kind = "delimiter" }
device = "probe"
playload = { format = "number", point = "x" }
[[source]]
name = "bus"
[[check]]
points = "boiler"
rnage = { operating = [5, 50] }
[[sink]]
type = "http"
name = "cloud"
url = "ftp://example.com/"
lingr_ms = 4
[[sink]]
type = "kafka"
name = "cloud"
brokers = ["nohost:port"]
topic_prefix = 5
"#;
    let (status, _, err) = check(text.as_bytes());
    assert_eq!(status, Some(78));
    let expected = r#"forebay.toml:2:6: gateway.id: expected 1 to 64 letters, digits, '-', '_' or '.'
forebay.toml:3:1: gateway.colour: unknown key "colour" (one of id, data_dir)
forebay.toml:5:10: web.listen: expected an address and port, such as "127.0.0.1:8080" or "[::1]:8080"
forebay.toml:6:1: source[0]: missing key "name" (name of the source, unique in the file)
forebay.toml:7:8: source[0].type: unknown type "opcua" (one of mqtt, modbus, serial)
forebay.toml:12:8: source[1].port: "ttyUSB0" is not the path of a port, as in "/dev/ttyUSB0"
forebay.toml:15:1: source[1].playload: unknown key "playload"; did you mean "payload"? (one of name, port, framing, device, baud, parity, payload)
forebay.toml:16:1: source[2]: missing key "type" (one of mqtt, modbus, serial)
forebay.toml:17:8: source[2].name: source[1] already has this name; each needs its own
forebay.toml:19:10: check[0].points: expected device/point, where * stands for any run of characters, such as "boiler-*/*"
forebay.toml:20:1: check[0].rnage: unknown key "rnage"; did you mean "range"? (one of points, action, range, severity)
forebay.toml:24:7: sink[0].url: "ftp://example.com/" must begin with http:// or https://
forebay.toml:25:1: sink[0].lingr_ms: unknown key "lingr_ms"; did you mean "linger_ms"? (one of name, url, auth, batch_max, compression, devices, format, linger_ms, link, order, points, start, streams, tags, timeout_ms)
forebay.toml:28:8: sink[1].name: sink[0] already has this name; each needs its own
forebay.toml:29:11: sink[1].brokers: "nohost:port" is not of the form "host:port"
forebay.toml:30:16: sink[1].topic_prefix: expected a string in quotes, found a whole number
16 errors
"#;
    assert_eq!(err, expected);
}

#[test]
fn a_secret_that_cannot_be_read_is_a_warning_with_file_and_key() {
    let (status, out, _) = check(
        br#"[gateway]
id = "a"
[[sink]]
type = "http"
name = "cloud"
url = "https://example.com/"
auth = { bearer_file = "/nonexistent/token" }
"#,
    );
    assert_eq!(status, Some(0));
    assert!(out.contains("forebay.toml:7:24: sink[0].auth.bearer_file: secret file \"/nonexistent/token\""), "{out}");
}

#[test]
fn a_table_that_is_not_closed_is_one_error() {
    let (_, _, err) = check(b"[gateway\nid = \"a\"\n");
    assert_eq!(err, "forebay.toml:1:9: unclosed table, expected `]`\n1 error\n");
}

#[test]
fn wrong_syntax_is_named_with_its_place_and_so_is_a_misspelt_table() {
    let text = r#"[gateway]
id = plant-7
id = "plant-7"
[[sourse]]
type = "mqtt"
[web]
listen = 127.0.0.1:80
[buffer
disk_max = "1 GiB"
[sink]
name
"#;
    let (status, _, err) = check(text.as_bytes());
    assert_eq!(status, Some(78));
    let expected = r#"forebay.toml:2:6: text must be in quotes
forebay.toml:3:1: this name is taken already; a table that may be repeated has double brackets, as [[source]]
forebay.toml:4:3: sourse: unknown key "sourse"; did you mean "source"? (one of gateway, anomaly, buffer, check, device, sink, source, web)
forebay.toml:7:15: this is neither a number nor text in quotes
forebay.toml:8:8: unclosed table, expected `]`
forebay.toml:11:5: expected key = value
6 errors
"#;
    assert_eq!(err, expected);
}

#[test]
fn a_page_that_anyone_can_overhear_and_an_empty_gateway_are_warned_about() {
    let (status, out, err) = check(b"[gateway]\nid = \"a\"\n[web]\nhttps = \"off\"\n");
    assert_eq!((status, err.as_str()), (Some(0), ""));
    assert!(out.contains("forebay.toml:4:9: web.https: passwords and readings cross the network"), "{out}");
    assert!(out.contains("there is no [[source]]") && out.contains("there is no [[sink]]"), "{out}");
}

#[test]
fn a_file_that_is_missing_too_large_or_no_text_is_refused() {
    let output = forebay(&["check", "--config", "/nonexistent/forebay.toml"]);
    assert_eq!(output.status.code(), Some(78));
    assert!(text_of(&output.stderr).contains("/nonexistent/forebay.toml"));
    for (bytes, reason) in [
        (vec![b'#'; (1 << 20) + 1], "larger than 1024 KiB"),
        (b"[gateway]\nid = \"\xff\"\n".to_vec(), "not UTF-8 text at byte 16"),
    ] {
        let (status, _, err) = check(&bytes);
        assert_eq!(status, Some(78));
        assert!(err.contains(reason), "{err}");
    }
    let endless = forebay(&["check", "--config", "/dev/zero"]);
    assert_eq!(endless.status.code(), Some(78));
}

#[test]
fn a_bad_configuration_does_not_run() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("forebay.toml");
    std::fs::write(&file, "[gateway]\n").unwrap();
    let output = forebay(&["run", "--config", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(78));
    assert!(text_of(&output.stderr).contains("gateway: missing key \"id\""));
}

#[test]
fn the_reference_is_printed() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    let printed = text_of(&forebay(&["reference"]).stdout);
    assert!(
        printed == std::fs::read_to_string(page).unwrap(),
        "docs/configuration.md is not what `forebay reference` prints"
    );
    assert!(text_of(&forebay(&["--version"]).stdout).starts_with("forebay 0."));
}

#[test]
fn what_is_wrong_with_the_pages_certificate_is_told_where_it_stands() {
    let with = |web: &str| check(format!("[gateway]\nid = \"a\"\n[web]\n{web}").as_bytes());
    let (status, _, err) = with("certificate_file = \"/nowhere/certificate.pem\"\n");
    assert_eq!(status, Some(78));
    assert!(err.contains("forebay.toml:4:20: web.certificate_file: it goes together with key_file"), "{err}");
    let (_, _, err) = with("https = \"off\"\nhsts = \"30 days\"\n");
    assert!(err.contains("forebay.toml:5:8: web.hsts: browsers would be told to use HTTPS"), "{err}");

    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (rcgen::KeyPair::generate().unwrap(), rcgen::KeyPair::generate().unwrap());
    let mut params = rcgen::CertificateParams::new(vec!["gateway.example.com".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2026, 1, 2);
    let (certificate, key) = (dir.path().join("certificate.pem"), dir.path().join("key.pem"));
    std::fs::write(&certificate, params.self_signed(&one).unwrap().pem()).unwrap();
    let files = format!("certificate_file = {certificate:?}\nkey_file = {key:?}\n");
    std::fs::write(&key, other.serialize_pem()).unwrap();
    let (status, out, _) = with(&files);
    assert_eq!(status, Some(0));
    assert!(out.contains("forebay.toml:5:12: web.key_file: the key in key_file does not belong"), "{out}");
    std::fs::write(&key, one.serialize_pem()).unwrap();
    let (_, out, _) = with(&files);
    assert!(out.contains("web.certificate_file: the certificate has expired on 2026-01-02; renew it"), "{out}");
    std::fs::write(&certificate, "no certificate").unwrap();
    let (_, out, _) = with(&files);
    assert!(out.contains("web.certificate_file: certificate_file holds no certificate in PEM form"), "{out}");
}
