// SPDX-License-Identifier: Apache-2.0
//! The hosts of a lab.

use std::net::Ipv4Addr;

use super::{NetnsError, Topology, wire};
use crate::net::{Agent, Netns};

/// The client, outside the cluster.
#[derive(Debug)]
pub struct Client {
    /// Its namespace, named `client`.
    pub netns: Netns,
    /// Its interface, `eth0`.
    pub nic: String,
    /// Its addresses; at least one.
    pub addresses: Vec<Ipv4Addr>,
}

/// A node.
#[derive(Debug)]
pub struct Node {
    /// `node1` and on.
    pub name: String,
    /// Its namespace.
    pub netns: Netns,
    /// Address of its NIC.
    pub address: Ipv4Addr,
    /// Its NIC, `eth0`.
    pub nic: String,
    /// The CNI's bridge, where it has one.
    pub bridge: Option<&'static str>,
    /// The CNI's VXLAN device, where it has one.
    pub vxlan: Option<&'static str>,
    /// The node's own ipvlan slave, where the CNI has one.
    pub ipvlan: Option<&'static str>,
}

/// A pod.
#[derive(Debug)]
pub struct Pod {
    /// `podN-M`: the M-th of node N.
    pub name: String,
    /// Index of its node, from 0.
    pub node: usize,
    /// Its address.
    pub address: Ipv4Addr,
    /// Addresses besides, reachable as its own: sources of connections it opens.
    pub extra_addresses: Vec<Ipv4Addr>,
    /// The node's end of its veth pair, where the CNI has one.
    pub veth: Option<String>,
    /// Its server, once started. Before the namespace, so that it ends first.
    pub target: Option<Agent>,
    /// Its namespace.
    pub netns: Netns,
}

/// Makes the switch, the client, the nodes and the pods, with nothing in their namespaces.
pub(super) fn create(
    topology: &Topology,
) -> Result<(Netns, Client, Vec<Node>, Vec<Pod>), NetnsError> {
    let pairs = (0..topology.nodes).flat_map(|n| (0..topology.pods_per_node).map(move |p| (n, p)));
    let pod_name = |(node, pod): (u32, u32)| format!("pod{}-{}", node + 1, pod + 1);
    let names = ["fabric".to_owned(), "client".to_owned()]
        .into_iter()
        .chain((0..topology.nodes).map(|node| format!("node{}", node + 1)))
        .chain(pairs.clone().map(pod_name));
    let mut made = Netns::create_all(names)?.into_iter();
    let mut next = || made.next().expect("one namespace per name");
    let fabric = next();
    let client = Client {
        netns: next(),
        nic: wire::ETH.to_owned(),
        addresses: topology.client_addresses().collect(),
    };
    let nodes: Vec<_> = (0..topology.nodes)
        .map(|index| {
            let netns = next();
            Node {
                name: netns.name().to_owned(),
                netns,
                address: Topology::node_address(index),
                nic: wire::ETH.to_owned(),
                bridge: None,
                vxlan: None,
                ipvlan: None,
            }
        })
        .collect();
    let pods = pairs.map(|(node, pod)| {
        let netns = next();
        Pod {
            name: netns.name().to_owned(),
            node: node as usize,
            address: Topology::pod_address(node, pod),
            extra_addresses: topology.pod_extra_addresses(node, pod).collect(),
            veth: None,
            target: None,
            netns,
        }
    });
    let pods = pods.collect();
    Ok((fabric, client, nodes, pods))
}
