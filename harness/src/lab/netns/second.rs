// SPDX-License-Identifier: Apache-2.0
//! Dual stack: the hosts' addresses of a second family, and its Services in the same mode beside the first's. No load
//! goes there; that it could is shown.

use std::collections::HashSet;
use std::net::IpAddr;

use super::beds::Ground;
use super::datapath::Datapath;
use super::lab::{apply_all, cluster_nodes};
use super::measured::Measured;
use super::{Client, Hosts, NetnsError, NetnsLab, Node, Pod, Topology, wire};
use crate::cni::{self, Cluster, NodeWiring, Wiring};
use crate::lab::LabError;
use crate::net::{Change, NetError, NewLink};
use crate::plan::{Case, Road, Route};
use crate::proxy::Service;

/// Services of the second family, beside those of the first.
#[derive(Debug)]
pub(in crate::lab) struct Second {
    /// What would be measured of them: a plain road to the same Service.
    case: Case,
    measured: Measured,
    datapath: Datapath,
}

impl Second {
    /// Installs the mode for the second family, where hosts have one.
    pub(super) fn install(
        ground: &Ground,
        lab: &Hosts,
        case: &Case,
    ) -> Result<Option<Self>, LabError> {
        let (Some(family), Some(hosts)) = (case.ip.second(), lab.second()) else { return Ok(None) };
        let case = Case { ip: family.into(), route: plain(case.route), ..case.clone() };
        let measured = Measured::of(hosts, &case, &ground.profile)?;
        let datapath = Datapath::install(ground, hosts, (case.mode, case.proxy), &measured.table)?;
        Ok(Some(Self { case, measured, datapath }))
    }

    /// Makes a connection by it, and shows that the mode carried it.
    pub(super) fn prove(&mut self, ground: &Ground, lab: &Hosts) -> Result<Vec<String>, LabError> {
        let Some(hosts) = lab.second() else { return Ok(Vec::new()) };
        self.datapath.prove(ground, hosts, &self.case, &self.measured)
    }

    /// Its mode on the nodes.
    pub(super) fn datapath(&mut self) -> &mut Datapath {
        &mut self.datapath
    }

    /// Its Services, in the order of the first family's.
    pub(super) fn services(&self) -> &[Service] {
        &self.measured.table.services
    }

    /// What a reader of the figures has to know of it.
    pub(super) fn note(&self) -> String {
        let rules: u64 = self.datapath.texts.iter().map(|text| text.rules).sum();
        let Self { case, datapath, .. } = self;
        let ms = datapath.install_ms;
        format!(
            "dual stack: the same Services with addresses of {} as well, {rules} rules of mode {}, installed \
             in {ms:.0} ms more",
            case.ip, case.mode
        )
    }

    /// Its texts, for the record.
    pub(super) fn files(&self) -> impl Iterator<Item = (String, Vec<u8>)> {
        let named = |name: &str| format!("{}-{name}", self.case.ip);
        let texts = self.datapath.texts.iter();
        texts.map(move |text| (named(text.name), text.text.clone().into()))
    }
}

/// A road of the same kind that nobody but the mode stands in.
fn plain(route: Route) -> Route {
    let road = match route.road {
        Road::Loadbalancer => Road::Nodeport,
        Road::Ingress | Road::IngressEndpoints => Road::Clusterip,
        road => road,
    };
    Route { road, ..route }
}

impl NetnsLab {
    /// Gives hosts that are wired the addresses of the second family.
    pub(super) fn add_second(
        &mut self,
        topology: &Topology,
        bridge_netfilter: bool,
    ) -> Result<(), NetnsError> {
        let topology = topology.second();
        let mut second = self.hosts.by(&topology)?;
        let nodes = cluster_nodes(&topology, &second.nodes, &second.pods);
        let cluster = Cluster { mtu: topology.mtu, bridge_netfilter, nodes };
        let wiring = cni::of(self.hosts.cni).wire(&cluster);
        second.wiring = beyond(wiring, &self.hosts.wiring);
        let mut outer = vec![(&second.client.netns, wire::client(&topology))];
        let mut inner = Vec::new();
        for ((index, node), wiring) in (0..).zip(&mut second.nodes).zip(&second.wiring.nodes) {
            node.vxlan = wiring.vxlan;
            let changes = wire::node(&topology, index).into_iter().chain(wiring.changes.clone());
            outer.push((&node.netns, changes.collect()));
            let pods = second.pods.iter().filter(|pod| pod.node == index as usize);
            inner.extend(pods.map(|pod| &pod.netns).zip(wiring.pods.iter().cloned()));
        }
        apply_all(outer)?;
        apply_all(inner)?;
        self.hosts.second = Some(Box::new(second));
        Ok(())
    }
}

/// What is left of a wiring for hosts that are wired: addresses, routes, and devices that the other family has not.
fn beyond(wiring: Wiring, there: &Wiring) -> Wiring {
    let node = |(mut node, there): (NodeWiring, &NodeWiring)| {
        let links: HashSet<_> = there.changes.iter().filter_map(made).collect();
        node.changes.retain(|change| match change {
            Change::Hairpin(_) => false,
            other => made(other).is_none_or(|name| !links.contains(name)),
        });
        node
    };
    let nodes = wiring.nodes.into_iter().zip(&there.nodes).map(node).collect();
    Wiring { nodes, notes: Vec::new() }
}

/// The name of the interface that a change makes.
fn made(change: &Change) -> Option<&str> {
    match change {
        Change::AddLink(NewLink { name, .. }) => Some(name),
        _ => None,
    }
}

impl Hosts {
    /// The same hosts by their addresses of another family, not wired for it.
    fn by(&self, topology: &Topology) -> Result<Self, NetError> {
        let node = |(index, node): (u32, &Node)| {
            let Node { vxlan, ipvlan, macvlan, .. } = *node;
            Ok(Node {
                name: node.name.clone(),
                netns: node.netns.again()?,
                address: topology.node_address(index),
                nic: node.nic.clone(),
                bridge: node.bridge.clone(),
                vxlan,
                ipvlan,
                macvlan,
            })
        };
        let pod = |pod: &Pod| {
            Ok(Pod {
                name: pod.name.clone(),
                node: pod.node,
                address: self.address_of(pod, topology),
                extra_addresses: Vec::new(),
                veth: pod.veth.clone(),
                socket: None,
                target: None,
                netns: pod.netns.again()?,
            })
        };
        let client = Client {
            netns: self.client.netns.again()?,
            nic: self.client.nic.clone(),
            addresses: topology.client_addresses().collect(),
            load: None,
        };
        Ok(Self {
            cni: self.cni,
            walked: self.walked,
            pods: self.pods.iter().map(pod).collect::<Result<_, NetError>>()?,
            dns: self.dns,
            dns_is_the_clusters: self.dns_is_the_clusters,
            nodes: (0..).zip(&self.nodes).map(node).collect::<Result<_, NetError>>()?,
            client,
            second: None,
            namespace: self.namespace.clone(),
            balancer: None,
            ingress: None,
            proxied: false,
            wiring: Wiring::default(),
            notes: Vec::new(),
            turn: None,
        })
    }

    /// A pod's address in another topology of the same hosts: they are numbered on each node.
    fn address_of(&self, pod: &Pod, topology: &Topology) -> IpAddr {
        let of_node = self.pods.iter().filter(|other| other.node == pod.node);
        let before = of_node.take_while(|other| other.name != pod.name).count();
        topology.pod_address(pod.node as u32, before as u32)
    }
}
