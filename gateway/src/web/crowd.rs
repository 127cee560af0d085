//! How many connections each address may hold, so that one phone, or one attacker, does not keep everyone else out.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Most connections of one address: five browsers behind one router, each loading a page.
const ADDRESS_MAX: usize = 32;

/// Most connections from this machine itself, or of a proxy that is trusted: it brings everyone. The rest of the page's connections stays for others.
const LOOPBACK_MAX: usize = 112;

/// Who is here. It holds no more entries than there are connections.
#[derive(Debug, Default)]
pub(super) struct Crowd(Mutex<HashMap<IpAddr, usize>>);

/// A place in the crowd, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    crowd: Arc<Crowd>,
    address: IpAddr,
}

impl Crowd {
    /// A place for a connection from this address, unless it has too many.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr, is_proxy: bool) -> Option<Place> {
        let address = neighbourhood(address);
        let max = if address.is_loopback() || is_proxy { LOOPBACK_MAX } else { ADDRESS_MAX };
        let mut counts = self.lock();
        let count = counts.entry(address).or_default();
        if *count >= max {
            return None;
        }
        *count += 1;
        Some(Place { crowd: self.clone(), address })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.crowd.lock();
        if let Some(count) = counts.get_mut(&self.address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

/// What counts as one: a machine may take any address of its IPv6 network, which is 64 bits. Those of
/// the plant's own network are shared by its machines, and count one by one.
fn neighbourhood(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(six) if six.is_unicast_link_local() || six.is_unique_local() => six.into(),
        IpAddr::V6(six) if !six.is_loopback() => Ipv6Addr::from_bits(six.to_bits() >> 64 << 64).into(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn an_address_has_its_share_and_gets_it_back() {
        let crowd = Arc::new(Crowd::default());
        let phone: IpAddr = "10.0.0.7".parse().unwrap();
        let mut places: Vec<Place> = (0..ADDRESS_MAX).map(|_| crowd.enter(phone, false).unwrap()).collect();
        assert!(
            crowd.enter(phone, false).is_none() && crowd.enter("::ffff:10.0.0.7".parse().unwrap(), false).is_none()
        );
        assert!(crowd.enter("10.0.0.8".parse().unwrap(), false).is_some());
        places.pop();
        assert!(crowd.enter(phone, false).is_some());
        places.clear();
        assert!(crowd.lock().is_empty());
    }

    #[test]
    fn addresses_of_one_ipv6_network_share() {
        let crowd = Arc::new(Crowd::default());
        let held: Vec<Place> = (0..ADDRESS_MAX)
            .map(|host| crowd.enter(format!("2001:db8:0:1::{host:x}").parse().unwrap(), false).unwrap())
            .collect();
        assert!(crowd.enter("2001:db8:0:1::ffff".parse().unwrap(), false).is_none());
        assert!(crowd.enter("2001:db8:0:2::1".parse().unwrap(), false).is_some());
        // Machines of the plant's own network do not stand in for each other.
        let near: Vec<Place> =
            (0..ADDRESS_MAX).map(|_| crowd.enter("fe80::a".parse().unwrap(), false).unwrap()).collect();
        assert!(crowd.enter("fe80::a".parse().unwrap(), false).is_none());
        assert!(crowd.enter("fe80::b".parse().unwrap(), false).is_some());
        drop(near);
        assert_eq!(held.len(), ADDRESS_MAX);
    }
}
