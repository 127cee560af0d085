//! The verdict: what the plant sent, what the gateway accepted and what the receiver holds must be the same.

use super::books::{Books, OfSource, OfStream};
use super::tally::{SOURCES, Tally};
use crate::reading::Stream;
use crate::status::{SinkStatus, Status};
use std::fmt;

/// The books of all three sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    sources: Vec<SourceBooks>,
    streams: Vec<StreamBooks>,
    recognised: u64,
    conflicts: u64,
    unreadable: u64,
    tests: u64,
    replayed: u64,
}

/// What became of what was sent to one source.
#[derive(Clone, Debug, PartialEq, Eq)]
struct SourceBooks {
    name: &'static str,
    /// By the plant's own count.
    sent: u64,
    /// Readings on disk, by the gateway's count.
    accepted: u64,
    /// What the receiver holds of it.
    received: OfSource,
}

/// What became of one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
struct StreamBooks {
    stream: Stream,
    /// Records on disk, by the gateway's count.
    accepted: u64,
    received: OfStream,
}

impl SourceBooks {
    /// Every value sent is a reading or a dead letter, and every reading accepted has arrived. What a silent unit gives is
    /// accepted as a reading without a value, and nobody sent it.
    fn is_closed(&self) -> bool {
        let OfSource { values, no_values, dead_letters } = self.received;
        self.sent == values + dead_letters && self.accepted == values + no_values
    }
}

impl StreamBooks {
    fn missing(&self) -> u64 {
        self.accepted.saturating_sub(self.received.once)
    }

    fn is_closed(&self) -> bool {
        self.accepted == self.received.once && self.received.repeated == 0
    }
}

impl Verdict {
    /// Compares the books.
    pub(super) fn new(tally: &Tally, status: &Status, books: &Books) -> Self {
        let sources = SOURCES.iter().zip(tally.sent()).enumerate().map(|(position, (name, sent))| SourceBooks {
            name,
            sent,
            accepted: status.sources().get(position).map_or(0, |source| source.books().accepted),
            received: books.source(name),
        });
        let streams = Stream::DELIVERED.iter().map(|stream| StreamBooks {
            stream: *stream,
            accepted: status.sinks().first().map_or(0, |sink| accepted(sink, *stream)),
            received: books.stream(stream.name()),
        });
        let mut streams: Vec<_> = streams.collect();
        streams.sort_by_key(|books| books.stream);
        let Books { recognised, conflicts, unreadable, tests, replayed, .. } = *books;
        Self { sources: sources.collect(), streams, recognised, conflicts, unreadable, tests, replayed }
    }

    /// Whether everything sent was accepted or became a dead letter, and everything accepted arrived exactly once.
    #[must_use]
    pub fn is_exactly_once(&self) -> bool {
        self.faults().is_empty()
    }

    /// What is wrong, in words.
    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for SourceBooks { name, sent, accepted, received } in self.sources.iter().filter(|books| !books.is_closed()) {
            let OfSource { values, no_values, dead_letters } = received;
            faults.push(format!(
                "{name}: {sent} sent, but {values} values and {dead_letters} dead letters arrived; {accepted} accepted, \
                 but {values} readings with and {no_values} without a value arrived"
            ));
        }
        for books in self.streams.iter().filter(|books| !books.is_closed()) {
            let StreamBooks { stream, accepted, received: OfStream { once, repeated } } = books;
            faults.push(format!("{stream}: {accepted} accepted, {once} received, {repeated} repeated"));
        }
        if self.conflicts > 0 {
            faults.push(format!("{} requests came again with other bytes under the same key", self.conflicts));
        }
        if self.unreadable > 0 {
            faults.push(format!("{} requests could not be read", self.unreadable));
        }
        faults
    }
}

/// Records that the sink's stream has had on disk, by the way each went (ARCHITECTURE.md, invariant 2).
pub(super) fn accepted(sink: &SinkStatus, stream: Stream) -> u64 {
    sink.lane(stream).accepted
}

/// Readings on disk, over all sources.
pub(super) fn on_disk(status: &Status) -> u64 {
    status.sources().iter().map(|source| source.books().accepted).sum()
}

/// Dead letters made, over all sources.
pub(super) fn dead_letters(status: &Status) -> u64 {
    status.sources().iter().map(|source| source.books().rejected).sum()
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["accepted", "with value", "no value", "dead letters"].map(|head| format!("{head:>14}")).concat();
        writeln!(f, "  {:<14}{:>14}{head}", "source", "sent")?;
        for SourceBooks { name, sent, accepted, received } in &self.sources {
            let OfSource { values, no_values, dead_letters } = received;
            let cells = [*sent, *accepted, *values, *no_values, *dead_letters].map(cell).concat();
            writeln!(f, "  {name:<14}{cells}")?;
        }
        let head = ["received once", "repeated", "missing"].map(|head| format!("{head:>14}")).concat();
        writeln!(f, "\n  {:<14}{:>14}{head}", "stream", "accepted")?;
        for books in &self.streams {
            let OfStream { once, repeated } = books.received;
            let cells = [books.accepted, once, repeated, books.missing()].map(cell).concat();
            writeln!(f, "  {:<14}{cells}", books.stream.name())?;
        }
        if self.recognised > 0 {
            writeln!(
                f,
                "\n  Requests whose answer was lost, sent again, and recognised by their key: {}",
                self.recognised
            )?;
        }
        if self.replayed > 0 {
            writeln!(
                f,
                "\n  Records that someone asked for once more, apart from all above: {}",
                grouped(self.replayed)
            )?;
        }
        if self.tests > 0 {
            writeln!(f, "\n  Records of try-outs, apart from all above: {}", grouped(self.tests))?;
        }
        writeln!(f)?;
        let faults = self.faults();
        if faults.is_empty() {
            return writeln!(
                f,
                "  Everything sent was accepted or became a dead letter; everything accepted arrived exactly once."
            );
        }
        writeln!(f, "  The books do not close:")?;
        faults.iter().try_for_each(|fault| writeln!(f, "  - {fault}"))
    }
}

fn cell(number: u64) -> String {
    format!("{:>14}", grouped(number))
}

/// A number with its digits in groups of three: `1 204`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            grouped.push(' ');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Verdict {
        let source = |name, sent, values, no_values, dead_letters| SourceBooks {
            name,
            sent,
            accepted: values + no_values,
            received: OfSource { values, no_values, dead_letters },
        };
        let stream =
            |stream, count| StreamBooks { stream, accepted: count, received: OfStream { once: count, repeated: 0 } };
        Verdict {
            sources: vec![source("plant-broker", 1_002, 1_000, 0, 2), source("boiler-bus", 90, 90, 10, 0)],
            streams: vec![stream(Stream::Readings, 1_100), stream(Stream::DeadLetters, 2)],
            recognised: 0,
            conflicts: 0,
            unreadable: 0,
            tests: 2,
            replayed: 1_200,
        }
    }

    #[test]
    fn books_that_close_are_good() {
        let verdict = good();
        assert!(verdict.is_exactly_once());
        let table = verdict.to_string();
        assert!(table.contains("1 002"), "{table}");
        assert!(table.contains("exactly once"), "{table}");
        assert!(table.contains("asked for once more, apart from all above: 1 200"), "{table}");
        assert!(table.contains("try-outs, apart from all above: 2"), "{table}");
    }

    #[test]
    fn whatever_does_not_add_up_is_named() {
        type Spoil = fn(&mut Verdict);
        let cases: [(&str, Spoil); 6] = [
            ("plant-broker: 1003 sent", |verdict| verdict.sources[0].sent += 1),
            ("plant-broker: 1002 sent", |verdict| verdict.sources[0].accepted += 1),
            ("readings: 1100 accepted, 1099 received", |verdict| verdict.streams[0].received.once -= 1),
            ("dead-letters: 2 accepted, 2 received, 1 repeated", |verdict| verdict.streams[1].received.repeated += 1),
            ("1 requests came again with other bytes", |verdict| verdict.conflicts = 1),
            ("1 requests could not be read", |verdict| verdict.unreadable = 1),
        ];
        for (named, spoil) in cases {
            let mut verdict = good();
            spoil(&mut verdict);
            assert!(!verdict.is_exactly_once());
            assert!(verdict.to_string().contains(named), "{named}: {verdict}");
        }
    }

    #[test]
    fn digits_come_in_groups_of_three() {
        let cases = [(0, "0"), (999, "999"), (1_000, "1 000"), (1_234_567, "1 234 567")];
        assert!(cases.iter().all(|(number, text)| grouped(*number) == *text));
    }
}
