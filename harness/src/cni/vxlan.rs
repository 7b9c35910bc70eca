// SPDX-License-Identifier: Apache-2.0
//! A bridge per node and a VXLAN device between nodes, as flannel's default backend makes it.
//!
//! flanneld writes three entries per other node and lets the device learn nothing: a route to the
//! node's pod range through an address on its VXLAN device, that address's neighbour entry, and
//! the forwarding entry from the neighbour's link-layer address to the node
//! (`pkg/backend/vxlan/vxlan_network.go`).
//!
//! Clients are answered through the entry node's VXLAN device. In a cluster, what comes from
//! outside and is forwarded to a pod elsewhere has been masqueraded behind the entry node's
//! address on that device, and the answer is encapsulated for it; mode `none`, which masquerades
//! nothing, is given the same way back, so that it stays the floor of the others.

use std::net::{IpAddr, Ipv4Addr};

use super::bridge::{bridged, check_bridge, notes};
use super::{Cluster, ClusterNode, Cni, NodeWiring, Wiring, try_kind};
use crate::Unavailable;
use crate::net::addresses::{CLIENTS, VXLAN_PORT, family};
use crate::net::{
    Address, Change, Cidr, Forward, LinkKind, Mac, Neighbour, Netns, NewLink, Route,
    Vxlan as Device,
};
use crate::plan::{CniKind, IpFamily};

/// The device's name in flannel: its name and the network identifier. Each family has one of its own.
fn flannel(family: IpFamily) -> &'static str {
    match family {
        IpFamily::Ipv4 => "flannel.1",
        IpFamily::Ipv6 => "flannel-v6.1",
    }
}
/// Network identifier, flannel's default.
const VNI: u32 = 1;
/// What encapsulation adds: IPv4 20 or IPv6 40, UDP 8, VXLAN 8, inner Ethernet 14 bytes (RFC 7348,
/// section 5).
const fn overhead(family: IpFamily) -> u32 {
    match family {
        IpFamily::Ipv4 => 50,
        IpFamily::Ipv6 => 70,
    }
}

/// See the module.
#[derive(Debug)]
pub struct Vxlan;

impl Cni for Vxlan {
    fn kind(&self) -> CniKind {
        CniKind::Vxlan
    }

    fn check(&self, scratch: &Netns) -> Result<(), Unavailable> {
        check_bridge(scratch)?;
        let kind = |_| LinkKind::Vxlan(device(Ipv4Addr::LOCALHOST.into(), "lo"));
        try_kind(scratch, kind, "CONFIG_VXLAN", "vxlan")
    }

    fn wire(&self, cluster: &Cluster) -> Wiring {
        let nodes = (0..cluster.nodes.len()).map(|index| tunnelled(cluster, index));
        Wiring { nodes: nodes.collect(), notes: notes(cluster) }
    }
}

fn tunnelled(cluster: &Cluster, index: usize) -> NodeWiring {
    let node = &cluster.nodes[index];
    let of = family(node.address);
    let (mtu, flannel) = (cluster.mtu - overhead(of), flannel(of));
    let mut wiring = bridged(node, cluster, mtu);
    let address = Cidr::host(inner_address(node));
    wiring.changes.extend([
        Change::AddLink(NewLink {
            name: flannel.to_owned(),
            kind: LinkKind::Vxlan(device(node.address, &node.nic)),
            mac: Some(Mac::of(address.address)),
            mtu,
            bridge: None,
        }),
        Change::Address(Address { cidr: address, device: flannel.to_owned() }),
    ]);
    for (other_index, other) in cluster.nodes.iter().enumerate() {
        if other_index == index {
            continue;
        }
        let next_hop = inner_address(other);
        let mac = Mac::of(next_hop);
        let device = flannel.to_owned();
        wiring.changes.extend([
            Change::Neighbour(Neighbour { address: next_hop, mac, device: device.clone() }),
            Change::Forward(Forward { mac, to: other.address, device }),
            Change::Route(Route::via_on_link(other.pod_cidr, next_hop, flannel)),
        ]);
        if other_index == 0 {
            wiring.changes.push(Change::Route(Route::via_on_link(
                CLIENTS.like(next_hop),
                next_hop,
                flannel,
            )));
        }
    }
    wiring.vxlan = Some(flannel);
    wiring
}

/// Address of a node's VXLAN device: the network address of its pod range, as flannel has it.
fn inner_address(node: &ClusterNode) -> IpAddr {
    node.pod_cidr.address
}

fn device(local: IpAddr, nic: &str) -> Device {
    Device { vni: VNI, port: VXLAN_PORT, local, device: nic.to_owned() }
}
