//! `forebay selftest powercut`: shows on the user's own board and card that what was acknowledged is still there after the end.
//!
//! A second process (`selftest/writer.rs`) commits numbered readings into a buffer in a scratch directory and says what was acknowledged.
//! It is killed at random moments; in half of the trials, what it had written and not yet synchronised is torn afterwards
//! (`selftest/torn.rs`), as a power cut could leave it. Then the buffer is opened and read from end to end (`selftest/holdings.rs`).
//!
//! What no program can show: whether the card itself keeps what it has confirmed when its power goes.

mod holdings;
mod torn;
mod writer;

pub use writer::write;

use crate::buffer::{BufferError, SinkLanes, StoreOptions, WhenFull};
use crate::reading::Stream;
use holdings::{Book, Findings};
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::{Instant, timeout};
use torn::Before;

/// Cap of the scratch buffer: small, so that chunks rotate and are evicted while the trials run.
const DISK_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Most steps of one writer before it is killed.
const STEPS_MAX: usize = 12;

/// The file of a database that is written to and synchronised.
const LOG: &str = "db";

/// Writes of a step: the commit and the lane; a step that begins a chunk has more.
const WRITES_MAX: usize = 2;

/// Longest wait for a word of the writer: the slowest card, and an opening with repairs.
const WORD: Duration = Duration::from_mins(1);

/// How often progress is told.
const TOLD_EVERY: Duration = Duration::from_secs(2);

/// A commit faster than this was not waited for by any flash: programming one page takes some 200 µs (Micron TN-29-19, typical).
const FLASH_US_MIN: u64 = 100;

/// What is to be tried.
#[derive(Debug)]
pub struct PowerCutOptions {
    /// Where the scratch directory is made: on the card that is to be tested.
    pub dir: PathBuf,
    /// How many trials.
    pub trials: u32,
    /// What the random choices follow from; told, so that a trial can be repeated.
    pub seed: u64,
}

/// What came of the trials.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Trials made.
    pub trials: u32,
    /// Trials in which unsynchronised writes were torn.
    pub torn_trials: u32,
    /// Pages of 4 KiB that were made older or torn.
    pub torn_pages: u64,
    /// Readings acknowledged.
    pub acknowledged: u64,
    /// Of these, readings that are neither there nor told as a gap.
    pub lost: u64,
    /// Readings that are there twice.
    pub repeated: u64,
    /// Readings that are there in another order than they were written.
    pub reordered: u64,
    /// Starts after which the books did not close, or a new epoch began.
    pub wrong_books: u64,
    /// Durations of commits, in microseconds, ascending.
    commit_us: Vec<u64>,
}

/// Why the test could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SelfTestError {
    /// The scratch directory.
    #[error("the scratch directory {path:?} cannot be used: {error}; name another with --dir")]
    Scratch {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The second process.
    #[error("the writing process failed: {0}")]
    Writer(String),
    /// The buffer itself.
    #[error(transparent)]
    Buffer(#[from] BufferError),
}

/// Makes the trials; `tell` gets a line of progress now and then.
///
/// # Errors
/// If the scratch directory or the second process cannot be used. What the trials find is in the verdict.
pub async fn power_cut(options: &PowerCutOptions, mut tell: impl FnMut(&str)) -> Result<Verdict, SelfTestError> {
    let scratch = Scratch::make(&options.dir)?;
    let mut random = fastrand::Rng::with_seed(options.seed);
    let (mut verdict, mut book) = (Verdict::default(), Book::default());
    let mut told = Instant::now();
    for trial in 0..options.trials {
        let mut writer = Writer::start(&scratch.data_dir(), book.next_number(), random.u64(..)).await?;
        let steps = random.usize(1..=STEPS_MAX);
        if trial % 2 == 0 {
            writer.kill_while_busy(steps, &mut book, &mut verdict, &mut random).await?;
        } else {
            let before = writer.stop_before_a_step(steps, &scratch, &mut book, &mut verdict).await?;
            let unsure = writer.kill_in_a_step(&mut book, &mut verdict, &mut random).await?;
            let pages = before.tear(&scratch.data_dir(), &unsure, &mut random).map_err(|error| scratch.error(error))?;
            verdict.torn_trials += u32::from(pages > 0);
            verdict.torn_pages += pages;
        }
        let findings = holdings::look(store_options(&scratch.data_dir()), &mut book).await?;
        verdict.count(&findings);
        if told.elapsed() >= TOLD_EVERY {
            told = Instant::now();
            tell(&format!(
                "{} of {} trials, {} readings acknowledged",
                verdict.trials, options.trials, verdict.acknowledged
            ));
        }
    }
    verdict.commit_us.sort_unstable();
    Ok(verdict)
}

fn store_options(data_dir: &Path) -> StoreOptions {
    StoreOptions {
        disk_bytes_max: DISK_BYTES_MAX,
        when_full: WhenFull::DropOldest,
        keep_delivered_us: i64::MAX,
        sinks: vec![SinkLanes { name: writer::SINK.to_owned(), streams: vec![Stream::Readings] }],
        ..StoreOptions::new(data_dir.to_owned())
    }
}

impl Verdict {
    fn count(&mut self, findings: &Findings) {
        self.trials += 1;
        self.lost += findings.lost;
        self.repeated += findings.repeated;
        self.reordered += findings.reordered;
        self.wrong_books += u64::from(!findings.books_close);
    }

    /// Whether nothing was lost, repeated, reordered or miscounted.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.lost + self.repeated + self.reordered + self.wrong_books == 0
    }

    /// For a person.
    #[must_use]
    pub fn words(&self) -> String {
        let mut text = String::new();
        let Self { trials, torn_trials, torn_pages, acknowledged, lost, repeated, reordered, wrong_books, .. } = self;
        // Writing into a string cannot fail.
        writeln!(
            text,
            "{trials} trials: the writing process was killed in each; in {torn_trials}, {torn_pages} pages not yet"
        )
        .ok();
        writeln!(text, "synchronised were put back or torn, as a power cut could leave them\n").ok();
        for (count, what) in
            [(acknowledged, "acknowledged"), (lost, "lost"), (repeated, "repeated"), (reordered, "reordered")]
        {
            writeln!(text, "{count:>12} readings {what}").ok();
        }
        if *wrong_books > 0 {
            writeln!(text, "{wrong_books:>12} starts whose books did not close").ok();
        }
        let [median, slowest] = [50, 99].map(|percent| self.commit_percentile_us(percent));
        writeln!(text, "\nA commit takes {} (median), {} (99 of 100).", millis(median), millis(slowest)).ok();
        if median < FLASH_US_MIN {
            writeln!(
                text,
                "That is faster than flash can be written: this is memory, or a card that confirms too early."
            )
            .ok();
        }
        let verdict = if self.is_good() {
            "Nothing that was acknowledged was lost."
        } else {
            "READINGS WERE LOST OR SPOILT: do not use this card, and please report this with the seed above."
        };
        writeln!(text, "{verdict}").ok();
        writeln!(
            text,
            "Not tested: whether the card keeps what it has confirmed when its power goes. Pull the plug for that."
        )
        .ok();
        text
    }

    fn commit_percentile_us(&self, percent: usize) -> u64 {
        let place = (self.commit_us.len() * percent / 100).min(self.commit_us.len().saturating_sub(1));
        self.commit_us.get(place).copied().unwrap_or_default()
    }
}

fn millis(us: u64) -> String {
    format!("{}.{:02} ms", us / 1_000, us % 1_000 / 10)
}

/// The scratch directory; removed at the end.
struct Scratch {
    path: PathBuf,
}

impl Scratch {
    fn make(dir: &Path) -> Result<Self, SelfTestError> {
        // The directory itself must be there: a mistyped one would try another card than was meant.
        let path = dir.join(format!("selftest-{:08x}", fastrand::u32(..)));
        let made = std::fs::create_dir(&path).and_then(|()| std::fs::create_dir(path.join("data")));
        made.map_err(|error| SelfTestError::Scratch { path: path.clone(), error })?;
        Ok(Self { path })
    }

    fn data_dir(&self) -> PathBuf {
        self.path.join("data")
    }

    fn error(&self, error: io::Error) -> SelfTestError {
        SelfTestError::Scratch { path: self.path.clone(), error }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "the scratch directory could not be removed");
        }
    }
}

/// The second process, and what it says.
struct Writer {
    child: Child,
    steps: ChildStdin,
    words: Lines<BufReader<ChildStdout>>,
    /// Files that were written to and not synchronised since, by the last words.
    unsure: Vec<PathBuf>,
    /// Files that were synchronised since the last step began.
    sure: Vec<PathBuf>,
}

impl Writer {
    async fn start(data_dir: &Path, next_number: u64, seed: u64) -> Result<Self, SelfTestError> {
        let failed = |what: &str| SelfTestError::Writer(what.to_owned());
        let program = std::env::current_exe().map_err(|error| failed(&error.to_string()))?;
        let mut child = Command::new(program)
            .args(["selftest", "writer", "--dir"])
            .arg(data_dir)
            .args(["--next".to_owned(), next_number.to_string(), "--seed".to_owned(), seed.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| failed(&error.to_string()))?;
        let (Some(steps), Some(words)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(failed("it cannot be talked to"));
        };
        let words = BufReader::new(words).lines();
        let mut writer = Self { child, steps, words, unsure: Vec::new(), sure: Vec::new() };
        while writer.word().await?.ok_or_else(|| failed("it ended before it began"))? != "open" {}
        Ok(writer)
    }

    /// The next line; none when the process is gone.
    async fn word(&mut self) -> Result<Option<String>, SelfTestError> {
        let word = timeout(WORD, self.words.next_line()).await;
        let word = word.map_err(|_| SelfTestError::Writer(format!("it said nothing for {WORD:?}")))?;
        let word = word.map_err(|error| SelfTestError::Writer(error.to_string()))?;
        match word.as_deref().and_then(|word| word.split_once(' ')) {
            Some(("written", path)) => self.unsure.push(Path::new(path).join(LOG)),
            Some(("synchronised", path)) => {
                let path = Path::new(path).join(LOG);
                self.unsure.retain(|unsure| *unsure != path);
                self.sure.push(path);
            }
            _ => {}
        }
        Ok(word)
    }

    /// Asks for a step; `ends_at`: the writer is to end itself between its so-manieth write and its synchronisation.
    async fn step(&mut self, ends_at: Option<usize>) -> Result<(), SelfTestError> {
        let line = format!("{}\n", ends_at.unwrap_or_default());
        self.steps.write_all(line.as_bytes()).await.map_err(|error| SelfTestError::Writer(error.to_string()))
    }

    /// Kills it at a random moment of a few steps.
    async fn kill_while_busy(
        mut self,
        steps: usize,
        book: &mut Book,
        verdict: &mut Verdict,
        random: &mut fastrand::Rng,
    ) -> Result<(), SelfTestError> {
        for _ in 0..steps {
            self.step(None).await?;
        }
        let mut left = random.usize(0..steps);
        while left > 0 {
            let Some(word) = self.word().await? else { break };
            left -= usize::from(book.hear(&word, verdict));
        }
        tokio::time::sleep(Duration::from_micros(random.u64(0..5_000))).await;
        self.kill(book, verdict).await
    }

    /// Lets it do some steps, and copies what is on disk while it waits for the next.
    async fn stop_before_a_step(
        &mut self,
        steps: usize,
        scratch: &Scratch,
        book: &mut Book,
        verdict: &mut Verdict,
    ) -> Result<Before, SelfTestError> {
        for _ in 0..steps {
            self.step(None).await?;
            while let Some(word) = self.word().await? {
                if book.hear(&word, verdict) {
                    break;
                }
            }
        }
        self.sure.clear();
        Before::copy(&scratch.data_dir(), &scratch.path.join("before")).map_err(|error| scratch.error(error))
    }

    /// Ends it in the middle of one step; the files that it had written to and not synchronised at all since the step began.
    async fn kill_in_a_step(
        mut self,
        book: &mut Book,
        verdict: &mut Verdict,
        random: &mut fastrand::Rng,
    ) -> Result<Vec<PathBuf>, SelfTestError> {
        self.step(Some(random.usize(1..=WRITES_MAX))).await?;
        while let Some(word) = self.word().await? {
            if book.hear(&word, verdict) {
                break;
            }
        }
        let unsure = self.unsure.iter().filter(|path| !self.sure.contains(path)).cloned().collect();
        self.kill(book, verdict).await?;
        Ok(unsure)
    }

    async fn kill(mut self, book: &mut Book, verdict: &mut Verdict) -> Result<(), SelfTestError> {
        self.child.start_kill().map_err(|error| SelfTestError::Writer(error.to_string()))?;
        while let Some(word) = self.word().await? {
            book.hear(&word, verdict);
        }
        self.child.wait().await.map_err(|error| SelfTestError::Writer(error.to_string()))?;
        Ok(())
    }
}
