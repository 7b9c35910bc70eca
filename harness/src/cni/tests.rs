// SPDX-License-Identifier: Apache-2.0
//! Each CNI's wiring of two nodes with two pods, as the commands that would make it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::*;
use crate::net::Cidr;
use crate::plan::{Conflist, Place, Road};

fn cluster(bridge_netfilter: bool) -> Cluster {
    let node = |i: u8| ClusterNode {
        name: format!("node{}", i + 1),
        address: IpAddr::from([10, 9, 0, 11 + i]),
        nic: "eth0".to_owned(),
        pod_cidr: Cidr { address: IpAddr::from([10, 244, i, 0]), prefix: 24 },
        pods: (0..2).map(|j| pod(i, j)).collect(),
    };
    Cluster { mtu: 1500, bridge_netfilter, nodes: vec![node(0), node(1)] }
}

fn pod(i: u8, j: u8) -> ClusterPod {
    let name = format!("pod{}-{}", i + 1, j + 1);
    ClusterPod {
        netns: NetnsRef::unbound(&*name),
        name,
        address: IpAddr::from([10, 244, i, 2 + j]),
        extra_addresses: vec![IpAddr::from([10, 244, i, 32 + j])],
    }
}

#[test]
fn ptp_routes_every_pod_by_itself() {
    insta::assert_snapshot!(Ptp.wire(&cluster(true)));
}

#[test]
fn bridge_makes_pods_of_a_node_neighbours() {
    insta::assert_snapshot!(Bridge.wire(&cluster(true)));
}

#[test]
fn bridge_without_br_netfilter_routes_neighbours_through_the_gateway_and_says_so() {
    let wiring = Bridge.wire(&cluster(false));
    assert!(wiring.notes[0].contains("modprobe br_netfilter"), "{:?}", wiring.notes);
    insta::assert_snapshot!(wiring);
}

#[test]
fn vxlan_writes_route_neighbour_and_forwarding_entry_per_other_node() {
    insta::assert_snapshot!(Vxlan.wire(&cluster(true)));
}

#[test]
fn ipvlan_makes_pods_slaves_of_their_nodes_nic() {
    insta::assert_snapshot!(Ipvlan.wire(&cluster(true)));
}

#[test]
fn macvlan_makes_pods_and_the_node_slaves_of_its_nic() {
    insta::assert_snapshot!(Macvlan.wire(&cluster(true)));
}

/// A list of one plugin without addresses.
fn list(plugin: &str) -> Conflist {
    let text =
        format!(r#"{{"cniVersion": "1.0.0", "name": "n", "plugins": [{{"type": "{plugin}"}}]}}"#);
    Conflist::parse(&text).unwrap()
}

#[test]
fn plugins_of_others_find_what_is_between_nodes_and_macvlan_what_its_node_needs() {
    let wired = |plugin| {
        let list = list(plugin);
        exec::Exec { list: &list, bridge_netfilter: true }.wire(&cluster(true)).to_string()
    };
    insta::assert_snapshot!(format!("bridge\n{}macvlan\n{}", wired("bridge"), wired("macvlan")));
}

/// What is refused and why is for a user to read, who may have no such kernel to try it on.
#[test]
fn ipvlan_refuses_modes_whose_answers_miss_their_translation_and_says_which() {
    insta::assert_snapshot!(refused(&Ipvlan));
}

#[test]
fn macvlan_refuses_a_neighbours_service_and_mode_ebpf() {
    insta::assert_snapshot!(refused(&Macvlan));
}

#[test]
fn plugins_of_others_refuse_what_their_devices_cannot_do() {
    let told = ["bridge", "ptp", "macvlan", "ipvlan", "weave"].map(|plugin| {
        let list = list(plugin);
        let of = |bridge_netfilter| refused(&exec::Exec { list: &list, bridge_netfilter });
        let (with, without) = (of(true), of(false));
        let without = if without == with { "the same".to_owned() } else { without };
        format!("# {plugin}\n{with}\n# {plugin}, no br_netfilter\n{without}")
    });
    insta::assert_snapshot!(told.join("\n"));
}

fn refused(cni: &dyn Cni) -> String {
    let mut refused: BTreeMap<String, String> = BTreeMap::new();
    for &mode in Mode::ALL {
        for &road in Road::ALL {
            for &place in Place::ALL {
                for external in [PolicyKind::Cluster, PolicyKind::Local] {
                    let route = Route { road, place };
                    if let Err(reason) = cni.carries(mode, route, external) {
                        let policy = if external == PolicyKind::Local { " (Local)" } else { "" };
                        let cases = refused.entry(reason.to_string()).or_default();
                        cases.push_str(&format!("\n  {mode} {route}{policy}"));
                    }
                }
            }
        }
    }
    let told: Vec<_> = refused.iter().map(|(reason, cases)| format!("{reason}{cases}")).collect();
    told.join("\n")
}

#[test]
fn interface_names_fit_the_kernel() {
    for (i, j) in [(0, 0), (99, 29)] {
        assert!(pod(i, j).veth().len() <= 15);
    }
}
