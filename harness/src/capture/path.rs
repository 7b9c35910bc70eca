// SPDX-License-Identifier: Apache-2.0
//! The walk a request and its response take through the lab's interfaces, and what lies between
//! two of them.
//!
//! Stages are named with the words of `docs/method.md`. Those that no probe lies between are joined
//! by `+`: taps see devices only, and find everything between two of them in one stage.
//!
//! | stage | from -> to |
//! |---|---|
//! | `connect` | `connect()` called -> connected, new connections only |
//! | `handover` | connected -> request written: the client's own, new connections only |
//! | `client_tx` | client's write -> its interface, out |
//! | `wire` | client's interface -> first interface of the entry node, and back |
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

/// Node that requests enter, index.
const ENTRY_NODE: usize = 0;

/// Whose interface a hop is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// The client outside, or the client pod.
    Client,
    /// The node that requests enter.
    Entry,
    /// Another node, with the backend on it.
    Backend,
    /// The pod that answers.
    Pod,
}

impl Host {
    /// Whose interface a tap is on.
    pub fn of(tap: &TapInfo) -> Self {
        match (tap.site, tap.node) {
            (Site::ClientEth, _) => Self::Client,
            (Site::PodEth | Site::Readable, _) => Self::Pod,
            (_, Some(ENTRY_NODE)) => Self::Entry,
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
    /// Whether it is the proxy process's own connection to the backend.
    pub beyond_relay: bool,
    /// Whether packets may pass it by.
    pub optional: bool,
    /// What lies between the hop before (or the program that sends) and this one.
    pub stage: &'static str,
}

impl fmt::Display for Hop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = match self.host {
            Host::Client => "client",
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
    bypass: bool,
}

impl Path {
    /// The walk of a case.
    pub fn of(mode: Mode, cni: CniKind, route: Route) -> Self {
        let to_service = route.road != Road::Direct;
        let relayed = mode == Mode::Userspace && to_service;
        let walk = Walk {
            hops: Vec::new(),
            leg: Leg::Request,
            beyond_relay: false,
            relayed,
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
        let bypass = walk.is_bypass();
        Self { hops: walk.all(), relayed, bypass }
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
}

/// A walk in the making.
struct Walk {
    hops: Vec<Hop>,
    leg: Leg,
    beyond_relay: bool,
    relayed: bool,
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
        let (leg, beyond_relay) = (self.leg, self.beyond_relay);
        self.hops.push(Hop {
            leg,
            host,
            site,
            direction: to,
            encapsulated: false,
            beyond_relay,
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
        self.hop("wire", Host::Entry, site, Direction::In);
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
            self.beyond_relay = self.leg == Leg::Request;
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
            self.hop("wire", Host::Entry, Site::Nic, Direction::In);
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
            "wire"
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
        self.hop("wire", Host::Client, Site::ClientEth, Direction::In);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_case() -> impl Iterator<Item = (Mode, CniKind, Route)> {
        Mode::ALL.iter().flat_map(|&mode| {
            CniKind::ALL.iter().flat_map(move |&cni| {
                Road::ALL.iter().flat_map(move |&road| {
                    Place::ALL.iter().map(move |&place| (mode, cni, Route { road, place }))
                })
            })
        })
    }

    fn drawn(mode: Mode, cni: CniKind, road: Road, place: Place) -> String {
        let path = Path::of(mode, cni, Route { road, place });
        path.hops()
            .iter()
            .map(|hop| {
                let relay = if hop.beyond_relay { " beyond relay" } else { "" };
                let optional = if hop.optional { " (optional)" } else { "" };
                format!("{:<42} {hop}{relay}{optional}\n", hop.stage)
            })
            .collect()
    }

    #[test]
    fn every_passage_of_an_interface_is_one_hop_of_one_leg() {
        for (mode, cni, route) in every_case() {
            let path = Path::of(mode, cni, route);
            for (index, hop) in path.hops().iter().enumerate() {
                let place = |h: &Hop| (h.leg, h.host, h.site, h.direction, h.encapsulated);
                let twin = path.hops()[index + 1..].iter().find(|h| place(h) == place(hop));
                assert_eq!(twin, None, "{mode} {cni} {route}: {hop}");
            }
        }
    }

    #[test]
    fn every_walk_goes_from_the_client_to_the_pod_and_back() {
        for (mode, cni, route) in every_case() {
            let path = Path::of(mode, cni, route);
            let ends = |leg| {
                let mut hops = path.hops().iter().filter(|hop| hop.leg == leg);
                let first = hops.next().unwrap();
                (first.host, hops.next_back().unwrap().host)
            };
            assert_eq!(ends(Leg::Request), (Host::Client, Host::Pod));
            assert_eq!(ends(Leg::Response), (Host::Pod, Host::Client));
        }
    }

    #[test]
    fn walks_are_as_the_topology_has_them() {
        insta::assert_snapshot!(
            "nodeport_local_ptp",
            drawn(Mode::Nftables, CniKind::Ptp, Road::Nodeport, Place::Local)
        );
        insta::assert_snapshot!(
            "nodeport_remote_flannel",
            drawn(Mode::Iptables, CniKind::Flannel, Road::Nodeport, Place::Remote)
        );
        insta::assert_snapshot!(
            "clusterip_local_kindnet",
            drawn(Mode::Iptables, CniKind::Kindnet, Road::Clusterip, Place::Local)
        );
        insta::assert_snapshot!(
            "nodeport_remote_vxlan",
            drawn(Mode::Iptables, CniKind::Vxlan, Road::Nodeport, Place::Remote)
        );
        insta::assert_snapshot!(
            "direct_remote_vxlan",
            drawn(Mode::None, CniKind::Vxlan, Road::Direct, Place::Remote)
        );
        insta::assert_snapshot!(
            "clusterip_local_bridge",
            drawn(Mode::Ipvs, CniKind::Bridge, Road::Clusterip, Place::Local)
        );
        insta::assert_snapshot!(
            "userspace_nodeport_remote_bridge",
            drawn(Mode::Userspace, CniKind::Bridge, Road::Nodeport, Place::Remote)
        );
        insta::assert_snapshot!(
            "nodeport_local_ipvlan",
            drawn(Mode::Nftables, CniKind::Ipvlan, Road::Nodeport, Place::Local)
        );
        insta::assert_snapshot!(
            "nodeport_remote_ipvlan",
            drawn(Mode::Ipvs, CniKind::Ipvlan, Road::Nodeport, Place::Remote)
        );
        insta::assert_snapshot!(
            "direct_local_ipvlan",
            drawn(Mode::None, CniKind::Ipvlan, Road::Direct, Place::Local)
        );
        insta::assert_snapshot!(
            "clusterip_remote_ipvlan_without_services",
            drawn(Mode::None, CniKind::Ipvlan, Road::Clusterip, Place::Remote)
        );
        insta::assert_snapshot!(
            "nodeport_remote_macvlan",
            drawn(Mode::Nftables, CniKind::Macvlan, Road::Nodeport, Place::Remote)
        );
        insta::assert_snapshot!(
            "clusterip_local_macvlan_without_services",
            drawn(Mode::None, CniKind::Macvlan, Road::Clusterip, Place::Local)
        );
        insta::assert_snapshot!(
            "userspace_clusterip_local_macvlan",
            drawn(Mode::Userspace, CniKind::Macvlan, Road::Clusterip, Place::Local)
        );
        insta::assert_snapshot!(
            "userspace_clusterip_local_ipvlan",
            drawn(Mode::Userspace, CniKind::Ipvlan, Road::Clusterip, Place::Local)
        );
    }
}
