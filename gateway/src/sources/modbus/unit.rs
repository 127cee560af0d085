//! What is known of one unit: its requests, when it is due, and how long it has been silent.

use super::plan::{self, Block};
use super::{Register, Unit, value};
use crate::backoff::Backoff;
use crate::block::records::{Missed, MissedReason};
use crate::reading::{MonoMicros, NO_HASH, NoData, Outcome, PointId, Sample};
use crate::site::{Registry, SiteError};
use std::time::Duration;
use tokio::time::Instant;

/// Unanswered polls in a row after which a unit counts as silent, is told about and backed off.
pub(super) const SILENT_POLLS: u32 = 3;
/// Longest wait between polls of a silent unit.
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// Shortest first step of the backoff, so that a fast unit that fell silent does not hold the bus.
const BACKOFF_FIRST_MIN: Duration = Duration::from_secs(1);
/// At most one record of missed polls per unit in this time: the count says the rest.
const MISSED_EVERY: Duration = Duration::from_secs(60);
/// Exceptions that a device may answer only because registers were merged: illegal data address, and illegal data
/// value for the count (Modbus Application Protocol V1.1b3, section 7).
const EXCEPTIONS_OF_MERGING: [u8; 2] = [2, 3];

/// One unit on the bus.
pub(super) struct Poll {
    pub(super) id: u8,
    every: Duration,
    registers: Vec<Register>,
    points: Vec<PointId>,
    pub(super) blocks: Vec<Block>,
    /// When it is polled next.
    pub(super) due: Instant,
    failures_in_a_row: u32,
    backoff: Backoff,
    missed: u64,
    missed_told: Option<Instant>,
}

impl Poll {
    pub(super) fn new(unit: &Unit, registry: &Registry, source: &str) -> Result<Self, SiteError> {
        let intern = |register: &Register| registry.intern(&unit.device, &register.point, &register.unit, source);
        let points = unit.registers.iter().map(intern).collect::<Result<_, _>>()?;
        let every = Duration::from_millis(unit.every_ms.max(1));
        Ok(Self {
            id: unit.id,
            every,
            registers: unit.registers.clone(),
            points,
            blocks: plan::merged(&unit.registers),
            due: Instant::now(),
            failures_in_a_row: 0,
            backoff: Backoff::new(every.max(BACKOFF_FIRST_MIN), BACKOFF_MAX.max(every)),
            missed: 0,
            missed_told: None,
        })
    }

    pub(super) fn is_silent(&self) -> bool {
        self.failures_in_a_row >= SILENT_POLLS
    }

    /// Notes an answer; true if it had been silent.
    pub(super) fn answered(&mut self) -> bool {
        let was_silent = self.is_silent();
        self.failures_in_a_row = 0;
        self.backoff.succeed();
        was_silent
    }

    /// Notes that a poll had no answer; true if it counts as silent from now on.
    pub(super) fn failed(&mut self) -> bool {
        self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        self.failures_in_a_row == SILENT_POLLS
    }

    /// Sets when it is polled next and returns how many polls were missed since it was due. A silent unit is polled
    /// less often instead, and misses nothing.
    pub(super) fn schedule(&mut self, now: Instant) -> u64 {
        if self.is_silent() {
            self.due = now + self.backoff.next_wait().max(self.every);
            return 0;
        }
        let late = now.saturating_duration_since(self.due);
        let periods = u32::try_from(late.as_nanos() / self.every.as_nanos().max(1)).unwrap_or(u32::MAX);
        self.due += self.every.saturating_mul(periods.saturating_add(1));
        u64::from(periods)
    }

    /// Counts polls that were not made.
    pub(super) fn miss(&mut self, polls: u64) {
        self.missed = self.missed.saturating_add(polls);
    }

    /// The record of missed polls, if there are any and none was told a short while ago.
    pub(super) fn tell_missed(&mut self, source: &str, now: Instant) -> Option<Missed> {
        let told_lately = self.missed_told.is_some_and(|told| now.saturating_duration_since(told) < MISSED_EVERY);
        if self.missed == 0 || told_lately {
            return None;
        }
        self.missed_told = Some(now);
        let count = std::mem::take(&mut self.missed);
        let position = format!("unit {}", self.id);
        Some(Missed { source: source.to_owned(), position, count, reason: MissedReason::PollMissed })
    }

    /// Whether an exception may be the fault of merging; then the block is read register by register from now on.
    pub(super) fn split(&mut self, position: usize, exception: u8) -> bool {
        let splits = |block: &&Block| block.registers.len() > 1 && EXCEPTIONS_OF_MERGING.contains(&exception);
        let Some(block) = self.blocks.get(position).filter(splits) else { return false };
        let singles = plan::single(&self.registers, block.registers.iter().copied());
        self.blocks.splice(position..=position, singles);
        true
    }

    /// The samples of a block that was read.
    pub(super) fn values(&self, block: &Block, cells: &[u16], mono_us: MonoMicros) -> Vec<Sample> {
        self.samples(block, mono_us, |register| {
            let first = usize::from(register.address.saturating_sub(block.address));
            let cells = cells.get(first..).unwrap_or_default();
            value::outcome(register, cells).unwrap_or(Err(NoData::NotAvailable))
        })
    }

    /// The samples of a block that was not read.
    pub(super) fn absent(&self, block: &Block, why: NoData, mono_us: MonoMicros) -> Vec<Sample> {
        self.samples(block, mono_us, |_| Err(why))
    }

    fn samples(&self, block: &Block, mono_us: MonoMicros, outcome: impl Fn(&Register) -> Outcome) -> Vec<Sample> {
        let sample = |position: &usize| {
            let (register, point) = (self.registers.get(*position)?, *self.points.get(*position)?);
            Some(Sample {
                point,
                outcome: outcome(register),
                observed_at_us: None,
                received_mono_us: mono_us,
                message_hash: NO_HASH,
            })
        };
        block.registers.iter().filter_map(sample).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::super::tests::{register, unit};
    use super::super::{Kind, Table};
    use super::*;

    fn poll(registers: Vec<Register>) -> Poll {
        Poll::new(&unit(4, 100, registers), &Registry::default(), "bus").unwrap()
    }

    #[test]
    fn polls_that_were_not_made_in_time_are_counted_and_told_once_a_minute() {
        let mut poll = poll(vec![register(Table::Holding, 0, Kind::U16)]);
        let start = poll.due;
        assert_eq!(poll.schedule(start + Duration::from_millis(20)), 0);
        assert_eq!(poll.due, start + Duration::from_millis(100));
        assert_eq!(poll.schedule(start + Duration::from_millis(450)), 3);
        assert_eq!(poll.due, start + Duration::from_millis(500));

        poll.miss(3);
        let missed = poll.tell_missed("bus", start).unwrap();
        assert_eq!((missed.count, missed.position.as_str()), (3, "unit 4"));
        poll.miss(2);
        assert_eq!(poll.tell_missed("bus", start + Duration::from_secs(59)), None);
        assert_eq!(poll.tell_missed("bus", start + Duration::from_secs(60)).unwrap().count, 2);
        assert_eq!(poll.tell_missed("bus", start + Duration::from_secs(600)), None);
    }

    #[test]
    fn a_silent_unit_is_polled_less_and_less_until_it_answers() {
        let mut poll = poll(vec![register(Table::Holding, 0, Kind::U16)]);
        let now = poll.due;
        assert_eq!([poll.failed(), poll.failed(), poll.failed(), poll.failed()], [false, false, true, false]);
        let waits: Vec<_> = (0..200).map(|_| (poll.schedule(now), poll.due - now)).collect();
        assert!(waits.iter().all(|(missed, wait)| *missed == 0 && *wait <= BACKOFF_MAX));
        assert!(waits.iter().any(|(_, wait)| *wait > Duration::from_secs(10)));
        assert!(poll.answered());
        assert!(!poll.answered());
        poll.due = now;
        poll.schedule(now);
        assert_eq!(poll.due - now, Duration::from_millis(100));
    }

    #[test]
    fn a_refused_merge_is_split_for_good_and_a_refused_register_is_not() {
        let registers = (0..3).map(|address| register(Table::Holding, address, Kind::U16)).collect();
        let mut poll = poll(registers);
        assert!(!poll.split(0, 6), "busy is not the fault of merging");
        assert!(poll.split(0, 2));
        assert_eq!(poll.blocks.len(), 3);
        assert!(!poll.split(0, 2));
    }
}
