//! The sources as ingest knows them: what each may bring again, its books, and where its receipts go.

use super::redelivery::Redelivery;
use crate::sources::Receipt;
use crate::status::{SourceBooks, SourceStatus};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

/// Receipts that wait for one source to take them: MQTT has no more packet identifiers, so older ones are of a connection
/// that is no more.
const RECEIPTS_WAITING_MAX: usize = 65_535;
/// Sources no longer configured whose redelivery window is kept in case they come back: 2.2 MiB each, like those looked for
/// on disk at a start.
const WINDOWS_KEPT_MAX: usize = 8;

/// Where receipts of a source go.
pub type Receipts = mpsc::Sender<Vec<Receipt>>;

/// A source that begins to bring something.
#[derive(Debug)]
pub struct Feed {
    /// What its intakes say they come from. A name keeps its slot for as long as the process runs.
    pub slot: u16,
    /// Which start of the source it is: receipts of intakes from an earlier one are dropped, since packet identifiers are
    /// given anew.
    pub start: u32,
    /// Its books and counters.
    pub status: Arc<SourceStatus>,
    /// Where its receipts go.
    pub receipts: Receipts,
}

/// One source.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) status: Arc<SourceStatus>,
    pub(super) redelivery: Redelivery,
    /// All that was taken in so far, on disk or on its way there.
    pub(super) books: SourceBooks,
    start: u32,
    receipts: Receipts,
    /// What is on disk and whose receipt the source had no room for yet.
    waiting: Vec<Receipt>,
}

/// All sources, by slot. A source that is configured no longer keeps its place: what it brought last may still be on its way.
#[derive(Debug, Default)]
pub(super) struct Places {
    by_slot: Vec<Option<Place>>,
    /// Books of sources that are known from the disk only.
    former: BTreeMap<String, SourceBooks>,
    /// Slots of sources that went, in the order in which they went.
    gone: VecDeque<u16>,
}

impl Places {
    /// No source yet, and the books of those that were.
    pub(super) fn new(books: BTreeMap<String, SourceBooks>) -> Self {
        Self { former: books, ..Self::default() }
    }

    /// Takes a source in, or one that starts anew: its books and what it may bring again stay.
    pub(super) fn admit(&mut self, feed: Feed) {
        let Feed { slot, start, status, receipts } = feed;
        let index = usize::from(slot);
        if self.by_slot.len() <= index {
            self.by_slot.resize_with(index + 1, || None);
        }
        self.gone.retain(|gone| *gone != slot);
        let Some(place) = self.by_slot.get_mut(index) else { return };
        // It goes on with the counters that it has, or with those of its former self.
        let (redelivery, books, missed) = if let Some(before) = place.take() {
            let goes_on = Arc::ptr_eq(&before.status, &status);
            (before.redelivery, before.books, if goes_on { 0 } else { before.status.missed.get() })
        } else {
            let books = self.former.remove(&status.name).unwrap_or_default();
            (Redelivery::new(), books, books.missed)
        };
        status.missed.add(missed);
        status.set_books(books);
        *place = Some(Place { status, redelivery, books, start, receipts, waiting: Vec::new() });
    }

    /// Lets a source go.
    pub(super) fn dismiss(&mut self, slot: u16) {
        self.gone.push_back(slot);
        if self.gone.len() <= WINDOWS_KEPT_MAX {
            return;
        }
        let oldest = self.gone.pop_front().and_then(|slot| self.get_mut(slot));
        if let Some(place) = oldest {
            place.redelivery = Redelivery::new();
        }
    }

    /// How many slots there are.
    pub(super) fn len(&self) -> usize {
        self.by_slot.len()
    }

    pub(super) fn get_mut(&mut self, slot: u16) -> Option<&mut Place> {
        self.by_slot.get_mut(usize::from(slot)).and_then(Option::as_mut)
    }

    /// The slots of the sources, by name.
    pub(super) fn slots(&self) -> BTreeMap<String, u16> {
        let named =
            self.by_slot.iter().zip(0..).filter_map(|(place, slot)| Some((place.as_ref()?.status.name.clone(), slot)));
        named.collect()
    }

    /// The books of every source that ever was, with all that was taken in so far.
    pub(super) fn books(&self) -> BTreeMap<String, SourceBooks> {
        let mut books = self.former.clone();
        for place in self.by_slot.iter().flatten() {
            // What never came in is counted by the source itself.
            let missed = place.status.missed.get();
            books.insert(place.status.name.clone(), SourceBooks { missed, ..place.books });
        }
        books
    }

    /// The books of a commit that has landed.
    pub(super) fn show(&self, books: &BTreeMap<String, SourceBooks>) {
        for place in self.by_slot.iter().flatten() {
            if let Some(books) = books.get(&place.status.name) {
                place.status.set_books(*books);
            }
        }
    }

    /// Takes receipts whose messages are on disk.
    pub(super) fn owe(&mut self, slot: u16, start: u32, receipts: Vec<Receipt>) {
        let Some(place) = self.get_mut(slot).filter(|place| place.start == start) else { return };
        place.waiting.extend(receipts);
        let excess = place.waiting.len().saturating_sub(RECEIPTS_WAITING_MAX);
        if excess > 0 {
            tracing::warn!(source = place.status.name, excess, "the source takes no receipts: the oldest are dropped");
            place.waiting.drain(..excess);
        }
    }

    /// Hands each source its receipts in one batch. Where there is no room they wait for the next turn: a live connection
    /// is not sent again what it did not acknowledge (MQTT 3.1.1, section 4.4), so a lost receipt would stop it for good.
    pub(super) fn hand_receipts_back(&mut self) {
        for place in self.by_slot.iter_mut().flatten().filter(|place| !place.waiting.is_empty()) {
            match place.receipts.try_reserve() {
                Ok(room) => room.send(std::mem::take(&mut place.waiting)),
                Err(TrySendError::Full(())) => {}
                Err(TrySendError::Closed(())) => place.waiting.clear(),
            }
        }
    }
}
