//! Ports that stay with a peer while it is down, so that it comes back where it was.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};

use rustix::process::getuid;

/// Below the range from which Linux takes ports of outgoing connections and of port 0 (32768 to 60999),
/// so that nothing else is given a port of a peer that is down for a moment.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// Tries before giving up: with hundreds of peers at once, a dozen collisions in a row do not happen.
const TRIES_MAX: usize = 200;

/// A loopback port that no other test, in this process or another, is given while this lives.
#[derive(Debug)]
pub struct Port {
    number: u16,
    /// Holds the lock; the kernel frees it however the test ends.
    _lock: File,
}

impl Port {
    /// Reserves a free port.
    #[must_use]
    pub fn reserve() -> Self {
        let directory = std::env::temp_dir().join(format!("forebay-e2e-ports-{}", getuid().as_raw()));
        fs::create_dir_all(&directory).expect("the temporary directory must be writable");
        for _ in 0..TRIES_MAX {
            let number = fastrand::u16(RANGE);
            let lock = File::create(directory.join(number.to_string())).expect("a port's lock file must be writable");
            if lock.try_lock().is_ok() && TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
                return Self { number, _lock: lock };
            }
        }
        panic!("no free port in {RANGE:?} after {TRIES_MAX} tries");
    }

    /// The number.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.number
    }
}
