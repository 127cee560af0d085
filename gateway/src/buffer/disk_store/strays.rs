//! What lies in the store's directory and does not belong there, or is not what its name says: it is set aside, never in the way.

use super::super::family::Family;
use super::super::ledger::Ledger;
use super::super::{BufferError, files};
use super::damage::quarantine_path;
use super::high_water::{self, Mark};
use super::opening::{EPOCH, LEDGER, LOCK, QUARANTINE, named_epoch};
use super::{room, snapshot};
use std::path::{Path, PathBuf};

/// Sees to it that there can be a lock: a directory in its place was never locked by anyone.
pub(super) fn make_way_for_lock(root: &Path, wall_us: i64) -> Result<Option<String>, BufferError> {
    let path = root.join(LOCK);
    path.is_dir().then(|| set_aside(root, &path, wall_us, "is a directory")).transpose()
}

/// Sees to it that every name of the store is the file or the directory that it should be. What is something else goes to the
/// quarantine; the answer says what did.
pub(super) fn make_way(root: &Path, wall_us: i64) -> Result<Vec<String>, BufferError> {
    let quarantine = root.join(QUARANTINE);
    let mut told = Vec::new();
    if quarantine.exists() && !quarantine.is_dir() {
        let aside = quarantine.with_extension("file");
        files::remove_dir(&aside)?;
        files::rename(&quarantine, &aside)?;
    }
    for name in directories().filter(|name| *name != LEDGER) {
        let path = root.join(name);
        if path.exists() && !path.is_dir() {
            told.push(set_aside(root, &path, wall_us, "is no directory")?);
        }
        files::make_dir(&path)?;
        files::remove_dead(&path)?;
    }
    let ledger = root.join(LEDGER);
    if ledger.exists() && !ledger.is_dir() {
        told.push(set_aside(root, &ledger, wall_us, "is no directory")?);
    }
    for name in [EPOCH, high_water::NAME, snapshot::NAME, room::BALLAST] {
        let path = root.join(name);
        if path.is_dir() {
            told.push(set_aside(root, &path, wall_us, "is a directory")?);
        }
    }
    files::remove_dead(root)?;
    Ok(told)
}

fn directories() -> impl Iterator<Item = &'static str> {
    [QUARANTINE, "configs", LEDGER].into_iter().chain(Family::ALL.map(Family::name))
}

/// Why a ledger that can be read is not the newest that was written; none if nothing speaks against it. Chunks that it does not
/// know though it is the newest are nobody's: they are set aside, and `told` says so.
pub(super) fn why_outdated(
    root: &Path,
    ledger: &Ledger,
    wall_us: i64,
    told: &mut Vec<String>,
) -> Result<Option<String>, BufferError> {
    let state = ledger.state();
    let mark = high_water::read(root);
    let of_ledger = mark.filter(|mark| Some(mark.epoch) == state.epoch);
    if let Some(mark) = of_ledger.filter(|mark| mark.generation > state.generation) {
        return Ok(Some(format!(
            "the ledger is an old copy, or has lost its newest {} entries",
            mark.generation - state.generation
        )));
    }
    if let (None, Some(Mark { epoch, .. })) = (of_ledger, mark)
        && named_epoch(root) == Some(epoch)
    {
        return Ok(Some("the ledger is that of another store".to_owned()));
    }
    let is_newest = of_ledger.is_some_and(|mark| mark.generation == state.generation);
    for path in strangers(root, ledger)? {
        // A chunk is in the ledger before it is on disk, and leaves the disk first: without the mark's word, a chunk that the ledger does
        // not know proves that the ledger is not the newest that was written, and so its cursors and sequences are not either.
        if !is_newest {
            return Ok(Some(format!("the ledger has forgotten {}", path.display())));
        }
        told.push(set_aside(root, &path, wall_us, "is no chunk of this store")?);
    }
    Ok(None)
}

/// What bears a chunk's name and is in no index.
fn strangers(root: &Path, ledger: &Ledger) -> Result<Vec<PathBuf>, BufferError> {
    let mut strangers = Vec::new();
    for family in Family::ALL {
        let dir = root.join(family.name());
        for name in files::names(&dir)? {
            let number = name.parse().ok().filter(|number: &u32| format!("{number:08}") == name);
            if number.is_some_and(|number| !ledger.state().chunks.contains_key(&(family, number))) {
                strangers.push(dir.join(name));
            }
        }
    }
    Ok(strangers)
}

fn set_aside(root: &Path, path: &Path, wall_us: i64, why: &str) -> Result<String, BufferError> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("stray");
    let aside = quarantine_path(root, wall_us, name);
    files::make_dir(&root.join(QUARANTINE))?;
    files::rename(path, &aside)?;
    Ok(format!("{} {why}; it is in {} as long as there is room", path.display(), aside.display()))
}
