//! Opening the store: take the lock, read the ledger, look at the chunks, finish what a crash interrupted.
//!
//! Damage never stops a start. A damaged chunk costs what cannot be brought back of it, and the books say so. A damaged
//! ledger costs the epoch: with it the cursors are lost, so the store could only guess what each sink has. To guess low
//! would deliver days of kept history a second time, to guess high would lose the backlog without a word, and the names
//! (epoch, stream, sequence) of what was already delivered must never be given to other records. So the old store goes to
//! the quarantine whole, where a person can look at it, and a new epoch begins.

use super::super::chunk::{self, ChunkId, ChunkInfo, ChunkState};
use super::super::family::Family;
use super::super::ledger::Ledger;
use super::super::sled_store::LOG;
use super::super::wear::Meter;
use super::super::{Books, BufferError, Cipher, Opened, StoreOptions, files};
use super::damage::quarantine_path;
use super::high_water::HighWater;
use super::place::Place;
use super::{DiskStore, room, snapshot, strays};
use crate::clock::Clock;
use crate::reading::{Epoch, Sequence};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

/// Where damaged things go.
pub(super) const QUARANTINE: &str = "quarantine";

/// The ledger's directory.
pub(in crate::buffer) const LEDGER: &str = "ledger";

/// The file that is locked.
pub(super) const LOCK: &str = "lock";

/// The file that names the epoch.
pub(super) const EPOCH: &str = "epoch";

/// Longest content of the epoch's file: 32 hexadecimal digits and a line end.
pub(super) const EPOCH_BYTES_MAX: u64 = 64;

impl DiskStore {
    /// Opens the store in `data_dir/buffer`.
    pub(in crate::buffer) fn open(options: StoreOptions, clock: Clock) -> Result<(Self, Opened), BufferError> {
        let root = options.data_dir.join("buffer");
        files::make_dir(&root)?;
        let wall_us = clock.tick().wall_us;
        let mut told: Vec<String> = strays::make_way_for_lock(&root, wall_us)?.into_iter().collect();
        let place = Place::take(&root)?;
        told.extend(strays::make_way(&root, wall_us)?);
        let mut opened = Opened { quarantined: told, ..Opened::default() };
        room::free_for_start(&root);
        let mut ledger = match open_ledger(&root, &options.cipher, wall_us, &mut opened.quarantined)? {
            Ok(ledger) => ledger,
            Err(lost) => {
                if let Some(reason) = lost {
                    tracing::error!(reason, "the ledger is lost: a new epoch begins");
                    let aside = set_aside(&root, wall_us)?;
                    opened.quarantined.push(format!(
                        "{reason}; nobody can say any more what each sink had, so a new epoch begins and the old store is in {} as long as there is room",
                        aside.display()
                    ));
                }
                opened.fresh_epoch = true;
                Ledger::create(&root.join(LEDGER), new_epoch()?, &options.cipher)?
            }
        };
        if !opened.fresh_epoch {
            ledger.renew();
        }
        let state = ledger.state();
        let epoch =
            state.epoch.ok_or_else(|| BufferError::Damaged("the ledger does not say whose it is".to_owned()))?;
        let named = format!("{epoch}\n").into_bytes();
        if files::read_whole(&root.join(EPOCH), EPOCH_BYTES_MAX)?.as_ref() != Some(&named) {
            files::write_whole(&root.join(EPOCH), &named)?;
        }
        let file_system_bytes = files::total_bytes(&root).unwrap_or(u64::MAX);
        let meter = Meter::of(&root);
        let mut store = Self {
            index: state.chunks.clone(),
            next: state.next,
            high_water: HighWater::open(&root, epoch),
            books: ledger.state().books.clone(),
            owes_books: false,
            ledger,
            options,
            clock,
            root,
            place,
            epoch,
            unsaved: BTreeSet::new(),
            active: BTreeMap::new(),
            open: VecDeque::new(),
            file_system_bytes,
            meter,
            grows_to_bytes: None,
            given_up_in_vain: 0,
            configs_bytes: 0,
            quarantine_bytes: 0,
            quarantined: std::mem::take(&mut opened.quarantined),
            snapshot_at: 0,
            job: None,
            digesting_rests: false,
            unsound: BTreeSet::new(),
            unmergeable: BTreeSet::new(),
        };
        store.look_at_chunks()?;
        store.next = store.promised_or_held();
        let recovered = store.books.recover(store.next);
        if recovered > 0 {
            tracing::info!(recovered, "records were durable whose commit had not finished");
            store.owes_books = true;
        }
        store.restore_ballast();
        store.try_outbox();
        store.keep_house();
        store.keep_limits(usize::MAX);
        store.measure_sealed();
        store.measure();
        opened.snapshot = store.open_snapshot();
        store.snapshot_at = opened.snapshot.as_ref().map_or(0, |(sequence, _)| *sequence);
        let configs = store.all_configs();
        opened.epoch = Some(epoch);
        opened.points.clone_from(&store.ledger.state().points);
        opened.configs = configs;
        opened.books.clone_from(&store.books);
        opened.quarantined.clone_from(&store.quarantined);
        Ok((store, opened))
    }

    /// Brings index and directories together, and learns what the active chunks hold.
    fn look_at_chunks(&mut self) -> Result<(), BufferError> {
        self.finish_merges()?;
        self.finish_repairs()?;
        self.sweep_dropped();
        let ids: Vec<ChunkId> = self.index.keys().copied().collect();
        for id in ids {
            let Some(info) = self.index.get(&id).cloned() else { continue };
            match info.state {
                ChunkState::Dropped => {}
                ChunkState::Sealed => {
                    let path = self.path(id);
                    if !path.is_dir() {
                        self.salvage(id, &format!("{} is gone", path.display()))?;
                    }
                }
                ChunkState::Active => {
                    let resumed = match id.0 {
                        // Nothing may be dropped before the gaps have their place.
                        Family::Vital => self.resume(id, &info),
                        _ => self.with_relief(|store| store.resume(id, &info)),
                    };
                    match resumed {
                        Ok(()) => {}
                        Err(BufferError::Damaged(reason) | BufferError::Disk(reason)) => {
                            self.salvage_or_seal(id, &reason)?;
                        }
                        // It is sound: better a start later than readings set aside.
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        Ok(())
    }

    /// Opens the chunk that blocks were last added to and counts what it holds. Everything in it was whole before the crash
    /// or was never acknowledged; either way it follows without a hole on what was there before.
    fn resume(&mut self, id: ChunkId, info: &ChunkInfo) -> Result<(), BufferError> {
        let promised = self.promised();
        let path = self.path(id);
        let behind = |stream: crate::reading::Stream, info: &ChunkInfo| {
            let held = info.extent(stream).map_or(info.base[stream.index()], |extent| extent.range.last + 1);
            held < promised[stream.index()]
        };
        if !path.join(LOG).exists() && !id.0.streams().any(|stream| behind(stream, info)) {
            // Its place in the index was written, its log not yet.
            self.retire_unbegun(id);
            return Ok(());
        }
        let mut chunk = self.open_whole(id)?;
        let extents = chunk.survey(self.epoch, id.0, &info.base)?;
        let mut surveyed = info.clone();
        surveyed.extents = extents;
        for stream in id.0.streams() {
            let base = info.base[stream.index()];
            let hole = surveyed.extent(stream).is_some_and(|extent| extent.range.first != base);
            if behind(stream, &surveyed) || hole {
                return Err(BufferError::Damaged(format!("{} has lost records of {stream}", path.display())));
            }
        }
        chunk.load_points()?;
        if let Some(books) = chunk::books(chunk.database()) {
            self.take_books(books);
        }
        for extent in &surveyed.extents {
            let next = &mut self.next[extent.stream.index()];
            *next = (*next).max(extent.range.last + 1);
        }
        self.index.insert(id, surveyed);
        // One at a time is active; of two, which only an interrupted write can leave, the older one is full.
        self.retire(id.0);
        self.active.insert(id.0, (id.1, chunk));
        Ok(())
    }

    /// Where each stream goes on: above all that was ever given, be it there or lost.
    fn promised_or_held(&self) -> [Sequence; 6] {
        let mut next = self.next;
        for ((next, promised), booked) in next.iter_mut().zip(self.promised()).zip(self.books.next()) {
            *next = (*next).max(promised).max(booked);
        }
        next
    }

    /// Takes books over that were found, if they are newer.
    pub(super) fn take_books(&mut self, books: Books) {
        if books.revision > self.books.revision {
            self.books = books;
            self.owes_books = true;
        }
    }

    fn retire_unbegun(&mut self, id: ChunkId) {
        if let Some(info) = self.index.get_mut(&id) {
            info.state = ChunkState::Dropped;
            self.unsaved.insert(id);
        }
    }

    /// The judge's snapshot, unless it is damaged or ahead of the readings there are.
    fn open_snapshot(&mut self) -> Option<(Sequence, Vec<u8>)> {
        match snapshot::read(&self.root, &self.options.cipher, self.epoch) {
            Ok(snapshot) => {
                snapshot.filter(|(sequence, _)| *sequence <= self.next[crate::reading::Stream::Readings.index()])
            }
            Err(error) => {
                self.tell_damage(format!("{error}; what the detectors have learnt is replayed from the readings"));
                if let Err(error) = files::remove_all(&self.root.join(snapshot::NAME)) {
                    tracing::warn!(%error, "a damaged snapshot is left");
                }
                None
            }
        }
    }
}

/// The epoch that the store's directory names, whatever its ledger says.
pub(in crate::buffer) fn named_epoch(root: &Path) -> Option<Epoch> {
    let bytes = files::read_whole(&root.join(EPOCH), EPOCH_BYTES_MAX).ok()??;
    let text = String::from_utf8(bytes).ok()?;
    u128::from_str_radix(text.trim(), 16).ok().map(Epoch)
}

/// Opens the ledger. The inner error says why there is none: a reason if it was lost, nothing if there never was one.
fn open_ledger(
    root: &Path,
    cipher: &Cipher,
    wall_us: i64,
    told: &mut Vec<String>,
) -> Result<Result<Ledger, Option<String>>, BufferError> {
    let path = root.join(LEDGER);
    if !Ledger::exists(&path)? {
        let old = files::read_whole(&root.join(EPOCH), EPOCH_BYTES_MAX)?;
        return Ok(Err(old.map(|_| "the ledger is gone".to_owned())));
    }
    let mut result = Ledger::open(&path, cipher);
    if let Err(BufferError::Damaged(_)) = result {
        // The log alone often opens where the small files beside it mislead. Opening may change it, so this is tried on a copy, which
        // then takes the ledger's place.
        let trial = root.join("ledger.log");
        files::remove_dir(&trial)?;
        files::copy_files(&path, &trial, |name| name == LOG)?;
        if Ledger::open(&trial, cipher).is_ok() {
            files::remove_dir(&path)?;
            files::rename(&trial, &path)?;
            result = Ledger::open(&path, cipher);
        } else {
            files::remove_dir(&trial)?;
        }
    }
    match result {
        Ok(ledger) => Ok(match strays::why_outdated(root, &ledger, wall_us, told)? {
            None => Ok(ledger),
            Some(reason) => Err(Some(reason)),
        }),
        Err(BufferError::Damaged(reason)) => Ok(Err(Some(reason))),
        Err(error) => Err(error),
    }
}

/// Moves the whole old store into the quarantine; its epoch's file goes last, so that a crash on the way goes on moving.
fn set_aside(root: &Path, wall_us: i64) -> Result<PathBuf, BufferError> {
    let aside = quarantine_path(root, wall_us, "store");
    files::make_dir(&aside)?;
    let families = Family::ALL.map(Family::name);
    for name in [LEDGER].into_iter().chain(families).chain(["configs", snapshot::NAME, EPOCH]) {
        let path = root.join(name);
        if path.exists() {
            files::rename(&path, &aside.join(name))?;
        }
    }
    for name in families.into_iter().chain(["configs"]) {
        files::make_dir(&root.join(name))?;
    }
    Ok(aside)
}

fn new_epoch() -> Result<Epoch, BufferError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| BufferError::Disk(format!("no random numbers: {error}")))?;
    Ok(Epoch(u128::from_le_bytes(bytes)))
}
