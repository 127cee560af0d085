//! What must be in the scratch buffer, and what is.

use super::Verdict;
use super::writer::{SINK, number_of};
use crate::buffer::{Buffer, BufferError, StoreOptions};
use crate::clock::Clock;
use crate::reading::{Epoch, Sequence, SequenceRange, Stream};

/// Blocks read at a time.
const READ_BLOCKS: usize = 16;

/// The numbers that were acknowledged, or found after a kill: both must stay.
#[derive(Debug, Default)]
pub(super) struct Book {
    /// Ascending, apart from each other.
    held: Vec<SequenceRange>,
    /// The next number that no writer was given.
    next: u64,
    delivered: u64,
    epoch: Option<Epoch>,
}

/// What is wrong after a start.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) lost: u64,
    pub(super) repeated: u64,
    pub(super) reordered: u64,
    pub(super) books_close: bool,
}

impl Book {
    /// The first number of the next writer.
    pub(super) fn next_number(&self) -> u64 {
        self.next
    }

    /// Hears a word of the writer; true if it is the last of a step.
    pub(super) fn hear(&mut self, word: &str, verdict: &mut Verdict) -> bool {
        let (kind, rest) = word.split_once(' ').unwrap_or((word, ""));
        let numbers: Vec<u64> = rest.split(' ').map_while(|number| number.parse().ok()).collect();
        match (kind, numbers.as_slice()) {
            ("tried", [_, last]) => self.next = self.next.max(last + 1),
            ("acknowledged", [first, last, took_us]) => {
                let range = SequenceRange { first: *first, last: *last };
                self.held.push(range);
                verdict.acknowledged += range.count();
                verdict.commit_us.push(*took_us);
            }
            ("delivered", [total]) => {
                self.delivered = *total;
                return true;
            }
            _ => {}
        }
        false
    }
}

/// Opens the buffer, reads it from end to end and compares; what was found beyond the acknowledged is kept in the book.
///
/// # Errors
/// If it does not open or cannot be read.
pub(super) async fn look(options: StoreOptions, book: &mut Book) -> Result<Findings, BufferError> {
    let (buffer, opened) = Buffer::open(options, Clock::system()).await?;
    let epoch = opened.epoch.unwrap_or(Epoch(0));
    let is_ours = *book.epoch.get_or_insert(epoch) == epoch;
    let mut findings = Findings { books_close: is_ours, ..Findings::default() };
    let found = read(&buffer, &mut findings).await?;
    let ends = *buffer.ends().borrow();
    let next = ends.get(Stream::Readings.index()).map_or(0, |ends| ends.next);
    let lane = buffer.lane(SINK, Stream::Readings).await?;
    findings.books_close &= lane.closes(next) && lane.delivered >= book.delivered;
    buffer.close().await;
    // What was evicted by the cap is told as a gap; it goes from the old end only.
    let oldest = found.first().map_or(book.next, |range| range.first);
    for must in &book.held {
        let (first, mut lost) = (must.first.max(oldest), 0);
        if first <= must.last {
            let there: u64 = found
                .iter()
                .filter_map(|range| range.overlap(SequenceRange { first, last: must.last }))
                .map(SequenceRange::count)
                .sum();
            lost = (must.last - first + 1).saturating_sub(there);
        }
        findings.lost += lost;
    }
    book.held = found;
    Ok(findings)
}

/// The numbers of all readings, as ranges.
async fn read(buffer: &Buffer, findings: &mut Findings) -> Result<Vec<SequenceRange>, BufferError> {
    let mut found: Vec<SequenceRange> = Vec::new();
    let mut from: Sequence = 0;
    loop {
        let blocks = buffer.blocks(Stream::Readings, from, READ_BLOCKS).await?;
        let Some(last) = blocks.last() else { return Ok(found) };
        from = last.range.last + 1;
        for block in &blocks {
            let rows = block.readings().map_err(|error| BufferError::Damaged(error.to_string()))?;
            for number in rows.iter().filter_map(|row| number_of(&row.reading.outcome)) {
                match found.last_mut() {
                    Some(range) if number == range.last + 1 => range.last = number,
                    Some(range) if number <= range.last => {
                        let known = found.iter().any(|range| (range.first..=range.last).contains(&number));
                        findings.repeated += u64::from(known);
                        findings.reordered += u64::from(!known);
                    }
                    _ => found.push(SequenceRange { first: number, last: number }),
                }
            }
        }
    }
}
