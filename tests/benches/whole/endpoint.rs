//! An HTTP endpoint that costs next to nothing: it reads a body, counts its lines, answers 204 and forgets.

use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use e2e::ports::Port;
use tokio::time::Instant;

/// Largest body that is taken, in bytes: well above the gateway's `batch_max`.
const BODY_BYTES_MAX: usize = 16 << 20;
/// The answer to every request.
const ANSWER: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";

/// An endpoint whose port stays its own while it is away. Its threads end with the benchmark.
#[derive(Debug)]
pub(crate) struct Endpoint {
    port: Port,
    books: Arc<Books>,
}

#[derive(Debug, Default)]
struct Books {
    lines: AtomicU64,
    keeps_readings: AtomicBool,
    kept: Mutex<Kept>,
}

/// What an endpoint that remembers has received.
#[derive(Debug, Default, Clone)]
pub(crate) struct Kept {
    /// Sequence and value of each reading, in order of arrival.
    pub(crate) readings: Vec<(u64, u64)>,
    /// When the first request came.
    pub(crate) first_at: Option<Instant>,
}

impl Endpoint {
    /// One that does not listen yet.
    pub(crate) fn away() -> Self {
        Self { port: Port::reserve(), books: Arc::default() }
    }

    /// One that listens.
    pub(crate) fn start() -> Self {
        let endpoint = Self::away();
        endpoint.listen();
        endpoint
    }

    /// Listens from now on.
    pub(crate) fn listen(&self) {
        let listener = TcpListener::bind(("127.0.0.1", self.port.number())).expect("the reserved port is free");
        let books = Arc::clone(&self.books);
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let books = Arc::clone(&books);
                // A connection that breaks is the gateway's to make again.
                thread::spawn(move || serve(&connection, &books).ok());
            }
        });
    }

    /// Remembers sequence and value of each reading, which costs it time.
    pub(crate) fn keep_readings(&self) {
        self.books.keeps_readings.store(true, Ordering::SeqCst);
    }

    /// Readings that have arrived.
    pub(crate) fn count(&self) -> u64 {
        self.books.lines.load(Ordering::SeqCst)
    }

    /// What was remembered.
    pub(crate) fn kept(&self) -> Kept {
        self.books.kept.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Where readings go. Alerts and the rest go elsewhere, to be told apart by their path.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/{{stream}}", self.port.number())
    }
}

fn serve(connection: &TcpStream, books: &Books) -> std::io::Result<()> {
    connection.set_nodelay(true)?;
    let mut reader = BufReader::with_capacity(256 * 1024, connection);
    let (mut line, mut body) = (String::new(), Vec::new());
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let is_readings = line.starts_with("POST /readings ");
        let mut length = 0;
        while line.trim_end() != "" {
            line.clear();
            reader.read_line(&mut line)?;
            let header = line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
            length = header.map_or(length, |(_, value)| value.trim().parse().expect("a length in bytes"));
        }
        assert!(length <= BODY_BYTES_MAX, "a body of {length} bytes");
        body.resize(length, 0);
        reader.read_exact(&mut body)?;
        if is_readings {
            books.enter(&body);
        }
        (&*connection).write_all(ANSWER)?;
    }
}

impl Books {
    #[allow(
        clippy::naive_bytecount,
        reason = "the compiler makes vector instructions of it; no crate is needed for that"
    )]
    fn enter(&self, body: &[u8]) {
        if self.keeps_readings.load(Ordering::SeqCst) {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.first_at.get_or_insert_with(Instant::now);
            let text = std::str::from_utf8(body).expect("NDJSON is UTF-8");
            kept.readings.extend(text.lines().map(|line| (number(line, "\"seq\":"), number(line, "\"value\":"))));
        }
        let lines = body.iter().filter(|byte| **byte == b'\n').count();
        self.lines.fetch_add(lines as u64, Ordering::SeqCst);
    }
}

/// The whole number behind a name.
fn number(line: &str, name: &str) -> u64 {
    let (_, rest) = line.split_once(name).unwrap_or_else(|| panic!("a reading without {name}: {line}"));
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    rest.get(..digits).and_then(|digits| digits.parse().ok()).expect("a whole number")
}
