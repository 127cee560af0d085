//! Secrets live in files or systemd credentials, are read when needed and never shown.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
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
}

impl SecretFile {
    /// Reads the secret, without its trailing newline.
    ///
    /// # Errors
    /// If the file is not to be found, not readable, empty or too large.
    pub fn read(&self) -> Result<Secret, SecretError> {
        let path = self.path()?;
        let unreadable = |error| SecretError::Unreadable { path: path.clone(), error };
        if std::fs::metadata(&path).map_err(unreadable)?.len() > SECRET_BYTES_MAX {
            return Err(SecretError::Size(path));
        }
        let text = std::fs::read_to_string(&path).map_err(unreadable)?;
        let text = text.trim_end_matches(['\n', '\r']);
        if text.is_empty() {
            return Err(SecretError::Size(path));
        }
        Ok(Secret(text.to_owned()))
    }

    fn path(&self) -> Result<PathBuf, SecretError> {
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
