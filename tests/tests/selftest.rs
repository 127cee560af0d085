//! `forebay selftest powercut`, as a user runs it on the board.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::process::{Command, Output};

fn selftest(dir: &Path, trials: u32) -> Output {
    let mut command = Command::new(e2e::gateway::plain_binary());
    command.args(["selftest", "powercut", "--trials", &trials.to_string(), "--seed", "42", "--dir"]).arg(dir);
    command.output().unwrap()
}

#[test]
fn a_user_sees_what_kills_and_torn_writes_cost_and_nothing_is_left_behind() {
    let dir = tempfile::tempdir().unwrap();
    let output = selftest(dir.path(), 16);
    let words = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{words}{}", String::from_utf8_lossy(&output.stderr));
    for word in ["16 trials", " 0 readings lost", " 0 readings repeated", " 0 readings reordered", "A commit takes"] {
        assert!(words.contains(word), "{word:?} is missing:\n{words}");
    }
    assert!(
        !words.contains(" 0 readings acknowledged") && !words.contains("in 0, 0 pages"),
        "nothing was tried:\n{words}"
    );
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "the scratch directory stays behind");
}

#[test]
fn a_scratch_directory_that_cannot_be_made_is_told_with_what_to_do() {
    let output = selftest(Path::new("/proc/forebay"), 1);
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(words.contains("scratch directory") && words.contains("--dir"), "{words}");
}
