//! The beat: once a second a look at the counters, and the parts of open screens that changed go to the pages that show them.
//!
//! A page listens at `/events?of=NAME`. Pages that show the same screen in the same language share one rendering.

use super::change::{Trials, by_whom};
use super::locale::Locale;
use super::rates::Meter;
use super::screens;
use super::screens::points::{Lists, Order};
use super::snapshot::{Books, Snapshot};
use super::visit::Visit;
use super::{WebState, failure::Failure};
use crate::access::Right;
use crate::reading::MonoMicros;
use axum::extract::{Query, State};
use axum::http::header;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream, StreamExt};
use serde::Deserialize;
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How often the counters are looked at and open pages are brought up to date.
const BEAT: Duration = Duration::from_secs(1);

/// Most pages that are kept up to date at once. Each costs a connection and about 20 KB; a gateway has a few people, and
/// some leave tabs open.
pub(in crate::web) const PAGES_MAX: usize = 100;

/// Most of them of one person or token: enough for every tab of a day, too few to keep the others out.
pub(in crate::web) const OWN_PAGES_MAX: usize = 25;

/// Longest name of a screen, in bytes: `source:` and a name.
const SCREEN_BYTES_MAX: usize = 160;

/// A line of silence this often tells a page that the gateway is there, and the gateway that the page is.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// How often an open page is asked whether whoever opened it may still see it.
const STILL_MAY: Duration = Duration::from_secs(2);

/// A part in which nothing stands: a page empties it for that.
const NOTHING: &str = "\n";

/// A part of a screen that is sent again when it changed: the name of its event, and its HTML.
pub(in crate::web) type Part = (&'static str, String);

type Parts = Arc<Vec<Part>>;

/// A screen in a language.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Topic {
    screen: String,
    l: Locale,
}

/// What the handlers share.
pub(in crate::web) struct Shared {
    /// What the page reads.
    pub(in crate::web) state: WebState,
    /// When the last trials of a configuration began.
    pub(in crate::web) trials: Trials,
    /// Try-outs and searches that someone waits for.
    pub(in crate::web) jobs: screens::ways::jobs::Jobs,
    /// The points in their order.
    pub(in crate::web) order: Order,
    /// The lists of points that open pages look at.
    pub(in crate::web) lists: Lists,
    meter: Mutex<Meter>,
    turns: Mutex<Turns>,
    /// What open pages show; at most as many as there may be pages.
    topics: Mutex<HashMap<Topic, watch::Sender<Parts>>>,
    slots: Arc<Semaphore>,
    /// Changes under way, at most one a connection.
    pub(in crate::web) changes: TaskTracker,
    /// How many each has open, by name.
    held: Held,
    stop: CancellationToken,
}

/// How many pages each has open; as many names at most as there may be pages.
type Held = Arc<Mutex<HashMap<String, usize>>>;

/// A place among the pages that are kept up to date, given back when it is dropped.
pub(in crate::web) struct Slot {
    held: Held,
    name: String,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut held = lock(&self.held);
        if let Some(own) = held.get_mut(&self.name) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                held.remove(&self.name);
            }
        }
    }
}

/// When the ingest loop was last seen to have turned.
#[derive(Clone, Copy, Debug)]
struct Turns {
    seen: u64,
    at_us: MonoMicros,
}

impl Shared {
    pub(in crate::web) fn new(state: WebState, stop: CancellationToken) -> Self {
        let turns = Turns { seen: state.status.ingest_turns.get(), at_us: state.clock.mono_us() };
        Self {
            state,
            trials: Trials::default(),
            jobs: screens::ways::jobs::Jobs::default(),
            order: Order::default(),
            lists: Lists::default(),
            meter: Mutex::default(),
            turns: Mutex::new(turns),
            topics: Mutex::default(),
            slots: Arc::new(Semaphore::new(PAGES_MAX)),
            changes: TaskTracker::new(),
            held: Held::default(),
            stop,
        }
    }

    /// The gateway at this moment.
    pub(in crate::web) fn snapshot(&self) -> Snapshot {
        Snapshot::take(&self.state, &lock(&self.meter))
    }

    /// A place among the pages that are kept up to date, held until it is dropped.
    ///
    /// # Errors
    /// If there are [`PAGES_MAX`] already, or [`OWN_PAGES_MAX`] of whoever asks.
    pub(in crate::web) fn slot(&self, visit: &Visit) -> Result<Slot, Failure> {
        let name = by_whom(visit);
        let mut held = lock(&self.held);
        let own = held.entry(name.clone()).or_default();
        if *own >= OWN_PAGES_MAX {
            let sentence = format!(
                "you have {OWN_PAGES_MAX} pages open that are kept up to date already; close one, or reload this page now and then"
            );
            return Err(Failure { retry_after_s: Some(10), ..Failure::unavailable(sentence) });
        }
        let permit = self.slots.clone().try_acquire_owned().map_err(|_| {
            let sentence = format!(
                "{PAGES_MAX} pages are open and kept up to date already; close one, or reload this page now and then"
            );
            Failure { retry_after_s: Some(10), ..Failure::unavailable(sentence) }
        });
        if permit.is_ok() {
            *own += 1;
        }
        Ok(Slot { held: self.held.clone(), name, _permit: permit? })
    }

    /// Comes once an open page has to end: the gateway stops, or whoever opened it may not see it any more.
    pub(in crate::web) async fn over(self: Arc<Self>, visit: Visit) {
        let may = |visit: &Visit| visit.pass.as_ref().is_some_and(|pass| pass.goes_on(&self.state.access, Right::See));
        while may(&visit) {
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(STILL_MAY) => {}
            }
        }
    }

    /// How long the ingest loop has made no turn, as far as anyone looked.
    pub(in crate::web) fn still_for_us(&self) -> u64 {
        let (seen, now_us) = (self.state.status.ingest_turns.get(), self.state.clock.mono_us());
        let mut turns = lock(&self.turns);
        if turns.seen != seen {
            *turns = Turns { seen, at_us: now_us };
        }
        now_us.saturating_sub(turns.at_us)
    }

    fn look(&self) {
        self.still_for_us();
        lock(&self.meter).look(self.state.clock.mono_us(), Books::read(&self.state));
        let mut topics = lock(&self.topics);
        topics.retain(|_, parts| parts.receiver_count() > 0);
        if topics.is_empty() {
            return;
        }
        let snapshot = self.snapshot();
        for (topic, parts) in topics.iter() {
            self.render(topic, &snapshot, parts);
        }
    }

    /// Renders once for all pages that show the same.
    fn render(&self, topic: &Topic, snapshot: &Snapshot, shown: &watch::Sender<Parts>) {
        match screens::parts(&topic.screen, snapshot, self, topic.l) {
            Ok(parts) => {
                shown.send_if_modified(|known| {
                    let changed = **known != parts;
                    if changed {
                        *known = Arc::new(parts);
                    }
                    changed
                });
            }
            Err(error) => tracing::error!(%error, screen = topic.screen, "a screen could not be rendered"),
        }
    }

    /// The newest parts of a screen, and all that follow.
    fn follow(&self, topic: &Topic) -> watch::Receiver<Parts> {
        let snapshot = self.snapshot();
        let mut topics = lock(&self.topics);
        let parts = topics.entry(topic.clone()).or_default();
        // The first page after a while finds the parts of long ago.
        self.render(topic, &snapshot, parts);
        parts.subscribe()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Looks once a second until the gateway stops.
pub(in crate::web) async fn beat(shared: Arc<Shared>) {
    loop {
        shared.look();
        tokio::select! {
            () = shared.stop.cancelled() => return,
            () = tokio::time::sleep(BEAT) => {}
        }
    }
}

/// Which screen a page shows.
#[derive(Debug, Deserialize)]
pub(in crate::web) struct Ask {
    #[serde(default)]
    of: String,
}

/// `GET /events`: the parts of a screen, each when it changed.
pub(in crate::web) async fn events(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Query(Ask { of }): Query<Ask>,
) -> Result<Response, Failure> {
    if of.len() > SCREEN_BYTES_MAX {
        return Err(Failure::bad("the name of the screen is too long"));
    }
    let slot = shared.slot(&visit)?;
    let parts = shared.follow(&Topic { screen: of, l: visit.l });
    let events = changes(parts, slot).take_until(shared.clone().over(visit));
    let calm = [(header::CACHE_CONTROL, "no-store")];
    Ok((calm, Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE))).into_response())
}

/// What one open page has been sent, and what holds its slot.
struct Viewer {
    parts: watch::Receiver<Parts>,
    sent: HashMap<&'static str, String>,
    _slot: Slot,
}

fn changes(mut parts: watch::Receiver<Parts>, slot: Slot) -> impl Stream<Item = Result<Event, Infallible>> {
    parts.mark_changed();
    let viewer = Viewer { parts, sent: HashMap::new(), _slot: slot };
    let batches = stream::unfold(viewer, |mut viewer| async move {
        viewer.parts.changed().await.ok()?;
        let parts = viewer.parts.borrow_and_update().clone();
        let mut events = Vec::new();
        for (name, text) in parts.iter() {
            if viewer.sent.get(name) != Some(text) {
                // Browsers drop an event without data: what is empty now must be drawn, too, or what stood there stays.
                let drawn = if text.is_empty() { NOTHING } else { text };
                events.push(Ok(Event::default().event(*name).data(drawn)));
                viewer.sent.insert(name, text.clone());
            }
        }
        Some((stream::iter(events), viewer))
    });
    batches.flatten()
}
