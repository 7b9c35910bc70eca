// SPDX-License-Identifier: Apache-2.0
//! The hosts of a lab.

use std::net::IpAddr;
use std::path::PathBuf;

use super::{Balancer, Ingress, NetnsError, Topology, wire};
use crate::capture::{Site, TapPoint};
use crate::cni::{self, Wiring};
use crate::net::addresses::family;
use crate::net::{Agent, Netns};
use crate::plan::{CniKind, IpFamily};

/// Name of the pod that serves names.
const DNS_POD: &str = "dns";

/// The hosts of a lab, whoever made them: handles on network namespaces, and what is where in them.
#[derive(Debug)]
pub struct Hosts {
    pub(in crate::lab) cni: CniKind,
    /// The CNI whose path the packets take: that one, or the one whose devices plugins of others were
    /// found to have made.
    pub(in crate::lab) walked: CniKind,
    pub(in crate::lab) pods: Vec<Pod>,
    /// Index of the pod that serves names, where the lab has one.
    pub(in crate::lab) dns: Option<usize>,
    /// Whether that pod is the cluster's own, which learns names from the API server.
    pub(in crate::lab) dns_is_the_clusters: bool,
    /// Namespace that Services are in, where an API server has them; elsewhere it is the table's.
    pub(in crate::lab) namespace: Option<String>,
    pub(in crate::lab) nodes: Vec<Node>,
    pub(in crate::lab) client: Client,
    /// The same hosts by their addresses of the other family, where they have both.
    pub(in crate::lab) second: Option<Box<Hosts>>,
    /// Where the road leads through one.
    pub(in crate::lab) balancer: Option<Balancer>,
    /// Where the road leads through one.
    pub(in crate::lab) ingress: Option<Ingress>,
    /// Whether connections to pods begin with the PROXY protocol's preamble.
    pub(in crate::lab) proxied: bool,
    pub(in crate::lab) wiring: Wiring,
    pub(in crate::lab) notes: Vec<String>,
    /// How many cases were measured on these hosts before, where hosts outlive a case.
    pub(in crate::lab) turn: Option<u32>,
}

impl Hosts {
    /// Which CNI wires the pods.
    pub fn cni(&self) -> CniKind {
        self.cni
    }

    /// The CNI whose path packets take between a node and its pods: [`Hosts::cni`], or the one whose
    /// devices plugins of others were found to have made.
    pub fn walked(&self) -> CniKind {
        self.walked
    }

    /// Which addresses its hosts have.
    pub fn family(&self) -> IpFamily {
        family(self.nodes[0].address)
    }

    /// The same hosts by their addresses of the other family, where they have both.
    pub fn second(&self) -> Option<&Hosts> {
        self.second.as_deref()
    }

    /// The client outside.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The load balancer outside, where the lab has one.
    pub fn balancer(&self) -> Option<&Balancer> {
        self.balancer.as_ref()
    }

    /// Nodes that requests enter by, indices.
    pub(in crate::lab) fn entries(&self) -> Vec<usize> {
        self.balancer.as_ref().map_or_else(|| vec![0], |balancer| balancer.nodes.clone())
    }

    /// Nodes; the first is the entry node.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Pods, node by node; behind them the one that serves names, where the lab has one.
    pub fn pods(&self) -> &[Pod] {
        &self.pods
    }

    /// Pods, for talking to their servers.
    pub fn pods_mut(&mut self) -> &mut [Pod] {
        &mut self.pods
    }

    /// Every host of the cluster and the client; not the wire.
    pub fn hosts(&self) -> impl Iterator<Item = &Netns> {
        std::iter::once(&self.client.netns)
            .chain(self.balancer.iter().map(|balancer| &balancer.netns))
            .chain(self.nodes.iter().map(|node| &node.netns))
            .chain(self.pods.iter().map(|pod| &pod.netns))
    }

    /// What a reader of the figures has to know of this lab.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Every interface that a request or its answer may pass.
    pub fn tap_points(&self) -> Vec<TapPoint<'_>> {
        let client = &self.client;
        let mut points = vec![TapPoint {
            netns: &client.netns,
            node: None,
            device: &client.nic,
            kind: Site::ClientEth,
        }];
        points.extend(self.balancer.iter().map(|balancer| TapPoint {
            netns: &balancer.netns,
            node: None,
            device: wire::ETH,
            kind: Site::BalancerEth,
        }));
        for (index, node) in self.nodes.iter().enumerate() {
            let at =
                |device, kind| TapPoint { netns: &node.netns, node: Some(index), device, kind };
            points.push(at(&node.nic, Site::Nic));
            points.extend(node.bridge.as_deref().map(|device| at(device, Site::Bridge)));
            points.extend(node.vxlan.map(|device| at(device, Site::Vxlan)));
            points.extend(node.ipvlan.map(|device| at(device, Site::Ipvlan)));
            points.extend(node.macvlan.map(|device| at(device, Site::Macvlan)));
            for pod in self.pods.iter().filter(|pod| pod.node == index) {
                points.extend(pod.veth.as_deref().map(|device| at(device, Site::PodVeth)));
                let (netns, kind) = (&pod.netns, Site::PodEth);
                points.push(TapPoint { netns, node: Some(index), device: cni::POD_ETH, kind });
            }
        }
        points
    }
}

/// The client, outside the cluster.
#[derive(Debug)]
pub struct Client {
    /// Its namespace, named `client`.
    pub netns: Netns,
    /// Its interface, `eth0`.
    pub nic: String,
    /// Its addresses; at least one.
    pub addresses: Vec<IpAddr>,
    /// Socket of the load generator that runs in it, where it is a container; without one, the
    /// harness starts its own.
    pub load: Option<PathBuf>,
}

/// A node.
#[derive(Debug)]
pub struct Node {
    /// `node1` and on.
    pub name: String,
    /// Its namespace.
    pub netns: Netns,
    /// Address of its NIC.
    pub address: IpAddr,
    /// Its NIC, `eth0`.
    pub nic: String,
    /// The CNI's bridge, where it has one.
    pub bridge: Option<String>,
    /// The CNI's VXLAN device, where it has one.
    pub vxlan: Option<&'static str>,
    /// The node's own ipvlan slave, where the CNI has one.
    pub ipvlan: Option<&'static str>,
    /// The node's own macvlan slave, where the CNI has one.
    pub macvlan: Option<&'static str>,
}

/// A pod.
#[derive(Debug)]
pub struct Pod {
    /// `podN-M`: the M-th of node N; or `dns`.
    pub name: String,
    /// Index of its node, from 0.
    pub node: usize,
    /// Its address.
    pub address: IpAddr,
    /// Addresses besides, reachable as its own: sources of connections it opens.
    pub extra_addresses: Vec<IpAddr>,
    /// The node's end of its veth pair, where the CNI has one.
    pub veth: Option<String>,
    /// Socket of the agent that runs in it, where it is a container: the load generator's in the pod
    /// that is a client, the server's elsewhere.
    pub socket: Option<PathBuf>,
    /// Its server, once started. Before the namespace, so that it ends first.
    pub target: Option<Agent>,
    /// Its namespace.
    pub netns: Netns,
}

/// Hosts with nothing in their namespaces.
pub(super) struct Created {
    pub(super) fabric: Netns,
    pub(super) client: Client,
    pub(super) balancer: Option<Balancer>,
    pub(super) nodes: Vec<Node>,
    pub(super) pods: Vec<Pod>,
}

/// Makes the switch, the client, the load balancer if there is to be one, the nodes and the pods.
pub(super) fn create(topology: &Topology) -> Result<Created, NetnsError> {
    let pairs = (0..topology.nodes).flat_map(|n| (0..topology.pods_per_node).map(move |p| (n, p)));
    let pod_name = |(node, pod): (u32, u32)| format!("pod{}-{}", node + 1, pod + 1);
    let names = ["fabric".to_owned(), "client".to_owned()]
        .into_iter()
        .chain((!topology.balanced.is_empty()).then(|| "balancer".to_owned()))
        .chain((0..topology.nodes).map(|node| format!("node{}", node + 1)))
        .chain(pairs.clone().map(pod_name))
        .chain(topology.dns.map(|_| DNS_POD.to_owned()));
    let mut made = Netns::create_all(names)?.into_iter();
    let mut next = || made.next().expect("one namespace per name");
    let fabric = next();
    let client = Client {
        netns: next(),
        nic: wire::ETH.to_owned(),
        addresses: topology.client_addresses().collect(),
        load: None,
    };
    let balanced = topology.balanced.iter().map(|&node| node as usize).collect();
    let balancer =
        (!topology.balanced.is_empty()).then(|| Balancer::new(next(), balanced, topology.routed));
    let nodes: Vec<_> = (0..topology.nodes)
        .map(|index| {
            let netns = next();
            Node {
                name: netns.name().to_owned(),
                netns,
                address: topology.node_address(index),
                nic: wire::ETH.to_owned(),
                bridge: None,
                vxlan: None,
                ipvlan: None,
                macvlan: None,
            }
        })
        .collect();
    let with_clients = pairs.map(|(node, pod)| {
        let extra_addresses = topology.pod_extra_addresses(node, pod).collect();
        (node, topology.pod_address(node, pod), extra_addresses)
    });
    let serving_names = topology.dns.zip(topology.dns_address());
    let serving_names = serving_names.map(|(node, address)| (node, address, Vec::new()));
    let pods = with_clients.chain(serving_names).map(|(node, address, extra_addresses)| {
        let netns = next();
        Pod {
            name: netns.name().to_owned(),
            node: node as usize,
            address,
            extra_addresses,
            veth: None,
            socket: None,
            target: None,
            netns,
        }
    });
    let pods = pods.collect();
    Ok(Created { fabric, client, balancer, nodes, pods })
}
