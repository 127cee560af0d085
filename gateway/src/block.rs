//! Blocks: up to 500 records of one stream, immutable, checksummed, with all that is needed to read them again for ever.
//!
//! Format version 1 (docs/buffer-format.md has the table). All numbers are little endian:
//!
//! ```text
//! magic "FBB1" | version u8 | stream u8 | layout u8 | time quality u8 | flags u16 | count u16 | config version u32
//! epoch u128 | first sequence u64 | last sequence u64 | boot id u128 | mono base u64 | wall base i64
//! first time i64 | last time i64 | body length u32 | uncompressed length u32 | body (zstd) | CRC-32C u32 over all before
//! ```

pub mod columns;
pub mod records;
mod values;
mod varint;

use crate::reading::{Epoch, MonoMicros, PointId, Sequence, SequenceRange, Stream, TimeQuality, UnixMicros};
use bytes::Bytes;

/// First bytes of every block.
pub const MAGIC: [u8; 4] = *b"FBB1";
/// The version that this program writes.
pub const VERSION: u8 = 1;
/// Bytes before the body.
pub const HEADER_BYTES: usize = 104;
/// Where the header says how long the body is.
const BODY_LENGTH_AT: usize = 96;
/// Bytes after the body.
const CHECKSUM_BYTES: usize = 4;
/// Most records in a block.
pub const RECORDS_MAX: usize = 500;
/// Most bytes of a whole block: larger sled values would leave the log for files that are never synchronised.
pub const BLOCK_BYTES_MAX: usize = 6 * 1024;
/// Most bytes that a body may unpack to: a claim above it is damage, not data.
pub const UNPACKED_BYTES_MAX: usize = 1024 * 1024;

/// How a body is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Columns of readings.
    Columns,
    /// Records one after the other.
    Records,
}

/// The flags of a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockFlags(pub u16);

impl BlockFlags {
    /// The body is encrypted.
    pub const ENCRYPTED: u16 = 1;
    /// Made from smaller blocks; message hashes were dropped.
    pub const MERGED: u16 = 1 << 1;
}

/// Everything of a block but its place and its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// The stream.
    pub stream: Stream,
    /// How the body is laid out.
    pub layout: Layout,
    /// How far the wall base can be trusted.
    pub time_quality: TimeQuality,
    /// Flags.
    pub flags: BlockFlags,
    /// How many records it has, at most [`RECORDS_MAX`].
    pub count: u16,
    /// The configuration that judged it.
    pub config_version: u32,
    /// The boot whose monotonic clock is meant.
    pub boot_id: u128,
    /// Monotonic time that the body's receive times count from.
    pub mono_base_us: MonoMicros,
    /// Wall time at the monotonic base.
    pub wall_base_us: UnixMicros,
    /// Time of the earliest record.
    pub first_time_us: UnixMicros,
    /// Time of the latest record.
    pub last_time_us: UnixMicros,
    /// Length of the body before compression, in bytes.
    pub unpacked_bytes: u32,
}

/// A block that has no sequences yet: the store gives them at the commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// Everything but its place.
    pub meta: Meta,
    /// The compressed body.
    pub body: Vec<u8>,
    /// The distinct points that it names; none in a block of records.
    pub points: Vec<PointId>,
}

/// A block as it was read and checked: the checksum holds and the header makes sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The data directory it belongs to.
    pub epoch: Epoch,
    /// Its sequences.
    pub range: SequenceRange,
    /// The rest of its header.
    pub meta: Meta,
    /// The whole block.
    bytes: Bytes,
}

/// Why bytes are not a block.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum BlockError {
    /// Too short or too long.
    #[error("a block of {0} bytes cannot be")]
    Length(usize),
    /// It does not begin like a block.
    #[error("a block does not begin with {MAGIC:?}")]
    Magic,
    /// A newer program wrote it.
    #[error("block version {0} is newer than this program; update it")]
    Version(u8),
    /// The checksum does not hold.
    #[error("the checksum does not hold: the block says {stored:08x}, its bytes say {computed:08x}")]
    Checksum {
        /// What the block says.
        stored: u32,
        /// What its bytes say.
        computed: u32,
    },
    /// A header field cannot be.
    #[error("header field `{0}` cannot be")]
    Header(&'static str),
    /// The body cannot be unpacked or read.
    #[error("the body cannot be read: {0}")]
    Body(&'static str),
}

impl Draft {
    /// The finished block, beginning at `first`.
    #[must_use]
    pub fn seal(&self, epoch: Epoch, first: Sequence) -> Bytes {
        let meta = &self.meta;
        let last = first + u64::from(meta.count).saturating_sub(1);
        let mut out = Vec::with_capacity(HEADER_BYTES + self.body.len() + CHECKSUM_BYTES);
        out.extend_from_slice(&MAGIC);
        let layout = match meta.layout {
            Layout::Columns => 1,
            Layout::Records => 2,
        };
        out.extend_from_slice(&[VERSION, meta.stream.code(), layout, meta.time_quality.code()]);
        out.extend_from_slice(&meta.flags.0.to_le_bytes());
        out.extend_from_slice(&meta.count.to_le_bytes());
        out.extend_from_slice(&meta.config_version.to_le_bytes());
        out.extend_from_slice(&epoch.0.to_le_bytes());
        out.extend_from_slice(&first.to_le_bytes());
        out.extend_from_slice(&last.to_le_bytes());
        out.extend_from_slice(&meta.boot_id.to_le_bytes());
        out.extend_from_slice(&meta.mono_base_us.to_le_bytes());
        out.extend_from_slice(&meta.wall_base_us.to_le_bytes());
        out.extend_from_slice(&meta.first_time_us.to_le_bytes());
        out.extend_from_slice(&meta.last_time_us.to_le_bytes());
        // BLOCK_BYTES_MAX keeps the length far below u32::MAX.
        out.extend_from_slice(&u32::try_from(self.body.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend_from_slice(&meta.unpacked_bytes.to_le_bytes());
        out.extend_from_slice(&self.body);
        let checksum = crc32c::crc32c(&out);
        out.extend_from_slice(&checksum.to_le_bytes());
        out.into()
    }
}

impl Block {
    /// Reads a block's header and checks its checksum.
    ///
    /// # Errors
    /// If the bytes are not a whole, sound block that this program can read.
    pub fn parse(bytes: Bytes) -> Result<Self, BlockError> {
        if bytes.len() < HEADER_BYTES + CHECKSUM_BYTES || bytes.len() > 2 * BLOCK_BYTES_MAX {
            return Err(BlockError::Length(bytes.len()));
        }
        let mut fields = Fields(&bytes);
        if fields.take::<4>()? != MAGIC {
            return Err(BlockError::Magic);
        }
        let [version, stream, layout, time_quality] = fields.take()?;
        if version != VERSION {
            return Err(BlockError::Version(version));
        }
        let (checked, stored) = bytes.split_at(bytes.len() - CHECKSUM_BYTES);
        let stored = u32::from_le_bytes(stored.try_into().map_err(|_| BlockError::Length(bytes.len()))?);
        let computed = crc32c::crc32c(checked);
        if stored != computed {
            return Err(BlockError::Checksum { stored, computed });
        }
        let stream = Stream::from_code(stream).ok_or(BlockError::Header("stream"))?;
        let layout = match layout {
            1 => Layout::Columns,
            2 => Layout::Records,
            _ => return Err(BlockError::Header("layout")),
        };
        let time_quality = TimeQuality::from_code(time_quality).ok_or(BlockError::Header("time quality"))?;
        let flags = BlockFlags(u16::from_le_bytes(fields.take()?));
        let count = u16::from_le_bytes(fields.take()?);
        let config_version = u32::from_le_bytes(fields.take()?);
        let epoch = Epoch(u128::from_le_bytes(fields.take()?));
        let range =
            SequenceRange { first: u64::from_le_bytes(fields.take()?), last: u64::from_le_bytes(fields.take()?) };
        let boot_id = u128::from_le_bytes(fields.take()?);
        let mono_base_us = u64::from_le_bytes(fields.take()?);
        let wall_base_us = i64::from_le_bytes(fields.take()?);
        let first_time_us = i64::from_le_bytes(fields.take()?);
        let last_time_us = i64::from_le_bytes(fields.take()?);
        let body_bytes = u32::from_le_bytes(fields.take()?);
        let unpacked_bytes = u32::from_le_bytes(fields.take()?);
        if count == 0 || usize::from(count) > RECORDS_MAX {
            return Err(BlockError::Header("count"));
        }
        if range.first.checked_add(u64::from(count) - 1) != Some(range.last) {
            return Err(BlockError::Header("sequences"));
        }
        if body_bytes as usize != bytes.len() - HEADER_BYTES - CHECKSUM_BYTES {
            return Err(BlockError::Header("body length"));
        }
        if unpacked_bytes as usize > UNPACKED_BYTES_MAX {
            return Err(BlockError::Header("uncompressed length"));
        }
        let meta = Meta {
            stream,
            layout,
            time_quality,
            flags,
            count,
            config_version,
            boot_id,
            mono_base_us,
            wall_base_us,
            first_time_us,
            last_time_us,
            unpacked_bytes,
        };
        Ok(Self { epoch, range, meta, bytes })
    }

    /// The whole block, as it lies on disk.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The checksum that ends it.
    #[must_use]
    pub fn checksum(&self) -> u32 {
        self.bytes.last_chunk().map_or(0, |checksum| u32::from_le_bytes(*checksum))
    }

    /// How long the block claims to be that begins with these bytes; `None` if none does.
    #[must_use]
    pub fn bytes_at(bytes: &[u8]) -> Option<usize> {
        let body_bytes = bytes.get(BODY_LENGTH_AT..)?.first_chunk()?;
        let whole = HEADER_BYTES.saturating_add(u32::from_le_bytes(*body_bytes) as usize);
        bytes.starts_with(&MAGIC).then(|| whole.saturating_add(CHECKSUM_BYTES))
    }

    /// The unpacked body.
    ///
    /// # Errors
    /// If it cannot be unpacked to the length that the header says.
    fn unpack(&self) -> Result<Vec<u8>, BlockError> {
        let packed = self.bytes.get(HEADER_BYTES..self.bytes.len() - CHECKSUM_BYTES).unwrap_or_default();
        let body = zstd::bulk::decompress(packed, self.meta.unpacked_bytes as usize)
            .map_err(|_| BlockError::Body("it does not unpack"))?;
        if body.len() != self.meta.unpacked_bytes as usize {
            return Err(BlockError::Body("it unpacks to another length than the header says"));
        }
        Ok(body)
    }
}

/// Appends a column of values, as they lie in a block.
pub(crate) fn encode_values(out: &mut Vec<u8>, values: &[crate::reading::Value]) {
    if !values.is_empty() {
        values::encode(out, values.iter());
    }
}

/// Reads a column of `count` values from the front.
///
/// # Errors
/// If it is none.
pub(crate) fn decode_values(from: &mut &[u8], count: usize) -> Result<Vec<crate::reading::Value>, BlockError> {
    let mut reader = varint::Reader(from);
    let values = values::decode(&mut reader, count)?;
    *from = reader.0;
    Ok(values)
}

/// Takes fixed-size fields from the front.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], BlockError> {
        let (field, rest) = self.0.split_first_chunk::<N>().ok_or(BlockError::Header("length"))?;
        self.0 = rest;
        Ok(*field)
    }
}
