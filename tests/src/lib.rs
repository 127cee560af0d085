//! The harness of the end-to-end tests: real peers, each started on a free port and ended with its test.
//!
//! Every peer waits until it is ready by asking it, never by sleeping; when a test fails, the tail of each peer's log is printed.
//! What the peers need is installed by `tests/setup`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a harness that cannot do its part must fail the test on the spot, with a message"
)]

pub mod arrivals;
pub mod books;
pub mod chance;
pub mod crash;
pub mod door;
pub mod fault_proxy;
pub mod firmware;
pub mod gateway;
pub mod kafka;
pub mod modbus;
pub mod mosquitto;
pub mod plant;
pub mod ports;
pub mod power_cut;
pub mod process;
pub mod receiver;
pub mod serial;
pub mod small_disk;
pub mod syscalls;
pub mod wait;
