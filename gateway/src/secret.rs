//! Secrets live in files or systemd credentials, are read when needed and never shown.

use rustix::fs::OFlags;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Longest secret file that is read, in bytes: a token or password, not a data file.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// Where a secret is: an absolute path, or the name of a systemd credential
/// (`LoadCredential=`, systemd.exec(5)); never the secret itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct SecretFile(pub String);

/// A secret's text; it prints as `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// Why a secret could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// A relative name without a credentials directory.
    #[error(
        "secret {0:?} is a relative name, which means a systemd credential, but $CREDENTIALS_DIRECTORY is not set; give an absolute path, or run under systemd with LoadCredential="
    )]
    NoCredentials(String),
    /// The file cannot be read.
    #[error(
        "secret file {path:?} cannot be read: {error}; check that it exists and that the user `forebay` may read it"
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The file is too large or empty.
    #[error("secret file {0:?} is empty or larger than 64 KiB")]
    Size(PathBuf),
    /// The file is a pipe, a device, a folder.
    #[error("secret file {0:?} is no ordinary file; give the path of a file that holds the secret")]
    NoFile(PathBuf),
    /// The file has more than one line, or is no text.
    #[error("secret file {0:?} holds more than one line of text; a password or token is one line")]
    Lines(PathBuf),
}

impl SecretFile {
    /// Reads the secret, without its trailing newline.
    ///
    /// # Errors
    /// If the file is not to be found, not readable, empty or too large.
    pub fn read(&self) -> Result<Secret, SecretError> {
        let path = self.path()?;
        let unreadable = |error| SecretError::Unreadable { path: path.clone(), error };
        // A pipe that nobody writes must not be waited for.
        let flags = OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        let flags = i32::try_from(flags.bits()).unwrap_or_default();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(&path).map_err(unreadable)?;
        if !file.metadata().map_err(unreadable)?.is_file() {
            return Err(SecretError::NoFile(path));
        }
        let mut text = String::new();
        file.take(SECRET_BYTES_MAX + 1).read_to_string(&mut text).map_err(unreadable)?;
        let secret = text.trim_end_matches(['\n', '\r']);
        if secret.is_empty() || text.len() as u64 > SECRET_BYTES_MAX {
            return Err(SecretError::Size(path));
        }
        Ok(Secret(secret.to_owned()))
    }

    /// Reads a password or token: a secret of one line. What has more was not meant to be one, and must not be sent anywhere.
    ///
    /// # Errors
    /// As [`read`](Self::read), and if it has more than one line.
    pub fn read_line(&self) -> Result<Secret, SecretError> {
        let secret = self.read()?;
        if secret.0.chars().any(|letter| letter.is_control() && letter != '\t') {
            return Err(SecretError::Lines(self.path()?));
        }
        Ok(secret)
    }

    /// The file that is meant.
    ///
    /// # Errors
    /// If it is a credential, and there is no folder of credentials.
    pub fn path(&self) -> Result<PathBuf, SecretError> {
        if Path::new(&self.0).is_absolute() {
            return Ok(PathBuf::from(&self.0));
        }
        let directory = std::env::var_os("CREDENTIALS_DIRECTORY");
        directory.map(|dir| Path::new(&dir).join(&self.0)).ok_or_else(|| SecretError::NoCredentials(self.0.clone()))
    }
}

impl Secret {
    /// The secret's text, for the one call that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn file(path: &Path) -> SecretFile {
        SecretFile(path.display().to_string())
    }

    #[test]
    fn a_pipe_or_a_device_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        for path in [pipe.as_path(), Path::new("/dev/zero"), folder.path()] {
            assert!(matches!(file(path).read(), Err(SecretError::NoFile(_))), "{path:?}");
        }
        // A file of the system that says it has no length.
        assert!(file(Path::new("/proc/self/environ")).read_line().is_err());
    }

    #[test]
    fn a_password_is_one_line_and_a_key_file_may_have_more() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, "one\r\n").unwrap();
        assert_eq!(file(&path).read_line().unwrap().expose(), "one");
        std::fs::write(&path, "one\ntwo\n").unwrap();
        assert_eq!(file(&path).read().unwrap().expose(), "one\ntwo");
        assert!(matches!(file(&path).read_line(), Err(SecretError::Lines(_))));
        std::fs::write(&path, "x".repeat(64 * 1024 + 1)).unwrap();
        assert!(matches!(file(&path).read(), Err(SecretError::Size(_))));
    }
}
