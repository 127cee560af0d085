//! Processes of peers: each in its own group, killed with its test, its output in a log file.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::wait;

/// Lines of a peer's log that a failing test shows.
const TAIL_LINES: usize = 40;

/// A started peer. Dropping it kills its process group and, in a failing test, prints the tail of its log.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    child: Child,
}

impl Process {
    /// Starts `command` in a process group of its own, with standard error (and output, unless the
    /// command already pipes it by `stdout`) appended to `log`.
    #[must_use]
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Self {
        let append = || {
            File::options()
                .create(true)
                .append(true)
                .open(log)
                .expect("a log file must be writable")
        };
        command.stdout(append()).stderr(append());
        Self::spawn(name, command, log)
    }

    /// Like [`Process::start`], but with pipes for standard input and output.
    #[must_use]
    pub fn start_piped(name: &str, command: &mut Command, log: &Path) -> Self {
        let append = File::options()
            .create(true)
            .append(true)
            .open(log)
            .expect("a log file must be writable");
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(append);
        Self::spawn(name, command, log)
    }

    fn spawn(name: &str, command: &mut Command, log: &Path) -> Self {
        let child = command.process_group(0).spawn().unwrap_or_else(|error| {
            panic!(
                "{name}: cannot start {}: {error}; run tests/setup",
                command.get_program().display()
            )
        });
        Self {
            name: name.to_owned(),
            log: log.to_owned(),
            child,
        }
    }

    /// The process, for its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The exit status, once it has ended.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// Fails the test if the process has ended, so that waiting for it to be ready does not last in vain.
    pub fn assert_running(&mut self) {
        if let Some(status) = self.exit_status() {
            panic!("{} ended with {status}", self.name);
        }
    }

    /// Waits until it has ended by itself.
    pub async fn wait_exit(&mut self, limit: Duration) -> ExitStatus {
        let what = format!("{} to end", self.name);
        wait::until_some(what, limit, || {
            let status = self.exit_status();
            async move { status }
        })
        .await
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    pub async fn terminate(&mut self, limit: Duration) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait_exit(limit).await
    }

    /// Kills the whole group (SIGKILL) and waits until it is gone.
    pub fn kill(&mut self) -> ExitStatus {
        // Once it has ended its number may be another's.
        if self.exit_status().is_none() {
            kill_process_group(self.pid(), Signal::KILL).expect("a running child can be signalled");
        }
        self.child.wait().expect("a child can be waited for")
    }

    /// Sends a signal to the process.
    pub fn signal(&mut self, signal: Signal) {
        if self.exit_status().is_none() {
            kill_process(self.pid(), signal).expect("a running child can be signalled");
        }
    }

    /// The last lines of its log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let mut tail = String::new();
        for line in lines.iter().skip(lines.len().saturating_sub(TAIL_LINES)) {
            writeln!(tail, "  {line}").expect("a string can be written to");
        }
        tail
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!(
                "--- the end of {}'s log ---\n{}",
                self.name,
                self.log_tail()
            );
        }
    }
}

/// The directory that `tests/setup` has filled, looked for upwards from the test executable.
///
/// Fails the test when `entry` is not there.
#[must_use]
pub fn installed_peer(entry: &str) -> PathBuf {
    let executable = std::env::current_exe().expect("a test knows its executable");
    executable
        .ancestors()
        .map(|ancestor| ancestor.join("peers").join(entry))
        .find(|candidate| candidate.exists())
        .unwrap_or_else(|| panic!("peers/{entry} is not in the target directory: run tests/setup"))
}
