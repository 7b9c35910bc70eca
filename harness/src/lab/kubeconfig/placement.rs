// SPDX-License-Identifier: Apache-2.0
//! Which nodes play which part in a case. Pure.

use crate::Unavailable;
use crate::kube::Node;
use crate::plan::{Mode, Place, Road, Route};

/// The nodes of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Placement {
    /// Node whose NodePort is asked; also the one that the road's place is seen from.
    pub(super) entry: Node,
    /// Node of the pods that answer.
    pub(super) backend: Node,
    /// Nodes of the workers, one for each, as evenly as the case allows.
    pub(super) workers: Vec<Node>,
}

impl Placement {
    /// Places a case with so many workers on `nodes`. Load never comes from the entry node of a road
    /// through its NIC.
    ///
    /// # Errors
    /// The cluster has too few nodes, or the road is not to be had on one that exists.
    pub(super) fn of(
        nodes: &[Node],
        mode: Mode,
        route: Route,
        workers: usize,
    ) -> Result<Self, Unavailable> {
        let nodes = in_order(nodes);
        let two = matches!(route.place, Place::Remote) || route.road != Road::Clusterip;
        let wanted = if two { 2 } else { 1 };
        if nodes.len() < wanted {
            return Err(Unavailable::new(
                format!("{wanted} nodes that are ready, for route {route}"),
                format!("{}", nodes.len()),
                "a cluster with more nodes, or --route clusterip-local",
            ));
        }
        // Without a Service, a client outside goes straight to the pod (as the netns lab has it).
        let road = match (mode, route.road) {
            (Mode::None, Road::Nodeport) => Road::Direct,
            (_, road) => road,
        };
        let (first, others) = (&nodes[0], &nodes[1..]);
        let (backend, from): (&Node, &[Node]) = match (road, route.place) {
            (Road::Clusterip, Place::Local) => (first, &nodes[..1]),
            (Road::Clusterip, Place::Remote) => (first, others),
            (Road::Nodeport, Place::Local) => (first, others),
            (Road::Nodeport, Place::Remote) => (&nodes[1], others),
            (Road::Direct, _) if route.road == Road::Nodeport && route.place == Place::Remote => {
                // The same pod that the NodePort leads to, from where its requests come.
                (&nodes[1], &nodes[..1])
            }
            (Road::Direct, Place::Local) => (first, others),
            (Road::Direct, Place::Remote) => {
                return Err(Unavailable::new(
                    "a way to a pod through another node",
                    "a cluster whose nodes are each reached directly",
                    "--route direct-local, or --lab netns",
                ));
            }
            (Road::Ingress | Road::IngressEndpoints, _) => {
                return Err(Unavailable::new(
                    "an ingress controller that is followed",
                    "a cluster that exists, in which none is made",
                    "--route nodeport-local,nodeport-remote, or --lab netns",
                ));
            }
            (Road::Lbip | Road::Loadbalancer, _) => {
                return Err(Unavailable::new(
                    "a load balancer in front of the cluster",
                    "a cluster that exists, in which none is made",
                    "--route nodeport-local,nodeport-remote, or --lab netns",
                ));
            }
        };
        let workers = (0..workers).map(|worker| from[worker % from.len()].clone()).collect();
        Ok(Self { entry: first.clone(), backend: backend.clone(), workers })
    }
}

/// Nodes that are ready and have an address; those that the cluster keeps pods away from come last.
fn in_order(nodes: &[Node]) -> Vec<Node> {
    let mut nodes: Vec<Node> =
        nodes.iter().filter(|node| node.ready && node.address.is_some()).cloned().collect();
    nodes.sort_by_key(|node| !node.schedulable);
    nodes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, schedulable: bool) -> Node {
        Node {
            name: name.to_owned(),
            address: Some([172, 18, 0, 2].into()),
            pod_cidr: None,
            ready: true,
            because: None,
            schedulable,
            control_plane: !schedulable,
            platform: "linux/amd64".to_owned(),
            kernel: String::new(),
            kubelet: String::new(),
            kube_proxy: String::new(),
        }
    }

    /// Entry, backend and workers by name.
    fn placed(nodes: &[Node], mode: Mode, route: &str) -> Result<(String, String, String), String> {
        let placed = Placement::of(nodes, mode, route.parse().unwrap(), 2);
        let placed = placed.map_err(|reason| reason.need)?;
        let workers: Vec<_> = placed.workers.into_iter().map(|node| node.name).collect();
        Ok((placed.entry.name, placed.backend.name, workers.join(" ")))
    }

    #[test]
    fn load_does_not_come_from_the_node_whose_nic_it_is_to_pass() {
        let three = [node("control", false), node("a", true), node("b", true)];
        let expected = |entry: &str, backend: &str, workers: &str| {
            Ok((entry.to_owned(), backend.to_owned(), workers.to_owned()))
        };
        for (route, backend, workers) in [
            ("nodeport-local", "a", "b control"),
            ("nodeport-remote", "b", "b control"),
            ("clusterip-local", "a", "a a"),
            ("clusterip-remote", "a", "b control"),
            ("direct-local", "a", "b control"),
        ] {
            let placed = placed(&three, Mode::Iptables, route);
            assert_eq!(placed, expected("a", backend, workers), "{route}");
        }
        assert_eq!(placed(&three, Mode::None, "nodeport-remote"), expected("a", "b", "a a"));
        assert_eq!(placed(&three, Mode::None, "nodeport-local"), expected("a", "a", "b control"));
    }

    #[test]
    fn what_a_cluster_does_not_have_is_a_reason_to_skip() {
        let unready = Node { ready: false, ..node("b", true) };
        let one = [node("a", true), unready];
        assert!(placed(&one, Mode::Iptables, "clusterip-local").is_ok());
        for route in ["clusterip-remote", "nodeport-local", "direct-local"] {
            assert!(placed(&one, Mode::Iptables, route).unwrap_err().starts_with("2 nodes"));
        }
        let two = [node("a", true), node("b", true)];
        assert!(placed(&two, Mode::Iptables, "direct-remote").is_err());
        assert!(placed(&two, Mode::Iptables, "lbip-local").is_err());
    }
}
