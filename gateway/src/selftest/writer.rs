//! The second process: commits numbered readings, a step for each line that it is sent, and says what it did. A line's number asks it to end
//! itself between that write of the step and its synchronisation.
//!
//! Its words, a line each: `open`; then for each step `tried <first> <last>`, `acknowledged <first> <last> <microseconds>`,
//! `delivered <total>`; in between, `written <path>` and `synchronised <path>` of the databases below.

use super::store_options;
use crate::block::columns::{Encoder, Frame, JudgedReading};
use crate::buffer::{Buffer, BufferError, Commit, LaneChange};
use crate::clock::Clock;
use crate::reading::{AnomalyScore, Flags, NO_HASH, Outcome, PointId, Quality, Stream, Value};
use crate::site::PointKey;
use rustix::process::{Signal, getpid, kill_process};
use std::io::{BufRead as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::time::Instant;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// The sink whose cursor follows.
pub(super) const SINK: &str = "selftest";

/// Most readings of a commit: with their 80 bytes several blocks.
const READINGS_MAX: u64 = 300;

/// Random characters of a reading, so that the buffer fills and chunks rotate.
const NOISE_CHARS: usize = 64;

/// Writes until it is killed or its input ends.
///
/// # Errors
/// If the buffer does not take a commit.
pub async fn write(data_dir: &Path, next_number: u64, seed: u64) -> Result<(), BufferError> {
    let writes_left = Arc::new(AtomicUsize::new(0));
    tracing_subscriber::registry().with(Words { writes_left: writes_left.clone() }).init();
    let mut random = fastrand::Rng::with_seed(seed);
    let clock = Clock::system();
    let (buffer, opened) = Buffer::open(store_options(data_dir), clock.clone()).await?;
    let mut encoder = Encoder::new().map_err(|error| BufferError::Disk(error.to_string()))?;
    let point =
        PointKey { device: "selftest".into(), point: "number".into(), unit: "".into(), source: "selftest".into() };
    let points = if opened.points.is_empty() { vec![(PointId(0), Arc::new(point))] } else { Vec::new() };
    let mut number = next_number;
    say("open");
    for line in std::io::stdin().lock().lines() {
        writes_left.store(line.ok().and_then(|line| line.parse().ok()).unwrap_or_default(), Ordering::SeqCst);
        let (first, last) = (number, number + random.u64(0..READINGS_MAX));
        number = last + 1;
        say(&format!("tried {first} {last}"));
        let tick = clock.tick();
        let readings: Vec<JudgedReading> =
            (first..=last).map(|number| reading(number, tick.mono_us, &mut random)).collect();
        let mut drafts = Vec::new();
        let frame = Frame { boot_id: clock.boot_id, base: tick, config_version: 1 };
        encoder.encode(&readings, &[], &frame, &mut drafts).map_err(|error| BufferError::Disk(error.to_string()))?;
        let started = Instant::now();
        buffer.commit(Commit { points: points.clone(), drafts, ..Commit::default() }).await?;
        say(&format!("acknowledged {first} {last} {}", started.elapsed().as_micros()));
        say(&format!("delivered {}", deliver(&buffer).await?));
    }
    buffer.close().await;
    Ok(())
}

/// Moves the sink's cursor to the end, now and then.
async fn deliver(buffer: &Buffer) -> Result<u64, BufferError> {
    let mut lane = buffer.lane(SINK, Stream::Readings).await?;
    let next = buffer.ends().borrow().get(Stream::Readings.index()).map_or(0, |ends| ends.next);
    lane.delivered += next.saturating_sub(lane.cursor.from);
    lane.cursor.from = next;
    let change = LaneChange { sink: SINK.to_owned(), stream: Stream::Readings, lane, records: Vec::new() };
    Ok(buffer.change_lane(change).await?.delivered)
}

fn reading(number: u64, mono_us: u64, random: &mut fastrand::Rng) -> JudgedReading {
    let noise: String = (0..NOISE_CHARS).map(|_| random.alphanumeric()).collect();
    JudgedReading {
        point: PointId(0),
        outcome: Ok(Value::Text(format!("{number:016x}{noise}").into())),
        observed_at_us: None,
        received_mono_us: mono_us,
        quality: Quality::Good,
        flags: Flags::default(),
        score: AnomalyScore::default(),
        message_hash: NO_HASH,
        note: None,
    }
}

/// The number that a reading carries.
pub(super) fn number_of(outcome: &Outcome) -> Option<u64> {
    let Ok(Value::Text(text)) = outcome else { return None };
    u64::from_str_radix(text.get(..16)?, 16).ok()
}

/// One write a line, at once: what is said was said, however the process ends.
fn say(word: &str) {
    let mut out = std::io::stdout().lock();
    // Nobody listens any more: the input has ended, too, and with it this process.
    out.write_all(format!("{word}\n").as_bytes()).and_then(|()| out.flush()).ok();
}

/// Passes on what the databases say of their writes, and ends the process after one of them.
struct Words {
    /// Writes until the end; 0 for no end.
    writes_left: Arc<AtomicUsize>,
}

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Words {
    fn enabled(&self, metadata: &tracing::Metadata<'_>, _: tracing_subscriber::layer::Context<'_, S>) -> bool {
        metadata.target() == crate::buffer::WRITES_TARGET
    }

    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        let mut line = Line::default();
        event.record(&mut line);
        say(&format!("{} {}", line.what, line.path));
        if line.what == "written"
            && self.writes_left.load(Ordering::SeqCst) > 0
            && self.writes_left.fetch_sub(1, Ordering::SeqCst) == 1
        {
            // An error cannot be: every process may signal itself.
            kill_process(getpid(), Signal::KILL).ok();
        }
    }
}

#[derive(Default)]
struct Line {
    what: String,
    path: String,
}

impl tracing::field::Visit for Line {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        match field.name() {
            "message" => self.what = format!("{value:?}"),
            "path" => self.path = format!("{value:?}"),
            _ => {}
        }
    }
}
