//! A small file system of its own, to be filled up without hurting anyone else.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// Bytes written at once while filling up; smaller ones follow to fill the rest.
const FILL_BYTES: [usize; 2] = [1 << 20, 4_096];

/// A mounted tmpfs. Dropping it unmounts it.
#[derive(Debug)]
pub struct SmallDisk {
    directory: TempDir,
}

impl SmallDisk {
    /// Mounts one of so many bytes.
    ///
    /// # Panics
    ///
    /// If it may not be mounted: only root may.
    #[must_use]
    pub fn mount(bytes: u64) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "forebay-e2e"])
            .arg(directory.path())
            .status();
        assert!(
            status.is_ok_and(|status| status.success()),
            "cannot mount a small file system: run this test as root, or in a container that may mount"
        );
        Self { directory }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Writes until nothing fits any more.
    pub fn fill(&self) {
        let mut filler =
            File::options().create(true).append(true).open(self.filler()).expect("an empty file always fits");
        for bytes in FILL_BYTES {
            while filler.write_all(&vec![0; bytes]).is_ok() {}
        }
    }

    /// Removes what filled it.
    pub fn free(&self) {
        std::fs::remove_file(self.filler()).expect("the filler can be removed");
    }

    fn filler(&self) -> PathBuf {
        self.path().join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process that is just being killed may still hold files.
        let status = Command::new("umount").arg("--lazy").arg(self.path()).status();
        if !status.is_ok_and(|status| status.success()) {
            eprintln!("{} is still mounted", self.path().display());
        }
    }
}
