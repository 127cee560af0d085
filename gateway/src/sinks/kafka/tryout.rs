//! Tries a Kafka sink: brokers, topics, a transaction of its own name with one test record.

use super::KafkaOptions;
use super::client::{self, Context};
use super::cursors::CursorRecord;
use super::failure::Failure;
use super::transaction::{Producer, deliver_at_least_once, deliver_once};
use super::worker::OwnedOffer;
use crate::sinks::tryout::TestRecord;
use crate::tryout::{Steps, reach};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::producer::Producer as _;
use std::time::Duration;
use tokio::sync::mpsc;

/// Most brokers whose address is tried: the client library finds the others by itself.
const BROKERS_MAX: usize = 3;
/// How long the cluster may take to tell its topics.
const METADATA_LIMIT: Duration = Duration::from_secs(5);
/// How long the coordinator may take to give a name for transactions.
const INIT_LIMIT: Duration = Duration::from_secs(6);
/// How long the record may take to be taken, in milliseconds: the whole try must not take longer than a person waits.
const MESSAGE_TIMEOUT_MS: &str = "6000";
/// How long the topic of the record may take to appear, in milliseconds.
const TOPIC_PROPAGATION_MS: &str = "5000";
/// Words that wait for the page.
const WORDS_MAX: usize = 16;

/// What the thread tells.
enum Word {
    Begin(String),
    Ok(String),
    Failed(String, String),
    Works,
}

/// The thread's end: a page that has gone does not stop the thread, whose calls all end by themselves.
struct Teller(mpsc::Sender<Word>);

impl Teller {
    fn say(&self, word: Word) {
        // Nobody may wait for it any more.
        drop(self.0.blocking_send(word));
    }

    fn begin(&self, what: impl Into<String>) {
        self.say(Word::Begin(what.into()));
    }

    fn failed(&self, what: impl Into<String>, advice: impl Into<String>) {
        self.say(Word::Failed(what.into(), advice.into()));
    }
}

/// Takes the steps; those of the client library, which blocks, on a thread of their own.
pub(in crate::sinks) async fn take_steps(gateway: &str, options: &KafkaOptions, test: TestRecord, steps: &mut Steps) {
    let mut is_reached = false;
    for broker in options.brokers.iter().take(BROKERS_MAX) {
        let Some((host, port)) = broker.rsplit_once(':') else { continue };
        let Ok(port) = port.parse() else { continue };
        if let Some(addresses) = reach::resolve(steps, host, port).await {
            is_reached |= reach::connect(steps, broker, &addresses).await;
        }
    }
    if !is_reached {
        return;
    }
    let (sender, mut words) = mpsc::channel(WORDS_MAX);
    let (gateway, options) = (gateway.to_owned(), options.clone());
    let spawned = std::thread::Builder::new()
        .name("kafka-tryout".to_owned())
        .spawn(move || ask_cluster(&gateway, &options, &test, &Teller(sender)));
    if let Err(error) = spawned {
        steps.begin("start the Kafka client");
        return steps.failed(format!("no thread for it: {error}"), "the board is out of memory or threads");
    }
    while let Some(word) = words.recv().await {
        match word {
            Word::Begin(what) => steps.begin(what),
            Word::Ok(detail) => steps.ok(detail),
            Word::Failed(what, advice) => steps.failed(what, advice),
            Word::Works => steps.works(),
        }
    }
}

/// A name that is this try's own, so that the running producer is not fenced; rights that are given by the prefix of the
/// sink's own name cover it.
pub(super) fn transactional_id(gateway: &str, sink: &str) -> String {
    format!("{}/test", client::transactional_id(gateway, sink))
}

fn ask_cluster(gateway: &str, options: &KafkaOptions, test: &TestRecord, teller: &Teller) {
    let context = Context::default();
    teller.begin("ask the cluster for its brokers and topics");
    let Some(are_there) = topics(gateway, options, &context, teller) else { return };
    let name = transactional_id(gateway, &options.name);
    let mut config = client::producer_config(gateway, options);
    config.set("client.id", &name);
    config.set("message.timeout.ms", MESSAGE_TIMEOUT_MS);
    config.set("topic.metadata.propagation.max.ms", TOPIC_PROPAGATION_MS);
    if options.exactly_once {
        config.set("transactional.id", &name);
        teller.begin(format!("begin transactions as {name}"));
    } else {
        teller.begin("start a producer");
    }
    let producer: Producer = match config.create_with_context(context.clone()) {
        Ok(producer) => producer,
        Err(error) => {
            return teller.failed(format!("the Kafka client does not take its settings: {error}"), "change the sink");
        }
    };
    if options.exactly_once
        && let Err(error) = producer.init_transactions(INIT_LIMIT)
    {
        let (what, advice) = told(Failure::of_error(&error, Duration::ZERO), &context);
        return teller.failed(what, advice);
    }
    teller.say(Word::Ok(String::new()));
    send(options, test, are_there, &producer, &context, teller);
}

/// Asks for the topics without making any; says whether one that the sink writes to is there. `None` if it has failed.
fn topics(gateway: &str, options: &KafkaOptions, context: &Context, teller: &Teller) -> Option<bool> {
    let consumer: Result<BaseConsumer<Context>, KafkaError> =
        client::consumer_config(gateway, options, "read_committed").create_with_context(context.clone());
    let metadata = match consumer.and_then(|consumer| consumer.fetch_metadata(None, METADATA_LIMIT)) {
        Ok(metadata) => metadata,
        Err(error) => {
            let (what, advice) = told(Failure::of_error(&error, Duration::ZERO), context);
            teller.failed(what, advice);
            return None;
        }
    };
    let brokers: Vec<String> =
        metadata.brokers().iter().map(|broker| format!("{}:{}", broker.host(), broker.port())).collect();
    let wanted = options.route.streams().into_iter().map(|stream| options.topic(stream, None));
    let is_there = |name: &String| metadata.topics().iter().any(|topic| topic.name() == name);
    let (there, missing): (Vec<String>, Vec<String>) = wanted.partition(is_there);
    let mut detail = format!("brokers call themselves {}", brokers.join(", "));
    if !there.is_empty() {
        detail = format!("{detail}; topics there: {}", there.join(", "));
    }
    if !missing.is_empty() {
        detail = format!(
            "{detail}; not there yet: {} (made with the first record, if the cluster allows it)",
            missing.join(", ")
        );
    }
    teller.say(Word::Ok(detail));
    Some(!there.is_empty())
}

/// Sends the record and reads its acknowledgement.
fn send(
    options: &KafkaOptions,
    test: &TestRecord,
    are_there: bool,
    producer: &Producer,
    context: &Context,
    teller: &Teller,
) {
    let topic = format!("{}.test", options.topic_prefix);
    teller.begin(format!("send one test record to topic {topic}"));
    // In the cursor's place, whose position comes back.
    let record =
        CursorRecord { topic: topic.clone(), key: test.record.key.to_string(), value: test.record.json.to_vec() };
    let sent = if options.exactly_once {
        let offer = OwnedOffer { topic: topic.clone(), records: Vec::new(), cursor: record };
        deliver_once(producer, context, &offer)
    } else {
        let offer = OwnedOffer { topic: topic.clone(), records: vec![test.record.clone()], cursor: record };
        deliver_at_least_once(producer, context, &offer)
    };
    match sent {
        Ok(Some(offset)) => teller.say(Word::Ok(format!("committed at offset {offset}"))),
        Ok(None) => teller.say(Word::Ok("the cluster has acknowledged it".to_owned())),
        Err(failure) => {
            let is_stop = matches!(failure, Failure::Stop(_));
            let (what, advice) = told(failure, context);
            if is_stop && are_there {
                // The cluster takes transactions of this gateway; its own topics may well be writable.
                teller.say(Word::Works);
                return teller.failed(
                    what,
                    format!("{advice}; this is about the test topic only, the topics of the sink are there"),
                );
            }
            teller.failed(what, advice);
        }
    }
}

/// What a failure means to a person, and what to do.
fn told(failure: Failure, context: &Context) -> (String, String) {
    let split = |reason: String| match reason.split_once("; ") {
        Some((what, advice)) => (what.to_owned(), advice.to_owned()),
        None => (reason, "look into the cluster's log".to_owned()),
    };
    match failure {
        Failure::Stop(reason) | Failure::Refused(reason) => split(reason),
        Failure::Fenced => (
            "another try-out of this sink has taken over its name".to_owned(),
            "wait until it is over, then try again".to_owned(),
        ),
        Failure::Again(reason) | Failure::Lost(reason) => (
            context.explain(&reason),
            "check that the brokers can be reached under the names that they call themselves by (advertised.listeners), and \
             that they speak plain Kafka without TLS at this port"
                .to_owned(),
        ),
    }
}
