//! What every page shares: the frame's data, compression, and the headers that keep a browser safe.

use super::assets::{ASSETS, Assets};
use super::snapshot::Snapshot;
use super::words::Moment;
use crate::reading::TimeQuality;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;
use std::io::Write;

/// Scripts, styles and connections from the gateway alone; nothing inline, no frames, no plug-ins.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; \
                                       form-action 'self'; frame-ancestors 'none'";

/// Below this, compressing costs more than it saves: it fits into one packet.
const COMPRESS_FROM_BYTES: usize = 1_200;

/// A screen that exists.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Screen {
    /// The way of a reading.
    Overview,
    /// Every point.
    Points,
    /// The loaded configuration.
    Configuration,
    /// None of them: an answer to a wrong address.
    None,
}

/// What the frame around every screen needs.
pub(super) struct Frame {
    /// The gateway's id.
    pub(super) gateway: String,
    /// The program's version.
    pub(super) version: String,
    /// When the page was made.
    pub(super) now: Moment,
    /// The same in milliseconds, so that the browser's own clock need not be right.
    pub(super) now_ms: i64,
    /// Since when the gateway runs.
    pub(super) started: Moment,
    /// The files of the page.
    pub(super) assets: &'static Assets,
    /// Whether the board's clock was ever set.
    pub(super) clock_set: bool,
    screen: Screen,
}

impl Frame {
    /// The frame of a screen.
    pub(super) fn new(snapshot: &Snapshot, screen: Screen) -> Self {
        Self {
            gateway: snapshot.gateway.clone(),
            version: snapshot.version.clone(),
            now: Moment::new(snapshot.now_us, snapshot.now_us),
            now_ms: snapshot.now_us / 1_000,
            started: Moment::new(snapshot.started_us, snapshot.now_us),
            assets: &ASSETS,
            clock_set: snapshot.time_quality != TimeQuality::Unset.name(),
            screen,
        }
    }

    /// The screens of the navigation: name, address, whether it is this one.
    pub(super) fn screens(&self) -> [(&'static str, &'static str, bool); 3] {
        [
            ("Overview", "/", self.screen == Screen::Overview),
            ("Points", "/points", self.screen == Screen::Points),
            ("Configuration", "/configuration", self.screen == Screen::Configuration),
        ]
    }
}

/// A page that is never kept: it shows this moment.
pub(super) fn html(status: StatusCode, request: &HeaderMap, rendered: askama::Result<String>) -> Response {
    match rendered {
        Ok(page) => text(status, request, "text/html; charset=utf-8", page),
        Err(error) => {
            tracing::error!(%error, "a page could not be rendered");
            (StatusCode::INTERNAL_SERVER_ERROR, "the page could not be rendered; the log says why\n").into_response()
        }
    }
}

/// JSON that is never kept.
pub(super) fn json(request: &HeaderMap, answer: &impl Serialize) -> Response {
    match serde_json::to_string(answer) {
        Ok(body) => text(StatusCode::OK, request, "application/json", body),
        Err(error) => {
            tracing::error!(%error, "an answer could not be written as JSON");
            (StatusCode::INTERNAL_SERVER_ERROR, "the answer could not be written; the log says why\n").into_response()
        }
    }
}

/// Text that is never kept, compressed if the browser takes that.
pub(super) fn text(status: StatusCode, request: &HeaderMap, kind: &'static str, body: String) -> Response {
    let head = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-store"), (header::VARY, "accept-encoding")];
    if body.len() >= COMPRESS_FROM_BYTES && takes_gzip(request) {
        let zip = [(header::CONTENT_ENCODING, "gzip")];
        return (status, head, zip, compress(body.as_bytes())).into_response();
    }
    (status, head, body).into_response()
}

/// Whether the browser takes gzip.
pub(super) fn takes_gzip(request: &HeaderMap) -> bool {
    let accepted = request.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        name.trim().eq_ignore_ascii_case("gzip") && !matches!(weight.trim(), "q=0" | "q=0.0")
    })
}

/// Compresses with gzip.
pub(super) fn compress(plain: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 3), Compression::default());
    // Writing into memory does not fail; were it to, an empty answer would show it at once.
    encoder.write_all(plain).and_then(|()| encoder.finish()).map(Bytes::from).unwrap_or_default()
}

/// Puts the headers that keep a browser safe onto every answer.
pub(super) async fn guard(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
