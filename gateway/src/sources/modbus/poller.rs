//! The task that owns the bus: opens it, polls each unit when it is due, says once when it is gone.

use super::ModbusOptions;
use super::bus::{Bus, Failure};
use super::unit::Poll;
use super::url::BusAddress;
use crate::backoff::Backoff;
use crate::block::records::Severity;
use crate::reading::{NoData, Sample};
use crate::sources::{Intake, Message, SourceContext};
use crate::status::{HasHealth as _, State};
use std::time::Duration;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::{Instant, sleep, sleep_until};

/// First wait before the connection is opened again.
const REOPEN_FIRST: Duration = Duration::from_millis(500);
/// Longest wait before the connection is opened again.
const REOPEN_MAX: Duration = Duration::from_secs(5);
/// Failed openings in a row after which a person is told: a device that restarts is back before.
const REOPEN_FAILURES_TOLD: u32 = 3;
/// The trouble's part of the connection as a whole.
const CONNECTION: &str = "connection";
/// How long the poll under way may take when the source is to stop; less than the gateway allows its sources.
const LAST_POLL_LIMIT: Duration = Duration::from_secs(2);

/// Polls until the source is told to stop. The poll under way is finished then: what a device has answered is not thrown away,
/// since it cannot be asked for again.
pub(super) async fn poll_until_stopped(options: &ModbusOptions, context: &SourceContext) {
    let address = match BusAddress::parse(&options.url) {
        Ok(address) => address,
        Err(error) => return context.fail(State::Paused, &format!("url: {error}")),
    };
    let mut polls = Vec::new();
    for unit in &options.unit {
        match Poll::new(unit, &context.registry, &options.name) {
            Ok(poll) => polls.push(poll),
            Err(error) => context.fail(State::Degraded, &format!("unit {} is not polled: {error}", unit.id)),
        }
    }
    let mut poller = Poller { name: &options.name, context, bus: Bus::new(address, options), polls, was_open: false };
    let stop = &context.stop;
    while stop.run_until_cancelled(poller.open(&options.url)).await.is_some() {
        let polling = poller.poll_until_disconnected();
        let overdue = async {
            stop.cancelled().await;
            sleep(LAST_POLL_LIMIT).await;
        };
        let disconnected = tokio::select! {
            disconnected = polling => disconnected,
            () = overdue => None,
        };
        let Some(error) = disconnected else { return };
        stop.run_until_cancelled(poller.disconnected(&error)).await;
    }
}

struct Poller<'a> {
    name: &'a str,
    context: &'a SourceContext,
    bus: Bus,
    polls: Vec<Poll>,
    was_open: bool,
}

impl Poller<'_> {
    /// Returns once the bus is open.
    async fn open(&mut self, url: &str) {
        let mut backoff = Backoff::new(REOPEN_FIRST, REOPEN_MAX);
        while let Err(failure) = self.bus.connect().await {
            let Failure::NotConnected(error) = failure else { continue };
            if backoff.failures() == 0 && !self.was_open {
                self.disconnected(&error).await;
            } else {
                self.context.fail(State::Down, &error);
            }
            let wait = backoff.next_wait();
            if backoff.failures() >= REOPEN_FAILURES_TOLD {
                let what = format!("The Modbus bus at {url} cannot be reached: {error}");
                self.context.raise(CONNECTION, Severity::Error, what, "Check power, cable and address");
            }
            sleep(wait).await;
        }
        if self.was_open {
            self.context.status.reconnects.add(1);
        }
        self.was_open = true;
        self.context.clear(CONNECTION);
        self.set_state();
        let now = Instant::now();
        self.polls.iter_mut().for_each(|poll| poll.due = now);
    }

    /// Polls each unit when it is due; returns why the bus could not be reached any more, or none when it is to stop.
    async fn poll_until_disconnected(&mut self) -> Option<String> {
        let stop = &self.context.stop;
        loop {
            let due = self.polls.iter().enumerate().min_by_key(|(_, poll)| poll.due);
            let Some((index, due)) = due.map(|(index, poll)| (index, poll.due)) else {
                // Every unit was refused when the source started: there is nothing to do until it stops.
                stop.cancelled().await;
                return None;
            };
            stop.run_until_cancelled(sleep_until(due)).await?;
            if let Err(error) = self.poll(index).await {
                return Some(error);
            }
        }
    }

    /// One poll of one unit, if there is room for what it gives.
    async fn poll(&mut self, index: usize) -> Result<(), String> {
        let Some(poll) = self.polls.get_mut(index) else { return Ok(()) };
        let Ok(room) = self.context.intakes.try_reserve() else {
            let missed = 1 + poll.schedule(Instant::now());
            poll.miss(missed);
            self.context.status.missed.add(missed);
            return Ok(());
        };
        let mut intake = self.context.intake();
        let outcome = read_all(poll, &mut self.bus, self.context, &mut intake).await;
        let now = Instant::now();
        let late = poll.schedule(now);
        poll.miss(late);
        self.context.status.missed.add(late);
        intake.missed.extend(poll.tell_missed(self.name, now));
        if !intake.is_empty() {
            room.send(intake);
        }
        self.set_state();
        outcome
    }

    /// Says once for every point that there is no connection.
    async fn disconnected(&mut self, error: &str) {
        self.context.fail(State::Down, error);
        let mono_us = self.context.clock.mono_us();
        let absent = |poll: &Poll| -> Vec<Sample> {
            let blocks = poll.blocks.iter();
            blocks.flat_map(|block| poll.absent(block, NoData::NotConnected, mono_us)).collect()
        };
        let mut intake = self.context.intake();
        intake.push(Message::default(), self.polls.iter().flat_map(absent));
        if let Err(TrySendError::Full(intake)) = self.context.intakes.try_send(intake) {
            // Nothing is polled meanwhile, so waiting holds nobody up. A closed channel means that the gateway stops.
            drop(self.context.intakes.send(intake).await);
        }
    }

    fn set_state(&self) {
        let silent = self.polls.iter().any(Poll::is_silent);
        self.context.set_state(if silent { State::Degraded } else { State::Live });
    }
}

/// Reads every block of a unit into the intake; an error means that the bus cannot be reached.
async fn read_all(poll: &mut Poll, bus: &mut Bus, context: &SourceContext, intake: &mut Intake) -> Result<(), String> {
    let mut samples = Vec::new();
    let mut outcome = Ok(());
    let mut position = 0;
    while let Some(block) = poll.blocks.get(position).cloned() {
        let read = bus.read(poll.id, &block).await;
        let mono_us = context.clock.mono_us();
        let failure = match read {
            Ok(cells) => {
                note_answer(poll, context);
                samples.extend(poll.values(&block, &cells, mono_us));
                position += 1;
                continue;
            }
            Err(failure) => failure,
        };
        let (why, error) = match failure {
            Failure::Exception(code) => {
                note_answer(poll, context);
                if !poll.split(position, code) {
                    samples.extend(poll.absent(&block, NoData::Exception(code), mono_us));
                    position += 1;
                }
                continue;
            }
            Failure::Timeout => (NoData::Timeout, "no reply in time".to_owned()),
            Failure::Broken(error) => (NoData::NotConnected, error),
            Failure::NotConnected(error) => {
                // What was read stays; every point is said to be absent by `disconnected`.
                outcome = Err(error);
                break;
            }
        };
        // A unit that does not answer one request would keep the bus waiting for each of the others, too.
        let rest = poll.blocks.iter().skip(position);
        samples.extend(rest.flat_map(|block| poll.absent(block, why, mono_us)));
        note_failure(poll, context, &error);
        break;
    }
    if !samples.is_empty() {
        intake.push(Message::default(), samples);
    }
    outcome
}

fn note_answer(poll: &mut Poll, context: &SourceContext) {
    if poll.answered() {
        context.clear(&format!("unit-{}", poll.id));
    }
}

fn note_failure(poll: &mut Poll, context: &SourceContext, error: &str) {
    let fell_silent = poll.failed();
    // The state follows once the poll is over: another unit may be silent, too.
    context.fail(context.status.health().state, &format!("unit {}: {error}", poll.id));
    if fell_silent {
        let what = format!("Unit {} does not answer", poll.id);
        context.raise(&format!("unit-{}", poll.id), Severity::Warning, what, "Check its wiring and unit id");
    }
}
