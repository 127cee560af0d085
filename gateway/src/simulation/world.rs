//! The world around a simulated gateway: time, chance, what happened, and the other ends of every wire. It outlives crashes.

use super::broker::Broker;
use super::network::Network;
use super::plan::Plan;
use super::verdict::History;
use crate::buffer::BufferError;
use crate::buffer::memory_disk::{Faults, Operation, Verdict};
use fastrand::Rng;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Events that are told when a seed fails.
const EVENTS_TOLD: usize = 60;

/// The world, shared by all tasks of a life.
#[derive(Clone)]
pub(super) struct Shared(Arc<Mutex<World>>);

impl Shared {
    pub(super) fn new(world: World) -> Self {
        Self(Arc::new(Mutex::new(world)))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a life ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Killed: all tasks gone at once.
    Crash(&'static str),
    /// Stopped in order, or a start that failed.
    Stopped,
    /// Everything is delivered.
    Drained,
    /// Something happened that must not.
    Violated,
    /// It can go no further: a fault of the gateway.
    Stuck(String),
}

/// Everything beside the gateway.
pub(super) struct World {
    pub(super) random: Rng,
    started: Instant,
    pub(super) plan: Plan,
    pub(super) log: Log,
    pub(super) broker: Broker,
    pub(super) network: Network,
    pub(super) history: History,
    pub(super) faults: BTreeMap<&'static str, u64>,
    pub(super) violations: Vec<String>,
    /// Says how this life ends, once it is clear.
    pub(super) fate: Option<End>,
    /// The next value that is measured: each is measured once.
    next_value: u64,
}

impl World {
    pub(super) fn new(plan: Plan, mut random: Rng) -> Self {
        let broker = Broker::new(&plan, &mut random);
        let network = Network::new(&plan);
        let next_value = plan.messages as u64;
        Self {
            random,
            started: Instant::now(),
            plan,
            log: Log::default(),
            broker,
            network,
            history: History::default(),
            faults: BTreeMap::new(),
            violations: Vec::new(),
            fate: None,
            next_value,
        }
    }

    /// Simulated time since the beginning, in microseconds.
    pub(super) fn now_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// The moment of a simulated time.
    pub(super) fn instant(&self, at_us: u64) -> Instant {
        self.started + std::time::Duration::from_micros(at_us)
    }

    /// Whether nothing goes wrong any more.
    pub(super) fn is_calm(&self) -> bool {
        self.now_us() >= self.plan.calm_at_us
    }

    /// Whether something happens that has this chance; never in the calm.
    pub(super) fn strikes(&mut self, chance: f64) -> bool {
        chance > 0.0 && !self.is_calm() && self.random.f64() < chance
    }

    /// A value that was never measured before.
    pub(super) fn measure(&mut self) -> u64 {
        self.next_value += 1;
        self.next_value
    }

    /// Notes an event.
    pub(super) fn note(&mut self, event: std::fmt::Arguments<'_>) {
        let now_us = self.now_us();
        self.log.note(now_us, event);
    }

    /// Counts and notes a fault.
    pub(super) fn fault(&mut self, kind: &'static str) {
        *self.faults.entry(kind).or_default() += 1;
        self.note(format_args!("FAULT {kind}"));
    }

    /// Notes what must never be.
    pub(super) fn violation(&mut self, what: String) {
        self.note(format_args!("VIOLATION {what}"));
        self.violations.push(what);
    }

    /// Time that is drawn evenly below twice its mean, in microseconds.
    pub(super) fn about_us(&mut self, mean_us: u64) -> u64 {
        self.random.u64(1..=mean_us.saturating_mul(2).max(1))
    }
}

/// What happened: the last events, and a hash of all.
#[derive(Default)]
pub(super) struct Log {
    pub(super) hash: u64,
    last: VecDeque<String>,
}

impl Log {
    fn note(&mut self, now_us: u64, event: std::fmt::Arguments<'_>) {
        use std::fmt::Write as _;
        let mut line = if self.last.len() >= EVENTS_TOLD { self.last.pop_front() } else { None }.unwrap_or_default();
        line.clear();
        write!(line, "{:>11.6} {event}", now_us as f64 / 1e6).unwrap_or_default();
        self.hash = xxh3_64_with_seed(line.as_bytes(), self.hash);
        self.last.push_back(line);
    }

    pub(super) fn told(&self) -> String {
        self.last.iter().fold(String::new(), |told, line| told + line + "\n")
    }
}

/// What befalls the disk: single failures, lasting troubles, and the power that goes at a chosen step.
pub(super) struct DiskWeather {
    random: Rng,
    pub(super) crash_in_steps: Option<u64>,
    pub(super) step_fails: f64,
    pub(super) trouble: f64,
    /// A trouble that lasts for some more steps that are tried.
    lasting: Option<(BufferError, u32)>,
    pub(super) faults: BTreeMap<&'static str, u64>,
}

impl DiskWeather {
    pub(super) fn new(random: Rng) -> Arc<Mutex<Self>> {
        let (faults, lasting) = (BTreeMap::new(), None);
        Arc::new(Mutex::new(Self { random, crash_in_steps: None, step_fails: 0.0, trouble: 0.0, lasting, faults }))
    }

    /// Nothing befalls it from now on.
    pub(super) fn calm(&mut self) {
        (self.crash_in_steps, self.step_fails, self.trouble, self.lasting) = (None, 0.0, 0.0, None);
    }

    fn step(&mut self, operation: Operation) -> Verdict {
        if let Some(steps) = &mut self.crash_in_steps {
            *steps = steps.saturating_sub(1);
            if *steps == 0 {
                self.crash_in_steps = None;
                return Verdict::Crash;
            }
        }
        if let Some((error, tries)) = &mut self.lasting {
            *tries -= 1;
            let error = error.clone();
            if *tries == 0 {
                self.lasting = None;
            }
            return Verdict::Fail(error);
        }
        let is_write = matches!(operation, Operation::LedgerWrite | Operation::ChunkWrite);
        if is_write && self.random.f64() < self.trouble {
            let (kind, error) = match self.random.u8(..2) {
                0 => ("disk full", BufferError::DiskFull("simulated".to_owned())),
                _ => ("disk read-only", BufferError::ReadOnly("simulated".to_owned())),
            };
            *self.faults.entry(kind).or_default() += 1;
            self.lasting = Some((error.clone(), self.random.u32(1..12)));
            return Verdict::Fail(error);
        }
        if !is_write && self.random.f64() < self.step_fails {
            *self.faults.entry("synchronisation failed").or_default() += 1;
            return Verdict::Fail(BufferError::Disk("simulated".to_owned()));
        }
        Verdict::Go
    }
}

/// The faults of a disk, as its weather says.
pub(super) fn faults_of(weather: &Arc<Mutex<DiskWeather>>) -> Faults {
    let weather = weather.clone();
    Box::new(move |operation| weather.lock().unwrap_or_else(PoisonError::into_inner).step(operation))
}
