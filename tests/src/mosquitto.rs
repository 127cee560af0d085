//! Mosquitto, the MQTT broker, and a publisher that knows what the broker has acknowledged.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Packet, QoS};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::ports::Port;
use crate::process::Process;
use crate::wait;

/// A start takes some 10 ms; the rest is for a machine that is busy with other tests.
const START_LIMIT: Duration = Duration::from_secs(10);
/// Ending writes the persistent sessions to the disk.
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// Requests a publisher holds before `publish` waits.
const PUBLISHER_QUEUE_REQUESTS: usize = 100;
/// Between two attempts of a client to reach a broker that is away.
const RECONNECT_PAUSE: Duration = Duration::from_millis(50);
/// Largest packet of a client, in bytes: tests send payloads of 1 MB.
const PACKET_MAX_BYTES: usize = 4 << 20;

/// What a broker is started with.
#[derive(Debug, Clone)]
pub struct BrokerOptions {
    /// Messages on their way to one client, not yet acknowledged (mosquitto's default: 20).
    pub max_inflight_messages: u16,
    /// Messages held for one client beyond those; 0 for no limit (mosquitto's default: 1000).
    pub max_queued_messages: u32,
    /// The only user and password that are let in; everyone is, when absent.
    pub login: Option<(String, String)>,
}

impl Default for BrokerOptions {
    fn default() -> Self {
        // No limit on the queue: a test of the gateway must not lose messages in the broker.
        Self { max_inflight_messages: 20, max_queued_messages: 0, login: None }
    }
}

/// A mosquitto with persistent sessions. Dropping it ends it.
#[derive(Debug)]
pub struct Broker {
    /// First, so that it ends before its files and its port go.
    process: Option<Process>,
    config: PathBuf,
    directory: TempDir,
    port: Port,
}

impl Broker {
    /// Starts one with the default options.
    pub async fn start() -> Self {
        Self::start_with(&BrokerOptions::default()).await
    }

    /// Starts one.
    pub async fn start_with(options: &BrokerOptions) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let port = Port::reserve();
        let config = directory.path().join("mosquitto.conf");
        fs::write(&config, config_text(options, port.number(), &directory)).expect("the configuration is written");
        let mut broker = Self { process: None, config, directory, port };
        broker.start_again().await;
        broker
    }

    /// The port on loopback.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The address, as a source of the gateway names it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port())
    }

    /// What it was configured with, but for paths and ports.
    #[must_use]
    pub fn settings(&self) -> String {
        let text = fs::read_to_string(&self.config).expect("the configuration is there");
        let is_telling = |line: &&str| {
            !["listener", "user", "persistence_location", "log_dest"]
                .iter()
                .any(|key| line.split_whitespace().next() == Some(*key))
        };
        text.lines().filter(is_telling).collect::<Vec<_>>().join(", ")
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.as_ref().expect("the broker is running").id()
    }

    /// Whether it is running.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// Ends it in order: sessions and what they hold are on disk and come back.
    pub async fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.terminate(STOP_LIMIT).await;
        }
    }

    /// Kills it: what it held since its last start is lost, as in a power cut.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Starts it again on the same port with what it has on disk.
    pub async fn start_again(&mut self) {
        let log = self.directory.path().join("mosquitto.log");
        // Debian puts it into /usr/sbin, which is not on everybody's path.
        let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
        let mut process =
            Process::start("mosquitto", Command::new("mosquitto").env("PATH", path).arg("-c").arg(&self.config), &log);
        let port = self.port();
        wait::until_some("mosquitto to accept connections", START_LIMIT, || {
            process.assert_running();
            async move { TcpStream::connect(("127.0.0.1", port)).await.ok() }
        })
        .await;
        self.process = Some(process);
    }

    /// Stops and starts it.
    pub async fn restart(&mut self) {
        self.stop().await;
        self.start_again().await;
    }

    /// Makes the broker remember a session with these subscriptions, as if that client had been here before and left: what is
    /// published before it comes is kept for it.
    pub async fn remember(&self, client_id: &str, filters: &[&str]) {
        let (client, mut events) = AsyncClient::new(self.client_options(client_id), PUBLISHER_QUEUE_REQUESTS);
        for filter in filters {
            client.subscribe(*filter, QoS::AtLeastOnce).await.expect("the client takes a subscription");
        }
        let mut unanswered = filters.len();
        let subscribed = async {
            while unanswered > 0 {
                if let Event::Incoming(Packet::SubAck(_)) = events.poll().await.expect("the broker answers") {
                    unanswered -= 1;
                }
            }
        };
        timeout(START_LIMIT, subscribed).await.expect("the broker answers in time");
    }

    /// Options of a client with a persistent session here.
    #[must_use]
    pub fn client_options(&self, client_id: &str) -> MqttOptions {
        let mut options = MqttOptions::new(client_id, "127.0.0.1", self.port());
        options
            .set_clean_session(false)
            .set_keep_alive(Duration::from_secs(30))
            .set_max_packet_size(PACKET_MAX_BYTES, PACKET_MAX_BYTES);
        options
    }
}

fn config_text(options: &BrokerOptions, port: u16, directory: &TempDir) -> String {
    let path = directory.path().display();
    // As root mosquitto would become the user `mosquitto`, who may not write here.
    let mut text = format!(
        "listener {port} 127.0.0.1\nuser root\npersistence true\npersistence_location {path}/\n\
         max_inflight_messages {}\nmax_queued_messages {}\nset_tcp_nodelay true\nlog_dest stderr\n",
        options.max_inflight_messages, options.max_queued_messages,
    );
    match &options.login {
        None => text.push_str("allow_anonymous true\n"),
        Some((user, password)) => {
            let file = directory.path().join("passwords");
            let status = Command::new("mosquitto_passwd").args(["-b", "-c"]).arg(&file).args([user, password]).status();
            assert!(status.is_ok_and(|status| status.success()), "mosquitto_passwd failed: run tests/setup");
            writeln!(text, "allow_anonymous false\npassword_file {}", file.display())
                .expect("a string can be written to");
        }
    }
    text
}

/// Publishes with quality of service 1 and counts what the broker has acknowledged.
///
/// It reconnects by itself. What was on its way when a connection broke is sent again, as that quality of service demands: the
/// broker may then have it twice.
#[derive(Debug)]
pub struct Publisher {
    client: AsyncClient,
    published: AtomicU64,
    acknowledged: Arc<AtomicU64>,
    poll: JoinHandle<()>,
}

impl Publisher {
    /// Connects with a persistent session named `client_id`.
    #[must_use]
    pub fn connect(broker: &Broker, client_id: &str) -> Self {
        Self::connect_with(broker.client_options(client_id))
    }

    /// Connects with options of the test's own.
    #[must_use]
    pub fn connect_with(options: MqttOptions) -> Self {
        let (client, mut events) = AsyncClient::new(options, PUBLISHER_QUEUE_REQUESTS);
        // A message goes when it is published, not with the next ones.
        events.network_options.set_tcp_nodelay(true);
        let acknowledged = Arc::new(AtomicU64::new(0));
        let poll = tokio::spawn(count_acknowledgements(events, Arc::clone(&acknowledged)));
        Self { client, published: AtomicU64::new(0), acknowledged, poll }
    }

    /// Hands over one message; waits while the queue is full.
    pub async fn publish(&self, topic: &str, payload: impl Into<Vec<u8>>) {
        self.client.publish(topic, QoS::AtLeastOnce, false, payload.into()).await.expect("the publisher is running");
        self.published.fetch_add(1, Ordering::SeqCst);
    }

    /// Messages handed over so far.
    #[must_use]
    pub fn published(&self) -> u64 {
        self.published.load(Ordering::SeqCst)
    }

    /// Messages the broker has acknowledged so far.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::SeqCst)
    }

    /// Waits until the broker has acknowledged everything.
    pub async fn all_acknowledged(&self, limit: Duration) {
        wait::until("the broker to acknowledge every message", limit, || self.acknowledged() >= self.published()).await;
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.poll.abort();
    }
}

async fn count_acknowledgements(mut events: EventLoop, acknowledged: Arc<AtomicU64>) {
    loop {
        match events.poll().await {
            Ok(Event::Incoming(Packet::PubAck(_))) => {
                acknowledged.fetch_add(1, Ordering::SeqCst);
            }
            Ok(_) => {}
            Err(_) => sleep(RECONNECT_PAUSE).await,
        }
    }
}
