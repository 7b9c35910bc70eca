// SPDX-License-Identifier: Apache-2.0
//! The Services of a cluster, as kube-proxy sees them.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Everything a proxy mode renders. Order is programming order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceTable {
    /// Services in programming order.
    pub services: Vec<Service>,
}

/// A Service with all its ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Cluster address.
    pub cluster_ip: IpAddr,
    /// LoadBalancer addresses; empty unless the type is LoadBalancer.
    pub load_balancer_ips: Vec<IpAddr>,
    /// Ports.
    pub ports: Vec<ServicePort>,
    /// Session affinity by client address.
    pub affinity: Affinity,
    /// `externalTrafficPolicy`: which endpoints NodePort and LoadBalancer traffic may use.
    pub external_policy: Policy,
    /// `internalTrafficPolicy`: which endpoints cluster traffic may use.
    pub internal_policy: Policy,
}

/// One port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Port's name, may be empty.
    pub name: String,
    /// Transport.
    pub protocol: Protocol,
    /// Port at the cluster address and at LoadBalancer addresses.
    pub port: u16,
    /// Port at every node's address.
    pub node_port: Option<u16>,
    /// Ready endpoints; empty means connections are rejected.
    pub endpoints: Vec<Endpoint>,
}

/// A pod behind a Service port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Address and port of the pod.
    pub address: SocketAddr,
    /// Node it runs on.
    pub node: String,
}

/// Transport protocol of a Service port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// Whether a client stays with its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Affinity {
    /// `sessionAffinity: None`.
    None,
    /// `sessionAffinity: ClientIP` with its timeout (Kubernetes' default is 10,800 s).
    ClientIp {
        /// How long after its last connection a client is remembered.
        timeout: Duration,
    },
}

/// Which endpoints may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// All of them.
    Cluster,
    /// Those on the node the traffic is on.
    Local,
}
