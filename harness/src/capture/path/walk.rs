// SPDX-License-Identifier: Apache-2.0
//! A walk in the making.

use record::Leg;

use super::{AT_PORT, Direction, Hop, Host, OTHERS, OTHERS_FROM_POD, Site};
use crate::plan::{CniKind, Mode, Place, Road, Route};

/// From one program to another, by the entry node: a walk is one stretch, or two with the ingress
/// controller between them.
#[derive(Clone, Copy)]
pub(super) struct Stretch {
    /// The interface of the program that asks, and its stage that ends there.
    asking: (Host, Site, &'static str),
    /// The interface of the one that is asked.
    asked: (Host, Site),
    /// Whether a proxy process on the entry node joins two connections.
    relayed: bool,
    /// Whether a load balancer stands before the entry node.
    balanced: bool,
    /// Whether a router does.
    routed: bool,
    /// Whether requests go up to the node itself: to a proxy process, or to ip_vs behind INPUT.
    taken_up: bool,
    /// Whether programs on the entry node take a Service's packets where they enter and hand them to
    /// the device they leave by: past all hooks.
    taken_at_port: bool,
    /// Whether requests are for a Service's address, and not for a pod's.
    pub(super) to_service: bool,
    pub(super) from_pod: bool,
    pub(super) local: bool,
}

impl Stretch {
    fn of(mode: Mode, road: Road, place: Place) -> Self {
        let to_service = mode != Mode::None && road != Road::Direct;
        let relayed = mode == Mode::Userspace && to_service;
        Self {
            asking: (Host::Client, Site::ClientEth, "client_tx"),
            asked: (Host::Pod, Site::PodEth),
            relayed,
            balanced: road == Road::Loadbalancer,
            routed: false,
            taken_up: relayed || mode == Mode::Ipvs && to_service,
            taken_at_port: mode == Mode::Ebpf && to_service,
            to_service,
            from_pod: road == Road::Clusterip,
            local: place == Place::Local,
        }
    }
}

/// A walk in the making.
pub(super) struct Walk {
    hops: Vec<Hop>,
    leg: Leg,
    part: u8,
    bridged: bool,
    vxlan: bool,
    pub(super) ipvlan: bool,
    pub(super) macvlan: bool,
    /// Whether the CNI is somebody else's.
    others: bool,
    /// The stretch that is walked.
    pub(super) here: Stretch,
    /// The one behind the ingress controller.
    beyond: Option<Stretch>,
    /// Whether it is the one that is walked.
    upstream: bool,
}

impl Walk {
    /// The walk of a case.
    pub(super) fn of(mode: Mode, cni: CniKind, route: Route) -> Self {
        let (here, beyond) = if route.road.is_ingress() {
            let ingress = (Host::Ingress, Site::IngressEth);
            let outer =
                Stretch { asked: ingress, ..Stretch::of(mode, Road::Nodeport, Place::Local) };
            let road = match route.road {
                Road::IngressEndpoints => Road::Direct,
                _ => Road::Clusterip,
            };
            let inner = Stretch {
                asking: (Host::Ingress, Site::IngressEth, "ingress"),
                from_pod: true,
                ..Stretch::of(mode, road, route.place)
            };
            (outer, Some(inner))
        } else {
            (Stretch::of(mode, route.road, route.place), None)
        };
        Self {
            hops: Vec::new(),
            leg: Leg::Request,
            part: 0,
            bridged: matches!(cni, CniKind::Bridge | CniKind::Vxlan),
            vxlan: cni == CniKind::Vxlan,
            ipvlan: cni == CniKind::Ipvlan,
            macvlan: cni == CniKind::Macvlan,
            others: !cni.is_own(),
            here,
            beyond,
            upstream: false,
        }
    }

    /// The same by a router before the entry node.
    pub(super) fn through_router(self) -> Self {
        Self { here: Stretch { routed: true, ..self.here }, ..self }
    }

    /// Whether no node's stack sees any of the walk.
    pub(super) fn is_bypass(&self) -> bool {
        self.passes_by(&self.here) && self.beyond.is_none_or(|beyond| self.passes_by(&beyond))
    }

    /// How many proxy processes join connections on the way.
    pub(super) fn relays(&self) -> u8 {
        let stretches = std::iter::once(self.here).chain(self.beyond);
        stretches.map(|stretch| u8::from(stretch.relayed)).sum()
    }

    pub(super) fn all(mut self) -> Vec<Hop> {
        let outer = self.here;
        self.there();
        let beyond = self.beyond;
        if let Some(beyond) = beyond {
            self.enter_next_part();
            (self.here, self.upstream) = (beyond, true);
            self.there();
        }
        self.hop("pod_rx", Host::Pod, Site::Readable, Direction::In);
        self.leg = Leg::Response;
        self.hop("pod_tx", Host::Pod, Site::PodEth, Direction::Out);
        self.back();
        if beyond.is_some() {
            self.enter_next_part();
            (self.here, self.upstream) = (outer, false);
            self.hop("ingress", Host::Ingress, Site::IngressEth, Direction::Out);
            self.back();
        }
        self.hops
    }

    /// From the interface of the program that asks to that of the one that is asked.
    fn there(&mut self) {
        let (host, site, stage) = self.here.asking;
        self.plain_hop(stage, host, site, Direction::Out);
        if self.passes_by(&self.here) {
            self.there_past();
        } else if self.others {
            self.there_through_others();
        } else {
            self.asking_to_entry();
            if self.here.taken_up {
                self.through_entry_itself();
            } else {
                self.through_entry();
            }
            if self.here.local {
                self.entry_to_local_pod();
            } else {
                self.entry_to_remote_pod();
            }
        }
    }

    /// The way back, from behind the interface of the one that was asked.
    fn back(&mut self) {
        if self.passes_by(&self.here) {
            self.back_past();
        } else if self.others {
            self.back_through_others();
        } else {
            if self.here.local {
                self.hop("cni", Host::Entry, self.to_pods(), Direction::In);
            } else {
                self.remote_pod_to_entry();
            }
            if self.here.relayed {
                self.through_entry_itself();
            } else {
                self.through_entry();
            }
            self.entry_to_asking();
        }
    }

    /// Stages behind the ingress controller have names of their own.
    pub(super) fn hop(&mut self, stage: &'static str, host: Host, site: Site, to: Direction) {
        let stage = if self.upstream { upstream(stage) } else { stage };
        self.plain_hop(stage, host, site, to);
    }

    /// Arrives at the interface of the one that is asked.
    pub(super) fn arrive(&mut self, stage: &'static str) {
        let (host, site) = self.here.asked;
        self.hop(stage, host, site, Direction::In);
    }

    /// Comes back to the interface of the program that asked.
    pub(super) fn return_home(&mut self, stage: &'static str) {
        let (host, site, _) = self.here.asking;
        self.hop(stage, host, site, Direction::In);
    }

    fn plain_hop(&mut self, stage: &'static str, host: Host, site: Site, to: Direction) {
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
        self.bridged
            && self.here.from_pod
            && self.here.local
            && !self.here.relayed
            && !self.here.taken_at_port
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

    fn asking_to_entry(&mut self) {
        // ipvlan has what is for no slave come in by the NIC.
        let site = if self.here.from_pod && !self.ipvlan { self.to_pods() } else { Site::Nic };
        let wire = self.through_balancer();
        self.hop(wire, Host::Entry, site, Direction::In);
    }

    /// In at the load balancer, and out by its connection on the other side, where there is one; a router has
    /// none, and answers pass it by.
    /// Returns what the wire beyond is called.
    pub(super) fn through_balancer(&mut self) -> &'static str {
        if self.here.routed && self.leg == Leg::Request {
            self.hop("wire", Host::Balancer, Site::BalancerEth, Direction::In);
            self.hop("lb", Host::Balancer, Site::BalancerEth, Direction::Out);
            return "lb_wire";
        }
        if !self.here.balanced {
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
        if self.here.taken_at_port {
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
        if self.here.relayed {
            self.enter_next_part();
        }
        self.hook("proxy", Host::Entry, Site::LocalOut);
        self.in_postrouting();
    }

    /// What ends at the device by which a packet leaves the entry node.
    fn out(&self) -> &'static str {
        if self.here.taken_at_port { AT_PORT } else { "egress" }
    }

    fn entry_to_local_pod(&mut self) {
        self.bridge_hop(self.out(), Host::Entry);
        let before_veth = match (self.bridged, self.may_be_bridged()) {
            (true, true) => "egress+cni",
            (true, false) => "cni",
            (false, _) => self.out(),
        };
        self.hop(before_veth, Host::Entry, self.to_pods(), Direction::Out);
        self.arrive("cni");
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
        self.arrive("deliver");
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
        // A pod answers the address the request came from: the client pod's, that of the VXLAN device (which
        // MASQUERADE, mode ebpf and the proxy process's socket take for their source), or a client's
        // outside, which other nodes reach through the VXLAN device of the entry node too.
        if self.vxlan {
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
    fn there_through_others(&mut self) {
        if self.here.from_pod {
            self.arrive(OTHERS_FROM_POD);
        } else {
            let wire = self.through_balancer();
            self.hop(wire, Host::Entry, Site::Nic, Direction::In);
            self.arrive(OTHERS);
        }
    }

    fn back_through_others(&mut self) {
        let last = if self.here.from_pod {
            OTHERS_FROM_POD
        } else {
            // To a client that is a pod of another node it may leave wrapped.
            self.hop(OTHERS, Host::Entry, Site::Nic, Direction::Out);
            self.hops.last_mut().expect("just pushed").optional = true;
            self.wrapped_hop(OTHERS, Host::Entry, Direction::Out);
            self.hops.last_mut().expect("just pushed").optional = true;
            self.through_balancer()
        };
        self.return_home(last);
    }

    fn entry_to_asking(&mut self) {
        if self.here.from_pod {
            self.bridge_hop(self.out(), Host::Entry);
            self.hop(self.out(), Host::Entry, self.to_pods(), Direction::Out);
        } else {
            self.hop(self.out(), Host::Entry, Site::Nic, Direction::Out);
        }
        let wire = self.through_balancer();
        self.return_home(wire);
    }
}

/// What a stage is called behind the ingress controller.
fn upstream(stage: &'static str) -> &'static str {
    const NAMES: &[(&str, &str)] = &[
        ("wire", "up_wire"),
        ("nic_rx", "up_nic_rx"),
        ("conntrack", "up_conntrack"),
        ("proxy", "up_proxy"),
        ("route", "up_route"),
        ("filter", "up_filter"),
        ("masq", "up_masq"),
        ("egress", "up_egress"),
        ("cni", "up_cni"),
        ("egress+cni", "up_egress+up_cni"),
        ("encap", "up_encap"),
        ("fabric", "up_fabric"),
        ("decap", "up_decap"),
        ("deliver", "up_deliver"),
        (AT_PORT, "up_nic_rx+up_proxy+up_route+up_egress"),
        (
            OTHERS_FROM_POD,
            "up_wire+up_nic_rx+up_conntrack+up_proxy+up_route+up_filter+up_masq+up_egress+up_cni",
        ),
    ];
    // What is the pod's own is called as it always is.
    NAMES.iter().find(|(name, _)| *name == stage).map_or(stage, |(_, name)| name)
}
