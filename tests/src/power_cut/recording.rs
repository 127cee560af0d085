//! Making a recording and reading it.

use super::marks::Mark;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One recorded call.
#[derive(Debug)]
pub enum Call {
    /// A file came to be.
    Create(PathBuf),
    /// A directory came to be.
    MakeDir(PathBuf),
    /// Bytes went into a file.
    Write(PathBuf, u64, Vec<u8>),
    /// A file got a length.
    Truncate(PathBuf, u64),
    /// A file or directory was synchronised.
    Sync(PathBuf),
    /// A name moved.
    Rename(PathBuf, PathBuf),
    /// A name went.
    Remove(PathBuf),
    /// The program said something.
    Mark(Mark),
}

/// Runs `driver` under the recorder, its store in `data_dir`.
#[must_use]
pub fn record(driver: &Path, work: &Path, data_dir: &Path, seed: u64, rounds: u32) -> Vec<Call> {
    let recorder = work.join("recorder.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/power_cut/recorder.c");
    let compiled = Command::new("cc")
        .args(["-O2", "-Wall", "-Wextra", "-shared", "-fPIC", "-o"])
        .args([&recorder, &source])
        .args(["-ldl", "-lpthread"])
        .status()
        .expect("cc is needed to build the recorder: install a C compiler");
    assert!(compiled.success(), "the recorder does not compile");
    let (log, marks) = (work.join("log"), work.join("marks"));
    let status = Command::new(driver)
        .arg(data_dir)
        .arg(&marks)
        .args([seed.to_string(), rounds.to_string()])
        .env("LD_PRELOAD", &recorder)
        .env("RECORDER_DIR", data_dir)
        .env("RECORDER_MARKS", &marks)
        .env("RECORDER_LOG", &log)
        .status()
        .expect("the driver starts");
    assert!(status.success(), "the recorded program failed: {status}");
    let bytes = std::fs::read(&log).expect("the recorder wrote its log");
    parse(&bytes)
}

fn parse(mut bytes: &[u8]) -> Vec<Call> {
    let mut calls = Vec::new();
    while !bytes.is_empty() {
        let header_bytes = bytes.iter().position(|byte| *byte == b'\n').expect("a header ends");
        let (header, rest) = bytes.split_at(header_bytes);
        let header = std::str::from_utf8(header).expect("a header is text");
        let words: Vec<&str> = header.split(' ').collect();
        let [op, path, path2, offset, length] = words[..] else { panic!("a header has five words: {header:?}") };
        let [path, path2, length] = [path, path2, length].map(|word| word.parse::<usize>().expect("a length"));
        let offset: u64 = offset.parse().expect("an offset");
        let (path, rest) = rest[1..].split_at(path);
        let (path2, rest) = rest.split_at(path2);
        let (data, rest) = rest.split_at(length);
        bytes = rest;
        let [path, path2] = [path, path2].map(|path| PathBuf::from(std::str::from_utf8(path).expect("a path is text")));
        calls.extend(match op {
            "create" => vec![Call::Create(path)],
            "mkdir" => vec![Call::MakeDir(path)],
            "write" => vec![Call::Write(path, offset, data.to_vec())],
            "truncate" => vec![Call::Truncate(path, offset)],
            "sync" => vec![Call::Sync(path)],
            "rename" => vec![Call::Rename(path, path2)],
            "remove" => vec![Call::Remove(path)],
            "mark" => {
                let text = std::str::from_utf8(data).expect("a mark is text");
                text.lines().map(|line| Call::Mark(Mark::parse(line).expect("a mark"))).collect()
            }
            other => panic!("unknown call {other:?}"),
        });
    }
    calls
}
