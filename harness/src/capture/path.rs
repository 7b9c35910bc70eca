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

use std::fmt;

use record::Leg;

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
    bypass: bool,
    /// Nodes that requests enter by, indices.
    entries: Vec<usize>,
}

impl Path {
    /// The walk of a case.
    pub fn of(mode: Mode, cni: CniKind, route: Route) -> Self {
        let to_service = route.road != Road::Direct;
        let relayed = mode == Mode::Userspace && to_service;
        let walk = Walk {
            hops: Vec::new(),
            leg: Leg::Request,
            part: 0,
            relayed,
            balanced: route.road == Road::Loadbalancer,
            bridged: matches!(cni, CniKind::Bridge | CniKind::Vxlan),
            vxlan: cni == CniKind::Vxlan,
            ipvlan: cni == CniKind::Ipvlan,
            macvlan: cni == CniKind::Macvlan,
            others: !cni.is_own(),
            to_service: mode != Mode::None && to_service,
            taken_up: relayed || mode == Mode::Ipvs && to_service,
            taken_at_port: mode == Mode::Ebpf && to_service,
            from_pod: route.road == Road::Clusterip,
            local: route.place == Place::Local,
            // A pod answers the address the request came from: the client pod's, that of the VXLAN
            // device (which MASQUERADE, mode ebpf and the proxy process's socket take for their
            // source), or a client's outside, which other nodes reach through the VXLAN device of
            // the entry node too.
            reply_wrapped: cni == CniKind::Vxlan,
        };
        let (bypass, balanced) = (walk.is_bypass(), walk.balanced);
        Self { hops: walk.all(), relayed, balanced, bypass, entries: vec![ENTRY_NODE] }
    }

    /// The same walk by whichever of these nodes a load balancer chooses, indices; at least one.
    pub fn entered_by(self, entries: Vec<usize>) -> Self {
        Self { entries, ..self }
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

    /// How many connections are joined to one road.
    pub fn parts(&self) -> u8 {
        1 + u8::from(self.balanced) + u8::from(self.relayed)
    }
}

/// A walk in the making.
struct Walk {
    hops: Vec<Hop>,
    leg: Leg,
    part: u8,
    relayed: bool,
    /// Whether a load balancer stands before the entry node.
    balanced: bool,
    /// Whether requests go up to the node itself: to a proxy process, or to ip_vs behind INPUT.
    taken_up: bool,
    /// Whether programs on the entry node take a Service's packets where they enter and hand them to
    /// the device they leave by: past all hooks.
    taken_at_port: bool,
    bridged: bool,
    vxlan: bool,
    ipvlan: bool,
    macvlan: bool,
    /// Whether the CNI is somebody else's.
    others: bool,
    /// Whether requests are for a Service's address, and not for a pod's.
    to_service: bool,
    from_pod: bool,
    local: bool,
    reply_wrapped: bool,
}

impl Walk {
    fn all(mut self) -> Vec<Hop> {
        if self.is_bypass() {
            self.bypass();
            return self.hops;
        }
        if self.others {
            self.through_others();
            return self.hops;
        }
        self.client_to_entry();
        if self.taken_up {
            self.through_entry_itself();
        } else {
            self.through_entry();
        }
        if self.local {
            self.entry_to_local_pod();
        } else {
            self.entry_to_remote_pod();
        }
        self.hop("pod_rx", Host::Pod, Site::Readable, Direction::In);
        self.leg = Leg::Response;
        self.hop("pod_tx", Host::Pod, Site::PodEth, Direction::Out);
        if self.local {
            self.hop("cni", Host::Entry, self.to_pods(), Direction::In);
        } else {
            self.remote_pod_to_entry();
        }
        if self.relayed {
            self.through_entry_itself();
        } else {
            self.through_entry();
        }
        self.entry_to_client();
        self.hops
    }

    fn hop(&mut self, stage: &'static str, host: Host, site: Site, to: Direction) {
        let (leg, part) = (self.leg, self.part);
        self.hops.push(Hop {
            leg,
            host,
            site,
            direction: to,
            encapsulated: false,
            part,
            optional: false,
            stage,
        });
    }

    fn wrapped_hop(&mut self, stage: &'static str, host: Host, to: Direction) {
        self.hop(stage, host, Site::Nic, to);
        self.hops.last_mut().expect("just pushed").encapsulated = true;
    }

    /// Hooks have no direction; they count as passed inwards.
    fn hook(&mut self, stage: &'static str, host: Host, site: Site) {
        self.hop(stage, host, site, Direction::In);
        // What is only bridged passes the hooks where br_netfilter calls them, and not elsewhere.
        self.hops.last_mut().expect("just pushed").optional = self.may_be_bridged();
    }

    /// Between two pods on one bridge the packet need not come up to the bridge's own device: with
    /// br_netfilter it is translated and bridged on (br_nf_pre_routing_finish()), and where nothing
    /// is translated it is only ever bridged.
    fn may_be_bridged(&self) -> bool {
        self.bridged && self.from_pod && self.local && !self.relayed && !self.taken_at_port
    }

    /// The bridge's own device on the way out. On the way in it lies before PREROUTING or behind it,
    /// as br_netfilter decides, and ends no stage; nor does it where a packet may pass it by, or
    /// before the hooks (while the neighbour's address is stale, br_nf_pre_routing_finish_bridge()
    /// sends it through the device first).
    fn bridge_hop(&mut self, stage: &'static str, host: Host) {
        if self.bridged && !(host == Host::Entry && self.may_be_bridged()) {
            self.hop(stage, host, Site::Bridge, Direction::Out);
        }
    }

    /// A node's device on the way to its pods.
    fn to_pods(&self) -> Site {
        match (self.ipvlan, self.macvlan) {
            (true, _) => Site::Ipvlan,
            (_, true) => Site::Macvlan,
            _ => Site::PodVeth,
        }
    }

    fn client_to_entry(&mut self) {
        self.hop("client_tx", Host::Client, Site::ClientEth, Direction::Out);
        // ipvlan has what is for no slave come in by the NIC.
        let site = if self.from_pod && !self.ipvlan { self.to_pods() } else { Site::Nic };
        let wire = self.through_balancer();
        self.hop(wire, Host::Entry, site, Direction::In);
    }

    /// In at the load balancer, and out by its connection on the other side, where there is one.
    /// Returns what the wire beyond is called.
    fn through_balancer(&mut self) -> &'static str {
        if !self.balanced {
            return "wire";
        }
        let (before, beyond) = match self.leg {
            Leg::Request => ("wire", "lb_wire"),
            Leg::Response => ("lb_wire", "wire"),
        };
        self.hop(before, Host::Balancer, Site::BalancerEth, Direction::In);
        self.enter_next_part();
        self.hop("lb", Host::Balancer, Site::BalancerEth, Direction::Out);
        beyond
    }

    /// Through a process that joins two connections.
    fn enter_next_part(&mut self) {
        match self.leg {
            Leg::Request => self.part += 1,
            Leg::Response => self.part -= 1,
        }
    }

    fn in_prerouting(&mut self) {
        self.hook("nic_rx", Host::Entry, Site::PreConntrack);
        self.hook("conntrack", Host::Entry, Site::Conntracked);
        self.hook("proxy", Host::Entry, Site::Translated);
    }

    fn in_postrouting(&mut self) {
        self.hook("filter", Host::Entry, Site::Postrouting);
        self.hook("masq", Host::Entry, Site::Masqueraded);
    }

    fn through_entry(&mut self) {
        if self.taken_at_port {
            return;
        }
        self.in_prerouting();
        self.hook("route", Host::Entry, Site::Forward);
        self.in_postrouting();
    }

    /// Up to a proxy process and down by its other connection; or up to ip_vs behind INPUT, which
    /// sends the packet on as if the node had made it (ip_vs_nat_xmit()).
    fn through_entry_itself(&mut self) {
        self.in_prerouting();
        self.hook("route", Host::Entry, Site::LocalIn);
        if self.relayed {
            self.enter_next_part();
        }
        self.hook("proxy", Host::Entry, Site::LocalOut);
        self.in_postrouting();
    }

    /// What ends at the device by which a packet leaves the entry node.
    fn out(&self) -> &'static str {
        if self.taken_at_port { AT_PORT } else { "egress" }
    }

    fn entry_to_local_pod(&mut self) {
        self.bridge_hop(self.out(), Host::Entry);
        let before_veth = match (self.bridged, self.may_be_bridged()) {
            (true, true) => "egress+cni",
            (true, false) => "cni",
            (false, _) => self.out(),
        };
        self.hop(before_veth, Host::Entry, self.to_pods(), Direction::Out);
        self.hop("cni", Host::Pod, Site::PodEth, Direction::In);
    }

    fn entry_to_remote_pod(&mut self) {
        if self.vxlan {
            self.hop(self.out(), Host::Entry, Site::Vxlan, Direction::Out);
            self.wrapped_hop("encap", Host::Entry, Direction::Out);
            self.wrapped_hop("fabric", Host::Backend, Direction::In);
            self.hop("decap", Host::Backend, Site::Vxlan, Direction::In);
        } else {
            self.hop(self.out(), Host::Entry, Site::Nic, Direction::Out);
            self.hop("fabric", Host::Backend, Site::Nic, Direction::In);
        }
        if !self.ipvlan {
            self.through_backend();
            self.bridge_hop("deliver", Host::Backend);
            self.hop("deliver", Host::Backend, self.to_pods(), Direction::Out);
        }
        self.hop("deliver", Host::Pod, Site::PodEth, Direction::In);
    }

    /// The backend's node only forwards, in every mode. Under ipvlan its NIC hands frames to the pod,
    /// and its network stack never sees them.
    fn through_backend(&mut self) {
        for site in [
            Site::PreConntrack,
            Site::Conntracked,
            Site::Translated,
            Site::Forward,
            Site::Postrouting,
            Site::Masqueraded,
        ] {
            self.hop("deliver", Host::Backend, site, Direction::In);
        }
    }

    fn remote_pod_to_entry(&mut self) {
        if !self.ipvlan {
            self.hop("deliver", Host::Backend, self.to_pods(), Direction::In);
            self.through_backend();
        }
        if self.reply_wrapped {
            self.hop("deliver", Host::Backend, Site::Vxlan, Direction::Out);
            self.wrapped_hop("encap", Host::Backend, Direction::Out);
            self.wrapped_hop("fabric", Host::Entry, Direction::In);
            self.hop("decap", Host::Entry, Site::Vxlan, Direction::In);
        } else {
            self.hop("deliver", Host::Backend, Site::Nic, Direction::Out);
            self.hop("fabric", Host::Entry, Site::Nic, Direction::In);
        }
    }

    /// Between the NIC and the pod under a CNI whose devices are not known.
    fn through_others(&mut self) {
        self.hop("client_tx", Host::Client, Site::ClientEth, Direction::Out);
        if self.from_pod {
            self.hop(OTHERS_FROM_POD, Host::Pod, Site::PodEth, Direction::In);
        } else {
            let wire = self.through_balancer();
            self.hop(wire, Host::Entry, Site::Nic, Direction::In);
            self.hop(OTHERS, Host::Pod, Site::PodEth, Direction::In);
        }
        self.hop("pod_rx", Host::Pod, Site::Readable, Direction::In);
        self.leg = Leg::Response;
        self.hop("pod_tx", Host::Pod, Site::PodEth, Direction::Out);
        let last = if self.from_pod {
            OTHERS_FROM_POD
        } else {
            // To a client that is a pod of another node it may leave wrapped.
            self.hop(OTHERS, Host::Entry, Site::Nic, Direction::Out);
            self.hops.last_mut().expect("just pushed").optional = true;
            self.wrapped_hop(OTHERS, Host::Entry, Direction::Out);
            self.hops.last_mut().expect("just pushed").optional = true;
            self.through_balancer()
        };
        self.hop(last, Host::Client, Site::ClientEth, Direction::In);
    }

    fn entry_to_client(&mut self) {
        if self.from_pod {
            self.bridge_hop(self.out(), Host::Entry);
            self.hop(self.out(), Host::Entry, self.to_pods(), Direction::Out);
        } else {
            self.hop(self.out(), Host::Entry, Site::Nic, Direction::Out);
        }
        let wire = self.through_balancer();
        self.hop(wire, Host::Client, Site::ClientEth, Direction::In);
    }
}

#[cfg(test)]
mod tests;
