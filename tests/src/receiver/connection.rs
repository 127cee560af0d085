//! Connections of the receiver that can be told to spoil their next answer.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

use axum::extract::connect_info::Connected;
use axum::serve::{self, IncomingStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

/// What takes the place of an answer. It has no status line.
const RUBBISH: &[u8] = b"\x16\x03\x01 this is not HTTP\r\n\r\n";

/// What happens instead of the answer.
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
pub(super) enum Sabotage {
    /// The connection closes.
    HangUp = 1,
    /// Bytes that are not HTTP are sent, then the connection closes.
    Rubbish = 2,
}

/// The handle by which a request's handler reaches its connection.
#[derive(Debug, Clone)]
pub(super) struct Connection(Arc<AtomicU8>);

impl Connection {
    /// Spoils what is written next.
    pub(super) fn sabotage(&self, sabotage: Sabotage) {
        self.0.store(sabotage as u8, Ordering::SeqCst);
    }
}

impl Connected<IncomingStream<'_, Listener>> for Connection {
    fn connect_info(stream: IncomingStream<'_, Listener>) -> Self {
        stream.io().connection.clone()
    }
}

/// A listener whose connections can be sabotaged.
#[derive(Debug)]
pub(super) struct Listener(pub(super) TcpListener);

impl serve::Listener for Listener {
    type Io = Stream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Stream, SocketAddr) {
        let (tcp, address) = serve::Listener::accept(&mut self.0).await;
        (Stream { tcp, connection: Connection(Arc::default()) }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// A connection that looks, before it writes, whether it was told to spoil the answer.
#[derive(Debug)]
pub(super) struct Stream {
    tcp: TcpStream,
    connection: Connection,
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(context, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.connection.0.load(Ordering::SeqCst) {
            0 => Pin::new(&mut self.tcp).poll_write(context, bytes),
            sabotage => {
                if sabotage == Sabotage::Rubbish as u8 {
                    // A connection that takes no 30 bytes is as good as hung up.
                    self.tcp.try_write(RUBBISH).ok();
                }
                Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()))
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }
}
