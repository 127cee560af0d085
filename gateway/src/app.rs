//! The gateway put together: what starts in which order, who watches whom, and how all of it ends without losing anything.
//!
//! Start: page's port → buffer → ingest → deliveries → page → sources. End, the other way: sources stop → ingest commits and hands
//! receipts back → deliveries finish what they can within their time → the buffer is closed → the page goes last.

mod first_boot;
mod host;
mod label;
mod page;
mod parts;
mod plan;
mod reload;
mod supervisor;
mod tools;
mod trial;
mod witness;

pub use first_boot::{FirstStart, built_in};
pub use host::run;

use crate::access::Access;
use crate::block::records::Severity;
use crate::buffer::{Buffer, BufferError, Card, Cipher, KeyError, StoreOptions};
use crate::clock::Clock;
use crate::config::desk::Desk;
use crate::config::{Config, Loaded};
use crate::control::{Control, ReloadRequest};
use crate::delivery::Rendering;
use crate::history::History;
use crate::ingest::{Change, CommitPace, Ingest, IngestOptions};
use crate::judge::{Judge, Rules};
use crate::logs::LogRing;
use crate::reading::Epoch;
use crate::secret::SecretError;
use crate::sinks::pace::commit_interval_max;
use crate::sinks::{AnySink, SinkError, SinkOptions};
use crate::site::Registry;
use crate::sources::{INTAKES_MAX, Intake};
use crate::status::{Status, Trouble};
use crate::system::System;
use crate::web::{Tls, WebState};
use parts::{Parts, Wiring};
use plan::Plan;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use supervisor::Supervisor;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// How long a tool's step may take to end.
const CONTROL_STOP: Duration = Duration::from_secs(1);
/// Changes of the configuration that wait for ingest: they are made one at a time.
const CHANGES_MAX: usize = 1;
/// Reloads asked for that wait: a second one finds the first one's work done.
const RELOADS_MAX: usize = 4;
/// How long sources may take to stop: a Modbus poll under way, a broker's goodbye.
const SOURCES_STOP: Duration = Duration::from_secs(3);
/// How long the last commit may take: a slow card, twice.
const INGEST_STOP: Duration = Duration::from_secs(10);
/// How long deliveries may go on after the last commit; what is left then is delivered after the next start.
const DELIVERIES_STOP: Duration = Duration::from_secs(5);

/// Why the gateway did not start, or did not go on.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The data directory cannot be made.
    #[error(
        "data directory {path:?} cannot be made: {error}; check the path and that the user `forebay` may write there"
    )]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The buffer cannot be opened.
    #[error(transparent)]
    Buffer(#[from] BufferError),
    /// The file with the buffer's keys cannot be read.
    #[error("buffer.encryption: {0}")]
    KeyFile(SecretError),
    /// The file with the buffer's keys holds none.
    #[error("buffer.encryption: {0}")]
    Key(KeyError),
    /// A sink cannot be built.
    #[error("sink {name:?}: {error}")]
    Sink {
        /// The sink.
        name: String,
        /// What is wrong.
        error: SinkError,
    },
    /// A change on trial cannot be taken back.
    #[error(
        "the configuration before the trial does not run any more: {0}; the gateway ends, and its next start reads the file"
    )]
    TakeBack(String),
    /// A part ended that must not end.
    #[error("{0} ended by itself; this is a defect, please report it with the log")]
    Ended(String),
}

/// A gateway that runs.
#[derive(Debug)]
pub struct Running {
    /// What it says about itself.
    pub status: Arc<Status>,
    /// Where its page is; none while another program has its port.
    pub page: Option<SocketAddr>,
    plan: Plan,
    parts: Parts,
    ingest: Supervisor,
    web: Supervisor,
    web_state: WebState,
    control: Supervisor,
    reloads: mpsc::Receiver<ReloadRequest>,
}

/// Starts the gateway; when this returns, the buffer is open and the sources are started.
///
/// # Errors
/// If the data directory, the buffer or a sink cannot be set up. A page whose port is taken is served as soon as it is free.
pub async fn start(config: Config, config_text: String, clock: Clock, logs: LogRing) -> Result<Running, AppError> {
    let desk = Desk::closed(&config_text);
    let loaded = Loaded { config, text: config_text, warnings: Vec::new() };
    start_by(Plan::settled(loaded), clock, Handles { desk, access: None, logs }).await
}

/// What outlives a restart in place.
#[derive(Clone, Debug)]
struct Handles {
    /// Where the page and the tools hand in changes.
    desk: Desk,
    /// Who may enter, once it is known: who is signed in stays so.
    access: Option<Access>,
    /// The last lines of the log, for the page.
    logs: LogRing,
}

/// Starts the gateway by a plan.
async fn start_by(plan: Plan, clock: Clock, handles: Handles) -> Result<Running, AppError> {
    let config = &plan.config;
    let listener = TcpListener::bind(&config.web.listen).await;
    let page = listener.as_ref().ok().and_then(|listener| listener.local_addr().ok());
    let data_dir = config.gateway.data_dir.clone();
    std::fs::create_dir_all(&data_dir).map_err(|error| AppError::DataDir { path: data_dir.clone(), error })?;
    let (buffer, opened) = Buffer::open(plan.store_options()?, clock.clone()).await?;
    let epoch = opened.epoch.unwrap_or(Epoch(0));
    let config_version = buffer.keep_config(&plan.text).await?;
    tracing::info!(%epoch, config_version, points = opened.points.len(), "the buffer is open");
    let registry = Arc::new(Registry::restore(opened.points));
    let status = Arc::new(Status::new(&config.gateway.id, clock.tick().wall_us, Vec::new(), Vec::new()));

    let (intakes, intakes_out) = mpsc::channel::<Intake>(INTAKES_MAX);
    let (changes, changes_out) = mpsc::channel::<Change>(CHANGES_MAX);
    let rendering = Rendering { config_version, tags: Arc::new(config.device_tags()) };
    let wiring = Wiring {
        buffer: buffer.clone(),
        registry: registry.clone(),
        status: status.clone(),
        clock: clock.clone(),
        gateway: config.gateway.id.as_str().into(),
        epoch,
    };
    let mut parts = Parts::new(wiring, intakes, changes, rendering);
    let sinks = build_sinks(&config.gateway.id, &config.sink)?;
    let (feeds, sources) = parts.admit_sources(&config.source);
    let ingest = Ingest::open(
        IngestOptions {
            buffer: buffer.clone(),
            registry: registry.clone(),
            status: status.clone(),
            clock: clock.clone(),
            judge: Judge::new(rules(config, config_version), clock.boot_id),
            feeds,
            books: opened.books,
            pace: pace_options(config),
            config_version,
        },
        opened.snapshot,
    )
    .await?;
    parts.start_sinks(sinks, &plan.held).await;
    parts.show(config);
    parts.end_replays(&plan).await;

    let access = handles.access.unwrap_or_else(|| open_access(&data_dir, &clock, &status));
    let web_state = WebState {
        status: status.clone(),
        registry: registry.clone(),
        usage: buffer.usage(),
        ends: buffer.ends(),
        buffer: Some(buffer.clone()),
        access,
        desk: handles.desk.clone(),
        clock: clock.clone(),
        version: env!("CARGO_PKG_VERSION"),
        tls: Tls::new(&data_dir, &config.gateway.id, &config.web, clock.clone(), status.clone()),
        history: History::new(buffer.clone(), registry.clone(), &config.gateway.id, epoch),
        system: Arc::new(System::new(&data_dir, clock.clone())),
        logs: handles.logs.clone(),
    };
    label::announce(&web_state.access, &web_state.tls, page).await;
    let mut web = Supervisor::new("page");
    start_page(&mut web, config, listener, &web_state);

    let (reload, reloads) = mpsc::channel(RELOADS_MAX);
    let mut control = Supervisor::new("control");
    let access = web_state.access.clone();
    let door =
        Control { buffer, registry, status: status.clone(), clock: clock.clone(), reload, desk: handles.desk, access };
    control.spawn("socket", tools::serve(data_dir, door, status.clone(), clock, control.stop_token()));

    let mut ingest_supervisor = Supervisor::new("ingest");
    ingest_supervisor.spawn("ingest", ingest.run(intakes_out, changes_out));
    parts.start_sources(sources);
    status.set_ready();
    let ingest = ingest_supervisor;
    Ok(Running { status, page, plan, parts, ingest, web, web_state, control, reloads })
}

/// What happens to a gateway that runs.
enum Event {
    /// A part ended that must not end.
    Ended(AppError),
    /// Somebody asks for a reload.
    Reload(ReloadRequest),
}

impl Running {
    /// Returns when a part has ended that must not end. For a gateway without a file: a reload is refused.
    pub async fn ended(&mut self) -> AppError {
        loop {
            match self.event().await {
                Event::Ended(error) => return error,
                Event::Reload(asked) => drop(asked.send(Err("this gateway has no file to read again".to_owned()))),
            }
        }
    }

    async fn event(&mut self) -> Event {
        let part = tokio::select! {
            part = self.parts.ended() => part,
            part = self.ingest.ended() => part,
            part = self.web.ended() => part,
            part = self.control.ended() => part,
            Some(asked) = self.reloads.recv() => return Event::Reload(asked),
        };
        Event::Ended(AppError::Ended(part))
    }

    /// Ends the gateway in order; stragglers are named in the log and left behind.
    pub async fn stop(self) {
        self.control.stop(CONTROL_STOP).await;
        let Parts { sources, deliveries, wiring, intakes, .. } = self.parts;
        sources.stop(SOURCES_STOP).await;
        // With the last sender gone, ingest commits what it has and ends.
        drop(intakes);
        self.ingest.finish(INGEST_STOP).await;
        deliveries.stop(DELIVERIES_STOP).await;
        wiring.buffer.close().await;
        self.web.stop(Duration::from_secs(1)).await;
    }
}

/// Who may enter. Readings matter more: where that cannot be read or written, the gateway runs all the same, and says so.
fn open_access(data_dir: &Path, clock: &Clock, status: &Status) -> Access {
    let (access, error) = Access::open_in_any_case(data_dir, clock.clone());
    if let Some(error) = error {
        let trouble = Trouble {
            subject: "web".to_owned(),
            what: format!("Nobody new can be let in at the page: {error}"),
            advice: "Make room or give data_dir to the user that runs forebay, then restart it".to_owned(),
            severity: Severity::Error,
            since_us: clock.tick().wall_us,
        };
        status.raise("web/access", trouble);
    }
    access.keep_sessions();
    access
}

fn build_sinks<'a>(
    gateway: &str,
    sinks: impl IntoIterator<Item = &'a SinkOptions>,
) -> Result<Vec<(SinkOptions, AnySink)>, AppError> {
    let build = |options: &SinkOptions| match AnySink::build(gateway, options) {
        Ok(sink) => Ok((options.clone(), sink)),
        Err(error) => Err(AppError::Sink { name: options.name().to_owned(), error }),
    };
    sinks.into_iter().map(build).collect()
}

fn start_page(web: &mut Supervisor, config: &Config, listener: io::Result<TcpListener>, state: &WebState) {
    let stop = web.stop_token().child_token();
    let (listen, data_dir) = (config.web.listen.clone(), config.gateway.data_dir.clone());
    web.spawn_part(&listen.clone(), stop.clone(), page::serve(listen, listener, data_dir, state.clone(), stop));
}

fn rules(config: &Config, config_version: u32) -> Rules {
    Rules { checks: config.check.clone(), anomalies: config.anomaly.clone(), config_version }
}

/// What the buffer needs of the configuration, also where a tool opens it.
///
/// # Errors
/// If the key of the encryption cannot be read.
pub fn store_options(config: &Config) -> Result<StoreOptions, AppError> {
    let cipher = match &config.buffer.encryption {
        Some(encryption) => {
            let file = encryption.key_file.read().map_err(AppError::KeyFile)?;
            Cipher::from_key_file(&file).map_err(AppError::Key)?
        }
        None => Cipher::default(),
    };
    let buffer = &config.buffer;
    Ok(StoreOptions {
        data_dir: config.gateway.data_dir.clone(),
        disk_bytes_max: buffer.disk_max.0,
        limits: buffer.limits.limits(),
        free_bytes_min: buffer.free_min.map(|size| size.0),
        when_full: buffer.when_full,
        card: buffer.card_capacity.map(|size| Card { capacity_bytes: size.0, write_cycles: buffer.card_write_cycles }),
        keep_delivered_us: i64::try_from(buffer.keep_delivered.0.as_micros()).unwrap_or(i64::MAX),
        cipher,
        sinks: config.sink.iter().map(|sink| sink.route().lanes(sink.name())).collect(),
    })
}

fn pace_options(config: &Config) -> CommitPace {
    CommitPace {
        interval: Duration::from_millis(config.buffer.commit_interval_ms),
        interval_max: commit_interval_max(
            Duration::from_millis(config.buffer.commit_interval_max_ms),
            config.sink.iter().map(SinkOptions::pace),
        ),
        daily_bytes_max: config.buffer.daily_write_max.map(|size| size.0),
    }
}
