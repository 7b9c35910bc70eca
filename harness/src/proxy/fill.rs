// SPDX-License-Identifier: Apache-2.0
//! The table of a run: the measured Services among as many others as the case asks for.
//!
//! The others have what most Services of real clusters have: one TCP port, some endpoints, a cluster
//! address and nothing else. None of them has a NodePort or a LoadBalancer address, because the
//! thing under test is the number of Services, and a NodePort is a second rule in another chain:
//! a case that wants those gives them to the measured Services.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use super::{Affinity, Endpoint, Policy, Protocol, Service, ServicePort, ServiceTable};
use crate::net::Cidr;
use crate::net::addresses::{PODS, SERVICES, family};
use crate::plan::{IpFamily, Position};

/// Where the fillers' endpoints are: the upper half of the cluster CIDR, where no node's pods are, so that
/// they never answer.
fn endpoints_range(family: IpFamily) -> Cidr {
    let pods = PODS.of(family);
    pods.part(pods.prefix + 1, 1)
}

/// Endpoint addresses: a 17-bit prefix without its first and last address.
const ENDPOINT_ADDRESSES: u64 = (1 << 15) - 2;
/// First port of the fillers' endpoints; the next one is used once all addresses have been.
const FIRST_PORT: u16 = 8080;
/// Node the fillers' endpoints are on; no lab has a node of that name.
const ELSEWHERE: &str = "elsewhere";

/// More Services were asked for than there are addresses.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "failed to fill the table: {asked} Services asked for, at most {limit} fit in their addresses"
)]
pub struct FillError {
    /// Services asked for.
    pub asked: u64,
    /// Services that fit.
    pub limit: u64,
}

/// How a table is filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill {
    /// Services in the table, the measured ones included. If there are more measured ones than
    /// this, they are all there is.
    pub services: u32,
    /// Endpoints of every filler.
    pub endpoints: u32,
    /// Where the measured ones stand.
    pub position: Position,
    /// Chooses the fillers' addresses: same seed, same table, on any machine.
    pub seed: u64,
}

impl Fill {
    /// The table with `measured` in it, in their order and next to each other, all of IPv4.
    ///
    /// # Errors
    /// [`FillError`] if there are not enough addresses.
    pub fn table(&self, measured: Vec<Service>) -> Result<ServiceTable, FillError> {
        self.table_within(SERVICES.of(IpFamily::Ipv4), measured)
    }

    /// The same with cluster addresses from a part of their range, for API
    /// servers: up to Kubernetes 1.32 each Service they make rewrites a bitmap of the whole range
    /// (KEP-1880), which for all of it are 128 KiB.
    ///
    /// # Errors
    /// As [`Fill::table`].
    pub fn table_within(
        &self,
        range: Cidr,
        measured: Vec<Service>,
    ) -> Result<ServiceTable, FillError> {
        let addresses = range.size();
        // Half of the addresses, so that a free one is always a few steps away.
        let limit = addresses / 2;
        if u64::from(self.services) > limit {
            return Err(FillError { asked: self.services.into(), limit });
        }
        let fillers = (self.services as usize).saturating_sub(measured.len());
        let before = match self.position {
            Position::First => 0,
            Position::Middle => fillers / 2,
            Position::Last => fillers,
        };
        let mut made = self.fillers(fillers, range, &measured);
        let mut services: Vec<Service> = made.by_ref().take(before).collect();
        services.reserve(measured.len() + fillers - before);
        services.extend(measured);
        services.extend(made);
        Ok(ServiceTable { services })
    }

    fn fillers(
        &self,
        count: usize,
        range: Cidr,
        measured: &[Service],
    ) -> impl Iterator<Item = Service> + use<> {
        let (addresses, walk) = (Walk::new(self.seed), Walk::new(!self.seed));
        let (endpoints, space) = (u64::from(self.endpoints), range.size());
        // The API server's Service and cluster DNS have these in every cluster; nothing has the
        // range's first and last address.
        let reserved = [0, 1, 10, space - 1].map(|n| range.nth(n.into()));
        let taken: HashSet<IpAddr> =
            reserved.into_iter().chain(measured.iter().map(|service| service.cluster_ip)).collect();
        (0..space)
            .map(move |step| range.nth(addresses.at(step, space).into()))
            .filter(move |address| !taken.contains(address))
            .take(count)
            .enumerate()
            .map(move |(index, address)| filler(index, address, endpoints, walk))
    }
}

fn filler(index: usize, cluster_ip: IpAddr, endpoints: u64, walk: Walk) -> Service {
    let range = endpoints_range(family(cluster_ip));
    let endpoints = (0..endpoints)
        .map(|nth| {
            let step = index as u64 * endpoints + nth;
            let offset = walk.at(step % ENDPOINT_ADDRESSES, ENDPOINT_ADDRESSES);
            let offset = u32::try_from(offset).expect("below 2^15");
            let round = u16::try_from(step / ENDPOINT_ADDRESSES).expect("at most 16,003 rounds");
            Endpoint {
                address: SocketAddr::new(range.nth(u128::from(1 + offset)), FIRST_PORT + round),
                node: ELSEWHERE.to_owned(),
            }
        })
        .collect();
    Service {
        namespace: "filler".to_owned(),
        name: format!("service-{index:05}"),
        cluster_ip,
        load_balancer_ips: Vec::new(),
        ports: vec![ServicePort {
            name: "http".to_owned(),
            protocol: Protocol::Tcp,
            port: 80,
            node_port: None,
            endpoints,
        }],
        affinity: Affinity::None,
        external_policy: Policy::Cluster,
        internal_policy: Policy::Cluster,
    }
}

/// A walk over `0..count` that visits every number once, in an order that looks random: step `i`
/// goes to `(PRIME * i + offset) mod count`, a permutation of every count the prime does not divide.
/// Addresses of real Services are spread like that over their range, not in a row.
#[derive(Clone, Copy, Debug)]
struct Walk {
    offset: u64,
}

impl Walk {
    /// Larger than every count here, so it divides none of them.
    const PRIME: u64 = 2_654_435_761;

    fn new(seed: u64) -> Self {
        Self { offset: mix(seed) >> 32 }
    }

    fn at(self, step: u64, count: u64) -> u64 {
        (Self::PRIME % count * step + self.offset) % count
    }
}

/// One output of SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators,
/// OOPSLA 2014). Written out because `rand` does not promise the same numbers across versions.
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::proxy::sample;

    fn position() -> impl Strategy<Value = Position> {
        prop::sample::select(Position::ALL)
    }

    proptest! {
        #[test]
        fn no_address_is_used_twice_and_the_measured_service_stands_where_asked(
            services in 1u32..3_000, position in position(), seed: u64,
        ) {
            let measured = sample::plain();
            let table = Fill { services, endpoints: 2, position, seed }.table(vec![measured.clone()]);
            let services = services as usize;
            let table = table.expect("fits").services;
            prop_assert_eq!(table.len(), services);
            let stands = match position {
                Position::First => 0,
                Position::Middle => (services - 1) / 2,
                Position::Last => services - 1,
            };
            prop_assert_eq!(&table[stands], &measured);
            let vips: HashSet<_> = table.iter().map(|service| service.cluster_ip).collect();
            prop_assert_eq!(vips.len(), services);
            let names: HashSet<_> = table.iter().map(|service| &service.name).collect();
            prop_assert_eq!(names.len(), services);
        }
    }

    #[test]
    fn a_large_table_has_every_endpoint_once_and_in_its_range() {
        let fill = Fill { services: 40_000, endpoints: 2, position: Position::Last, seed: 7 };
        let table = fill.table(Vec::new()).expect("fits");
        let mut seen = HashSet::new();
        for service in &table.services {
            let range = SERVICES.of(IpFamily::Ipv4);
            assert!(range.contains(service.cluster_ip), "{}", service.cluster_ip);
            for endpoint in &service.ports[0].endpoints {
                let range = endpoints_range(IpFamily::Ipv4);
                assert!(range.contains(endpoint.address.ip()), "{}", endpoint.address);
                assert!(seen.insert(endpoint.address), "{} twice", endpoint.address);
            }
        }
        assert_eq!(seen.len(), 80_000);
    }

    #[test]
    fn another_seed_gives_other_addresses_and_the_same_seed_the_same() {
        let table = |seed| {
            Fill { services: 50, endpoints: 2, position: Position::First, seed }
                .table(Vec::new())
                .expect("fits")
        };
        assert_eq!(table(1), table(1));
        assert_ne!(table(1), table(2));
    }

    #[test]
    fn more_services_than_addresses_are_refused() {
        let fill = Fill { services: 600_000, endpoints: 2, position: Position::First, seed: 0 };
        assert_eq!(fill.table(Vec::new()), Err(FillError { asked: 600_000, limit: 524_288 }));
    }
}
