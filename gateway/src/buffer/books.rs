//! The books of ingest: what every source brought and what became of it, durable in the same batch as the records they count.
//!
//! A commit's books go with the last batch of its last chunk family, so they are there only if all of the commit is. A crash
//! between two families leaves records whose commit never finished: they count as recovered at the next start.

use crate::reading::{Sequence, Stream};
use crate::status::SourceBooks;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// First bytes of the value: a damaged chunk is searched for it.
pub(super) const MAGIC: [u8; 4] = *b"FBK1";
/// The length of what follows, after the magic.
const LENGTH_BYTES: usize = 4;
/// Version of the value.
const VERSION: u8 = 1;
const CHECKSUM_BYTES: usize = 4;

/// Most sources whose books are kept: as many as a configuration may have, and as many former ones.
const SOURCES_MAX: usize = 128;

/// Where the books of former sources are added up that are one too many; no source can be called so.
const OTHERS: &str = "";

/// Records of one stream since the epoch began, by who brought them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamBooks {
    /// Brought by commits of ingest.
    pub ingested: u64,
    /// Brought by the buffer and the deliveries themselves: gaps, refused records.
    pub own: u64,
    /// Found durable at a start though nothing durable counted them.
    pub recovered: u64,
}

impl StreamBooks {
    /// How many records that makes: the stream's next sequence.
    #[must_use]
    pub fn total(&self) -> Sequence {
        self.ingested.saturating_add(self.own).saturating_add(self.recovered)
    }
}

/// The books of ingest as of one commit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Books {
    /// Counts every change: of two the higher one is newer.
    pub revision: u64,
    /// Each source that ever was, by name.
    pub sources: BTreeMap<String, SourceBooks>,
    /// Each stream, by [`Stream::index`].
    pub streams: [StreamBooks; 6],
}

impl Books {
    /// Counts what a commit brings; the sources' books are cumulative, and stay as they are if it has none.
    pub(super) fn commit(&mut self, sources: Option<&BTreeMap<String, SourceBooks>>, counts: [u64; 6]) {
        self.revision += 1;
        if let Some(sources) = sources {
            self.sources.clone_from(sources);
            self.fold();
        }
        for (stream, count) in self.streams.iter_mut().zip(counts) {
            stream.ingested += count;
        }
    }

    /// Counts what the buffer itself wrote.
    pub(super) fn write_own(&mut self, counts: [u64; 6]) {
        self.revision += 1;
        for (stream, count) in self.streams.iter_mut().zip(counts) {
            stream.own += count;
        }
    }

    /// Counts what is durable and was never counted; says how much that is.
    pub(super) fn recover(&mut self, next: [Sequence; 6]) -> u64 {
        let mut all = 0;
        for (stream, next) in self.streams.iter_mut().zip(next) {
            let found = next.saturating_sub(stream.total());
            stream.recovered += found;
            all += found;
        }
        self.revision += u64::from(all > 0);
        all
    }

    /// The next sequences that the books vouch for: all below were durable once.
    pub(super) fn next(&self) -> [Sequence; 6] {
        self.streams.map(|stream| stream.total())
    }

    /// What does not add up, in words; nothing if the books close for streams that end before `next`.
    #[must_use]
    pub fn faults(&self, next: [Sequence; 6]) -> Vec<String> {
        let mut faults = Vec::new();
        for (name, SourceBooks { received, accepted, duplicate, rejected, .. }) in
            self.sources.iter().filter(|(_, books)| !books.closes())
        {
            faults.push(format!(
                "source {name:?} brought {received}, of which {accepted} were accepted, {duplicate} had come before and \
                 {rejected} were rejected"
            ));
        }
        let accepted: u64 = self.sources.values().map(|books| books.accepted).sum();
        let ingested = self.streams.get(Stream::Readings.index()).map_or(0, |stream| stream.ingested);
        if accepted != ingested {
            faults.push(format!("{accepted} readings were accepted, but {ingested} were stored"));
        }
        for stream in Stream::ALL {
            let Some((books, next)) = self.streams.get(stream.index()).zip(next.get(stream.index())) else { continue };
            if books.total() != *next {
                faults.push(format!("{} records of {stream} are in the books, but {next} on disk", books.total()));
            }
        }
        faults
    }

    /// Adds up former sources that are too many.
    fn fold(&mut self) {
        while self.sources.len() > SOURCES_MAX {
            let name = self.sources.keys().find(|name| *name != OTHERS).cloned();
            let Some((name, books)) = name.and_then(|name| self.sources.remove_entry(&name)) else { return };
            tracing::info!(name, "the books of a former source are added to those of the others");
            let others = self.sources.entry(OTHERS.to_owned()).or_default();
            others.received += books.received;
            others.accepted += books.accepted;
            others.duplicate += books.duplicate;
            others.rejected += books.rejected;
            others.missed += books.missed;
        }
    }

    /// How they lie in a chunk: `version u8 | postcard | CRC-32C u32`, little endian.
    pub(super) fn encode(&self) -> Vec<u8> {
        // Plain structs of numbers and strings always serialise.
        let value = postcard::to_extend(self, vec![VERSION]).unwrap_or_default();
        let length = u32::try_from(value.len() + CHECKSUM_BYTES).unwrap_or(u32::MAX);
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&value);
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        bytes
    }

    /// How long the books claim to be that begin with these bytes; `None` if none do.
    pub(super) fn bytes_at(bytes: &[u8]) -> Option<usize> {
        let length = bytes.strip_prefix(&MAGIC)?.first_chunk::<LENGTH_BYTES>()?;
        Some((MAGIC.len() + LENGTH_BYTES).saturating_add(u32::from_le_bytes(*length) as usize))
    }

    /// Reads them; `None` if they are not whole.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (checked, checksum) = bytes.split_last_chunk::<CHECKSUM_BYTES>()?;
        if crc32c::crc32c(checked) != u32::from_le_bytes(*checksum) {
            return None;
        }
        let (version, value) = checked.strip_prefix(&MAGIC)?.get(LENGTH_BYTES..)?.split_first()?;
        let (books, rest) = postcard::take_from_bytes(value).ok()?;
        (*version == VERSION && rest.is_empty()).then_some(books)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn source(received: u64, accepted: u64) -> SourceBooks {
        SourceBooks { received, accepted, duplicate: received - accepted, ..SourceBooks::default() }
    }

    #[test]
    fn books_come_back_as_they_were_written_and_damage_is_seen() {
        let mut books = Books::default();
        books.commit(Some(&BTreeMap::from([("bus".to_owned(), source(9, 7))])), [0, 7, 0, 0, 0, 0]);
        let mut bytes = books.encode();
        assert_eq!(Books::decode(&bytes), Some(books));
        bytes[3] ^= 1;
        assert_eq!(Books::decode(&bytes), None);
        assert_eq!(Books::decode(&[]), None);
    }

    #[test]
    fn what_no_commit_finished_is_recovered_once() {
        let readings = Stream::Readings.index();
        let mut counts = [0; 6];
        counts[readings] = 7;
        let mut books = Books::default();
        books.commit(Some(&BTreeMap::from([("bus".to_owned(), source(9, 7))])), counts);
        assert_eq!(books.faults(counts), Vec::<String>::new());
        let mut next = counts;
        next[readings] = 10;
        assert_eq!(books.faults(next), ["7 records of readings are in the books, but 10 on disk"]);
        assert_eq!((books.recover(next), books.recover(next)), (3, 0));
        assert_eq!(books.faults(next), Vec::<String>::new());
        assert_eq!(books.next(), next);
    }

    #[test]
    fn books_that_do_not_close_say_where() {
        let open = SourceBooks { received: 3, accepted: 1, ..SourceBooks::default() };
        let mut books = Books::default();
        books.commit(Some(&BTreeMap::from([("bus".to_owned(), open)])), [0; 6]);
        let faults = books.faults([0; 6]);
        assert!(faults[0].starts_with("source \"bus\" brought 3, of which 1 were accepted"), "{faults:?}");
        assert_eq!(faults[1], "1 readings were accepted, but 0 were stored");
    }

    #[test]
    fn former_sources_are_kept_up_to_a_limit_and_then_added_up() {
        let many = (0..200).map(|number| (format!("source-{number:03}"), source(2, 2))).collect();
        let mut books = Books::default();
        books.commit(Some(&many), [0; 6]);
        assert_eq!(books.sources.len(), SOURCES_MAX);
        assert_eq!(books.sources.values().map(|books| books.accepted).sum::<u64>(), 400);
        assert!(books.sources.contains_key("source-199"));
    }
}
