//! Looking into the buffer without changing it: what it says that it holds, and what lies there. For the tools.

use super::chunk::{ChunkId, ChunkInfo, ChunkState};
use super::{Ends, Lane};
use crate::reading::{Epoch, Sequence, SequenceRange, Stream, UnixMicros};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Names a chunk as its directory does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ChunkName {
    /// Its family: `vital`, `letters`, `readings`, `raw`.
    pub family: String,
    /// Its number there.
    pub number: u32,
}

impl fmt::Display for ChunkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{:08}", self.family, self.number)
    }
}

impl ChunkName {
    pub(super) fn of((family, number): ChunkId) -> Self {
        Self { family: family.name().to_owned(), number }
    }
}

/// What a chunk should hold of one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtentReport {
    /// The stream.
    pub stream: Stream,
    /// Its sequences.
    pub range: SequenceRange,
    /// Time of the earliest record.
    pub first_time_us: UnixMicros,
    /// Time of the latest record.
    pub last_time_us: UnixMicros,
}

/// What a chunk should hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkReport {
    /// The chunk.
    pub name: ChunkName,
    /// False while blocks are still added.
    pub is_sealed: bool,
    /// Bytes on disk.
    pub bytes: u64,
    /// By stream.
    pub extents: Vec<ExtentReport>,
}

/// The books of a sink in a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneReport {
    /// The sink's name; it may be of an older configuration.
    pub sink: String,
    /// The stream.
    pub stream: Stream,
    /// The books.
    pub lane: Lane,
}

/// Something that could not be read and was set aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetAside {
    /// Its name in the quarantine.
    pub name: String,
    /// Bytes on disk.
    pub bytes: u64,
}

/// What a buffer says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Its epoch, in JSON as 32 digits: JSON values hold no numbers of 128 bits.
    #[serde(with = "epoch_digits")]
    pub epoch: Epoch,
    /// Where each stream begins and ends.
    pub ends: Ends,
    /// Its chunks, by family and age.
    pub chunks: Vec<ChunkReport>,
    /// Its lanes.
    pub lanes: Vec<LaneReport>,
    /// Sequences known to be lost to damage.
    pub holes: Vec<(Stream, SequenceRange)>,
    /// Records that wait in the ledger to be appended, in blocks.
    pub promised_blocks: u64,
    /// How many points it knows.
    pub points: u64,
    /// Bytes that all of it occupies.
    pub disk_bytes: u64,
    /// Bytes free on the file system.
    pub free_bytes: u64,
    /// What was set aside.
    pub quarantine: Vec<SetAside>,
    /// What is wrong beside the chunks, for a person.
    pub problems: Vec<String>,
}

/// A block as it lies in a chunk, unchecked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawBlock {
    /// The first sequence, as its key says.
    pub first: Sequence,
    /// What lies there.
    pub bytes: Bytes,
}

mod epoch_digits {
    //! An epoch as text.

    use crate::reading::Epoch;
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(epoch: &Epoch, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(epoch)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Epoch, D::Error> {
        let digits = String::deserialize(deserializer)?;
        u128::from_str_radix(&digits, 16).map(Epoch).map_err(D::Error::custom)
    }
}

/// The chunks of an index that hold anything.
pub(super) fn chunk_reports(index: &BTreeMap<ChunkId, ChunkInfo>, bytes: impl Fn(ChunkId) -> u64) -> Vec<ChunkReport> {
    let held = index.iter().filter(|(_, info)| info.state != ChunkState::Dropped && !info.extents.is_empty());
    let report = |(id, info): (&ChunkId, &ChunkInfo)| {
        let extent = |extent: &super::chunk::Extent| ExtentReport {
            stream: extent.stream,
            range: extent.range,
            first_time_us: extent.first_time_us,
            last_time_us: extent.last_time_us,
        };
        ChunkReport {
            name: ChunkName::of(*id),
            is_sealed: info.state == ChunkState::Sealed,
            bytes: bytes(*id),
            extents: info.extents.iter().map(extent).collect(),
        }
    };
    held.map(report).collect()
}

/// The lanes of a ledger.
pub(super) fn lane_reports(lanes: &BTreeMap<(String, Stream), Lane>) -> Vec<LaneReport> {
    let report = |((sink, stream), lane): (&(String, Stream), &Lane)| LaneReport {
        sink: sink.clone(),
        stream: *stream,
        lane: lane.clone(),
    };
    lanes.iter().map(report).collect()
}

/// The holes of a ledger.
pub(super) fn hole_reports(holes: &[Vec<SequenceRange>; 6]) -> Vec<(Stream, SequenceRange)> {
    let of = |stream: Stream| holes.get(stream.index()).into_iter().flatten().map(move |hole| (stream, *hole));
    Stream::ALL.into_iter().flat_map(of).collect()
}
