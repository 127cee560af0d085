//! A serial line: a pseudo-terminal that a test writes to, reads from, pulls out and plugs in again.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, ioctl_tiocnxcl, tcgetattr, tcsetattr};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::wait;

/// Between two looks at the line; well below the silence between two frames of a real bus.
const POLL_INTERVAL: Duration = Duration::from_millis(1);
/// Bytes taken from the line at once: the kernel holds 4 KiB.
const READ_MAX_BYTES: usize = 4096;

/// A line whose far end is at [`Line::path`]. Dropping it pulls it out.
#[derive(Debug)]
pub struct Line {
    state: Arc<Mutex<State>>,
    link: PathBuf,
    /// Takes what the far end writes, so that it never stands still because nobody reads.
    drain: JoinHandle<()>,
    _directory: TempDir,
}

#[derive(Debug)]
struct State {
    /// Absent while the line is pulled out.
    terminal: Option<Terminal>,
    received: Vec<u8>,
}

#[derive(Debug)]
struct Terminal {
    near: OwnedFd,
    /// Kept open, so that the line is there while the gateway is not: as on a real line, nothing hangs up.
    far: OwnedFd,
}

impl Line {
    /// Makes a line that is plugged in.
    #[must_use]
    pub fn plugged() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let link = directory.path().join("tty");
        let terminal = Terminal::open(&link);
        let state = Arc::new(Mutex::new(State { terminal: Some(terminal), received: Vec::new() }));
        let drain = tokio::spawn(drain(Arc::clone(&state)));
        Self { state, link, drain, _directory: directory }
    }

    /// The path of the far end; it stays the same over unplugging and plugging in.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.link
    }

    /// Sends bytes, waiting while the far end does not take them. Sends nothing while the line is pulled out.
    pub async fn write_all(&self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let written = self.state().terminal.as_ref().map(|terminal| terminal.write(bytes));
            match written {
                None => return,
                Some(0) => sleep(POLL_INTERVAL).await,
                Some(count) => bytes = bytes.get(count..).unwrap_or_default(),
            }
        }
    }

    /// Sends `count` random bytes.
    pub async fn write_noise(&self, count: usize) {
        let noise: Vec<u8> = (0..count).map(|_| fastrand::u8(..)).collect();
        self.write_all(&noise).await;
    }

    /// Takes what the far end has written since the last time, perhaps nothing.
    #[must_use]
    pub fn take_received(&self) -> Vec<u8> {
        std::mem::take(&mut self.state().received)
    }

    /// Waits for at least `count` bytes from the far end and takes them.
    pub async fn receive(&self, count: usize, limit: Duration) -> Vec<u8> {
        let what = format!("{count} bytes on the serial line");
        wait::until(what, limit, || self.state().received.len() >= count).await;
        self.take_received()
    }

    /// Pulls the line out: its path is gone and who has it open reads the end of the file.
    pub fn unplug(&self) {
        fs::remove_file(&self.link).ok();
        self.state().terminal = None;
    }

    /// Plugs the line in again: a new terminal at the same path, as after a USB adapter has come back.
    pub fn replug(&self) {
        self.unplug();
        self.state().terminal = Some(Terminal::open(&self.link));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.drain.abort();
    }
}

/// Carries bytes between two lines, as a cable does, until the task is aborted.
pub async fn connect(one: Arc<Line>, other: Arc<Line>) {
    loop {
        other.write_all(&one.take_received()).await;
        one.write_all(&other.take_received()).await;
        sleep(POLL_INTERVAL).await;
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn drain(state: Arc<Mutex<State>>) {
    loop {
        {
            let mut state = lock(&state);
            if let Some(bytes) = state.terminal.as_ref().map(Terminal::read) {
                state.received.extend_from_slice(&bytes);
            }
        }
        sleep(POLL_INTERVAL).await;
    }
}

impl Terminal {
    /// Opens a new pseudo-terminal and makes `link` point to its far end.
    fn open(link: &Path) -> Self {
        let near = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a pseudo-terminal");
        grantpt(&near).expect("a pseudo-terminal can be granted");
        unlockpt(&near).expect("a pseudo-terminal can be unlocked");
        let name = ptsname(&near, Vec::new()).expect("a pseudo-terminal has a name");
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let far = rustix::fs::open(name.as_c_str(), flags, Mode::empty()).expect("the far end can be opened");
        // Without this the terminal would echo and translate line ends until somebody configures it.
        let mut settings = tcgetattr(&far).expect("a terminal has settings");
        settings.make_raw();
        tcsetattr(&far, OptionalActions::Now, &settings).expect("a terminal can be made raw");
        let status = fcntl_getfl(&near).expect("a file has flags");
        fcntl_setfl(&near, status | OFlags::NONBLOCK).expect("a file can be made non-blocking");
        let name = name.to_str().expect("the name of a pseudo-terminal is text");
        symlink(name, link).expect("a link in the temporary directory");
        Self { near, far }
    }

    /// Writes what fits, perhaps nothing.
    fn write(&self, bytes: &[u8]) -> usize {
        // A gateway that was killed leaves its claim to the line, since `far` keeps the terminal open.
        ioctl_tiocnxcl(&self.far).expect("a terminal can be released");
        match rustix::io::write(&self.near, bytes) {
            Ok(count) => count,
            Err(Errno::AGAIN | Errno::INTR) => 0,
            Err(error) => panic!("cannot write to the serial line: {error}"),
        }
    }

    /// Reads what is there, perhaps nothing.
    fn read(&self) -> Vec<u8> {
        let mut bytes = vec![0; READ_MAX_BYTES];
        let count = rustix::io::read(&self.near, bytes.as_mut_slice()).unwrap_or(0);
        bytes.truncate(count);
        bytes
    }
}
