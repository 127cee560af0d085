//! An address or a network of addresses, as an option names it.

use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// All addresses that begin with the same bits; one address, if these are all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// As of IPv6, where one of IPv4 is mapped into it.
    first: u128,
    bits: u32,
}

impl Network {
    /// Whether an address is one of it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let differs = self.first ^ wide(address);
        self.bits == 0 || differs >> (Ipv6Addr::BITS - self.bits) == 0
    }
}

fn wide(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(four) => four.to_ipv6_mapped().to_bits(),
        IpAddr::V6(six) => six.to_bits(),
    }
}

impl FromStr for Network {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (address, bits) = text.split_once('/').unwrap_or((text, ""));
        let address: IpAddr = address.parse().map_err(|_| ())?;
        let own = if address.is_ipv4() { 32 } else { 128 };
        let bits = if text.contains('/') { bits.parse().map_err(|_| ())? } else { own };
        if bits > own {
            return Err(());
        }
        Ok(Self { first: wide(address), bits: bits + Ipv6Addr::BITS - own })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn has(network: &str, address: &str) -> bool {
        network.parse::<Network>().unwrap().contains(address.parse().unwrap())
    }

    #[test]
    fn an_address_is_in_its_network_and_no_other() {
        assert!(
            has("10.0.0.0/8", "10.9.8.7") && has("10.0.0.0/8", "::ffff:10.1.1.1") && !has("10.0.0.0/8", "11.0.0.1")
        );
        assert!(has("127.0.0.1", "127.0.0.1") && !has("127.0.0.1", "127.0.0.2"));
        assert!(has("fd00::/8", "fd12::1") && !has("fd00::/8", "fe80::1") && !has("0.0.0.0/0", "::1"));
        assert!(has("::/0", "10.0.0.1"));
        for wrong in ["", "10.0.0.0/33", "10.0.0.0/", "10.0.0", "fd00::/129", "proxy", "10.0.0.0/-1", "/8"] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
    }
}
