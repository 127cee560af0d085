//! What an HTTP endpoint answers, and what the sink makes of it, over real sockets.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

use axum::Router;
use axum::body::Bytes as Body;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use bytes::Bytes;
use flate2::read::GzDecoder;
use forebay::buffer::Cursor;
use forebay::reading::{Epoch, SequenceRange, Stream};
use forebay::secret::SecretFile;
use forebay::sinks::http::{HttpAuth, HttpCompression, HttpFormat, HttpOptions, HttpSink};
use forebay::sinks::{Offer, Outcome, Rendered, Sink as _, SinkError};
use std::io::Read as _;
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const KEY: &str = "plant-7/0000000000000000000000000000002a/cloud/readings/40-41";

fn install_tls() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
}

fn options(url: &str) -> HttpOptions {
    toml::from_str(&format!("name = \"cloud\"\nurl = \"{url}\"\ntimeout_ms = 2000\ncompression = \"none\"")).unwrap()
}

async fn started(options: &HttpOptions) -> HttpSink {
    install_tls();
    let mut sink = HttpSink::new(options).unwrap();
    assert!(sink.must_recover());
    assert_eq!(sink.recover(None).await.unwrap(), []);
    assert!(!sink.must_recover());
    sink
}

async fn deliver(sink: &mut HttpSink) -> Outcome {
    deliver_json(sink, [r#"{"seq":40}"#.into(), r#"{"seq":41}"#.into()]).await
}

async fn deliver_json(sink: &mut HttpSink, json: [String; 2]) -> Outcome {
    let records = json.map(|json| Rendered { key: "boiler-3".into(), json: Bytes::from(json) });
    let cursor = Cursor { ranges: Vec::new(), from: 42 };
    let offer = Offer {
        key: KEY.to_owned(),
        stream: Stream::Readings,
        replay: None,
        range: SequenceRange { first: 40, last: 41 },
        records: &records,
        epoch: Epoch(42),
        run_mark: 7,
        cursor_after: &cursor,
    };
    sink.deliver(&offer).await
}

/// An endpoint that answers with what `answer` makes of each request.
async fn endpoint(answer: impl Fn(HeaderMap, Body) -> Response + Clone + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let route = post(move |headers: HeaderMap, body: Body| async move { answer(headers, body) });
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/{*path}", route)).await.unwrap() });
    format!("http://{address}/in")
}

/// A listener that does with each connection what `serve` says.
async fn raw<F: Future<Output = ()> + Send + 'static>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            tokio::spawn(serve(connection));
        }
    });
    format!("http://{address}/in")
}

async fn answered(status: u16) -> Outcome {
    let status = StatusCode::from_u16(status).unwrap();
    let url = endpoint(move |_, _| (status, "because").into_response()).await;
    deliver(&mut started(&options(&url)).await).await
}

#[tokio::test]
async fn every_class_of_status_has_its_meaning() {
    for status in [200, 201, 202, 204] {
        assert_eq!(answered(status).await, Outcome::Delivered { remote_position: None }, "{status}");
    }
    for status in [408, 429, 500, 502, 503, 504, 599] {
        match answered(status).await {
            Outcome::Retry { after: None, reason } => assert!(reason.contains("because"), "{status}: {reason}"),
            other => panic!("{status}: {other:?}"),
        }
    }
    for status in [400, 413, 422] {
        match answered(status).await {
            Outcome::Refused { reason } => assert!(reason.ends_with("because"), "{status}: {reason}"),
            other => panic!("{status}: {other:?}"),
        }
    }
    for status in [300, 301, 302, 304, 307, 308, 401, 402, 403, 404, 405, 409, 410, 415, 418, 451] {
        match answered(status).await {
            Outcome::Pause { reason } => {
                assert!(reason.contains(&status.to_string()) && reason.contains("; "), "{status}: {reason}");
            }
            other => panic!("{status}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn the_endpoint_says_how_long_to_wait() {
    let asked = |value: &'static str, date: &'static str| async move {
        let headers = [("retry-after", value), ("date", date)];
        let url = endpoint(move |_, _| (StatusCode::SERVICE_UNAVAILABLE, headers).into_response()).await;
        match deliver(&mut started(&options(&url)).await).await {
            Outcome::Retry { after, .. } => after,
            other => panic!("{other:?}"),
        }
    };
    let date = "Fri, 20 Nov 2026 10:00:00 GMT";
    assert_eq!(asked("7", date).await, Some(Duration::from_secs(7)));
    assert_eq!(asked("Fri, 20 Nov 2026 10:01:30 GMT", date).await, Some(Duration::from_secs(90)));
    assert_eq!(asked("Fri, 20 Nov 2026 09:00:00 GMT", date).await, Some(Duration::ZERO));
    assert_eq!(asked("999999999", date).await, Some(Duration::from_secs(3_600)));
    assert_eq!(asked("18446744073709551615", date).await, Some(Duration::from_secs(3_600)));
    assert_eq!(asked("soon", date).await, None);
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_its_target_is_named() {
    let followed = Arc::new(Mutex::new(0));
    let count = followed.clone();
    let target = endpoint(move |_, _| {
        *count.lock().unwrap() += 1;
        StatusCode::OK.into_response()
    })
    .await;
    let location = target.clone();
    let url =
        endpoint(move |_, _| (StatusCode::PERMANENT_REDIRECT, [("location", location.clone())]).into_response()).await;
    match deliver(&mut started(&options(&url)).await).await {
        Outcome::Pause { reason } => assert!(reason.contains(&target), "{reason}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(*followed.lock().unwrap(), 0);
}

#[tokio::test]
async fn a_retry_is_the_same_request_to_the_byte() {
    let seen: Arc<Mutex<Vec<(HeaderMap, Body)>>> = Arc::default();
    let log = seen.clone();
    let url = endpoint(move |headers, body| {
        let mut seen = log.lock().unwrap();
        seen.push((headers, body));
        // The first attempt gets lost in the endpoint.
        if seen.len() == 1 { StatusCode::BAD_GATEWAY } else { StatusCode::OK }.into_response()
    })
    .await;
    let options = HttpOptions { compression: HttpCompression::Gzip, ..options(&url) };
    let mut sink = started(&options).await;
    assert!(matches!(deliver(&mut sink).await, Outcome::Retry { .. }));
    // A restart in between.
    let mut sink = started(&options).await;
    assert_eq!(deliver(&mut sink).await, Outcome::Delivered { remote_position: None });

    let seen = seen.lock().unwrap();
    let [(first, body), (second, again)] = &seen[..] else { panic!("{} requests", seen.len()) };
    assert_eq!((first, body), (second, again));
    assert_eq!(first["idempotency-key"], KEY);
    assert_eq!(first["content-type"], "application/x-ndjson");
    assert_eq!(first["content-encoding"], "gzip");
    assert_eq!(first["forebay-stream"], "readings");
    assert!(first["user-agent"].to_str().unwrap().starts_with("forebay/"));
    let mut plain = String::new();
    GzDecoder::new(&body[..]).read_to_string(&mut plain).unwrap();
    assert_eq!(plain, "{\"seq\":40}\n{\"seq\":41}\n");
}

#[tokio::test]
async fn an_array_and_a_path_for_each_stream_are_possible() {
    let seen: Arc<Mutex<Option<(HeaderMap, Body)>>> = Arc::default();
    let log = seen.clone();
    let url = endpoint(move |headers, body| {
        *log.lock().unwrap() = Some((headers, body));
        StatusCode::OK.into_response()
    })
    .await;
    let options = HttpOptions { format: HttpFormat::Json, ..options(&format!("{url}/{{stream}}")) };
    assert_eq!(deliver(&mut started(&options).await).await, Outcome::Delivered { remote_position: None });
    let (headers, body) = seen.lock().unwrap().take().unwrap();
    assert_eq!(headers["content-type"], "application/json");
    assert!(!headers.contains_key("content-encoding"));
    assert_eq!(body, r#"[{"seq":40},{"seq":41}]"#);
}

#[tokio::test]
async fn a_token_that_was_exchanged_is_read_again() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "old\n").unwrap();
    let url = endpoint(|headers, _| {
        let known = headers.get("authorization").is_some_and(|value| value == "Bearer new");
        if known { StatusCode::OK } else { StatusCode::UNAUTHORIZED }.into_response()
    })
    .await;
    let bearer_file = Some(SecretFile(file.path().to_str().unwrap().to_owned()));
    let options = HttpOptions { auth: Some(HttpAuth { bearer_file }), ..options(&url) };
    let mut sink = started(&options).await;
    match deliver(&mut sink).await {
        Outcome::Pause { reason } => assert!(reason.contains("bearer_file") && !reason.contains("old"), "{reason}"),
        other => panic!("{other:?}"),
    }
    assert!(sink.must_recover());
    std::fs::write(file.path(), "new").unwrap();
    match deliver(&mut sink).await {
        Outcome::Retry { after: None, reason } => assert!(reason.contains("another token"), "{reason}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(deliver(&mut sink).await, Outcome::Delivered { remote_position: None });
    assert!(!format!("{sink:?}").contains("new"));

    std::fs::remove_file(file.path()).unwrap();
    match HttpSink::new(&options).unwrap().recover(None).await {
        Err(SinkError::Misconfigured(reason)) => assert!(reason.contains("cannot be read"), "{reason}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_is_not_http_is_tried_again() {
    let rubbish: [&'static [u8]; 4] =
        [b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 abc\r\n\r\n", &[0x16, 0x03, 0x01, 0x00, 0xff, 0x00, 0x0a]];
    for bytes in rubbish {
        let url = raw(move |mut connection| async move {
            drop(connection.read(&mut [0; 4096]).await);
            drop(connection.write_all(bytes).await);
        })
        .await;
        let outcome = deliver(&mut started(&options(&url)).await).await;
        assert!(matches!(outcome, Outcome::Retry { after: None, .. }), "{outcome:?}");
    }
}

#[tokio::test]
async fn a_refused_connection_is_tried_again_and_says_why() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/in", listener.local_addr().unwrap());
    drop(listener);
    match deliver(&mut started(&options(&url)).await).await {
        Outcome::Retry { reason, .. } => assert!(reason.to_lowercase().contains("refused"), "{reason}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_endpoint_that_never_answers_is_left_after_the_timeout() {
    let url = raw(|connection| async move {
        let _held = connection;
        std::future::pending::<()>().await;
    })
    .await;
    let options = HttpOptions { timeout_ms: 200, ..options(&url) };
    match deliver(&mut started(&options).await).await {
        Outcome::Retry { reason, .. } => assert_eq!(reason, "no answer within 200 ms"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_answer_that_drips_is_left_after_the_timeout() {
    let url = raw(|mut connection| async move {
        for byte in b"HTTP/1.1 200 OK\r\n".iter().chain(b"x: y\r\n".iter().cycle()) {
            if connection.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let options = HttpOptions { timeout_ms: 300, ..options(&url) };
    assert!(matches!(deliver(&mut started(&options).await).await, Outcome::Retry { .. }));
}

#[tokio::test]
async fn an_answer_without_end_is_bounded() {
    // A head without end.
    let url = raw(|mut connection| async move {
        drop(connection.read(&mut [0; 4096]).await);
        drop(connection.write_all(b"HTTP/1.1 200 OK\r\n").await);
        while connection.write_all(&[b'a'; 8192]).await.is_ok() {}
    })
    .await;
    let outcome = deliver(&mut started(&options(&url)).await).await;
    assert!(matches!(outcome, Outcome::Retry { .. }), "{outcome:?}");

    // A reason without end: its beginning is enough.
    let url = raw(|mut connection| async move {
        drop(connection.read(&mut [0; 4096]).await);
        drop(connection.write_all(b"HTTP/1.1 422 No\r\n\r\nno\x1b[31m sense\n").await);
        while connection.write_all(&[b'a'; 8192]).await.is_ok() {}
    })
    .await;
    match deliver(&mut started(&options(&url)).await).await {
        Outcome::Refused { reason } => {
            assert!(reason.contains("no [31m sense"), "{reason}");
            assert!(reason.chars().count() < 300 && !reason.contains('\x1b'), "{reason}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_refusal_before_the_body_was_read_is_a_refusal() {
    let url = raw(|mut connection| async move {
        drop(connection.read(&mut [0; 64]).await);
        drop(connection.write_all(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await);
        drop(connection.shutdown().await);
        drop(connection.read_to_end(&mut Vec::new()).await);
    })
    .await;
    let large = || format!("\"{}\"", "x".repeat(1 << 20));
    let outcome = deliver_json(&mut started(&options(&url)).await, [large(), large()]).await;
    assert!(matches!(outcome, Outcome::Refused { .. }), "{outcome:?}");
}

#[test]
fn options_that_cannot_work_are_named_with_their_path() {
    let problems = |change: &dyn Fn(&mut HttpOptions)| {
        let mut options = options("http://127.0.0.1/in");
        change(&mut options);
        options.problems().into_iter().map(|(path, _)| path).collect::<Vec<_>>()
    };
    assert_eq!(problems(&|_| ()), [""; 0]);
    assert_eq!(problems(&|options| options.url = "ftp://host/in".to_owned()), ["url"]);
    assert_eq!(problems(&|options| options.url = "ingest".to_owned()), ["url"]);
    assert_eq!(problems(&|options| options.url = "http://me:secret@host/".to_owned()), ["url"]);
    assert_eq!(problems(&|options| options.timeout_ms = 0), ["timeout_ms"]);
    assert_eq!(problems(&|options| options.linger_ms = 3_600_000), ["linger_ms"]);
    assert_eq!(problems(&|options| options.batch_max.0 = 1), ["batch_max"]);
}
