//! The audit: whether the books of ingest close, at the start and after each commit.

use super::Ingest;
use crate::block::records::Severity;
use crate::reading::{Sequence, Stream};
use crate::status::{SourceBooks, Status, Trouble};
use std::collections::BTreeMap;

/// The trouble's key.
const KEY: &str = "books/ingest";

impl Ingest {
    /// Compares what the books on disk say with what the disk holds. To be called before anything is taken in, with the
    /// sources' books among them.
    pub(super) fn audit_start(&self) {
        let books = &self.options.books;
        let sources = self.places.books();
        self.places.show(&sources);
        let recovered = books.streams.map(|stream| stream.recovered);
        self.options.status.set_recovered(recovered);
        let whole = crate::buffer::Books { sources, ..books.clone() };
        self.tell(&whole.faults(self.next()));
    }

    /// Compares the books of a commit that has just landed with the readings there are: only ingest writes readings, and no
    /// other commit is on its way.
    pub(super) fn audit(&self, books: &BTreeMap<String, SourceBooks>) {
        let readings = Stream::Readings.index();
        let accepted: u64 = books.values().map(|books| books.accepted).sum();
        let recovered = self.options.books.streams.get(readings).map_or(0, |stream| stream.recovered);
        let next = self.next().get(readings).copied().unwrap_or_default();
        let mut faults = Vec::new();
        if accepted + recovered != next {
            faults.push(format!("{accepted} readings were accepted and {recovered} recovered, but {next} were stored"));
        }
        faults.extend(books.iter().filter(|(_, books)| !books.closes()).map(|(name, _)| format!("source {name:?}")));
        self.tell(&faults);
    }

    fn next(&self) -> [Sequence; 6] {
        self.options.buffer.ends().borrow().map(|ends| ends.next)
    }

    fn tell(&self, faults: &[String]) {
        let Ingest { options, .. } = self;
        options.status.ingest_books_open.set(faults.len() as u64);
        tell(&options.status, faults, options.clock.tick().wall_us);
    }
}

fn tell(status: &Status, faults: &[String], now_us: crate::reading::UnixMicros) {
    let Some(first) = faults.first() else { return status.clear(KEY, now_us) };
    tracing::error!(?faults, "the books of ingest do not close");
    let trouble = Trouble {
        subject: "books".to_owned(),
        what: format!("The books of what came in do not close: {first}; this is a defect, please report it"),
        advice: "Send the log and the output of `forebay buffer stats`".to_owned(),
        severity: Severity::Error,
        since_us: now_us,
    };
    status.raise(KEY, trouble);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_books_are_told_until_they_close() {
        let status = Status::default();
        tell(&status, &["7 readings were accepted, but 6 were stored".to_owned()], 1);
        let whats: Vec<_> = status.troubles().into_iter().map(|trouble| trouble.what).collect();
        assert_eq!(whats.len(), 1);
        assert!(whats.iter().all(|what| what.contains("7 readings") && what.contains("please report it")), "{whats:?}");
        tell(&status, &[], 2);
        assert_eq!(status.troubles(), []);
    }
}
