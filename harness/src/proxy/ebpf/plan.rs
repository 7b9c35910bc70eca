// SPDX-License-Identifier: Apache-2.0
//! What the maps of one node hold for a table of Services: the text of the record and the entries
//! in the kernel are both written from it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::super::port_name::port_name;
use super::super::reach::Reach;
use super::super::{Affinity, Protocol, Service, ServicePort, ServiceTable};

/// An endpoint, as this node sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// Its address.
    pub(super) address: SocketAddr,
    /// Whether it is on this node.
    pub(super) here: bool,
}

/// An address of a Service port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frontend {
    /// Where clients connect to.
    pub(super) address: SocketAddr,
    /// How many of the port's endpoints, from its first, this node's pods may use.
    pub(super) inside: u32,
    /// How many others may use.
    pub(super) outside: u32,
}

/// A port of a Service: its number is its place in the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Port {
    /// `namespace/name:port`.
    pub(super) name: String,
    pub(super) protocol: Protocol,
    pub(super) affinity: Option<Duration>,
    /// Place of its first endpoint among all.
    pub(super) first: u32,
    /// Its endpoints, those on this node first.
    pub(super) targets: Vec<Target>,
    pub(super) frontends: Vec<Frontend>,
}

/// All Service ports of one node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) ports: Vec<Port>,
}

impl Plan {
    /// In the table's order, so that a table with Services added to its end has a plan with ports
    /// added to its end.
    pub(super) fn of(table: &ServiceTable, node_name: &str, node_address: IpAddr) -> Self {
        let mut ports = Vec::with_capacity(table.services.len());
        let mut first = 0;
        for service in &table.services {
            for port in &service.ports {
                let planned = Port::of(service, port, node_name, node_address, first);
                first += count(&planned.targets);
                ports.push(planned);
            }
        }
        Self { ports }
    }

    /// Frontends of all ports.
    pub(super) fn frontends(&self) -> u32 {
        self.ports.iter().map(|port| count(&port.frontends)).sum()
    }

    /// Endpoints of all ports.
    pub(super) fn endpoints(&self) -> u32 {
        self.ports.iter().map(|port| count(&port.targets)).sum()
    }

    /// Entries of both maps.
    pub(super) fn entries(&self) -> u64 {
        u64::from(self.frontends()) + u64::from(self.endpoints())
    }

    /// The port with this address, its number, and the address.
    #[cfg(feature = "bpf")]
    pub(super) fn find(&self, address: SocketAddr) -> Option<(u32, &Port, &Frontend)> {
        (0..).zip(&self.ports).find_map(|(number, port)| {
            let frontend = port.frontends.iter().find(|frontend| frontend.address == address)?;
            Some((number, port, frontend))
        })
    }
}

impl Port {
    fn of(
        service: &Service,
        port: &ServicePort,
        node_name: &str,
        node_address: IpAddr,
        first: u32,
    ) -> Self {
        let target = |here: bool| {
            move |endpoint: &super::super::Endpoint| Target { address: endpoint.address, here }
        };
        let is_here = |endpoint: &&super::super::Endpoint| endpoint.node == node_name;
        let (here, elsewhere): (Vec<_>, Vec<_>) = port.endpoints.iter().partition(is_here);
        let targets: Vec<_> = here
            .into_iter()
            .map(target(true))
            .chain(elsewhere.into_iter().map(target(false)))
            .collect();
        let reach = Reach::of(service, port, node_name);
        let under = |policy| count(reach.under(policy));
        let (internal, external) = (under(reach.internal), under(reach.external));
        let mut frontends = vec![Frontend {
            address: SocketAddr::new(service.cluster_ip, port.port),
            inside: internal,
            outside: internal,
        }];
        // A pod that asks for an external address is sent to any endpoint, whatever the policy: it
        // is in the cluster already (KEP-1138 calls it the short circuit).
        let node_port = port.node_port.map(|at| SocketAddr::new(node_address, at));
        let balanced = service.load_balancer_ips.iter();
        let balanced = balanced.map(|address| SocketAddr::new(*address, port.port));
        frontends.extend(node_port.into_iter().chain(balanced).map(|address| Frontend {
            address,
            inside: count(&targets),
            outside: external,
        }));
        Self {
            name: port_name(service, port),
            protocol: port.protocol,
            affinity: match service.affinity {
                Affinity::None => None,
                Affinity::ClientIp { timeout } => Some(timeout),
            },
            first,
            targets,
            frontends,
        }
    }
}

fn count<T>(list: &[T]) -> u32 {
    u32::try_from(list.len()).expect("tables have fewer entries than 2^32")
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ports.iter().try_for_each(|port| port.fmt(f))
    }
}

/// One line for each address.
impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for frontend in &self.frontends {
            let Frontend { address, inside, outside } = frontend;
            write!(f, "{address}/{} {}", self.protocol.word(), self.name)?;
            if let Some(timeout) = self.affinity {
                write!(f, " affinity {} s", timeout.as_secs())?;
            }
            if inside == outside {
                write!(f, " -> ")?;
                self.some(f, *inside)?;
            } else {
                write!(f, " from pods -> ")?;
                self.some(f, *inside)?;
                write!(f, "; from outside -> ")?;
                self.some(f, *outside)?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

impl Port {
    /// The first endpoints, or what becomes of a packet where there are none.
    fn some(&self, f: &mut fmt::Formatter<'_>, count: u32) -> fmt::Result {
        match (count, self.targets.is_empty()) {
            (0, true) => return write!(f, "nobody, refused"),
            (0, false) => return write!(f, "nobody here, dropped"),
            _ => {}
        }
        for (index, target) in self.targets.iter().take(count as usize).enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{target}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, here } = self;
        write!(f, "{address}{}", if *here { " (here)" } else { "" })
    }
}
