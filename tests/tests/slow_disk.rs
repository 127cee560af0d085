//! The disk takes its time, or fails to synchronise: strace(1) delays or refuses the calls of the real process.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use e2e::plant::Plant;
use e2e::wait;

const LIMIT: Duration = Duration::from_mins(2);

/// What is done to every synchronisation of a process, as long as this lives.
struct Meddler(Child);

impl Meddler {
    /// `how`: strace's words behind the name of the call.
    async fn with(process: u32, how: &str) -> Self {
        let inject = format!("inject=fdatasync:{how}");
        let mut strace = Command::new("strace");
        strace.args([
            "-f",
            "-q",
            "-o",
            "/dev/null",
            "-e",
            "trace=fdatasync",
            "-e",
            &inject,
            "-p",
            &process.to_string(),
        ]);
        let child = strace.stderr(Stdio::null()).spawn().expect("strace is not installed: run tests/setup");
        wait::until("strace to hold the process", LIMIT, || {
            let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
            status.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"))
        })
        .await;
        Self(child)
    }
}

impl Drop for Meddler {
    fn drop(&mut self) {
        // Whoever is traced goes on when its tracer is gone.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_slow_disk_everything_takes_longer_and_nothing_is_lost() {
    let mut plant = Plant::start("linger_ms = 50", "").await;
    let meddler = Meddler::with(plant.gateway.id(), "delay_enter=800000").await;
    plant.publish(3_000).await;
    plant.all_accepted().await;
    let took_s = plant.gateway.metric("forebay_commit_last_duration_seconds", &[]).await.unwrap();
    assert!(took_s >= 0.8, "a commit took {took_s} s");
    assert_eq!(plant.gateway.get("/live").await.0, 200, "the gateway is alive meanwhile");
    plant.publish(500).await;
    plant.gateway.kill_and_start_again().await;
    drop(meddler);
    plant.assert_exactly_once().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fails_to_synchronise_loses_nothing_that_was_acknowledged() {
    let mut plant = Plant::start("linger_ms = 50", "").await;
    let meddler = Meddler::with(plant.gateway.id(), "error=EIO:when=2+3").await;
    for _ in 0..6 {
        plant.publish(200).await;
    }
    plant.all_accepted().await;
    assert!(plant.gateway.logs().contains("could not be written"), "some synchronisation failed, and it was told");
    plant.publish(300).await;
    plant.gateway.kill_and_start_again().await;
    drop(meddler);
    plant.publish(100).await;
    plant.assert_exactly_once().await;
}
