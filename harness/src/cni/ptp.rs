// SPDX-License-Identifier: Apache-2.0
//! A routed veth pair per pod, as the reference plugin `ptp` makes it and kindnet uses it.
//!
//! The node's end of every pair has the gateway's address as a /32 and a route to the pod; the
//! pod has a route to the gateway on the link and everything else through it, also the pods of its
//! own node. The gateway's address is really the node's, on every pair, so no proxy ARP is needed.

use super::{Cluster, Cni, NodeWiring, Wiring, try_kind};
use crate::Unavailable;
use crate::net::{Address, Change, Cidr, LinkKind, Mac, Netns, Peer};
use crate::plan::CniKind;

/// See the module.
#[derive(Debug)]
pub struct Ptp;

impl Cni for Ptp {
    fn kind(&self) -> CniKind {
        CniKind::Ptp
    }

    fn check(&self, scratch: &Netns) -> Result<(), Unavailable> {
        check_veth(scratch)
    }

    fn wire(&self, cluster: &Cluster) -> Wiring {
        let nodes = cluster.nodes.iter().enumerate().map(|(index, node)| {
            let gateway = node.gateway();
            let mut changes = Vec::new();
            for pod in &node.pods {
                let cidr = Cidr::host(gateway);
                changes.push(pod.pair(cluster.mtu, None));
                changes.push(Change::Address(Address { cidr, device: pod.veth() }));
                changes.extend(pod.host_routes());
            }
            changes.extend(cluster.host_gateway_routes(index));
            let pods = node.pods.iter().map(|pod| pod.routed(gateway)).collect();
            NodeWiring { changes, pods, ..NodeWiring::default() }
        });
        Wiring { nodes: nodes.collect(), notes: Vec::new() }
    }
}

/// Whether veth pairs can be made.
pub(super) fn check_veth(scratch: &Netns) -> Result<(), Unavailable> {
    let peer = |netns| {
        let mac = Mac([2, 0, 0, 0, 0, 1]);
        LinkKind::Veth(Peer { name: "nic2pod-peer".to_owned(), netns, mac })
    };
    try_kind(scratch, peer, "CONFIG_VETH", "veth")
}
