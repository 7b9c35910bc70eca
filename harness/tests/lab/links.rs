// SPDX-License-Identifier: Apache-2.0
//! Changes to hosts, and whether reading the kernel back finds them out.

use harness::cni;
use harness::lab::netns::{NetnsError, NetnsLab, Topology};
use harness::net::{
    Change, LinkKind, LinkSettings, Mac, NetError, Netns, NewLink, Peer, State, Tool,
};
use harness::plan::CniKind;

use crate::{down, has, lab, may_make_namespaces};

fn pair(netns: &Netns) -> Change {
    let peer =
        Peer { name: "b".to_owned(), netns: netns.reference(), mac: Mac([2, 0, 0, 0, 0, 2]) };
    Change::AddLink(NewLink {
        name: "a".to_owned(),
        kind: LinkKind::Veth(peer),
        mac: None,
        mtu: 1400,
        bridge: None,
    })
}

#[test]
fn an_interface_moves_to_another_host_with_a_new_name_and_new_settings() {
    if !may_make_namespaces() {
        return;
    }
    let (one, other) = (Netns::create("one").unwrap(), Netns::create("other").unwrap());
    let mac = Mac([2, 0, 0, 0, 0, 7]);
    let settings = LinkSettings { name: "b".to_owned(), ..LinkSettings::default() };
    let away = LinkSettings { netns: Some(other.reference()), ..settings.clone() };
    one.apply(vec![pair(&one), Change::SetLink(away.clone())]).unwrap();
    assert_eq!(one.state().unwrap().holds(&Change::SetLink(away)), Ok(()));
    let renamed = LinkSettings {
        rename: Some("c".to_owned()),
        mtu: Some(1300),
        mac: Some(mac),
        up: Some(true),
        ..settings
    };
    other.apply(vec![Change::SetLink(renamed.clone())]).unwrap();
    let state = other.state().unwrap();
    let link = state.link("c").unwrap();
    assert_eq!((link.mtu, link.mac, link.up), (1300, Some(mac), true));
    assert_eq!(state.holds(&Change::SetLink(renamed)), Ok(()));
    // The pair ends together, wherever its ends are.
    one.apply(vec![Change::DeleteLink("a".to_owned())]).unwrap();
    assert!(other.state().unwrap().link("c").is_none());
}

#[test]
fn a_refused_change_is_named_by_its_command_and_host() {
    if !may_make_namespaces() {
        return;
    }
    let host = Netns::create("one").unwrap();
    let error = host.apply(vec![pair(&host), pair(&host)]).unwrap_err();
    assert!(matches!(error, NetError::Netlink { .. }));
    let text = error.to_string();
    assert!(text.contains("`ip link add a mtu 1400 up type veth peer b netns one"), "{text}");
    assert!(text.contains("on one: File exists"), "{text}");
    let gone = Netns::create("gone").unwrap();
    let change = pair(&gone);
    drop(gone);
    let text = host.apply(vec![change]).unwrap_err().to_string();
    assert!(text.starts_with("failed to find network namespace gone"), "{text}");
}

#[test]
fn what_a_cni_tries_out_is_gone_after() {
    if !may_make_namespaces() {
        return;
    }
    let scratch = Netns::create("scratch").unwrap();
    let names = |state: State| state.links.into_iter().map(|link| link.name).collect::<Vec<_>>();
    // The loopback, and where the kernel has tunnels, one of each kind
    // (net.core.fb_tunnels_only_for_init_net).
    let before = names(scratch.state().unwrap());
    for &kind in CniKind::OWN {
        assert_eq!(cni::of(kind).check(&scratch).is_ok(), has(kind), "{kind}");
        assert_eq!(names(scratch.state().unwrap()), before, "{kind}");
    }
}

/// One thing is taken from each CNI's wiring, by another tool than the one that made it.
#[test]
fn wiring_that_has_been_tampered_with_is_not_proved() {
    let routes = "ip route del 10.244.1.0/24";
    for (cni, command, expected) in [
        (CniKind::Ptp, routes, "ip route add 10.244.1.0/24 via 10.9.0.12 dev eth0"),
        (CniKind::Ptp, "ip route del 10.244.0.32", "ip route add 10.244.0.32/32 dev veth"),
        (CniKind::Bridge, routes, "ip route add 10.244.1.0/24 via 10.9.0.12 dev eth0"),
        (CniKind::Bridge, "ip link set cni0 mtu 1400", "ip link add cni0 mtu 1500"),
        (CniKind::Vxlan, "ip link del flannel.1", "ip link add flannel.1 mtu 1450"),
        (CniKind::Vxlan, "bridge fdb del 02:00:0a:f4:01:00 dev flannel.1", "bridge fdb add"),
        (CniKind::Vxlan, "ip neighbour del 10.244.1.0 dev flannel.1", "ip neighbour add"),
        (CniKind::Ipvlan, "ip link del ipvlan0", "ip link add ipvlan0 mtu 1500"),
        (CniKind::Macvlan, routes, "ip route add 10.244.1.0/24 via 10.9.0.12 dev eth0"),
        (CniKind::Macvlan, "ip link del macvlan0", "ip link add macvlan0 mtu 1500"),
        (
            CniKind::Macvlan,
            "sysctl -qw net.ipv4.conf.all.arp_ignore=0",
            "sysctl -w net/ipv4/conf/all/arp",
        ),
        (CniKind::Macvlan, "ip link set macvlan0 type macvlan mode vepa", "ip link add macvlan0"),
        // The mode is the NIC's: all its slaves change with one.
        (CniKind::Ipvlan, "ip link set ipvlan0 type ipvlan mode l3", "ip link add ipvlan0"),
    ] {
        let Some(lab) = lab(&Topology::default(), cni) else { continue };
        lab.prove().unwrap();
        Tool::new("sh").args(["-c", command]).run_on(&lab.nodes()[0].netns).unwrap();
        not_proved(&lab, expected);
        down(lab);
    }
}

fn not_proved(lab: &NetnsLab, change: &str) {
    match lab.prove() {
        Err(NetnsError::NotProved { cni, host, expected, .. }) => {
            assert_eq!((cni, &*host), (lab.cni(), "node1"));
            assert!(expected.starts_with(change), "{expected}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn offloads_of_every_interface_on_the_path_are_told() {
    let Some(lab) = lab(&Topology::default(), CniKind::Vxlan) else { return };
    let lines = lab.offloads().unwrap();
    assert_eq!(lines.len(), lab.tap_points().len());
    // Whether a veth joins segments has changed between kernels; the others have not.
    let expected = "client eth0: tx checksum on, tso on, gso on, gro o";
    assert!(lines.iter().any(|line| line.starts_with(expected)), "{lines:#?}");
    match Tool::new("ethtool").args(["-k", "eth0"]).run_on(&lab.client().netns) {
        Ok(text) => {
            let gro = lab.client().netns.offloads("eth0").unwrap().gro;
            let word = if gro { "on" } else { "off" };
            assert!(text.contains(&format!("\ngeneric-receive-offload: {word}")), "{text}");
        }
        Err(error) => eprintln!("SKIP {error}"),
    }
    let missing = lab.client().netns.offloads("eth9").unwrap_err().to_string();
    assert!(missing.starts_with("failed to read offloads of eth9 on client: No such"), "{missing}");
    down(lab);
}
