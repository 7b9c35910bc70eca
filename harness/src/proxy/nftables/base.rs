// SPDX-License-Identifier: Apache-2.0
//! The part of the ruleset that is the same for every cluster: what `setupNFTables` of
//! `pkg/proxy/nftables/proxier.go` writes, at the commit the module names.

use std::net::IpAddr;

use super::transaction::Transaction;
use crate::net::addresses::SERVICES;

/// Bit 14, kube-proxy's `masqueradeBit`.
const MASQUERADE_MARK: &str = "0x4000";

/// `ADDRESS` stands for the family's type.
const FRONTEND: &str = "type ADDRESS . inet_proto . inet_service : verdict ;";
const NODE_PORT: &str = "type inet_proto . inet_service : verdict ;";

/// Name, type, hook and priority. Filters stand before DNAT (-100), since they match Services'
/// addresses; `filter-output-post-dnat` after it, to see what no Service took.
const BASE_CHAINS: [(&str, &str, &str, &str); 8] = [
    ("filter-prerouting", "filter", "prerouting", "-110"),
    ("filter-input", "filter", "input", "-110"),
    ("filter-forward", "filter", "forward", "-110"),
    ("filter-output", "filter", "output", "-110"),
    ("filter-output-post-dnat", "filter", "output", "-90"),
    ("nat-prerouting", "nat", "prerouting", "-100"),
    ("nat-output", "nat", "output", "-100"),
    ("nat-postrouting", "nat", "postrouting", "100"),
];

/// From which base chain which chain is jumped to. Only a flow's first packet is checked; nat
/// chains see no other.
const JUMPS: [(&str, &str); 11] = [
    ("filter-input", "ct state new jump nodeport-endpoints-check"),
    ("filter-input", "ct state new jump service-endpoints-check"),
    ("filter-forward", "ct state new jump service-endpoints-check"),
    ("filter-output", "ct state new jump service-endpoints-check"),
    ("filter-prerouting", "ct state new jump firewall-check"),
    ("filter-output", "ct state new jump firewall-check"),
    ("nat-output", "jump services"),
    ("nat-prerouting", "jump services"),
    ("nat-postrouting", "jump masquerading"),
    ("filter-forward", "ct state new jump cluster-ips-check"),
    ("filter-output-post-dnat", "ct state new jump cluster-ips-check"),
];

/// Chains that are jumped to.
const CHAINS: [&str; 7] = [
    "nodeport-endpoints-check",
    "service-endpoints-check",
    "firewall-check",
    "services",
    "masquerading",
    "cluster-ips-check",
    "mark-for-masquerade",
];

/// `set` or `map`, name, type, comment.
const CONTAINERS: [(&str, &str, &str, &str); 7] = [
    ("set", "cluster-ips", "type ADDRESS ;", "Active ClusterIPs"),
    ("set", "nodeport-ips", "type ADDRESS ;", "IPs that accept NodePort traffic"),
    (
        "map",
        "no-endpoint-services",
        FRONTEND,
        "vmap to drop or reject packets to services with no endpoints",
    ),
    (
        "map",
        "no-endpoint-nodeports",
        NODE_PORT,
        "vmap to drop or reject packets to service nodeports with no endpoints",
    ),
    ("map", "firewall-ips", FRONTEND, "destinations that are subject to LoadBalancerSourceRanges"),
    ("map", "service-ips", FRONTEND, "ClusterIP, ExternalIP and LoadBalancer IP traffic"),
    ("map", "service-nodeports", NODE_PORT, "NodePort traffic"),
];

/// Writes everything but the Services. NodePorts answer at `node_address` only: kube-proxy's
/// default in this mode is `nodePortAddresses: [primary]`.
pub(super) fn write(transaction: &mut Transaction, node_address: IpAddr) {
    transaction.table("rules for kube-proxy");
    // kube-proxy's first transaction makes its base chains anew: a chain that is there with another
    // priority could not be changed.
    for (name, ..) in BASE_CHAINS {
        transaction.forget_chain(name);
    }
    for (name, kind, hook, priority) in BASE_CHAINS {
        transaction.base_chain(name, kind, hook, priority);
    }
    for name in CHAINS {
        transaction.chain(name);
    }
    transaction.commented_chain(
        "reject-chain",
        "helper for @no-endpoint-services / @no-endpoint-nodeports",
    );
    let address = address_type(node_address);
    for (what, name, kind, comment) in CONTAINERS {
        let kind = kind.replace("ADDRESS", address);
        transaction.container(what, name, &format!("{kind} comment \"{comment}\" ;"));
        transaction.flush(what, name);
    }
    for (from, rule) in JUMPS {
        transaction.rule(from, &[rule]);
    }
    rules(transaction, &SERVICES.like(node_address).to_string());
    transaction.element("nodeport-ips", &[&node_address.to_string()]);
}

/// What sets of addresses of a family are of.
pub(super) fn address_type(address: IpAddr) -> &'static str {
    if address.is_ipv6() { "ipv6_addr" } else { "ipv4_addr" }
}

fn rules(transaction: &mut Transaction, services: &str) {
    let ip = transaction.ip;
    let mut rule = |chain, parts: &[&str]| transaction.rule(chain, parts);
    rule("mark-for-masquerade", &["mark set mark or ", MASQUERADE_MARK]);
    rule("masquerading", &["mark and ", MASQUERADE_MARK, " == 0 return"]);
    rule("masquerading", &["mark set mark xor ", MASQUERADE_MARK]);
    rule("masquerading", &["masquerade fully-random"]);
    rule(
        "cluster-ips-check",
        &[
            ip,
            " daddr @cluster-ips reject comment \"Reject traffic to invalid ports of ClusterIPs\"",
        ],
    );
    rule(
        "cluster-ips-check",
        &[ip, " daddr { ", services, " } drop comment \"Drop traffic to unallocated ClusterIPs\""],
    );
    rule("reject-chain", &["reject"]);
    rule(
        "service-endpoints-check",
        &[ip, " daddr . meta l4proto . th dport vmap @no-endpoint-services"],
    );
    rule(
        "nodeport-endpoints-check",
        &[ip, " daddr @nodeport-ips meta l4proto . th dport vmap @no-endpoint-nodeports"],
    );
    rule("firewall-check", &[ip, " daddr . meta l4proto . th dport vmap @firewall-ips"]);
    rule("services", &[ip, " daddr . meta l4proto . th dport vmap @service-ips"]);
    rule("services", &[ip, " daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports"]);
}
