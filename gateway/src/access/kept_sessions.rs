//! Sessions on disk, so that a power cut signs nobody out: digests of their ids alone, with their ages, written whole.
//!
//! Written when one begins or ends. Uses are written together, twice an hour at most: after a crash a session ends so much earlier,
//! never later. Ages count while the gateway runs; the time in which it was off is added as soon as both clocks are known.

use super::files;
use super::random::Hash;
use super::sessions::{SESSIONS_MAX, Session, Sessions};
use super::{Access, AccessError};
use crate::clock::Tick;
use crate::reading::{TimeQuality, UnixMicros};
use serde::{Deserialize, Serialize};
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

/// The file in the private directory.
const FILE: &str = "sessions.json";

/// What is written into it.
const VERSION: u32 = 1;

/// Largest file that is read, in bytes: 256 sessions take half of it.
const FILE_BYTES_MAX: u64 = 192 * 1024;

/// How often [`Access::tend`] is to be called, for uses and for a clock that was set meanwhile.
pub const TEND_EVERY: Duration = Duration::from_secs(60);

/// So long uses are collected before they are written: 48 small writes a day at most.
const USES_EVERY_US: i64 = 30 * 60 * 1_000_000;

#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    version: u32,
    /// When it was written, by the wall clock; none while that was never set.
    written_us: Option<UnixMicros>,
    sessions: Vec<Row>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Row {
    /// SHA-256 of the session's id, in hexadecimal.
    sha256: String,
    name: String,
    /// The person's key when it began: another password, and it is over.
    key: String,
    /// How old it was when the file was written, and how long it was not used.
    age_us: i64,
    idle_us: i64,
}

impl Access {
    /// Takes up the sessions that an earlier process has kept, and keeps them from now on: for the gateway alone, not for a tool beside it.
    pub fn keep_sessions(&self) {
        let path = self.0.dir.join(FILE);
        let kept = match read(&path) {
            Ok(Some(kept)) => kept,
            Ok(None) => Kept { version: VERSION, written_us: None, sessions: Vec::new() },
            Err(error) => {
                tracing::warn!("everyone has to sign in anew: {error}");
                Kept { version: VERSION, written_us: None, sessions: Vec::new() }
            }
        };
        self.0.sessions.restore(
            kept.written_us,
            kept.sessions.into_iter().filter_map(Row::session),
            self.0.clock.tick(),
        );
    }

    /// Writes what was used since, if it is time; to be called every [`TEND_EVERY`].
    pub async fn tend(&self) {
        let now = self.0.clock.tick();
        if self.0.sessions.tend(now, USES_EVERY_US) {
            self.save_sessions().await;
        }
    }

    /// Writes what was not written yet, before the gateway ends.
    pub async fn settle_sessions(&self) {
        if self.0.sessions.tend(self.0.clock.tick(), 0) {
            self.save_sessions().await;
        }
    }

    /// Writes the sessions. What cannot be written is tried again by [`Access::tend`].
    pub(super) async fn save_sessions(&self) {
        let saved = self.apart(|inner| save(&inner.sessions, &inner.dir, inner.clock.tick())).await;
        if let Err(error) = saved {
            tracing::warn!("who is signed in could not be written down, and a restart will not know it: {error}");
        }
    }
}

/// Writes all sessions, unless they are not kept. One after the other: the newest state is the last one that is written.
fn save(sessions: &Sessions, dir: &Path, now: Tick) -> Result<(), AccessError> {
    let Some(turn) = sessions.begin_saving() else { return Ok(()) };
    let rows = sessions.rows(now.mono_us, |hash, session, age_us, idle_us| Row {
        sha256: hex::encode(hash),
        name: session.name.clone(),
        key: session.key.clone(),
        age_us,
        idle_us,
    });
    let written_us = (now.quality != TimeQuality::Unset).then_some(now.wall_us);
    let kept = Kept { version: VERSION, written_us, sessions: rows };
    let bytes = serde_json::to_vec(&kept).map_err(|error| AccessError::Disk(error.to_string()));
    let saved = bytes.and_then(|bytes| files::write_whole(&dir.join(FILE), &bytes));
    if saved.is_err() {
        sessions.remember_to_save();
    }
    drop(turn);
    saved
}

fn read(path: &Path) -> Result<Option<Kept>, AccessError> {
    let file = match files::open_to_read(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(files::error("open", path, &error)),
    };
    let bytes = files::read_bounded(&file, path, FILE_BYTES_MAX)?;
    let damaged = |why: String| AccessError::Damaged(format!("{} cannot be used: {why}", path.display()));
    let mut kept: Kept = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
    if kept.version != VERSION {
        return Err(damaged(format!("it is of version {}", kept.version)));
    }
    kept.sessions.truncate(SESSIONS_MAX);
    Ok(Some(kept))
}

impl Row {
    fn session(self) -> Option<(Hash, Session, i64, i64)> {
        let mut hash = Hash::default();
        hex::decode_to_slice(&self.sha256, &mut hash).ok()?;
        let session = Session { name: self.name, key: self.key, began_us: 0, used_us: 0 };
        Some((hash, session, self.age_us.max(0), self.idle_us.max(0)))
    }
}
