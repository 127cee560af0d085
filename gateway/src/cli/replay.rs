//! `forebay replay`: asks a running gateway to send records of the past once more, and shows how far it is.

use super::buffer::{ConfigOption, stream};
use super::when;
use crate::buffer::{Replay, ReplayState};
use crate::clock::Clock;
use crate::control::{self, ControlError, Request};
use anyhow::{Result, anyhow, bail};
use clap::Args;
use serde::de::DeserializeOwned;
use std::io::Write;
use std::path::Path;
use std::time::Duration;
use tokio::time::Instant;

/// How often the gateway is asked how far it is.
const ASK_EVERY: Duration = Duration::from_millis(250);

/// How often that is printed.
const TELL_EVERY: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
pub(super) struct ReplayArguments {
    #[command(flatten)]
    config: ConfigOption,
    /// The sink that gets the records once more: an HTTP endpoint under keys that end in replay-<number>, a Kafka cluster on the
    /// topic <prefix>.replay. Its own delivery goes on undisturbed.
    #[arg(long, value_name = "NAME", required_unless_present_any = ["list", "cancel"])]
    sink: Option<String>,
    /// What came at or after this time: 2026-11-20T10:00:00Z, "2 h ago".
    #[arg(long, value_name = "TIME", required_unless_present_any = ["list", "cancel"])]
    from: Option<String>,
    /// What came at or before this time.
    #[arg(long, value_name = "TIME", default_value = "now")]
    to: String,
    /// Only these points, as device/point with * for any characters; may be given several times.
    #[arg(long, value_name = "PATTERN")]
    points: Vec<String>,
    /// Which stream: readings, alerts, gaps, dead-letters.
    #[arg(long, default_value = "readings")]
    stream: String,
    /// Do not wait for the end; it goes on by itself, also after a restart.
    #[arg(long)]
    no_wait: bool,
    /// Show the replays under way and the last ones that ended.
    #[arg(long, conflicts_with_all = ["sink", "from", "cancel"])]
    list: bool,
    /// Call a replay off.
    #[arg(long, value_name = "NUMBER", conflicts_with_all = ["sink", "from"])]
    cancel: Option<u32>,
}

pub(super) fn run(arguments: &ReplayArguments) -> Result<()> {
    let config = arguments.config.load()?.config;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(execute(arguments, &config.gateway.data_dir))
}

async fn execute(arguments: &ReplayArguments, data_dir: &Path) -> Result<()> {
    let mut out = std::io::stdout();
    if arguments.list {
        let replays: Vec<Replay> = ask(data_dir, &Request::Replays).await?;
        if replays.is_empty() {
            writeln!(out, "there are no replays")?;
        }
        for replay in &replays {
            writeln!(out, "{}", line(replay))?;
        }
        return Ok(());
    }
    if let Some(id) = arguments.cancel {
        let replay: Replay = ask(data_dir, &Request::CancelReplay { id }).await?;
        writeln!(out, "{}", line(&replay))?;
        return Ok(());
    }
    let now_us = Clock::system().tick().wall_us;
    let request = Request::Replay {
        sink: arguments.sink.clone().unwrap_or_default(),
        stream: stream(&arguments.stream)?,
        from_us: when::parse(arguments.from.as_deref().unwrap_or("now"), now_us)?,
        to_us: when::parse(&arguments.to, now_us)?,
        points: arguments.points.clone(),
    };
    let replay: Replay = ask(data_dir, &request).await?;
    writeln!(out, "{}", line(&replay))?;
    if arguments.no_wait {
        return Ok(());
    }
    wait(data_dir, replay.id, &mut out).await
}

/// Shows how far it is until it has ended.
async fn wait(data_dir: &Path, id: u32, out: &mut impl Write) -> Result<()> {
    let began = Instant::now();
    let mut told = began;
    loop {
        tokio::time::sleep(ASK_EVERY).await;
        let replays: Vec<Replay> = ask(data_dir, &Request::Replays).await.map_err(|error| {
            anyhow!("{error:#}; replay {id} is kept and goes on when the gateway runs again (forebay replay --list)")
        })?;
        let Some(replay) = replays.into_iter().find(|replay| replay.id == id) else {
            bail!("the gateway does not know replay {id} any more");
        };
        match &replay.state {
            ReplayState::Running if told.elapsed() >= TELL_EVERY => {
                told = Instant::now();
                let share = share(&replay);
                let left = began.elapsed().as_secs_f64() * (1.0 - share) / share.max(1e-9);
                let left = if share > 0.0 { format!(", {left:.0} s left") } else { String::new() };
                writeln!(out, "{}{left}", line(&replay))?;
            }
            ReplayState::Running => {}
            ReplayState::Done => {
                writeln!(out, "{}", line(&replay))?;
                return Ok(());
            }
            ReplayState::Cancelled => bail!("replay {id} was called off"),
            ReplayState::Failed(reason) => bail!("replay {id} ended: {reason}"),
        }
    }
}

/// How much of it is behind, in 0..=1.
fn share(replay: &Replay) -> f64 {
    let Some(range) = replay.range else { return 0.0 };
    (replay.next.saturating_sub(range.first) as f64 / range.count() as f64).clamp(0.0, 1.0)
}

/// A replay in a line.
fn line(replay: &Replay) -> String {
    let state = match &replay.state {
        ReplayState::Running => format!("{:.0} %", 100.0 * share(replay)),
        ReplayState::Done => "done".to_owned(),
        ReplayState::Cancelled => "called off".to_owned(),
        ReplayState::Failed(reason) => format!("ended: {reason}"),
    };
    let (from, to) = (when::show_second(replay.from_us), when::show_second(replay.to_us));
    let points = if replay.points.is_empty() { String::new() } else { format!(" of {}", replay.points.join(", ")) };
    let refused = if replay.refused > 0 { format!(", {} refused", replay.refused) } else { String::new() };
    let lost = if replay.lost > 0 { format!(", {} not on disk any more", replay.lost) } else { String::new() };
    let trouble = replay.trouble.as_ref().filter(|_| replay.is_running());
    let trouble = trouble.map(|trouble| format!("; waiting: {trouble}")).unwrap_or_default();
    format!(
        "replay {} to {}: {}{points}, {from} to {to}: {state}, {} records sent{refused}{lost}{trouble}",
        replay.id, replay.sink, replay.stream, replay.delivered
    )
}

async fn ask<T: DeserializeOwned>(data_dir: &Path, request: &Request) -> Result<T> {
    control::ask(data_dir, request, |_| {}).await.map_err(|error| match error {
        ControlError::NotRunning(socket) => {
            anyhow!("no gateway answers at {socket}: a replay is sent by a running gateway; start it first")
        }
        error => error.into(),
    })
}
