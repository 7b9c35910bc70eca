// SPDX-License-Identifier: Apache-2.0
//! What a CNI is told, and what it answers.

use std::fmt;
use std::net::IpAddr;

use sha2::{Digest, Sha256};

use crate::net::addresses::CLIENTS;
use crate::net::{
    Address, Change, Cidr, LinkKind, LinkSettings, Mac, NetnsRef, NewLink, Peer, Route, Scope,
};

/// Nodes and pods to be wired. The first node is the entry node, the way to and from the clients.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Of the nodes' NICs and of the wire between them, bytes.
    pub mtu: u32,
    /// Whether bridged packets pass the nodes' iptables (`br_netfilter`).
    pub bridge_netfilter: bool,
    /// Nodes; at least one.
    pub nodes: Vec<ClusterNode>,
}

/// A node, its NIC up and addressed.
#[derive(Clone, Debug)]
pub struct ClusterNode {
    /// Name.
    pub name: String,
    /// Address of its NIC.
    pub address: IpAddr,
    /// Name of its NIC.
    pub nic: String,
    /// Where its pods' addresses are from.
    pub pod_cidr: Cidr,
    /// Its pods.
    pub pods: Vec<ClusterPod>,
}

/// A pod, its namespace empty.
#[derive(Clone, Debug)]
pub struct ClusterPod {
    /// Name.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
    /// Further addresses, reachable as its own.
    pub extra_addresses: Vec<IpAddr>,
    /// Its namespace.
    pub netns: NetnsRef,
}

/// The changes that wire a cluster.
#[derive(Clone, Debug, Default)]
pub struct Wiring {
    /// Per node.
    pub nodes: Vec<NodeWiring>,
    /// What a reader of the figures has to know.
    pub notes: Vec<String>,
}

/// The changes of one node and its pods.
#[derive(Clone, Debug, Default)]
pub struct NodeWiring {
    /// On the node; they put each pod's `eth0` into the pod.
    pub changes: Vec<Change>,
    /// In each pod, to be made after the node's.
    pub pods: Vec<Vec<Change>>,
    /// The bridge, where the CNI has one.
    pub bridge: Option<&'static str>,
    /// The VXLAN device, where the CNI has one.
    pub vxlan: Option<&'static str>,
    /// The node's own ipvlan slave, where the CNI has one; its pods have no veth pairs then.
    pub ipvlan: Option<&'static str>,
    /// The node's own macvlan slave, where the CNI has one; its pods have no veth pairs then.
    pub macvlan: Option<&'static str>,
    /// Settings of the node's that the CNI needs, before its changes.
    pub settings: &'static [(&'static str, &'static str)],
}

/// Name of every pod's interface.
pub(crate) const POD_ETH: &str = "eth0";

/// Name of the node's end of a pod's veth pair: `veth` and eight hexadecimal digits, as the
/// reference plugins name it; from the pod's name and not from chance, so that two runs have the
/// same.
fn veth_name(pod: &str) -> String {
    let digest = Sha256::digest(pod.as_bytes());
    format!("veth{:02x}{:02x}{:02x}{:02x}", digest[0], digest[1], digest[2], digest[3])
}

impl NodeWiring {
    /// The node's end of a pod's veth pair, by the pod's name.
    pub fn veth_of(&self, pod: &str) -> Option<&str> {
        self.changes.iter().find_map(|change| match change {
            Change::AddLink(NewLink { name, kind: LinkKind::Veth(peer), .. })
                if peer.netns.name() == pod =>
            {
                Some(&**name)
            }
            _ => None,
        })
    }
}

impl ClusterNode {
    /// Next hop of the node's pods: the first address of its pod range, as host-local IPAM has it.
    pub fn gateway(&self) -> IpAddr {
        self.pod_cidr.nth(1)
    }
}

impl ClusterPod {
    /// Name of the node's end of the pod's veth pair.
    pub fn veth(&self) -> String {
        veth_name(&self.name)
    }

    /// The veth pair, from the node's side.
    pub(super) fn pair(&self, mtu: u32, bridge: Option<&str>) -> Change {
        let peer = Peer {
            name: POD_ETH.to_owned(),
            netns: self.netns.clone(),
            mac: Mac::of(self.address),
        };
        Change::AddLink(NewLink {
            name: self.veth(),
            kind: LinkKind::Veth(peer),
            mac: None,
            mtu,
            bridge: bridge.map(str::to_owned),
        })
    }

    /// The pod's own side, routed: no neighbour but the gateway, not even on its own node. Where
    /// that may be needless, the reference plugin `ptp` routes it the same way.
    pub(super) fn routed(&self, gateway: IpAddr) -> Vec<Change> {
        let to_gateway = Cidr::host(gateway);
        self.side(to_gateway.prefix, gateway, [Route::on_link(to_gateway, POD_ETH)])
    }

    /// The pod's own side, bridged: the pods of its node are neighbours.
    pub(super) fn bridged(&self, prefix: u8, gateway: IpAddr) -> Vec<Change> {
        self.side(prefix, gateway, [])
    }

    fn side(
        &self,
        prefix: u8,
        gateway: IpAddr,
        routes: impl IntoIterator<Item = Route>,
    ) -> Vec<Change> {
        let own = Cidr { address: self.address, prefix };
        let addresses =
            std::iter::once(own).chain(self.extra_addresses.iter().copied().map(Cidr::host));
        std::iter::once(Change::SetLink(LinkSettings::up(POD_ETH)))
            .chain(
                addresses.map(|cidr| Change::Address(Address { cidr, device: POD_ETH.to_owned() })),
            )
            .chain(routes.into_iter().map(Change::Route))
            .chain([Change::Route(Route::via(Cidr::any(own.family()), gateway, POD_ETH))])
            .collect()
    }

    /// The node's routes to the pod, one per address, as the plugins' `AddHostRoute` makes them.
    pub(super) fn host_routes(&self) -> impl Iterator<Item = Change> {
        let veth = self.veth();
        std::iter::once(self.address).chain(self.extra_addresses.iter().copied()).map(
            move |address| {
                let to = Cidr::host(address);
                Change::Route(Route { scope: Scope::Host, ..Route::on_link(to, &*veth) })
            },
        )
    }
}

impl Cluster {
    /// Routes of a node whose packets to other nodes' pods go out as they are: each node's pod
    /// range through its address and, unless it is the entry node itself, the clients through the
    /// entry node. Clients are outside the cluster; that they are answered the way they came in
    /// gives mode `none` the hops of the modes that translate addresses.
    pub(super) fn host_gateway_routes(&self, index: usize) -> Vec<Change> {
        let node = &self.nodes[index];
        let others = self.nodes.iter().enumerate().filter(|&(other, _)| other != index);
        let mut routes: Vec<_> = others
            .map(|(_, other)| Route::via(other.pod_cidr, other.address, &*node.nic))
            .collect();
        if index != 0 {
            let entry = self.nodes[0].address;
            routes.push(Route::via(CLIENTS.like(entry), entry, &*node.nic));
        }
        routes.into_iter().map(Change::Route).collect()
    }
}

impl fmt::Display for Wiring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, node) in self.nodes.iter().enumerate() {
            writeln!(f, "node {index}")?;
            for (key, value) in node.settings {
                writeln!(f, "  sysctl -w {key}={value}")?;
            }
            node.changes.iter().try_for_each(|change| writeln!(f, "  {change}"))?;
            for (pod, changes) in node.pods.iter().enumerate() {
                writeln!(f, "pod {index}.{pod}")?;
                changes.iter().try_for_each(|change| writeln!(f, "  {change}"))?;
            }
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "note {note}"))
    }
}
