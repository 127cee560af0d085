//! One transaction: the records of an offer and the cursor that it moves, or nothing.

use super::client::{Context, IS_CURSOR, IS_DATA, MESSAGE_TIMEOUT};
use super::cursors::{CURSOR_PARTITION, CursorRecord};
use super::failure::Failure;
use super::worker::OwnedOffer;
use crate::fault;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, Producer as _, PurgeConfig, ThreadedProducer};
use std::time::Duration;
use tokio::time::Instant;

/// Longest wait for the reports of all records: each comes within [`MESSAGE_TIMEOUT`], so this only catches a library that is stuck.
const FLUSH_LIMIT: Duration = Duration::from_secs(MESSAGE_TIMEOUT.as_secs() + 3);

/// Longest wait for a commit: the coordinator may just be moving.
const COMMIT_LIMIT: Duration = Duration::from_secs(15);

/// Longest wait for an abort: a new producer does as well, and its recovery aborts what was left open.
const ABORT_LIMIT: Duration = Duration::from_secs(5);

/// How long to let the library send before trying again to hand it a record.
const QUEUE_FULL_WAIT: Duration = Duration::from_millis(50);

/// A producer with a thread that serves its reports: without one, aborting waits for ever.
pub(super) type Producer = ThreadedProducer<Context>;

/// Delivers an offer and its cursor in one transaction; gives back where the cursor's record stands.
pub(super) fn deliver_once(producer: &Producer, context: &Context, offer: &OwnedOffer) -> Result<Option<i64>, Failure> {
    let begun = Instant::now();
    let failed = |error: &KafkaError| Failure::of_error(error, begun.elapsed());
    context.begin();
    fault::point("kafka.before_begin");
    producer.begin_transaction().map_err(|error| failed(&error))?;
    if let Err(failure) = fill(producer, context, offer, Some(&offer.cursor), begun) {
        return Err(abort(producer, failure, begun));
    }
    let position = context.reports().cursor_offset;
    fault::point("kafka.before_commit");
    match producer.commit_transaction(COMMIT_LIMIT) {
        Ok(()) => {
            fault::point("kafka.after_commit");
            Ok(position)
        }
        Err(KafkaError::Transaction(error)) if error.txn_requires_abort() => {
            let failure = failed(&KafkaError::Transaction(error));
            Err(abort(producer, failure, begun))
        }
        // It may be committed or not: the cursor topic will tell.
        Err(error) => Err(match failed(&error) {
            Failure::Again(reason) => Failure::Lost(format!("nobody knows whether it was committed: {reason}")),
            failure => failure,
        }),
    }
}

/// Delivers an offer without a transaction: at least once.
pub(super) fn deliver_at_least_once(
    producer: &Producer,
    context: &Context,
    offer: &OwnedOffer,
) -> Result<Option<i64>, Failure> {
    let begun = Instant::now();
    context.begin();
    fill(producer, context, offer, None, begun).map_err(|failure| {
        // What was not sent must not be sent beside the next attempt.
        producer.purge(PurgeConfig::default().queue().inflight());
        if producer.client().fatal_error().is_some() {
            return Failure::Lost("the producer cannot go on".to_owned());
        }
        failure
    })?;
    Ok(None)
}

/// Hands all records to the library and waits until each is taken by the cluster, or one is not.
fn fill(
    producer: &Producer,
    context: &Context,
    offer: &OwnedOffer,
    cursor: Option<&CursorRecord>,
    begun: Instant,
) -> Result<(), Failure> {
    for record in &offer.records {
        let to_send = || BaseRecord::with_opaque_to(&offer.topic, IS_DATA).key(&*record.key).payload(&record.json[..]);
        send(producer, to_send, begun)?;
        fault::point("kafka.record_produced");
    }
    if let Some(cursor) = cursor {
        let to_send = || {
            BaseRecord::with_opaque_to(&cursor.topic, IS_CURSOR)
                .partition(CURSOR_PARTITION)
                .key(cursor.key.as_str())
                .payload(cursor.value.as_slice())
        };
        send(producer, to_send, begun)?;
        fault::point("kafka.cursor_produced");
    }
    let flushed = producer.flush(FLUSH_LIMIT);
    // A record's own report says more than the flush.
    if let Some((code, topic)) = context.failed() {
        return Err(match Failure::of_code(code, Some(&topic)) {
            Failure::Again(reason) => Failure::Again(context.explain(&format!("{topic}: {reason}"))),
            failure => failure,
        });
    }
    flushed.map_err(|error| Failure::of_error(&error, begun.elapsed()))
}

fn send<'a, P: ?Sized + rdkafka::message::ToBytes + 'a>(
    producer: &Producer,
    record: impl Fn() -> BaseRecord<'a, str, P, usize>,
    begun: Instant,
) -> Result<(), Failure> {
    loop {
        match producer.send(record()) {
            Ok(()) => return Ok(()),
            Err((error, _)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) => {
                if begun.elapsed() > MESSAGE_TIMEOUT {
                    return Err(Failure::Again("the client's queue stays full".to_owned()));
                }
                producer.poll(QUEUE_FULL_WAIT);
            }
            Err((error, record)) => {
                let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
                return Err(Failure::of_code(code, Some(record.topic)));
            }
        }
    }
}

/// Takes the transaction back, so that the same records can be sent again; what fails here is worse than `failure`.
fn abort(producer: &Producer, failure: Failure, begun: Instant) -> Failure {
    match producer.abort_transaction(ABORT_LIMIT) {
        Ok(()) => failure,
        Err(error) => match Failure::of_error(&error, begun.elapsed()) {
            Failure::Again(reason) => Failure::Lost(format!("the transaction could not be taken back: {reason}")),
            failure => failure,
        },
    }
}
