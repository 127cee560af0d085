//! The damage table: every kind of damage to every file of a store, by a seed, and what became of the records.
//!
//! `make damage CASES=600 SEED=1` runs and prints it; `cargo test` runs a few of each kind. A case fails if a start panics or
//! takes longer than [`START_MAX`], if anything is served that was never written, if a record that a sink has not got is neither
//! served nor told as a gap, if the books of a lane do not close, if a sequence is given twice, or if the next start is not quiet.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "starts are timed, and a case that hangs is left behind")]

mod kinds;

use super::disk_store::DiskStore;
use super::store::Store;
use super::test_support::{MIB, NOW_US, all_blocks, clock, commit, draft, options};
use super::{Lane, LaneChange, Opened, Run};
use crate::block::Block;
use crate::block::columns::Frame;
use crate::block::records::{self, Gap, GapReason, Record, RecordBody};
use crate::reading::{Sequence, SequenceRange, Stream};
use fastrand::Rng;
use kinds::{KINDS, Kind, TARGETS, copy_tree, damage};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// A start on a damaged store of this size takes no longer, also on a busy machine. Alone it takes a tenth of a second.
const START_MAX: Duration = Duration::from_secs(60);

/// The smallest chunks there are, 2 MiB, are those of such a cap.
const DISK_BYTES_MAX: u64 = 32 * MIB;

/// A store as it was left, what was written to it, and older states of it.
struct Template {
    dir: tempfile::TempDir,
    older: tempfile::TempDir,
    written: BTreeMap<(Stream, Sequence), Block>,
    next: [Sequence; 6],
    lanes: Vec<(Stream, Lane)>,
}

/// A gap of another sink, so that the stream of gaps has something to lose.
fn earlier_gap(random: &mut Rng) -> Record {
    let range = SequenceRange { first: random.u64(..1_000), last: 2_000 };
    let gap = Gap {
        stream: Stream::Readings,
        range,
        first_time_us: 1,
        last_time_us: 2,
        reason: GapReason::Age,
        sinks: vec![("other".to_owned(), range)],
        in_flight: false,
    };
    Record { id: random.u64(..), time_us: NOW_US, body: RecordBody::Gap(gap) }
}

fn fill(store: &mut DiskStore, commits: usize, random: &mut Rng) {
    for _ in 0..commits {
        let mut drafts = Vec::new();
        for _ in 0..random.usize(1..=12) {
            let bytes = if random.u8(..) < 100 { random.usize(..400) } else { random.usize(400..5_800) };
            drafts.push(draft(Stream::Readings, random.u16(1..=500), bytes, random));
        }
        if random.u8(..) < 60 {
            drafts.push(draft(Stream::DeadLetters, random.u16(1..9), random.usize(..4_000), random));
        }
        if random.u8(..) < 60 {
            drafts.push(draft(Stream::Alerts, random.u16(1..9), random.usize(..900), random));
        }
        if random.u8(..) < 30 {
            let frame = Frame { boot_id: 1, base: clock().tick(), config_version: 1 };
            drafts.extend(records::encode(&[earlier_gap(random)], &frame).unwrap());
        }
        let snapshot = (random.u8(..) < 8).then(|| vec![7; 900]);
        store.commit(&super::Commit { drafts, snapshot, ..super::Commit::default() }).unwrap();
    }
}

/// Delivers about a third of what a lane has, and pins a run on what follows.
fn deliver(store: &mut DiskStore, stream: Stream, random: &mut Rng) {
    let mut lane = store.lane("cloud", stream).unwrap();
    let next = store.ends()[stream.index()].next;
    let done = (next - lane.cursor.from) * random.u64(..100) / 300;
    lane.delivered += done;
    lane.cursor.from += done;
    if lane.cursor.from < next && random.bool() {
        let range = SequenceRange { first: lane.cursor.from, last: (lane.cursor.from + 99).min(next - 1) };
        lane.run = Some(Run {
            range,
            covers_from: range.first,
            history: false,
            mark: 7,
            config_version: 1,
            render_version: 1,
            nodes: Vec::new(),
            held: Vec::new(),
        });
    }
    store.change_lane(&LaneChange { sink: "cloud".into(), stream, lane, records: Vec::new() }).unwrap();
}

fn open(dir: &Path) -> (DiskStore, Opened) {
    DiskStore::open(options(dir, DISK_BYTES_MAX), clock()).unwrap()
}

impl Template {
    fn make(seed: u64) -> Self {
        let (dir, older) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut random = Rng::with_seed(seed);
        let (mut store, _) = open(dir.path());
        for stream in Stream::DELIVERED {
            store.lane("cloud", stream).unwrap();
        }
        store.keep_config("# one").unwrap();
        fill(&mut store, 120, &mut random);
        deliver(&mut store, Stream::Readings, &mut random);
        drop(store);
        // An older state; of every second template it has all the chunks that there will be.
        if seed.is_multiple_of(2) {
            copy_tree(dir.path(), older.path());
        }
        let (mut store, _) = open(dir.path());
        fill(&mut store, if seed.is_multiple_of(2) { 5 } else { 40 }, &mut random);
        if seed % 2 == 1 {
            copy_tree(dir.path(), older.path());
        }
        for stream in Stream::DELIVERED {
            deliver(&mut store, stream, &mut random);
        }
        store.keep_config("# two").unwrap();
        fill(&mut store, 5, &mut random);
        let mut written = BTreeMap::new();
        for stream in Stream::DELIVERED {
            written
                .extend(all_blocks(&mut store, stream).into_iter().map(|block| ((stream, block.range.first), block)));
        }
        let next = store.ends().map(|ends| ends.next);
        let lanes = Stream::DELIVERED.map(|stream| (stream, store.lane("cloud", stream).unwrap())).to_vec();
        drop(store);
        Self { dir, older, written, next, lanes }
    }

    /// Where a target lies in this store; none if it has no such file.
    fn place(&self, target: &str, random: &mut Rng) -> Option<PathBuf> {
        let root = self.dir.path().join("buffer");
        let mut paths = vec![PathBuf::new()];
        for part in target.split('/') {
            let mut found = Vec::new();
            for path in paths {
                let names =
                    fs::read_dir(root.join(&path)).ok()?.flatten().filter_map(|e| e.file_name().into_string().ok());
                let wanted =
                    |name: &String| part == "*" || name == part || (part == "snap" && name.starts_with("snap."));
                found.extend(names.filter(wanted).map(|name| path.join(name)));
            }
            found.sort();
            paths = found;
        }
        random.choice(paths)
    }
}

/// What became of the records of a case, or of many.
#[derive(Clone, Copy, Debug, Default)]
struct Outcome {
    cases: u64,
    held: u64,
    served: u64,
    /// Not served and told: as a gap to the sink that had not got them.
    gap: u64,
    /// Not served, and every sink had them.
    had: u64,
    /// In the quarantine with their whole store, and told to a person.
    aside: u64,
    lost: u64,
    wrong: u64,
    fresh_epochs: u64,
    slowest_ms: u128,
}

impl Outcome {
    fn add(&mut self, other: &Self) {
        self.cases += other.cases;
        self.held += other.held;
        self.served += other.served;
        self.gap += other.gap;
        self.had += other.had;
        self.aside += other.aside;
        self.lost += other.lost;
        self.wrong += other.wrong;
        self.fresh_epochs += other.fresh_epochs;
        self.slowest_ms = self.slowest_ms.max(other.slowest_ms);
    }
}

/// Opens a damaged store and looks at everything in it.
fn check(template: &Template, dir: &Path) -> Result<Outcome, String> {
    let begun = Instant::now();
    let (mut store, opened) = DiskStore::open(options(dir, DISK_BYTES_MAX), clock())
        .map_err(|error| format!("it does not start: {error}"))?;
    let held: u64 = template.written.values().map(|block| block.range.count()).sum();
    let mut outcome = Outcome { cases: 1, held, slowest_ms: begun.elapsed().as_millis(), ..Outcome::default() };
    let mut served: BTreeMap<Stream, Vec<Block>> = BTreeMap::new();
    for stream in [Stream::Readings, Stream::DeadLetters, Stream::Alerts, Stream::Gaps] {
        served.insert(stream, all_blocks(&mut store, stream));
    }
    // Gaps may be written while the others are read.
    let gaps = told(&served[&Stream::Gaps]);
    if opened.fresh_epoch {
        if opened.quarantined.is_empty() {
            return Err("a new epoch without a word".to_owned());
        }
        outcome.fresh_epochs = 1;
        outcome.aside = held;
        outcome.wrong = served.values().flatten().map(|block| block.range.count()).sum();
    } else {
        for (stream, lane_before) in &template.lanes {
            let blocks = &served[stream];
            let next = store.ends()[stream.index()].next;
            let before = template.next[stream.index()];
            for block in blocks.iter().filter(|block| block.range.first < before) {
                if template.written.get(&(*stream, block.range.first)) == Some(block) {
                    outcome.served += block.range.count();
                } else {
                    outcome.wrong += block.range.count();
                }
            }
            outcome.lost += before.saturating_sub(next);
            let lane = store.lane("cloud", *stream).map_err(|error| error.to_string())?;
            if !lane.closes(next) {
                return Err(format!("the books of {stream} do not close before {next}: {lane:?}"));
            }
            for sequence in missing(blocks, before) {
                if sequence < lane_before.cursor.from {
                    outcome.had += 1;
                } else if gaps
                    .iter()
                    .any(|(of, range)| of == stream && range.first <= sequence && sequence <= range.last)
                {
                    outcome.gap += 1;
                } else {
                    outcome.lost += 1;
                }
            }
        }
    }
    go_on(store, dir, &served, &mut outcome)?;
    Ok(outcome)
}

/// The sequences below `before` that no block has.
fn missing(blocks: &[Block], before: Sequence) -> Vec<Sequence> {
    let (mut missing, mut expected) = (Vec::new(), 0);
    for block in blocks {
        missing.extend(expected..block.range.first.min(before));
        expected = block.range.last + 1;
    }
    missing.extend(expected..before);
    missing
}

/// What gap records say that the sink lost.
fn told(gaps: &[Block]) -> Vec<(Stream, SequenceRange)> {
    let records = gaps.iter().flat_map(|block| block.records().unwrap());
    let gaps = records.filter_map(|numbered| match numbered.record.body {
        RecordBody::Gap(gap) => Some(gap),
        _ => None,
    });
    gaps.flat_map(|gap| {
        let stream = gap.stream;
        gap.sinks.into_iter().filter(|(sink, _)| sink == "cloud").map(move |(_, range)| (stream, range))
    })
    .collect()
}

/// New records are taken and read back, also after the next start, which has nothing to tell.
fn go_on(
    mut store: DiskStore,
    dir: &Path,
    served: &BTreeMap<Stream, Vec<Block>>,
    outcome: &mut Outcome,
) -> Result<(), String> {
    let next = store.ends()[Stream::Readings.index()].next;
    let fresh = commit(vec![draft(Stream::Readings, 9, 90, &mut Rng::with_seed(1))]);
    let committed = store.commit(&fresh).map_err(|error| format!("it takes nothing more: {error}"))?;
    if committed.ranges.first().map(|range| range.first) != Some(next) {
        return Err(format!("what comes next got {committed:?} instead of {next}"));
    }
    let epoch = store.blocks(Stream::Readings, next, 1).map_err(|error| error.to_string())?[0].epoch;
    drop(store);
    let begun = Instant::now();
    let (mut store, again) =
        DiskStore::open(options(dir, DISK_BYTES_MAX), clock()).map_err(|error| format!("no second start: {error}"))?;
    outcome.slowest_ms = outcome.slowest_ms.max(begun.elapsed().as_millis());
    if again.fresh_epoch || again.epoch != Some(epoch) || !again.quarantined.is_empty() {
        return Err(format!("the second start is not quiet: {:?}", again.quarantined));
    }
    for stream in Stream::DELIVERED {
        let blocks = all_blocks(&mut store, stream);
        let old: Vec<&Block> = served.get(&stream).into_iter().flatten().collect();
        let kept = blocks.iter().zip(&old).filter(|(a, b)| a == *b).count();
        let more = usize::from(stream == Stream::Readings);
        if kept != old.len() || (stream != Stream::Gaps && blocks.len() != old.len() + more) {
            return Err(format!(
                "after the second start {stream} has {} blocks, {} of {} as before",
                blocks.len(),
                kept,
                old.len()
            ));
        }
    }
    Ok(())
}

/// One case on a copy of its own; none if the damage cannot be done there.
fn case(template: &'static Template, kind: Kind, target: &str, seed: u64) -> Option<Result<Outcome, String>> {
    let mut random = Rng::with_seed(seed);
    let place = template.place(target, &mut random)?;
    let dir = tempfile::tempdir().unwrap();
    copy_tree(template.dir.path(), dir.path());
    if !damage(kind, &dir.path().join("buffer"), &place, template.older.path(), &mut random) {
        return None;
    }
    // On a thread of its own, which is left behind if it never ends.
    let (done, end) = mpsc::channel();
    let path = dir.path().to_owned();
    let worker = std::thread::spawn(move || drop(done.send(check(template, &path))));
    let result = match end.recv_timeout(START_MAX) {
        Ok(result) => result,
        Err(mpsc::RecvTimeoutError::Timeout) => Err("it does not end".to_owned()),
        Err(mpsc::RecvTimeoutError::Disconnected) => Err(format!(
            "it panicked: {:?}",
            worker.join().err().map(|panic| {
                panic
                    .downcast_ref::<String>()
                    .cloned()
                    .or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string))
            })
        )),
    };
    Some(result.map_err(|error| format!("{kind:?} of {} (seed {seed}): {error}", place.display())))
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn whatever_file_is_damaged_the_store_starts_serves_nothing_wrong_and_tells_what_is_lost() {
    let (cases, seed) = (number("DAMAGE_CASES", 40), number("DAMAGE_SEED", 1));
    let templates: u64 = if cases > 200 { 6 } else { 2 };
    // Threads may outlive the test that left them behind.
    let templates: Vec<&'static Template> =
        (0..templates).map(|number| &*Box::leak(Box::new(Template::make(seed * 100 + number)))).collect();
    let mut table: BTreeMap<(Kind, &str), Outcome> = BTreeMap::new();
    let mut failures = Vec::new();
    let mut done = 0;
    let mut random = Rng::with_seed(seed);
    // All of it in an order that a seed gives, over and over: a short run has some of each.
    let mut all: Vec<(Kind, &str)> =
        KINDS.iter().flat_map(|(kind, _)| TARGETS.iter().map(|target| (*kind, *target))).collect();
    random.shuffle(&mut all);
    for (index, (kind, target)) in (0..cases * 4).zip(all.iter().cycle()) {
        if done == cases {
            break;
        }
        let template = templates[usize::try_from(index).unwrap() / all.len() % templates.len()];
        let template =
            if index % 2 == 0 { template } else { templates[usize::try_from(index).unwrap() % templates.len()] };
        let Some(result) = case(template, *kind, target, seed << 32 | index) else { continue };
        done += 1;
        match result {
            Ok(outcome) => {
                if outcome.lost > 0 || outcome.wrong > 0 {
                    failures.push(format!("{kind:?} of {target} (case {index} of seed {seed}): {outcome:?}"));
                }
                table.entry((*kind, target)).or_default().add(&outcome);
            }
            Err(error) => failures.push(error),
        }
    }
    print(&table);
    for template in &templates {
        // They are leaked, so nobody else removes what they hold on disk.
        fs::remove_dir_all(template.dir.path()).ok();
        fs::remove_dir_all(template.older.path()).ok();
    }
    assert!(failures.is_empty(), "{} of {done} cases failed:\n{}", failures.len(), failures.join("\n"));
}

fn print(table: &BTreeMap<(Kind, &str), Outcome>) {
    let row = |name: &str, outcome: &Outcome| {
        println!(
            "| {name:<55} | {:>5} | {:>10} | {:>10} | {:>8} | {:>8} | {:>9} | {:>4} | {:>5} | {:>8} | {:>6} |",
            outcome.cases,
            outcome.held,
            outcome.served,
            outcome.gap,
            outcome.had,
            outcome.aside,
            outcome.lost,
            outcome.wrong,
            outcome.fresh_epochs,
            outcome.slowest_ms
        );
    };
    println!(
        "| {:<55} | cases |       held |     served |      gap |      had | set aside | lost | wrong | epochs   | max ms |",
        "damage"
    );
    println!(
        "|{:-<57}|------:|-----------:|-----------:|---------:|---------:|----------:|-----:|------:|---------:|-------:|",
        ""
    );
    let mut total = Outcome::default();
    for (kind, words) in KINDS {
        let mut of_kind = Outcome::default();
        for ((_, target), outcome) in table.iter().filter(|((of, _), _)| *of == kind) {
            row(&format!("{words}: {target}"), outcome);
            of_kind.add(outcome);
        }
        total.add(&of_kind);
    }
    row("all", &total);
}
