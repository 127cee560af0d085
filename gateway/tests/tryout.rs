//! Try-outs against peers that misbehave: each ends in time, with what is wrong and what to do.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

use forebay::sinks::SinkOptions;
use forebay::sources::SourceOptions;
use forebay::tryout::{TryReport, Verdict};
use std::sync::Once;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// Longer than any try-out may take.
const LIMIT: Duration = Duration::from_secs(20);

/// A listener that does with each connection what `serve` says; its port.
async fn peer<F: Future<Output = ()> + Send + 'static>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            tokio::spawn(serve(connection));
        }
    });
    port
}

/// Accepts and says nothing.
async fn silent() -> u16 {
    peer(|mut connection| async move {
        let mut sink = [0; 1024];
        while matches!(connection.read(&mut sink).await, Ok(1..)) {}
    })
    .await
}

/// Answers everything with bytes of no protocol.
async fn garbage() -> u16 {
    peer(|mut connection| async move {
        let mut sink = [0; 1024];
        while matches!(connection.read(&mut sink).await, Ok(1..)) {
            if connection.write_all(&[0xf0; 64]).await.is_err() {
                return;
            }
        }
    })
    .await
}

/// A port that nothing listens on.
async fn closed() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

fn mqtt(port: u16) -> SourceOptions {
    let text = format!(
        "type = \"mqtt\"\nname = \"plant\"\nurl = \"mqtt://127.0.0.1:{port}\"\n[[subscribe]]\nfilter = \"#\"\ndevice = \"d\"\npoint = \"p\"\npayload = {{ format = \"number\" }}"
    );
    toml::from_str(&text).unwrap()
}

fn modbus(scheme: &str, port: u16) -> SourceOptions {
    let text = format!(
        "type = \"modbus\"\nname = \"bus\"\nurl = \"{scheme}://127.0.0.1:{port}\"\ntimeout_ms = 200\n[[unit]]\nid = 1\ndevice = \"d\"\nregisters = [{{ point = \"p\", table = \"holding\", address = 0 }}]"
    );
    toml::from_str(&text).unwrap()
}

fn http(url: &str) -> SinkOptions {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
    toml::from_str(&format!("type = \"http\"\nname = \"cloud\"\nurl = \"{url}\"\ntimeout_ms = 1000")).unwrap()
}

async fn try_source(options: &SourceOptions) -> TryReport {
    timeout(LIMIT, options.try_out(&[], None, LIMIT)).await.unwrap()
}

async fn try_sink(options: &SinkOptions) -> TryReport {
    timeout(LIMIT, options.try_out("plant-7", None, LIMIT)).await.unwrap()
}

fn assert_fails(report: &TryReport, what: &str, advice: &str) {
    assert_eq!(report.verdict, Verdict::Fails, "{report:#?}");
    let (told, told_advice) = report.failure().unwrap();
    assert!(told.contains(what) && told_advice.contains(advice), "{what:?}, {advice:?}: {report:#?}");
}

#[tokio::test]
async fn a_port_that_nothing_listens_on_is_told_with_the_systems_own_words() {
    let port = closed().await;
    assert_fails(&try_source(&mqtt(port)).await, "Connection refused (os error 111)", "nothing listens there");
    assert_fails(
        &try_source(&modbus("tcp", port)).await,
        "Connection refused (os error 111)",
        "check address and port",
    );
    let url = format!("http://127.0.0.1:{port}/in");
    assert_fails(&try_sink(&http(&url)).await, "Connection refused (os error 111)", "nothing listens there");
}

#[tokio::test]
async fn a_port_that_says_nothing_or_garbage_is_not_taken_for_the_right_service() {
    let (silent, garbage) = (silent().await, garbage().await);
    assert_fails(&try_source(&mqtt(silent)).await, "no answer within 5 s", "does not speak MQTT");
    assert_fails(&try_source(&mqtt(garbage)).await, "connection to the broker failed", "does not speak MQTT");
    assert_fails(&try_source(&modbus("tcp", silent)).await, "no reply from unit 1 within 200 ms", "unit id");
    for scheme in ["tcp", "rtu-over-tcp"] {
        assert_fails(&try_source(&modbus(scheme, garbage)).await, "unit 1", "check");
    }
    assert_fails(&try_sink(&http(&format!("http://127.0.0.1:{garbage}/"))).await, "", "HTTP");
}

#[tokio::test]
async fn an_unknown_name_is_told() {
    let url = "http://no-such-host.invalid/in";
    assert_fails(&try_sink(&http(url)).await, "no-such-host.invalid", "name server");
}

#[tokio::test]
async fn settings_that_cannot_work_are_told_before_anything_is_tried() {
    let mut options = mqtt(1883);
    let SourceOptions::Mqtt(mqtt) = &mut options else { panic!("{options:?}") };
    mqtt.keep_alive_s = 0;
    assert_fails(&try_source(&options).await, "keep_alive_s", "change it");
}

#[tokio::test]
async fn an_answer_without_an_end_is_cut() {
    let port = peer(|mut connection| async move {
        let mut request = [0; 4096];
        if connection.read(&mut request).await.is_err() {
            return;
        }
        let head = b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\n\r\n";
        drop(connection.write_all(head).await);
        while connection.write_all(&[b'x'; 8192]).await.is_ok() {}
    })
    .await;
    let report = try_sink(&http(&format!("http://127.0.0.1:{port}/in"))).await;
    assert_fails(&report, "403 Forbidden: xxx", "right to write");
    assert!(report.failure().unwrap().0.len() < 1_100);
    assert!(report.took_ms < 10_000);
}

#[tokio::test]
async fn a_try_out_ends_at_its_deadline() {
    let port = silent().await;
    let report = mqtt(port).try_out(&[], None, Duration::from_millis(300)).await;
    assert_fails(&report, "not over", "too slow");
}
