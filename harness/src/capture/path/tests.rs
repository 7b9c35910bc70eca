// SPDX-License-Identifier: Apache-2.0
//! Walks of every case, and some drawn.

use super::*;
use crate::plan::Place;

fn every_case() -> impl Iterator<Item = (Mode, CniKind, Route)> {
    Mode::ALL.iter().flat_map(|&mode| {
        CniKind::ALL.iter().flat_map(move |&cni| {
            Road::ALL.iter().flat_map(move |&road| {
                Place::ALL.iter().map(move |&place| (mode, cni, Route { road, place }))
            })
        })
    })
}

fn drawn(mode: Mode, cni: CniKind, road: Road, place: Place) -> String {
    shown(&Path::of(mode, cni, Route { road, place }))
}

fn shown(path: &Path) -> String {
    path.hops()
        .iter()
        .map(|hop| {
            let relay = match hop.part {
                0 => String::new(),
                1 => " beyond relay".to_owned(),
                more => format!(" beyond {more} relays"),
            };
            let optional = if hop.optional { " (optional)" } else { "" };
            format!("{:<42} {hop}{relay}{optional}\n", hop.stage)
        })
        .collect()
}

#[test]
fn every_passage_of_an_interface_is_one_hop_of_one_leg() {
    for (mode, cni, route) in every_case() {
        let path = Path::of(mode, cni, route);
        for (index, hop) in path.hops().iter().enumerate() {
            let place = |h: &Hop| (h.leg, h.part, h.host, h.site, h.direction, h.encapsulated);
            let twin = path.hops()[index + 1..].iter().find(|h| place(h) == place(hop));
            assert_eq!(twin, None, "{mode} {cni} {route}: {hop}");
        }
    }
}

#[test]
fn every_walk_goes_from_the_client_to_the_pod_and_back() {
    for (mode, cni, route) in every_case() {
        let path = Path::of(mode, cni, route);
        let ends = |leg| {
            let mut hops = path.hops().iter().filter(|hop| hop.leg == leg);
            let first = hops.next().unwrap();
            (first.host, hops.next_back().unwrap().host)
        };
        assert_eq!(ends(Leg::Request), (Host::Client, Host::Pod));
        assert_eq!(ends(Leg::Response), (Host::Pod, Host::Client));
    }
}

#[test]
fn the_first_and_the_last_hop_are_of_the_clients_own_connection() {
    // A proxy process runs in labs of nic2pod's own CNIs only.
    let possible =
        |(mode, cni, _): &(Mode, CniKind, Route)| *mode != Mode::Userspace || cni.is_own();
    for (mode, cni, route) in every_case().filter(possible) {
        let path = Path::of(mode, cni, route);
        let ends = [path.hops().first().unwrap(), path.hops().last().unwrap()];
        assert_eq!(ends.map(|hop| hop.part), [0, 0], "{mode} {cni} {route}");
        let parts = path.hops().iter().map(|hop| hop.part + 1).max().unwrap();
        assert_eq!(parts, path.parts(), "{mode} {cni} {route}");
    }
}

#[test]
fn walks_are_as_the_topology_has_them() {
    insta::assert_snapshot!(
        "nodeport_local_ptp",
        drawn(Mode::Nftables, CniKind::Ptp, Road::Nodeport, Place::Local)
    );
    insta::assert_snapshot!(
        "nodeport_remote_flannel",
        drawn(Mode::Iptables, CniKind::Flannel, Road::Nodeport, Place::Remote)
    );
    insta::assert_snapshot!(
        "clusterip_local_kindnet",
        drawn(Mode::Iptables, CniKind::Kindnet, Road::Clusterip, Place::Local)
    );
    insta::assert_snapshot!(
        "nodeport_remote_vxlan",
        drawn(Mode::Iptables, CniKind::Vxlan, Road::Nodeport, Place::Remote)
    );
    insta::assert_snapshot!(
        "direct_remote_vxlan",
        drawn(Mode::None, CniKind::Vxlan, Road::Direct, Place::Remote)
    );
    insta::assert_snapshot!(
        "clusterip_local_bridge",
        drawn(Mode::Ipvs, CniKind::Bridge, Road::Clusterip, Place::Local)
    );
    insta::assert_snapshot!(
        "userspace_nodeport_remote_bridge",
        drawn(Mode::Userspace, CniKind::Bridge, Road::Nodeport, Place::Remote)
    );
    insta::assert_snapshot!(
        "loadbalancer_remote_ptp",
        drawn(Mode::Nftables, CniKind::Ptp, Road::Loadbalancer, Place::Remote)
    );
    insta::assert_snapshot!(
        "routed_remote_ptp",
        shown(&Path::routed(Mode::Nftables, CniKind::Ptp, Place::Remote))
    );
    insta::assert_snapshot!(
        "userspace_loadbalancer_local_vxlan",
        drawn(Mode::Userspace, CniKind::Vxlan, Road::Loadbalancer, Place::Local)
    );
    insta::assert_snapshot!(
        "ingress_remote_vxlan",
        drawn(Mode::Nftables, CniKind::Vxlan, Road::Ingress, Place::Remote)
    );
    insta::assert_snapshot!(
        "userspace_ingress_local_bridge",
        drawn(Mode::Userspace, CniKind::Bridge, Road::Ingress, Place::Local)
    );
    insta::assert_snapshot!(
        "ingress_endpoints_local_ptp",
        drawn(Mode::Ebpf, CniKind::Ptp, Road::IngressEndpoints, Place::Local)
    );
    insta::assert_snapshot!(
        "nodeport_local_ipvlan",
        drawn(Mode::Nftables, CniKind::Ipvlan, Road::Nodeport, Place::Local)
    );
    insta::assert_snapshot!(
        "nodeport_remote_ipvlan",
        drawn(Mode::Ipvs, CniKind::Ipvlan, Road::Nodeport, Place::Remote)
    );
    insta::assert_snapshot!(
        "direct_local_ipvlan",
        drawn(Mode::None, CniKind::Ipvlan, Road::Direct, Place::Local)
    );
    insta::assert_snapshot!(
        "clusterip_remote_ipvlan_without_services",
        drawn(Mode::None, CniKind::Ipvlan, Road::Clusterip, Place::Remote)
    );
    insta::assert_snapshot!(
        "userspace_clusterip_local_ipvlan",
        drawn(Mode::Userspace, CniKind::Ipvlan, Road::Clusterip, Place::Local)
    );
    insta::assert_snapshot!(
        "nodeport_remote_macvlan",
        drawn(Mode::Nftables, CniKind::Macvlan, Road::Nodeport, Place::Remote)
    );
    insta::assert_snapshot!(
        "clusterip_local_macvlan_without_services",
        drawn(Mode::None, CniKind::Macvlan, Road::Clusterip, Place::Local)
    );
    insta::assert_snapshot!(
        "userspace_clusterip_local_macvlan",
        drawn(Mode::Userspace, CniKind::Macvlan, Road::Clusterip, Place::Local)
    );
}
