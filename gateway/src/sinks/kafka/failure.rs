//! What an error of the client library means for a run, and what to tell people.

use super::client::{TRANSACTION_TIMEOUT, transactional_id};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::types::RDKafkaErrorCode as Code;
use std::time::Duration;

/// Why an attempt came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Nothing was committed; the producer goes on.
    Again(String),
    /// The cluster will not take these records together.
    Refused(String),
    /// Nothing will go until someone changes something.
    Stop(String),
    /// Another producer has taken over this one's name.
    Fenced,
    /// The producer is of no more use, and perhaps nobody knows whether it was committed.
    Lost(String),
}

impl Failure {
    /// The meaning of a code, for a record of `topic` or for the whole attempt.
    pub(super) fn of_code(code: RDKafkaErrorCode, topic: Option<&str>) -> Self {
        let topic = topic.map_or_else(|| "the topics".to_owned(), |topic| format!("topic {topic}"));
        match code {
            Code::MessageSizeTooLarge | Code::MessageBatchTooLarge | Code::InvalidMessageSize => {
                Self::Refused(format!(
                    "{topic} does not take records of this size (see message.max.bytes of the broker and max.message.bytes of the topic)"
                ))
            }
            Code::InvalidRecord | Code::InvalidTimestamp => {
                Self::Refused(format!("{topic} does not take these records: {code}"))
            }
            Code::TopicAuthorizationFailed => {
                Self::Stop(format!("this gateway may not write to {topic}; give it the right to WRITE and DESCRIBE"))
            }
            Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition => Self::Stop(format!(
                "{topic} is not there and the cluster does not make it by itself; create it, or allow auto.create.topics.enable"
            )),
            Code::InvalidTopic => {
                Self::Stop(format!("the cluster does not take the name of {topic}; change topic_prefix"))
            }
            Code::TransactionalIdAuthorizationFailed | Code::ClusterAuthorizationFailed => Self::Stop(format!(
                "this gateway may not use transactions under its name; give it WRITE and DESCRIBE on the transactional id \
                 {}, or set exactly_once = false",
                transactional_id("<gateway>", "<sink>")
            )),
            Code::InvalidTransactionTimeout => Self::Stop(format!(
                "the cluster allows transactions shorter than {} s only; raise its transaction.max.timeout.ms",
                TRANSACTION_TIMEOUT.as_secs()
            )),
            Code::UnsupportedFeature | Code::UnsupportedVersion | Code::SecurityDisabled => Self::Stop(format!(
                "the cluster cannot do what is asked ({code}); exactly_once needs Kafka 0.11 or newer with transactions"
            )),
            Code::SaslAuthenticationFailed | Code::Authentication => {
                Self::Stop("the cluster does not know this gateway; check its user and password".to_owned())
            }
            Code::PolicyViolation => Self::Stop(format!("a policy of the cluster forbids it for {topic}")),
            Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch => Self::Fenced,
            // The abort gives the producer a new epoch, with which its numbers start over (KIP-360).
            Code::UnknownProducerId | Code::InvalidProducerIdMapping | Code::OutOfOrderSequenceNumber => {
                Self::Again(format!("the cluster has lost count of this producer's records ({code})"))
            }
            code => Self::Again(code.to_string()),
        }
    }

    /// The meaning of an error of a call, `elapsed` after the transaction began.
    pub(super) fn of_error(error: &KafkaError, elapsed: Duration) -> Self {
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
        let failure = Self::of_code(code, None);
        match (failure, error) {
            // The broker takes the name away from a transaction that lasted too long, too; that is nobody else's doing.
            (Self::Fenced, _) if elapsed >= TRANSACTION_TIMEOUT => {
                Self::Lost(format!("the transaction was not over after {} s", TRANSACTION_TIMEOUT.as_secs()))
            }
            (Self::Again(_), KafkaError::Transaction(error)) if error.is_fatal() => {
                Self::Lost(format!("the producer cannot go on: {error}"))
            }
            (Self::Again(_), error) => Self::Again(error.to_string()),
            (failure, _) => failure,
        }
    }
}
