// SPDX-License-Identifier: Apache-2.0
//! A Service of every kind: what a kernel is asked to take when a mode is checked, and what the
//! snapshots of the modes show.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::{Affinity, Endpoint, Policy, Protocol, Service, ServicePort, ServiceTable};
use crate::net::addresses::{LOAD_BALANCERS, PODS, Range, SERVICES};
use crate::plan::IpFamily;

/// Name of the node the sample's local endpoints are on.
pub(crate) const NODE: &str = "node1";

fn endpoint(pod: u8, node: &str) -> Endpoint {
    let third = u8::from(node != NODE);
    Endpoint {
        address: SocketAddr::new(IpAddr::from([10, 244, third, pod]), 8080),
        node: node.to_owned(),
    }
}

fn port(name: &str, port: u16, node_port: Option<u16>, endpoints: &[Endpoint]) -> ServicePort {
    ServicePort {
        name: name.to_owned(),
        protocol: Protocol::Tcp,
        port,
        node_port,
        endpoints: endpoints.to_vec(),
    }
}

fn service(name: &str, last_octet: u8, ports: Vec<ServicePort>) -> Service {
    Service {
        namespace: "sample".to_owned(),
        name: name.to_owned(),
        cluster_ip: IpAddr::from([10, 96, 1, last_octet]),
        load_balancer_ips: Vec::new(),
        ports,
        affinity: Affinity::None,
        external_policy: Policy::Cluster,
        internal_policy: Policy::Cluster,
    }
}

/// A ClusterIP Service with two endpoints, one of them on [`NODE`].
pub(crate) fn plain() -> Service {
    let endpoints = [endpoint(2, NODE), endpoint(2, "node2")];
    service("plain", 1, vec![port("http", 80, None, &endpoints)])
}

/// Every kind of Service the modes know.
pub(crate) fn every_kind() -> ServiceTable {
    let (near, far) = (endpoint(2, NODE), endpoint(2, "node2"));
    let three = [near.clone(), endpoint(3, NODE), far.clone()];
    let two = [near.clone(), far.clone()];
    let remote = [far];
    let balanced = |last_octet| vec![IpAddr::from([10, 112, 1, last_octet])];
    let services = vec![
        plain(),
        Service {
            load_balancer_ips: balanced(2),
            ..service(
                "several-ports",
                2,
                vec![port("http", 80, Some(30_080), &three), port("", 81, Some(30_081), &two)],
            )
        },
        Service {
            affinity: Affinity::ClientIp { timeout: Duration::from_secs(10_800) },
            ..service("sticky", 3, vec![port("http", 80, Some(30_082), &two)])
        },
        Service {
            external_policy: Policy::Local,
            load_balancer_ips: balanced(4),
            ..service("external-local", 4, vec![port("http", 80, Some(30_083), &three)])
        },
        Service {
            external_policy: Policy::Local,
            load_balancer_ips: balanced(5),
            ..service("external-elsewhere", 5, vec![port("http", 80, Some(30_084), &remote)])
        },
        Service {
            internal_policy: Policy::Local,
            ..service("internal-local", 6, vec![port("http", 80, None, &two)])
        },
        Service {
            internal_policy: Policy::Local,
            ..service("internal-elsewhere", 7, vec![port("http", 80, None, &remote)])
        },
        Service {
            load_balancer_ips: balanced(8),
            ..service("empty", 8, vec![port("http", 80, Some(30_085), &[])])
        },
    ];
    ServiceTable { services }
}

/// Those of [`every_kind`] that have endpoints: what a mode is checked with. Services without any
/// need the target REJECT in mode iptables, which is no reason to refuse a run that has none.
pub(crate) fn with_endpoints() -> ServiceTable {
    let mut table = every_kind();
    table.services.retain(|service| service.ports.iter().all(|port| !port.endpoints.is_empty()));
    table
}

/// A table with addresses of IPv6 in the places of the lab's of IPv4.
pub(crate) fn in_ipv6(mut table: ServiceTable) -> ServiceTable {
    let six = |address: IpAddr| {
        let IpAddr::V4(four) = address else { return address };
        let [.., third, host] = four.octets();
        let same = |range: &&Range| range.of(IpFamily::Ipv4).contains(address);
        let ranges = [PODS, SERVICES, LOAD_BALANCERS];
        let range = ranges.iter().find(same).expect("an address of the lab's").of(IpFamily::Ipv6);
        // As far apart as the others are.
        range.nth(u128::from(third) << 16 | u128::from(host))
    };
    for service in &mut table.services {
        service.cluster_ip = six(service.cluster_ip);
        service.load_balancer_ips.iter_mut().for_each(|address| *address = six(*address));
        for endpoint in service.ports.iter_mut().flat_map(|port| &mut port.endpoints) {
            endpoint.address.set_ip(six(endpoint.address.ip()));
        }
    }
    table
}
