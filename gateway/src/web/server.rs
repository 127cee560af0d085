//! The connections below the router: bounded in number, in time and in memory. One port speaks HTTPS and plain HTTP; the first byte of
//! a connection tells which.

use super::body::{self, Fate, Timed};
use super::crowd::Crowd;
use super::patient::Patient;
use super::tls::{Plain, Tls};
use axum::Router;
use axum::body::Body;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// Most connections at once: every page holds one for its events and up to five more while it loads; further ones wait
/// in the kernel's queue.
const CONNECTIONS_MAX: usize = 128;

/// Longest wait for a connection's first byte, and for the header of a request, also between two requests of one connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(20);

/// Longest that a TLS handshake may take, with the wait for its turn: a phone at the edge of a radio network takes two seconds.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Most handshakes at once. More than one address may have connections, so that one that leaves its handshakes half open does not
/// take them all; few enough that a flood of them leaves the readings their share of the processor.
const HANDSHAKES_MAX: usize = 64;

/// Most bytes of a connection's buffer, which also bounds a request's header: 128 connections stay within 4 MiB.
const BUFFER_BYTES_MAX: usize = 32 * 1024;

/// What a line of a header has beside name and value: a colon, a space, its end.
const LINE_BYTES: usize = 4;

/// How a reverse proxy says who asks, and how it was asked.
const FORWARDED_FOR: &str = "x-forwarded-for";
const FORWARDED_PROTO: &str = "x-forwarded-proto";

/// How long answers under way may take once the gateway stops.
const GRACE: Duration = Duration::from_secs(3);

/// Pause after a failed accept (out of file descriptors), so that it does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The first byte of a connection with TLS: a record with a handshake in it (RFC 8446, 5.1). No method of HTTP begins so.
const TLS_HANDSHAKE: u8 = 0x16;

/// Who a request came from; every request has it among its extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The other end of the connection: a reverse proxy's, if there is one.
    pub address: SocketAddr,
    /// Who asks: the other end, or who a proxy that is trusted says it is.
    pub client: IpAddr,
    /// Whether it came over HTTPS, to here or to such a proxy.
    pub tls: bool,
}

impl Peer {
    /// The other end of a connection.
    #[must_use]
    pub fn new(address: SocketAddr, tls: bool) -> Self {
        Self { address, client: address.ip(), tls }
    }

    /// The same, by what a proxy that is trusted says in its headers; others are not believed.
    fn forwarded(self, headers: &HeaderMap, tls: &Tls) -> Self {
        if !tls.trusts(self.address.ip()) {
            return self;
        }
        let texts = |name: &str| {
            let texts = headers.get_all(name).iter().rev().filter_map(|value| value.to_str().ok());
            texts.flat_map(|text| text.rsplit(',')).map(str::trim)
        };
        // The last ones were written by proxies that are trusted; the first that was not is who asks. What stands before it may be
        // anybody's.
        let mut client = self.client;
        for text in texts(FORWARDED_FOR) {
            let Some(address) = address(text) else { break };
            client = address;
            if !tls.trusts(address) {
                break;
            }
        }
        let encrypted = texts(FORWARDED_PROTO).next().is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"));
        Self { client, tls: self.tls || encrypted, ..self }
    }
}

/// An address as proxies write it, some with a port.
fn address(text: &str) -> Option<IpAddr> {
    let address = text.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()));
    let address = address.or_else(|| text.strip_prefix('[')?.strip_suffix(']')?.parse().ok());
    address.map(|address| address.to_canonical())
}

/// What the requests of one connection have in common.
pub(super) struct Connection {
    /// What answers.
    pub(super) router: Router,
    /// How the port is opened.
    pub(super) tls: Tls,
    /// The other end.
    pub(super) peer: Peer,
    /// This end.
    pub(super) local: Option<SocketAddr>,
}

/// A connection, opened.
enum Opened {
    Plain(Patient<TcpStream>),
    Secure(Box<TlsStream<Patient<TcpStream>>>),
}

/// Accepts connections until `stop`, then lets answers under way end.
pub(super) async fn run(listener: TcpListener, router: Router, tls: Tls, stop: CancellationToken) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    let crowd = Arc::new(Crowd::default());
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = accept(&listener, &slots) => accepted,
        };
        let Some((stream, address, slot)) = accepted else { continue };
        let Some(place) = crowd.enter(address.ip(), tls.trusts(address.ip())) else {
            tracing::debug!(%address, "the page refused a connection: this address has its share already");
            continue;
        };
        let (router, tls, handshakes, stop) = (router.clone(), tls.clone(), handshakes.clone(), stop.clone());
        connections.spawn(async move {
            let local = stream.local_addr().ok();
            let opened = tokio::select! {
                () = stop.cancelled() => None,
                opened = open(stream, &tls, &handshakes) => opened,
            };
            let peer = |tls| Peer::new(address, tls);
            match opened {
                Some(Opened::Plain(stream)) => {
                    serve(stream, Connection { router, tls, peer: peer(false), local }, stop).await;
                }
                Some(Opened::Secure(stream)) => {
                    serve(stream, Connection { router, tls, peer: peer(true), local }, stop).await;
                }
                None => {}
            }
            drop((slot, place));
        });
    }
    while connections.join_next().await.is_some() {}
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let slot = slots.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, address)) => Some((stream, address, slot)),
        Err(error) => {
            tracing::warn!(%error, "the page could not take a connection");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

/// Waits for the first byte and goes by it; `None` if nothing comes of the connection.
async fn open(stream: TcpStream, tls: &Tls, handshakes: &Semaphore) -> Option<Opened> {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection keeps its delay");
    }
    let mut first = [0];
    if !matches!(timeout(HEADER_TIMEOUT, stream.peek(&mut first)).await, Ok(Ok(1))) {
        return None;
    }
    let stream = Patient::new(stream);
    if first != [TLS_HANDSHAKE] {
        return Some(Opened::Plain(stream));
    }
    let acceptor = tls.acceptor()?;
    let handshake = async {
        let _turn = handshakes.acquire().await.map_err(std::io::Error::other)?;
        acceptor.accept(stream).await
    };
    match timeout(HANDSHAKE_TIMEOUT, handshake).await {
        Ok(Ok(stream)) => Some(Opened::Secure(Box::new(stream))),
        Ok(Err(error)) => {
            // Also each browser that does not trust the certificate yet.
            tracing::debug!(%error, "a TLS handshake failed");
            None
        }
        Err(_) => {
            tracing::debug!("a TLS handshake took too long");
            None
        }
    }
}

/// Answers the requests of one connection until it ends.
pub(super) async fn serve<S>(stream: S, connection: Connection, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = Arc::new(connection);
    let service = service_fn(move |request| answer(request, connection.clone()));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(BUFFER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            match timeout(GRACE, connection).await {
                Ok(ended) => ended,
                Err(_) => return tracing::debug!("a page was still being read when the gateway stopped"),
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection of the page ended early");
    }
}

/// Answers one request: what comes plainly from elsewhere as the options say, everything else by the router.
async fn answer(request: Request<Incoming>, connection: Arc<Connection>) -> Result<Response, Infallible> {
    let Connection { router, tls, .. } = &*connection;
    let peer = &connection.peer.forwarded(request.headers(), tls);
    let head: usize =
        request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + LINE_BYTES).sum();
    if head + request.uri().path_and_query().map_or(0, |path| path.as_str().len()) > BUFFER_BYTES_MAX {
        let words = "the header of the request is larger than anything that is taken here\n";
        return Ok(refuse(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, words));
    }
    let is_local = peer.address.ip().to_canonical().is_loopback();
    let rule = if peer.tls || is_local { Plain::Serve } else { tls.plain_rule() };
    match rule {
        Plain::Serve => {}
        Plain::Redirect => return Ok(redirect(&request, connection.local)),
        Plain::Refuse => {
            return Ok(refuse(
                StatusCode::SERVICE_UNAVAILABLE,
                "this gateway has no certificate, and without HTTPS it answers its own machine alone; its log says why\n",
            ));
        }
    }
    let mut answer = if request.body().size_hint().lower() > body::BYTES_MAX {
        too_large()
    } else {
        let fate = Arc::new(Fate::default());
        let mut request = request.map(|body| Body::new(Timed::new(body, fate.clone())));
        request.extensions_mut().insert(*peer);
        let Ok(answer) = router.clone().oneshot(request).await;
        // Whatever a handler makes of half a body.
        match fate.get() {
            body::End::Whole => answer,
            body::End::TooSlow => refuse(StatusCode::REQUEST_TIMEOUT, "the request took too long to arrive\n"),
            body::End::TooLarge => too_large(),
        }
    };
    if peer.tls
        && let Some(hsts) = tls.hsts()
    {
        answer.headers_mut().insert(header::STRICT_TRANSPORT_SECURITY, hsts);
    }
    Ok(answer)
}

fn too_large() -> Response {
    refuse(StatusCode::PAYLOAD_TOO_LARGE, "the request is larger than anything that is taken here\n")
}

/// An answer after which the connection is of no use.
fn refuse(status: StatusCode, words: &'static str) -> Response {
    (status, [(header::CONNECTION, "close"), (header::CACHE_CONTROL, "no-store")], words).into_response()
}

/// Sends the browser to the same place with HTTPS. It is not to remember that: HTTPS may be switched off one day.
fn redirect<B>(request: &Request<B>, local: Option<SocketAddr>) -> Response {
    let named = request.headers().get(header::HOST).and_then(|host| authority(host.as_bytes()));
    let Some(host) = named.or_else(|| local.map(|local| local.to_string())) else {
        return refuse(StatusCode::BAD_REQUEST, "this page is served with HTTPS alone: https://…\n");
    };
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let path = if path.starts_with('/') { path } else { "/" };
    match HeaderValue::try_from(format!("https://{host}{path}")) {
        Ok(place) => {
            let head = [
                (header::LOCATION, place),
                (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
                // The next request of this browser comes on another connection.
                (header::CONNECTION, HeaderValue::from_static("close")),
            ];
            (StatusCode::PERMANENT_REDIRECT, head, "this page is served with HTTPS\n").into_response()
        }
        Err(_) => refuse(StatusCode::BAD_REQUEST, "this page is served with HTTPS alone\n"),
    }
}

/// A host and port as a browser names them; nothing else gets into an address that someone is sent to.
fn authority(host: &[u8]) -> Option<String> {
    let authority = Authority::try_from(host).ok()?;
    let is_plain = !authority.host().is_empty() && !authority.as_str().contains('@');
    is_plain.then(|| authority.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    fn place(host: Option<&[u8]>, uri: &str) -> String {
        let mut request = Request::get(uri).body(()).unwrap();
        if let Some(host) = host {
            request.headers_mut().insert(header::HOST, HeaderValue::from_bytes(host).unwrap());
        }
        let answer = redirect(&request, Some("[fd00::7]:8080".parse().unwrap()));
        assert_eq!(answer.status(), 308);
        answer.headers()[header::LOCATION].to_str().unwrap().to_owned()
    }

    #[test]
    fn a_browser_is_sent_to_where_it_wanted_to_go() {
        assert_eq!(
            place(Some(b"forebay.local:8080"), "/points?device=a%20b"),
            "https://forebay.local:8080/points?device=a%20b"
        );
        assert_eq!(place(Some(b"[fd00::7]:8080"), "/"), "https://[fd00::7]:8080/");
        assert_eq!(place(None, "/points"), "https://[fd00::7]:8080/points");
        assert_eq!(place(Some(b"forebay.local"), "http://evil.example/points"), "https://forebay.local/points");
    }

    #[test]
    fn a_host_that_is_none_leads_nowhere() {
        for host in [&b"ann:pw@evil.example"[..], b"evil.example/x", b"a b", b"", b":80", b"\xff\xfe", b"a\"b", b"a?b"]
        {
            assert_eq!(place(Some(host), "/"), "https://[fd00::7]:8080/", "{}", String::from_utf8_lossy(host));
        }
    }

    proptest! {
        #[test]
        fn no_host_gets_anything_but_a_host_into_the_address(host in "[ -~]{0,40}") {
            let place = place(Some(host.as_bytes()), "/x");
            let inner = place.strip_prefix("https://").unwrap().strip_suffix("/x").unwrap();
            prop_assert!(!inner.is_empty() && !inner.contains(['/', '@', '?', '#', ' ', '\\']), "{place}");
        }
    }
}
