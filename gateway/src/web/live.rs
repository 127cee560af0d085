//! The beat: once a second a look at the counters, and the parts of open screens that changed go to the pages that show them.
//!
//! A page listens at `/events?of=NAME`. Pages that show the same screen in the same language share one rendering.

use super::locale::Locale;
use super::rates::Meter;
use super::screens;
use super::screens::points::{Lists, Order};
use super::snapshot::{Books, Snapshot};
use super::visit::Visit;
use super::{WebState, failure::Failure};
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

/// Longest name of a screen, in bytes: `source:` and a name.
const SCREEN_BYTES_MAX: usize = 160;

/// A line of silence this often tells a page that the gateway is there, and the gateway that the page is.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

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
    stop: CancellationToken,
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
            jobs: screens::ways::jobs::Jobs::default(),
            order: Order::default(),
            lists: Lists::default(),
            meter: Mutex::default(),
            turns: Mutex::new(turns),
            topics: Mutex::default(),
            slots: Arc::new(Semaphore::new(PAGES_MAX)),
            changes: TaskTracker::new(),
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
    /// If there are [`PAGES_MAX`] already.
    pub(in crate::web) fn slot(&self) -> Result<OwnedSemaphorePermit, Failure> {
        self.slots.clone().try_acquire_owned().map_err(|_| {
            let sentence = format!(
                "{PAGES_MAX} pages are open and kept up to date already; close one, or reload this page now and then"
            );
            Failure { retry_after_s: Some(10), ..Failure::unavailable(sentence) }
        })
    }

    /// Cancelled once the gateway stops.
    pub(in crate::web) fn stop(&self) -> CancellationToken {
        self.stop.clone()
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
    let slot = shared.slot()?;
    let parts = shared.follow(&Topic { screen: of, l: visit.l });
    let events = changes(parts, slot).take_until(shared.stop().cancelled_owned());
    let calm = [(header::CACHE_CONTROL, "no-store")];
    Ok((calm, Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE))).into_response())
}

/// What one open page has been sent, and what holds its slot.
struct Viewer {
    parts: watch::Receiver<Parts>,
    sent: HashMap<&'static str, String>,
    _slot: OwnedSemaphorePermit,
}

fn changes(
    mut parts: watch::Receiver<Parts>,
    slot: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<Event, Infallible>> {
    parts.mark_changed();
    let viewer = Viewer { parts, sent: HashMap::new(), _slot: slot };
    let batches = stream::unfold(viewer, |mut viewer| async move {
        viewer.parts.changed().await.ok()?;
        let parts = viewer.parts.borrow_and_update().clone();
        let mut events = Vec::new();
        for (name, text) in parts.iter() {
            if viewer.sent.get(name) != Some(text) {
                events.push(Ok(Event::default().event(*name).data(text)));
                viewer.sent.insert(name, text.clone());
            }
        }
        Some((stream::iter(events), viewer))
    });
    batches.flatten()
}
