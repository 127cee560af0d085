//! A small file system of its own, to be filled up and broken without hurting anyone else.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// Bytes written at once while filling up; smaller ones follow to fill the rest.
const FILL_BYTES: [usize; 3] = [1 << 20, 4_096, 1];

/// A mounted file system. Dropping it unmounts it.
#[derive(Debug)]
pub struct SmallDisk {
    directory: TempDir,
    /// The image that an ext4 lies in; a tmpfs has none.
    image: Option<PathBuf>,
}

impl SmallDisk {
    /// Mounts a tmpfs of so many bytes.
    ///
    /// # Panics
    ///
    /// If it may not be mounted: only root may.
    #[must_use]
    pub fn mount(bytes: u64) -> Self {
        let disk = Self { directory: tempfile::tempdir().expect("a temporary directory"), image: None };
        std::fs::create_dir(disk.path()).expect("the mount point is made");
        run("mount", &["-t", "tmpfs", "-o", &format!("size={bytes}"), "forebay-e2e"], &disk.path());
        disk
    }

    /// Mounts an ext4 of so many bytes with a journal, on a loop device: like a card, it turns read-only when it fails.
    ///
    /// # Panics
    ///
    /// If it may not be made or mounted: only root may.
    #[must_use]
    pub fn mount_ext4(bytes: u64) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let image = directory.path().join("image");
        File::create(&image).and_then(|file| file.set_len(bytes)).expect("the image is made");
        // Nothing is kept back for root, so that a full disk is full for everyone.
        run("mkfs.ext4", &["-q", "-F", "-m", "0", "-O", "has_journal"], &image);
        let disk = Self { directory, image: Some(image) };
        std::fs::create_dir(disk.path()).expect("the mount point is made");
        disk.mount_again();
        disk
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("disk")
    }

    /// Writes until nothing fits any more.
    pub fn fill(&self) {
        let mut filler =
            File::options().create(true).append(true).open(self.filler()).expect("an empty file always fits");
        for bytes in FILL_BYTES {
            while filler.write_all(&vec![0; bytes]).is_ok() {}
        }
    }

    /// Takes so many bytes, as another program's log might; less if there are less.
    pub fn take(&self, bytes: u64) {
        let mut filler = File::options().create(true).append(true).open(self.filler()).expect("a file is opened");
        for _ in 0..bytes / 4_096 {
            if filler.write_all(&[0; 4_096]).is_err() {
                return;
            }
        }
    }

    /// Removes what filled it.
    pub fn free(&self) {
        std::fs::remove_file(self.filler()).expect("the filler can be removed");
    }

    /// Turns it read-only as a failing card does: the kernel gives the journal up and takes no more writes (ext4(5), `abort`).
    pub fn fail(&self) {
        run("mount", &["-o", "remount,abort"], &self.path());
    }

    /// Unmounts it; fails while anyone has a file open on it.
    ///
    /// # Errors
    ///
    /// What the command said.
    pub fn unmount(&self) -> Result<(), String> {
        attempt("umount", &[], &self.path())
    }

    /// Repairs it, unmounted.
    pub fn repair(&self) {
        let image = self.image.as_ref().expect("a tmpfs cannot be repaired");
        // Status 1 says that something was corrected (e2fsck(8)).
        let status = Command::new("e2fsck").args(["-f", "-y"]).arg(image).output().expect("e2fsck runs").status;
        assert!(status.code().is_some_and(|code| code <= 1), "e2fsck could not repair the image: {status}");
    }

    /// Mounts the image.
    pub fn mount_again(&self) {
        let image = self.image.as_ref().expect("a tmpfs has no image").to_string_lossy().into_owned();
        run("mount", &["-o", "loop,errors=remount-ro", &image], &self.path());
    }

    fn filler(&self) -> PathBuf {
        self.path().join("filler")
    }
}

/// Runs a command on a path; only root may do most of them.
fn run(command: &str, arguments: &[&str], path: &Path) {
    if let Err(error) = attempt(command, arguments, path) {
        panic!("{command} failed: run this test as root, in a container that may mount: {error}");
    }
}

fn attempt(command: &str, arguments: &[&str], path: &Path) -> Result<(), String> {
    let paths = std::env::var("PATH").unwrap_or_default();
    let output = Command::new(command)
        .args(arguments)
        .arg(path)
        // These commands are not on everybody's path.
        .env("PATH", format!("{paths}:/usr/sbin:/sbin"))
        .output()
        .map_err(|error| error.to_string())?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process that is just being killed may still hold files. It may be unmounted already.
        attempt("umount", &["--lazy"], &self.path()).ok();
    }
}
