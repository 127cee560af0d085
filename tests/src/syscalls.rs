//! What a traced gateway asked the kernel for, in order: strace(1) around the real process, and the rules that it must keep.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// What is traced: the wire, the files, and what makes them durable.
const CALLS: &str =
    "sendto,sendmsg,writev,recvfrom,pwrite64,write,fdatasync,fsync,rename,renameat,renameat2,unlink,unlinkat";
/// Bytes of each buffer that strace shows: a whole window of small messages.
const SHOWN_BYTES: usize = 4_096;

/// One call, at the place of its completion; a send at the place of its beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// Bytes came from a peer: its port, and the bytes.
    Received(u16, Vec<u8>),
    /// Bytes went to a peer: its port, and the MQTT acknowledgements in them.
    Sent(u16, usize),
    /// A file was written.
    Written(PathBuf),
    /// A file was synchronised.
    Synchronised(PathBuf),
    /// A file or directory was renamed or removed.
    Gone(PathBuf),
}

impl Call {
    /// Whether a chunk's directory goes: its name is all digits.
    #[must_use]
    pub fn removes_a_chunk(&self) -> bool {
        let Self::Gone(path) = self else { return false };
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.len() >= 8 && name.chars().all(|digit| digit.is_ascii_digit())
    }
}

/// A trace.
#[derive(Debug)]
pub struct Trace {
    calls: Vec<Call>,
}

impl Trace {
    /// Writes a program that runs `binary` under strace, with the trace in `output`.
    ///
    /// # Panics
    ///
    /// If strace is not installed: `tests/setup` does it.
    #[must_use]
    pub fn script(directory: &Path, output: &Path, binary: &Path) -> PathBuf {
        let version = std::process::Command::new("strace").arg("-V").output();
        assert!(version.is_ok_and(|output| output.status.success()), "strace is not installed: run tests/setup");
        let script = directory.join("traced");
        let text = format!(
            "#!/bin/sh\nexec strace -f -yy -xx -s {SHOWN_BYTES} -e trace={CALLS} -o '{}' '{}' \"$@\"\n",
            output.display(),
            binary.display()
        );
        std::fs::write(&script, text).expect("a temporary directory can be written");
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("a file of our own");
        script
    }

    /// Reads what strace has written so far.
    #[must_use]
    pub fn read(output: &Path) -> Self {
        let text = std::fs::read_to_string(output).expect("strace writes text");
        let mut unfinished: BTreeMap<&str, &str> = BTreeMap::new();
        let mut calls = Vec::new();
        for line in text.lines() {
            let Some((thread, rest)) = line.split_once(' ') else { continue };
            let rest = rest.trim_start();
            if let Some(begun) = rest.strip_suffix(" <unfinished ...>") {
                // A send counts from its beginning: its bytes may be on the wire before it returns.
                match call(begun, "") {
                    Some(sent @ Call::Sent(..)) => calls.push(sent),
                    _ => drop(unfinished.insert(thread, begun)),
                }
            } else if let Some((_, end)) = rest.split_once(" resumed>") {
                let begun = unfinished.remove(thread).unwrap_or_default();
                calls.extend(call(begun, end));
            } else {
                calls.extend(call(rest, ""));
            }
        }
        Self { calls }
    }

    /// All calls, in order.
    #[must_use]
    pub fn calls(&self) -> &[Call] {
        &self.calls
    }

    /// Fails unless every message was acknowledged after the chunk that holds it was synchronised. Returns the acknowledgements.
    ///
    /// # Panics
    ///
    /// If one was acknowledged too early.
    #[must_use]
    pub fn check_acknowledgements(&self, broker_port: u16) -> usize {
        // Messages that came, that a chunk has been written since, that it was synchronised since.
        let (mut received, mut written, mut safe, mut acknowledged) = (0, 0, 0, 0);
        let mut stream = Vec::new();
        for call in &self.calls {
            match call {
                Call::Received(port, bytes) if *port == broker_port => {
                    // A message may come in two pieces: the end of the one before is looked through once more.
                    stream.extend_from_slice(bytes);
                    received += messages(&stream);
                    stream.drain(..stream.len().saturating_sub(TOPIC.len() - 1));
                }
                Call::Written(path) if is_in(path, "readings") => written = received,
                Call::Synchronised(path) if is_in(path, "readings") => safe = written,
                Call::Sent(port, acknowledgements) if *port == broker_port => {
                    acknowledged += acknowledgements;
                    assert!(
                        acknowledged <= safe,
                        "{acknowledged} messages are acknowledged, {safe} are on disk at most"
                    );
                }
                _ => {}
            }
        }
        acknowledged
    }

    /// Fails unless every chunk went when the ledger knew of it and was synchronised. Returns how many went.
    ///
    /// # Panics
    ///
    /// If one went too early.
    #[must_use]
    pub fn check_removals(&self) -> usize {
        let (mut is_dirty, mut knows, mut removed) = (false, false, 0);
        for call in &self.calls {
            match call {
                Call::Written(path) if is_in(path, "ledger") => is_dirty = true,
                Call::Synchronised(path) if is_in(path, "ledger") => (is_dirty, knows) = (false, true),
                gone if gone.removes_a_chunk() => {
                    removed += 1;
                    assert!(!is_dirty, "{gone:?} while the ledger is not synchronised");
                    assert!(knows, "{gone:?}, and the ledger was not synchronised since the last one went");
                    knows = false;
                }
                _ => {}
            }
        }
        removed
    }
}

/// Whether it is the log of a database below this directory.
fn is_in(path: &Path, directory: &str) -> bool {
    path.ends_with("db") && path.components().any(|part| part.as_os_str() == directory)
}

/// A call as strace prints it; `None` if it is of no interest or has failed.
fn call(begun: &str, end: &str) -> Option<Call> {
    let (name, arguments) = begun.split_once('(')?;
    let is_success = !end.contains("= -1 ") && !begun.contains(") = -1 ");
    let file = || Some(PathBuf::from(String::from_utf8(decoded(between(arguments, '<', '>')?)?).ok()?));
    match name {
        _ if !is_success => None,
        "recvfrom" => Some(Call::Received(peer(arguments)?, bytes(end).or_else(|| bytes(arguments))?)),
        "sendto" | "sendmsg" | "writev" | "write" if arguments.contains("<TCP:[") => {
            Some(Call::Sent(peer(arguments)?, acknowledgements(&bytes(arguments)?)))
        }
        "pwrite64" | "write" => Some(Call::Written(file()?)),
        "fdatasync" | "fsync" => Some(Call::Synchronised(file()?)),
        "rename" | "renameat" | "renameat2" | "unlink" | "unlinkat" => {
            let name = bytes(arguments)?;
            Some(Call::Gone(PathBuf::from(String::from_utf8(name).ok()?)))
        }
        _ => None,
    }
}

fn between(text: &str, open: char, close: char) -> Option<&str> {
    let (_, rest) = text.split_once(open)?;
    rest.split_once(close).map(|(inside, _)| inside)
}

/// The far port of `9<TCP:[127.0.0.1:41000->127.0.0.1:1883]>`.
fn peer(arguments: &str) -> Option<u16> {
    let (_, rest) = arguments.split_once("->")?;
    let (address, _) = rest.split_once(']')?;
    address.rsplit_once(':')?.1.parse().ok()
}

/// The first buffer, `"\x40\x02"`: with `-xx` strace prints every byte so.
fn bytes(text: &str) -> Option<Vec<u8>> {
    decoded(between(text, '"', '"')?)
}

fn decoded(text: &str) -> Option<Vec<u8>> {
    text.split("\\x").skip(1).map(|digits| u8::from_str_radix(digits.get(..2)?, 16).ok()).collect()
}

/// PUBLISH packets with quality of service 1 (MQTT 3.1.1, section 3.3) that begin in these bytes: told by their topic, which a
/// packet has once.
fn messages(bytes: &[u8]) -> usize {
    bytes.windows(TOPIC.len()).filter(|window| *window == TOPIC).count()
}

/// The topic of every message of a traced test.
const TOPIC: &[u8] = b"plant/mill/words";

/// PUBACK packets (MQTT 3.1.1, section 3.4): four bytes each, sent alone or several together.
fn acknowledgements(bytes: &[u8]) -> usize {
    bytes.chunks(4).filter(|packet| packet.starts_with(&[0x40, 0x02])).count()
}
