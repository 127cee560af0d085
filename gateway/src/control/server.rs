//! The gateway's side of the control socket: takes requests, one a connection, and answers them.

use super::desk;
use super::{
    Answer, CONNECTIONS_MAX, PEER_TIME, POINTS_PER_ANSWER, REQUEST_BYTES_MAX, REQUEST_TIME, Request, WireBlock,
    socket_path,
};
use crate::access::Access;
use crate::buffer::{Buffer, ReplayRequest, cancel_replay};
use crate::clock::Clock;
use crate::config::desk::Desk;
use crate::site::Registry;
use crate::status::Status;
use serde::Serialize;
use serde_json::Value;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How long answers may take that are under way at the end.
const LAST_ANSWERS: Duration = Duration::from_millis(500);

/// What the socket gives access to.
#[derive(Clone, Debug)]
pub struct Control {
    /// The buffer.
    pub buffer: Buffer,
    /// The names of points.
    pub registry: Arc<Registry>,
    /// The names of sinks.
    pub status: Arc<Status>,
    /// Both clocks.
    pub clock: Clock,
    /// Who reads the configuration again.
    pub reload: mpsc::Sender<ReloadRequest>,
    /// Where a changed configuration is handed in.
    pub desk: Desk,
    /// Where it is written down who changed the configuration.
    pub access: Access,
}

/// Asks for a reload; the answer is what changed, a line each, or everything that is wrong.
pub type ReloadRequest = oneshot::Sender<Result<Vec<String>, String>>;

/// Makes the socket in `data_dir`, in the place of what a killed gateway has left. To be called by who holds the buffer's lock:
/// then nobody else can be listening there.
///
/// # Errors
/// If the socket cannot be made; its path may have at most 107 bytes (unix(7)).
pub fn bind(data_dir: &Path) -> io::Result<UnixListener> {
    let path = socket_path(data_dir);
    let fresh = path.with_extension("new");
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&fresh)?;
    // Nobody finds it under its name before it is for its owner only.
    fs::set_permissions(&fresh, Permissions::from_mode(0o600))?;
    fs::rename(&fresh, &path)?;
    Ok(listener)
}

/// Answers requests until it is told to stop.
pub async fn serve(listener: UnixListener, control: Control, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((stream, _)) => drop(connections.spawn(converse(stream, control.clone()))),
                Err(error) => {
                    // Out of file descriptors, at worst: it passes, and until then this must not turn in circles.
                    tracing::warn!(%error, "a tool could not connect");
                    tokio::time::sleep(PEER_TIME / 10).await;
                }
            },
        }
    }
    // Who has asked for the restart that ends this is to hear that it is under way.
    let answered = async { while connections.join_next().await.is_some() {} };
    timeout(LAST_ANSWERS, answered).await.ok();
    connections.shutdown().await;
}

/// One connection: a request and its answer. What goes wrong with the peer is the peer's affair.
async fn converse(stream: UnixStream, control: Control) {
    let own = rustix::process::geteuid().as_raw();
    let peer = stream.peer_cred().map(|peer| peer.uid());
    let (mut from_peer, mut to_peer) = stream.into_split();
    let answer = match peer {
        Ok(uid) if uid == own || uid == 0 => match timeout(PEER_TIME, read_request(&mut from_peer)).await {
            Ok(Ok(request)) => execute(request, &control, who(uid)).await,
            Ok(Err(problem)) => Answer::Failed(problem),
            Err(_) => Answer::Failed(format!("no request came within {} s", PEER_TIME.as_secs())),
        },
        _ => Answer::Failed("only root and the user that runs the gateway may use this socket".to_owned()),
    };
    write_answer(&mut to_peer, &answer).await;
}

/// Who asks, for the log and the page.
fn who(uid: u32) -> &'static str {
    if uid == 0 { "root at the command line" } else { "the gateway's user at the command line" }
}

async fn read_request(from_peer: &mut OwnedReadHalf) -> Result<Request, String> {
    let mut line = Vec::new();
    let mut limited = BufReader::new(from_peer.take(REQUEST_BYTES_MAX as u64));
    limited.read_until(b'\n', &mut line).await.map_err(|error| format!("the request cannot be read: {error}"))?;
    if line.last() != Some(&b'\n') {
        return Err(format!("a request is one line of at most {REQUEST_BYTES_MAX} bytes"));
    }
    serde_json::from_slice(&line)
        .map_err(|error| format!("this is no request: {error}; is the tool of the same version as the gateway?"))
}

async fn write_answer(to_peer: &mut OwnedWriteHalf, answer: &Answer) {
    // Plain structs always become JSON.
    let mut line = serde_json::to_vec(answer).unwrap_or_default();
    line.push(b'\n');
    if !matches!(timeout(PEER_TIME, to_peer.write_all(&line)).await, Ok(Ok(()))) {
        tracing::debug!("a tool went away before its answer");
    }
}

async fn execute(request: Request, control: &Control, by: &str) -> Answer {
    let buffer = &control.buffer;
    let result = match request {
        Request::Reload => done(reload(control).await),
        Request::ConfigTry { text, base, confirm_within_s } => {
            done(desk::try_out(control, text, base, confirm_within_s, by).await)
        }
        Request::ConfigConfirm { force } => done(desk::confirm(control, by, force).await),
        Request::ConfigRevert => done(desk::revert(control, by).await),
        Request::ConfigStatus => done(Ok::<_, String>(desk::status(control))),
        Request::Report => done(buffer.report().await),
        Request::Look { chunk, stream, from } => {
            let found = buffer.look(&chunk, stream, from).await;
            done(found.map(|blocks| blocks.iter().map(WireBlock::of).collect::<Vec<_>>()))
        }
        Request::Points { from } => {
            let mut points = control.registry.since(from);
            points.truncate(POINTS_PER_ANSWER);
            done(Ok::<_, String>(points))
        }
        Request::Replay { sink, stream, from_us, to_us, points } => {
            let sinks = control.status.sinks();
            let sinks: Vec<&str> = sinks.iter().map(|sink| sink.name.as_str()).collect();
            let request = ReplayRequest { sink, stream, from_us, to_us, points };
            done(request.begin(buffer, &sinks, control.clock.tick().wall_us).await)
        }
        Request::Replays => {
            let replays = buffer.replays().borrow().clone();
            done(Ok::<_, String>(replays))
        }
        Request::CancelReplay { id } => done(cancel_replay(id, buffer, control.clock.tick().wall_us).await),
        Request::Salvage { chunk, reason } => done(buffer.salvage_chunk(&chunk, &reason).await),
    };
    result.map_or_else(Answer::Failed, Answer::Done)
}

async fn reload(control: &Control) -> Result<Vec<String>, String> {
    let (answer, answered) = oneshot::channel();
    let gone = || "the gateway is about to end".to_owned();
    control.reload.try_send(answer).map_err(|error| match error {
        TrySendError::Full(_) => "other reloads are under way; try again when they are done".to_owned(),
        TrySendError::Closed(_) => gone(),
    })?;
    let late = |_| format!("the reload takes longer than {} s; look at the page or the log", REQUEST_TIME.as_secs());
    timeout(REQUEST_TIME, answered).await.map_err(late)?.unwrap_or_else(|_| Err(gone()))
}

fn done<T: Serialize, E: ToString>(result: Result<T, E>) -> Result<Value, String> {
    let value = result.map_err(|error| error.to_string())?;
    serde_json::to_value(value).map_err(|error| error.to_string())
}
