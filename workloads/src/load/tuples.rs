// SPDX-License-Identifier: Apache-2.0
//! Source tuples: each address and port is handed out once in the agent's life.
//!
//! A tuple that comes back while a kernel on the way remembers it (TIME_WAIT, conntrack) measures
//! that memory instead of the datapath (`docs/method.md`, tuples).

use std::net::{IpAddr, SocketAddr};

use crate::protocol::Sources;

/// The tuples of [`Sources`], in an order in which neighbours differ in address and in port.
#[derive(Debug)]
pub(super) struct Tuples {
    addresses: Vec<IpAddr>,
    port_first: u16,
    ports: u64,
    spent: u64,
}

impl Tuples {
    /// All of them. `sources` has at least one address and one port.
    pub(super) fn new(sources: &Sources) -> Self {
        let mut addresses = sources.addresses.clone();
        // An address that is listed twice must not hand out its tuples twice.
        addresses.sort_unstable();
        addresses.dedup();
        Self {
            addresses,
            port_first: sources.port_first,
            ports: u64::from(sources.port_last - sources.port_first) + 1,
            spent: 0,
        }
    }

    /// Tuples handed out so far.
    pub(super) fn spent(&self) -> u64 {
        self.spent
    }

    /// Tuples that remain.
    pub(super) fn left(&self) -> u64 {
        self.addresses.len() as u64 * self.ports - self.spent
    }
}

impl Iterator for Tuples {
    type Item = SocketAddr;

    fn next(&mut self) -> Option<SocketAddr> {
        if self.left() == 0 {
            return None;
        }
        let count = self.addresses.len() as u64;
        let (round, column) = (self.spent / count, self.spent % count);
        self.spent += 1;
        // Each address walks all ports once, starting one further than its neighbour.
        let port = self.port_first + ((round + column) % self.ports) as u16;
        Some(SocketAddr::new(self.addresses[column as usize], port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn sources(addresses: u8, port_first: u16, ports: u16) -> Sources {
        Sources {
            addresses: (1..=addresses).map(|i| IpAddr::from([127, 0, 0, i])).collect(),
            port_first,
            port_last: port_first + (ports - 1),
        }
    }

    proptest! {
        #[test]
        fn each_tuple_comes_once_and_all_of_them_come(
            addresses in 1u8..20, first in 1u16..60_000, ports in 1u16..50,
        ) {
            let mut tuples = Tuples::new(&sources(addresses, first, ports));
            let all: Vec<_> = tuples.by_ref().collect();
            let distinct: HashSet<_> = all.iter().collect();
            prop_assert_eq!(all.len(), usize::from(addresses) * usize::from(ports));
            prop_assert_eq!(distinct.len(), all.len());
            prop_assert_eq!((tuples.left(), tuples.spent()), (0, all.len() as u64));
        }
    }

    #[test]
    fn neighbours_differ_in_address_and_in_port() {
        let all: Vec<_> = Tuples::new(&sources(4, 1000, 6)).collect();
        for pair in all.windows(2).filter(|pair| pair[0].ip() < pair[1].ip()) {
            assert_ne!(pair[0].port(), pair[1].port());
        }
        assert!(all.windows(2).all(|pair| pair[0].ip() != pair[1].ip()));
    }

    #[test]
    fn the_last_port_is_not_overrun() {
        let all: Vec<_> = Tuples::new(&sources(2, 65_534, 2)).map(|tuple| tuple.port()).collect();
        assert_eq!(all, [65_534, 65_535, 65_535, 65_534]);
    }

    #[test]
    fn an_address_listed_twice_counts_once() {
        let mut twice = sources(1, 1000, 2);
        twice.addresses.push(twice.addresses[0]);
        assert_eq!(Tuples::new(&twice).left(), 2);
    }
}
