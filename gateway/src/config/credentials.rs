//! Looks whether the files with secrets can be read. One that cannot is no error of the configuration: a systemd credential
//! exists only while the service runs, and a token may come later. A key file that can be read must hold a key, though.

use super::problem::{Lines, Problem};
use super::reserved::Reserved;
use super::shape::{self, Shape, Table};
use super::tree::{Node, join, locate};
use super::{Config, WebOptions};
use crate::buffer::Cipher;
use crate::certificate::{CertificateError, Pair};
use crate::clock::Clock;
use crate::reading::TimeQuality;
use crate::secret::{SecretError, SecretFile};
use toml::de::{DeTable, DeValue};

/// Where the file with the buffer's keys is named.
const KEY_FILE: &str = "buffer.encryption.key_file";

/// What is known of the secrets of a sound file.
#[derive(Default)]
pub(super) struct Credentials {
    /// A key file that holds no key, and a file of the gateway itself that would be sent: no gateway starts on them.
    pub(super) errors: Vec<Problem>,
    /// Each secret that cannot be read now, and a certificate that browsers would refuse: the gateway then serves its own one.
    pub(super) warnings: Vec<Problem>,
}

/// Looks at every secret that a sound file names, and at the page's certificate.
pub(super) fn look(text: &str, config: &Config) -> Credentials {
    let (tree, _) = DeTable::parse_recoverable(text);
    let reserved = Reserved::of(config);
    let mut look = Look { lines: Lines::new(text), reserved, found: Credentials::default() };
    look.keys("", tree.get_ref(), &shape::of_config());
    if let Some((key, message)) = certificate_problem(&config.web) {
        let path = join("web", key);
        let problem = look.lines.problem(&locate(&tree, &path), &path, message);
        look.found.warnings.push(problem);
    }
    look.found
}

/// What is wrong with the page's certificate, and the option it stands at. Files that cannot be read are told already.
fn certificate_problem(web: &WebOptions) -> Option<(&'static str, String)> {
    let (Some(certificate), Some(key)) = (&web.certificate_file, &web.key_file) else { return None };
    match Pair::from_files(certificate, key) {
        Ok(pair) => {
            let now = Clock::system().tick();
            let refused = pair.info.refused_at(now.wall_us).filter(|_| now.quality != TimeQuality::Unset);
            refused.map(|message| ("certificate_file", message))
        }
        Err(CertificateError::Unreadable(_)) => None,
        Err(error @ (CertificateError::NoKey | CertificateError::Mismatch)) => Some(("key_file", error.to_string())),
        Err(error) => Some(("certificate_file", error.to_string())),
    }
}

struct Look<'a> {
    lines: Lines<'a>,
    reserved: Reserved,
    found: Credentials,
}

impl Look<'_> {
    fn keys(&mut self, path: &str, found: &DeTable<'_>, table: &Table) {
        for (name, value) in found {
            if let Some(key) = table.key(name.get_ref()) {
                self.value(&join(path, name.get_ref()), value, &key.shape);
            }
        }
    }

    fn value(&mut self, path: &str, found: &Node<'_>, shape: &Shape) {
        match (shape, found.get_ref()) {
            (Shape::Table(table), DeValue::Table(keys)) => self.keys(path, keys, table),
            (Shape::Tagged { tag, variants, .. }, DeValue::Table(keys)) => {
                let word = keys.get(tag.as_str()).and_then(|value| value.get_ref().as_str());
                if let Some((_, table)) = variants.iter().find(|(choice, _)| Some(choice.word.as_str()) == word) {
                    self.keys(path, keys, table);
                }
            }
            (Shape::Map(item), DeValue::Table(keys)) => {
                for (name, value) in keys {
                    self.value(&join(path, name.get_ref()), value, item);
                }
            }
            (Shape::List { item, .. }, DeValue::Array(items)) => {
                for (index, value) in items.iter().enumerate() {
                    self.value(&format!("{path}[{index}]"), value, item);
                }
            }
            (Shape::SecretFile, DeValue::String(name)) => {
                let problem = |what: String| self.lines.problem(&found.span(), path, what);
                let file = SecretFile(name.clone().into_owned());
                let is_sent = path.starts_with("source[") || path.starts_with("sink[");
                if is_sent && let Some(refusal) = self.reserved.refusal(&file) {
                    return self.found.errors.push(problem(refusal));
                }
                match if is_sent { file.read_line() } else { file.read() } {
                    Err(error @ SecretError::Size(_)) if path == KEY_FILE => {
                        self.found.errors.push(problem(error.to_string()));
                    }
                    Err(error) => self.found.warnings.push(problem(error.to_string())),
                    Ok(file) if path == KEY_FILE => {
                        self.found
                            .errors
                            .extend(Cipher::from_key_file(&file).err().map(|error| problem(error.to_string())));
                    }
                    Ok(_) => {}
                }
            }
            _ => {}
        }
    }
}
