// SPDX-License-Identifier: Apache-2.0
//! CNIs that are plugins of others, called as a container runtime calls them (CNI specification 1.0.0,
//! sections 2 to 5).
//!
//! Plugins wire a node's pods and know nothing of other nodes: the routes between nodes are the lab's, as
//! host gateways. A pod's address is planned before there is a plugin, because Services are laid out
//! by it; IPAM is asked for it by `CNI_ARGS` (`IP=`) and by the capability `ips`, and what a pod got
//! is compared with the plan.

mod answer;
mod attached;
mod error;
mod plugins;
mod render;

use crate::Unavailable;
use crate::net::Netns;
use crate::plan::{CniKind, Conflist, Mode, Place, PolicyKind, Road, Route};

use super::macvlan::with_own_slave;
use super::{Cluster, Cni, Macvlan, NodeWiring, Wiring};

pub use answer::{Answer, Interface, Refusal, versions};
pub use attached::{Attached, Attaching};
pub use error::ExecError;
pub use plugins::{FOLDERS, PACKAGE, Plugins};
pub use render::NodeValues;

/// CNIs whose devices are known.
const KNOWN: &str = "a list that begins with bridge, ptp or macvlan";

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Exec<'a> {
    /// What is called.
    pub list: &'a Conflist,
    /// Whether bridged packets pass the nodes' iptables (`br_netfilter`).
    pub bridge_netfilter: bool,
}

impl Exec<'_> {
    /// The CNI whose path packets take where the plugins make the devices that their names promise.
    pub fn expected(list: &Conflist) -> CniKind {
        match list.first() {
            "bridge" => CniKind::Bridge,
            "ptp" => CniKind::Ptp,
            "macvlan" => CniKind::Macvlan,
            _ => CniKind::Exec,
        }
    }
}

impl Cni for Exec<'_> {
    fn kind(&self) -> CniKind {
        CniKind::Exec
    }

    fn check(&self, scratch: &Netns) -> Result<(), Unavailable> {
        Plugins::find(self.list, scratch).map(drop)
    }

    /// What is between nodes; what is on them is the plugins'. Plugin `macvlan` leaves it to others
    /// that the node can talk to its pods.
    fn wire(&self, cluster: &Cluster) -> Wiring {
        let macvlan = Self::expected(self.list) == CniKind::Macvlan;
        let nodes = (0..cluster.nodes.len()).map(|index| match macvlan {
            true => with_own_slave(cluster, index),
            false => {
                NodeWiring { changes: cluster.host_gateway_routes(index), ..NodeWiring::default() }
            }
        });
        Wiring { nodes: nodes.collect(), notes: Vec::new() }
    }

    fn carries(&self, mode: Mode, route: Route, external: PolicyKind) -> Result<(), Unavailable> {
        if self.list.first() == "ipvlan" {
            return Err(Unavailable::new(
                "nodes that can talk to their pods",
                "a list that begins with ipvlan, whose slaves and their NIC cannot",
                "--cni ipvlan, where the node has a slave of its own",
            ));
        }
        if mode == Mode::None && self.list.programs().contains(&"portmap") {
            return Err(Unavailable::new(
                "nodes without a rule that changes a destination, by which mode none is proved",
                "a list with portmap, which makes such rules",
                "a list without portmap, or another mode",
            ));
        }
        let unknown = |why: &str| {
            Unavailable::new(
                format!("{KNOWN}, {why}"),
                format!("one that begins with {}", self.list.first()),
                "a list with bridge or ptp, or another mode",
            )
        };
        match (Self::expected(self.list), mode) {
            (CniKind::Macvlan, _) => Macvlan.carries(mode, route, external),
            (CniKind::Exec, Mode::Ebpf) => {
                Err(unknown("for mode ebpf has its programs on the pods' devices"))
            }
            (CniKind::Exec, Mode::Userspace) => Err(unknown(
                "for in mode userspace a request is followed from one connection to another",
            )),
            (CniKind::Bridge, Mode::Iptables | Mode::Ipvs | Mode::Nftables)
                // From pod to pod of one node, for a Service.
                if matches!(route.road, Road::Clusterip | Road::Ingress)
                    && route.place == Place::Local
                    && !self.bridge_netfilter =>
            {
                Err(Unavailable::new(
                    "the answer of a neighbour on the bridge to pass the node, for a Service to work",
                    "a kernel without br_netfilter",
                    "modprobe br_netfilter, or a list with ptp",
                ))
            }
            _ => Ok(()),
        }
    }
}
