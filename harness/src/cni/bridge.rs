// SPDX-License-Identifier: Apache-2.0
//! A bridge per node and routes between nodes, as the reference plugin `bridge` makes it under
//! flannel's host-gw backend and kubenet.
//!
//! Pods of a node are neighbours on `cni0`, so a packet between them is bridged and not routed. One
//! that was sent to a Service had its destination translated by the node, and the answer has to
//! pass the node's tables to be translated back: that is what `br_netfilter` is for, and why
//! kubeadm asks for it. Where the kernel lacks it, pods route to their neighbours through the
//! gateway instead, and a note says so.

use super::ptp::check_veth;
use super::{Cluster, ClusterNode, Cni, NodeWiring, Wiring, try_kind};
use crate::Unavailable;
use crate::net::{Address, Change, Cidr, LinkKind, Mac, Netns, NewLink};
use crate::plan::CniKind;

/// The bridge's name in the reference plugin and flannel.
pub(super) const CNI0: &str = "cni0";

/// See the module.
#[derive(Debug)]
pub struct Bridge;

impl Cni for Bridge {
    fn kind(&self) -> CniKind {
        CniKind::Bridge
    }

    fn check(&self, scratch: &Netns) -> Result<(), Unavailable> {
        check_bridge(scratch)
    }

    fn wire(&self, cluster: &Cluster) -> Wiring {
        let nodes = cluster.nodes.iter().enumerate().map(|(index, node)| {
            let mut wiring = bridged(node, cluster, cluster.mtu);
            wiring.changes.extend(cluster.host_gateway_routes(index));
            wiring
        });
        Wiring { nodes: nodes.collect(), notes: notes(cluster) }
    }
}

/// A node's bridge with its pods on it; what is between nodes is not this function's.
pub(super) fn bridged(node: &ClusterNode, cluster: &Cluster, mtu: u32) -> NodeWiring {
    let gateway = node.gateway();
    let prefix = node.pod_cidr.prefix;
    let bridge = NewLink {
        name: CNI0.to_owned(),
        kind: LinkKind::Bridge,
        // Said, because a bridge without takes its lowest port's and changes it with its ports.
        mac: Some(Mac::of(gateway)),
        mtu,
        bridge: None,
    };
    let cidr = Cidr { address: gateway, prefix };
    let mut changes =
        vec![Change::AddLink(bridge), Change::Address(Address { cidr, device: CNI0.to_owned() })];
    for pod in &node.pods {
        // flannel's and kubenet's hairpinMode: a pod may reach itself through its Service.
        changes.extend([pod.pair(mtu, Some(CNI0)), Change::Hairpin(pod.veth())]);
    }
    let side = |pod: &super::ClusterPod| match cluster.bridge_netfilter {
        true => pod.bridged(prefix, gateway),
        false => pod.routed(gateway),
    };
    let pods = node.pods.iter().map(side).collect();
    NodeWiring { changes, pods, bridge: Some(CNI0), ..NodeWiring::default() }
}

pub(super) fn notes(cluster: &Cluster) -> Vec<String> {
    if cluster.bridge_netfilter {
        return Vec::new();
    }
    vec![
        "the kernel has no br_netfilter (modprobe br_netfilter): pods of one node reach each other \
         through the gateway, routed, and not across the bridge as in a cluster"
            .to_owned(),
    ]
}

/// Whether bridges with veth ports can be made.
pub(super) fn check_bridge(scratch: &Netns) -> Result<(), Unavailable> {
    check_veth(scratch)?;
    try_kind(scratch, |_| LinkKind::Bridge, "CONFIG_BRIDGE", "bridge")
}
