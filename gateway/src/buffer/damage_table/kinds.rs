//! What is done to the files of a store, and to which.
#![allow(clippy::unwrap_used, reason = "tests")]
use crate::buffer::test_support::MIB;
use fastrand::Rng;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// What is done to a file or a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Cut,
    CutToNothing,
    PageZeroed,
    RangeZeroed,
    Zeroed,
    OneBit,
    TwentyBits,
    ManyBits,
    PageOverwritten,
    Swapped,
    Missing,
    OtherType,
    OldCopy,
    Stray,
}

pub(super) const KINDS: [(Kind, &str); 14] = [
    (Kind::Cut, "cut at a random point"),
    (Kind::CutToNothing, "cut to nothing"),
    (Kind::PageZeroed, "one page zeroed"),
    (Kind::RangeZeroed, "a range zeroed"),
    (Kind::Zeroed, "all zeroed"),
    (Kind::OneBit, "1 bit flipped"),
    (Kind::TwentyBits, "20 bits flipped"),
    (Kind::ManyBits, "200 bits flipped"),
    (Kind::PageOverwritten, "one page overwritten"),
    (Kind::Swapped, "swapped with another"),
    (Kind::Missing, "missing"),
    (Kind::OtherType, "directory for file, file for directory"),
    (Kind::OldCopy, "an old copy put back"),
    (Kind::Stray, "a stray beside it"),
];

/// What it is done to, as paths below `buffer`; `*` is one of those there are.
pub(super) const TARGETS: [&str; 19] = [
    "readings/*/db",
    "vital/*/db",
    "letters/*/db",
    "ledger/db",
    "readings/*/snap",
    "readings/*/conf",
    "ledger/snap",
    "ledger/conf",
    "readings/*",
    "vital/*",
    "ledger",
    "readings",
    "configs/*",
    "high-water",
    "epoch",
    "snapshot",
    "lock",
    "ballast",
    "quarantine",
];

pub(super) fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).map(drop).unwrap();
        }
    }
}

fn overwrite(path: &Path, at: u64, bytes: &[u8]) {
    fs::File::options().write(true).open(path).unwrap().write_all_at(bytes, at).unwrap();
}

fn remove(path: &Path) {
    if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
}

/// Something of the same type elsewhere in the store.
fn another(root: &Path, place: &Path, random: &mut Rng) -> Option<PathBuf> {
    let mut same = Vec::new();
    let name = place.file_name()?.to_str()?;
    for family in ["readings", "vital", "letters", "ledger", "configs"] {
        let Ok(entries) = fs::read_dir(root.join(family)) else { continue };
        for entry in entries.flatten() {
            same.push(entry.path());
            same.push(entry.path().join(name));
        }
    }
    same.push(root.join("ledger").join(name));
    let is_dir = root.join(place).is_dir();
    same.retain(|path| path.exists() && path.is_dir() == is_dir && path.strip_prefix(root).unwrap() != place);
    if is_dir || name == "db" {
        // A chunk goes where a chunk was.
        same.retain(|path| is_dir || path.ends_with("db"));
    }
    let own = root.join(place);
    same.retain(|path| !path.starts_with(&own) && !own.starts_with(path));
    same.sort();
    random.choice(same)
}

/// Damages a store; false if this cannot be done to that.
pub(super) fn damage(kind: Kind, root: &Path, place: &Path, older: &Path, random: &mut Rng) -> bool {
    let path = root.join(place);
    let is_dir = path.is_dir();
    let bytes = fs::metadata(&path).unwrap().len();
    let to_bytes = !is_dir && bytes > 0;
    match kind {
        Kind::Cut if to_bytes => {
            fs::File::options().write(true).open(&path).unwrap().set_len(random.u64(..bytes)).unwrap();
        }
        Kind::CutToNothing if to_bytes => fs::write(&path, []).unwrap(),
        Kind::PageZeroed if to_bytes => {
            let page = random.u64(..bytes.div_ceil(4096)) * 4096;
            overwrite(&path, page, &vec![0; usize::try_from((bytes - page).min(4096)).unwrap()]);
        }
        Kind::RangeZeroed if to_bytes => {
            let at = random.u64(..bytes);
            overwrite(&path, at, &vec![0; usize::try_from(random.u64(..(bytes - at).min(MIB)) + 1).unwrap()]);
        }
        Kind::Zeroed if to_bytes => fs::write(&path, vec![0; usize::try_from(bytes).unwrap()]).unwrap(),
        Kind::OneBit | Kind::TwentyBits | Kind::ManyBits if to_bytes => {
            let mut whole = fs::read(&path).unwrap();
            let flips = match kind {
                Kind::OneBit => 1,
                Kind::TwentyBits => 20,
                _ => 200,
            };
            for _ in 0..flips {
                whole[random.usize(..usize::try_from(bytes).unwrap())] ^= 1 << random.u8(..8);
            }
            fs::write(&path, whole).unwrap();
        }
        Kind::PageOverwritten if to_bytes => {
            let page = random.u64(..bytes.div_ceil(4096)) * 4096;
            let rubbish: Vec<u8> = (0..(bytes - page).min(4096)).map(|_| random.u8(..)).collect();
            overwrite(&path, page, &rubbish);
        }
        Kind::Swapped => {
            let Some(other) = another(root, place, random) else { return false };
            let aside = root.join("aside");
            fs::rename(&path, &aside).unwrap();
            fs::rename(&other, &path).unwrap();
            fs::rename(&aside, &other).unwrap();
        }
        Kind::Missing => remove(&path),
        Kind::OtherType => {
            remove(&path);
            if is_dir { fs::write(&path, b"I am a file").unwrap() } else { fs::create_dir(&path).unwrap() }
        }
        Kind::OldCopy => {
            let old = older.join("buffer").join(place);
            if !old.exists() || old.is_dir() != is_dir {
                return false;
            }
            remove(&path);
            if is_dir { copy_tree(&old, &path) } else { fs::copy(&old, &path).map(drop).unwrap() }
        }
        Kind::Stray => {
            let beside = path.parent().unwrap();
            let names = [
                "notes.txt",
                "00000099",
                "99",
                "00000001.bak",
                "x.dead",
                "snap.zzz",
                "x.generating",
                "db.old",
                "ledger.new",
            ];
            let stray = beside.join(names[random.usize(..names.len())]);
            match random.u8(..3) {
                0 => fs::write(&stray, b"what I am nobody knows").unwrap(),
                1 => fs::create_dir_all(stray.join("deeper")).unwrap(),
                _ if is_dir => copy_tree(&path, &stray),
                _ => fs::copy(&path, &stray).map(drop).unwrap(),
            }
        }
        _ => return false,
    }
    true
}
