// SPDX-License-Identifier: Apache-2.0
//! Which endpoints of a Service port one node may use, and for which traffic.

use super::{Endpoint, Policy, Service, ServicePort};

/// Endpoints of a Service port seen from one node (`CategorizeEndpoints` in Kubernetes'
/// `pkg/proxy/topology.go`; every endpoint of a table is ready, and there are no zones).
#[derive(Debug)]
pub(crate) struct Reach<'a> {
    /// For traffic under policy Cluster; empty if no traffic of the Service is under it.
    pub(crate) cluster: Vec<&'a Endpoint>,
    /// Those on this node, for traffic under policy Local; empty if no traffic is under it.
    pub(crate) local: Vec<&'a Endpoint>,
    /// Policy of traffic to the cluster address.
    pub(crate) internal: Policy,
    /// Policy of traffic to NodePorts and LoadBalancer addresses.
    pub(crate) external: Policy,
    /// Whether there is a NodePort or a LoadBalancer address at all.
    pub(crate) externally_accessible: bool,
    /// Whether there is an endpoint on any node.
    pub(crate) any: bool,
}

impl<'a> Reach<'a> {
    /// Endpoints of `port` as node `node` may use them.
    pub(crate) fn of(service: &Service, port: &'a ServicePort, node: &str) -> Self {
        let externally_accessible =
            port.node_port.is_some() || !service.load_balancer_ips.is_empty();
        let (internal, external) = (service.internal_policy, service.external_policy);
        // Cluster endpoints are needed under external policy Local too: a pod or the node itself
        // that asks for an external address is sent to any endpoint.
        let uses_cluster = internal == Policy::Cluster || externally_accessible;
        let uses_local =
            internal == Policy::Local || (external == Policy::Local && externally_accessible);
        let cluster = if uses_cluster { port.endpoints.iter().collect() } else { Vec::new() };
        let local = if uses_local {
            port.endpoints.iter().filter(|endpoint| endpoint.node == node).collect()
        } else {
            Vec::new()
        };
        let any = !port.endpoints.is_empty();
        Self { cluster, local, internal, external, externally_accessible, any }
    }

    /// Endpoints that traffic under `policy` is spread over.
    pub(crate) fn under(&self, policy: Policy) -> &[&'a Endpoint] {
        match policy {
            Policy::Cluster => &self.cluster,
            Policy::Local => &self.local,
        }
    }

    /// Endpoints that anything may reach from this node.
    pub(crate) fn all(&self) -> &[&'a Endpoint] {
        // Cluster endpoints are all endpoints, so the local ones are among them.
        if self.cluster.is_empty() { &self.local } else { &self.cluster }
    }
}
