// SPDX-License-Identifier: Apache-2.0
//! Ports of the proxy process: one for each Service port, or for each policy of it.

use std::net::{IpAddr, SocketAddr};

use super::super::port_name::port_name;
use super::super::reach::Reach;
use super::super::{Affinity, Policy, Protocol, ProxyError, Service, ServicePort, ServiceTable};
use crate::net::addresses::family;
use crate::plan::Mode;
use crate::relay::Portal;

/// Below NodePorts (30000-32767) and source ports (32768-60999), and then above both.
const RANGES: [std::ops::RangeInclusive<u16>; 2] = [2048..=29_999, 61_000..=65_535];

/// A port of the proxy process and the addresses whose traffic it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Port {
    /// `namespace/name:port`.
    pub(super) name: String,
    /// Where the process listens, for whom, and where it connects to.
    pub(super) portal: Portal,
    /// Cluster and LoadBalancer addresses that lead here.
    pub(super) addresses: Vec<SocketAddr>,
    /// NodePort that leads here.
    pub(super) node_port: Option<u16>,
}

/// All of a table's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ports {
    /// In the table's order.
    pub(super) ports: Vec<Port>,
    /// Index of the first one of the table's last Service.
    pub(super) last: usize,
}

impl Ports {
    /// Ports for a table as node `node` serves it. A longer table starts with the same ports.
    ///
    /// # Errors
    /// [`ProxyError::Unsupported`]: too many Service ports, or UDP.
    pub(super) fn assign(table: &ServiceTable, node: &str) -> Result<Self, ProxyError> {
        let mut free = RANGES.into_iter().flatten();
        let mut assigned = Self { ports: Vec::with_capacity(table.services.len()), last: 0 };
        for service in &table.services {
            assigned.last = assigned.ports.len();
            for port in &service.ports {
                for wanted in of_port(service, port, node)? {
                    let listen_port = free.next().ok_or_else(|| too_many(table))?;
                    let portal = Portal { listen_port, ..wanted.portal };
                    assigned.ports.push(Port { portal, ..wanted });
                }
            }
        }
        Ok(assigned)
    }

    /// The port that traffic to `destination` is led to on the node with `node_address`.
    pub(super) fn of(&self, destination: SocketAddr, node_address: IpAddr) -> Option<&Port> {
        self.ports.iter().find(|port| {
            port.addresses.contains(&destination)
                || (destination.ip() == node_address && port.node_port == Some(destination.port()))
        })
    }
}

fn unsupported(what: String) -> ProxyError {
    ProxyError::Unsupported { mode: Mode::Userspace, what }
}

fn too_many(table: &ServiceTable) -> ProxyError {
    let room: usize = RANGES.iter().map(ExactSizeIterator::len).sum();
    let services = table.services.len();
    unsupported(format!(
        "the proxy process has {room} ports to listen at, {services} Services need more; \
         ask for fewer Services"
    ))
}

/// Ports that one Service port needs, without their numbers.
fn of_port(service: &Service, port: &ServicePort, node: &str) -> Result<Vec<Port>, ProxyError> {
    let name = port_name(service, port);
    if port.protocol == Protocol::Udp {
        return Err(unsupported(format!("{name} is UDP, the proxy process carries TCP")));
    }
    let reach = Reach::of(service, port, node);
    let affinity_seconds = match service.affinity {
        Affinity::None => None,
        Affinity::ClientIp { timeout } => Some(timeout.as_secs()),
    };
    let make = |policy: Policy, addresses: Vec<SocketAddr>, node_port: Option<u16>| {
        let endpoints = reach.under(policy).iter().map(|endpoint| endpoint.address).collect();
        let portal = Portal {
            listen_port: 0,
            family: family(service.cluster_ip),
            endpoints,
            affinity_seconds,
            one_by_one: true,
            proxy_protocol: false,
        };
        Port { name: name.clone(), portal, addresses, node_port }
    };
    let inside = vec![SocketAddr::new(service.cluster_ip, port.port)];
    let outside =
        service.load_balancer_ips.iter().map(|ip| SocketAddr::new(*ip, port.port)).collect();
    if reach.externally_accessible && reach.external != reach.internal {
        return Ok(vec![
            make(reach.internal, inside, None),
            make(reach.external, outside, port.node_port),
        ]);
    }
    let addresses = [inside, outside].concat();
    Ok(vec![make(reach.internal, addresses, port.node_port)])
}
