//! The gateway put together: what starts in which order, who watches whom, and how all of it ends without losing anything.
//!
//! Start: page's port → buffer → ingest → deliveries → page → sources. End, the other way: sources stop → ingest commits and hands
//! receipts back → deliveries finish what they can within their time → the buffer is closed → the page goes last.

mod supervisor;

use crate::block::records::Severity;
use crate::buffer::{Buffer, BufferError, Cipher, KeyError, SinkLanes, StoreOptions};
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::control::{self, Control};
use crate::delivery::{Delivery, DeliveryOptions, Rendering, TagsOf};
use crate::ingest::{Change, Feed, Ingest, IngestOptions};
use crate::judge::{Judge, Rules};
use crate::reading::Epoch;
use crate::secret::SecretError;
use crate::sinks::{AnySink, SinkError, SinkOptions};
use crate::site::{DeviceTags, Registry};
use crate::sources::{INTAKES_MAX, Intake, Receipt, SourceContext, SourceOptions};
use crate::status::{SinkStatus, SourceStatus, Status, Trouble};
use crate::web::{self, WebState};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use supervisor::Supervisor;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// Batches of receipts that may wait for a source: as many as there can be intakes under way, so that none is dropped.
const RECEIPTS_MAX: usize = 4 * INTAKES_MAX;
/// How long a tool's step may take to end.
const CONTROL_STOP: Duration = Duration::from_secs(1);
/// Changes of the configuration that wait for ingest: they are made one at a time.
const CHANGES_MAX: usize = 1;
/// How long sources may take to stop: a Modbus poll under way, a broker's goodbye.
const SOURCES_STOP: Duration = Duration::from_secs(3);
/// How long the last commit may take: a slow card, twice.
const INGEST_STOP: Duration = Duration::from_secs(10);
/// How long deliveries may go on after the last commit; what is left then is delivered after the next start.
const DELIVERIES_STOP: Duration = Duration::from_secs(5);
/// The file in `data_dir` that says where the page is, for those who let the system choose the port.
const PAGE_ADDRESS_FILE: &str = "page.addr";

/// The key of the trouble that the tools cannot reach the gateway.
const CONTROL_TROUBLE: &str = "control/socket";
/// The key of the trouble that the page cannot listen.
const PAGE_TROUBLE: &str = "web/listen";
/// Between two attempts to listen for the page: soon after a person has stopped what was in the way.
const PAGE_RETRY: Duration = Duration::from_secs(10);

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
    KeyFile(#[from] SecretError),
    /// The file with the buffer's keys holds none.
    #[error("buffer.encryption: {0}")]
    Key(#[from] KeyError),
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
    buffer: Buffer,
    /// Ingest goes on while this is held, also without any source: troubles become alerts.
    intakes: mpsc::Sender<Intake>,
    changes: mpsc::Sender<Change>,
    sources: Supervisor,
    ingest: Supervisor,
    deliveries: Supervisor,
    web: Supervisor,
    control: Supervisor,
}

/// Starts the gateway; when this returns, the buffer is open and the sources are started.
///
/// # Errors
/// If the data directory, the buffer or a sink cannot be set up. A page whose port is taken is served as soon as it is free.
pub async fn start(config: Config, config_text: String, clock: Clock) -> Result<Running, AppError> {
    let listener = TcpListener::bind(&config.web.listen).await;
    let page = listener.as_ref().ok().and_then(|listener| listener.local_addr().ok());
    let data_dir = config.gateway.data_dir.clone();
    std::fs::create_dir_all(&data_dir).map_err(|error| AppError::DataDir { path: data_dir.clone(), error })?;
    let (buffer, opened) = Buffer::open(store_options(&config)?, clock.clone()).await?;
    let epoch = opened.epoch.unwrap_or(Epoch(0));
    let config_version = buffer.keep_config(&config_text).await?;
    tracing::info!(%epoch, config_version, points = opened.points.len(), "the buffer is open");
    let registry = Arc::new(Registry::restore(opened.points));
    let status = Arc::new(new_status(&config, &clock));
    for quarantined in &opened.quarantined {
        tell_quarantine(&status, quarantined, &clock);
    }

    let (intakes, intakes_out) = mpsc::channel::<Intake>(INTAKES_MAX);
    let (changes, changes_out) = mpsc::channel::<Change>(CHANGES_MAX);
    let (receipts, receipts_out): (Vec<_>, Vec<_>) =
        config.source.iter().map(|_| mpsc::channel::<Vec<Receipt>>(RECEIPTS_MAX)).unzip();
    let all = status.sources();
    let feeds = (0u16..).zip(all.iter()).zip(receipts);
    let feeds = feeds.map(|((slot, status), receipts)| Feed { slot, start: 0, status: status.clone(), receipts });
    let rules = Rules { checks: config.check.clone(), anomalies: config.anomaly.clone(), config_version };
    let ingest = Ingest::open(
        IngestOptions {
            buffer: buffer.clone(),
            registry: registry.clone(),
            status: status.clone(),
            clock: clock.clone(),
            judge: Judge::new(rules, clock.boot_id),
            feeds: feeds.collect(),
            books: opened.books,
            commit_interval: Duration::from_millis(config.buffer.commit_interval_ms),
            config_version,
        },
        opened.snapshot,
    )
    .await?;

    let mut deliveries = Supervisor::new("delivery");
    let (_, rendering) = watch::channel(Rendering { config_version, tags: Arc::new(config.device_tags()) });
    for (options, sink_status) in config.sink.iter().zip(status.sinks().iter()) {
        let name = options.name().to_owned();
        let sink = AnySink::build(&config.gateway.id, options)
            .map_err(|error| AppError::Sink { name: name.clone(), error })?;
        let delivery = Delivery::new(DeliveryOptions {
            name: name.clone(),
            sink,
            status: sink_status.clone(),
            gateway_status: status.clone(),
            buffer: buffer.clone(),
            registry: registry.clone(),
            clock: clock.clone(),
            gateway: config.gateway.id.clone(),
            epoch,
            rendering: rendering.clone(),
            tags_of: tags_of_text(),
            linger: options.linger(),
            run_bytes_max: options.run_bytes_max(),
            stop: deliveries.stop_token(),
        });
        deliveries.spawn(&name, delivery.run());
    }

    let state = WebState {
        status: status.clone(),
        registry: registry.clone(),
        usage: buffer.usage(),
        ends: buffer.ends(),
        config_toml: config::redacted_toml(&config_text).into(),
        clock: clock.clone(),
        version: env!("CARGO_PKG_VERSION"),
    };
    let mut web = Supervisor::new("page");
    let stop = web.stop_token();
    web.spawn("page", serve_page(config.web.listen.clone(), listener, data_dir, state, stop));

    let mut control = Supervisor::new("control");
    let access =
        Control { buffer: buffer.clone(), registry: registry.clone(), status: status.clone(), clock: clock.clone() };
    control.spawn(
        "socket",
        serve_tools(config.gateway.data_dir.clone(), access, status.clone(), clock.clone(), control.stop_token()),
    );

    let mut ingest_supervisor = Supervisor::new("ingest");
    ingest_supervisor.spawn("ingest", ingest.run(intakes_out, changes_out));
    let sources = start_sources(&config, &intakes, receipts_out, &registry, &status, &clock);
    status.set_ready();
    Ok(Running { status, page, buffer, intakes, changes, sources, ingest: ingest_supervisor, deliveries, web, control })
}

impl Running {
    /// Returns when a part has ended that must not end.
    pub async fn ended(&mut self) -> AppError {
        let part = tokio::select! {
            part = self.sources.ended() => part,
            part = self.ingest.ended() => part,
            part = self.deliveries.ended() => part,
            part = self.web.ended() => part,
            part = self.control.ended() => part,
        };
        AppError::Ended(part)
    }

    /// Ends the gateway in order; stragglers are named in the log and left behind.
    pub async fn stop(self) {
        self.control.stop(CONTROL_STOP).await;
        self.sources.stop(SOURCES_STOP).await;
        // With the last sender gone, ingest commits what it has and ends.
        drop(self.intakes);
        self.ingest.finish(INGEST_STOP).await;
        self.deliveries.stop(DELIVERIES_STOP).await;
        self.buffer.close().await;
        self.web.stop(Duration::from_secs(1)).await;
    }
}

/// Runs the gateway until it is asked to stop (SIGTERM, SIGINT), telling systemd how it is.
///
/// # Errors
/// If it cannot start, or a part ends that must not end.
pub async fn run(config: Config, config_text: String) -> Result<(), AppError> {
    let clock = Clock::system();
    let mut running = start(config, config_text, clock).await?;
    tracing::info!(page = running.page.map(|page| format!("http://{page}")), "ready");
    let watchdog = supervisor::tell_systemd(running.status.clone());
    let ended = tokio::select! {
        error = running.ended() => Err(error),
        () = supervisor::asked_to_stop() => Ok(()),
        never = watchdog => match never {},
    };
    supervisor::tell_stopping();
    tracing::info!("stopping");
    running.stop().await;
    ended
}

/// What the buffer needs of the configuration, also where a tool opens it.
///
/// # Errors
/// If the key of the encryption cannot be read.
pub fn store_options(config: &Config) -> Result<StoreOptions, AppError> {
    let cipher = match &config.buffer.encryption {
        Some(encryption) => Cipher::from_key_file(&encryption.key_file.read()?)?,
        None => Cipher::default(),
    };
    let buffer = &config.buffer;
    Ok(StoreOptions {
        data_dir: config.gateway.data_dir.clone(),
        disk_bytes_max: buffer.disk_max.0,
        limits: buffer.limits.limits(),
        free_bytes_min: buffer.free_min.map(|size| size.0),
        when_full: buffer.when_full,
        keep_delivered_us: i64::try_from(buffer.keep_delivered.0.as_micros()).unwrap_or(i64::MAX),
        cipher,
        sinks: config.sink_names().map(SinkLanes::from).collect(),
    })
}

fn new_status(config: &Config, clock: &Clock) -> Status {
    let source = |options: &SourceOptions| {
        Arc::new(SourceStatus::new(options.name(), options.kind(), &config::redacted_toml(options.address())))
    };
    let sink = |options: &SinkOptions| {
        Arc::new(SinkStatus::new(options.name(), options.kind(), &config::redacted_toml(&options.address())))
    };
    let sources = config.source.iter().map(source).collect();
    let sinks = config.sink.iter().map(sink).collect();
    Status::new(&config.gateway.id, clock.tick().wall_us, sources, sinks)
}

fn tell_quarantine(status: &Status, quarantined: &str, clock: &Clock) {
    tracing::error!("{quarantined}");
    let trouble = Trouble {
        subject: "buffer".to_owned(),
        what: format!("Part of the buffer was damaged and set aside: {quarantined}"),
        advice: "What was sound is kept, what is lost is told upstream as a gap; check the card, and replace it if this happens again"
            .to_owned(),
        severity: Severity::Error,
        since_us: clock.tick().wall_us,
    };
    status.raise(&format!("buffer/quarantine/{quarantined}"), trouble);
}

/// Tags of an older configuration: a run that it rendered is rendered the same after a change.
fn tags_of_text() -> TagsOf {
    Arc::new(|text: &str| -> Option<DeviceTags> {
        config::parse("an older configuration", text.to_owned()).ok().map(|loaded| loaded.config.device_tags())
    })
}

/// Serves the page until it is told to stop. While its port is taken the gateway goes on without it: readings matter more.
async fn serve_page(
    listen: String,
    mut listener: io::Result<TcpListener>,
    data_dir: PathBuf,
    state: WebState,
    stop: CancellationToken,
) {
    let listener = loop {
        let error = match listener {
            Ok(listener) => break listener,
            Err(error) => error,
        };
        tracing::error!(%error, %listen, "the page cannot listen; trying again");
        let trouble = Trouble {
            subject: "web".to_owned(),
            what: format!("The page cannot listen on {listen}: {error}"),
            advice: "Stop the program that has this port, or choose another address or port for web.listen".to_owned(),
            severity: Severity::Error,
            since_us: state.clock.tick().wall_us,
        };
        state.status.raise(PAGE_TROUBLE, trouble);
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PAGE_RETRY) => {}
        }
        listener = TcpListener::bind(&listen).await;
    };
    state.status.clear(PAGE_TROUBLE, state.clock.tick().wall_us);
    if let Ok(page) = listener.local_addr() {
        tracing::info!(page = %format!("http://{page}"), "the page is served");
        write_page_address(&data_dir, page);
    }
    web::serve(listener, state, stop).await;
}

/// Serves the control socket until it is told to stop. Without one the gateway works, but no tool reaches it.
async fn serve_tools(data_dir: PathBuf, access: Control, status: Arc<Status>, clock: Clock, stop: CancellationToken) {
    match control::bind(&data_dir) {
        Ok(listener) => {
            control::serve(listener, access, stop).await;
            // The next start would replace it, too; until then its absence says that nobody listens.
            std::fs::remove_file(control::socket_path(&data_dir)).ok();
        }
        Err(error) => {
            tracing::error!(%error, "the control socket cannot be made");
            let trouble = Trouble {
                subject: "control".to_owned(),
                what: format!(
                    "The tools cannot reach this gateway: {}: {error}",
                    control::socket_path(&data_dir).display()
                ),
                advice:
                    "Give the gateway's user the right to write data_dir, and keep the path of data_dir below 95 bytes"
                        .to_owned(),
                severity: Severity::Warning,
                since_us: clock.tick().wall_us,
            };
            status.raise(CONTROL_TROUBLE, trouble);
            stop.cancelled().await;
        }
    }
}

fn write_page_address(data_dir: &Path, page: SocketAddr) {
    let path = data_dir.join(PAGE_ADDRESS_FILE);
    let fresh = path.with_extension("new");
    // A reader never sees half an address.
    let written = std::fs::write(&fresh, format!("{page}\n")).and_then(|()| std::fs::rename(&fresh, &path));
    if let Err(error) = written {
        tracing::warn!(%error, path = %path.display(), "the page's address could not be written down");
    }
}

fn start_sources(
    config: &Config,
    intakes: &mpsc::Sender<Intake>,
    receipts: Vec<mpsc::Receiver<Vec<Receipt>>>,
    registry: &Arc<Registry>,
    status: &Arc<Status>,
    clock: &Clock,
) -> Supervisor {
    let mut sources = Supervisor::new("source");
    let gateway: Arc<str> = config.gateway.id.as_str().into();
    let all = status.sources();
    let places = config.source.iter().zip(receipts).zip(all.iter()).zip(0u16..);

    for (((options, receipts), source_status), slot) in places {
        let context = SourceContext {
            slot,
            start: 0,
            registry: registry.clone(),
            intakes: intakes.clone(),
            receipts,
            status: source_status.clone(),
            all: status.clone(),
            clock: clock.clone(),
            stop: sources.stop_token(),
            gateway: gateway.clone(),
        };
        sources.spawn(options.name(), options.clone().run(context));
    }
    sources
}
