//! Who the tests are to the gateway: a person and an API token with every right, made once for all gateways of a process.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::OnceLock;
use std::thread;

use forebay::access::{Access, By, Rights};
use forebay::clock::Clock;
use tempfile::TempDir;

/// Who may sign in.
pub const PERSON: &str = "tester";
/// With what.
pub const PASSWORD: &str = "kettle boils at noon";

/// The people of every gateway under test.
#[derive(Debug)]
pub struct Door {
    /// An API token with every right.
    pub token: String,
    directory: TempDir,
}

impl Door {
    /// The one of this process.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn shared() -> &'static Self {
        static DOOR: OnceLock<Door> = OnceLock::new();
        // In a thread of its own: whoever asks may be within a runtime already.
        DOOR.get_or_init(|| thread::spawn(Self::make).join().expect("the people are made"))
    }

    /// Lets these people in at a gateway, unless it knows people of its own.
    ///
    /// # Panics
    /// If the data directory cannot be written.
    pub fn open_for(&self, data_dir: &Path) {
        let access = data_dir.join("access");
        if access.join("people.json").exists() {
            return;
        }
        fs::create_dir_all(&access).expect("the data directory can be made");
        for entry in fs::read_dir(self.directory.path().join("access")).expect("the people are on disk") {
            let entry = entry.expect("the people are on disk");
            if entry.path().is_file() {
                fs::copy(entry.path(), access.join(entry.file_name())).expect("the data directory can be written");
            }
        }
    }

    fn make() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let token = runtime.block_on(async {
            let access = Access::open(directory.path(), Clock::system()).expect("a fresh directory can be used");
            let token = access.set_up_token().expect("nobody is there yet");
            let who = access.set_up(&token, PERSON, PASSWORD, here).await.expect("the token is right");
            let made = access.make_token(&By::new(who, here), "tests", Rights::all(), None).await;
            made.expect("a token can be made").token
        });
        Self { token, directory }
    }
}
