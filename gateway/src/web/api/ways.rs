//! Sources and ways upstream for programs: how they are, trying one before it is saved, looking for what there is to read, and
//! sending once more what is kept.

use super::given::Given;
use super::options::{one_sink, one_source};
use super::{Api, delete, get, post};
use crate::buffer::{Replay, ReplayRequest, ReplayState};
use crate::reading::{Stream, UnixMicros};
use crate::sinks::SinkOptions;
use crate::sources::SourceOptions;
use crate::sources::discover::{
    self, DiscoverError, Heard, ListenRequest, ModbusAnswer, ModbusQuestion, Port, TopicSearch, TopicsFound,
};
use crate::tryout::{TRY_OUT_LIMIT, TryReport};
use crate::web::change;
use crate::web::failure::Failure;
use crate::web::live::Shared;
use crate::web::pages;
use crate::web::screens::board::{call_off, progress};
use crate::web::screens::ways::edit::{self, Running};
use crate::web::screens::ways::jobs;
use crate::web::screens::ways::replays;
use crate::web::snapshot::{SinkView, SourceView};
use crate::web::visit::Visit;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;

/// A source to try: one that is saved, by its name, or options that are not.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub(in crate::web) struct TrySource {
    /// The name of one that is saved.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    name: Option<String>,
    /// Options as in the configuration.
    #[serde(default)]
    #[schemars(with = "SourceOptions")]
    source: Option<Value>,
}

/// A way upstream to try: one that is saved, by its name, or options that are not.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub(in crate::web) struct TrySink {
    /// The name of one that is saved.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    name: Option<String>,
    /// Options as in the configuration.
    #[serde(default)]
    #[schemars(with = "SinkOptions")]
    sink: Option<Value>,
}

/// The serial ports of the machine.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::web) struct Ports {
    /// By device file.
    ports: Vec<Port>,
}

/// What was heard on a serial port.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::web) struct SerialHeard {
    /// At each speed that was tried, in order.
    heard: Vec<Heard>,
}

/// The sources.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::web) struct Sources {
    /// In the order of the configuration.
    sources: Vec<SourceView>,
}

/// The ways upstream.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::web) struct Sinks {
    /// In the order of the configuration.
    sinks: Vec<SinkView>,
}

/// What is to be sent once more.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct NewReplay {
    /// The sink that gets the records once more.
    #[schemars(length(min = 1))]
    sink: String,
    /// Which stream.
    #[serde(default)]
    stream: ReplayedStream,
    /// What came at or after this time, in microseconds since 1970.
    from_us: UnixMicros,
    /// What came at or before this time; now if it is not given.
    #[serde(default)]
    to_us: Option<UnixMicros>,
    /// Only these points, as `device/point` with `*` for any characters; all, if there is none.
    #[serde(default)]
    points: Vec<String>,
}

/// A stream that goes to sinks.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(in crate::web) enum ReplayedStream {
    /// Readings.
    #[default]
    Readings,
    /// Alerts.
    Alerts,
    /// Gaps.
    Gaps,
    /// Dead letters.
    DeadLetters,
}

/// A replay.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::web) struct ReplayView {
    /// Its number.
    id: u32,
    /// The sink that gets it.
    sink: String,
    /// The stream.
    stream: &'static str,
    /// Records of this time or later.
    from_us: UnixMicros,
    /// Records of this time or earlier.
    to_us: UnixMicros,
    /// Only points of these patterns; all, if there is none.
    points: Vec<String>,
    /// `running`, `done`, `cancelled`, `failed`.
    state: &'static str,
    /// Why it failed, or what holds it up.
    trouble: Option<String>,
    /// When it was asked for.
    created_us: UnixMicros,
    /// When it ended.
    ended_us: Option<UnixMicros>,
    /// How much of it is behind, in percent.
    percent: u64,
    /// Records delivered.
    delivered: u64,
    /// Records that the sink refused.
    refused: u64,
    /// Records that were not on disk any more.
    lost: u64,
}

/// The replays that are kept.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::web) struct Replays {
    /// The oldest first.
    replays: Vec<ReplayView>,
}

/// Adds the addresses of this file.
pub(in crate::web) fn add_to(api: Api) -> Api {
    const ID: &[(&str, u64)] = &[("id", u32::MAX as u64)];
    const REPLAYS: &str = "/api/v1/replays";
    api.at("/api/v1/sources", get("The sources with their state.").answers::<Sources>(), sources)
        .at("/api/v1/sources/{name}", get("A source with its state.").answers::<SourceView>(), source)
        .at("/api/v1/sinks", get("The ways upstream with their state.").answers::<Sinks>(), sinks)
        .at("/api/v1/sinks/{name}", get("A way upstream with its state.").answers::<SinkView>(), sink)
        .at(
            "/api/v1/try/source",
            post("Tries a source beside the running gateway; nothing of it is stored.")
                .takes::<TrySource>()
                .answers::<TryReport>(),
            try_source,
        )
        .at(
            "/api/v1/try/sink",
            post("Tries a way upstream with one test record.").takes::<TrySink>().answers::<TryReport>(),
            try_sink,
        )
        .at("/api/v1/discover/serial-ports", get("The serial ports of the machine.").answers::<Ports>(), serial_ports)
        .at(
            "/api/v1/discover/serial",
            post("Listens on a serial port at one speed after the other.")
                .takes::<ListenRequest>()
                .answers::<SerialHeard>(),
            serial,
        )
        .at(
            "/api/v1/discover/mqtt",
            post("Listens to a broker for up to a minute.").takes::<TopicSearch>().answers::<TopicsFound>(),
            mqtt,
        )
        .at(
            "/api/v1/discover/modbus",
            post("Asks a Modbus device once.").takes::<ModbusQuestion>().answers::<ModbusAnswer>(),
            modbus,
        )
        .at(REPLAYS, get("The replays under way and the last ones that ended.").answers::<Replays>(), list_replays)
        .at(
            REPLAYS,
            post("Sends records of the past once more.")
                .takes::<NewReplay>()
                .answers::<ReplayView>()
                .with(StatusCode::CREATED),
            begin_replay,
        )
        .at(
            "/api/v1/replays/{id}",
            delete("Calls a replay off; what is on its way may still arrive.").answers::<ReplayView>().numbers(ID),
            cancel_replay,
        )
}

async fn sources(State(shared): State<Arc<Shared>>, visit: Visit) -> Response {
    pages::json(&visit, &Sources { sources: shared.snapshot().sources })
}

async fn source(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Path(name): Path<String>,
) -> Result<Response, Failure> {
    let found = shared.snapshot().sources.into_iter().find(|source| source.name == name);
    Ok(pages::json(&visit, &found.ok_or_else(|| Failure::missing(format!("there is no source {name:?}")))?))
}

async fn sinks(State(shared): State<Arc<Shared>>, visit: Visit) -> Response {
    pages::json(&visit, &Sinks { sinks: shared.snapshot().sinks })
}

async fn sink(State(shared): State<Arc<Shared>>, visit: Visit, Path(name): Path<String>) -> Result<Response, Failure> {
    let found = shared.snapshot().sinks.into_iter().find(|sink| sink.name == name);
    Ok(pages::json(&visit, &found.ok_or_else(|| Failure::missing(format!("there is no sink {name:?}")))?))
}

async fn try_source(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Given(asked): Given<TrySource>,
) -> Result<Response, Failure> {
    let _slot = shared.jobs.slot(&visit)?;
    let config = Running::read(&shared).await?.config;
    let source = match (asked.name, asked.source) {
        (Some(name), None) => {
            let found = config.source.iter().find(|source| source.name() == name).cloned();
            found.ok_or_else(|| Failure::missing(format!("there is no source {name:?}")))?
        }
        (None, Some(source)) => one_source(source).await?,
        _ => return Err(one_of("source")),
    };
    let secret = source.secret_file();
    let named = secret.map(|(option, file)| (format!("source.{option}"), file));
    change::refuse_reserved(&config, named.as_ref().map(|(path, file)| (path.as_str(), *file))).await?;
    change::record_look(&shared, &visit, jobs::source_look(&source)).await;
    Ok(pages::json(&visit, &source.try_out(&config.source, None, TRY_OUT_LIMIT).await))
}

async fn try_sink(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Given(asked): Given<TrySink>,
) -> Result<Response, Failure> {
    let _slot = shared.jobs.slot(&visit)?;
    let config = Running::read(&shared).await?.config;
    let sink = match (asked.name, asked.sink) {
        (Some(name), None) => {
            let found = config.sink.iter().find(|sink| sink.name() == name).cloned();
            found.ok_or_else(|| Failure::missing(format!("there is no sink {name:?}")))?
        }
        (None, Some(sink)) => one_sink(sink).await?,
        _ => return Err(one_of("sink")),
    };
    let secret = sink.secret_file();
    let named = secret.map(|(option, file)| (format!("sink.{option}"), file));
    change::refuse_reserved(&config, named.as_ref().map(|(path, file)| (path.as_str(), *file))).await?;
    change::record_look(&shared, &visit, jobs::sink_look(&sink)).await;
    Ok(pages::json(&visit, &sink.try_out(&config.gateway.id, None, TRY_OUT_LIMIT).await))
}

fn one_of(what: &str) -> Failure {
    Failure::unfit(format!("give either \"name\" of one that is saved, or \"{what}\" with options"), Vec::new())
}

async fn serial_ports(State(shared): State<Arc<Shared>>, visit: Visit) -> Result<Response, Failure> {
    let running = Running::read(&shared).await?;
    Ok(pages::json(&visit, &Ports { ports: edit::ports(&running.config.source).await? }))
}

async fn serial(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Given(asked): Given<ListenRequest>,
) -> Result<Response, Failure> {
    let _slot = shared.jobs.slot(&visit)?;
    let running = Running::read(&shared).await?.config.source;
    change::record_look(&shared, &visit, jobs::serial_look(&asked)).await;
    let heard = discover::listen_serial(&asked, &running, None).await.map_err(|error| nothing(&error))?;
    Ok(pages::json(&visit, &SerialHeard { heard }))
}

async fn mqtt(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Given(asked): Given<TopicSearch>,
) -> Result<Response, Failure> {
    let _slot = shared.jobs.slot(&visit)?;
    let config = Running::read(&shared).await?.config;
    let secret = asked.password_file.as_ref();
    change::refuse_reserved(&config, secret.map(|file| ("password_file", file))).await?;
    change::record_look(&shared, &visit, jobs::topics_look(&asked)).await;
    Ok(pages::json(&visit, &discover::mqtt_topics(&asked, None).await.map_err(|error| nothing(&error))?))
}

async fn modbus(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Given(asked): Given<ModbusQuestion>,
) -> Result<Response, Failure> {
    let _slot = shared.jobs.slot(&visit)?;
    let running = Running::read(&shared).await?.config.source;
    change::record_look(&shared, &visit, jobs::modbus_look(&asked)).await;
    Ok(pages::json(&visit, &discover::modbus_read_once(&asked, &running).await.map_err(|error| nothing(&error))?))
}

fn nothing(error: &DiscoverError) -> Failure {
    Failure::unfit(error.to_string(), Vec::new())
}

async fn list_replays(State(shared): State<Arc<Shared>>, visit: Visit) -> Response {
    pages::json(&visit, &Replays { replays: replays::all(&shared).into_iter().map(ReplayView::from).collect() })
}

async fn begin_replay(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Given(asked): Given<NewReplay>,
) -> Result<Response, Failure> {
    let stream = match asked.stream {
        ReplayedStream::Readings => Stream::Readings,
        ReplayedStream::Alerts => Stream::Alerts,
        ReplayedStream::Gaps => Stream::Gaps,
        ReplayedStream::DeadLetters => Stream::DeadLetters,
    };
    let to_us = asked.to_us.unwrap_or_else(|| shared.state.clock.tick().wall_us);
    let NewReplay { sink, from_us, points, .. } = asked;
    let begun = replays::begin(&shared, &visit, ReplayRequest { sink, stream, from_us, to_us, points }).await?;
    let mut answer = pages::json(&visit, &ReplayView::from(begun));
    *answer.status_mut() = StatusCode::CREATED;
    Ok(answer.into_response())
}

async fn cancel_replay(
    State(shared): State<Arc<Shared>>,
    visit: Visit,
    Path(id): Path<u32>,
) -> Result<Response, Failure> {
    Ok(pages::json(&visit, &ReplayView::from(call_off(&shared, &visit, id).await?)))
}

impl From<Replay> for ReplayView {
    fn from(replay: Replay) -> Self {
        let percent = progress(&replay);
        let (state, why) = match replay.state {
            ReplayState::Running => ("running", replay.trouble),
            ReplayState::Done => ("done", None),
            ReplayState::Cancelled => ("cancelled", None),
            ReplayState::Failed(why) => ("failed", Some(why)),
        };
        Self {
            id: replay.id,
            sink: replay.sink,
            stream: replay.stream.name(),
            from_us: replay.from_us,
            to_us: replay.to_us,
            points: replay.points,
            state,
            percent,
            trouble: why,
            created_us: replay.created_us,
            ended_us: replay.ended_us,
            delivered: replay.delivered,
            refused: replay.refused,
            lost: replay.lost,
        }
    }
}
