//! The page's port: served as soon as it is free, moved when the configuration says another one.

use crate::block::records::Severity;
use crate::config::HttpsMode;
use crate::status::Trouble;
use crate::web::{self, WebState};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// The file in `data_dir` that says where the page is, for those who let the system choose the port.
const PAGE_ADDRESS_FILE: &str = "page.addr";

/// The key of the trouble that the page cannot listen.
const PAGE_TROUBLE: &str = "web/listen";
/// Between two attempts to listen for the page: soon after a person has stopped what was in the way.
const PAGE_RETRY: Duration = Duration::from_secs(10);

/// Serves the page until it is told to stop. While its port is taken the gateway goes on without it: readings matter more.
pub(super) async fn serve(
    listen: String,
    mut listener: io::Result<TcpListener>,
    data_dir: PathBuf,
    state: WebState,
    stop: CancellationToken,
) {
    let listener = loop {
        let error = match listener {
            Ok(listener) => break listener,
            Err(error) => error,
        };
        tracing::error!(%error, %listen, "the page cannot listen; trying again");
        let trouble = Trouble {
            subject: "web".to_owned(),
            what: format!("The page cannot listen on {listen}: {error}"),
            advice: "Stop the program that has this port, or choose another address or port for web.listen".to_owned(),
            severity: Severity::Error,
            since_us: state.clock.tick().wall_us,
        };
        state.status.raise(PAGE_TROUBLE, trouble);
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PAGE_RETRY) => {}
        }
        listener = TcpListener::bind(&listen).await;
    };
    state.status.clear(PAGE_TROUBLE, state.clock.tick().wall_us);
    if let Ok(page) = listener.local_addr() {
        tracing::info!(page = %address(page, state.tls.mode()), "the page is served");
        if let Some(certificate) = state.tls.certificate() {
            tracing::info!(
                fingerprint = certificate.fingerprint,
                "compare it with what a browser shows of the page's certificate"
            );
        }
        write_page_address(&data_dir, page);
    }
    web::serve(listener, state, stop).await;
}

/// What to type into a browser.
pub(super) fn address(page: SocketAddr, https: HttpsMode) -> String {
    let is_plain = https == HttpsMode::Off || page.ip().is_loopback();
    format!("{}://{page}", if is_plain { "http" } else { "https" })
}

fn write_page_address(data_dir: &Path, page: SocketAddr) {
    let path = data_dir.join(PAGE_ADDRESS_FILE);
    let fresh = path.with_extension("new");
    // A reader never sees half an address.
    let written = std::fs::write(&fresh, format!("{page}\n")).and_then(|()| std::fs::rename(&fresh, &path));
    if let Err(error) = written {
        tracing::warn!(%error, path = %path.display(), "the page's address could not be written down");
    }
}
