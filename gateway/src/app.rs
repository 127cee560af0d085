//! The gateway put together: what starts in which order, who watches whom, and how all of it ends without losing anything.
//!
//! Start: page's port → buffer → ingest → deliveries → page → sources. End, the other way: sources stop → ingest commits and hands
//! receipts back → deliveries finish what they can within their time → the buffer is closed → the page goes last.

mod label;
mod page;
mod parts;
mod reload;
mod supervisor;
mod tools;

use crate::access::Access;
use crate::block::records::Severity;
use crate::buffer::{Buffer, BufferError, Card, Cipher, KeyError, StoreOptions};
use crate::clock::Clock;
use crate::config::Config;
use crate::config::desk::{Desk, DeskState, Revision};
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
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use supervisor::Supervisor;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

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
    config: Config,
    parts: Parts,
    ingest: Supervisor,
    web: Supervisor,
    web_state: WebState,
    /// What the page shows as the configuration.
    shown: watch::Sender<DeskState>,
    control: Supervisor,
    reloads: mpsc::Receiver<ReloadRequest>,
}

/// Starts the gateway; when this returns, the buffer is open and the sources are started.
///
/// # Errors
/// If the data directory, the buffer or a sink cannot be set up. A page whose port is taken is served as soon as it is free.
pub async fn start(config: Config, config_text: String, clock: Clock, logs: LogRing) -> Result<Running, AppError> {
    let listener = TcpListener::bind(&config.web.listen).await;
    let page = listener.as_ref().ok().and_then(|listener| listener.local_addr().ok());
    let data_dir = config.gateway.data_dir.clone();
    std::fs::create_dir_all(&data_dir).map_err(|error| AppError::DataDir { path: data_dir.clone(), error })?;
    let (buffer, opened) = Buffer::open(store_options(&config)?, clock.clone()).await?;
    let epoch = opened.epoch.unwrap_or(Epoch(0));
    let config_version = buffer.keep_config(&config_text).await?;
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
            judge: Judge::new(rules(&config, config_version), clock.boot_id),
            feeds,
            books: opened.books,
            pace: pace_options(&config),
            config_version,
        },
        opened.snapshot,
    )
    .await?;
    parts.start_sinks(sinks).await;
    parts.show(&config);
    parts.end_replays(&config).await;

    let access = open_access(&data_dir, &clock, &status);
    let (shown, shown_out) = watch::channel(desk_state(&config_text));
    let (desk, _asked) = Desk::new(shown_out);
    let web_state = WebState {
        status: status.clone(),
        registry: registry.clone(),
        usage: buffer.usage(),
        ends: buffer.ends(),
        buffer: Some(buffer.clone()),
        access,
        desk,
        clock: clock.clone(),
        version: env!("CARGO_PKG_VERSION"),
        tls: Tls::new(&data_dir, &config.gateway.id, &config.web, clock.clone(), status.clone()),
        history: History::new(buffer.clone(), registry.clone(), &config.gateway.id, epoch),
        system: Arc::new(System::new(&data_dir, clock.clone())),
        logs,
    };
    label::announce(&web_state.access, &web_state.tls, page).await;
    let mut web = Supervisor::new("page");
    start_page(&mut web, &config, listener, &web_state);

    let (reload, reloads) = mpsc::channel(RELOADS_MAX);
    let mut control = Supervisor::new("control");
    let access = Control { buffer, registry, status: status.clone(), clock: clock.clone(), reload };
    control.spawn("socket", tools::serve(data_dir, access, status.clone(), clock, control.stop_token()));

    let mut ingest_supervisor = Supervisor::new("ingest");
    ingest_supervisor.spawn("ingest", ingest.run(intakes_out, changes_out));
    parts.start_sources(sources);
    status.set_ready();
    let ingest = ingest_supervisor;
    Ok(Running { status, page, config, parts, ingest, web, web_state, shown, control, reloads })
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

/// Runs the gateway until it is asked to stop (SIGTERM, SIGINT), telling systemd how it is. On SIGHUP, or when the command line
/// asks for it, the configuration is read again from `path`.
///
/// # Errors
/// If it cannot start, or a part ends that must not end.
pub async fn run(config: Config, config_text: String, path: PathBuf, logs: LogRing) -> Result<(), AppError> {
    let clock = Clock::system();
    let mut running = start(config, config_text, clock, logs).await?;
    tracing::info!(page = running.page.map(|page| page::address(page, running.web_state.tls.mode())), "ready");
    let mut watchdog = pin!(supervisor::tell_systemd(running.status.clone()));
    let mut stop = pin!(supervisor::asked_to_stop());
    let mut hangups = supervisor::Hangups::new();
    let ended = loop {
        let asked = tokio::select! {
            event = running.event() => match event {
                Event::Ended(error) => break Err(error),
                Event::Reload(asked) => Some(asked),
            },
            () = &mut stop => break Ok(()),
            never = &mut watchdog => match never {},
            () = hangups.next() => None,
        };
        supervisor::tell_reloading();
        let answer = tokio::select! {
            answer = running.reload_file(&path) => answer,
            // Half of a reload is as good as none: all parts end, and the next start reads the file.
            () = &mut stop => break Ok(()),
            never = &mut watchdog => match never {},
        };
        supervisor::tell_reloaded();
        if let Some(asked) = asked {
            // Whoever asked may have gone.
            asked.send(answer).ok();
        }
    };
    supervisor::tell_stopping();
    tracing::info!("stopping");
    running.stop().await;
    ended
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
    access
}

fn desk_state(text: &str) -> DeskState {
    DeskState { text: text.into(), revision: Revision::of(text), trial: None, reverted: None, unwritable: None }
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
