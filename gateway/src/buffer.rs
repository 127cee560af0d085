//! The buffer: blocks made durable before anything is acknowledged or readable, and the ledger of what each sink has.
//!
//! One thread owns the store; everyone else holds a [`Buffer`] and talks to it through a bounded channel. This file holds
//! the words; the files below implement them, from the thread down to the disk:
//!
//! ```text
//! owner ── Store (trait) ─┬─ disk_store ─┬─ ledger   cursors, index, holes, outbox: one small database, mirrored in memory
//!                         │              ├─ family   the chunks of one family: the active one, a few open sealed ones
//!                         │              ├─ salvage  what damaged chunks still hold
//!                         │              ├─ scan     a chunk's log as bytes: is it whole, which sound blocks are in it
//!                         │              └─ files    durable files, directories, usage, ballast
//!                         └─ memory_store            the model that the property tests compare with
//! sled_store: one sled database, made safe; ledger and chunks stand on it
//! merge, minutes: small blocks made full, and what their readings come to, once a chunk is sealed
//! times: which sequences hold the records of a time
//! lanes: what losing a range means for the books of a sink
//! ```

mod books;
#[cfg(test)]
mod books_tests;
mod chunk;
mod cipher;
mod copies;
#[cfg(test)]
mod damage_table;
#[cfg(test)]
mod damage_tests;
mod disk_store;
#[cfg(test)]
mod encryption_tests;
mod family;
mod files;
mod inspect;
mod lanes;
mod ledger;
#[cfg(test)]
mod limits_tests;
#[cfg(test)]
pub(crate) mod memory_disk;
#[cfg(test)]
pub(crate) mod memory_store;
mod merge;
#[cfg(test)]
mod merge_tests;
mod minutes;
#[cfg(test)]
mod model_tests;
mod owner;
mod replay;
mod replay_request;
mod salvage;
mod scan;
mod sled_store;
mod stopped;
mod store;
#[cfg(test)]
mod test_support;
mod times;
mod wear;

pub use books::{Books, StreamBooks};
pub use cipher::{Cipher, KeyError};
pub use copies::ChunkCopies;
pub use inspect::{ChunkName, ChunkReport, ExtentReport, LaneReport, RawBlock, Report, SetAside};
pub use minutes::{MINUTE_US, MinuteSummary, Minutes, Numbers};
pub use owner::Buffer;
pub use replay::{
    REPLAY_PATTERN_BYTES_MAX, REPLAY_PATTERNS_MAX, REPLAYS_KEPT, REPLAYS_MAX, Replay, ReplayRun, ReplayState,
};
pub use replay_request::{ReplayRequest, cancel_replay};
pub use sled_store::WRITES_TARGET;
pub use stopped::StoppedBuffer;
#[cfg(test)]
pub(crate) use test_support::{in_memory, in_small_memory};
pub use wear::{Card, Wear};

use crate::block::{Draft, records::Record};
use crate::reading::{Epoch, PointId, Sequence, SequenceRange, Stream, TimeQuality, UnixMicros};
use crate::site::PointKey;
use crate::status::SourceBooks;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Most undelivered ranges of one lane: one, unless live readings go before history.
pub const CURSOR_RANGES_MAX: usize = 8;

/// What a sink still has to deliver of one stream: closed ranges, oldest first, then everything from `from` on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Undelivered ranges below `from`, ascending, at most [`CURSOR_RANGES_MAX`] − 1.
    pub ranges: Vec<SequenceRange>,
    /// Everything from this sequence on is undelivered.
    pub from: Sequence,
}

/// A run: consecutive sequences that a sink offers as one request or transaction. In the ledger before the first attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// What it carries.
    pub range: SequenceRange,
    /// The first sequence that the sink knows of once it has the run: the records from here to the range were passed over
    /// since the run before, because they are not for this sink.
    pub covers_from: Sequence,
    /// Tells this run from one that another copy of the data directory pinned at the same sequences. A sink that keeps a cursor
    /// keeps the mark of the run that moved it.
    pub mark: u64,
    /// It belongs to the backlog of a sink where live readings go first.
    pub history: bool,
    /// The configuration that renders it.
    pub config_version: u32,
    /// The version of the rendering code that renders it.
    pub render_version: u8,
    /// While it is bisected: the nodes of its halving tree still to offer, the next one last. Empty before any refusal.
    pub nodes: Vec<SequenceRange>,
    /// Records refused while nothing proves yet that the sink takes anything; the cursor has passed them, but they are
    /// undelivered until the first success makes dead letters of them.
    pub held: Vec<Sequence>,
}

/// Bytes sent on one day, for a link that has a budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentToday {
    /// The day, counted from 1970-01-01 in UTC.
    pub day: u32,
    /// Bytes sent on it for alerts, gaps, dead letters and live readings.
    pub live_bytes: u64,
    /// Bytes sent on it for history and replays.
    pub history_bytes: u64,
}

/// The books and the place of one sink in one stream; saved as one value, so that they never disagree.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lane {
    /// The first sequence that counts for this sink: the books begin here.
    pub since: Sequence,
    /// What is undelivered.
    pub cursor: Cursor,
    /// Where records that are not for this sink were passed over since the last offered run: the next run covers from here.
    pub skipped_from: Option<Sequence>,
    /// The same for history, where live readings go first.
    pub history_skipped_from: Option<Sequence>,
    /// What is undelivered below it was overtaken by newer records: it is history until it is drained, whatever the order is by
    /// then.
    pub overtaken_below: Sequence,
    /// The run under way, if any.
    pub run: Option<Run>,
    /// Records delivered.
    pub delivered: u64,
    /// Records that the sink was not to have.
    pub filtered: u64,
    /// Records that the sink refused.
    pub refused: u64,
    /// Records lost before the sink had them.
    pub gaps: u64,
    /// Where the sink's own cursor record stands (the Kafka offset to read the cursor topic from).
    pub remote_position: Option<i64>,
    /// What was sent of it today.
    pub sent: SentToday,
    /// Counts every change, so that an owner with an old copy cannot overwrite a newer one.
    pub revision: u64,
}

impl Run {
    /// A run that nothing was passed over for, whole, without a mark and not history.
    #[must_use]
    pub fn new(range: SequenceRange, config_version: u32, render_version: u8) -> Self {
        Self {
            range,
            covers_from: range.first,
            mark: 0,
            history: false,
            config_version,
            render_version,
            nodes: Vec::new(),
            held: Vec::new(),
        }
    }

    /// What it makes known to the sink: its own records and those passed over before it.
    #[must_use]
    pub fn covers(&self) -> SequenceRange {
        SequenceRange { first: self.covers_from, last: self.range.last }
    }
}

impl Lane {
    /// Whether the books close for a stream that ends before `next`: each sequence since this sink began was delivered,
    /// filtered, refused or lost, or is undelivered. Holds always, also after a crash at any point.
    #[must_use]
    pub fn closes(&self, next: Sequence) -> bool {
        let booked = [self.delivered, self.filtered, self.refused, self.gaps, self.undelivered(next)];
        booked.iter().try_fold(0_u64, |sum, count| sum.checked_add(*count)) == next.checked_sub(self.since)
    }

    /// Undelivered records of a stream that ends before `next`: those before the cursor that are held back count, too.
    #[must_use]
    pub fn undelivered(&self, next: Sequence) -> u64 {
        let held = self.run.as_ref().map_or(0, |run| run.held.len() as u64);
        let ranges = self.cursor.ranges.iter().map(|range| range.count()).sum::<u64>();
        ranges.saturating_add(next.saturating_sub(self.cursor.from)).saturating_add(held)
    }
}

/// Where a sink begins that was never seen before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// With the oldest record that the buffer still has.
    #[default]
    Oldest,
    /// With the next record.
    Now,
}

/// The lanes of a configured sink: what is undelivered in them is held for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkLanes {
    /// The sink's name.
    pub name: String,
    /// The streams that go to it.
    pub streams: Vec<Stream>,
}

impl From<&str> for SinkLanes {
    /// A sink that takes every stream there is for sinks.
    fn from(name: &str) -> Self {
        Self { name: name.to_owned(), streams: Stream::DELIVERED.to_vec() }
    }
}

/// Where a stream begins and ends on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamEnds {
    /// The oldest sequence still held; equal to `next` if none is.
    pub oldest: Sequence,
    /// The sequence that the next record will get: everything below is durable, or was dropped with a gap.
    pub next: Sequence,
}

/// The ends of every stream, by [`Stream::index`].
pub type Ends = [StreamEnds; 6];

/// What the disk really holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes that the buffer's files occupy.
    pub disk_bytes: u64,
    /// Bytes that they may occupy.
    pub disk_bytes_max: u64,
    /// Bytes set aside because they could not be read.
    pub quarantine_bytes: u64,
    /// Chunks on disk.
    pub chunks: u64,
    /// What each family occupies.
    pub families: [FamilyUsage; 4],
    /// Bytes free on the file system.
    pub free_bytes: u64,
    /// Bytes of it that stay free for other programs.
    pub free_bytes_min: u64,
    /// Time of the oldest record held, if any.
    pub oldest_time_us: Option<UnixMicros>,
    /// What is written to the card.
    pub wear: Wear,
}

/// What a family of streams occupies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FamilyUsage {
    /// Its name: vital (alerts, gaps), letters (dead letters), readings, raw.
    pub name: &'static str,
    /// Bytes that it occupies.
    pub disk_bytes: u64,
    /// Bytes that it may occupy.
    pub disk_bytes_max: u64,
}

/// How far the wall clock was ahead of a boot's monotonic clock, as it was decided once for that boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootOffset {
    /// Wall time minus monotonic time, in microseconds.
    pub offset_us: i64,
    /// How far the wall clock could be trusted when it was decided; never [`TimeQuality::Unset`].
    pub quality: TimeQuality,
}

/// One commit: what becomes durable together.
#[derive(Debug, Default)]
pub struct Commit {
    /// Points that the blocks name and the ledger does not hold yet.
    pub points: Vec<(PointId, Arc<PointKey>)>,
    /// Blocks of any streams, in order; the store gives them their sequences.
    pub drafts: Vec<Draft>,
    /// The judge's state to keep, with the sequence of readings that it has seen all below of.
    pub snapshot: Option<Vec<u8>>,
    /// The books of every source that ever was, as of this commit; they become durable with it.
    pub books: Option<BTreeMap<String, SourceBooks>>,
}

/// What a commit became.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// The sequences of each draft, in order.
    pub ranges: Vec<SequenceRange>,
}

/// A change of one lane, made atomically with the records that it gives rise to.
#[derive(Debug)]
pub struct LaneChange {
    /// The sink's name.
    pub sink: String,
    /// The stream.
    pub stream: Stream,
    /// The lane as it shall be, carrying the revision it was loaded with; the store counts it up.
    pub lane: Lane,
    /// Records (dead letters, alerts, gaps) that this change brings; appended exactly once, also across a crash.
    pub records: Vec<Record>,
}

/// Why the buffer could not do it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BufferError {
    /// There is no room and the policy is to wait.
    #[error(
        "{what} is full ({used_bytes} of {max_bytes} bytes) and `when_full = \"block\"`: sources wait until a sink has taken something"
    )]
    Full {
        /// What is full: the buffer, or a family's part of it.
        what: &'static str,
        /// What is used.
        used_bytes: u64,
        /// What may be used.
        max_bytes: u64,
    },
    /// The disk has no space.
    #[error("the disk has no space left for the buffer: {0}; free some space on the file system of data_dir")]
    DiskFull(String),
    /// This user may not write there.
    #[error(
        "the buffer may not be written: {0}; give data_dir to the user that runs forebay (chown -R forebay), or choose another data_dir"
    )]
    Forbidden(String),
    /// The file system takes no writes.
    #[error(
        "the buffer's file system is read-only: {0}; mount it writable; a card that turned read-only by itself is failing (dmesg): replace it"
    )]
    ReadOnly(String),
    /// The path no longer leads to the file system that held the buffer.
    #[error(
        "the buffer is not where it was: {0}; mount its file system again, or restart forebay to begin a new buffer here"
    )]
    Elsewhere(String),
    /// The disk failed.
    #[error("the buffer's disk failed: {0}; check the card and the file system (dmesg)")]
    Disk(String),
    /// What was read is not what was written.
    #[error("the buffer holds damaged data: {0}")]
    Damaged(String),
    /// The lane was changed by someone else since it was loaded (an eviction): load it again.
    #[error("the lane of sink {sink:?} and stream {stream} has changed; load it again")]
    Stale {
        /// The sink.
        sink: String,
        /// The stream.
        stream: Stream,
    },
    /// It is encrypted, and its key is not in the key file.
    #[error(
        "the buffer is encrypted under key {0}, which is not in the key file of buffer.encryption: put that key back, below the one that writes; nothing is lost until then"
    )]
    Locked(String),
    /// Another process has the data directory.
    #[error("data directory {0} is in use by another process; stop it first, or give this one its own data_dir")]
    InUse(String),
    /// Too many replays at once.
    #[error("{REPLAYS_MAX} replays are under way already; wait for one, or call one off (forebay replay --cancel)")]
    Replays,
    /// There is none.
    #[error("there is no buffer in {0}; check gateway.data_dir, or start the gateway once")]
    Absent(String),
    /// The owner thread is gone.
    #[error("the buffer is closed")]
    Closed,
}

/// When the buffer is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenFull {
    /// Stop taking readings: sources wait, brokers keep their messages, polls are missed.
    Block,
    /// Give up the oldest and record the gap.
    #[default]
    DropOldest,
}

/// What a family of streams may take; where nothing is said, a default holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limit {
    /// Most bytes that it may occupy: an eighth of the cap for alerts and for dead letters, all of it for the others.
    pub disk_bytes_max: Option<u64>,
    /// How old a record may become undelivered, in microseconds; then it is dropped with a gap. For ever if not said.
    pub age_max_us: Option<i64>,
    /// What to do when it is full; as for the whole buffer if not said.
    pub when_full: Option<WhenFull>,
}

/// The limits of each family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FamilyLimits {
    /// Alerts, gaps, missed.
    pub alerts: Limit,
    /// Dead letters.
    pub dead_letters: Limit,
    /// Readings and aggregates.
    pub readings: Limit,
    /// Raw payloads.
    pub raw: Limit,
}

/// What a store must know to be opened.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// `data_dir`; the store lives in its folder `buffer`.
    pub data_dir: std::path::PathBuf,
    /// Most bytes that it may occupy.
    pub disk_bytes_max: u64,
    /// What each family may take of it.
    pub limits: FamilyLimits,
    /// Bytes of the file system that stay free for other programs: 5 % if not said, 16 to 512 MiB.
    pub free_bytes_min: Option<u64>,
    /// What to do when it is full.
    pub when_full: WhenFull,
    /// What the card takes, if it is known.
    pub card: Option<Card>,
    /// How long delivered blocks are kept, in microseconds.
    pub keep_delivered_us: i64,
    /// What encrypts and decrypts; without keys everything is stored as it is.
    pub cipher: Cipher,
    /// The lanes of the configured sinks: other lanes hold nothing back.
    pub sinks: Vec<SinkLanes>,
}

impl StoreOptions {
    /// The defaults: 2 GiB, the oldest gives way, what is delivered is kept for 7 days, nothing is encrypted, there is no sink.
    #[must_use]
    pub fn new(data_dir: std::path::PathBuf) -> Self {
        Self {
            data_dir,
            disk_bytes_max: 2 << 30,
            limits: FamilyLimits::default(),
            free_bytes_min: None,
            when_full: WhenFull::default(),
            card: None,
            keep_delivered_us: 7 * 24 * 3_600 * 1_000_000,
            cipher: Cipher::default(),
            sinks: Vec::new(),
        }
    }

    /// Whether a lane belongs to a configured sink that takes its stream.
    #[must_use]
    pub fn has_lane(&self, sink: &str, stream: Stream) -> bool {
        self.sinks.iter().any(|lanes| lanes.name == sink && lanes.streams.contains(&stream))
    }
}

/// What a store found when it was opened.
#[derive(Clone, Debug, Default)]
pub struct Opened {
    /// The data directory's epoch.
    pub epoch: Option<Epoch>,
    /// Whether the epoch was made just now.
    pub fresh_epoch: bool,
    /// The points of the ledger, by id.
    pub points: Vec<PointKey>,
    /// The judge's last snapshot: the sequence of readings below which it has seen all, and its bytes.
    pub snapshot: Option<(Sequence, Vec<u8>)>,
    /// The configurations that lanes may still need, by version.
    pub configs: BTreeMap<u32, String>,
    /// The books of ingest, with what was found durable that nothing had counted.
    pub books: Books,
    /// What was set aside and why, for a person.
    pub quarantined: Vec<String>,
}
