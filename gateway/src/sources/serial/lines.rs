//! Delimited messages on a serial line: where they end, and what they say.

use super::LinePayload;
use crate::block::records::RawBytes;
use crate::decode;
use crate::reading::{MonoMicros, NO_HASH, NoData, PointId, Sample};
use crate::site::{Registry, SiteError};
use crate::sources::{Message, Reject};

/// Cuts a stream of bytes into messages; holds at most one message.
#[derive(Debug)]
pub(super) struct Splitter {
    delimiter: Vec<u8>,
    bytes_max: usize,
    buffer: Vec<u8>,
    /// What comes up to the next delimiter does not count.
    is_skipping: bool,
}

/// What the splitter found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Cut<'a> {
    /// A message, without its delimiter.
    Whole(&'a [u8]),
    /// The beginning of a message that is longer than allowed; the rest of it is skipped.
    TooLong(&'a [u8]),
}

impl Splitter {
    /// `delimiter` has at least one byte and `bytes_max` is at least 1.
    pub(super) fn new(delimiter: &str, bytes_max: usize) -> Self {
        Self { delimiter: delimiter.as_bytes().to_vec(), bytes_max, buffer: Vec::new(), is_skipping: false }
    }

    /// Forgets what is half in. A line that is busy is in the middle of a message, whose end alone could be read as
    /// another value: then everything up to the next delimiter is skipped.
    pub(super) fn restart(&mut self, is_busy: bool) {
        self.buffer.clear();
        self.is_skipping = is_busy;
    }

    pub(super) fn feed(&mut self, bytes: &[u8], mut on_cut: impl FnMut(Cut<'_>)) {
        for byte in bytes {
            self.buffer.push(*byte);
            if let Some(message) = self.buffer.strip_suffix(self.delimiter.as_slice()) {
                // A newline alone also takes the carriage return before it.
                let bare =
                    if self.delimiter == b"\n" { message.strip_suffix(b"\r").unwrap_or(message) } else { message };
                // Some devices send empty lines as a sign of life.
                if !self.is_skipping && !bare.is_empty() {
                    on_cut(Cut::Whole(bare));
                }
                self.is_skipping = false;
                self.buffer.clear();
            } else if self.buffer.len() >= self.bytes_max + self.delimiter.len() {
                if !self.is_skipping {
                    on_cut(Cut::TooLong(&self.buffer));
                }
                self.is_skipping = true;
                // A delimiter may have begun: its first bytes must stay.
                let keep_from = self.buffer.len() - (self.delimiter.len() - 1);
                self.buffer.drain(..keep_from);
            }
        }
    }
}

/// Reads messages as the configuration says.
pub(super) struct LineDecoder {
    /// The point of each column; none where it is skipped.
    columns: Vec<Option<PointId>>,
    separator: Option<char>,
    /// How many messages there were, for naming the one that is wrong.
    count: u64,
}

impl LineDecoder {
    pub(super) fn new(
        payload: &LinePayload,
        device: &str,
        source: &str,
        registry: &Registry,
    ) -> Result<Self, SiteError> {
        let intern = |point: &str, unit: &str| registry.intern(device, point, unit, source);
        let (columns, separator) = match payload {
            LinePayload::Number { point, unit } => (vec![Some(intern(point, unit)?)], None),
            LinePayload::Csv { separator, columns } => {
                let taken = columns.iter().map(|column| {
                    let is_taken = !column.point.is_empty();
                    is_taken.then(|| intern(&column.point, &column.unit)).transpose()
                });
                (taken.collect::<Result<_, _>>()?, Some(*separator))
            }
        };
        Ok(Self { columns, separator, count: 0 })
    }

    /// The message and its samples. A column that is not a number is a reject; the others are kept.
    pub(super) fn decode(&mut self, cut: &Cut<'_>, mono_us: MonoMicros) -> (Message, Vec<Sample>) {
        self.count += 1;
        let line = match cut {
            Cut::Whole(line) => *line,
            Cut::TooLong(beginning) => {
                let error = format!("line is longer than {} bytes; its beginning is kept", beginning.len() - 1);
                return (self.rejected(error, beginning), Vec::new());
            }
        };
        let fields: Vec<&[u8]> = match (self.separator, std::str::from_utf8(line)) {
            (None, _) => vec![line],
            (Some(separator), Ok(text)) => text.split(separator).map(str::as_bytes).collect(),
            (Some(_), Err(_)) => return (self.rejected("line is not UTF-8".to_owned(), line), Vec::new()),
        };
        if fields.len() < self.columns.len() {
            let error = format!("line has {} columns instead of {}", fields.len(), self.columns.len());
            return (self.rejected(error, line), Vec::new());
        }
        let (mut samples, mut wrong) = (Vec::new(), Vec::new());
        for (index, (field, point)) in fields.iter().zip(&self.columns).enumerate() {
            let Some(point) = *point else { continue };
            let is_empty = self.separator.is_some() && field.trim_ascii().is_empty();
            match if is_empty { Ok(Err(NoData::NotAvailable)) } else { decode::number(field) } {
                Ok(outcome) => samples.push(Sample {
                    point,
                    outcome,
                    observed_at_us: None,
                    received_mono_us: mono_us,
                    message_hash: NO_HASH,
                }),
                Err(error) if self.separator.is_some() => wrong.push(format!("column {}: {error}", index + 1)),
                Err(error) => wrong.push(error.to_string()),
            }
        }
        let message = if wrong.is_empty() { Message::default() } else { self.rejected(wrong.join("; "), line) };
        (message, samples)
    }

    fn rejected(&self, error: String, raw: &[u8]) -> Message {
        let rule = if self.separator.is_some() { "csv" } else { "number" };
        let reject = Reject { position: format!("line {}", self.count), error, rule, raw: RawBytes::of(raw) };
        Message { rejects: vec![reject], ..Message::default() }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::super::Column;
    use super::*;
    use crate::reading::Value;
    use proptest::prelude::*;

    fn cuts(splitter: &mut Splitter, chunks: &[&str]) -> Vec<String> {
        let mut found = Vec::new();
        for chunk in chunks {
            splitter.feed(chunk.as_bytes(), |cut| {
                found.push(match cut {
                    Cut::Whole(line) => String::from_utf8_lossy(line).into_owned(),
                    Cut::TooLong(line) => format!("too long: {}", String::from_utf8_lossy(line)),
                });
            });
        }
        found
    }

    #[test]
    fn messages_are_found_wherever_the_chunks_are_cut() {
        assert_eq!(cuts(&mut Splitter::new("\n", 10), &["71", ".5\r", "\n\n\r\n72\n7", "3\n"]), ["71.5", "72", "73"]);
        assert_eq!(cuts(&mut Splitter::new("END", 10), &["1E", "ND2EEND3"]), ["1", "2E"]);
    }

    #[test]
    fn a_long_message_is_told_once_and_the_next_one_found() {
        assert_eq!(cuts(&mut Splitter::new("\n", 4), &["1234\n12345678901\n5\n"]), ["1234", "too long: 12345", "5"]);
        assert_eq!(cuts(&mut Splitter::new("END", 2), &["1234567END5END"]), ["too long: 12345", "5"]);
    }

    #[test]
    fn on_a_busy_line_the_first_piece_is_not_taken_for_a_message() {
        let mut splitter = Splitter::new("\n", 10);
        splitter.restart(true);
        assert_eq!(cuts(&mut splitter, &["1.5\n72\n"]), ["72"]);
        splitter.restart(false);
        assert_eq!(cuts(&mut splitter, &["71.5\n"]), ["71.5"]);
    }

    fn csv() -> LineDecoder {
        let column = |point: &str| Column { point: point.into(), unit: String::new() };
        let payload = LinePayload::Csv { separator: ';', columns: vec![column("a"), column(""), column("b")] };
        LineDecoder::new(&payload, "probe", "line", &Registry::default()).unwrap()
    }

    #[test]
    fn columns_become_samples_and_a_wrong_column_is_named() {
        let mut decoder = csv();
        let (message, samples) = decoder.decode(&Cut::Whole(b"1.5;skipped; on;more"), 9);
        assert!(message.rejects.is_empty());
        let outcomes: Vec<_> = samples.iter().map(|sample| sample.outcome.clone()).collect();
        assert_eq!(outcomes, [Ok(Value::Number(1.5)), Ok(Value::Boolean(true))]);

        let (message, samples) = decoder.decode(&Cut::Whole(b";x;hot"), 9);
        assert_eq!(samples[0].outcome, Err(NoData::NotAvailable));
        assert_eq!(message.rejects[0].position, "line 2");
        assert!(message.rejects[0].error.contains("column 3: \"hot\""), "{}", message.rejects[0].error);

        let (message, samples) = decoder.decode(&Cut::Whole(b"1;2"), 9);
        assert!(samples.is_empty() && message.rejects[0].error.contains("2 columns instead of 3"));
        let (message, _) = decoder.decode(&Cut::TooLong(b"12345"), 9);
        assert!(message.rejects[0].error.contains("longer than 4 bytes"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_cut_within_the_limit(
            bytes in proptest::collection::vec(any::<u8>(), 0..500), limit in 1..20_usize, delimiter in "[a\n]{1,3}"
        ) {
            let mut splitter = Splitter::new(&delimiter, limit);
            let mut decoder = csv();
            splitter.feed(&bytes, |cut| {
                if let Cut::Whole(line) = &cut {
                    assert!(line.len() <= limit);
                }
                decoder.decode(&cut, 0);
            });
            prop_assert!(splitter.buffer.len() <= limit + delimiter.len());
        }
    }
}
