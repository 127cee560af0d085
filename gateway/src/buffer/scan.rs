//! The log of a chunk as plain bytes: whether it is whole, and every sound block in it, wherever it lies.
//!
//! sled opens a log to write on: from the first message that it cannot read among the newest ones it clears everything that
//! follows, and one flipped bit can cost a chunk. So a log is looked at before it is opened, and one that is not whole is never
//! opened: what it holds is found in its bytes. Values lie in it verbatim and in one piece, most of them several times, since
//! pages are written again as they grow. The layout is that of sled 0.34 (its `pagecache/logger.rs`):
//!
//! ```text
//! segment: CRC-32 inverted u32 | lsn ^ i64::MAX | stable lsn ^ i64::MAX | messages, up to a cap or the end
//! message: CRC-32 inverted u32 | kind u8 | length varint | segment number varint | page varint | body
//! ```

use super::cipher::{self, Cipher};
use super::sled_store::SEGMENT_BYTES;
use super::{Books, BufferError, books, files};
use crate::block::{self, Block};
use crate::reading::{Epoch, Sequence, SequenceRange, Stream, UnixMicros};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufRead;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// A longer log is no chunk's: a full chunk is 16 MB and a batch more. What lies behind is not looked at.
const LOG_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Bytes before the first message of a segment.
const SEGMENT_HEADER_BYTES: usize = 20;

/// With less room left in a segment, no message begins there.
const MESSAGE_HEADER_BYTES_MAX: usize = 32;

/// Where a page of the disk cannot be read, the others around it still can.
const PAGE_BYTES: usize = 4096;

/// A key that is asked for so often is missing; one asked for once is a flipped bit in its name.
const LOCKED_MIN: u32 = 2;

/// How many books are kept: those of the last batch may not count, those of the one before it do.
const BOOKS_MAX: usize = 8;

const BATCH: u8 = 3;
const CAP: u8 = 2;
const KIND_MAX: u8 = 11;

/// What a look at a log says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// It can be opened: nothing of it will be cleared.
    Whole,
    /// Its newest part is broken, as a power cut in the middle of a batch leaves it.
    Torn(String),
    /// It is broken where no power cut reaches, or is no log at all.
    Broken(String),
}

/// A log, to be read only.
pub(super) struct Log {
    file: File,
    path: PathBuf,
    bytes: u64,
}

/// Where a sound block lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Which of the logs that were looked through.
    pub(super) log: usize,
    /// Its first byte there.
    at: u64,
    /// Bytes that it occupies there.
    bytes: usize,
    /// Later ones supersede earlier ones.
    lsn: i64,
    /// Times of its earliest and its latest record.
    pub(super) times: (UnixMicros, UnixMicros),
}

/// Sound blocks by stream and sequences; those with the same name and other content stand beside each other.
#[derive(Default)]
pub(super) struct Found {
    places: BTreeMap<(Stream, Sequence, Sequence, u32), Place>,
    /// Blocks of the epoch that nobody asked for: one for each log.
    pub(super) strangers: BTreeMap<usize, (Stream, Sequence)>,
    /// The newest books of ingest, by revision. Those of a batch that was never whole may be among them.
    pub(super) books: BTreeMap<u64, Books>,
    locked: BTreeMap<String, u32>,
}

impl Found {
    /// Blocks that do not overlap, by sequence; of those that do, the one that was written last.
    pub(super) fn newest(&self, stream: Stream) -> BTreeMap<Sequence, (SequenceRange, Place)> {
        let of_stream = self.places.iter().filter(|((of, ..), _)| *of == stream);
        let mut by_age: Vec<(SequenceRange, Place)> = of_stream
            .map(|((_, first, last, _), place)| (SequenceRange { first: *first, last: *last }, *place))
            .collect();
        by_age.sort_by_key(|(range, place)| (std::cmp::Reverse(place.lsn), *range));
        let mut chosen: BTreeMap<Sequence, (SequenceRange, Place)> = BTreeMap::new();
        for (range, place) in by_age {
            let before = chosen.range(..=range.last).next_back();
            if before.is_none_or(|(_, (held, _))| held.overlap(range).is_none()) {
                chosen.insert(range.first, (range, place));
            }
        }
        chosen
    }

    /// Whether anything wanted was found in a log.
    pub(super) fn is_from(&self, log: usize) -> bool {
        self.places.values().any(|place| place.log == log)
    }

    /// The sequence after the last one that follows on `next` without a hole.
    pub(super) fn follow(&self, stream: Stream, mut next: Sequence) -> Sequence {
        let newest = self.newest(stream);
        while let Some((_, (held, _))) = newest.range(..=next).next_back().filter(|(_, (held, _))| held.last >= next) {
            next = held.last.saturating_add(1);
        }
        next
    }
}

impl Log {
    /// Opens the log of a chunk's directory for reading.
    pub(super) fn open(path: PathBuf) -> Result<Self, BufferError> {
        let no_log = |what: &str| BufferError::Damaged(format!("{} {what}", path.display()));
        let file = File::open(&path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => no_log("is gone"),
            _ => files::error("open", &path, &e),
        })?;
        let meta = file.metadata().map_err(|e| files::error("look at", &path, &e))?;
        if !meta.is_file() {
            return Err(no_log("is no file"));
        }
        Ok(Self { file, bytes: meta.len().min(LOG_BYTES_MAX), path })
    }

    /// The same log, told by another path: a copy speaks of what it is a copy of.
    pub(super) fn told_as(self, path: PathBuf) -> Self {
        Self { path, ..self }
    }

    /// Looks through all of it: whether opening it will clear anything.
    pub(super) fn condition(&self) -> Condition {
        let name = self.path.display();
        let mut looked: Vec<Look> = Vec::new();
        let mut headless = Vec::new();
        let mut buffer = Vec::new();
        for at in self.segments() {
            if !self.read_segment(at, &mut buffer) {
                return Condition::Broken(format!("{name} cannot be read at byte {at}"));
            }
            match look(&buffer) {
                Ok(look) => looked.extend(look),
                Err(what) => headless.push(format!("{name} {what} in the segment at byte {at}")),
            }
        }
        // A batch is smaller than a segment, so a power cut in the middle of one takes the header of the newest segment at most.
        match headless.pop() {
            Some(what) if headless.is_empty() => return Condition::Torn(what),
            Some(what) => return Condition::Broken(what),
            None => {}
        }
        let tail = looked.iter().map(|look| look.stable).max().unwrap_or(0) / SEGMENT_LSN * SEGMENT_LSN;
        looked.sort_by_key(|look| look.lsn);
        if looked.windows(2).any(|pair| matches!(pair, [a, b] if a.lsn == b.lsn)) {
            return Condition::Broken(format!("{name} has a segment twice"));
        }
        let newest = looked.last().map_or(0, |look| look.lsn);
        for look in looked.iter().filter(|look| look.lsn < tail) {
            let what = format!("{name} is broken in the segment of lsn {}", look.lsn);
            match look.is_cut {
                // A batch may begin in one segment and end in the next, and the next may reach the disk first.
                true if look.lsn + SEGMENT_LSN == newest => return Condition::Torn(what),
                true => return Condition::Broken(what),
                false => {}
            }
        }
        // Opening reads the segments from here on one after the other and stops at the first fault.
        let tail: Vec<&Look> = looked.iter().filter(|look| look.lsn >= tail).collect();
        let followed = tail.windows(2).all(|pair| matches!(pair, [a, b] if a.lsn + SEGMENT_LSN == b.lsn && !a.is_cut));
        let end = tail.last().map_or(0, |look| look.end);
        let has_more = tail.last().is_some_and(|look| look.is_cut && look.has_more);
        if !followed || has_more || looked.iter().any(|look| look.batch_end >= end.max(1)) {
            return Condition::Torn(format!("{name} ends in a broken batch"));
        }
        Condition::Whole
    }

    /// Finds the sound blocks of an epoch. `wanted` says which to keep.
    ///
    /// # Errors
    /// [`BufferError::Locked`] if blocks are encrypted under a key that is not there.
    pub(super) fn find(
        &self,
        number: usize,
        (epoch, cipher): (Epoch, &Cipher),
        wanted: impl Fn(Stream, SequenceRange) -> bool,
        found: &mut Found,
    ) -> Result<(), BufferError> {
        let mut buffer = Vec::new();
        for base in self.segments() {
            self.read_segment(base, &mut buffer);
            let lsn = header(&buffer).map_or(-1, |(lsn, _)| lsn);
            let mut at = 0;
            while let Some(next) = next_magic(&buffer, at) {
                at = next + 1;
                let stored = buffer.get(next..).unwrap_or_default();
                match value_here(stored, cipher) {
                    Ok(Some((Value::Books(books), bytes))) => {
                        at = next + bytes;
                        found.books.insert(books.revision, books);
                        if found.books.len() > BOOKS_MAX {
                            found.books.pop_first();
                        }
                    }
                    Ok(Some((Value::Block(block), bytes))) if block.epoch == epoch => {
                        at = next + bytes;
                        let (stream, range) = (block.meta.stream, block.range);
                        if !wanted(stream, range) {
                            found.strangers.entry(number).or_insert((stream, range.first));
                            continue;
                        }
                        let times = (block.meta.first_time_us, block.meta.last_time_us);
                        let lsn = if lsn < 0 { lsn } else { lsn.saturating_add(i64::try_from(next).unwrap_or(0)) };
                        let place = Place { log: number, at: base + next as u64, bytes, lsn, times };
                        let held =
                            found.places.entry((stream, range.first, range.last, block.checksum())).or_insert(place);
                        if held.lsn < lsn {
                            *held = place;
                        }
                    }
                    Err(BufferError::Locked(key)) => {
                        let asked = found.locked.entry(key.clone()).or_default();
                        *asked += 1;
                        if *asked >= LOCKED_MIN {
                            return Err(BufferError::Locked(key));
                        }
                    }
                    // A block of another epoch, or none.
                    Ok(_) | Err(_) => {}
                }
            }
        }
        Ok(())
    }

    /// The first sound block of an epoch: whose log this is.
    pub(super) fn first_block(&self, epoch: Epoch, cipher: &Cipher) -> Option<(Stream, SequenceRange)> {
        let mut buffer = Vec::new();
        for base in self.segments() {
            self.read_segment(base, &mut buffer);
            let mut at = 0;
            while let Some(next) = next_magic(&buffer, at) {
                at = next + 1;
                let value = value_here(buffer.get(next..).unwrap_or_default(), cipher);
                if let Ok(Some((Value::Block(block), _))) = value
                    && block.epoch == epoch
                {
                    return Some((block.meta.stream, block.range));
                }
            }
        }
        None
    }

    /// Reads a block that was found; `None` if the disk gives something else now.
    pub(super) fn read(&self, place: &Place, cipher: &Cipher) -> Option<Block> {
        let mut stored = vec![0; place.bytes];
        self.file.read_exact_at(&mut stored, place.at).ok()?;
        match value_here(&stored, cipher) {
            Ok(Some((Value::Block(block), _))) => Some(block),
            _ => None,
        }
    }

    fn segments(&self) -> impl Iterator<Item = u64> + use<> {
        (0..self.bytes).step_by(SEGMENT_BYTES)
    }

    /// Reads a segment; false if not all of it can be read, then zeros stand for what is missing.
    fn read_segment(&self, at: u64, buffer: &mut Vec<u8>) -> bool {
        let bytes = usize::try_from(self.bytes - at).unwrap_or(SEGMENT_BYTES).min(SEGMENT_BYTES);
        buffer.clear();
        buffer.resize(bytes, 0);
        if self.file.read_exact_at(buffer, at).is_ok() {
            return true;
        }
        for (page, offset) in buffer.chunks_mut(PAGE_BYTES).zip((at..).step_by(PAGE_BYTES)) {
            if self.file.read_exact_at(page, offset).is_err() {
                page.fill(0);
            }
        }
        false
    }
}

/// How far one segment lies from the next in the log's own counting.
#[expect(clippy::cast_possible_wrap, reason = "half a mebibyte")]
const SEGMENT_LSN: i64 = SEGMENT_BYTES as i64;

/// What one segment says.
struct Look {
    lsn: i64,
    stable: i64,
    /// Where its last sound message ends.
    end: i64,
    /// It has no cap, and room for another message.
    is_cut: bool,
    /// Behind the end there are sound messages of the same segment.
    has_more: bool,
    /// Where the last batch that began here ends; 0 if none did.
    batch_end: i64,
}

/// Follows the messages of a segment; none if it was never used.
fn look(segment: &[u8]) -> Result<Option<Look>, &'static str> {
    let Some(head) = segment.first_chunk::<SEGMENT_HEADER_BYTES>() else { return Ok(None) };
    if head.iter().all(|byte| *byte == 0) {
        let is_empty = segment.iter().all(|byte| *byte == 0);
        return if is_empty { Ok(None) } else { Err("has messages without a header") };
    }
    let (lsn, stable) = header(segment).ok_or("has a broken header")?;
    let number = u64::try_from(lsn / SEGMENT_LSN).map_err(|_| "has a broken header")?;
    let (mut at, mut batch_end, mut is_cut) = (SEGMENT_HEADER_BYTES, 0, false);
    while at + MESSAGE_HEADER_BYTES_MAX <= SEGMENT_BYTES {
        let Some(message) = message(segment, at, number) else {
            is_cut = true;
            break;
        };
        if message.kind == CAP {
            break;
        }
        if message.kind == BATCH
            && let Some(end) = message.body.first_chunk()
        {
            batch_end = i64::from_le_bytes(*end);
        }
        at += message.bytes;
    }
    let has_more = is_cut && (at + 1..segment.len()).any(|behind| message(segment, behind, number).is_some());
    let end = lsn.saturating_add(i64::try_from(at).unwrap_or(0));
    Ok(Some(Look { lsn, stable, end, is_cut, has_more, batch_end }))
}

/// The log sequence number of a segment and the one that was stable when it was begun.
fn header(segment: &[u8]) -> Option<(i64, i64)> {
    let (checksum, rest) = segment.split_first_chunk::<4>()?;
    let (lsn, after) = rest.split_first_chunk::<8>()?;
    let (stable, _) = after.split_first_chunk::<8>()?;
    let computed = inverted_crc(&[rest.get(..16)?]);
    let number = |bytes: &[u8; 8]| i64::from_le_bytes(*bytes) ^ i64::MAX;
    (computed == u32::from_le_bytes(*checksum)).then(|| (number(lsn), number(stable)))
}

struct Message<'a> {
    kind: u8,
    body: &'a [u8],
    /// Header and body.
    bytes: usize,
}

/// The sound message that begins here.
fn message(segment: &[u8], at: usize, number: u64) -> Option<Message<'_>> {
    let whole = segment.get(at..)?;
    let (checksum, rest) = whole.split_first_chunk::<4>()?;
    let (kind, mut rest) = rest.split_first()?;
    if *kind == 0 || *kind > KIND_MAX {
        return None;
    }
    let length = usize::try_from(varint(&mut rest)?).ok()?;
    if varint(&mut rest)? != number {
        return None;
    }
    varint(&mut rest)?;
    let body = rest.get(..length)?;
    let head = whole.get(4..whole.len() - rest.len())?;
    let sound = inverted_crc(&[body, head]) == u32::from_le_bytes(*checksum);
    sound.then_some(Message { kind: *kind, body, bytes: 4 + head.len() + length })
}

/// sled's integers: one byte up to 240, two up to 2287, three up to 67823, else their length and bytes, little endian.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let (first, rest) = bytes.split_first()?;
    let first = u64::from(*first);
    let length = match first {
        0..=240 => 0,
        241..=248 => 1,
        249 => 2,
        _ => usize::try_from(first - 247).ok()?,
    };
    let (more, after) = rest.split_at_checked(length)?;
    *bytes = after;
    Some(match (first, more) {
        (241..=248, [low]) => 240 + 256 * (first - 241) + u64::from(*low),
        (249, [high, low]) => 2288 + 256 * u64::from(*high) + u64::from(*low),
        (250.., more) => more.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)),
        _ => first,
    })
}

fn inverted_crc(parts: &[&[u8]]) -> u32 {
    let mut crc = flate2::Crc::new();
    for part in parts {
        crc.update(part);
    }
    !crc.sum()
}

/// The next place from `at` on where a stored block may begin.
fn next_magic(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let mut rest = bytes.get(at..)?;
        let before = rest.len();
        // Looking for a byte in a slice cannot fail.
        at += rest.skip_until(block::MAGIC[0]).ok()?;
        if rest.len() == before || bytes.get(at - 1) != Some(&block::MAGIC[0]) {
            return None;
        }
        let here = bytes.get(at - 1..).unwrap_or_default();
        if [block::MAGIC, cipher::MAGIC, books::MAGIC].iter().any(|magic| here.starts_with(magic)) {
            return Some(at - 1);
        }
    }
}

/// What lies in a chunk beside points.
enum Value {
    Block(Block),
    Books(Books),
}

/// The sound value whose stored form begins here, plain or in an envelope, and how many bytes that form has.
fn value_here(bytes: &[u8], cipher: &Cipher) -> Result<Option<(Value, usize)>, BufferError> {
    let length = cipher::envelope_bytes(bytes).or_else(|| Block::bytes_at(bytes)).or_else(|| Books::bytes_at(bytes));
    let stored = length.filter(|length| *length <= STORED_BYTES_MAX).and_then(|length| bytes.get(..length));
    let Some(stored) = stored else { return Ok(None) };
    let plain = cipher.open(Bytes::copy_from_slice(stored))?;
    let value = match Books::decode(&plain) {
        Some(books) => Some(Value::Books(books)),
        None => Block::parse(plain).ok().map(Value::Block),
    };
    Ok(value.map(|value| (value, stored.len())))
}

/// Longest stored form of a value: books of a few thousand sources are longer than any block.
const STORED_BYTES_MAX: usize = SEGMENT_BYTES;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::buffer::chunk::{Chunk, Sealed};
    use crate::buffer::sled_store::LOG;
    use crate::buffer::test_support::draft;

    const EPOCH: Epoch = Epoch(7);

    /// Adds a block after `next`; gives the next sequence.
    fn add(chunk: &mut Chunk, next: Sequence, count: u16, bytes: usize, random: &mut fastrand::Rng) -> Sequence {
        let block = Block::parse(draft(Stream::Readings, count, bytes, random).seal(EPOCH, next)).unwrap();
        chunk.append(&[Sealed::again(&block, Vec::new())], None, |_| None).unwrap();
        block.range.last + 1
    }

    fn log(dir: &std::path::Path) -> Log {
        Log::open(dir.join(LOG)).unwrap()
    }

    #[test]
    fn a_power_cut_reaches_the_two_newest_segments_and_no_older_one() {
        let dir = tempfile::tempdir().unwrap();
        let mut random = fastrand::Rng::with_seed(2);
        let mut chunk = Chunk::open(dir.path(), &Cipher::default()).unwrap();
        let (path, mut next) = (dir.path().join(LOG), 0);
        let segment_bytes = SEGMENT_BYTES as u64;
        while path.metadata().unwrap().len() <= 3 * segment_bytes {
            next = add(&mut chunk, next, 500, 6_000, &mut random);
        }
        drop(chunk);
        let whole = std::fs::read(&path).unwrap();
        let newest = whole.chunks(SEGMENT_BYTES).filter_map(header).map(|(lsn, _)| lsn).max().unwrap();
        for (at, segment) in (0..).step_by(SEGMENT_BYTES).zip(whole.chunks(SEGMENT_BYTES)) {
            let Some((lsn, _)) = header(segment).filter(|(lsn, _)| *lsn < newest) else { continue };
            let mut bytes = whole.clone();
            bytes[at + SEGMENT_BYTES / 2..at + SEGMENT_BYTES].fill(0);
            std::fs::write(&path, bytes).unwrap();
            let is_torn = matches!(log(dir.path()).condition(), Condition::Torn(_));
            assert_eq!(is_torn, lsn + SEGMENT_LSN == newest, "segment of lsn {lsn}, the newest is {newest}");
        }
    }

    #[test]
    fn a_log_is_whole_after_every_batch_and_after_every_start() {
        let dir = tempfile::tempdir().unwrap();
        let mut random = fastrand::Rng::with_seed(1);
        let (mut next, mut looks) = (0, 0);
        for _ in 0..12 {
            let mut chunk = Chunk::open(dir.path(), &Cipher::default()).unwrap();
            for _ in 0..random.u32(1..60) {
                let bytes = if random.bool() { random.usize(..300) } else { random.usize(..6_000) };
                next = add(&mut chunk, next, random.u16(1..=500), bytes, &mut random);
                // A kill leaves what was written to the file.
                if random.u8(..) < 40 {
                    assert_eq!(log(dir.path()).condition(), Condition::Whole, "before sequence {next}");
                    looks += 1;
                }
            }
            drop(chunk);
            assert_eq!(log(dir.path()).condition(), Condition::Whole, "closed before sequence {next}");
        }
        assert!(looks > 20);
        let mut found = Found::default();
        log(dir.path()).find(0, (EPOCH, &Cipher::default()), |_, _| true, &mut found).unwrap();
        assert_eq!(found.follow(Stream::Readings, 0), next, "every block is in the bytes");
    }
}
