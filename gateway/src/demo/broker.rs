//! The plant's MQTT broker, embedded: rumqttd on a free port of loopback.

use super::DemoError;
use rumqttd::{Broker, Config, ConnectionSettings, RouterConfig, ServerSettings};
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

/// Ten devices, the gateway, and room for a person with `mosquitto_sub`.
const CONNECTIONS_MAX: usize = 32;
/// The broker's log in memory: 4 MiB hold half an hour of the plant; what is older gives way.
const SEGMENT_BYTES_MAX: usize = 1 << 20;
const SEGMENTS_MAX: usize = 4;
/// How long it may take to listen.
const START_LIMIT: Duration = Duration::from_secs(5);
/// Between two looks whether it listens.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Starts the broker and waits until it listens. It has no way to be stopped: its threads end with the process.
pub(super) async fn start() -> Result<SocketAddr, DemoError> {
    let failed = |error: &dyn std::fmt::Display| DemoError::Broker(error.to_string());
    // The library wants a number; nobody else asks for this one within the moment between the two binds.
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|error| failed(&error))?;
    let address = free.local_addr().map_err(|error| failed(&error))?;
    drop(free);
    let mut broker = Broker::new(config(address));
    let thread = std::thread::Builder::new().name("plant-broker".to_owned());
    // Its end would show as a plant that cannot publish.
    thread.spawn(move || broker.start().is_ok()).map_err(|error| failed(&error))?;
    let deadline = Instant::now() + START_LIMIT;
    loop {
        match TcpStream::connect(address).await {
            Ok(_) => return Ok(address),
            Err(error) if Instant::now() >= deadline => return Err(failed(&error)),
            Err(_) => sleep(LOOK_EVERY).await,
        }
    }
}

fn config(listen: SocketAddr) -> Config {
    let connections = ConnectionSettings {
        connection_timeout_ms: 5_000,
        max_payload_size: 20_480,
        max_inflight_count: 100,
        auth: None,
        external_auth: None,
        dynamic_filters: false,
    };
    let server =
        ServerSettings { name: "plant".to_owned(), listen, tls: None, next_connection_delay_ms: 1, connections };
    let router = RouterConfig {
        max_connections: CONNECTIONS_MAX,
        max_outgoing_packet_count: 200,
        max_segment_size: SEGMENT_BYTES_MAX,
        max_segment_count: SEGMENTS_MAX,
        ..RouterConfig::default()
    };
    Config { router, v4: Some(HashMap::from([("plant".to_owned(), server)])), ..Config::default() }
}
