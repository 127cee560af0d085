//! Secrets that are typed into a form: each in a file of its own, which goes again if nothing comes of it.

use super::draft::Draft;
use super::edit::Running;
use crate::config::secrets::Secrets;
use crate::web::change;
use crate::web::failure::Failure;
use std::path::PathBuf;

/// The file of a secret that was typed: it goes with a try-out that is over, and with a save that failed.
#[derive(Debug)]
pub(in crate::web) struct Borrowed(pub(in crate::web) PathBuf);

impl Borrowed {
    /// What names it runs.
    pub(in crate::web) fn stays(mut self) {
        self.0 = PathBuf::new();
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        if self.0.as_os_str().is_empty() {
            return;
        }
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "the file of a secret that was typed cannot be removed");
        }
    }
}

/// The field that names a secret's file, and the secret that was typed for it.
pub(super) fn secret_of(draft: &Draft) -> Option<(&'static str, String)> {
    let fields = [("_password", "password_file"), ("_token", "auth.bearer_file")];
    let typed = fields.into_iter().map(|(own, file)| (file, draft.get(own).to_owned()));
    typed.into_iter().find(|(_, secret)| !secret.is_empty())
}

/// Keeps a secret in a file of its own and answers with the file.
pub(in crate::web) async fn keep_secret(running: &Running, name: &str, secret: &str) -> Result<PathBuf, Failure> {
    let plain: String =
        name.to_ascii_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(40).collect();
    let file = format!("{}-{:08x}", if plain.is_empty() { "secret" } else { &plain }, fastrand::u32(..));
    let secrets = Secrets::of(&running.config.gateway.data_dir);
    let secret = secret.to_owned();
    let kept = change::apart(move || secrets.write(&file, &secret)).await?;
    kept.map_err(|error| Failure::unfit(error.to_string(), Vec::new()))
}
