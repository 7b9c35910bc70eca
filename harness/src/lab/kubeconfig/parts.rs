// SPDX-License-Identifier: Apache-2.0
//! What the nodes and pods of a case are to its path, and which path that is. Pure.

use std::net::{IpAddr, SocketAddr};

use super::placement::Placement;
use super::road;
use crate::kube::{Node, RunningPod};
use crate::plan::{Case, CniKind, Mode, Place as Where, Road, Route};
use crate::probe::protocol::{Look, Place, PlacedPod, Surroundings};

/// A node and what it is to a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// The node's name.
    pub(super) node: String,
    /// Its own address.
    address: IpAddr,
    /// 0 for a node that requests enter, 1 for another with the pods that answer; `None` where only load
    /// comes from.
    pub(super) part: Option<usize>,
    /// The case's pods on it, and whether load comes from them.
    pods: Vec<(RunningPod, bool)>,
}

/// The route as packets walk it in a cluster that exists, where load comes from pods. Through a Service
/// it is the case's. To a pod it goes straight to the pod's own node, which is the one it enters: the
/// client's is passed on the wire, as a router outside would be.
pub(super) fn walked(case: &Case) -> Route {
    match case.route.road {
        Road::Clusterip => case.route,
        road if road::passes_service(case.mode, road) => case.route,
        _ => Route { road: Road::Direct, place: Where::Local },
    }
}

/// The nodes of a case, each once.
pub(super) fn parts(
    nodes: &[Node],
    case: &Case,
    placement: &Placement,
    workers: &[RunningPod],
    targets: &[RunningPod],
) -> Vec<Part> {
    let walked = walked(case);
    let entries: Vec<&str> = match walked.road {
        Road::Clusterip => workers.iter().map(|worker| worker.node.as_str()).collect(),
        Road::Direct => vec![&placement.backend.name],
        _ => vec![&placement.entry.name],
    };
    let mut parts: Vec<Part> = Vec::new();
    for node in nodes {
        let on_node = |pods: &[RunningPod], is_client: bool| -> Vec<(RunningPod, bool)> {
            let here = pods.iter().filter(|pod| pod.node == node.name);
            here.map(|pod| (pod.clone(), is_client)).collect()
        };
        let pods = [on_node(workers, true), on_node(targets, false)].concat();
        let part = if entries.contains(&node.name.as_str()) {
            Some(0)
        } else {
            (node.name == placement.backend.name).then_some(1)
        };
        if let (Some(address), true) = (node.address, part.is_some() || !pods.is_empty()) {
            parts.push(Part { node: node.name.clone(), address, part, pods });
        }
    }
    parts
}

impl Part {
    /// What has to be known of its wiring: of its pods, and of the ways to pods that answer elsewhere.
    pub(super) fn look(&self, targets: &[RunningPod]) -> Look {
        let elsewhere = targets.iter().filter(|pod| pod.node != self.node && self.part == Some(0));
        Look {
            address: self.address,
            pods: self.pods.iter().map(|(pod, _)| pod.address).collect(),
            ways: elsewhere.map(|pod| pod.address).collect(),
        }
    }

    /// Where its probes go.
    pub(super) fn place(
        &self,
        case: &Case,
        (number, cni): (u64, CniKind),
        seen: &Surroundings,
        flows: &[SocketAddr],
    ) -> Place {
        let pods = self.pods.iter().zip(&seen.pods).map(|((pod, is_client), wiring)| PlacedPod {
            name: pod.name.clone(),
            address: pod.address,
            device: wiring.device.clone(),
            veth: wiring.veth.clone(),
            is_client: *is_client,
        });
        let bridge = seen.pods.iter().find_map(|pod| pod.bridge.clone());
        Place {
            number,
            node: self.node.clone(),
            part: self.part,
            mode: case.mode,
            cni,
            route: walked(case),
            nic: seen.nic.clone(),
            bridge: bridge.filter(|_| cni == CniKind::Bridge),
            pods: pods.collect(),
            flows: flows.to_vec(),
        }
    }
}

/// Which CNI's path the nodes look to have: a veth pair for each pod, all on one bridge or none, and from
/// node to node by the NIC. Of others only the ends are known. What a look says is proved by requests
/// that are followed.
pub(super) fn wired(parts: &[Part], seen: &[Surroundings]) -> CniKind {
    let of_path = |part: &Part, is_client: bool| part.part.is_some() || !is_client;
    let pods = parts.iter().zip(seen).flat_map(|(part, seen)| {
        let pods = part.pods.iter().zip(&seen.pods);
        pods.filter(|((_, is_client), _)| of_path(part, *is_client)).map(|(_, wiring)| wiring)
    });
    let pods: Vec<_> = pods.collect();
    let by_nic = seen.iter().all(|seen| seen.ways.iter().all(|way| *way == seen.nic));
    let bridged = pods.iter().filter(|pod| pod.bridge.is_some()).count();
    if !by_nic || pods.iter().any(|pod| pod.veth.is_none()) {
        return OTHERS;
    }
    match bridged {
        0 => CniKind::Ptp,
        all if all == pods.len() && one_bridge(seen) => CniKind::Bridge,
        _ => OTHERS,
    }
}

/// Whether each node has one bridge at most.
fn one_bridge(seen: &[Surroundings]) -> bool {
    seen.iter().all(|seen| {
        let mut bridges: Vec<_> = seen.pods.iter().filter_map(|pod| pod.bridge.as_ref()).collect();
        bridges.sort_unstable();
        bridges.dedup();
        bridges.len() <= 1
    })
}

/// Stands for CNIs of which nothing is known between a node's NIC and the pod.
pub(super) const OTHERS: CniKind = CniKind::Kindnet;

/// What a reader has to know about the path.
pub(super) fn said(cni: CniKind, case: &Case) -> Vec<String> {
    let wired = match cni {
        CniKind::Ptp => {
            "pods are wired by a veth pair each, as by ptp: stages are those of that path"
        }
        CniKind::Bridge => "pods are wired to a bridge on each node: stages are those of that path",
        _ => {
            "devices and hooks between the entry node's NIC and the pod are the CNI's own affair: all of it \
             is one stage"
        }
    };
    let mut said = vec![wired.to_owned()];
    if walked(case).road != Road::Clusterip {
        said.push(
            "load comes from pods: stage wire holds their own node, which packets pass before the entry node"
                .to_owned(),
        );
    }
    if case.mode == Mode::None && case.route.road == Road::Nodeport {
        said.push("without a Service, requests enter the node of the pod that answers".to_owned());
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{HOST_KERNEL, Plan, Profile};
    use crate::probe::protocol::PodWiring;

    fn node(name: &str, last: u8) -> Node {
        Node {
            name: name.to_owned(),
            address: Some([172, 18, 0, last].into()),
            pod_cidr: None,
            ready: true,
            because: None,
            schedulable: true,
            control_plane: false,
            platform: "linux/amd64".to_owned(),
            kernel: String::new(),
            kubelet: String::new(),
            kube_proxy: String::new(),
        }
    }

    fn pod(name: &str, node: &str, last: u8) -> RunningPod {
        RunningPod {
            name: name.to_owned(),
            node: node.to_owned(),
            address: [10, 244, 0, last].into(),
            container_id: String::new(),
        }
    }

    fn case(mode: Mode, route: &str) -> Case {
        let profile = Profile::embedded().unwrap();
        let plan = Plan::new(&profile, &[HOST_KERNEL]).unwrap();
        let case = plan.groups[0].cases[0].clone();
        Case { mode, route: route.parse().unwrap(), ..case }
    }

    /// Each node's part, with its clients in lower and its servers in upper case.
    fn drawn(mode: Mode, route: &str) -> String {
        let (case, nodes) = (case(mode, route), [node("a", 2), node("b", 3), node("c", 4)]);
        let placement = Placement::of(&nodes, mode, case.route, 2).unwrap();
        let workers: Vec<_> = (0..)
            .zip(&placement.workers)
            .map(|(n, node)| pod(&format!("w{n}"), &node.name, n))
            .collect();
        let targets = [pod("T", &placement.backend.name, 77)];
        let parts = parts(&nodes, &case, &placement, &workers, &targets);
        let part = |part: &Part| {
            let pods: Vec<_> = part.pods.iter().map(|(pod, _)| pod.name.clone()).collect();
            let what = part.part.map_or("-".to_owned(), |part| part.to_string());
            format!("{}{what}:{}", part.node, pods.join("+"))
        };
        parts.iter().map(part).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn every_node_of_a_path_has_its_part_and_load_alone_has_none() {
        for (mode, route, expected) in [
            (Mode::Iptables, "clusterip-local", "a0:w0+w1+T"),
            (Mode::Iptables, "clusterip-remote", "a1:T b0:w0 c0:w1"),
            (Mode::Iptables, "nodeport-local", "a0:T b-:w0 c-:w1"),
            (Mode::Iptables, "nodeport-remote", "a0: b1:w0+T c-:w1"),
            (Mode::Iptables, "direct-local", "a0:T b-:w0 c-:w1"),
            (Mode::None, "nodeport-remote", "a-:w0+w1 b0:T"),
            (Mode::None, "clusterip-remote", "a1:T b0:w0 c0:w1"),
        ] {
            assert_eq!(drawn(mode, route), expected, "{mode} {route}");
        }
    }

    fn seen(ways: &[&str], pods: &[(Option<&str>, Option<&str>)]) -> Surroundings {
        let wiring = |(veth, bridge): &(Option<&str>, Option<&str>)| PodWiring {
            device: "eth0".to_owned(),
            veth: veth.map(str::to_owned),
            bridge: bridge.map(str::to_owned),
        };
        Surroundings {
            nic: "eth0".to_owned(),
            pods: pods.iter().map(wiring).collect(),
            ways: ways.iter().map(|way| (*way).to_owned()).collect(),
        }
    }

    #[test]
    fn a_path_is_taken_for_one_that_is_known_only_where_all_of_it_looks_like_that() {
        let entry = Part {
            node: "a".to_owned(),
            address: [172, 18, 0, 2].into(),
            part: Some(0),
            pods: vec![(pod("w", "a", 5), true)],
        };
        let backend = Part {
            node: "b".to_owned(),
            part: Some(1),
            pods: vec![(pod("T", "b", 6), false)],
            ..entry.clone()
        };
        let parts = [entry, backend];
        let veth = (Some("veth1"), None);
        let bridged = (Some("veth1"), Some("cni0"));
        let none = (None, None);
        for (ways, client, server, expected) in [
            (&["eth0"], veth, veth, CniKind::Ptp),
            (&["eth0"], bridged, bridged, CniKind::Bridge),
            (&["eth0"], veth, bridged, OTHERS),
            (&["flannel.1"], bridged, bridged, OTHERS),
            (&[""], veth, veth, OTHERS),
            (&["eth0"], veth, none, OTHERS),
        ] {
            let looks = [seen(ways, &[client]), seen(&[], &[server])];
            assert_eq!(wired(&parts, &looks), expected, "{looks:?}");
        }
        // How the client is wired is no part of a path that enters from outside.
        let outside = Part { part: None, ..parts[0].clone() };
        let looks = [seen(&[], &[none]), seen(&[], &[veth])];
        assert_eq!(wired(&[outside, parts[1].clone()], &looks), CniKind::Ptp);
    }
}
