//! A TCP proxy that hurts what passes: cut, half-open, slow, narrow, reset.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::ports::Port;
use crate::wait;

/// Bytes carried at once; small, so that throttling is even.
const CHUNK_MAX_BYTES: usize = 4096;
/// Binding again may have to wait until the old listener is gone.
const BIND_LIMIT: Duration = Duration::from_secs(5);

/// What happens to the connections, old and new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: bytes pass.
    None,
    /// Connections are closed in order and new ones refused, as when the peer's process is gone.
    Cut,
    /// Connections stay open and new ones are accepted, but all bytes vanish, as when a firewall forgets. Whoever
    /// lost bytes is reset when the fault ends.
    HalfOpen,
    /// Every chunk waits so long, in each direction.
    Delay(Duration),
    /// So many bytes a second pass, in each direction.
    Throttle(u32),
}

/// A proxy in front of a peer on loopback. Dropping it cuts everything.
#[derive(Debug)]
pub struct FaultProxy {
    port: Port,
    control: Arc<watch::Sender<Control>>,
    accept: JoinHandle<()>,
}

#[derive(Debug, Clone, Copy)]
struct Control {
    fault: Fault,
    /// Goes up with every reset: connections of an older number end.
    generation: u64,
}

impl FaultProxy {
    /// Starts one in front of `target_port`, without a fault.
    pub async fn start(target_port: u16) -> Self {
        let port = Port::reserve();
        let control = Arc::new(watch::Sender::new(Control { fault: Fault::None, generation: 0 }));
        let listener = bind(port.number()).await;
        let accept = tokio::spawn(accept(listener, port.number(), target_port, Arc::clone(&control)));
        Self { port, control, accept }
    }

    /// The port to connect to instead of the peer's.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Makes the fault happen from now on, to connections that are open too.
    pub fn set(&self, fault: Fault) {
        self.control.send_modify(|control| control.fault = fault);
    }

    /// Breaks all open connections with a TCP reset; new ones are not affected.
    pub fn reset(&self) {
        self.control.send_modify(|control| control.generation += 1);
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.accept.abort();
        self.set(Fault::Cut);
    }
}

async fn bind(port: u16) -> TcpListener {
    wait::until_some(
        "the proxy's port",
        BIND_LIMIT,
        || async move { TcpListener::bind(("127.0.0.1", port)).await.ok() },
    )
    .await
}

async fn accept(listener: TcpListener, port: u16, target_port: u16, control: Arc<watch::Sender<Control>>) {
    let mut watched = control.subscribe();
    let mut listener = Some(listener);
    loop {
        let is_cut = watched.borrow_and_update().fault == Fault::Cut;
        match (&listener, is_cut) {
            (Some(_), true) => listener = None,
            (None, false) => listener = Some(bind(port).await),
            (None, true) => {
                if watched.changed().await.is_err() {
                    return;
                }
            }
            (Some(open), false) => tokio::select! {
                accepted = open.accept() => if let Ok((client, _)) = accepted {
                    tokio::spawn(carry(client, target_port, control.subscribe()));
                },
                changed = watched.changed() => if changed.is_err() {
                    return;
                },
            },
        }
    }
}

/// How a connection ends at the hands of the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Orderly,
    Reset,
}

/// Carries one connection until its peers end it or a fault does.
async fn carry(mut client: TcpStream, target_port: u16, control: watch::Receiver<Control>) {
    let Ok(mut target) = TcpStream::connect(("127.0.0.1", target_port)).await else {
        return;
    };
    client.set_nodelay(true).ok();
    target.set_nodelay(true).ok();
    let has_lost_bytes = AtomicBool::new(false);
    let end = {
        let (client_read, client_write) = client.split();
        let (target_read, target_write) = target.split();
        let up = pump(client_read, target_write, &control, &has_lost_bytes);
        let down = pump(target_read, client_write, &control, &has_lost_bytes);
        tokio::select! {
            ((), ()) = async { tokio::join!(up, down) } => End::Orderly,
            end = ended_by_fault(control.clone(), &has_lost_bytes) => end,
        }
    };
    if end == End::Reset {
        // Closing without lingering sends a reset.
        client.set_zero_linger().ok();
        target.set_zero_linger().ok();
    }
}

/// Waits until a fault ends the connection.
async fn ended_by_fault(mut control: watch::Receiver<Control>, has_lost_bytes: &AtomicBool) -> End {
    let generation = control.borrow_and_update().generation;
    loop {
        let now = *control.borrow_and_update();
        let is_healed = now.fault != Fault::HalfOpen && has_lost_bytes.load(Ordering::SeqCst);
        if now.fault == Fault::Cut {
            return End::Orderly;
        } else if now.generation > generation || is_healed {
            return End::Reset;
        }
        if control.changed().await.is_err() {
            return End::Orderly;
        }
    }
}

/// Carries bytes one way, as far and as fast as the fault of the moment lets it.
async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    control: &watch::Receiver<Control>,
    has_lost_bytes: &AtomicBool,
) {
    let mut buffer = vec![0; CHUNK_MAX_BYTES];
    loop {
        let count = from.read(&mut buffer).await.unwrap_or(0);
        let fault = control.borrow().fault;
        match fault {
            Fault::None => {}
            // Nothing passes from the moment on at which the fault was set.
            Fault::Cut => return,
            Fault::HalfOpen => {
                has_lost_bytes.store(true, Ordering::SeqCst);
                if count == 0 {
                    // The end of the stream vanishes like everything else.
                    pending::<()>().await;
                }
                continue;
            }
            Fault::Delay(delay) => sleep(delay).await,
            Fault::Throttle(bytes_per_second) => {
                sleep(Duration::from_secs_f64(count as f64 / f64::from(bytes_per_second.max(1)))).await;
            }
        }
        let chunk = buffer.get(..count).unwrap_or_default();
        if chunk.is_empty() || to.write_all(chunk).await.is_err() {
            to.shutdown().await.ok();
            return;
        }
    }
}
