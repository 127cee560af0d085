//! The board's own addresses: IPv4 from the kernel's table of routes, IPv6 from its table of interfaces.

use schemars::JsonSchema;
use serde::Serialize;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Most addresses that are told; a board with containers may have many.
const ADDRESSES_MAX: usize = 32;

/// An address of this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Address {
    /// The interface, as far as the kernel's tables tell: `eth0`.
    pub interface: Option<String>,
    /// The address.
    pub address: IpAddr,
    /// Whether it is of this link only (IPv6 `fe80::`, IPv4 169.254).
    pub link_local: bool,
}

/// A network of `/proc/net/route`.
struct Network {
    interface: String,
    base: u32,
    mask: u32,
}

/// The addresses that others can reach this machine at, those of loopback left out. `fib_trie`, `route` and `if_inet6` are the
/// kernel's tables in /proc/net.
pub(super) fn addresses(fib_trie: &str, route: &str, if_inet6: &str) -> Vec<Address> {
    let networks: Vec<Network> = route.lines().skip(1).filter_map(network).collect();
    let mut addresses = Vec::new();
    for ip in local_ipv4(fib_trie) {
        let bits = u32::from(ip);
        let of = networks.iter().filter(|network| bits & network.mask == network.base && network.mask != 0);
        let interface = of.max_by_key(|network| network.mask).map(|network| network.interface.clone());
        addresses.push(Address { interface, address: ip.into(), link_local: ip.is_link_local() });
    }
    addresses.extend(if_inet6.lines().filter_map(ipv6));
    addresses.truncate(ADDRESSES_MAX);
    addresses
}

/// `Iface Destination Gateway Flags RefCnt Use Metric Mask …`: numbers in the machine's byte order, as hexadecimal.
fn network(line: &str) -> Option<Network> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let number =
        |at: usize| u32::from_str_radix(fields.get(at)?, 16).ok().map(|raw| u32::from_be_bytes(raw.to_ne_bytes()));
    Some(Network { interface: (*fields.first()?).to_owned(), base: number(1)?, mask: number(7)? })
}

/// In the trie an address of this machine is a leaf `|-- 192.0.2.7` whose next line ends with `host LOCAL`.
fn local_ipv4(fib_trie: &str) -> Vec<Ipv4Addr> {
    let (mut leaf, mut found) = (None, Vec::new());
    for line in fib_trie.lines() {
        if let Some((_, address)) = line.split_once("|-- ") {
            leaf = address.trim().parse::<Ipv4Addr>().ok();
        } else if line.contains("/32 host LOCAL")
            && let Some(address) = leaf
            && !address.is_loopback()
            && !found.contains(&address)
            && found.len() < ADDRESSES_MAX
        {
            found.push(address);
        }
    }
    found
}

/// `fe80… 02 40 20 80 eth0`: address, index, prefix, scope, flags, interface.
fn ipv6(line: &str) -> Option<Address> {
    let mut fields = line.split_whitespace();
    let address = Ipv6Addr::from(u128::from_str_radix(fields.next()?, 16).ok()?);
    let interface = fields.nth(4)?.to_owned();
    let link_local = address.is_unicast_link_local();
    (!address.is_loopback()).then_some(Address { interface: Some(interface), address: address.into(), link_local })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    const TRIE: &str = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     +-- 127.0.0.0/8 2 0 2\n           |-- 127.0.0.1\n              /32 host LOCAL\n     +-- 192.0.2.0/24 2 0 2\n           |-- 192.0.2.0\n              /24 link UNICAST\n           |-- 192.0.2.7\n              /32 host LOCAL\n        |-- 192.0.2.255\n           /32 link BROADCAST\nLocal:\n           |-- 192.0.2.7\n              /32 host LOCAL\n";
    const INET6: &str = "fe8000000000000000fc00fffe000001 02 40 20 80     eth0\n00000000000000000000000000000001 01 80 10 80       lo\n";

    #[test]
    #[cfg(target_endian = "little")]
    fn the_boards_addresses_are_told_with_their_interfaces() {
        let route = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n\
                     eth0 00000000 010200C0 0003 0 0 0 00000000 0 0 0\neth0 000200C0 00000000 0001 0 0 0 00FFFFFF 0 0 0\n";
        let found = addresses(TRIE, route, INET6);
        let told: Vec<String> = found
            .iter()
            .map(|of| format!("{} {} {}", of.interface.as_deref().unwrap_or("?"), of.address, of.link_local))
            .collect();
        assert_eq!(told, ["eth0 192.0.2.7 false", "eth0 fe80::fc:ff:fe00:1 true"]);
    }

    proptest! {
        #[test]
        fn any_text_is_taken(text in "\\PC{0,100}|(\\|-- |/32 host LOCAL|[0-9a-f. \n]){0,80}") {
            prop_assert!(addresses(&text, &text, &text).len() <= ADDRESSES_MAX);
        }
    }
}
