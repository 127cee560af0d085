//! Slows down whoever guesses: by name and by address, with waits that double and end.
//!
//! A name is never locked for ever: its waits are short, and an address from which it signed in before only waits for its own
//! failures. Who is signed in is not asked here at all.

use super::book::folded;
use super::random::Hash as Hashed;
use crate::reading::MonoMicros;
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Failures without a wait: people mistype.
const FREE_FAILURES: u32 = 5;

/// Failures without a wait of all machines of an IPv6 network that they share: one of them may take any address there.
const NETWORK_FREE_FAILURES: u32 = 60;

/// The first wait; each further failure doubles it.
const WAIT_FIRST: Duration = Duration::from_secs(1);

/// Longest wait of an address.
const ADDRESS_WAIT_MAX: Duration = Duration::from_secs(300);

/// Longest wait of a name. An attacker at one address, who waits for 5 minutes himself, cannot keep a name closed with that.
const NAME_WAIT_MAX: Duration = Duration::from_secs(60);

/// Failures are forgotten after so long without another one.
const FORGET_AFTER: Duration = Duration::from_secs(3_600);

/// Names and addresses watched, each; the one with the fewest failures makes room.
const WATCHED_MAX: usize = 1_024;

/// Longest name that is told apart, in characters: longer ones are nobody's.
const NAME_CHARS_MAX: usize = 64;

/// Pairs of a name and an address it signed in from: four for each person who fits.
const KNOWN_MAX: usize = 256;

/// Refused attempts written to log and audit within [`REPORT_WINDOW`]; the others are counted, so that a guesser fills no disk.
const REPORTS_MAX: u32 = 20;
const REPORT_WINDOW: Duration = Duration::from_secs(600);

/// Failures of one name or address.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    failures: u32,
    last_us: MonoMicros,
    until_us: MonoMicros,
}

impl Tally {
    fn wait(&self, now_us: MonoMicros) -> Duration {
        Duration::from_micros(self.until_us.saturating_sub(now_us))
    }

    fn fail(&mut self, now_us: MonoMicros, free: u32, max: Duration) {
        self.failures = self.failures.saturating_add(1);
        self.last_us = now_us;
        let doublings = self.failures.saturating_sub(free);
        if self.failures >= free {
            let wait = WAIT_FIRST.saturating_mul(2_u32.saturating_pow(doublings)).min(max);
            self.until_us = now_us.saturating_add(micros(wait));
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// An attempt under way: it counts as a failure until it is told to be none.
#[derive(Debug)]
pub(super) struct Attempt {
    name: Option<String>,
    counts_for_name: bool,
    address: IpAddr,
    /// A browser that signed in before: its failures are its own.
    device: Option<Hashed>,
}

/// What is watched.
#[derive(Debug, Default)]
pub(super) struct Throttle(Mutex<Watched>);

#[derive(Debug, Default)]
struct Watched {
    names: HashMap<String, Tally>,
    addresses: HashMap<IpAddr, Tally>,
    networks: HashMap<IpAddr, Tally>,
    devices: HashMap<Hashed, Tally>,
    known: VecDeque<(String, IpAddr)>,
    report_since_us: MonoMicros,
    reports: u32,
    unreported: u64,
}

impl Throttle {
    /// Lets an attempt begin, or says how long to wait. It counts as a failure at once, so that many at the same moment are
    /// no way around; a refused one does not count.
    pub(super) fn begin(&self, name: Option<&str>, from: IpAddr, now_us: MonoMicros) -> Result<Attempt, Duration> {
        self.begin_with(name, from, None, now_us)
    }

    /// The same for a browser that may be known: what others guess, at whatever address, does not keep it waiting.
    pub(super) fn begin_with(
        &self,
        name: Option<&str>,
        from: IpAddr,
        device: Option<Hashed>,
        now_us: MonoMicros,
    ) -> Result<Attempt, Duration> {
        let address = network(from);
        let name = name.map(|name| folded(&name.chars().take(NAME_CHARS_MAX).collect::<String>()));
        let mut watched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let watched = &mut *watched;
        forget(&mut watched.names, now_us);
        forget(&mut watched.addresses, now_us);
        forget(&mut watched.networks, now_us);
        forget(&mut watched.devices, now_us);
        if let Some(device) = device {
            let tally = tally(&mut watched.devices, device);
            let wait = tally.wait(now_us);
            if !wait.is_zero() {
                return Err(wait);
            }
            tally.fail(now_us, FREE_FAILURES, ADDRESS_WAIT_MAX);
            return Ok(Attempt { name, counts_for_name: false, address, device: Some(device) });
        }
        let counts_for_name =
            name.as_ref().is_some_and(|name| !watched.known.iter().any(|known| known.0 == *name && known.1 == address));
        let mut wait = watched.addresses.get(&address).map_or(Duration::ZERO, |tally| tally.wait(now_us));
        if counts_for_name && let Some(tally) = name.as_ref().and_then(|name| watched.names.get(name)) {
            wait = wait.max(tally.wait(now_us));
        }
        let around = shared_network(from);
        if counts_for_name || name.is_none() {
            let tally = around.and_then(|around| watched.networks.get(&around));
            wait = wait.max(tally.map_or(Duration::ZERO, |tally| tally.wait(now_us)));
        }
        if !wait.is_zero() {
            return Err(wait);
        }
        tally(&mut watched.addresses, address).fail(now_us, FREE_FAILURES, ADDRESS_WAIT_MAX);
        if let Some(around) = around {
            tally(&mut watched.networks, around).fail(now_us, NETWORK_FREE_FAILURES, NAME_WAIT_MAX);
        }
        if counts_for_name && let Some(name) = &name {
            tally(&mut watched.names, name.clone()).fail(now_us, FREE_FAILURES, NAME_WAIT_MAX);
        }
        Ok(Attempt { name, counts_for_name, address, device: None })
    }

    /// The attempt was right: the name is free of its failures, the address of this one.
    pub(super) fn succeeded(&self, attempt: Attempt) {
        let mut watched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(device) = attempt.device {
            watched.devices.remove(&device);
            return;
        }
        take_back(&mut watched.addresses, &attempt.address);
        if let Some(around) = shared_network(attempt.address) {
            take_back(&mut watched.networks, &around);
        }
        let Some(name) = attempt.name else { return };
        watched.names.remove(&name);
        let pair = (name, attempt.address);
        watched.known.retain(|known| *known != pair);
        if watched.known.len() >= KNOWN_MAX {
            watched.known.pop_front();
        }
        watched.known.push_back(pair);
    }

    /// The attempt was not decided: it does not count.
    pub(super) fn undecided(&self, attempt: &Attempt) {
        let mut watched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(device) = &attempt.device {
            return take_back(&mut watched.devices, device);
        }
        take_back(&mut watched.addresses, &attempt.address);
        if let Some(around) = shared_network(attempt.address) {
            take_back(&mut watched.networks, &around);
        }
        if attempt.counts_for_name
            && let Some(name) = &attempt.name
        {
            take_back(&mut watched.names, name);
        }
    }

    /// Whether a refused attempt is to be written down, and how many were not since the last that was.
    pub(super) fn report(&self, now_us: MonoMicros) -> Option<u64> {
        let mut watched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if now_us.saturating_sub(watched.report_since_us) >= micros(REPORT_WINDOW) {
            watched.report_since_us = now_us;
            watched.reports = 0;
        }
        if watched.reports >= REPORTS_MAX {
            watched.unreported = watched.unreported.saturating_add(1);
            return None;
        }
        watched.reports += 1;
        Some(std::mem::take(&mut watched.unreported))
    }
}

/// One subscriber's network: a whole /64 belongs to whoever has one address of it. Not so on the plant's own network, which
/// all machines share: each address counts for itself there, so that a guesser does not make the one beside him wait.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) if v6.is_unicast_link_local() || v6.is_unique_local() => IpAddr::V6(v6),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// The network of 64 bits around a local address, whose machines count one by one and, with more patience, together.
fn shared_network(address: IpAddr) -> Option<IpAddr> {
    match address.to_canonical() {
        IpAddr::V6(v6) if v6.is_unicast_link_local() || v6.is_unique_local() => {
            Some(IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)))
        }
        _ => None,
    }
}

fn forget<K: Eq + Hash>(tallies: &mut HashMap<K, Tally>, now_us: MonoMicros) {
    tallies.retain(|_, tally| now_us.saturating_sub(tally.last_us) < micros(FORGET_AFTER));
}

fn tally<K: Eq + Hash + Clone>(tallies: &mut HashMap<K, Tally>, key: K) -> &mut Tally {
    if tallies.len() >= WATCHED_MAX && !tallies.contains_key(&key) {
        // The harmless go first: spraying names does not free the one that is really guessed at.
        let least = tallies.iter().min_by_key(|(_, tally)| (tally.failures, tally.last_us)).map(|(key, _)| key.clone());
        if let Some(least) = least {
            tallies.remove(&least);
        }
    }
    tallies.entry(key).or_default()
}

fn take_back<K: Eq + Hash>(tallies: &mut HashMap<K, Tally>, key: &K) {
    if let Some(tally) = tallies.get_mut(key) {
        tally.failures = tally.failures.saturating_sub(1);
        tally.until_us = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_US: u64 = 1_000_000;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// Fails as often as it is let, waiting as told; returns the waits.
    fn waits(throttle: &Throttle, name: &str, from: IpAddr, tries: usize) -> Vec<u64> {
        let (mut now_us, mut waits) = (0, Vec::new());
        while waits.len() < tries {
            match throttle.begin(Some(name), from, now_us) {
                Ok(_) => {}
                Err(wait) => {
                    waits.push(wait.as_secs());
                    now_us += micros(wait);
                }
            }
        }
        waits
    }

    #[test]
    fn after_five_failures_the_wait_doubles_up_to_five_minutes() {
        let seen = waits(&Throttle::default(), "Eva", ip("10.0.0.1"), 11);
        assert_eq!(seen, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
    }

    #[test]
    fn a_guesser_with_many_addresses_waits_for_the_name_but_never_longer_than_a_minute() {
        let throttle = Throttle::default();
        let mut now_us = 0;
        for host in 0..200_u32 {
            let from = IpAddr::V4((0x0a00_0000 + host).into());
            if let Err(wait) = throttle.begin(Some("Eva"), from, now_us) {
                assert!(wait <= NAME_WAIT_MAX, "{wait:?}");
                now_us += micros(wait);
            }
        }
        let wait = throttle.begin(Some("eva "), ip("10.9.9.9"), now_us).map(|_| ()).err();
        assert!(wait.is_none_or(|wait| wait <= NAME_WAIT_MAX));
        assert!(now_us > 50 * 60 * SECOND_US, "100 guesses took {now_us} µs");
    }

    #[test]
    fn whoever_signed_in_from_an_address_before_is_not_kept_out_by_strangers() {
        let throttle = Throttle::default();
        let home = ip("10.0.0.7");
        let attempt = throttle.begin(Some("Eva"), home, 0).unwrap();
        throttle.succeeded(attempt);
        for host in 0..50_u32 {
            throttle.begin(Some("Eva"), IpAddr::V4((0x0b00_0000 + host).into()), 1).ok();
        }
        assert!(throttle.begin(Some("Eva"), ip("10.0.0.8"), 1).is_err());
        assert!(throttle.begin(Some("EVA"), home, 1).is_ok());
    }

    #[test]
    fn a_whole_ipv6_subnet_counts_as_one_address_and_a_mapped_one_as_ipv4() {
        let throttle = Throttle::default();
        for host in 0..u32::from(u8::MAX) {
            throttle.begin(None, ip(&format!("2001:db8::{host:x}")), 0).ok();
        }
        assert!(throttle.begin(None, ip("2001:db8::ffff:1"), 0).is_err());
        assert!(throttle.begin(None, ip("2001:db8:0:1::1"), 0).is_ok());
        assert_eq!(network(ip("::ffff:10.0.0.1")), ip("10.0.0.1"));
        assert_ne!(network(ip("fe80::a")), network(ip("fe80::b")), "neighbours on one network");
        assert_ne!(network(ip("fd00::a")), network(ip("fd00::b")), "neighbours on one network");
    }

    #[test]
    fn one_machine_with_many_addresses_of_the_plants_network_waits_and_a_known_browser_does_not() {
        let throttle = Throttle::default();
        let begun = (0..1_000_u32)
            .filter(|host| throttle.begin(Some(&format!("name {host}")), ip(&format!("fe80::{host:x}")), 0).is_ok())
            .count();
        assert_eq!(begun, 60);
        assert!(throttle.begin(Some("Eva"), ip("fe80::ffff"), 0).is_err());
        assert!(throttle.begin(Some("Eva"), ip("10.0.0.1"), 0).is_ok());
        let device = Some([7; 32]);
        for _ in 0..4 {
            throttle.begin_with(Some("Eva"), ip("fe80::ffff"), device, 0).unwrap();
        }
        let right = throttle.begin_with(Some("Eva"), ip("fe80::ffff"), device, 0).unwrap();
        assert!(throttle.begin_with(Some("Eva"), ip("fe80::ffff"), device, 0).is_err(), "its own failures count");
        throttle.succeeded(right);
        assert!(throttle.begin_with(Some("Eva"), ip("fe80::ffff"), device, 0).is_ok());
        assert!(throttle.begin(Some("Eva"), ip("fe80::ffff"), 0).is_err(), "no other is let in for it");
    }

    #[test]
    fn many_attempts_at_the_same_moment_are_no_way_around() {
        let throttle = Throttle::default();
        let begun = (0..100).filter(|_| throttle.begin(Some("Eva"), ip("10.0.0.1"), 0).is_ok()).count();
        assert_eq!(begun, 5);
    }

    #[test]
    fn failures_are_forgotten_after_an_hour_and_after_a_success() {
        let throttle = Throttle::default();
        let from = ip("10.0.0.1");
        waits(&throttle, "Eva", from, 3);
        assert!(throttle.begin(Some("Eva"), from, 2 * micros(FORGET_AFTER)).is_ok());
        let throttle = Throttle::default();
        for _ in 0..4 {
            throttle.begin(Some("Eva"), from, 0).unwrap();
        }
        let right = throttle.begin(Some("Eva"), from, 0).unwrap();
        throttle.succeeded(right);
        assert!(throttle.begin(Some("Eva"), from, 0).is_ok());
    }

    #[test]
    fn memory_stays_bounded_and_the_name_that_is_guessed_at_stays_watched() {
        let throttle = Throttle::default();
        waits(&throttle, "Eva", ip("10.0.0.1"), 2);
        for host in 0..3_000_u32 {
            throttle.begin(Some(&format!("name {host}")), IpAddr::V4((0x0c00_0000 + host).into()), 10).ok();
        }
        let watched = throttle.0.lock().unwrap();
        assert_eq!((watched.names.len(), watched.addresses.len()), (WATCHED_MAX, WATCHED_MAX));
        assert!(watched.names.contains_key("eva"));
    }

    #[test]
    fn a_flood_of_refusals_is_counted_and_not_written_one_by_one() {
        let throttle = Throttle::default();
        let written = (0..1_000).filter(|_| throttle.report(0).is_some()).count();
        assert_eq!(written, 20);
        assert_eq!(throttle.report(micros(REPORT_WINDOW)), Some(980));
    }
}
