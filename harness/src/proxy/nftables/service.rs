// SPDX-License-Identifier: Apache-2.0
//! The part of the ruleset that one Service adds: what kube-proxy's `syncProxyRules` writes for it,
//! in its order.

use super::super::{Affinity, Endpoint, Policy, Service, ServicePort};
use super::base::address_type;
use super::names::{EndpointNames, PortNames, protocol};
use super::transaction::Transaction;
use crate::net::addresses::PODS;

/// Writes all ports of a Service as node `node` has them.
pub(super) fn write(transaction: &mut Transaction, service: &Service, node: &str) {
    let texts = Texts::new(service);
    for (index, port) in service.ports.iter().enumerate() {
        let plan = PortPlan::new(service, port, node);
        plan.write_chains(transaction);
        if index == 0 {
            transaction.element("cluster-ips", &[&texts.cluster_ip]);
        }
        plan.write_elements(transaction, &texts);
        plan.write_internal_rules(transaction, &texts);
        plan.write_external_rules(transaction, &texts);
        plan.write_endpoints(transaction);
    }
}

/// Addresses as text, made once per Service.
struct Texts {
    cluster_ip: String,
    load_balancer_ips: Vec<String>,
    pods: String,
}

impl Texts {
    fn new(service: &Service) -> Self {
        Self {
            cluster_ip: service.cluster_ip.to_string(),
            load_balancer_ips: service.load_balancer_ips.iter().map(ToString::to_string).collect(),
            pods: PODS.like(service.cluster_ip).to_string(),
        }
    }
}

/// An endpoint that this node's rules send traffic to.
struct Target<'a> {
    endpoint: &'a Endpoint,
    names: EndpointNames,
}

/// One Service port, and what of it this node needs.
pub(super) struct PortPlan<'a> {
    service: &'a Service,
    port: &'a ServicePort,
    pub(super) names: PortNames,
    protocol: &'static str,
    port_text: String,
    /// Endpoints that have a chain here, in the table's order.
    reachable: Vec<Target<'a>>,
    /// Indices into `reachable` of those on this node.
    local: Vec<usize>,
    /// Reached at a NodePort or a LoadBalancer address.
    external: bool,
    has_endpoints: bool,
    /// Whether cluster traffic finds an endpoint under its policy; the same for external traffic.
    has_internal_endpoints: bool,
    has_external_endpoints: bool,
}

impl<'a> PortPlan<'a> {
    pub(super) fn new(service: &'a Service, port: &'a ServicePort, node: &str) -> Self {
        let names = PortNames::new(service, port);
        let external = port.node_port.is_some() || !service.load_balancer_ips.is_empty();
        // Traffic from pods and from the node to an external address uses all endpoints whatever
        // the policy is, so a port without any can do with its local ones.
        let uses_cluster = service.internal_policy == Policy::Cluster || external;
        let reachable: Vec<_> = port
            .endpoints
            .iter()
            .filter(|endpoint| uses_cluster || endpoint.node == node)
            .map(|endpoint| Target { endpoint, names: names.endpoint(endpoint.address) })
            .collect();
        let local: Vec<_> =
            (0..reachable.len()).filter(|&i| reachable[i].endpoint.node == node).collect();
        let has_endpoints = !port.endpoints.is_empty();
        let usable = |policy| match policy {
            Policy::Cluster => has_endpoints,
            Policy::Local => !local.is_empty(),
        };
        Self {
            has_internal_endpoints: usable(service.internal_policy),
            has_external_endpoints: usable(service.external_policy),
            protocol: protocol(port.protocol),
            port_text: port.port.to_string(),
            service,
            port,
            names,
            reachable,
            local,
            external,
            has_endpoints,
        }
    }

    fn uses_cluster_chain(&self) -> bool {
        self.has_endpoints && (self.service.internal_policy == Policy::Cluster || self.external)
    }

    fn uses_local_chain(&self) -> bool {
        let internal = self.service.internal_policy == Policy::Local;
        let external = self.external && self.service.external_policy == Policy::Local;
        !self.local.is_empty() && (internal || external)
    }

    fn uses_external_chain(&self) -> bool {
        self.has_endpoints && self.external
    }

    /// Chain with the endpoints that a policy allows.
    pub(super) fn policy_chain(&self, policy: Policy) -> &str {
        match policy {
            Policy::Cluster => &self.names.cluster,
            Policy::Local => &self.names.local,
        }
    }

    fn write_chains(&self, transaction: &mut Transaction) {
        for target in &self.reachable {
            transaction.chain(&target.names.chain);
        }
        if self.uses_cluster_chain() {
            transaction.chain(&self.names.cluster);
        }
        if self.uses_local_chain() {
            transaction.chain(&self.names.local);
        }
        if self.uses_external_chain() {
            transaction.chain(&self.names.external);
        }
    }

    /// Entries of the maps that decide where a packet goes.
    fn write_elements(&self, transaction: &mut Transaction, texts: &Texts) {
        let refusal = if self.has_endpoints { "drop" } else { "goto reject-chain" };
        let comment = [" comment \"", &self.names.shown, "\" : ", refusal].concat();
        let after_address = [" . ", self.protocol, " . ", &self.port_text].concat();
        let cluster_ip = [&texts.cluster_ip, after_address.as_str()];
        if self.has_internal_endpoints {
            let chain = self.policy_chain(self.service.internal_policy);
            transaction.element("service-ips", &[cluster_ip[0], cluster_ip[1], " : goto ", chain]);
        } else {
            transaction.element("no-endpoint-services", &[cluster_ip[0], cluster_ip[1], &comment]);
        }
        // With endpoints but none on this node and the policy Local, both: what pods and the node
        // itself send is translated, and what is still untranslated afterwards is dropped.
        for ip in &texts.load_balancer_ips {
            if self.has_endpoints {
                let chain = self.names.external.as_str();
                transaction.element("service-ips", &[ip, &after_address, " : goto ", chain]);
            }
        }
        for ip in texts.load_balancer_ips.iter().filter(|_| !self.has_external_endpoints) {
            transaction.element("no-endpoint-services", &[ip, &after_address, &comment]);
        }
        let Some(node_port) = self.port.node_port.map(|port| port.to_string()) else { return };
        let key = [self.protocol, " . ", &node_port].concat();
        if self.has_endpoints {
            transaction.element("service-nodeports", &[&key, " : goto ", &self.names.external]);
        }
        if !self.has_external_endpoints {
            transaction.element("no-endpoint-nodeports", &[&key, &comment]);
        }
    }

    /// Masquerades what comes to the cluster address from outside the cluster.
    fn write_internal_rules(&self, transaction: &mut Transaction, texts: &Texts) {
        if self.has_internal_endpoints {
            let ip = transaction.ip;
            transaction.rule(
                self.policy_chain(self.service.internal_policy),
                &[
                    ip,
                    " daddr ",
                    &texts.cluster_ip,
                    " ",
                    self.protocol,
                    " dport ",
                    &self.port_text,
                    " ",
                    ip,
                    " saddr != ",
                    &texts.pods,
                    " jump mark-for-masquerade",
                ],
            );
        }
    }

    fn write_external_rules(&self, transaction: &mut Transaction, texts: &Texts) {
        if !self.uses_external_chain() {
            return;
        }
        let (chain, ip) = (&self.names.external, transaction.ip);
        if self.service.external_policy == Policy::Cluster {
            // The endpoint may be on another node, whose answer has to come back through here.
            transaction.rule(chain, &["jump mark-for-masquerade"]);
        } else {
            let cluster = self.names.cluster.as_str();
            transaction.rule(
                chain,
                &[
                    ip,
                    " saddr ",
                    &texts.pods,
                    " goto ",
                    cluster,
                    " comment \"short-circuit pod traffic\"",
                ],
            );
            transaction.rule(
                chain,
                &["fib saddr type local jump mark-for-masquerade comment \"masquerade local traffic\""],
            );
            transaction.rule(
                chain,
                &[
                    "fib saddr type local goto ",
                    cluster,
                    " comment \"short-circuit local traffic\"",
                ],
            );
        }
        if self.has_external_endpoints {
            transaction.rule(chain, &["goto ", self.policy_chain(self.service.external_policy)]);
        }
    }

    fn write_endpoints(&self, transaction: &mut Transaction) {
        if let Affinity::ClientIp { timeout } = self.service.affinity {
            let properties = format!(
                "type {} ; flags dynamic,timeout ; timeout {}s ;",
                address_type(self.service.cluster_ip),
                timeout.as_secs()
            );
            for target in &self.reachable {
                transaction.container("set", &target.names.affinity, &properties);
            }
        }
        if self.uses_cluster_chain() {
            let all: Vec<_> = self.reachable.iter().collect();
            self.write_choice(transaction, &self.names.cluster, &all);
        }
        if self.uses_local_chain() {
            let local: Vec<_> = self.local.iter().map(|&i| &self.reachable[i]).collect();
            self.write_choice(transaction, &self.names.local, &local);
        }
        for target in &self.reachable {
            self.write_endpoint(transaction, target);
        }
    }

    /// A client goes back to the endpoint that remembers it; any other is sent by the throw of a
    /// die to one of them.
    fn write_choice(&self, transaction: &mut Transaction, chain: &str, targets: &[&Target<'_>]) {
        if self.service.affinity != Affinity::None {
            for target in targets {
                let EndpointNames { chain: endpoint, affinity } = &target.names;
                transaction
                    .rule(chain, &[transaction.ip, " saddr @", affinity, " goto ", endpoint]);
            }
        }
        let count = targets.len().to_string();
        let indices: Vec<_> = (0..targets.len()).map(|index| index.to_string()).collect();
        let mut parts = vec!["numgen random mod ", count.as_str(), " vmap { "];
        for (index, target) in targets.iter().enumerate() {
            if index > 0 {
                parts.push(" , ");
            }
            parts.extend([indices[index].as_str(), " : goto ", &target.names.chain]);
        }
        parts.push(" }");
        transaction.rule(chain, &parts);
    }

    fn write_endpoint(&self, transaction: &mut Transaction, target: &Target<'_>) {
        let EndpointNames { chain, affinity } = &target.names;
        let address = target.endpoint.address.to_string();
        let ip = target.endpoint.address.ip().to_string();
        // A pod that is sent to itself would answer itself directly, past the translation.
        transaction.rule(chain, &[transaction.ip, " saddr ", &ip, " jump mark-for-masquerade"]);
        if self.service.affinity != Affinity::None {
            transaction.rule(chain, &["update @", affinity, " { ", transaction.ip, " saddr }"]);
        }
        transaction.rule(chain, &["meta l4proto ", self.protocol, " dnat to ", &address]);
    }
}
