//! The receiver's books: which records it holds, by epoch, stream and sequence, and how often each came.

use flate2::read::GzDecoder;
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::Read as _;

/// Idempotency keys that are remembered: a sink has one run in flight per stream, so a retry is never older.
const KEYS_MAX: usize = 4_096;
/// Largest body after decompression, far above the gateway's 256 KiB.
const BODY_BYTES_MAX: u64 = 8 << 20;

/// What the receiver has of each stream and source.
#[derive(Debug, Default)]
pub(super) struct Books {
    keys: Keys,
    streams: BTreeMap<(String, String), Held>,
    sources: BTreeMap<String, OfSource>,
    /// Requests that came again under a known key and were not applied again.
    pub(super) recognised: u64,
    /// Requests that came again under a known key with other bytes: a retry must be the same.
    pub(super) conflicts: u64,
    /// Requests that could not be read.
    pub(super) unreadable: u64,
    /// Records of try-outs: someone pressed "Test it", and no plant sent them.
    pub(super) tests: u64,
    /// Records that someone asked for once more.
    pub(super) replayed: u64,
}

/// What a request carries, by its key (docs/record-format.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Errand {
    /// Records on their way, each once.
    Delivery,
    /// The record of a try-out: `gateway/test/…`.
    Test,
    /// Records of the past, asked for once more: `…/replay-7`.
    Replay,
}

impl Errand {
    fn of(key: &str) -> Self {
        let mut parts = key.split('/');
        if parts.clone().next_back().is_some_and(|last| last.starts_with("replay-")) {
            return Self::Replay;
        }
        if parts.nth(1) == Some("test") { Self::Test } else { Self::Delivery }
    }
}

/// What arrived of one source, each record once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct OfSource {
    /// Readings with a value.
    pub(super) values: u64,
    /// Readings that say why there is no value.
    pub(super) no_values: u64,
    /// Dead letters; one of several parts counts once.
    pub(super) dead_letters: u64,
}

/// What arrived of one stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct OfStream {
    /// Different records.
    pub(super) once: u64,
    /// Records that came again under another key.
    pub(super) repeated: u64,
}

/// Why a request was not applied.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It has no Idempotency-Key.
    NoKey,
    /// Its body is not lines of JSON with epoch and sequence.
    Unreadable,
    /// Its key is known, its bytes are not the same.
    Conflict,
}

/// What the books need of a record.
#[derive(Debug, Deserialize)]
struct Entry {
    epoch: String,
    seq: u64,
    #[serde(default)]
    source: String,
    #[serde(default)]
    value: Option<serde_json::Value>,
    #[serde(default)]
    part: u64,
}

/// The latest keys, each with the hash of its body.
#[derive(Debug, Default)]
struct Keys {
    order: VecDeque<String>,
    hashes: HashMap<String, u64>,
}

/// Sequences of one stream as runs, first to last: one run if nothing is missing.
#[derive(Debug, Default)]
struct Held {
    runs: BTreeMap<u64, u64>,
    counts: OfStream,
}

impl Books {
    /// Enters a request, or recognises that it has been entered.
    pub(super) fn enter(&mut self, stream: &str, key: Option<&str>, is_gzip: bool, body: &[u8]) -> Result<(), Refusal> {
        let Some(key) = key else {
            self.unreadable += 1;
            return Err(Refusal::NoKey);
        };
        let hash = hash(body);
        match self.keys.hashes.get(key) {
            Some(known) if *known == hash => {
                self.recognised += 1;
                return Ok(());
            }
            Some(_) => {
                self.conflicts += 1;
                return Err(Refusal::Conflict);
            }
            None => {}
        }
        let Some(entries) = entries(is_gzip, body) else {
            self.unreadable += 1;
            return Err(Refusal::Unreadable);
        };
        self.keys.remember(key, hash);
        match Errand::of(key) {
            Errand::Delivery => entries.iter().for_each(|entry| self.apply(stream, entry)),
            Errand::Test => self.tests += entries.len() as u64,
            Errand::Replay => self.replayed += entries.len() as u64,
        }
        Ok(())
    }

    fn apply(&mut self, stream: &str, entry: &Entry) {
        let held = self.streams.entry((stream.to_owned(), entry.epoch.clone())).or_default();
        if !held.insert(entry.seq) {
            return;
        }
        let source = self.sources.entry(entry.source.clone()).or_default();
        match stream {
            "readings" if entry.value.is_some() => source.values += 1,
            "readings" => source.no_values += 1,
            "dead-letters" if entry.part == 0 => source.dead_letters += 1,
            _ => {}
        }
    }

    /// What arrived of a stream, over all epochs.
    pub(super) fn stream(&self, name: &str) -> OfStream {
        let counts = self.streams.iter().filter(|((stream, _), _)| stream == name).map(|(_, held)| held.counts);
        counts.fold(OfStream::default(), |sum, counts| OfStream {
            once: sum.once + counts.once,
            repeated: sum.repeated + counts.repeated,
        })
    }

    /// What arrived of a source.
    pub(super) fn source(&self, name: &str) -> OfSource {
        self.sources.get(name).copied().unwrap_or_default()
    }
}

impl Keys {
    fn remember(&mut self, key: &str, hash: u64) {
        if self.order.len() >= KEYS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.hashes.remove(&oldest);
        }
        self.order.push_back(key.to_owned());
        self.hashes.insert(key.to_owned(), hash);
    }
}

impl Held {
    /// Takes a sequence; says whether it is new.
    fn insert(&mut self, sequence: u64) -> bool {
        let before = self.runs.range(..=sequence).next_back().map(|(first, last)| (*first, *last));
        if before.is_some_and(|(_, last)| last >= sequence) {
            self.counts.repeated += 1;
            return false;
        }
        self.counts.once += 1;
        let first = before.filter(|(_, last)| last + 1 == sequence).map_or(sequence, |(first, _)| first);
        let last = sequence.checked_add(1).and_then(|next| self.runs.remove(&next)).unwrap_or(sequence);
        self.runs.insert(first, last);
        true
    }
}

fn hash(body: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    hasher.finish()
}

/// The records of a body of NDJSON; `None` if any of it cannot be read.
fn entries(is_gzip: bool, body: &[u8]) -> Option<Vec<Entry>> {
    let mut text = Vec::new();
    if is_gzip {
        GzDecoder::new(body).take(BODY_BYTES_MAX).read_to_end(&mut text).ok()?;
    } else {
        text.extend_from_slice(body);
    }
    serde_json::Deserializer::from_slice(&text).into_iter().collect::<Result<_, _>>().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use proptest::prelude::*;
    use std::io::Write as _;

    fn reading(seq: u64, value: &str) -> String {
        format!(r#"{{"v":1,"epoch":"e","seq":{seq},"source":"s","value":{value}}}"#)
    }

    fn gzip(lines: &[String]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(lines.join("\n").as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_retry_under_the_same_key_is_not_counted_and_other_bytes_under_it_are_a_conflict() {
        let mut books = Books::default();
        let body = gzip(&[reading(0, "1.5"), reading(1, "null"), reading(2, "true")]);
        books.enter("readings", Some("k/0-2"), true, &body).unwrap();
        books.enter("readings", Some("k/0-2"), true, &body).unwrap();
        assert_eq!(books.stream("readings"), OfStream { once: 3, repeated: 0 });
        assert_eq!(books.source("s"), OfSource { values: 2, no_values: 1, dead_letters: 0 });
        assert_eq!(books.recognised, 1);
        let other = gzip(&[reading(0, "2.5")]);
        assert_eq!(books.enter("readings", Some("k/0-2"), true, &other), Err(Refusal::Conflict));
    }

    #[test]
    fn the_same_record_under_another_key_is_a_repetition() {
        let mut books = Books::default();
        books.enter("readings", Some("a"), false, reading(4, "1").as_bytes()).unwrap();
        books.enter("readings", Some("b"), false, reading(4, "1").as_bytes()).unwrap();
        books.enter("alerts", Some("c"), false, reading(4, "1").as_bytes()).unwrap();
        assert_eq!(books.stream("readings"), OfStream { once: 1, repeated: 1 });
        assert_eq!(books.stream("alerts"), OfStream { once: 1, repeated: 0 });
    }

    #[test]
    fn a_try_out_and_what_is_asked_for_once_more_are_counted_apart() {
        let mut books = Books::default();
        books.enter("readings", Some("demo/e/cloud/readings/4-4"), false, reading(4, "1").as_bytes()).unwrap();
        books.enter("readings", Some("demo/e/cloud/readings/4-4/replay-1"), false, reading(4, "1").as_bytes()).unwrap();
        books.enter("readings", Some("demo/test/cloud/77"), false, reading(0, "1").as_bytes()).unwrap();
        assert_eq!(books.stream("readings"), OfStream { once: 1, repeated: 0 });
        assert_eq!((books.tests, books.replayed), (1, 1));
        assert_eq!(books.source("s").values, 1);
    }

    #[test]
    fn what_has_no_key_or_is_not_json_is_refused_whole() {
        let mut books = Books::default();
        assert_eq!(books.enter("readings", None, false, b""), Err(Refusal::NoKey));
        let half = format!("{}\n{{\"epoch\":", reading(0, "1"));
        assert_eq!(books.enter("readings", Some("k"), false, half.as_bytes()), Err(Refusal::Unreadable));
        assert_eq!(books.enter("readings", Some("k"), true, b"not gzip"), Err(Refusal::Unreadable));
        assert_eq!(books.stream("readings"), OfStream::default());
    }

    #[test]
    fn the_memory_for_keys_is_bounded() {
        let mut books = Books::default();
        for run in 0..KEYS_MAX + 10 {
            books.enter("readings", Some(&format!("k{run}")), false, b"").unwrap();
        }
        assert_eq!(books.keys.hashes.len(), KEYS_MAX);
        assert_eq!(books.keys.order.len(), KEYS_MAX);
    }

    proptest! {
        #[test]
        fn sequences_in_any_order_are_counted_as_a_set_counts_them(sequences in prop::collection::vec(0_u64..60, 0..200)) {
            let mut held = Held::default();
            let mut set = std::collections::BTreeSet::new();
            for sequence in &sequences {
                prop_assert_eq!(held.insert(*sequence), set.insert(*sequence));
            }
            prop_assert_eq!(held.counts.once, set.len() as u64);
            prop_assert_eq!(held.counts.once + held.counts.repeated, sequences.len() as u64);
            let runs = set.iter().filter(|sequence| !set.contains(&(**sequence + 1))).count();
            prop_assert_eq!(held.runs.len(), runs);
        }
    }
}
