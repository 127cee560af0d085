//! The one owner of the store, on a thread of its own, and the handle that everyone else holds.

use super::disk_store::DiskStore;
use super::inspect::{ChunkName, RawBlock, Report};
use super::store::Store;
use super::{
    BootOffset, BufferError, Commit, Committed, Ends, Lane, LaneChange, MinuteSummary, Opened, Replay, Start,
    StoreOptions, Usage,
};
use crate::block::Block;
use crate::clock::Clock;
use crate::reading::{PointId, Sequence, SequenceRange, Stream, UnixMicros};
use std::future::Future;
use std::time::Duration;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

/// Most calls that wait for the thread. Callers wait in turn beyond it; a commit is at most a few hundred KiB.
const CALLS_MAX: usize = 64;

/// How often usage is measured and published.
const USAGE_EVERY: Duration = Duration::from_secs(1);

/// How often delivered blocks are looked through for those whose time has passed.
const MAINTAIN_EVERY: Duration = Duration::from_secs(10);

type Answer<T> = oneshot::Sender<Result<T, BufferError>>;

enum Call {
    Commit(Commit, Answer<Committed>),
    Minutes(SequenceRange, PointId, UnixMicros, UnixMicros, Answer<Option<Vec<MinuteSummary>>>),
    StretchesBetween(Stream, UnixMicros, UnixMicros, Answer<Vec<SequenceRange>>),
    Blocks(Stream, Sequence, usize, Answer<Vec<Block>>),
    Lane(String, Stream, Start, Answer<Lane>),
    ChangeLane(LaneChange, Answer<Lane>),
    KeepConfig(String, Answer<u32>),
    Config(u32, Answer<Option<String>>),
    BootOffset(u128, Answer<Option<BootOffset>>),
    KeepBootOffset(u128, BootOffset, Answer<BootOffset>),
    KeepReplay(Replay, Answer<Replay>),
    Report(Answer<Report>),
    Look(ChunkName, Stream, Sequence, Answer<Vec<RawBlock>>),
    SalvageChunk(ChunkName, String, Answer<Vec<String>>),
    Reconfigure(StoreOptions, Answer<()>),
    Close(oneshot::Sender<()>),
}

/// The buffer, as the rest of the gateway sees it. Clones share one store; when the last one goes, the store is closed.
#[derive(Clone, Debug)]
pub struct Buffer {
    calls: mpsc::Sender<Call>,
    ends: watch::Receiver<Ends>,
    usage: watch::Receiver<Usage>,
    replays: watch::Receiver<Vec<Replay>>,
    damages: watch::Receiver<Vec<String>>,
}

impl Buffer {
    /// Opens the store in `data_dir/buffer`, making it if need be, and starts its thread. Damage never stops the start:
    /// what cannot be read is set aside and told in [`Opened::quarantined`].
    ///
    /// # Errors
    /// If another process has the directory, or the disk cannot be written at all.
    pub async fn open(options: StoreOptions, clock: Clock) -> Result<(Self, Opened), BufferError> {
        let (opened, answer) = oneshot::channel();
        let work = move || {
            // A runtime of its own gives this thread a receive with a time limit; nothing else runs on it.
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_time().build() {
                Err(error) => {
                    let error = BufferError::Disk(format!("cannot start the buffer's timer: {error}"));
                    return drop(opened.send(Err(error)));
                }
                Ok(runtime) => runtime,
            };
            match DiskStore::open(options, clock) {
                // Nobody waits any more if the caller was cancelled.
                Err(error) => drop(opened.send(Err(error))),
                Ok((store, report)) => {
                    let (buffer, serving) = Self::over(store);
                    if opened.send(Ok((buffer, report))).is_ok() {
                        runtime.block_on(serving);
                    }
                }
            }
        };
        std::thread::Builder::new()
            .name("buffer".to_owned())
            .spawn(work)
            .map_err(|error| BufferError::Disk(format!("cannot start the buffer's thread: {error}")))?;
        answer.await.map_err(|_| BufferError::Closed)?
    }

    /// A handle on no store: every call answers [`BufferError::Closed`].
    #[must_use]
    pub fn closed() -> Self {
        Self {
            calls: mpsc::channel(1).0,
            ends: watch::channel(Ends::default()).1,
            usage: watch::channel(Usage::default()).1,
            replays: watch::channel(Vec::new()).1,
            damages: watch::channel(Vec::new()).1,
        }
    }

    /// A handle on a store, and the future that serves it until the last handle is gone or someone closes. The gateway
    /// drives it on a thread of its own, since a store blocks; a simulation drives it as one task among the others.
    pub(crate) fn over(mut store: impl Store) -> (Self, impl Future<Output = ()>) {
        let (calls, waiting) = mpsc::channel(CALLS_MAX);
        let (ends, ends_seen) = watch::channel(store.ends());
        let (usage, usage_seen) = watch::channel(store.usage());
        let (replays, replays_seen) = watch::channel(store.replays());
        let (damages, damages_seen) = watch::channel(store.damages().to_vec());
        let seen = Self { calls, ends: ends_seen, usage: usage_seen, replays: replays_seen, damages: damages_seen };
        (seen, serve(store, waiting, (ends, replays), usage, damages))
    }

    /// Makes blocks durable: when this returns, they are on disk, synchronised, and readable. Each draft gets the next
    /// sequences of its stream, in order. After an error none of them will be read; the same commit may be tried again.
    ///
    /// # Errors
    /// [`BufferError::Full`] while the cap is reached and the policy is to wait; otherwise what the disk said.
    pub async fn commit(&self, commit: Commit) -> Result<Committed, BufferError> {
        self.call(|answer| Call::Commit(commit, answer)).await
    }

    /// The block that holds `from`, or the next one there is, and those after it: ascending, at most `blocks_max` and at
    /// most 16. Where records were lost there is a hole between two blocks, which no lane counts as undelivered.
    ///
    /// # Errors
    /// If the disk fails.
    pub async fn blocks(&self, stream: Stream, from: Sequence, blocks_max: usize) -> Result<Vec<Block>, BufferError> {
        self.call(|answer| Call::Blocks(stream, from, blocks_max, answer)).await
    }

    /// Where each stream begins and ends; changes when something became durable or was dropped.
    #[must_use]
    pub fn ends(&self) -> watch::Receiver<Ends> {
        self.ends.clone()
    }

    /// A sink's lane. A sink never seen starts at the oldest record kept; what was dropped before is not its loss.
    ///
    /// # Errors
    /// If the disk fails.
    pub async fn lane(&self, sink: &str, stream: Stream) -> Result<Lane, BufferError> {
        self.lane_from(sink, stream, Start::Oldest).await
    }

    /// A sink's lane; a sink never seen starts at `start`, and what was there before is not its loss.
    ///
    /// # Errors
    /// If the disk fails.
    pub async fn lane_from(&self, sink: &str, stream: Stream, start: Start) -> Result<Lane, BufferError> {
        let sink = sink.to_owned();
        self.call(|answer| Call::Lane(sink, stream, start, answer)).await
    }

    /// Replaces a lane; when this returns, the change is on disk and its records will be appended whatever happens. The
    /// answer is the lane as it now stands, with its new revision.
    ///
    /// # Errors
    /// [`BufferError::Stale`] if the lane changed since it was loaded; otherwise what the disk said.
    pub async fn change_lane(&self, change: LaneChange) -> Result<Lane, BufferError> {
        self.call(|answer| Call::ChangeLane(change, answer)).await
    }

    /// Keeps a configuration text and gives its version number; the same text has the same number for ever.
    ///
    /// # Errors
    /// If the disk fails.
    pub async fn keep_config(&self, toml: &str) -> Result<u32, BufferError> {
        let toml = toml.to_owned();
        self.call(|answer| Call::KeepConfig(toml, answer)).await
    }

    /// The configuration text of a version, if it is still kept.
    ///
    /// # Errors
    /// If the disk fails or the text is damaged.
    pub async fn config(&self, version: u32) -> Result<Option<String>, BufferError> {
        self.call(|answer| Call::Config(version, answer)).await
    }

    /// The offset of a boot, if it is decided: with the first commit of that boot whose clock is plausible, or before by
    /// [`Self::keep_boot_offset`]. The newest 64 boots are remembered.
    ///
    /// # Errors
    /// If the buffer is closed.
    pub async fn boot_offset(&self, boot_id: u128) -> Result<Option<BootOffset>, BufferError> {
        self.call(|answer| Call::BootOffset(boot_id, answer)).await
    }

    /// Decides the offset of a boot, unless it is decided already; the answer is what holds.
    ///
    /// # Errors
    /// If the disk fails.
    pub async fn keep_boot_offset(&self, boot_id: u128, offset: BootOffset) -> Result<BootOffset, BufferError> {
        self.call(|answer| Call::KeepBootOffset(boot_id, offset, answer)).await
    }

    /// The replays there are, by number; changes when one was kept.
    #[must_use]
    pub fn replays(&self) -> watch::Receiver<Vec<Replay>> {
        self.replays.clone()
    }

    /// Keeps a replay: a new one (number 0) gets its number, a known one its next revision. When this returns it is on disk.
    ///
    /// # Errors
    /// [`BufferError::Stale`] if it has changed since it was read, [`BufferError::Replays`] if there are too many; otherwise what
    /// the disk said.
    pub async fn keep_replay(&self, replay: Replay) -> Result<Replay, BufferError> {
        self.call(|answer| Call::KeepReplay(replay, answer)).await
    }

    /// What the buffer says about itself, for the tools.
    ///
    /// # Errors
    /// If the buffer is closed.
    pub async fn report(&self) -> Result<Report, BufferError> {
        self.call(Call::Report).await
    }

    /// What lies in a chunk at and after a sequence, at most 16 blocks, unchecked and unrepaired; nothing if the chunk is gone.
    ///
    /// # Errors
    /// If it cannot be read there.
    pub async fn look(&self, chunk: &ChunkName, stream: Stream, from: Sequence) -> Result<Vec<RawBlock>, BufferError> {
        let chunk = chunk.clone();
        self.call(|answer| Call::Look(chunk, stream, from, answer)).await
    }

    /// Brings back what is sound of a chunk that was found damaged, and says what was set aside.
    ///
    /// # Errors
    /// If the disk fails.
    pub async fn salvage_chunk(&self, chunk: &ChunkName, reason: &str) -> Result<Vec<String>, BufferError> {
        let (chunk, reason) = (chunk.clone(), reason.to_owned());
        self.call(|answer| Call::SalvageChunk(chunk, reason, answer)).await
    }

    /// Takes other limits, retention and sinks, but no other keys. What no longer fits goes as the new limits say, a few chunks at
    /// once and the rest within the next looks at them, so that commits go on.
    ///
    /// # Errors
    /// [`BufferError::Elsewhere`] if the data directory is another.
    pub async fn reconfigure(&self, options: StoreOptions) -> Result<(), BufferError> {
        self.call(|answer| Call::Reconfigure(options, answer)).await
    }

    /// What the disk really holds, measured at most once a second.
    #[must_use]
    pub fn usage(&self) -> watch::Receiver<Usage> {
        self.usage.clone()
    }

    /// What was found damaged and set aside since the start, the newest 16, in words for a person; looked at once a second.
    #[must_use]
    pub fn damages(&self) -> watch::Receiver<Vec<String>> {
        self.damages.clone()
    }

    /// Answers what waits, closes the store and gives up the directory. Other clones get [`BufferError::Closed`] from now on.
    pub async fn close(self) {
        let (answer, closed) = oneshot::channel();
        if self.calls.send(Call::Close(answer)).await.is_ok() {
            // An error says that the thread is gone already, which is what was asked for.
            drop(closed.await);
        }
    }

    /// The summaries of a point in one of these stretches; `None` if it has none yet, because its chunk is not sealed or was not
    /// looked through so far: then its blocks say it.
    ///
    /// # Errors
    /// If the disk fails.
    pub async fn minutes_of(
        &self,
        stretch: SequenceRange,
        point: PointId,
        from_us: UnixMicros,
        to_us: UnixMicros,
    ) -> Result<Option<Vec<MinuteSummary>>, BufferError> {
        self.call(|answer| Call::Minutes(stretch, point, from_us, to_us, answer)).await
    }

    /// The stretches of sequences, ascending, of which any record may be of a time: one for each chunk.
    ///
    /// # Errors
    /// If the buffer is closed.
    pub async fn stretches_between(
        &self,
        stream: Stream,
        from_us: UnixMicros,
        to_us: UnixMicros,
    ) -> Result<Vec<SequenceRange>, BufferError> {
        self.call(|answer| Call::StretchesBetween(stream, from_us, to_us, answer)).await
    }

    async fn call<T>(&self, make: impl FnOnce(Answer<T>) -> Call) -> Result<T, BufferError> {
        let (answer, answered) = oneshot::channel();
        self.calls.send(make(answer)).await.map_err(|_| BufferError::Closed)?;
        answered.await.map_err(|_| BufferError::Closed)?
    }
}

/// Answers calls until the last handle is gone or someone closes; who closes hears of it once the store is given up.
async fn serve(
    mut store: impl Store,
    mut waiting: mpsc::Receiver<Call>,
    (ends, replays): (watch::Sender<Ends>, watch::Sender<Vec<Replay>>),
    usage: watch::Sender<Usage>,
    damages: watch::Sender<Vec<String>>,
) {
    let (mut measure_at, mut maintain_at) = (Instant::now(), Instant::now() + MAINTAIN_EVERY);
    let closing = loop {
        match next_call(&mut store, &mut waiting).await {
            Ok(Some(Call::Close(answer))) => break Some(answer),
            Ok(Some(call)) => answer(&mut store, call, &ends, &replays),
            Ok(None) => {}
            Err(Ended) => break None,
        }
        let now = Instant::now();
        if now >= maintain_at {
            store.maintain();
            maintain_at = now + MAINTAIN_EVERY;
        }
        // Whatever was done may have salvaged a chunk or given one up.
        publish(&ends, store.ends());
        if now >= measure_at {
            publish(&usage, store.usage());
            if *damages.borrow() != store.damages() {
                damages.send_replace(store.damages().to_vec());
            }
            measure_at = now + USAGE_EVERY;
        }
    };
    drop(store);
    drop(waiting);
    if let Some(answer) = closing {
        // Whoever asked may have gone.
        answer.send(()).ok();
    }
}

/// Nobody can call any more.
struct Ended;

/// The next call; none if time has passed without one, or a step of idle work was done instead. Idle work goes one step at
/// a time, so that a call waits for one step at most.
async fn next_call(store: &mut impl Store, waiting: &mut mpsc::Receiver<Call>) -> Result<Option<Call>, Ended> {
    match waiting.try_recv() {
        Ok(call) => return Ok(Some(call)),
        Err(TryRecvError::Disconnected) => return Err(Ended),
        Err(TryRecvError::Empty) => {}
    }
    if store.idle_step() {
        tokio::task::yield_now().await;
        return Ok(None);
    }
    match tokio::time::timeout(USAGE_EVERY, waiting.recv()).await {
        Err(_) => Ok(None),
        Ok(None) => Err(Ended),
        Ok(Some(call)) => Ok(Some(call)),
    }
}

/// An answer that nobody waits for any more is dropped: its caller was cancelled, the work is done all the same.
fn answer(store: &mut impl Store, call: Call, ends: &watch::Sender<Ends>, replays: &watch::Sender<Vec<Replay>>) {
    match call {
        Call::Commit(commit, answer) => {
            let result = store.commit(&commit);
            // Readers hear of it before the writer goes on, so that an acknowledged record is always in sight.
            publish(ends, store.ends());
            drop(answer.send(result));
        }
        Call::Blocks(stream, from, blocks_max, answer) => {
            drop(answer.send(store.blocks(stream, from, blocks_max)));
        }
        Call::Minutes(stretch, point, from_us, to_us, answer) => {
            drop(answer.send(store.minutes(stretch, point, from_us, to_us)));
        }
        Call::StretchesBetween(stream, from_us, to_us, answer) => {
            drop(answer.send(Ok(store.stretches_between(stream, from_us, to_us))));
        }
        Call::Lane(sink, stream, start, answer) => drop(answer.send(store.lane_from(&sink, stream, start))),
        Call::ChangeLane(change, answer) => {
            let result = store.change_lane(&change);
            publish(ends, store.ends());
            drop(answer.send(result));
        }
        Call::KeepConfig(toml, answer) => drop(answer.send(store.keep_config(&toml))),
        Call::Config(version, answer) => drop(answer.send(store.config(version))),
        Call::BootOffset(boot_id, answer) => drop(answer.send(Ok(store.boot_offset(boot_id)))),
        Call::KeepBootOffset(boot_id, offset, answer) => drop(answer.send(store.keep_boot_offset(boot_id, offset))),
        Call::KeepReplay(replay, answer) => {
            let result = store.keep_replay(&replay);
            publish(replays, store.replays());
            drop(answer.send(result));
        }
        Call::Report(answer) => drop(answer.send(store.report())),
        Call::Look(chunk, stream, from, answer) => drop(answer.send(store.look(&chunk, stream, from))),
        Call::SalvageChunk(chunk, reason, answer) => {
            drop(answer.send(store.salvage_chunk(&chunk, &reason)));
        }
        Call::Reconfigure(options, answer) => {
            let result = store.reconfigure(options);
            publish(ends, store.ends());
            drop(answer.send(result));
        }
        // The loop takes it before it comes here.
        Call::Close(answer) => answer.send(()).unwrap_or_default(),
    }
}

fn publish<T: PartialEq>(sender: &watch::Sender<T>, value: T) {
    sender.send_if_modified(|held| {
        let changed = *held != value;
        *held = value;
        changed
    });
}
