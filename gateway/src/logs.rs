//! The newest log lines, kept in memory for the page: a ring that ends in count and bytes, and followers that may be slow.
//!
//! The handle is made where logging starts and handed down to the page; there is no global one. What secrets are is settled
//! before a line is written: they are never in one.

use crate::clock::Clock;
use crate::reading::UnixMicros;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::broadcast;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Most lines that are kept.
pub const LINES_MAX: usize = 2000;

/// Most bytes that they take together.
pub const BYTES_MAX: usize = 1024 * 1024;

/// Most lines of a page.
pub const PAGE_LINES_MAX: usize = 500;

/// Longest message, in bytes; the rest is cut.
const MESSAGE_BYTES_MAX: usize = 2048;

/// Longest value of a field, in bytes; the rest is cut.
const FIELD_BYTES_MAX: usize = 512;

/// Most fields of a line; the rest is left out.
const FIELDS_MAX: usize = 16;

/// Lines that wait for a follower; one that is further behind is told how many it missed.
const FOLLOWER_LINES_MAX: usize = 256;

/// What a line costs beside its texts, in bytes.
const LINE_BYTES: usize = 128;

/// How much a line matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Every step.
    #[default]
    Trace,
    /// For who looks for a defect.
    Debug,
    /// What went on.
    Info,
    /// Look at it soon.
    Warn,
    /// Look at it now.
    Error,
}

impl LogLevel {
    /// Every level, the least first.
    pub const ALL: [Self; 5] = [Self::Trace, Self::Debug, Self::Info, Self::Warn, Self::Error];

    /// The name used in JSON and on the page.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }

    /// The level of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.name() == name)
    }
}

impl From<&tracing::Level> for LogLevel {
    fn from(level: &tracing::Level) -> Self {
        match *level {
            tracing::Level::ERROR => Self::Error,
            tracing::Level::WARN => Self::Warn,
            tracing::Level::INFO => Self::Info,
            tracing::Level::DEBUG => Self::Debug,
            tracing::Level::TRACE => Self::Trace,
        }
    }
}

/// A log line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LogLine {
    /// Counts the lines since the start, from 0, without holes.
    pub sequence: u64,
    /// When it was written, in microseconds since 1970.
    pub at_us: UnixMicros,
    /// How much it matters.
    pub level: LogLevel,
    /// The part of the program that wrote it.
    pub target: String,
    /// The sentence.
    pub message: String,
    /// What it says beside, by name.
    pub fields: BTreeMap<String, String>,
}

impl LogLine {
    fn bytes(&self) -> usize {
        let fields: usize = self.fields.iter().map(|(name, value)| name.len() + value.len() + LINE_BYTES / 2).sum();
        LINE_BYTES + self.target.len() + self.message.len() + fields
    }

    /// Whether a text stands in it, whatever the case; `needle` is in lower case.
    fn contains(&self, needle: &str) -> bool {
        let has = |text: &str| text.to_lowercase().contains(needle);
        has(&self.message) || has(&self.target) || self.fields.iter().any(|(name, value)| has(name) || has(value))
    }
}

/// Which lines are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// Only lines below this sequence: the page before a known one.
    pub before: Option<u64>,
    /// Only lines above this sequence: what came since.
    pub after: Option<u64>,
    /// Only lines that matter at least so much.
    pub level_min: LogLevel,
    /// Only lines in which this text stands, whatever the case.
    pub text: Option<String>,
    /// At most so many, and at most [`PAGE_LINES_MAX`]; the newest of them.
    pub limit: usize,
}

impl LogQuery {
    /// Whether a line is wanted.
    #[must_use]
    pub fn wants(&self, line: &LogLine) -> bool {
        self.before.is_none_or(|before| line.sequence < before)
            && self.after.is_none_or(|after| line.sequence > after)
            && line.level >= self.level_min
            && self.text.as_deref().is_none_or(|text| line.contains(&text.to_lowercase()))
    }
}

/// Some lines, the newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LogPage {
    /// The lines.
    pub lines: Vec<Arc<LogLine>>,
    /// Where older ones go on (`before`); nothing if there are none that are kept.
    pub next: Option<u64>,
    /// The oldest sequence that is kept.
    pub oldest: u64,
    /// The sequence that the next line will get.
    pub end: u64,
}

/// The newest lines; clones share them.
#[derive(Clone)]
pub struct LogRing {
    inner: Arc<Inner>,
}

struct Inner {
    clock: Clock,
    kept: Mutex<Kept>,
    followers: broadcast::Sender<Arc<LogLine>>,
}

#[derive(Default)]
struct Kept {
    lines: VecDeque<Arc<LogLine>>,
    bytes: usize,
    next: u64,
}

impl fmt::Debug for LogRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogRing").field("lines", &self.kept().lines.len()).finish_non_exhaustive()
    }
}

impl Default for LogRing {
    fn default() -> Self {
        Self::new(Clock::system())
    }
}

impl LogRing {
    /// An empty ring; lines get their times from this clock.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        let (followers, _) = broadcast::channel(FOLLOWER_LINES_MAX);
        Self { inner: Arc::new(Inner { clock, kept: Mutex::default(), followers }) }
    }

    /// What puts the program's lines into it.
    #[must_use]
    pub fn layer(&self) -> LogLayer {
        LogLayer { ring: self.clone() }
    }

    /// Some of the lines.
    #[must_use]
    pub fn page(&self, query: &LogQuery) -> LogPage {
        let kept = self.kept();
        let limit = query.limit.clamp(1, PAGE_LINES_MAX);
        let oldest = kept.lines.front().map_or(kept.next, |line| line.sequence);
        let mut wanted = kept.lines.iter().rev().filter(|line| query.wants(line));
        let lines: Vec<Arc<LogLine>> = wanted.by_ref().take(limit).cloned().collect();
        let more = wanted.next().is_some();
        let next = lines.last().map(|line| line.sequence).filter(|_| more);
        LogPage { lines, next, oldest, end: kept.next }
    }

    /// Follows the lines from now on.
    #[must_use]
    pub fn subscribe(&self) -> LogFollower {
        LogFollower { lines: self.inner.followers.subscribe() }
    }

    fn push(&self, level: LogLevel, target: &str, words: Words) {
        let at_us = self.inner.clock.tick().wall_us;
        let mut kept = self.kept();
        let sequence = kept.next;
        kept.next += 1;
        let Words { message, fields } = words;
        let line = Arc::new(LogLine { sequence, at_us, level, target: target.to_owned(), message, fields });
        kept.bytes += line.bytes();
        kept.lines.push_back(line.clone());
        while kept.lines.len() > LINES_MAX || kept.bytes > BYTES_MAX {
            let Some(gone) = kept.lines.pop_front() else { break };
            kept.bytes = kept.bytes.saturating_sub(gone.bytes());
        }
        // Under the lock, so that followers get them in order; nobody may follow.
        self.inner.followers.send(line).ok();
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.inner.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a follower gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Followed {
    /// The next line.
    Line(Arc<LogLine>),
    /// So many lines came faster than the follower took them; those that are kept are still in the ring.
    Missed(u64),
}

/// Gets every line from the moment it began to follow.
#[derive(Debug)]
pub struct LogFollower {
    lines: broadcast::Receiver<Arc<LogLine>>,
}

impl LogFollower {
    /// The next line, or how many were missed; nothing once the ring is gone.
    pub async fn next(&mut self) -> Option<Followed> {
        match self.lines.recv().await {
            Ok(line) => Some(Followed::Line(line)),
            Err(broadcast::error::RecvError::Lagged(missed)) => Some(Followed::Missed(missed)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

/// Puts the program's lines into a ring.
#[derive(Clone, Debug)]
pub struct LogLayer {
    ring: LogRing,
}

impl<S: Subscriber> Layer<S> for LogLayer {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut words = Words::default();
        event.record(&mut words);
        self.ring.push(event.metadata().level().into(), event.metadata().target(), words);
    }
}

/// A line's message and fields as they are visited.
#[derive(Default)]
struct Words {
    message: String,
    fields: BTreeMap<String, String>,
}

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let is_message = field.name() == "message";
        let mut text = Cut { text: String::new(), left: if is_message { MESSAGE_BYTES_MAX } else { FIELD_BYTES_MAX } };
        // It errs where it is full, which ends a long value early.
        write!(text, "{value:?}").ok();
        self.put(field.name(), text.text);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let is_message = field.name() == "message";
        let mut text = Cut { text: String::new(), left: if is_message { MESSAGE_BYTES_MAX } else { FIELD_BYTES_MAX } };
        text.write_str(value).ok();
        self.put(field.name(), text.text);
    }
}

impl Words {
    fn put(&mut self, name: &str, text: String) {
        if name == "message" {
            self.message = text;
        } else if self.fields.len() < FIELDS_MAX {
            self.fields.insert(name.to_owned(), text);
        }
    }
}

/// A text that ends at so many bytes, at a character's edge, with an ellipsis.
struct Cut {
    text: String,
    left: usize,
}

impl fmt::Write for Cut {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if text.len() <= self.left {
            self.left -= text.len();
            self.text.push_str(text);
            return Ok(());
        }
        let mut end = self.left;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        self.text.push_str(text.get(..end).unwrap_or_default());
        self.text.push('…');
        self.left = 0;
        Err(fmt::Error)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use tracing_subscriber::prelude::*;

    const NOW_US: UnixMicros = 1_800_000_000_000_000;

    fn ring() -> LogRing {
        LogRing::new(Clock::manual(1, 1, NOW_US))
    }

    fn with_lines(ring: &LogRing, write: impl FnOnce()) {
        let subscriber = tracing_subscriber::registry().with(ring.layer());
        tracing::subscriber::with_default(subscriber, write);
    }

    fn query(limit: usize) -> LogQuery {
        LogQuery { limit, ..LogQuery::default() }
    }

    #[test]
    fn a_line_has_its_level_time_words_and_fields() {
        let ring = ring();
        with_lines(
            &ring,
            || tracing::warn!(subject = "boiler", unit = 4, advice = %"look", "it does not {}", "answer"),
        );
        let page = ring.page(&query(10));
        let line = &page.lines[0];
        assert_eq!((line.sequence, line.at_us, line.level), (0, NOW_US, LogLevel::Warn));
        assert_eq!(line.message, "it does not answer");
        assert!(line.target.starts_with("forebay::logs"), "{}", line.target);
        let fields: Vec<_> = line.fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(fields, ["advice=look", "subject=boiler", "unit=4"]);
    }

    #[test]
    fn pages_go_back_without_repeating_or_leaving_out_a_line() {
        let ring = ring();
        with_lines(&ring, || (0..25).for_each(|number| tracing::info!("line {number}")));
        let (mut seen, mut before) = (Vec::new(), None);
        loop {
            let page = ring.page(&LogQuery { before, ..query(10) });
            seen.extend(page.lines.iter().map(|line| line.sequence));
            before = page.next;
            if before.is_none() {
                break;
            }
        }
        assert_eq!(seen, (0..25).rev().collect::<Vec<u64>>());
    }

    #[test]
    fn lines_are_found_by_level_and_by_any_of_their_words() {
        let ring = ring();
        with_lines(&ring, || {
            tracing::info!("all well");
            tracing::error!(sink = "Cloud", "refused");
            tracing::warn!("slow");
        });
        let messages = |query: LogQuery| -> Vec<String> {
            ring.page(&query).lines.iter().map(|line| line.message.clone()).collect()
        };
        assert_eq!(messages(LogQuery { level_min: LogLevel::Warn, ..query(10) }), ["slow", "refused"]);
        assert_eq!(messages(LogQuery { text: Some("CLOUD".to_owned()), ..query(10) }), ["refused"]);
        assert_eq!(messages(LogQuery { after: Some(0), ..query(10) }), ["slow", "refused"]);
    }

    #[test]
    fn a_flood_keeps_the_newest_within_the_limits() {
        let ring = ring();
        let long = "x".repeat(10_000);
        with_lines(&ring, || (0..5_000).for_each(|number| tracing::info!(long, "{number} {long}")));
        let kept = ring.kept();
        assert!(kept.lines.len() <= LINES_MAX && kept.bytes <= BYTES_MAX, "{} {}", kept.lines.len(), kept.bytes);
        assert_eq!(kept.lines.back().unwrap().sequence, 4_999);
        assert!(kept.lines.iter().all(|line| line.message.len() <= MESSAGE_BYTES_MAX + 3));
        let sum: usize = kept.lines.iter().map(|line| line.bytes()).sum();
        assert_eq!(sum, kept.bytes);
    }

    #[tokio::test]
    async fn a_slow_follower_is_told_how_many_lines_it_missed() {
        let ring = ring();
        let mut follower = ring.subscribe();
        let count = FOLLOWER_LINES_MAX as u64 + 44;
        with_lines(&ring, || (0..count).for_each(|number| tracing::info!("{number}")));
        assert_eq!(follower.next().await, Some(Followed::Missed(44)));
        let Some(Followed::Line(line)) = follower.next().await else { panic!("no line") };
        assert_eq!(line.sequence, 44);
    }

    #[test]
    fn levels_are_known_by_their_names() {
        for level in LogLevel::ALL {
            assert_eq!(LogLevel::from_name(level.name()), Some(level));
        }
        assert_eq!(LogLevel::from_name("loud"), None);
    }
}
