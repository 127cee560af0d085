//! A serial line without hardware: a pseudo-terminal whose near end the microcontroller holds.

use std::io;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_serial::{SerialPort as _, SerialStream};

/// The near end of the line.
#[derive(Debug)]
pub(super) struct SerialLine {
    near: SerialStream,
    /// Kept open, so that the line stays while the gateway does not hold it: nothing hangs up.
    _far: SerialStream,
    path: String,
}

impl SerialLine {
    /// Makes a line.
    pub(super) fn open() -> io::Result<Self> {
        let (near, far) = SerialStream::pair()?;
        let path = far.name().ok_or(io::ErrorKind::NotFound)?;
        Ok(Self { near, _far: far, path })
    }

    /// The port that the gateway opens.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Waits for bytes and returns how many it put into `bytes`. Dropping the future loses none.
    pub(super) async fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.near.read(bytes).await
    }

    /// Writes all bytes, waiting while the line is full.
    pub(super) async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.near.write_all(bytes).await
    }
}
