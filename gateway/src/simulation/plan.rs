//! What a seed makes of a simulation: how the plant is built, and what goes wrong in it.

use crate::buffer::WhenFull;
use crate::sinks::pace::Order;
use fastrand::Rng;
use std::time::Duration;

const SECOND_US: u64 = 1_000_000;

/// How a sink's other end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Remembers keys, as an HTTP endpoint that honours `Idempotency-Key`.
    Http,
    /// Transactions, fencing and a topic of cursors, as Kafka.
    Kafka,
}

/// A sink and what is wrong with it.
#[derive(Clone, Debug)]
pub(super) struct SinkPlan {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) run_bytes_max: u64,
    pub(super) linger: Duration,
    pub(super) order: Order,
    /// It refuses some records until the calm.
    pub(super) is_picky: bool,
    /// Requests may be late, also later than their sender waits, and arrive twice. Never together with refusals that end: a
    /// late request could then bring what was refused under another key in between.
    pub(super) is_unruly: bool,
    /// It cannot be reached before this moment.
    pub(super) dead_until_us: u64,
    /// Mean times between changes of its link.
    pub(super) up_mean_us: u64,
    pub(super) down_mean_us: u64,
}

/// The whole plan.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// From here on nothing goes wrong any more, and nothing new is published.
    pub(super) calm_at_us: u64,
    pub(super) messages: usize,
    pub(super) devices: usize,
    pub(super) window: usize,
    /// Share of published messages that nobody can read.
    pub(super) garbage: f64,
    pub(super) poll_every_us: Option<u64>,
    pub(super) commit_interval: Duration,
    pub(super) sinks: Vec<SinkPlan>,
    pub(super) bytes_max: u64,
    pub(super) keep_delivered_us: i64,
    pub(super) when_full: WhenFull,
    /// Mean length of a life, in simulated time.
    pub(super) life_mean_us: u64,
    /// Chances that a life ends at a poll or at a step of the disk, chosen beforehand.
    pub(super) crash_at_poll: f64,
    pub(super) crash_at_step: f64,
    /// Chance that a step of the disk fails, and that a trouble of the disk lasts.
    pub(super) step_fails: f64,
    pub(super) disk_trouble: f64,
    /// Chance that the buffer stalls before it is served.
    pub(super) stall: f64,
    /// Chance of a damaged block at the start of a life.
    pub(super) damage: f64,
    /// Chance of a stepped clock at the start of a life, or later.
    pub(super) clock_step: f64,
    /// Chance that a broker has forgotten the session.
    pub(super) session_lost: f64,
}

impl Plan {
    pub(super) fn draw(random: &mut Rng) -> Self {
        let calm_at_us = random.u64(10..200) * SECOND_US;
        let link = |random: &mut Rng| {
            // A third of the links is sound.
            let up_s = if random.u8(..3) == 0 { 100_000 } else { random.u64(2..40) };
            (up_s * SECOND_US, random.u64(1..15) * SECOND_US)
        };
        let mut sinks = Vec::new();
        for (name, kind) in [("cloud", Kind::Http), ("kafka", Kind::Kafka), ("third", Kind::Http)] {
            let (up_mean_us, down_mean_us) = link(random);
            let is_third = name == "third";
            let kind = if is_third && random.bool() { Kind::Kafka } else { kind };
            let is_picky = random.u8(..4) == 0 || (is_third && random.bool());
            let dead = is_third && random.u8(..3) == 0;
            sinks.push(SinkPlan {
                name,
                kind,
                run_bytes_max: [2_000, 8_000, 64_000][random.usize(..3)],
                linger: Duration::from_millis(random.u64(0..1_500)),
                order: if random.u8(..3) == 0 { Order::LiveFirst } else { Order::default() },
                is_picky,
                is_unruly: !is_picky && random.bool(),
                dead_until_us: if dead { calm_at_us } else { 0 },
                up_mean_us,
                down_mean_us,
            });
        }
        if random.u8(..4) == 0 {
            sinks.pop();
        }
        let some = |random: &mut Rng, chance: f64| if random.bool() { chance } else { 0.0 };
        Self {
            calm_at_us,
            messages: random.usize(30..300),
            devices: random.usize(1..5),
            window: [1, 5, 20, 60][random.usize(..4)],
            garbage: some(random, 0.1),
            poll_every_us: random.bool().then(|| random.u64(200_000..3_000_000)),
            commit_interval: Duration::from_millis([20, 200, 1_000][random.usize(..3)]),
            sinks,
            bytes_max: if random.u8(..3) == 0 { random.u64(20_000..60_000) } else { u64::MAX },
            keep_delivered_us: random.i64(5_000_000..120_000_000),
            when_full: if random.u8(..4) == 0 { WhenFull::Block } else { WhenFull::DropOldest },
            life_mean_us: random.u64(2..60) * SECOND_US,
            crash_at_poll: 0.3,
            crash_at_step: 0.3,
            step_fails: some(random, 0.02),
            disk_trouble: some(random, 0.004),
            stall: some(random, 0.01),
            damage: some(random, 0.2),
            clock_step: some(random, 0.3),
            session_lost: some(random, 0.1),
        }
    }
}
