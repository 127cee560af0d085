//! The first boot: a configuration for a gateway that has none yet, so that its page can be opened and make one.

use crate::config;
use sha2::{Digest, Sha256};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Tells machines apart: 32 hexadecimal digits made at the installation (machine-id(5)). Not to be shown as it is, says its manual.
const MACHINE_ID: &str = "/etc/machine-id";
/// The same in `data_dir`, where the machine has none.
const OWN_ID: &str = "machine-id";
/// Where the page of a gateway without a configuration listens: whoever sets it up sits at another machine.
const LISTEN: &str = "0.0.0.0:8080";
/// Bytes of it.
const OWN_ID_BYTES: usize = 16;
/// Hexadecimal digits of the gateway's first name: enough to tell the few boards of a plant apart at a glance.
const NAME_DIGITS: usize = 4;

/// What the command line says of a first start.
#[derive(Clone, Debug, Default)]
pub struct FirstStart {
    /// The data directory, if not the usual one.
    pub data_dir: Option<PathBuf>,
    /// Where the page listens, if not on every address.
    pub listen: Option<String>,
}

/// The text of a configuration without sources and sinks, whose page everyone in the network can open.
///
/// # Errors
/// If this machine has no identity and none can be kept in `data_dir`.
pub fn built_in(first: &FirstStart) -> io::Result<String> {
    let data_dir = first.data_dir.clone().unwrap_or_else(config::default_data_dir);
    let name = name(&machine_id(Path::new(MACHINE_ID), &data_dir)?);
    let text = |text: &str| toml_edit::Value::from(text).to_string();
    let place = first.data_dir.as_ref().map(|data_dir| format!("data_dir = {}\n", text(&data_dir.to_string_lossy())));
    let (place, listen) = (place.unwrap_or_default(), text(first.listen.as_deref().unwrap_or(LISTEN)));
    Ok(format!(
        "# Forebay: the configuration of this gateway. The page writes it, and keeps your comments; so may you.\n\
         # `forebay reference` explains every option, `forebay check` finds mistakes.\n\
         [gateway]\nid = \"forebay-{name}\"\n{place}\n[web]\nlisten = {listen}\n"
    ))
}

/// What is the same at every start of this machine and on no other.
fn machine_id(machine: &Path, data_dir: &Path) -> io::Result<String> {
    let of_machine = fs::read_to_string(machine).unwrap_or_default();
    // While an image is being made the file says that it has none yet.
    if of_machine.trim().len() == 2 * OWN_ID_BYTES {
        return Ok(of_machine.trim().to_owned());
    }
    let path = data_dir.join(OWN_ID);
    match fs::read_to_string(&path) {
        Ok(own) if own.trim().len() == 2 * OWN_ID_BYTES => return Ok(own.trim().to_owned()),
        _ => {}
    }
    let mut bytes = [0; OWN_ID_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    let own = hex::encode(bytes);
    fs::create_dir_all(data_dir)?;
    config::file::write(&path, &format!("{own}\n")).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(own)
}

fn name(machine_id: &str) -> String {
    let mut digits = hex::encode(Sha256::digest(machine_id));
    digits.truncate(NAME_DIGITS);
    digits
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_built_in_configuration_is_sound_and_named_after_the_machine() {
        let folder = tempfile::tempdir().unwrap();
        let first = FirstStart { data_dir: Some(folder.path().to_owned()), listen: None };
        let text = built_in(&first).unwrap();
        assert_eq!(text, built_in(&first).unwrap());
        let config = config::parse("built in", text).unwrap().config;
        assert_eq!(config.gateway.data_dir, folder.path());
        assert_eq!(config.web.listen, "0.0.0.0:8080");
        let digits = config.gateway.id.strip_prefix("forebay-").unwrap();
        assert!(digits.len() == 4 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()), "{digits}");
    }

    #[test]
    fn a_machine_without_an_identity_keeps_one_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let (machine, data_dir) = (folder.path().join("none"), folder.path().join("data"));
        let first = machine_id(&machine, &data_dir).unwrap();
        assert_eq!(machine_id(&machine, &data_dir).unwrap(), first);
        fs::write(&machine, "uninitialized\n").unwrap();
        assert_eq!(machine_id(&machine, &data_dir).unwrap(), first);
        fs::write(&machine, format!("{}\n", "a1".repeat(16))).unwrap();
        assert_eq!(machine_id(&machine, &data_dir).unwrap(), "a1".repeat(16));
    }
}
