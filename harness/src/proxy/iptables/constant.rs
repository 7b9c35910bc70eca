// SPDX-License-Identifier: Apache-2.0
//! What kube-proxy's iptables mode writes whatever the Services are: its chains, the jumps into
//! them, and the rules on marked packets.

use super::restore::{Restore, Table};
use crate::plan::IpFamily;

/// Mark of packets whose source is to be replaced (`masqueradeBit` 14).
pub(crate) const MARK: &str = "0x4000";
/// Connections that are new: the filter rules are walked once per connection.
const NEW: &str = "-m conntrack --ctstate NEW";

/// Chains that every node has, before any Service's.
pub(super) fn chains(restore: &mut Restore) {
    for chain in [
        "KUBE-SERVICES",
        "KUBE-EXTERNAL-SERVICES",
        "KUBE-FORWARD",
        "KUBE-NODEPORTS",
        "KUBE-PROXY-FIREWALL",
        "KUBE-FIREWALL",
    ] {
        restore.filter.chain(chain);
    }
    for chain in ["KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-POSTROUTING", "KUBE-MARK-MASQ"] {
        restore.nat.chain(chain);
    }
}

/// Jumps from the built-in chains, each put before the ones already there, in kube-proxy's order
/// (`iptablesJumpChains`, `iptablesKubeletJumpChains`).
pub(super) fn jumps(restore: &mut Restore) {
    let filter = &mut restore.filter;
    let external = "kubernetes externally-visible service portals";
    filter.jump("INPUT", NEW, external, "KUBE-EXTERNAL-SERVICES");
    filter.jump("FORWARD", NEW, external, "KUBE-EXTERNAL-SERVICES");
    filter.jump("INPUT", "", "kubernetes health check service ports", "KUBE-NODEPORTS");
    filter.jump("FORWARD", NEW, "kubernetes service portals", "KUBE-SERVICES");
    filter.jump("OUTPUT", NEW, "kubernetes service portals", "KUBE-SERVICES");
    filter.jump("FORWARD", "", "kubernetes forwarding rules", "KUBE-FORWARD");
    for chain in ["INPUT", "OUTPUT", "FORWARD"] {
        filter.jump(chain, NEW, "kubernetes load balancer firewall", "KUBE-PROXY-FIREWALL");
    }
    let nat = &mut restore.nat;
    nat.jump("OUTPUT", "", "kubernetes service portals", "KUBE-SERVICES");
    nat.jump("PREROUTING", "", "kubernetes service portals", "KUBE-SERVICES");
    nat.jump("POSTROUTING", "", "kubernetes postrouting rules", "KUBE-POSTROUTING");
    restore.filter.jump("INPUT", "", "", "KUBE-FIREWALL");
    restore.filter.jump("OUTPUT", "", "", "KUBE-FIREWALL");
}

/// Rules that set the mark, and that replace the source of marked packets on their way out. The
/// mark is cleared first, so that an encapsulated packet is not masqueraded a second time.
pub(crate) fn masquerade(nat: &mut Table) {
    nat.rule(format_args!("-A KUBE-POSTROUTING -m mark ! --mark {MARK}/{MARK} -j RETURN"));
    nat.rule(format_args!("-A KUBE-POSTROUTING -j MARK --xor-mark {MARK}"));
    nat.rule(format_args!(
        "-A KUBE-POSTROUTING -m comment --comment \"kubernetes service traffic requiring SNAT\" \
         -j MASQUERADE --random-fully"
    ));
    nat.rule(format_args!("-A KUBE-MARK-MASQ -j MARK --or-mark {MARK}"));
}

/// Rules of `KUBE-FIREWALL` and `KUBE-FORWARD`.
pub(super) fn filter(filter: &mut Table, family: IpFamily) {
    // `route_localnet`, which NodePorts on 127.0.0.1 need, would let neighbours in without it
    // (CVE-2020-8558).
    if family == IpFamily::Ipv4 {
        filter.rule(format_args!(
            "-A KUBE-FIREWALL -m comment --comment \"block incoming localnet connections\" \
             -d 127.0.0.0/8 ! -s 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP"
        ));
    }
    // A packet that connection tracking finds invalid is not translated back; if it went on, its
    // peer would see a stranger's packet and reset the connection (Kubernetes #74839).
    filter.rule(format_args!("-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP"));
    forward(filter);
}

/// Rules that let marked packets and what follows them through whatever FORWARD's policy is.
pub(crate) fn forward(filter: &mut Table) {
    filter.rule(format_args!(
        "-A KUBE-FORWARD -m comment --comment \"kubernetes forwarding rules\" \
         -m mark --mark {MARK}/{MARK} -j ACCEPT"
    ));
    filter.rule(format_args!(
        "-A KUBE-FORWARD -m comment --comment \"kubernetes forwarding conntrack rule\" \
         -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
    ));
}

/// The rule that everything no Service rule took and that is for the node itself ends at.
pub(super) fn node_ports(nat: &mut Table, family: IpFamily) {
    // What comes to ::1 could not be answered.
    let but = if family == IpFamily::Ipv6 { "! -d ::1/128 " } else { "" };
    nat.rule(format_args!(
        "-A KUBE-SERVICES -m comment --comment \"kubernetes service nodeports; NOTE: this must be \
         the last rule in this chain\" -m addrtype --dst-type LOCAL {but}-j KUBE-NODEPORTS"
    ));
}
