// SPDX-License-Identifier: Apache-2.0
//! Kernel settings of the lab's hosts. A new namespace takes some from the host (`rp_filter`,
//! `accept_redirects`), so whatever the path depends on is said here.

use crate::net::Netns;
#[cfg(feature = "kind")]
use crate::net::{Link, NetError};
use crate::plan::{IpFamily, IpStack, ReversePath};

/// What a host is to the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::lab) enum Role {
    Fabric,
    Client,
    Balancer,
    /// A load balancer that routes.
    Router,
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

/// Nobody else has an address of the lab's, and asking takes a second. There are no routers that would tell a host
/// of others, and redirects are not listened to; that a router sends them cannot be told, but to send one it
/// would need a next hop with a link-local address (`ndisc_send_redirect`, net/ipv6/ndisc.c), which no route here
/// has.
const IPV6: [(&str, &str); 10] = [
    ("net/ipv6/conf/all/disable_ipv6", "0"),
    ("net/ipv6/conf/default/disable_ipv6", "0"),
    ("net/ipv6/conf/all/accept_dad", "0"),
    ("net/ipv6/conf/default/accept_dad", "0"),
    ("net/ipv6/conf/all/dad_transmits", "0"),
    ("net/ipv6/conf/default/dad_transmits", "0"),
    ("net/ipv6/conf/all/accept_ra", "0"),
    ("net/ipv6/conf/default/accept_ra", "0"),
    ("net/ipv6/conf/all/accept_redirects", "0"),
    ("net/ipv6/conf/default/accept_redirects", "0"),
];

/// The entry node takes packets in at `eth0` and sends them out of it again. Were it to say so
/// (RFC 792, redirect), or were a host to listen, the next packet would take a shorter path. Of
/// `all` and the interface's own setting, sending wants either, so both are off.
const NO_REDIRECTS: [(&str, &str); 4] = [
    ("net/ipv4/conf/all/send_redirects", "0"),
    ("net/ipv4/conf/default/send_redirects", "0"),
    ("net/ipv4/conf/all/accept_redirects", "0"),
    ("net/ipv4/conf/default/accept_redirects", "0"),
];

/// Of `all` and an interface's own setting, the larger holds. `all` stays 0, as on a machine with systemd: Calico wants
/// it so, and sets its interfaces' itself.
fn reverse_path(filter: ReversePath) -> [(&'static str, &'static str); 2] {
    [("net/ipv4/conf/all/rp_filter", "0"), ("net/ipv4/conf/default/rp_filter", filter.value())]
}

/// Where connections are accepted: the answer carries the mark of a sampled connection, and a
/// burst of new ones finds room (the kernel's default since 5.4).
const SERVER: [(&str, &str); 2] = [(REFLECT_TOS, "1"), ("net/core/somaxconn", "4096")];

/// A node that outlives a case remembers what was asked in it for as long as it remembers a connection that was
/// reset, seconds, and not three times that: addresses and ports come again.
#[cfg(feature = "kind")]
const FORGETS_QUERIES: [(&str, &str); 1] = [("net/netfilter/nf_conntrack_udp_timeout", "10")];

/// The wire is not a node: no table of netfilter stands on it.
const BARE_BRIDGE: [(&str, &str); 3] = [
    (BRIDGE_NETFILTER, "0"),
    ("net/bridge/bridge-nf-call-ip6tables", "0"),
    ("net/bridge/bridge-nf-call-arptables", "0"),
];

/// What hands packets on that are not for it.
const FORWARDS: [(&str, &str); 1] = [("net/ipv4/ip_forward", "1")];
const FORWARDS_IPV6: [(&str, &str); 1] = [("net/ipv6/conf/all/forwarding", "1")];
/// What a node does besides with packets of IPv6.
const NODE_IPV6: [(&str, &str); 2] =
    [FORWARDS_IPV6[0], ("net/bridge/bridge-nf-call-ip6tables", "1")];

/// kubeadm's preflight wants these of a node.
const NODE: [(&str, &str); 2] = [FORWARDS[0], (BRIDGE_NETFILTER, "1")];

/// A host's settings, in the order they are written. `ip_forward` is first: writing it resets
/// others (`net/ipv4/devinet.c`, `inet_forward_change`).
pub(in crate::lab) fn settings(
    role: Role,
    ip: IpStack,
    filter: ReversePath,
) -> Vec<(&'static str, &'static str)> {
    let own: &[&[(&str, &str)]] = match role {
        Role::Fabric => &[&BARE_BRIDGE],
        Role::Client => &[&NO_REDIRECTS],
        Role::Node => &[&NODE, &NO_REDIRECTS, &SERVER],
        Role::Router => &[&FORWARDS, &NO_REDIRECTS],
        Role::Balancer | Role::Pod => &[&NO_REDIRECTS, &SERVER],
    };
    // What is outside is no part of what is measured.
    let filter = match role {
        Role::Node | Role::Pod => filter,
        Role::Fabric | Role::Client | Role::Balancer | Role::Router => ReversePath::Off,
    };
    // The wire has no addresses, whatever passes it.
    let of_ipv6: &[&[(&str, &str)]] = match (ip.has(IpFamily::Ipv6), role) {
        (false, _) | (_, Role::Fabric) => &[&NO_IPV6],
        (true, Role::Node) => &[&IPV6, &NODE_IPV6],
        (true, Role::Router) => &[&IPV6, &FORWARDS_IPV6],
        (true, Role::Client | Role::Balancer | Role::Pod) => &[&IPV6],
    };
    let shared = own.iter().chain(of_ipv6).copied().flatten().copied();
    shared.chain(reverse_path(filter)).collect()
}

/// Those of a node that its cluster has set up: what the path depends on besides. Its IPv6 is the
/// cluster's.
#[cfg(feature = "kind")]
pub(in crate::lab) fn cluster_node(filter: ReversePath) -> Vec<(&'static str, &'static str)> {
    NO_REDIRECTS
        .into_iter()
        .chain(SERVER)
        .chain(FORGETS_QUERIES)
        .chain(reverse_path(filter))
        .collect()
}

/// Interfaces that are there before a host's settings do not have their defaults.
#[cfg(feature = "kind")]
pub(in crate::lab) fn of_interfaces(
    netns: &Netns,
    filter: ReversePath,
) -> Result<Vec<(String, &'static str)>, NetError> {
    let of = |link: Link| (format!("net/ipv4/conf/{}/rp_filter", link.name), filter.value());
    Ok(netns.state()?.links.into_iter().map(of).collect())
}

/// Whether bridged packets can pass iptables on this kernel.
pub(super) fn has_bridge_netfilter(question: &Netns) -> bool {
    question.run(|| std::path::Path::new("/proc/sys").join(BRIDGE_NETFILTER).exists())
}

/// Whether the lab can do without a setting that the kernel does not have: an IPv6 that is not
/// there is off, and bridges and marks have their own notes.
pub(super) fn dispensable(key: &str, ip: IpStack) -> bool {
    let ipv6 = !ip.has(IpFamily::Ipv6) && key.starts_with("net/ipv6/");
    ipv6 || key.starts_with("net/bridge/") || key == REFLECT_TOS
}
