//! The ingest endpoint of the demo: applies each Idempotency-Key once, and can be taken away, in the worst moment, and
//! brought back.

use super::DemoError;
use super::books::{Books, Refusal};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep, timeout};

/// Largest body as it comes: the gateway's runs have at most 256 KiB before compression.
const BODY_BYTES_MAX: usize = 1 << 20;
/// How long it waits for a request to leave unanswered.
const LAST_REQUEST_LIMIT: Duration = Duration::from_secs(2);
/// How long the port may stay taken after the receiver went away.
const REBIND_LIMIT: Duration = Duration::from_secs(5);
/// Between two attempts to bind it.
const REBIND_EVERY: Duration = Duration::from_millis(50);

/// The receiver; what it holds stays while it is away.
#[derive(Debug)]
pub(super) struct Receiver {
    books: Arc<Mutex<Books>>,
    address: SocketAddr,
    serving: Option<Serving>,
}

/// A receiver that listens, on a thread with a runtime of its own: dropping that closes all connections at once.
#[derive(Debug)]
struct Serving {
    door: Arc<Door>,
    stop: oneshot::Sender<()>,
    gone: oneshot::Receiver<()>,
}

/// How a receiver that is going to leave does so.
#[derive(Debug, Default)]
struct Door {
    /// The next request is applied and never answered.
    is_leaving: AtomicBool,
    has_left_one: Notify,
}

impl Receiver {
    /// Starts one on a free port of loopback.
    pub(super) fn start() -> Result<Self, DemoError> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(DemoError::Receiver)?;
        let address = listener.local_addr().map_err(DemoError::Receiver)?;
        let books = Arc::default();
        let serving = Some(serve(listener, Arc::clone(&books)).map_err(DemoError::Receiver)?);
        Ok(Self { books, address, serving })
    }

    /// Where the gateway delivers each stream.
    pub(super) fn url(&self) -> String {
        format!("http://{}/v1/{{stream}}", self.address)
    }

    /// Whether it listens.
    pub(super) fn is_there(&self) -> bool {
        self.serving.is_some()
    }

    /// Applies the next request without answering it, then closes the port and all connections. Says whether there was
    /// such a request: whoever sent it cannot know that it was applied.
    pub(super) async fn take_away(&mut self) -> bool {
        let Some(Serving { door, stop, gone }) = self.serving.take() else { return false };
        door.is_leaving.store(true, Ordering::SeqCst);
        let has_left_one = timeout(LAST_REQUEST_LIMIT, door.has_left_one.notified()).await.is_ok();
        // Both say that the thread has ended if they fail.
        stop.send(()).ok();
        gone.await.ok();
        has_left_one
    }

    /// Listens again, on the same port.
    pub(super) async fn bring_back(&mut self) -> Result<(), DemoError> {
        if self.serving.is_some() {
            return Ok(());
        }
        let deadline = Instant::now() + REBIND_LIMIT;
        let listener = loop {
            match TcpListener::bind(self.address) {
                Ok(listener) => break listener,
                Err(error) if Instant::now() >= deadline => return Err(DemoError::Receiver(error)),
                Err(_) => sleep(REBIND_EVERY).await,
            }
        };
        self.serving = Some(serve(listener, Arc::clone(&self.books)).map_err(DemoError::Receiver)?);
        Ok(())
    }

    /// What it holds.
    pub(super) fn books(&self) -> MutexGuard<'_, Books> {
        lock(&self.books)
    }
}

fn lock(books: &Mutex<Books>) -> MutexGuard<'_, Books> {
    books.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(listener: TcpListener, books: Arc<Mutex<Books>>) -> std::io::Result<Serving> {
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (stop, stopped) = oneshot::channel();
    let (going, gone) = oneshot::channel::<()>();
    let door = Arc::new(Door::default());
    let state = (books, Arc::clone(&door));
    std::thread::Builder::new().name("receiver".to_owned()).spawn(move || {
        runtime.block_on(async {
            let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
            let router = Router::new()
                .route("/v1/{stream}", post(receive))
                .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
                .with_state(state);
            tokio::select! {
                _ = axum::serve(listener, router) => {}
                _ = stopped => {}
            }
        });
        drop(runtime);
        // Whoever does not wait for it has gone, too.
        going.send(()).ok();
    })?;
    Ok(Serving { door, stop, gone })
}

async fn receive(
    State((books, door)): State<(Arc<Mutex<Books>>, Arc<Door>)>,
    Path(stream): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let is_gzip = header("content-encoding") == Some("gzip");
    let entered = lock(&books).enter(&stream, header("idempotency-key"), is_gzip, &body);
    if door.is_leaving.load(Ordering::SeqCst) {
        door.has_left_one.notify_one();
        return std::future::pending().await;
    }
    match entered {
        Ok(()) => StatusCode::NO_CONTENT,
        Err(Refusal::NoKey | Refusal::Unreadable) => StatusCode::BAD_REQUEST,
        // draft-ietf-httpapi-idempotency-key-header-07, section 2.7: the key was used with another payload.
        Err(Refusal::Conflict) => StatusCode::UNPROCESSABLE_ENTITY,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    async fn post(client: &reqwest::Client, url: &str, seq: u64) -> Result<u16, reqwest::Error> {
        let request = client.post(url.replace("{stream}", "readings")).header("idempotency-key", format!("k{seq}"));
        let body = format!(r#"{{"epoch":"e","seq":{seq},"source":"s","value":1}}"#);
        Ok(request.body(body).send().await?.status().as_u16())
    }

    #[tokio::test]
    async fn it_leaves_with_a_request_applied_but_not_answered_and_recognises_it_when_it_is_back() {
        // An error says that there is a provider already.
        rustls::crypto::ring::default_provider().install_default().ok();
        let client = reqwest::Client::new();
        let mut receiver = Receiver::start().unwrap();
        assert_eq!(post(&client, &receiver.url(), 0).await.unwrap(), 204);

        let url = receiver.url();
        let (left_one, answer) = tokio::join!(receiver.take_away(), post(&client, &url, 1));
        assert!(left_one);
        assert!(answer.is_err());
        assert!(!receiver.is_there());
        assert!(post(&client, &url, 1).await.unwrap_err().is_connect());

        receiver.bring_back().await.unwrap();
        assert_eq!(post(&client, &url, 1).await.unwrap(), 204);
        let books = receiver.books();
        assert_eq!((books.stream("readings").once, books.recognised), (2, 1));
    }
}
