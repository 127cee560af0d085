//! Entry: sets up what the whole process shares, then does what the command line asks.

use std::process::ExitCode;

fn main() -> ExitCode {
    // TLS has one provider of cryptography in this process; nothing can have installed another one before.
    rustls::crypto::ring::default_provider().install_default().ok();
    forebay::cli::main()
}
