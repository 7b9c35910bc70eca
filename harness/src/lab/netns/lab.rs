// SPDX-License-Identifier: Apache-2.0
//! The lab of network namespaces: a client, nodes and pods on this machine.
//!
//! ```text
//!   client eth0 --+        +-- eth0 node1 veth.. -- eth0 pod1-1, pod1-2
//!                 +- br0 --+
//!                 (fabric) +-- eth0 node2 veth.. -- eth0 pod2-1, pod2-2
//! ```
//!
//! Where the client resolves names there is a pod `dns` besides, on the node of the pods that answer.
//!
//! On road `loadbalancer` there is a host `balancer` besides, on the nodes' switch.
//!
//! Where a profile asks for a wire that resembles a network's, the client has a switch of its own, and
//! a queue at each end of a wire between the switches does it: `client eth0 -- br1 == br0 -- eth0 node1`.

use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use super::attachments::{Attachment, Attachments};
use super::hosts::Created;
use super::settings::{BRIDGE_NETFILTER, REFLECT_TOS, Role, dispensable, settings};
use super::{Hosts, NetnsError, Node, Pod, Topology, hosts, wire};
use crate::cni::exec::Exec;
use crate::cni::{self, Cluster, ClusterNode, ClusterPod, Cni};
use crate::net::addresses::load_balancer;
use crate::net::{Change, LinkSettings, NetError, Netns};
use crate::plan::CniKind;

/// A lab that is up. Ends with [`NetnsLab::down`]; dropped, it ends too, and says nothing.
#[derive(Debug)]
pub struct NetnsLab {
    pub(super) hosts: Hosts,
    pub(super) fabric: Netns,
    /// Changes to the fabric that make its wire more than one.
    pub(super) emulated: Vec<Change>,
    /// What plugins of others did, and are to undo.
    pub(super) attachments: Option<Attachments>,
    up: Duration,
}

impl NetnsLab {
    /// Makes the hosts, the wire between them and the pods' wiring.
    ///
    /// # Errors
    /// The topology is out of bounds, or the kernel refuses; what was made is gone again.
    pub fn up(topology: &Topology, cni: CniKind) -> Result<Self, NetnsError> {
        Self::up_by(topology, cni, None)
    }

    /// The same with pods that plugins of others attach.
    ///
    /// # Errors
    /// As [`NetnsLab::up`], or a plugin fails.
    pub fn up_by_plugins(topology: &Topology, attachment: Attachment) -> Result<Self, NetnsError> {
        Self::up_by(topology, CniKind::Exec, Some(attachment))
    }

    fn up_by(
        topology: &Topology,
        cni: CniKind,
        attachment: Option<Attachment>,
    ) -> Result<Self, NetnsError> {
        let started = Instant::now();
        topology.check()?;
        let Created { fabric, client, balancer, nodes, pods } = hosts::create(topology)?;
        let mut notes = Vec::new();
        let all = std::iter::once((&fabric, Role::Fabric))
            .chain([(&client.netns, Role::Client)])
            .chain(balancer.iter().map(|balancer| (&balancer.netns, balancer.role())))
            .chain(nodes.iter().map(|node| (&node.netns, Role::Node)))
            .chain(pods.iter().map(|pod| (&pod.netns, Role::Pod)));
        let absent = set_up(all, topology)?;
        if absent.iter().any(|key| key == REFLECT_TOS) {
            notes.push(
                "the kernel has no net.ipv4.tcp_reflect_tos (Linux 5.10): responses of sampled \
                 connections carry no mark"
                    .to_owned(),
            );
        }
        let bridge_netfilter = !absent.iter().any(|key| key == BRIDGE_NETFILTER);
        let cluster = Cluster {
            mtu: topology.mtu,
            bridge_netfilter,
            nodes: cluster_nodes(topology, &nodes, &pods),
        };
        let wiring = match &attachment {
            Some(by) => Exec { list: &by.list, bridge_netfilter }.wire(&cluster),
            None => cni::of(cni).wire(&cluster),
        };
        notes.extend(wiring.notes.iter().cloned());
        notes.extend(topology.emulation.iter().map(ToString::to_string));
        let emulated = topology.emulation.as_ref().map_or_else(Vec::new, |emulation| {
            wire::emulated(topology.mtu, fabric.reference(), emulation)
        });
        let up = started.elapsed();
        let dns = topology.dns.map(|_| pods.len() - 1);
        let hosts = Hosts {
            cni,
            walked: cni,
            pods,
            dns,
            dns_is_the_clusters: false,
            namespace: None,
            nodes,
            client,
            second: None,
            balancer,
            ingress: None,
            proxied: false,
            wiring,
            notes,
            turn: None,
        };
        let mut lab = Self { hosts, fabric, emulated, attachments: None, up };
        lab.wire(topology)?;
        if topology.dual {
            lab.add_second(topology, bridge_netfilter)?;
        }
        if let Some(attachment) = attachment {
            let attachments = Attachments::make(attachment, topology, &lab.hosts)?;
            let attachments = lab.attachments.insert(attachments);
            lab.hosts.walked = attachments.find_devices(&mut lab.hosts)?;
        }
        lab.up = started.elapsed();
        Ok(lab)
    }

    fn wire(&mut self, topology: &Topology) -> Result<(), NetnsError> {
        let Hosts { pods, nodes, client, balancer, wiring, .. } = &mut self.hosts;
        for pod in pods.iter_mut() {
            let veth = wiring.nodes[pod.node].veth_of(&pod.name);
            pod.veth = veth.map(str::to_owned);
        }
        let ends = nodes.iter().map(|node| (node.netns.reference(), node.address));
        let outside =
            balancer.iter().map(|host| (host.netns.reference(), load_balancer(topology.family)));
        let ends: Vec<_> = std::iter::once((client.netns.reference(), client.addresses[0]))
            .chain(outside)
            .chain(ends)
            .collect();
        self.fabric.apply(wire::switch(topology.mtu, &ends))?;
        self.fabric.apply(self.emulated.clone())?;
        let mut outer = vec![(&client.netns, wire::client(topology))];
        outer.extend(balancer.iter().map(|host| (&host.netns, wire::balancer(topology))));
        let mut inner = Vec::new();
        for ((index, node), wiring) in (0..).zip(nodes).zip(&wiring.nodes) {
            node.bridge = wiring.bridge.map(str::to_owned);
            (node.vxlan, node.ipvlan, node.macvlan) = (wiring.vxlan, wiring.ipvlan, wiring.macvlan);
            if let Some(key) = node.netns.write_sysctls(wiring.settings.iter().copied())?.pop() {
                return Err(NetnsError::NoSysctl { host: node.name.clone(), key });
            }
            let mut changes = wire::node(topology, index);
            changes.extend(wiring.changes.iter().cloned());
            outer.push((&node.netns, changes));
            let pods = pods.iter().filter(|pod| pod.node == index as usize);
            inner.extend(pods.map(|pod| &pod.netns).zip(wiring.pods.iter().cloned()));
        }
        // Pods after nodes: it is the node's changes that put the pod's eth0 into the pod.
        apply_all(outer)?;
        apply_all(inner)?;
        Ok(())
    }

    /// The wire between the hosts: a namespace with a switch, one port per host, named after it.
    pub fn fabric(&self) -> &Netns {
        &self.fabric
    }

    /// Texts that say how the pods are wired, for the record: file name and content.
    pub(super) fn files(&self) -> Vec<(String, Vec<u8>)> {
        self.attachments.iter().map(Attachments::file).collect()
    }

    /// How long it took to come up, servers not included.
    pub fn up_duration(&self) -> Duration {
        self.up
    }
}

impl Deref for NetnsLab {
    type Target = Hosts;

    fn deref(&self) -> &Hosts {
        &self.hosts
    }
}

impl DerefMut for NetnsLab {
    fn deref_mut(&mut self) -> &mut Hosts {
        &mut self.hosts
    }
}

/// Writes every host's settings and brings its loopback up, all at once. Returns the keys this
/// kernel does not have.
fn set_up<'a>(
    hosts: impl Iterator<Item = (&'a Netns, Role)>,
    topology: &Topology,
) -> Result<Vec<String>, NetnsError> {
    let (ip, rp_filter) = (topology.ip(), topology.rp_filter);
    let pending: Vec<_> = hosts
        .map(|(host, role)| {
            let written = host.begin_write_sysctls(settings(role, ip, rp_filter));
            (host, written, host.begin_apply(vec![Change::SetLink(LinkSettings::up("lo"))]))
        })
        .collect();
    let mut absent = Vec::new();
    for (host, written, up) in pending {
        let keys = written.wait()?;
        if let Some(key) = keys.iter().find(|key| !dispensable(key, ip)) {
            return Err(NetnsError::NoSysctl { host: host.name().to_owned(), key: key.clone() });
        }
        absent.extend(keys);
        up.wait()?;
    }
    Ok(absent)
}

pub(super) fn cluster_nodes(topology: &Topology, nodes: &[Node], pods: &[Pod]) -> Vec<ClusterNode> {
    let pod = |pod: &Pod| ClusterPod {
        name: pod.name.clone(),
        address: pod.address,
        extra_addresses: pod.extra_addresses.clone(),
        netns: pod.netns.reference(),
    };
    (0..)
        .zip(nodes)
        .map(|(index, node)| ClusterNode {
            name: node.name.clone(),
            address: node.address,
            nic: node.nic.clone(),
            pod_cidr: topology.pod_cidr(index),
            pods: pods.iter().filter(|p| p.node == index as usize).map(pod).collect(),
        })
        .collect()
}

/// Changes several hosts at once.
pub(super) fn apply_all(changes: Vec<(&Netns, Vec<Change>)>) -> Result<(), NetError> {
    let pending: Vec<_> =
        changes.into_iter().map(|(host, changes)| host.begin_apply(changes)).collect();
    pending.into_iter().try_for_each(|pending| pending.wait())
}
