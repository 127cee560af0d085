//! `forebay buffer export`: records as NDJSON, as sinks get them, or readings as CSV; block by block, so that memory stays small.

use super::blocks::{Blocks, Step};
use super::shelf::Shelf;
use super::{ConfigOption, stream};
use crate::block::columns::ReadingRow;
use crate::block::{Block, BlockError};
use crate::buffer::ExtentReport;
use crate::cli::when;
use crate::clock::Clock;
use crate::history::{READINGS_HEAD, put_reading, stretches};
use crate::reading::{Sequence, SequenceRange, Stream, UnixMicros};
use crate::sinks::encode::{RENDER_VERSION, RenderContext, Renderer, View};
use crate::sinks::route::Route;
use crate::site::{PointKey, PointPattern, Registry};
use anyhow::{Context as _, Result, anyhow, bail};
use clap::{Args, ValueEnum};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;

#[derive(Debug, Args)]
pub(in crate::cli) struct ExportArguments {
    #[command(flatten)]
    config: ConfigOption,
    /// Which stream: readings, alerts, gaps, dead-letters.
    #[arg(long, default_value = "readings")]
    stream: String,
    /// Only what came at or after this time: 2026-11-20T10:00:00Z, "2 h ago".
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Only what came at or before this time.
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// Only these points, as device/point with * for any characters; may be given several times.
    #[arg(long, value_name = "PATTERN")]
    points: Vec<String>,
    /// How it is written.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Where to [default: standard output].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// One JSON object a line, as sinks get them.
    #[default]
    Ndjson,
    /// Readings as a table; the first line names the columns.
    Csv,
}

/// Which records are wanted.
pub(super) struct Selection {
    from_us: UnixMicros,
    to_us: UnixMicros,
    patterns: Vec<PointPattern>,
    /// By point number, whether a pattern names it; all, if there is no pattern.
    points: Vec<bool>,
}

impl Selection {
    fn new(arguments: &ExportArguments, stream: Stream, points: &[PointKey]) -> Result<Self> {
        let now_us = Clock::system().tick().wall_us;
        let time = |text: &Option<String>| text.as_deref().map(|text| when::parse(text, now_us)).transpose();
        let from_us = time(&arguments.from)?.unwrap_or(UnixMicros::MIN);
        let to_us = time(&arguments.to)?.unwrap_or(UnixMicros::MAX);
        if from_us > to_us {
            bail!("--from {} is after --to {}", when::show(from_us), when::show(to_us));
        }
        if !arguments.points.is_empty() && stream != Stream::Readings {
            bail!("--points chooses among readings; {stream} have none");
        }
        let pattern = |text: &String| {
            PointPattern::parse(text).ok_or_else(|| {
                anyhow!("{text:?} is no pattern of points; write device/point, with * for any characters")
            })
        };
        let patterns: Vec<PointPattern> = arguments.points.iter().map(pattern).collect::<Result<_>>()?;
        let is_named = |key: &PointKey| {
            patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches(&key.device, &key.point))
        };
        let points: Vec<bool> = points.iter().map(is_named).collect();
        if !patterns.is_empty() && !points.contains(&true) {
            bail!(
                "no point of this gateway matches {}; `forebay buffer dump --last 20` shows some",
                arguments.points.join(", ")
            );
        }
        Ok(Self { from_us, to_us, patterns, points })
    }

    fn wants_extent(&self, extent: &ExtentReport) -> bool {
        // Times of a chunk that nobody could survey are unknown.
        let is_unknown = extent.first_time_us == 0 && extent.last_time_us == 0;
        is_unknown || (extent.first_time_us <= self.to_us && extent.last_time_us >= self.from_us)
    }

    fn wants_block(&self, block: &Block) -> bool {
        block.meta.first_time_us <= self.to_us && block.meta.last_time_us >= self.from_us
    }

    fn wants_time(&self, time_us: UnixMicros) -> bool {
        (self.from_us..=self.to_us).contains(&time_us)
    }

    fn wants_row(&self, row: &ReadingRow) -> bool {
        let is_named = self.patterns.is_empty() || self.points.get(row.reading.point.0 as usize) == Some(&true);
        is_named && self.wants_time(row.received_at_us)
    }

    /// The stretches of a block that are wanted.
    fn stretches(&self, block: &Block) -> Result<Vec<SequenceRange>, BlockError> {
        let wanted: Vec<Sequence> = if block.meta.stream == Stream::Readings {
            block.readings()?.iter().filter(|row| self.wants_row(row)).map(|row| row.sequence).collect()
        } else {
            let records = block.records()?;
            records.iter().filter(|r| self.wants_time(r.record.time_us)).map(|record| record.sequence).collect()
        };
        Ok(stretches(&wanted))
    }
}

pub(super) async fn run(arguments: ExportArguments) -> Result<()> {
    let config = arguments.config.load()?.config;
    let stream = stream(&arguments.stream)?;
    if arguments.format == Format::Csv && stream != Stream::Readings {
        bail!("only readings are a table; use --format ndjson for {stream}");
    }
    let mut shelf = Shelf::open(&config).await?;
    let report = shelf.report().await?;
    let points = shelf.points().await?;
    let selection = Selection::new(&arguments, stream, &points)?;
    let target: Box<dyn Write> = match &arguments.out {
        None => Box::new(std::io::stdout()),
        Some(path) => Box::new(File::create(path).with_context(|| format!("cannot write {}", path.display()))?),
    };
    let mut out = BufWriter::new(target);
    let context = RenderContext {
        gateway: config.gateway.id.clone(),
        epoch: report.epoch,
        view: View { tags: Arc::new(config.device_tags()), route: Route::default() },
        registry: Arc::new(Registry::restore(points.clone())),
    };
    let mut renderer = Renderer::new(RENDER_VERSION, context)?;
    if arguments.format == Format::Csv {
        writeln!(out, "{READINGS_HEAD}")?;
    }
    let (mut records, mut faults) = (0u64, 0u64);
    let all = SequenceRange { first: 0, last: Sequence::MAX };
    let mut blocks = Blocks::of(&report, stream, all, |extent| selection.wants_extent(extent));
    while let Some(step) = blocks.next(&mut shelf).await? {
        let written = match step {
            Step::Gone(_) => Ok(0),
            Step::Bad { chunk, what } => Err(format!("{chunk}: {what}")),
            Step::Sound(block) if !selection.wants_block(&block) => Ok(0),
            Step::Sound(block) => match arguments.format {
                Format::Ndjson => ndjson(&block, &selection, &mut renderer, &mut out)?,
                Format::Csv => csv(&block, &selection, &points, &mut out)?,
            },
        };
        match written {
            Ok(count) => records += count,
            Err(what) => {
                faults += 1;
                writeln!(std::io::stderr(), "wrong: {what}")?;
            }
        }
    }
    out.flush()?;
    if faults > 0 {
        bail!(
            "{records} records are written, but not all could be read; `forebay buffer repair` brings back what is sound"
        );
    }
    if arguments.out.is_some() {
        writeln!(std::io::stderr(), "{records} records are written")?;
    }
    Ok(())
}

/// Writes what is wanted of a block; the inner error says that it cannot be read.
fn ndjson(
    block: &Block,
    selection: &Selection,
    renderer: &mut Renderer,
    out: &mut impl Write,
) -> Result<Result<u64, String>> {
    let stretches = match selection.stretches(block) {
        Ok(stretches) => stretches,
        Err(error) => return Ok(Err(format!("{}/{}: {error}", block.meta.stream, block.range))),
    };
    let mut count = 0;
    for stretch in stretches {
        match renderer.render_block(block, stretch) {
            Err(error) => return Ok(Err(error.to_string())),
            Ok(records) => {
                count += records.len() as u64;
                for record in records {
                    out.write_all(&record.json)?;
                    out.write_all(b"\n")?;
                }
            }
        }
    }
    Ok(Ok(count))
}

fn csv(block: &Block, selection: &Selection, points: &[PointKey], out: &mut impl Write) -> Result<Result<u64, String>> {
    let rows = match block.readings() {
        Ok(rows) => rows,
        Err(error) => return Ok(Err(format!("{}/{}: {error}", block.meta.stream, block.range))),
    };
    let mut count = 0;
    for row in rows.iter().filter(|row| selection.wants_row(row)) {
        let Some(key) = points.get(row.reading.point.0 as usize) else {
            return Ok(Err(format!("reading {} is of a point that nobody knows", row.sequence)));
        };
        put_reading(row, key, out)?;
        count += 1;
    }
    Ok(Ok(count))
}
