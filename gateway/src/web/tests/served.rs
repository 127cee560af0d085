//! A page on a socket of its own, for tests, and someone with every right who asks it.

use crate::access::{Access, By, Rights};
use crate::block::records::Severity;
use crate::buffer::{Ends, Usage, Wear};
use crate::clock::Clock;
use crate::config::WebOptions;
use crate::config::desk::{Desk, DeskRequest, DeskState, Revision};
use crate::history::History;
use crate::logs::LogRing;
use crate::reading::{AnomalyScore, Flags, PointId, Quality, Stream, Value};
use crate::site::Registry;
use crate::status::{
    HasHealth, LaneBooks, PointLive, SinkStatus, SourceBooks, SourceStatus, State as Health, Status, Trouble,
};
use crate::system::System;
use crate::web::{Tls, WebState, serve};
use reqwest::header::{AUTHORIZATION, HeaderMap};
use reqwest::redirect::Policy;
use reqwest::{Client, Response};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// More than anything here takes on a busy machine.
pub(in crate::web) const PATIENCE: Duration = Duration::from_secs(20);

/// A moment after [`crate::clock::EARLIEST_PLAUSIBLE_US`].
pub(in crate::web) const NOW_US: i64 = 1_800_000_000_000_000;

/// The password of anna, who is an administrator.
pub(in crate::web) const PASSWORD: &str = "kettle boils at noon";

/// What runs.
pub(in crate::web) const CONFIG: &str = "[gateway]\nid = \"plant-7\" # <b>bold</b>\n";

/// A desk on which this text runs.
pub(in crate::web) fn desk_state(text: &str) -> DeskState {
    DeskState { text: text.into(), revision: Revision::of(text), trial: None, reverted: None, unwritable: None }
}

/// A gateway's page on a socket of its own.
pub(in crate::web) struct Served {
    pub(in crate::web) base: String,
    pub(in crate::web) access: Access,
    pub(in crate::web) desk: watch::Sender<DeskState>,
    pub(in crate::web) asked: mpsc::Receiver<DeskRequest>,
    pub(in crate::web) directory: TempDir,
    pub(in crate::web) status: Arc<Status>,
    pub(in crate::web) registry: Arc<Registry>,
    pub(in crate::web) clock: Clock,
    pub(in crate::web) logs: LogRing,
    pub(in crate::web) usage: watch::Sender<Usage>,
    pub(in crate::web) ends: watch::Sender<Ends>,
    pub(in crate::web) client: Client,
    pub(in crate::web) stop: CancellationToken,
    pub(in crate::web) server: JoinSet<()>,
}

impl Served {
    /// A page that anna has set up, asked with a token of every right.
    pub(in crate::web) async fn start() -> Self {
        Self::begin(true, History::absent(), Arc::default(), None).await
    }

    /// The same with HTTPS, though asked plainly on its own machine.
    pub(in crate::web) async fn start_with_https(options: WebOptions) -> Self {
        Self::begin(true, History::absent(), Arc::default(), Some(options)).await
    }

    /// The same, with a history and the points that it is of.
    pub(in crate::web) async fn start_with(history: History, registry: Arc<Registry>) -> Self {
        Self::begin(true, history, registry, None).await
    }

    /// A page that nobody has set up, asked by a stranger.
    pub(in crate::web) async fn start_new() -> Self {
        Self::begin(false, History::absent(), Arc::default(), None).await
    }

    async fn begin(set_up: bool, history: History, registry: Arc<Registry>, https: Option<WebOptions>) -> Self {
        // Another test may have installed it already.
        _ = rustls::crypto::ring::default_provider().install_default();
        let clock = Clock::manual(1, 60_000_000, NOW_US);
        let mut status = Status::default();
        "plant-7".clone_into(&mut status.gateway);
        status.started_us = NOW_US - 7_200_000_000;
        let mut source = SourceStatus::default();
        "boiler-bus".clone_into(&mut source.name);
        source.kind = "modbus";
        source.set_books(SourceBooks { received: 12, accepted: 9, duplicate: 2, rejected: 1, missed: 0 });
        source.set_state(Health::Live, NOW_US);
        let mut sink = SinkStatus::default();
        "cloud".clone_into(&mut sink.name);
        sink.kind = "http";
        sink.set_lane(
            Stream::Readings,
            LaneBooks { accepted: 9, delivered: 5, undelivered: 4, ..LaneBooks::default() },
        );
        sink.set_state(Health::Live, NOW_US);
        status.set_sources(vec![Arc::new(source)]);
        status.set_sinks(vec![Arc::new(sink)]);
        status.set_ready();
        let status = Arc::new(status);
        let (usage_in, usage) =
            watch::channel(Usage { disk_bytes: 1 << 20, disk_bytes_max: 2 << 30, wear: wear(), ..Usage::default() });
        let mut first = Ends::default();
        first[Stream::Readings.index()].next = 9;
        let (ends_in, ends) = watch::channel(first);
        let directory = tempfile::tempdir().unwrap();
        let access = Access::open(directory.path(), clock.clone()).unwrap();
        let mut headers = HeaderMap::new();
        // Before the page is served: passwords take a while, and the page would look at the counters meanwhile.
        if set_up {
            let (token, from) = (access.set_up_token().unwrap(), IpAddr::V4(Ipv4Addr::LOCALHOST));
            let who = access.set_up(&token, "anna", PASSWORD, from).await.unwrap();
            let token = access.make_token(&By::new(who, from), "tests", Rights::all(), None).await.unwrap().token;
            headers.insert(AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
        }
        let (desk_in, desk_out) = watch::channel(desk_state(CONFIG));
        let (desk, asked) = Desk::new(desk_out);
        let logs = LogRing::new(clock.clone());
        let encrypted =
            |options: WebOptions| Tls::new(directory.path(), "plant-7", &options, clock.clone(), status.clone());
        let tls = https.map_or_else(Tls::plain, encrypted);
        let state = WebState {
            status: status.clone(),
            registry: registry.clone(),
            usage,
            ends,
            buffer: None,
            access: access.clone(),
            desk,
            clock: clock.clone(),
            version: "1.2.3",
            tls,
            history,
            system: Arc::new(System::new(Path::new("."), clock.clone())),
            logs: logs.clone(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let mut server = JoinSet::new();
        server.spawn(serve(listener, state, stop.clone()));
        Self {
            base,
            access,
            desk: desk_in,
            asked,
            directory,
            status,
            registry,
            clock,
            logs,
            usage: usage_in,
            ends: ends_in,
            client: client(headers),
            stop,
            server,
        }
    }

    pub(in crate::web) async fn get(&self, path: &str) -> Response {
        timeout(PATIENCE, self.client.get(format!("{}{path}", self.base)).send()).await.unwrap().unwrap()
    }

    pub(in crate::web) async fn text(&self, path: &str) -> String {
        let answer = self.get(path).await;
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        answer.text().await.unwrap()
    }

    pub(in crate::web) async fn json(&self, path: &str) -> serde_json::Value {
        serde_json::from_str(&self.text(path).await).unwrap()
    }

    /// Gives a point a last value.
    pub(in crate::web) fn point(&self, device: &str, point: &str, live: PointLive) -> PointId {
        let id = self.registry.intern(device, point, "°C", "boiler-bus").unwrap();
        self.status.update_points(|points| {
            points.resize(points.len().max(id.0 as usize + 1), None);
            points[id.0 as usize] = Some(live);
        });
        id
    }

    pub(in crate::web) fn trouble(&self, what: &str, severity: Severity) {
        let trouble = Trouble {
            subject: "boiler-bus".to_owned(),
            what: what.to_owned(),
            advice: "check its wiring".to_owned(),
            severity,
            since_us: NOW_US - 360_000_000,
        };
        self.status.raise(what, trouble);
    }
}

/// A client that follows nobody elsewhere and keeps no cookies.
pub(in crate::web) fn client(headers: HeaderMap) -> Client {
    Client::builder().no_proxy().redirect(Policy::none()).default_headers(headers).build().unwrap()
}

pub(in crate::web) fn good(value: f64) -> PointLive {
    PointLive {
        outcome: Ok(Value::Number(value)),
        received_at_us: NOW_US,
        usual_us: 1_000_000,
        quality: Quality::Good,
        flags: Flags::default(),
        score: AnomalyScore::default(),
        note: String::new(),
        sparkline: [1.0, 2.0].into(),
    }
}

/// A card that is written three times as much as the gateway writes.
fn wear() -> Wear {
    Wear {
        written_bytes: Some(1 << 20),
        device_written_bytes: Some(3 << 20),
        bytes_per_day: Some(1 << 30),
        recent_bytes_per_day: Some(1 << 30),
        device_bytes_per_day: Some(3 << 30),
        bytes_per_reading: Some(40),
        card_days: Some(14 * 365),
    }
}

/// Reads events until one holds all of `wanted`.
pub(in crate::web) async fn event_with(events: &mut Response, wanted: &[&str]) -> String {
    let mut text = String::new();
    let found = async {
        loop {
            text.push_str(std::str::from_utf8(&events.chunk().await.unwrap().unwrap()).unwrap());
            if let Some(event) = text.split("\n\n").find(|event| wanted.iter().all(|part| event.contains(part))) {
                return event.to_owned();
            }
        }
    };
    timeout(PATIENCE, found).await.unwrap()
}
