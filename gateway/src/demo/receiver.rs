//! The ingest endpoint of the demo: applies each Idempotency-Key once, and can be taken away and brought back.

use super::DemoError;
use super::books::{Books, Refusal};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

/// Largest body as it comes: the gateway's runs have at most 256 KiB before compression.
const BODY_BYTES_MAX: usize = 1 << 20;
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
    stop: oneshot::Sender<()>,
    gone: oneshot::Receiver<()>,
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

    /// Closes the port and all connections, also in the middle of a request.
    pub(super) async fn take_away(&mut self) {
        if let Some(Serving { stop, gone }) = self.serving.take() {
            // Both say that the thread has ended if they fail.
            stop.send(()).ok();
            gone.await.ok();
        }
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
    std::thread::Builder::new().name("receiver".to_owned()).spawn(move || {
        runtime.block_on(async {
            let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
            let router = Router::new()
                .route("/v1/{stream}", post(receive))
                .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
                .with_state(books);
            tokio::select! {
                _ = axum::serve(listener, router) => {}
                _ = stopped => {}
            }
        });
        drop(runtime);
        // Whoever does not wait for it has gone, too.
        going.send(()).ok();
    })?;
    Ok(Serving { stop, gone })
}

async fn receive(
    State(books): State<Arc<Mutex<Books>>>,
    Path(stream): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let is_gzip = header("content-encoding") == Some("gzip");
    match lock(&books).enter(&stream, header("idempotency-key"), is_gzip, &body) {
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

    async fn post(client: &reqwest::Client, receiver: &Receiver, key: &str) -> Result<u16, reqwest::Error> {
        let request = client.post(receiver.url().replace("{stream}", "readings")).header("idempotency-key", key);
        let body = r#"{"epoch":"e","seq":0,"source":"s","value":1}"#;
        Ok(request.body(body).send().await?.status().as_u16())
    }

    #[tokio::test]
    async fn it_can_be_taken_away_and_comes_back_with_what_it_held() {
        // An error says that there is a provider already.
        rustls::crypto::ring::default_provider().install_default().ok();
        let client = reqwest::Client::new();
        let mut receiver = Receiver::start().unwrap();
        assert_eq!(post(&client, &receiver, "k").await.unwrap(), 204);

        receiver.take_away().await;
        assert!(!receiver.is_there());
        assert!(post(&client, &receiver, "k").await.unwrap_err().is_connect());

        receiver.bring_back().await.unwrap();
        assert_eq!(post(&client, &receiver, "k").await.unwrap(), 204);
        let books = receiver.books();
        assert_eq!((books.stream("readings").once, books.recognised), (1, 1));
    }
}
