// SPDX-License-Identifier: Apache-2.0
//! Chains and rules of one Service port, as kube-proxy's iptables mode writes them
//! (`syncProxyRules` in `pkg/proxy/iptables/proxier.go`, 1.31).

use std::fmt::{self, Arguments};
use std::net::SocketAddr;

use super::super::port_name::{ChainHash, port_name};
use super::super::reach::Reach;
use super::super::{Affinity, Endpoint, Policy, Service, ServicePort};
use super::restore::Restore;
use crate::net::addresses::PODS;

/// A Service port with its names.
#[derive(Debug)]
pub(super) struct PortRules<'a> {
    service: &'a Service,
    port: &'a ServicePort,
    name: String,
    hash: ChainHash,
    reach: Reach<'a>,
}

/// A chain of a Service port or of one of its endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chain {
    prefix: &'static str,
    hash: ChainHash,
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.prefix)?;
        f.write_str(self.hash.as_str())
    }
}

impl<'a> PortRules<'a> {
    pub(super) fn new(service: &'a Service, port: &'a ServicePort, node: &str) -> Self {
        let name = port_name(service, port);
        let hash = ChainHash::of(&[&name, port.protocol.word()]);
        Self { service, port, name, hash, reach: Reach::of(service, port, node) }
    }

    /// Chain that spreads traffic under a policy over its endpoints.
    pub(super) fn policy_chain(&self, policy: Policy) -> Chain {
        let prefix = match policy {
            Policy::Cluster => "KUBE-SVC-",
            Policy::Local => "KUBE-SVL-",
        };
        Chain { prefix, hash: self.hash }
    }

    /// Chain that traffic to NodePorts and LoadBalancer addresses goes through first.
    pub(super) fn external_chain(&self) -> Chain {
        Chain { prefix: "KUBE-EXT-", hash: self.hash }
    }

    /// Chain that sends traffic to one endpoint.
    pub(super) fn endpoint_chain(&self, endpoint: SocketAddr) -> Chain {
        let hash = ChainHash::of(&[&self.name, self.port.protocol.word(), &endpoint.to_string()]);
        Chain { prefix: "KUBE-SEP-", hash }
    }

    /// Whether traffic to the cluster address has an endpoint.
    fn has_internal(&self) -> bool {
        self.reach.any && !self.reach.under(self.reach.internal).is_empty()
    }

    /// Whether traffic to NodePorts and LoadBalancer addresses has an endpoint.
    fn has_external(&self) -> bool {
        self.reach.any && !self.reach.under(self.reach.external).is_empty()
    }

    /// Writes everything of this port. `brief` leaves the comments of per-endpoint rules out.
    pub(super) fn write(&self, restore: &mut Restore, brief: bool) {
        self.dispatch(restore);
        self.refuse(restore);
        if !self.reach.any {
            return;
        }
        if self.has_internal() {
            self.masquerade_strangers(restore);
        }
        if self.reach.externally_accessible {
            self.external(restore);
        }
        let endpoints: Vec<_> = self
            .reach
            .all()
            .iter()
            .map(|endpoint| (*endpoint, self.endpoint_chain(endpoint.address)))
            .collect();
        for policy in [Policy::Cluster, Policy::Local] {
            self.spread(restore, policy, &endpoints, brief);
        }
        for (endpoint, chain) in &endpoints {
            self.endpoint(restore, endpoint, *chain, brief);
        }
    }

    /// Rules that recognise the Service by its addresses: the part whose length is the number of
    /// Services.
    fn dispatch(&self, restore: &mut Restore) {
        let (name, protocol, port) = (&self.name, self.port.protocol.word(), self.port.port);
        let nat = &mut restore.nat;
        if self.has_internal() {
            let (vip, chain) = (self.service.cluster_ip, self.policy_chain(self.reach.internal));
            nat.rule(format_args!(
                "-A KUBE-SERVICES -m comment --comment \"{name} cluster IP\" -m {protocol} \
                 -p {protocol} -d {vip} --dport {port} -j {chain}"
            ));
        }
        if !self.reach.any {
            return;
        }
        let chain = self.external_chain();
        for ip in &self.service.load_balancer_ips {
            nat.rule(format_args!(
                "-A KUBE-SERVICES -m comment --comment \"{name} loadbalancer IP\" -m {protocol} \
                 -p {protocol} -d {ip} --dport {port} -j {chain}"
            ));
        }
        if let Some(node_port) = self.port.node_port {
            nat.rule(format_args!(
                "-A KUBE-NODEPORTS -m comment --comment {name} -m {protocol} -p {protocol} \
                 --dport {node_port} -j {chain}"
            ));
        }
    }

    /// Rules for addresses that lead nowhere: refused when no node has an endpoint, dropped when
    /// only this node has none, since a load balancer is then to ask another.
    fn refuse(&self, restore: &mut Restore) {
        let (name, protocol, port) = (&self.name, self.port.protocol.word(), self.port.port);
        let (what, target) = match self.reach.any {
            false => ("has no endpoints", "REJECT"),
            true => ("has no local endpoints", "DROP"),
        };
        let filter = &mut restore.filter;
        let mut rule = |chain: &str, to: Arguments<'_>, port: u16| {
            filter.rule(format_args!(
                "-A {chain} -m comment --comment \"{name} {what}\" {to}-m {protocol} \
                 -p {protocol} --dport {port} -j {target}"
            ));
        };
        if !self.has_internal() {
            rule("KUBE-SERVICES", format_args!("-d {} ", self.service.cluster_ip), port);
        }
        if !self.has_external() && self.reach.externally_accessible {
            for ip in &self.service.load_balancer_ips {
                rule("KUBE-EXTERNAL-SERVICES", format_args!("-d {ip} "), port);
            }
            if let Some(node_port) = self.port.node_port {
                let local = format_args!("-m addrtype --dst-type LOCAL ");
                rule("KUBE-EXTERNAL-SERVICES", local, node_port);
            }
        }
    }

    /// Traffic to the cluster address from outside the cluster comes back this way only if its
    /// source is replaced.
    fn masquerade_strangers(&self, restore: &mut Restore) {
        let (name, protocol, port) = (&self.name, self.port.protocol.word(), self.port.port);
        let (vip, chain) = (self.service.cluster_ip, self.policy_chain(self.reach.internal));
        let pods = PODS.like(vip);
        restore.nat.rule(format_args!(
            "-A {chain} -m comment --comment \"{name} cluster IP\" -m {protocol} -p {protocol} \
             -d {vip} --dport {port} ! -s {pods} -j KUBE-MARK-MASQ"
        ));
    }

    fn external(&self, restore: &mut Restore) {
        let (name, chain) = (&self.name, self.external_chain());
        let nat = &mut restore.nat;
        nat.chain(chain);
        let mut rule = |what: &str, matches: &str, to: Arguments<'_>| {
            nat.rule(format_args!(
                "-A {chain} -m comment --comment \"{what} traffic for {name} external \
                 destinations\" {matches}-j {to}"
            ));
        };
        if self.reach.external == Policy::Cluster {
            rule("masquerade", "", format_args!("KUBE-MARK-MASQ"));
        } else {
            // Pods and the node itself are not what the policy is about: they are served as if
            // they had gone out to a load balancer that chose any node.
            let any = self.policy_chain(Policy::Cluster);
            let pods = PODS.like(self.service.cluster_ip);
            rule("pod", &format!("-s {pods} "), format_args!("{any}"));
            let local = "-m addrtype --src-type LOCAL ";
            rule("masquerade LOCAL", local, format_args!("KUBE-MARK-MASQ"));
            rule("route LOCAL", local, format_args!("{any}"));
        }
        if self.has_external() {
            let to = self.policy_chain(self.reach.external);
            nat.rule(format_args!("-A {chain} -j {to}"));
        }
    }

    /// A chain whose every rule takes its share of what the rules before it let through.
    fn spread(
        &self,
        restore: &mut Restore,
        policy: Policy,
        chains: &[(&Endpoint, Chain)],
        brief: bool,
    ) {
        let endpoints = self.reach.under(policy);
        if endpoints.is_empty() {
            return;
        }
        let from = self.policy_chain(policy);
        let nat = &mut restore.nat;
        nat.chain(from);
        let targets = chains
            .iter()
            .filter(|(endpoint, _)| endpoints.iter().any(|one| std::ptr::eq(*one, *endpoint)));
        if let Affinity::ClientIp { timeout } = self.service.affinity {
            let seconds = timeout.as_secs();
            for (endpoint, chain) in targets.clone() {
                let comment = self.comment(brief, Some(endpoint));
                nat.rule(format_args!(
                    "-A {from} {comment}-m recent --name {chain} --rcheck --seconds {seconds} \
                     --reap -j {chain}"
                ));
            }
        }
        for (index, (endpoint, chain)) in targets.enumerate() {
            let comment = self.comment(brief, Some(endpoint));
            match endpoints.len() - index {
                1 => nat.rule(format_args!("-A {from} {comment}-j {chain}")),
                left => {
                    let probability = 1.0 / left as f64;
                    nat.rule(format_args!(
                        "-A {from} {comment}-m statistic --mode random --probability \
                         {probability:.10} -j {chain}"
                    ));
                }
            }
        }
    }

    fn endpoint(&self, restore: &mut Restore, endpoint: &Endpoint, chain: Chain, brief: bool) {
        let protocol = self.port.protocol.word();
        let (to, comment) = (endpoint.address, self.comment(brief, None));
        let nat = &mut restore.nat;
        nat.chain(chain);
        // A pod that is sent to itself would answer itself without passing here on the way back.
        nat.rule(format_args!("-A {chain} {comment}-s {} -j KUBE-MARK-MASQ", to.ip()));
        let remember = match self.service.affinity {
            Affinity::None => String::new(),
            Affinity::ClientIp { .. } => format!("-m recent --name {chain} --set "),
        };
        nat.rule(format_args!(
            "-A {chain} {comment}{remember}-m {protocol} -p {protocol} -j DNAT \
             --to-destination {to}"
        ));
    }

    fn comment(&self, brief: bool, endpoint: Option<&Endpoint>) -> String {
        let name = &self.name;
        match endpoint {
            _ if brief => String::new(),
            Some(endpoint) => format!("-m comment --comment \"{name} -> {}\" ", endpoint.address),
            None => format!("-m comment --comment {name} "),
        }
    }
}
