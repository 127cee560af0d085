//! People and tokens on the command line, as whoever has lost a password meets them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// What the program says to a command: its output if it went well, its complaint otherwise.
fn forebay(data_dir: &Path, arguments: &[&str], stdin: &str) -> Result<String, String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    command.args(arguments).arg("--data-dir").arg(data_dir);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // One that reads nothing closes the pipe.
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).ok();
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

#[test]
fn whoever_is_root_on_the_machine_adds_people_and_changes_their_passwords() {
    let dir = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str], stdin: &str| forebay(dir.path(), arguments, stdin);
    assert!(run(&["set-up-token"], "").unwrap().starts_with("forebay-"));
    let complaint = run(&["people", "add", "Eva"], "three calm words\n").unwrap_err();
    assert!(complaint.contains("the first person must be an administrator"), "{complaint}");
    run(&["people", "add", "Eva", "--role", "administrator"], "three calm words\n").unwrap();
    assert!(run(&["set-up-token"], "").unwrap_err().contains("set up already"));
    let file = dir.path().join("password");
    std::fs::write(&file, "four other calm words\n").unwrap();
    run(&["people", "password", "eva", "--password-file", file.to_str().unwrap()], "").unwrap();
    assert!(run(&["people", "password", "Eva"], "short\n").unwrap_err().contains("at least 10 characters"));
    assert!(run(&["people", "remove", "Eva"], "").unwrap_err().contains("last administrator"));
    run(&["people", "add", "Max"], "three calm words").unwrap();
    run(&["people", "role", "Max", "operator"], "").unwrap();
    let listed = run(&["people", "list"], "").unwrap();
    assert!(listed.contains("Max  operator") && listed.contains("Eva  administrator"), "{listed}");
    assert!(listed.contains("by root on this machine"), "{listed}");
}

#[test]
fn a_token_is_printed_alone_and_can_be_revoked() {
    let dir = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| forebay(dir.path(), arguments, "");
    let token = run(&["token", "add", "scada", "--rights", "see,metrics", "--expires", "90 days"]).unwrap();
    assert_eq!((token.len(), &token[..4], token.lines().count()), (48, "fbt_", 1));
    let listed = run(&["token", "list"]).unwrap();
    assert!(listed.contains("scada  see, metrics; made") && !listed.contains(token.trim()), "{listed}");
    assert!(run(&["token", "add", "x", "--rights", "everything"]).unwrap_err().contains("is no right"));
    run(&["token", "revoke", "scada"]).unwrap();
    assert!(run(&["token", "revoke", "scada"]).unwrap_err().contains("no API token called \"scada\""));
}

#[test]
fn a_directory_that_is_not_there_is_not_made() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("elsewhere");
    assert!(forebay(&missing, &["people", "list"], "").unwrap_err().contains("there is no data directory"));
    assert!(!missing.exists());
}
