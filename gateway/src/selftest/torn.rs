//! What a power cut leaves of writes that were not synchronised: each page is new, old, or torn between its sectors.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// What the page cache writes at once.
const PAGE_BYTES: usize = 4096;

/// What a card writes at once, at the least.
const SECTOR_BYTES: usize = 512;

/// Deepest directory that is copied: family, chunk, its files.
const DEPTH_MAX: usize = 6;

/// A copy of the directory from before the last step, when everything in it was synchronised.
pub(super) struct Before {
    copy: PathBuf,
}

impl Before {
    /// Copies `dir` to `copy`, which is replaced.
    pub(super) fn copy(dir: &Path, copy: &Path) -> io::Result<Self> {
        if copy.exists() {
            fs::remove_dir_all(copy)?;
        }
        copy_dir(dir, copy, DEPTH_MAX)?;
        Ok(Self { copy: copy.to_owned() })
    }

    /// Puts pages of the files `unsure` in `dir` back or tears them, at random; returns how many. A file that was not there before
    /// loses pages to zeros.
    pub(super) fn tear(&self, dir: &Path, unsure: &[PathBuf], random: &mut fastrand::Rng) -> io::Result<u64> {
        // Sometimes nearly everything has reached the card, sometimes nearly nothing.
        let share = random.f64();
        let mut torn = 0;
        for path in unsure {
            let Ok(place) = path.strip_prefix(dir) else { continue };
            if path.is_file() {
                let old = fs::read(self.copy.join(place)).unwrap_or_default();
                torn += tear_file(path, &old, share, random)?;
            }
        }
        Ok(torn)
    }
}

fn tear_file(path: &Path, old: &[u8], share: f64, random: &mut fastrand::Rng) -> io::Result<u64> {
    let new = fs::read(path)?;
    let file = fs::File::options().write(true).open(path)?;
    let mut torn = 0;
    for (page, at) in new.chunks(PAGE_BYTES).zip((0..).step_by(PAGE_BYTES)) {
        let mut was = old.get(at..old.len().min(at + page.len())).unwrap_or_default().to_vec();
        was.resize(page.len(), 0);
        if was == page || random.f64() < share {
            continue;
        }
        torn += 1;
        let keeps_sectors = random.bool();
        for (sector, offset) in was.chunks(SECTOR_BYTES).zip((at..).step_by(SECTOR_BYTES)) {
            if !keeps_sectors || random.bool() {
                file.write_all_at(sector, offset as u64)?;
            }
        }
    }
    Ok(torn)
}

fn copy_dir(from: &Path, to: &Path, depth: usize) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if !entry.file_type()?.is_dir() {
            fs::copy(entry.path(), target)?;
        } else if depth > 0 {
            copy_dir(&entry.path(), &target, depth - 1)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn only_what_changed_since_the_copy_is_torn() {
        let dir = tempfile::tempdir().unwrap();
        let (data, copy) = (dir.path().join("data"), dir.path().join("copy"));
        fs::create_dir(&data).unwrap();
        let file = data.join("db");
        fs::write(&file, vec![1; 3 * PAGE_BYTES]).unwrap();
        let before = Before::copy(&data, &copy).unwrap();
        let mut new = vec![1; 3 * PAGE_BYTES];
        new[PAGE_BYTES..].fill(2);
        let mut random = fastrand::Rng::with_seed(1);
        let mut torn = 0;
        for _ in 0..50 {
            fs::write(&file, &new).unwrap();
            torn += before.tear(&data, std::slice::from_ref(&file), &mut random).unwrap();
            let left = fs::read(&file).unwrap();
            assert_eq!(left.len(), new.len());
            assert!(left[..PAGE_BYTES].iter().all(|byte| *byte == 1));
            assert!(left.chunks(SECTOR_BYTES).all(|sector| sector.iter().all(|byte| *byte == sector[0])));
        }
        assert!(torn > 20, "{torn}");
    }
}
