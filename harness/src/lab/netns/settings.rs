// SPDX-License-Identifier: Apache-2.0
//! Kernel settings of the lab's hosts. A new namespace takes some from the host (`rp_filter`,
//! `accept_redirects`), so whatever the path depends on is said here.

use crate::net::Netns;

/// What a host is to the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::lab) enum Role {
    Fabric,
    Client,
    Balancer,
    Node,
    Pod,
}

/// Whether bridged packets pass iptables; also tells whether the kernel has `br_netfilter`.
pub(super) const BRIDGE_NETFILTER: &str = "net/bridge/bridge-nf-call-iptables";
/// Whether an accepted connection answers with the type of service it was opened with.
pub(super) const REFLECT_TOS: &str = "net/ipv4/tcp_reflect_tos";

/// Before any interface is made: neighbour discovery and multicast listener reports would be
/// packets on the path that no request caused, and duplicate address detection a second's wait.
const NO_IPV6: [(&str, &str); 2] =
    [("net/ipv6/conf/all/disable_ipv6", "1"), ("net/ipv6/conf/default/disable_ipv6", "1")];

/// The entry node takes packets in at `eth0` and sends them out of it again. Were it to say so
/// (RFC 792, redirect), or were a host to listen, the next packet would take a shorter path. Of
/// `all` and the interface's own setting, sending wants either, so both are off.
const NO_REDIRECTS: [(&str, &str); 4] = [
    ("net/ipv4/conf/all/send_redirects", "0"),
    ("net/ipv4/conf/default/send_redirects", "0"),
    ("net/ipv4/conf/all/accept_redirects", "0"),
    ("net/ipv4/conf/default/accept_redirects", "0"),
];

/// Answers may leave by another interface than they came: kube-proxy wants this too.
const NO_REVERSE_PATH_FILTER: [(&str, &str); 2] =
    [("net/ipv4/conf/all/rp_filter", "0"), ("net/ipv4/conf/default/rp_filter", "0")];

/// Where connections are accepted: the answer carries the mark of a sampled connection, and a
/// burst of new ones finds room (the kernel's default since 5.4).
const SERVER: [(&str, &str); 2] = [(REFLECT_TOS, "1"), ("net/core/somaxconn", "4096")];

/// The wire is not a node: no table of netfilter stands on it.
const BARE_BRIDGE: [(&str, &str); 3] = [
    (BRIDGE_NETFILTER, "0"),
    ("net/bridge/bridge-nf-call-ip6tables", "0"),
    ("net/bridge/bridge-nf-call-arptables", "0"),
];

/// kubeadm's preflight wants these of a node.
const NODE: [(&str, &str); 2] = [("net/ipv4/ip_forward", "1"), (BRIDGE_NETFILTER, "1")];

/// A host's settings, in the order they are written. `ip_forward` is first: writing it resets
/// others (`net/ipv4/devinet.c`, `inet_forward_change`).
pub(in crate::lab) fn settings(role: Role) -> Vec<(&'static str, &'static str)> {
    let own: &[&[(&str, &str)]] = match role {
        Role::Fabric => &[&BARE_BRIDGE],
        Role::Client => &[&NO_REDIRECTS, &NO_REVERSE_PATH_FILTER],
        Role::Node => &[&NODE, &NO_REDIRECTS, &NO_REVERSE_PATH_FILTER, &SERVER],
        Role::Balancer | Role::Pod => &[&NO_REDIRECTS, &NO_REVERSE_PATH_FILTER, &SERVER],
    };
    own.iter().copied().chain([&NO_IPV6[..]]).flatten().copied().collect()
}

/// Those of a node that its cluster has set up: what the path depends on besides. Its IPv6 is the
/// cluster's.
#[cfg(feature = "kind")]
pub(in crate::lab) fn cluster_node() -> Vec<(&'static str, &'static str)> {
    let own: [&[(&str, &str)]; 3] = [&NO_REDIRECTS, &NO_REVERSE_PATH_FILTER, &SERVER];
    own.into_iter().flatten().copied().collect()
}

/// Whether bridged packets can pass iptables on this kernel.
pub(super) fn has_bridge_netfilter(question: &Netns) -> bool {
    question.run(|| std::path::Path::new("/proc/sys").join(BRIDGE_NETFILTER).exists())
}

/// Whether the lab can do without a setting that the kernel does not have: an IPv6 that is not
/// there is off, and bridges and marks have their own notes.
pub(super) fn dispensable(key: &str) -> bool {
    key.starts_with("net/ipv6/") || key.starts_with("net/bridge/") || key == REFLECT_TOS
}
