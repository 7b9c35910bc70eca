// SPDX-License-Identifier: Apache-2.0
//! How large a lab is, and which address each of its hosts has.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use super::Emulation;
use crate::net::Cidr;
use crate::net::addresses::{CLIENTS, NODES, PODS, pods_prefix};
use crate::plan::{IpFamily, IpStack, ReversePath};

/// How large a lab is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    /// Nodes, 1 to 64; the first is the entry node.
    pub nodes: u32,
    /// Pods on each node, 1 to 30.
    pub pods_per_node: u32,
    /// Largest IP packet on the wire, bytes, 1280 to 9216; less inside a tunnel.
    pub mtu: u32,
    /// Addresses of the client, 1 to 4096, so that it may open that many times 64,512 connections
    /// before a tuple comes back.
    pub client_addresses: u32,
    /// Addresses of each pod besides its own, for pods that are clients; 0 to 223 on a node.
    pub pod_extra_addresses: u32,
    /// What the wire between client and nodes does besides carrying packets.
    pub emulation: Option<Emulation>,
    /// Node with a pod besides that serves names, index from 0; without, there is none.
    pub dns: Option<u32>,
    /// Nodes that a load balancer outside spreads connections over, indices from 0; without any,
    /// there is no such host.
    pub balanced: Vec<u32>,
    /// Whether that host routes packets to the one node, and makes no connections of its own.
    pub routed: bool,
    /// Which addresses its hosts have.
    pub family: IpFamily,
    /// Whether they have addresses of the other family as well.
    pub dual: bool,
    /// Reverse-path filtering of its nodes and pods.
    pub rp_filter: ReversePath,
}

impl Default for Topology {
    fn default() -> Self {
        Self {
            nodes: 2,
            pods_per_node: 2,
            mtu: 1500,
            client_addresses: 32,
            pod_extra_addresses: 16,
            emulation: None,
            dns: None,
            balanced: Vec::new(),
            routed: false,
            family: IpFamily::Ipv4,
            dual: false,
            rp_filter: ReversePath::Loose,
        }
    }
}

/// A lab that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopologyError {
    /// A number is out of its range.
    #[error("{what} is {found}; it has to be {least} to {most}")]
    OutOfRange {
        /// Which number.
        what: &'static str,
        /// Its value.
        found: u32,
        /// Smallest value allowed.
        least: u32,
        /// Largest value allowed.
        most: u32,
    },
    /// A node's pods want more addresses than its range has.
    #[error(
        "pods_per_node ({pods_per_node}) times pod_extra_addresses ({pod_extra_addresses}) is \
         {}; a node's pod range has {EXTRA_PER_NODE} addresses for that",
         u64::from(*pods_per_node) * u64::from(*pod_extra_addresses)
    )]
    ExtraAddresses {
        /// Pods on each node.
        pods_per_node: u32,
        /// Addresses of each besides its own.
        pod_extra_addresses: u32,
    },
}

/// Nodes at most: pod ranges end long before 10.244.128.0, where fillers' begin.
const NODES_ALLOWED: RangeInclusive<u32> = 1..=64;
/// First pod of a node is .2, last is .31.
const PODS_ALLOWED: RangeInclusive<u32> = 1..=30;
/// From IPv6's smallest, below which real networks do not go, to the largest jumbo frames in use.
const MTU_ALLOWED: RangeInclusive<u32> = 1280..=9216;
const CLIENTS_ALLOWED: RangeInclusive<u32> = 1..=4096;
/// Further addresses of a node's pods begin here and end before the broadcast address.
const EXTRA_FIRST: u32 = 32;
const EXTRA_PER_NODE: u32 = 255 - EXTRA_FIRST;

impl Topology {
    /// Checks all bounds.
    ///
    /// # Errors
    /// The first number that is out of them.
    pub fn check(&self) -> Result<(), TopologyError> {
        within("nodes", self.nodes, NODES_ALLOWED)?;
        within("pods_per_node", self.pods_per_node, PODS_ALLOWED)?;
        within("mtu", self.mtu, MTU_ALLOWED)?;
        within("client_addresses", self.client_addresses, CLIENTS_ALLOWED)?;
        within("pod_extra_addresses", self.pod_extra_addresses, 0..=EXTRA_PER_NODE)?;
        if let Some(node) = self.dns {
            within("the node of DNS", node, 0..=self.nodes - 1)?;
            let room = *PODS_ALLOWED.end() - 1;
            within("pods_per_node beside DNS", self.pods_per_node, *PODS_ALLOWED.start()..=room)?;
        }
        for &node in &self.balanced {
            within("a balanced node", node, 0..=self.nodes - 1)?;
        }
        if self.pods_per_node * self.pod_extra_addresses > EXTRA_PER_NODE {
            return Err(TopologyError::ExtraAddresses {
                pods_per_node: self.pods_per_node,
                pod_extra_addresses: self.pod_extra_addresses,
            });
        }
        Ok(())
    }

    /// The lab with the addresses of the other family: of each host the one that it cannot be without.
    pub(super) fn second(&self) -> Self {
        let family = match self.family {
            IpFamily::Ipv4 => IpFamily::Ipv6,
            IpFamily::Ipv6 => IpFamily::Ipv4,
        };
        Self {
            family,
            client_addresses: 1,
            pod_extra_addresses: 0,
            balanced: Vec::new(),
            routed: false,
            emulation: None,
            ..self.clone()
        }
    }

    /// Which addresses its hosts have.
    pub(super) fn ip(&self) -> IpStack {
        match (self.family, self.dual) {
            (family, false) => family.into(),
            (IpFamily::Ipv4, true) => IpStack::DualIpv4,
            (IpFamily::Ipv6, true) => IpStack::DualIpv6,
        }
    }

    /// The client's addresses, 10.8.0.1 or fd00:10:8::1 and on.
    pub fn client_addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let clients = CLIENTS.of(self.family);
        (1..=self.client_addresses).map(move |n| clients.nth(n.into()))
    }

    /// Address of a node, index from 0.
    pub fn node_address(&self, node: u32) -> IpAddr {
        NODES.of(self.family).nth(u128::from(11 + node))
    }

    /// Pod range of a node.
    pub fn pod_cidr(&self, node: u32) -> Cidr {
        PODS.of(self.family).part(pods_prefix(self.family), node)
    }

    /// Address of a pod, indexes from 0.
    pub fn pod_address(&self, node: u32, pod: u32) -> IpAddr {
        self.pod_cidr(node).nth(u128::from(2 + pod))
    }

    /// Address of the pod that serves names: behind its node's others.
    pub fn dns_address(&self) -> Option<IpAddr> {
        self.dns.map(|node| self.pod_address(node, self.pods_per_node))
    }

    /// Addresses of a pod besides its own.
    pub fn pod_extra_addresses(&self, node: u32, pod: u32) -> impl Iterator<Item = IpAddr> + use<> {
        let count = self.pod_extra_addresses;
        let first = EXTRA_FIRST + pod * count;
        let range = self.pod_cidr(node);
        (first..first + count).map(move |n| range.nth(n.into()))
    }
}

fn within(
    what: &'static str,
    found: u32,
    allowed: RangeInclusive<u32>,
) -> Result<(), TopologyError> {
    if allowed.contains(&found) {
        return Ok(());
    }
    Err(TopologyError::OutOfRange { what, found, least: *allowed.start(), most: *allowed.end() })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;
    use crate::net::addresses::load_balancer;

    #[test]
    fn bounds_are_told_by_name_value_and_range() {
        let none = Topology { nodes: 0, ..Topology::default() };
        assert_eq!(none.check().unwrap_err().to_string(), "nodes is 0; it has to be 1 to 64");
        let narrow = Topology { mtu: 576, ..Topology::default() };
        assert_eq!(
            narrow.check().unwrap_err().to_string(),
            "mtu is 576; it has to be 1280 to 9216"
        );
        let many = Topology { pods_per_node: 30, ..Topology::default() };
        assert_eq!(
            many.check().unwrap_err().to_string(),
            "pods_per_node (30) times pod_extra_addresses (16) is 480; a node's pod range has 223 \
             addresses for that"
        );
    }

    #[test]
    fn hosts_have_the_addresses_the_documents_say() {
        let four = Topology::default();
        assert_eq!(four.node_address(0), IpAddr::from([10, 9, 0, 11]));
        assert_eq!(four.pod_cidr(1).to_string(), "10.244.1.0/24");
        assert_eq!(four.pod_address(1, 1), IpAddr::from([10, 244, 1, 3]));
        let six = Topology { family: IpFamily::Ipv6, ..Topology::default() };
        assert_eq!(six.node_address(0).to_string(), "fd00:10:9::b");
        assert_eq!(six.pod_address(1, 1).to_string(), "fd00:10:244:1::3");
        let many = Topology { client_addresses: 300, ..Topology::default() };
        assert_eq!(many.client_addresses().last(), Some(IpAddr::from([10, 8, 1, 44])));
    }

    /// Pods on a node and as many further addresses of each as there is room for, or fewer.
    fn pods() -> impl Strategy<Value = (u32, u32)> {
        (1u32..=30).prop_flat_map(|pods| (Just(pods), 0..=EXTRA_PER_NODE / pods))
    }

    proptest! {
        #[test]
        fn no_two_hosts_of_an_allowed_lab_share_an_address(
            nodes in 1u32..=64, (pods_per_node, pod_extra_addresses) in pods(),
            client_addresses in 1u32..=4096, dns in prop::option::of(0u32..64),
            family in prop::sample::select(IpFamily::ALL),
        ) {
            let dns = dns.filter(|_| pods_per_node < 30).map(|node| node % nodes);
            let topology = Topology {
                nodes, pods_per_node, client_addresses, pod_extra_addresses, dns, family,
                ..Topology::default()
            };
            prop_assert_eq!(topology.check(), Ok(()));
            let mut seen: Vec<IpAddr> = topology.client_addresses().collect();
            seen.push(load_balancer(family));
            seen.extend(topology.dns_address());
            for node in 0..nodes {
                seen.push(topology.node_address(node));
                // The VXLAN device's, the gateway's and the broadcast address.
                seen.extend([0, 1, 255].map(|n| topology.pod_cidr(node).nth(n)));
                for pod in 0..pods_per_node {
                    seen.push(topology.pod_address(node, pod));
                    seen.extend(topology.pod_extra_addresses(node, pod));
                }
            }
            let distinct: HashSet<_> = seen.iter().collect();
            prop_assert_eq!(distinct.len(), seen.len());
            let fillers = PODS.of(family).part(PODS.of(family).prefix + 1, 1);
            prop_assert!(seen.iter().all(|address| !fillers.contains(*address)));
        }
    }
}
