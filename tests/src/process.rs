//! Processes of peers: each in its own group, killed with its test, its output in a log file.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use tokio::time::{Instant, sleep};

use crate::wait;

/// Lines of a peer's log that a failing test shows.
const TAIL_LINES: usize = 40;

/// Between two looks whether a peer has ended.
const EXIT_POLL: Duration = Duration::from_millis(5);

/// The exit code that says that there is no such program.
const NOT_FOUND: i32 = 127;

/// A started peer. Dropping it kills its process group and, in a failing test, prints the tail of its log.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    child: Child,
}

impl Process {
    /// Starts `command` in a process group of its own, with its output appended to `log`.
    ///
    /// It is killed when the thread that started it ends, whatever ends the test: start it from the test, not from a pool.
    #[must_use]
    pub fn start(name: &str, command: &Command, log: &Path) -> Self {
        Self::spawn(name, bound(command).stdout(append(log)), log)
    }

    /// Like [`Process::start`], but with pipes for standard input and output; the log gets standard error.
    #[must_use]
    pub fn start_piped(name: &str, command: &Command, log: &Path) -> Self {
        Self::spawn(name, bound(command).stdin(Stdio::piped()).stdout(Stdio::piped()), log)
    }

    fn spawn(name: &str, command: &mut Command, log: &Path) -> Self {
        let child = command.stderr(append(log)).process_group(0).spawn();
        let child = child.unwrap_or_else(|error| panic!("{name} cannot be started by setpriv (util-linux): {error}"));
        Self { name: name.to_owned(), log: log.to_owned(), child }
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
            let hint = if status.code() == Some(NOT_FOUND) { "; run tests/setup" } else { "" };
            panic!("{} ended with {status}{hint}", self.name);
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

    /// Waits until it has ended by itself, but not longer than `patience`.
    pub async fn wait_exit_for(&mut self, patience: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.exit_status() {
                return Some(status);
            }
            if Instant::now() >= deadline {
                return None;
            }
            sleep(EXIT_POLL).await;
        }
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
            eprintln!("--- the end of {}'s log ---\n{}", self.name, self.log_tail());
        }
    }
}

/// The same command, killed with the thread that starts it: an interrupted test must not leave brokers behind.
fn bound(command: &Command) -> Command {
    let mut bound = Command::new("setpriv");
    bound.args(["--pdeathsig", "KILL", "--"]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => bound.env(name, value),
            None => bound.env_remove(name),
        };
    }
    bound
}

fn append(log: &Path) -> File {
    File::options().create(true).append(true).open(log).expect("a log file must be writable")
}

/// What `tests/setup` has installed as `entry`, looked for upwards from the test executable.
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
