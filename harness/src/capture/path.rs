// SPDX-License-Identifier: Apache-2.0
//! The walk a request and its response take through the lab's interfaces, and what lies between
//! two of them.
//!
//! Stages are named with the words of `docs/method.md`, those a tap cannot tell apart joined by `+`:
//!
//! | stage | from -> to |
//! |---|---|
//! | `connect` | `connect()` called -> connected, new connections only |
//! | `client_tx` | client's write -> its interface, out |
//! | `wire` | client's interface -> first interface of the entry node, and back |
//! | [`NODE`] | that interface, in -> first device out behind POSTROUTING, and back |
//! | `cni` | local backend: that device, out -> pod `eth0`, in, and back |
//! | `encap` | VXLAN device, out -> NIC, out, on whichever node wraps the packet |
//! | `fabric` | NIC of one node, out -> NIC of the other, in |
//! | `decap` | NIC, in -> VXLAN device, in, on whichever node unwraps it |
//! | `deliver` | backend node's NIC or VXLAN device, in -> pod `eth0`, in, and back |
//! | `pod_rx+wakeup` | pod `eth0`, in -> the server's read has returned |
//! | `app` | read returned -> just before the response is written |
//! | `pod_tx` | response written -> pod `eth0`, out |
//! | `client_rx` | client's interface, in -> the client's read has returned |
//! | `body` | first byte read -> last byte read |
//!
//! The response mirrors the request with the same names. Without the server's marks there is one
//! stage `pod_rx+wakeup+app+pod_tx`.

use std::fmt;

use record::Leg;

use super::{Direction, Interface, TapInfo};
use crate::plan::{CniKind, Mode, Place, Road, Route};

/// What the entry node does to a packet between receiving it and handing it to a device. The name
/// is the same in all modes, so that they can be compared: in mode `none` there is little of
/// `proxy` and `masq` in it; in mode `userspace` `proxy` is the redirection, the way up to the proxy
/// process, its wake-up and its copy to the other connection; in mode `ebpf` all of it is one program
/// at tc ingress.
pub const NODE: &str = "nic_rx+conntrack+proxy+route+filter+masq";

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
        match (tap.interface, tap.node) {
            (Interface::ClientEth, _) => Self::Client,
            (Interface::PodEth, _) => Self::Pod,
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
    /// Which interface.
    pub interface: Interface,
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
        let device = match self.interface {
            Interface::ClientEth | Interface::Nic | Interface::PodEth => "eth0",
            Interface::Bridge => "bridge",
            Interface::Vxlan => "vxlan",
            Interface::PodVeth => "veth",
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
        write!(f, "{leg} {host} {device} {direction}{wrapped}")
    }
}

/// The whole walk, request first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    hops: Vec<Hop>,
    relayed: bool,
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
            taken_at_port: mode == Mode::Ebpf && to_service,
            bridged: cni != CniKind::Ptp,
            vxlan: cni == CniKind::Vxlan,
            from_pod: route.road == Road::Clusterip,
            local: route.place == Place::Local,
            // A pod answers the address the request came from: the client pod's, that of the VXLAN
            // device (which MASQUERADE, mode ebpf and the proxy process's socket take for their
            // source), or a client's outside, which other nodes reach through the VXLAN device of
            // the entry node too.
            reply_wrapped: cni == CniKind::Vxlan,
        };
        Self { hops: walk.all(), relayed }
    }

    /// The hops in order.
    pub fn hops(&self) -> &[Hop] {
        &self.hops
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
    /// Whether programs on the entry node take a Service's packets where they enter, so that those
    /// of its pods come by no bridge.
    taken_at_port: bool,
    bridged: bool,
    vxlan: bool,
    from_pod: bool,
    local: bool,
    reply_wrapped: bool,
}

impl Walk {
    fn all(mut self) -> Vec<Hop> {
        self.client_to_entry();
        self.beyond_relay = self.relayed;
        if self.local {
            self.entry_to_local_pod();
        } else {
            self.entry_to_remote_pod();
        }
        self.leg = Leg::Response;
        if self.local {
            self.local_pod_to_entry();
        } else {
            self.remote_pod_to_entry();
        }
        self.beyond_relay = false;
        self.entry_to_client();
        self.hops
    }

    fn hop(&mut self, stage: &'static str, host: Host, interface: Interface, to: Direction) {
        let (leg, beyond_relay) = (self.leg, self.beyond_relay);
        self.hops.push(Hop {
            leg,
            host,
            interface,
            direction: to,
            encapsulated: false,
            beyond_relay,
            optional: false,
            stage,
        });
    }

    fn wrapped_hop(&mut self, stage: &'static str, host: Host, to: Direction) {
        self.hop(stage, host, Interface::Nic, to);
        self.hops.last_mut().expect("just pushed").encapsulated = true;
    }

    fn bridge_hop(&mut self, stage: &'static str, host: Host, to: Direction) {
        let taken = self.taken_at_port && host == Host::Entry;
        if !self.bridged || (taken && to == Direction::In) {
            return;
        }
        self.hop(stage, host, Interface::Bridge, to);
        // Between two pods on one bridge the packet need not come up to the bridge's own device:
        // with br_netfilter it is translated and bridged on (br_nf_pre_routing_finish()), and where
        // nothing is translated it is only ever bridged.
        let may_be_bridged = self.from_pod && self.local && !self.relayed && !taken;
        self.hops.last_mut().expect("just pushed").optional = may_be_bridged;
    }

    fn client_to_entry(&mut self) {
        self.hop("client_tx", Host::Client, Interface::ClientEth, Direction::Out);
        if self.from_pod {
            self.hop("wire", Host::Entry, Interface::PodVeth, Direction::In);
            self.bridge_hop(NODE, Host::Entry, Direction::In);
        } else {
            self.hop("wire", Host::Entry, Interface::Nic, Direction::In);
        }
    }

    fn entry_to_local_pod(&mut self) {
        self.bridge_hop(NODE, Host::Entry, Direction::Out);
        let before_veth = if self.bridged { "cni" } else { NODE };
        self.hop(before_veth, Host::Entry, Interface::PodVeth, Direction::Out);
        self.hop("cni", Host::Pod, Interface::PodEth, Direction::In);
    }

    fn entry_to_remote_pod(&mut self) {
        if self.vxlan {
            self.hop(NODE, Host::Entry, Interface::Vxlan, Direction::Out);
            self.wrapped_hop("encap", Host::Entry, Direction::Out);
            self.wrapped_hop("fabric", Host::Backend, Direction::In);
            self.hop("decap", Host::Backend, Interface::Vxlan, Direction::In);
        } else {
            self.hop(NODE, Host::Entry, Interface::Nic, Direction::Out);
            self.hop("fabric", Host::Backend, Interface::Nic, Direction::In);
        }
        self.bridge_hop("deliver", Host::Backend, Direction::Out);
        self.hop("deliver", Host::Backend, Interface::PodVeth, Direction::Out);
        self.hop("deliver", Host::Pod, Interface::PodEth, Direction::In);
    }

    fn local_pod_to_entry(&mut self) {
        self.hop("pod_tx", Host::Pod, Interface::PodEth, Direction::Out);
        self.hop("cni", Host::Entry, Interface::PodVeth, Direction::In);
        self.bridge_hop("cni", Host::Entry, Direction::In);
    }

    fn remote_pod_to_entry(&mut self) {
        self.hop("pod_tx", Host::Pod, Interface::PodEth, Direction::Out);
        self.hop("deliver", Host::Backend, Interface::PodVeth, Direction::In);
        self.bridge_hop("deliver", Host::Backend, Direction::In);
        if self.reply_wrapped {
            self.hop("deliver", Host::Backend, Interface::Vxlan, Direction::Out);
            self.wrapped_hop("encap", Host::Backend, Direction::Out);
            self.wrapped_hop("fabric", Host::Entry, Direction::In);
            self.hop("decap", Host::Entry, Interface::Vxlan, Direction::In);
        } else {
            self.hop("deliver", Host::Backend, Interface::Nic, Direction::Out);
            self.hop("fabric", Host::Entry, Interface::Nic, Direction::In);
        }
    }

    fn entry_to_client(&mut self) {
        if self.from_pod {
            self.bridge_hop(NODE, Host::Entry, Direction::Out);
            self.hop(NODE, Host::Entry, Interface::PodVeth, Direction::Out);
        } else {
            self.hop(NODE, Host::Entry, Interface::Nic, Direction::Out);
        }
        self.hop("wire", Host::Client, Interface::ClientEth, Direction::In);
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
                let place = |h: &Hop| (h.leg, h.host, h.interface, h.direction, h.encapsulated);
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
            "ebpf_clusterip_local_bridge",
            drawn(Mode::Ebpf, CniKind::Bridge, Road::Clusterip, Place::Local)
        );
        insta::assert_snapshot!(
            "ebpf_nodeport_remote_vxlan",
            drawn(Mode::Ebpf, CniKind::Vxlan, Road::Nodeport, Place::Remote)
        );
        insta::assert_snapshot!(
            "userspace_nodeport_remote_bridge",
            drawn(Mode::Userspace, CniKind::Bridge, Road::Nodeport, Place::Remote)
        );
    }
}
