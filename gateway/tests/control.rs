//! The control socket against peers that are not `forebay`: bounded in size, number and time, and never in the gateway's way.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests; the test is the supervisor of its one task")]

use forebay::buffer::{Buffer, Report, StoreOptions};
use forebay::clock::Clock;
use forebay::config::desk::Desk;
use forebay::control::{self, Control, ControlError, Request};
use forebay::site::{PointKey, Registry};
use forebay::status::Status;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;

/// More than any gateway answers with here.
const POINTS: usize = 1_203;

/// A gateway's socket, served until the directory goes.
async fn served() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::system();
    let (buffer, _) = Buffer::open(StoreOptions::new(dir.path().to_owned()), clock.clone()).await.unwrap();
    let registry = Registry::default();
    for number in 0..POINTS {
        registry.intern("mill", &format!("point-{number}"), "", "broker").unwrap();
    }
    let (reload, _nobody) = tokio::sync::mpsc::channel(1);
    let (registry, status) = (Arc::new(registry), Arc::new(Status::default()));
    let desk = Desk::closed("");
    let access = forebay::access::Access::open(dir.path(), clock.clone()).unwrap();
    let control = Control { buffer, registry, status, clock, reload, desk, access };
    let listener = control::bind(dir.path()).unwrap();
    tokio::spawn(control::serve(listener, control, CancellationToken::new()));
    dir
}

async fn raw(data_dir: &Path, request: &[u8]) -> String {
    let mut stream = UnixStream::connect(control::socket_path(data_dir)).await.unwrap();
    // A peer that is told off early may find the door closed.
    stream.write_all(request).await.ok();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.ok();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn what_is_no_request_is_told_so_and_the_next_one_is_served() {
    let dir = served().await;
    let data_dir = dir.path();
    for (request, told) in [
        (b"\n".to_vec(), "this is no request"),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "this is no request"),
        (b"{\"do\":\"explode\"}\n".to_vec(), "same version"),
        (b"{\"do\":\"look\"}\n".to_vec(), "missing field"),
        (vec![b'['; 1_000].into_iter().chain([b'\n']).collect(), "this is no request"),
        (vec![b'x'; 2_100_000], "at most 2097152 bytes"),
    ] {
        let answer = raw(data_dir, &request).await;
        assert!(answer.contains(told), "{told:?} in {answer:?}");
        let report: Report = control::ask(data_dir, &Request::Report, |_| {}).await.unwrap();
        assert_eq!(report.ends.len(), 6);
    }
}

#[tokio::test]
async fn points_come_in_answers_of_bounded_size_until_there_are_no_more() {
    let dir = served().await;
    let mut points: Vec<PointKey> = Vec::new();
    let mut answers = 0;
    loop {
        let request = Request::Points { from: points.len() };
        let more: Vec<PointKey> = control::ask(dir.path(), &request, |_| {}).await.unwrap();
        assert!(more.len() <= 500, "{}", more.len());
        if more.is_empty() {
            break;
        }
        answers += 1;
        points.extend(more);
    }
    assert_eq!((points.len(), answers), (POINTS, 3));
    assert_eq!(&*points[1_000].point, "point-1000");
}

#[tokio::test]
async fn silent_peers_are_sent_away_in_time_and_others_are_served_then() {
    let dir = served().await;
    let mut silent = Vec::new();
    for _ in 0..8 {
        silent.push(UnixStream::connect(control::socket_path(dir.path())).await.unwrap());
    }
    // The ninth waits until those are sent away.
    let report: Report = control::ask(dir.path(), &Request::Report, |_| {}).await.unwrap();
    assert_eq!(report.points, 0);
    let mut answer = String::new();
    silent[0].read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("no request came within 10 s"), "{answer}");
}

#[tokio::test]
async fn where_nobody_listens_the_client_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let nobody = control::ask::<Report>(dir.path(), &Request::Report, |_| {}).await;
    assert!(matches!(nobody, Err(ControlError::NotRunning(_))), "{nobody:?}");
    // What a killed gateway has left.
    drop(control::bind(dir.path()).unwrap());
    let nobody = control::ask::<Report>(dir.path(), &Request::Report, |_| {}).await;
    assert!(matches!(nobody, Err(ControlError::NotRunning(_))), "{nobody:?}");
    assert!(control::bind(dir.path()).is_ok());
}
