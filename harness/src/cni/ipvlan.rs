// SPDX-License-Identifier: Apache-2.0
//! Pods as slaves of their node's NIC, in ipvlan's L2 mode, as the reference plugin `ipvlan` makes
//! them: on the wire they are further addresses of the node.
//!
//! What comes from the wire for a pod is handed to it by the NIC's receive handler, before the
//! node's network stack is asked, and what a pod sends goes to the NIC's queue: that is what ipvlan
//! is for (`drivers/net/ipvlan/ipvlan_core.c`, `ipvlan_handle_mode_l2()`,
//! `ipvlan_xmit_mode_l2()`). A NIC cannot talk to its own slaves, so that the node has a slave of its
//! own, `ipvlan0`, with the first address of its pod range: its way to its pods, and theirs to it.
//! All slaves have the NIC's link-layer address. A frame sent to it goes to the slave that has the
//! IP address, whatever else was meant, and comes in by the NIC where none has: so a pod's request
//! to a Service enters its node.
//!
//! Pods answer clients the way they were asked, on the link from the entry node and through that
//! node from another. The node does not see both ways of a connection to or from a pod's own
//! address, so that a Service works only where the node has made itself one end of it, by
//! masquerade or in a proxy process. What does not work is refused ([`Cni::carries`]).

use super::ptp::check_veth;
use super::{Cluster, ClusterNode, Cni, NodeWiring, POD_ETH, Wiring, no_option};
use crate::Unavailable;
use crate::net::addresses::{CLIENTS, NODES};
use crate::net::{
    Address, Change, Cidr, Ipvlan as Slave, LinkKind, Mac, Netns, NetnsRef, NewLink, Peer, Route,
};
use crate::plan::{CniKind, Mode, Place, PolicyKind, Road, Route as CaseRoute};

/// The node's own slave.
const IPVLAN0: &str = "ipvlan0";
/// What a translated request needs.
const ANSWER: &str = "the answer to come back through the node that translated the request";
/// CNIs that leave the answers to the node.
const ROUTED: &str = "--cni ptp, bridge or vxlan";

/// See the module.
#[derive(Debug)]
pub struct Ipvlan;

impl Cni for Ipvlan {
    fn kind(&self) -> CniKind {
        CniKind::Ipvlan
    }

    fn check(&self, scratch: &Netns) -> Result<(), Unavailable> {
        check_veth(scratch)?;
        // It cannot be made upon the loopback (ipvlan_port_create()).
        let link = |name: &str, kind| {
            let name = name.to_owned();
            Change::AddLink(NewLink { name, kind, mac: None, mtu: 1400, bridge: None })
        };
        let (parent, netns) = ("nic2pod-parent", scratch.reference());
        let peer = Peer { name: "nic2pod-peer".to_owned(), netns, mac: Mac([2, 0, 0, 0, 0, 1]) };
        let slave = Slave { parent: parent.to_owned(), netns: None };
        let made = scratch.apply(vec![
            link(parent, LinkKind::Veth(peer)),
            link("nic2pod-slave", LinkKind::Ipvlan(slave)),
        ]);
        // The slave, if there is one, goes with its parent.
        let gone = scratch.apply(vec![Change::DeleteLink(parent.to_owned())]);
        made.and(gone).map_err(|error| no_option(&error, "CONFIG_IPVLAN", "ipvlan"))
    }

    fn wire(&self, cluster: &Cluster) -> Wiring {
        let nodes = (0..cluster.nodes.len()).map(|index| enslaved(cluster, index));
        Wiring { nodes: nodes.collect(), notes: Vec::new() }
    }

    fn carries(
        &self,
        mode: Mode,
        route: CaseRoute,
        external: PolicyKind,
    ) -> Result<(), Unavailable> {
        if route.road.is_ingress() {
            return Err(Unavailable::new(
                "pods that are asked and ask by the same way, for an ingress controller",
                "ipvlan, under which pods know clients' way and each other's, and not the node's",
                ROUTED,
            ));
        }
        match mode {
            Mode::None if route.road == Road::Loadbalancer => Err(Unavailable::new(
                "pods to answer the load balancer, which asks them itself",
                "ipvlan, under which they know one way to all that is outside: to the client",
                format!("{ROUTED}, or another mode"),
            )),
            // No Service, or one whose connections end at a process of the node's.
            Mode::None | Mode::Userspace => Ok(()),
            Mode::Ebpf => Err(Unavailable::new(
                "a device of each pod's on its node, where mode ebpf has its programs",
                "ipvlan, which has none: the NIC hands frames straight to the pods",
                ROUTED,
            )),
            Mode::Iptables | Mode::Ipvs | Mode::Nftables => match route.road {
                Road::Clusterip => Err(Unavailable::new(
                    ANSWER,
                    "ipvlan, which hands what is for another pod's address straight to that pod: \
                     the client gets an answer from an address it never asked (a pod's requests to \
                     a ClusterIP are not masqueraded)",
                    format!("{ROUTED}, or --mode userspace"),
                )),
                Road::Direct | Road::Nodeport | Road::Lbip | Road::Loadbalancer
                    if external == PolicyKind::Local && route.place == Place::Local =>
                {
                    Err(Unavailable::new(
                        ANSWER,
                        "ipvlan under external_policy = \"Local\", which leaves the client's \
                         address in the request: the pod answers the client past the node",
                        format!("external_policy = \"Cluster\", or {ROUTED}"),
                    ))
                }
                _ => Ok(()),
            },
        }
    }
}

/// A node and its pods.
fn enslaved(cluster: &Cluster, index: usize) -> NodeWiring {
    let node = &cluster.nodes[index];
    let (gateway, prefix) = (node.gateway(), node.pod_cidr.prefix);
    let own = Address { cidr: Cidr { address: gateway, prefix }, device: IPVLAN0.to_owned() };
    let mut changes = vec![slave(node, cluster.mtu, IPVLAN0, None), Change::Address(own)];
    for pod in &node.pods {
        changes.push(slave(node, cluster.mtu, POD_ETH, Some(pod.netns.clone())));
    }
    changes.extend(cluster.host_gateway_routes(index));
    let beyond = beyond(cluster, index);
    let pods = node.pods.iter().map(|pod| {
        let mut side = pod.bridged(prefix, gateway);
        side.extend(beyond.iter().cloned().map(Change::Route));
        side
    });
    let pods = pods.collect();
    NodeWiring { changes, pods, ipvlan: Some(IPVLAN0), ..NodeWiring::default() }
}

fn slave(node: &ClusterNode, mtu: u32, name: &str, netns: Option<NetnsRef>) -> Change {
    Change::AddLink(NewLink {
        name: name.to_owned(),
        kind: LinkKind::Ipvlan(Slave { parent: node.nic.clone(), netns }),
        // The parent's, which it has anyway: said so that it is looked for.
        mac: Some(Mac::of(node.address)),
        mtu,
        bridge: None,
    })
}

/// A pod's routes to what is not on its node: nodes on the link, their pods through them, clients
/// the way their requests come.
fn beyond(cluster: &Cluster, index: usize) -> Vec<Route> {
    let family = cluster.nodes[0].pod_cidr.family();
    let clients = CLIENTS.of(family);
    let mut routes = vec![Route::on_link(NODES.of(family), POD_ETH)];
    for (other_index, other) in cluster.nodes.iter().enumerate() {
        if other_index != index {
            routes.push(Route::via(other.pod_cidr, other.address, POD_ETH));
        }
    }
    routes.push(match index {
        // As the node itself reaches them.
        0 => Route::via_on_link(clients, clients.nth(1), POD_ETH),
        _ => Route::via(clients, cluster.nodes[0].address, POD_ETH),
    });
    routes
}
