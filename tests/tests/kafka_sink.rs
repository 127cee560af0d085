//! The Kafka sink against a real broker: every reading once for `read_committed` consumers, whatever happens on the way.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use e2e::fault_proxy::{Fault, FaultProxy};
use e2e::kafka::Kafka;
use e2e::ports::Port;
use forebay::buffer::Cursor;
use forebay::reading::{Epoch, SequenceRange, Stream};
use forebay::sinks::kafka::{KafkaOptions, KafkaSink};
use forebay::sinks::{Offer, Outcome, RemoteCursor, Rendered, Sink as _, SinkError};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use tokio::time::{Instant, sleep, timeout};

/// Longer than anything in these tests takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);
const EPOCH: Epoch = Epoch(0x2a);
const GATEWAY: &str = "plant-7";

fn options(address: &str) -> KafkaOptions {
    toml::from_str(&format!("name = \"upstream\"\nbrokers = [\"{address}\"]\ntopic_prefix = \"plant\"")).unwrap()
}

fn sink(kafka: &Kafka) -> KafkaSink {
    KafkaSink::new(GATEWAY, &options(&kafka.address())).unwrap()
}

async fn recovered(kafka: &Kafka, from: Option<i64>) -> (KafkaSink, Vec<(Stream, RemoteCursor)>) {
    let mut sink = sink(kafka);
    assert!(sink.must_recover());
    let cursors = timeout(LIMIT, sink.recover(from)).await.unwrap().unwrap();
    assert!(!sink.must_recover());
    (sink, cursors)
}

fn records(sequences: Range<u64>, padding: usize) -> Vec<Rendered> {
    let record = |seq| Rendered {
        key: format!("device-{}", seq % 5).into(),
        json: Bytes::from(format!(r#"{{"seq":{seq},"padding":"{}"}}"#, "x".repeat(padding))),
    };
    sequences.map(record).collect()
}

async fn deliver_records(sink: &mut KafkaSink, stream: Stream, sequences: Range<u64>, records: &[Rendered]) -> Outcome {
    let range = SequenceRange { first: sequences.start, last: sequences.end - 1 };
    let cursor = Cursor { ranges: Vec::new(), from: sequences.end };
    let key = format!("{GATEWAY}/{EPOCH}/upstream/{stream}/{range}");
    let offer =
        Offer { key, stream, replay: None, range, records, epoch: EPOCH, run_mark: range.last, cursor_after: &cursor };
    timeout(LIMIT, sink.deliver(&offer)).await.expect("an attempt is bounded")
}

async fn deliver(sink: &mut KafkaSink, sequences: Range<u64>) -> Outcome {
    let records = records(sequences.clone(), 10);
    deliver_records(sink, Stream::Readings, sequences, &records).await
}

fn position(outcome: Outcome) -> i64 {
    match outcome {
        Outcome::Delivered { remote_position: Some(position) } => position,
        other => panic!("not delivered: {other:?}"),
    }
}

async fn committed(kafka: &Kafka) -> Vec<u64> {
    let records = kafka.read_committed("plant.readings").await;
    let sequence = |value: &[u8]| serde_json::from_slice::<serde_json::Value>(value).unwrap()["seq"].as_u64().unwrap();
    let mut sequences: Vec<u64> = records.iter().map(|record| sequence(record.value.as_deref().unwrap())).collect();
    sequences.sort_unstable();
    sequences
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_and_its_cursor_become_visible_together() {
    let kafka = Kafka::start().await;
    let (mut sink, cursors) = recovered(&kafka, None).await;
    assert_eq!(cursors, []);
    let first = position(deliver(&mut sink, 0..500).await);
    let second = position(deliver(&mut sink, 500..700).await);
    let alerts = deliver_records(&mut sink, Stream::Alerts, 0..1, &records(0..1, 0)).await;
    assert!(first < second && second < position(alerts));
    assert_eq!(committed(&kafka).await, (0..700).collect::<Vec<_>>());
    assert_eq!(kafka.read_committed("plant.alerts").await.len(), 1);

    let cursors = kafka.read_committed("plant.cursors").await;
    let keys: Vec<&[u8]> = cursors.iter().map(|record| record.key.as_deref().unwrap()).collect();
    assert_eq!(keys, [&b"plant-7/upstream/readings"[..], b"plant-7/upstream/readings", b"plant-7/upstream/alerts"]);
    assert_eq!(cursors[1].offset, second);
    assert_eq!(
        cursors[1].value.as_deref().unwrap(),
        br#"{"v":1,"epoch":"0000000000000000000000000000002a","run":"00000000000002bb","cursor":{"ranges":[],"from":700}}"#
    );

    // All readings of a device keep their order: they are in one partition.
    let records = kafka.read_committed("plant.readings").await;
    let of_one: Vec<_> = records.iter().filter(|record| record.key.as_deref() == Some(b"device-3")).collect();
    assert_eq!(of_one.len(), 140);
    assert!(of_one.iter().all(|record| record.partition == of_one[0].partition));
}

#[tokio::test(flavor = "multi_thread")]
async fn recovery_finds_the_cursor_that_the_ledger_never_saw() {
    let kafka = Kafka::start().await;
    let (mut first, _) = recovered(&kafka, None).await;
    let known = position(deliver(&mut first, 0..10).await);
    let unknown = position(deliver(&mut first, 10..20).await);
    // The gateway dies here: the second delivery is committed, the ledger knows the first only.
    drop(first);
    let cursor = Cursor { ranges: Vec::new(), from: 20 };
    let expected = RemoteCursor { replay: None, epoch: EPOCH, cursor, run_mark: 19, position: unknown };
    for from in [Some(known), Some(unknown), None] {
        let (_, cursors) = recovered(&kafka, from).await;
        assert_eq!(cursors, [(Stream::Readings, expected.clone())], "read from {from:?}");
    }
    // A ledger that knows a place which is no longer there (the topic was made anew) reads all of it.
    let (_, cursors) = recovered(&kafka, Some(1_000_000)).await;
    assert_eq!(cursors, [(Stream::Readings, expected)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_gateway_of_the_same_name_takes_over_and_is_told_of() {
    let kafka = Kafka::start().await;
    let (mut first, _) = recovered(&kafka, None).await;
    position(deliver(&mut first, 0..10).await);
    let mut from = 10;
    for takeover in 1..=3 {
        let (mut second, _) = recovered(&kafka, None).await;
        position(deliver(&mut second, from..from + 10).await);
        from += 10;
        // What the first had in mind is not committed beside it.
        let outcome = deliver(&mut first, 10..20).await;
        assert!(first.must_recover());
        match outcome {
            Outcome::Retry { reason, .. } if takeover < 3 => assert!(reason.contains("taken over"), "{reason}"),
            Outcome::Pause { reason } if takeover == 3 => assert!(reason.contains("gateway.id"), "{reason}"),
            other => panic!("takeover {takeover}: {other:?}"),
        }
        let cursors = timeout(LIMIT, first.recover(None)).await.unwrap().unwrap();
        assert_eq!(cursors[0].1.cursor.from, from);
    }
    assert_eq!(committed(&kafka).await, (0..from).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn recovery_looks_behind_another_gateways_open_transaction() {
    let kafka = Kafka::start().await;
    let (mut first, _) = recovered(&kafka, None).await;
    position(deliver(&mut first, 0..10).await);
    let other: BaseProducer = kafka.client_config().set("transactional.id", "other").create().unwrap();
    other.init_transactions(LIMIT).unwrap();
    other.begin_transaction().unwrap();
    other.send(BaseRecord::to("plant.cursors").partition(0).key("other/s/readings").payload("{}")).unwrap();
    other.flush(LIMIT).unwrap();
    // Committed, but hidden behind the other's.
    position(deliver(&mut first, 10..20).await);
    drop(first);

    let mut second = sink(&kafka);
    let mut recovery = Box::pin(second.recover(None));
    assert!(timeout(Duration::from_secs(2), &mut recovery).await.is_err(), "it must not trust what it cannot see");
    other.abort_transaction(LIMIT).unwrap();
    let cursors = timeout(LIMIT, recovery).await.unwrap().unwrap();
    assert_eq!(cursors[0].1.cursor.from, 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_are_too_large_are_refused_and_smaller_ones_go_on() {
    let kafka = Kafka::start().await;
    let admin: AdminClient<DefaultClientContext> = kafka.client_config().create().unwrap();
    let topic = NewTopic::new("plant.readings", 1, TopicReplication::Fixed(1)).set("max.message.bytes", "4000");
    admin.create_topics([&topic], &AdminOptions::new()).await.unwrap().pop().unwrap().unwrap();
    let options =
        KafkaOptions { compression: forebay::sinks::kafka::KafkaCompression::None, ..options(&kafka.address()) };
    let mut sink = KafkaSink::new(GATEWAY, &options).unwrap();
    timeout(LIMIT, sink.recover(None)).await.unwrap().unwrap();
    // Too large for the broker together; one of them alone is not. Then one that the client itself refuses.
    for (count, padding) in [(10, 1_000), (1, 2_000_000)] {
        let outcome = deliver_records(&mut sink, Stream::Readings, 0..count, &records(0..count, padding)).await;
        assert!(matches!(&outcome, Outcome::Refused { reason } if reason.contains("size")), "{outcome:?}");
        assert!(!sink.must_recover());
    }
    // The broker has missed what it refused, so the client may have to be given a new count of its records first.
    let mut outcome = deliver_records(&mut sink, Stream::Readings, 0..1, &records(0..1, 1_000)).await;
    if let Outcome::Retry { .. } = outcome {
        assert!(!sink.must_recover());
        outcome = deliver_records(&mut sink, Stream::Readings, 0..1, &records(0..1, 1_000)).await;
    }
    position(outcome);
    assert_eq!(committed(&kafka).await, [0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_away_is_tried_again_and_comes_back() {
    let mut kafka = Kafka::start().await;
    let (mut sink, _) = recovered(&kafka, None).await;
    position(deliver(&mut sink, 0..10).await);
    kafka.kill();
    match deliver(&mut sink, 10..20).await {
        Outcome::Retry { reason, .. } => assert!(reason.to_lowercase().contains("refused"), "{reason}"),
        other => panic!("{other:?}"),
    }
    let mut fresh = self::sink(&kafka);
    match timeout(LIMIT, fresh.recover(None)).await.unwrap() {
        Err(SinkError::Unreachable(reason)) => assert!(reason.to_lowercase().contains("refused"), "{reason}"),
        other => panic!("{other:?}"),
    }
    drop(fresh);
    kafka.start_again().await;
    let deadline = Instant::now() + LIMIT;
    let mut next = 10;
    while next < 20 {
        assert!(Instant::now() < deadline);
        if sink.must_recover() {
            if let Ok(cursors) = timeout(LIMIT, sink.recover(None)).await.unwrap() {
                next = cursors[0].1.cursor.from;
            }
        } else if let Outcome::Delivered { .. } = deliver(&mut sink, 10..20).await {
            next = 20;
        }
    }
    assert_eq!(committed(&kafka).await, (0..20).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_transactions_readings_arrive_and_no_cursor_is_kept() {
    let kafka = Kafka::start().await;
    let options = KafkaOptions { exactly_once: false, ..options(&kafka.address()) };
    let mut sink = KafkaSink::new(GATEWAY, &options).unwrap();
    assert_eq!(timeout(LIMIT, sink.recover(None)).await.unwrap().unwrap(), []);
    assert_eq!(deliver(&mut sink, 0..100).await, Outcome::Delivered { remote_position: None });
    assert_eq!(committed(&kafka).await, (0..100).collect::<Vec<_>>());
    assert_eq!(kafka.read_committed("plant.cursors").await, []);
}

/// A small delivery loop with a ledger that may be one step behind when the gateway crashes.
async fn deliver_all(kafka: &Kafka, total: u64, random: &mut fastrand::Rng) -> (u32, u32) {
    const STEP: u64 = 20;
    let (mut saved, mut next, mut position) = ((0, None), 0, None);
    let (mut crashes, mut recoveries) = (0, 0);
    let mut sink = sink(kafka);
    while next < total {
        if sink.must_recover() {
            recoveries += 1;
            match sink.recover(position).await {
                Ok(cursors) => {
                    if let Some((_, remote)) = cursors.first() {
                        assert!(remote.cursor.from >= next, "the cluster is behind the ledger");
                        (next, position) = (remote.cursor.from, Some(remote.position));
                    }
                }
                Err(SinkError::Unreachable(_)) => sleep(Duration::from_millis(50)).await,
                Err(error) => panic!("{error}"),
            }
            continue;
        }
        let patience = if random.u8(..8) == 0 { Duration::from_millis(random.u64(0..60)) } else { LIMIT };
        let attempt = timeout(patience, deliver(&mut sink, next..next + STEP)).await;
        match attempt {
            Ok(Outcome::Delivered { remote_position }) => {
                saved = (next, position);
                (next, position) = (next + STEP, remote_position);
            }
            Ok(Outcome::Retry { .. }) => sleep(Duration::from_millis(20)).await,
            Ok(other) => panic!("{other:?}"),
            Err(_) => {
                // The gateway crashes in the middle of an attempt that goes on without it, and its ledger is a step behind.
                crashes += 1;
                sink = self::sink(kafka);
                (next, position) = saved;
            }
        }
    }
    (crashes, recoveries)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_reading_arrives_once_through_crashes_and_a_bad_link() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    let mut random = fastrand::Rng::with_seed(seed);
    let port = Port::reserve();
    let proxy = FaultProxy::start(port.number()).await;
    let kafka = Kafka::start_on(port, proxy.port()).await;
    let total = 800;

    let mut weather = random.fork();
    let bad_link = async {
        loop {
            sleep(Duration::from_millis(weather.u64(400..1_500))).await;
            let fault = match weather.u8(..4) {
                0 => Fault::Cut,
                1 => Fault::HalfOpen,
                2 => Fault::Delay(Duration::from_millis(30)),
                _ => Fault::None,
            };
            proxy.reset();
            proxy.set(fault);
            sleep(Duration::from_millis(weather.u64(50..600))).await;
            proxy.set(Fault::None);
        }
    };
    let (crashes, recoveries) = tokio::select! {
        counts = deliver_all(&kafka, total, &mut random) => counts,
        () = bad_link => unreachable!("the weather never ends"),
    };
    proxy.set(Fault::None);
    assert_eq!(committed(&kafka).await, (0..total).collect::<Vec<_>>(), "SEED={seed}");
    assert!(recoveries > crashes, "SEED={seed}: {crashes} crashes, {recoveries} recoveries");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_gateway_of_the_same_name_does_not_hide_what_this_one_has_delivered() {
    let kafka = Kafka::start().await;
    let (mut ours, _) = recovered(&kafka, None).await;
    position(deliver(&mut ours, 0..10).await);
    // Its ledger never hears of this one; then a gateway with another data directory delivers under the same name.
    let unknown = position(deliver(&mut ours, 10..20).await);
    drop(ours);
    let (mut other, _) = recovered(&kafka, None).await;
    let records = records(0..5, 0);
    let (range, cursor) = (SequenceRange { first: 0, last: 4 }, Cursor { ranges: Vec::new(), from: 5 });
    let (stream, epoch) = (Stream::Readings, Epoch(0x2b));
    let offer = Offer {
        key: String::new(),
        stream,
        replay: None,
        range,
        records: &records,
        epoch,
        run_mark: 1,
        cursor_after: &cursor,
    };
    let theirs = position(timeout(LIMIT, other.deliver(&offer)).await.unwrap());
    drop(other);
    let (_, cursors) = recovered(&kafka, None).await;
    let mut found: Vec<_> = cursors.iter().map(|(_, found)| (found.epoch, found.cursor.from, found.position)).collect();
    found.sort_by_key(|(epoch, ..)| epoch.0);
    assert_eq!(found, [(EPOCH, 20, unknown), (epoch, 5, theirs)]);
}

/// A sink behind a proxy that all of its connections pass.
async fn behind_a_proxy() -> (Kafka, FaultProxy, KafkaOptions) {
    let port = Port::reserve();
    let proxy = FaultProxy::start(port.number()).await;
    let kafka = Kafka::start_on(port, proxy.port()).await;
    let options = options(&format!("127.0.0.1:{}", proxy.port()));
    (kafka, proxy, options)
}

/// Delivers the same sequences until they are there; `next` is where the cluster says that the cursor stands, at the end.
async fn deliver_at_last(sink: &mut KafkaSink, sequences: Range<u64>) {
    let deadline = Instant::now() + 2 * LIMIT;
    loop {
        assert!(Instant::now() < deadline);
        if sink.must_recover() {
            match timeout(LIMIT, sink.recover(None)).await.unwrap() {
                Ok(cursors) if cursors.first().is_some_and(|(_, found)| found.cursor.from >= sequences.end) => return,
                Ok(_) => {}
                Err(SinkError::Unreachable(_)) => sleep(Duration::from_millis(100)).await,
                Err(error) => panic!("{error}"),
            }
            continue;
        }
        match deliver_padded(sink, sequences.clone()).await {
            Outcome::Delivered { .. } => return,
            Outcome::Retry { .. } => sleep(Duration::from_millis(100)).await,
            other => panic!("{other:?}"),
        }
    }
}

/// Records that take a while on a narrow link: 100 kB that no compression makes much smaller.
async fn deliver_padded(sink: &mut KafkaSink, sequences: Range<u64>) -> Outcome {
    let mut random = fastrand::Rng::with_seed(sequences.start);
    let records: Vec<Rendered> = sequences
        .clone()
        .map(|seq| {
            let padding: String = (0..1_000).map(|_| random.alphanumeric()).collect();
            let json = Bytes::from(format!(r#"{{"seq":{seq},"padding":"{padding}"}}"#));
            Rendered { key: "device".into(), json }
        })
        .collect();
    deliver_records(sink, Stream::Readings, sequences, &records).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_narrows_breaks_resets_or_goes_dead_in_the_middle_of_a_transaction_costs_and_doubles_nothing() {
    let (kafka, proxy, options) = behind_a_proxy().await;
    let mut sink = KafkaSink::new(GATEWAY, &options).unwrap();
    timeout(LIMIT, sink.recover(None)).await.unwrap().unwrap();
    position(deliver_padded(&mut sink, 0..100).await);
    // Two seconds' worth on this link: it arrives late and once.
    proxy.set(Fault::Throttle(40_000));
    position(deliver_padded(&mut sink, 100..200).await);
    let mut next = 200;
    for fault in ["cut", "reset", "half-open"] {
        // Half of the records have passed when it happens.
        proxy.set(Fault::Throttle(40_000));
        let disturb = async {
            sleep(Duration::from_millis(900)).await;
            match fault {
                "cut" => proxy.set(Fault::Cut),
                "reset" => proxy.reset(),
                _ => proxy.set(Fault::HalfOpen),
            }
            sleep(Duration::from_millis(700)).await;
            proxy.set(Fault::None);
        };
        tokio::join!(deliver_at_last(&mut sink, next..next + 100), disturb);
        next += 100;
        assert_eq!(committed(&kafka).await, (0..next).collect::<Vec<_>>(), "after {fault}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_expires_on_a_dead_link_is_aborted_by_the_cluster_and_its_run_goes_again() {
    let (kafka, proxy, options) = behind_a_proxy().await;
    let mut sink = KafkaSink::new(GATEWAY, &options).unwrap();
    timeout(LIMIT, sink.recover(None)).await.unwrap().unwrap();
    position(deliver_padded(&mut sink, 0..100).await);
    proxy.set(Fault::Throttle(40_000));
    let dead = async {
        sleep(Duration::from_millis(900)).await;
        proxy.set(Fault::HalfOpen);
        // The transaction's 15 s, and the coordinator looks every 10 s only.
        sleep(Duration::from_secs(27)).await;
        proxy.set(Fault::None);
    };
    tokio::join!(deliver_at_last(&mut sink, 100..200), dead);
    assert_eq!(committed(&kafka).await, (0..200).collect::<Vec<_>>());
    position(deliver_padded(&mut sink, 200..300).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_gateway_that_hangs_in_a_transaction_holds_recovery_back_until_the_cluster_aborts_it_and_no_longer() {
    let kafka = Kafka::start().await;
    let (mut first, _) = recovered(&kafka, None).await;
    position(deliver(&mut first, 0..10).await);
    let hanging: BaseProducer = kafka
        .client_config()
        .set("transactional.id", "other")
        .set("transaction.timeout.ms", "3000")
        .set("message.timeout.ms", "3000")
        .create()
        .unwrap();
    hanging.init_transactions(LIMIT).unwrap();
    hanging.begin_transaction().unwrap();
    hanging.send(BaseRecord::to("plant.cursors").partition(0).key("other/s/readings").payload("{}")).unwrap();
    hanging.flush(LIMIT).unwrap();
    position(deliver(&mut first, 10..20).await);
    drop(first);
    let began = Instant::now();
    let (mut second, cursors) = recovered(&kafka, None).await;
    assert!(began.elapsed() > Duration::from_secs(2), "it waited for what it could not see");
    assert_eq!(cursors[0].1.cursor.from, 20, "and skipped nothing");
    position(deliver(&mut second, 20..30).await);
    drop(hanging);
    assert_eq!(committed(&kafka).await, (0..30).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn recovery_comes_to_an_end_while_other_gateways_never_stop_writing_cursors() {
    let kafka = Kafka::start().await;
    let (mut first, _) = recovered(&kafka, None).await;
    position(deliver(&mut first, 0..10).await);
    drop(first);
    let other: BaseProducer = kafka.client_config().set("linger.ms", "0").create().unwrap();
    let write = async {
        loop {
            other.send(BaseRecord::to("plant.cursors").partition(0).key("other/s/readings").payload("{}")).unwrap();
            other.poll(Duration::ZERO);
            sleep(Duration::from_millis(5)).await;
        }
    };
    let recover = timeout(Duration::from_secs(20), recovered(&kafka, None));
    let (_, cursors) = tokio::select! {
        recovered = recover => recovered.expect("the end that was there at the beginning is reached"),
        () = write => unreachable!("it never stops"),
    };
    assert_eq!(cursors[0].1.cursor.from, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_cluster_makes_no_topics_the_words_say_which_one_to_make() {
    let kafka = Kafka::start_with("auto.create.topics.enable=false\n").await;
    let (mut sink, _) = recovered(&kafka, None).await;
    match deliver(&mut sink, 0..10).await {
        Outcome::Pause { reason } => {
            assert!(reason.contains("plant.readings") && reason.contains("create it"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    kafka.create_topic("plant.readings", 3).await;
    let deadline = Instant::now() + LIMIT;
    loop {
        assert!(Instant::now() < deadline);
        if sink.must_recover() {
            timeout(LIMIT, sink.recover(None)).await.unwrap().unwrap();
        }
        if let Outcome::Delivered { .. } = deliver(&mut sink, 0..10).await {
            break;
        }
    }
    assert_eq!(committed(&kafka).await, (0..10).collect::<Vec<_>>());
}
