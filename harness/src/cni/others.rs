// SPDX-License-Identifier: Apache-2.0
//! CNIs with programs of their own, which wire pods and the ways between nodes themselves. They run in
//! a cluster; what is left to be done is the way back to the clients, who are outside of it.

use super::{Cluster, Cni, NodeWiring, Wiring};
use crate::Unavailable;
use crate::net::addresses::CLIENTS;
use crate::net::{Change, Netns, Route};
use crate::plan::{CniKind, Mode, PolicyKind};

/// See the module.
#[derive(Debug)]
pub struct Others(pub CniKind);

impl Cni for Others {
    fn kind(&self) -> CniKind {
        self.0
    }

    fn check(&self, _: &Netns) -> Result<(), Unavailable> {
        Err(Unavailable::new(
            format!("a cluster that runs cni {}", self.0),
            "network namespaces, in which nothing of it runs",
            "--lab kind",
        ))
    }

    /// Nodes behind the entry node answer clients through it, as they do under every CNI.
    fn wire(&self, cluster: &Cluster) -> Wiring {
        let entry = cluster.nodes[0].address;
        let nodes = cluster.nodes.iter().enumerate().map(|(index, node)| {
            let back = Change::Route(Route::via(CLIENTS.like(entry), entry, &*node.nic));
            let changes = if index == 0 { Vec::new() } else { vec![back] };
            NodeWiring { changes, ..NodeWiring::default() }
        });
        Wiring { nodes: nodes.collect(), notes: Vec::new() }
    }

    fn carries(
        &self,
        mode: Mode,
        _: crate::plan::Route,
        _external: PolicyKind,
    ) -> Result<(), Unavailable> {
        match mode {
            Mode::Ebpf => Err(Unavailable::new(
                "a CNI whose devices nic2pod's programs know (ptp, bridge, vxlan), for mode ebpf",
                format!("cni {}", self.0),
                "--cni ptp, or another mode",
            )),
            _ => Ok(()),
        }
    }
}
