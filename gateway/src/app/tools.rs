//! The tools' door: the control socket, and what it means if there is none.

use crate::block::records::Severity;
use crate::clock::Clock;
use crate::control::{self, Control};
use crate::status::{Status, Trouble};
use std::path::PathBuf;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// The key of the trouble that the tools cannot reach the gateway.
const CONTROL_TROUBLE: &str = "control/socket";

/// Serves the control socket until it is told to stop. Without one the gateway works, but no tool reaches it.
pub(super) async fn serve(
    data_dir: PathBuf,
    access: Control,
    status: Arc<Status>,
    clock: Clock,
    stop: CancellationToken,
) {
    match control::bind(&data_dir) {
        Ok(listener) => {
            control::serve(listener, access, stop).await;
            // The next start would replace it, too; until then its absence says that nobody listens.
            std::fs::remove_file(control::socket_path(&data_dir)).ok();
        }
        Err(error) => {
            tracing::error!(%error, "the control socket cannot be made");
            let trouble = Trouble {
                subject: "control".to_owned(),
                what: format!(
                    "The tools cannot reach this gateway: {}: {error}",
                    control::socket_path(&data_dir).display()
                ),
                advice:
                    "Give the gateway's user the right to write data_dir, and keep the path of data_dir below 95 bytes"
                        .to_owned(),
                severity: Severity::Warning,
                since_us: clock.tick().wall_us,
            };
            status.raise(CONTROL_TROUBLE, trouble);
            stop.cancelled().await;
        }
    }
}
