// SPDX-License-Identifier: Apache-2.0
//! A node of a kind cluster: a container, entered through the process it began with.

use std::fs;
use std::net::IpAddr;

use super::conflist::{DIRECTORY, FILE, conflist};
use super::error::ClusterError;
use super::processes::{inside, netns_of};
use crate::cni::{self, Cluster, ClusterNode};
use crate::net::{Cidr, Netns};
use crate::plan::CniKind;

/// A node's interface on the wire, as Docker names it.
pub(super) const NIC: &str = "eth0";

/// A node.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Name of node and container.
    pub(super) name: String,
    /// Process its container began with, as the machine numbers it.
    pub(super) pid: u32,
    /// Address on the wire.
    pub(super) address: IpAddr,
    /// Where its pods' addresses are from.
    pub(super) pod_cidr: Cidr,
}

impl Node {
    /// Takes a handle on its network.
    pub(super) fn enter(&self) -> Result<Netns, crate::lab::LabError> {
        enter(&self.name, self.pid)
    }

    /// Gives its container runtime the configuration of a CNI.
    pub(super) fn configure(&self, cni: CniKind, mtu: u32) -> Result<(), ClusterError> {
        let directory = inside(self.pid, DIRECTORY);
        let path = directory.join(FILE);
        // Another CNI writes its own.
        let Some(list) = conflist(cni, self.pod_cidr, mtu) else { return Ok(()) };
        // Beside its place first: the runtime reads a file as soon as it appears.
        let beside = directory.join(".nic2pod");
        fs::create_dir_all(&directory)
            .and_then(|()| fs::write(&beside, list.to_string()))
            .and_then(|()| fs::rename(&beside, &path))
            .map_err(|source| ClusterError::File { op: "write", path, source })
    }
}

/// Takes a handle on the network of a process.
pub(super) fn enter(name: &str, pid: u32) -> Result<Netns, crate::lab::LabError> {
    let namespace = netns_of(pid).map_err(|source| {
        let path = format!("/proc/{pid}/ns/net").into();
        ClusterError::File { op: "open", path, source }
    })?;
    Ok(Netns::enter(name, namespace)?)
}

/// What goes between nodes, planned as for the lab of namespaces; pods are the plugins' to wire.
pub(super) fn wiring(cni: CniKind, nodes: &[Node], mtu: u32) -> cni::Wiring {
    let node = |node: &Node| ClusterNode {
        name: node.name.clone(),
        address: node.address,
        nic: NIC.to_owned(),
        pod_cidr: node.pod_cidr,
        pods: Vec::new(),
    };
    let cluster = Cluster { mtu, bridge_netfilter: true, nodes: nodes.iter().map(node).collect() };
    cni::of(cni).wire(&cluster)
}
