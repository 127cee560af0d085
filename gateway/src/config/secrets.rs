//! Secrets that are typed on the page: each in a file of its own below `data_dir`, so that the configuration only names it.

use super::file::{self, Unwritable};
use crate::reading::UnixMicros;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Largest secret, in bytes: as much as is read of a secret file.
const SECRET_BYTES_MAX: usize = 64 * 1024;

/// Longest name, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// How the secrets of try-outs are called, before a hyphen and a number.
pub const TRY_OUT: &str = "try-out";

/// How long a secret may lie that nobody names: who puts it there by hand configures its use within days.
const UNNAMED_MAX: Duration = Duration::from_secs(7 * 24 * 3_600);

/// Most secrets: one for each source and sink, and room for old ones.
const SECRETS_MAX: usize = 256;

/// The folder of the secrets.
#[derive(Clone, Debug)]
pub struct Secrets {
    folder: PathBuf,
}

/// Why a secret was not kept.
#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    /// Its name is no name.
    #[error("the name of a secret is 1 to 64 small letters, digits and hyphens, such as broker-password")]
    Name,
    /// It is empty or too large.
    #[error("a secret has at least one character and at most 64 KiB")]
    Size,
    /// There are too many.
    #[error("there are {SECRETS_MAX} secrets already; remove one that is not used any more")]
    Full,
    /// The disk refuses.
    #[error(transparent)]
    Unwritable(#[from] Unwritable),
}

impl Secrets {
    /// The secrets of a gateway.
    #[must_use]
    pub fn of(data_dir: &Path) -> Self {
        let folder = data_dir.join("secrets");
        Self { folder: std::path::absolute(&folder).unwrap_or(folder) }
    }

    /// Keeps a secret under a name, in place of an older one; the path is for `password_file` and the like.
    ///
    /// # Errors
    /// If the name or the secret cannot be, or the file cannot be written.
    pub fn write(&self, name: &str, secret: &str) -> Result<PathBuf, SecretsError> {
        let path = self.path(name)?;
        if secret.trim_end_matches(['\n', '\r']).is_empty() || secret.len() > SECRET_BYTES_MAX {
            return Err(SecretsError::Size);
        }
        let names = self.list();
        if names.len() >= SECRETS_MAX && !names.iter().any(|known| known == name) {
            return Err(SecretsError::Full);
        }
        file::write_secret(&path, secret.as_bytes())?;
        Ok(path)
    }

    /// The names of all secrets, sorted; what else lies in the folder is not among them.
    #[must_use]
    pub fn list(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<String> = names.filter(|name| is_name(name)).take(2 * SECRETS_MAX).collect();
        names.sort();
        names
    }

    /// Removes a secret.
    ///
    /// # Errors
    /// If the name cannot be, or the file cannot be removed.
    pub fn remove(&self, name: &str) -> Result<(), SecretsError> {
        Ok(file::remove(&self.path(name)?)?)
    }

    /// When a secret was typed, in microseconds since 1970; `None` if there is none, or its file does not tell.
    #[must_use]
    pub fn typed_us(&self, name: &str) -> Option<UnixMicros> {
        let typed = fs::metadata(self.path(name).ok()?).ok()?.modified().ok()?;
        i64::try_from(typed.duration_since(UNIX_EPOCH).ok()?.as_micros()).ok()
    }

    /// Removes at a start what nobody names any more: what try-outs have left at once, and others once they have lain for a week, since
    /// a person may have put them there for what comes next. Answers with their names.
    #[must_use]
    pub fn tidy(&self, texts: &[String], now: SystemTime) -> Vec<String> {
        let mut removed = Vec::new();
        for name in self.list() {
            let Ok(path) = self.path(&name) else { continue };
            let words = path.to_string_lossy();
            if texts.iter().any(|text| text.contains(&*words)) {
                continue;
            }
            let written = fs::symlink_metadata(&path).and_then(|meta| meta.modified()).ok();
            let lain = written.and_then(|written| now.duration_since(written).ok());
            let is_left = name.starts_with(TRY_OUT) || lain.is_some_and(|lain| lain >= UNNAMED_MAX);
            if is_left && self.remove(&name).is_ok() {
                removed.push(name);
            }
        }
        removed
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where a secret is, or would be.
    ///
    /// # Errors
    /// If the name cannot be.
    pub fn path(&self, name: &str) -> Result<PathBuf, SecretsError> {
        if is_name(name) { Ok(self.folder.join(name)) } else { Err(SecretsError::Name) }
    }
}

fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::secret::SecretFile;

    #[test]
    fn a_typed_secret_is_read_back_from_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let secrets = Secrets::of(folder.path());
        assert_eq!(secrets.list(), Vec::<String>::new());
        let path = secrets.write("broker-password", "s3cret\n").unwrap();
        assert!(path.is_absolute());
        let file = SecretFile(path.to_str().unwrap().to_owned());
        assert_eq!(file.read().unwrap().expose(), "s3cret");
        secrets.write("broker-password", "other").unwrap();
        assert_eq!(file.read().unwrap().expose(), "other");
        assert_eq!(secrets.list(), ["broker-password"]);
        assert!(secrets.typed_us("broker-password").is_some() && secrets.typed_us("other").is_none());
        secrets.remove("broker-password").unwrap();
        assert_eq!(secrets.list(), Vec::<String>::new());
    }

    #[test]
    fn what_nobody_names_is_tidied_away_and_what_may_come_back_stays() {
        let folder = tempfile::tempdir().unwrap();
        let secrets = Secrets::of(folder.path());
        for name in ["try-out-00c0ffee", "runs", "was", "lies", "new"] {
            secrets.write(name, "s3cret").unwrap();
        }
        let path = |name: &str| secrets.path(name).unwrap().display().to_string();
        let texts = [format!("password_file = \"{}\"", path("runs")), format!("bearer_file = \"{}\"", path("was"))];
        fs::write(secrets.folder().join("Not a secret"), "").unwrap();
        let now = fs::metadata(path("new")).unwrap().modified().unwrap();
        assert_eq!(secrets.tidy(&texts, now), ["try-out-00c0ffee"]);
        assert_eq!(secrets.tidy(&texts, now + UNNAMED_MAX), ["lies", "new"]);
        assert_eq!(secrets.list(), ["runs", "was"]);
        assert!(secrets.folder().join("Not a secret").exists());
        assert!(secrets.tidy(&[], SystemTime::UNIX_EPOCH).is_empty(), "a clock that was never set says nothing");
    }

    #[test]
    fn a_name_cannot_lead_out_of_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let secrets = Secrets::of(folder.path());
        for name in ["", "..", "../x", "a/b", "A", "a.b", "a\0", "ü", &"x".repeat(65)] {
            assert!(secrets.write(name, "s").is_err() && secrets.remove(name).is_err(), "{name}");
        }
        assert!(secrets.write("a", "").is_err() && secrets.write("a", &"x".repeat(70_000)).is_err());
    }
}
