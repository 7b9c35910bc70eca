// SPDX-License-Identifier: Apache-2.0
//! The iptables rules of mode ipvs, as many beside one Service as beside ten thousand
//! (`writeIptablesRules` in `pkg/proxy/ipvs/proxier.go`).

use super::super::iptables::restore::{Restore, Table};
use super::super::iptables::{forward, masquerade};
use super::sets::{Set, Sets};
use crate::net::addresses::PODS;
use crate::plan::IpFamily;

/// The whole ruleset.
pub(super) fn whole(sets: &Sets) -> (String, u64) {
    let mut restore = Restore::with_capacity(512, 4096);
    chains(&mut restore);
    jumps(&mut restore);
    rules(&mut restore, sets);
    restore.whole()
}

/// The same rules for chains that are there already, which are emptied first: the rule for a set
/// is there once something is in the set.
pub(super) fn again(sets: &Sets) -> String {
    let mut restore = Restore::with_capacity(512, 4096);
    chains(&mut restore);
    rules(&mut restore, sets);
    restore.delta().0
}

fn chains(restore: &mut Restore) {
    for chain in [
        "KUBE-SERVICES",
        "KUBE-POSTROUTING",
        "KUBE-NODE-PORT",
        "KUBE-LOAD-BALANCER",
        "KUBE-MARK-MASQ",
    ] {
        restore.nat.chain(chain);
    }
    for chain in [
        "KUBE-FORWARD",
        "KUBE-NODE-PORT",
        "KUBE-PROXY-FIREWALL",
        "KUBE-SOURCE-RANGES-FIREWALL",
        "KUBE-IPVS-FILTER",
        "KUBE-IPVS-OUT-FILTER",
    ] {
        restore.filter.chain(chain);
    }
}

fn jumps(restore: &mut Restore) {
    let nat = &mut restore.nat;
    nat.jump("OUTPUT", "", "kubernetes service portals", "KUBE-SERVICES");
    nat.jump("PREROUTING", "", "kubernetes service portals", "KUBE-SERVICES");
    nat.jump("POSTROUTING", "", "kubernetes postrouting rules", "KUBE-POSTROUTING");
    let filter = &mut restore.filter;
    filter.jump("FORWARD", "", "kubernetes forwarding rules", "KUBE-FORWARD");
    filter.jump("INPUT", "", "kubernetes health check rules", "KUBE-NODE-PORT");
    filter.jump("INPUT", "", "kube-proxy firewall rules", "KUBE-PROXY-FIREWALL");
    filter.jump("FORWARD", "", "kube-proxy firewall rules", "KUBE-PROXY-FIREWALL");
    filter.jump("INPUT", "", "kubernetes ipvs access filter", "KUBE-IPVS-FILTER");
    filter.jump("OUTPUT", "", "kubernetes ipvs access filter", "KUBE-IPVS-OUT-FILTER");
}

fn rules(restore: &mut Restore, sets: &Sets) {
    nat(&mut restore.nat, sets);
    filter(&mut restore.filter, sets.family);
}

/// A rule that is there if there is something in its set (`ipsetWithIptablesChain`).
struct Lookup {
    chain: &'static str,
    protocol: &'static str,
    comment: &'static str,
    set: Set,
    by: &'static str,
    target: &'static str,
}

const CLUSTER_IP: &str = "Kubernetes service cluster ip + port for masquerade purpose";
const HEALTH_CHECK: &str = "Kubernetes health check node port";

/// Local NodePorts come before all NodePorts, which they are among.
const LOOKUPS: [Lookup; 7] = [
    Lookup {
        chain: "KUBE-POSTROUTING",
        protocol: "",
        comment: "Kubernetes endpoints dst ip:port, source ip for solving hairpin purpose",
        set: Set::LoopBack,
        by: "dst,dst,src",
        target: "MASQUERADE",
    },
    Lookup {
        chain: "KUBE-SERVICES",
        protocol: "",
        comment: "Kubernetes service lb portal",
        set: Set::LoadBalancer,
        by: "dst,dst",
        target: "KUBE-LOAD-BALANCER",
    },
    Lookup {
        chain: "KUBE-LOAD-BALANCER",
        protocol: "",
        comment: "Kubernetes service load balancer ip + port with externalTrafficPolicy=local",
        set: Set::LoadBalancerLocal,
        by: "dst,dst",
        target: "RETURN",
    },
    Lookup {
        chain: "KUBE-NODE-PORT",
        protocol: "-p tcp ",
        comment: "Kubernetes nodeport TCP port with externalTrafficPolicy=local",
        set: Set::NodePortLocalTcp,
        by: "dst",
        target: "RETURN",
    },
    Lookup {
        chain: "KUBE-NODE-PORT",
        protocol: "-p tcp ",
        comment: "Kubernetes nodeport TCP port for masquerade purpose",
        set: Set::NodePortTcp,
        by: "dst",
        target: "KUBE-MARK-MASQ",
    },
    Lookup {
        chain: "KUBE-NODE-PORT",
        protocol: "-p udp ",
        comment: "Kubernetes nodeport UDP port with externalTrafficPolicy=local",
        set: Set::NodePortLocalUdp,
        by: "dst",
        target: "RETURN",
    },
    Lookup {
        chain: "KUBE-NODE-PORT",
        protocol: "-p udp ",
        comment: "Kubernetes nodeport UDP port for masquerade purpose",
        set: Set::NodePortUdp,
        by: "dst",
        target: "KUBE-MARK-MASQ",
    },
];

fn nat(nat: &mut Table, sets: &Sets) {
    let loopback = match sets.family {
        IpFamily::Ipv4 => "127.0.0.0/8",
        IpFamily::Ipv6 => "::1/128",
    };
    nat.rule(format_args!("-A KUBE-SERVICES -s {loopback} -j RETURN"));
    for lookup in LOOKUPS.iter().filter(|lookup| sets.is_filled(lookup.set)) {
        let Lookup { chain, protocol, comment, set, by, target } = lookup;
        let set = set.name(sets.family);
        nat.rule(format_args!(
            "-A {chain} {protocol}-m comment --comment \"{comment}\" -m set --match-set {set} {by} \
             -j {target}"
        ));
    }
    if sets.is_filled(Set::ClusterIp) {
        let (set, pods) = (Set::ClusterIp.name(sets.family), PODS.of(sets.family));
        nat.rule(format_args!(
            "-A KUBE-SERVICES -m comment --comment \"{CLUSTER_IP}\" -m set --match-set {set} \
             dst,dst ! -s {pods} -j KUBE-MARK-MASQ"
        ));
    }
    nat.rule(format_args!("-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODE-PORT"));
    nat.rule(format_args!("-A KUBE-LOAD-BALANCER -j KUBE-MARK-MASQ"));
    for set in [Set::ClusterIp, Set::LoadBalancer] {
        if sets.is_filled(set) {
            let set = set.name(sets.family);
            nat.rule(format_args!("-A KUBE-SERVICES -m set --match-set {set} dst,dst -j ACCEPT"));
        }
    }
    masquerade(nat);
}

fn filter(filter: &mut Table, family: IpFamily) {
    filter.rule(format_args!("-A KUBE-SOURCE-RANGES-FIREWALL -j DROP"));
    forward(filter);
    let name = Set::HealthCheckNodePort.name(family);
    filter.rule(format_args!(
        "-A KUBE-NODE-PORT -m comment --comment \"{HEALTH_CHECK}\" -m set --match-set {name} dst \
         -j ACCEPT"
    ));
    // A Service's address is the node's, so the node's own services would answer at it
    // (Kubernetes #72236). Traffic of Services returns before the last rule.
    for set in [Set::LoadBalancer, Set::ClusterIp, Set::ExternalIp, Set::ExternalIpLocal] {
        let name = set.name(family);
        filter
            .rule(format_args!("-A KUBE-IPVS-FILTER -m set --match-set {name} dst,dst -j RETURN"));
    }
    filter.rule(format_args!("-A KUBE-IPVS-FILTER -m set --match-set {name} dst -j RETURN"));
    let name = Set::IpvsIps.name(family);
    filter.rule(format_args!(
        "-A KUBE-IPVS-FILTER -m conntrack --ctstate NEW -m set --match-set {name} dst -j DROP"
    ));
}
