//! The gateway with fault points: the same program, but `FOREBAY_FAULT=<point>:<n>` ends it there at the n-th pass.

use std::process::ExitCode;

fn main() -> ExitCode {
    // As the gateway's own entry does: an error says that there is a provider already.
    rustls::crypto::ring::default_provider().install_default().ok();
    forebay::cli::main()
}
