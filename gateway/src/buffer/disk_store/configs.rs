//! Configuration texts by version: a run is rendered by the version it was pinned with, however often it is retried.
//!
//! Each text is a file of its own, `configs/00000007.toml`: far larger than a value may be, and readable by a person
//! unless the store is encrypted.

use super::super::cipher::ENVELOPE_BYTES;
use super::super::ledger::{ConfigMark, Entry};
use super::super::{BufferError, files};
use super::DiskStore;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use xxhash_rust::xxh3::xxh3_128;

/// How many versions are kept beside those that a run is pinned to: a page can show what changed, the disk stays small.
const CONFIGS_MAX: usize = 32;

/// Longest configuration text that is kept.
const CONFIG_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The mark of a text that is lost; its version is never given to another.
const LOST: ConfigMark = ConfigMark { hash: 0, bytes: 0 };

impl DiskStore {
    /// The version of a text, keeping it if it is new.
    pub(super) fn keep_config_text(&mut self, toml: &str) -> Result<u32, BufferError> {
        if toml.len() > CONFIG_BYTES_MAX {
            return Err(BufferError::Disk(format!(
                "a configuration of {} bytes is not kept; the limit is {CONFIG_BYTES_MAX}",
                toml.len()
            )));
        }
        let mark = ConfigMark { hash: xxh3_128(toml.as_bytes()), bytes: toml.len() as u64 };
        let configs = &self.ledger.state().configs;
        if let Some((version, _)) = configs.iter().find(|(_, known)| **known == mark) {
            return Ok(*version);
        }
        let version = configs.last_key_value().map_or(1, |(version, _)| version.saturating_add(1));
        let stored = self.options.cipher.close(toml.as_bytes().to_vec())?;
        files::write_whole(&self.config_path(version), &stored)?;
        self.measure_configs();
        self.write_ledger(vec![Entry::Config(version, Some(mark))])?;
        self.drop_old_configs()?;
        Ok(version)
    }

    /// The text of a version.
    pub(super) fn config_text(&self, version: u32) -> Result<Option<String>, BufferError> {
        let mark = self.ledger.state().configs.get(&version).filter(|mark| **mark != LOST);
        let Some(mark) = mark else { return Ok(None) };
        let path = self.config_path(version);
        let bytes = files::read_whole(&path, (CONFIG_BYTES_MAX + ENVELOPE_BYTES) as u64)?.unwrap_or_default();
        let bytes = self.options.cipher.open(bytes.into())?.to_vec();
        let text = String::from_utf8(bytes).ok().filter(|text| xxh3_128(text.as_bytes()) == mark.hash);
        text.map(Some).ok_or_else(|| BufferError::Damaged(format!("{} is not what was kept", path.display())))
    }

    /// As [`Self::config_text`]; a text that is damaged is told once and then known to be lost, so that a run pinned to it is not
    /// held up for ever.
    pub(super) fn config_or_tell(&mut self, version: u32) -> Result<Option<String>, BufferError> {
        match self.config_text(version) {
            Err(BufferError::Damaged(reason)) => {
                self.tell_damage(format!("{reason}; runs of that time are rendered with the present tags of devices"));
                self.write_ledger(vec![Entry::Config(version, Some(LOST))])?;
                Ok(None)
            }
            other => other,
        }
    }

    /// Every text that can be read.
    pub(super) fn all_configs(&mut self) -> BTreeMap<u32, String> {
        let versions: Vec<u32> = self.ledger.state().configs.keys().copied().collect();
        let texts = versions.into_iter().filter_map(|version| match self.config_or_tell(version) {
            Ok(text) => text.map(|text| (version, text)),
            Err(error) => {
                tracing::warn!(%error, version, "a configuration cannot be read now");
                None
            }
        });
        texts.collect()
    }

    fn drop_old_configs(&mut self) -> Result<(), BufferError> {
        let state = self.ledger.state();
        let runs = state.lanes.values().filter_map(|lane| lane.run.as_ref()).map(|run| run.config_version);
        let replays = state.replays.values().filter(|replay| replay.is_running()).map(|replay| replay.config_version);
        let pinned: BTreeSet<u32> = runs.chain(replays).collect();
        let old: Vec<u32> =
            state.configs.keys().rev().skip(CONFIGS_MAX).filter(|version| !pinned.contains(version)).copied().collect();
        if old.is_empty() {
            return Ok(());
        }
        self.write_ledger(old.iter().map(|version| Entry::Config(*version, None)).collect())?;
        for version in old {
            let path = self.config_path(version);
            // A file that stays behind is overwritten by nobody and costs a few KiB.
            std::fs::remove_file(&path).map_err(|e| files::error("remove", &path, &e))?;
        }
        Ok(())
    }

    /// Asks the disk what the texts occupy. They change so seldom that it need not be asked at every commit.
    pub(super) fn measure_configs(&mut self) {
        self.configs_bytes = files::occupied_bytes(&self.root.join("configs"));
    }

    fn config_path(&self, version: u32) -> PathBuf {
        self.root.join("configs").join(format!("{version:08}.toml"))
    }
}
