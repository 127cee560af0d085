//! A fresh temporary folder for the gateway's data and configuration, removed at the end unless it is to be kept.

use super::DemoError;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

/// The folder.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    is_kept: bool,
}

impl Folder {
    /// Makes one that nobody else may look into.
    pub(super) fn make(is_kept: bool) -> Result<Self, DemoError> {
        let path = std::env::temp_dir().join(format!("forebay-demo-{:08x}", fastrand::u32(..)));
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|error| DemoError::Folder { path: path.clone(), error })?;
        Ok(Self { path, is_kept })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What becomes of it, for a person.
    pub(super) fn fate(&self) -> &'static str {
        if self.is_kept { "kept at the end" } else { "removed at the end; --keep keeps it" }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.is_kept
            && let Err(error) = std::fs::remove_dir_all(&self.path)
        {
            tracing::warn!(%error, path = %self.path.display(), "the demo's folder could not be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn it_goes_with_what_is_in_it_unless_it_is_kept() {
        for is_kept in [false, true] {
            let folder = Folder::make(is_kept).unwrap();
            let path = folder.path().to_owned();
            std::fs::write(path.join("file"), "text").unwrap();
            drop(folder);
            assert_eq!(path.exists(), is_kept);
            std::fs::remove_dir_all(path).ok();
        }
    }
}
