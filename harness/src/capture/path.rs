// SPDX-License-Identifier: Apache-2.0
//! The walk a request and its response take through the lab's interfaces, and what lies between
//! two of them.
//!
//! Stages are named with the words of `docs/method.md`. Those that no probe lies between are joined
//! by `+`: taps see devices only, and find everything between two of them in one stage.
//!
//! | stage | from -> to |
//! |---|---|
//! | `dns` | first query -> `connect()` called, where a name is resolved |
//! | `connect` | `connect()` called -> connected, new connections only |
//! | `handover` | connected -> request written: the client's own, new connections only |
//! | `client_tx` | client's write -> its interface, out |
//! | `wire` | client's interface -> first interface of the entry node, or of the load balancer, and back |
//! | `lb` | load balancer's interface, in -> out by its other connection, and back |
//! | `ingress` | ingress pod's `eth0`, in -> out by its connection to the backend, and back |
//! | `up_...` | the same stages between the ingress pod and the backend |
//! | `lb_wire` | load balancer's interface, out -> entry node's NIC, in, and back |
//! | `nic_rx` | that interface, in -> PREROUTING |
//! | `conntrack` | before -> behind connection tracking |
//! | `proxy` | -> behind destination NAT; where the node itself takes the packet up (a proxy process, ip_vs), from INPUT -> OUTPUT too |
//! | `route` | -> FORWARD, or INPUT: the routing decision |
//! | `filter` | -> POSTROUTING: the chains of FORWARD, or of OUTPUT with its connection tracking |
//! | `masq` | -> behind source NAT |
//! | `egress` | -> the device, out: a new connection's confirmation, the neighbour's address, the queue |
//! | `cni` | local backend: that device, out -> pod `eth0`, in, and back; under ipvlan and macvlan, where the node's stack is passed by, from its NIC, in, or from the client pod's interface, out |
//! | `encap` | VXLAN device, out -> NIC, out, on whichever node wraps the packet |
//! | `fabric` | NIC of one node, out -> NIC of the other, in |
//! | `decap` | NIC, in -> VXLAN device, in, on whichever node unwraps it |
//! | `deliver` | backend node's NIC or VXLAN device, in -> pod `eth0`, in, and back |
//! | `pod_rx` | pod `eth0`, in -> data readable on the socket |
//! | `wakeup` | readable -> the server's read has returned |
//! | `upload` | that read -> the one that returned the request's last bytes, where requests have a body |
//! | `app` | read returned -> just before the response is written |
//! | `pod_tx` | response written -> pod `eth0`, out |
//! | `client_rx` | client's interface, in -> the client's read has returned |
//! | `body` | first byte read -> last byte read |
//!
//! Under a CNI of somebody else's all from the entry node's NIC to the pod is one stage: which devices and
//! hooks it has packets pass is its own affair.
//!
//! The response mirrors the request with the same names.

mod bypass;
mod walk;

use std::fmt;
use std::net::IpAddr;

use record::Leg;

use self::walk::Walk;
use super::{Direction, Site, TapInfo};
use crate::plan::{CniKind, Mode, Place, Road, Route};

/// What the entry node does to a packet between receiving it and handing it to a device, to an
/// engine that sees devices only. The name is the same in all modes that pass the hooks, so that
/// they can be compared: in mode `none` there is little of `proxy` and `masq` in it.
pub const NODE: &str = "nic_rx+conntrack+proxy+route+filter+masq+egress";

/// What mode `ebpf` does between the device a packet enters by and the one it leaves by: one program
/// at tc ingress, which nothing can be probed inside of. It passes no hook: there is no connection
/// tracking of the kernel's in it, no filter and no masquerade of netfilter's.
pub const AT_PORT: &str = "nic_rx+proxy+route+egress";

/// What lies between the entry node's NIC and a pod under a CNI of somebody else's: its devices are
/// not known, nor which hooks it has packets pass, nor whether it wraps them between nodes.
pub const OTHERS: &str = "nic_rx+conntrack+proxy+route+filter+masq+egress+cni";

/// The same from a client pod, whose own way to its node is the CNI's too.
pub const OTHERS_FROM_POD: &str = "wire+nic_rx+conntrack+proxy+route+filter+masq+egress+cni";

/// Node that requests enter, index, where no load balancer chooses it.
const ENTRY_NODE: usize = 0;

/// Whose interface a hop is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// The client outside, or the client pod.
    Client,
    /// The load balancer outside the cluster.
    Balancer,
    /// The node that requests enter.
    Entry,
    /// The pod of the ingress controller, on the entry node.
    Ingress,
    /// Another node, with the backend on it.
    Backend,
    /// The pod that answers.
    Pod,
}

impl Host {
    /// Whose interface a tap is on, for requests that enter by the first node.
    pub fn of(tap: &TapInfo) -> Self {
        Self::entering(tap, ENTRY_NODE)
    }

    /// Whose interface a tap is on, for requests that enter by a node, index.
    fn entering(tap: &TapInfo, entry: usize) -> Self {
        match (tap.site, tap.node) {
            (Site::ClientEth, _) => Self::Client,
            (Site::BalancerEth, _) => Self::Balancer,
            (Site::IngressEth, _) => Self::Ingress,
            (Site::PodEth | Site::Readable, _) => Self::Pod,
            (_, Some(node)) if node == entry => Self::Entry,
            _ => Self::Backend,
        }
    }
}

/// One passage of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Direction of travel.
    pub leg: Leg,
    /// Whose interface.
    pub host: Host,
    /// Where on it.
    pub site: Site,
    /// In or out, seen from the host.
    pub direction: Direction,
    /// Whether the packet is inside VXLAN there.
    pub encapsulated: bool,
    /// Which of the connections that relays join: 0 is the client's own.
    pub part: u8,
    /// Whether packets may pass it by.
    pub optional: bool,
    /// What lies between the hop before (or the program that sends) and this one.
    pub stage: &'static str,
}

impl fmt::Display for Hop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = match self.host {
            Host::Client => "client",
            Host::Balancer => "load balancer",
            Host::Entry => "entry node",
            Host::Ingress => "ingress pod",
            Host::Backend => "backend node",
            Host::Pod => "pod",
        };
        let direction = match self.direction {
            Direction::In => "in",
            Direction::Out => "out",
        };
        let wrapped = if self.encapsulated { " (vxlan)" } else { "" };
        let leg = match self.leg {
            Leg::Request => "request",
            Leg::Response => "response",
        };
        let site = self.site.word();
        if self.site.is_device() {
            write!(f, "{leg} {host} {site} {direction}{wrapped}")
        } else {
            write!(f, "{leg} {host} {site}")
        }
    }
}

/// The whole walk, request first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    hops: Vec<Hop>,
    relayed: bool,
    balanced: bool,
    /// First part behind a reverse proxy.
    ingress: Option<u8>,
    /// The proxy's address.
    ingress_address: Option<IpAddr>,
    /// Whether TLS does not end there.
    passes_tls: bool,
    parts: u8,
    bypass: bool,
    /// Nodes that requests enter by, indices.
    entries: Vec<usize>,
    body: bool,
}

impl Path {
    /// The walk of a case.
    pub fn of(mode: Mode, cni: CniKind, route: Route) -> Self {
        Self::walked(Walk::of(mode, cni, route), mode, route)
    }

    /// The walk by a load balancer that is a router: it hands packets on as they are, and answers go past it.
    pub fn routed(mode: Mode, cni: CniKind, place: Place) -> Self {
        let road = if mode == Mode::None { Road::Direct } else { Road::Lbip };
        let route = Route { road, place };
        Self::walked(Walk::of(mode, cni, route).through_router(), mode, route)
    }

    fn walked(walk: Walk, mode: Mode, route: Route) -> Self {
        let (bypass, relays) = (walk.is_bypass(), walk.relays());
        let relayed = mode == Mode::Userspace && relays > 0;
        let balanced = route.road == Road::Loadbalancer;
        // Behind the client's own connection, and that of the proxy process that it is for.
        let ingress = route.road.is_ingress().then_some(1 + u8::from(relayed));
        let parts = 1 + u8::from(balanced) + u8::from(ingress.is_some()) + relays;
        let entries = vec![ENTRY_NODE];
        Self {
            hops: walk.all(),
            relayed,
            balanced,
            ingress,
            ingress_address: None,
            parts,
            bypass,
            entries,
            body: false,
            passes_tls: false,
        }
    }

    /// The same walk of requests that have a body or none.
    pub fn with_body(self, body: bool) -> Self {
        Self { body, ..self }
    }

    /// Whether requests have a body, and with it stage `upload`.
    pub fn has_body(&self) -> bool {
        self.body
    }

    /// The same walk by whichever of these nodes a load balancer chooses, indices; at least one.
    pub fn entered_by(self, entries: Vec<usize>) -> Self {
        Self { entries, ..self }
    }

    /// The same walk by an ingress controller of that address: by it the own connections of a proxy process
    /// on the entry node are told apart, which makes one to the controller and one for it.
    pub fn by_ingress(self, address: Option<IpAddr>) -> Self {
        Self { ingress_address: address, ..self }
    }

    /// The same walk by an ingress controller that passes TLS through, or one where it ends.
    pub fn passing_tls(self, passes: bool) -> Self {
        Self { passes_tls: passes, ..self }
    }

    /// Whether TLS ends before the pod.
    pub(super) fn ends_tls(&self) -> bool {
        self.ingress.is_some() && !self.passes_tls
    }

    /// The ingress controller's address, where it is known.
    pub(super) fn ingress_address(&self) -> Option<IpAddr> {
        self.ingress_address
    }

    /// Nodes that requests enter by, indices.
    pub fn entries(&self) -> &[usize] {
        &self.entries
    }

    /// Whether a tap is at a place of the path, whichever node a request enters by.
    pub fn passes(&self, tap: &TapInfo) -> bool {
        self.entries.iter().any(|&entry| {
            let host = self.host_of(tap, entry);
            self.hops.iter().any(|hop| Some(hop.host) == host && hop.site == tap.site)
        })
    }

    /// Whose interface a tap is on, for requests that enter by a node, index. Of the nodes that others
    /// enter by, none: the pod that answers is on none of them, or on the one that was entered by.
    pub fn host_of(&self, tap: &TapInfo, entry: usize) -> Option<Host> {
        let host = Host::entering(tap, entry);
        let aside =
            host == Host::Backend && tap.node.is_some_and(|node| self.entries.contains(&node));
        (!aside).then_some(host)
    }

    /// The hops in order.
    pub fn hops(&self) -> &[Hop] {
        &self.hops
    }

    /// Whether the entry node's network stack never sees the request: no rule of any mode can meet it.
    pub fn passes_entry_by(&self) -> bool {
        self.bypass
    }

    /// Whether a proxy process joins two connections on the entry node.
    pub fn relayed(&self) -> bool {
        self.relayed
    }

    /// Whether a load balancer joins two connections before that.
    pub fn balanced(&self) -> bool {
        self.balanced
    }

    /// First part behind a reverse proxy, where there is one: from there on a request lies elsewhere in the
    /// stream, and which connection it takes is its own affair, not that of the connection it came by.
    pub fn ingress(&self) -> Option<u8> {
        self.ingress
    }

    /// First part behind a program that does not say which of its connections belong together, a reverse
    /// proxy or a load balancer: from there on a request is found from its server's end.
    pub fn beyond(&self) -> Option<u8> {
        self.ingress.or(self.balanced.then_some(1))
    }

    /// How many connections are joined to one road.
    pub fn parts(&self) -> u8 {
        self.parts
    }
}

#[cfg(test)]
mod tests;
