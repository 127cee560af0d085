//! Files that no source and no sink may name as its secret: what the gateway keeps for itself. Whoever may configure could
//! otherwise have them sent to a host of their own.

use super::Config;
use super::secrets::Secrets;
use crate::secret::SecretFile;
use crate::sinks::SinkOptions;
use crate::sources::SourceOptions;
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// What a gateway keeps for itself.
#[derive(Clone, Debug)]
pub struct Reserved {
    data_dir: PathBuf,
    secrets: PathBuf,
    keys: Vec<PathBuf>,
}

impl Reserved {
    /// What a gateway of this configuration keeps for itself.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let encryption = config.buffer.encryption.as_ref().map(|encryption| &encryption.key_file);
        let keys = config.web.key_file.iter().chain(encryption);
        Self {
            data_dir: real(&config.gateway.data_dir),
            secrets: real(Secrets::of(&config.gateway.data_dir).folder()),
            keys: keys.filter_map(|key| Some(real(&key.path().ok()?))).collect(),
        }
    }

    /// Why a source or sink may not name a file as its secret; `None` if it may.
    #[must_use]
    pub fn refusal(&self, file: &SecretFile) -> Option<String> {
        // A credential without its folder is told where it is read.
        let path = real(&file.path().ok()?);
        if path.starts_with(&self.data_dir) && !path.starts_with(&self.secrets) {
            return Some(format!(
                "{:?} is the gateway's own: what is below data_dir is for no source or sink, but for its folder secrets; put the secret into a file of its own",
                file.0
            ));
        }
        self.keys.iter().any(|key| is_same(key, &path)).then(|| {
            format!(
                "{:?} is a key of the gateway (web.key_file or buffer.encryption.key_file) and is sent to nobody; put the secret into a file of its own",
                file.0
            )
        })
    }

    /// The same for all sources and sinks of a configuration: the option, and why not.
    #[must_use]
    pub fn refusals(&self, config: &Config) -> Vec<(String, String)> {
        let sources = config.source.iter().map(SourceOptions::secret_file);
        let sinks = config.sink.iter().map(SinkOptions::secret_file);
        let named = |list: &'static str| {
            move |(index, found): (usize, Option<(&'static str, _)>)| {
                found.map(|(option, file)| (format!("{list}[{index}].{option}"), file))
            }
        };
        let all = sources.enumerate().filter_map(named("source")).chain(sinks.enumerate().filter_map(named("sink")));
        all.filter_map(|(path, file)| Some((path, self.refusal(file)?))).collect()
    }
}

/// Where a path leads to, whatever links are on the way. Of one that is not there, the part that is.
fn real(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut missing: Vec<OsString> = Vec::new();
    let mut known = path.as_path();
    loop {
        if let Ok(found) = std::fs::canonicalize(known) {
            return missing.iter().rev().fold(found, |path, part| path.join(part));
        }
        let mut parts = known.components();
        match parts.next_back() {
            // What would come back from a folder that is not there leads nowhere now; its last known folder stands for it.
            Some(Component::ParentDir) | None => missing.clear(),
            Some(part) => missing.push(part.as_os_str().to_owned()),
        }
        if parts.as_path().as_os_str().is_empty() {
            return path;
        }
        known = parts.as_path();
    }
}

fn is_same(one: &Path, other: &Path) -> bool {
    let file = |path: &Path| std::fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
    one == other || file(one).is_some_and(|one| Some(one) == file(other))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::config::examine;
    use std::os::unix::fs::symlink;

    fn text(data_dir: &Path, password: &Path) -> String {
        format!(
            "[gateway]\nid = \"a\"\ndata_dir = {data_dir:?}\n[web]\ncertificate_file = \"{0}/web.pem\"\nkey_file = \"{0}/web.key\"\n[[source]]\ntype = \"mqtt\"\nname = \"b\"\nurl = \"mqtt://h\"\nclient_id = \"b\"\nusername = \"u\"\npassword_file = {password:?}\nsubscribe = [{{ filter = \"a\", device = \"d\", point = \"p\", payload = {{ format = \"number\" }} }}]\n",
            data_dir.parent().unwrap().display()
        )
    }

    #[test]
    fn what_the_gateway_keeps_for_itself_is_no_secret_of_a_source() {
        let folder = tempfile::tempdir().unwrap();
        let (root, data) = (folder.path(), folder.path().join("data"));
        for made in ["access", "secrets"] {
            std::fs::create_dir_all(data.join(made)).unwrap();
        }
        for file in ["data/access/people.json", "data/secrets/own", "web.key", "beside"] {
            std::fs::write(root.join(file), "secret").unwrap();
        }
        symlink(data.join("access/people.json"), root.join("link")).unwrap();
        symlink(&data, root.join("folder")).unwrap();
        std::fs::hard_link(root.join("web.key"), root.join("hard")).unwrap();
        for (file, allowed) in [
            ("data/access/people.json", false),
            ("data/secrets/../access/people.json", false),
            ("data/access/not-there-yet", false),
            ("data/nowhere/../access/people.json", false),
            ("folder/access/people.json", false),
            ("link", false),
            ("web.key", false),
            ("hard", false),
            ("data/secrets/own", true),
            ("folder/secrets/own", true),
            ("beside", true),
            ("not-there", true),
        ] {
            let examined = examine(&text(&data, &root.join(file)));
            let at: Vec<&str> = examined.problems.iter().map(|problem| problem.path.as_str()).collect();
            let wanted: &[&str] = if allowed { &[] } else { &["source[0].password_file"] };
            assert_eq!(at, wanted, "{file}: {:?}", examined.problems);
        }
        // By its other name it is the same folder.
        let linked = examine(&text(&root.join("folder"), &data.join("access/people.json")));
        assert_eq!(linked.problems.len(), 1);
    }
}
