//! What this machine is called and reached by, as the kernel says: for the names in its certificate.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Most addresses of a machine that go into its certificate; a board has a few.
const ADDRESSES_MAX: usize = 16;

/// The machine's own name, if it has one.
pub(super) fn host_name() -> Option<String> {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(name.trim().to_ascii_lowercase()).filter(|name| !name.is_empty() && name != "(none)")
}

/// Its addresses, loopback first.
pub(super) fn addresses() -> Vec<IpAddr> {
    let four = fs::read_to_string("/proc/net/fib_trie").unwrap_or_default();
    let six = fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    let mut found = vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let others: BTreeSet<IpAddr> = v4_of(&four).map(IpAddr::V4).chain(v6_of(&six).map(IpAddr::V6)).collect();
    found.extend(others.into_iter().filter(|address| !address.is_loopback()).take(ADDRESSES_MAX));
    found
}

/// In the table of routes, an address of the machine's own is a line `|-- 10.0.0.7` with `/32 host LOCAL` below it.
fn v4_of(table: &str) -> impl Iterator<Item = Ipv4Addr> {
    table
        .lines()
        .zip(table.lines().skip(1))
        .filter(|(_, below)| below.contains("/32 host LOCAL"))
        .filter_map(|(line, _)| line.trim().strip_prefix("|-- ").and_then(|address| address.trim().parse().ok()))
}

/// One line each: 32 hexadecimal digits first. A link-local address is of no use in a browser.
fn v6_of(table: &str) -> impl Iterator<Item = Ipv6Addr> {
    table.lines().filter_map(|line| {
        let digits = line.split_whitespace().next()?;
        let bits = (digits.len() == 32).then(|| u128::from_str_radix(digits, 16).ok()).flatten()?;
        Some(Ipv6Addr::from(bits)).filter(|address| !address.is_unicast_link_local())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_tables_give_the_machines_own_addresses() {
        let four = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     |-- 192.168.7.20\n        /32 host LOCAL\n     |-- 192.168.7.255\n        /32 link BROADCAST\n";
        assert_eq!(v4_of(four).collect::<Vec<_>>(), [Ipv4Addr::new(192, 168, 7, 20)]);
        let six = "fd000000000000000000000000000007 02 40 00 80     eth0\nfe800000000000000000000000000007 02 40 20 80     eth0\nnonsense\n";
        assert_eq!(v6_of(six).map(|address| address.to_string()).collect::<Vec<_>>(), ["fd00::7"]);
    }

    #[test]
    fn rubbish_in_the_tables_gives_nothing() {
        for text in ["", "\n\n", "|-- x\n/32 host LOCAL", "|-- 1.2.3.4"] {
            assert_eq!(v4_of(text).count() + v6_of(text).count(), 0, "{text}");
        }
        assert!(addresses().iter().filter(|address| address.is_loopback()).count() == 2);
    }
}
