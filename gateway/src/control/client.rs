//! The command line's side of the control socket: one request, one answer.

use super::{ANSWER_BYTES_MAX, Answer, Request, socket_path};
use serde::de::DeserializeOwned;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// Longest wait for a line of an answer: a step of the buffer on a slow card takes a second, a salvage of a chunk a minute.
const ANSWER_TIME: Duration = Duration::from_mins(5);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// No gateway listens there.
    #[error("no gateway answers at {0}")]
    NotRunning(String),
    /// This user may not ask.
    #[error(
        "you may not talk to the gateway at {0}; run this as root or as the user that runs the gateway (sudo -u forebay …)"
    )]
    Forbidden(String),
    /// The gateway refused or failed.
    #[error("{0}")]
    Failed(String),
    /// The conversation broke off.
    #[error("the gateway at {path} did not answer: {reason}; look at its log")]
    Broken {
        /// The socket.
        path: String,
        /// What happened.
        reason: String,
    },
}

/// Asks the gateway of `data_dir`; `note` hears what is under way.
///
/// # Errors
/// If no gateway listens, it may not be asked, or it says why it cannot do it.
pub async fn ask<T: DeserializeOwned>(
    data_dir: &Path,
    request: &Request,
    mut note: impl FnMut(&str),
) -> Result<T, ControlError> {
    let path = socket_path(data_dir);
    let shown = path.display().to_string();
    let broken = |reason: String| ControlError::Broken { path: shown.clone(), reason };
    let mut stream = UnixStream::connect(&path).await.map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => ControlError::NotRunning(shown.clone()),
        ErrorKind::PermissionDenied => ControlError::Forbidden(shown.clone()),
        _ => broken(error.to_string()),
    })?;
    let mut line = serde_json::to_vec(request).map_err(|error| broken(error.to_string()))?;
    line.push(b'\n');
    stream.write_all(&line).await.map_err(|error| broken(error.to_string()))?;
    let mut answers = BufReader::new(stream.take(ANSWER_BYTES_MAX));
    loop {
        let mut line = Vec::new();
        let read: io::Result<usize> = timeout(ANSWER_TIME, answers.read_until(b'\n', &mut line))
            .await
            .unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()));
        read.map_err(|error| broken(error.to_string()))?;
        if line.last() != Some(&b'\n') {
            return Err(broken("it ended the conversation".to_owned()));
        }
        match serde_json::from_slice(&line).map_err(|error| broken(format!("this is no answer: {error}")))? {
            Answer::Note(text) => note(&text),
            Answer::Failed(reason) => return Err(ControlError::Failed(reason)),
            Answer::Done(value) => {
                return serde_json::from_value(value).map_err(|error| broken(format!("this is no answer: {error}")));
            }
        }
    }
}
