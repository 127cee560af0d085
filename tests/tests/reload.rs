//! Reloads: another configuration for the running gateway, over and over, while readings come in and go out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use e2e::books::{Entry, Verdict};
use e2e::gateway::Gateway;
use e2e::modbus::{Modbus, Table};
use e2e::mosquitto::{Broker, Publisher};
use e2e::plant::Plant;
use e2e::receiver::Receiver;
use e2e::wait;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, interval};

/// Reloads of the long test, of all kinds in turn.
const RELOADS: usize = 20;
/// How often the gateway is killed.
const KILLS: i64 = 12;
/// Two messages, so often: 400 a second over both topics.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(5);
/// Everything that has to come to an end, on a busy machine.
const LIMIT: Duration = Duration::from_mins(2);
/// The words of a reload that was taken, in the log.
const RELOADED: &str = "the configuration was read again changes";

/// A wire to a port of loopback that counts the connections made over it.
struct Wire {
    port: u16,
    connections: Arc<AtomicU64>,
}

impl Wire {
    async fn to(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    let mut far = TcpStream::connect(("127.0.0.1", target)).await.unwrap();
                    near.set_nodelay(true).unwrap();
                    far.set_nodelay(true).unwrap();
                    // It ends when either end does.
                    copy_bidirectional(&mut near, &mut far).await.ok();
                });
            }
        });
        Self { port, connections }
    }

    fn connections(&self) -> u64 {
        self.connections.load(Ordering::SeqCst)
    }
}

/// What a configuration of the long test says beside what never changes.
#[derive(Clone, Copy, Default)]
struct Variant {
    yard: Option<u16>,
    second: Option<u64>,
    limit: u32,
    tags: bool,
    disk_mib: u32,
}

impl Variant {
    /// The configuration of the n-th reload: one thing after the other comes, changes and goes.
    fn of(step: usize) -> Self {
        let keep_alive = 20 + u16::try_from(step).unwrap();
        Self {
            yard: (step % 3 != 1).then_some(keep_alive - keep_alive % 2),
            second: (step % 4 != 2).then_some(100 + 50 * (step as u64 / 5)),
            limit: 1_000_000 + u32::try_from(step / 2).unwrap(),
            tags: step.is_multiple_of(2),
            disk_mib: if step % 5 < 3 { 64 } else { 128 },
        }
    }

    fn config(&self, wires: (&Wire, &Wire), broker: &Broker, receivers: (&Receiver, &Receiver)) -> String {
        let mut text = format!(
            r#"
            [buffer]
            disk_max = "{disk_mib} MiB"

            [[source]]
            type = "mqtt"
            name = "broker"
            url = "mqtt://127.0.0.1:{mqtt}"
            [[source.subscribe]]
            filter = "plant/+/+"
            device = "{{2}}"
            point = "{{3}}"
            payload = {{ format = "json", value = "/value" }}

            [[source]]
            type = "modbus"
            name = "bus"
            url = "tcp://127.0.0.1:{modbus}"
            [[source.unit]]
            id = 1
            device = "meter"
            every_ms = 50
            registers = [{{ point = "energy", table = "holding", address = 0, kind = "u32" }}]

            [[check]]
            points = "*/*"
            range = {{ operating = [0.0, {limit}.0] }}

            [[sink]]
            type = "http"
            name = "cloud"
            url = "{cloud}"
            linger_ms = 100
            "#,
            disk_mib = self.disk_mib,
            mqtt = wires.0.port,
            modbus = wires.1.port,
            limit = self.limit,
            cloud = receivers.0.url(),
        );
        if self.tags {
            text += "\n[[device]]\nid = \"mill\"\ntags = { zone = \"north\" }\n";
        }
        if let Some(keep_alive_s) = self.yard {
            write!(
                text,
                r#"
                [[source]]
                type = "mqtt"
                name = "yard"
                url = "{}"
                keep_alive_s = {keep_alive_s}
                [[source.subscribe]]
                filter = "yard/+/+"
                device = "{{2}}"
                point = "{{3}}"
                payload = {{ format = "json", value = "/value" }}
                "#,
                broker.url()
            )
            .unwrap();
        }
        if let Some(linger_ms) = self.second {
            write!(
                text,
                "\n[[sink]]\ntype = \"http\"\nname = \"second\"\nurl = \"{}\"\nlinger_ms = {linger_ms}\n",
                receivers.1.url()
            )
            .unwrap();
        }
        text
    }
}

/// Every lane and ingest say that their books close, and the readings of all sources make those on disk.
async fn assert_books_close(gateway: &Gateway) {
    let (_, metrics) = gateway.get("/metrics").await;
    let open: Vec<_> =
        metrics.lines().filter(|line| line.starts_with("forebay_books_closed{") && !line.ends_with(" 1.0")).collect();
    assert_eq!(open, Vec::<&str>::new(), "these books are open");
    assert!(metrics.contains("forebay_books_closed{of=\"ingest\""), "{metrics}");
    let status = gateway.status().await;
    for source in status["sources"].as_array().unwrap() {
        let [received, accepted, duplicate, rejected] =
            ["received", "accepted", "duplicate", "rejected"].map(|count| source[count].as_u64().unwrap());
        assert_eq!(received, accepted + duplicate + rejected, "{source}");
    }
}

async fn readings_are_booked(gateway: &Gateway) {
    wait::until_some("the books and the disk to agree", LIMIT, || async {
        let accepted = gateway.metric("forebay_source_accepted_samples_total", &[]).await?;
        let recovered = gateway.metric("forebay_recovered_records_total", &["stream=\"readings\""]).await?;
        let stored = gateway.metric("forebay_stream_records_total", &["stream=\"readings\""]).await?;
        // Whole numbers below 2^53.
        ((accepted + recovered - stored).abs() < 0.5).then_some(())
    })
    .await;
}

fn expected(device: &str, count: i64) -> impl Iterator<Item = Entry> {
    (0..count).map(move |counter| Entry::new(device, "count", counter))
}

fn of_devices<'a>(receiver: &Receiver, devices: &'a [&str]) -> impl Iterator<Item = Entry> + use<'a> {
    let readings = receiver.stream("readings");
    let entries: Vec<_> = readings.iter().filter_map(Entry::of_reading).collect();
    entries.into_iter().filter(move |entry| devices.contains(&entry.device.as_str()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_reloads_lose_and_repeat_nothing_and_leave_alone_what_they_do_not_change() {
    let (broker, cloud, second) = (Broker::start().await, Receiver::start(), Receiver::start());
    let mut modbus = Modbus::tcp();
    modbus.count(1, Table::Holding, 0, 2);
    let wires = (Wire::to(broker.port()).await, Wire::to(modbus.port()).await);
    broker.remember("forebay-e2e-broker", &["plant/+/+"]).await;
    broker.remember("forebay-e2e-yard", &["yard/+/+"]).await;
    let config = |variant: Variant| variant.config((&wires.0, &wires.1), &broker, (&cloud, &second));
    let mut gateway = Gateway::start(&config(Variant::of(0))).await;

    let publisher = Arc::new(Publisher::connect(&broker, "plant"));
    let count = Arc::new(AtomicU64::new(0));
    let publishing = tokio::spawn({
        let (publisher, count) = (Arc::clone(&publisher), Arc::clone(&count));
        async move {
            let mut ticks = interval(PUBLISH_INTERVAL);
            loop {
                ticks.tick().await;
                let value = count.load(Ordering::SeqCst);
                publisher.publish("plant/mill/count", format!("{{\"value\":{value}}}")).await;
                publisher.publish("yard/crane/count", format!("{{\"value\":{value}}}")).await;
                count.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    let started = Instant::now();
    for step in 1..=RELOADS {
        gateway.configure(&config(Variant::of(step)));
        if step.is_multiple_of(2) {
            let said = gateway.tool(&["reload"]).await.success();
            assert!(!said.contains("\"broker\"") && !said.contains("\"bus\"") && !said.contains("\"cloud\""), "{said}");
        } else {
            let before = gateway.logs().matches(RELOADED).count();
            gateway.hang_up();
            wait::until("the reload", LIMIT, || gateway.logs().matches(RELOADED).count() > before).await;
        }
        // Some readings come in under each configuration.
        let before = count.load(Ordering::SeqCst);
        wait::until("readings under this configuration", LIMIT, || count.load(Ordering::SeqCst) >= before + 40).await;
        assert_books_close(&gateway).await;
    }
    // The last one has everything again.
    gateway.configure(&config(Variant { yard: Some(60), second: Some(100), ..Variant::of(RELOADS) }));
    assert!(!gateway.tool(&["reload"]).await.success().is_empty());
    publishing.abort();
    let count = {
        publisher.all_acknowledged(LIMIT).await;
        i64::try_from(publisher.acknowledged() / 2).unwrap()
    };
    println!("{RELOADS} reloads in {:?}, {count} messages of each device", started.elapsed());

    let devices = ["mill", "crane"];
    for receiver in [&cloud, &second] {
        wait::until("all counts to arrive", LIMIT, || {
            of_devices(receiver, &devices).count() >= usize::try_from(2 * count).unwrap()
        })
        .await;
        let all = expected("mill", count).chain(expected("crane", count));
        Verdict::new(all, of_devices(receiver, &devices)).assert_exactly_once("a receiver");
        assert_eq!(receiver.conflicts(), Vec::<String>::new(), "a retry must be the same bytes");
    }
    // Not one poll of the unchanged bus was lost, repeated or made on another connection.
    let energy: Vec<i64> = of_devices(&cloud, &["meter"]).map(|entry| entry.counter).collect();
    let first = *energy.first().unwrap();
    assert_eq!(energy, (first..first + i64::try_from(energy.len()).unwrap()).collect::<Vec<_>>());
    assert_eq!((wires.0.connections(), wires.1.connections()), (1, 1), "an unchanged source keeps its connection");
    readings_are_booked(&gateway).await;
    assert_books_close(&gateway).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_does_not_drop_what_the_buffer_holds() {
    let mut plant = Plant::start("linger_ms = 100", "").await;
    let whole = std::fs::read_to_string(plant.gateway.config_path()).unwrap();
    plant.receiver.take_away();
    plant.publish(500).await;
    plant.all_accepted().await;
    // The sink goes, its options change, limits and rules change, and it comes back.
    let mut without: toml::Table = whole.parse().unwrap();
    without.remove("sink").unwrap();
    let without = without.to_string();
    let rules = "\n[[check]]\npoints = \"*/*\"\nrange = { operating = [0.0, 1000000.0] }\n";
    for text in [format!("{whole}{rules}"), without, whole.replace("linger_ms = 100", "linger_ms = 150")] {
        plant.gateway.configure_verbatim(&text);
        assert!(!plant.gateway.tool(&["reload"]).await.success().is_empty());
        plant.publish(100).await;
        plant.all_accepted().await;
    }
    plant.receiver.bring_back();
    plant.assert_exactly_once().await;
    assert_books_close(&plant.gateway).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_with_errors_changes_nothing_and_every_error_is_told() {
    let mut plant = Plant::start("linger_ms = 100", "").await;
    let good = std::fs::read_to_string(plant.gateway.config_path()).unwrap();
    let broken = good
        .replace("linger_ms = 100", "linger_ms = 900000")
        .replace("type = \"mqtt\"", "type = \"mqtt\"\nkeep_alive_s = 0");
    assert_ne!(good, broken);
    plant.gateway.configure_verbatim(&broken);
    let refused = plant.gateway.tool(&["reload"]).await;
    assert_eq!(refused.code, Some(78), "{refused:?}");
    assert!(refused.err.contains("linger_ms") && refused.err.contains("keep_alive_s"), "{refused:?}");
    plant.gateway.hang_up();
    let trouble = wait::until_some("the page to tell the errors", LIMIT, || async {
        let status = plant.gateway.status().await;
        let troubles = status["troubles"].as_array()?.clone();
        troubles.into_iter().find(|trouble| trouble["subject"] == "configuration")
    })
    .await;
    let what = trouble["what"].as_str().unwrap();
    assert!(what.contains("linger_ms") && what.contains("keep_alive_s") && what.contains("old one stays"), "{what}");

    plant.gateway.configure_verbatim(&good.replace("id = \"e2e\"", "id = \"other\""));
    let refused = plant.gateway.tool(&["reload"]).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.err.contains("gateway.id") && refused.err.contains("restart"), "{refused:?}");
    plant.publish(100).await;
    plant.assert_exactly_once().await;

    plant.gateway.configure_verbatim(&good);
    assert_eq!(plant.gateway.tool(&["reload"]).await.success(), "nothing changed\n");
    let status = plant.gateway.status().await;
    assert_eq!(status["troubles"].as_array().unwrap().len(), 0, "{status}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_books_close_after_every_kill() {
    let mut plant = Plant::start("linger_ms = 100", "").await;
    for kill in 0..KILLS {
        plant.publish(40 + 17 * kill).await;
        plant.gateway.kill_and_start_again().await;
        assert_books_close(&plant.gateway).await;
        readings_are_booked(&plant.gateway).await;
    }
    plant.assert_exactly_once().await;
    let source = plant.gateway.status_of("sources", "broker").await;
    let recovered = plant.gateway.metric("forebay_recovered_records_total", &["stream=\"readings\""]).await.unwrap();
    println!("{KILLS} kills, {} messages, {recovered} recovered: {source}", plant.published());
    // Counters go on where they were: all of it was accepted, in whatever life of the process.
    let counted = source["accepted"].as_f64().unwrap() + recovered;
    assert!((counted - plant.published() as f64).abs() < 0.5, "{counted} of {}", plant.published());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_moves_to_another_address_of_its_own_port() {
    let plant = Plant::start("", "").await;
    let address = plant.gateway.page_address().unwrap();
    let port = address.rsplit_once(':').unwrap().1;
    let text = std::fs::read_to_string(plant.gateway.config_path()).unwrap();
    plant.gateway.configure_verbatim(&text.replace("127.0.0.1:0\"", &format!("0.0.0.0:{port}\"")));
    let told = plant.gateway.tool(&["reload"]).await.success();
    assert!(told.contains("the page moved"), "{told}");
    wait::until_some("the page at its new address", LIMIT, || async {
        plant.gateway.page_address().filter(|page| page.starts_with("0.0.0.0:"))
    })
    .await;
    assert_eq!(plant.gateway.get("/live").await.0, 200);
}
