//! Keeps a connection to the broker: reads into intakes, sends acknowledgements, connects again.

use super::MqttOptions;
use super::session::{Incoming, Life, Session, SessionError};
use super::take::{Published, Taker};
use crate::backoff::Backoff;
use crate::block::records::Severity;
use crate::sources::address::HostPort;
use crate::sources::{Intake, Message, Receipt, SourceContext};
use crate::status::State;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

/// First wait before connecting again.
const RECONNECT_FIRST: Duration = Duration::from_secs(1);
/// Longest wait before connecting again.
const RECONNECT_MAX: Duration = Duration::from_secs(30);
/// A connection that lasted this long was a success: a shorter one may have died of what it will bring again.
const STABLE_AFTER: Duration = Duration::from_secs(10);
/// Failed connections in a row after which a person is told: a broker that restarts is back before.
const FAILURES_TOLD: u32 = 3;
/// How long acknowledgements are awaited when the gateway stops: longer than a commit takes.
const LAST_RECEIPTS_WAIT: Duration = Duration::from_secs(2);
/// The trouble's part of the connection as a whole.
const CONNECTION: &str = "connection";
/// The trouble's part of a packet that cannot be read.
const OVERSIZE: &str = "oversize";

/// Reads from one broker.
pub(super) struct Reader {
    options: MqttOptions,
    context: SourceContext,
    address: HostPort,
    client_id: String,
    taker: Taker,
    /// What waits for room at ingest.
    pending: Intake,
    /// Counts connections: packet ids are used again on the next one.
    generation: u64,
    /// Messages of this connection whose receipt is still to come.
    unacknowledged: u64,
}

impl Reader {
    pub(super) fn new(options: MqttOptions, context: SourceContext, address: HostPort, taker: Taker) -> Self {
        let client_id = options.session(&context.gateway);
        let pending = context.intake();
        Self { options, context, address, client_id, taker, pending, generation: 0, unacknowledged: 0 }
    }

    /// Runs until the gateway stops.
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::new(RECONNECT_FIRST, RECONNECT_MAX);
        let stop = self.context.stop.clone();
        while !stop.is_cancelled() {
            let connecting = Session::connect(&self.options, &self.address, &self.client_id, Life::Kept);
            let connected = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = drop_receipts(&mut self.context.receipts) => return,
                connected = connecting => connected,
            };
            let started = Instant::now();
            let outcome = match connected {
                Ok(session) => self.serve(session).await,
                Err(error) => Err(error),
            };
            let Err(error) = outcome else { return };
            if started.elapsed() >= STABLE_AFTER {
                backoff.succeed();
            }
            let wait = backoff.next_wait();
            self.report(&error, backoff.failures());
            tokio::select! {
                () = stop.cancelled() => return,
                () = drop_receipts(&mut self.context.receipts) => return,
                () = sleep(wait) => {}
            }
        }
    }

    /// Reads until the connection breaks (an error) or the gateway stops.
    async fn serve(&mut self, mut session: Session) -> Result<(), SessionError> {
        if self.generation > 0 {
            self.context.status.reconnects.add(1);
        }
        self.generation += 1;
        self.unacknowledged = 0;
        let is_told = self.pending.messages.last().is_some_and(|message| message.begins_anew);
        if !session.is_resumed && !is_told {
            // It takes its place behind what the last connection brought and ahead of all that this one will.
            self.pending.push(Message { begins_anew: true, ..Message::default() }, None);
        }
        let stop = self.context.stop.clone();
        let intakes = self.context.intakes.clone();
        let stable_at = Instant::now() + STABLE_AFTER;
        let mut is_stable = false;
        loop {
            let has_room = !self.pending.is_full();
            // Reading goes before handing over, so that an intake takes all that is there; it never waits to fill.
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                receipts = self.context.receipts.recv() => {
                    let Some(receipts) = receipts else { break };
                    self.acknowledge(&mut session, &receipts).await?;
                }
                incoming = session.next(), if has_room => self.take(incoming?),
                room = intakes.reserve(), if !self.pending.is_empty() => {
                    let Ok(room) = room else { break };
                    room.send(std::mem::replace(&mut self.pending, self.context.intake()));
                }
                () = sleep_until(stable_at), if !is_stable => {
                    is_stable = true;
                    self.context.clear(OVERSIZE);
                }
            }
        }
        self.finish(session).await;
        Ok(())
    }

    fn take(&mut self, incoming: Incoming) {
        match incoming {
            Incoming::Subscribed(granted) => self.subscribed(&granted),
            Incoming::Published(publish) => {
                let published = Published {
                    topic: &publish.topic,
                    payload: &publish.payload,
                    packet_id: publish.pkid,
                    is_duplicate: publish.dup,
                    is_retained: publish.retain,
                };
                let mono_us = self.context.clock.mono_us();
                let (message, sample) = self.taker.take(&published, self.generation, mono_us);
                self.unacknowledged += u64::from(message.receipt.is_some());
                if message.receipt.is_some() || sample.is_some() || !message.rejects.is_empty() {
                    self.pending.push(message, sample);
                }
            }
        }
    }

    fn subscribed(&mut self, granted: &[Option<u8>]) {
        self.context.clear(CONNECTION);
        let mut refused = 0;
        for (index, subscription) in self.options.subscribe.iter().enumerate() {
            let trouble = format!("subscribe-{index}");
            if matches!(granted.get(index), Some(Some(_))) {
                self.context.clear(&trouble);
                continue;
            }
            refused += 1;
            let what = format!("The broker refuses the subscription to {:?}", subscription.filter);
            self.context.raise(&trouble, Severity::Error, what, "Check the user's rights at the broker");
        }
        if refused == 0 {
            self.context.set_state(State::Live);
        } else {
            self.context.fail(State::Degraded, &format!("the broker refused {refused} subscriptions"));
        }
    }

    async fn acknowledge(&mut self, session: &mut Session, receipts: &[Receipt]) -> Result<(), SessionError> {
        let current = receipts.iter().filter(|receipt| receipt.generation == self.generation);
        let ids: Vec<u16> = current.filter_map(|receipt| u16::try_from(receipt.token).ok()).collect();
        self.unacknowledged = self.unacknowledged.saturating_sub(ids.len() as u64);
        session.acknowledge(ids.into_iter()).await
    }

    /// Acknowledges what becomes durable in the next moment, so that a restart does not begin with redeliveries.
    async fn finish(&mut self, mut session: Session) {
        let last = std::mem::replace(&mut self.pending, self.context.intake());
        let receipts = last.messages.iter().filter(|message| message.receipt.is_some()).count() as u64;
        if !last.is_empty() && self.context.intakes.try_send(last).is_err() {
            // They are not acknowledged, so they come again after the restart.
            self.unacknowledged = self.unacknowledged.saturating_sub(receipts);
        }
        let deadline = Instant::now() + LAST_RECEIPTS_WAIT;
        while self.unacknowledged > 0 {
            let Ok(Some(receipts)) = timeout_at(deadline, self.context.receipts.recv()).await else { break };
            if self.acknowledge(&mut session, &receipts).await.is_err() {
                return;
            }
        }
        session.disconnect().await;
    }

    fn report(&self, error: &SessionError, failures: u32) {
        self.context.fail(State::Down, &error.to_string());
        match error {
            SessionError::Oversize { .. } => {
                let what = format!("A message at the broker cannot be read: {error}");
                let advice = "Remove the message at the broker and set its message_size_limit below 16 MiB";
                self.context.raise(OVERSIZE, Severity::Error, what, advice);
            }
            SessionError::Refused(_) => {
                self.context.raise(
                    CONNECTION,
                    Severity::Error,
                    error.to_string(),
                    "Check user, password and client id",
                );
            }
            SessionError::Password(_) => {
                let what = format!("The password for the broker is missing: {error}");
                self.context.raise(CONNECTION, Severity::Error, what, "The file is read again at every attempt");
            }
            SessionError::Lost(_) if failures >= FAILURES_TOLD => {
                let what = format!("The broker at {} cannot be reached: {error}", self.address);
                self.context.raise(CONNECTION, Severity::Error, what, "Check that the broker runs, and the network");
            }
            SessionError::Lost(_) => {}
        }
    }
}

/// Receipts of a connection that is no more: the broker sends their messages again, and ingest recognises them. Ends
/// when ingest has ended.
async fn drop_receipts(receipts: &mut tokio::sync::mpsc::Receiver<Vec<Receipt>>) {
    while receipts.recv().await.is_some() {}
}
