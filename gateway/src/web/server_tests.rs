//! The page's port as friends and enemies meet it: HTTPS, plain HTTP, rubbish, half of something, far too much.

#![allow(clippy::unwrap_used, reason = "tests")]

use super::server::{self, Connection, Peer};
use super::tls::Tls;
use crate::clock::Clock;
use crate::config::{HttpsMode, WebOptions};
use crate::secret::SecretFile;
use crate::status::Status;
use crate::units::HumanDuration;
use axum::body::{Body, Bytes};
use axum::routing::{get, post};
use axum::{Extension, Router};
use futures_util::stream;
use rcgen::{CertificateParams, KeyPair};
use reqwest::{Certificate, Client};
use std::convert::Infallible;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, duplex};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// 2027-01-15.
const NOW_US: i64 = 1_800_000_000_000_000;

struct Served {
    address: SocketAddr,
    tls: Tls,
    status: Arc<Status>,
    dir: tempfile::TempDir,
    stop: CancellationToken,
    server: JoinSet<()>,
}

fn router() -> Router {
    let endless =
        || async { Body::from_stream(stream::repeat_with(|| Ok::<_, Infallible>(Bytes::from_static(&[b'x'; 8192])))) };
    Router::new()
        .route("/", get(|Extension(peer): Extension<Peer>| async move { if peer.tls { "tls" } else { "plain" } }))
        .route(
            "/take",
            post(|body: Body| async move {
                axum::body::to_bytes(body, usize::MAX).await.map(|bytes| bytes.len().to_string()).unwrap_or_default()
            }),
        )
        .route("/endless", get(endless))
}

impl Served {
    async fn start(options: WebOptions) -> Self {
        // Another test may have installed it already; reqwest needs one.
        _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let status = Arc::new(Status::default());
        let tls = Tls::new(dir.path(), "plant-7", &options, Clock::system(), status.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let mut server = JoinSet::new();
        server.spawn(server::run(listener, router(), tls.clone(), stop.clone()));
        Self { address, tls, status, dir, stop, server }
    }

    /// A browser that trusts this certificate alone.
    fn trusting(&self, pem: &str) -> Browser {
        let trusted = Certificate::from_pem_bundle(pem.as_bytes()).unwrap();
        let client = Client::builder().no_proxy().tls_certs_only(trusted).pool_max_idle_per_host(0).build().unwrap();
        Browser { client, address: self.address }
    }

    fn browser(&self) -> Browser {
        self.trusting(&fs::read_to_string(self.dir.path().join("access/tls/certificate.pem")).unwrap())
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    fn troubles(&self) -> Vec<String> {
        self.status.troubles().into_iter().map(|trouble| trouble.what).collect()
    }

    async fn stop(mut self) {
        self.stop.cancel();
        self.server.join_next().await.unwrap().unwrap();
    }
}

struct Browser {
    client: Client,
    address: SocketAddr,
}

impl Browser {
    async fn get(&self, scheme: &str) -> Result<reqwest::Response, reqwest::Error> {
        self.client.get(format!("{scheme}://{}/", self.address)).send().await
    }

    async fn text(&self, scheme: &str) -> String {
        self.get(scheme).await.unwrap().text().await.unwrap()
    }
}

/// What comes back to `request` until the connection ends, by a client that gives up writing when nobody listens any more.
async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &[u8]) -> String {
    _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// A connection as if from another machine; the server's side of it runs in the set.
fn from_elsewhere(tls: &Tls, tasks: &mut JoinSet<()>) -> impl AsyncRead + AsyncWrite + Unpin + use<> {
    let (near, far) = duplex(64 * 1024);
    let peer = Peer::new("10.0.0.7:40000".parse().unwrap(), false);
    let connection = Connection { router: router(), tls: tls.clone(), peer, local: "10.0.0.1:8080".parse().ok() };
    tasks.spawn(server::serve(super::patient::Patient::new(far), connection, CancellationToken::new()));
    near
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: forebay.local:8080\r\nconnection: close\r\n\r\n";

/// Writes a pair made for this name; answers its certificate.
fn write_pair(folder: &Path) -> String {
    let key = KeyPair::generate().unwrap();
    let pem = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().self_signed(&key).unwrap().pem();
    fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
    fs::write(folder.join("certificate.pem"), &pem).unwrap();
    pem
}

fn files(folder: &Path) -> WebOptions {
    let file = |name: &str| Some(SecretFile(folder.join(name).display().to_string()));
    WebOptions { certificate_file: file("certificate.pem"), key_file: file("key.pem"), ..WebOptions::default() }
}

#[tokio::test]
async fn one_port_speaks_https_and_plain_http_and_says_which_to_every_request() {
    let served = Served::start(WebOptions::default()).await;
    let browser = served.browser();
    assert_eq!(browser.text("https").await, "tls");
    assert_eq!(browser.text("http").await, "plain");
    assert!(served.troubles().is_empty());
    served.stop().await;
}

#[tokio::test]
async fn plain_http_from_another_machine_is_answered_as_the_options_say() {
    let served = Served::start(WebOptions::default()).await;
    let mut tasks = JoinSet::new();
    let answer = exchange(from_elsewhere(&served.tls, &mut tasks), GET).await;
    assert!(answer.starts_with("HTTP/1.1 308"), "{answer}");
    assert!(answer.contains("location: https://forebay.local:8080/\r\n") && answer.contains("no-store"), "{answer}");
    for mode in [HttpsMode::Offered, HttpsMode::Off] {
        served.tls.configure(&WebOptions { https: mode, ..WebOptions::default() });
        let answer = exchange(from_elsewhere(&served.tls, &mut tasks), GET).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("plain"), "{mode:?}: {answer}");
        assert_eq!(served.tls.certificate().is_some(), mode == HttpsMode::Offered);
    }
    assert!(served.browser().get("https").await.is_err());
    served.stop().await;
}

#[tokio::test]
async fn browsers_are_told_to_remember_https_only_where_it_is_wanted_and_only_over_https() {
    let served = Served::start(WebOptions::default()).await;
    let browser = served.browser();
    assert!(!browser.get("https").await.unwrap().headers().contains_key("strict-transport-security"));
    served
        .tls
        .configure(&WebOptions { hsts: Some(HumanDuration(Duration::from_secs(3_600))), ..WebOptions::default() });
    assert_eq!(browser.get("https").await.unwrap().headers()["strict-transport-security"], "max-age=3600");
    assert!(!browser.get("http").await.unwrap().headers().contains_key("strict-transport-security"));
    served.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_handshake_left_half_open_ends_and_gives_its_place_back() {
    let served = Served::start(WebOptions::default()).await;
    let mut halves = Vec::new();
    // More than one address may have: those beyond are turned away at once, the others when their time is over.
    for _ in 0..150 {
        let mut half = served.connect().await;
        _ = half.write_all(&[0x16, 3, 1]).await;
        halves.push(half);
    }
    for mut half in halves {
        let mut rest = Vec::new();
        _ = half.read_to_end(&mut rest).await;
    }
    assert!(exchange(served.connect().await, GET).await.ends_with("plain"));
    served.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_request_that_never_becomes_whole_is_not_waited_for() {
    let served = Served::start(WebOptions::default()).await;
    for begin in [&b""[..], b"GET / HTTP/1.1\r\nhost: a\r\nx-slow: "] {
        let answer = exchange(served.connect().await, begin).await;
        assert!(!answer.contains("200"), "{answer}");
    }
    let body = b"POST /take HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nabc";
    let answer = exchange(served.connect().await, body).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    served.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_body_that_drips_for_ever_is_cut_off() {
    let served = Served::start(WebOptions::default()).await;
    let mut tasks = JoinSet::new();
    served.tls.configure(&WebOptions { https: HttpsMode::Off, ..WebOptions::default() });
    let mut stream = from_elsewhere(&served.tls, &mut tasks);
    stream.write_all(b"POST /take HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n").await.unwrap();
    let began = tokio::time::Instant::now();
    while stream.write_all(b"a").await.is_ok() {
        assert!(began.elapsed() < Duration::from_secs(300), "it still listens");
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    let mut answer = String::new();
    _ = stream.read_to_string(&mut answer).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    served.stop().await;
}

#[tokio::test]
async fn what_is_too_large_is_refused_by_its_name() {
    let served = Served::start(WebOptions { https: HttpsMode::Off, ..WebOptions::default() }).await;
    let mut tasks = JoinSet::new();
    let announced = b"POST /take HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999\r\n\r\n".to_vec();
    let mut chunked = b"POST /take HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..5 {
        chunked.extend(b"100000\r\n");
        chunked.resize(chunked.len() + (1 << 20), b'x');
        chunked.extend(b"\r\n");
    }
    let header = [&b"GET / HTTP/1.1\r\nhost: a\r\nx: "[..], &vec![b'x'; 64 * 1024], b"\r\n\r\n"].concat();
    for (request, status) in [(announced, "413"), (chunked, "413"), (header, "431")] {
        let answer = exchange(from_elsewhere(&served.tls, &mut tasks), &request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{status}: {answer}");
    }
    let fits = b"POST /take HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 5\r\n\r\nabcde";
    assert!(exchange(served.connect().await, fits).await.ends_with("\r\n\r\n5"));
    served.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_nobody_reads_ends() {
    let served = Served::start(WebOptions { https: HttpsMode::Off, ..WebOptions::default() }).await;
    let mut tasks = JoinSet::new();
    let mut stream = from_elsewhere(&served.tls, &mut tasks);
    stream.write_all(b"GET /endless HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    tasks.join_next().await.unwrap().unwrap();
    served.stop().await;
}

#[tokio::test]
async fn one_address_does_not_keep_another_out() {
    let served = Served::start(WebOptions::default()).await;
    let mut idle = Vec::new();
    for _ in 0..200 {
        idle.push(served.connect().await);
    }
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let other = socket.connect(served.address).await.unwrap();
    assert!(exchange(other, GET).await.ends_with("plain"));
    assert_eq!(idle.len(), 200);
    served.stop().await;
}

#[tokio::test]
async fn rubbish_hurts_nobody() {
    let served = Served::start(WebOptions::default()).await;
    let mut random = fastrand::Rng::with_seed(7);
    for round in 0..200 {
        let mut rubbish: Vec<u8> = (0..random.usize(1..600)).map(|_| random.u8(..)).collect();
        if round % 2 == 0 {
            rubbish[0] = 0x16;
        }
        let mut stream = served.connect().await;
        _ = stream.write_all(&rubbish).await;
        _ = stream.shutdown().await;
        let mut answer = Vec::new();
        _ = stream.read_to_end(&mut answer).await;
        assert!(!answer.starts_with(b"HTTP/1.1 2"), "{rubbish:?}");
    }
    assert_eq!(served.browser().text("https").await, "tls");
    served.stop().await;
}

#[tokio::test]
async fn a_renewed_certificate_is_taken_in_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let first = write_pair(folder.path());
    let served = Served::start(files(folder.path())).await;
    assert_eq!(served.trusting(&first).text("https").await, "tls");
    let fingerprint = served.tls.certificate().unwrap().fingerprint;

    // A key on its own does not fit: at first it is waited for, then it is told, and the old pair is served all the time.
    fs::write(folder.path().join("key.pem"), KeyPair::generate().unwrap().serialize_pem()).unwrap();
    served.tls.look();
    assert!(served.troubles().is_empty());
    served.tls.look();
    assert!(served.troubles()[0].contains("does not belong"), "{:?}", served.troubles());
    assert_eq!(served.trusting(&first).text("https").await, "tls");

    let second = write_pair(folder.path());
    served.tls.look();
    assert!(served.troubles().is_empty(), "{:?}", served.troubles());
    assert_eq!(served.trusting(&second).text("https").await, "tls");
    assert!(served.trusting(&first).get("https").await.is_err());
    assert_ne!(served.tls.certificate().unwrap().fingerprint, fingerprint);
    served.stop().await;
}

#[tokio::test]
async fn without_the_users_certificate_the_gateway_serves_its_own_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start(files(folder.path())).await;
    assert_eq!(served.browser().text("https").await, "tls");
    assert!(served.troubles()[0].contains("cannot be read"), "{:?}", served.troubles());
    let before = served.tls.certificate().unwrap();
    let after = served.tls.regenerate().unwrap();
    assert_ne!(before.fingerprint, after.fingerprint);
    assert_eq!(served.browser().text("https").await, "tls");
    let pem = write_pair(folder.path());
    served.tls.look();
    assert_eq!(served.trusting(&pem).text("https").await, "tls");
    assert!(served.troubles().is_empty());
    served.stop().await;
}

#[tokio::test]
async fn a_card_that_takes_nothing_does_not_take_https_away() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("access"), "in the way").unwrap();
    let status = Arc::new(Status::default());
    let tls = Tls::new(dir.path(), "plant-7", &WebOptions::default(), Clock::manual(1, 1, NOW_US), status.clone());
    assert!(tls.certificate().is_some());
    assert!(status.troubles()[0].what.contains("cannot be written"));
    fs::remove_file(dir.path().join("access")).unwrap();
    tls.look();
    assert!(status.troubles().is_empty());
}
