//! The whole way, measured: mosquitto, the released gateway, its disk and an HTTP endpoint, each figure beside its goal.
//!
//! Rates depend on the machine, so each is shown with what a subscriber that does nothing reaches on the same broker. The
//! endpoint reads and forgets, so that what is measured is the gateway. `FOREBAY_BIN` names another binary to measure; words
//! behind `--` choose scenarios: `binary`, `queued`, `steady`, `points`, `outage`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark prints, and stops at the first failure"
)]

mod endpoint;
mod load;
mod memory;
mod outage;
mod proc;
mod report;
mod throughput;

use std::path::{Path, PathBuf};
use std::process::Command;

use report::Report;

fn main() {
    let binary = released_binary();
    // The harness starts its peers from this thread: they end with it.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let mut report = Report::default();
        if is_chosen("binary") {
            report.binary(&binary);
        }
        if is_chosen("queued") {
            for window in throughput::WINDOWS {
                throughput::queued(&mut report, window).await;
            }
        }
        if is_chosen("steady") {
            throughput::steady(&mut report).await;
        }
        if is_chosen("points") {
            memory::many_points(&mut report).await;
        }
        if is_chosen("outage") {
            outage::buffered(&mut report).await;
        }
        report.print();
    });
}

/// Whether a scenario is to be measured: each is, unless some are named.
fn is_chosen(name: &str) -> bool {
    // Cargo itself passes `--bench`.
    let mut named = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).peekable();
    named.peek().is_none() || named.any(|word| word == name)
}

/// The binary to measure, built as it is released unless one is named.
fn released_binary() -> PathBuf {
    if let Some(named) = std::env::var_os("FOREBAY_BIN") {
        return PathBuf::from(named);
    }
    let executable = std::env::current_exe().expect("a benchmark knows its executable");
    let release = executable.ancestors().nth(2).expect("cargo keeps executables in target/release/deps");
    let target = release.parent().expect("the target directory");
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--locked", "--release", "--package", "forebay", "--manifest-path"])
        .arg(manifest)
        .arg("--target-dir")
        .arg(target)
        .status();
    assert!(built.is_ok_and(|status| status.success()), "the gateway cannot be built");
    release.join("forebay")
}
