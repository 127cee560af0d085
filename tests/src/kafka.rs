//! Apache Kafka: one real node (broker and controller), and a consumer that sees only what was committed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::metadata::MetadataPartition;
use rdkafka::{Offset, TopicPartitionList};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use crate::ports::Port;
use crate::process::{Process, installed_peer};
use crate::wait;

/// A start takes 1 to 2 s on an idle machine, several times that on a busy one.
const START_LIMIT: Duration = Duration::from_mins(1);
/// An orderly end takes about 1 s.
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// One request of a client.
const REQUEST_LIMIT: Duration = Duration::from_secs(5);
/// Reading a topic: longer than an abandoned transaction of the gateway can stay open (15 s).
const READ_LIMIT: Duration = Duration::from_mins(1);
/// 16 bytes in base64, as the storage tool wants a cluster's name.
const CLUSTER_ID: &str = "Zm9yZWJheS1lMmUtcGVlcg";
/// A small heap, and compiling and collecting that favour a quick start: 1.1 s and 215 MB resident.
const JAVA_OPTIONS: [&str; 5] = [
    "-Xmx384m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Xshare:auto",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
];

/// One node with a fresh log directory. Dropping it ends it.
#[derive(Debug)]
pub struct Kafka {
    /// First, so that it ends before its files and its ports go.
    process: Option<Process>,
    config: PathBuf,
    directory: TempDir,
    port: Port,
    _controller_port: Port,
}

/// A committed record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value; absent in a tombstone.
    pub value: Option<Vec<u8>>,
    /// The partition.
    pub partition: i32,
    /// The offset in the partition.
    pub offset: i64,
}

impl Kafka {
    /// Formats a fresh log directory and starts a node on it.
    pub async fn start() -> Self {
        Self::start_with("").await
    }

    /// Like [`Kafka::start`], with these lines in the node's configuration after all others: the last one of a key holds.
    pub async fn start_with(settings: &str) -> Self {
        let port = Port::reserve();
        let announced_port = port.number();
        Self::start_configured(port, announced_port, settings).await
    }

    /// Starts a node on `port` that tells its clients to come to `announced_port`: that of a proxy before it. Kafka's clients go
    /// to where the broker says it is, so without this they would pass by the proxy.
    pub async fn start_on(port: Port, announced_port: u16) -> Self {
        Self::start_configured(port, announced_port, "").await
    }

    async fn start_configured(port: Port, announced_port: u16, settings: &str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let controller_port = Port::reserve();
        let config = directory.path().join("server.properties");
        let mut text = config_text(port.number(), announced_port, controller_port.number(), directory.path());
        text.push_str(settings);
        fs::write(&config, text).expect("the configuration is written");

        let mut kafka = Self { process: None, config, directory, port, _controller_port: controller_port };
        kafka.format().await;
        kafka.start_again().await;
        kafka
    }

    /// The address of the broker, as clients are given it.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port.number())
    }

    /// Whether it is running.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// Ends it in order.
    pub async fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.terminate(STOP_LIMIT).await;
        }
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Starts it again with the same ports and log directory, and waits until it serves clients.
    pub async fn start_again(&mut self) {
        let mut process = self.java("Kafka", &["kafka.Kafka"]);
        let (client, port) = (self.client_config(), self.port.number());
        wait::until_some("Kafka to accept connections", START_LIMIT, || {
            process.assert_running();
            async move { TcpStream::connect(("127.0.0.1", port)).await.ok() }
        })
        .await;
        wait::until_some("Kafka to serve clients", START_LIMIT, || {
            process.assert_running();
            let client = client.clone();
            async move { spawn_blocking(move || is_serving(&client).then_some(())).await.expect("no panic") }
        })
        .await;
        self.process = Some(process);
    }

    /// Makes a topic with so many partitions.
    pub async fn create_topic(&self, topic: &str, partitions: i32) {
        let admin: AdminClient<DefaultClientContext> = self.client_config().create().expect("an admin client");
        let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        let options = AdminOptions::new().operation_timeout(Some(REQUEST_LIMIT));
        for result in admin.create_topics([&new], &options).await.expect("Kafka takes the request") {
            result.unwrap_or_else(|(topic, error)| panic!("cannot create topic {topic}: {error}"));
        }
    }

    /// Everything that is committed on `topic`, partition by partition in the order of offsets; nothing if there is no such topic.
    ///
    /// Waits for transactions that are open, since they may be hiding records: everything up to the high watermarks has been
    /// decided when this returns.
    pub async fn read_committed(&self, topic: &str) -> Vec<Record> {
        self.read_committed_since(topic, &BTreeMap::new()).await
    }

    /// Like [`Kafka::read_committed`], from these offsets on, by partition; from the beginning where there is none.
    pub async fn read_committed_since(&self, topic: &str, offsets: &BTreeMap<i32, i64>) -> Vec<Record> {
        let (config, topic, offsets) = (self.client_config(), topic.to_owned(), offsets.clone());
        spawn_blocking(move || read_committed(&config, &topic, &offsets)).await.expect("the topic can be read")
    }

    /// What a client needs to know to connect.
    #[must_use]
    pub fn client_config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.address());
        // A line per refused connection would bury the test's own words while the broker is away on purpose.
        config.set("log_level", "2");
        config
    }

    async fn format(&self) {
        let config = self.config.to_str().expect("a temporary path is text");
        let mut tool = self.java(
            "Kafka's storage tool",
            &["kafka.tools.StorageTool", "format", "--standalone", "--cluster-id", CLUSTER_ID, "--config", config],
        );
        let status = tool.wait_exit(START_LIMIT).await;
        assert!(status.success(), "Kafka's storage tool failed: {status}\n{}", tool.log_tail());
    }

    /// Runs a class of Kafka; the node's own takes the configuration as its argument.
    fn java(&self, name: &str, class_and_arguments: &[&str]) -> Process {
        let jars = installed_peer("kafka").join("*");
        let mut command = Command::new("java");
        command.args(JAVA_OPTIONS).arg("-cp").arg(jars).args(class_and_arguments);
        if class_and_arguments.len() == 1 {
            command.arg(&self.config);
        }
        Process::start(name, &command, &self.directory.path().join("kafka.log"))
    }
}

fn config_text(port: u16, announced_port: u16, controller_port: u16, directory: &Path) -> String {
    let logs = directory.join("logs");
    format!(
        "process.roles=broker,controller\n\
         node.id=1\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{announced_port},CONTROLLER://127.0.0.1:{controller_port}\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
         inter.broker.listener.name=PLAINTEXT\n\
         controller.listener.names=CONTROLLER\n\
         controller.quorum.bootstrap.servers=127.0.0.1:{controller_port}\n\
         log.dirs={}\n\
         # One node: one copy of everything, and few partitions of Kafka's own topics to open.\n\
         default.replication.factor=1\n\
         offsets.topic.replication.factor=1\n\
         offsets.topic.num.partitions=1\n\
         transaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\n\
         transaction.state.log.num.partitions=1\n\
         share.coordinator.state.topic.replication.factor=1\n\
         share.coordinator.state.topic.min.isr=1\n\
         num.partitions=3\n\
         auto.create.topics.enable=true\n\
         group.initial.rebalance.delay.ms=0\n\
         # After a kill the controller lets the broker in again when its old session has expired: 9 s by default.\n\
         broker.session.timeout.ms=2000\n\
         broker.heartbeat.interval.ms=400\n\
         # Small: a dozen nodes may run at once on two cores.\n\
         num.network.threads=1\n\
         num.io.threads=2\n\
         background.threads=2\n\
         log.cleaner.dedupe.buffer.size=2097152\n\
         log.index.size.max.bytes=65536\n",
        logs.display(),
    )
}

/// Whether the broker answers and is let in by its controller.
fn is_serving(config: &ClientConfig) -> bool {
    let consumer: BaseConsumer = config.create().expect("a consumer");
    consumer.fetch_metadata(None, Duration::from_secs(1)).is_ok_and(|metadata| !metadata.brokers().is_empty())
}

fn consumer(config: &ClientConfig, isolation_level: &str) -> BaseConsumer {
    let mut config = config.clone();
    config
        .set("group.id", "e2e-reader")
        .set("isolation.level", isolation_level)
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest")
        .set("enable.partition.eof", "true")
        // The end of a partition is told by an empty answer, which the broker holds back for half a second unless told otherwise.
        .set("fetch.wait.max.ms", "10");
    config.create().expect("a consumer")
}

fn read_committed(config: &ClientConfig, topic: &str, offsets: &BTreeMap<i32, i64>) -> Vec<Record> {
    let deadline = Instant::now() + READ_LIMIT;
    let committed = consumer(config, "read_committed");
    let metadata = committed.fetch_metadata(Some(topic), REQUEST_LIMIT).expect("Kafka tells its topics");
    let partitions: Vec<i32> = metadata
        .topics()
        .iter()
        .filter(|found| found.error().is_none())
        .flat_map(|found| found.partitions().iter().map(MetadataPartition::id))
        .collect();
    if partitions.is_empty() {
        return Vec::new();
    }
    await_open_transactions(config, &committed, topic, &partitions, deadline);

    let mut assignment = TopicPartitionList::new();
    for partition in &partitions {
        let from = offsets.get(partition).map_or(Offset::Beginning, |offset| Offset::Offset(*offset));
        assignment.add_partition_offset(topic, *partition, from).expect("a valid offset");
    }
    committed.assign(&assignment).expect("partitions can be assigned");
    let mut unfinished = partitions;
    let mut records = Vec::new();
    while !unfinished.is_empty() {
        assert!(Instant::now() < deadline, "waited {READ_LIMIT:?} for the end of {topic}, partitions {unfinished:?}");
        match committed.poll(REQUEST_LIMIT) {
            None => {}
            Some(Ok(message)) => records.push(Record {
                key: message.key().map(<[u8]>::to_vec),
                value: message.payload().map(<[u8]>::to_vec),
                partition: message.partition(),
                offset: message.offset(),
            }),
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                unfinished.retain(|other| *other != partition);
            }
            // The client library goes on by itself after errors of the connection; the deadline ends the rest.
            Some(Err(error)) => eprintln!("reading {topic}: {error}"),
        }
    }
    records.sort_by_key(|record| (record.partition, record.offset));
    records
}

/// Waits until no transaction is open: the last stable offset (what a `read_committed` client is told as the end) has reached the
/// high watermark (what others are told) in every partition.
fn await_open_transactions(
    config: &ClientConfig,
    committed: &BaseConsumer,
    topic: &str,
    partitions: &[i32],
    deadline: Instant,
) {
    let uncommitted = consumer(config, "read_uncommitted");
    for partition in partitions {
        let end = |consumer: &BaseConsumer| match consumer.fetch_watermarks(topic, *partition, REQUEST_LIMIT) {
            Ok((_, end)) => end,
            Err(error) => {
                panic!("cannot read the watermarks of {topic}, partition {partition}: {error}")
            }
        };
        let high_watermark = end(&uncommitted);
        loop {
            let stable = end(committed);
            if stable >= high_watermark {
                break;
            }
            assert!(
                Instant::now() < deadline,
                "{topic}, partition {partition}: a transaction has been open at offset {stable} for {READ_LIMIT:?}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
