//! The beat: once a second a look at the counters, and the parts of the overview that changed go to the open pages.

use super::WebState;
use super::overview::{self, Part};
use super::points::Order;
use super::rates::Meter;
use super::snapshot::{Books, Snapshot};
use crate::reading::MonoMicros;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream, StreamExt};
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;

/// How often the counters are looked at and open pages are brought up to date.
const BEAT: Duration = Duration::from_secs(1);

/// Most pages that are kept up to date at once. Each costs a connection and about 20 KB; a gateway has a few people.
pub(super) const PAGES_MAX: usize = 32;

/// A line of silence this often tells a page that the gateway is there, and the gateway that the page is.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What the handlers share.
pub(super) struct Shared {
    /// What the page reads.
    pub(super) state: WebState,
    /// The points in their order.
    pub(super) order: Order,
    meter: Mutex<Meter>,
    turns: Mutex<Turns>,
    parts: watch::Sender<Arc<Vec<Part>>>,
    slots: Arc<Semaphore>,
    stop: CancellationToken,
}

/// When the ingest loop was last seen to have turned.
#[derive(Clone, Copy, Debug)]
struct Turns {
    seen: u64,
    at_us: MonoMicros,
}

impl Shared {
    pub(super) fn new(state: WebState, stop: CancellationToken) -> Self {
        let turns = Turns { seen: state.status.ingest_turns.get(), at_us: state.clock.mono_us() };
        Self {
            state,
            order: Order::default(),
            meter: Mutex::default(),
            turns: Mutex::new(turns),
            parts: watch::Sender::default(),
            slots: Arc::new(Semaphore::new(PAGES_MAX)),
            stop,
        }
    }

    /// The gateway at this moment.
    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot::take(&self.state, &lock(&self.meter))
    }

    /// How long the ingest loop has made no turn, as far as anyone looked.
    pub(super) fn still_for_us(&self) -> u64 {
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
        if self.slots.available_permits() < PAGES_MAX {
            self.render();
        }
    }

    /// Renders once for all open pages.
    fn render(&self) {
        match overview::parts(&self.snapshot(), self) {
            Ok(parts) => {
                self.parts.send_if_modified(|known| {
                    let changed = **known != parts;
                    *known = Arc::new(parts);
                    changed
                });
            }
            Err(error) => tracing::error!(%error, "the overview could not be rendered"),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Looks once a second until the gateway stops.
pub(super) async fn beat(shared: Arc<Shared>) {
    loop {
        shared.look();
        tokio::select! {
            () = shared.stop.cancelled() => return,
            () = tokio::time::sleep(BEAT) => {}
        }
    }
}

/// `GET /events`: the parts of the overview, each when it changed.
pub(super) async fn events(State(shared): State<Arc<Shared>>) -> Response {
    let Ok(slot) = shared.slots.clone().try_acquire_owned() else {
        let sentence = format!(
            "{PAGES_MAX} pages are open and kept up to date already; close one, or reload this page now and then\n"
        );
        return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "10")], sentence).into_response();
    };
    // The first page after a while finds the parts of long ago.
    shared.render();
    let stop = shared.stop.clone();
    let events = changes(shared.parts.subscribe(), slot).take_until(stop.cancelled_owned());
    let calm = [(header::CACHE_CONTROL, "no-store")];
    (calm, Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE))).into_response()
}

/// What one open page has been sent, and what holds its slot.
struct Viewer {
    parts: watch::Receiver<Arc<Vec<Part>>>,
    sent: HashMap<&'static str, String>,
    _slot: OwnedSemaphorePermit,
}

fn changes(
    mut parts: watch::Receiver<Arc<Vec<Part>>>,
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
