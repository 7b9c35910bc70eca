// SPDX-License-Identifier: Apache-2.0
//! Where a case's requests start, where they go, and which pods may answer.

use std::net::{IpAddr, SocketAddr};
use std::path::Path as FilePath;
use std::time::Duration;

use workloads::protocol::Sources;

use super::{Balancer, Hosts, Measured};
use crate::net::addresses::{LOAD_BALANCERS, POD_TLS_PORT, SERVICES};
use crate::net::{Agent, Netns, ToolError};
use crate::plan::{AffinityKind, Case, Mode, Place, PolicyKind, Road, Route, ServiceSettings};
use crate::proxy::{Affinity, Endpoint, Policy, Protocol, Service, ServicePort};

/// Port of the measured Service.
const SERVICE_PORT: u16 = 80;
/// NodePort of the ingress controller.
const INGRESS_NODE_PORT: u16 = 30081;
/// Its NodePort: the first of the range that kube-apiserver gives out (30000-32767) plus 80.
const NODE_PORT: u16 = 30080;
/// Kubernetes' default session affinity timeout, `v1.DefaultClientIPServiceAffinitySeconds`.
const AFFINITY_TIMEOUT: Duration = Duration::from_secs(10_800);
/// First source port that load may use; those below are the proofs'.
const PORT_FIRST: u16 = 1024;
/// Ports of a case on hosts that outlive it, and cases until the first's come again: several times
/// the ten seconds for which connection tracking keeps what was reset
/// (`nf_conntrack_tcp_timeout_close`).
const TURN_PORTS: u16 = 8_064;
const TURNS: u32 = 8;
/// How long an agent in a container may take to answer.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// First source port of probe connections.
pub(super) const PROBE_PORT_FIRST: u16 = 900;

/// The measured Service's cluster address: 10.96.100.100, and so far into the range of IPv6.
pub(super) const CLUSTER_NTH: u128 = 100 * 256 + 100;

/// The measured Service's cluster address.
fn cluster_ip(lab: &Hosts) -> IpAddr {
    SERVICES.of(lab.family()).nth(CLUSTER_NTH)
}

/// The measured Service's LoadBalancer address.
fn load_balancer_ip(lab: &Hosts) -> IpAddr {
    LOAD_BALANCERS.of(lab.family()).nth(100)
}

/// The ingress controller's.
fn ingress_cluster_ip(lab: &Hosts) -> IpAddr {
    SERVICES.of(lab.family()).nth(CLUSTER_NTH + 1)
}

/// Indices of the pods behind the measured Service. The entry node's first pod is the client of
/// the clusterip road and never answers, nor does the one that serves names. Where requests enter by several nodes and have to stay on
/// them, each has as many.
pub(super) fn backends(lab: &Hosts, place: Place, endpoints: u32) -> Vec<usize> {
    let nodes = match place {
        Place::Local => lab.entries(),
        Place::Remote => vec![REMOTE_NODE],
    };
    let of_node = |node: usize| {
        (0..lab.pods().len())
            .filter(move |&index| lab.pods()[index].node == node && index != CLIENT_POD)
            .filter(|&index| Some(index) != lab.dns)
            .take(endpoints as usize)
    };
    nodes.into_iter().flat_map(of_node).collect()
}

/// Nodes that a load balancer spreads a case's connections over, indices: those from which the pod
/// that answers is where the route says. None where the road has no load balancer.
pub(super) fn balanced(case: &Case, nodes: u32, external: PolicyKind) -> Vec<u32> {
    let Route { road: Road::Loadbalancer, place } = case.route else { return Vec::new() };
    match (case.mode, place, external) {
        // It connects to the pods themselves.
        (Mode::None, ..) => vec![0],
        // Endpoints anywhere answer, so that they are on one node, and this is it.
        (_, Place::Local, PolicyKind::Cluster) => vec![0],
        // Each node answers from its own.
        (_, Place::Local, PolicyKind::Local) => (0..nodes).collect(),
        (_, Place::Remote, _) => (0..nodes).filter(|&node| node as usize != REMOTE_NODE).collect(),
    }
}

/// What the load balancer connects to: its nodes at the NodePort, or without Services the pods.
pub(super) fn balanced_backends(lab: &Hosts, mode: Mode, measured: &Measured) -> Vec<SocketAddr> {
    let pods = measured.backends.iter().map(|&pod| lab.pods()[pod].address);
    let nodes = lab.entries().into_iter().map(|node| lab.nodes()[node].address);
    match mode {
        Mode::None => pods.map(|pod| SocketAddr::new(pod, measured.port)).collect(),
        _ => nodes.map(|node| SocketAddr::new(node, NODE_PORT)).collect(),
    }
}

/// Whether what is before the nodes hands packets on as they are.
pub(super) fn is_routed(lab: &Hosts) -> bool {
    lab.balancer().is_some_and(Balancer::routes)
}

impl Hosts {
    /// Address that a router before the nodes hands a case's packets on to; `None` where there is no router.
    #[cfg(feature = "kind")]
    pub(in crate::lab) fn routed_to(&self, case: &Case, measured: &Measured) -> Option<IpAddr> {
        is_routed(self).then(|| beyond_balancer(self, case, measured).ip())
    }
}

/// Node of the pods that are not on the entry node.
pub(super) const REMOTE_NODE: usize = 1;

/// The client pod, or the ingress controller's: the entry node's first.
pub(super) const CLIENT_POD: usize = 0;

/// The measured Service; its pods answer at `port`. Behind an ingress controller it has a cluster address
/// and nothing else.
pub(super) fn service(
    lab: &Hosts,
    road: Road,
    backends: &[usize],
    port: u16,
    settings: &ServiceSettings,
) -> Service {
    let outside = !road.is_ingress();
    let endpoint = |&index: &usize| {
        let pod = &lab.pods()[index];
        Endpoint {
            address: SocketAddr::new(pod.address, port),
            node: lab.nodes()[pod.node].name.clone(),
        }
    };
    let policy = |kind| match kind {
        PolicyKind::Cluster => Policy::Cluster,
        PolicyKind::Local => Policy::Local,
    };
    Service {
        namespace: "default".to_owned(),
        name: "web".to_owned(),
        cluster_ip: cluster_ip(lab),
        load_balancer_ips: outside.then(|| load_balancer_ip(lab)).into_iter().collect(),
        ports: vec![ServicePort {
            name: "http".to_owned(),
            protocol: Protocol::Tcp,
            port: SERVICE_PORT,
            node_port: outside.then_some(NODE_PORT),
            endpoints: backends.iter().map(endpoint).collect(),
        }],
        affinity: match settings.affinity {
            AffinityKind::None => Affinity::None,
            AffinityKind::ClientIp => Affinity::ClientIp { timeout: AFFINITY_TIMEOUT },
        },
        external_policy: policy(settings.external_policy),
        internal_policy: policy(settings.internal_policy),
    }
}

/// The Service of the ingress controller, whose pod answers at `port`.
pub(super) fn ingress_service(lab: &Hosts, port: u16) -> Service {
    let pod = &lab.pods()[CLIENT_POD];
    let node = lab.nodes()[pod.node].name.clone();
    Service {
        namespace: "ingress".to_owned(),
        name: "controller".to_owned(),
        cluster_ip: ingress_cluster_ip(lab),
        load_balancer_ips: Vec::new(),
        ports: vec![ServicePort {
            name: "http".to_owned(),
            protocol: Protocol::Tcp,
            port: SERVICE_PORT,
            node_port: Some(INGRESS_NODE_PORT),
            endpoints: vec![Endpoint { address: SocketAddr::new(pod.address, port), node }],
        }],
        affinity: Affinity::None,
        external_policy: Policy::Cluster,
        internal_policy: Policy::Cluster,
    }
}

/// A connection that meets the entry node as those of a case do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask {
    /// Road whose origin it comes from.
    pub(super) from: Road,
    pub(super) destination: SocketAddr,
    /// Index of the Service it is for.
    pub(super) service: usize,
    /// Who accepts it, where that is not the pod that answers.
    pub(super) accepts: Option<SocketAddr>,
    /// Whether it is by TLS, if the case is.
    pub(super) tls: bool,
    /// Whether it is for the endpoint itself, past the Service.
    pub(super) past: bool,
}

/// The connections that meet the entry node in a case: one, or that to the ingress controller and the one
/// that it makes.
pub(super) fn asks(lab: &Hosts, case: &Case, measured: &Measured) -> Vec<Ask> {
    let road = case.route.road;
    let Some(ingress) = measured.ingress else {
        let destination = beyond_balancer(lab, case, measured);
        let service = measured.service;
        return vec![Ask {
            from: road,
            destination,
            service,
            accepts: None,
            tls: true,
            past: false,
        }];
    };
    let controller = SocketAddr::new(lab.pods()[CLIENT_POD].address, ingress.port);
    let inner = Road::Clusterip;
    vec![
        Ask {
            from: road,
            destination: destination(lab, case, measured),
            service: ingress.service,
            accepts: Some(controller),
            tls: true,
            past: false,
        },
        Ask {
            from: inner,
            destination: match (case.mode, road) {
                (Mode::None, _) | (_, Road::IngressEndpoints) => {
                    SocketAddr::new(lab.pods()[measured.backends[0]].address, measured.port)
                }
                _ => service_address(lab, inner),
            },
            service: measured.service,
            accepts: None,
            tls: measured.port == POD_TLS_PORT,
            past: road == Road::IngressEndpoints,
        },
    ]
}

/// Where a connection goes that is to meet the entry node as a request does. Under mode `none` it is the
/// pod itself, whatever the road.
pub(super) fn beyond_balancer(lab: &Hosts, case: &Case, measured: &Measured) -> SocketAddr {
    let pod = SocketAddr::new(lab.pods()[measured.backends[0]].address, measured.port);
    match (case.mode, case.route.road) {
        (Mode::None, _) | (_, Road::Direct) => pod,
        (_, road) => service_address(lab, road),
    }
}

/// Where requests go: to the load balancer, or where a connection beyond it goes.
pub(super) fn destination(lab: &Hosts, case: &Case, measured: &Measured) -> SocketAddr {
    match case.route.road {
        Road::Loadbalancer if !is_routed(lab) => Balancer::address(lab.family()),
        Road::Ingress | Road::IngressEndpoints => match (case.mode, measured.ingress) {
            (Mode::None, Some(ingress)) => {
                SocketAddr::new(lab.pods()[CLIENT_POD].address, ingress.port)
            }
            _ => SocketAddr::new(lab.nodes()[0].address, INGRESS_NODE_PORT),
        },
        _ => beyond_balancer(lab, case, measured),
    }
}

/// The measured Service's address on a road; by its NodePort where the road passes it by.
pub(super) fn service_address(lab: &Hosts, road: Road) -> SocketAddr {
    match road {
        Road::Clusterip | Road::Ingress | Road::IngressEndpoints => {
            SocketAddr::new(cluster_ip(lab), SERVICE_PORT)
        }
        Road::Lbip => SocketAddr::new(load_balancer_ip(lab), SERVICE_PORT),
        // The router leads there.
        Road::Loadbalancer if is_routed(lab) => {
            SocketAddr::new(load_balancer_ip(lab), SERVICE_PORT)
        }
        Road::Nodeport | Road::Loadbalancer | Road::Direct => {
            SocketAddr::new(lab.nodes()[0].address, NODE_PORT)
        }
    }
}

/// The road as the packets walk it: without a Service, a client outside goes straight to the pod.
pub(super) fn walked(case: &Case) -> Route {
    match (case.mode, case.route.road) {
        (Mode::None, Road::Nodeport | Road::Lbip) => {
            Route { road: Road::Direct, place: case.route.place }
        }
        _ => case.route,
    }
}

/// Host that requests start on.
pub(super) fn origin(lab: &Hosts, road: Road) -> &Netns {
    match road {
        Road::Clusterip => &lab.pods()[CLIENT_POD].netns,
        _ => &lab.client().netns,
    }
}

/// The load generator on that host: started there, or the container's own.
pub(super) fn load(lab: &Hosts, road: Road, program: &FilePath) -> Result<Agent, ToolError> {
    let origin = origin(lab, road);
    let socket = match road {
        Road::Clusterip => &lab.pods()[CLIENT_POD].socket,
        _ => &lab.client().load,
    };
    match socket {
        Some(socket) => Agent::connect(origin.name(), socket, CONNECT_PATIENCE),
        None => Agent::start(origin, program, &["agent", "load"]),
    }
}

/// Addresses that requests may come from.
pub(super) fn sources(lab: &Hosts, road: Road) -> Sources {
    let mut addresses: Vec<IpAddr> = match road {
        Road::Clusterip => {
            let pod = &lab.pods()[CLIENT_POD];
            std::iter::once(pod.address).chain(pod.extra_addresses.iter().copied()).collect()
        }
        _ => lab.client().addresses.clone(),
    };
    let Some(turn) = lab.turn else {
        return Sources { addresses, port_first: PORT_FIRST, port_last: u16::MAX };
    };
    // Connection tracking remembers the case before for a while: ports it did not use, and another
    // address in front, which is the probe connections'.
    let others = turn as usize % addresses.len();
    addresses.rotate_left(others);
    let port_first = PORT_FIRST + (turn % TURNS) as u16 * TURN_PORTS;
    Sources { addresses, port_first, port_last: port_first + (TURN_PORTS - 1) }
}

/// Connections that sources have room for.
pub(super) fn tuple_budget(sources: &Sources) -> u64 {
    let ports = u64::from(sources.port_last) - u64::from(sources.port_first) + 1;
    sources.addresses.len() as u64 * ports
}
