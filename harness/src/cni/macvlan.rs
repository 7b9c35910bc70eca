// SPDX-License-Identifier: Apache-2.0
//! Pods as slaves of their node's NIC, in macvlan's bridge mode, as the reference plugin `macvlan` makes
//! them: on the wire they are hosts beside the node, with link-layer addresses of their own.
//!
//! The NIC's receive handler gives a frame to the slave that has its address, and leaves those for the
//! NIC itself to the node's network stack; slaves of one NIC hand frames to each other
//! (`drivers/net/macvlan.c`, `macvlan_handle_frame()`, `macvlan_queue_xmit()`). A NIC cannot talk
//! to its own slaves, so that the node has a slave of its own, `macvlan0`, with the first address of its pod
//! range: its way to its pods, and theirs to all that is not on their node. Packets for a pod from
//! elsewhere are sent to its node, as under any CNI, and pass its network stack, both ways.
//!
//! Pods of a node are neighbours, and what one sends to another passes the node by. So a pod's request
//! to a Service whose endpoint is its neighbour is answered past the node that translated it. What does
//! not work is refused ([`Cni::carries`]).

use super::ptp::check_veth;
use super::{Cluster, ClusterNode, Cni, NodeWiring, POD_ETH, Wiring, no_option};
use crate::Unavailable;
use crate::net::{
    Address, Change, Cidr, LinkKind, Mac, Macvlan as Slave, Netns, NetnsRef, NewLink, Peer,
};
use crate::plan::{CniKind, Mode, Place, PolicyKind, Road, Route};

/// The node's own slave.
const MACVLAN0: &str = "macvlan0";

/// NIC and slave are on one link and would answer for each other's addresses, and say each other's in
/// their questions: the node's neighbours would send to the slave what is for the NIC
/// (`Documentation/networking/ip-sysctl.rst`, `arp_ignore`, `arp_announce`).
const ARP: &[(&str, &str)] =
    &[("net/ipv4/conf/all/arp_ignore", "1"), ("net/ipv4/conf/all/arp_announce", "2")];

/// See the module.
#[derive(Debug)]
pub struct Macvlan;

impl Cni for Macvlan {
    fn kind(&self) -> CniKind {
        CniKind::Macvlan
    }

    fn check(&self, scratch: &Netns) -> Result<(), Unavailable> {
        check_veth(scratch)?;
        // It cannot be made upon the loopback (macvlan_port_create()).
        let link = |name: &str, kind| {
            let name = name.to_owned();
            Change::AddLink(NewLink { name, kind, mac: None, mtu: 1400, bridge: None })
        };
        let (parent, netns) = ("nic2pod-parent", scratch.reference());
        let peer = Peer { name: "nic2pod-peer".to_owned(), netns, mac: Mac([2, 0, 0, 0, 0, 1]) };
        let slave = Slave { parent: parent.to_owned(), netns: None };
        let made = scratch.apply(vec![
            link(parent, LinkKind::Veth(peer)),
            link("nic2pod-slave", LinkKind::Macvlan(slave)),
        ]);
        // The slave, if there is one, goes with its parent.
        let gone = scratch.apply(vec![Change::DeleteLink(parent.to_owned())]);
        made.and(gone).map_err(|error| no_option(&error, "CONFIG_MACVLAN", "macvlan"))
    }

    fn wire(&self, cluster: &Cluster) -> Wiring {
        let nodes = (0..cluster.nodes.len()).map(|index| {
            let node = &cluster.nodes[index];
            let mut wiring = with_own_slave(cluster, index);
            for pod in &node.pods {
                let (mac, netns) = (Mac::of(pod.address), Some(pod.netns.clone()));
                wiring.changes.push(slave(node, cluster.mtu, POD_ETH, mac, netns));
            }
            let side = |pod: &super::ClusterPod| pod.bridged(node.pod_cidr.prefix, node.gateway());
            wiring.pods = node.pods.iter().map(side).collect();
            wiring
        });
        Wiring { nodes: nodes.collect(), notes: Vec::new() }
    }

    fn carries(&self, mode: Mode, route: Route, _: PolicyKind) -> Result<(), Unavailable> {
        if route.road.is_ingress() {
            return Err(Unavailable::new(
                "pods that are asked and ask by the same way, for an ingress controller",
                "macvlan, whose pods of one node hand frames to each other past it",
                "--cni ptp, bridge or vxlan",
            ));
        }
        match mode {
            // No Service, or one whose connections end at a process of the node's.
            Mode::None | Mode::Userspace => Ok(()),
            Mode::Ebpf => Err(Unavailable::new(
                "a device of each pod's on its node, where mode ebpf has its programs",
                "macvlan, which has none: pods are slaves of the NIC",
                "--cni ptp, bridge or vxlan",
            )),
            Mode::Iptables | Mode::Ipvs | Mode::Nftables
                if route == Route { road: Road::Clusterip, place: Place::Local } =>
            {
                Err(Unavailable::new(
                    "the answer to come back through the node that translated the request",
                    "macvlan, whose pods of one node hand frames to each other: the client gets an answer \
                     from an address it never asked (a pod's requests to a ClusterIP are not masqueraded)",
                    "--cni ptp, bridge or vxlan, or --mode userspace",
                ))
            }
            Mode::Iptables | Mode::Ipvs | Mode::Nftables => Ok(()),
        }
    }
}

/// A node with its own slave, and its ways to other nodes; its pods are still to be made.
pub(super) fn with_own_slave(cluster: &Cluster, index: usize) -> NodeWiring {
    let node = &cluster.nodes[index];
    let (gateway, prefix) = (node.gateway(), node.pod_cidr.prefix);
    let own = Address { cidr: Cidr { address: gateway, prefix }, device: MACVLAN0.to_owned() };
    let mut changes =
        vec![slave(node, cluster.mtu, MACVLAN0, Mac::of(gateway), None), Change::Address(own)];
    changes.extend(cluster.host_gateway_routes(index));
    NodeWiring { changes, macvlan: Some(MACVLAN0), settings: ARP, ..NodeWiring::default() }
}

fn slave(node: &ClusterNode, mtu: u32, name: &str, mac: Mac, netns: Option<NetnsRef>) -> Change {
    Change::AddLink(NewLink {
        name: name.to_owned(),
        kind: LinkKind::Macvlan(Slave { parent: node.nic.clone(), netns }),
        mac: Some(mac),
        mtu,
        bridge: None,
    })
}
