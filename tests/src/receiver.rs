//! An HTTP ingest endpoint that applies every Idempotency-Key once, remembers what it got and misbehaves on demand.

mod connection;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::Read as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::connect_info::ConnectInfo;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use flate2::read::GzDecoder;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::ports::Port;
use connection::{Connection, Listener, Sabotage};

/// Largest body it reads at all, compressed or not: far above what the gateway sends.
const BODY_MAX_BYTES: usize = 16 << 20;

/// How a request is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Applied, 204.
    Apply,
    /// Applied after so long.
    Slow(Duration),
    /// Not applied: this status, perhaps with a Retry-After header of this value.
    Status(u16, Option<String>),
    /// Not applied: bytes that are not HTTP.
    Rubbish,
    /// Not applied and never answered.
    Never,
    /// Applied, but the connection closes before the answer.
    ApplyAndHangUp,
}

/// A request as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The path.
    pub path: String,
    /// The Idempotency-Key.
    pub key: Option<String>,
    /// All headers that are text, with names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Readings in it; 0 if it could not be read.
    pub readings: usize,
    /// The status it was answered with; `None` for the answers without one.
    pub status: Option<u16>,
    /// Whether it had been applied before under the same key.
    pub is_repeated: bool,
}

type Refusal = Box<dyn Fn(&Value) -> bool + Send>;

/// What the receiver holds and how it is to behave.
#[derive(Default)]
struct Books {
    /// Hash of the body that was applied under each key.
    applied: HashMap<String, u64>,
    /// What was applied, in order of arrival, by the stream that the key names.
    streams: BTreeMap<String, Vec<Value>>,
    requests: Vec<Request>,
    /// Keys that came again with other bytes than those applied.
    conflicts: Vec<String>,
    script: VecDeque<Answer>,
    otherwise: Option<Answer>,
    refusal: Option<Refusal>,
    body_max_bytes: Option<usize>,
}

/// A receiver on a thread of its own, so that a busy test does not slow it. Dropping it takes it away.
pub struct Receiver {
    books: Arc<Mutex<Books>>,
    /// Absent while it is away.
    serving: Option<Serving>,
    port: Port,
}

struct Serving {
    stop: oneshot::Sender<()>,
    thread: thread::JoinHandle<()>,
}

impl Receiver {
    /// Starts one that applies everything.
    #[must_use]
    pub fn start() -> Self {
        let mut receiver = Self { books: Arc::default(), serving: None, port: Port::reserve() };
        receiver.bring_back();
        receiver
    }

    /// The address to deliver to.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/v1/readings", self.port())
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Closes its socket and all connections: new ones are refused. What it holds stays.
    pub fn take_away(&mut self) {
        if let Some(Serving { stop, thread }) = self.serving.take() {
            // An error says that the thread has ended; joining tells.
            stop.send(()).ok();
            thread.join().expect("the receiver does not panic");
        }
    }

    /// Opens its socket again, on the same port.
    pub fn bring_back(&mut self) {
        if self.serving.is_some() {
            return;
        }
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = std::sync::mpsc::sync_channel(1);
        let (port, books) = (self.port(), Arc::clone(&self.books));
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("the reserved port is free");
                ready.send(()).expect("the test waits for this");
                let router = Router::new()
                    .fallback(any(receive))
                    .layer(DefaultBodyLimit::max(BODY_MAX_BYTES))
                    .with_state(books)
                    .into_make_service_with_connect_info::<Connection>();
                tokio::select! {
                    served = axum::serve(Listener(listener), router) => served.expect("the receiver serves until it is taken away"),
                    _ = stopped => {}
                }
            });
            // Dropping the runtime closes the connections, which have tasks of their own.
        });
        is_ready.recv().expect("the receiver starts");
        self.serving = Some(Serving { stop, thread });
    }

    /// Answers the next requests so, one after the other, before going on as usual.
    pub fn script(&self, answers: impl IntoIterator<Item = Answer>) {
        self.books().script.extend(answers);
    }

    /// Answers all requests beyond the script so, until told otherwise.
    pub fn answer(&self, answer: Answer) {
        self.books().otherwise = Some(answer);
    }

    /// Answers 422 to a request that holds a reading like this, and applies nothing of it.
    pub fn refuse(&self, refusal: impl Fn(&Value) -> bool + Send + 'static) {
        self.books().refusal = Some(Box::new(refusal));
    }

    /// Answers 413 to a body above this size on the wire, and applies nothing of it.
    pub fn limit_body(&self, bytes_max: usize) {
        self.books().body_max_bytes = Some(bytes_max);
    }

    /// What was applied to a stream ("readings", "alerts"), in order of arrival.
    #[must_use]
    pub fn stream(&self, name: &str) -> Vec<Value> {
        self.books().streams.get(name).cloned().unwrap_or_default()
    }

    /// Takes what was applied to a stream since it was taken last, in order of arrival; and forgets the requests.
    #[must_use]
    pub fn take_stream(&self, name: &str) -> Vec<Value> {
        let mut books = self.books();
        books.requests.clear();
        books.streams.remove(name).unwrap_or_default()
    }

    /// How many readings were applied to a stream.
    #[must_use]
    pub fn count(&self, stream: &str) -> usize {
        self.books().streams.get(stream).map_or(0, Vec::len)
    }

    /// All requests so far. One that is never answered is among them.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.books().requests.clone()
    }

    /// Keys that came again with other bytes than before: a retry must be the same bytes, so there should be none.
    #[must_use]
    pub fn conflicts(&self) -> Vec<String> {
        self.books().conflicts.clone()
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        lock(&self.books)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.take_away();
    }
}

fn lock(books: &Mutex<Books>) -> MutexGuard<'_, Books> {
    books.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn receive(
    State(books): State<Arc<Mutex<Books>>>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    uri: axum::http::Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let answer = {
        let mut books = lock(&books);
        books.script.pop_front().or_else(|| books.otherwise.clone()).unwrap_or(Answer::Apply)
    };
    if let Answer::Slow(delay) = answer {
        tokio::time::sleep(delay).await;
    }
    let status = lock(&books).enter(&answer, uri.path(), &headers, &body);
    match answer {
        Answer::Apply | Answer::Slow(_) => {}
        Answer::Status(_, retry_after) => {
            return match retry_after {
                Some(value) => (status, [(header::RETRY_AFTER, value)]).into_response(),
                None => status.into_response(),
            };
        }
        Answer::Rubbish => connection.sabotage(Sabotage::Rubbish),
        Answer::ApplyAndHangUp => connection.sabotage(Sabotage::HangUp),
        Answer::Never => std::future::pending().await,
    }
    status.into_response()
}

impl Books {
    /// Enters a request, applies it if it is to be applied, and returns the status to answer with.
    fn enter(&mut self, answer: &Answer, path: &str, headers: &HeaderMap, body: &Bytes) -> StatusCode {
        let headers: BTreeMap<String, String> = headers
            .iter()
            .filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())))
            .collect();
        let key = headers.get("idempotency-key").cloned();
        let readings = read_body(&headers, body);
        let is_repeated = key.as_ref().is_some_and(|key| self.applied.contains_key(key));
        let count = readings.as_ref().map_or(0, Vec::len);
        let status = match answer {
            Answer::Apply | Answer::Slow(_) | Answer::ApplyAndHangUp => self.apply(key.as_deref(), readings, body),
            Answer::Status(code, _) => StatusCode::from_u16(*code).expect("a status that HTTP knows"),
            Answer::Rubbish | Answer::Never => StatusCode::NO_CONTENT,
        };
        let is_answered = !matches!(answer, Answer::Rubbish | Answer::Never | Answer::ApplyAndHangUp);
        self.requests.push(Request {
            path: path.to_owned(),
            key,
            headers,
            readings: count,
            status: is_answered.then(|| status.as_u16()),
            is_repeated,
        });
        status
    }

    fn apply(&mut self, key: Option<&str>, readings: Option<Vec<Value>>, body: &Bytes) -> StatusCode {
        if self.body_max_bytes.is_some_and(|bytes_max| body.len() > bytes_max) {
            return StatusCode::PAYLOAD_TOO_LARGE;
        }
        let (Some(key), Some(readings)) = (key, readings) else {
            return StatusCode::BAD_REQUEST;
        };
        let mut hasher = DefaultHasher::new();
        body.hash(&mut hasher);
        let hash = hasher.finish();
        if let Some(applied) = self.applied.get(key) {
            if *applied != hash {
                self.conflicts.push(key.to_owned());
            }
            return StatusCode::NO_CONTENT;
        }
        if self.refusal.as_ref().is_some_and(|refuses| readings.iter().any(refuses)) {
            return StatusCode::UNPROCESSABLE_ENTITY;
        }
        self.applied.insert(key.to_owned(), hash);
        self.streams.entry(stream_of_key(key).to_owned()).or_default().extend(readings);
        StatusCode::NO_CONTENT
    }
}

/// The stream in `<gateway>/<epoch>/<sink>/<stream>/<first>-<last>`; the whole key if it is of another form.
fn stream_of_key(key: &str) -> &str {
    key.split('/').nth(3).unwrap_or(key)
}

/// The readings of a body of NDJSON or of a JSON array, perhaps compressed; `None` if it is not readable.
fn read_body(headers: &BTreeMap<String, String>, body: &Bytes) -> Option<Vec<Value>> {
    let text = match headers.get("content-encoding").map(String::as_str) {
        None | Some("identity") => body.to_vec(),
        Some("gzip") => {
            let mut text = Vec::new();
            GzDecoder::new(body.as_ref()).read_to_end(&mut text).ok()?;
            text
        }
        Some(_) => return None,
    };
    if text.first() == Some(&b'[') {
        return serde_json::from_slice(&text).ok();
    }
    serde_json::Deserializer::from_slice(&text).into_iter().collect::<Result<_, _>>().ok()
}
