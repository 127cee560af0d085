//! The control socket: how the command line talks to a running gateway.
//!
//! `data_dir/control.sock` is a Unix stream socket for the user that runs the gateway and for root. A connection carries one
//! request, a line of JSON, and is answered with lines of JSON: any number of `{"note":"…"}` while something is under way, then
//! `{"done":…}` or `{"failed":"…"}`. Requests are small steps, so that the gateway's own work never waits for a tool.

mod client;
mod desk;
mod server;

pub use client::{ControlError, ask};
pub use desk::{DeskStatus, TrialStatus};
pub use server::{Control, ReloadRequest, bind, serve};

use crate::buffer::{ChunkName, RawBlock};
use crate::config::desk::Revision;
use crate::reading::{Sequence, Stream, UnixMicros};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The socket's name in `data_dir`.
const SOCKET_FILE: &str = "control.sock";

/// Longest request: a configuration to try, which may have a MiB, as JSON. A replay with a hundred patterns of points takes 20 KiB.
const REQUEST_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Longest answer: what ten thousand chunks, 160 GB of them, and all lanes take in a report.
const ANSWER_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Most connections at a time: a person and a few scripts. Each holds at most one step's answer.
const CONNECTIONS_MAX: usize = 8;

/// How long a peer may take to send its request, or to read an answer.
const PEER_TIME: Duration = Duration::from_secs(10);

/// Longest wait for a reload or for the desk: sources and sinks that changed take a few seconds each to stop.
const REQUEST_TIME: Duration = Duration::from_mins(1);

/// Most points of one answer: 300 KB of names at their longest.
const POINTS_PER_ANSWER: usize = 500;

/// What can be asked of a running gateway.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Request {
    /// Reads the configuration again and goes on by it; done with what changed, a line each.
    Reload,
    /// Runs a configuration on trial; done with what changed, a line each.
    ConfigTry {
        /// The whole text.
        text: String,
        /// The revision that it was made from.
        base: Revision,
        /// How long it waits to be confirmed, in seconds.
        confirm_within_s: u64,
    },
    /// Keeps what is on trial.
    ConfigConfirm {
        /// Also though nothing flows.
        force: bool,
    },
    /// Takes back what is on trial.
    ConfigRevert,
    /// What runs and what is on trial; done with a [`DeskStatus`].
    ConfigStatus,
    /// What the buffer says about itself; done with a [`crate::buffer::Report`].
    Report,
    /// What lies in a chunk at and after a sequence; done with [`WireBlock`]s, none if there is no more or the chunk is gone.
    Look {
        /// The chunk.
        chunk: ChunkName,
        /// The stream.
        stream: Stream,
        /// From where on.
        from: Sequence,
    },
    /// The names of points from a number on, at most 500; done with [`crate::site::PointKey`]s.
    Points {
        /// The first number.
        from: usize,
    },
    /// Brings back what is sound of a damaged chunk; done with what was set aside.
    Salvage {
        /// The chunk.
        chunk: ChunkName,
        /// What is wrong with it, for the log.
        reason: String,
    },
    /// Begins a replay; done with the [`crate::buffer::Replay`].
    Replay {
        /// The sink that gets it.
        sink: String,
        /// The stream.
        stream: Stream,
        /// The earliest time that is wanted.
        from_us: UnixMicros,
        /// The latest time that is wanted.
        to_us: UnixMicros,
        /// Patterns of points; all points, if there is none.
        points: Vec<String>,
    },
    /// The replays under way and the last ones that ended; done with [`crate::buffer::Replay`]s.
    Replays,
    /// Calls a replay off; done with the [`crate::buffer::Replay`].
    CancelReplay {
        /// Its number.
        id: u32,
    },
}

/// A block on its way over the socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireBlock {
    /// The first sequence, as its key says.
    pub first: Sequence,
    /// What lies there, in hexadecimal.
    pub hex: String,
}

impl WireBlock {
    fn of(block: &RawBlock) -> Self {
        Self { first: block.first, hex: hex::encode(&block.bytes) }
    }

    /// The block; `None` if it came broken.
    #[must_use]
    pub fn into_raw(self) -> Option<RawBlock> {
        Some(RawBlock { first: self.first, bytes: Bytes::from(hex::decode(&self.hex).ok()?) })
    }
}

/// A line of an answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    /// What is under way, for a person.
    Note(String),
    /// The last line: what was asked for.
    Done(serde_json::Value),
    /// The last line: why not, for a person.
    Failed(String),
}

/// Where the socket of a gateway is.
#[must_use]
pub fn socket_path(data_dir: &Path) -> PathBuf {
    data_dir.join(SOCKET_FILE)
}
