//! What every page shares: the frame's data, compression, and the headers that keep a browser safe.

use super::assets::{ASSETS, Assets};
use super::failure::Failure;
use super::live::Shared;
use super::locale::{Language, Locale};
use super::visit::Visit;
use super::words::Moment;
use crate::access::Right;
use crate::reading::TimeQuality;
use axum::http::{HeaderValue, StatusCode, header};
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

/// A place of the main navigation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::web) enum Nav {
    /// The way of a reading.
    Overview,
    /// Every point.
    Points,
    /// Where readings come from.
    Sources,
    /// Where they go.
    Upstream,
    /// What needs a person, and what did.
    Alerts,
    /// What the board holds and how it is.
    Board,
    /// What can be changed.
    Settings,
    /// On a phone, the list of the places that the bar has no room for.
    More,
    /// None of them: signing in, an answer to a wrong address.
    None,
}

/// A link of a navigation.
pub(in crate::web) struct Link {
    /// Its words.
    pub(in crate::web) name: &'static str,
    /// Where it leads.
    pub(in crate::web) address: &'static str,
    /// Whether it leads to where one is.
    pub(in crate::web) here: bool,
}

/// The screens of the board, and those of the settings with the right that each asks for.
const BOARD: [(&str, &str); 4] =
    [("Buffer", "/board"), ("Dead letters", "/board/letters"), ("Log", "/board/logs"), ("System", "/board/system")];
const SETTINGS: [(&str, &str, Right); 8] = [
    ("Configuration", "/settings", Right::Configure),
    ("File", "/settings/file", Right::Configure),
    ("History", "/settings/history", Right::Configure),
    ("Templates", "/settings/templates", Right::Configure),
    ("People", "/settings/people", Right::People),
    ("API tokens", "/settings/tokens", Right::People),
    ("Audit log", "/settings/audit", Right::People),
    ("Security", "/settings/security", Right::Configure),
];

/// What the frame around every screen needs.
pub(in crate::web) struct Frame {
    /// Language and decimal sign.
    pub(in crate::web) l: Locale,
    /// The gateway's id.
    pub(in crate::web) gateway: String,
    /// The program's version.
    pub(in crate::web) version: &'static str,
    /// When the page was made.
    pub(in crate::web) now: Moment,
    /// The same in milliseconds, so that the browser's own clock need not be right.
    pub(in crate::web) now_ms: i64,
    /// The monotonic clock in milliseconds: deadlines go by it.
    pub(in crate::web) mono_ms: u64,
    /// Since when the gateway runs.
    pub(in crate::web) started: Moment,
    /// The files of the page.
    pub(in crate::web) assets: &'static Assets,
    /// Whether the board's clock was ever set.
    pub(in crate::web) clock_set: bool,
    /// Who is signed in.
    pub(in crate::web) who: Option<String>,
    /// What whoever is signed in may do, as classes that show or hide what needs it.
    pub(in crate::web) rights: String,
    /// The live parts of the screen, by name (`/events?of=…`); empty if it has none of its own.
    pub(in crate::web) live: String,
    /// The banner of a configuration on trial.
    pub(in crate::web) trial: String,
    /// Further scripts that the screen needs.
    pub(in crate::web) scripts: Vec<&'static str>,
    nav: Nav,
    tab: &'static str,
    may: [bool; 2],
}

impl Frame {
    /// The frame of a screen for someone who is signed in.
    pub(in crate::web) fn new(shared: &Shared, visit: &Visit, nav: Nav) -> Self {
        let trial = super::screens::trial::banner(shared, visit.l).unwrap_or_default();
        Self { trial, ..Self::bare(shared, visit, nav) }
    }

    /// The frame alone: for strangers, and for answers to mistakes.
    pub(in crate::web) fn bare(shared: &Shared, visit: &Visit, nav: Nav) -> Self {
        let (status, l) = (&shared.state.status, visit.l);
        let tick = shared.state.clock.tick();
        let now_us = tick.wall_us;
        let rights = [Right::See, Right::Metrics, Right::Operate, Right::Configure, Right::People];
        let rights: Vec<_> =
            rights.into_iter().filter(|right| visit.may(*right)).map(|right| format!("may-{}", right.name())).collect();
        Self {
            l,
            gateway: status.gateway.clone(),
            version: shared.state.version,
            now: Moment::new(now_us, now_us, l),
            now_ms: now_us / 1_000,
            mono_ms: tick.mono_us / 1_000,
            started: Moment::new(status.started_us, now_us, l),
            assets: &ASSETS,
            clock_set: tick.quality != TimeQuality::Unset,
            who: visit.who.as_ref().map(|who| who.name.clone()),
            rights: rights.join(" "),
            live: String::new(),
            trial: String::new(),
            scripts: Vec::new(),
            nav,
            tab: "",
            may: [visit.may(Right::Configure), visit.may(Right::People)],
        }
    }

    /// The screen has live parts of this name.
    pub(in crate::web) fn live(mut self, of: impl Into<String>) -> Self {
        self.live = of.into();
        self
    }

    /// The screen is this one of its place's tabs.
    pub(in crate::web) fn tab(mut self, address: &'static str) -> Self {
        self.tab = address;
        self
    }

    /// The screen needs this script, too.
    pub(in crate::web) fn script(mut self, url: &'static str) -> Self {
        self.scripts.push(url);
        self
    }

    /// The main navigation.
    pub(in crate::web) fn links(&self) -> Vec<Link> {
        let link = |name, address, nav| Link { name, address, here: self.nav == nav };
        let mut links = vec![
            link("Overview", "/", Nav::Overview),
            link("Points", "/points", Nav::Points),
            link("Sources", "/sources", Nav::Sources),
            link("Upstream", "/upstream", Nav::Upstream),
            link("Alerts", "/alerts", Nav::Alerts),
            link("Board", "/board", Nav::Board),
        ];
        if self.may.contains(&true) {
            let [configure, _] = self.may;
            links.push(link("Settings", if configure { "/settings" } else { "/settings/people" }, Nav::Settings));
        }
        links
    }

    /// Whether the place is one that a phone finds behind "More".
    pub(in crate::web) fn is_more(&self) -> bool {
        matches!(self.nav, Nav::More | Nav::Alerts | Nav::Board | Nav::Settings)
    }

    /// The tabs of the place.
    pub(in crate::web) fn tabs(&self) -> Vec<Link> {
        let link = |name, address| Link { name, address, here: self.tab == address };
        match self.nav {
            Nav::Board => BOARD.into_iter().map(|(name, address)| link(name, address)).collect(),
            Nav::Settings => {
                let [configure, people] = self.may;
                let may = |right: Right| if right == Right::People { people } else { configure };
                let shown = SETTINGS.into_iter().filter(|(_, _, right)| may(*right));
                shown.map(|(name, address, _)| link(name, address)).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Everything behind "More": each place's name and its screens.
    pub(in crate::web) fn more(&self) -> Vec<(&'static str, Vec<(&'static str, &'static str)>)> {
        let [configure, people] = self.may;
        let may = |right: &Right| if *right == Right::People { people } else { configure };
        let settings: Vec<_> =
            SETTINGS.into_iter().filter(|(_, _, right)| may(right)).map(|(name, address, _)| (name, address)).collect();
        let mut groups = vec![("Alerts", vec![("Alerts", "/alerts")]), ("Board", BOARD.to_vec())];
        if !settings.is_empty() {
            groups.push(("Settings", settings));
        }
        groups.push(("Account", vec![("Account", "/account")]));
        groups
    }

    /// The languages to choose from: tag, name, whether it is this one.
    pub(in crate::web) fn languages(&self) -> [(&'static str, &'static str, bool); 2] {
        Language::ALL.map(|(language, name)| (language.tag(), name, language == self.l.language))
    }
}

/// A page that is never kept: it shows this moment.
pub(in crate::web) fn html(status: StatusCode, visit: &Visit, rendered: askama::Result<String>) -> Response {
    match rendered {
        Ok(page) => text(status, visit, "text/html; charset=utf-8", page),
        Err(error) => {
            tracing::error!(%error, "a page could not be rendered");
            (StatusCode::INTERNAL_SERVER_ERROR, "the page could not be rendered; the log says why\n").into_response()
        }
    }
}

/// JSON that is never kept.
pub(in crate::web) fn json(visit: &Visit, answer: &impl Serialize) -> Response {
    match serde_json::to_string(answer) {
        Ok(body) => text(StatusCode::OK, visit, "application/json", body),
        Err(error) => {
            tracing::error!(%error, "an answer could not be written as JSON");
            (StatusCode::INTERNAL_SERVER_ERROR, "the answer could not be written; the log says why\n").into_response()
        }
    }
}

/// A problem document (RFC 9457).
pub(in crate::web) fn problem(failure: &Failure) -> Response {
    let body = serde_json::to_string(&failure.document()).unwrap_or_default();
    let head = [(header::CONTENT_TYPE, "application/problem+json"), (header::CACHE_CONTROL, "no-store")];
    (failure.status, head, body).into_response()
}

/// Text that is never kept, compressed if the browser takes that.
pub(in crate::web) fn text(status: StatusCode, visit: &Visit, kind: &'static str, body: String) -> Response {
    let head = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-store"),
        (header::VARY, "accept-encoding, accept-language, cookie"),
    ];
    if body.len() >= COMPRESS_FROM_BYTES && visit.gzip {
        let zip = [(header::CONTENT_ENCODING, "gzip")];
        return (status, head, zip, compress(body.as_bytes())).into_response();
    }
    (status, head, body).into_response()
}

/// A part of a page that was made for all who look at it.
pub(in crate::web) fn made(visit: &Visit, plain: Bytes, zipped: Bytes) -> Response {
    let head = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::VARY, "accept-encoding, accept-language, cookie"),
    ];
    if visit.gzip {
        return (head, [(header::CONTENT_ENCODING, "gzip")], zipped).into_response();
    }
    (head, plain).into_response()
}

/// Escapes everything but letters and digits (RFC 3986, section 2.1).
fn escape(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(byte).collect()
}

/// An address that ends in a name of the user's choosing.
pub(in crate::web) fn path(root: &str, name: &str) -> String {
    format!("{root}{}", escape(name))
}

/// The query of an address from what is not empty.
pub(in crate::web) fn query(pairs: &[(&str, &str)]) -> String {
    let filled = pairs.iter().filter(|(_, value)| !value.is_empty());
    filled.map(|(name, value)| format!("{name}={}", escape(value))).collect::<Vec<_>>().join("&")
}

/// Compresses with gzip.
pub(in crate::web) fn compress(plain: &[u8]) -> Bytes {
    compress_by(plain, Compression::default())
}

/// Compresses with gzip what is asked for again and again: a third of the time, a quarter more bytes.
pub(in crate::web) fn compress_fast(plain: &[u8]) -> Bytes {
    compress_by(plain, Compression::fast())
}

fn compress_by(plain: &[u8], level: Compression) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 3), level);
    // Writing into memory does not fail; were it to, an empty answer would show it at once.
    encoder.write_all(plain).and_then(|()| encoder.finish()).map(Bytes::from).unwrap_or_default()
}

/// Puts the headers that keep a browser safe onto every answer.
pub(in crate::web) async fn guard(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // The address one came from stays within the gateway: choosing a language goes back there.
        (header::REFERRER_POLICY, "same-origin"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
